/* SPDX-License-Identifier: MPL-2.0
 *
 * The methods of one machine. */
#include <stdlib.h>
#include <string.h>

#include "daemon/config.h"
#include "daemon/console.h"
#include "daemon/files.h"
#include "daemon/methods.h"
#include "daemon/nics.h"
#include "daemon/ops.h"
#include "daemon/ports.h"
#include "daemon/vm.h"
#include "daemon/vmmd.h"
#include "lib/base/json.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/base/stream.h"

/* The machine that the request names; answers it itself when there is none. */
static struct vm *
named_vm(struct vmmd *vmmd, struct request *request, const char *name)
{
	struct err err = ERR_INIT;
	struct vm *vm = NULL;

	if (vm_lookup(vmmd, name, request_peer(request)->uid, &vm, &err) != 0)
		request_fail(request, &err);
	return vm;
}

static struct op_call
call_of(struct request *request)
{
	return (struct op_call){ .uid = request_peer(request)->uid, .audience = request,
		.ended = op_answer_request, .arg = request };
}

static void
fail_if(struct request *request, int rc, const struct err *err)
{
	if (rc != 0)
		request_fail(request, err);
}

/* ---- list, get ---- */

struct list {
	struct sbuf out;
	uid_t uid;
	size_t count;
};

static void
add_row(void *arg, struct vm *vm)
{
	struct list *list = arg;

	if (list->uid != 0 && list->uid != geteuid() && vm->owner != list->uid)
		return;
	if (list->count++ > 0)
		sbuf_addc(&list->out, ',');
	sbuf_adds(&list->out, vm_row(vm));
}

void
method_vm_list(struct vmmd *vmmd, struct request *request, void *args)
{
	struct list list = { .uid = request_peer(request)->uid };

	sbuf_adds(&list.out, "{\"vms\":[");
	vm_each(vmmd, add_row, &list);
	sbuf_adds(&list.out, "]}");
	request_reply_text(request, list.out.data, list.out.len);
	sbuf_done(&list.out);
}

void
method_vm_get(struct vmmd *vmmd, struct request *request, void *args)
{
	struct name_args *a = args;
	struct vm *vm = named_vm(vmmd, request, a->name);

	if (vm != NULL)
		request_reply_text(request, vm_row(vm), strlen(vm_row(vm)));
}

/* ---- create ---- */

struct creation {
	struct vmmd *vmmd;
	struct request *request;
	bool start;
	char *name;
};

static void
creation_done(struct creation *c)
{
	free(c->name);
	free(c);
}

static void
created(void *arg, struct operation *op)
{
	struct creation *c = arg;
	struct op_call call = call_of(c->request);
	struct err err = ERR_INIT;
	struct vm *vm = vm_find(c->vmmd, c->name);

	if (op->err != NULL || !c->start || vm == NULL)
		op_answer_request(c->request, op);
	else
		fail_if(c->request, ops_start(vm, &call, &err), &err);
	creation_done(c);
}

void
method_vm_create(struct vmmd *vmmd, struct request *request, void *args)
{
	struct vm_create_args *a = args;
	struct file_table table = { 0 };
	struct op_call call = call_of(request);
	struct creation *c;
	struct vm_spec spec = a->spec;
	struct err err = ERR_INIT;
	int rc;

	memset(&a->spec, 0, sizeof(a->spec));
	spec.present = true;
	rc = files_claim(&table, request, &spec, &err);
	files_table_done(&table);
	if (rc == 0)
		rc = vm_spec_check_one(&spec, "", &err);
	if (rc == 0 && a->start)
		rc = ports_check_ours(vmmd, NULL, call.uid, &spec.ports, &err);
	if (rc != 0) {
		files_release_spec(&spec);
		request_fail(request, &err);
		return;
	}
	c = xcalloc(1, sizeof(*c));
	c->vmmd = vmmd;
	c->request = request;
	c->start = a->start;
	c->name = xstrdup(spec.name);
	call.ended = created;
	call.arg = c;
	rc = ops_create(vmmd, &spec, NULL, &a->auth, &call, &err);
	if (rc != 0) {
		creation_done(c);
		request_fail(request, &err);
	}
}

/* ---- start, suspend, resume ---- */

static void
simple(struct vmmd *vmmd, struct request *request, struct name_args *a,
    int (*start)(struct vm *, const struct op_call *, struct err *))
{
	struct op_call call = call_of(request);
	struct err err = ERR_INIT;
	struct vm *vm = named_vm(vmmd, request, a->name);

	if (vm != NULL)
		fail_if(request, start(vm, &call, &err), &err);
}

void
method_vm_start(struct vmmd *vmmd, struct request *request, void *args)
{
	simple(vmmd, request, args, ops_start);
}

void
method_vm_suspend(struct vmmd *vmmd, struct request *request, void *args)
{
	simple(vmmd, request, args, ops_suspend);
}

void
method_vm_resume(struct vmmd *vmmd, struct request *request, void *args)
{
	simple(vmmd, request, args, ops_resume);
}

/* ---- stop, destroy: they preempt ---- */

struct ending {
	struct request *request;
	struct stop_args stop;
	bool destroy, force;
	char *name;
	char id[13];
};

static void
reply_stopped(struct request *request, struct vm *vm)
{
	json_object *row = vm_row_json(vm);

	json_add_string(row, "how", "start undone");
	request_reply(request, row);
}

static void
free_to_end(void *arg, struct vm *vm)
{
	struct ending *e = arg;
	struct op_call call = call_of(e->request);
	struct err err = ERR_INIT;

	if (vm == NULL) {
		err_set(&err, E_NOT_FOUND, "machine '%s' went away meanwhile", e->name);
		request_fail(e->request, &err);
	} else if (e->destroy) {
		fail_if(e->request, ops_destroy(vm, e->force, &call, &err), &err);
	} else if (!vm_state_is_live(vm->state) && vm->runtime == NULL && vm->reason != NULL &&
	    str_eq(vm->reason, "cancelled")) {
		/* The stop came while the machine started: cancelling that was all it took. */
		reply_stopped(e->request, vm);
	} else {
		fail_if(e->request, ops_stop(vm, e->stop, &call, &err), &err);
	}
	free(e->name);
	free(e);
}

static void
end_machine(struct vmmd *vmmd, struct vm *vm, struct ending *e)
{
	struct err err = ERR_INIT;
	int rc = 0;

	e->name = xstrdup(vm->spec.name);
	if (vm->op == NULL && !e->destroy)
		rc = vm_check_event(vm, VM_EV_STOP, &err);
	if (rc == 0)
		rc = ops_preempt(vm, free_to_end, e, &err);
	if (rc != 0) {
		request_fail(e->request, &err);
		free(e->name);
		free(e);
	}
}

void
method_vm_stop(struct vmmd *vmmd, struct request *request, void *args)
{
	struct vm_stop_args *a = args;
	struct vm *vm = named_vm(vmmd, request, a->name);
	struct ending *e;

	if (vm == NULL)
		return;
	e = xcalloc(1, sizeof(*e));
	e->request = request;
	e->stop = (struct stop_args){ a->timeout_ms, a->force };
	end_machine(vmmd, vm, e);
}

void
method_vm_destroy(struct vmmd *vmmd, struct request *request, void *args)
{
	struct vm_destroy_args *a = args;
	struct vm *vm = named_vm(vmmd, request, a->name);
	struct ending *e;

	if (vm == NULL)
		return;
	e = xcalloc(1, sizeof(*e));
	e->request = request;
	e->destroy = true;
	e->force = a->force;
	end_machine(vmmd, vm, e);
}

/* ---- provision ---- */

void
method_vm_provision(struct vmmd *vmmd, struct request *request, void *args)
{
	struct vm_provision_args *a = args;
	struct op_call call = call_of(request);
	struct guest_args guest = { .steps = true, .force = a->force, .timeout_ms = a->timeout_ms };
	struct err err = ERR_INIT;
	struct vm *vm = named_vm(vmmd, request, a->name);

	if (vm == NULL)
		return;
	if (a->project != NULL && !str_eq(a->project, vm->project)) {
		err_set(&err, E_CONFLICT, "machine '%s' belongs to %s", vm->spec.name,
		    vm->project != NULL ? vm->project : "no VMFile");
		err_hint(&err, "work from that VMFile, or name the machine without one");
		err_object(&err, vm->spec.name);
		request_fail(request, &err);
		return;
	}
	fail_if(request, ops_guest(vm, guest, &call, &err), &err);
}

/* ---- ssh_info ---- */

void
method_vm_ssh_info(struct vmmd *vmmd, struct request *request, void *args)
{
	struct name_args *a = args;
	struct vm *vm = named_vm(vmmd, request, a->name);
	struct hv_facts facts = { 0 };
	struct err err = ERR_INIT;
	json_object *info;

	if (vm == NULL)
		return;
	if (vm->hv != NULL && vm->runtime != NULL)
		vm->hv->ops->facts(vm->hv, &facts);
	if (facts.ssh_host == NULL || facts.ssh_port == 0) {
		err_set(&err, E_STATE, "machine '%s' can not be reached over SSH: it %s", vm->spec.name,
		    vm_is_noop(vm) ? "has no guest (backend noop)"
		    : nics_unreachable(vm) != NULL ? nics_unreachable(vm)
		    : facts.address_seen != NULL ? "has no address yet"
						 : "is not running");
		if (facts.address_seen != NULL && !vm_is_noop(vm))
			err_hint(&err, "it is looked for; so far: %s", facts.address_seen);
		else
			err_hint(&err, "'vmctl status %s' tells its state", vm->spec.name);
		err_object(&err, vm->spec.name);
		request_fail(request, &err);
		return;
	}
	info = json_object_new_object();
	json_add_string(info, "name", vm->spec.name);
	json_add_string(info, "id", vm->id);
	json_add_string(info, "host", facts.ssh_host);
	json_add_int(info, "port", facts.ssh_port);
	json_add_string(info, "user", vm_spec_user(&vm->spec));
	json_add_string(info, "host_key", vm->host_key);
	json_add_bool(info, "reachable", vm->reachable);
	vm_add_private_key(vm, info);
	request_reply(request, info);
}

/* ---- wait ---- */

struct vm_wait {
	struct vmmd *vmmd;
	struct request *request;
	struct vm_watcher watcher;
	struct timer *timer;
	char vm_id[13];
	enum wait_for condition;
	uint64_t timeout_ms;
	bool checking;
};

static void
wait_end(struct vm_wait *w)
{
	struct vm *vm = vm_by_id(w->vmmd, w->vm_id);

	if (vm != NULL)
		vm_unwatch(vm, &w->watcher);
	timer_destroy(w->timer);
	free(w);
}

/* 1: so; 0: not yet; -1: not any more. */
static int
wait_state(const struct vm *vm, enum wait_for condition)
{
	bool ends = !vm_state_is_live(vm->state) && vm->op == NULL;

	switch (condition) {
	case WAIT_STOPPED:
		return !vm_state_is_live(vm->state) ? 1 : 0;
	case WAIT_RUNNING:
		return vm->state == VM_RUNNING ? 1 : ends ? -1 : 0;
	case WAIT_SSH:
		return vm->reachable || (vm_is_noop(vm) && vm->state == VM_RUNNING) ? 1 : ends ? -1 : 0;
	case WAIT_READY:
		if (vm_is_noop(vm))
			return vm->state == VM_RUNNING ? 1 : ends ? -1 : 0;
		if (vm_has_login(vm) && vm->spec.cloud_init.present)
			return vm->reachable && vm->cloud_init_known ? 1 : ends ? -1 : 0;
		return vm->reachable ? 1 : ends ? -1 : 0;
	case WAIT_PROVISIONED:
		if (vm->state == VM_RUNNING && vm->spec.provision.count == 0)
			return wait_state(vm, WAIT_READY);
		return vm->state == VM_RUNNING && vm->provision == PROVISION_DONE ? 1 : ends ? -1 : 0;
	}
	return -1;
}

static void
on_wait_change(void *arg)
{
	struct vm_wait *w = arg;
	struct vm *vm = vm_by_id(w->vmmd, w->vm_id);
	struct err err = ERR_INIT;
	int answer = wait_state(vm, w->condition);

	if (answer == 0)
		return;
	if (answer > 0) {
		request_reply_text(w->request, vm_row(vm), strlen(vm_row(vm)));
	} else {
		err_set(&err, E_STATE, "machine '%s' is %s%s%s; it will not be %s", vm->spec.name,
		    vm_state_names[vm->state], vm->reason != NULL ? ": " : "",
		    vm->reason != NULL ? vm->reason : "", wait_for_names[w->condition]);
		err_hint(&err, "'vmctl start %s' starts it", vm->spec.name);
		err_object(&err, vm->spec.name);
		request_fail(w->request, &err);
	}
	wait_end(w);
}

static void
on_wait_late(void *arg)
{
	struct vm_wait *w = arg;
	struct vm *vm = vm_by_id(w->vmmd, w->vm_id);
	CLEANUP_FREE char *last = console_last_line(vm);
	struct err err = ERR_INIT;

	err_set(&err, E_TIMEOUT, "machine '%s' was not %s within %llu s%s%s%s", vm->spec.name,
	    wait_for_names[w->condition], (unsigned long long)(w->timeout_ms / 1000),
	    last != NULL ? "; its console's last line: '" : "", last != NULL ? last : "",
	    last != NULL ? "'" : "");
	err_hint(&err, "'vmctl status %s' and 'vmctl log %s' tell more", vm->spec.name,
	    vm->spec.name);
	err_object(&err, vm->spec.name);
	request_fail(w->request, &err);
	wait_end(w);
}

static void
on_waiter_gone(void *arg)
{
	struct vm_wait *w = arg;
	struct err err = ERR_INIT;

	err_set(&err, E_CANCELLED, "the client left");
	request_fail(w->request, &err);
	wait_end(w);
}

void
method_vm_wait(struct vmmd *vmmd, struct request *request, void *args)
{
	struct vm_wait_args *a = args;
	struct op_call call = { .uid = request_peer(request)->uid };
	struct vm *vm = named_vm(vmmd, request, a->name); /* without one the request is gone */
	struct vm_wait *w;

	if (vm == NULL)
		return;
	w = xcalloc(1, sizeof(*w));
	w->vmmd = vmmd;
	w->request = request;
	memcpy(w->vm_id, vm->id, sizeof(w->vm_id));
	w->condition = (enum wait_for)a->condition;
	w->timeout_ms = a->timeout_ms;
	w->timer = timer_create_on(vmmd->loop, on_wait_late, w);
	timer_arm(w->timer, a->timeout_ms);
	vm_watch(vm, &w->watcher, on_wait_change, w);
	request_on_gone(request, on_waiter_gone, w);
	/* Being ready is found out by logging in, which nobody may have begun. */
	if ((w->condition == WAIT_READY || w->condition == WAIT_PROVISIONED) && vm->op == NULL &&
	    vm->state == VM_RUNNING && wait_state(vm, w->condition) == 0 && vm_has_login(vm))
		ops_guest(vm, (struct guest_args){ .timeout_ms = a->timeout_ms }, &call, NULL);
	if (vm_by_id(vmmd, w->vm_id) == vm)
		on_wait_change(w);
}

/* ---- console ---- */

void
method_vm_console(struct vmmd *vmmd, struct request *request, void *args)
{
	struct vm_console_args *a = args;
	struct vm *vm = named_vm(vmmd, request, a->name);
	struct err err = ERR_INIT;
	struct stream *stream;
	json_object *result;
	char id[13];

	if (vm == NULL)
		return;
	if (vm->runtime == NULL || vm->hv == NULL) {
		err_set(&err, E_STATE, "machine '%s' is %s; its console is closed", vm->spec.name,
		    vm_state_names[vm->state]);
		err_hint(&err, "'vmctl log --console %s' shows what was on it", vm->spec.name);
		err_object(&err, vm->spec.name);
	} else if (!(vm_capabilities(vm) & HV_CAN_CONSOLE)) {
		err_set(&err, E_UNSUPPORTED, "machine '%s' has no console (backend %s)", vm->spec.name,
		    backend_names[vm->spec.backend]);
		err_object(&err, vm->spec.name);
	}
	if (err.code != E_OK) {
		request_fail(request, &err);
		return;
	}
	memcpy(id, vm->id, sizeof(id));
	result = json_object_new_object();
	json_add_string(result, "name", vm->spec.name);
	stream = request_upgrade(request, result);
	vm = vm_by_id(vmmd, id);
	if (stream != NULL && vm != NULL)
		console_attach(vm, stream, (size_t)a->history_bytes);
	else
		stream_destroy(stream);
}
