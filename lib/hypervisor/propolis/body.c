/* SPDX-License-Identifier: MPL-2.0
 *
 * The instance as propolis-server is asked for it, in the form of API version 1.0.0, which every
 * versioned server takes. */
#include <stdio.h>
#include <string.h>

#include "lib/base/json.h"
#include "lib/hypervisor/propolis/machine.h"

/* Where devices are on the bus; the chipset has 0.0 and 0.1. */
enum { SLOT_NIC = 8, SLOT_ROOT = 16, SLOT_SEED = 24 };
#define NO_UUID "00000000-0000-0000-0000-000000000000"

static json_object *
properties(const struct hv_config *config)
{
	json_object *doc = json_object_new_object(), *metadata = json_object_new_object();

	json_add_string(metadata, "silo_id", NO_UUID);
	json_add_string(metadata, "project_id", NO_UUID);
	json_add_string(metadata, "sled_id", NO_UUID);
	json_add_string(metadata, "sled_serial", "none");
	json_add_int(metadata, "sled_revision", 0);
	json_add_string(metadata, "sled_model", "none");
	json_add_string(doc, "id", config->uuid);
	json_add_string(doc, "name", config->name);
	json_add_string(doc, "description", "a machine of vmmd");
	json_object_object_add(doc, "metadata", metadata);
	return doc;
}

static json_object *
board(const struct vm_spec *spec)
{
	json_object *doc = json_object_new_object(), *chipset = json_object_new_object(),
		    *value = json_object_new_object();

	json_add_bool(value, "enable_pcie", false);
	json_add_string(chipset, "type", "i440_fx");
	json_object_object_add(chipset, "value", value);
	json_add_int(doc, "cpus", (int64_t)spec->vcpus);
	json_add_int(doc, "memory_mb", (int64_t)(spec->memory_bytes >> 20));
	json_object_object_add(doc, "chipset", chipset);
	return doc;
}

/* Adds {key: {type, component}} and returns the component, to be filled. */
static json_object *
component(json_object *components, const char *key, const char *type)
{
	json_object *doc = json_object_new_object(), *inner = json_object_new_object();

	json_add_string(doc, "type", type);
	json_object_object_add(doc, "component", inner);
	json_object_object_add(components, key, doc);
	return inner;
}

static json_object *
device(json_object *components, const char *key, const char *type, const char *backend, int slot)
{
	json_object *doc = component(components, key, type), *path = json_object_new_object();

	json_add_int(path, "bus", 0);
	json_add_int(path, "device", slot);
	json_add_int(path, "function", 0);
	json_add_string(doc, "backend_id", backend);
	json_object_object_add(doc, "pci_path", path);
	return doc;
}

static void
add_nic(json_object *components, const struct hv_config *config, const struct host_names *names)
{
	char interface[37];
	json_object *doc;

	/* One of its own, and always the same: the machine's with another first digit. */
	snprintf(interface, sizeof(interface), "%s", config->uuid);
	interface[0] = interface[0] == '0' ? '1' : '0';
	doc = component(components, "net0-backend", "virtio_network_backend");
	json_add_string(doc, "vnic_name", names->link);
	doc = device(components, "net0", "virtio_nic", "net0-backend", SLOT_NIC);
	json_add_string(doc, "interface_id", interface);
}

static void
add_disks(json_object *components, const struct host_names *names, const char *seed_base64)
{
	json_object *doc = component(components, "root-backend", "file_storage_backend");

	json_add_string(doc, "path", names->device);
	json_add_bool(doc, "readonly", false);
	json_add_int(doc, "block_size", 512);
	device(components, "root", "virtio_disk", "root-backend", SLOT_ROOT);
	if (seed_base64 == NULL)
		return;
	doc = component(components, "seed-backend", "blob_storage_backend");
	json_add_string(doc, "base64", seed_base64);
	json_add_bool(doc, "readonly", true);
	device(components, "seed", "virtio_disk", "seed-backend", SLOT_SEED);
}

static void
add_boot_order(json_object *components)
{
	json_object *order = json_object_new_array(), *entry = json_object_new_object();

	json_add_string(entry, "id", "root");
	json_object_array_add(order, entry);
	json_object_object_add(component(components, "boot", "boot_settings"), "order", order);
}

json_object *
body_create(const struct hv_config *config, const struct host_names *names, bool has_nic,
    const char *seed_base64)
{
	json_object *components = json_object_new_object(), *spec = json_object_new_object(),
		    *value = json_object_new_object(), *init = json_object_new_object(),
		    *doc = json_object_new_object();

	json_add_string(component(components, "com1", "serial_port"), "num", "com1");
	add_disks(components, names, seed_base64);
	if (has_nic)
		add_nic(components, config, names);
	add_boot_order(components);
	json_add_bool(component(components, "pvpanic", "qemu_pvpanic"), "enable_isa", true);
	json_object_object_add(spec, "board", board(config->spec));
	json_object_object_add(spec, "components", components);
	json_object_object_add(value, "spec", spec);
	json_add_string(init, "method", "Spec");
	json_object_object_add(init, "value", value);
	json_object_object_add(doc, "properties", properties(config));
	json_object_object_add(doc, "init", init);
	return doc;
}
