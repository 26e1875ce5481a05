/* SPDX-License-Identifier: MPL-2.0
 *
 * From a line to its answer: batches, limits, descriptors, upgrades, subscriptions, and clients
 * that do not read, do not end their lines, or go away. */
#include <fcntl.h>
#include <sys/mman.h>

#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "tests/unit/serve.h"

/* ---- handlers ---- */

static void
serve_info(struct vmmd *vmmd, struct request *request, void *args)
{
	struct serve *s = (struct serve *)vmmd;

	s->calls++;
	request_reply_text(request, "true", 4);
}

static void
hold_gone(void *arg)
{
	((struct serve *)arg)->gone++;
}

/* Ends when the test says so. */
static void
serve_hold(struct vmmd *vmmd, struct request *request, void *args)
{
	struct serve *s = (struct serve *)vmmd;

	ck_assert_uint_lt(s->held_count, HELD_MAX);
	s->held[s->held_count++] = request;
	request_on_gone(request, hold_gone, s);
}

static void
serve_name(struct vmmd *vmmd, struct request *request, void *args)
{
	struct name_args *a = args;

	((struct serve *)vmmd)->calls++;
	if (request_wants_progress(request))
		request_notify(request, "operation.progress", json_object_new_object());
	request_reply(request, json_object_new_string(a->name));
}

static void
serve_big(struct vmmd *vmmd, struct request *request, void *args)
{
	struct serve *s = (struct serve *)vmmd;
	char *text = xmalloc(s->big_bytes);

	s->calls++;
	memset(text, 'x', s->big_bytes);
	text[0] = text[s->big_bytes - 1] = '"';
	request_reply_text(request, text, s->big_bytes);
	free(text);
}

static void
serve_fail(struct vmmd *vmmd, struct request *request, void *args)
{
	struct err err = ERR_INIT;

	err_set(&err, E_STATE, "it is \"so\"");
	err_hint(&err, "wait");
	err_object(&err, "web1");
	request_fail(request, &err);
}

/* What descriptor 0 holds. */
static void
serve_fd(struct vmmd *vmmd, struct request *request, void *args)
{
	char text[64] = "";
	int fd = request_take_fd(request, 0);
	ssize_t n;

	((struct serve *)vmmd)->calls++;
	if (fd < 0) {
		request_reply(request, NULL);
		return;
	}
	ck_assert_int_lt(request_take_fd(request, 0), 0);
	n = pread(fd, text, sizeof(text), 0);
	close(fd);
	request_reply(request, json_object_new_string_len(text, n > 0 ? (int)n : 0));
}

static void
upgraded_input(void *arg)
{
	struct serve *s = arg;
	size_t len;
	const unsigned char *data = stream_peek(s->upgraded, &len);

	if (len > 0)
		stream_write(s->upgraded, data, len);
	stream_consume(s->upgraded, len);
}

static void
upgraded_closed(void *arg, int errno_value)
{
	struct serve *s = arg;

	s->gone++;
	stream_destroy(TAKE(s->upgraded));
}

static void
upgrade(struct serve *s, struct request *request)
{
	static const struct stream_handler echo = { upgraded_input, NULL, upgraded_closed };

	s->upgraded = request_upgrade(request, json_object_new_boolean(true));
	if (s->upgraded != NULL)
		stream_set_handler(s->upgraded, &echo, s);
}

static void
serve_upgrade(struct vmmd *vmmd, struct request *request, void *args)
{
	upgrade((struct serve *)vmmd, request);
}

static void
subscriber_gone(void *arg)
{
	struct serve *s = arg;

	s->gone++;
	subscription_destroy(TAKE(s->subscription));
}

static void
serve_subscribe(struct vmmd *vmmd, struct request *request, void *args)
{
	struct serve *s = (struct serve *)vmmd;

	s->subscription = request_subscribe(request, json_object_new_int(0), subscriber_gone, s);
}

static void
start_with(struct serve *s, void (*change)(struct server_options *options))
{
	struct server_options options;

	serve_init(s);
	s->handlers[METHOD_system_info] = serve_info;
	s->handlers[METHOD_vm_wait] = serve_hold;
	s->handlers[METHOD_vm_get] = serve_name;
	s->handlers[METHOD_vm_list] = serve_big;
	s->handlers[METHOD_vm_stop] = serve_fail;
	s->handlers[METHOD_image_list] = serve_fd;
	s->handlers[METHOD_vm_console] = serve_upgrade;
	s->handlers[METHOD_vm_exec] = serve_hold;
	s->handlers[METHOD_event_subscribe] = serve_subscribe;
	options = serve_options(s);
	if (change != NULL)
		change(&options);
	serve_start(s, &options);
}

static void
start(struct serve *s)
{
	start_with(s, NULL);
}

static void
end_held(struct serve *s, size_t index)
{
	request_reply_text(TAKE(s->held[index]), "true", 4);
}

#define CALL(id, method) "{\"jsonrpc\":\"2.0\",\"id\":" id ",\"method\":\"" method "\"}"
#define CALL_NAMED(id, method)                                                                     \
	"{\"jsonrpc\":\"2.0\",\"id\":" id ",\"method\":\"" method "\",\"params\":{\"name\":\"m\"}" \
	"}"
#define NOTE(method) "{\"jsonrpc\":\"2.0\",\"method\":\"" method "\"}"
#define RESULT(id, result) "{\"jsonrpc\":\"2.0\",\"id\":" id ",\"result\":" result "}"

/* ---- calls ---- */

START_TEST(request__one_line__one_answer)
{
	static const struct {
		const char *line, *answer;
	} rows[] = {
		{ CALL("7", "system.info"), RESULT("7", "true") },
		{ CALL("\"a\\\"b\"", "system.info"), RESULT("\"a\\\"b\"", "true") },
		{ CALL("null", "system.info"), RESULT("null", "true") },
		{ CALL("1.50", "system.info"), RESULT("1.50", "true") },
		{ "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"vm.get\",\"params\":[\"m\"]}",
		    RESULT("1", "\"m\"") },
		{ CALL_NAMED("1", "vm.get"), RESULT("1", "\"m\"") },
		{ CALL("1", "vm.gett"), "\"code\":-32601" },
		{ CALL("1", "vm.gett"), "did you mean 'vm.get'?" },
		{ CALL("1", "vm.get"), "\"code\":-32602" },
		{ CALL("1", "vm.get"), "\"object\":\"name\"" },
		{ "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"vm.get\",\"params\":[\"m\",true,3]}",
		    "\"code\":-32602" },
		{ CALL_NAMED("1", "vm.stop"), "\"message\":\"it is \\\"so\\\"\"" },
		{ CALL_NAMED("1", "vm.stop"), "\"name\":\"wrong_state\",\"hint\":\"wait\"" },
		{ "{\"jsonrpc\":\"2.0\",\"method\":1,\"params\":\"bar\"}", "\"code\":-32600" },
		{ "{\"jsonrpc\":\"2.0\",\"method\":\"foobar,\"params\":\"bar\",\"baz]",
		    "\"code\":-32700" },
		{ "nonsense", "\"id\":null" },
		{ "[]", "\"code\":-32600" },
	};
	struct serve s;
	struct client c;

	start(&s);
	client_init(&c, &s);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		client_say(&c, rows[i].line);
		ASSERT_ASK(&c, "\n", rows[i].answer);
	}
	client_done(&c);
	serve_done(&s);
}
END_TEST

START_TEST(request__notification__no_answer)
{
	struct serve s;
	struct client c;

	start(&s);
	client_init(&c, &s);
	client_say(&c, NOTE("system.info") "\n" NOTE("no.such") "\n" NOTE("vm.console") "\n");
	client_say(&c, "[" NOTE("system.info") "," NOTE("vm.get") "]\n");
	ASSERT_ASK(&c, CALL("1", "system.info") "\n", RESULT("1", "true"));
	ck_assert_uint_eq(s.calls, 3);
	ck_assert_uint_eq(c.in.len, 0);
	client_done(&c);
	serve_done(&s);
}
END_TEST

START_TEST(request__progress__as_the_parameter_says)
{
	struct serve s;
	struct client c;

	start(&s);
	client_init(&c, &s);
	client_say(&c, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"vm.get\","
		       "\"params\":{\"name\":\"m\",\"progress\":true}}\n");
	client_wait_lines(&c, 2);
	ASSERT_HAS(
	    c.in.data, "{\"jsonrpc\":\"2.0\",\"method\":\"operation.progress\",\"params\":{}}\n");
	ASSERT_HAS(c.in.data, RESULT("1", "\"m\"") "\n");
	client_done(&c);
	serve_done(&s);
}
END_TEST

START_TEST(batch__mixed__one_answer_when_all_are_done)
{
	struct serve s;
	struct client c;
	CLEANUP_FREE char *line = NULL;

	start(&s);
	client_init(&c, &s);
	client_say(
	    &c, "[" CALL("1", "system.info") "," CALL_NAMED("2", "vm.wait") "," NOTE(
		    "system.info") ",1," CALL("3", "no.such") "," CALL("4", "vm.console") "]\n");
	serve_until(&s, &s.held_count, 1);
	serve_for(&s, 10);
	ck_assert_uint_eq(c.in.len, 0);
	end_held(&s, 0);
	client_wait_lines(&c, 1);
	line = client_take_line(&c);
	ck_assert_int_eq(line[0], '[');
	ck_assert_int_eq(line[strlen(line) - 1], ']');
	ASSERT_HAS(line, RESULT("1", "true"));
	ASSERT_HAS(line, RESULT("2", "true"));
	ASSERT_HAS(line, "\"id\":null,\"error\":{\"code\":-32600");
	ASSERT_HAS(line, "\"id\":3,\"error\":{\"code\":-32601");
	{
		CLEANUP_JSON json_object *all = json_tokener_parse(line);

		ck_assert_uint_eq(json_object_array_length(all), 5);
	}
	client_done(&c);
	serve_done(&s);
}
END_TEST

START_TEST(batch__large_answers__bounded)
{
	struct serve s;
	struct client c;
	CLEANUP_FREE char *line = NULL;

	start(&s);
	s.big_bytes = 3 << 20;
	client_init(&c, &s);
	line = client_ask(&c, "[" CALL("1", "vm.list") "," CALL("2", "vm.list") "]\n");
	ck_assert_uint_lt(strlen(line), 5 << 20);
	ASSERT_HAS(line, "\"id\":2,\"error\":{\"code\":-32010");
	client_done(&c);
	serve_done(&s);
}
END_TEST

START_TEST(batch__more_than_in_flight__goes_on_as_they_end)
{
	enum { COUNT = 100 };
	struct serve s;
	struct client c;
	CLEANUP_FREE char *line = NULL;

	start(&s);
	client_init(&c, &s);
	client_say(&c, "[" CALL_NAMED("0", "vm.wait"));
	for (int i = 1; i < COUNT; i++)
		client_say(&c, "," CALL_NAMED("0", "vm.wait"));
	client_say(&c, "]\n" CALL("1", "system.info") "\n");
	serve_until(&s, &s.held_count, 32);
	for (size_t i = 0; i < COUNT; i++) {
		ck_assert_uint_eq(s.calls, 0);
		serve_until(&s, &s.held_count, i + 32 < COUNT ? i + 32 : COUNT);
		end_held(&s, i);
	}
	client_wait_lines(&c, 2);
	line = client_take_line(&c);
	ASSERT_HAS(line, "\"id\":0");
	{
		CLEANUP_JSON json_object *all = json_tokener_parse(line);

		ck_assert_uint_eq(json_object_array_length(all), COUNT);
	}
	client_done(&c);
	serve_done(&s);
}
END_TEST

/* ---- limits ---- */

START_TEST(limit__in_flight__reads_on_when_one_ends)
{
	struct serve s;
	struct client c, other;

	start(&s);
	client_init(&c, &s);
	client_init(&other, &s);
	for (int i = 0; i < 40; i++)
		client_say(&c, CALL_NAMED("1", "vm.wait") "\n");
	serve_until(&s, &s.held_count, 32);
	ASSERT_ASK(&other, CALL("1", "system.info") "\n", RESULT("1", "true"));
	ck_assert_uint_eq(s.held_count, 32);
	end_held(&s, 0);
	serve_until(&s, &s.held_count, 33);
	client_wait_lines(&c, 1);
	ck_assert_uint_eq(c.lines, 1);
	for (size_t i = 1; i < 40; i++) {
		serve_until(&s, &s.held_count, i + 32 < 40 ? i + 32 : 40);
		end_held(&s, i);
	}
	client_wait_lines(&c, 40);
	client_done(&c);
	client_done(&other);
	serve_done(&s);
}
END_TEST

static void
quick(struct server_options *options)
{
	options->line_timeout_ms = 60;
	options->drain_timeout_ms = 60;
}

/* Long enough for a test that must not be late, on a busy host. */
static void
patient(struct server_options *options)
{
	options->line_timeout_ms = 500;
	options->drain_timeout_ms = 800;
}

START_TEST(limit__full_and_gone__noticed)
{
	struct serve s;
	struct client c;

	start_with(&s, quick);
	client_init(&c, &s);
	for (int i = 0; i < 40; i++)
		client_say(&c, CALL_NAMED("1", "vm.wait") "\n");
	serve_until(&s, &s.held_count, 32);
	client_done(&c);
	serve_until(&s, &s.gone, 32);
	ck_assert_uint_eq(server_connections(s.server), 0);
	for (size_t i = 0; i < 32; i++)
		end_held(&s, i);
	serve_done(&s);
}
END_TEST

START_TEST(limit__line__told_and_closed)
{
	struct serve s;
	struct client c;
	CLEANUP_FREE char *big = xmalloc((4 << 20) + 1);
	char first[] = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"system.info\"}";
	ssize_t sent = 0, n;

	start(&s);
	/* The longest that is taken. */
	memset(big, ' ', (4 << 20) + 1);
	memcpy(big, first, strlen(first));
	client_init(&c, &s);
	client_send(&c, big, 4 << 20);
	ASSERT_ASK(&c, "\n", RESULT("1", "true"));
	/* One byte more, and more after it. */
	while (!c.eof && sent < 4 << 20) {
		n = send(c.fd, big, 65536, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0)
			serve_for(&s, 1);
		else
			sent += n;
	}
	if (!c.eof)
		send(c.fd, "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	client_wait_eof(&c);
	ASSERT_HAS(c.in.data, "\"id\":null,\"error\":{\"code\":-32010");
	client_done(&c);
	serve_done(&s);
}
END_TEST

START_TEST(limit__partial_line__closed_in_time)
{
	struct serve s;
	struct client idle, slow;
	uint64_t begin = clock_ms();

	start_with(&s, patient);
	client_init(&idle, &s);
	client_init(&slow, &s);
	/* A line in two parts is fine, and so is saying nothing for long after it. */
	client_say(&idle, CALL("1", "system"));
	ASSERT_ASK(&idle, "\n", "-32601");
	client_say(&idle, "{\"jsonrpc\":\"2.0\",");
	serve_for(&s, 5);
	ASSERT_ASK(&idle, "\"id\":1,\"method\":\"system.info\"}\n", RESULT("1", "true"));
	/* Bytes that come one by one do not help. */
	for (const char *p = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"system.info\"  ";
	     !slow.eof; p++) {
		ck_assert_msg(*p != '\0' || clock_ms() - begin < 5000, "not closed");
		if (send(slow.fd, *p != '\0' ? p : "", 1, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
			break;
		if (*p == '\0')
			p--;
		serve_for(&s, 10);
	}
	client_wait_eof(&slow);
	ASSERT_HAS(slow.in.data, "timed_out");
	ck_assert(!idle.eof);
	ASSERT_ASK(&idle, CALL("1", "system.info") "\n", RESULT("1", "true"));
	client_done(&idle);
	client_done(&slow);
	serve_done(&s);
}
END_TEST

static size_t
resident(void)
{
	size_t pages = 0;
	FILE *f = fopen("/proc/self/statm", "re");

	ck_assert_int_eq(fscanf(f, "%*u %zu", &pages), 1);
	fclose(f);
	return pages * (size_t)sysconf(_SC_PAGESIZE);
}

START_TEST(limit__never_reading__not_read_from_and_closed)
{
	enum { COUNT = 10000 };
	static const char line[] = CALL("1", "vm.list") "\n";
	struct serve s;
	struct client c, other;
	size_t sent = 0, before;

	start_with(&s, quick);
	s.big_bytes = 10000;
	client_init(&other, &s);
	client_init(&c, &s);
	watch_set(c.watch, 0);
	ASSERT_ASK(&other, CALL("1", "system.info") "\n", RESULT("1", "true"));
	before = resident();
	while (sent < COUNT && server_connections(s.server) == 2) {
		if (send(c.fd, line, strlen(line), MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
			sent++;
		else
			serve_for(&s, 5);
		ck_assert_uint_lt(resident() - before, 48 << 20); /* of 100 MB */
	}
	while (server_connections(s.server) == 2)
		serve_for(&s, 5);
	ck_assert_uint_lt(s.calls, 1500); /* 4 MiB of answers, and what the socket took */
	ASSERT_ASK(&other, CALL("1", "system.info") "\n", RESULT("1", "true"));
	client_done(&other);
	client_done(&c);
	serve_done(&s);
}
END_TEST

START_TEST(limit__slow_reader__gets_all)
{
	enum { COUNT = 30 };
	struct serve s;
	struct client c;
	uint64_t begin;

	start_with(&s, patient);
	s.big_bytes = 1 << 20;
	client_init(&c, &s);
	watch_set(c.watch, 0);
	for (int i = 0; i < COUNT; i++)
		client_say(&c, CALL("1", "vm.list") "\n");
	/* A little every 10 ms, for much longer than a client may take nothing at all. */
	begin = clock_ms();
	while (clock_ms() - begin < 1200) {
		serve_for(&s, 10);
		client_readable(&c, LOOP_READ);
	}
	ck_assert(!c.eof);
	ck_assert_uint_lt(s.calls, COUNT);
	watch_set(c.watch, LOOP_READ);
	client_wait_lines(&c, COUNT);
	ck_assert_uint_eq(c.in.len, COUNT * ((1 << 20) + strlen(RESULT("1", "")) + 1));
	client_done(&c);
	serve_done(&s);
}
END_TEST

START_TEST(limit__many_lines__others_have_their_turn)
{
	enum { COUNT = 20000 };
	static const char note[] = NOTE("system.info") "\n";
	struct serve s;
	struct client c, other;
	struct sbuf all = { 0 };
	size_t room;

	start(&s);
	client_init(&c, &s);
	client_init(&other, &s);
	for (int i = 0; i < COUNT; i++)
		sbuf_adds(&all, note);
	room = (size_t)send(c.fd, all.data, all.len, MSG_DONTWAIT | MSG_NOSIGNAL);
	ck_assert_uint_gt(room / strlen(note), 500); /* many at once */
	ASSERT_ASK(&other, CALL("1", "system.info") "\n", RESULT("1", "true"));
	ck_assert_uint_lt(s.calls, 500); /* a few turns of it */
	client_send(&c, all.data + room, all.len - room);
	serve_until(&s, &s.calls, COUNT + 1);
	sbuf_done(&all);
	client_done(&c);
	client_done(&other);
	serve_done(&s);
}
END_TEST

/* ---- ends ---- */

START_TEST(end__half_closed__answered_then_closed)
{
	struct serve s;
	struct client c;

	start(&s);
	client_init(&c, &s);
	client_say(&c, CALL_NAMED("1", "vm.wait") "\n" CALL("2", "system.info")); /* no newline */
	shutdown(c.fd, SHUT_WR);
	client_wait_lines(&c, 1);
	ASSERT_HAS(c.in.data, RESULT("2", "true"));
	serve_for(&s, 10);
	ck_assert(!c.eof);
	ck_assert_uint_eq(s.gone, 0);
	end_held(&s, 0);
	client_wait_eof(&c);
	ASSERT_HAS(c.in.data, RESULT("1", "true"));
	client_done(&c);
	serve_until(&s, &s.gone, 0);
	ck_assert_uint_eq(server_connections(s.server), 0);
	serve_done(&s);
}
END_TEST

START_TEST(end__half_closed_then_gone__noticed)
{
	struct serve s;
	struct client c;

	start_with(&s, quick);
	client_init(&c, &s);
	client_say(&c, CALL_NAMED("1", "vm.wait") "\n");
	shutdown(c.fd, SHUT_WR);
	serve_until(&s, &s.held_count, 1);
	serve_for(&s, 10);
	client_done(&c);
	serve_until(&s, &s.gone, 1);
	end_held(&s, 0);
	serve_done(&s);
}
END_TEST

START_TEST(end__client_gone__told_once_and_the_request_lives_on)
{
	struct serve s;
	struct client c;
	struct err err = ERR_INIT;

	start(&s);
	client_init(&c, &s);
	client_say(&c, CALL_NAMED("1", "vm.wait") "\n" CALL_NAMED("2", "vm.wait") "\n");
	client_say(&c, "[" CALL_NAMED("3", "vm.wait") "," CALL_NAMED("4", "vm.wait") "]\n");
	client_say(&c, CALL_NAMED("5", "vm.wait") "\n" CALL_NAMED("6", "vm.wait") "\n");
	serve_until(&s, &s.held_count, 6);
	client_done(&c);
	serve_until(&s, &s.gone, 6);
	/* Every way to end one, with nobody there. */
	ck_assert_uint_eq(request_peer(s.held[0])->uid, geteuid());
	ck_assert_uint_eq(request_backlog(s.held[0]), 0);
	request_notify(s.held[0], "x", json_object_new_object());
	request_reply(s.held[0], json_object_new_object());
	err_set(&err, E_FAILED, "late");
	request_fail(s.held[1], &err);
	end_held(&s, 2);
	end_held(&s, 3);
	ck_assert_ptr_null(request_upgrade(s.held[4], json_object_new_object()));
	ck_assert_ptr_null(request_subscribe(s.held[5], json_object_new_object(), hold_gone, &s));
	ck_assert_uint_eq(s.gone, 6);
	ck_assert_uint_eq(server_connections(s.server), 0);
	serve_done(&s);
}
END_TEST

START_TEST(end__notifications_then_gone__all_taken)
{
	enum { COUNT = 500 };
	struct serve s;
	struct client c;

	start(&s);
	client_init(&c, &s);
	for (int i = 0; i < COUNT; i++)
		client_say(&c, NOTE("system.info") "\n");
	client_done(&c);
	serve_until(&s, &s.calls, COUNT);
	while (server_connections(s.server) > 0)
		serve_for(&s, 1);
	serve_done(&s);
}
END_TEST

START_TEST(end__server_destroyed__open_requests_are_told)
{
	struct serve s;
	struct client c;

	start(&s);
	client_init(&c, &s);
	client_say(&c, CALL_NAMED("1", "vm.wait") "\n");
	client_say(&c, "[" CALL_NAMED("2", "vm.wait") "," CALL("3", "system.info") "]\n");
	serve_until(&s, &s.held_count, 2);
	server_destroy(TAKE(s.server));
	client_wait_eof(&c);
	ck_assert_uint_eq(c.lines, 2);
	ASSERT_HAS(c.in.data, "\"id\":1,\"error\":{\"code\":-32018");
	ASSERT_HAS(c.in.data, "\"id\":2,\"error\":{\"code\":-32018");
	ASSERT_HAS(c.in.data, RESULT("3", "true"));
	ck_assert_uint_eq(s.gone, 2);
	end_held(&s, 0);
	end_held(&s, 1);
	client_done(&c);
	serve_done(&s);
}
END_TEST

/* ---- descriptors ---- */

static int
file_with(const char *text)
{
	int fd = memfd_create("t", MFD_CLOEXEC);

	ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	return fd;
}

static size_t
open_fds(void)
{
	size_t count = 0;

	for (int fd = 0; fd < 256; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

static void
send_with_fd(struct client *c, const char *text, const char *content)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { (void *)(uintptr_t)text, strlen(text) };
	struct msghdr msg = { .msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.space,
		.msg_controllen = sizeof(control) };
	struct cmsghdr *m = CMSG_FIRSTHDR(&msg);
	int fd = file_with(content);

	m->cmsg_level = SOL_SOCKET;
	m->cmsg_type = SCM_RIGHTS;
	m->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(m), &fd, sizeof(fd));
	ck_assert_int_eq(sendmsg(c->fd, &msg, 0), (ssize_t)strlen(text));
	close(fd);
}

START_TEST(fds__stay_with_their_line_and_are_closed)
{
	struct serve s;
	struct client c;
	size_t before;

	start(&s);
	client_init(&c, &s);
	ASSERT_ASK(&c, CALL("0", "system.info") "\n", RESULT("0", "true"));
	before = open_fds();
	/* Taken; not taken; with nonsense; with a line that is not at its end. */
	client_say(&c, CALL("1", "image.list") "\n");
	send_with_fd(&c, CALL("2", "image.list") "\n", "two");
	send_with_fd(&c, CALL("3", "system.info") "\n", "three");
	send_with_fd(&c, "nonsense\n", "four");
	send_with_fd(&c, CALL("5", "image.list"), "five");
	send_with_fd(&c, "\n" CALL("6", "image.list") "\n", "six");
	client_wait_lines(&c, 6);
	ASSERT_HAS(c.in.data, RESULT("1", "null"));
	ASSERT_HAS(c.in.data, RESULT("2", "\"two\""));
	ASSERT_HAS(c.in.data, RESULT("3", "true"));
	ASSERT_HAS(c.in.data, RESULT("5", "\"five\""));
	ck_assert_uint_eq(open_fds(), before);
	/* Of an unfinished line, when the client leaves. */
	send_with_fd(&c, "{", "seven");
	serve_for(&s, 5);
	client_done(&c);
	while (server_connections(s.server) > 0)
		serve_for(&s, 1);
	ck_assert_uint_eq(open_fds(), before - 2);
	serve_done(&s);
}
END_TEST

START_TEST(fds__batch__shared_by_its_calls)
{
	struct serve s;
	struct client c;
	size_t before;

	start(&s);
	client_init(&c, &s);
	ASSERT_ASK(&c, CALL("0", "system.info") "\n", RESULT("0", "true"));
	before = open_fds();
	send_with_fd(&c,
	    "[" CALL("1", "image.list") "," CALL("2", "image.list") "," CALL_NAMED(
		"3", "vm.wait") "]\n",
	    "one");
	serve_until(&s, &s.held_count, 1);
	ck_assert_int_eq(request_take_fd(s.held[0], 0), -1);
	ck_assert_int_eq(request_take_fd(s.held[0], 7), -1);
	end_held(&s, 0);
	client_wait_lines(&c, 1);
	ASSERT_HAS(c.in.data, RESULT("1", "\"one\""));
	ASSERT_HAS(c.in.data, RESULT("2", "null"));
	ck_assert_uint_eq(open_fds(), before);
	client_done(&c);
	serve_done(&s);
}
END_TEST

/* ---- upgrades and subscriptions ---- */

START_TEST(upgrade__bytes_flow_after_the_answer)
{
	struct serve s;
	struct client c;

	start(&s);
	client_init(&c, &s);
	ASSERT_ASK(&c, CALL_NAMED("1", "vm.console") "\n", RESULT("1", "true"));
	client_say(&c, "not json\n{}\n");
	client_wait_lines(&c, 2);
	ck_assert_str_eq(c.in.data, "not json\n{}\n");
	/* It counts until its new owner ends it. */
	ck_assert_uint_eq(server_connections(s.server), 1);
	client_done(&c);
	serve_until(&s, &s.gone, 1);
	ck_assert_uint_eq(server_connections(s.server), 0);
	serve_done(&s);
}
END_TEST

START_TEST(upgrade__outlives_the_server)
{
	struct serve s;
	struct client c;

	start(&s);
	client_init(&c, &s);
	ASSERT_ASK(&c, CALL_NAMED("1", "vm.console") "\n", RESULT("1", "true"));
	server_destroy(TAKE(s.server));
	ASSERT_ASK(&c, "bytes\n", "bytes");
	client_done(&c);
	serve_until(&s, &s.gone, 1);
	serve_done(&s);
}
END_TEST

START_TEST(upgrade__later__answer_comes_first)
{
	struct serve s;
	struct client c;

	start(&s);
	client_init(&c, &s);
	client_say(&c, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"vm.exec\","
		       "\"params\":{\"name\":\"m\",\"command\":[\"ls\"]}}\n");
	serve_until(&s, &s.held_count, 1);
	/* What comes before the answer is a request, and refused. */
	ASSERT_ASK(&c, CALL("2", "system.info") "\n", "\"id\":2,\"error\":{\"code\":-32600");
	upgrade(&s, TAKE(s.held[0]));
	ck_assert_ptr_nonnull(s.upgraded);
	client_wait_lines(&c, 1);
	ASSERT_HAS(c.in.data, RESULT("1", "true"));
	client_done(&c);
	serve_until(&s, &s.gone, 1);
	serve_done(&s);
}
END_TEST

START_TEST(upgrade__pipelined_request__refused)
{
	struct serve s;
	struct client c;

	start(&s);
	client_init(&c, &s);
	client_say(&c, CALL_NAMED("1", "vm.console") "\n" CALL("2", "system.info") "\n");
	client_wait_lines(&c, 2);
	ASSERT_HAS(c.in.data, "\"id\":2,\"error\":{\"code\":-32600");
	ASSERT_HAS(c.in.data, RESULT("1", "true"));
	ck_assert_uint_eq(s.calls, 0);
	client_done(&c);
	serve_until(&s, &s.gone, 1);
	serve_done(&s);
}
END_TEST

START_TEST(upgrade__others_in_flight__refused)
{
	struct serve s;
	struct client c;

	start(&s);
	client_init(&c, &s);
	client_say(&c, CALL_NAMED("1", "vm.wait") "\n");
	ASSERT_ASK(&c, CALL_NAMED("2", "vm.console") "\n", "\"id\":2,\"error\":{\"code\":-32600");
	ck_assert_ptr_null(s.upgraded);
	end_held(&s, 0);
	client_wait_lines(&c, 1);
	client_done(&c);
	serve_done(&s);
}
END_TEST

START_TEST(subscription__notifications_follow_the_answer)
{
	struct serve s;
	struct client c;

	start(&s);
	client_init(&c, &s);
	ASSERT_ASK(&c, CALL("1", "event.subscribe") "\n", RESULT("1", "0"));
	for (int i = 0; i < 3; i++)
		subscription_notify(s.subscription, "event", json_object_new_object());
	/* Requests go on beside it. */
	client_say(&c, CALL("2", "system.info") "\n");
	client_wait_lines(&c, 4);
	ASSERT_HAS(c.in.data, "{\"jsonrpc\":\"2.0\",\"method\":\"event\",\"params\":{}}\n");
	ASSERT_HAS(c.in.data, RESULT("2", "true"));
	client_done(&c);
	serve_until(&s, &s.gone, 1);
	ck_assert_ptr_null(s.subscription);
	serve_done(&s);
}
END_TEST

START_TEST(subscription__destroyed_first__nobody_is_told)
{
	struct serve s;
	struct client c;

	start(&s);
	client_init(&c, &s);
	ASSERT_ASK(&c, CALL("1", "event.subscribe") "\n", RESULT("1", "0"));
	subscription_destroy(TAKE(s.subscription));
	ASSERT_ASK(&c, CALL("2", "system.info") "\n", RESULT("2", "true"));
	client_done(&c);
	while (server_connections(s.server) > 0)
		serve_for(&s, 1);
	ck_assert_uint_eq(s.gone, 0);
	serve_done(&s);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("request");

	UNIT_CASE(s, request__one_line__one_answer);
	UNIT_CASE(s, request__notification__no_answer);
	UNIT_CASE(s, request__progress__as_the_parameter_says);
	UNIT_CASE(s, batch__mixed__one_answer_when_all_are_done);
	UNIT_CASE(s, batch__large_answers__bounded);
	UNIT_CASE(s, batch__more_than_in_flight__goes_on_as_they_end);
	UNIT_CASE(s, limit__in_flight__reads_on_when_one_ends);
	UNIT_CASE(s, limit__full_and_gone__noticed);
	UNIT_CASE(s, limit__line__told_and_closed);
	UNIT_CASE(s, limit__partial_line__closed_in_time);
	UNIT_CASE(s, limit__never_reading__not_read_from_and_closed);
	UNIT_CASE(s, limit__slow_reader__gets_all);
	UNIT_CASE(s, limit__many_lines__others_have_their_turn);
	UNIT_CASE(s, end__half_closed__answered_then_closed);
	UNIT_CASE(s, end__half_closed_then_gone__noticed);
	UNIT_CASE(s, end__client_gone__told_once_and_the_request_lives_on);
	UNIT_CASE(s, end__notifications_then_gone__all_taken);
	UNIT_CASE(s, end__server_destroyed__open_requests_are_told);
	UNIT_CASE(s, fds__stay_with_their_line_and_are_closed);
	UNIT_CASE(s, fds__batch__shared_by_its_calls);
	UNIT_CASE(s, upgrade__bytes_flow_after_the_answer);
	UNIT_CASE(s, upgrade__outlives_the_server);
	UNIT_CASE(s, upgrade__later__answer_comes_first);
	UNIT_CASE(s, upgrade__pipelined_request__refused);
	UNIT_CASE(s, upgrade__others_in_flight__refused);
	UNIT_CASE(s, subscription__notifications_follow_the_answer);
	UNIT_CASE(s, subscription__destroyed_first__nobody_is_told);
	return unit_main(s);
}
