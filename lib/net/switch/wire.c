/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/net/switch/wire.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/net/switch/order.h"

enum { SEND_BATCH = 64, RETRY_MS = 100, SOCKET_BUFFER = 1 << 20 };

static bool
set_address(struct sockaddr_un *address, const char *path)
{
	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	return snprintf(address->sun_path, sizeof(address->sun_path), "%s", path) <
	       (int)sizeof(address->sun_path);
}

static int
new_socket(void)
{
	return socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

/* ---- ports ---- */

int
wire_create(const char *dir, struct fabric *fabric, struct wire **ret_wire, struct err *err)
{
	struct wire *w = xcalloc(1, sizeof(*w));

	w->fabric = fabric;
	w->dir = xstrdup(dir);
	for (unsigned i = 0; i < FABRIC_PORTS; i++)
		w->ports[i].in = w->ports[i].out = -1;
	for (unsigned i = 0; i < FABRIC_INBOX; i++)
		w->inbox[i] = fabric_take(fabric);
	w->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (w->epoll < 0) {
		err_errno(err, E_LIMIT, errno, "can not wait for events");
		wire_destroy(w);
		return E_LIMIT;
	}
	*ret_wire = w;
	return 0;
}

static void
close_port(struct wire *w, unsigned port)
{
	struct wire_port *p = &w->ports[port];
	CLEANUP_FREE char *path = switch_path(w->dir, port);

	if (p->out >= 0)
		close(p->out);
	if (p->in >= 0) {
		close(p->in);
		unlink(path);
	}
	*p = (struct wire_port){ .in = -1, .out = -1 };
}

void
wire_destroy(struct wire *w)
{
	if (w == NULL)
		return;
	for (unsigned i = 0; i < FABRIC_PORTS; i++)
		close_port(w, i);
	if (w->epoll >= 0)
		close(w->epoll);
	fabric_destroy(w->fabric);
	free(w->dir);
	free(w);
}

/* A name that a dead switch left is taken over; one behind which somebody listens is not. */
static int
clear_name(const char *path, const struct sockaddr_un *address, struct err *err)
{
	CLEANUP_FD int probe = new_socket();
	struct stat st;

	if (lstat(path, &st) < 0 && errno == ENOENT)
		return 0;
	if (probe >= 0 &&
	    (connect(probe, (const struct sockaddr *)address, sizeof(*address)) == 0 ||
		(errno != ECONNREFUSED && errno != ENOENT)))
		return err_set(err, E_EXISTS, "'%s' is used by another process", path);
	if (unlink(path) < 0 && errno != ENOENT)
		return err_errno(err, E_IO, errno, "can not remove the old '%s'", path);
	return 0;
}

static int
open_port(struct wire *w, unsigned port, struct err *err)
{
	struct wire_port *p = &w->ports[port];
	CLEANUP_FREE char *path = switch_path(w->dir, port);
	struct epoll_event in = { .events = EPOLLIN, .data.u64 = wire_tag(WIRE_IN, port) };
	struct epoll_event out = { .events = 0, .data.u64 = wire_tag(WIRE_OUT, port) };
	const int size = SOCKET_BUFFER;
	CLEANUP_FD int fd = new_socket();
	struct sockaddr_un address;
	int rc;

	if (!set_address(&address, path))
		return err_set(err, E_LIMIT, "the socket path '%s' is too long", path);
	rc = clear_name(path, &address, err);
	if (rc != 0)
		return rc;
	p->out = new_socket();
	if (fd < 0 || p->out < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return err_errno(err, E_IO, errno, "can not make the socket '%s'", path);
	p->in = TAKE_FD(fd);
	/* More frames under way than the usual limit has room for; a smaller one works, too. */
	setsockopt(p->out, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	if (epoll_ctl(w->epoll, EPOLL_CTL_ADD, p->in, &in) < 0 ||
	    epoll_ctl(w->epoll, EPOLL_CTL_ADD, p->out, &out) < 0)
		return err_errno(err, E_LIMIT, errno, "can not watch the socket '%s'", path);
	return 0;
}

int
wire_add(struct wire *w, unsigned port, const char *mac, struct err *err)
{
	uint8_t bytes[MAC_BYTES];
	int rc;

	if (mac != NULL && !mac_parse(mac, bytes))
		return err_set(err, E_PARAMS, "'%s' is not the address of a station", mac);
	if (w->fabric->ports[port].present)
		return err_set(err, E_STATE, "port %u is there already", port);
	if (!fabric_add(w->fabric, port, mac != NULL ? bytes : NULL))
		return err_set(err, E_EXISTS, "the address '%s' is another port's", mac);
	rc = open_port(w, port, err);
	if (rc != 0) {
		close_port(w, port);
		fabric_remove(w->fabric, port);
	}
	return rc;
}

int
wire_remove(struct wire *w, unsigned port, struct err *err)
{
	if (!w->fabric->ports[port].present)
		return err_set(err, E_NOT_FOUND, "there is no port %u", port);
	close_port(w, port);
	fabric_remove(w->fabric, port);
	return 0;
}

/* ---- frames out ---- */

static void
await_room(struct wire *w, unsigned port, bool stuck)
{
	struct wire_port *p = &w->ports[port];
	struct epoll_event event = { .events = stuck ? EPOLLOUT : 0,
		.data.u64 = wire_tag(WIRE_OUT, port) };

	if (p->stuck != stuck && epoll_ctl(w->epoll, EPOLL_CTL_MOD, p->out, &event) == 0)
		p->stuck = stuck;
}

static bool
reach(struct wire *w, unsigned port, uint64_t now_ms)
{
	struct wire_port *p = &w->ports[port];
	struct sockaddr_un address;
	CLEANUP_FREE char *path = NULL;

	if (p->connected)
		return true;
	if (now_ms < p->retry_ms)
		return false;
	path = switch_station_path(w->dir, port);
	p->connected = set_address(&address, path) &&
		       connect(p->out, (struct sockaddr *)&address, sizeof(address)) == 0;
	p->retry_ms = p->connected ? 0 : now_ms + RETRY_MS;
	return p->connected;
}

static int
send_some(struct wire *w, unsigned port)
{
	const struct fabric_port *p = &w->fabric->ports[port];
	unsigned count = p->waiting < SEND_BATCH ? p->waiting : SEND_BATCH;
	struct mmsghdr messages[SEND_BATCH];
	struct iovec parts[SEND_BATCH];

	memset(messages, 0, count * sizeof(*messages));
	for (unsigned i = 0; i < count; i++) {
		uint32_t buffer = fabric_waiting(p, i);

		parts[i] =
		    (struct iovec){ fabric_buffer(w->fabric, buffer), w->fabric->lengths[buffer] };
		messages[i].msg_hdr.msg_iov = &parts[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	return sendmmsg(w->ports[port].out, messages, count, MSG_NOSIGNAL);
}

/* Until nothing waits, or the station is full or not there. */
static void
send_waiting(struct wire *w, unsigned port, uint64_t now_ms)
{
	const struct fabric_port *p = &w->fabric->ports[port];

	while (p->waiting > 0) {
		int n;

		if (!reach(w, port, now_ms)) {
			fabric_dropped(w->fabric, port, p->waiting, DROP_AWAY);
			break;
		}
		n = send_some(w, port);
		if (n > 0) {
			fabric_sent(w->fabric, port, (unsigned)n);
		} else if (errno == EAGAIN || errno == EWOULDBLOCK) {
			await_room(w, port, true);
			return;
		} else if (errno == ECONNREFUSED || errno == ENOTCONN || errno == ECONNRESET) {
			/* That station is gone; perhaps there is a new one at its name already. */
			w->ports[port].connected = false;
		} else if (errno != EINTR) {
			fabric_dropped(w->fabric, port, 1, DROP_FULL);
		}
	}
	await_room(w, port, false);
}

void
wire_flush(struct wire *w, uint64_t now_ms)
{
	int port;

	while ((port = fabric_woken(w->fabric)) >= 0)
		if (w->fabric->ports[port].present && !w->ports[port].stuck)
			send_waiting(w, (unsigned)port, now_ms);
}

void
wire_on_room(struct wire *w, unsigned port, uint64_t now_ms)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (!w->fabric->ports[port].present)
		return;
	/* An error that is not fetched would be told again and again. */
	getsockopt(w->ports[port].out, SOL_SOCKET, SO_ERROR, &error, &len);
	send_waiting(w, port, now_ms);
}

/* ---- frames in ---- */

void
wire_on_input(struct wire *w, unsigned port, uint64_t now_ms)
{
	struct fabric *f = w->fabric;
	struct mmsghdr messages[FABRIC_INBOX];
	struct iovec parts[FABRIC_INBOX];
	int n;

	if (!f->ports[port].present)
		return;
	memset(messages, 0, sizeof(messages));
	for (unsigned i = 0; i < FABRIC_INBOX; i++) {
		parts[i] = (struct iovec){ fabric_buffer(f, w->inbox[i]), f->frame_max + 1 };
		messages[i].msg_hdr.msg_iov = &parts[i];
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	n = recvmmsg(w->ports[port].in, messages, FABRIC_INBOX, MSG_DONTWAIT, NULL);
	for (int i = 0; i < n; i++) {
		fabric_input(f, port, w->inbox[i], messages[i].msg_len, now_ms);
		w->inbox[i] = fabric_take(f);
	}
	if (n > 0) /* it is there, whatever was found before */
		w->ports[port].retry_ms = 0;
	wire_flush(w, now_ms);
}
