/* SPDX-License-Identifier: MPL-2.0
 *
 * The QEMU backend as a whole: what is installed, and what a machine may ask of it. */
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/landlock.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/hypervisor/qemu/machine.h"

enum { FOUND_FOR_MS = 5000 };

const char *
qemu_program(const struct qemu *hv, int arch)
{
	return hv->programs[arch != ARCH_DEFAULT ? arch : (int)arch_host()];
}

static void
find_programs(struct qemu *hv)
{
	for (int i = ARCH_DEFAULT + 1; i < ARCHS; i++) {
		if (hv->programs[i] != NULL && access(hv->programs[i], X_OK) == 0)
			continue;
		free(hv->programs[i]);
		hv->programs[i] = process_find(qemu_arch_get(i)->program);
	}
}

static bool
any_program(const struct qemu *hv)
{
	for (int i = ARCH_DEFAULT + 1; i < ARCHS; i++)
		if (hv->programs[i] != NULL)
			return true;
	return false;
}

int
qemu_available(struct hypervisor *base, struct err *err)
{
	struct qemu *hv = (struct qemu *)base;
	const struct qemu_arch *host = qemu_arch_get(ARCH_DEFAULT);
	CLEANUP_FREE char *img = NULL, *launcher = NULL;

	if (hv->found_ms != 0 && clock_ms() - hv->found_ms < FOUND_FOR_MS)
		return 0;
	img = process_find("qemu-img");
	find_programs(hv);
	if (!any_program(hv) || img == NULL) {
		err_set(err, E_UNSUPPORTED, "the program '%s' was not found",
		    img == NULL ? "qemu-img" : host->program);
		err_hint(err, "install QEMU (Debian: %s and qemu-utils)", host->package);
		return E_UNSUPPORTED;
	}
	launcher = process_find(base->env->launcher);
	if (launcher == NULL) {
		err_set(err, E_UNSUPPORTED, "the launcher '%s' can not be executed",
		    base->env->launcher);
		err_hint(err, "install vmmd completely");
		return E_UNSUPPORTED;
	}
	if (hv->accel == NULL && qemu_program(hv, ARCH_DEFAULT) != NULL)
		hv->accel = accel_create(base->env, qemu_program(hv, ARCH_DEFAULT));
	hv->found_ms = clock_ms();
	return 0;
}

static void
add_text(json_object *doc, const char *key, const char *text)
{
	if (text != NULL)
		json_object_object_add(doc, key, json_object_new_string(text));
}

struct json_object *
qemu_info(struct hypervisor *base)
{
	struct qemu *hv = (struct qemu *)base;
	struct json_object *doc = json_object_new_object(), *list = json_object_new_array();
	const char *choice = NULL, *why = NULL;

	add_text(doc, "program", qemu_program(hv, ARCH_DEFAULT));
	add_text(doc, "machine_type", qemu_arch_get(ARCH_DEFAULT)->machine);
	for (int i = ARCH_DEFAULT + 1; i < ARCHS; i++)
		if (hv->programs[i] != NULL)
			json_object_array_add(list, json_object_new_string(arch_names[i]));
	json_object_object_add(doc, "architectures", list);
	if (hv->accel != NULL)
		choice = accel_chosen(hv->accel, &why);
	add_text(doc, "accel", choice);
	add_text(doc, "accel_reason", why);
	/* What binds a machine's process here; 0: this kernel has no Landlock. */
	json_object_object_add(doc, "landlock", json_object_new_int(hv->landlock));
	json_object_object_add(doc, "own_user", json_object_new_boolean(base->env->qemu_uid >= 0));
	return doc;
}

void
qemu_complete_spec(const struct hypervisor *base, struct vm_spec *spec)
{
	const struct qemu_arch *arch;

	if (spec->arch == ARCH_DEFAULT)
		spec->arch = (int)arch_host();
	arch = qemu_arch_get(spec->arch);
	if (spec->firmware.type != FIRMWARE_DEFAULT)
		return;
	spec->firmware.type = (int)(spec->firmware.secure_boot ? FIRMWARE_UEFI : arch->firmware);
	if (spec->boot.present && !arch->has_bios && !spec->firmware.secure_boot)
		spec->firmware.type = FIRMWARE_NONE;
}

static int
check_program(const struct qemu *hv, const struct vm_spec *spec, struct err *err)
{
	const struct qemu_arch *arch = qemu_arch_get(spec->arch);

	if (qemu_program(hv, spec->arch) == NULL) {
		err_set(err, E_UNSUPPORTED,
		    "the machine '%s' is of the architecture %s, for which '%s' was not found",
		    spec->name, arch->name, arch->program);
		err_hint(err, "install the package '%s' (as Debian calls it)", arch->package);
		return E_UNSUPPORTED;
	}
	if (spec->arch != (int)arch_host() && str_eq(hv->base.env->accel, "kvm")) {
		err_set(err, E_UNSUPPORTED,
		    "the machine '%s' is of the architecture %s, which KVM can not run on this host",
		    spec->name, arch->name);
		err_hint(err, "set accel to auto or tcg in vmmd.yaml");
		return E_UNSUPPORTED;
	}
	return 0;
}

static int
check_firmware(const struct qemu *hv, const struct vm_spec *spec, struct err *err)
{
	const struct qemu_arch *arch = qemu_arch_get(spec->arch);
	struct qemu_firmware firmware = { 0 };
	bool none = spec->firmware.type == FIRMWARE_NONE;
	int rc;

	if (arch->has_bios ? none : spec->firmware.type == FIRMWARE_BIOS) {
		err_set(err, E_UNSUPPORTED, "the machine '%s' asks for the firmware %s, which %s does "
					    "not start by", spec->name, firmware_names[spec->firmware.type],
		    arch->name);
		err_hint(err, "leave 'firmware' out, or write '%s'", firmware_names[arch->firmware]);
		return E_UNSUPPORTED;
	}
	if (spec->firmware.type != FIRMWARE_UEFI)
		return 0;
	rc = firmware_find((const char *const *)hv->firmware_folders, arch,
	    spec->firmware.secure_boot, &firmware, err);
	firmware_done(&firmware);
	return rc;
}

static int
check_ports(const struct vm_spec *spec, struct err *err)
{
	struct port port;

	for (size_t i = 0; i < spec->ports.count; i++) {
		if (port_parse(spec->ports.items[i], &port, err) != 0)
			return E_PARAMS;
		if (!port.ipv6)
			continue;
		err_set(err, E_UNSUPPORTED,
		    "the machine '%s' asks for the port '%s', which the backend 'qemu' can not do: "
		    "QEMU's user network listens on IPv4 addresses alone",
		    spec->name, spec->ports.items[i]);
		err_hint(err, "use an IPv4 address of the host");
		return E_UNSUPPORTED;
	}
	return 0;
}

int
qemu_check_spec(struct hypervisor *base, const struct vm_spec *spec, struct err *err)
{
	const struct qemu *hv = (const struct qemu *)base;
	int rc = check_program(hv, spec, err);

	if (rc == 0)
		rc = check_ports(spec, err);
	if (rc == 0)
		rc = nic_check_spec(spec, err);
	if (rc == 0)
		rc = check_firmware(hv, spec, err);
	if (rc == 0 && spec->firmware.tpm)
		rc = qemu_tpm_available(err);
	if (rc != 0)
		err_object(err, spec->name);
	return rc;
}

struct hypervisor *
hv_qemu_create(const struct hv_env *env)
{
	struct qemu *hv = xcalloc(1, sizeof(*hv));
	CLEANUP_FREE char *prefix = NULL;

	hv->base.ops = &qemu_ops;
	hv->base.env = env;
	hv->consoles = console_hub_create(env->loop);
	hv->landlock = landlock_abi();
	LIST_INIT(&hv->tpms_ending);
	find_programs(hv);
	prefix = qemu_program_prefix(qemu_program(hv, ARCH_DEFAULT));
	hv->firmware_folders = firmware_folders(prefix);
	return &hv->base;
}

void
hv_qemu_destroy(struct hypervisor *base)
{
	struct qemu *hv = (struct qemu *)base;

	if (hv == NULL)
		return;
	accel_destroy(hv->accel);
	console_hub_destroy(hv->consoles);
	qemu_tpm_forget_all(hv);
	firmware_folders_done(hv->firmware_folders);
	for (int i = 0; i < ARCHS; i++)
		free(hv->programs[i]);
	free(hv);
}
