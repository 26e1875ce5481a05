/* SPDX-License-Identifier: MPL-2.0
 *
 * vmm-launch: becomes a hypervisor.  vmmd starts it in a session of its own and gives it an order;
 * it notes who it is, gives up what the hypervisor does not need, and executes it, so that the
 * process which vmmd knows is the hypervisor.  What goes wrong goes to standard error, which is
 * the machine's qemu.log. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <json-c/json.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/process.h"
#include "lib/base/str.h"
#include "lib/hypervisor/launcher/launcher.h"
#include "lib/net/tap.h"

enum { EXIT_LAUNCH = 126, ORDER_MAX = 1 << 20, LOCK_SECONDS = 10 };

static int
read_order(struct launch_order *ret_order, struct err *err)
{
	CLEANUP_FREE char *text = NULL;
	struct json_object *doc;
	int rc = fs_read_fd(STDIN_FILENO, "the order", ORDER_MAX, &text, NULL, err);

	if (rc != 0)
		return rc;
	doc = json_tokener_parse(text);
	if (!json_object_is_type(doc, json_type_object)) {
		json_object_put(doc);
		return err_set(err, E_PARAMS, "the order is not a JSON object");
	}
	rc = fields_decode_one(launch_order_fields, doc, ret_order, err);
	json_object_put(doc);
	return rc;
}

static int
limit_self(struct err *err)
{
	struct rlimit core = { 0, 0 };
	CLEANUP_FD int fd = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
	char text[16] = "";

	umask(077);
	if (setrlimit(RLIMIT_CORE, &core) < 0)
		return err_errno(err, E_FAILED, errno, "can not forbid core dumps");
	/* The daemon may be protected from the out-of-memory killer; a machine is not. */
	if (fd >= 0 && pread(fd, text, sizeof(text) - 1, 0) > 0 && text[0] == '-' &&
	    pwrite(fd, "0", 1, 0) < 0)
		return err_errno(err, E_FAILED, errno, "can not set oom_score_adj");
	return 0;
}

/* Durable before the program runs: a vmmd that crashed before its commit finds it by this.
 * taps: the names of those that were made. */
static int
write_record(const struct launch_order *order, struct json_object *taps, struct err *err)
{
	struct json_object *doc;
	struct process_id id;
	const char *text;
	int rc = process_identify(getpid(), &id, err);

	if (rc != 0)
		return rc;
	doc = json_object_new_object();
	json_object_object_add(doc, "pid", json_object_new_int64(id.pid));
	json_object_object_add(doc, "start_time", json_object_new_int64((int64_t)id.start_time));
	json_object_object_add(doc, "boot_id", json_object_new_string(id.boot_id));
	json_object_object_add(doc, "generation", json_object_new_string(order->generation));
	if (json_object_array_length(taps) > 0)
		json_object_object_add(doc, "taps", json_object_get(taps));
	text = json_object_to_json_string_ext(doc, JSON_C_TO_STRING_PLAIN);
	rc = fs_write(order->record, text, strlen(text), 0600, err);
	json_object_put(doc);
	return rc;
}

/* The former one of its kind may be on its way out, still. */
static int
await_lock(const struct launch_order *order, struct err *err)
{
	CLEANUP_FD int fd = order->lock != NULL ? open(order->lock, O_RDWR | O_CLOEXEC | O_NOCTTY) : -1;
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };

	if (fd < 0)
		return 0; /* nobody ever had it */
	alarm(LOCK_SECONDS);
	while (fcntl(fd, F_SETLKW, &lock) < 0)
		if (errno != EINTR)
			return err_errno(err, E_IO, errno, "can not lock '%s'", order->lock);
	alarm(0);
	return 0;
}

/* Its number in the program is its own: dup2 leaves it open there. */
static int
pass_fd(int fd, uint64_t to, const char *name, struct err *err)
{
	if (fd == (int)to)
		return fcntl(fd, F_SETFD, 0) == 0 ? 0 : err_errno(err, E_IO, errno, "can not pass '%s'", name);
	if (dup2(fd, (int)to) < 0)
		return err_errno(err, E_IO, errno, "can not pass '%s'", name);
	close(fd);
	return 0;
}

static int
open_files(const struct launch_order *order, struct err *err)
{
	const struct launch_file *files = order->files.items;

	for (size_t i = 0; i < order->files.count; i++) {
		int fd = open(files[i].path, O_RDONLY | O_NOCTTY);

		if (fd < 0)
			return err_errno(err, E_IO, errno, "can not open '%s'", files[i].path);
		if (pass_fd(fd, files[i].to, files[i].path, err) != 0)
			return E_IO;
	}
	return 0;
}

static int
make_tap(const struct launch_tap *tap, char ret_name[TAP_NAME_MAX], struct err *err)
{
	int fd, rc;

	if (tap->helper != NULL)
		rc = tap_from_helper(tap->helper, tap->bridge, &fd, err);
	else
		rc = tap_create(tap->name, tap->bridge, &fd, err);
	if (rc == 0)
		rc = tap_verify(fd, tap->bridge, ret_name, err);
	if (rc == 0)
		rc = pass_fd(fd, tap->to, ret_name, err);
	if (rc != 0 || tap->vhost_to == 0)
		return rc;
	rc = tap_vhost_open(TAP_VHOST, &fd, err);
	if (rc == 0 && fd < 0)
		rc = err_errno(err, E_IO, errno, "can not open '%s'", TAP_VHOST);
	return rc != 0 ? rc : pass_fd(fd, tap->vhost_to, TAP_VHOST, err);
}

static int
make_taps(const struct launch_order *order, struct json_object *names, struct err *err)
{
	const struct launch_tap *taps = order->taps.items;
	char name[TAP_NAME_MAX];

	for (size_t i = 0; i < order->taps.count; i++) {
		int rc = make_tap(&taps[i], name, err);

		if (rc != 0)
			return rc;
		json_object_array_add(names, json_object_new_string(name));
	}
	return 0;
}

static int
drop_user(const struct launch_order *order, struct err *err)
{
	gid_t groups[1];
	size_t group_count = 0;
	struct stat st;

	if (!order->drop)
		return 0;
	for (size_t i = 0; i < order->own.count; i++)
		if (lchown(order->own.items[i], (uid_t)order->uid, (gid_t)order->gid) < 0 &&
		    errno != ENOENT)
			return err_errno(err, E_IO, errno, "can not give '%s' to user %llu",
			    order->own.items[i], (unsigned long long)order->uid);
	if (stat("/dev/kvm", &st) == 0 && (st.st_mode & 0060) == 0060 && st.st_gid != 0)
		groups[group_count++] = st.st_gid;
	if (setgroups(group_count, groups) < 0 ||
	    setresgid((gid_t)order->gid, (gid_t)order->gid, (gid_t)order->gid) < 0 ||
	    setresuid((uid_t)order->uid, (uid_t)order->uid, (uid_t)order->uid) < 0)
		return err_errno(err, E_PERMISSION, errno, "can not become user %llu",
		    (unsigned long long)order->uid);
	return 0;
}

static int
watch_parent(const struct launch_order *order, int signo, struct err *err)
{
	if (prctl(PR_SET_PDEATHSIG, signo) < 0)
		return err_errno(err, E_FAILED, errno, "can not watch the daemon");
	if ((uint64_t)getppid() != order->parent)
		return err_set(err, E_CANCELLED, "the daemon is gone");
	return 0;
}

static void
execute(const struct launch_order *order, struct err *err)
{
	char **argv = xcalloc(order->argv.count + 1, sizeof(*argv));
	char **envp = xcalloc(order->env.count + 1, sizeof(*envp));
	int null_fd = open("/dev/null", O_RDWR);

	memcpy(argv, order->argv.items, order->argv.count * sizeof(*argv));
	for (size_t i = 0; i < order->env.count; i++)
		envp[i] = xasprintf("%s=%s", order->env.items[i].name, order->env.items[i].value);
	if (null_fd >= 0 && dup2(null_fd, STDIN_FILENO) == STDIN_FILENO) {
		close(null_fd);
		execve(argv[0], argv, envp);
	}
	err_errno(err, E_FAILED, errno, "can not execute '%s'", argv[0]);
	for (size_t i = 0; i < order->env.count; i++)
		free(envp[i]);
	free(envp);
	free(argv);
}

int
main(void)
{
	struct launch_order order = { 0 };
	struct json_object *taps = json_object_new_array();
	struct err err = ERR_INIT;
	int rc;

	rc = read_order(&order, &err);
	if (rc == 0)
		rc = watch_parent(&order, SIGKILL, &err);
	if (rc == 0)
		rc = limit_self(&err);
	if (rc == 0)
		rc = await_lock(&order, &err);
	if (rc == 0)
		rc = open_files(&order, &err);
	if (rc == 0)
		rc = make_taps(&order, taps, &err);
	if (rc == 0)
		rc = write_record(&order, taps, &err);
	if (rc == 0)
		rc = drop_user(&order, &err);
	if (rc == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		rc = err_errno(&err, E_FAILED, errno, "can not give up new privileges");
	if (rc == 0)
		rc = confine_landlock(&order, &err);
	/* From here on the record exists: the machine may outlive us. */
	if (rc == 0)
		rc = watch_parent(&order, 0, &err);
	if (rc == 0)
		execute(&order, &err);
	fprintf(stderr, "vmm-launch: %s\n", err.msg);
	if (err.hint[0] != '\0')
		fprintf(stderr, "vmm-launch: %s\n", err.hint);
	json_object_put(taps);
	fields_release(launch_order_fields, &order);
	return EXIT_LAUNCH;
}
