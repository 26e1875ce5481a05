/* SPDX-License-Identifier: MPL-2.0 */
#ifndef DAEMON_SERVER_H
#define DAEMON_SERVER_H

#include <stdbool.h>
#include <stddef.h>

#include "daemon/request.h"
#include "lib/base/err.h"
#include "proto/params.h"

/* The socket, its connections, and the way of a request to its handler.  Loop thread. */

struct loop;
struct server;

struct server_options {
	const char *socket_path; /* NULL with listen_fd */
	int listen_fd;		 /* from socket activation; -1: make our own */
	bool system;		 /* 0660 and a cap for each uid; else 0600 and only our uid and root */
	const char *group;	 /* system: of the socket; NULL: leave it */
	unsigned max_connections, max_per_uid;
	unsigned line_timeout_ms;  /* for the end of a line that was begun; 0: 10 s */
	unsigned drain_timeout_ms; /* for a client that takes nothing of a full queue; 0: 30 s */
	method_fn *const *handlers; /* by enum method_id */
};

/* E_EXISTS: another daemon listens there.  A stale socket is replaced, anything else refused. */
int server_create(struct vmmd *vmmd, struct loop *loop, const struct server_options *options,
    struct server **ret_server, struct err *err);
/* Stops accepting, sends what is queued for a moment, closes everything; removes its own socket. */
void server_destroy(struct server *server);
void server_stop_accepting(struct server *server);
size_t server_connections(const struct server *server);

/* May the peer use a method of that access class at all?  Whose objects it sees: vm_lookup. */
bool authz(const struct peer *peer, enum method_access access, bool system);

/* daemon/notify.c: systemd's protocol.  False, and nothing happens, without systemd. */
/* -1: not activated by a socket.  Called once, first: it also hides both from our children. */
int notify_listen_fd(void);
bool notify_send(const char *state); /* "READY=1\nSTATUS=…" */

/* daemon/handlers.c: the table that methods.def makes; a missing handler fails to link. */
extern method_fn *const method_handlers[METHODS];

#endif
