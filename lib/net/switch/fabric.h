/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_NET_SWITCH_FABRIC_H
#define LIB_NET_SWITCH_FABRIC_H

#include "lib/net/switch/macs.h"

/* What a switch does with a frame, without any socket: it learns where the sender is and puts the
 * frame into the queues of the ports that shall have it.  A frame is stored once, however many
 * queues it waits in; there is a buffer for every place of every queue, so that a port which takes
 * nothing can not take buffers from the others.  Nothing is allocated for a frame.  One thread. */

enum {
	FABRIC_PORTS = MACS_PORTS,
	FABRIC_QUEUE = 256, /* frames that wait for one port; a power of 2 */
	FABRIC_INBOX = 32,  /* buffers beside those of the queues, to receive into */
	FABRIC_HEADER = 14,
	FABRIC_TAG = 4, /* a VLAN tag may come on top of the MTU */
	FABRIC_MTU_MIN = 576,
	FABRIC_MTU_MAX = 9216,
};

enum fabric_drop {
	DROP_SHORT,    /* no whole header */
	DROP_LONG,     /* over the MTU */
	DROP_SOURCE,   /* from a group's address */
	DROP_SPOOFED,  /* from an address that is another port's, or not the one given to this */
	DROP_RESERVED, /* for the switch itself (flow control and the like), which has no use for it
			*/
	DROP_FULL,     /* to a port whose queue was full */
	DROP_AWAY,     /* to a port with no station */
	DROP_KINDS
};
extern const char *const fabric_drop_names[DROP_KINDS];

struct fabric_port {
	bool present;
	bool bound; /* to `mac`: only from this address may it send */
	uint8_t mac[MAC_BYTES];
	uint16_t head, waiting;
	uint32_t queue[FABRIC_QUEUE]; /* buffers, each with one reference */
	uint64_t in_frames, in_bytes, out_frames, out_bytes;
	uint64_t
	    drops[DROP_KINDS]; /* the first five of what came, the last two of what was to go */
};

struct fabric {
	size_t frame_max; /* bytes of a frame; a buffer has one more, to see what is longer */
	struct macs macs;
	struct fabric_port ports[FABRIC_PORTS];
	uint8_t active[FABRIC_PORTS]; /* the ports that are present */
	unsigned active_count;
	uint8_t woken[FABRIC_PORTS]; /* those with frames to send that had none before */
	unsigned woken_count;
	bool is_woken[FABRIC_PORTS];
	uint8_t *memory;
	size_t stride;
	uint32_t *lengths, *free; /* by buffer; a stack */
	uint16_t *references;
	size_t free_count;
};

struct fabric *fabric_create(uint64_t mtu, uint64_t ageing_ms);
void fabric_destroy(struct fabric *f);

/* mac: NULL, or the only address that it may send from.  False: the port is there already, or the
 * address is another's. */
bool fabric_add(struct fabric *f, unsigned port, const uint8_t *mac);
void fabric_remove(struct fabric *f, unsigned port);

/* A buffer of frame_max + 1 bytes to receive into; there are FABRIC_INBOX of them. */
uint32_t fabric_take(struct fabric *f);
void fabric_give(struct fabric *f, uint32_t buffer); /* the caller's reference goes */
static inline uint8_t *
fabric_buffer(const struct fabric *f, uint32_t buffer)
{
	return f->memory + buffer * f->stride;
}

/* A frame of len bytes came from the port.  The buffer is taken. */
void fabric_input(struct fabric *f, unsigned port, uint32_t buffer, size_t len, uint64_t now_ms);

/* A port that got its first waiting frame since it was told last; -1: none.  It may be empty or
 * gone meanwhile. */
int fabric_woken(struct fabric *f);
/* The i-th frame that waits for the port. */
static inline uint32_t
fabric_waiting(const struct fabric_port *p, unsigned i)
{
	return p->queue[(p->head + i) % FABRIC_QUEUE];
}
/* Its first frames leave the queue: sent, or for a reason not. */
void fabric_sent(struct fabric *f, unsigned port, unsigned count);
void fabric_dropped(struct fabric *f, unsigned port, unsigned count, enum fabric_drop why);

#endif
