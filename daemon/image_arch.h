/* SPDX-License-Identifier: MPL-2.0 */
#ifndef DAEMON_IMAGE_ARCH_H
#define DAEMON_IMAGE_ARCH_H

#include "lib/base/err.h"

struct catalogue;
struct vm_spec;

/* A machine's images and its processor: names of the catalogue become what they stand for on the
 * machine's architecture, when that is not the host's; and what is known to be for another one is
 * refused (E_PARAMS, E_NOT_FOUND).  Any thread. */
int image_arch_fit(const struct catalogue *catalogue, struct vm_spec *spec, struct err *err);

#endif
