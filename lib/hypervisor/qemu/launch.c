/* SPDX-License-Identifier: MPL-2.0
 *
 * From a plan to a process.  The daemon makes the sockets, so that nobody has to wait for them to
 * appear, and everything that the emulator could be tricked to open is opened for it. */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <limits.h>
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
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/hypervisor/launcher/launcher.h"
#include "lib/hypervisor/qemu/qemu.h"
#include "lib/net/tap.h"

static const char *const readable[] = { "/usr", "/lib", "/lib32", "/lib64", "/bin", "/etc/hosts",
	"/etc/ld.so.cache", "/etc/localtime", "/etc/resolv.conf", "/proc", "/sys/devices/system" };
static const char *const writable[] = { "/dev/kvm", "/dev/null", "/dev/random", "/dev/urandom",
	"/dev/zero" };

struct made { /* what the child gets; closed here afterwards */
	int monitor, agent, console_log, console_in, console_hold, log, tpm;
};

static const struct made made_init = { -1, -1, -1, -1, -1, -1, -1 };

static void
made_done(const struct made *made)
{
	const int fds[] = { made->monitor, made->agent, made->console_log, made->console_in,
		made->console_hold, made->log, made->tpm };

	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

char *
qemu_monitor_path(const struct hv_config *config)
{
	return fs_join(config->run_dir, "monitor");
}

/* The folder is ours alone, so the socket's mode is there before anybody can come. */
static int
make_listener(const char *run_dir, const char *name, int *ret_fd, struct err *err)
{
	CLEANUP_FREE char *path = fs_join(run_dir, name);
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	if (strlen(path) > FS_SOCKET_PATH_MAX) {
		err_set(err, E_LIMIT, "the socket path '%s' is longer than %d bytes", path,
		    FS_SOCKET_PATH_MAX);
		err_hint(err, "give vmmd a shorter --runtime-dir");
		return E_LIMIT;
	}
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (fd < 0 || (unlink(path) < 0 && errno != ENOENT) ||
	    bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 || chmod(path, 0600) < 0 ||
	    listen(fd, 1) < 0)
		return err_errno(err, E_IO, errno, "can not make the socket '%s'", path);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

char *
qemu_serial_path(const struct hv_config *config)
{
	return fs_join(config->run_dir, "serial");
}

char *
qemu_display_path(const struct hv_config *config)
{
	return fs_join(config->run_dir, "display/vnc");
}

static int
make_link(const char *base, const char *ending, const char *to, struct err *err)
{
	CLEANUP_FREE char *path = xasprintf("%s.%s", base, ending);

	if ((unlink(path) < 0 && errno != ENOENT) || symlink(to, path) < 0)
		return err_errno(err, E_IO, errno, "can not make '%s'", path);
	return 0;
}

/* A console that is the machine's own is a pipe to the emulator, whose output goes nowhere but to
 * the log that it keeps of it. */
static int
make_serial(const struct hv_config *config, struct err *err)
{
	CLEANUP_FREE char *base = qemu_serial_path(config);
	int rc = make_link(base, "in", "console", err);

	return rc != 0 ? rc : make_link(base, "out", "/dev/null", err);
}

static int
make_console(const struct hv_config *config, struct made *made, struct err *err)
{
	CLEANUP_FREE char *path = console_fifo_path(config);
	int rc = make_serial(config, err);

	if (rc != 0)
		return rc;

	made->console_log = qemu_log_open(config->dir, "console.log", NULL, err);
	if (made->console_log < 0)
		return E_IO;
	if ((unlink(path) < 0 && errno != ENOENT) || mkfifo(path, 0600) < 0)
		return err_errno(err, E_IO, errno, "can not make '%s'", path);
	made->console_hold = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
	made->console_in = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
	if (made->console_hold < 0 || made->console_in < 0)
		return err_errno(err, E_IO, errno, "can not open '%s'", path);
	return 0;
}

static void
add_file(struct launch_order *order, const char *path, int to)
{
	struct launch_file *files = xreallocarray(order->files.items, order->files.count + 1,
	    sizeof(*files));

	files[order->files.count++] =
	    (struct launch_file){ .present = true, .path = xstrdup(path), .to = (uint64_t)to };
	order->files.items = files;
}

char *
qemu_program_prefix(const char *program)
{
	CLEANUP_FREE char *real = program != NULL ? realpath(program, NULL) : NULL, *bin = NULL;

	if (real == NULL || str_starts(real, "/usr/"))
		return NULL;
	bin = fs_dirname(real);
	return fs_dirname(bin);
}

/* A program from elsewhere brings its libraries and firmware beside it. */
static void
allow_prefix(struct launch_order *order, const char *program)
{
	CLEANUP_FREE char *prefix = qemu_program_prefix(program);

	if (prefix != NULL)
		strings_add(
		    &order->read, str_starts(prefix, "/nix/store/") ? "/nix/store" : prefix);
}

void
qemu_launch_rights(struct launch_order *order, const struct qemu *hv, const char *program,
    const struct hv_config *config)
{
	const struct hv_env *env = hv->base.env;

	for (size_t i = 0; i < ARRAY_LEN(readable); i++)
		strings_add(&order->read, readable[i]);
	allow_prefix(order, program);
	for (size_t i = 0; i < ARRAY_LEN(writable); i++)
		strings_add(&order->write, writable[i]);
	order->drop = env->qemu_uid >= 0 && env->qemu_gid >= 0;
	if (!order->drop)
		return;
	order->uid = (uint64_t)env->qemu_uid;
	order->gid = (uint64_t)env->qemu_gid;
	strings_add(&order->own, config->dir);
}

/* A file of the machine's own that the emulator opens by its path. */
static void
allow_file(struct launch_order *order, const char *dir, const char *name, bool write)
{
	CLEANUP_FREE char *path = fs_join(dir, name);

	strings_add(write ? &order->write : &order->read, path);
	if (order->drop)
		strings_add(&order->own, path);
}

static void
fill_rights(struct launch_order *order, const struct qemu_plan *plan, const struct qemu *hv)
{
	static const struct {
		const char *name;
		bool write;
	} files[] = { { "disk.qcow2", true }, { "efivars.fd", true }, { "screen.png", true },
		{ "kernel", false }, { "initrd", false } };
	const struct hv_config *config = plan->config;

	qemu_launch_rights(order, hv, plan->program, config);
	for (size_t i = 0; i < ARRAY_LEN(files); i++)
		allow_file(order, config->dir, files[i].name, files[i].write);
	if (plan->arch->console == NULL) {
		allow_file(order, config->run_dir, "console", true);
		if (order->drop)
			strings_add(&order->own, config->run_dir);
	}
	if (config->spec->display != DISPLAY_NONE) {
		CLEANUP_FREE char *socket = qemu_display_path(config), *dir = fs_dirname(socket);

		strings_add(&order->make, dir);
		if (order->drop) {
			strings_add(&order->own, config->run_dir);
			strings_add(&order->own, dir);
		}
	}
	for (size_t i = 0; i < vm_spec_nic_count(config->spec); i++) {
		if (config->nics[i].local_path != NULL) {
			CLEANUP_FREE char *folder = fs_dirname(config->nics[i].local_path);

			strings_add(&order->make, folder);
			if (order->drop)
				strings_add(&order->own, folder);
		}
	}
	order->network = vm_spec_has_user_network(config->spec);
}

/* What the emulator takes by a path that is its own: a kernel, and a place for what a screen
 * shows.  Files that are gone from the spec go, too. */
static int
make_boot_file(const struct hv_config *config, const struct file_ref *file, const char *name,
    struct err *err)
{
	CLEANUP_FREE char *path = fs_join(config->dir, name);

	if (unlink(path) < 0 && errno != ENOENT)
		return err_errno(err, E_IO, errno, "can not remove '%s'", path);
	if (file->kind == FILE_PATH && link(file->path, path) < 0)
		return err_errno(err, E_IO, errno, "can not take the %s '%s'", name, file->path);
	return 0;
}

static int
make_display(const struct hv_config *config, struct err *err)
{
	CLEANUP_FREE char *path = qemu_display_path(config), *dir = fs_dirname(path);
	CLEANUP_FREE char *screen = fs_join(config->dir, "screen.png");
	CLEANUP_FD int fd = -1;

	if (config->spec->display == DISPLAY_NONE)
		return 0;
	if (strlen(path) > FS_SOCKET_PATH_MAX) {
		err_set(err, E_LIMIT, "the socket path '%s' is longer than %d bytes", path,
		    FS_SOCKET_PATH_MAX);
		err_hint(err, "give vmmd a shorter --runtime-dir");
		return E_LIMIT;
	}
	fd = open(screen, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_errno(err, E_IO, errno, "can not make '%s'", screen);
	return fs_mkdirs(dir, 0700, err);
}

static int
make_files(const struct hv_config *config, struct err *err)
{
	int rc = make_boot_file(config, &config->spec->boot.kernel, "kernel", err);

	if (rc == 0)
		rc = make_boot_file(config, &config->spec->boot.initrd, "initrd", err);
	return rc == 0 ? make_display(config, err) : rc;
}

static int
add_tap(struct launch_order *order, const struct hv_config *config, size_t index, bool vhost,
    struct err *err)
{
	const struct network_spec *network = vm_spec_nic(config->spec, index);
	struct launch_tap *taps = order->taps.items;
	char name[TAP_NAME_MAX];
	int rc = tap_check(network->bridge, err), fd = QEMU_FD_TAP + 2 * (int)index;

	if (rc != 0)
		return rc;
	tap_name(config->id, (unsigned)index, name);
	taps[order->taps.count++] = (struct launch_tap){ .present = true,
		.bridge = xstrdup(network->bridge), .name = xstrdup(name), .to = (uint64_t)fd,
		.helper = tap_privileged() ? NULL : xstrdup(tap_helper_path()),
		.vhost_to = vhost ? (uint64_t)fd + 1 : 0 };
	return 0;
}

/* Looked at again: much may have changed since the machine was made. */
static int
add_taps(struct launch_order *order, const struct hv_config *config, bool *ret_vhost,
    struct err *err)
{
	int rc = 0;

	order->taps.items = xcalloc(NICS_MAX, sizeof(struct launch_tap));
	for (size_t i = 0; rc == 0 && i < vm_spec_nic_count(config->spec); i++) {
		CLEANUP_FD int vhost = -1;

		if (network_type(vm_spec_nic(config->spec, i)) != NETWORK_TAP)
			continue;
		rc = tap_vhost_open(TAP_VHOST, &vhost, err);
		*ret_vhost = vhost >= 0;
		if (rc == 0)
			rc = add_tap(order, config, i, *ret_vhost, err);
	}
	return rc;
}

static int
make_order(const struct qemu *hv, const struct hv_config *config, const char *accel,
    const char *generation, struct launch_order *order, struct err *err)
{
	CLEANUP_FREE char *seed = fs_join(config->dir, "seed.iso");
	struct qemu_disk disk = { 0 };
	struct qemu_firmware firmware = { 0 };
	struct qemu_plan plan = { .config = config, .disk = &disk, .accel = accel,
		.seed = fs_exists(seed), .arch = qemu_arch_get(config->spec->arch) };
	int rc = add_taps(order, config, &plan.vhost, err);

	if (rc == 0)
		rc = qemu_disk_read(config->dir, &disk, err);
	if (rc == 0 && config->spec->firmware.type == FIRMWARE_UEFI) {
		rc = firmware_kept(config->dir, plan.arch, &firmware, err);
		plan.firmware = &firmware;
	}
	if (rc == 0) {
		plan.program = qemu_program(hv, config->spec->arch);
		qemu_argv_build(&plan, &order->argv);
		if (disk.base_path != NULL)
			add_file(order, disk.base_path, QEMU_FD_IMAGE);
		if (plan.seed)
			add_file(order, seed, QEMU_FD_SEED);
		if (config->cdrom_path != NULL)
			add_file(order, config->cdrom_path, QEMU_FD_CDROM);
		if (plan.firmware != NULL)
			add_file(order, firmware.code, QEMU_FD_FIRMWARE);
		order->parent = (uint64_t)getpid();
		order->record = fs_join(config->dir, "launch.json");
		order->generation = xstrdup(generation);
		fill_rights(order, &plan, hv);
	}
	firmware_done(&firmware);
	qemu_disk_done(&disk);
	return rc;
}

static int
write_order(const struct launch_order *order, int *ret_fd, struct err *err)
{
	json_object *doc = fields_encode(launch_order_fields, order);
	CLEANUP_FD int fd = memfd_create("order", MFD_CLOEXEC);
	size_t len;
	const char *text = json_object_to_json_string_length(doc, JSON_C_TO_STRING_PLAIN, &len);
	int rc = 0;

	if (fd < 0 || fs_write_all(fd, text, len) < 0)
		rc = err_errno(err, E_IO, errno, "can not write the order for the launcher");
	else
		*ret_fd = TAKE_FD(fd);
	json_object_put(doc);
	return rc;
}

int
qemu_launch_order(const struct qemu *hv, const struct launch_order *order, int log_fd,
    const struct process_fd *fds, size_t fd_count, pid_t *ret_pid, int *ret_pidfd, struct err *err)
{
	static const char *const no_env[] = { NULL };
	const char *const argv[] = { hv->base.env->launcher, NULL };
	CLEANUP_FD int order_fd = -1;
	struct process_spec spec = { .argv = argv, .envp = no_env, .cwd = "/", .stdout_fd = log_fd,
		.stderr_fd = log_fd, .fds = fds, .fd_count = fd_count, .new_session = true };
	int rc = write_order(order, &order_fd, err);

	if (rc != 0)
		return rc;
	spec.stdin_fd = order_fd;
	return process_spawn(&spec, ret_pid, ret_pidfd, err);
}

static int
spawn(const struct qemu *hv, const struct launch_order *order, const struct made *made,
    struct qemu_process *process, struct err *err)
{
	struct process_fd fds[] = {
		{ made->monitor, QEMU_FD_MONITOR },
		{ made->agent, QEMU_FD_AGENT },
		{ made->console_log, QEMU_FD_CONSOLE_LOG },
		{ made->console_in, QEMU_FD_CONSOLE_IN },
		{ made->console_hold, QEMU_FD_CONSOLE_HOLD },
		{ made->tpm, QEMU_FD_TPM },
	};

	return qemu_launch_order(hv, order, made->log, fds, ARRAY_LEN(fds) - (made->tpm < 0),
	    &process->pid, &process->pidfd, err);
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
qemu_launch(struct qemu *hv, const struct hv_config *config, const char *accel,
    struct qemu_process *ret_process, struct err *err)
{
	struct qemu_process process = { .pidfd = -1 };
	struct launch_order order = { 0 };
	struct made made = made_init;
	int rc;

	new_generation(process.generation, sizeof(process.generation));
	qemu_log_trim(hv->base.env->pool, config->dir, "qemu.log", 1 << 20);
	made.log = qemu_log_open(config->dir, "qemu.log", &process.log_from, err);
	rc = made.log < 0 ? E_IO : 0;
	if (rc == 0)
		rc = make_listener(config->run_dir, "monitor", &made.monitor, err);
	if (rc == 0)
		rc = make_listener(config->run_dir, "agent", &made.agent, err);
	if (rc == 0)
		rc = make_console(config, &made, err);
	if (rc == 0)
		rc = make_files(config, err);
	if (rc == 0)
		rc = make_order(hv, config, accel, process.generation, &order, err);
	if (rc == 0 && config->spec->firmware.tpm)
		rc = qemu_tpm_start(hv, config, process.generation, made.log, &process.tpm, &made.tpm,
		    err);
	if (rc == 0)
		rc = spawn(hv, &order, &made, &process, err);
	fields_release(launch_order_fields, &order);
	made_done(&made);
	if (rc == 0)
		*ret_process = process;
	else
		qemu_tpm_end(hv, process.tpm);
	return rc;
}
