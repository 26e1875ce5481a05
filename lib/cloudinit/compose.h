/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_CLOUDINIT_COMPOSE_H
#define LIB_CLOUDINIT_COMPOSE_H

#include "lib/base/err.h"
#include "lib/base/str.h"

struct seed;
struct seed_network;

/* The seed's texts.  out: initialised, added to. */
int compose_user_data(const struct seed *seed, struct sbuf *out, struct err *err);
void compose_meta_data(const struct seed *seed, struct sbuf *out);
/* network-config of a card with an address of its own; nothing without one. */
void compose_network(const struct seed_network *network, struct sbuf *out);
/* Nothing to do and nothing to hide. */
void compose_stripped(struct sbuf *out);

#endif
