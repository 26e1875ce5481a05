/* SPDX-License-Identifier: MPL-2.0 */
#ifndef DAEMON_WIRE_H
#define DAEMON_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "daemon/request.h"
#include "daemon/server.h"
#include "lib/base/str.h"
#include "proto/jsonrpc.h"

/* What the files between the socket and the handlers share: listen, server, connection, dispatch
 * and request.  Nobody else includes this, but docs/reference.c for the limits.  Loop thread. */

enum {
	WIRE_IN_FLIGHT_MAX = 32, /* requests not answered yet: no more is read until one is */
	WIRE_SUBSCRIPTIONS_MAX = 32,
	WIRE_QUEUE_HIGH = 4 << 20,  /* above: nothing more is read from the connection … */
	WIRE_QUEUE_LOW = 1 << 20,   /* … until so little is left */
	WIRE_QUEUE_DROP = 16 << 20, /* above: notifications are dropped */
	WIRE_DRAIN_MS = 30 * 1000,
	WIRE_LINE_MS = 10 * 1000,
	WIRE_TICK_MS = 1000
};

struct connection;

struct server {
	struct vmmd *vmmd;
	struct loop *loop;
	method_fn *const *handlers;
	bool system, refusing; /* refusing: going down */
	unsigned max_connections, max_per_uid;
	unsigned line_timeout_ms, drain_timeout_ms, tick_ms;

	int fd;                 /* -1: no longer accepting */
	int spare_fd;           /* given up to turn a client away when there are no others */
	char *path;             /* ours to remove; NULL with socket activation */
	uint64_t device, inode; /* of the socket that we made */
	struct watch *watch;
	struct timer *pause; /* accepts again, when descriptors had run out */
	struct timer *tick;  /* only armed while some connection is watched */
	struct timer *turn;  /* for those in `again` */
	TAILQ_HEAD(, connection) connections;
	TAILQ_HEAD(again_list, connection) again;
	LIST_HEAD(, seat) seats; /* admit.c */
	size_t count;            /* of connections and seats */
	uint64_t told_ms;        /* when a refusal was logged last */
	struct sbuf scratch; /* the answer being written */
};

/* The descriptors that came with a line; each of its requests holds a reference. */
struct wire_fds {
	unsigned references;
	size_t count;
	int fds[];
};

/* The answers of a batch, sent together when the last one is there. */
struct batch {
	LIST_ENTRY(batch) link;
	struct sbuf out;
	struct rpc_line line; /* until every call has begun */
	struct wire_fds *fds; /* the same */
	size_t begun, pending;
	bool whole; /* every call has begun */
};

struct connection {
	TAILQ_ENTRY(connection) link, again_link; /* server.connections, server.again */
	struct server *server;
	struct stream *stream; /* owned; NULL: closed, or handed over */
	struct peer peer;
	LIST_HEAD(, request) requests;
	LIST_HEAD(, batch) batches; /* owned */
	struct batch *beginning;    /* some of its calls wait for room; nothing is read meanwhile */
	LIST_HEAD(, subscription) subscriptions;
	const struct request *upgrading; /* will take the connection over; compared only */
	unsigned in_flight, subscription_count;
	uint64_t line_deadline_ms, drain_deadline_ms; /* 0: none */
	uint64_t written, sent_seen; /* bytes ever queued, and of them known to have left */
	unsigned busy;               /* callbacks running: freed after the last */
	bool again;                  /* in server.again */
	bool eof, stalled, full, finishing, dead; /* full: of requests in flight */
	bool hung_up;                             /* gone, but lines of it are still to be taken */
};

/* listen.c */
int listen_open(const struct server_options *options, struct server *server, struct err *err);
void listen_close(struct server *server);

/* admit.c.  fd: taken; becomes a connection, or is told why not. */
void admit(struct server *server, int fd);
void admit_failed(struct server *server, int errno_value); /* accept did */
void admit_open_spare(struct server *server);
/* The stream was handed over, and counts until it ends. */
void seat_keep(struct server *server, struct stream *stream, uid_t uid);
void seats_drop(struct server *server);

/* peer_linux.c: who is at the other end; false: can not be told. */
bool peer_read(int fd, struct peer *ret_peer);

/* server.c: has the connections looked at once a second, until none needs it. */
void server_tick_start(struct server *server);
/* Gives the connection another turn, after the others had theirs. */
void server_again(struct connection *connection);

/* connection.c.  fd: taken. */
void connection_create(struct server *server, int fd, const struct peer *peer);
/* Ends it now: requests and subscriptions hear that it is gone. */
void connection_close(struct connection *connection);
void connection_send(struct connection *connection, const char *line, size_t len);
void connection_send_error(struct connection *connection, const char *id, const struct err *err);
/* Something ended: reads on, or closes the connection if it only waited for that. */
void connection_settle(struct connection *connection);
/* Takes a bounded number of lines; comes back by server_again for the others. */
void connection_turn(struct connection *connection);
/* A second passed; returns false when there is nothing to look after. */
bool connection_tick(struct connection *connection, uint64_t now_ms);
/* Answers the requests that were sent after one that takes the connection over. */
void connection_refuse_rest(struct connection *connection);

/* dispatch.c.  line: taken, as far as it is not NULL; fds: borrowed, may be NULL. */
void dispatch_line(struct connection *connection, struct rpc_line *line, struct wire_fds *fds);
/* Begins more calls of connection->beginning, while there is room. */
void dispatch_more(struct connection *connection);

/* request.c.  id: taken, NULL for a notification.  batch: NULL for a single one. */
struct request *request_create(
    struct connection *connection, char *id, struct batch *batch, struct wire_fds *fds);
void request_set_progress(struct request *request, bool progress);
void request_set_upgrading(struct request *request);
void requests_orphan(struct connection *connection);
/* Answers what is open with err, for its handlers; they find the client gone. */
void requests_fail_all(struct connection *connection, const struct err *err);
/* Every call has begun: its answer is sent with the last of theirs. */
void batch_seal(struct connection *connection, struct batch *batch);
void batch_destroy(struct batch *batch);
void wire_fds_release(struct wire_fds *fds);

#endif
