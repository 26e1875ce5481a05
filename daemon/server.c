/* SPDX-License-Identifier: MPL-2.0
 *
 * The listening socket's events, and time and turns for its connections. */
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
#include "lib/base/fs.h"
#include "lib/base/log.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/stream.h"

enum {
	ACCEPT_A_TURN = 64, /* so that a storm of connections does not starve those that exist */
	ACCEPT_PAUSE_MS = 100,
	FAREWELL_MS = 200
};

static void
on_acceptable(void *arg, unsigned events)
{
	struct server *server = arg;

	for (int i = 0; i < ACCEPT_A_TURN && server->fd >= 0; i++) {
		int fd = fs_accept(server->fd);

		if (fd >= 0) {
			admit(server, fd);
			continue;
		}
		if (errno == EINTR || errno == ECONNABORTED)
			continue;
		if (errno == EAGAIN)
			return;
		/* The one waiting would wake us again and again, and could not be taken. */
		admit_failed(server, errno);
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
	admit_open_spare(server);
	TAILQ_INIT(&server->connections);
	TAILQ_INIT(&server->again);
	LIST_INIT(&server->seats);
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

	TAILQ_FOREACH(c, &server->connections, link) {
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
	seats_drop(server);
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
