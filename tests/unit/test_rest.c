/* SPDX-License-Identifier: MPL-2.0
 *
 * Calls of propolis-server against a server that answers with exact bytes, right ones and others.
 */
#include "lib/hypervisor/propolis/rest.h"

#include <json-c/json.h>

#include "tests/unit/scripted.h"

#define LIMIT (4 << 20)

struct call {
	struct bench *bench;
	struct rest_request *request;
	int ends, status;
	enum err_code code;
	char msg[2048], message[256], error_code[64], body[256];
	bool no_body;
	/* What is done in its callback. */
	bool destroy, call_again;
	struct call *cancel;
};

struct bench {
	struct scripted server;
	struct rest *rest;
	struct call call, others[3];
	bool within; /* rest_call is on the stack */
};

static void start(struct bench *b, struct call *call, const struct rest_call *how);

static void
keep(char *to, size_t size, const char *text)
{
	snprintf(to, size, "%s", text != NULL ? text : "-");
}

static void
on_done(void *arg, const struct rest_reply *reply, const struct err *err)
{
	struct call *call = arg;
	struct bench *b = call->bench;

	ck_assert(!b->within);
	call->ends++;
	call->status = reply->status;
	call->code = err != NULL ? err->code : E_OK;
	call->no_body = reply->body == NULL;
	keep(call->msg, sizeof(call->msg), err != NULL ? err->msg : NULL);
	keep(call->message, sizeof(call->message), reply->message);
	keep(call->error_code, sizeof(call->error_code), reply->error_code);
	keep(call->body, sizeof(call->body),
	    reply->body != NULL ? json_object_to_json_string_ext(reply->body, 0) : NULL);
	rest_cancel(call->request); /* it ended: nothing happens */
	call->request = NULL;
	if (call->cancel != NULL)
		rest_cancel(TAKE(call->cancel->request));
	if (call->call_again) {
		call->call_again = false;
		start(b, call, NULL);
	}
	if (call->destroy)
		rest_destroy(TAKE(b->rest));
	loop_stop(b->server.loop);
}

static void
start(struct bench *b, struct call *call, const struct rest_call *how)
{
	struct rest_call full = { .method = "GET", .path = "/instance", .expect = 200 };

	if (how != NULL)
		full = *how;
	if (full.timeout_ms == 0)
		full.timeout_ms = 10000;
	full.done = on_done;
	full.arg = call;
	call->bench = b;
	b->within = true;
	call->request = rest_call(b->rest, &full);
	b->within = false;
	ck_assert_ptr_nonnull(call->request);
}

static void
setup(struct bench *b, int family, const struct script *script)
{
	memset(b, 0, sizeof(*b));
	scripted_init(&b->server, family);
	b->server.script = script;
	b->rest =
	    rest_create(b->server.loop, family == AF_INET6 ? "::1" : "127.0.0.1", b->server.port);
}

static void
teardown(struct bench *b)
{
	rest_destroy(b->rest);
	scripted_done(&b->server);
}

static void
ask(struct bench *b, const struct rest_call *how)
{
	start(b, &b->call, how);
	SCRIPTED_UNTIL(&b->server, b->call.ends > 0);
}

static const struct script good = { .say = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}" };

/* ---- what is sent ---- */

static void
sends(int family, const char *method, const char *path, const char *body, const char *rest_of_it)
{
	CLEANUP_FREE char *expected = NULL;
	struct json_object *json = body != NULL ? json_tokener_parse(body) : NULL;
	struct bench b;

	setup(&b, family, &good);
	expected = xasprintf("%s %s HTTP/1.1\r\nHost: %s:%u\r\nConnection: close\r\n"
			     "Accept: application/json\r\napi-version: 1.0.0\r\n%s",
	    method, path, family == AF_INET6 ? "[::1]" : "127.0.0.1", b.server.port, rest_of_it);
	ask(&b, &(struct rest_call){ method, path, json, 200, 5000, NULL, NULL });
	ck_assert_str_eq(b.server.talks[0].in.data, expected);
	ck_assert_msg(b.call.code == E_OK, "%s", b.call.msg);
	json_object_put(json);
	teardown(&b);
}

START_TEST(rest__get__sends_exactly_this)
{
	sends(AF_INET, "GET", "/instance/serial/history?from_start=0", NULL, "\r\n");
}
END_TEST

START_TEST(rest__get_with_a_body__tells_its_length)
{
	sends(AF_INET, "GET", "/instance/state-monitor", "{\"gen\": 7}",
	    "Content-Type: application/json\r\nContent-Length: 9\r\n\r\n{\"gen\":7}");
}
END_TEST

START_TEST(rest__put_of_a_string__is_bare_json)
{
	sends(AF_INET, "PUT", "/instance/state", "\"Run\"",
	    "Content-Type: application/json\r\nContent-Length: 5\r\n\r\n\"Run\"");
}
END_TEST

START_TEST(rest__ipv6_address__is_in_brackets_in_host)
{
	sends(AF_INET6, "GET", "/instance", NULL, "\r\n");
}
END_TEST

/* The text in its quotes has `len` bytes. */
static struct json_object *
long_text(size_t len)
{
	CLEANUP_FREE char *text = xmalloc(len);

	memset(text, 'q', len);
	return json_object_new_string_len(text, (int)len - 2);
}

START_TEST(rest__body_of_one_mib__arrives_whole)
{
	struct json_object *json = long_text(1 << 20);
	const char *at;
	struct bench b;

	setup(&b, AF_INET, &good);
	ask(&b, &(struct rest_call){ "PUT", "/instance", json, 200, 5000, NULL, NULL });
	ck_assert_msg(b.call.code == E_OK, "%s", b.call.msg);
	ck_assert_ptr_nonnull(strstr(b.server.talks[0].in.data, "Content-Length: 1048576\r\n"));
	at = strstr(b.server.talks[0].in.data, "\r\n\r\n") + 4;
	ck_assert_str_eq(at, json_object_to_json_string_ext(json, JSON_C_TO_STRING_PLAIN));
	json_object_put(json);
	teardown(&b);
}
END_TEST

START_TEST(rest__body_above_one_mib__is_not_sent)
{
	struct json_object *json = long_text((1 << 20) + 1);
	struct bench b;

	setup(&b, AF_INET, &good);
	ask(&b, &(struct rest_call){ "PUT", "/instance", json, 200, 5000, NULL, NULL });
	ck_assert_int_eq(b.call.code, E_LIMIT);
	ck_assert_str_eq(b.call.msg,
	    "PUT /instance: a request of 1048577 bytes; propolis-server takes up to 1048576");
	ck_assert_uint_eq(b.server.count, 0);
	json_object_put(json);
	teardown(&b);
}
END_TEST

/* ---- what is answered ---- */

#define OK_HEAD "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
#define CHUNKED OK_HEAD "Transfer-Encoding: chunked\r\n\r\n"
#define ERROR_409                                                                                  \
	"HTTP/1.1 409 Conflict\r\nContent-Length: 80\r\n\r\n"                                      \
	"{\"request_id\":\"r\",\"message\":\"already "                                             \
	"there\",\"error_code\":\"AlreadyInitialized\"}  "

struct answer {
	const char *name;
	struct script script;
	int expect, status; /* expect 0: 200 */
	enum err_code code;
	const char *words; /* in the error */
	const char *body;  /* NULL: none */
	const char *message, *error_code;
	unsigned timeout_ms;
};

/* clang-format off */
static const struct answer answers[] = {
	{ "plain", { OK_HEAD "Content-Length: 9\r\n\r\n{\"gen\":1}" }, 0, 200, E_OK, "", "{\"gen\":1}" },
	{ "byte by byte", { OK_HEAD "Content-Length: 9\r\n\r\n{\"gen\":1}", .piece = 1 }, 0, 200, E_OK, "", "{\"gen\":1}" },
	{ "lower case, white space", { "HTTP/1.1 200 OK\r\ncontent-length:   9   \r\n\r\n{\"gen\":1}" }, 0, 200, E_OK, "", "{\"gen\":1}" },
	{ "chunked", { CHUNKED "3\r\n{\"g\r\n6\r\nen\":1}\r\n0\r\n\r\n" }, 0, 200, E_OK, "", "{\"gen\":1}" },
	{ "chunked, byte by byte", { CHUNKED "3\r\n{\"g\r\n6\r\nen\":1}\r\n0\r\n\r\n", .piece = 1 }, 0, 200, E_OK, "", "{\"gen\":1}" },
	{ "chunked, with a trailer", { CHUNKED "9\r\n{\"gen\":1}\r\n0\r\nX-Sum: 1\r\n\r\n" }, 0, 200, E_OK, "", "{\"gen\":1}" },
	{ "until the end of the connection", { OK_HEAD "Connection: close\r\n\r\n{\"gen\":1}", .end = CLOSE }, 0, 200, E_OK, "", "{\"gen\":1}" },
	{ "HTTP/1.0", { "HTTP/1.0 200 OK\r\nConnection: close\r\n\r\n{\"gen\":1}", .end = CLOSE }, 0, 200, E_OK, "", "{\"gen\":1}" },
	{ "a number", { OK_HEAD "Content-Length: 2\r\n\r\n17" }, 0, 200, E_OK, "", "17" },
	{ "a newline after it", { OK_HEAD "Content-Length: 4\r\n\r\n[1]\n" }, 0, 200, E_OK, "", "[1]" },
	{ "null", { OK_HEAD "Content-Length: 4\r\n\r\nnull" }, 0, 200, E_OK, "", NULL },
	{ "204", { "HTTP/1.1 204 No Content\r\n\r\n" }, 204, 204, E_OK, "", NULL },
	{ "201", { "HTTP/1.1 201 Created\r\nContent-Length: 16\r\n\r\n{\"migrate\":null}" }, 201, 201, E_OK, "", "{\"migrate\":null}" },
	{ "100 first", { "HTTP/1.1 100 Continue\r\n\r\n" OK_HEAD "Content-Length: 9\r\n\r\n{\"gen\":1}" }, 0, 200, E_OK, "", "{\"gen\":1}" },

	{ "409", { ERROR_409 }, 0, 409, E_FAILED, "GET /x was answered with 409: already there (AlreadyInitialized)",
	  "{\"request_id\":\"r\",\"message\":\"already there\",\"error_code\":\"AlreadyInitialized\"}", "already there", "AlreadyInitialized" },
	{ "403 with a reason in its code", { "HTTP/1.1 403 Forbidden\r\nContent-Length: 29\r\n\r\n{\"error_code\":\"a stop waits\"}" }, 0, 403, E_FAILED,
	  "GET /x was answered with 403: a stop waits", "{\"error_code\":\"a stop waits\"}", NULL, "a stop waits" },
	{ "control characters", { "HTTP/1.1 500 X\r\nContent-Length: 49\r\n\r\n{\"message\":\"a\\u001b[31mred\\nline\\u0000\\u0007end\"}" }, 0, 500, E_FAILED,
	  "GET /x was answered with 500: a\\x1b[31mred line\\x00\\x07end", NULL, "a\\x1b[31mred line\\x00\\x07end", NULL },
	{ "an error of other types", { "HTTP/1.1 500 X\r\nContent-Length: 30\r\n\r\n{\"message\":[1],\"error_code\":2}" }, 0, 500, E_FAILED,
	  "GET /x was answered with 500: {\"message\":[1]", "{\"message\":[1],\"error_code\":2}" },
	{ "HTML", { "HTTP/1.1 502 Bad\r\nContent-Length: 15\r\n\r\n<p>no\tbody</p>\n" }, 0, 502, E_FAILED, "GET /x was answered with 502: <p>no body</p>" },
	{ "no words", { "HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n" }, 0, 500, E_FAILED, "GET /x was answered with 500" },
	{ "200 instead of 204", { OK_HEAD "Content-Length: 2\r\n\r\n{}" }, 204, 200, E_FAILED, "GET /x was answered with 200", "{}" },
	{ "204 instead of 200", { "HTTP/1.1 204 No Content\r\n\r\n" }, 0, 204, E_FAILED, "GET /x was answered with 204" },

	{ "no JSON", { OK_HEAD "Content-Length: 5\r\n\r\n{gen}" }, 0, 200, E_IO, "GET /x was answered with 200 and not JSON" },
	{ "half JSON", { OK_HEAD "Content-Length: 7\r\n\r\n{\"gen\":" }, 0, 200, E_IO, "not JSON" },
	{ "more than JSON", { OK_HEAD "Content-Length: 5\r\n\r\n{} {}" }, 0, 200, E_IO, "not JSON" },
	{ "invalid UTF-8", { OK_HEAD "Content-Length: 4\r\n\r\n\"\xff\xfe\"" }, 0, 200, E_IO, "not JSON" },
	{ "too deep", { OK_HEAD "Content-Length: 80\r\n\r\n[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]" }, 0, 200, E_IO, "not JSON" },
	{ "empty", { OK_HEAD "Content-Length: 0\r\n\r\n" }, 0, 200, E_IO, "nothing instead of JSON" },

	{ "closed at once", { "", .end = CLOSE }, 0, 0, E_NETWORK, "GET /x: 127.0.0.1:" },
	{ "reset at once", { "", .end = RESET }, 0, 0, E_NETWORK, "GET /x: 127.0.0.1:" },
	{ "cut in the first line", { "HTTP/1.1 20", .end = CLOSE }, 0, 0, E_NETWORK, "within the answer" },
	{ "cut in the headers", { OK_HEAD "Conte", .end = CLOSE }, 0, 0, E_NETWORK, "within the answer" },
	{ "cut before the body", { OK_HEAD "Content-Length: 9\r\n\r\n", .end = CLOSE }, 0, 0, E_NETWORK, "within the answer" },
	{ "cut in the body", { OK_HEAD "Content-Length: 9\r\n\r\n{\"gen\"", .end = CLOSE }, 0, 0, E_NETWORK, "within the answer" },
	{ "reset in the body", { OK_HEAD "Content-Length: 9\r\n\r\n{\"gen\"", .piece = 20, .pause_ms = 1, .end = RESET }, 0, 0, E_NETWORK, "within the answer" },
	{ "cut in a chunk", { CHUNKED "9\r\n{\"g", .end = CLOSE }, 0, 0, E_NETWORK, "within the answer" },
	{ "cut between chunks", { CHUNKED "9\r\n{\"gen\":1}\r\n", .end = CLOSE }, 0, 0, E_NETWORK, "within the answer" },
	{ "cut before the last line", { CHUNKED "9\r\n{\"gen\":1}\r\n0\r\n", .end = CLOSE }, 0, 0, E_NETWORK, "within the answer" },
	{ "cut, until the end", { OK_HEAD "Connection: close\r\n\r\n{\"gen\"", .end = CLOSE }, 0, 200, E_IO, "not JSON" },
	{ "a refusal that is cut", { "HTTP/1.1 409 X\r\nContent-Length: 90\r\n\r\n{\"mess", .end = CLOSE }, 0, 0, E_NETWORK, "within the answer" },

	{ "another protocol", { "SSH-2.0-OpenSSH_9.2\r\n" }, 0, 0, E_NETWORK, "is not HTTP" },
	{ "bytes", { "\x16\x03\x01\x00\xff\n\n\n", 8 }, 0, 0, E_NETWORK, "is not HTTP" },
	{ "a status that is none", { "HTTP/1.1 twohundred OK\r\n\r\n" }, 0, 0, E_NETWORK, "is not HTTP" },
	{ "a header without a colon", { "HTTP/1.1 200 OK\r\nwhatever\r\n\r\n" }, 0, 0, E_NETWORK, "is not HTTP" },
	{ "a length that is none", { OK_HEAD "Content-Length: -3\r\n\r\n{}" }, 0, 0, E_NETWORK, "is not HTTP" },
	{ "a length of letters", { OK_HEAD "Content-Length: two\r\n\r\n{}" }, 0, 0, E_NETWORK, "is not HTTP" },
	{ "a chunk of letters", { CHUNKED "zz\r\n{}\r\n0\r\n\r\n" }, 0, 0, E_LIMIT, "or broken" },
	{ "a negative chunk", { CHUNKED "-2\r\n{}\r\n0\r\n\r\n" }, 0, 0, E_LIMIT, "or broken" },
	{ "a line without end", { "HTTP/1.1 200 ", .filler = 1 << 20 }, 0, 0, E_NETWORK, "is not HTTP" },
	{ "a header without end", { "HTTP/1.1 200 OK\r\nX: ", .filler = 1 << 20 }, 0, 0, E_NETWORK, "is not HTTP" },

	{ "told too large", { OK_HEAD "Content-Length: 4194305\r\n\r\n" }, 0, 0, E_LIMIT, "is larger than 4 MiB" },
	{ "far too large", { OK_HEAD "Content-Length: 9223372036854775807\r\n\r\n" }, 0, 0, E_LIMIT, "is larger than 4 MiB" },
	{ "a chunk that is too large", { CHUNKED "400001\r\n", .filler = LIMIT + 8192 }, 0, 0, E_LIMIT, "is larger than 4 MiB" },
	{ "a chunk beyond numbers", { CHUNKED "7fffffffffffffff\r\n", .filler = 8192 }, 0, 0, E_LIMIT, "is larger than 4 MiB" },
	{ "endless", { OK_HEAD "Connection: close\r\n\r\n", .filler = LIMIT + 8192 }, 0, 0, E_LIMIT, "is larger than 4 MiB" },

	{ "silence", { "" }, 0, 0, E_TIMEOUT, "GET /x: no whole answer from 127.0.0.1:", .timeout_ms = 60 },
	{ "silence in the headers", { OK_HEAD }, 0, 0, E_TIMEOUT, "in 0.1 s", .timeout_ms = 100 },
	{ "silence in the body", { OK_HEAD "Content-Length: 9\r\n\r\n{\"gen\"" }, 0, 0, E_TIMEOUT, "no whole answer", .timeout_ms = 60 },
	{ "too slow, though never still", { OK_HEAD "Content-Length: 9\r\n\r\n{\"gen\":1}", .piece = 1, .pause_ms = 20 }, 0, 0, E_TIMEOUT, "no whole answer", .timeout_ms = 200 },
};
/* clang-format on */

START_TEST(rest__any_answer__is_judged)
{
	const struct answer *row = &answers[_i];
	struct rest_call how = { .method = "GET",
		.path = "/x?token=1",
		.expect = row->expect,
		.timeout_ms = row->timeout_ms };
	struct bench b;

	setup(&b, AF_INET, &row->script);
	if (how.expect == 0)
		how.expect = 200;
	ask(&b, &how);
	ck_assert_msg(b.call.code == row->code && b.call.status == row->status,
	    "%s: %s with %d: %s", row->name, err_name(b.call.code), b.call.status, b.call.msg);
	if (row->code != E_OK)
		ck_assert_msg(
		    strstr(b.call.msg, row->words) != NULL, "%s: %s", row->name, b.call.msg);
	ck_assert_msg(strchr(b.call.msg, '\x1b') == NULL, "%s", row->name);
	if (row->body != NULL)
		ck_assert_msg(str_eq(b.call.body, row->body), "%s: %s", row->name, b.call.body);
	if (row->body == NULL && row->message == NULL)
		ck_assert_msg(b.call.no_body, "%s: %s", row->name, b.call.body);
	ck_assert_msg(str_eq(b.call.message, row->message != NULL ? row->message : "-"), "%s: %s",
	    row->name, b.call.message);
	ck_assert_msg(str_eq(b.call.error_code, row->error_code != NULL ? row->error_code : "-"),
	    "%s: %s", row->name, b.call.error_code);
	scripted_run_for(&b.server, 2);
	ck_assert_int_eq(b.call.ends, 1);
	teardown(&b);
}
END_TEST

START_TEST(rest__answer_of_exactly_the_limit__is_taken)
{
	const size_t len = LIMIT;
	CLEANUP_FREE char *text = NULL;
	struct sbuf sb = { 0 };
	struct script script = { 0 };
	struct bench b;

	sbuf_addf(&sb, OK_HEAD "Content-Length: %zu\r\n\r\n\"", len);
	for (size_t i = 2; i < len; i++)
		sbuf_addc(&sb, 'y');
	sbuf_addc(&sb, '"');
	script.len = sb.len;
	script.say = text = sbuf_take(&sb);
	setup(&b, AF_INET, &script);
	ask(&b, NULL);
	ck_assert_msg(b.call.code == E_OK, "%s", b.call.msg);
	teardown(&b);
}
END_TEST

/* The server looks at the headers alone, and ends the connection without reading the body. */
START_TEST(rest__refused_before_the_body_was_read__has_the_status)
{
	const struct script script = { .say = ERROR_409, .early = true, .end = CLOSE };
	struct json_object *json = long_text(1 << 20);
	struct bench b;

	setup(&b, AF_INET, &script);
	ask(&b, &(struct rest_call){ "PUT", "/instance", json, 201, 5000, NULL, NULL });
	ck_assert_msg(b.call.status == 409, "%d: %s", b.call.status, b.call.msg);
	json_object_put(json);
	teardown(&b);
}
END_TEST

/* ---- no connection ---- */

START_TEST(rest__nobody_listens__network_error_later)
{
	struct bench b;

	setup(&b, AF_INET, &good);
	scripted_deafen(&b.server);
	ask(&b, NULL);
	ck_assert_int_eq(b.call.code, E_NETWORK);
	ck_assert_ptr_nonnull(strstr(b.call.msg, "GET /instance: nobody answers at 127.0.0.1:"));
	ck_assert_int_eq(b.call.status, 0);
	teardown(&b);
}
END_TEST

START_TEST(rest__no_address__network_error_later)
{
	struct bench b;

	setup(&b, AF_INET, &good);
	rest_destroy(b.rest);
	b.rest = rest_create(b.server.loop, "localhost", b.server.port);
	ask(&b, NULL);
	ck_assert_int_eq(b.call.code, E_NETWORK);
	ck_assert_ptr_nonnull(strstr(b.call.msg, "'localhost' is not an address"));
	ck_assert_uint_eq(b.server.count, 0);
	teardown(&b);
}
END_TEST

START_TEST(rest__no_descriptor_left__network_error_later)
{
	struct bench b;

	setup(&b, AF_INET, &good);
	scripted_use_up(&b.server);
	ask(&b, NULL);
	ck_assert_int_eq(b.call.code, E_NETWORK);
	scripted_give_back(&b.server);
	teardown(&b);
}
END_TEST

/* ---- several, and their ends ---- */

static const struct script silent = { .say = "" };

START_TEST(rest__long_poll__holds_up_nobody)
{
	struct bench b;

	setup(&b, AF_INET, &silent);
	start(&b, &b.call, NULL);
	SCRIPTED_UNTIL(&b.server, b.server.count == 1);
	b.server.script = &good;
	start(&b, &b.others[0], NULL);
	SCRIPTED_UNTIL(&b.server, b.others[0].ends == 1);
	ck_assert_int_eq(b.others[0].code, E_OK);
	ck_assert_int_eq(b.call.ends, 0);
	teardown(&b);
	ck_assert_int_eq(b.call.ends, 1);
	ck_assert_int_eq(b.call.code, E_CANCELLED);
}
END_TEST

START_TEST(rest__cancelled_at_once__never_ends)
{
	struct bench b;

	setup(&b, AF_INET, &good);
	start(&b, &b.call, NULL);
	rest_cancel(TAKE(b.call.request));
	rest_cancel(NULL);
	scripted_run_for(&b.server, 5);
	ck_assert_int_eq(b.call.ends, 0);
	teardown(&b);
	ck_assert_int_eq(b.call.ends, 0);
}
END_TEST

START_TEST(rest__cancelled_within_the_answer__connection_is_closed)
{
	const struct script half = { .say = OK_HEAD "Content-Length: 9\r\n\r\n{\"gen\"" };
	struct bench b;

	setup(&b, AF_INET, &half);
	start(&b, &b.call, NULL);
	SCRIPTED_UNTIL(&b.server, b.server.count == 1 && b.server.talks[0].playing);
	rest_cancel(TAKE(b.call.request));
	SCRIPTED_UNTIL(&b.server, b.server.talks[0].closed);
	ck_assert_int_eq(b.call.ends, 0);
	teardown(&b);
}
END_TEST

START_TEST(rest__timed_out__connection_is_closed)
{
	struct bench b;

	setup(&b, AF_INET, &silent);
	ask(&b, &(struct rest_call){ "GET", "/x", NULL, 200, 30, NULL, NULL });
	ck_assert_int_eq(b.call.code, E_TIMEOUT);
	SCRIPTED_UNTIL(&b.server, b.server.talks[0].closed);
	teardown(&b);
}
END_TEST

START_TEST(rest__cancelled_in_the_callback_of_another__never_ends)
{
	struct bench b;

	setup(&b, AF_INET, &silent);
	start(&b, &b.others[0], NULL);
	SCRIPTED_UNTIL(&b.server, b.server.count == 1);
	b.server.script = &good;
	b.call.cancel = &b.others[0];
	ask(&b, NULL);
	SCRIPTED_UNTIL(&b.server, b.server.talks[0].closed);
	teardown(&b);
	ck_assert_int_eq(b.others[0].ends, 0);
	ck_assert_int_eq(b.call.ends, 1);
}
END_TEST

START_TEST(rest__destroyed_in_a_callback__others_are_cancelled)
{
	struct bench b;

	setup(&b, AF_INET, &silent);
	start(&b, &b.others[0], NULL);
	start(&b, &b.others[1], NULL);
	b.others[0].cancel = &b.others[2]; /* in the midst of it */
	start(&b, &b.others[2], NULL);
	SCRIPTED_UNTIL(&b.server, b.server.count == 3);
	b.server.script = &good;
	b.call.destroy = true;
	ask(&b, NULL);
	ck_assert_int_eq(b.call.code, E_OK);
	for (size_t i = 0; i < 2; i++) {
		ck_assert_int_eq(b.others[i].ends, 1);
		ck_assert_int_eq(b.others[i].code, E_CANCELLED);
		ck_assert_int_eq(b.others[i].status, 0);
	}
	ck_assert_int_eq(b.others[2].ends, 0);
	ck_assert_ptr_null(b.rest);
	teardown(&b);
}
END_TEST

START_TEST(rest__called_again_in_the_callback__works)
{
	struct bench b;

	setup(&b, AF_INET, &good);
	b.call.call_again = true;
	start(&b, &b.call, NULL);
	SCRIPTED_UNTIL(&b.server, b.call.ends == 2);
	ck_assert_int_eq(b.call.code, E_OK);
	ck_assert_uint_eq(b.server.count, 2);
	teardown(&b);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("rest");
	TCase *rows = tcase_create("answers");

	tcase_set_timeout(rows, 60);
	tcase_add_loop_test(rows, rest__any_answer__is_judged, 0, (int)ARRAY_LEN(answers));
	suite_add_tcase(s, rows);
	UNIT_CASE(s, rest__get__sends_exactly_this);
	UNIT_CASE(s, rest__get_with_a_body__tells_its_length);
	UNIT_CASE(s, rest__put_of_a_string__is_bare_json);
	UNIT_CASE(s, rest__ipv6_address__is_in_brackets_in_host);
	UNIT_CASE(s, rest__body_of_one_mib__arrives_whole);
	UNIT_CASE(s, rest__body_above_one_mib__is_not_sent);
	UNIT_CASE(s, rest__answer_of_exactly_the_limit__is_taken);
	UNIT_CASE(s, rest__refused_before_the_body_was_read__has_the_status);
	UNIT_CASE(s, rest__nobody_listens__network_error_later);
	UNIT_CASE(s, rest__no_address__network_error_later);
	UNIT_CASE(s, rest__no_descriptor_left__network_error_later);
	UNIT_CASE(s, rest__long_poll__holds_up_nobody);
	UNIT_CASE(s, rest__cancelled_at_once__never_ends);
	UNIT_CASE(s, rest__cancelled_within_the_answer__connection_is_closed);
	UNIT_CASE(s, rest__timed_out__connection_is_closed);
	UNIT_CASE(s, rest__cancelled_in_the_callback_of_another__never_ends);
	UNIT_CASE(s, rest__destroyed_in_a_callback__others_are_cancelled);
	UNIT_CASE(s, rest__called_again_in_the_callback__works);
	return unit_main(s);
}
