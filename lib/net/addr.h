/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_NET_ADDR_H
#define LIB_NET_ADDR_H

#include <stdbool.h>
#include <stdint.h>

/* Addresses as bytes, and what may be a guest's.  Any thread. */

enum { NET_MAC_LEN = 6, NET_TEXT_MAX = 64 }; /* an IPv6 address, '%' and a link's name */

struct net_addr {
	int family; /* AF_INET, AF_INET6; 0: none */
	unsigned char bytes[16];
};

bool net_addr_parse(const char *text, struct net_addr *ret_addr);
bool net_addr_equal(const struct net_addr *a, const struct net_addr *b);
/* One host's, and not of every host (loopback), of many (multicast) or of none. */
bool net_addr_of_host(const struct net_addr *a);
bool net_addr_link_local(const struct net_addr *a);
/* As sockets take it: a link-local IPv6 address names its link. */
void net_addr_text(const struct net_addr *a, const char *link, char ret_text[NET_TEXT_MAX]);

/* "52:54:00:12:34:56", in either case. */
bool net_mac_parse(const char *text, unsigned char ret_mac[NET_MAC_LEN]);
void net_mac_text(const unsigned char mac[NET_MAC_LEN], char ret_text[18]);

#endif
