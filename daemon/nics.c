/* SPDX-License-Identifier: MPL-2.0 */
#include "daemon/nics.h"

#include <ctype.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "daemon/private.h"
#include "daemon/vm.h"
#include "daemon/vmmd.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/hypervisor/hypervisor.h"
#include "lib/model/network.h"

struct search {
	const struct vm *except;
	const char *mac;
	struct vm *found;
};

static void
compare(void *arg, struct vm *vm)
{
	struct search *s = arg;

	for (size_t i = 0; vm != s->except && i < vm->nic_count; i++)
		if (strcasecmp(vm->nics[i].mac, s->mac) == 0)
			s->found = vm;
}

static struct vm *
holder(struct vmmd *vmmd, const struct vm *except, const char *mac)
{
	struct search search = { except, mac, NULL };

	vm_each(vmmd, compare, &search);
	return search.found;
}

static bool
taken(const struct vm *vm, size_t index, const char *mac)
{
	for (size_t i = 0; i < vm->nic_count; i++)
		if (i != index && str_eq(vm->nics[i].mac, mac))
			return true;
	return holder(vm->vmmd, vm, mac) != NULL;
}

static void
set_mac(struct vm_nic *nic, const char *mac)
{
	snprintf(nic->mac, sizeof(nic->mac), "%s", mac);
	for (char *c = nic->mac; *c != '\0'; c++)
		*c = (char)tolower((unsigned char)*c);
}

/* The first one follows the machine's id, while nobody has it. */
static void
choose_mac(struct vm *vm, size_t index)
{
	struct vm_nic *nic = &vm->nics[index];
	unsigned char bytes[4];

	if (index == 0)
		snprintf(nic->mac, sizeof(nic->mac), "52:54:%.2s:%.2s:%.2s:%.2s", vm->id, vm->id + 2,
		    vm->id + 4, vm->id + 6);
	while (nic->mac[0] == '\0' || taken(vm, index, nic->mac)) {
		if (RAND_bytes(bytes, sizeof(bytes)) != 1)
			abort();
		snprintf(nic->mac, sizeof(nic->mac), "52:54:%02x:%02x:%02x:%02x", bytes[0], bytes[1],
		    bytes[2], bytes[3]);
	}
}

static void
forget(struct vm_nic *nic)
{
	free(nic->local_path);
	free(nic->remote_path);
	*nic = (struct vm_nic){ .port = -1 };
}

void
nics_settle(struct vm *vm)
{
	size_t count = vm_spec_nic_count(&vm->spec);

	while (vm->nic_count > count)
		forget(&vm->nics[--vm->nic_count]);
	while (vm->nic_count < count)
		vm->nics[vm->nic_count++] = (struct vm_nic){ .port = -1 };
	for (size_t i = 0; i < count; i++) {
		const char *mac = vm_spec_nic(&vm->spec, i)->mac;

		if (mac != NULL)
			set_mac(&vm->nics[i], mac);
	}
	for (size_t i = 0; i < count; i++)
		if (vm->nics[i].mac[0] == '\0')
			choose_mac(vm, i);
}

void
nics_keep(struct vm *vm, const struct strings *macs)
{
	for (size_t i = 0; i < vm->nic_count && i < macs->count; i++)
		if (vm_spec_nic(&vm->spec, i)->mac == NULL && !taken(vm, i, macs->items[i]))
			set_mac(&vm->nics[i], macs->items[i]);
}

struct strings
nics_macs(const struct vm *vm)
{
	struct strings macs = { 0 };

	for (size_t i = 0; i < vm->nic_count; i++)
		strings_add(&macs, vm->nics[i].mac);
	return macs;
}

void
nics_release(struct vm *vm)
{
	while (vm->nic_count > 0)
		forget(&vm->nics[--vm->nic_count]);
}

void
nics_lend(struct vm *vm)
{
	for (size_t i = 0; i < vm->nic_count; i++)
		vm->hv_nics[i] = (struct hv_nic){ .mac = vm->nics[i].mac,
			.local_path = vm->nics[i].local_path, .remote_path = vm->nics[i].remote_path };
}

void
nics_look(const struct vm *vm)
{
	for (size_t i = 0; i < vm->nic_count; i++) {
		if (vm->nics[i].port >= 0) {
			private_look(vm->vmmd);
			return;
		}
	}
}

int
nics_check(struct vmmd *vmmd, const struct vm *vm, uid_t uid, const struct vm_spec *spec,
    struct err *err)
{
	for (size_t i = 0; i < vm_spec_nic_count(spec); i++) {
		const char *mac = vm_spec_nic(spec, i)->mac;
		struct vm *other = mac != NULL ? holder(vmmd, vm, mac) : NULL;

		if (other == NULL)
			continue;
		if (other->owner == uid)
			err_set(err, E_EXISTS, "the MAC address %s of machine '%s' is that of machine '%s'",
			    mac, spec->name, other->spec.name);
		else
			err_set(err, E_EXISTS,
			    "the MAC address %s of machine '%s' is that of another user's machine", mac,
			    spec->name);
		err_hint(err, "choose another 'mac', or leave it out");
		err_object(err, spec->name);
		return E_EXISTS;
	}
	return 0;
}

void
nics_normalise(struct vm_spec *spec)
{
	for (size_t i = 0; i < vm_spec_nic_count(spec); i++) {
		struct network_spec *nic = (struct network_spec *)vm_spec_nic(spec, i);
		CLEANUP_FREE char *address = NULL;
		struct subnet subnet;
		const char *why;

		if (network_type(nic) != NETWORK_PRIVATE || nic->address == NULL ||
		    nic->subnet == NULL || !subnet_parse(nic->subnet, &subnet))
			continue;
		address = subnet_address(&subnet, nic->address, &why);
		if (address != NULL)
			vm_set_string(&nic->address, address);
	}
}

static int
check_two(const struct vm_spec *spec, const struct network_spec *a, const struct vm_spec *other,
    const struct network_spec *b, struct err *err)
{
	bool together = network_type(a) == NETWORK_PRIVATE && network_type(b) == NETWORK_PRIVATE &&
	    str_eq(a->name, b->name);

	if (a->mac != NULL && b->mac != NULL && strcasecmp(a->mac, b->mac) == 0) {
		err_set(err, E_PARAMS, "the machines '%s' and '%s' ask for the same MAC address %s",
		    other->name, spec->name, a->mac);
		err_hint(err, "give one of them another 'mac', or leave it out");
	} else if (together && !str_eq(a->subnet, b->subnet)) {
		err_set(err, E_PARAMS,
		    "the private network '%s' has the subnet %s for machine '%s' and %s for machine '%s'",
		    a->name, b->subnet, other->name, a->subnet, spec->name);
		err_hint(err, "give it one subnet, the same for all");
	} else if (together && str_eq(a->address, b->address)) {
		err_set(err, E_PARAMS, "the machines '%s' and '%s' ask for the same address %s on '%s'",
		    other->name, spec->name, a->address, a->name);
		err_hint(err, "give one of them another");
	} else {
		return 0;
	}
	err_object(err, spec->name);
	return E_PARAMS;
}

int
nics_check_pair(const struct vm_spec *spec, const struct vm_spec *other, struct err *err)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < vm_spec_nic_count(spec); i++)
		for (size_t k = 0; rc == 0 && k < vm_spec_nic_count(other); k++)
			rc = check_two(spec, vm_spec_nic(spec, i), other, vm_spec_nic(other, k), err);
	return rc;
}

/* ---- the store, and the row ---- */

struct json_object *
nics_encode(const struct vm *vm)
{
	json_object *list = json_object_new_array();

	for (size_t i = 0; i < vm->nic_count; i++) {
		json_object *row = json_object_new_object();

		json_add_string(row, "mac", vm->nics[i].mac);
		if (vm->nics[i].port >= 0)
			json_add_int(row, "port", vm->nics[i].port);
		json_object_array_add(list, row);
	}
	return list;
}

void
nics_decode(struct vm *vm, struct json_object *list, const char *mac)
{
	size_t count = vm_spec_nic_count(&vm->spec);

	for (size_t i = 0; i < count; i++) {
		json_object *row = json_object_is_type(list, json_type_array)
		    ? json_object_array_get_idx(list, i) : NULL, *port = NULL;
		const char *known = row != NULL ? json_string(row, "mac") : i == 0 ? mac : NULL;
		struct vm_nic *nic = &vm->nics[vm->nic_count++];

		*nic = (struct vm_nic){ .port = -1 };
		if (known != NULL && strlen(known) == sizeof(nic->mac) - 1)
			set_mac(nic, known);
		if (row != NULL && json_object_object_get_ex(row, "port", &port))
			nic->port = json_object_get_int(port);
	}
	nics_settle(vm);
}

static json_object *
nic_row(const struct network_spec *spec, const struct vm_nic *nic, const char *tap,
    const char *private_switch)
{
	json_object *row = json_object_new_object(), *dns;

	json_add_string(row, "type", network_names[network_type(spec)]);
	json_add_string(row, "mac", nic->mac);
	json_add_string(row, "bridge", spec->bridge);
	json_add_string(row, "tap", tap);
	json_add_string(row, "switch", private_switch);
	json_add_string(row, "name", spec->name);
	json_add_string(row, "link", spec->link);
	json_add_string(row, "subnet", spec->subnet);
	json_add_string(row, "address", spec->address);
	json_add_string(row, "gateway", spec->gateway);
	if (spec->dns.count == 0)
		return row;
	dns = json_object_new_array();
	for (size_t i = 0; i < spec->dns.count; i++)
		json_object_array_add(dns, json_object_new_string(spec->dns.items[i]));
	json_object_object_add(row, "dns", dns);
	return row;
}

struct json_object *
nics_rows(const struct vm *vm, const struct hv_facts *facts)
{
	json_object *list = json_object_new_array();
	size_t taps = 0;

	for (size_t i = 0; i < vm->nic_count; i++) {
		const struct network_spec *spec = vm_spec_nic(&vm->spec, i);
		const char *tap = NULL;

		if (network_type(spec) == NETWORK_TAP) {
			if (facts->taps != NULL && taps < facts->taps->count)
				tap = facts->taps->items[taps];
			taps++;
		}
		json_object_array_add(list, nic_row(spec, &vm->nics[i], tap, private_state(vm, i)));
	}
	return list;
}

const char *
nics_unreachable(const struct vm *vm)
{
	if (vm_spec_nic_count(&vm->spec) == 0)
		return "has no network";
	return vm_spec_login_nic(&vm->spec, NULL) != NULL
	    ? NULL : "is on private networks alone, where the host is not";
}
