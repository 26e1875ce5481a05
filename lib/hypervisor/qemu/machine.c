/* SPDX-License-Identifier: MPL-2.0
 *
 * A machine's life in this daemon: its process, its calls, its end. */
#include "lib/hypervisor/qemu/machine.h"

#include <json-c/json.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/fs.h"
#include "lib/base/loop.h"
#include "lib/base/landlock.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/hypervisor/launcher/launcher.h"

enum { TICK_MS = 10000, FIRST_SECOND_MS = 1000 };
static const off_t console_max = 16 << 20, log_max = 4 << 20;

static struct machine *
of(struct hv_machine *base)
{
	return (struct machine *)base;
}

void
machine_enter(struct machine *m)
{
	m->busy++;
}

void
machine_leave(struct machine *m)
{
	if (--m->busy > 0 || !m->dead)
		return;
	free(m->display_path);
	free(m);
}

void
machine_emit(struct machine *m, const struct hv_event *event)
{
	if (!m->dead)
		m->on_event(m->arg, event);
}

void
machine_tell(struct machine *m, enum hv_event_kind kind, const char *detail)
{
	machine_emit(m, &(struct hv_event){ .kind = kind, .detail = detail });
}

/* ---- calls ---- */

struct hv_op *
op_create(struct machine *m, hv_done_fn *done, void *arg)
{
	struct hv_op *op = xcalloc(1, sizeof(*op));

	loop_assert(m->hv->base.env->loop);
	op->machine = m;
	op->done = done;
	op->arg = arg;
	LIST_INSERT_HEAD(&m->ops, op, entry);
	return op;
}

void
op_finish(struct hv_op *op, const struct err *err)
{
	LIST_REMOVE(op, entry);
	op->done(op->arg, err);
	free(op);
}

void
op_finish_soon(struct hv_op *op, const struct err *err)
{
	op->soon = true;
	if (err != NULL)
		op->err = *err;
	timer_arm(op->machine->soon, 0);
}

static void
on_soon(void *arg)
{
	struct machine *m = arg;
	struct hv_op *op;

	machine_enter(m);
	do {
		LIST_FOREACH(op, &m->ops, entry)
			if (op->soon)
				break;
		if (op != NULL)
			op_finish(op, op->err.code != E_OK ? &op->err : NULL);
	} while (op != NULL && !m->dead);
	machine_leave(m);
}

/* ---- the process ---- */

static void
on_exit_seen(void *arg, const struct process_exit *how)
{
	struct machine *m = arg;
	CLEANUP_FREE char *words = NULL;
	struct hv_event event = { .kind = HV_EV_EXITED, .exit = *how };
	bool clean = how->known && !how->signaled && how->code == 0;

	machine_enter(m);
	event.out_of_memory = how->signaled && how->code == SIGKILL && oom_happened(&m->oom);
	if (!clean)
		event.detail = words = qemu_log_words(m->config->dir, m->log_from);
	if (!clean && str_eq(m->accel, "kvm") && clock_ms() - m->ran_ms < FIRST_SECOND_MS)
		accel_decide(m->hv->accel, "tcg", "a guest died in its first second on KVM");
	qemu_tpm_end(m->hv, TAKE(m->tpm));
	if (m->phase != PHASE_ALIVE) {
		start_on_exit(m, how);
	} else {
		m->phase = PHASE_IDLE;
		m->state = HV_GONE;
		machine_detach(m); /* answers what is pending */
		machine_emit(m, &event);
	}
	machine_leave(m);
}

static void
on_tpm_exit(void *arg, const struct process_exit *how)
{
	struct machine *m = arg;
	CLEANUP_FREE char *text = NULL;

	machine_enter(m);
	qemu_tpm_forget(TAKE(m->tpm));
	/* When the emulator ends, so does its TPM, and either may be seen first. */
	if (how->known && !how->signaled && how->code == 0)
		text = NULL;
	else if (how->known)
		text = xasprintf("its TPM's process ended (%s %d): the guest has none until the next "
				 "start", how->signaled ? "signal" : "status", how->code);
	else
		text = xstrdup("its TPM's process ended: the guest has none until the next start");
	if (text != NULL && m->pidfd >= 0)
		machine_tell(m, HV_EV_NOTICE, text);
	machine_leave(m);
}

void
machine_take_tpm(struct machine *m, struct qemu_tpm *tpm)
{
	if (tpm == NULL)
		return;
	qemu_tpm_end(m->hv, TAKE(m->tpm));
	m->tpm = tpm;
	qemu_tpm_watch(tpm, m->hv->base.env->loop, on_tpm_exit, m);
}

int
machine_attach(struct machine *m, pid_t pid, int pidfd, struct err *err)
{
	m->pidfd = pidfd;
	m->id = (struct process_id){ .pid = pid };
	m->watch = process_watch_create(m->hv->base.env->loop, pid, pidfd, on_exit_seen, m);
	if (m->watch == NULL)
		return err_set(err, E_LIMIT, "no descriptor is left to watch process %d", (int)pid);
	oom_watch(pid, &m->oom);
	return 0;
}

void
machine_detach(struct machine *m)
{
	struct qmp *qmp = TAKE(m->qmp);

	timer_disarm(m->deadline);
	timer_disarm(m->tick);
	process_watch_destroy(TAKE(m->watch));
	if (m->pidfd >= 0)
		close(TAKE_FD(m->pidfd));
	m->id = (struct process_id){ 0 };
	forward_forget(m);
	nic_end(m);
	m->tell_responsive = false;
	oom_done(&m->oom);
	console_forget_input(m->console);
	qmp_destroy(qmp);
}

static void
on_tick(void *arg)
{
	struct machine *m = arg;
	struct worker_pool *pool = m->hv->base.env->pool;

	qemu_log_trim(pool, m->config->dir, "console.log", console_max);
	qemu_log_trim(pool, m->config->dir, "qemu.log", log_max);
	/* Another's death of before is not ours of now. */
	oom_done(&m->oom);
	oom_watch(m->id.pid, &m->oom);
	timer_arm(m->tick, TICK_MS);
}

void
machine_alive(struct machine *m)
{
	m->phase = PHASE_ALIVE;
	timer_disarm(m->deadline);
	timer_arm(m->tick, TICK_MS);
	nic_begin(m);
}

/* ---- open and close ---- */

static void
on_deadline(void *arg)
{
	struct machine *m = arg;
	struct err err = ERR_INIT;

	machine_enter(m);
	if (m->phase == PHASE_ADOPTING) {
		adopt_on_deadline(m);
	} else {
		exit_describe(m, NULL, &err);
		start_fail(m, &err);
	}
	machine_leave(m);
}

static struct hv_machine *
qemu_op_open(struct hypervisor *hv, const struct hv_config *config, hv_event_fn *on_event,
    void *arg)
{
	struct machine *m = xcalloc(1, sizeof(*m));
	struct loop *loop = hv->env->loop;

	loop_assert(loop);
	m->base.ops = hv->ops;
	m->hv = (struct qemu *)hv;
	m->config = config;
	m->on_event = on_event;
	m->arg = arg;
	m->state = HV_GONE;
	m->pidfd = -1;
	LIST_INIT(&m->ops);
	m->soon = timer_create_on(loop, on_soon, m);
	m->deadline = timer_create_on(loop, on_deadline, m);
	m->tick = timer_create_on(loop, on_tick, m);
	m->foreign = timer_create_on(loop, start_foreign, m);
	return &m->base;
}

static void
qemu_op_close(struct hv_machine *base)
{
	struct machine *m = of(base);
	struct err err = ERR_INIT;
	struct hv_op *op;

	loop_assert(m->hv->base.env->loop);
	machine_enter(m);
	m->dead = true;
	err_set(&err, E_CANCELLED, "the machine was closed");
	m->start = NULL;
	if (m->choosing != NULL)
		accel_cancel(TAKE(m->choosing));
	machine_detach(m);
	while ((op = LIST_FIRST(&m->ops)) != NULL) {
		work_abandon(op);
		op_finish(op, &err);
	}
	console_close(TAKE(m->console));
	qemu_tpm_forget(TAKE(m->tpm));
	timer_destroy(TAKE(m->soon));
	timer_destroy(TAKE(m->deadline));
	timer_destroy(TAKE(m->tick));
	timer_destroy(TAKE(m->foreign));
	machine_leave(m);
}

/* ---- simple calls ---- */

static void
on_reply(void *arg, json_object *result, const struct err *err)
{
	struct hv_op *op = arg;
	struct machine *m = op->machine;
	struct err ended = ERR_INIT;

	machine_enter(m);
	if (err != NULL && !m->dead && m->state == HV_GONE) {
		err_set(&ended, E_FAILED, "QEMU ended before it answered");
		err = &ended;
	}
	/* Gone before it could answer: that is what was asked for. */
	if (op->quit && !m->dead && !qmp_ready(m->qmp))
		err = NULL;
	op_finish(op, err);
	machine_leave(m);
}

static void
refuse_soon(struct hv_op *op, enum err_code code, const char *why)
{
	struct err err = ERR_INIT;

	err_set(&err, code, "%s", why);
	op_finish_soon(op, &err);
}

/* False: the call was answered, for there is nobody to ask. */
static bool
can_ask(struct machine *m, struct hv_op *op)
{
	if (m->phase != PHASE_ALIVE)
		refuse_soon(op, E_STATE, "the machine is not running");
	else if (!qmp_ready(m->qmp))
		refuse_soon(op, E_UNRESPONSIVE, "QEMU's monitor does not answer");
	else
		return true;
	return false;
}

struct hv_op *
machine_ask(struct machine *m, hv_done_fn *done, void *arg)
{
	struct hv_op *op = op_create(m, done, arg);

	return can_ask(m, op) ? op : NULL;
}

static void
ask(struct machine *m, const char *command, hv_done_fn *done, void *arg)
{
	struct hv_op *op = machine_ask(m, done, arg);

	if (op != NULL)
		qmp_command(m->qmp, command, NULL, on_reply, op);
}

static void
qemu_op_run(struct hv_machine *base, hv_done_fn *done, void *arg)
{
	of(base)->ran_ms = clock_ms();
	ask(of(base), "cont", done, arg);
}

static void
qemu_op_ask_shutdown(struct hv_machine *base, hv_done_fn *done, void *arg)
{
	struct machine *m = of(base);
	struct hv_op *op = op_create(m, done, arg);

	if (!can_ask(m, op))
		return;
	/* Stopped processors see no power button. */
	if (m->state == HV_PAUSED || m->state == HV_IO_ERROR || m->state == HV_NO_SPACE)
		qmp_command(m->qmp, "cont", NULL, NULL, NULL);
	qmp_command(m->qmp, "system_powerdown", NULL, on_reply, op);
}

static void
qemu_op_end(struct hv_machine *base, enum hv_force how, hv_done_fn *done, void *arg)
{
	struct machine *m = of(base);
	struct hv_op *op = op_create(m, done, arg);
	struct err err = ERR_INIT;

	if (m->phase == PHASE_CHOOSING || m->phase == PHASE_STARTING) {
		op_finish_soon(op, NULL);
		err_set(&err, E_CANCELLED, "the machine was ended while it started");
		start_fail(m, &err);
		return;
	}
	op->quit = true;
	if (how == HV_QUIT) {
		if (can_ask(m, op))
			qmp_command(m->qmp, "quit", NULL, on_reply, op);
	} else if (m->pidfd < 0) {
		refuse_soon(op, E_STATE, "the machine is not running");
	} else if (process_signal(m->id.pid, m->pidfd, how == HV_TERM ? SIGTERM : SIGKILL) ==
		   E_PERMISSION) {
		refuse_soon(op, E_PERMISSION, "the machine's process is another user's");
	} else {
		op_finish_soon(op, NULL);
	}
}

static void
qemu_op_suspend(struct hv_machine *base, hv_done_fn *done, void *arg)
{
	ask(of(base), "stop", done, arg);
}

static void
qemu_op_resume(struct hv_machine *base, hv_done_fn *done, void *arg)
{
	ask(of(base), "cont", done, arg);
}

static enum hv_run_state
qemu_op_state(struct hv_machine *base)
{
	struct machine *m = of(base);

	return m->phase == PHASE_ALIVE && !qmp_responsive(m->qmp) ? HV_UNKNOWN : m->state;
}

static void
qemu_op_facts(struct hv_machine *base, struct hv_facts *ret_facts)
{
	struct machine *m = of(base);

	*ret_facts = (struct hv_facts){ .pid = m->id.pid };
	if (m->phase != PHASE_ALIVE)
		return;
	ret_facts->ssh_host = m->ssh_port != 0 ? "127.0.0.1" : NULL;
	ret_facts->ssh_port = m->ssh_port;
	ret_facts->forwards = m->forwards;
	ret_facts->forward_count = m->forward_count;
	nic_facts(m, ret_facts);
	ret_facts->accel = m->accel;
	ret_facts->version = m->version[0] != '\0' ? m->version : NULL;
	if (m->config->spec->display != DISPLAY_NONE) {
		if (m->display_path == NULL)
			m->display_path = qemu_display_path(m->config);
		ret_facts->vnc = m->display_path;
	}
	ret_facts->machine_type = m->machine_type[0] != '\0' ? m->machine_type : NULL;
}

/* ---- console ---- */

static int
qemu_op_console_open(struct hv_machine *base, hv_output_fn *fn, void *arg, struct err *err)
{
	struct machine *m = of(base);

	if (m->console != NULL)
		return err_set(err, E_BUSY, "the console is open already");
	return console_open(m->hv->consoles, m->config, fn, arg, &m->console, err);
}

static int
qemu_op_console_write(struct hv_machine *base, const void *data, size_t len, struct err *err)
{
	struct machine *m = of(base);

	if (m->console == NULL || m->phase != PHASE_ALIVE)
		return err_set(err, E_STATE, "the machine is not running; its console takes no input");
	return console_write(m->console, data, len, err);
}

static uint64_t
qemu_op_console_offset(struct hv_machine *base)
{
	struct machine *m = of(base);

	return m->console != NULL ? console_offset(m->console) : 0;
}

static void
qemu_op_console_close(struct hv_machine *base)
{
	console_close(TAKE(of(base)->console));
}

const struct hv_ops qemu_ops = {
	.backend = BACKEND_QEMU,
	.capabilities = HV_CAN_SUSPEND | HV_CAN_USER_NET | HV_CAN_TAP | HV_CAN_PRIVATE | HV_CAN_NICS | HV_CAN_CONSOLE | HV_CAN_SSH |
	    HV_CAN_POWER_BUTTON | HV_CAN_BIOS | HV_CAN_COMMIT | HV_CAN_UEFI | HV_CAN_SECURE_BOOT |
	    HV_CAN_TPM | HV_CAN_ARCH | HV_CAN_KERNEL | HV_CAN_CDROM | HV_CAN_DISPLAY |
	    HV_CAN_FORWARD,
	.end_words = { "quit", "term", "kill" },
	.end_ms = { 3000, 3000, 15000 },
	.available = qemu_available,
	.forward = qemu_op_forward,
	.info = qemu_info,
	.complete_spec = qemu_complete_spec,
	.check_spec = qemu_check_spec,
	.open = qemu_op_open,
	.close = qemu_op_close,
	.prepare = qemu_op_prepare,
	.unprepare = qemu_op_unprepare,
	.launch = qemu_op_launch,
	.runtime = qemu_op_runtime,
	.run = qemu_op_run,
	.adopt = qemu_op_adopt,
	.ask_shutdown = qemu_op_ask_shutdown,
	.end = qemu_op_end,
	.suspend = qemu_op_suspend,
	.resume = qemu_op_resume,
	.state = qemu_op_state,
	.facts = qemu_op_facts,
	.console_open = qemu_op_console_open,
	.console_write = qemu_op_console_write,
	.console_offset = qemu_op_console_offset,
	.console_close = qemu_op_console_close,
	.screenshot = qemu_op_screenshot,
	.firmware_record = qemu_firmware_record,
};
