/* SPDX-License-Identifier: MPL-2.0 */
#include "client/relay.h"

#include <errno.h>
#include <json-c/json.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/conn.h"
#include "client/json.h"
#include "client/signals.h"
#include "client/term.h"
#include "lib/base/clock.h"
#include "lib/base/frame.h"
#include "lib/base/mem.h"

enum {
	ESCAPE_KEY = 0x1d,
	CHUNK = 32 << 10,
	OUT_MAX = 256 << 10, /* bytes for the daemon; above it, input waits */
	DRAIN_MS = 2000,     /* for what was typed before Ctrl-] */
};

struct relay {
	struct conn *conn;
	struct sbuf out; /* for the daemon */
	int in_fd;       /* -1: ended, or never there */
	bool remote_end;
};

/* To a descriptor that may be non-blocking because another process made it so. */
static int
write_out(int fd, const void *data, size_t len, struct err *err)
{
	const char *p = data;

	while (len > 0) {
		struct pollfd wait = { .fd = fd, .events = POLLOUT };
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EAGAIN)
			poll(&wait, 1, -1);
		else if (n < 0 && errno != EINTR)
			return err_errno(err, E_IO, errno, "can not write the output");
		if (n > 0) {
			p += n;
			len -= (size_t)n;
		}
	}
	return 0;
}

static void
send_some(struct relay *r)
{
	ssize_t n = send(r->conn->fd, r->out.data, r->out.len, MSG_NOSIGNAL);

	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		sbuf_reset(&r->out); /* the read side tells that it is gone */
		return;
	}
	if (n <= 0)
		return;
	memmove(r->out.data, r->out.data + n, r->out.len - (size_t)n);
	r->out.len -= (size_t)n;
}

static int
receive_some(struct relay *r, struct err *err)
{
	char space[CHUNK];
	ssize_t n = read(r->conn->fd, space, sizeof(space));

	if (n > 0)
		sbuf_add(&r->conn->in, space, (size_t)n);
	else if (n == 0 || errno == ECONNRESET)
		r->remote_end = true;
	else if (errno != EAGAIN && errno != EINTR)
		return err_errno(err, E_IO, errno, "can not read from vmmd");
	return 0;
}

/* Waits for any of: bytes of the daemon, input (when there is room for it), a signal. */
static void
wait_any(struct relay *r, struct pollfd fds[3], int timeout_ms)
{
	fds[0] = (struct pollfd){ .fd = r->conn->fd,
		.events = (short)(POLLIN | (r->out.len > 0 ? POLLOUT : 0)) };
	fds[1] = (struct pollfd){ .fd = r->out.len < OUT_MAX ? r->in_fd : -1, .events = POLLIN };
	fds[2] = (struct pollfd){ .fd = signals_fd(), .events = POLLIN };
	if (poll(fds, 3, timeout_ms) < 0)
		fds[0].revents = fds[1].revents = fds[2].revents = 0;
	if (fds[2].revents != 0)
		signals_drain();
}

/* Bytes read, 0 at the end of the input. */
static ssize_t
read_input(struct relay *r, char *space, size_t size)
{
	ssize_t n;

	do
		n = read(r->in_fd, space, size);
	while (n < 0 && errno == EINTR);
	if (n > 0 || (n < 0 && errno == EAGAIN))
		return n;
	r->in_fd = -1;
	return 0;
}

/* ---- bytes ---- */

/* What was typed before the escape key still goes out, if the daemon takes it. */
static void
drain(struct relay *r)
{
	uint64_t deadline = clock_ms() + DRAIN_MS;

	while (r->out.len > 0 && clock_ms() < deadline) {
		struct pollfd wait = { .fd = r->conn->fd, .events = POLLOUT };

		if (poll(&wait, 1, (int)(deadline - clock_ms())) > 0)
			send_some(r);
	}
}

/* True: the escape key was in it. */
static bool
take_typed(struct relay *r, bool escape)
{
	char space[CHUNK];
	ssize_t n = read_input(r, space, sizeof(space));
	char *key = escape && n > 0 ? memchr(space, ESCAPE_KEY, (size_t)n) : NULL;

	if (n > 0)
		sbuf_add(&r->out, space, key != NULL ? (size_t)(key - space) : (size_t)n);
	return key != NULL;
}

int
relay_bytes(struct conn *conn, int in_fd, int out_fd, bool escape, bool *ret_left, struct err *err)
{
	struct relay r = { .conn = conn, .in_fd = in_fd };
	unsigned interrupts = signals_interrupts();
	bool left = false, half_closed = false;
	int rc = 0;

	while (rc == 0 && !left) {
		struct pollfd fds[3];

		if (conn->in.len > 0) {
			rc = write_out(out_fd, conn->in.data, conn->in.len, err);
			sbuf_reset(&conn->in);
			continue;
		}
		if (r.remote_end)
			break;
		if (r.in_fd < 0 && r.out.len == 0 && !half_closed) {
			shutdown(conn->fd, SHUT_WR);
			half_closed = true;
		}
		wait_any(&r, fds, -1);
		if (fds[2].revents != 0 && signals_interrupts() > interrupts)
			left = true;
		if ((fds[0].revents & POLLOUT) != 0)
			send_some(&r);
		if (fds[1].revents != 0 && take_typed(&r, escape)) {
			drain(&r);
			left = true;
		}
		if ((fds[0].revents & ~POLLOUT) != 0)
			rc = receive_some(&r, err);
	}
	sbuf_done(&r.out);
	*ret_left = left;
	return rc;
}

/* ---- frames ---- */

int
relay_signal_number(const char *name)
{
	static const struct {
		const char *name;
		int number;
	} known[] = {
		{ "ABRT", SIGABRT },
		{ "ALRM", SIGALRM },
		{ "BUS", SIGBUS },
		{ "FPE", SIGFPE },
		{ "HUP", SIGHUP },
		{ "ILL", SIGILL },
		{ "INT", SIGINT },
		{ "KILL", SIGKILL },
		{ "PIPE", SIGPIPE },
		{ "QUIT", SIGQUIT },
		{ "SEGV", SIGSEGV },
		{ "SYS", SIGSYS },
		{ "TERM", SIGTERM },
		{ "TRAP", SIGTRAP },
		{ "USR1", SIGUSR1 },
		{ "USR2", SIGUSR2 },
		{ "XCPU", SIGXCPU },
		{ "XFSZ", SIGXFSZ },
	};

	if (str_starts(name, "SIG"))
		name += 3;
	for (size_t i = 0; i < ARRAY_LEN(known); i++)
		if (str_eq(known[i].name, name))
			return known[i].number;
	return 0;
}

static void
add_frame(struct sbuf *out, enum frame_type type, const void *data, size_t len)
{
	unsigned char header[FRAME_HEADER];

	frame_header(header, type, len);
	sbuf_add(out, header, sizeof(header));
	sbuf_add(out, data, len);
}

static void
add_window(struct sbuf *out, int tty_fd)
{
	CLEANUP_FREE char *text = NULL;
	unsigned columns, rows;

	if (!term_size(tty_fd, &columns, &rows))
		return;
	text = xasprintf("{\"columns\": %u, \"rows\": %u}", columns, rows);
	add_frame(out, FRAME_WINDOW, text, strlen(text));
}

static int
read_exit(const char *payload, size_t len, int *ret_status, struct err *err)
{
	CLEANUP_FREE char *text = xstrndup(payload, len);
	json_object *how = json_tokener_parse(text), *error = json_member(how, "error");
	const char *signal_name = json_string(how, "signal");
	int number, rc = 0;

	if (json_has(how, "status")) {
		*ret_status = (int)(json_int(how, "status") & 0xff);
	} else if (signal_name != NULL) {
		number = relay_signal_number(signal_name);
		*ret_status = number != 0 ? 128 + number : 255;
		fprintf(stderr, "vmctl: the command was ended by the signal %.16s\n", signal_name);
	} else {
		const char *message = error != NULL && json_has(error, "message")
					  ? json_string(error, "message")
					  : json_string(how, "error");

		rc = err_set(err, E_FAILED, "%s",
		    message != NULL ? message : "it is unknown how the command ended");
	}
	json_object_put(how);
	return rc;
}

static int
show(const struct relay_frames *relay, struct term_filter *filter, int fd, const char *data,
    size_t len, struct err *err)
{
	struct sbuf text = { 0 };
	int rc;

	if (!relay->printable)
		return write_out(fd, data, len, err);
	term_filter(filter, data, len, &text);
	rc = write_out(fd, text.data, text.len, err);
	sbuf_done(&text);
	return rc;
}

/* All whole frames that have come.  1: the exit frame was among them; negative: an error. */
static int
take_frames(struct relay *r, const struct relay_frames *relay, struct term_filter filters[2],
    int *ret_status, struct err *err)
{
	struct sbuf *in = &r->conn->in;
	size_t used = 0;
	int rc = 0, found = 0;

	while (rc == 0 && found == 0) {
		enum frame_type type;
		size_t len;
		const char *payload = in->data + used + FRAME_HEADER;
		int whole = in->len == used ? 0
					    : frame_peek((unsigned char *)in->data + used,
						  in->len - used, &type, &len);

		if (whole == 0)
			break;
		if (whole < 0)
			return -err_set(err, E_IO, "vmmd sent something that is no frame");
		if (type == FRAME_STDOUT)
			rc = show(relay, &filters[0], relay->out_fd, payload, len, err);
		else if (type == FRAME_STDERR)
			rc = show(relay, &filters[1], relay->err_fd, payload, len, err);
		else if (type == FRAME_EXIT)
			found = 1;
		if (type == FRAME_EXIT)
			rc = read_exit(payload, len, ret_status, err);
		used += FRAME_HEADER + len;
	}
	if (used > 0) {
		memmove(in->data, in->data + used, in->len - used);
		in->len -= used;
	}
	return rc != 0 ? -rc : found;
}

static void
take_input_frame(struct relay *r)
{
	char space[CHUNK];
	ssize_t n = read_input(r, space, sizeof(space));

	if (n > 0)
		add_frame(&r->out, FRAME_STDIN, space, (size_t)n);
	else if (n == 0)
		add_frame(&r->out, FRAME_STDIN_END, NULL, 0);
}

int
relay_frames(struct conn *conn, const struct relay_frames *relay, int *ret_status, struct err *err)
{
	struct relay r = { .conn = conn, .in_fd = relay->in_fd };
	struct term_filter filters[2] = { 0 };
	unsigned interrupts = signals_interrupts();
	int rc;

	*ret_status = -1;
	if (relay->tty_fd >= 0)
		signals_catch_window();
	for (;;) {
		struct pollfd fds[3];

		rc = take_frames(&r, relay, filters, ret_status, err);
		if (rc != 0 || r.remote_end)
			break;
		wait_any(&r, fds, -1);
		if (signals_interrupts() > interrupts) {
			*ret_status = 130;
			break;
		}
		if (relay->tty_fd >= 0 && signals_window_changed())
			add_window(&r.out, relay->tty_fd);
		if ((fds[0].revents & POLLOUT) != 0)
			send_some(&r);
		if (fds[1].revents != 0)
			take_input_frame(&r);
		if ((fds[0].revents & ~POLLOUT) != 0 && receive_some(&r, err) != 0) {
			rc = -E_IO;
			break;
		}
	}
	sbuf_done(&r.out);
	return rc < 0 ? -rc : 0;
}
