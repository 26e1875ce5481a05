/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/vmfile/networks.h"

#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/model/field.h"
#include "lib/model/network.h"
#include "lib/model/spec.h"
#include "lib/vmfile/convert.h"
#include "lib/vmfile/vmfile.h"
#include "lib/yaml/problems.h"
#include "lib/yaml/yaml.h"

enum { NETWORKS_MAX = 64 };

/* clang-format off */
const struct field file_network_fields[] = {
	FIELD(struct file_network, name,   FIELD_NAME,   .required = true, .max = 31, .text = "the network's name"),
	FIELD(struct file_network, subnet, FIELD_STRING, .min = 1, .max = 64, .text = "its addresses, as in 10.66.0.0/24; default: one that no other of the file has"),
	FIELD_END
};
/* clang-format on */

static struct file_network *
network_at(const struct vmfile *vmfile, size_t index)
{
	return (struct file_network *)vmfile->networks.items + index;
}

static void
report(const struct vmfile *vmfile, struct problems *problems, const char *path, const char *hint,
    const char *text)
{
	const struct mark *mark = marks_find(vmfile->marks, path);
	const char *dot = strchr(path, '.');

	if (!marks_bad(vmfile->marks, path))
		problems_addf(problems, mark != NULL ? mark->line : 0, mark != NULL ? mark->column : 0,
		    hint, "'%s' %s", dot != NULL ? dot + 1 : path, text);
}

/* ---- the networks themselves ---- */

/* The earlier one in whose way it is; NULL: none. */
static const struct file_network *
overlapping(const struct vmfile *vmfile, size_t count, const struct subnet *subnet, size_t except)
{
	struct subnet other;

	for (size_t i = 0; i < count; i++)
		if (i != except && network_at(vmfile, i)->subnet != NULL &&
		    subnet_parse(network_at(vmfile, i)->subnet, &other) && subnet_overlaps(&other, subnet))
			return network_at(vmfile, i);
	return NULL;
}

static void
check_subnet(const struct vmfile *vmfile, struct problems *problems, size_t index)
{
	CLEANUP_FREE char *path = xasprintf("networks[%zu].subnet", index), *text = NULL;
	const struct file_network *network = network_at(vmfile, index), *other;
	struct subnet subnet;

	if (network->subnet == NULL)
		return;
	if (!subnet_parse(network->subnet, &subnet)) {
		report(vmfile, problems, path, "write it as in 10.66.0.0/24",
		    "is not a network with its prefix");
		return;
	}
	other = overlapping(vmfile, index, &subnet, index);
	if (other == NULL)
		return;
	text = xasprintf("overlaps the network '%s'", other->name);
	report(vmfile, problems, path, "a guest on both could not tell them apart", text);
}

static void
choose_subnet(const struct vmfile *vmfile, size_t index)
{
	struct file_network *network = network_at(vmfile, index);

	for (unsigned i = 0; network->subnet == NULL && i < 256; i++) {
		CLEANUP_FREE char *text = xasprintf("10.66.%u.0/24", i);
		struct subnet subnet;

		if (subnet_parse(text, &subnet) &&
		    overlapping(vmfile, vmfile->networks.count, &subnet, index) == NULL)
			network->subnet = TAKE(text);
	}
}

void
networks_read(struct vmfile *vmfile, struct convert *convert, const struct node *node,
    const struct field_options *options)
{
	size_t count = node->kind == NODE_MAP ? node->count / 2 : 0;

	if (node->kind != NODE_MAP || count > NETWORKS_MAX) {
		if (node_plain_kind(node) != PLAIN_NULL || count > 0)
			problems_addf(convert->problems, node->line, node->column,
			    "write a line 'lan:' for each network, with its subnet below it",
			    count > 0 ? "'networks' has more than %d entries"
				      : "'networks' must be a mapping of names to networks", NETWORKS_MAX);
		return;
	}
	vmfile->networks = (struct objects){ xcalloc(count, sizeof(struct file_network)), count };
	for (size_t i = 0; i < count; i++) {
		CLEANUP_FREE char *prefix = xasprintf("networks[%zu]", i);
		const struct node *value = node->items[2 * i + 1];
		struct node empty = { .kind = NODE_MAP, .line = value->line, .column = value->column };
		json_object *json;

		/* A name alone is a network, too. */
		if (value->kind != NODE_MAP && node_plain_kind(value) == PLAIN_NULL)
			value = &empty;
		json = convert_machine(convert, file_network_fields, node->items[2 * i], value, prefix);
		if (json != NULL)
			fields_decode(file_network_fields, json, prefix, options, network_at(vmfile, i));
		json_object_put(json);
	}
	for (size_t i = 0; i < count; i++)
		check_subnet(vmfile, convert->problems, i);
	for (size_t i = 0; i < count; i++)
		choose_subnet(vmfile, i);
}

void
networks_done(struct vmfile *vmfile)
{
	for (size_t i = 0; i < vmfile->networks.count; i++)
		fields_release(file_network_fields, network_at(vmfile, i));
	free(vmfile->networks.items);
}

/* ---- the machines on them ---- */

struct station { /* a NIC that is on one of the file's networks */
	const struct vm_spec *vm;
	struct network_spec *nic;
	const struct file_network *network;
	char *path; /* "vms[0].networks[1]" */
};

struct stations {
	struct station *items;
	size_t count;
};

static const struct file_network *
find_network(const struct vmfile *vmfile, const char *name)
{
	for (size_t i = 0; i < vmfile->networks.count; i++)
		if (str_eq(network_at(vmfile, i)->name, name))
			return network_at(vmfile, i);
	return NULL;
}

static void
report_unknown(struct vmfile *vmfile, struct problems *problems, const char *path, const char *name)
{
	static const struct node nowhere;
	CLEANUP_FREE char *at = xasprintf("%s.name", path), *hint = NULL, *text = NULL, *subnet = NULL;
	CLEANUP_FREE char *shown = str_line(name, strnlen(name, 64));
	CLEANUP_FREE const char **names = xcalloc(vmfile->networks.count + 1, sizeof(*names));
	const char *near;

	for (size_t i = 0; i < vmfile->networks.count; i++)
		names[i] = network_at(vmfile, i)->name != NULL ? network_at(vmfile, i)->name : "";
	near = str_nearest(name, names, vmfile->networks.count);
	hint = near != NULL ? xasprintf("did you mean '%s'?", near)
			    : xasprintf("add 'networks: {%s: {}}' at the top of the file", shown);
	text = xasprintf("is '%s', which is no network of the file", shown);
	report(vmfile, problems, at, hint, text);
	/* What it would have had is not worth telling. */
	subnet = xasprintf("%s.subnet", path);
	marks_add(vmfile->marks, subnet, &nowhere, true);
}

/* Its address as the network writes it; what is wrong with it lib/model tells. */
static void
complete_nic(struct vmfile *vmfile, struct problems *problems, struct station *s)
{
	CLEANUP_FREE char *at = xasprintf("%s.subnet", s->path);
	struct subnet subnet;
	const char *why;
	char *address;

	s->nic->type = NETWORK_PRIVATE;
	if (s->nic->subnet != NULL)
		report(vmfile, problems, at, NULL, "is said once, in 'networks' at the top of the file");
	free(s->nic->subnet);
	s->nic->subnet = xstrdup(s->network->subnet);
	if (s->nic->address == NULL || s->nic->subnet == NULL || !subnet_parse(s->nic->subnet, &subnet))
		return;
	address = subnet_address(&subnet, s->nic->address, &why);
	if (address == NULL)
		return;
	free(s->nic->address);
	s->nic->address = address;
}

static void
gather(struct vmfile *vmfile, struct problems *problems, struct stations *stations)
{
	for (size_t i = 0; i < vmfile->vms.count; i++) {
		const struct vm_spec *vm = vmfile_vm(vmfile, i);

		for (size_t k = 0; vm->present && k < vm_spec_nic_count(vm); k++) {
			struct network_spec *nic = (struct network_spec *)vm_spec_nic(vm, k);
			struct station s = { .vm = vm, .nic = nic };

			if (network_type(nic) != NETWORK_PRIVATE || nic->name == NULL)
				continue;
			s.path = vm->networks.count > 0 ? xasprintf("vms[%zu].networks[%zu]", i, k)
							: xasprintf("vms[%zu].network", i);
			s.network = find_network(vmfile, nic->name);
			if (s.network == NULL) {
				report_unknown(vmfile, problems, s.path, nic->name);
				free(s.path);
				continue;
			}
			complete_nic(vmfile, problems, &s);
			stations->items = xreallocarray(stations->items, stations->count + 1, sizeof(s));
			stations->items[stations->count++] = s;
		}
	}
}

static const struct station *
holder(const struct stations *stations, size_t count, const struct file_network *network,
    const char *address)
{
	for (size_t i = 0; i < count; i++)
		if (stations->items[i].network == network &&
		    str_eq(stations->items[i].nic->address, address))
			return &stations->items[i];
	return NULL;
}

static void
report_twice(struct vmfile *vmfile, struct problems *problems, const struct stations *stations)
{
	for (size_t i = 0; i < stations->count; i++) {
		const struct station *s = &stations->items[i];
		const struct station *other = s->nic->address != NULL
		    ? holder(stations, i, s->network, s->nic->address) : NULL;
		CLEANUP_FREE char *at = xasprintf("%s.address", s->path), *text = NULL;

		if (other == NULL)
			continue;
		text = xasprintf("is that of machine '%s'", other->vm->name);
		report(vmfile, problems, at, "give each machine its own, or none", text);
	}
}

/* The same name has the same address, as long as no other has it already; the network's first host
 * is left to those who write addresses themselves. */
static void
choose_address(struct vmfile *vmfile, struct problems *problems, const struct stations *stations,
    struct station *s)
{
	uint32_t hash = 2166136261U;
	struct subnet subnet;
	size_t hosts;

	if (s->nic->address != NULL || s->nic->subnet == NULL || s->vm->name == NULL ||
	    !subnet_parse(s->nic->subnet, &subnet))
		return;
	hosts = subnet_hosts(&subnet);
	for (const char *c = s->vm->name; *c != '\0'; c++)
		hash = (hash ^ (unsigned char)*c) * 16777619U;
	for (size_t i = 0; i + 1 < hosts; i++) {
		char *address = subnet_host(&subnet, 1 + (hash + i) % (hosts - 1));

		if (holder(stations, stations->count, s->network, address) == NULL) {
			s->nic->address = address;
			return;
		}
		free(address);
	}
	report(vmfile, problems, s->path, "give the network a larger subnet",
	    "has no address left in its network's subnet");
}

static void
add_host(struct network_spec *nic, const struct station *other, const char *name)
{
	CLEANUP_FREE char *line = xasprintf("%.*s %s", (int)strcspn(other->nic->address, "/"),
	    other->nic->address, name);

	strings_add(&nic->hosts, line);
}

static void
add_hosts(const struct stations *stations, struct station *s)
{
	for (size_t i = 0; i < stations->count; i++) {
		const struct station *other = &stations->items[i];
		const char *host = other->vm->cloud_init.hostname;

		if (other == s || other->network != s->network || other->nic->address == NULL ||
		    other->vm->name == NULL)
			continue;
		add_host(s->nic, other, other->vm->name);
		if (host != NULL && !str_eq(host, other->vm->name) && host_name_valid(host))
			add_host(s->nic, other, host);
	}
}

void
networks_resolve(struct vmfile *vmfile, struct problems *problems)
{
	struct stations stations = { 0 };

	gather(vmfile, problems, &stations);
	report_twice(vmfile, problems, &stations);
	for (size_t i = 0; i < stations.count; i++)
		choose_address(vmfile, problems, &stations, &stations.items[i]);
	for (size_t i = 0; i < stations.count; i++)
		add_hosts(&stations, &stations.items[i]);
	for (size_t i = 0; i < stations.count; i++)
		free(stations.items[i].path);
	free(stations.items);
}
