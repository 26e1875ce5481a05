/* SPDX-License-Identifier: MPL-2.0
 *
 * The instance as it is asked for, field by field, and the addresses of zones. */
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/str.h"
#include "lib/hypervisor/propolis/machine.h"
#include "tests/unit/unit.h"

static struct vm_spec spec = { .present = true, .name = (char *)(uintptr_t)"web", .vcpus = 3,
	.memory_bytes = 1536ULL << 20 };
static const struct hv_config config = { .id = "00c0ffee1234",
	.uuid = "7d9f1c52-0000-4000-8000-00c0ffee1234", .name = "web", .spec = &spec };
static const struct host_names names = { .zone = "vmm-00c0ffee1234", .link = "vm00c0ffee1234_n0",
	.device = "/dev/zvol/rdsk/rpool/vmm/machines/00c0ffee1234" };

/* What is at a path of keys, as JSON text; "" when there is nothing. */
static const char *
at(struct json_object *doc, const char *path)
{
	char key[64];

	while (*path != '\0') {
		size_t len = strcspn(path, "/");

		snprintf(key, sizeof(key), "%.*s", (int)len, path);
		if (json_object_is_type(doc, json_type_array))
			doc = json_object_array_get_idx(doc, (size_t)atoll(key));
		else if (!json_object_object_get_ex(doc, key, &doc))
			return "";
		path += path[len] == '/' ? len + 1 : len;
	}
	return json_object_to_json_string_ext(doc, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
}

#define SPEC "init/value/spec/"
#define COMPONENT SPEC "components/"

static const struct {
	const char *path, *value;
} rows[] = {
	{ "properties/id", "\"7d9f1c52-0000-4000-8000-00c0ffee1234\"" },
	{ "properties/name", "\"web\"" },
	{ "properties/metadata/silo_id", "\"00000000-0000-0000-0000-000000000000\"" },
	{ "properties/metadata/project_id", "\"00000000-0000-0000-0000-000000000000\"" },
	{ "properties/metadata/sled_id", "\"00000000-0000-0000-0000-000000000000\"" },
	{ "properties/metadata/sled_serial", "\"none\"" },
	{ "properties/metadata/sled_revision", "0" },
	{ "properties/metadata/sled_model", "\"none\"" },
	{ "init/method", "\"Spec\"" },
	{ SPEC "board", "{\"cpus\":3,\"memory_mb\":1536,\"chipset\":{\"type\":\"i440_fx\","
			"\"value\":{\"enable_pcie\":false}}}" },
	{ COMPONENT "com1", "{\"type\":\"serial_port\",\"component\":{\"num\":\"com1\"}}" },
	{ COMPONENT "root-backend", "{\"type\":\"file_storage_backend\",\"component\":{\"path\":"
	    "\"/dev/zvol/rdsk/rpool/vmm/machines/00c0ffee1234\",\"readonly\":false,\"block_size\":512}}" },
	{ COMPONENT "root", "{\"type\":\"virtio_disk\",\"component\":{\"backend_id\":\"root-backend\","
			    "\"pci_path\":{\"bus\":0,\"device\":16,\"function\":0}}}" },
	{ COMPONENT "seed-backend", "{\"type\":\"blob_storage_backend\",\"component\":{\"base64\":"
				    "\"c2VlZA==\",\"readonly\":true}}" },
	{ COMPONENT "seed", "{\"type\":\"virtio_disk\",\"component\":{\"backend_id\":\"seed-backend\","
			    "\"pci_path\":{\"bus\":0,\"device\":24,\"function\":0}}}" },
	{ COMPONENT "net0-backend", "{\"type\":\"virtio_network_backend\",\"component\":{\"vnic_name\":"
				    "\"vm00c0ffee1234_n0\"}}" },
	{ COMPONENT "net0", "{\"type\":\"virtio_nic\",\"component\":{\"backend_id\":\"net0-backend\","
	    "\"pci_path\":{\"bus\":0,\"device\":8,\"function\":0},"
	    "\"interface_id\":\"0d9f1c52-0000-4000-8000-00c0ffee1234\"}}" },
	{ COMPONENT "boot", "{\"type\":\"boot_settings\",\"component\":{\"order\":[{\"id\":\"root\"}]}}" },
	{ COMPONENT "pvpanic", "{\"type\":\"qemu_pvpanic\",\"component\":{\"enable_isa\":true}}" },
};

START_TEST(body__whole_machine__every_field)
{
	struct json_object *doc = body_create(&config, &names, true, "c2VlZA==");

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		ck_assert_msg(str_eq(at(doc, rows[i].path), rows[i].value), "%s is %s", rows[i].path,
		    at(doc, rows[i].path));
	json_object_put(doc);
}
END_TEST

START_TEST(body__no_seed_and_no_nic__no_such_component)
{
	struct json_object *doc = body_create(&config, &names, false, NULL), *components = NULL;

	ck_assert_str_eq(at(doc, COMPONENT "seed"), "");
	ck_assert_str_eq(at(doc, COMPONENT "seed-backend"), "");
	ck_assert_str_eq(at(doc, COMPONENT "net0"), "");
	ck_assert_str_eq(at(doc, COMPONENT "net0-backend"), "");
	json_object_object_get_ex(doc, "init", &components);
	json_object_object_get_ex(components, "value", &components);
	json_object_object_get_ex(components, "spec", &components);
	json_object_object_get_ex(components, "components", &components);
	ck_assert_int_eq(json_object_object_length(components), 5);
	json_object_put(doc);
}
END_TEST

/* ---- addresses ---- */

struct pick {
	struct hv_propolis_config config;
	struct propolis hv;
	struct hv_config machine;
	struct machine m;
};

static const char *
picked(struct pick *p, const char *network, const char *id, struct err *err)
{
	static char address[46];

	p->config.control_network = network;
	p->hv.config = &p->config;
	p->machine.id = id;
	p->m.config = &p->machine;
	memset(err, 0, sizeof(*err));
	return address_pick(&p->hv, &p->m, address, err) ? address : NULL;
}

START_TEST(address__of_a_network__has_the_machines_number_in_it)
{
	struct pick p = { 0 };
	struct err err;

	LIST_INIT(&p.hv.machines);
	ck_assert_str_eq(picked(&p, "fd76:6d6d::/64", "00c0ffee1234", &err), "fd76:6d6d::c0:ffee:1234");
	ck_assert_str_eq(picked(&p, "fd76:6d6d::/80", "00c0ffee1234", &err), "fd76:6d6d::c0:ffee:1234");
	ck_assert_str_eq(picked(&p, "10.0.0.0/8", "000000000005", &err), "10.0.0.5");
	/* Zero, the host's own, and the last are nobody's. */
	ck_assert_str_eq(picked(&p, "10.9.0.0/16", "000000000000", &err), "10.9.0.2");
	ck_assert_str_eq(picked(&p, "10.9.0.0/16", "000000000001", &err), "10.9.0.2");
	ck_assert_str_eq(picked(&p, "10.9.8.0/24", "0000000000ff", &err), "10.9.8.2");
}
END_TEST

START_TEST(address__taken_by_another_machine__the_next_one)
{
	struct pick p = { 0 };
	struct machine other = { .address = "10.9.8.7" }, more = { .address = "10.9.8.8" };
	struct err err;

	LIST_INIT(&p.hv.machines);
	LIST_INSERT_HEAD(&p.hv.machines, &other, link);
	LIST_INSERT_HEAD(&p.hv.machines, &more, link);
	ck_assert_str_eq(picked(&p, "10.9.8.0/24", "000000000007", &err), "10.9.8.9");
}
END_TEST

START_TEST(address__network_is_full__says_so)
{
	static struct machine others[253];
	struct pick p = { 0 };
	struct err err;

	LIST_INIT(&p.hv.machines);
	for (int i = 0; i < 253; i++) {
		snprintf(others[i].address, sizeof(others[i].address), "10.9.8.%d", i + 2);
		LIST_INSERT_HEAD(&p.hv.machines, &others[i], link);
	}
	ck_assert_ptr_null(picked(&p, "10.9.8.0/24", "000000000007", &err));
	ck_assert_int_eq(err.code, E_LIMIT);
	ck_assert_ptr_nonnull(strstr(err.msg, "10.9.8.0/24"));
}
END_TEST

START_TEST(address__no_network__refused)
{
	static const char *const bad[] = { "", "fd76::", "fd76::/x", "fd76::/96", "10.0.0.0", "10.0.0.0/7",
		"10.0.0.0/25", "10.0.0/16", "web/64", "fd76::/64/2" };
	struct pick p = { 0 };
	struct err err;

	LIST_INIT(&p.hv.machines);
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		ck_assert_msg(picked(&p, bad[i], "000000000007", &err) == NULL, "%s", bad[i]);
		ck_assert_int_eq(err.code, E_PARAMS);
	}
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("propolis_body");

	UNIT_CASE(s, body__whole_machine__every_field);
	UNIT_CASE(s, body__no_seed_and_no_nic__no_such_component);
	UNIT_CASE(s, address__of_a_network__has_the_machines_number_in_it);
	UNIT_CASE(s, address__taken_by_another_machine__the_next_one);
	UNIT_CASE(s, address__network_is_full__says_so);
	UNIT_CASE(s, address__no_network__refused);
	return unit_main(s);
}
