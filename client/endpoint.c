/* SPDX-License-Identifier: MPL-2.0 */
#include "client/endpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/platform.h"
#include "lib/base/process.h"

enum {
	START_TIMEOUT_MS = 15000,
	RACE_TIMEOUT_MS = 3000, /* ours ended: is it another's start that won? */
	TRY_EVERY_MS = 5,
	LOG_TAIL = 2048,
};

static const char *
environment(const char *name)
{
	const char *value = getenv(name);

	return value != NULL && value[0] != '\0' ? value : NULL;
}

/* $variable/vmm/name, or ~/fallback/vmm/name. */
static char *
xdg_path(const char *variable, const char *fallback, const char *name)
{
	const char *base = environment(variable);
	CLEANUP_FREE char *home = NULL;

	if (base != NULL && base[0] == '/')
		return xasprintf("%s/vmm/%s", base, name);
	home = fs_home();
	return home != NULL ? xasprintf("%s/%s/vmm/%s", home, fallback, name) : NULL;
}

char *
endpoint_user_socket(void)
{
	const char *runtime = environment("XDG_RUNTIME_DIR");

	if (runtime != NULL && runtime[0] == '/')
		return xasprintf("%s/vmm/vmmd.sock", runtime);
	return xdg_path("XDG_DATA_HOME", ".local/share", "run/vmmd.sock");
}

char *
endpoint_log_path(void)
{
	return xdg_path("XDG_STATE_HOME", ".local/state", "vmmd.log");
}

char *
endpoint_config_path(const char *name)
{
	return xdg_path("XDG_CONFIG_HOME", ".config", name);
}

/* ---- starting vmmd ---- */

static bool
is_program(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

static char *
find_in_path(const char *name)
{
	const char *path = environment("PATH");

	while (path != NULL) {
		size_t len = strcspn(path, ":");
		CLEANUP_FREE char *dir = xstrndup(len > 0 ? path : ".", len > 0 ? len : 1);
		CLEANUP_FREE char *file = fs_join(dir, name);

		if (is_program(file))
			return TAKE(file);
		path = path[len] != '\0' ? path + len + 1 : NULL;
	}
	return NULL;
}

/* Beside this program, where both are installed, in the build tree, in PATH. */
static char *
find_vmmd(void)
{
	static const char *const beside[] = { "vmmd", "../sbin/vmmd", "../daemon/vmmd" };
	CLEANUP_FREE char *self = platform_own_path(), *dir = NULL;

	if (self == NULL)
		return find_in_path("vmmd");
	dir = fs_dirname(self);
	for (size_t i = 0; i < ARRAY_LEN(beside); i++) {
		CLEANUP_FREE char *file = fs_join(dir, beside[i]);

		if (is_program(file))
			return TAKE(file);
	}
	return find_in_path("vmmd");
}

static int
open_log(char **ret_path, struct err *err)
{
	CLEANUP_FREE char *path = endpoint_log_path(), *dir = NULL;
	int fd;

	if (path == NULL)
		return err_set(err, E_NO_DAEMON, "no home folder is known to write vmmd's log to"),
		       -1;
	dir = fs_dirname(path);
	if (fs_mkdirs(dir, 0700, err) != 0)
		return -1;
	fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0600);
	if (fd < 0)
		err_errno(err, E_IO, errno, "can not write '%s'", path);
	*ret_path = TAKE(path);
	return fd;
}

/* What vmmd wrote since `from`: the end of it, into the error. */
static int
quote_log(const char *path, off_t from, struct err *err)
{
	CLEANUP_FREE char *text = NULL, *shown = NULL;
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	off_t end = fd >= 0 ? lseek(fd, 0, SEEK_END) : 0;
	ssize_t len;

	if (end > from + LOG_TAIL - 1)
		from = end - LOG_TAIL + 1;
	text = xcalloc(1, LOG_TAIL);
	len = end > from ? pread(fd, text, LOG_TAIL - 1, from) : 0;
	while (len > 0 && text[len - 1] == '\n')
		len--;
	shown = str_printable(text, len > 0 ? (size_t)len : 0);
	if (shown[0] != '\0')
		err_set(err, E_NO_DAEMON, "vmmd did not start; it said:\n%.1800s", shown);
	else
		err_set(err, E_NO_DAEMON, "vmmd did not start, and said nothing");
	err_hint(err, "its log is '%s'", path);
	return E_NO_DAEMON;
}

static int
wait_for_vmmd(const char *socket, pid_t pid, struct conn *ret_conn)
{
	uint64_t deadline = clock_ms() + START_TIMEOUT_MS;
	bool ended = false;

	while (clock_ms() < deadline) {
		uint64_t race = clock_ms() + RACE_TIMEOUT_MS;

		if (conn_open(socket, ret_conn, NULL) == 0)
			return 0;
		if (!ended && waitpid(pid, NULL, WNOHANG) == pid) {
			ended = true;
			deadline = race < deadline ? race : deadline;
		}
		poll(NULL, 0, TRY_EVERY_MS);
	}
	return E_NO_DAEMON;
}

static int
start_vmmd(const char *socket, struct conn *ret_conn, struct err *err)
{
	CLEANUP_FREE char *program = find_vmmd(), *log_path = NULL;
	CLEANUP_FD int log = -1;
	off_t log_start;
	pid_t pid;

	if (program == NULL) {
		err_set(err, E_NO_DAEMON, "no vmmd is running, and none was found to start");
		err_hint(err, "install vmmd beside vmctl or into PATH");
		return E_NO_DAEMON;
	}
	log = open_log(&log_path, err);
	if (log < 0)
		return E_NO_DAEMON;
	log_start = lseek(log, 0, SEEK_END);
	if (process_spawn(&(struct process_spec){ .argv = (const char *const[]){ program, NULL },
			      .cwd = "/",
			      .stdin_fd = -1,
			      .stdout_fd = log,
			      .stderr_fd = log,
			      .new_session = true },
		&pid, NULL, err) != 0)
		return E_NO_DAEMON;
	if (wait_for_vmmd(socket, pid, ret_conn) != 0)
		return quote_log(log_path, log_start, err);
	return 0;
}

/* ---- the whole ---- */

static int
open_named(const char *socket, struct conn *ret_conn, struct err *err)
{
	struct err problem = ERR_INIT;

	if (conn_open(socket, ret_conn, &problem) == 0)
		return 0;
	if (problem.code != E_OK)
		err_set(err, E_NO_DAEMON, "%s", problem.msg);
	else
		err_set(err, E_NO_DAEMON, "no vmmd listens on '%s'", socket);
	err_hint(err, "start it with: vmmd --socket %s", socket);
	return E_NO_DAEMON;
}

int
endpoint_open(const char *socket, bool start, struct conn *ret_conn, struct err *err)
{
	const char *named = socket != NULL ? socket : environment("VMCTL_SOCKET");
	const char *forbidden = environment("VMCTL_NO_AUTOSTART");
	CLEANUP_FREE char *user = NULL, *system = fs_join(platform_runtime_dir, "vmmd.sock");
	struct err problem = ERR_INIT;

	if (named != NULL)
		return open_named(named, ret_conn, err);
	user = endpoint_user_socket();
	if (user != NULL && conn_open(user, ret_conn, &problem) == 0)
		return 0;
	if (conn_open(system, ret_conn, &problem) == 0)
		return 0;
	if (problem.code != E_OK) {
		if (err != NULL)
			*err = problem;
		return E_NO_DAEMON;
	}
	if (start && user != NULL && (forbidden == NULL || strcmp(forbidden, "1") != 0))
		return start_vmmd(user, ret_conn, err);
	err_set(err, E_NO_DAEMON, "no vmmd is running");
	err_hint(err, "start it with 'vmmd', or unset VMCTL_NO_AUTOSTART to have it started");
	return E_NO_DAEMON;
}
