/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_NET_SWITCH_MACS_H
#define LIB_NET_SWITCH_MACS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Which port an Ethernet address was last seen at.  A table of a fixed size: whoever sends from
 * ever new addresses makes the switch forget a few, and never grow.  One thread. */

enum {
	MAC_BYTES = 6,
	MACS_WAYS = 4,
	MACS_BUCKETS = 512,
	MACS_MAX = MACS_WAYS * MACS_BUCKETS,
	MACS_PER_PORT = 256, /* learnt of one port at most */
	MACS_PORTS = 128,
};

struct mac_entry {
	uint8_t mac[MAC_BYTES];
	uint8_t port;
	bool used;
	bool fixed; /* given to the port: does not age, and no other port may have it */
	uint64_t seen_ms;
};

struct macs {
	uint64_t ageing_ms;
	size_t count;
	uint16_t learnt[MACS_PORTS]; /* of each port, fixed ones not counted */
	struct mac_entry entries[MACS_MAX]; /* MACS_WAYS places for each bucket */
};

enum { MACS_NOWHERE = -1 };

void macs_init(struct macs *macs, uint64_t ageing_ms);
/* The address was seen at the port.  False: it is fixed at another port.  An address that finds no
 * place is simply not learnt. */
bool macs_learn(struct macs *macs, const uint8_t *mac, unsigned port, uint64_t now_ms);
/* Takes the place of what was learnt.  False: fixed at another port, or no place left. */
bool macs_fix(struct macs *macs, const uint8_t *mac, unsigned port);
int macs_find(const struct macs *macs, const uint8_t *mac, uint64_t now_ms); /* or MACS_NOWHERE */
void macs_forget_port(struct macs *macs, unsigned port);
void macs_age(struct macs *macs, uint64_t now_ms); /* forgets what was not seen for ageing_ms */

/* "52:54:00:12:34:56", two digits each; false on anything else and on group addresses. */
bool mac_parse(const char *text, uint8_t ret_mac[MAC_BYTES]);
void mac_format(const uint8_t *mac, char ret_text[18]);

#endif
