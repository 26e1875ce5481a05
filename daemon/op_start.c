/* SPDX-License-Identifier: MPL-2.0
 *
 * Starting a machine: the intent is committed, the seed written, the process launched with its
 * processors stopped, its identity committed, and only then does the guest run. */
#include <stdlib.h>
#include <string.h>

#include "daemon/config.h"
#include "daemon/console.h"
#include "daemon/guest_seed.h"
#include "daemon/ops.h"
#include "daemon/ports.h"
#include "daemon/private.h"
#include "daemon/step_wait.h"
#include "daemon/vm.h"
#include "daemon/vmmd.h"
#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/base/worker.h"

struct start_data {
	struct step_wait wait;
	struct seed_work *seed;
	struct job *job;
	struct ports_trial trial;
	struct err failure; /* of the launch, while its ports are looked at */
	uint64_t began_ms, launched_ms;
	bool begun; /* the life cycle says starting */
};

enum { SETTLE_MS = 15000, NETWORK_MS = 15000 };

/* ---- step: settle ---- */

static int
process_gone(struct operation *op, struct err *err)
{
	return op->vm->runtime == NULL;
}

static void
not_gone(struct operation *op, struct err *err)
{
	err_set(err, E_BUSY, "the former process of machine '%s' has not ended yet", op->vm_name);
	err_hint(err, "'vmctl stop --force %s' ends it", op->vm_name);
}

static enum step_result
settle_run(struct operation *op, struct err *err)
{
	struct start_data *d = op->data;

	d->began_ms = clock_ms();
	return step_wait_start(&d->wait, op, SETTLE_MS, process_gone, not_gone, err);
}

static void
wait_cancel(struct operation *op)
{
	struct start_data *d = op->data;

	step_wait_cancel(&d->wait);
}

/* ---- step: ports ---- */

static void
ports_job(struct job *job, void *data)
{
	struct operation *op = data;
	struct start_data *d = op->data;

	ports_trial_run(&d->trial);
}

static void
ports_done(void *data)
{
	struct operation *op = data;
	struct start_data *d = op->data;

	d->job = NULL;
	err_object(&d->trial.err, op->vm_name);
	if (d->trial.err.code != E_OK)
		op_step_failed(op, &d->trial.err);
	else if (d->failure.code != E_OK)
		op_step_failed(op, &d->failure);
	else
		op_step_done(op);
}

static enum step_result
ports_run(struct operation *op, struct err *err)
{
	struct start_data *d = op->data;
	struct vm *vm = op->vm;

	if (ports_check_ours(op->vmmd, vm, op->uid, &vm->spec.ports, err) != 0)
		return STEP_FAILED;
	ports_trial_init(vm, &vm->spec.ports, &d->trial);
	if (d->trial.count == 0)
		return STEP_DONE;
	if (worker_submit(op->vmmd->disk_pool, "ports", ports_job, ports_done, op, 0, &d->job, err) != 0)
		return STEP_FAILED;
	return STEP_WAIT;
}

/* ---- step: journal ---- */

static enum step_result
journal_run(struct operation *op, struct err *err)
{
	struct start_data *d = op->data;
	struct vm *vm = op->vm;

	/* Another may have begun meanwhile; from the event below on, it is told of us. */
	if (ports_check_ours(op->vmmd, vm, op->uid, &vm->spec.ports, err) != 0)
		return STEP_FAILED;
	vm->wanted = VM_WANT_UP;
	vm->phase_count = 0;
	vm->cloud_init_known = false;
	if (vm_event(vm, VM_EV_START, NULL, true, err) != 0 || vm_open_hv(vm, err) != 0)
		return STEP_FAILED;
	d->begun = true;
	return STEP_DONE;
}

static enum step_result
journal_undo(struct operation *op, struct err *err)
{
	struct vm *vm = op->vm;

	if (vm->state != VM_STARTING)
		return STEP_DONE;
	if (op->cancelled && !op->timed_out) {
		vm->wanted = VM_WANT_DOWN;
		vm_event(vm, VM_EV_START_UNDONE, "cancelled", false, NULL);
	} else {
		vm_event(vm, VM_EV_START_FAILED, "start-failed", false, NULL);
	}
	return STEP_DONE;
}

/* ---- step: network ---- */

static enum step_result
network_run(struct operation *op, struct err *err)
{
	struct start_data *d = op->data;
	bool on_switch = false;

	for (size_t i = 0; i < op->vm->nic_count; i++)
		on_switch = on_switch || op->vm->nics[i].port >= 0;
	if (!on_switch)
		return STEP_DONE;
	private_retry(op->vmmd);
	return step_wait_start(&d->wait, op, NETWORK_MS, private_ready, private_late, err);
}

/* ---- step: seed ---- */

static void
seed_job(struct job *job, void *data)
{
	struct operation *op = data;
	struct start_data *d = op->data;

	seed_work_run(d->seed);
}

static void
seed_done(void *data)
{
	struct operation *op = data;
	struct start_data *d = op->data;
	struct err err = ERR_INIT;

	d->job = NULL;
	if (seed_work_apply(d->seed, op->vm, &err) != 0) {
		op_step_failed(op, &err);
		return;
	}
	vm_phase(op->vm, "seed", clock_ms() - d->began_ms);
	op_step_done(op);
}

static enum step_result
seed_run(struct operation *op, struct err *err)
{
	struct start_data *d = op->data;

	if (!op->vm->spec.cloud_init.present || vm_is_noop(op->vm))
		return STEP_DONE;
	d->seed = seed_work_create(op->vm);
	if (worker_submit(op->vmmd->disk_pool, "seed", seed_job, seed_done, op, 0, &d->job, err) != 0)
		return STEP_FAILED;
	return STEP_WAIT;
}

/* ---- step: launch ---- */

static void
launched(void *arg, const struct err *err)
{
	struct operation *op = arg;
	struct start_data *d = op->data;
	struct err own = ERR_INIT;

	if (err != NULL) {
		/* Somebody was faster than QEMU: who?  Ask again, now that it has failed. */
		d->failure = *err;
		ports_trial_init(op->vm, &op->vm->spec.ports, &d->trial);
		if (d->trial.count == 0 || worker_submit(op->vmmd->disk_pool, "ports", ports_job,
					       ports_done, op, 0, &d->job, NULL) != 0)
			op_step_failed(op, err);
		return;
	}
	vm_phase(op->vm, "launch", clock_ms() - d->launched_ms);
	vm_set_runtime(op->vm);
	/* Whoever comes after a crash must find the process before its guest can write. */
	if (vm_commit(op->vm, &own) != 0)
		op_step_failed(op, &own);
	else
		op_step_done(op);
}

static enum step_result
launch_run(struct operation *op, struct err *err)
{
	struct start_data *d = op->data;

	d->launched_ms = clock_ms();
	op->vm->ending = false;
	op->vm->hv->ops->launch(op->vm->hv, launched, op);
	return STEP_WAIT;
}

static void
still_there(struct operation *op, struct err *err)
{
	vm_not_ended(op->vm, err);
}

static enum step_result
launch_undo(struct operation *op, struct err *err)
{
	struct start_data *d = op->data;

	if (op->vm->runtime == NULL)
		return STEP_DONE;
	vm_end_process(op->vm, HV_KILL);
	return step_wait_start(&d->wait, op, vm_end_patience_ms(op->vm), process_gone, still_there,
	    err);
}

static void
hypervisor_cancel(struct operation *op)
{
	struct hv_machine *hv = op->vm->hv;

	if (hv->ops->cancel != NULL)
		hv->ops->cancel(hv);
}

/* ---- step: run ---- */

static void
running(void *arg, const struct err *err)
{
	struct operation *op = arg;
	struct vm *vm = op->vm;
	struct err own = ERR_INIT;

	if (err == NULL && vm->runtime == NULL) {
		err_set(&own, E_FAILED, "machine '%s' ended as soon as it ran", vm->spec.name);
		err = &own;
	}
	if (err != NULL) {
		op_step_failed(op, err);
		return;
	}
	vm->started_ms = clock_wall_ms();
	if (vm_event(vm, VM_EV_STARTED, NULL, true, &own) != 0) {
		op_step_failed(op, &own);
		return;
	}
	vm->probe_began_ms = clock_ms();
	vm_begin_probe(vm);
	op->result = vm_row_json(vm);
	op_step_done(op);
}

static enum step_result
run_run(struct operation *op, struct err *err)
{
	op->vm->hv->ops->run(op->vm->hv, running, op);
	return STEP_WAIT;
}

static void
start_release(struct operation *op)
{
	struct start_data *d = op->data;

	step_wait_done(&d->wait);
	seed_work_destroy(d->seed);
	free(d);
}

static const struct op_step steps[] = {
	{ "settle", settle_run, wait_cancel, NULL },
	{ "ports", ports_run, NULL, NULL },
	{ "journal", journal_run, NULL, journal_undo },
	{ "network", network_run, wait_cancel, NULL },
	{ "seed", seed_run, NULL, NULL },
	{ "launch", launch_run, hypervisor_cancel, launch_undo },
	{ "run", run_run, hypervisor_cancel, NULL },
};
const struct op_kind op_kind_start = { "vm.start", steps, ARRAY_LEN(steps), start_release, NULL };

int
ops_start(struct vm *vm, const struct op_call *call, struct err *err)
{
	struct hypervisor *hv;
	int rc = vm_check_event(vm, VM_EV_START, err);

	if (rc == 0)
		rc = hv_router_get(vm->vmmd->router, (enum backend)vm->spec.backend, &hv, err);
	if (rc != 0)
		return rc;
	if (!vm->responsive) {
		err_set(err, E_UNRESPONSIVE, "a process of machine '%s' lives and does not answer",
		    vm->spec.name);
		err_hint(err, "'vmctl stop --force %s' ends it", vm->spec.name);
		err_object(err, vm->spec.name);
		return E_UNRESPONSIVE;
	}
	return op_start(vm->vmmd, &op_kind_start, vm, xcalloc(1, sizeof(struct start_data)),
	    vm->vmmd->config->start_timeout_ms, call, NULL, err);
}
