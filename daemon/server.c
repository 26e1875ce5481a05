/* SPDX-License-Identifier: MPL-2.0
 *
 * Accepting connections: who may, how many, and what happens when descriptors run out. */
#include "daemon/server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/wire.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/stream.h"

enum {
	ACCEPT_A_TURN = 64, /* so that a storm of connections does not starve those that exist */
	ACCEPT_PAUSE_MS = 100,
	KEPT_FOR_ROOT = 8, /* system: connections beyond the limit, to look at what fills it */
	FAREWELL_MS = 200
};

static size_t
count_of(const struct server *server, uid_t uid)
{
	const struct connection *c;
	size_t count = 0;

	TAILQ_FOREACH(c, &server->connections, link)
	count += c->peer.uid == uid;
	return count;
}

static int
admit(const struct server *server, const struct peer *peer, struct err *err)
{
	size_t limit = server->max_connections;

	if (!authz(peer, OBSERVE, server->system)) {
		err_set(err, E_PERMISSION, "this vmmd serves user %u only, not %u",
		    (unsigned)geteuid(), (unsigned)peer->uid);
		err_hint(err, "run your own: 'vmctl' starts one, or use the system's");
		return E_PERMISSION;
	}
	if (server->system && peer->uid == 0)
		limit += KEPT_FOR_ROOT;
	if (server->count >= limit)
		return err_set(err, E_LIMIT, "there are %zu connections, and no more are taken",
		    server->count);
	if (server->system && server->max_per_uid > 0 && peer->uid != 0 &&
	    count_of(server, peer->uid) >= server->max_per_uid)
		return err_set(err, E_LIMIT, "you have %u connections, and no more are taken",
		    server->max_per_uid);
	return 0;
}

/* Says why, if the socket takes it at once, and closes. */
static void
turn_away(int fd, const struct err *err)
{
	struct sbuf line = { 0 };

	rpc_error(&line, NULL, err);
	sbuf_addc(&line, '\n');
	if (send(fd, line.data, line.len, MSG_NOSIGNAL | MSG_DONTWAIT) < 0)
		log_debug("turning a client away: %s", strerror(errno));
	sbuf_done(&line);
	close(fd);
}

static void
accepted(struct server *server, int fd)
{
	struct peer peer;
	struct err err;

	if (!peer_read(fd, &peer)) {
		close(fd);
		return;
	}
	if (admit(server, &peer, &err) != 0) {
		log_info("turned away pid %ld of user %u: %s", (long)peer.pid, (unsigned)peer.uid,
		    err.msg);
		turn_away(fd, &err);
		return;
	}
	connection_create(server, fd, &peer);
}

static int
open_spare(void)
{
	return open("/dev/null", O_RDONLY | O_CLOEXEC);
}

/* Without a descriptor for it a client would wait and never learn why; one is kept for this. */
static void
drop_one(struct server *server)
{
	struct err err;
	int fd;

	if (server->spare_fd < 0)
		return;
	close(TAKE_FD(server->spare_fd));
	fd = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd >= 0) {
		err_set(&err, E_LIMIT, "vmmd has no descriptors left");
		err_hint(&err, "try again soon; LimitNOFILE= of its service is the limit");
		turn_away(fd, &err);
	}
	server->spare_fd = open_spare();
}

static void
on_acceptable(void *arg, unsigned events)
{
	struct server *server = arg;

	for (int i = 0; i < ACCEPT_A_TURN && server->fd >= 0; i++) {
		int fd = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

		if (fd >= 0) {
			accepted(server, fd);
			continue;
		}
		if (errno == EINTR || errno == ECONNABORTED)
			continue;
		if (errno == EAGAIN)
			return;
		/* The one waiting would wake us again and again, and could not be taken. */
		log_warn("can not accept a connection: %s", strerror(errno));
		if (errno == EMFILE || errno == ENFILE)
			drop_one(server);
		watch_set(server->watch, 0);
		timer_arm(server->pause, ACCEPT_PAUSE_MS);
		return;
	}
}

static void
accept_again(void *arg)
{
	struct server *server = arg;

	if (server->watch != NULL)
		watch_set(server->watch, LOOP_READ);
}

static void
on_tick(void *arg)
{
	struct server *server = arg;
	uint64_t now_ms = clock_ms();
	struct connection *c, *next;
	bool needed = false;

	for (c = TAILQ_FIRST(&server->connections); c != NULL; c = next) {
		next = TAILQ_NEXT(c, link);
		needed |= connection_tick(c, now_ms);
	}
	if (needed)
		timer_arm(server->tick, server->tick_ms);
}

void
server_tick_start(struct server *server)
{
	if (!timer_armed(server->tick))
		timer_arm(server->tick, server->tick_ms);
}

static void
on_turn(void *arg)
{
	struct server *server = arg;
	struct connection *c;
	size_t turns = 0;

	/* Those that ask again during this turn wait for the next. */
	TAILQ_FOREACH(c, &server->again, again_link)
	turns++;
	for (; turns > 0 && (c = TAILQ_FIRST(&server->again)) != NULL; turns--) {
		TAILQ_REMOVE(&server->again, c, again_link);
		c->again = false;
		connection_turn(c);
	}
	if (!TAILQ_EMPTY(&server->again))
		timer_arm(server->turn, 0);
}

void
server_again(struct connection *c)
{
	struct server *server = c->server;

	if (c->again)
		return;
	c->again = true;
	TAILQ_INSERT_TAIL(&server->again, c, again_link);
	timer_arm(server->turn, 0);
}

static unsigned
or_default(unsigned wanted, unsigned fallback)
{
	return wanted != 0 ? wanted : fallback;
}

/* Often enough for the shortest of its limits. */
static unsigned
tick_for(const struct server *server)
{
	unsigned shortest = server->line_timeout_ms < server->drain_timeout_ms
				? server->line_timeout_ms
				: server->drain_timeout_ms;

	return shortest / 4 < WIRE_TICK_MS ? shortest / 4 + 1 : WIRE_TICK_MS;
}

int
server_create(struct vmmd *vmmd, struct loop *loop, const struct server_options *options,
    struct server **ret_server, struct err *err)
{
	struct server *server = xcalloc(1, sizeof(*server));
	int rc;

	server->vmmd = vmmd;
	server->loop = loop;
	server->handlers = options->handlers;
	server->system = options->system;
	server->max_connections = options->max_connections;
	server->max_per_uid = options->max_per_uid;
	server->line_timeout_ms = or_default(options->line_timeout_ms, WIRE_LINE_MS);
	server->drain_timeout_ms = or_default(options->drain_timeout_ms, WIRE_DRAIN_MS);
	server->tick_ms = tick_for(server);
	server->fd = -1;
	server->spare_fd = open_spare();
	TAILQ_INIT(&server->connections);
	TAILQ_INIT(&server->again);
	server->pause = timer_create_on(loop, accept_again, server);
	server->tick = timer_create_on(loop, on_tick, server);
	server->turn = timer_create_on(loop, on_turn, server);
	rc = listen_open(options, server, err);
	if (rc != 0) {
		server_destroy(server);
		return rc;
	}
	server->watch = watch_create(loop, server->fd, LOOP_READ, on_acceptable, server);
	*ret_server = server;
	return 0;
}

void
server_stop_accepting(struct server *server)
{
	server->refusing = true;
	timer_disarm(server->pause);
	watch_destroy(TAKE(server->watch));
	listen_close(server);
}

/* What still is to be sent may leave; a client that does not read can not hold us up. */
static void
say_farewell(struct server *server)
{
	uint64_t end_ms = clock_ms() + FAREWELL_MS;
	struct connection *c;

	TAILQ_FOREACH(c, &server->connections, link)
	{
		while (stream_queued(c->stream) > 0 && clock_ms() < end_ms) {
			struct pollfd p = { .fd = stream_fd(c->stream), .events = POLLOUT };

			if (poll(&p, 1, (int)(end_ms - clock_ms())) <= 0 ||
			    !stream_flush(c->stream))
				break;
		}
	}
}

void
server_destroy(struct server *server)
{
	struct connection *c;
	struct err err;

	if (server == NULL)
		return;
	server_stop_accepting(server);
	err_set(&err, E_SHUTDOWN, "vmmd is going down");
	err_hint(&err, "what it had begun is taken up when it is back");
	TAILQ_FOREACH(c, &server->connections, link)
	requests_fail_all(c, &err);
	say_farewell(server);
	while (!TAILQ_EMPTY(&server->connections))
		connection_close(TAILQ_FIRST(&server->connections));
	timer_destroy(server->pause);
	timer_destroy(server->tick);
	timer_destroy(server->turn);
	if (server->spare_fd >= 0)
		close(server->spare_fd);
	sbuf_done(&server->scratch);
	free(server);
}

size_t
server_connections(const struct server *server)
{
	return server->count;
}
