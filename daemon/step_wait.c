/* SPDX-License-Identifier: MPL-2.0 */
#include "daemon/step_wait.h"

#include "daemon/vmmd.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"

static void
stop_waiting(struct step_wait *wait)
{
	if (!wait->active)
		return;
	wait->active = false;
	if (wait->op->vm != NULL)
		vm_unwatch(wait->op->vm, &wait->watcher);
	timer_destroy(TAKE(wait->timer));
}

static void
on_change(void *arg)
{
	struct step_wait *wait = arg;
	struct err err = ERR_INIT;
	int answer;

	if (!wait->active)
		return;
	answer = wait->check(wait->op, &err);
	if (answer == 0)
		return;
	stop_waiting(wait);
	if (answer > 0)
		op_step_done(wait->op);
	else
		op_step_failed(wait->op, &err);
}

static void
on_late(void *arg)
{
	struct step_wait *wait = arg;
	struct err err = ERR_INIT;

	stop_waiting(wait);
	if (wait->late != NULL)
		wait->late(wait->op, &err);
	if (err.code != E_OK)
		op_step_failed(wait->op, &err);
	else
		op_step_done(wait->op);
}

enum step_result
step_wait_start(struct step_wait *wait, struct operation *op, uint64_t timeout_ms,
    int (*check)(struct operation *, struct err *), void (*late)(struct operation *, struct err *),
    struct err *err)
{
	int answer = check(op, err);

	if (answer != 0)
		return answer > 0 ? STEP_DONE : STEP_FAILED;
	wait->op = op;
	wait->check = check;
	wait->late = late;
	wait->active = true;
	vm_watch(op->vm, &wait->watcher, on_change, wait);
	if (timeout_ms > 0) {
		wait->timer = timer_create_on(op->vmmd->loop, on_late, wait);
		timer_arm(wait->timer, timeout_ms);
	}
	return STEP_WAIT;
}

void
step_wait_cancel(struct step_wait *wait)
{
	struct err err = ERR_INIT;

	if (!wait->active)
		return;
	stop_waiting(wait);
	err_set(&err, E_CANCELLED, "'%s' was cancelled", wait->op->vm_name);
	op_step_failed(wait->op, &err);
}

void
step_wait_done(struct step_wait *wait)
{
	stop_waiting(wait);
}
