/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_NET_AGENT_H
#define LIB_NET_AGENT_H

#include <stddef.h>

#include "lib/net/addr.h"

struct loop;
struct agent_call;

/* Asking the agent in a guest for its addresses.  What it says is the guest's word: bounded here,
 * and checked by who uses it.  Loop thread only. */

enum { AGENT_ADDRESSES_MAX = 16, AGENT_MS = 3000, AGENT_LINE_MAX = 1 << 18 };

/* count 0: it did not answer, or has no address on that MAC.  Runs once, never before return. */
typedef void agent_fn(void *arg, const struct net_addr *addresses, size_t count);
/* path: of the socket that leads to the guest's port. */
struct agent_call *agent_ask(struct loop *loop, const char *path,
    const unsigned char mac[NET_MAC_LEN], agent_fn *fn, void *arg);
void agent_cancel(struct agent_call *call); /* fn is not called any more; NULL is fine */

/* Of an answer to guest-network-get-interfaces: the addresses of the interfaces with this MAC. */
size_t agent_parse(const char *text, const unsigned char mac[NET_MAC_LEN],
    struct net_addr ret_addresses[AGENT_ADDRESSES_MAX]);

#endif
