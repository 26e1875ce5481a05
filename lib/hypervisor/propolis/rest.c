/* SPDX-License-Identifier: MPL-2.0
 *
 * Calls of propolis-server's interface.  Loop thread only.
 *
 * What libevent's client reports is only noted down; a call ends in a turn of the loop of its own,
 * from its timer.  So `done` never runs below rest_call or below libevent, and a connection is
 * freed where nothing of it is on the stack.  The same timer is the deadline, because libevent's
 * timeouts start again with every byte. */
#include "lib/hypervisor/propolis/rest.h"

#include <assert.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/http.h>
#include <event2/util.h>
#include <json-c/json.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/hypervisor/propolis/wire.h"

enum {
	ANSWER_MAX = 4 << 20,
	REQUEST_MAX = 1 << 20,
	HEADERS_MAX = 64 << 10,
	STATUS_NO_CONTENT = 204
};

struct rest_request {
	TAILQ_ENTRY(rest_request) entry;
	struct rest *rest; /* NULL: it ended, `done` runs */
	char *label;       /* "PUT /instance" */
	int expect;
	uint64_t timeout_ms;
	rest_done_fn *done;
	void *arg;
	struct evhttp_connection *connection;
	struct timer *timer;
	bool settled;   /* one of the following is known */
	struct err err; /* no whole answer: why */
	int status;
	struct sbuf text;
};

struct rest {
	struct loop *loop;
	char *host;
	uint16_t port;
	struct wire_peer peer;
	struct err unusable; /* host is no address */
	TAILQ_HEAD(, rest_request) requests;
	bool dying;
};

struct rest *
rest_create(struct loop *loop, const char *host, uint16_t port)
{
	struct rest *rest = xcalloc(1, sizeof(*rest));

	loop_assert(loop);
	rest->loop = loop;
	rest->host = xstrdup(host);
	rest->port = port;
	wire_peer_init(&rest->peer, host, port, &rest->unusable);
	TAILQ_INIT(&rest->requests);
	return rest;
}

static struct evbuffer *
output_of(struct evhttp_connection *connection)
{
	return bufferevent_get_output(evhttp_connection_get_bufferevent(connection));
}

/* A server may refuse before it read the whole request.  libevent finds its answer only with this
 * flag; but with it, it never tells the end of a connection within the answer.  So the flag goes
 * when all is sent. */
static void
on_sent(struct evbuffer *output, const struct evbuffer_cb_info *info, void *arg)
{
	struct rest_request *request = arg;

	if (info->n_deleted > 0 && evbuffer_get_length(output) == 0)
		evhttp_connection_set_flags(request->connection, 0);
}

/* Takes it off the list and ends its connection; the words stay. */
static void
detach(struct rest_request *request)
{
	TAILQ_REMOVE(&request->rest->requests, request, entry);
	request->rest = NULL;
	timer_destroy(TAKE(request->timer));
	if (request->connection == NULL)
		return;
	evbuffer_remove_cb(output_of(request->connection), on_sent, request);
	evhttp_connection_free(TAKE(request->connection));
}

static void
request_free(struct rest_request *request)
{
	free(request->label);
	sbuf_done(&request->text);
	free(request);
}

/* ---- the end of a call ---- */

static int
judge(const struct rest_request *request, struct rest_reply *reply, struct wire_words *words,
    struct err *err)
{
	struct err problem = ERR_INIT;

	if (request->err.code != E_OK) {
		*err = request->err;
		return err->code;
	}
	reply->status = request->status;
	if (request->text.len > 0)
		wire_json(request->text.data, request->text.len, &reply->body, &problem);
	wire_words_init(words, reply->body);
	reply->message = words->message;
	reply->error_code = words->error_code;
	if (request->status != request->expect)
		return wire_refusal(err, request->label, request->status, words, request->text.data,
		    request->text.len);
	if (request->status == STATUS_NO_CONTENT)
		return 0;
	if (request->text.len == 0)
		err_set(&problem, E_IO, "nothing instead of JSON");
	if (problem.code == E_OK)
		return 0;
	return err_set(err, problem.code, "%s was answered with %d and %s", request->label,
	    request->status, problem.msg);
}

static void
finish(struct rest_request *request)
{
	struct rest_reply reply = { 0 };
	struct wire_words words = { 0 };
	struct err err = ERR_INIT;
	int rc;

	detach(request);
	rc = judge(request, &reply, &words, &err);
	request->done(request->arg, &reply, rc == 0 ? NULL : &err);
	json_object_put(reply.body);
	wire_words_done(&words);
	request_free(request);
}

static void
on_timer(void *arg)
{
	struct rest_request *request = arg;

	if (!request->settled)
		err_set(&request->err, E_TIMEOUT, "%s: no whole answer from %s in %llu.%llu s",
		    request->label, request->rest->peer.text,
		    (unsigned long long)(request->timeout_ms / 1000),
		    (unsigned long long)(request->timeout_ms / 100 % 10));
	finish(request);
}

/* ---- what libevent tells ---- */

static void
settle(struct rest_request *request)
{
	request->settled = true;
	timer_arm(request->timer, 0);
}

static void
on_problem(enum evhttp_request_error problem, void *arg)
{
	struct rest_request *request = arg;
	const char *peer = request->rest->peer.text;

	if (request->settled || problem == EVREQ_HTTP_REQUEST_CANCEL)
		return;
	if (problem == EVREQ_HTTP_DATA_TOO_LONG)
		/* libevent says the same of chunks that are none. */
		err_set(&request->err, E_LIMIT,
		    "%s: the answer of %s is larger than %d MiB, or broken", request->label, peer,
		    ANSWER_MAX >> 20);
	else if (problem == EVREQ_HTTP_INVALID_HEADER)
		err_set(&request->err, E_NETWORK, "%s: the answer of %s is not HTTP",
		    request->label, peer);
	else
		err_set(&request->err, E_NETWORK, "%s: %s ended the connection within the answer",
		    request->label, peer);
	settle(request);
}

/* answer: NULL after on_problem; without a status when there was no connection. */
static void
on_answer(struct evhttp_request *answer, void *arg)
{
	struct rest_request *request = arg;
	int status;

	if (request->settled)
		return;
	status = answer != NULL ? evhttp_request_get_response_code(answer) : 0;
	if (status == 0) {
		err_set(&request->err, E_NETWORK, "%s: nobody answers at %s", request->label,
		    request->rest->peer.text);
	} else {
		struct evbuffer *body = evhttp_request_get_input_buffer(answer);
		size_t len = evbuffer_get_length(body);

		request->status = status;
		if (len > 0)
			sbuf_add(&request->text, evbuffer_pullup(body, -1), len);
	}
	settle(request);
}

/* ---- calling ---- */

static enum evhttp_cmd_type
method_of(const char *name)
{
	static const struct {
		const char *name;
		enum evhttp_cmd_type type;
	} methods[] = { { "GET", EVHTTP_REQ_GET }, { "POST", EVHTTP_REQ_POST },
		{ "PUT", EVHTTP_REQ_PUT } };
	size_t i = 0;

	while (i < ARRAY_LEN(methods) && !str_eq(methods[i].name, name))
		i++;
	assert(i < ARRAY_LEN(methods));
	return methods[i].type;
}

static struct evhttp_request *
compose(struct rest_request *request, const char *body)
{
	struct evhttp_request *http = evhttp_request_new(on_answer, request);
	struct evkeyvalq *headers;
	char number[24];

	assert(http != NULL);
	evhttp_request_set_error_cb(http, on_problem);
	headers = evhttp_request_get_output_headers(http);
	evhttp_add_header(headers, "Host", request->rest->peer.text);
	evhttp_add_header(headers, "Connection", "close");
	evhttp_add_header(headers, "Accept", "application/json");
	evhttp_add_header(headers, "api-version", PROPOLIS_API_VERSION);
	if (body != NULL) {
		/* libevent tells no length for GET. */
		snprintf(number, sizeof(number), "%zu", strlen(body));
		evhttp_add_header(headers, "Content-Type", "application/json");
		evhttp_add_header(headers, "Content-Length", number);
		evbuffer_add(evhttp_request_get_output_buffer(http), body, strlen(body));
	}
	return http;
}

static int
dispatch(struct rest_request *request, const struct rest_call *call)
{
	/* Later than our own deadline, which is the one that counts. */
	struct timeval patience = { .tv_sec = (time_t)(call->timeout_ms / 1000 + 60) };
	struct rest *rest = request->rest;
	const char *body = call->body == NULL
			       ? NULL
			       : json_object_to_json_string_ext(call->body,
				     JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
	struct evhttp_connection *connection;
	evutil_socket_t fd;

	if (body != NULL && strlen(body) > REQUEST_MAX)
		return err_set(&request->err, E_LIMIT,
		    "%s: a request of %zu bytes; propolis-server takes up to %d", request->label,
		    strlen(body), REQUEST_MAX);
	connection =
	    evhttp_connection_base_new(loop_event_base(rest->loop), NULL, rest->host, rest->port);
	assert(connection != NULL);
	request->connection = connection;
	evhttp_connection_set_timeout_tv(connection, &patience);
	evhttp_connection_set_max_body_size(connection, ANSWER_MAX);
	evhttp_connection_set_max_headers_size(connection, HEADERS_MAX);
	evhttp_connection_set_flags(connection, EVHTTP_CON_READ_ON_WRITE_ERROR);
	evbuffer_add_cb(output_of(connection), on_sent, request);
	if (evhttp_make_request(
		connection, compose(request, body), method_of(call->method), call->path) != 0 &&
	    !request->settled)
		return err_set(&request->err, E_NETWORK, "%s: can not be sent to %s",
		    request->label, rest->peer.text);
	fd = bufferevent_getfd(evhttp_connection_get_bufferevent(connection));
	if (fd >= 0)
		evutil_make_socket_closeonexec(fd);
	return 0;
}

struct rest_request *
rest_call(struct rest *rest, const struct rest_call *call)
{
	struct rest_request *request = xcalloc(1, sizeof(*request));

	loop_assert(rest->loop);
	assert(!rest->dying && call->timeout_ms > 0 && call->done != NULL);
	request->rest = rest;
	request->label =
	    xasprintf("%s %.*s", call->method, (int)strcspn(call->path, "?"), call->path);
	request->expect = call->expect;
	request->timeout_ms = call->timeout_ms;
	request->done = call->done;
	request->arg = call->arg;
	request->timer = timer_create_on(rest->loop, on_timer, request);
	TAILQ_INSERT_TAIL(&rest->requests, request, entry);
	timer_arm(request->timer, call->timeout_ms);
	request->err = rest->unusable;
	if (request->err.code != E_OK || dispatch(request, call) != 0)
		settle(request);
	return request;
}

void
rest_cancel(struct rest_request *request)
{
	if (request == NULL || request->rest == NULL)
		return;
	loop_assert(request->rest->loop);
	detach(request);
	request_free(request);
}

void
rest_destroy(struct rest *rest)
{
	struct rest_request *request;

	if (rest == NULL)
		return;
	loop_assert(rest->loop);
	assert(!rest->dying);
	rest->dying = true;
	while ((request = TAILQ_FIRST(&rest->requests)) != NULL) {
		err_set(&request->err, E_CANCELLED, "%s was given up", request->label);
		finish(request);
	}
	free(rest->host);
	free(rest);
}
