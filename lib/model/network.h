/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_MODEL_NETWORK_H
#define LIB_MODEL_NETWORK_H

#include <stdbool.h>
#include <stddef.h>

struct vm_spec;

/* What the rows of networks can not say: what belongs to which type, addresses, names of links.
 * Any thread. */

/* path: "network.gateway", "networks[1].address"; hint may be NULL.  All borrowed for the call. */
typedef void network_problem_fn(void *arg, const char *path, const char *text, const char *hint);
void networks_check(const struct vm_spec *spec, network_problem_fn *report, void *arg);

/* ---- addresses of a private network ---- */

struct subnet {
	size_t len; /* bytes of an address: 4, or 16 */
	unsigned char bytes[16];
	size_t prefix; /* bits */
};

/* "10.66.0.0/24"; hosts' bits must be zero, and there must be room for two hosts. */
bool subnet_parse(const char *text, struct subnet *ret_subnet);
bool subnet_overlaps(const struct subnet *a, const struct subnet *b);
/* How many hosts it has room for; at most 65534 are counted. */
size_t subnet_hosts(const struct subnet *subnet);
/* Owned: the index-th of its hosts, from 0, "10.66.0.1/24". */
char *subnet_host(const struct subnet *subnet, size_t index);
/* Owned: the address, "10.66.0.11" or with the subnet's own prefix, as "10.66.0.11/24"; NULL, *ret_why
 * (static text): it is no host of it. */
char *subnet_address(const struct subnet *subnet, const char *text, const char **ret_why);

/* Does this text name a host: letters, digits, '-' and '.'? */
bool host_name_valid(const char *text);

#endif
