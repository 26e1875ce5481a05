/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_NET_LEASE_H
#define LIB_NET_LEASE_H

#include <stddef.h>
#include <stdint.h>

#include "lib/net/addr.h"

/* What DHCP servers of this host gave to a MAC, by their files.  Others may write those: a lease is
 * a hint, and nothing is believed for it alone.  Any thread; reads small files. */

typedef void lease_fn(void *arg, const struct net_addr *address, const char *place);

/* Of a file's text: dnsmasq's lines, libvirt's JSON (*.status), systemd-networkd's JSON.  Of IPv6
 * only those whose client is identified by its card.  now_s: leases that ended before are left out.
 * place: handed to fn.  text: changed. */
void lease_scan(char *text, const unsigned char mac[NET_MAC_LEN], int64_t now_s, const char *place,
    lease_fn *fn, void *arg);
/* Of all files in the usual places and of patterns (ends with NULL; itself NULL: none more). */
void lease_search(const char *const *patterns, const unsigned char mac[NET_MAC_LEN], int64_t now_s,
    lease_fn *fn, void *arg);
/* Changes when one of the files does. */
uint64_t lease_stamp(const char *const *patterns);

#endif
