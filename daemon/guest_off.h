/* SPDX-License-Identifier: MPL-2.0 */
#ifndef DAEMON_GUEST_OFF_H
#define DAEMON_GUEST_OFF_H

#include <stdint.h>

#include "lib/base/err.h"

struct vm;

/* Asking a guest to power off through its own login, for machines without a power button.  Loop
 * thread; the login and the command run on a worker. */

struct guest_off;
/* err NULL: the guest has been told; else why it could not be. */
typedef void guest_off_fn(void *arg, const struct err *err);

/* timeout_ms: for the login and the command together.  done: runs exactly once, later, unless it is
 * forgotten.  An error here means that there is no way in: E_STATE no address or network, E_AUTH no
 * key. */
int guest_off_start(struct vm *vm, uint64_t timeout_ms, guest_off_fn *done, void *arg,
    struct guest_off **ret_off, struct err *err);
/* done does not run any more; what was asked of the guest is not taken back.  NULL is fine.  Not
 * after done. */
void guest_off_forget(struct guest_off *off);

#endif
