/* SPDX-License-Identifier: MPL-2.0
 *
 * What a machine's hypervisor tells of it, and whether its guest can be reached. */
#include <stdlib.h>
#include <string.h>

#include "daemon/console.h"
#include "daemon/nics.h"
#include "daemon/ops.h"
#include "daemon/ports.h"
#include "daemon/probe.h"
#include "daemon/vm.h"
#include "daemon/vmmd.h"
#include "lib/base/clock.h"
#include "lib/base/fs.h"
#include "lib/base/json.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/image.h"

static void
on_ended(void *arg, const struct err *err)
{
	struct vm *vm = arg;

	vm->ends_pending--;
	if (err == NULL || err->code == E_CANCELLED)
		return;
	/* It does not run: its end is on its way, or was told. */
	if (err->code == E_STATE)
		return;
	if (vm->op == NULL)
		log_warn("machine '%s' does not end: %s", vm->spec.name, err->msg);
	vm_set_string(&vm->end_error, err->msg);
	vm_changed(vm);
}

void
vm_end_process(struct vm *vm, enum hv_force how)
{
	vm->ending = true;
	vm->ends_pending++;
	free(TAKE(vm->end_error));
	vm->hv->ops->end(vm->hv, how, on_ended, vm);
}

bool
vm_end_failed(const struct vm *vm)
{
	return vm->ends_pending == 0 && vm->end_error != NULL;
}

void
vm_not_ended(const struct vm *vm, struct err *err)
{
	const char *how = vm->hv->ops->end_words[HV_KILL];

	err_set(err, E_TIMEOUT, "machine '%s' does not end, not even by %s%s%s", vm->spec.name, how,
	    vm->end_error != NULL ? ": " : "", vm->end_error != NULL ? vm->end_error : "");
	if (vm->end_error == NULL)
		err_hint(err, "its process hangs in the kernel; look at the host's storage");
	err_object(err, vm->spec.name);
}

uint64_t
vm_end_patience_ms(const struct vm *vm)
{
	return vm->hv->ops->end_ms[HV_KILL];
}

static void
on_exited(struct vm *vm, const struct hv_event *ev)
{
	CLEANUP_FREE char *reason = NULL;

	vm->responsive = true;
	free(TAKE(vm->runtime));
	free(TAKE(vm->end_error));
	console_ended(vm);
	if (vm->ending || vm->state == VM_STOPPING) {
		vm->ending = false;
		/* The guest had ended, or the machine is to go: state and reason stand, but who
		 * waits for the process must hear.  A start that is undone tells what became of it
		 * itself. */
		if (vm->state == VM_DESTROYED || (vm->state == VM_STARTING && vm->op != NULL) ||
		    vm_event(vm, VM_EV_ENDED, vm->state == VM_STOPPING ? "user" : vm->reason, false,
			NULL) != 0)
			vm_save(vm);
		return;
	}
	if (ev->out_of_memory)
		reason = xstrdup("out-of-memory");
	else if (vm->state == VM_STARTING)
		reason = xstrdup("start-failed");
	else if (ev->reason != NULL)
		reason = xstrdup(ev->reason);
	else if (!ev->exit.known)
		reason = xstrdup("exited");
	else if (ev->exit.signaled)
		reason = xasprintf("killed-signal-%d", ev->exit.code);
	else
		reason = xasprintf("exit-status-%d", ev->exit.code);
	if (ev->detail != NULL && ev->detail[0] != '\0')
		log_warn("machine '%s': %s", vm->spec.name, ev->detail);
	if (vm_event(vm, VM_EV_EXITED, reason, false, NULL) != 0)
		vm_save(vm);
}

/* A change of its ports that was not answered may have been made, or not. */
static void
settle_ports(struct vm *vm)
{
	struct op_call call = { .uid = vm->owner };
	struct err err = ERR_INIT;

	if (vm->op == NULL && ports_differ(vm, &vm->spec.ports) &&
	    ops_ports(vm, &vm->spec.ports, &call, &err) != 0)
		log_warn("machine '%s': %s", vm->spec.name, err.msg);
}

static void
set_responsive(struct vm *vm, bool responsive)
{
	json_object *data;

	if (vm->responsive == responsive)
		return;
	vm->responsive = responsive;
	data = json_object_new_object();
	json_add_bool(data, "responsive", responsive);
	vm_tell(vm, "responsive", data);
	vm_save(vm);
}

/* Where it is known from may change alone: then whoever answered there still does. */
static void
on_address(struct vm *vm)
{
	struct hv_facts facts = { 0 };
	json_object *data = json_object_new_object();

	vm->hv->ops->facts(vm->hv, &facts);
	json_add_string(data, "address", facts.ssh_host);
	json_add_string(data, "source", facts.address_source);
	vm_tell(vm, "address", data);
	if (vm->state == VM_RUNNING && !str_eq(facts.ssh_host, vm->probed_host))
		vm_begin_probe(vm);
	vm_changed(vm);
}

static void
on_hv_event(void *arg, const struct hv_event *ev)
{
	struct vm *vm = arg;
	json_object *data;

	switch (ev->kind) {
	case HV_EV_SHUTDOWN:
		if (vm_event(vm, VM_EV_GUEST_OFF, vm->state == VM_STOPPING || vm->state == VM_DESTROYED ? vm->reason : "guest-shutdown",
			false, NULL) == 0 && !vm->ending)
			vm_end_process(vm, HV_QUIT);
		break;
	case HV_EV_PANIC:
		if (vm_event(vm, VM_EV_PANIC, "guest-panic", false, NULL) == 0)
			vm_end_process(vm, HV_QUIT);
		break;
	case HV_EV_PAUSED:
		if (vm->state == VM_RUNNING)
			vm_event(vm, VM_EV_PAUSED, NULL, false, NULL);
		break;
	case HV_EV_IO_ERROR:
		vm_event(vm, VM_EV_PAUSED, "io-error", false, NULL);
		break;
	case HV_EV_NO_SPACE:
		vm_event(vm, VM_EV_PAUSED, "no-space", false, NULL);
		break;
	case HV_EV_RESUMED:
		if (vm->state == VM_SUSPENDED)
			vm_event(vm, VM_EV_RESUMED, NULL, false, NULL);
		break;
	case HV_EV_EXITED:
		on_exited(vm, ev);
		break;
	case HV_EV_UNRESPONSIVE:
		set_responsive(vm, false);
		break;
	case HV_EV_RESPONSIVE:
		set_responsive(vm, true);
		settle_ports(vm);
		break;
	case HV_EV_RESET:
		vm_tell(vm, "reset", NULL);
		vm->probe_began_ms = 0;
		if (vm->state == VM_RUNNING) {
			vm_begin_probe(vm);
			vm_changed(vm);
		}
		break;
	case HV_EV_ADDRESS:
		on_address(vm);
		break;
	case HV_EV_NOTICE:
		data = json_object_new_object();
		json_add_string(data, "message", ev->detail);
		vm_tell(vm, "notice", data);
		log_info("machine '%s': %s", vm->spec.name, ev->detail);
		break;
	}
}

/* Files of the store stay where they are for as long as a machine uses them. */
static void
find_cdrom(struct vm *vm)
{
	const char *digest = vm->spec.cdrom.digest;
	const struct image *image = digest != NULL ? image_find(vm->vmmd->images, digest) : NULL;

	if (image != NULL)
		vm_set_string(&vm->cdrom_path, image->path);
}

int
vm_open_hv(struct vm *vm, struct err *err)
{
	struct hypervisor *hv;
	int rc;

	if (vm->hv != NULL)
		return 0;
	rc = hv_router_get(vm->vmmd->router, (enum backend)vm->spec.backend, &hv, err);
	if (rc != 0)
		return rc;
	rc = fs_mkdirs(vm->run_dir, 0700, err);
	if (rc != 0)
		return rc;
	find_cdrom(vm);
	nics_lend(vm);
	vm->hv_config = (struct hv_config){ .id = vm->id, .uuid = vm->uuid, .name = vm->spec.name,
		.dir = vm->dir, .run_dir = vm->run_dir, .nics = vm->hv_nics, .cdrom_path = vm->cdrom_path,
		.spec = &vm->spec };
	vm->hv = hv->ops->open(hv, &vm->hv_config, on_hv_event, vm);
	return 0;
}

unsigned
vm_capabilities(const struct vm *vm)
{
	const struct hv_ops *ops =
	    hv_router_ops(vm->vmmd->router, (enum backend)vm->spec.backend);

	return ops != NULL ? ops->capabilities : 0;
}

int
vm_needs(const struct vm *vm, unsigned capability, struct err *err)
{
	enum backend backend = (enum backend)vm->spec.backend;
	const struct hv_ops *ops = hv_router_ops(vm->vmmd->router, backend);
	struct hypervisor *hv;

	if (ops == NULL)
		return hv_router_get(vm->vmmd->router, backend, &hv, err);
	if ((ops->capabilities & capability) != capability)
		return hv_refuse(ops, vm->spec.name, capability, err);
	return 0;
}

void
vm_set_runtime(struct vm *vm)
{
	CLEANUP_JSON json_object *doc = vm->hv->ops->runtime(vm->hv);

	vm_set_string(&vm->runtime, json_object_to_json_string_ext(doc, JSON_TEXT_FLAGS));
}

/* ---- reachable ---- */

static void
on_banner(void *arg)
{
	struct vm *vm = arg;
	json_object *data = json_object_new_object();

	probe_destroy(TAKE(vm->probe));
	vm->reachable = true;
	if (vm->probe_began_ms != 0)
		vm_phase(vm, "boot", clock_ms() - vm->probe_began_ms);
	json_add_bool(data, "reachable", true);
	vm_tell(vm, "ssh", data);
	vm_save(vm);
}

void
vm_begin_probe(struct vm *vm)
{
	struct hv_facts facts = { 0 };

	vm->reachable = false;
	probe_destroy(TAKE(vm->probe));
	if (vm->hv == NULL)
		return;
	vm->hv->ops->facts(vm->hv, &facts);
	vm_set_string(&vm->probed_host, facts.ssh_host);
	if (facts.ssh_host == NULL || facts.ssh_port == 0)
		return;
	vm->probe = probe_create(vm->vmmd->loop, facts.ssh_host, facts.ssh_port, on_banner, vm);
}
