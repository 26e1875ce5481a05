/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_NET_SWITCH_WIRE_H
#define LIB_NET_SWITCH_WIRE_H

#include "lib/base/err.h"
#include "lib/net/switch/fabric.h"

/* The sockets of the ports.  A port has two: one is bound to p<N>.sw and receives, from whoever
 * sends there; the other is connected to p<N>.vm and sends, so that the kernel tells when a full
 * station takes frames again.  A station that is not there, or came back, is found out by sending:
 * nothing has to be told to either side.  One thread; nothing blocks. */

struct wire_port {
	int in, out; /* -1 */
	bool connected;
	bool stuck;        /* the station is full, and EPOLLOUT is awaited */
	uint64_t retry_ms; /* not before that is an absent station looked for again */
};

struct wire {
	char *dir;
	struct fabric *fabric;
	int epoll; /* of the ports; the program adds its own descriptors */
	struct wire_port ports[FABRIC_PORTS];
	uint32_t inbox[FABRIC_INBOX];
};

/* What epoll events carry: the kind above 32 bits, the port or the client's number below. */
enum wire_kind { WIRE_IN = 1, WIRE_OUT, WIRE_LISTENER, WIRE_CLIENT, WIRE_SIGNAL };
static inline uint64_t
wire_tag(enum wire_kind kind, unsigned number)
{
	return (uint64_t)kind << 32 | number;
}

/* fabric: taken. */
int wire_create(const char *dir, struct fabric *fabric, struct wire **ret_wire, struct err *err);
void wire_destroy(struct wire *w); /* the sockets' names go, too */
/* mac: NULL or text.  E_STATE when the port is there, E_EXISTS when the address is another's or
 * the path is another process's, E_PARAMS when it is no address. */
int wire_add(struct wire *w, unsigned port, const char *mac, struct err *err);
int wire_remove(struct wire *w, unsigned port, struct err *err);
/* A batch of frames came: they are received, switched and sent. */
void wire_on_input(struct wire *w, unsigned port, uint64_t now_ms);
void wire_on_room(struct wire *w, unsigned port, uint64_t now_ms);
/* Sends what waits at the ports that were woken. */
void wire_flush(struct wire *w, uint64_t now_ms);

#endif
