/* SPDX-License-Identifier: MPL-2.0 */
#ifndef DAEMON_GUEST_SEED_H
#define DAEMON_GUEST_SEED_H

#include "lib/base/err.h"

struct vm;

/* The keys and the seed of a machine.  Made from the machine on the loop, run on a worker with
 * copies, applied on the loop. */
struct seed_work;
struct seed_work *seed_work_create(const struct vm *vm);
/* Worker.  Makes missing keys, and writes the seed if the one in place is not right. */
void seed_work_run(struct seed_work *work);
int seed_work_apply(struct seed_work *work, struct vm *vm, struct err *err);
/* Worker.  Replaces the seed by one without secrets; the result is its error. */
int seed_work_strip(struct seed_work *work, struct err *err);
void seed_work_destroy(struct seed_work *work);

#endif
