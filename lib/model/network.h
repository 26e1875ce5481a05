/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_MODEL_NETWORK_H
#define LIB_MODEL_NETWORK_H

#include <stddef.h>

struct network_spec;

/* What the rows of a network can not say: what belongs to which type, addresses, names of links.
 * Any thread. */

/* path: "network.gateway"; hint may be NULL.  All borrowed for the call. */
typedef void network_problem_fn(void *arg, const char *path, const char *text, const char *hint);
void network_check(const struct network_spec *net, network_problem_fn *report, void *arg);

#endif
