/* SPDX-License-Identifier: MPL-2.0
 *
 * Where there is no switch: no backend has private networks here, so that no machine gets one. */
#include "daemon/private.h"

#include "daemon/operation.h"
#include "daemon/vm.h"
#include "daemon/vmmd.h"

struct privates *
privates_create(struct vmmd *vmmd)
{
	return NULL;
}

void
privates_destroy(struct privates *privates)
{
}

int
private_check(struct vmmd *vmmd, const struct vm *vm, uid_t uid, const char *project,
    const struct vm_spec *spec, bool agree, struct err *err)
{
	return 0;
}

void
private_settle(struct vm *vm)
{
}

void
private_look(struct vmmd *vmmd)
{
}

void
private_adopt(struct vmmd *vmmd)
{
}

void
private_retry(struct vmmd *vmmd)
{
}

const char *
private_state(const struct vm *vm, size_t nic)
{
	return NULL;
}

int
private_ready(struct operation *op, struct err *err)
{
	return 1;
}

void
private_late(struct operation *op, struct err *err)
{
}
