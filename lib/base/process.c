/* SPDX-License-Identifier: MPL-2.0
 *
 * Starting programs.  Everything that allocates happens before fork: the daemon has threads, and
 * the child may only make async-signal-safe calls until it execs. */
#include "lib/base/process.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/platform.h"
#include "lib/base/process_platform.h"
#include "lib/base/str.h"

extern char **environ; /* POSIX leaves it to us to say so */

/* As process-wide as the limit itself: the soft limit that children get back, 0 for "as it is". */
static _Atomic rlim_t child_fd_limit;

void
process_raise_fd_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
		return;
	child_fd_limit = limit.rlim_cur;
	limit.rlim_cur = limit.rlim_max;
	setrlimit(RLIMIT_NOFILE, &limit);
}

static bool
is_program(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

static char *
find_in(const char *path, const char *name)
{
	while (*path != '\0') {
		size_t len = strcspn(path, ":");
		char *candidate = xasprintf("%.*s/%s", (int)len, path, name);

		/* An empty or relative entry means the working directory: never. */
		if (path[0] == '/' && is_program(candidate))
			return candidate;
		free(candidate);
		path += len + (path[len] == ':');
	}
	return NULL;
}

char *
process_find(const char *name)
{
	const char *path = getenv("PATH");
	char *found;

	if (strchr(name, '/') != NULL)
		return is_program(name) ? xstrdup(name) : NULL;
	found = find_in(path != NULL ? path : "/usr/local/bin:/usr/bin:/bin", name);
	/* People's PATH often lacks what was made for administrators. */
	return found != NULL ? found : find_in("/usr/local/sbin:/usr/sbin:/sbin", name);
}

char *
process_find_ours(const char *name, const char *variable, const char *source_folder)
{
	/* Beside us; in a build tree, from daemon/ and from tests/unit/; installed. */
	const struct {
		const char *up, *folder;
	} places[] = { { ".", "" }, { "..", source_folder }, { "../..", source_folder },
		{ "../libexec/vmm", "" } };
	const char *given = getenv(variable);
	CLEANUP_FREE char *own = platform_own_path(), *here = own != NULL ? fs_dirname(own) : NULL;
	CLEANUP_FREE char *installed = xasprintf(VMM_LIBEXECDIR "/%s", name);

	if (given != NULL)
		return is_program(given) ? xstrdup(given) : NULL;
	for (size_t i = 0; here != NULL && i < ARRAY_LEN(places); i++) {
		CLEANUP_FREE char *path = xasprintf("%s/%s/%s/%s", here, places[i].up,
		    places[i].folder, name);

		if (is_program(path))
			return fs_expand(path, NULL);
	}
	return is_program(installed) ? TAKE(installed) : NULL;
}

struct child_plan {
	const char *program;
	const struct process_spec *spec;
	struct process_fd *fds; /* the standard three first */
	size_t fd_count;
	int floor; /* above every number that the child shall see */
	int report_fd;
	struct rlimit nofile;
	bool set_nofile;
};

static void __attribute__((noreturn))
child_fail(int report_fd)
{
	int e = errno;

	if (write(report_fd, &e, sizeof(e)) < 0)
		_exit(126);
	_exit(127);
}

int
process_limit(const struct process_limits *limits)
{
	const struct {
		int which;
		uint64_t value;
	} rows[] = {
		{ RLIMIT_CPU, limits->cpu_seconds },
		{ RLIMIT_AS, limits->address_space_bytes },
		{ RLIMIT_FSIZE, limits->file_size_bytes },
	};
	struct rlimit core = { 0, 0 };

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct rlimit limit = { rows[i].value, rows[i].value };

		if (rows[i].value > 0 && setrlimit(rows[i].which, &limit) < 0)
			return -1;
	}
	return setrlimit(RLIMIT_CORE, &core);
}

static int
limit_child(const struct child_plan *plan)
{
	const struct process_limits *limits = plan->spec->limits;

	if (plan->set_nofile && setrlimit(RLIMIT_NOFILE, &plan->nofile) < 0)
		return -1;
	return limits != NULL ? process_limit(limits) : 0;
}

/* Puts the descriptors at their numbers.  First all of them go above every target, so that no
 * move can overwrite one that is still to come. */
static void
place_fds(struct child_plan *plan)
{
	plan->report_fd = fcntl(plan->report_fd, F_DUPFD_CLOEXEC, plan->floor);
	if (plan->report_fd < 0)
		_exit(126);
	for (size_t i = 0; i < plan->fd_count; i++) {
		plan->fds[i].from = fcntl(plan->fds[i].from, F_DUPFD_CLOEXEC, plan->floor);
		if (plan->fds[i].from < 0)
			child_fail(plan->report_fd);
	}
	for (size_t i = 0; i < plan->fd_count; i++)
		if (dup2(plan->fds[i].from, plan->fds[i].to) < 0)
			child_fail(plan->report_fd);
	process_close_on_exec_from(3);
	for (size_t i = 0; i < plan->fd_count; i++)
		if (fcntl(plan->fds[i].to, F_SETFD, 0) < 0)
			child_fail(plan->report_fd);
}

static void __attribute__((noreturn))
child_main(struct child_plan *plan)
{
	const struct process_spec *spec = plan->spec;
	struct sigaction standard = { .sa_handler = SIG_DFL };
	sigset_t none;

	/* Handlers of the daemon must not run here: the mask opens only after they are gone. */
	for (int signo = 1; signo <= SIGRTMAX; signo++)
		sigaction(signo, &standard, NULL);
	sigemptyset(&none);
	pthread_sigmask(SIG_SETMASK, &none, NULL);
	place_fds(plan);
	if (spec->new_session && setsid() < 0)
		child_fail(plan->report_fd);
	if (spec->cwd != NULL && chdir(spec->cwd) < 0)
		child_fail(plan->report_fd);
	/* Last, for the placing may need numbers above the lower limit. */
	if (limit_child(plan) < 0)
		child_fail(plan->report_fd);
	execve(plan->program, (char *const *)(uintptr_t)spec->argv,
	    spec->envp != NULL ? (char *const *)(uintptr_t)spec->envp : environ);
	child_fail(plan->report_fd);
}

static void
plan_fds(struct child_plan *plan, int null_fd)
{
	const struct process_spec *spec = plan->spec;
	const int standard[3] = { spec->stdin_fd, spec->stdout_fd, spec->stderr_fd };

	plan->fds = xcalloc(spec->fd_count + 3, sizeof(*plan->fds));
	plan->floor = 3;
	for (int i = 0; i < 3; i++)
		plan->fds[plan->fd_count++] =
		    (struct process_fd){ standard[i] >= 0 ? standard[i] : null_fd, i };
	for (size_t i = 0; i < spec->fd_count; i++) {
		assert(spec->fds[i].to >= 3);
		plan->fds[plan->fd_count++] = spec->fds[i];
		if (spec->fds[i].to >= plan->floor)
			plan->floor = spec->fds[i].to + 1;
	}
}

static void
plan_fd_limit(struct child_plan *plan)
{
	rlim_t soft = child_fd_limit;

	if (soft == 0 || getrlimit(RLIMIT_NOFILE, &plan->nofile) < 0)
		return;
	plan->nofile.rlim_cur = soft;
	plan->set_nofile = true;
}

static pid_t
fork_quietly(struct child_plan *plan)
{
	sigset_t all, before;
	int begun, e;
	pid_t pid;

	begun = process_fork_begin();
	if (begun < 0)
		return -1;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	pid = fork();
	e = errno;
	process_fork_end(begun);
	if (pid == 0)
		child_main(plan);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	errno = e;
	return pid;
}

/* Waits for exec: the pipe closes then, or brings the reason why not. */
static int
await_exec(int fd)
{
	int e = 0;
	ssize_t n;

	do
		n = read(fd, &e, sizeof(e));
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)sizeof(e) ? e : 0;
}

int
process_spawn(const struct process_spec *spec, pid_t *ret_pid, int *ret_pidfd, struct err *err)
{
	CLEANUP_FREE char *program = process_find(spec->argv[0]);
	CLEANUP_FD int null_fd = -1, report_read = -1, report_write = -1, pidfd = -1;
	struct child_plan plan = { .program = program, .spec = spec };
	int report[2], e;
	pid_t pid;

	if (program == NULL) {
		err_set(err, E_NOT_FOUND, "the program '%s' was not found", spec->argv[0]);
		err_hint(err, "install it, or look at PATH of vmmd");
		return E_NOT_FOUND;
	}
	null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null_fd < 0 || fs_pipe(report) < 0)
		return err_errno(err, E_FAILED, errno, "can not start '%s'", spec->argv[0]);
	report_read = report[0];
	report_write = plan.report_fd = report[1];
	plan_fds(&plan, null_fd);
	plan_fd_limit(&plan);
	pid = fork_quietly(&plan);
	e = errno;
	free(plan.fds);
	if (pid < 0)
		return err_errno(err, E_FAILED, e, "can not start '%s'", spec->argv[0]);
	close(TAKE_FD(report_write));
	pidfd = process_pidfd(pid);
	if (pidfd < 0) {
		e = errno;
		kill(pid, SIGKILL); /* ours and not reaped: the number can not be another's */
		await_exec(report_read);
		return err_errno(err, E_FAILED, e, "can not watch '%s'", spec->argv[0]);
	}
	e = await_exec(report_read);
	if (e != 0) {
		struct process_exit how;

		process_reap(pid, pidfd, true, &how);
		return err_errno(err, E_FAILED, e, "can not start '%s'", program);
	}
	*ret_pid = pid;
	if (ret_pidfd != NULL)
		*ret_pidfd = TAKE_FD(pidfd);
	return 0;
}
