/* SPDX-License-Identifier: MPL-2.0
 *
 * Stop, destroy and reload do not wait for a start or for provisioning: they cancel it. */
#include <stdlib.h>
#include <string.h>

#include "daemon/ops.h"
#include "daemon/vm.h"
#include "daemon/vmmd.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"

struct waiter {
	struct vmmd *vmmd;
	char vm_id[13];
	ops_free_fn *fn;
	void *arg;
};

static bool
preemptible(const struct operation *op)
{
	return op->kind == &op_kind_start || op->kind == &op_kind_guest ||
	    op->kind == &op_kind_ports;
}

static void
on_ended(void *arg, struct operation *op)
{
	struct waiter *w = arg;

	w->fn(w->arg, vm_by_id(w->vmmd, w->vm_id));
	free(w);
}

int
ops_preempt(struct vm *vm, ops_free_fn *fn, void *arg, struct err *err)
{
	struct waiter *w;

	if (vm->op == NULL) {
		fn(arg, vm);
		return 0;
	}
	if (!preemptible(vm->op)) {
		err_set(err, E_BUSY, "machine '%s' is busy: %s is running", vm->spec.name,
		    vm->op->kind->name);
		err_hint(err, "wait for it, or cancel it with 'vmctl rpc operation.cancel id=%s'",
		    vm->op->id);
		err_object(err, vm->spec.name);
		return E_BUSY;
	}
	w = xcalloc(1, sizeof(*w));
	w->vmmd = vm->vmmd;
	memcpy(w->vm_id, vm->id, sizeof(w->vm_id));
	w->fn = fn;
	w->arg = arg;
	op_listen(vm->op, on_ended, w);
	op_cancel(vm->op);
	return 0;
}
