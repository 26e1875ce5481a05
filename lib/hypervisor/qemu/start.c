/* SPDX-License-Identifier: MPL-2.0
 *
 * Launch: from nothing to a process whose processors wait and whose monitor answers.  A failure
 * leaves no process, and is told in QEMU's own words. */
#include <json-c/json.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/hypervisor/qemu/machine.h"

enum { START_MS = 15000 };

void
exit_describe(const struct machine *m, const struct process_exit *how, struct err *err)
{
	CLEANUP_FREE char *words = qemu_log_words(m->config->dir, m->log_from);
	const char *said = words != NULL ? words : "it said nothing";

	if (how == NULL)
		err_set(err, E_TIMEOUT, "QEMU did not get ready within %d s: %s", START_MS / 1000,
		    said);
	else if (how->signaled)
		err_set(err, E_FAILED, "QEMU was killed by signal %d while it started: %s", how->code,
		    said);
	else
		err_set(err, E_FAILED, "QEMU could not start (status %d): %s", how->code, said);
	err_hint(err, "its log is '%s/qemu.log'", m->config->dir);
}

/* The end of a start, either way. */
static void
finish(struct machine *m, const struct err *err)
{
	struct hv_op *start = TAKE(m->start);

	if (err != NULL) {
		m->phase = PHASE_IDLE;
		m->state = HV_GONE;
	}
	if (start != NULL)
		op_finish(start, err);
}

void
start_fail(struct machine *m, const struct err *err)
{
	if (m->phase == PHASE_FAILING)
		return;
	m->failure = *err;
	if (m->choosing != NULL)
		accel_cancel(TAKE(m->choosing));
	timer_disarm(m->deadline);
	timer_disarm(m->foreign);
	m->phase = PHASE_FAILING;
	if (m->pidfd < 0) {
		struct hv_op *start = TAKE(m->start);

		m->phase = PHASE_IDLE;
		op_finish_soon(start, err);
		return;
	}
	process_signal(m->id.pid, m->pidfd, SIGKILL);
}

static int
start_process(struct machine *m, struct err *err)
{
	struct qemu_process process;
	CLEANUP_FREE char *path = qemu_monitor_path(m->config);
	int rc = qemu_launch(m->hv, m->config, m->accel, &process, err);

	if (rc != 0)
		return rc;
	m->log_from = process.log_from;
	snprintf(m->generation, sizeof(m->generation), "%s", process.generation);
	snprintf(m->machine_type, sizeof(m->machine_type), "%s",
	    qemu_arch_get(m->config->spec->arch)->machine);
	machine_take_tpm(m, process.tpm);
	m->phase = PHASE_STARTING;
	rc = machine_attach(m, process.pid, process.pidfd, err);
	if (rc != 0) {
		process_signal(m->id.pid, m->pidfd, SIGKILL);
		qemu_tpm_end(m->hv, TAKE(m->tpm));
		machine_detach(m);
		return rc;
	}
	m->qmp = qmp_create(m->hv->base.env->loop, path, &machine_qmp_handler, m);
	timer_arm(m->deadline, START_MS);
	return 0;
}

/* KVM failed before anything ran: the other way is tried once, and told. */
static bool
try_without_kvm(struct machine *m, const struct process_exit *how)
{
	CLEANUP_FREE char *notice = NULL;
	struct err err = ERR_INIT;

	if (m->phase != PHASE_STARTING || m->retried || !str_eq(m->accel, "kvm") ||
	    !str_eq(m->hv->base.env->accel, "auto"))
		return false;
	exit_describe(m, how, &err);
	accel_decide(m->hv->accel, "tcg", "a guest could not start on KVM");
	m->retried = true;
	m->accel = "tcg";
	machine_detach(m);
	notice = xasprintf("KVM failed, so the processor is emulated: %s", err.msg);
	machine_tell(m, HV_EV_NOTICE, notice);
	if (m->dead)
		return true;
	if (start_process(m, &err) != 0)
		finish(m, &err);
	return true;
}

void
start_on_exit(struct machine *m, const struct process_exit *how)
{
	struct err err = ERR_INIT;

	if (try_without_kvm(m, how))
		return;
	if (m->phase == PHASE_FAILING)
		err = m->failure;
	else if (m->phase == PHASE_ADOPTING)
		err_set(&err, E_NOT_FOUND, "the machine's process ended");
	else
		exit_describe(m, how, &err);
	machine_detach(m);
	if (!m->dead)
		finish(m, &err);
}

void
start_complete(struct machine *m)
{
	qmp_expect_peer(m->qmp, m->id.pid);
	machine_alive(m);
	finish(m, NULL);
}

static void
one_reply(struct machine *m, const struct err *err)
{
	struct process_id id;
	struct err failure = ERR_INIT;

	if (m->dead || m->phase != PHASE_STARTING)
		return;
	machine_enter(m);
	if (err != NULL) {
		failure = *err;
		err_wrap(&failure, "QEMU could not be set up");
		start_fail(m, &failure);
	} else if (--m->replies == 0) {
		/* The executable is QEMU's by now. */
		if (process_identify(m->id.pid, &id, NULL) == 0)
			m->id = id;
		start_complete(m);
	}
	machine_leave(m);
}

static void
on_status(void *arg, json_object *result, const struct err *err)
{
	struct machine *m = arg;

	if (err == NULL)
		monitor_status(result, &m->state);
	one_reply(m, err);
}

static void
on_console(void *arg, json_object *result, const struct err *err)
{
	one_reply(arg, err);
}

static void
on_usernet(void *arg, json_object *result, const struct err *err)
{
	struct machine *m = arg;

	if (err == NULL)
		forward_learn(m, result);
	one_reply(m, err);
}

/* A file chardev gets its input by QMP alone: the option has no word for it in 7.2. */
static json_object *
console_arguments(void)
{
	CLEANUP_FREE char *text = xasprintf(
	    "{\"id\":\"console0\",\"backend\":{\"type\":\"file\",\"data\":{\"in\":\"/dev/fdset/%d\","
	    "\"out\":\"/dev/fdset/%d\",\"append\":true}}}",
	    QEMU_SET_CONSOLE_IN, QEMU_SET_CONSOLE_LOG);

	return json_tokener_parse(text);
}

void
start_on_ready(struct machine *m)
{
	bool change = qemu_arch_get(m->config->spec->arch)->console != NULL;

	m->replies = 1 + change;
	qmp_command(m->qmp, "query-status", NULL, on_status, m);
	if (change)
		qmp_command(m->qmp, "chardev-change", console_arguments(), on_console, m);
	m->replies += monitor_ask_usernet(m, on_usernet, m);
}

static void
on_accel(void *arg, const char *choice, const char *why, const struct err *err)
{
	struct machine *m = arg;
	CLEANUP_FREE char *notice = NULL;
	struct err failure = ERR_INIT;

	machine_enter(m);
	m->choosing = NULL;
	m->accel = choice;
	if (err == NULL && why != NULL) {
		notice = xasprintf("the processor is emulated, which is slow: %s", why);
		machine_tell(m, HV_EV_NOTICE, notice);
	}
	if (!m->dead) {
		if (err != NULL)
			finish(m, err);
		else if (start_process(m, &failure) != 0)
			finish(m, &failure);
	}
	machine_leave(m);
}

/* Of another architecture: nothing is there to choose. */
void
start_foreign(void *arg)
{
	struct machine *m = arg;

	on_accel(m, "tcg", "its architecture is not the host's", NULL);
}

void
qemu_op_launch(struct hv_machine *base, hv_done_fn *done, void *arg)
{
	struct machine *m = (struct machine *)base;
	struct hv_op *op = op_create(m, done, arg);
	struct err err = ERR_INIT;
	pid_t pid = 0;

	if (m->phase != PHASE_IDLE)
		err_set(&err, E_STATE, "the machine runs already");
	else if (adopt_record_lives(m->config, &pid))
		err_set(&err, E_STATE, "the machine runs already, as process %d", (int)pid);
	if (err.code != E_OK) {
		op_finish_soon(op, &err);
		return;
	}
	m->start = op;
	m->retried = false;
	m->phase = PHASE_CHOOSING;
	m->state = HV_GONE;
	if (m->config->spec->arch == ARCH_DEFAULT || m->config->spec->arch == (int)arch_host())
		m->choosing = accel_choose(m->hv->accel, m->config->run_dir, on_accel, m);
	else
		timer_arm(m->foreign, 0);
}
