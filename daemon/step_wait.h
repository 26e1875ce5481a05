/* SPDX-License-Identifier: MPL-2.0 */
#ifndef DAEMON_STEP_WAIT_H
#define DAEMON_STEP_WAIT_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/operation.h"
#include "daemon/vm.h"

/* A step that waits until something about its machine is so, or a time has passed. */
struct step_wait {
	struct operation *op;
	struct vm_watcher watcher;
	struct timer *timer;
	bool active;
	/* 1: it is so; 0: not yet; -1: it can no longer be (err filled). */
	int (*check)(struct operation *op, struct err *err);
	/* The time has passed: the step's answer.  NULL: it is simply done. */
	void (*late)(struct operation *op, struct err *err);
};

/* Returns STEP_DONE or STEP_FAILED when it is so already.  timeout_ms 0: the operation's own
 * deadline is the only one. */
enum step_result step_wait_start(struct step_wait *wait, struct operation *op, uint64_t timeout_ms,
    int (*check)(struct operation *, struct err *), void (*late)(struct operation *, struct err *),
    struct err *err);
/* For a step's cancel: ends the wait with E_CANCELLED.  Nothing when it is not active. */
void step_wait_cancel(struct step_wait *wait);
void step_wait_done(struct step_wait *wait); /* for release */

#endif
