/* SPDX-License-Identifier: MPL-2.0
 *
 * A command between a client's frames and the guest.  Both directions are bounded: what one side
 * does not take is not read from the other. */
#include <errno.h>
#include <json-c/json.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/base/clock.h"
#include "lib/base/frame.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/ssh/session.h"

enum { CHUNK = 32768, OUT_MAX = 1 << 18, IN_MAX = 1 << 17, FLUSH_MS = 5000 };

struct relay {
	struct ssh *ssh;
	LIBSSH2_CHANNEL *channel;
	const struct ssh_limit *limit;
	int fd;
	bool gone; /* the client */
	struct sbuf in, out;
	size_t in_at, out_at; /* what was dealt with already */
	size_t frame_at;      /* of the payload of the first stdin frame */
};

static void
drop_used(struct sbuf *sb, size_t *at, size_t max)
{
	if (*at < sb->len && *at <= max)
		return;
	if (*at > 0 && *at < sb->len)
		memmove(sb->data, sb->data + *at, sb->len - *at);
	sb->len -= *at;
	*at = 0;
}

/* ---- to the client ---- */

static void
queue_frame(struct relay *r, enum frame_type type, const void *data, size_t len)
{
	unsigned char head[FRAME_HEADER];

	frame_header(head, type, len);
	sbuf_add(&r->out, head, sizeof(head));
	sbuf_add(&r->out, data, len);
}

static void
on_output(void *arg, enum ssh_stream stream, const void *data, size_t len)
{
	queue_frame(arg, stream == SSH_STDOUT ? FRAME_STDOUT : FRAME_STDERR, data, len);
}

static bool
flush_out(struct relay *r)
{
	bool moved = false;
	ssize_t n;

	while (!r->gone && r->out_at < r->out.len) {
		n = send(r->fd, r->out.data + r->out_at, r->out.len - r->out_at,
		    MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			break;
		if (n < 0)
			r->gone = true;
		else
			r->out_at += (size_t)n;
		moved = true;
	}
	drop_used(&r->out, &r->out_at, OUT_MAX);
	return moved;
}

/* ---- from the client ---- */

static bool
fill_in(struct relay *r)
{
	char chunk[CHUNK];
	ssize_t n;

	if (r->gone || r->in.len - r->in_at >= IN_MAX)
		return false;
	do
		n = recv(r->fd, chunk, sizeof(chunk), MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return false;
	if (n <= 0)
		r->gone = true;
	else
		sbuf_add(&r->in, chunk, (size_t)n);
	return true;
}

static void
set_window(struct relay *r, const char *data, size_t len)
{
	CLEANUP_FREE char *text = xstrndup(data, len);
	json_object *size = json_tokener_parse(text), *columns = NULL, *rows = NULL;

	if (json_object_is_type(size, json_type_object) &&
	    json_object_object_get_ex(size, "columns", &columns) &&
	    json_object_object_get_ex(size, "rows", &rows) && json_object_get_int(columns) > 0 &&
	    json_object_get_int(rows) > 0)
		(void)SSH_CALL(r->ssh, r->limit, NULL,
		    libssh2_channel_request_pty_size_ex(
			r->channel, json_object_get_int(columns), json_object_get_int(rows), 0, 0));
	json_object_put(size);
}

/* 1: the frame is done; 0: the guest takes no more now; otherwise -1 with err. */
static int
deal_with(struct relay *r, enum frame_type type, const char *data, size_t len, struct err *err)
{
	ssize_t n;

	switch (type) {
	case FRAME_STDIN:
		if (r->frame_at < len) {
			n = ssh_channel_write(r->ssh, r->channel, data + r->frame_at,
			    len - r->frame_at, r->limit, err);
			if (n < 0)
				return -1;
			r->frame_at += (size_t)n;
		}
		return r->frame_at == len;
	case FRAME_STDIN_END:
		return SSH_CALL(r->ssh, r->limit, err, libssh2_channel_send_eof(r->channel)) > 0
			   ? -1
			   : 1;
	case FRAME_WINDOW:
		set_window(r, data, len);
		return 1;
	default:
		err_set(err, E_REQUEST, "the client sent a frame of type %d", (int)type);
		return -1;
	}
}

static int
take_in(struct relay *r, bool *moved, struct err *err)
{
	enum frame_type type;
	size_t len, before;
	int whole, done;

	for (;;) {
		whole = frame_peek((const unsigned char *)r->in.data + r->in_at,
		    r->in.len - r->in_at, &type, &len);
		if (whole < 0)
			return err_set(err, E_REQUEST, "the client sent what is not a frame");
		if (whole == 0)
			break;
		before = r->frame_at;
		done = deal_with(r, type, r->in.data + r->in_at + FRAME_HEADER, len, err);
		if (done < 0)
			return (int)err->code;
		*moved = *moved || done > 0 || r->frame_at > before;
		if (done == 0)
			break;
		r->in_at += FRAME_HEADER + len;
		r->frame_at = 0;
	}
	drop_used(&r->in, &r->in_at, IN_MAX);
	return 0;
}

/* ---- both ---- */

static int
wait_both(struct relay *r, const struct ssh_limit *limit, struct err *err)
{
	struct pollfd client = { .fd = r->fd };
	int own = r->ssh->fd, rc;

	if (r->in.len - r->in_at < IN_MAX)
		client.events |= POLLIN;
	if (r->out_at < r->out.len)
		client.events |= POLLOUT;
	if (r->out.len - r->out_at >= OUT_MAX)
		r->ssh->fd = -1; /* the client has to take something first */
	rc = ssh_wait(r->ssh, limit, &client, 1, r->ssh->exited ? SSH_LINGER_MS : UINT64_MAX, err);
	r->ssh->fd = own;
	return rc;
}

static int
pump(struct relay *r, struct err *err)
{
	uint64_t silent_since = clock_ms();
	bool moved;
	ssize_t n;
	int rc;

	for (;;) {
		moved = flush_out(r);
		moved = fill_in(r) || moved;
		rc = ssh_check(r->limit, err);
		if (rc == 0)
			rc = take_in(r, &moved, err);
		if (rc != 0)
			return rc;
		if (r->gone)
			return err_set(err, E_CANCELLED, "the client went away");
		if (r->out.len - r->out_at < OUT_MAX) {
			n = ssh_channel_read(
			    r->ssh, r->channel, on_output, r, 2 * CHUNK, r->limit, err);
			if (n < 0)
				return (int)err->code;
			if (n == 0 && libssh2_channel_eof(r->channel))
				return 0;
			moved = moved || n > 0;
		}
		if (moved) {
			silent_since = clock_ms();
			continue;
		}
		if (r->ssh->exited && r->out.len == 0 && clock_ms() - silent_since >= SSH_LINGER_MS)
			return 0;
		rc = wait_both(r, r->limit, err);
		if (rc != 0)
			return rc;
	}
}

static void
queue_exit(struct relay *r, const struct ssh_result *result)
{
	json_object *how = json_object_new_object();
	const char *text;

	if (result->signal[0] != '\0')
		json_object_object_add(how, "signal", json_object_new_string(result->signal));
	else
		json_object_object_add(how, "status", json_object_new_int(result->status));
	text = json_object_to_json_string_ext(how, JSON_C_TO_STRING_PLAIN);
	queue_frame(r, FRAME_EXIT, text, strlen(text));
	json_object_put(how);
}

/* Frames are sent whole, also before an error of which the caller tells the client. */
static void
flush_rest(struct relay *r)
{
	struct ssh_limit limit = ssh_limit_in(NULL, FLUSH_MS, "the last output");

	while (flush_out(r), !r->gone && r->out_at < r->out.len) {
		struct pollfd client = { .fd = r->fd, .events = POLLOUT };
		int own = r->ssh->fd, rc;

		r->ssh->fd = -1;
		rc = ssh_wait(r->ssh, &limit, &client, 1, UINT64_MAX, NULL);
		r->ssh->fd = own;
		if (rc != 0)
			break;
	}
}

int
ssh_relay(struct ssh *ssh, const struct ssh_relay *relay, int fd, struct job *job, struct err *err)
{
	struct ssh_limit limit = ssh_limit_in(job, 0, "the command");
	struct relay r = { .ssh = ssh, .limit = &limit, .fd = fd };
	struct err own = ERR_INIT;
	struct ssh_result result;
	int rc;

	rc = ssh_channel_open(
	    ssh, relay->command, relay->tty ? relay : NULL, &limit, &r.channel, &own);
	if (rc == 0) {
		rc = pump(&r, &own);
		if (rc == 0)
			rc = ssh_channel_result(ssh, r.channel, &limit, &result, &own);
		if (rc == 0)
			queue_exit(&r, &result);
		flush_rest(&r);
		ssh_channel_close(ssh, r.channel, rc == 0);
	}
	sbuf_done(&r.in);
	sbuf_done(&r.out);
	if (rc != 0 && err != NULL)
		*err = own;
	return rc;
}
