/* SPDX-License-Identifier: MPL-2.0
 *
 * Processes on Linux: pidfds and /proc.  A pid alone is never trusted; whoever wants to signal
 * opens the pidfd first and compares afterwards. */
#include "lib/base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <threads.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/process_platform.h"
#include "lib/base/str.h"

/* From linux/pidfd.h of 6.15; the headers here may be older than the kernel. */
struct pidfd_exit_info {
	uint64_t mask, cgroup_id;
	uint32_t pid, tgid, ppid, ids[8];
	int32_t exit_code;
	uint32_t more[2];
};
#define PIDFD_INFO_EXIT_BIT (1U << 3)
#define PIDFD_GET_INFO_CALL _IOWR(0xFF, 11, struct pidfd_exit_info)

/* How long a stranger's exit status is waited for, in steps: its parent has to reap it first. */
enum { EXIT_POLL_MS = 2, EXIT_POLLS = 100 };

const short process_end_events = POLLIN;

int
process_fork_begin(void)
{
	return 0;
}

void
process_fork_end(int begun)
{
}

int
process_pidfd(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

void
process_close_on_exec_from(int first)
{
	enum { CLOEXEC_FLAG = 1 << 2 };

	if (syscall(SYS_close_range, (unsigned)first, ~0U, CLOEXEC_FLAG) == 0)
		return;
	for (int fd = first; fd < 65536; fd++)
		fcntl(fd, F_SETFD, FD_CLOEXEC);
}

static once_flag boot_id_once = ONCE_FLAG_INIT;
static char boot_id[40]; /* written once */

static void
read_boot_id(void)
{
	const char *override = getenv("VMMD_BOOT_ID");
	CLEANUP_FREE char *text = NULL;

	if (override == NULL &&
	    fs_read("/proc/sys/kernel/random/boot_id", 64, &text, NULL, NULL) == 0) {
		text[strcspn(text, "\n")] = '\0';
		override = text;
	}
	snprintf(boot_id, sizeof(boot_id), "%s", override != NULL ? override : "unknown");
}

const char *
process_boot_id(void)
{
	call_once(&boot_id_once, read_boot_id);
	return boot_id;
}

struct stat_line {
	char state;
	uint64_t start_time;
	int wait_status; /* of a zombie; 0 when we may not see it */
};

static int
read_stat(pid_t pid, struct stat_line *ret_line, struct err *err)
{
	enum { STATE = 3, START_TIME = 22, EXIT_CODE = 52 };
	CLEANUP_FREE char *path = xasprintf("/proc/%d/stat", (int)pid), *text = NULL;
	int field = STATE;
	char *p;

	if (pid <= 0 || fs_read(path, 4096, &text, NULL, NULL) != 0)
		return err_set(err, E_NOT_FOUND, "there is no process %d", (int)pid);
	/* The command name is free text: fields are counted after its last bracket. */
	p = strrchr(text, ')');
	if (p == NULL || p[1] != ' ')
		return err_set(err, E_IO, "'%s' can not be understood", path);
	*ret_line = (struct stat_line){ .state = p[2] };
	for (p += 2; field < EXIT_CODE; field++) {
		p = strchr(p, ' ');
		if (p == NULL)
			break;
		p++;
		if (field + 1 == START_TIME)
			ret_line->start_time = strtoull(p, NULL, 10);
		else if (field + 1 == EXIT_CODE)
			ret_line->wait_status = (int)strtol(p, NULL, 10);
	}
	if (ret_line->start_time == 0)
		return err_set(err, E_IO, "'%s' can not be understood", path);
	return 0;
}

int
process_identify(pid_t pid, struct process_id *ret_id, struct err *err)
{
	CLEANUP_FREE char *exe = xasprintf("/proc/%d/exe", (int)pid);
	struct stat_line line;
	struct stat st;
	int rc;

	rc = read_stat(pid, &line, err);
	if (rc != 0)
		return rc;
	if (line.state == 'Z' || line.state == 'X')
		return err_set(err, E_NOT_FOUND, "process %d has ended", (int)pid);
	*ret_id = (struct process_id){ .pid = pid, .start_time = line.start_time };
	snprintf(ret_id->boot_id, sizeof(ret_id->boot_id), "%s", process_boot_id());
	if (stat(exe, &st) == 0) {
		ret_id->exe_dev = (uint64_t)st.st_dev;
		ret_id->exe_ino = (uint64_t)st.st_ino;
	}
	return 0;
}

bool
process_mentions(pid_t pid, const char *text)
{
	enum { CMDLINE_MAX = 1 << 20 };
	CLEANUP_FREE char *path = xasprintf("/proc/%d/cmdline", (int)pid), *cmdline = NULL;
	size_t len = 0;

	/* mem_find: the arguments are separated by zeros. */
	return fs_read(path, CMDLINE_MAX, &cmdline, &len, NULL) == 0 &&
	       mem_find(cmdline, len, text, strlen(text)) != NULL;
}

int
process_open(const struct process_id *id, int *ret_pidfd, struct err *err)
{
	CLEANUP_FD int pidfd = -1;
	struct process_id now;
	int rc;

	if (!str_eq(id->boot_id, process_boot_id()))
		return err_set(err, E_NOT_FOUND, "process %d was of an earlier boot", (int)id->pid);
	if (id->pid <= 0)
		return err_set(err, E_NOT_FOUND, "no process is known");
	pidfd = process_pidfd(id->pid);
	if (pidfd < 0 && errno == ESRCH)
		return err_set(err, E_NOT_FOUND, "process %d is gone", (int)id->pid);
	if (pidfd < 0)
		return err_errno(err, E_FAILED, errno, "can not watch process %d", (int)id->pid);
	rc = process_identify(id->pid, &now, err);
	if (rc != 0)
		return rc;
	if (now.start_time != id->start_time ||
	    (now.exe_ino != 0 && id->exe_ino != 0 &&
		(now.exe_ino != id->exe_ino || now.exe_dev != id->exe_dev)))
		return err_set(err, E_NOT_FOUND, "process %d is another one now", (int)id->pid);
	*ret_pidfd = TAKE_FD(pidfd);
	return 0;
}

int
process_signal(pid_t pid, int pidfd, int signo)
{
	if (syscall(SYS_pidfd_send_signal, pidfd, signo, NULL, 0) == 0)
		return 0;
	return errno == EPERM ? E_PERMISSION : E_NOT_FOUND;
}

static struct process_exit
exit_from_status(int status)
{
	bool signaled = WIFSIGNALED(status);

	return (struct process_exit){ .known = true, .signaled = signaled,
		.code = signaled ? WTERMSIG(status) : WEXITSTATUS(status) };
}

bool
process_reap(pid_t pid, int pidfd, bool wait, struct process_exit *ret_exit)
{
	enum { BY_PIDFD = 3 }; /* P_PIDFD, which older headers lack */
	siginfo_t info = { .si_pid = 0 };

	while (waitid((idtype_t)BY_PIDFD, (id_t)pidfd, &info,
		   WEXITED | (wait ? 0 : WNOHANG)) < 0)
		if (errno != EINTR)
			return false;
	if (info.si_pid == 0)
		return false;
	*ret_exit = (struct process_exit){ .known = true, .signaled = info.si_code != CLD_EXITED,
		.code = info.si_status };
	return true;
}

/* Whether /proc shows us a zombie's status; who may not see it gets 0. */
static bool
may_see(pid_t pid)
{
	CLEANUP_FREE char *path = xasprintf("/proc/%d", (int)pid);
	struct stat st;

	return geteuid() == 0 || (stat(path, &st) == 0 && st.st_uid == geteuid());
}

/* The end of somebody else's child: a zombie shows its status in /proc, a reaped one in its pidfd
 * (from kernel 6.15 on). */
static bool
stranger_exit(pid_t pid, int pidfd, struct process_exit *ret_exit)
{
	struct pidfd_exit_info info = { .mask = PIDFD_INFO_EXIT_BIT };
	struct stat_line line;

	if (ioctl(pidfd, PIDFD_GET_INFO_CALL, &info) == 0 && (info.mask & PIDFD_INFO_EXIT_BIT)) {
		*ret_exit = exit_from_status(info.exit_code);
		return true;
	}
	/* Still a zombie, so the pid is still its own. */
	if (read_stat(pid, &line, NULL) == 0 && line.state == 'Z' &&
	    (line.wait_status != 0 || may_see(pid))) {
		*ret_exit = exit_from_status(line.wait_status);
		return true;
	}
	return false;
}

struct process_watch {
	struct loop *loop;
	struct watch *watch;
	struct timer *retry;
	pid_t pid;
	int pidfd;
	int polls;
	process_exit_fn *fn;
	void *arg;
};

static void
try_end(void *arg)
{
	struct process_watch *watch = arg;
	struct process_exit how = { .known = false };

	watch_set(watch->watch, 0);
	if (!process_reap(watch->pid, watch->pidfd, false, &how) &&
	    !stranger_exit(watch->pid, watch->pidfd, &how) && watch->polls++ < EXIT_POLLS) {
		timer_arm(watch->retry, EXIT_POLL_MS);
		return;
	}
	watch->fn(watch->arg, &how);
}

static void
on_pidfd(void *arg, unsigned events)
{
	try_end(arg);
}

struct process_watch *
process_watch_create(struct loop *loop, pid_t pid, int pidfd, process_exit_fn *fn, void *arg)
{
	struct process_watch *watch = xcalloc(1, sizeof(*watch));

	*watch = (struct process_watch){ .loop = loop, .pid = pid, .fn = fn, .arg = arg };
	watch->pidfd = fcntl(pidfd, F_DUPFD_CLOEXEC, 3);
	if (watch->pidfd < 0) {
		free(watch);
		return NULL;
	}
	watch->retry = timer_create_on(loop, try_end, watch);
	watch->watch = watch_create(loop, watch->pidfd, LOOP_READ, on_pidfd, watch);
	return watch;
}

void
process_watch_destroy(struct process_watch *watch)
{
	if (watch == NULL)
		return;
	watch_destroy(watch->watch);
	timer_destroy(watch->retry);
	close(watch->pidfd);
	free(watch);
}
