/* SPDX-License-Identifier: MPL-2.0
 *
 * Stopping, suspending, resuming and destroying.  A stop asks the guest, then insists, and says
 * in its result what it took. */
#include <stdlib.h>

#include "daemon/config.h"
#include "daemon/events.h"
#include "daemon/guest_off.h"
#include "daemon/ops.h"
#include "daemon/step_wait.h"
#include "daemon/vm.h"
#include "daemon/vmmd.h"
#include "lib/base/clock.h"
#include "lib/base/fs.h"
#include "lib/base/json.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/base/worker.h"
#include "lib/store/store.h"

enum { DESTROY_ASK_MS = 5000 };

struct stop_data {
	struct step_wait wait;
	uint64_t timeout_ms;
	bool force;
	bool destroy;
	const char *how; /* how it ended; NULL: not yet */
	const char *by;  /* what was tried last to make it end; NULL: nothing */
	struct guest_off *off;
	bool deaf;     /* the guest could not be asked */
	bool insisted; /* its end was demanded */
	uint64_t began_ms;
	/* removal, on a worker */
	char *dir, *run_dir;
	struct err err;
	struct operation *op;
};

static int
process_gone(struct operation *op, struct err *err)
{
	struct stop_data *d = op->data;

	if (op->vm->runtime != NULL)
		return 0;
	if (op->vm->state == VM_STOPPING)
		vm_event(op->vm, VM_EV_ENDED, "user", false, NULL);
	(void)d;
	return 1;
}

static void
stop_wait_cancel(struct operation *op)
{
	struct stop_data *d = op->data;

	guest_off_forget(TAKE(d->off));
	step_wait_cancel(&d->wait);
}

/* ---- step: journal ---- */

static enum step_result
stop_journal_run(struct operation *op, struct err *err)
{
	struct stop_data *d = op->data;

	d->began_ms = clock_ms();
	op->vm->wanted = VM_WANT_DOWN;
	if (vm_event(op->vm, VM_EV_STOP, NULL, true, err) != 0)
		return STEP_FAILED;
	if (op->vm->runtime == NULL)
		d->how = "was not running";
	return STEP_DONE;
}

static enum step_result
stop_journal_undo(struct operation *op, struct err *err)
{
	struct stop_data *d = op->data;

	/* What was told to end is not running any more, also when it does not obey. */
	if (op->vm->state == VM_STOPPING && op->vm->runtime != NULL && !d->insisted) {
		op->vm->wanted = VM_WANT_UP;
		vm_event(op->vm, VM_EV_STOP_UNDONE, NULL, false, NULL);
	}
	return STEP_DONE;
}

/* ---- step: wake ---- */

static void
go_on(void *arg, const struct err *err)
{
	if (err != NULL)
		log_debug("stop: %s", err->msg); /* the next step insists */
	op_step_done(arg);
}

static enum step_result
wake_run(struct operation *op, struct err *err)
{
	struct stop_data *d = op->data;
	struct vm *vm = op->vm;

	/* A suspended guest can not hear that it shall power off. */
	if (d->timeout_ms == 0 || vm->runtime == NULL || !vm->responsive ||
	    vm->hv->ops->state(vm->hv) != HV_PAUSED)
		return STEP_DONE;
	vm->hv->ops->resume(vm->hv, go_on, op);
	return STEP_WAIT;
}

/* ---- step: ask ---- */

static int
gone_or_deaf(struct operation *op, struct err *err)
{
	struct stop_data *d = op->data;

	return process_gone(op, err) || d->deaf;
}

static void
told(void *arg, const struct err *err)
{
	struct operation *op = arg;
	struct stop_data *d = op->data;

	d->off = NULL;
	if (err == NULL)
		return;
	op_note(op, "'%s' can not be asked to power off: %s", op->vm_name, err->msg);
	d->by = NULL;
	d->deaf = true;
	vm_changed(op->vm); /* the wait is over */
}

/* Without a power button only the guest itself can do it, by a login of its own. */
static bool
ask_by_login(struct operation *op)
{
	struct stop_data *d = op->data;
	struct err why = ERR_INIT;

	if (guest_off_start(op->vm, d->timeout_ms, told, op, &d->off, &why) == 0) {
		d->by = "ssh";
		return true;
	}
	op_note(op, "'%s' can not be asked to power off: %s", op->vm_name, why.msg);
	return false;
}

static void
asked(void *arg, const struct err *err)
{
	if (err != NULL)
		log_debug("asking a guest to power off: %s", err->msg);
}

static void
insist(struct operation *op, struct err *err)
{
	op_note(op, "'%s' did not power off in time", op->vm_name);
}

static enum step_result
ask_run(struct operation *op, struct err *err)
{
	struct stop_data *d = op->data;
	struct vm *vm = op->vm;
	unsigned can;

	if (d->timeout_ms == 0 || vm->runtime == NULL || !vm->responsive)
		return STEP_DONE;
	can = vm->hv->ops->capabilities;
	if (can & HV_CAN_POWER_BUTTON) {
		d->by = "power button";
		vm->hv->ops->ask_shutdown(vm->hv, asked, op);
	} else if (!(can & HV_CAN_SSH) || !ask_by_login(op)) {
		return STEP_DONE;
	}
	return step_wait_start(&d->wait, op, d->timeout_ms, gone_or_deaf, insist, err);
}

/* ---- steps: insist ---- */

static void
unkillable(struct operation *op, struct err *err)
{
	vm_not_ended(op->vm, err);
}

/* What can not be done needs no waiting for: the next step, or the end of it all. */
static int
gone_or_failed(struct operation *op, struct err *err)
{
	return process_gone(op, err) || vm_end_failed(op->vm);
}

static int
gone_or_never(struct operation *op, struct err *err)
{
	if (process_gone(op, err))
		return 1;
	if (!vm_end_failed(op->vm))
		return 0;
	unkillable(op, err);
	return -1;
}

static enum step_result
end_run(struct operation *op, enum hv_force force, struct err *err)
{
	struct stop_data *d = op->data;
	bool last = force == HV_KILL;

	guest_off_forget(TAKE(d->off));
	if (process_gone(op, err)) {
		if (d->how == NULL)
			d->how = "graceful";
		return STEP_DONE;
	}
	d->insisted = true;
	d->by = op->vm->hv->ops->end_words[force];
	vm_end_process(op->vm, force);
	return step_wait_start(&d->wait, op, op->vm->hv->ops->end_ms[force],
	    last ? gone_or_never : gone_or_failed, last ? unkillable : NULL, err);
}

static void
mark(struct operation *op, const char *how)
{
	struct stop_data *d = op->data;

	if (op->vm->runtime != NULL && d->how == NULL)
		op_note(op, "'%s' is being %s", op->vm_name, how);
}

static enum step_result
quit_run(struct operation *op, struct err *err)
{
	if (op->vm->runtime != NULL && !op->vm->responsive)
		return STEP_DONE; /* it would not hear */
	mark(op, "terminated");
	return end_run(op, HV_QUIT, err);
}

static enum step_result
term_run(struct operation *op, struct err *err)
{
	struct stop_data *d = op->data;

	if (op->vm->runtime == NULL && d->how == NULL)
		d->how = "terminated";
	return end_run(op, HV_TERM, err);
}

static enum step_result
kill_run(struct operation *op, struct err *err)
{
	struct stop_data *d = op->data;
	const char *const *words;

	if (op->vm->runtime == NULL) {
		if (d->how == NULL)
			d->how = "terminated";
		return STEP_DONE;
	}
	words = op->vm->hv->ops->end_words;
	/* The same again would bring the same. */
	if (vm_end_failed(op->vm) && str_eq(words[HV_TERM], words[HV_KILL])) {
		unkillable(op, err);
		return STEP_FAILED;
	}
	d->how = "killed";
	return end_run(op, HV_KILL, err);
}

static enum step_result
ended_run(struct operation *op, struct err *err)
{
	struct stop_data *d = op->data;

	process_gone(op, err);
	op->result = vm_row_json(op->vm);
	json_add_string(op->result, "how", d->how != NULL ? d->how : "graceful");
	json_add_string(op->result, "by", d->by);
	json_add_int(op->result, "took_ms", (int64_t)(clock_ms() - d->began_ms));
	return STEP_DONE;
}

static void
stop_release(struct operation *op)
{
	struct stop_data *d = op->data;

	step_wait_done(&d->wait);
	guest_off_forget(d->off);
	free(d->dir);
	free(d->run_dir);
	free(d);
}

static const struct op_step stop_steps[] = {
	{ "journal", stop_journal_run, NULL, stop_journal_undo },
	{ "wake", wake_run, NULL, NULL },
	{ "shutdown", ask_run, stop_wait_cancel, NULL },
	{ "terminate", quit_run, NULL, NULL },
	{ "term", term_run, NULL, NULL },
	{ "kill", kill_run, NULL, NULL },
	{ "ended", ended_run, NULL, NULL },
};
const struct op_kind op_kind_stop = { "vm.stop", stop_steps, ARRAY_LEN(stop_steps), stop_release,
	NULL };

int
ops_stop(struct vm *vm, struct stop_args args, const struct op_call *call, struct err *err)
{
	struct stop_data *d;
	int rc = vm_check_event(vm, VM_EV_STOP, err);

	if (rc != 0)
		return rc;
	d = xcalloc(1, sizeof(*d));
	d->timeout_ms = args.force ? 0 : args.timeout_ms;
	d->force = args.force;
	return op_start(vm->vmmd, &op_kind_stop, vm, d, 0, call, NULL, err);
}

/* ---- destroy ---- */

static enum step_result
destroy_journal_run(struct operation *op, struct err *err)
{
	op->vm->wanted = VM_WANT_DOWN;
	/* From here on it only goes forward, also after a crash. */
	return vm_event(op->vm, VM_EV_DESTROY, NULL, true, err) == 0 ? STEP_DONE : STEP_FAILED;
}

static void
disk_gone(void *arg, const struct err *err)
{
	if (err != NULL)
		op_step_failed(arg, err);
	else
		op_step_done(arg);
}

static enum step_result
disk_run(struct operation *op, struct err *err)
{
	if (vm_open_hv(op->vm, err) != 0)
		return STEP_FAILED;
	op->vm->hv->ops->unprepare(op->vm->hv, disk_gone, op);
	return STEP_WAIT;
}

static void
remove_job(struct job *job, void *data)
{
	struct stop_data *d = data;

	if (fs_remove_tree(d->run_dir, &d->err) == 0)
		fs_remove_tree(d->dir, &d->err);
}

static void
remove_done(void *data)
{
	struct stop_data *d = data;
	struct operation *op = d->op;
	struct vm *vm = op->vm;
	struct err err = ERR_INIT;

	if (d->err.code != E_OK) {
		op_step_failed(op, &d->err);
		return;
	}
	if (store_commit_remove(op->vmmd->store, STORE_MACHINE, vm->id, &err) != 0) {
		op_step_failed(op, &err);
		return;
	}
	vm_tell(vm, "destroyed", NULL);
	log_info("machine '%s' is gone", vm->spec.name);
	op->result = json_object_new_object();
	json_add_string(op->result, "name", vm->spec.name);
	json_add_string(op->result, "id", vm->id);
	json_add_string(op->result, "state", "destroyed");
	op->vm = NULL;
	vm_free(vm);
	op_step_done(op);
}

static enum step_result
remove_run(struct operation *op, struct err *err)
{
	struct stop_data *d = op->data;

	d->op = op;
	d->dir = xstrdup(op->vm->dir);
	d->run_dir = xstrdup(op->vm->run_dir);
	if (worker_submit(
		op->vmmd->disk_pool, "remove", remove_job, remove_done, d, 0, NULL, err) != 0)
		return STEP_FAILED;
	return STEP_WAIT;
}

static const struct op_step destroy_steps[] = {
	{ "journal", destroy_journal_run, NULL, NULL },
	{ "wake", wake_run, NULL, NULL },
	{ "shutdown", ask_run, NULL, NULL },
	{ "terminate", quit_run, NULL, NULL },
	{ "term", term_run, NULL, NULL },
	{ "kill", kill_run, NULL, NULL },
	{ "disk", disk_run, NULL, NULL },
	{ "remove", remove_run, NULL, NULL },
};
const struct op_kind op_kind_destroy = { "vm.destroy", destroy_steps, ARRAY_LEN(destroy_steps),
	stop_release, NULL };

int
ops_destroy(struct vm *vm, bool force, const struct op_call *call, struct err *err)
{
	struct stop_data *d;
	int rc = vm_check_event(vm, VM_EV_DESTROY, err);

	if (rc != 0)
		return rc;
	d = xcalloc(1, sizeof(*d));
	d->timeout_ms = force || vm->state != VM_RUNNING ? 0 : DESTROY_ASK_MS;
	d->destroy = true;
	return op_start(vm->vmmd, &op_kind_destroy, vm, d, 0, call, NULL, err);
}

/* ---- suspend, resume ---- */

static void
power_done(void *arg, const struct err *err)
{
	struct operation *op = arg;
	bool suspend = op->kind == &op_kind_suspend;
	struct err own = ERR_INIT;

	if (err != NULL) {
		op_step_failed(op, err);
		return;
	}
	vm_set_runtime(op->vm); /* some backends know their state from it alone */
	/* The hypervisor's event usually came first; then this changes nothing. */
	if (vm_event(op->vm, suspend ? VM_EV_PAUSED : VM_EV_RESUMED, NULL, true, &own) != 0) {
		op_step_failed(op, &own);
		return;
	}
	vm_save(op->vm);
	op->result = vm_row_json(op->vm);
	op_step_done(op);
}

static enum step_result
suspend_run(struct operation *op, struct err *err)
{
	op->vm->hv->ops->suspend(op->vm->hv, power_done, op);
	return STEP_WAIT;
}

static enum step_result
resume_run(struct operation *op, struct err *err)
{
	op->vm->hv->ops->resume(op->vm->hv, power_done, op);
	return STEP_WAIT;
}

static const struct op_step suspend_steps[] = { { "suspend", suspend_run, NULL, NULL } };
static const struct op_step resume_steps[] = { { "resume", resume_run, NULL, NULL } };
const struct op_kind op_kind_suspend = { "vm.suspend", suspend_steps, 1, NULL, NULL };
const struct op_kind op_kind_resume = { "vm.resume", resume_steps, 1, NULL, NULL };

static int
power_op(struct vm *vm, const struct op_kind *kind, enum vm_state needed,
    const struct op_call *call, struct err *err)
{
	int rc;

	if (vm->state != needed) {
		err_set(err, E_STATE, "machine '%s' is %s; cannot %s it", vm->spec.name,
		    vm_state_names[vm->state], kind == &op_kind_suspend ? "suspend" : "resume");
		err_hint(err, "only a %s machine can", vm_state_names[needed]);
		err_object(err, vm->spec.name);
		return E_STATE;
	}
	rc = vm_open_hv(vm, err);
	if (rc != 0)
		return rc;
	rc = vm_needs(vm, HV_CAN_SUSPEND, err);
	if (rc != 0) {
		err_hint(err, "'vmctl stop %s' ends it and keeps its disk", vm->spec.name);
		return rc;
	}
	return op_start(vm->vmmd, kind, vm, NULL, 30000, call, NULL, err);
}

int
ops_suspend(struct vm *vm, const struct op_call *call, struct err *err)
{
	return power_op(vm, &op_kind_suspend, VM_RUNNING, call, err);
}

int
ops_resume(struct vm *vm, const struct op_call *call, struct err *err)
{
	return power_op(vm, &op_kind_resume, VM_SUSPENDED, call, err);
}
