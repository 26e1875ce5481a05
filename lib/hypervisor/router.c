/* SPDX-License-Identifier: MPL-2.0
 *
 * From a backend's tag to the backend, and what a backend can not do, told before anything is
 * made. */
#include "lib/hypervisor/hypervisor.h"

#include <stdlib.h>

#include "lib/base/mem.h"

struct backend_row {
	struct hypervisor *(*create)(const struct hv_env *env); /* NULL: not of this platform */
	void (*destroy)(struct hypervisor *hv);
};

static const struct backend_row rows[BACKENDS] = {
	[BACKEND_QEMU] = { hv_qemu_create, hv_qemu_destroy },
	[BACKEND_NOOP] = { hv_noop_create, hv_noop_destroy },
};

struct hv_router {
	const struct hv_env *env;
	struct hypervisor *backends[BACKENDS]; /* made when first asked for */
};

struct hv_router *
hv_router_create(const struct hv_env *env)
{
	struct hv_router *router = xcalloc(1, sizeof(*router));

	router->env = env;
	return router;
}

void
hv_router_destroy(struct hv_router *router)
{
	if (router == NULL)
		return;
	for (int i = 0; i < BACKENDS; i++)
		if (router->backends[i] != NULL)
			rows[i].destroy(router->backends[i]);
	free(router);
}

enum backend
hv_router_default(void)
{
	return BACKEND_QEMU;
}

int
hv_router_get(struct hv_router *router, enum backend backend, struct hypervisor **ret_hv,
    struct err *err)
{
	struct hypervisor *hv;
	int rc;

	if (backend == BACKEND_DEFAULT)
		backend = hv_router_default();
	if (rows[backend].create == NULL) {
		err_set(err, E_UNSUPPORTED, "the backend '%s' is not available on this platform",
		    backend_names[backend]);
		err_hint(err, "leave the backend out to get the platform's own, '%s'",
		    backend_names[hv_router_default()]);
		return E_UNSUPPORTED;
	}
	if (router->backends[backend] == NULL)
		router->backends[backend] = rows[backend].create(router->env);
	hv = router->backends[backend];
	rc = hv->ops->available(hv, err);
	if (rc != 0)
		return rc;
	*ret_hv = hv;
	return 0;
}

unsigned
hv_capabilities(const struct hypervisor *hv)
{
	return hv->ops->capabilities;
}

const char *
hv_capability_name(enum hv_capability bit)
{
	switch (bit) {
	case HV_CAN_SUSPEND:
		return "suspend";
	case HV_CAN_USER_NET:
		return "network user";
	case HV_CAN_TAP:
		return "network tap";
	case HV_CAN_VNIC:
		return "network vnic";
	case HV_CAN_UEFI:
		return "firmware uefi";
	case HV_CAN_CONSOLE:
		return "console";
	case HV_CAN_SSH:
		return "ssh";
	case HV_CAN_POWER_BUTTON:
		return "power button";
	case HV_CAN_BIOS:
		return "firmware bios";
	}
	return "unknown";
}

static int
refuse(const struct hypervisor *hv, const struct vm_spec *spec, enum hv_capability bit,
    struct err *err)
{
	err_set(err, E_UNSUPPORTED, "the machine '%s' asks for %s, which the backend '%s' can not do",
	    spec->name, hv_capability_name(bit), backend_names[hv->ops->backend]);
	if (bit == HV_CAN_UEFI)
		err_hint(err, "leave 'firmware' out, or write 'bios'");
	else
		err_hint(err, "use the network '%s' or 'none'",
		    hv->ops->capabilities & HV_CAN_USER_NET ? "user" : "vnic");
	return E_UNSUPPORTED;
}

int
hv_check_spec(const struct hypervisor *hv, const struct vm_spec *spec, struct err *err)
{
	static const unsigned needed[NETWORKS] = {
		[NETWORK_USER] = HV_CAN_USER_NET,
		[NETWORK_TAP] = HV_CAN_TAP,
		[NETWORK_VNIC] = HV_CAN_VNIC,
	};
	unsigned can = hv->ops->capabilities;
	/* An absent network is the default one. */
	int type = spec->network.present ? spec->network.type : NETWORK_USER;

	if (needed[type] != 0 && !(can & needed[type]))
		return refuse(hv, spec, (enum hv_capability)needed[type], err);
	if (spec->firmware == FIRMWARE_UEFI && !(can & HV_CAN_UEFI))
		return refuse(hv, spec, HV_CAN_UEFI, err);
	return 0;
}
