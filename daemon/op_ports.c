/* SPDX-License-Identifier: MPL-2.0
 *
 * A machine's forwards become others.  What is wanted is written down first; what is done is then
 * whatever differs from it, so that the same operation finishes one that a former daemon began. */
#include <stdlib.h>
#include <string.h>

#include "daemon/ops.h"
#include "daemon/ports.h"
#include "daemon/vm.h"
#include "daemon/vmmd.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/worker.h"

enum { CHANGES_MAX = 4 * PORTS_MAX }; /* more than there can be: somebody works against us */

struct ports_data {
	struct strings want, before;
	struct ports_trial trial;
	struct job *job;
	const struct strings *target; /* of the step that runs */
	unsigned changes;
	bool kept; /* want is in the store */
};

/* ---- step: check ---- */

static void
check_job(struct job *job, void *data)
{
	struct operation *op = data;
	struct ports_data *d = op->data;

	ports_trial_run(&d->trial);
}

static void
check_done(void *data)
{
	struct operation *op = data;
	struct ports_data *d = op->data;

	d->job = NULL;
	if (d->trial.err.code == E_OK) {
		op_step_done(op);
		return;
	}
	err_object(&d->trial.err, op->vm_name);
	op_step_failed(op, &d->trial.err);
}

static enum step_result
check_run(struct operation *op, struct err *err)
{
	struct ports_data *d = op->data;

	if (!ports_differ(op->vm, &d->want))
		return STEP_DONE;
	if (ports_check_ours(op->vmmd, op->vm, op->uid, &d->want, err) != 0)
		return STEP_FAILED;
	ports_trial_init(op->vm, &d->want, &d->trial);
	if (d->trial.count == 0)
		return STEP_DONE;
	if (worker_submit(
		op->vmmd->disk_pool, "ports", check_job, check_done, op, 0, &d->job, err) != 0)
		return STEP_FAILED;
	return STEP_WAIT;
}

/* ---- step: journal ---- */

static int
keep(struct vm *vm, const struct strings *ports, struct err *err)
{
	struct strings copy = strings_copy(ports);

	strings_done(&vm->spec.ports);
	vm->spec.ports = copy;
	vm_changed(vm);
	return vm_commit(vm, err);
}

static enum step_result
journal_run(struct operation *op, struct err *err)
{
	struct ports_data *d = op->data;

	d->kept = true;
	return keep(op->vm, &d->want, err) != 0 ? STEP_FAILED : STEP_DONE;
}

static enum step_result
journal_undo(struct operation *op, struct err *err)
{
	struct ports_data *d = op->data;

	return d->kept && keep(op->vm, &d->before, err) != 0 ? STEP_FAILED : STEP_DONE;
}

/* ---- step: forward ---- */

static enum step_result next_change(struct operation *op, struct err *err);

static void
changed(void *arg, const struct err *err)
{
	struct operation *op = arg;
	struct err own = ERR_INIT;

	if (err != NULL) {
		op_step_failed(op, err);
		return;
	}
	switch (next_change(op, &own)) {
	case STEP_DONE:
		op_step_done(op);
		break;
	case STEP_FAILED:
		op_step_failed(op, &own);
		break;
	case STEP_WAIT:
		break;
	}
}

static enum step_result
next_change(struct operation *op, struct err *err)
{
	struct ports_data *d = op->data;
	struct vm *vm = op->vm;
	struct hv_facts facts = { 0 };
	struct port port;
	bool add;

	if (!ports_can_change(vm))
		return STEP_DONE; /* what it starts with is written down */
	vm->hv->ops->facts(vm->hv, &facts);
	if (!ports_next(&facts, d->target, &port, &add))
		return STEP_DONE;
	if (op->cancelled && !op->undoing) {
		err_set(err, E_CANCELLED, "the change of ports was cancelled");
		return STEP_FAILED;
	}
	if (d->changes++ > CHANGES_MAX) {
		err_set(err, E_FAILED, "the ports of machine '%s' do not stay as they are made",
		    vm->spec.name);
		return STEP_FAILED;
	}
	vm->hv->ops->forward(vm->hv, &port, add, changed, op);
	return STEP_WAIT;
}

static enum step_result
forward_run(struct operation *op, struct err *err)
{
	struct ports_data *d = op->data;

	d->target = &d->want;
	return next_change(op, err);
}

static enum step_result
forward_undo(struct operation *op, struct err *err)
{
	struct ports_data *d = op->data;

	d->target = &d->before;
	d->changes = 0;
	return next_change(op, err);
}

/* ---- step: done ---- */

static enum step_result
done_run(struct operation *op, struct err *err)
{
	struct vm *vm = op->vm;
	struct hv_facts facts = { 0 };
	json_object *data = json_object_new_object();

	if (vm->hv != NULL && vm->runtime != NULL)
		vm->hv->ops->facts(vm->hv, &facts);
	json_object_object_add(data, "ports", ports_rows(vm, &facts));
	op->result = json_object_new_object();
	json_add_string(op->result, "name", vm->spec.name);
	json_object_object_add(op->result, "ports", ports_rows(vm, &facts));
	vm_tell(vm, "ports", data);
	vm_changed(vm);
	vm_write_copy(vm);
	return STEP_DONE;
}

static void
ports_op_release(struct operation *op)
{
	struct ports_data *d = op->data;

	strings_done(&d->want);
	strings_done(&d->before);
	free(d);
}

static const struct op_step steps[] = {
	{ "check", check_run, NULL, NULL },
	{ "journal", journal_run, NULL, journal_undo },
	{ "forward", forward_run, NULL, forward_undo },
	{ "done", done_run, NULL, NULL },
};
const struct op_kind op_kind_ports = { "vm.ports", steps, ARRAY_LEN(steps), ports_op_release,
	NULL };

static int
check_spec(const struct vm *vm, const struct strings *want, struct err *err)
{
	struct vm_spec spec = vm->spec; /* borrows all of it */
	struct hypervisor *hv;
	int rc = vm_needs(vm, HV_CAN_FORWARD, err);

	spec.ports = *want;
	if (rc == 0)
		rc = vm_spec_check_one(&spec, "", err);
	if (rc == 0)
		rc = hv_router_get(vm->vmmd->router, (enum backend)spec.backend, &hv, err);
	if (rc == 0)
		rc = hv_check_spec(hv, &spec, err);
	return rc;
}

int
ops_ports(struct vm *vm, const struct strings *want, const struct op_call *call, struct err *err)
{
	struct ports_data *d;
	int rc = check_spec(vm, want, err);

	if (rc != 0)
		return rc;
	d = xcalloc(1, sizeof(*d));
	d->want = strings_copy(want);
	d->before = strings_copy(&vm->spec.ports);
	ports_normalise(&d->want);
	return op_start(vm->vmmd, &op_kind_ports, vm, d, 0, call, NULL, err);
}
