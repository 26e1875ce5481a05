/* SPDX-License-Identifier: MPL-2.0 */
#ifndef DAEMON_ADOPT_H
#define DAEMON_ADOPT_H

#include "lib/base/err.h"

struct vmmd;

/* After a restart: reads the machines, takes over what still runs, and finishes or undoes what a
 * former daemon left half-done.  Never ends a machine that it can not understand. */
int adopt_load(struct vmmd *vmmd, struct err *err);
/* Calls done once: when all is known, or after a short while for those that do not answer. */
void adopt_all(struct vmmd *vmmd, void (*done)(struct vmmd *vmmd));

#endif
