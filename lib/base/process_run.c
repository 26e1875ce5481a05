/* SPDX-License-Identifier: MPL-2.0
 *
 * Running a program to its end on a worker: input in, output and errors out, bounded in time and
 * size, cancelled with its job. */
#include "lib/base/process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/process_platform.h"
#include "lib/base/str.h"
#include "lib/base/worker.h"

/* GRACE_MS: how long output is still read after the end, when a grandchild keeps the pipe. */
enum { ERR_TEXT_MAX = 4096, READ_CHUNK = 16384, GRACE_MS = 200 };

struct run {
	const char *name;
	const char *const *envp;
	const char *input;
	size_t input_left;
	size_t out_max;
	int in, out, err_fd, pidfd; /* -1 once closed or ended */
	pid_t pid;
	struct sbuf out_text, err_text;
	void (*heard)(void *arg, const char *data, size_t len);
	void *heard_arg;
	struct process_exit exit;
	uint64_t end_at_ms; /* the deadline, later the grace */
	struct job *job;
};

static void
drop(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void
feed(struct run *run)
{
	/* A socket instead of a pipe, for MSG_NOSIGNAL: the reader may be gone. */
	ssize_t n = send(run->in, run->input, run->input_left, MSG_NOSIGNAL | MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		run->input += n;
		run->input_left -= (size_t)n;
	}
	if (n < 0 || run->input_left == 0)
		drop(&run->in);
}

static void
collect(int *fd, struct sbuf *text)
{
	char chunk[READ_CHUNK];
	ssize_t n = read(*fd, chunk, sizeof(chunk));

	if (n > 0)
		sbuf_add(text, chunk, (size_t)n);
	else if (n == 0 || (errno != EAGAIN && errno != EINTR))
		drop(fd);
}

static void
trim_err_text(struct run *run)
{
	struct sbuf *text = &run->err_text;
	size_t over;

	if (text->len <= (size_t)2 * ERR_TEXT_MAX)
		return;
	over = text->len - ERR_TEXT_MAX;
	memmove(text->data, text->data + over, ERR_TEXT_MAX + 1);
	text->len = ERR_TEXT_MAX;
}

/* One turn.  0: go on; otherwise why to stop. */
static int
turn(struct run *run, struct err *err)
{
	uint64_t now = clock_ms();
	uint64_t left = run->end_at_ms > now ? run->end_at_ms - now : 0;
	struct pollfd fds[] = {
		{ .fd = run->in, .events = POLLOUT },
		{ .fd = run->out, .events = POLLIN },
		{ .fd = run->err_fd, .events = POLLIN },
		{ .fd = run->pidfd, .events = POLLIN },
		{ .fd = job_cancel_fd(run->job), .events = POLLIN },
	};

	if (left == 0 && run->pidfd < 0) { /* the grace is over */
		drop(&run->out);
		drop(&run->err_fd);
		return 0;
	}
	if (left == 0)
		return err_set(err, E_TIMEOUT, "'%s' did not end in time", run->name);
	if (job_cancelled(run->job))
		return err_set(err, job_timed_out(run->job) ? E_TIMEOUT : E_CANCELLED,
		    "'%s' was stopped", run->name);
	if (poll(fds, ARRAY_LEN(fds), left > 60000 ? 60000 : (int)left) < 0)
		return errno == EINTR ? 0 : err_errno(err, E_FAILED, errno, "poll");
	if (fds[0].revents != 0)
		feed(run);
	if (fds[1].revents != 0)
		collect(&run->out, &run->out_text);
	if (fds[2].revents != 0)
		collect(&run->err_fd, &run->err_text);
	trim_err_text(run);
	if (run->heard != NULL && run->out_text.len > 0) {
		run->heard(run->heard_arg, run->out_text.data, run->out_text.len);
		sbuf_reset(&run->out_text);
	}
	if (run->out_text.len > run->out_max)
		return err_set(err, E_LIMIT, "'%s' wrote more than %zu bytes", run->name,
		    run->out_max);
	if (fds[3].revents != 0 && process_reap(run->pid, run->pidfd, false, &run->exit)) {
		drop(&run->pidfd);
		drop(&run->in);
		run->end_at_ms = clock_ms() + GRACE_MS;
	}
	return 0;
}

static int
start(struct run *run, const char *const *argv, const struct process_limits *limits,
    struct err *err)
{
	CLEANUP_FD int in = -1, out = -1, err_fd = -1;
	int in_pair[2], out_pipe[2], err_pipe[2];
	struct process_spec spec = { .argv = argv, .envp = run->envp, .limits = limits,
		.new_session = true };
	int rc;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, in_pair) < 0)
		return err_errno(err, E_FAILED, errno, "can not start '%s'", run->name);
	in = in_pair[0];
	run->in = in_pair[1];
	if (fs_pipe(out_pipe) < 0)
		return err_errno(err, E_FAILED, errno, "can not start '%s'", run->name);
	run->out = out_pipe[0];
	out = out_pipe[1];
	if (fs_pipe(err_pipe) < 0)
		return err_errno(err, E_FAILED, errno, "can not start '%s'", run->name);
	run->err_fd = err_pipe[0];
	err_fd = err_pipe[1];
	spec.stdin_fd = run->input_left > 0 ? in : -1;
	spec.stdout_fd = out;
	spec.stderr_fd = err_fd;
	rc = process_spawn(&spec, &run->pid, &run->pidfd, err);
	if (rc == 0 && run->input_left == 0)
		drop(&run->in);
	return rc;
}

static int
judge(const struct run *run, const char *words, struct err *err)
{
	const struct process_exit *how = &run->exit;
	size_t len = strlen(words);

	while (len > 0 && words[len - 1] == '\n')
		len--;
	if (how->signaled)
		return err_set(err, E_FAILED, "'%s' was killed by signal %d%s%.*s", run->name,
		    how->code, len > 0 ? ": " : "", (int)len, words);
	if (how->code != 0)
		return err_set(err, E_FAILED, "'%s' failed with status %d%s%.*s", run->name,
		    how->code, len > 0 ? ": " : "", (int)len, words);
	return 0;
}

int
process_run(const char *const *argv, const void *input, size_t input_len, size_t out_max,
    uint64_t timeout_ms, const struct process_limits *limits, struct job *job,
    struct process_output *ret_output, struct err *err)
{
	struct run run = { .input = input, .input_left = input_len, .out_max = out_max,
		.heard = ret_output->heard, .heard_arg = ret_output->heard_arg, .in = -1,
		.out = -1, .err_fd = -1, .pidfd = -1, .job = job,
		.end_at_ms = clock_ms() + timeout_ms };
	size_t over;
	int rc;

	run.envp = ret_output->envp;
	run.name = ret_output->name != NULL ? ret_output->name : fs_basename(argv[0]);
	rc = start(&run, argv, limits, err);
	while (rc == 0 && (run.pidfd >= 0 || run.out >= 0 || run.err_fd >= 0))
		rc = turn(&run, err);
	if (run.pidfd >= 0) {
		/* Not reaped, so the group's number is still its own.  Who became somebody else
		 * (pfexec, set-uid) is not ours to kill: it is left, rather than waited for. */
		bool killed = kill(-run.pid, SIGKILL) == 0 || errno != EPERM;

		process_reap(run.pid, run.pidfd, killed, &run.exit);
	}
	drop(&run.pidfd);
	drop(&run.in);
	drop(&run.out);
	drop(&run.err_fd);
	over = run.err_text.len > ERR_TEXT_MAX ? run.err_text.len - ERR_TEXT_MAX : 0;
	ret_output->err_text = str_printable(run.err_text.len > 0 ? run.err_text.data + over : "",
	    run.err_text.len - over);
	ret_output->out_len = run.out_text.len;
	ret_output->out = sbuf_take(&run.out_text);
	ret_output->exit = run.exit;
	sbuf_done(&run.err_text);
	if (rc == 0)
		rc = judge(&run, ret_output->err_text, err);
	if (rc != 0 && rc != E_FAILED)
		process_output_done(ret_output);
	return rc;
}

void
process_output_done(struct process_output *output)
{
	free(TAKE(output->out));
	free(TAKE(output->err_text));
}
