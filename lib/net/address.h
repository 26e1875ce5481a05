/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_NET_ADDRESS_H
#define LIB_NET_ADDRESS_H

#include <stdbool.h>

struct loop;
struct address_seek;

/* The address of one MAC on a bridge of this host, sought until it is known and watched from then
 * on.  In this order: the guest's agent, DHCP leases, the neighbour table.  What the first two say
 * counts only when the neighbours of the bridge agree that this MAC has that address (an agent may
 * also tell of an address that no neighbour of ours can have); IPv4 before IPv6, and an address of
 * the link alone only when nothing else came for a while.  Loop thread only. */

struct address_config { /* strings copied, but for the patterns */
	struct loop *loop;
	const char *mac, *bridge;
	const char *agent_path;		   /* the socket of the guest's agent; NULL: none */
	const char *const *lease_patterns; /* besides the usual places; NULL ends; may be NULL */
	/* Between looks while nothing is known, and before an address of the link alone will do;
	 * 0: what is usual. */
	unsigned seek_ms, resort_ms;
};

/* The address, or where it is known from, changed; it may have become unknown. */
typedef void address_fn(void *arg);
/* fn is never called before return; it may destroy the seek. */
struct address_seek *address_seek_create(const struct address_config *config, address_fn *fn,
    void *arg);
void address_seek_destroy(struct address_seek *seek); /* NULL is fine */
/* The guest's agent is there, or gone. */
void address_seek_agent(struct address_seek *seek, bool there);

const char *address_seek_host(const struct address_seek *seek);	  /* numeric; NULL: unknown */
const char *address_seek_source(const struct address_seek *seek); /* "agent", "lease" …, static */
const char *address_seek_seen(const struct address_seek *seek);	  /* for people: what there was */

#endif
