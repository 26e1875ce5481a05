/* SPDX-License-Identifier: MPL-2.0
 *
 * The WebSocket's connection.  Loop thread only.
 *
 * libevent's HTTP client closes after status 101, so this is a bufferevent with the upgrade and the
 * frames done here.  What ends the connection is noted down, and told in a turn of the loop of its
 * own, from the one timer; before that it is the deadline of whatever is waited for. */
#include "lib/hypervisor/propolis/websocket.h"

#include <assert.h>
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/event.h>
#include <event2/util.h>
#include <json-c/json.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/hypervisor/propolis/upgrade.h"
#include "lib/hypervisor/propolis/wire.h"
#include "lib/hypervisor/propolis/wsframe.h"

enum { QUEUE_MAX = 256 << 10, CLOSE_GRACE_MS = 1000, STATUS_UPGRADED = 101, STATUS_FINAL = 200 };

enum ws_state {
	WS_CONNECTING,
	WS_UPGRADING, /* the request was sent */
	WS_REFUSED,   /* the rest of the refusal is awaited */
	WS_OPEN,
	WS_CLOSING, /* our close frame is being sent */
	WS_ENDING,  /* to be told */
	WS_CLOSED,  /* was told */
};

struct websocket {
	struct loop *loop;
	const struct websocket_handler *handler;
	void *arg;
	struct wire_peer peer;
	char *path, *label; /* label: without the query */
	char *key;
	uint64_t idle_timeout_ms;
	struct bufferevent *buffer; /* NULL: none yet, or no more */
	struct timer *timer;
	enum ws_state state;
	bool pinged; /* and nothing came since */
	struct upgrade_reply reply;
	struct wsframe_reader reader;
	/* How it ended. */
	unsigned code;
	int status;
	struct err err;
	int busy; /* callbacks running; freeing waits for them */
	bool dead;
};

static void
leave(struct websocket *ws)
{
	if (--ws->busy > 0 || !ws->dead)
		return;
	wsframe_reader_done(&ws->reader);
	free(ws->path);
	free(ws->label);
	free(ws->key);
	free(ws);
}

/* ---- endings ---- */

static void
release(struct websocket *ws)
{
	if (ws->buffer != NULL)
		bufferevent_free(TAKE(ws->buffer));
}

static void
settle(struct websocket *ws)
{
	if (ws->state >= WS_ENDING)
		return;
	ws->state = WS_ENDING;
	if (ws->buffer != NULL)
		bufferevent_disable(ws->buffer, EV_READ | EV_WRITE);
	timer_arm(ws->timer, 0);
}

static void
tell(struct websocket *ws)
{
	ws->state = WS_CLOSED;
	release(ws);
	ws->handler->on_closed(
	    ws->arg, ws->code, ws->status, ws->err.code != E_OK ? &ws->err : NULL);
}

/* ---- sending ---- */

static size_t
compose(unsigned char *out, enum wsframe_opcode opcode, const void *data, size_t len)
{
	unsigned char mask[4];
	int rc = RAND_bytes(mask, sizeof(mask));

	assert(rc == 1);
	return wsframe_write(out, opcode, mask, data, len);
}

static void
send_frame(struct websocket *ws, enum wsframe_opcode opcode, const void *data, size_t len)
{
	CLEANUP_FREE unsigned char *frame = xmalloc(WSFRAME_HEADER_MAX + len);

	bufferevent_write(ws->buffer, frame, compose(frame, opcode, data, len));
}

static size_t
queued(const struct websocket *ws)
{
	return evbuffer_get_length(bufferevent_get_output(ws->buffer));
}

/* Ends when the close frame is sent, or could not be for a while.  code 0: none. */
static void
start_closing(struct websocket *ws, unsigned code)
{
	unsigned char payload[2] = { (unsigned char)(code >> 8), (unsigned char)code };

	send_frame(ws, WSFRAME_CLOSE, payload, code == 0 ? 0 : sizeof(payload));
	ws->state = WS_CLOSING;
	bufferevent_disable(ws->buffer, EV_READ);
	timer_arm(ws->timer, CLOSE_GRACE_MS);
}

int
websocket_send(struct websocket *ws, const void *data, size_t len, struct err *err)
{
	loop_assert(ws->loop);
	if (ws->state != WS_OPEN)
		return err_set(err, E_STATE, "the connection to %s is not open", ws->peer.text);
	if (len > QUEUE_MAX || queued(ws) > QUEUE_MAX - len)
		return err_set(err, E_LIMIT, "%s does not take more input now", ws->peer.text);
	if (len > 0)
		send_frame(ws, WSFRAME_BINARY, data, len);
	return 0;
}

/* ---- frames ---- */

static void
on_control(struct websocket *ws, const struct wsframe_event *event)
{
	switch (event->opcode) {
	case WSFRAME_PING:
		/* Who pings without reading gets no answers without end. */
		if (queued(ws) <= QUEUE_MAX)
			send_frame(ws, WSFRAME_PONG, event->data, event->len);
		break;
	case WSFRAME_CLOSE:
		ws->code = event->code;
		start_closing(ws, event->code);
		break;
	case WSFRAME_PONG:
	case WSFRAME_CONTINUATION:
	case WSFRAME_TEXT:
	case WSFRAME_BINARY:
		break;
	}
}

static void
on_frame(struct websocket *ws, const struct wsframe_event *event)
{
	switch (event->kind) {
	case WSFRAME_MORE:
		break;
	case WSFRAME_DATA:
		ws->handler->on_binary(ws->arg, event->data, event->len);
		break;
	case WSFRAME_MESSAGE:
		ws->handler->on_text(ws->arg, (const char *)event->data, event->len);
		break;
	case WSFRAME_CONTROL:
		on_control(ws, event);
		break;
	case WSFRAME_FAULT:
		err_set(&ws->err, E_FAILED, "%s: %s sent %s", ws->label, ws->peer.text, event->why);
		start_closing(ws, event->code);
		break;
	}
}

static void
read_frames(struct websocket *ws, struct evbuffer *input)
{
	size_t len;

	while (
	    !ws->dead && ws->state == WS_OPEN && (len = evbuffer_get_contiguous_space(input)) > 0) {
		const unsigned char *data = evbuffer_pullup(input, (ev_ssize_t)len);
		struct wsframe_event event;
		size_t used = wsframe_read(&ws->reader, data, len, &event);

		on_frame(ws, &event);
		if (!ws->dead)
			evbuffer_drain(input, used);
	}
}

/* ---- the upgrade ---- */

static void
open_up(struct websocket *ws)
{
	ws->state = WS_OPEN;
	timer_disarm(ws->timer);
	if (ws->idle_timeout_ms > 0)
		timer_arm(ws->timer, ws->idle_timeout_ms);
	ws->handler->on_open(ws->arg);
}

static void
read_head(struct websocket *ws, struct evbuffer *input)
{
	size_t len = evbuffer_get_length(input);
	const char *data = (const char *)evbuffer_pullup(input, -1);
	struct upgrade_reply *reply = &ws->reply;
	int rc = len > 0 ? upgrade_read(data, len, reply, &ws->err) : 0;

	if (rc == 0)
		return;
	if (rc == 1 && reply->status == STATUS_UPGRADED)
		rc = upgrade_check(data, reply->head_len, ws->key, &ws->err) == 0 ? 1 : -1;
	if (rc != 1) {
		err_wrap(&ws->err, "%s at %s", ws->label, ws->peer.text);
		settle(ws);
		return;
	}
	evbuffer_drain(input, reply->head_len);
	if (reply->status == STATUS_UPGRADED)
		open_up(ws);
	else if (reply->status >= STATUS_FINAL)
		ws->state = WS_REFUSED;
	else
		read_head(ws, input); /* informational: the answer follows */
}

/* final: no more will come.  The status is known already, so nothing after it is an error. */
static void
read_refusal(struct websocket *ws, struct evbuffer *input, bool final)
{
	size_t len = evbuffer_get_length(input);
	const char *data = len > 0 ? (const char *)evbuffer_pullup(input, -1) : "";
	struct sbuf body = { 0 };
	struct wire_words words = { 0 };
	struct json_object *json = NULL;

	if (upgrade_body(&ws->reply, data, len, &body) || final) {
		ws->status = ws->reply.status;
		if (body.len > 0)
			wire_json(body.data, body.len, &json, NULL);
		wire_words_init(&words, json);
		wire_refusal(&ws->err, ws->label, ws->status, &words, body.data, body.len);
		settle(ws);
	}
	json_object_put(json);
	wire_words_done(&words);
	sbuf_done(&body);
}

/* ---- what libevent tells ---- */

static void
on_readable(struct bufferevent *buffer, void *arg)
{
	struct evbuffer *input = bufferevent_get_input(buffer);
	struct websocket *ws = arg;

	ws->busy++;
	if (ws->state == WS_UPGRADING)
		read_head(ws, input);
	if (!ws->dead && ws->state == WS_REFUSED)
		read_refusal(ws, input, false);
	if (!ws->dead && ws->state == WS_OPEN) {
		ws->pinged = false;
		if (ws->idle_timeout_ms > 0)
			timer_arm(ws->timer, ws->idle_timeout_ms);
		read_frames(ws, input);
	}
	leave(ws);
}

static void
on_drained(struct bufferevent *buffer, void *arg)
{
	struct websocket *ws = arg;

	if (ws->state == WS_CLOSING)
		settle(ws);
}

static void
on_broken(struct websocket *ws, bool eof, int errno_value)
{
	const char *peer = ws->peer.text;

	switch (ws->state) {
	case WS_CONNECTING:
		err_errno(
		    &ws->err, E_NETWORK, errno_value, "%s: nobody answers at %s", ws->label, peer);
		break;
	case WS_UPGRADING:
		err_set(&ws->err, E_NETWORK, "%s: %s ended the connection within the answer",
		    ws->label, peer);
		break;
	case WS_REFUSED:
		read_refusal(ws, bufferevent_get_input(ws->buffer), true);
		break;
	case WS_OPEN:
		if (eof)
			err_set(&ws->err, E_NETWORK, "%s: %s ended the connection without a word",
			    ws->label, peer);
		else
			err_errno(&ws->err, E_NETWORK, errno_value,
			    "%s: the connection to %s broke", ws->label, peer);
		break;
	case WS_CLOSING:
	case WS_ENDING:
	case WS_CLOSED:
		break;
	}
	settle(ws);
}

static void
on_event(struct bufferevent *buffer, short what, void *arg)
{
	int errno_value = EVUTIL_SOCKET_ERROR();
	struct websocket *ws = arg;

	if ((what & BEV_EVENT_CONNECTED) != 0) {
		CLEANUP_FREE char *request = upgrade_request(ws->path, ws->peer.text, ws->key);

		ws->state = WS_UPGRADING;
		bufferevent_write(buffer, request, strlen(request));
		bufferevent_enable(buffer, EV_READ);
	} else if ((what & (BEV_EVENT_EOF | BEV_EVENT_ERROR)) != 0) {
		on_broken(ws, (what & BEV_EVENT_EOF) != 0, errno_value);
	}
}

static void
on_timer(void *arg)
{
	struct websocket *ws = arg;

	ws->busy++;
	switch (ws->state) {
	case WS_CONNECTING:
	case WS_UPGRADING:
		err_set(&ws->err, E_TIMEOUT, "%s: no whole answer from %s in time", ws->label,
		    ws->peer.text);
		tell(ws);
		break;
	case WS_REFUSED:
		read_refusal(ws, bufferevent_get_input(ws->buffer), true);
		break;
	case WS_OPEN:
		if (ws->pinged) {
			err_set(&ws->err, E_TIMEOUT, "%s: %s answers no more", ws->label,
			    ws->peer.text);
			tell(ws);
			break;
		}
		ws->pinged = true;
		send_frame(ws, WSFRAME_PING, NULL, 0);
		timer_arm(ws->timer, ws->idle_timeout_ms);
		break;
	case WS_CLOSING:
	case WS_ENDING:
		tell(ws);
		break;
	case WS_CLOSED:
		break;
	}
	leave(ws);
}

/* ---- life ---- */

static int
start_connecting(struct websocket *ws)
{
	const struct sockaddr *addr = (const struct sockaddr *)&ws->peer.addr;
	int fd = socket(addr->sa_family, SOCK_STREAM, 0), one = 1;

	if (fd < 0)
		return err_errno(&ws->err, E_NETWORK, errno, "%s", ws->label);
	evutil_make_socket_nonblocking(fd);
	evutil_make_socket_closeonexec(fd);
	/* What is typed goes out at once. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(fd, addr, ws->peer.len) != 0 && errno != EINPROGRESS && errno != EINTR) {
		int errno_value = errno;

		close(fd);
		return err_errno(&ws->err, E_NETWORK, errno_value, "%s: nobody answers at %s",
		    ws->label, ws->peer.text);
	}
	ws->buffer = bufferevent_socket_new(loop_event_base(ws->loop), fd, BEV_OPT_CLOSE_ON_FREE);
	assert(ws->buffer != NULL);
	bufferevent_setcb(ws->buffer, on_readable, on_drained, on_event, ws);
	/* No address: the attempt is under way. */
	bufferevent_socket_connect(ws->buffer, NULL, 0);
	return 0;
}

struct websocket *
websocket_create(struct loop *loop, const struct websocket_target *target,
    const struct websocket_handler *handler, void *arg)
{
	struct websocket *ws = xcalloc(1, sizeof(*ws));
	unsigned char random[16];
	int rc = RAND_bytes(random, sizeof(random));

	loop_assert(loop);
	assert(rc == 1);
	ws->loop = loop;
	ws->handler = handler;
	ws->arg = arg;
	ws->path = xstrdup(target->path);
	ws->label = xasprintf("GET %.*s", (int)strcspn(target->path, "?"), target->path);
	ws->key = str_base64(random, sizeof(random));
	ws->idle_timeout_ms = target->idle_timeout_ms;
	ws->timer = timer_create_on(loop, on_timer, ws);
	timer_arm(ws->timer, target->open_timeout_ms);
	if (wire_peer_init(&ws->peer, target->host, target->port, &ws->err) != 0 ||
	    start_connecting(ws) != 0)
		settle(ws);
	return ws;
}

void
websocket_destroy(struct websocket *ws)
{
	unsigned char frame[WSFRAME_HEADER_MAX + 2];
	static const unsigned char normal[2] = { WSFRAME_NORMAL >> 8, WSFRAME_NORMAL & 0xff };

	if (ws == NULL)
		return;
	loop_assert(ws->loop);
	assert(!ws->dead);
	/* Only if no other frame is on its way: then it can go out whole, here and now. */
	if (ws->state == WS_OPEN && queued(ws) == 0)
		(void)send(bufferevent_getfd(ws->buffer), frame,
		    compose(frame, WSFRAME_CLOSE, normal, sizeof(normal)), MSG_NOSIGNAL);
	release(ws);
	timer_destroy(TAKE(ws->timer));
	ws->busy++;
	ws->dead = true;
	leave(ws);
}
