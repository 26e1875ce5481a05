/* SPDX-License-Identifier: MPL-2.0
 *
 * Every member of a project goes through a chain of operations of its own, side by side with the
 * others and behind those that it depends on.  A member is kicked when it may go on: at the
 * start, when its operation ended, and when another member finished. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/files.h"
#include "daemon/nics.h"
#include "daemon/ops.h"
#include "daemon/project.h"
#include "daemon/request.h"
#include "daemon/spec_diff.h"
#include "daemon/vm.h"
#include "daemon/vmmd.h"
#include "lib/base/json.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/base/worker.h"
#include "lib/image/image.h"

/* Two chains: reload and up go along the first, from destroy or from create; down the second. */
enum stage { STAGE_DESTROY, STAGE_CREATE, STAGE_UPDATE, STAGE_PORTS, STAGE_START, STAGE_GUEST, STAGE_END,
	STAGE_STOP, STAGE_STOPPED };

static void kick(void *arg);

/* At most one kick of a member is on its way, and the project stays until the last has come. */
static void
kick_later(struct member *m)
{
	if (m->kicked)
		return;
	m->kicked = true;
	m->project->kicks++;
	loop_post(m->project->vmmd->loop, kick, m);
}

/* Does a depend on b? */
static bool
depends_on(const struct member *a, const struct member *b)
{
	for (size_t i = 0; i < a->spec.depends_on.count; i++)
		if (str_eq(a->spec.depends_on.items[i], b->name))
			return true;
	return false;
}

/* Must m not go on before other has finished? */
static bool
waits_for(const struct member *m, const struct member *other)
{
	return m->project->verb == PROJECT_DOWN ? depends_on(other, m) : depends_on(m, other);
}

static void
finish_member(struct member *m, const struct err *err)
{
	struct project *p = m->project;
	bool all = true;

	m->finished = true;
	if (err != NULL) {
		m->error = xmemdup(err, sizeof(*err));
		m->action = "failed";
		op_subphase(p->op, m->name, "failed", err->msg, 0);
	}
	for (size_t i = 0; i < p->count; i++) {
		struct member *other = &p->members[i];

		if (other->selected && !other->finished) {
			all = false;
			if (!other->busy && waits_for(other, m))
				kick_later(other);
		}
	}
	if (!all)
		return;
	p->op->result = project_result(p);
	if (p->cancelled) {
		struct err cancelled = ERR_INIT;

		err_set(&cancelled, E_CANCELLED, "%s was cancelled", p->op->kind->name);
		op_step_failed(p->op, &cancelled);
	} else {
		op_step_done(p->op);
	}
}

/* 1: may go on; 0: must wait; -1: never (err filled). */
static int
may_go_on(struct member *m, struct err *err)
{
	struct project *p = m->project;
	bool down = p->verb == PROJECT_DOWN;

	for (size_t i = 0; i < p->count; i++) {
		struct member *other = &p->members[i];

		if (!other->selected || other == m || !waits_for(m, other))
			continue;
		if (!other->finished)
			return 0;
		if (other->error != NULL && !down) {
			err_set(err, other->error->code == E_CANCELLED ? E_CANCELLED : E_FAILED,
			    "machine '%s' waits for '%s', which failed", m->name, other->name);
			err_object(err, m->name);
			return -1;
		}
	}
	return 1;
}

static void
child_ended(void *arg, struct operation *op)
{
	struct member *m = arg;

	m->busy = false;
	if (op->err != NULL) {
		finish_member(m, op->err);
		return;
	}
	if (op->kind == &op_kind_guest && json_int(op->result, "ran") > 0 &&
	    str_eq(m->action, "unchanged"))
		m->action = "provisioned";
	m->stage++;
	kick_later(m);
}

static struct op_call
child_call(struct member *m)
{
	return (struct op_call){ .uid = m->project->uid, .parent = m->project->op,
		.ended = child_ended, .arg = m };
}

/* What another operation does on the machine comes first. */
static void
foreign_ended(void *arg, struct operation *op)
{
	struct member *m = arg;

	m->busy = false;
	kick_later(m);
}

static bool
wait_for_foreign(struct member *m, struct vm *vm)
{
	if (vm == NULL || vm->op == NULL)
		return false;
	m->busy = true;
	op_listen(vm->op, foreign_ended, m);
	return true;
}

/* Starts a child, or goes to the next stage when `rc` says that there is nothing to start. */
static void
child_started(struct member *m, int rc, const struct err *err)
{
	if (rc != 0) {
		m->busy = false;
		finish_member(m, err);
	}
}

/* ---- stages ---- */

static void
stage_create(struct member *m)
{
	struct op_call call = child_call(m);
	struct err err = ERR_INIT;
	struct vm_spec spec;
	int rc;

	if (member_vm(m) != NULL) {
		m->stage = STAGE_UPDATE;
		kick_later(m);
		return;
	}
	spec = m->spec;
	memset(&m->spec, 0, sizeof(m->spec));
	/* Others still ask what it depends on, when they go down. */
	m->created = true;
	m->action = m->project->verb == PROJECT_RELOAD ? "reloaded" : "created";
	m->busy = true;
	m->stage = STAGE_UPDATE; /* child_ended goes past it: nothing is left to update */
	rc = ops_create(m->project->vmmd, &spec, m->project->path, &m->project->auth, &call, &err);
	if (rc == 0 && m->macs.count > 0) {
		nics_keep(member_vm(m), &m->macs);
		vm_save(member_vm(m));
	}
	child_started(m, rc, &err);
}

static void
update_job(struct job *job, void *data)
{
	struct member *m = data;

	files_take(&m->spec, m->dir, job, &m->job_err);
}

static bool
names_field(json_object *changes, const char *field)
{
	for (size_t i = 0; i < json_object_array_length(changes); i++)
		if (str_eq(json_string(json_object_array_get_idx(changes, i), "field"), field))
			return true;
	return false;
}

static void
update_done(void *data)
{
	struct member *m = data;
	CLEANUP_JSON json_object *applied = NULL;
	struct vm *vm = member_vm(m);
	struct strings asked;
	struct vm_spec merged;
	struct err err = ERR_INIT;

	m->busy = false;
	m->job = NULL;
	if (m->job_err.code != E_OK || vm == NULL) {
		if (m->job_err.code == E_OK)
			err_set(&m->job_err, E_NOT_FOUND, "machine '%s' went away", m->name);
		finish_member(m, &m->job_err);
		return;
	}
	asked = m->spec.ports;
	if (vm_state_is_live(vm->state)) /* the next stage's work */
		m->spec.ports = vm->spec.ports;
	spec_merge(&vm->spec, &m->spec, vm_state_is_live(vm->state) ? CHANGE_NOW : CHANGE_STOPPED,
	    &merged);
	m->spec.ports = asked;
	applied = json_object_new_array();
	if (spec_diff(&vm->spec, &merged, applied) == CHANGE_NONE) {
		vm_spec_release(&merged); /* all that differs has to wait */
	} else if (names_field(applied, "network") &&
	    nics_check(m->project->vmmd, vm, m->project->uid, &merged, &err) != 0) {
		vm_spec_release(&merged); /* somebody took the address since the check */
		finish_member(m, &err);
		return;
	} else {
		vm_replace_spec(vm, &merged);
		m->hosts_changed = names_field(applied, "hosts");
		if (names_field(applied, "provision"))
			vm->provision =
			    vm->spec.provision.count > 0 ? PROVISION_PENDING : PROVISION_NONE;
		if (vm_commit(vm, &err) != 0) {
			finish_member(m, &err);
			return;
		}
		vm_changed(vm);
		vm_write_copy(vm);
		m->action = "updated";
	}
	m->stage = STAGE_PORTS;
	kick_later(m);
}

static void
stage_update(struct member *m)
{
	struct vm *vm = member_vm(m);
	enum change_when when;
	struct err err = ERR_INIT;
	json_object *changes;

	if (vm == NULL) {
		err_set(&err, E_NOT_FOUND, "machine '%s' went away", m->name);
		finish_member(m, &err);
		return;
	}
	if (wait_for_foreign(m, vm))
		return;
	changes = json_object_new_array();
	json_object_put(m->changes);
	m->changes = changes;
	when = spec_diff(&vm->spec, &m->spec, changes);
	if (when > CHANGE_STOPPED || (when == CHANGE_STOPPED && vm_state_is_live(vm->state)))
		op_subphase(m->project->op, m->name, "note",
		    "the VMFile differs from the machine; see its changes", 0);
	if (json_object_array_length(changes) == 0) {
		m->stage = STAGE_START;
		kick_later(m);
		return;
	}
	free(m->dir);
	m->dir = xstrdup(vm->dir);
	m->busy = true;
	if (worker_submit(m->project->vmmd->disk_pool, "update", update_job, update_done, m, 0, &m->job,
		&err) != 0) {
		m->busy = false;
		finish_member(m, &err);
	}
}

static bool
same_ports(const struct strings *a, const struct strings *b)
{
	size_t i = 0;

	while (i < a->count && i < b->count && str_eq(a->items[i], b->items[i]))
		i++;
	return i == a->count && i == b->count;
}

static void
stage_ports(struct member *m)
{
	struct vm *vm = member_vm(m);
	struct op_call call = child_call(m);
	struct err err = ERR_INIT;

	if (vm == NULL || m->created || same_ports(&vm->spec.ports, &m->spec.ports)) {
		m->stage = STAGE_START;
		kick_later(m);
		return;
	}
	if (wait_for_foreign(m, vm))
		return;
	m->busy = true;
	m->action = "updated";
	child_started(m, ops_ports(vm, &m->spec.ports, &call, &err), &err);
}

static void
stage_start(struct member *m)
{
	struct vm *vm = member_vm(m);
	struct op_call call = child_call(m);
	struct err err = ERR_INIT;
	int rc;

	if (vm == NULL || wait_for_foreign(m, vm)) {
		if (vm == NULL) {
			err_set(&err, E_NOT_FOUND, "machine '%s' went away", m->name);
			finish_member(m, &err);
		}
		return;
	}
	if (vm->state == VM_RUNNING) {
		m->stage = STAGE_GUEST;
		kick_later(m);
		return;
	}
	m->busy = true;
	if (!m->created)
		m->action = vm->state == VM_SUSPENDED ? "resumed" : "started";
	m->started = vm->state != VM_SUSPENDED;
	rc = vm->state == VM_SUSPENDED ? ops_resume(vm, &call, &err) : ops_start(vm, &call, &err);
	child_started(m, rc, &err);
}

static bool
has_always_steps(const struct vm *vm)
{
	for (size_t i = 0; i < vm->spec.provision.count; i++) {
		const struct provision_step *s = vm_spec_step(&vm->spec, i);

		if ((s->shell.present ? s->shell.run : s->file.run) == RUN_ALWAYS)
			return true;
	}
	return false;
}

static void
stage_guest(struct member *m)
{
	struct project *p = m->project;
	struct vm *vm = member_vm(m);
	struct op_call call = child_call(m);
	struct guest_args args = { .timeout_ms = p->timeout_ms };
	struct err err = ERR_INIT;
	bool steps, wait;

	if (vm == NULL || wait_for_foreign(m, vm)) {
		if (vm == NULL) {
			err_set(&err, E_NOT_FOUND, "machine '%s' went away", m->name);
			finish_member(m, &err);
		}
		return;
	}
	steps = p->provision && vm->spec.provision.count > 0 &&
	    (vm->provision != PROVISION_DONE || (m->started && has_always_steps(vm)));
	wait = !vm_is_noop(vm) && vm_has_login(vm) && nics_unreachable(vm) == NULL &&
	    (m->started || m->hosts_changed || (vm->spec.cloud_init.present && !vm->cloud_init_known));
	if (!steps && !wait) {
		finish_member(m, NULL);
		return;
	}
	args.steps = steps;
	m->busy = true;
	child_started(m, ops_guest(vm, args, &call, &err), &err);
}

static void
preempted(void *arg, struct vm *vm)
{
	struct member *m = arg;
	struct project *p = m->project;
	struct op_call call = child_call(m);
	struct stop_args stop = { .timeout_ms = p->timeout_ms };
	struct err err = ERR_INIT;
	bool destroy = p->destroy || p->verb == PROJECT_RELOAD;
	int rc = 0;

	if (vm == NULL || (!destroy && !vm_state_is_live(vm->state))) {
		m->busy = false;
		m->stage++;
		kick_later(m);
		return;
	}
	m->action = destroy ? "destroyed" : "stopped";
	strings_done(&m->macs);
	m->macs = nics_macs(vm);
	rc = destroy ? ops_destroy(vm, false, &call, &err) : ops_stop(vm, stop, &call, &err);
	child_started(m, rc, &err);
}

/* Reload begins and down consists of this. */
static void
stage_away(struct member *m)
{
	struct vm *vm = member_vm(m);
	struct err err = ERR_INIT;

	if (vm == NULL) {
		m->stage++;
		kick_later(m);
		return;
	}
	m->busy = true;
	child_started(m, ops_preempt(vm, preempted, m, &err), &err);
}

static void
kick(void *arg)
{
	struct member *m = arg;
	struct project *p = m->project;
	struct err err = ERR_INIT;
	int answer;

	m->kicked = false;
	p->kicks--;
	if (p->ended) {
		project_destroy(p);
		return;
	}
	if (m->finished || m->busy)
		return;
	if (m->project->cancelled) {
		err_set(&err, E_CANCELLED, "cancelled before '%s' was done", m->name);
		finish_member(m, &err);
		return;
	}
	answer = may_go_on(m, &err);
	if (answer < 0)
		finish_member(m, &err);
	if (answer <= 0)
		return;
	switch ((enum stage)m->stage) {
	case STAGE_DESTROY:
	case STAGE_STOP:
		stage_away(m);
		break;
	case STAGE_CREATE:
		stage_create(m);
		break;
	case STAGE_UPDATE:
		stage_update(m);
		break;
	case STAGE_PORTS:
		stage_ports(m);
		break;
	case STAGE_START:
		stage_start(m);
		break;
	case STAGE_GUEST:
		stage_guest(m);
		break;
	case STAGE_END:
	case STAGE_STOPPED:
		finish_member(m, NULL);
		break;
	}
}

enum step_result
project_run(struct project *p)
{
	static const enum stage first[] = { [PROJECT_PLAN] = STAGE_END, [PROJECT_UP] = STAGE_CREATE,
		[PROJECT_DOWN] = STAGE_STOP, [PROJECT_RELOAD] = STAGE_DESTROY };
	bool any = false;

	for (size_t i = 0; i < p->count; i++) {
		struct member *m = &p->members[i];

		if (!m->selected)
			continue;
		any = true;
		m->busy = false;
		m->stage = (int)first[p->verb];
		kick_later(m);
	}
	if (any)
		return STEP_WAIT;
	p->op->result = project_result(p);
	return STEP_DONE;
}

void
project_cancel(struct project *p)
{
	p->cancelled = true;
	for (size_t i = 0; i < p->count; i++) {
		struct member *m = &p->members[i];
		struct vm *vm = member_vm(m);

		if (m->finished || !m->selected)
			continue;
		if (m->job != NULL)
			job_cancel(m->job);
		else if (m->busy && vm != NULL && vm->op != NULL && vm->op->parent == p->op)
			op_cancel(vm->op);
		else if (!m->busy)
			kick_later(m);
	}
}

/* ---- result ---- */

static json_object *
member_result(const struct member *m)
{
	json_object *row = json_object_new_object();
	struct vm *vm = member_vm(m);

	json_add_string(row, "name", m->name);
	json_add_string(row, "action", m->action);
	json_add_string(row, "state", vm != NULL ? vm_state_names[vm->state] : "destroyed");
	if (json_object_array_length(m->changes) > 0)
		json_object_object_add(row, "changed", json_object_get(m->changes));
	if (m->error != NULL) {
		json_object *error = json_object_new_object();

		json_add_int(error, "code", err_rpc_code(m->error->code));
		json_add_string(error, "name", err_name(m->error->code));
		json_add_string(error, "message", m->error->msg);
		json_add_string(error, "hint", m->error->hint[0] != '\0' ? m->error->hint : NULL);
		json_object_object_add(row, "error", error);
	}
	if (vm != NULL && (m->started || m->created)) {
		json_object *phases = json_object_new_array();

		for (size_t i = 0; i < vm->phase_count; i++) {
			json_object *phase = json_object_new_object();

			json_add_string(phase, "name", vm->phases[i].name);
			json_add_int(phase, "ms", (int64_t)vm->phases[i].ms);
			json_object_array_add(phases, phase);
		}
		json_object_object_add(row, "phases", phases);
	}
	return row;
}

json_object *
project_result(struct project *p)
{
	json_object *result = json_object_new_object(), *list = json_object_new_array();

	for (size_t i = 0; i < p->count; i++)
		if (p->members[i].selected)
			json_object_array_add(list, member_result(&p->members[i]));
	json_object_object_add(result, "vms", list);
	json_object_object_add(result, "orphans", project_orphans(p));
	json_add_string(result, "project", p->path);
	return result;
}
