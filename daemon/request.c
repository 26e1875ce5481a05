/* SPDX-License-Identifier: MPL-2.0
 *
 * A request's life after its handler was called: answered, handed over, or orphaned by a client
 * that went away.  It outlives its connection, and the server. */
#include "daemon/request.h"

#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/wire.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/stream.h"

struct request {
	LIST_ENTRY(request) link;      /* connection.requests */
	struct connection *connection; /* NULL: gone */
	struct batch *batch;           /* NULL: a single one */
	char *id;                      /* JSON text; NULL: a notification */
	struct wire_fds *fds;          /* NULL: none came */
	struct peer peer;
	void (*on_gone)(void *arg);
	void *arg;
	bool progress;
};

struct subscription {
	LIST_ENTRY(subscription) link; /* connection.subscriptions */
	struct connection *connection; /* NULL: gone */
	void (*on_gone)(void *arg);
	void *arg;
};

enum { SCRATCH_KEPT = 64 << 10 };

void
wire_fds_release(struct wire_fds *fds)
{
	if (fds == NULL || --fds->references > 0)
		return;
	for (size_t i = 0; i < fds->count; i++)
		if (fds->fds[i] >= 0)
			close(fds->fds[i]);
	free(fds);
}

struct request *
request_create(struct connection *c, char *id, struct batch *batch, struct wire_fds *fds)
{
	struct request *request = xcalloc(1, sizeof(*request));

	request->connection = c;
	request->id = id;
	request->peer = c->peer;
	request->batch = batch;
	if (batch != NULL)
		batch->pending++;
	request->fds = fds;
	if (fds != NULL)
		fds->references++;
	LIST_INSERT_HEAD(&c->requests, request, link);
	c->in_flight++;
	return request;
}

void
request_set_progress(struct request *request, bool progress)
{
	request->progress = progress;
}

void
request_set_upgrading(struct request *request)
{
	if (request->batch == NULL && request->id != NULL)
		request->connection->upgrading = request;
}

/* ---- batches ---- */

void
batch_destroy(struct batch *batch)
{
	LIST_REMOVE(batch, link);
	rpc_line_done(&batch->line);
	wire_fds_release(batch->fds);
	sbuf_done(&batch->out);
	free(batch);
}

static void
batch_check(struct connection *c, struct batch *batch)
{
	if (!batch->whole || batch->pending > 0)
		return;
	/* Nothing at all is sent for a batch of notifications. */
	if (batch->out.len > 0) {
		sbuf_adds(&batch->out, "]\n");
		connection_send(c, batch->out.data, batch->out.len);
	}
	batch_destroy(batch);
}

void
batch_seal(struct connection *c, struct batch *batch)
{
	batch->whole = true;
	rpc_line_done(&batch->line);
	wire_fds_release(TAKE(batch->fds));
	batch_check(c, batch);
}

/* ---- answers ---- */

/* Where the answer is written; NULL: nobody wants one. */
static struct sbuf *
begin_answer(struct request *request)
{
	struct batch *batch = request->batch;

	if (request->connection == NULL || request->id == NULL)
		return NULL;
	if (batch != NULL) {
		sbuf_addc(&batch->out, batch->out.len > 0 ? ',' : '[');
		return &batch->out;
	}
	sbuf_reset(&request->connection->server->scratch);
	return &request->connection->server->scratch;
}

static void
send_scratch(struct connection *c, struct sbuf *out)
{
	sbuf_addc(out, '\n');
	connection_send(c, out->data, out->len);
	if (out->cap > SCRATCH_KEPT)
		sbuf_done(out);
}

/* The connection has nothing more to do with the request. */
static void
leave_connection(struct request *request)
{
	struct connection *c = request->connection;
	struct batch *batch = request->batch;

	LIST_REMOVE(request, link);
	request->connection = NULL;
	request->batch = NULL;
	c->in_flight--;
	if (c->upgrading == request)
		c->upgrading = NULL;
	if (batch != NULL) {
		batch->pending--;
		batch_check(c, batch);
	}
	connection_settle(c);
}

static void
end(struct request *request)
{
	if (request->connection != NULL)
		leave_connection(request);
	wire_fds_release(request->fds);
	free(request->id);
	free(request);
}

static void
answer_error(struct request *request, const struct err *err)
{
	struct sbuf *out = begin_answer(request);

	if (out == NULL)
		return;
	rpc_error(out, request->id, err);
	if (request->batch == NULL)
		send_scratch(request->connection, out);
}

void
request_fail(struct request *request, const struct err *err)
{
	answer_error(request, err);
	end(request);
}

void
request_reply_text(struct request *request, const char *result, size_t len)
{
	struct sbuf *out;
	struct err err;

	if (request->batch != NULL && request->batch->out.len + len > WIRE_QUEUE_HIGH) {
		err_set(&err, E_LIMIT, "the answers of the batch are more than %d bytes",
		    WIRE_QUEUE_HIGH);
		err_hint(&err, "ask for this one alone");
		request_fail(request, &err);
		return;
	}
	out = begin_answer(request);
	if (out != NULL) {
		rpc_result(out, request->id, result, len);
		if (request->batch == NULL)
			send_scratch(request->connection, out);
	}
	end(request);
}

void
request_reply(struct request *request, json_object *result)
{
	size_t len;
	const char *text;

	if (request->connection == NULL || request->id == NULL) {
		end(request);
	} else {
		text = json_object_to_json_string_length(result, JSON_TEXT_FLAGS, &len);
		request_reply_text(request, text, len);
	}
	json_object_put(result);
}

/* ---- what a handler may ask ---- */

const struct peer *
request_peer(const struct request *request)
{
	return &request->peer;
}

int
request_take_fd(struct request *request, size_t index)
{
	if (request->fds == NULL || index >= request->fds->count)
		return -1;
	return TAKE_FD(request->fds->fds[index]);
}

bool
request_wants_progress(const struct request *request)
{
	return request->progress;
}

static size_t
backlog(const struct connection *c)
{
	return c != NULL && !c->dead ? stream_queued(c->stream) : 0;
}

size_t
request_backlog(const struct request *request)
{
	return backlog(request->connection);
}

static void
notify(struct connection *c, const char *method, json_object *params)
{
	if (c != NULL && backlog(c) <= WIRE_QUEUE_DROP) {
		struct sbuf *out = &c->server->scratch;

		sbuf_reset(out);
		rpc_notification(out, method, params);
		send_scratch(c, out);
	}
	json_object_put(params);
}

void
request_notify(struct request *request, const char *method, json_object *params)
{
	notify(request->connection, method, params);
}

void
request_on_gone(struct request *request, void (*fn)(void *arg), void *arg)
{
	request->on_gone = fn;
	request->arg = arg;
}

/* ---- handing the connection over, or holding on to it ---- */

/* Only the connection's single request, and only one that is answered. */
static int
check_alone(const struct request *request, struct err *err)
{
	const struct connection *c = request->connection;

	if (request->batch != NULL)
		return err_set(err, E_REQUEST, "this method can not be part of a batch");
	if (request->id == NULL)
		return err_set(err, E_REQUEST, "this method can not be a notification");
	if (c->in_flight > 1 || !LIST_EMPTY(&c->subscriptions)) {
		err_set(err, E_REQUEST,
		    "this method takes the connection over, and other requests "
		    "of it have not ended");
		err_hint(err, "use a connection of its own");
		return E_REQUEST;
	}
	return 0;
}

struct stream *
request_upgrade(struct request *request, json_object *result)
{
	struct connection *c = request->connection;
	struct stream *stream;
	struct err err;

	if (c == NULL || c->dead) {
		request_reply(request, result);
		return NULL;
	}
	if (check_alone(request, &err) != 0) {
		json_object_put(result);
		request_fail(request, &err);
		return NULL;
	}
	connection_refuse_rest(c);
	c->busy++; /* answering must not close it */
	request_reply(request, result);
	c->busy--;
	stream = TAKE(c->stream);
	seat_keep(c->server, stream, c->peer.uid);
	stream_pause(stream, false); /* reading is up to its new user */
	connection_close(c);
	return stream;
}

struct subscription *
request_subscribe(
    struct request *request, json_object *result, void (*on_gone)(void *arg), void *arg)
{
	struct connection *c = request->connection;
	struct subscription *subscription;
	struct err err;
	int rc = 0;

	if (c == NULL || c->dead) {
		request_reply(request, result);
		return NULL;
	}
	if (request->batch != NULL || request->id == NULL)
		rc = err_set(&err, E_REQUEST, "this method needs a request of its own, with an id");
	else if (c->subscription_count >= WIRE_SUBSCRIPTIONS_MAX)
		rc = err_set(
		    &err, E_LIMIT, "this connection has %d subscriptions", WIRE_SUBSCRIPTIONS_MAX);
	if (rc != 0) {
		json_object_put(result);
		request_fail(request, &err);
		return NULL;
	}
	subscription = xcalloc(1, sizeof(*subscription));
	subscription->connection = c;
	subscription->on_gone = on_gone;
	subscription->arg = arg;
	LIST_INSERT_HEAD(&c->subscriptions, subscription, link);
	c->subscription_count++;
	request_reply(request, result);
	return subscription;
}

void
subscription_notify(struct subscription *subscription, const char *method, json_object *params)
{
	notify(subscription->connection, method, params);
}

size_t
subscription_backlog(const struct subscription *subscription)
{
	return backlog(subscription->connection);
}

void
subscription_destroy(struct subscription *subscription)
{
	struct connection *c;

	if (subscription == NULL)
		return;
	c = subscription->connection;
	if (c != NULL) {
		LIST_REMOVE(subscription, link);
		c->subscription_count--;
	}
	free(subscription);
	if (c != NULL)
		connection_settle(c);
}

/* Who is told may end or destroy what it is told about, and others of the same connection, which
 * is dead by now: nothing is touched after. */
void
requests_orphan(struct connection *c)
{
	while (!LIST_EMPTY(&c->requests)) {
		struct request *request = LIST_FIRST(&c->requests);

		LIST_REMOVE(request, link);
		request->connection = NULL;
		request->batch = NULL;
		if (request->on_gone != NULL)
			request->on_gone(request->arg);
	}
	while (!LIST_EMPTY(&c->subscriptions)) {
		struct subscription *subscription = LIST_FIRST(&c->subscriptions);

		LIST_REMOVE(subscription, link);
		subscription->connection = NULL;
		if (subscription->on_gone != NULL)
			subscription->on_gone(subscription->arg);
	}
}

void
requests_fail_all(struct connection *c, const struct err *err)
{
	c->busy++; /* an answer may be the last thing that it waited for */
	while (!LIST_EMPTY(&c->requests)) {
		struct request *request = LIST_FIRST(&c->requests);

		answer_error(request, err);
		leave_connection(request);
		if (request->on_gone != NULL)
			request->on_gone(request->arg);
	}
	c->busy--;
}
