/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_NET_NETLINK_H
#define LIB_NET_NETLINK_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/net/addr.h"

/* What the kernel knows of links, neighbours and routes, by rtnetlink: of this process's network
 * namespace, whatever is mounted on /sys.  The kernel answers while it is asked, so that the calls
 * are short.  Any thread. */

struct net_link {
	unsigned index;
	unsigned master; /* 0: a member of nothing */
	bool up;
	char kind[16]; /* "bridge", "tun" …; "": a device of its own */
};

/* E_NOT_FOUND: no such link. */
int netlink_link(const char *name, struct net_link *ret_link, struct err *err);

struct net_neighbour {
	unsigned link;
	struct net_addr address;
	unsigned char mac[NET_MAC_LEN];
	bool answered; /* the kernel holds the MAC for true, now or a while ago */
	bool stale;    /* a while ago */
};

typedef void net_neighbour_fn(void *arg, const struct net_neighbour *neighbour);
/* All of one link that have a MAC. */
int netlink_neighbours(unsigned link, net_neighbour_fn *fn, void *arg, struct err *err);

/* A descriptor that is readable when neighbours changed; -1 with the error. */
int netlink_neighbour_watch(struct err *err);
/* What changed: those that have a MAC.  False: some changes were lost, so look at all. */
bool netlink_neighbour_read(int fd, net_neighbour_fn *fn, void *arg);

struct net_route {
	bool local;    /* an address of this host */
	bool gateway;  /* through another host */
	unsigned link; /* 0: nowhere */
};
int netlink_route(const struct net_addr *to, struct net_route *ret_route, struct err *err);

#endif
