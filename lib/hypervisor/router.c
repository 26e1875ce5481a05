/* SPDX-License-Identifier: MPL-2.0
 *
 * From a backend's tag to the backend, and what a backend can not do, told before anything is
 * made. */
#include "lib/hypervisor/hypervisor.h"

#include <stdlib.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"

struct backend_row {
	struct hypervisor *(*create)(const struct hv_env *env); /* NULL: not in this build */
	void (*destroy)(struct hypervisor *hv);
	const char *missing; /* why not, and what to do about it */
	const char *hint;
};

/* clang-format off */
static const struct backend_row rows[BACKENDS] = {
#ifdef VMM_QEMU
	[BACKEND_QEMU] = { hv_qemu_create, hv_qemu_destroy, NULL, NULL },
#else
	[BACKEND_QEMU] = { NULL, NULL, "it is of Linux alone", "use a host with Linux" },
#endif
#ifdef VMM_PROPOLIS
	[BACKEND_PROPOLIS] = { hv_propolis_create, hv_propolis_destroy, NULL, NULL },
#else
	[BACKEND_PROPOLIS] = { NULL, NULL, "this vmmd was built without it", "build with the meson option -Dpropolis=enabled" },
#endif
	[BACKEND_NOOP] = { hv_noop_create, hv_noop_destroy, NULL, NULL },
};

const struct hv_feature hv_features[] = {
	{ "suspend",       HV_CAN_SUSPEND },
	{ "resume",        HV_CAN_SUSPEND },
	{ "snapshot",      0 },
	{ "network user",  HV_CAN_USER_NET },
	{ "network tap",   HV_CAN_TAP },
	{ "network vnic",  HV_CAN_VNIC },
	{ "network private", HV_CAN_PRIVATE },
	{ "several NICs",  HV_CAN_NICS },
	{ "firmware bios", HV_CAN_BIOS },
	{ "firmware uefi", HV_CAN_UEFI },
	{ "port forwards", HV_CAN_FORWARD },
	{ "secure boot",   HV_CAN_SECURE_BOOT },
	{ "TPM",           HV_CAN_TPM },
	{ "other architectures", HV_CAN_ARCH },
	{ "boot kernel",   HV_CAN_KERNEL },
	{ "CD-ROM",        HV_CAN_CDROM },
	{ "display",       HV_CAN_DISPLAY },
	{ "console",       HV_CAN_CONSOLE },
	{ "ssh",           HV_CAN_SSH },
	{ "power button",  HV_CAN_POWER_BUTTON },
	{ "image commit",  HV_CAN_COMMIT },
	{ NULL, 0 },
};
/* clang-format on */

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
#ifdef VMM_QEMU
	return BACKEND_QEMU;
#else
	return BACKEND_PROPOLIS;
#endif
}

static struct hypervisor *
backend_of(struct hv_router *router, enum backend backend)
{
	if (router->backends[backend] == NULL && rows[backend].create != NULL)
		router->backends[backend] = rows[backend].create(router->env);
	return router->backends[backend];
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
		err_set(err, E_UNSUPPORTED, "the backend '%s' is not available: %s",
		    backend_names[backend], rows[backend].missing);
		err_hint(err, "%s, or leave the backend out to get the platform's own, '%s'",
		    rows[backend].hint, backend_names[hv_router_default()]);
		return E_UNSUPPORTED;
	}
	hv = backend_of(router, backend);
	rc = hv->ops->available(hv, err);
	if (rc != 0)
		return err_wrap(err, "the backend '%s' is not available", backend_names[backend]);
	*ret_hv = hv;
	return 0;
}

unsigned
hv_capabilities(const struct hypervisor *hv)
{
	return hv->ops->capabilities;
}

const struct hv_ops *
hv_router_ops(struct hv_router *router, enum backend backend)
{
	struct hypervisor *hv =
	    backend_of(router, backend == BACKEND_DEFAULT ? hv_router_default() : backend);

	return hv != NULL ? hv->ops : NULL;
}

void
hv_router_image_removed(struct hv_router *router, const char *digest)
{
	for (int i = 0; i < BACKENDS; i++) {
		struct hypervisor *hv = backend_of(router, (enum backend)i);

		if (hv != NULL && hv->ops->image_removed != NULL && hv->ops->available(hv, NULL) == 0)
			hv->ops->image_removed(hv, digest);
	}
}

int
hv_refuse(const struct hv_ops *ops, const char *name, unsigned bit, struct err *err)
{
	const struct hv_feature *feature = hv_features;
	const char *reason = NULL;

	while (feature->name != NULL && feature->bit != bit)
		feature++;
	for (const struct hv_lack *lack = ops->lacks; lack != NULL && lack->bit != 0; lack++)
		if (lack->bit == bit)
			reason = lack->reason;
	err_set(err, E_UNSUPPORTED,
	    "the machine '%s' asks for %s, which the backend '%s' can not do%s%s", name,
	    feature->name, backend_names[ops->backend], reason != NULL ? ": " : "",
	    reason != NULL ? reason : "");
	err_object(err, name);
	return E_UNSUPPORTED;
}

static int
refuse(const struct hypervisor *hv, const struct vm_spec *spec, unsigned bit, struct err *err)
{
	hv_refuse(hv->ops, spec->name, bit, err);
	if (bit == HV_CAN_UEFI || bit == HV_CAN_BIOS)
		err_hint(err, "leave 'firmware' out, or write '%s'",
		    firmware_names[bit == HV_CAN_UEFI ? FIRMWARE_BIOS : FIRMWARE_UEFI]);
	else if (bit == HV_CAN_FORWARD)
		err_hint(err, "leave 'ports' out; the guest is reached by its own address");
	else if (bit >= HV_CAN_SECURE_BOOT)
		err_hint(err, "leave it out, or use another backend");
	else
		err_hint(err, "use the network '%s' or 'none'",
		    network_names[hv->ops->capabilities & HV_CAN_USER_NET ? NETWORK_USER : NETWORK_VNIC]);
	return E_UNSUPPORTED;
}

static void
complete_network(struct network_spec *network, unsigned can)
{
	network->type = network_type(network);
	if (network->type == NETWORK_DEFAULT)
		network->type = can & HV_CAN_USER_NET ? NETWORK_USER
		    : can & HV_CAN_VNIC		      ? NETWORK_VNIC
						      : NETWORK_NONE;
}

void
hv_complete_spec(const struct hypervisor *hv, struct vm_spec *spec)
{
	unsigned can = hv->ops->capabilities;

	struct network_spec *nics = spec->networks.items;

	/* An absent network stays so where it means 'user': as machines of former versions have it. */
	if (!spec->network.present && spec->networks.count == 0 && !(can & HV_CAN_USER_NET))
		spec->network.present = true;
	if (spec->network.present)
		complete_network(&spec->network, can);
	for (size_t i = 0; i < spec->networks.count; i++)
		complete_network(&nics[i], can);
	if (hv->ops->complete_spec != NULL)
		hv->ops->complete_spec(hv, spec);
	spec->firmware.present = true;
	if (spec->firmware.type == FIRMWARE_DEFAULT)
		spec->firmware.type = can & HV_CAN_BIOS && !spec->firmware.secure_boot ? FIRMWARE_BIOS
										      : FIRMWARE_UEFI;
}

int
hv_check_spec(struct hypervisor *hv, const struct vm_spec *spec, struct err *err)
{
	static const unsigned networks[NETWORKS] = {
		[NETWORK_USER] = HV_CAN_USER_NET,
		[NETWORK_TAP] = HV_CAN_TAP,
		[NETWORK_VNIC] = HV_CAN_VNIC,
		[NETWORK_PRIVATE] = HV_CAN_PRIVATE,
	};
	static const unsigned firmwares[FIRMWARES] = {
		[FIRMWARE_BIOS] = HV_CAN_BIOS,
		[FIRMWARE_UEFI] = HV_CAN_UEFI,
		[FIRMWARE_NONE] = HV_CAN_KERNEL,
	};
	const unsigned needed[] = { vm_spec_nic_count(spec) > 1 ? HV_CAN_NICS : 0,
		firmwares[spec->firmware.type],
		spec->firmware.secure_boot ? HV_CAN_SECURE_BOOT : 0,
		spec->firmware.tpm ? HV_CAN_TPM : 0, spec->arch != ARCH_DEFAULT ? HV_CAN_ARCH : 0,
		spec->boot.present ? HV_CAN_KERNEL : 0, spec->cdrom.present ? HV_CAN_CDROM : 0,
		spec->ports.count > 0 ? HV_CAN_FORWARD : 0,
		spec->display != DISPLAY_NONE ? HV_CAN_DISPLAY : 0 };

	for (size_t i = 0; i < vm_spec_nic_count(spec); i++) {
		unsigned bit = networks[vm_spec_nic(spec, i)->type];

		if ((hv->ops->capabilities & bit) != bit)
			return refuse(hv, spec, bit, err);
	}
	for (size_t i = 0; i < ARRAY_LEN(needed); i++)
		if ((hv->ops->capabilities & needed[i]) != needed[i])
			return refuse(hv, spec, needed[i], err);
	return hv->ops->check_spec != NULL ? hv->ops->check_spec(hv, spec, err) : 0;
}
