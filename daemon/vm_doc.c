/* SPDX-License-Identifier: MPL-2.0
 *
 * A machine as a document: for the store, and as the row that clients see. */
#include <stdlib.h>
#include <string.h>

#include "daemon/config.h"
#include "daemon/nics.h"
#include "daemon/private.h"
#include "daemon/operation.h"
#include "daemon/ports.h"
#include "daemon/vm.h"
#include "daemon/vmmd.h"
#include "lib/base/clock.h"
#include "lib/base/fs.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/image.h"

enum { DOC_VERSION = 2 }; /* 1: a single "mac" instead of "nics" */

const char *const provision_state_names[] = { "none", "pending", "running", "done", "failed",
	"interrupted" };
static const char *const wanted_names[] = { "down", "up" };

/* Phase names are static text elsewhere; loaded ones are looked up here. */
static const char *const phase_names[] = { "seed", "launch", "boot", "login", "cloud-init",
	"provision" };

static json_object *
encode_phases(const struct vm *vm)
{
	json_object *list = json_object_new_array();

	for (size_t i = 0; i < vm->phase_count; i++) {
		json_object *item = json_object_new_object();

		json_add_string(item, "name", vm->phases[i].name);
		json_add_int(item, "ms", (int64_t)vm->phases[i].ms);
		json_object_array_add(list, item);
	}
	return list;
}

static void
decode_phases(struct vm *vm, json_object *list)
{
	for (size_t i = 0; list != NULL && i < json_object_array_length(list); i++) {
		json_object *item = json_object_array_get_idx(list, i);
		const char *name = json_string(item, "name");

		for (size_t k = 0; name != NULL && k < ARRAY_LEN(phase_names); k++)
			if (str_eq(phase_names[k], name))
				vm_phase(vm, phase_names[k], (uint64_t)json_int(item, "ms"));
	}
}

json_object *
vm_encode(struct vm *vm)
{
	json_object *doc = json_object_new_object(), *done = json_object_new_array();

	json_add_int(doc, "version", DOC_VERSION);
	json_add_string(doc, "id", vm->id);
	json_add_string(doc, "uuid", vm->uuid);
	json_object_object_add(doc, "nics", nics_encode(vm));
	json_add_int(doc, "owner", vm->owner);
	json_add_string(doc, "project", vm->project);
	json_object_object_add(doc, "spec", fields_encode(vm_spec_fields, &vm->spec));
	json_add_string(doc, "state", vm_state_names[vm->state]);
	json_add_string(doc, "reason", vm->reason);
	json_add_string(doc, "wanted", wanted_names[vm->wanted]);
	json_add_int(doc, "created", vm->created_ms);
	json_add_int(doc, "started", vm->started_ms);
	json_add_int(doc, "changed", vm->changed_ms);
	json_add_string(doc, "image", vm->image_digest);
	json_add_int(doc, "generation", vm->disk_generation);
	json_add_string(doc, "host_key", vm->host_key);
	json_add_bool(doc, "host_key_injected", vm->host_key_injected);
	json_add_string(doc, "seed_instance", vm->seed_instance);
	json_add_bool(doc, "seed_stripped", vm->seed_stripped);
	if (vm->cloud_init_known)
		json_add_string(doc, "cloud_init", cloudinit_result_names[vm->cloud_init]);
	json_add_string(doc, "provision", provision_state_names[vm->provision]);
	for (size_t i = 0; i < vm->steps_done.count; i++)
		json_object_array_add(done, json_object_new_string(vm->steps_done.items[i]));
	json_object_object_add(doc, "steps_done", done);
	json_add_string(doc, "provision_error", vm->provision_error);
	json_object_object_add(doc, "phases", encode_phases(vm));
	json_add_string(doc, "runtime", vm->runtime);
	return doc;
}

static void
decode_words(struct vm *vm, json_object *doc)
{
	const char *word = json_string(doc, "provision");

	for (int i = 0; word != NULL && i <= PROVISION_INTERRUPTED; i++)
		if (str_eq(provision_state_names[i], word))
			vm->provision = (enum provision_state)i;
	word = json_string(doc, "cloud_init");
	for (int i = 0; word != NULL && i <= CLOUDINIT_ABSENT; i++) {
		if (str_eq(cloudinit_result_names[i], word)) {
			vm->cloud_init = (enum cloudinit_result)i;
			vm->cloud_init_known = true;
		}
	}
	vm->wanted = str_eq(json_string(doc, "wanted"), "up") ? VM_WANT_UP : VM_WANT_DOWN;
}

static void
decode_rest(struct vm *vm, json_object *doc)
{
	json_object *done;

	vm->owner = (uid_t)json_int(doc, "owner");
	vm->project = xstrdup(json_string(doc, "project"));
	vm->reason = xstrdup(json_string(doc, "reason"));
	vm->created_ms = json_int(doc, "created");
	vm->started_ms = json_int(doc, "started");
	vm->changed_ms = json_int(doc, "changed");
	vm->image_digest = xstrdup(json_string(doc, "image"));
	vm->disk_generation = (unsigned)json_int(doc, "generation");
	vm->host_key = xstrdup(json_string(doc, "host_key"));
	vm->host_key_injected = json_flag(doc, "host_key_injected");
	vm->seed_instance = xstrdup(json_string(doc, "seed_instance"));
	vm->seed_stripped = json_flag(doc, "seed_stripped");
	vm->provision_error = xstrdup(json_string(doc, "provision_error"));
	vm->runtime = xstrdup(json_string(doc, "runtime"));
	decode_words(vm, doc);
	if (json_object_object_get_ex(doc, "steps_done", &done)) {
		size_t count = json_object_array_length(done);

		vm->steps_done.items = xcalloc(count, sizeof(char *));
		for (size_t i = 0; i < count; i++)
			vm->steps_done.items[vm->steps_done.count++] =
			    xstrdup(json_object_get_string(json_object_array_get_idx(done, i)));
	}
	if (json_object_object_get_ex(doc, "phases", &done))
		decode_phases(vm, done);
}

/* Rows of former versions have the digest as a path. */
static void
upgrade_image(struct image_spec *image)
{
	if (image->file.kind != FILE_PATH || !str_starts(image->file.path, "sha256:"))
		return;
	if (image->digest == NULL)
		image->digest = TAKE(image->file.path);
	free(TAKE(image->sha256));
	file_ref_done(&image->file);
}

int
vm_load(struct vmmd *vmmd, const char *id, const char *text, struct err *err)
{
	CLEANUP_JSON json_object *doc = json_tokener_parse(text);
	json_object *spec, *nics = NULL;
	struct vm *vm;
	const char *uuid, *state;

	if (doc == NULL || json_int(doc, "version") < 1)
		return err_set(err, E_IO, "the stored row of machine '%s' can not be read", id);
	if (json_int(doc, "version") > DOC_VERSION)
		return err_set(err, E_UNSUPPORTED,
		    "the stored row of machine '%s' was written by a newer vmmd", id);
	vm = vm_new(vmmd);
	uuid = json_string(doc, "uuid");
	state = json_string(doc, "state");
	if (strlen(id) != sizeof(vm->id) - 1 || uuid == NULL || strlen(uuid) != sizeof(vm->uuid) - 1 ||
	    state == NULL ||
	    !vm_state_parse(state, &vm->state) || !json_object_object_get_ex(doc, "spec", &spec) ||
	    fields_decode_one(vm_spec_fields, spec, &vm->spec, NULL) != 0 ||
	    vm_find(vmmd, vm->spec.name) != NULL) {
		vm_spec_release(&vm->spec);
		free(vm);
		return err_set(err, E_IO, "the stored row of machine '%s' is damaged", id);
	}
	memcpy(vm->id, id, sizeof(vm->id));
	memcpy(vm->uuid, uuid, sizeof(vm->uuid));
	json_object_object_get_ex(doc, "nics", &nics);
	nics_decode(vm, nics, json_string(doc, "mac"));
	vm->spec.present = true;
	upgrade_image(&vm->spec.image);
	decode_rest(vm, doc);
	vm_register(vm);
	private_settle(vm);
	return 0;
}

/* ---- the row ---- */

static void
add_time(json_object *row, const char *key, int64_t ms)
{
	CLEANUP_FREE char *text = NULL;

	if (ms == 0)
		return;
	text = clock_rfc3339(ms);
	json_add_string(row, key, text);
}

static json_object *
ssh_row(const struct vm *vm, const struct hv_facts *facts)
{
	json_object *ssh = json_object_new_object();

	json_add_string(ssh, "host", facts->ssh_host);
	if (facts->ssh_port != 0)
		json_add_int(ssh, "port", facts->ssh_port);
	json_add_string(ssh, "address_source", facts->address_source);
	json_add_string(ssh, "user", vm_spec_user(&vm->spec));
	json_add_bool(ssh, "reachable", vm->reachable);
	if (vm->host_key != NULL)
		json_add_string(ssh, "host_key", vm->host_key_injected ? "injected" : "learnt");
	return ssh;
}

static json_object *
provision_row(const struct vm *vm)
{
	json_object *row = json_object_new_object();

	json_add_string(row, "state", provision_state_names[vm->provision]);
	json_add_int(row, "steps", (int64_t)vm->spec.provision.count);
	json_add_int(row, "done", (int64_t)vm->steps_done.count);
	json_add_string(row, "error", vm->provision_error);
	return row;
}

/* The first one stands for itself, too: most machines have no other. */
static void
add_networks(json_object *row, const struct vm *vm, const struct hv_facts *facts)
{
	json_object *list = nics_rows(vm, facts), *first;

	if (vm->nic_count > 0) {
		first = json_object_get(json_object_array_get_idx(list, 0));
		json_add_string(row, "mac", vm->nics[0].mac);
	} else {
		first = json_object_new_object();
		json_add_string(first, "type", network_names[NETWORK_NONE]);
	}
	json_object_object_add(row, "network", first);
	json_object_object_add(row, "networks", list);
}

static json_object *
firmware_row(const struct vm *vm)
{
	json_object *row = json_object_new_object();

	json_add_string(row, "type", firmware_names[vm->spec.firmware.type]);
	json_add_bool(row, "secure_boot", vm->spec.firmware.secure_boot);
	json_add_bool(row, "tpm", vm->spec.firmware.tpm);
	return row;
}

static void
add_image(json_object *row, const char *key, const struct image_spec *spec, const char *digest)
{
	json_object *image;

	if (digest == NULL)
		return;
	image = json_object_new_object();
	json_add_string(image, "digest", digest);
	json_add_string(image, "name", spec->name);
	json_add_string(image, "url", spec->url);
	json_add_string(image, "source", spec->source);
	json_object_object_add(row, key, image);
}

static void
add_paths(json_object *row, const struct vm *vm)
{
	CLEANUP_FREE char *overlay = vm_path(vm, "disk.qcow2"), *seed = vm_path(vm, "seed.iso");

	json_add_string(row, "work_dir", vm->dir);
	if (vm->image_digest != NULL && (vm_capabilities(vm) & HV_CAN_COMMIT))
		json_add_string(row, "overlay", overlay);
	if (vm->seed_instance != NULL)
		json_add_string(row, "seed", seed);
}

static uint64_t
disk_bytes(const struct vm *vm)
{
	const struct image *image;

	if (vm->spec.disk_bytes != 0 || vm->image_digest == NULL)
		return vm->spec.disk_bytes;
	image = image_find(vm->vmmd->images, vm->image_digest);
	return image != NULL ? image->virtual_bytes : 0;
}

json_object *
vm_row_json(struct vm *vm)
{
	json_object *row = json_object_new_object();
	struct hv_facts facts = { 0 };

	if (vm->hv != NULL && vm->runtime != NULL)
		vm->hv->ops->facts(vm->hv, &facts);
	json_add_string(row, "name", vm->spec.name);
	json_add_string(row, "id", vm->id);
	json_add_string(row, "uuid", vm->uuid);
	json_add_string(row, "backend", backend_names[vm->spec.backend]);
	json_add_string(row, "state", vm_state_names[vm->state]);
	json_object_object_add(row, "reason",
	    vm->reason != NULL ? json_object_new_string(vm->reason) : NULL);
	json_add_bool(row, "responsive", vm->responsive);
	json_add_string(row, "wanted", wanted_names[vm->wanted]);
	json_add_int(row, "vcpus", (int64_t)vm->spec.vcpus);
	json_add_int(row, "memory_mib", (int64_t)(vm->spec.memory_bytes >> 20));
	json_add_int(row, "disk_bytes", (int64_t)disk_bytes(vm));
	add_networks(row, vm, &facts);
	json_object_object_add(row, "ports", ports_rows(vm, &facts));
	if (facts.pid != 0)
		json_add_int(row, "pid", facts.pid);
	json_add_string(row, "accel", facts.accel);
	if (vm->spec.arch != ARCH_DEFAULT)
		json_add_string(row, "arch", arch_names[vm->spec.arch]);
	json_object_object_add(row, "firmware", firmware_row(vm));
	json_add_string(row, "machine_type", facts.machine_type);
	json_add_string(row, "vnc", facts.vnc);
	json_add_int(row, "owner_uid", vm->owner);
	json_add_string(row, "project", vm->project);
	add_image(row, "image", &vm->spec.image, vm->image_digest);
	add_image(row, "cdrom", &vm->spec.cdrom, vm->spec.cdrom.digest);
	json_object_object_add(row, "ssh", ssh_row(vm, &facts));
	if (vm->cloud_init_known)
		json_add_string(row, "cloud_init", cloudinit_result_names[vm->cloud_init]);
	json_object_object_add(row, "provision", provision_row(vm));
	add_time(row, "created", vm->created_ms);
	add_time(row, "started", vm->started_ms);
	add_time(row, "changed", vm->changed_ms);
	json_object_object_add(row, "phases", encode_phases(vm));
	if (vm->op != NULL)
		json_object_object_add(row, "operation", operation_brief(vm->op));
	add_paths(row, vm);
	return row;
}

const char *
vm_row(struct vm *vm)
{
	CLEANUP_JSON json_object *row = NULL;

	if (vm->row == NULL) {
		row = vm_row_json(vm);
		vm->row = xstrdup(json_object_to_json_string_ext(row, JSON_TEXT_FLAGS));
	}
	return vm->row;
}
