/* SPDX-License-Identifier: MPL-2.0 */
#ifndef TESTS_UNIT_SERVE_H
#define TESTS_UNIT_SERVE_H

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/server.h"
#include "daemon/vmmd.h"
#include "lib/base/fs.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/base/stream.h"
#include "tests/unit/unit.h"

/* A real server on a real loop, with clients of the same thread.  Waiting means running the loop
 * until what is waited for is there; a guard ends a test that waits in vain. */

enum { GUARD_MS = 20000, HELD_MAX = 2048 };

struct serve {
	struct vmmd vmmd; /* first: handlers get it */
	struct loop *loop;
	struct server *server;
	struct timer *guard;
	char *dir, *path;
	method_fn *handlers[METHODS];

	struct request *held[HELD_MAX]; /* by serve_hold, to be ended by the test */
	size_t held_count;
	size_t calls, gone;
	size_t big_bytes; /* of the answer of serve_big */
	struct stream *upgraded;
	struct subscription *subscription;
};

struct client {
	struct serve *serve;
	int fd;
	struct watch *watch;
	struct sbuf in;
	size_t lines, wanted; /* newlines seen; stop the loop at so many */
	bool eof;
};

static void __attribute__((unused)) serve_late(void *arg)
{
	ck_abort_msg("waited in vain");
}

static void __attribute__((unused)) serve_init(struct serve *s)
{
	memset(s, 0, sizeof(*s));
	s->loop = s->vmmd.loop = loop_create();
	s->dir = xstrdup("/tmp/vmm-serve-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(s->dir));
	s->path = fs_join(s->dir, "s");
	s->guard = timer_create_on(s->loop, serve_late, s);
}

static struct server_options __attribute__((unused)) serve_options(const struct serve *s)
{
	return (struct server_options){ .socket_path = s->path,
		.listen_fd = -1,
		.max_connections = 4096,
		.max_per_uid = 256,
		.handlers = s->handlers };
}

static void __attribute__((unused))
serve_start(struct serve *s, const struct server_options *options)
{
	struct err err = ERR_INIT;
	int rc = server_create(&s->vmmd, s->loop, options, &s->server, &err);

	ck_assert_msg(rc == 0, "%s", err.msg);
	s->vmmd.server = s->server;
}

static void __attribute__((unused)) serve_done(struct serve *s)
{
	server_destroy(s->server);
	timer_destroy(s->guard);
	loop_flush(s->loop);
	loop_destroy(s->loop);
	ck_assert_int_eq(fs_remove_tree(s->dir, NULL), 0);
	free(s->dir);
	free(s->path);
}

static void __attribute__((unused)) serve_run(struct serve *s)
{
	timer_arm(s->guard, GUARD_MS);
	loop_run(s->loop);
	timer_disarm(s->guard);
}

/* One turn: what is ready by now is served. */
static void __attribute__((unused)) serve_stop(void *arg)
{
	loop_stop(arg);
}

static void __attribute__((unused)) serve_for(struct serve *s, uint64_t delay_ms)
{
	struct timer *t = timer_create_on(s->loop, serve_stop, s->loop);

	timer_arm(t, delay_ms);
	serve_run(s);
	timer_destroy(t);
}

/* Runs the loop until *value is `wanted`. */
static void __attribute__((unused)) serve_until(struct serve *s, const size_t *value, size_t wanted)
{
	for (int i = 0; *value != wanted; i++) {
		ck_assert_msg(i < GUARD_MS, "%zu instead of %zu", *value, wanted);
		serve_for(s, 1);
	}
}

/* ---- clients ---- */

static int __attribute__((unused)) raw_connect(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memcpy(addr.sun_path, path, strlen(path));
	if (fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0)
		return fd;
	close(fd);
	return -1;
}

static void __attribute__((unused)) client_readable(void *arg, unsigned events)
{
	struct client *c = arg;
	static char chunk[1 << 16];
	ssize_t n = recv(c->fd, chunk, sizeof(chunk), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		c->eof = true;
		watch_set(c->watch, 0);
		loop_stop(c->serve->loop);
		return;
	}
	sbuf_add(&c->in, chunk, (size_t)n);
	for (ssize_t i = 0; i < n; i++)
		c->lines += chunk[i] == '\n';
	if (c->lines >= c->wanted)
		loop_stop(c->serve->loop);
}

static void __attribute__((unused)) client_init(struct client *c, struct serve *s)
{
	memset(c, 0, sizeof(*c));
	c->serve = s;
	c->fd = raw_connect(s->path);
	ck_assert_int_ge(c->fd, 0);
	c->watch = watch_create(s->loop, c->fd, LOOP_READ, client_readable, c);
}

static void __attribute__((unused)) client_done(struct client *c)
{
	watch_destroy(TAKE(c->watch));
	if (c->fd >= 0)
		close(TAKE_FD(c->fd));
	sbuf_done(&c->in);
}

/* Writes all of it, serving meanwhile when the socket is full. */
static void __attribute__((unused)) client_send(struct client *c, const char *text, size_t len)
{
	while (len > 0) {
		ssize_t n = send(c->fd, text, len, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0) {
			ck_assert_int_eq(errno, EAGAIN);
			serve_for(c->serve, 1);
			continue;
		}
		text += n;
		len -= (size_t)n;
	}
}

static void __attribute__((unused)) client_say(struct client *c, const char *text)
{
	client_send(c, text, strlen(text));
}

static void __attribute__((unused)) client_wait_lines(struct client *c, size_t lines)
{
	c->wanted = lines;
	while (c->lines < lines) {
		ck_assert_msg(!c->eof, "closed after %zu of %zu lines", c->lines, lines);
		serve_run(c->serve);
	}
	c->wanted = 0;
}

static void __attribute__((unused)) client_wait_eof(struct client *c)
{
	c->wanted = SIZE_MAX;
	while (!c->eof)
		serve_run(c->serve);
	c->wanted = 0;
}

/* The first line, owned; it must be there. */
static char *__attribute__((unused)) client_take_line(struct client *c)
{
	char *end = c->in.data != NULL ? memchr(c->in.data, '\n', c->in.len) : NULL, *line;
	size_t len;

	ck_assert_ptr_nonnull(end);
	len = (size_t)(end - c->in.data);
	line = xstrndup(c->in.data, len);
	memmove(c->in.data, end + 1, c->in.len - len - 1);
	c->in.len -= len + 1;
	c->lines--;
	return line;
}

/* Sends and returns the next line; owned. */
static char *__attribute__((unused)) client_ask(struct client *c, const char *text)
{
	client_say(c, text);
	client_wait_lines(c, 1);
	return client_take_line(c);
}

#define ASSERT_HAS(line, part)                                                                     \
	ck_assert_msg(strstr((line), (part)) != NULL, "no '%s' in: %.300s", (part), (line))

/* Asks and compares the answer with what it must hold. */
#define ASSERT_ASK(client, text, part)                                                             \
	do {                                                                                       \
		CLEANUP_FREE char *line_ = client_ask((client), (text));                           \
		ASSERT_HAS(line_, (part));                                                         \
	} while (0)

#endif
