/* SPDX-License-Identifier: MPL-2.0
 *
 * The methods of a machine's forwards. */
#include <stdlib.h>
#include <string.h>

#include "daemon/methods.h"
#include "daemon/ops.h"
#include "daemon/ports.h"
#include "daemon/vm.h"
#include "daemon/vmmd.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"

static struct vm *
named_vm(struct vmmd *vmmd, struct request *request, const char *name)
{
	struct err err = ERR_INIT;
	struct vm *vm = NULL;

	if (vm_lookup(vmmd, name, request_peer(request)->uid, &vm, &err) != 0)
		request_fail(request, &err);
	return vm;
}

/* want: taken. */
static void
begin(struct request *request, struct vm *vm, struct strings *want, int rc, struct err *err)
{
	struct op_call call = { .uid = request_peer(request)->uid,
		.audience = request,
		.ended = op_answer_request,
		.arg = request };

	if (rc == 0)
		rc = ops_ports(vm, want, &call, err);
	strings_done(want);
	if (rc != 0)
		request_fail(request, err);
}

void
method_vm_port_add(struct vmmd *vmmd, struct request *request, void *args)
{
	struct vm_ports_args *a = args;
	struct vm *vm = named_vm(vmmd, request, a->name);
	struct err err = ERR_INIT;
	struct strings want;
	size_t index;
	int rc = 0;

	if (vm == NULL)
		return;
	rc = ports_check(&a->ports, &index, &err);
	want = strings_copy(&vm->spec.ports);
	want.items = xreallocarray(want.items, want.count + a->ports.count + 1, sizeof(char *));
	for (size_t i = 0; i < a->ports.count; i++)
		want.items[want.count++] = xstrdup(a->ports.items[i]);
	if (rc != 0)
		err_object(&err, "ports");
	begin(request, vm, &want, rc, &err);
}

void
method_vm_port_remove(struct vmmd *vmmd, struct request *request, void *args)
{
	struct vm_ports_args *a = args;
	struct vm *vm = named_vm(vmmd, request, a->name);
	bool gone[PORTS_MAX] = { false };
	struct err err = ERR_INIT;
	struct strings want;
	size_t index, kept = 0;
	int rc = 0;

	if (vm == NULL)
		return;
	for (size_t i = 0; rc == 0 && i < a->ports.count; i++) {
		rc = ports_find(vm, a->ports.items[i], &index, &err);
		if (rc == 0)
			gone[index] = true;
	}
	want = strings_copy(&vm->spec.ports);
	for (size_t i = 0; i < want.count; i++) {
		if (gone[i])
			free(want.items[i]);
		else
			want.items[kept++] = want.items[i];
	}
	want.count = kept;
	begin(request, vm, &want, rc, &err);
}

void
method_vm_port_list(struct vmmd *vmmd, struct request *request, void *args)
{
	struct vm_port_list_args *a = args;
	struct vm *vm = named_vm(vmmd, request, a->name);
	struct hv_facts facts = { 0 };
	json_object *result;

	if (vm == NULL)
		return;
	if (vm->hv != NULL && vm->runtime != NULL)
		vm->hv->ops->facts(vm->hv, &facts);
	result = json_object_new_object();
	json_add_string(result, "name", vm->spec.name);
	json_object_object_add(result, "ports", ports_rows(vm, &facts));
	request_reply(request, result);
}
