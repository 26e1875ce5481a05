/* SPDX-License-Identifier: MPL-2.0 */
#ifndef TESTS_UNIT_SCRIPTED_H
#define TESTS_UNIT_SCRIPTED_H

#include <arpa/inet.h>
#include <dirent.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/base/stream.h"
#include "tests/unit/unit.h"

/* A server on the loop of the test that says exact bytes, whole or in pieces, and ends as it is
 * told.  What it was sent is kept.  Waiting means running the loop; a guard ends a test that waits
 * in vain. */

enum { SCRIPTED_GUARD_MS = 20000, SCRIPTED_TALKS = 16 };
enum scripted_end { HOLD, CLOSE, RESET };

struct script {
	const char *say;
	size_t len;        /* 0: strlen(say) */
	size_t piece;      /* bytes at a time; 0: all at once */
	unsigned pause_ms; /* between pieces */
	size_t filler;     /* so many bytes 'x' follow */
	enum scripted_end end;
	bool early; /* once the headers are there; the rest of the request is not read */
};

struct scripted;

struct talk {
	struct scripted *server;
	struct stream *stream;
	struct timer *timer;
	struct sbuf in; /* all that came */
	size_t said;
	size_t filled;
	bool playing;
	bool closed; /* by the client, or both */
	const struct script *script;
};

struct scripted {
	struct loop *loop;
	int family, listener;
	uint16_t port;
	struct watch *watch;
	struct timer *guard;
	const struct script *script; /* for the next connection */
	/* Instead of the script: called with whatever came. */
	void (*on_input)(struct talk *talk);
	void *arg;
	struct talk talks[SCRIPTED_TALKS];
	size_t count;
	unsigned fds_before;
	struct rlimit limit; /* of descriptors, before they were used up */
};

static unsigned __attribute__((unused)) scripted_open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned count = 0;

	while (dir != NULL && readdir(dir) != NULL)
		count++;
	if (dir != NULL)
		closedir(dir);
	return count;
}

static void __attribute__((unused)) scripted_late(void *arg)
{
	ck_abort_msg("waited in vain");
}

static void __attribute__((unused)) scripted_end_talk(struct talk *talk, enum scripted_end end)
{
	struct linger linger = { .l_onoff = 1 };

	if (talk->stream == NULL || end == HOLD)
		return;
	if (end == CLOSE) {
		stream_finish(talk->stream);
		return;
	}
	setsockopt(stream_fd(talk->stream), SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	stream_destroy(TAKE(talk->stream));
}

static void __attribute__((unused)) scripted_play(void *arg)
{
	static const char block[4096] = { [0 ... 4095] = 'x' };
	struct talk *talk = arg;
	const struct script *script = talk->script;
	size_t len = script->len > 0 ? script->len : strlen(script->say), n = len - talk->said;

	if (talk->stream == NULL)
		return;
	if (script->piece > 0 && n > script->piece)
		n = script->piece;
	if (n > 0)
		stream_write(talk->stream, script->say + talk->said, n);
	talk->said += n;
	if (talk->said < len) {
		timer_arm(talk->timer, script->pause_ms);
		return;
	}
	while (talk->filled < script->filler && stream_queued(talk->stream) < 65536) {
		stream_write(talk->stream, block, sizeof(block));
		talk->filled += sizeof(block);
	}
	if (talk->filled >= script->filler)
		scripted_end_talk(talk, script->end);
}

/* The headers and as much of a body as they tell. */
static bool __attribute__((unused)) scripted_whole(const struct talk *talk, bool early)
{
	const char *end = talk->in.data != NULL ? strstr(talk->in.data, "\r\n\r\n") : NULL, *length;
	uint64_t body = 0;
	char digits[24];

	if (end == NULL || early)
		return end != NULL;
	length = strstr(talk->in.data, "Content-Length: ");
	if (length != NULL && length < end) {
		length += strlen("Content-Length: ");
		snprintf(digits, sizeof(digits), "%.*s", (int)strcspn(length, "\r"), length);
		ck_assert(str_to_u64(digits, &body));
	}
	return talk->in.len >= (size_t)(end + 4 - talk->in.data) + body;
}

static void __attribute__((unused)) scripted_input(void *arg)
{
	struct talk *talk = arg;
	size_t len;
	const unsigned char *data = stream_peek(talk->stream, &len);

	if (len > 0) {
		sbuf_add(&talk->in, data, len);
		stream_consume(talk->stream, len);
	}
	talk->closed = talk->closed || stream_at_eof(talk->stream);
	if (talk->server->on_input != NULL) {
		talk->server->on_input(talk);
		return;
	}
	if (talk->playing || !scripted_whole(talk, talk->script->early))
		return;
	talk->playing = true;
	if (talk->script->early)
		stream_pause(talk->stream, true);
	scripted_play(talk);
}

static void __attribute__((unused)) scripted_drained(void *arg)
{
	struct talk *talk = arg;

	if (talk->script != NULL && talk->playing && talk->filled < talk->script->filler)
		timer_arm(talk->timer, 0);
}

static void __attribute__((unused)) scripted_closed(void *arg, int errno_value)
{
	struct talk *talk = arg;

	talk->closed = true;
	stream_destroy(TAKE(talk->stream));
}

static void __attribute__((unused)) scripted_accept(void *arg, unsigned events)
{
	static const struct stream_handler handler = { scripted_input, scripted_drained,
		scripted_closed };
	struct scripted *server = arg;
	int fd = accept(server->listener, NULL, NULL);
	struct talk *talk = &server->talks[server->count];

	ck_assert_int_ge(fd, 0);
	ck_assert_uint_lt(server->count, SCRIPTED_TALKS);
	server->count++;
	talk->server = server;
	talk->script = server->script;
	talk->timer = timer_create_on(server->loop, scripted_play, talk);
	talk->stream = stream_create(server->loop, fd, &handler, talk);
}

static void __attribute__((unused)) scripted_listen(struct scripted *server)
{
	struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT };
	struct sockaddr_in four = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	bool is_six = server->family == AF_INET6;
	struct sockaddr *addr = is_six ? (struct sockaddr *)&six : (struct sockaddr *)&four;
	socklen_t len = is_six ? sizeof(six) : sizeof(four);

	server->listener = socket(server->family, SOCK_STREAM, 0);
	ck_assert_int_ge(server->listener, 0);
	ck_assert_int_eq(bind(server->listener, addr, len), 0);
	ck_assert_int_eq(listen(server->listener, 16), 0);
	ck_assert_int_eq(getsockname(server->listener, addr, &len), 0);
	server->port = ntohs(is_six ? six.sin6_port : four.sin_port);
	server->watch =
	    watch_create(server->loop, server->listener, LOOP_READ, scripted_accept, server);
}

static void __attribute__((unused)) scripted_init(struct scripted *server, int family)
{
	memset(server, 0, sizeof(*server));
	signal(SIGPIPE, SIG_IGN); /* as the daemon does */
	server->fds_before = scripted_open_fds();
	server->loop = loop_create();
	server->family = family;
	server->guard = timer_create_on(server->loop, scripted_late, server);
	scripted_listen(server);
}

/* Nobody listens at its port any more. */
static void __attribute__((unused)) scripted_deafen(struct scripted *server)
{
	if (server->watch == NULL)
		return;
	watch_destroy(TAKE(server->watch));
	close(server->listener);
}

static void __attribute__((unused)) scripted_done(struct scripted *server)
{
	for (size_t i = 0; i < server->count; i++) {
		stream_destroy(server->talks[i].stream);
		timer_destroy(server->talks[i].timer);
		sbuf_done(&server->talks[i].in);
	}
	scripted_deafen(server);
	timer_destroy(server->guard);
	loop_destroy(server->loop);
	ck_assert_uint_eq(scripted_open_fds(), server->fds_before);
}

/* This process gets no more descriptors. */
static void __attribute__((unused)) scripted_use_up(struct scripted *server)
{
	struct rlimit none;

	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &server->limit), 0);
	none = server->limit;
	none.rlim_cur = 0;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &none), 0);
}

static void __attribute__((unused)) scripted_give_back(struct scripted *server)
{
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &server->limit), 0);
}

/* Until somebody calls loop_stop. */
static void __attribute__((unused)) scripted_run(struct scripted *server)
{
	timer_arm(server->guard, SCRIPTED_GUARD_MS);
	loop_run(server->loop);
	timer_disarm(server->guard);
}

static void __attribute__((unused)) scripted_stop(void *arg)
{
	loop_stop(arg);
}

static void __attribute__((unused)) scripted_run_for(struct scripted *server, uint64_t delay_ms)
{
	struct timer *timer = timer_create_on(server->loop, scripted_stop, server->loop);

	timer_arm(timer, delay_ms);
	scripted_run(server);
	timer_destroy(timer);
}

/* Runs until the condition holds. */
#define SCRIPTED_UNTIL(server, condition)                                                          \
	do {                                                                                       \
		for (int turn_ = 0; !(condition); turn_++) {                                       \
			ck_assert_msg(                                                             \
			    turn_ < SCRIPTED_GUARD_MS, "waited in vain: %s", #condition);          \
			scripted_run_for((server), 1);                                             \
		}                                                                                  \
	} while (0)

#endif
