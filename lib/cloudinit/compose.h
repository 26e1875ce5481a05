/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_CLOUDINIT_COMPOSE_H
#define LIB_CLOUDINIT_COMPOSE_H

#include <stdbool.h>

#include "lib/base/err.h"
#include "lib/base/str.h"

struct seed;

/* The seed's texts.  out: initialised, added to. */
int compose_user_data(const struct seed *seed, struct sbuf *out, struct err *err);
void compose_meta_data(const struct seed *seed, struct sbuf *out);
bool seed_sets_network(const struct seed *seed);
/* network-config of NICs with addresses of their own, or of several; nothing without. */
void compose_network(const struct seed *seed, struct sbuf *out);
/* vendor-data: what is done at each boot; nothing when there is nothing to do. */
void compose_vendor_data(const struct seed *seed, struct sbuf *out);
/* Nothing to do and nothing to hide. */
void compose_stripped(struct sbuf *out);

#endif
