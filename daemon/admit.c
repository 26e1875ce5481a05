/* SPDX-License-Identifier: MPL-2.0
 *
 * Who gets a connection, how many, and what those are told who get none. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "daemon/wire.h"
#include "lib/base/clock.h"
#include "lib/base/fs.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/base/stream.h"

enum {
	KEPT_FOR_ROOT = 8, /* system: connections beyond the limit, to look at what fills it */
	TELL_EVERY_MS = 1000
};

/* A connection that carries bytes by now is another's to end, but still counts. */
struct seat {
	LIST_ENTRY(seat) link;
	struct server *server;
	struct stream *stream; /* borrowed; it tells its end */
	uid_t uid;
};

static void
on_seat_end(void *arg)
{
	struct seat *seat = arg;

	LIST_REMOVE(seat, link);
	seat->server->count--;
	free(seat);
}

void
seat_keep(struct server *server, struct stream *stream, uid_t uid)
{
	struct seat *seat = xcalloc(1, sizeof(*seat));

	seat->server = server;
	seat->stream = stream;
	seat->uid = uid;
	LIST_INSERT_HEAD(&server->seats, seat, link);
	server->count++;
	stream_on_end(stream, on_seat_end, seat);
}

void
seats_drop(struct server *server)
{
	while (!LIST_EMPTY(&server->seats)) {
		struct seat *seat = LIST_FIRST(&server->seats);

		stream_on_end(seat->stream, NULL, NULL);
		on_seat_end(seat);
	}
}

static size_t
count_of(const struct server *server, uid_t uid)
{
	const struct connection *c;
	const struct seat *seat;
	size_t count = 0;

	TAILQ_FOREACH(c, &server->connections, link)
		count += c->peer.uid == uid;
	LIST_FOREACH(seat, &server->seats, link)
		count += seat->uid == uid;
	return count;
}

static int
check(const struct server *server, const struct peer *peer, struct err *err)
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

/* A storm of clients must not become a storm of lines. */
static enum log_level
level_for(struct server *server)
{
	uint64_t now_ms = clock_ms();

	if (server->told_ms != 0 && now_ms - server->told_ms < TELL_EVERY_MS)
		return LOG_LEVEL_DEBUG;
	server->told_ms = now_ms;
	return LOG_LEVEL_WARN;
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

void
admit(struct server *server, int fd)
{
	struct peer peer;
	struct err err;

	if (!peer_read(fd, &peer)) {
		close(fd);
		return;
	}
	if (check(server, &peer, &err) != 0) {
		log_message(level_for(server), "turned away pid %ld of user %u: %s", (long)peer.pid,
		    (unsigned)peer.uid, err.msg);
		turn_away(fd, &err);
		return;
	}
	connection_create(server, fd, &peer);
}

/* ---- without descriptors ---- */

void
admit_open_spare(struct server *server)
{
	server->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

void
admit_failed(struct server *server, int errno_value)
{
	struct err err;
	int fd;

	log_message(level_for(server), "can not accept a connection: %s", strerror(errno_value));
	if (server->spare_fd < 0 || (errno_value != EMFILE && errno_value != ENFILE))
		return;
	/* A client would wait and never learn why; one descriptor is kept for telling it. */
	close(TAKE_FD(server->spare_fd));
	fd = fs_accept(server->fd);
	if (fd >= 0) {
		err_set(&err, E_LIMIT, "vmmd has no descriptors left");
		err_hint(&err, "try again soon; LimitNOFILE= of its service is the limit");
		turn_away(fd, &err);
	}
	admit_open_spare(server);
}
