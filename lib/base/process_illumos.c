/* SPDX-License-Identifier: MPL-2.0
 *
 * Processes on illumos: contracts and /proc.
 *
 * Every child is made in a process contract of its own.  vmmd's own contract, which is its
 * service's, does not have it as a member, so restarting the service does not end it; when vmmd
 * ends, the kernel makes the contract an orphan and its members live on.  A child's descriptor is
 * the contract's event endpoint: informative EXIT events tell of each member's end, and EMPTY,
 * which is critical and thus kept, of a child that was gone before anybody listened.  A contract
 * is abandoned when its child is reaped.
 *
 * The descriptor of a process that is not our child is its psinfo in /proc, which reads as long as
 * that very process is there, whoever has its number later. */
#include "lib/base/process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libcontract.h>
#include <procfs.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/contract/process.h>
#include <sys/ctfs.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <threads.h>
#include <unistd.h>
#include <utmpx.h>

#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/process_platform.h"
#include "lib/base/str.h"

enum { STRANGER_MS = 100 }; /* between two looks at a process that can not be waited for */

/* A psinfo is always readable; of the end it tells by hanging up, which is not asked for. */
const short process_end_events = 0;

/* ---- contracts ---- */

int
process_fork_begin(void)
{
	int fd = open(CTFS_ROOT "/process/template", O_RDWR | O_CLOEXEC);
	int e;

	if (fd < 0)
		return -1;
	e = ct_tmpl_set_critical(fd, CT_PR_EV_EMPTY);
	if (e == 0)
		e = ct_tmpl_set_informative(fd, CT_PR_EV_EXIT);
	if (e == 0)
		e = ct_pr_tmpl_set_fatal(fd, 0); /* nothing ends all of them */
	if (e == 0)
		e = ct_pr_tmpl_set_param(fd, 0); /* not inherited, not killed with us */
	if (e == 0)
		e = ct_tmpl_activate(fd);
	if (e == 0)
		return fd;
	close(fd);
	errno = e;
	return -1;
}

/* Also in the child, which is born with the template active. */
void
process_fork_end(int begun)
{
	ct_tmpl_clear(begun);
	close(begun);
}

static int
open_contract(ctid_t id, const char *file, int flags)
{
	CLEANUP_FREE char *path = xasprintf(CTFS_ROOT "/process/%ld/%s", (long)id, file);

	return open(path, flags | O_CLOEXEC);
}

/* "latest" is of this thread. */
int
process_pidfd(pid_t pid)
{
	CLEANUP_FD int latest = open(CTFS_ROOT "/process/latest", O_RDONLY | O_CLOEXEC);
	ct_stathdl_t status;
	ctid_t id;
	int e;

	if (latest < 0)
		return -1;
	e = ct_status_read(latest, CTD_COMMON, &status);
	if (e != 0) {
		errno = e;
		return -1;
	}
	id = ct_status_get_id(status);
	ct_status_free(status);
	return open_contract(id, "events", O_RDONLY | O_NONBLOCK);
}

/* Takes what the contract has told so far.  True: the process has left it, and can be reaped now
 * or in a moment.  ret_contract: untouched when nothing was told. */
static bool
heard_end(int pidfd, pid_t pid, ctid_t *ret_contract)
{
	ct_evthdl_t event;
	bool ended = false;

	while (ct_event_read(pidfd, &event) == 0) {
		pid_t who = -1;

		*ret_contract = ct_event_get_ctid(event);
		switch (ct_event_get_type(event)) {
		case CT_PR_EV_EMPTY:
			ended = true;
			break;
		case CT_PR_EV_EXIT:
			ended = ended || (ct_pr_event_get_pid(event, &who) == 0 && who == pid);
			break;
		default:
			break;
		}
		ct_event_free(event);
	}
	return ended;
}

static void
abandon(ctid_t id)
{
	CLEANUP_FD int fd = open_contract(id, "ctl", O_WRONLY);

	if (fd >= 0)
		ct_ctl_abandon(fd);
}

static bool
is_child(pid_t pid)
{
	siginfo_t info;

	return waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

bool
process_reap(pid_t pid, int pidfd, bool wait, struct process_exit *ret_exit)
{
	ctid_t contract = -1;
	bool ended = heard_end(pidfd, pid, &contract);
	siginfo_t info = { .si_pid = 0 };

	/* Having left its contract, it is about to become a zombie: no event tells of that. */
	while (waitid(P_PID, (id_t)pid, &info, WEXITED | (wait || ended ? 0 : WNOHANG)) < 0)
		if (errno != EINTR)
			return false;
	if (info.si_pid == 0)
		return false;
	if (contract < 0)
		heard_end(pidfd, pid, &contract);
	if (contract >= 0)
		abandon(contract);
	*ret_exit = (struct process_exit){
		.known = true, .signaled = info.si_code != CLD_EXITED, .code = info.si_status
	};
	return true;
}

/* The number that a name of /proc/self/fd is; -1: "." and "..". */
static int
fd_number(const char *name)
{
	int fd = 0;

	for (; *name >= '0' && *name <= '9'; name++)
		fd = fd * 10 + (*name - '0');
	return *name == '\0' ? fd : -1;
}

/* By system calls alone: closefrom and fdwalk allocate. */
void
process_close_on_exec_from(int first)
{
	union {
		struct dirent align;
		char space[4096];
	} buffer;
	int dir = open("/proc/self/fd", O_RDONLY | O_CLOEXEC);
	int n;

	while (dir >= 0 && (n = getdents(dir, &buffer.align, sizeof(buffer))) > 0) {
		for (char *p = buffer.space; p < buffer.space + n;) {
			const struct dirent *entry = (const struct dirent *)(const void *)p;
			int fd = fd_number(entry->d_name);

			if (fd >= first)
				fcntl(fd, F_SETFD, FD_CLOEXEC);
			p += entry->d_reclen;
		}
	}
	if (dir >= 0) {
		close(dir);
		return;
	}
	for (long fd = first; fd < sysconf(_SC_OPEN_MAX); fd++)
		fcntl((int)fd, F_SETFD, FD_CLOEXEC);
}

/* ---- who is it ---- */

static once_flag boot_id_once = ONCE_FLAG_INIT;
static char boot_id[40]; /* written once */

static void
read_boot_id(void)
{
	const char *override = getenv("VMMD_BOOT_ID");
	struct utmpx wanted = { .ut_type = BOOT_TIME };
	const struct utmpx *boot;

	if (override != NULL) {
		snprintf(boot_id, sizeof(boot_id), "%s", override);
		return;
	}
	setutxent();
	boot = getutxid(&wanted);
	if (boot != NULL)
		snprintf(boot_id, sizeof(boot_id), "%lld", (long long)boot->ut_tv.tv_sec);
	else
		snprintf(boot_id, sizeof(boot_id), "unknown");
	endutxent();
}

const char *
process_boot_id(void)
{
	call_once(&boot_id_once, read_boot_id);
	return boot_id;
}

static bool
read_psinfo(int fd, psinfo_t *ret_info)
{
	return pread(fd, ret_info, sizeof(*ret_info), 0) == (ssize_t)sizeof(*ret_info);
}

/* A zombie has no threads left. */
static bool
is_alive(int fd, psinfo_t *ret_info)
{
	return read_psinfo(fd, ret_info) && ret_info->pr_nlwp > 0;
}

static int
open_psinfo(pid_t pid)
{
	CLEANUP_FREE char *path = xasprintf("/proc/%ld/psinfo", (long)pid);

	return open(path, O_RDONLY | O_CLOEXEC);
}

static int
identify(pid_t pid, int *ret_fd, struct process_id *ret_id, struct err *err)
{
	CLEANUP_FREE char *exe = xasprintf("/proc/%ld/object/a.out", (long)pid);
	CLEANUP_FD int fd = pid > 0 ? open_psinfo(pid) : -1;
	psinfo_t info;
	struct stat st;

	if (fd < 0)
		return err_set(err, E_NOT_FOUND, "there is no process %ld", (long)pid);
	if (!is_alive(fd, &info))
		return err_set(err, E_NOT_FOUND, "process %ld has ended", (long)pid);
	*ret_id = (struct process_id){ .pid = pid,
		.start_time =
		    (uint64_t)info.pr_start.tv_sec * 1000000000 + (uint64_t)info.pr_start.tv_nsec };
	snprintf(ret_id->boot_id, sizeof(ret_id->boot_id), "%s", process_boot_id());
	if (stat(exe, &st) == 0) { /* its owner and root may */
		ret_id->exe_dev = (uint64_t)st.st_dev;
		ret_id->exe_ino = (uint64_t)st.st_ino;
	}
	if (ret_fd != NULL)
		*ret_fd = TAKE_FD(fd);
	return 0;
}

int
process_identify(pid_t pid, struct process_id *ret_id, struct err *err)
{
	return identify(pid, NULL, ret_id, err);
}

int
process_open(const struct process_id *id, int *ret_pidfd, struct err *err)
{
	CLEANUP_FD int fd = -1;
	struct process_id now;
	int rc;

	if (!str_eq(id->boot_id, process_boot_id()))
		return err_set(
		    err, E_NOT_FOUND, "process %ld was of an earlier boot", (long)id->pid);
	rc = identify(id->pid, &fd, &now, err);
	if (rc != 0)
		return rc;
	if (now.start_time != id->start_time ||
	    (now.exe_ino != 0 && id->exe_ino != 0 &&
		(now.exe_ino != id->exe_ino || now.exe_dev != id->exe_dev)))
		return err_set(err, E_NOT_FOUND, "process %ld is another one now", (long)id->pid);
	*ret_pidfd = TAKE_FD(fd);
	return 0;
}

/* A child's number is its own until it is reaped. */
int
process_signal(pid_t pid, int pidfd, int signo)
{
	psinfo_t info;

	if (!is_child(pid) && !is_alive(pidfd, &info))
		return E_NOT_FOUND;
	if (kill(pid, signo) == 0)
		return 0;
	return errno == EPERM ? E_PERMISSION : E_NOT_FOUND;
}

/* Of its arguments only the beginning is told. */
bool
process_mentions(pid_t pid, const char *text)
{
	CLEANUP_FD int fd = open_psinfo(pid);
	psinfo_t info;

	if (fd < 0 || !is_alive(fd, &info))
		return false;
	info.pr_psargs[PRARGSZ - 1] = '\0';
	return strlen(info.pr_psargs) >= PRARGSZ - 1 || strstr(info.pr_psargs, text) != NULL;
}

/* ---- its end ---- */

struct process_watch {
	struct watch *watch; /* of a child; NULL: another's, looked at now and then */
	struct timer *look;
	pid_t pid;
	int pidfd;
	process_exit_fn *fn;
	void *arg;
};

static void
on_contract(void *arg, unsigned events)
{
	struct process_watch *watch = arg;
	struct process_exit how = { .known = false };

	if (!process_reap(watch->pid, watch->pidfd, false, &how) && is_child(watch->pid))
		return; /* another member of its contract has ended */
	watch_set(watch->watch, 0);
	watch->fn(watch->arg, &how);
}

static void
on_look(void *arg)
{
	struct process_watch *watch = arg;
	struct process_exit how = { .known = false };
	psinfo_t info;

	if (is_alive(watch->pidfd, &info)) {
		timer_arm(watch->look, STRANGER_MS);
		return;
	}
	watch->fn(watch->arg, &how);
}

struct process_watch *
process_watch_create(struct loop *loop, pid_t pid, int pidfd, process_exit_fn *fn, void *arg)
{
	struct process_watch *watch = xcalloc(1, sizeof(*watch));

	*watch = (struct process_watch){ .pid = pid, .fn = fn, .arg = arg };
	watch->pidfd = fcntl(pidfd, F_DUPFD_CLOEXEC, 3);
	if (watch->pidfd < 0) {
		free(watch);
		return NULL;
	}
	if (is_child(pid)) {
		watch->watch = watch_create(loop, watch->pidfd, LOOP_READ, on_contract, watch);
	} else {
		watch->look = timer_create_on(loop, on_look, watch);
		timer_arm(watch->look, 0);
	}
	return watch;
}

void
process_watch_destroy(struct process_watch *watch)
{
	if (watch == NULL)
		return;
	if (watch->watch != NULL)
		watch_destroy(watch->watch);
	if (watch->look != NULL)
		timer_destroy(watch->look);
	close(watch->pidfd);
	free(watch);
}
