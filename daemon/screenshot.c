/* SPDX-License-Identifier: MPL-2.0
 *
 * vm.screenshot: what a machine's screen shows, as one line can carry it. */
#include <stdlib.h>
#include <string.h>

#include "daemon/methods.h"
#include "daemon/vm.h"
#include "daemon/vmmd.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"

/* In base64 that is four thirds, and a line has 4 MiB. */
enum { PICTURE_MAX = 3000 << 10 };

struct shot {
	struct request *request;
	char *name;
	bool gone; /* the client left; nobody is answered */
};

static void
on_gone(void *arg)
{
	struct shot *shot = arg;
	struct err err = ERR_INIT;

	shot->gone = true;
	err_set(&err, E_CANCELLED, "the client left");
	request_fail(shot->request, &err);
}

static void
on_picture(void *arg, const void *data, size_t len, const struct err *err)
{
	struct shot *shot = arg;
	struct err own = err != NULL ? *err : (struct err)ERR_INIT;

	if (err == NULL && len > PICTURE_MAX)
		err_set(&own, E_LIMIT, "the picture of %zu bytes is too large", len);
	if (shot->gone) {
		/* answered */
	} else if (own.code != E_OK) {
		err_wrap(&own, "the screen of machine '%s'", shot->name);
		err_object(&own, shot->name);
		request_fail(shot->request, &own);
	} else {
		CLEANUP_FREE char *text = str_base64(data, len);
		json_object *result = json_object_new_object();

		json_add_string(result, "name", shot->name);
		json_add_string(result, "format", "png");
		json_add_int(result, "bytes", (int64_t)len);
		json_add_string(result, "base64", text);
		request_reply(shot->request, result);
	}
	free(shot->name);
	free(shot);
}

static int
check(const struct vm *vm, struct err *err)
{
	int rc = vm_needs(vm, HV_CAN_DISPLAY, err);

	if (rc != 0)
		return rc;
	if (vm->spec.display == DISPLAY_NONE) {
		err_set(err, E_STATE, "machine '%s' has no display", vm->spec.name);
		err_hint(err, "give it 'display: vnc' and start it anew");
		err_object(err, vm->spec.name);
		return E_STATE;
	}
	if (vm->runtime != NULL && vm->hv != NULL)
		return 0;
	err_set(err, E_STATE, "machine '%s' is %s; its screen is off", vm->spec.name,
	    vm_state_names[vm->state]);
	err_hint(err, "'vmctl start %s' starts it", vm->spec.name);
	err_object(err, vm->spec.name);
	return E_STATE;
}

void
method_vm_screenshot(struct vmmd *vmmd, struct request *request, void *args)
{
	struct name_args *a = args;
	struct err err = ERR_INIT;
	struct vm *vm = NULL;
	struct shot *shot;
	int rc = vm_lookup(vmmd, a->name, request_peer(request)->uid, &vm, &err);

	if (rc == 0)
		rc = check(vm, &err);
	if (rc != 0) {
		request_fail(request, &err);
		return;
	}
	shot = xcalloc(1, sizeof(*shot));
	shot->request = request;
	shot->name = xstrdup(vm->spec.name);
	request_on_gone(request, on_gone, shot);
	vm->hv->ops->screenshot(vm->hv, on_picture, shot);
}
