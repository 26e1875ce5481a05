/* SPDX-License-Identifier: MPL-2.0 */
#include "daemon/adopt.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/config.h"
#include "daemon/events.h"
#include "daemon/ops.h"
#include "daemon/ports.h"
#include "daemon/private.h"
#include "daemon/vm.h"
#include "daemon/vmmd.h"
#include "lib/base/fs.h"
#include "lib/base/json.h"
#include "lib/base/log.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/process.h"
#include "lib/base/str.h"
#include "lib/store/store.h"

enum { MAX_SIDECAR = 4 << 20, PATIENCE_MS = 2000 };

/* ---- reading ---- */

struct loading {
	struct vmmd *vmmd;
	size_t failed;
};

static void
load_row(void *arg, const char *id, const char *doc)
{
	struct loading *l = arg;
	struct err err = ERR_INIT;

	if (vm_load(l->vmmd, id, doc, &err) == 0)
		return;
	l->failed++;
	log_error("%s", err.msg);
}

/* The copy is as old as the machine: what it says of a process is worth nothing.  If it was ever
 * launched it may run, and adoption finds out. */
static void
expect_process(struct vm *vm)
{
	CLEANUP_FREE char *launch = vm_path(vm, "launch.json");

	if (vm->state == VM_PREPARED && fs_exists(launch))
		vm->state = VM_STARTING;
}

/* Machines whose row was lost with a damaged store come back from the copy beside their disk. */
static void
load_sidecars(struct vmmd *vmmd)
{
	CLEANUP_FREE char *dir_path = fs_join(vmmd->config->data_dir, "vms");
	DIR *dir = opendir(dir_path);
	struct dirent *entry;

	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		CLEANUP_FREE char *path = xasprintf("%s/%s/vm.json", dir_path, entry->d_name), *doc = NULL;
		struct err err = ERR_INIT;

		if (entry->d_name[0] == '.' || vm_by_id(vmmd, entry->d_name) != NULL ||
		    fs_read(path, MAX_SIDECAR, &doc, NULL, NULL) != 0)
			continue;
		if (vm_load(vmmd, entry->d_name, doc, &err) == 0) {
			struct vm *vm = vm_by_id(vmmd, entry->d_name);

			log_warn("machine '%s' was restored from %s", vm->spec.name, path);
			expect_process(vm);
			vm_save(vm);
		} else {
			log_error("%s", err.msg);
		}
	}
	if (dir != NULL)
		closedir(dir);
}

int
adopt_load(struct vmmd *vmmd, struct err *err)
{
	struct loading l = { .vmmd = vmmd };
	int rc = store_each(vmmd->store, STORE_MACHINE, load_row, &l, err);

	if (rc == 0)
		load_sidecars(vmmd);
	return rc;
}

/* ---- one machine ---- */

/* What a machine turned out to be, for its life cycle. */
static void
settle(struct vm *vm)
{
	switch (vm->hv->ops->state(vm->hv)) {
	case HV_RUNNING:
		if (vm->state == VM_STARTING)
			vm_event(vm, VM_EV_STARTED, NULL, false, NULL);
		else if (vm->state == VM_SUSPENDED)
			vm_event(vm, VM_EV_RESUMED, NULL, false, NULL);
		break;
	case HV_PAUSED:
		if (vm->state == VM_RUNNING)
			vm_event(vm, VM_EV_PAUSED, NULL, false, NULL);
		break;
	case HV_IO_ERROR:
		vm_event(vm, VM_EV_PAUSED, "io-error", false, NULL);
		break;
	case HV_NO_SPACE:
		vm_event(vm, VM_EV_PAUSED, "no-space", false, NULL);
		break;
	case HV_PRELAUNCH:
		/* Its guest never ran: nothing is lost by starting over. */
		vm_event(vm, VM_EV_START_UNDONE, "start-interrupted", false, NULL);
		vm_end_process(vm, HV_KILL);
		break;
	case HV_SHUTDOWN:
		vm_event(vm, VM_EV_GUEST_OFF, "guest-shutdown", false, NULL);
		vm_end_process(vm, HV_QUIT);
		break;
	case HV_PANICKED:
		vm_event(vm, VM_EV_PANIC, "guest-panic", false, NULL);
		vm_end_process(vm, HV_QUIT);
		break;
	case HV_GONE:
	case HV_UNKNOWN:
		break;
	}
	if (vm->state == VM_RUNNING)
		vm_begin_probe(vm);
}

static bool
host_rebooted(const struct vm *vm)
{
	CLEANUP_JSON json_object *runtime =
	    vm->runtime != NULL ? json_tokener_parse(vm->runtime) : NULL;
	const char *boot_id = runtime != NULL ? json_string(runtime, "boot_id") : NULL;

	return boot_id != NULL && !str_eq(boot_id, process_boot_id());
}

static void
found_gone(struct vm *vm)
{
	bool rebooted = host_rebooted(vm);

	free(TAKE(vm->runtime));
	vm->responsive = true;
	if (vm->state == VM_STARTING)
		vm_event(vm, VM_EV_START_UNDONE, rebooted ? "host-reboot" : "start-interrupted", false,
		    NULL);
	else if (vm->state == VM_STOPPING)
		vm_event(vm, VM_EV_ENDED, "user", false, NULL);
	else if (!vm_state_is_live(vm->state))
		vm_save(vm);
	else if (rebooted)
		vm_event(vm, VM_EV_HOST_REBOOT, "host-reboot", false, NULL);
	else
		vm_event(vm, VM_EV_EXITED, "exited-unwatched", false, NULL);
}

static void
continue_work(struct vm *vm)
{
	struct op_call call = { .uid = vm->owner };
	struct err err = ERR_INIT;
	int rc = 0;

	if (vm->op != NULL)
		return;
	if (vm->state == VM_DESTROYED)
		rc = ops_destroy(vm, true, &call, &err);
	else if (vm->state == VM_STOPPING)
		rc = ops_stop(vm, (struct stop_args){ .timeout_ms = 30000 }, &call, &err);
	else if (ports_differ(vm, &vm->spec.ports))
		rc = ops_ports(vm, &vm->spec.ports, &call, &err);
	if (rc != 0)
		log_warn("machine '%s': %s", vm->spec.name, err.msg);
}

/* Who waits for all of them. */
struct adoption {
	struct vmmd *vmmd;
	size_t pending;
	bool told;
	struct timer *timer;
	void (*done)(struct vmmd *vmmd);
};

struct adoptee {
	struct adoption *all;
	struct vm *vm;
};

static void
tell_done(void *arg)
{
	struct adoption *all = arg;

	if (!all->told) {
		all->told = true;
		/* Machines that do not answer yet may live, and keep their switches. */
		private_adopt(all->vmmd);
		all->done(all->vmmd);
	}
	if (all->pending > 0)
		return;
	timer_destroy(all->timer);
	free(all);
}

static void
one_less(struct adoption *all)
{
	/* Later, because adoption may be over before it was asked for in full. */
	if (--all->pending == 0)
		loop_post(all->vmmd->loop, tell_done, all);
}

static void
adopted(void *arg, const struct err *err)
{
	struct adoptee *adoptee = arg;
	struct adoption *all = adoptee->all;
	struct vm *vm = adoptee->vm;

	free(adoptee);
	vm->adopting = false;

	if (err == NULL) {
		vm_set_runtime(vm);
		log_info("machine '%s' runs on", vm->spec.name);
		settle(vm);
		vm_save(vm);
	} else if (err->code == E_NOT_FOUND) {
		found_gone(vm);
	} else if (err->code != E_CANCELLED) {
		/* It lives, or may live, and does not answer: watched, never ended. */
		vm->responsive = false;
		log_warn("machine '%s' does not answer: %s", vm->spec.name, err->msg);
		vm_save(vm);
	}
	if (err == NULL || err->code != E_CANCELLED)
		continue_work(vm);
	one_less(all);
}

static bool
may_have_process(const struct vm *vm)
{
	return vm->runtime != NULL || vm_state_is_live(vm->state);
}

static void
adopt_one(void *arg, struct vm *vm)
{
	struct adoption *all = arg;
	struct adoptee *adoptee;
	json_object *runtime;
	struct err err = ERR_INIT;

	if (vm->provision == PROVISION_RUNNING)
		vm->provision = PROVISION_INTERRUPTED;
	if (vm->state == VM_PREPARING) {
		/* Never finished: taken back, as a failure would have been. */
		log_warn("machine '%s' was never finished; removing it", vm->spec.name);
		vm_event(vm, VM_EV_DESTROY, NULL, false, NULL);
	}
	if (!may_have_process(vm)) {
		continue_work(vm);
		return;
	}
	if (vm_open_hv(vm, &err) != 0) {
		log_error("machine '%s': %s", vm->spec.name, err.msg);
		vm->responsive = false;
		return;
	}
	runtime = vm->runtime != NULL ? json_tokener_parse(vm->runtime) : NULL;
	adoptee = xcalloc(1, sizeof(*adoptee));
	adoptee->all = all;
	adoptee->vm = vm;
	all->pending++;
	vm->adopting = true;
	vm->hv->ops->adopt(vm->hv, runtime, adopted, adoptee);
	json_object_put(runtime);
}

/* Folders of no machine: what a removal left when it was interrupted at its very end. */
static void
sweep(const char *parent, struct vmmd *vmmd)
{
	DIR *dir = opendir(parent);
	struct dirent *entry;

	while (dir != NULL && (entry = readdir(dir)) != NULL) {
		CLEANUP_FREE char *path = fs_join(parent, entry->d_name);

		if (strlen(entry->d_name) != 12 ||
		    strspn(entry->d_name, "0123456789abcdef") != 12 ||
		    vm_by_id(vmmd, entry->d_name) != NULL)
			continue;
		log_warn("removing '%s', which belongs to no machine", path);
		fs_remove_tree(path, NULL);
	}
	if (dir != NULL)
		closedir(dir);
}

void
adopt_all(struct vmmd *vmmd, void (*done)(struct vmmd *vmmd))
{
	struct adoption *all = xcalloc(1, sizeof(*all));

	all->vmmd = vmmd;
	all->done = done;
	all->pending = 1; /* ours, until all are asked for */
	all->timer = timer_create_on(vmmd->loop, tell_done, all);
	operations_recover(vmmd, NULL, NULL);
	vm_each(vmmd, adopt_one, all);
	sweep(vmmd->config->vm_run_dir, vmmd);
	timer_arm(all->timer, PATIENCE_MS);
	one_less(all);
}
