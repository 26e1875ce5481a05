/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/base/loop.h"

#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/stream.h"
#include "lib/base/worker.h"
#include "tests/unit/unit.h"

struct fixture {
	struct loop *loop;
	struct stream *stream;
	int steps, done;
	char lines[256];
	int fd_lines[4];
	bool closed, overlong;
};

static void
on_timer(void *arg)
{
	struct fixture *f = arg;

	f->steps++;
	loop_stop(f->loop);
}

START_TEST(loop__timer__fires_once)
{
	struct fixture f = { .loop = loop_create() };
	struct timer *t = timer_create_on(f.loop, on_timer, &f);

	timer_arm(t, 5);
	ck_assert(timer_armed(t));
	loop_run(f.loop);
	ck_assert_int_eq(f.steps, 1);
	ck_assert(!timer_armed(t));
	timer_destroy(t);
	loop_destroy(f.loop);
}
END_TEST

static void
work(struct job *job, void *data)
{
	struct fixture *f = data;

	ck_assert(!loop_is_current(f->loop));
	f->steps++;
}

static void
work_done(void *data)
{
	struct fixture *f = data;

	loop_assert(f->loop);
	if (++f->done == 20)
		loop_stop(f->loop);
}

START_TEST(worker__jobs__done_on_the_loop)
{
	struct fixture f = { .loop = loop_create() };
	struct worker_pool *pool = worker_pool_create(f.loop, 1, 100);

	for (int i = 0; i < 20; i++)
		ck_assert_int_eq(worker_submit(pool, "w", work, work_done, &f, 0, NULL, NULL), 0);
	loop_run(f.loop);
	ck_assert_int_eq(f.steps, 20);
	worker_pool_destroy(pool);
	loop_destroy(f.loop);
}
END_TEST

static void
work_until_cancelled(struct job *job, void *data)
{
	struct fixture *f = data;
	char c;

	while (!job_cancelled(job)) {
		fd_set set;

		FD_ZERO(&set);
		FD_SET(job_cancel_fd(job), &set);
		ck_assert_int_eq(select(job_cancel_fd(job) + 1, &set, NULL, NULL, NULL), 1);
	}
	(void)c;
	f->overlong = job_timed_out(job);
}

static void
one_done(void *data)
{
	struct fixture *f = data;

	f->done++;
	loop_stop(f->loop);
}

START_TEST(worker__deadline__ends_the_job)
{
	struct fixture f = { .loop = loop_create() };
	struct worker_pool *pool = worker_pool_create(f.loop, 2, 1);

	ck_assert_int_eq(worker_submit(pool, "w", work_until_cancelled, one_done, &f, 1000, NULL, NULL), 0);
	loop_run(f.loop);
	ck_assert(f.overlong);
	worker_pool_destroy(pool);
	loop_destroy(f.loop);
}
END_TEST

START_TEST(worker__destroy__cancels_and_runs_done)
{
	struct fixture f = { .loop = loop_create() };
	struct worker_pool *pool = worker_pool_create(f.loop, 1, 4);

	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(
		    worker_submit(pool, "w", work_until_cancelled, one_done, &f, 0, NULL, NULL), 0);
	worker_pool_destroy(pool);
	ck_assert_int_eq(f.done, 3);
	loop_destroy(f.loop);
}
END_TEST

static void
on_input(void *arg)
{
	struct fixture *f = arg;
	bool overlong;
	size_t len;
	char *line;
	int fds[4];

	while ((line = stream_line(f->stream, 100, &len, &overlong)) != NULL) {
		size_t n = stream_take_fds(f->stream, fds, 4);

		f->fd_lines[f->done++] = (int)n;
		for (size_t i = 0; i < n; i++)
			close(fds[i]);
		strcat(f->lines, line);
		strcat(f->lines, ";");
	}
	f->overlong = overlong;
	if (overlong || stream_at_eof(f->stream))
		loop_stop(f->loop);
}

static void
on_closed(void *arg, int errno_value)
{
	struct fixture *f = arg;

	f->closed = true;
	loop_stop(f->loop);
}

static const struct stream_handler handler = { on_input, NULL, on_closed };

static void
send_with_fd(int sock, const char *text, int fd)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { (void *)(uintptr_t)text, strlen(text) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.space,
		.msg_controllen = sizeof(control) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&msg);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	ck_assert_int_eq(sendmsg(sock, &msg, 0), (ssize_t)strlen(text));
}

START_TEST(stream__lines__descriptors_stay_with_theirs)
{
	struct fixture f = { .loop = loop_create() };
	int pair[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	f.stream = stream_create(f.loop, pair[0], &handler, &f);
	ck_assert_int_eq(write(pair[1], "a\n", 2), 2);
	send_with_fd(pair[1], "b\n", 0);
	ck_assert_int_eq(write(pair[1], "c\n", 2), 2);
	shutdown(pair[1], SHUT_WR);
	loop_run(f.loop);
	ck_assert_str_eq(f.lines, "a;b;c;");
	ck_assert_int_eq(f.fd_lines[0], 0);
	ck_assert_int_eq(f.fd_lines[1], 1);
	ck_assert_int_eq(f.fd_lines[2], 0);
	stream_destroy(f.stream);
	close(pair[1]);
	loop_destroy(f.loop);
}
END_TEST

START_TEST(stream__overlong_line__told)
{
	struct fixture f = { .loop = loop_create() };
	char big[200];
	int pair[2];

	memset(big, 'x', sizeof(big));
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	f.stream = stream_create(f.loop, pair[0], &handler, &f);
	ck_assert_int_eq(write(pair[1], big, sizeof(big)), (ssize_t)sizeof(big));
	loop_run(f.loop);
	ck_assert(f.overlong);
	stream_destroy(f.stream);
	close(pair[1]);
	loop_destroy(f.loop);
}
END_TEST

START_TEST(stream__finish__sends_the_queue_first)
{
	struct fixture f = { .loop = loop_create() };
	enum { BIG = 1 << 20 };
	char *big = calloc(1, BIG), got[65536];
	ssize_t n, total = 0;
	int pair[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	f.stream = stream_create(f.loop, pair[0], &handler, &f);
	stream_write(f.stream, big, BIG);
	ck_assert_uint_gt(stream_queued(f.stream), 0);
	stream_finish(f.stream);
	if (fork() == 0) {
		close(pair[0]);
		while ((n = read(pair[1], got, sizeof(got))) > 0 && total < BIG)
			total += n;
		_exit(total == BIG ? 0 : 1);
	}
	loop_run(f.loop);
	ck_assert(f.closed);
	ck_assert_uint_eq(stream_queued(f.stream), 0);
	stream_destroy(f.stream);
	close(pair[1]);
	free(big);
	loop_destroy(f.loop);
}
END_TEST

static void
on_last_input(void *arg)
{
	struct fixture *f = arg;
	size_t len;

	f->done += stream_at_eof(f->stream);
	ck_assert(!f->closed);
	stream_peek(f->stream, &len);
	f->steps += (int)len;
	stream_consume(f->stream, len);
}

START_TEST(stream__peer_gone__closed_after_its_last_bytes)
{
	static const struct stream_handler whole = { on_last_input, NULL, on_closed };
	struct fixture f = { .loop = loop_create() };
	int pair[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	f.stream = stream_create(f.loop, pair[0], &whole, &f);
	ck_assert_int_eq(write(pair[1], "last", 4), 4);
	ck_assert(!stream_hung_up(f.stream));
	close(pair[1]);
	ck_assert(stream_hung_up(f.stream));
	loop_run(f.loop);
	ck_assert(f.closed);
	ck_assert_int_eq(f.steps, 4);
	ck_assert_int_eq(f.done, 1);
	stream_destroy(f.stream);
	loop_destroy(f.loop);
}
END_TEST

START_TEST(stream__half_closed__is_not_hung_up)
{
	struct fixture f = { .loop = loop_create() };
	int pair[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	f.stream = stream_create(f.loop, pair[0], &handler, &f);
	shutdown(pair[1], SHUT_WR);
	loop_run(f.loop);
	ck_assert(stream_at_eof(f.stream));
	ck_assert(!f.closed);
	ck_assert(!stream_hung_up(f.stream));
	close(pair[1]);
	ck_assert(stream_hung_up(f.stream));
	/* With a call due: it must neither come nor leak. */
	stream_set_handler(f.stream, &handler, &f);
	stream_destroy(f.stream);
	loop_destroy(f.loop);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("loop");

	UNIT_CASE(s, loop__timer__fires_once);
	UNIT_CASE(s, worker__jobs__done_on_the_loop);
	UNIT_CASE(s, worker__deadline__ends_the_job);
	UNIT_CASE(s, worker__destroy__cancels_and_runs_done);
	UNIT_CASE(s, stream__lines__descriptors_stay_with_theirs);
	UNIT_CASE(s, stream__overlong_line__told);
	UNIT_CASE(s, stream__finish__sends_the_queue_first);
	UNIT_CASE(s, stream__peer_gone__closed_after_its_last_bytes);
	UNIT_CASE(s, stream__half_closed__is_not_hung_up);
	return unit_main(s);
}
