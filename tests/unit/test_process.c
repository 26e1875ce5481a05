/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/base/process.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/fs.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/base/worker.h"
#include "tests/unit/unit.h"

struct ending {
	struct loop *loop;
	struct process_exit how;
	int calls;
};

static void
on_exit_seen(void *arg, const struct process_exit *how)
{
	struct ending *ending = arg;

	ending->how = *how;
	ending->calls++;
	loop_stop(ending->loop);
}

static pid_t
spawn(const char *const *argv, int *ret_pidfd)
{
	struct process_spec spec = { .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1 };
	pid_t pid = 0;

	ck_assert_int_eq(process_spawn(&spec, &pid, ret_pidfd, NULL), 0);
	return pid;
}

static struct process_exit
watch_to_the_end(pid_t pid, int pidfd, int signo)
{
	struct ending ending = { .loop = loop_create() };
	struct process_watch *watch =
	    process_watch_create(ending.loop, pid, pidfd, on_exit_seen, &ending);

	if (signo != 0)
		ck_assert_int_eq(process_signal(pid, pidfd, signo), 0);
	loop_run(ending.loop);
	ck_assert_int_eq(ending.calls, 1);
	process_watch_destroy(watch);
	loop_destroy(ending.loop);
	close(pidfd);
	return ending.how;
}

START_TEST(process__child_exits__status_seen_and_reaped)
{
	int pidfd;
	pid_t pid = spawn((const char *[]){ "sh", "-c", "exit 7", NULL }, &pidfd);
	struct process_exit how = watch_to_the_end(pid, pidfd, 0);

	ck_assert(how.known && !how.signaled);
	ck_assert_int_eq(how.code, 7);
	ck_assert_int_eq(waitpid(pid, NULL, WNOHANG), -1);
}
END_TEST

START_TEST(process__child_killed__signal_seen)
{
	int pidfd;
	pid_t pid = spawn((const char *[]){ "sleep", "1000", NULL }, &pidfd);
	struct process_exit how = watch_to_the_end(pid, pidfd, SIGKILL);

	ck_assert(how.known && how.signaled);
	ck_assert_int_eq(how.code, SIGKILL);
}
END_TEST

/* A grandchild that reads until its input ends, as init has it after a daemon's end.  Its parent
 * reaps nothing: it stays a zombie as long as the test wants. */
static pid_t
spawn_stranger(const int input[2], pid_t *ret_middle)
{
	static const char *const argv[] = { "cat", NULL };
	struct process_spec spec = { .argv = argv, .stdin_fd = input[0], .stdout_fd = -1, .stderr_fd = -1 };
	int numbers[2];
	pid_t pid = 0;

	ck_assert_int_eq(pipe2(numbers, O_CLOEXEC), 0);
	*ret_middle = fork();
	if (*ret_middle == 0) {
		close(input[1]);
		if (process_spawn(&spec, &pid, NULL, NULL) != 0 ||
		    write(numbers[1], &pid, sizeof(pid)) < 0)
			_exit(1);
		pause();
		_exit(0);
	}
	ck_assert_int_eq(read(numbers[0], &pid, sizeof(pid)), (ssize_t)sizeof(pid));
	close(numbers[0]);
	close(numbers[1]);
	return pid;
}

static void
stranger_ends(bool killed)
{
	struct process_id id;
	struct process_exit how;
	pid_t middle, pid;
	int input[2], pidfd;

	ck_assert_int_eq(pipe2(input, O_CLOEXEC), 0);
	pid = spawn_stranger(input, &middle);
	ck_assert_int_eq(process_identify(pid, &id, NULL), 0);
	ck_assert_int_eq(process_open(&id, &pidfd, NULL), 0);
	close(input[0]);
	if (killed) {
		how = watch_to_the_end(pid, pidfd, SIGKILL);
		ck_assert(how.known && how.signaled && how.code == SIGKILL);
	} else {
		close(TAKE_FD(input[1]));
		how = watch_to_the_end(pid, pidfd, 0);
		ck_assert(how.known && !how.signaled && how.code == 0);
	}
	/* A zombie still has its pid and start time, and is no longer the process. */
	ck_assert_int_eq(process_open(&id, &pidfd, NULL), E_NOT_FOUND);
	kill(middle, SIGKILL);
	waitpid(middle, NULL, 0);
	if (input[1] >= 0)
		close(input[1]);
}

START_TEST(process__not_our_child__its_end_seen)
{
	uint64_t before = clock_ms();

	stranger_ends(true);
	stranger_ends(false);
	ck_assert_uint_lt(clock_ms() - before, 300); /* nobody waited for the zombie to be reaped */
}
END_TEST

START_TEST(process__g08_pid_reused__not_opened)
{
	int pidfd, other = -1;
	pid_t pid = spawn((const char *[]){ "sleep", "1000", NULL }, &pidfd);
	struct process_id id, past;

	ck_assert_int_eq(process_identify(pid, &id, NULL), 0);
	ck_assert_int_eq(process_open(&id, &other, NULL), 0);
	close(other);
	past = id;
	past.start_time--;
	ck_assert_int_eq(process_open(&past, &other, NULL), E_NOT_FOUND);
	past = id;
	past.exe_ino++;
	ck_assert_int_eq(process_open(&past, &other, NULL), E_NOT_FOUND);
	past = id;
	strcpy(past.boot_id, "yesterday");
	ck_assert_int_eq(process_open(&past, &other, NULL), E_NOT_FOUND);
	past = id;
	past.pid = 0; /* would signal our own group */
	ck_assert_int_eq(process_open(&past, &other, NULL), E_NOT_FOUND);
	watch_to_the_end(pid, pidfd, SIGKILL);
}
END_TEST

START_TEST(process__no_such_program__an_error_here)
{
	const char *const missing[] = { "no-such-program-anywhere", NULL };
	const char *const folder[] = { "/", NULL };
	struct process_spec spec = { .argv = missing, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1 };
	struct err err = ERR_INIT;
	pid_t pid;

	ck_assert_int_eq(process_spawn(&spec, &pid, NULL, &err), E_NOT_FOUND);
	ck_assert_ptr_nonnull(strstr(err.msg, "'no-such-program-anywhere'"));
	spec.argv = folder;
	ck_assert_int_eq(process_spawn(&spec, &pid, NULL, &err), E_NOT_FOUND);
}
END_TEST

START_TEST(process__not_executable_text__an_error_here)
{
	char path[] = "/tmp/process-XXXXXX";
	int fd = mkstemp(path);
	const char *const argv[] = { path, NULL };
	struct process_spec spec = { .argv = argv, .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1 };
	struct err err = ERR_INIT;
	pid_t pid;

	ck_assert_int_eq(write(fd, "\x7f" "ELF?", 5), 5);
	ck_assert_int_eq(fchmod(fd, 0700), 0);
	close(fd);
	ck_assert_int_eq(process_spawn(&spec, &pid, NULL, &err), E_FAILED);
	ck_assert_ptr_nonnull(strstr(err.msg, path));
	ck_assert_int_eq(waitpid(-1, NULL, WNOHANG), -1); /* nothing was left */
	unlink(path);
}
END_TEST

START_TEST(process__descriptors__only_what_was_named)
{
	/* ls shows what is open: the three, its own folder handle, and the two that were named. */
	static const char script[] = "cat <&5; cat <&4; ls /proc/self/fd";
	int a[2], b[2], out[2], stray = open("/dev/null", O_RDONLY); /* no O_CLOEXEC */
	struct process_fd fds[2];
	const char *const argv[] = { "sh", "-c", script, NULL };
	struct process_spec spec = { .argv = argv, .stdin_fd = -1, .stderr_fd = -1, .fds = fds,
		.fd_count = 2 };
	char text[256] = "";
	ssize_t n, len = 0;
	pid_t pid;

	ck_assert(pipe(a) == 0 && pipe(b) == 0 && pipe(out) == 0);
	/* Crossed on purpose: each one's number is the other's target. */
	ck_assert(dup2(a[0], 4) == 4 && dup2(b[0], 5) == 5);
	fds[0] = (struct process_fd){ 4, 5 };
	fds[1] = (struct process_fd){ 5, 4 };
	spec.stdout_fd = out[1];
	ck_assert_int_eq(write(a[1], "A\n", 2), 2);
	ck_assert_int_eq(write(b[1], "B\n", 2), 2);
	close(a[1]);
	close(b[1]);
	ck_assert_int_eq(process_spawn(&spec, &pid, NULL, NULL), 0);
	close(out[1]);
	while ((n = read(out[0], text + len, sizeof(text) - 1 - (size_t)len)) > 0)
		len += n;
	waitpid(pid, NULL, 0);
	ck_assert_str_eq(text, "A\nB\n0\n1\n2\n3\n4\n5\n");
	close(stray);
	close(4);
	close(5);
}
END_TEST

START_TEST(process__run__output_and_words)
{
	struct process_output out = { 0 };
	struct err err = ERR_INIT;

	ck_assert_int_eq(process_run((const char *[]){ "tr", "a-z", "A-Z", NULL }, "hello", 5, 100,
	    10000, NULL, NULL, &out, &err), 0);
	ck_assert_str_eq(out.out, "HELLO");
	process_output_done(&out);
	ck_assert_int_eq(process_run((const char *[]){ "sh", "-c", "echo no good >&2; exit 3", NULL },
	    NULL, 0, 100, 10000, NULL, NULL, &out, &err), E_FAILED);
	ck_assert_ptr_nonnull(strstr(err.msg, "status 3: no good"));
	ck_assert_int_eq(out.exit.code, 3);
	process_output_done(&out);
}
END_TEST

static void
count_heard(void *arg, const char *data, size_t len)
{
	size_t *count = arg;

	*count += len;
}

START_TEST(process__run__heard_output_has_no_bound)
{
	size_t count = 0;
	struct process_output out = { .heard = count_heard, .heard_arg = &count };

	ck_assert_int_eq(process_run((const char *[]){ "head", "-c", "300000", "/dev/zero", NULL },
	    NULL, 0, 0, 10000, NULL, NULL, &out, NULL), 0);
	ck_assert_uint_eq(count, 300000);
	ck_assert_uint_eq(out.out_len, 0);
	process_output_done(&out);
}
END_TEST

START_TEST(process__run__ended_by_limits)
{
	struct process_limits limits = { .file_size_bytes = 4096, .cpu_seconds = 1 };
	struct process_output out = { 0 };
	struct err err = ERR_INIT;
	uint64_t before = clock_ms();

	ck_assert_int_eq(process_run((const char *[]){ "yes", NULL }, NULL, 0, 100000, 10000, NULL,
	    NULL, &out, &err), E_LIMIT);
	ck_assert_int_eq(process_run((const char *[]){ "sleep", "1000", NULL }, NULL, 0, 100, 50,
	    NULL, NULL, &out, &err), E_TIMEOUT);
	ck_assert_int_eq(process_run((const char *[]){ "dd", "if=/dev/zero", "of=/tmp/process-limit",
	    "count=100", NULL }, NULL, 0, 100, 10000, &limits, NULL, &out, &err), E_FAILED);
	process_output_done(&out);
	unlink("/tmp/process-limit");
	ck_assert_uint_lt(clock_ms() - before, 5000);
}
END_TEST

/* A grandchild that keeps the pipe does not keep us. */
START_TEST(process__run__grandchild_holds_the_output)
{
	struct process_output out = { 0 };
	uint64_t before = clock_ms();

	ck_assert_int_eq(process_run((const char *[]){ "sh", "-c", "sleep 3 & echo hi", NULL }, NULL,
	    0, 100, 10000, NULL, NULL, &out, NULL), 0);
	ck_assert_str_eq(out.out, "hi\n");
	ck_assert_uint_lt(clock_ms() - before, 2000);
	process_output_done(&out);
}
END_TEST

struct cancelled {
	struct loop *loop;
	struct err err;
	int rc;
};

static void
run_long(struct job *job, void *data)
{
	struct cancelled *c = data;
	struct process_output out = { 0 };

	c->rc = process_run((const char *[]){ "sleep", "1000", NULL }, NULL, 0, 100, 600000, NULL, job,
	    &out, &c->err);
}

static void
run_long_done(void *data)
{
	struct cancelled *c = data;

	loop_stop(c->loop);
}

START_TEST(process__run__job_deadline_ends_it)
{
	struct cancelled c = { .loop = loop_create() };
	struct worker_pool *pool = worker_pool_create(c.loop, 1, 1);

	ck_assert_int_eq(
	    worker_submit(pool, "run", run_long, run_long_done, &c, 30, NULL, NULL), 0);
	loop_run(c.loop);
	ck_assert_int_eq(c.rc, E_TIMEOUT);
	worker_pool_destroy(pool);
	loop_destroy(c.loop);
}
END_TEST

/* As who is not root; the program becomes root, which its mode lets it. */
static int
run_as_nobody(const char *program)
{
	struct process_output out = { 0 };
	uint64_t before = clock_ms();

	if (setgid(65534) < 0 || setuid(65534) < 0)
		return 2;
	if (process_run(
		(const char *[]){ program, "--reuid=0", "--clear-groups", "sleep", "20", NULL },
		NULL, 0, 100, 300, NULL, NULL, &out, NULL) != E_TIMEOUT)
		return 3;
	return clock_ms() - before < 15000 ? 0 : 4;
}

START_TEST(process__run__child_is_another_users__not_waited_for)
{
	char dir[] = "/tmp/test-process.XXXXXX";
	CLEANUP_FREE char *program = NULL, *setpriv = process_find("setpriv");
	CLEANUP_FD int from = open(setpriv, O_RDONLY | O_CLOEXEC);
	int status;
	pid_t pid;

	if (geteuid() != 0)
		return; /* nobody else can make one */
	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_eq(chmod(dir, 0755), 0);
	program = fs_join(dir, "setpriv");
	ck_assert_int_eq(fs_copy_fd(from, setpriv, program, 0755, NULL, NULL), 0);
	ck_assert_int_eq(chmod(program, 04755), 0);
	pid = fork();
	if (pid == 0)
		_exit(run_as_nobody(program));
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(fs_remove_tree(dir, NULL), 0);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("process");

	UNIT_CASE(s, process__child_exits__status_seen_and_reaped);
	UNIT_CASE(s, process__child_killed__signal_seen);
	UNIT_CASE(s, process__not_our_child__its_end_seen);
	UNIT_CASE(s, process__g08_pid_reused__not_opened);
	UNIT_CASE(s, process__no_such_program__an_error_here);
	UNIT_CASE(s, process__not_executable_text__an_error_here);
	UNIT_CASE(s, process__descriptors__only_what_was_named);
	UNIT_CASE(s, process__run__output_and_words);
	UNIT_CASE(s, process__run__child_is_another_users__not_waited_for);
	UNIT_CASE(s, process__run__heard_output_has_no_bound);
	UNIT_CASE(s, process__run__ended_by_limits);
	UNIT_CASE(s, process__run__grandchild_holds_the_output);
	UNIT_CASE(s, process__run__job_deadline_ends_it);
	return unit_main(s);
}
