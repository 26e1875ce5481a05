/* SPDX-License-Identifier: MPL-2.0
 *
 * One client's connection: lines in, lines out, and the limits that keep one client from hurting
 * the others. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/wire.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/stream.h"

enum { LINES_A_TURN = 64, FDS_MAX = 1024 };

static void on_input(void *arg);
static void on_drained(void *arg);
static void on_closed(void *arg, int errno_value);

static const struct stream_handler handler = { on_input, on_drained, on_closed };

void
connection_create(struct server *server, int fd, const struct peer *peer)
{
	struct connection *c = xcalloc(1, sizeof(*c));

	c->server = server;
	c->peer = *peer;
	LIST_INIT(&c->requests);
	LIST_INIT(&c->batches);
	LIST_INIT(&c->subscriptions);
	TAILQ_INSERT_TAIL(&server->connections, c, link);
	server->count++;
	c->stream = stream_create(server->loop, fd, &handler, c);
}

void
connection_close(struct connection *c)
{
	if (c->dead)
		return;
	c->dead = true;
	c->busy++;
	TAILQ_REMOVE(&c->server->connections, c, link);
	c->server->count--;
	if (c->again)
		TAILQ_REMOVE(&c->server->again, c, again_link);
	stream_destroy(TAKE(c->stream));
	requests_orphan(c);
	while (!LIST_EMPTY(&c->batches))
		batch_destroy(LIST_FIRST(&c->batches));
	if (--c->busy == 0)
		free(c);
}

static void
leave(struct connection *c)
{
	if (--c->busy > 0)
		return;
	if (c->dead)
		free(c);
	else if (c->hung_up && !c->again)
		connection_close(c);
	else
		connection_settle(c);
}

static bool
reads(const struct connection *c)
{
	return !c->dead && !c->stalled && !c->full && !c->finishing;
}

/* Reads on, or leaves what comes in the socket, where it holds the client back. */
static void
update_reading(struct connection *c)
{
	stream_pause(c->stream, !reads(c));
	if (reads(c))
		server_again(c);
}

/* ---- out ---- */

static void
set_deadline(struct connection *c, uint64_t *deadline_ms, uint64_t delay_ms)
{
	if (*deadline_ms != 0)
		return;
	*deadline_ms = clock_ms() + delay_ms;
	server_tick_start(c->server);
}

static void
expect_drain(struct connection *c)
{
	c->sent_seen = c->written - stream_queued(c->stream);
	set_deadline(c, &c->drain_deadline_ms, c->server->drain_timeout_ms);
}

void
connection_send(struct connection *c, const char *line, size_t len)
{
	if (c->dead)
		return;
	stream_write(c->stream, line, len);
	c->written += len;
	if (c->stalled || stream_queued(c->stream) <= WIRE_QUEUE_HIGH)
		return;
	/* Who does not read is not read from. */
	c->stalled = true;
	update_reading(c);
	expect_drain(c);
}

void
connection_send_error(struct connection *c, const char *id, const struct err *err)
{
	struct sbuf *line = &c->server->scratch;

	sbuf_reset(line);
	rpc_error(line, id, err);
	sbuf_addc(line, '\n');
	connection_send(c, line->data, line->len);
}

static void
drained(struct connection *c)
{
	c->drain_deadline_ms = 0;
	if (!c->stalled)
		return;
	c->stalled = false;
	update_reading(c);
}

static void
on_drained(void *arg)
{
	drained(arg);
}

/* Sends what is queued, then closes; reads no more. */
static void
finish(struct connection *c)
{
	c->finishing = true;
	c->line_deadline_ms = 0;
	if (stream_queued(c->stream) > 0)
		expect_drain(c);
	stream_finish(c->stream);
}

void
connection_settle(struct connection *c)
{
	if (c->full && !c->dead && c->in_flight < WIRE_IN_FLIGHT_MAX) {
		c->full = false;
		update_reading(c);
	}
	if (c->eof && c->busy == 0 && !c->dead && !c->stalled && !c->finishing &&
	    c->in_flight == 0 && LIST_EMPTY(&c->batches) && LIST_EMPTY(&c->subscriptions) &&
	    stream_buffered(c->stream) == 0)
		finish(c);
}

/* ---- in ---- */

static struct wire_fds *
take_fds(struct connection *c)
{
	int fds[FDS_MAX];
	size_t count = stream_take_fds(c->stream, fds, FDS_MAX);
	struct wire_fds *taken;

	if (count == 0)
		return NULL;
	taken = xcalloc(1, sizeof(*taken) + count * sizeof(int));
	taken->references = 1;
	taken->count = count;
	memcpy(taken->fds, fds, count * sizeof(int));
	return taken;
}

static void
take_line(struct connection *c, const char *text, size_t len)
{
	struct wire_fds *fds = take_fds(c);
	struct rpc_line line;
	struct err err;

	if (strspn(text, " \t\r") == len) {
		wire_fds_release(fds); /* an empty line is nothing, and harmless */
		return;
	}
	if (rpc_parse(text, len, &line, &err) != 0) {
		connection_send_error(c, NULL, &err);
	} else {
		dispatch_line(c, &line, fds);
	}
	wire_fds_release(fds);
}

static void
refuse_overlong(struct connection *c)
{
	struct err err;

	err_set(&err, E_LIMIT, "a line is longer than %d bytes", RPC_LINE_MAX);
	err_hint(&err, "send large files as descriptors");
	connection_send_error(c, NULL, &err);
	finish(c);
}

/* The last line of a client that closed its sending side needs no newline. */
static void
take_rest(struct connection *c)
{
	size_t len;
	const unsigned char *data = stream_peek(c->stream, &len);
	CLEANUP_FREE char *text = NULL;

	if (len == 0)
		return;
	text = xmalloc(len + 1);
	memcpy(text, data, len);
	text[len] = '\0';
	stream_consume(c->stream, len);
	take_line(c, text, len);
}

/* As many requests as a connection may have wait for their ends: no more is read until one has
 * ended.  Nothing tells meanwhile that the client is gone, except looking. */
static void
fill_up(struct connection *c)
{
	if (c->dead || c->in_flight < WIRE_IN_FLIGHT_MAX)
		return;
	c->full = true;
	update_reading(c);
	server_tick_start(c->server);
}

static void
take_lines(struct connection *c)
{
	bool overlong = false;
	char *line = NULL;
	size_t len;

	if (c->beginning != NULL && reads(c)) {
		dispatch_more(c);
		fill_up(c);
	}
	for (int lines = 0; reads(c); lines++) {
		if (lines == LINES_A_TURN) {
			server_again(c); /* others wait */
			return;
		}
		line = stream_line(c->stream, RPC_LINE_MAX, &len, &overlong);
		if (line == NULL)
			break;
		c->line_deadline_ms = 0;
		take_line(c, line, len);
		fill_up(c);
	}
	if (!reads(c))
		return;
	if (overlong)
		refuse_overlong(c);
	else if (c->eof)
		take_rest(c);
	else if (stream_buffered(c->stream) > 0)
		set_deadline(c, &c->line_deadline_ms, c->server->line_timeout_ms);
}

void
connection_turn(struct connection *c)
{
	c->busy++;
	if (stream_at_eof(c->stream) && !c->eof) {
		c->eof = true;
		server_tick_start(c->server);
	}
	take_lines(c);
	leave(c);
}

static void
on_input(void *arg)
{
	connection_turn(arg);
}

void
connection_refuse_rest(struct connection *c)
{
	struct rpc_line line;
	struct err err;
	bool overlong;
	char *text;
	size_t len;

	while ((text = stream_line(c->stream, RPC_LINE_MAX, &len, &overlong)) != NULL) {
		wire_fds_release(take_fds(c));
		if (rpc_parse(text, len, &line, &err) != 0)
			continue;
		err_set(&err, E_REQUEST, "the request before this one takes the connection over");
		for (size_t i = 0; i < line.count; i++)
			if (line.calls[i].id != NULL)
				connection_send_error(c, line.calls[i].id, &err);
		rpc_line_done(&line);
	}
}

/* ---- time and end ---- */

static void
line_too_slow(struct connection *c)
{
	struct err err;

	log_debug("pid %ld began a line and did not end it", (long)c->peer.pid);
	err_set(&err, E_TIMEOUT, "a line was begun and not ended within %u ms",
	    c->server->line_timeout_ms);
	connection_send_error(c, NULL, &err);
	finish(c);
}

/* Slow is fine; taking nothing at all for so long is not. */
static void
watch_drain(struct connection *c, uint64_t now_ms)
{
	uint64_t sent = c->written - stream_queued(c->stream);

	if (sent != c->sent_seen) {
		c->sent_seen = sent;
		c->drain_deadline_ms = now_ms + c->server->drain_timeout_ms;
	}
	if (stream_queued(c->stream) <= WIRE_QUEUE_LOW && !c->finishing)
		drained(c);
}

bool
connection_tick(struct connection *c, uint64_t now_ms)
{
	if (c->drain_deadline_ms != 0)
		watch_drain(c, now_ms);
	if (c->drain_deadline_ms != 0 && now_ms >= c->drain_deadline_ms) {
		log_info("closing on pid %ld: it does not read its answers", (long)c->peer.pid);
		connection_close(c);
		return false;
	}
	if (c->line_deadline_ms != 0 && now_ms >= c->line_deadline_ms)
		line_too_slow(c);
	/* Half closed is fine, as long as the other half is there. */
	if ((c->eof || c->full) && stream_hung_up(c->stream)) {
		connection_close(c);
		return false;
	}
	return c->drain_deadline_ms != 0 || c->line_deadline_ms != 0 || c->eof || c->full;
}

static void
on_closed(void *arg, int errno_value)
{
	struct connection *c = arg;

	/* Who sends notifications and leaves still has them taken. */
	if (errno_value == 0 && c->again && reads(c))
		c->hung_up = true;
	else
		connection_close(c);
}
