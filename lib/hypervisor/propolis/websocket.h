/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_HYPERVISOR_PROPOLIS_WEBSOCKET_H
#define LIB_HYPERVISOR_PROPOLIS_WEBSOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"

struct loop;

/* A WebSocket client (RFC 6455) over a bufferevent, as the serial console of propolis-server needs
 * it.  Loop thread only.  Frames that are sent are masked; pings are answered; fragments are
 * passed on as they come (binary) or joined (text, at most 64 KiB).  A peer that breaks the
 * protocol is closed with 1002, a message too large with 1009. */

struct websocket;

struct websocket_handler {
	void (*on_open)(void *arg); /* the upgrade was accepted */
	void (*on_binary)(void *arg, const void *data, size_t len);
	void (*on_text)(void *arg, const char *text, size_t len); /* whole; zero terminated, too */
	/* Last call, exactly once, never from within websocket_create: the connection is over.
	 * code: of the close frame (1001: the machine stopped), 0 without one.  status: HTTP's, when
	 * the upgrade was refused, else 0.  err: why, in words (E_NETWORK, E_TIMEOUT, E_FAILED);
	 * NULL after an orderly close. */
	void (*on_closed)(void *arg, unsigned code, int status, const struct err *err);
};

struct websocket_target { /* borrowed for the call */
	const char *host; /* an address */
	uint16_t port;
	const char *path; /* with its query */
	uint64_t open_timeout_ms; /* for connecting and the upgrade */
	/* When nothing came for so long a ping is sent, and the peer is given up when nothing comes
	 * for the same time again; 0: never. */
	uint64_t idle_timeout_ms;
};

/* The upgrade carries the header `api-version`, too.  handler, arg: borrowed for its life. */
struct websocket *websocket_create(struct loop *loop, const struct websocket_target *target,
    const struct websocket_handler *handler, void *arg);
/* May be called in any callback; sends a close frame (1000) when it can; no callback comes. */
void websocket_destroy(struct websocket *ws);
/* One binary message; only after on_open (E_STATE); E_LIMIT when over 256 KiB wait to be sent. */
int websocket_send(struct websocket *ws, const void *data, size_t len, struct err *err);

#endif
