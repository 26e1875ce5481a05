/* SPDX-License-Identifier: MPL-2.0
 *
 * Ending a machine: the instance is stopped, then its zone halted; or the zone at once.  The
 * machine is gone when its zone is. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/json.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/hypervisor/propolis/machine.h"

enum { HALT_MS = 60000, STOP_MS = 10000 };

/* What needs the server. */
static void
leave_server(struct machine *m)
{
	monitor_stop(m);
	propolis_console_destroy(TAKE(m->console));
	rest_destroy(TAKE(m->rest));
	timer_disarm(m->deadline);
	timer_disarm(m->again);
	timer_disarm(m->address_timer);
}

static struct hv_op *
joined(struct machine *m)
{
	struct hv_op *op;

	LIST_FOREACH(op, &m->ops, entry)
		if (op->joined)
			return op;
	return NULL;
}

/* Answers those who wait for the zone's end.  err NULL: it came. */
static void
answer_joined(struct machine *m, const struct err *err)
{
	struct hv_op *op;

	while (!m->dead && (op = joined(m)) != NULL)
		call_finish(op, err);
}

void
machine_gone(struct machine *m, const char *reason, const char *detail)
{
	CLEANUP_FREE char *record = fs_join(m->config->dir, "launch.json"),
			  *words = xstrdup(detail);
	bool asked = m->stopping || reason == NULL;
	struct hv_event event = { .kind = HV_EV_EXITED, .reason = reason, .detail = words };
	struct err err = ERR_INIT;

	event.exit.known = asked;
	unlink(record);
	leave_server(m);
	m->phase = PHASE_IDLE;
	m->state = HV_GONE;
	m->address[0] = '\0';
	m->stopping = m->halting = false;
	free(TAKE(m->end_detail));
	if (m->run != NULL) {
		err_set(&err, E_FAILED, "machine '%s' ended as soon as it ran%s%s", m->config->name,
		    words != NULL ? ": " : "", words != NULL ? words : "");
		run_finish(m, &err);
	}
	propolis_emit(m, &event);
	answer_joined(m, NULL);
}

/* ---- halting the zone ---- */

static int
halt_run(struct task *task, struct job *job)
{
	return host_halt(task->host, job, &task->err);
}

static void
halted(struct machine *m, struct task *task)
{
	struct hv_op *op = TAKE(task->op);
	bool asked = op != NULL || joined(m) != NULL;

	m->halting = false;
	if (op != NULL)
		op->task = NULL;
	if (m->phase == PHASE_FAILING) {
		if (task->rc != 0) {
			err_hint(
			    &m->failure, "and its zone could not be halted: %s", task->err.msg);
		}
		launch_failed(m);
	} else if (task->rc != 0) {
		if (!asked)
			propolis_tell(m, HV_EV_NOTICE, task->err.msg);
	} else if (m->phase != PHASE_IDLE) {
		CLEANUP_FREE char *detail = TAKE(m->end_detail);

		machine_gone(m, m->end_reason, detail);
	}
	if (op != NULL && !m->dead)
		call_finish(op, task->rc == 0 ? NULL : &task->err);
	answer_joined(m, task->rc == 0 ? NULL : &task->err);
}

void
machine_halt(struct machine *m, struct hv_op *op)
{
	struct task *task;

	if (m->halting) {
		if (op != NULL)
			op->joined = true;
		return;
	}
	m->halting = true;
	task = xcalloc(1, sizeof(*task));
	task->op = op;
	task->run = halt_run;
	task->done = halted;
	task_submit(m, task, "halt", HALT_MS);
}

void
machine_give_up(struct machine *m, const char *reason, const char *detail)
{
	if (m->stopping || m->halting)
		return;
	m->end_reason = reason;
	free(m->end_detail);
	m->end_detail = xstrdup(detail);
	machine_halt(m, NULL);
}

/* ---- being asked to ---- */

static void
stop_taken(void *arg, const struct rest_reply *reply, const struct err *err)
{
	struct hv_op *op = arg;
	struct machine *m = op->machine;

	propolis_enter(m);
	/* 424: it has ended meanwhile; the zone remains to be halted. */
	if (err != NULL && reply->status == 424)
		machine_halt(m, op);
	else if (err != NULL)
		call_finish(op, err);
	else
		op->joined = true; /* the zone is halted once the instance has stopped */
	propolis_leave(m);
}

void
propolis_op_end(struct hv_machine *base, enum hv_force how, hv_done_fn *done, void *arg)
{
	struct machine *m = (struct machine *)base;
	struct rest_call call = { .method = "PUT",
		.path = "/instance/state",
		.expect = 204,
		.timeout_ms = STOP_MS,
		.done = stop_taken };
	struct hv_op *op = call_create(m, done, arg);
	struct err err = ERR_INIT;

	if (m->phase == PHASE_IDLE || m->phase == PHASE_BOOTING) {
		err_set(&err, E_STATE, "the machine is not running; it can not be ended");
		call_finish_soon(op, &err);
		return;
	}
	m->stopping = true;
	m->force = how;
	m->end_reason = NULL;
	/* Without a server there is nobody to ask, and what ended needs no asking. */
	if (how != HV_QUIT || m->rest == NULL || m->phase != PHASE_ALIVE ||
	    m->state == HV_SHUTDOWN || m->state == HV_GONE) {
		machine_halt(m, op);
		return;
	}
	call.arg = op;
	call.body = json_object_new_string("Stop");
	rest_call(m->rest, &call);
	json_object_put(call.body);
}
