/* SPDX-License-Identifier: MPL-2.0
 *
 * The process of a private network's switch: starting it, and finding one that an earlier daemon
 * started. */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/net/switch_parts.h"

enum { RECORD_MAX = 64 << 10, LOG_MAX = 64 << 10, BACKLOG = 8 };

static int
control_address(const struct net_switch *sw, struct sockaddr_un *ret_address, struct err *err)
{
	CLEANUP_FREE char *path = fs_join(sw->dir, "control");

	/* The names of the ports are no longer than this one. */
	if (strlen(path) > FS_SOCKET_PATH_MAX) {
		err_set(err, E_LIMIT, "the socket path '%s' is longer than %d bytes", path,
		    FS_SOCKET_PATH_MAX);
		err_hint(err, "give vmmd a shorter --runtime-dir");
		return E_LIMIT;
	}
	*ret_address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	snprintf(ret_address->sun_path, sizeof(ret_address->sun_path), "%s", path);
	return 0;
}

/* Made here, so that nobody has to wait for it to appear. */
static int
make_listener(const struct net_switch *sw, int *ret_fd, struct err *err)
{
	CLEANUP_FD int fd = -1;
	struct sockaddr_un address;
	int rc = control_address(sw, &address, err);

	if (rc != 0)
		return rc;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || (unlink(address.sun_path) < 0 && errno != ENOENT) ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    chmod(address.sun_path, 0600) < 0 || listen(fd, BACKLOG) < 0)
		return err_errno(
		    err, E_IO, errno, "can not make the socket '%s'", address.sun_path);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

int
net_switch_connect(const struct net_switch *sw, int *ret_fd, struct err *err)
{
	CLEANUP_FD int fd = -1;
	struct sockaddr_un address;
	int rc = control_address(sw, &address, err);

	if (rc != 0)
		return rc;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return err_errno(err, E_UNRESPONSIVE, errno, "can not reach the switch at '%s'",
		    address.sun_path);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

static void
new_generation(char *text, size_t size)
{
	uint64_t number = 0;

	if (getrandom(&number, sizeof(number), 0) < 0)
		number = (uint64_t)getpid();
	snprintf(text, size, "%016llx", (unsigned long long)number);
}

int
net_switch_make_folder(const struct net_switch *sw, unsigned port, struct err *err)
{
	CLEANUP_FREE char *path = switch_station_path(sw->dir, port), *folder = fs_dirname(path);

	return fs_mkdirs(folder, 0700, err);
}

void
net_switch_remove_folder(const struct net_switch *sw, unsigned port)
{
	CLEANUP_FREE char *path = switch_station_path(sw->dir, port), *folder = fs_dirname(path);

	fs_remove_tree(folder, NULL);
}

/* Somebody may have cleared the network's folder since the ports were noted. */
static int
make_folders(const struct net_switch *sw, struct err *err)
{
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < NET_SWITCH_PORTS; i++)
		if (sw->ports[i].present)
			rc = net_switch_make_folder(sw, i, err);
	return rc;
}

static void
fill_ports(const struct net_switch *sw, struct objects *ports)
{
	struct switch_port_order *rows = xcalloc(NET_SWITCH_PORTS, sizeof(*rows));

	ports->items = rows;
	for (unsigned i = 0; i < NET_SWITCH_PORTS; i++)
		if (sw->ports[i].present)
			rows[ports->count++] = (struct switch_port_order){
				.present = true, .port = i, .mac = xstrdup(sw->ports[i].mac)
			};
}

static int
write_order(const struct net_switch *sw, int *ret_fd, struct err *err)
{
	struct switch_order order = { .dir = xstrdup(sw->dir),
		.mtu = sw->mtu,
		.ageing_ms = sw->ageing_ms,
		.parent = (uint64_t)getpid(),
		.generation = xstrdup(sw->generation) };
	CLEANUP_FD int fd = memfd_create("order", MFD_CLOEXEC);
	CLEANUP_JSON json_object *doc = NULL;
	const char *text;
	int rc = 0;

	fill_ports(sw, &order.ports);
	doc = fields_encode(switch_order_fields, &order);
	text = json_object_to_json_string_ext(doc, JSON_TEXT_FLAGS);
	if (fd < 0 || fs_write_all(fd, text, strlen(text)) < 0)
		rc = err_errno(err, E_IO, errno, "can not write the order for the switch");
	else
		*ret_fd = TAKE_FD(fd);
	fields_release(switch_order_fields, &order);
	return rc;
}

static int
open_log(const struct net_switch *sw, struct err *err)
{
	CLEANUP_FREE char *path = fs_join(sw->dir, "switch.log");
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);

	if (fd < 0)
		err_errno(err, E_IO, errno, "can not write '%s'", path);
	return fd;
}

int
net_switch_spawn(struct net_switch *sw, struct err *err)
{
	static const char *const no_env[] = { NULL };
	const char *const argv[] = { sw->program, NULL };
	CLEANUP_FD int listener = -1, order = -1, log = -1;
	struct process_spec spec = { .argv = argv,
		.envp = no_env,
		.cwd = "/",
		.stdout_fd = -1,
		.fd_count = 1,
		.new_session = true };
	struct process_fd fd = { -1, SWITCH_CONTROL_FD };
	int rc = make_folders(sw, err);

	new_generation(sw->generation, sizeof(sw->generation));
	if (rc == 0)
		log = open_log(sw, err);
	if (rc == 0 && log < 0)
		rc = E_IO;
	if (rc == 0)
		rc = make_listener(sw, &listener, err);
	if (rc == 0)
		rc = write_order(sw, &order, err);
	if (rc != 0)
		return rc;
	spec.stdin_fd = order;
	spec.stderr_fd = log;
	fd.from = listener;
	spec.fds = &fd;
	return process_spawn(&spec, &sw->pid, &sw->pidfd, err);
}

static int
read_record(const struct net_switch *sw, struct switch_record *ret_record, struct err *err)
{
	CLEANUP_FREE char *path = fs_join(sw->dir, "switch.json"), *text = NULL;
	CLEANUP_JSON json_object *doc = NULL;

	if (fs_read(path, RECORD_MAX, &text, NULL, NULL) == 0)
		doc = json_tokener_parse(text);
	if (!json_object_is_type(doc, json_type_object))
		return err_set(err, E_NOT_FOUND, "no switch is known in '%s'", sw->dir);
	return fields_decode_one(switch_record_fields, doc, ret_record, err);
}

int
net_switch_find(struct net_switch *sw, struct err *err)
{
	struct switch_record record = { 0 };
	struct process_id id = { 0 };
	int rc = read_record(sw, &record, err), pidfd = -1;

	if (rc == 0) {
		id = (struct process_id){ .pid = (pid_t)record.pid,
			.start_time = record.start_time,
			.exe_dev = record.exe_dev,
			.exe_ino = record.exe_ino };
		snprintf(id.boot_id, sizeof(id.boot_id), "%s", record.boot_id);
		rc = process_open(&id, &pidfd, err);
	}
	if (rc == 0) {
		sw->pid = id.pid;
		sw->pidfd = pidfd;
		snprintf(sw->generation, sizeof(sw->generation), "%s", record.generation);
	}
	fields_release(switch_record_fields, &record);
	return rc;
}

char *
net_switch_last_words(const struct net_switch *sw)
{
	CLEANUP_FREE char *path = fs_join(sw->dir, "switch.log"), *text = NULL;
	size_t len = 0;
	char *line;

	if (fs_read(path, LOG_MAX, &text, &len, NULL) != 0)
		return NULL;
	while (len > 0 && text[len - 1] == '\n')
		text[--len] = '\0';
	if (len == 0)
		return NULL;
	line = strrchr(text, '\n');
	line = line != NULL ? line + 1 : text;
	return str_line(line, strlen(line));
}

void
net_switch_remove_files(const struct net_switch *sw)
{
	static const char *const names[] = { "control", "switch.json", "switch.log" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		CLEANUP_FREE char *path = fs_join(sw->dir, names[i]);

		unlink(path);
	}
	for (unsigned i = 0; i < NET_SWITCH_PORTS; i++) {
		CLEANUP_FREE char *path = switch_path(sw->dir, i);

		unlink(path);
		if (!sw->ports[i].present)
			net_switch_remove_folder(sw, i);
	}
}

char *
net_switch_station_path(const char *dir, unsigned port)
{
	return switch_station_path(dir, port);
}

char *
net_switch_path(const char *dir, unsigned port)
{
	return switch_path(dir, port);
}
