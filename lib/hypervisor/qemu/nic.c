/* SPDX-License-Identifier: MPL-2.0 */
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/fs.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/hypervisor/qemu/machine.h"
#include "lib/net/address.h"
#include "lib/net/tap.h"

/* The NIC whose guest's address is looked for; NULL: SSH is forwarded, or there is none. */
static const struct network_spec *
sought_nic(const struct vm_spec *spec, size_t *ret_index)
{
	const struct network_spec *nic = vm_spec_login_nic(spec, ret_index);

	return nic != NULL && nic->type == NETWORK_TAP ? nic : NULL;
}

static bool
has_tap(const struct vm_spec *spec)
{
	for (size_t i = 0; i < vm_spec_nic_count(spec); i++)
		if (network_type(vm_spec_nic(spec, i)) == NETWORK_TAP)
			return true;
	return false;
}

int
nic_check_spec(const struct vm_spec *spec, struct err *err)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < vm_spec_nic_count(spec); i++)
		if (network_type(vm_spec_nic(spec, i)) == NETWORK_TAP)
			rc = tap_check(vm_spec_nic(spec, i)->bridge, err);
	return rc == 0 ? 0 : err_wrap(err, "the machine '%s' can not have its network", spec->name);
}

static void
on_address(void *arg)
{
	struct machine *m = arg;

	machine_enter(m);
	machine_tell(m, HV_EV_ADDRESS, address_seek_host(m->seek));
	machine_leave(m);
}

static void
on_chardevs(void *arg, json_object *result, const struct err *err)
{
	struct machine *m = arg;
	size_t count = json_object_is_type(result, json_type_array) ? json_object_array_length(result) : 0;

	if (err != NULL || m->seek == NULL)
		return;
	for (size_t i = 0; i < count; i++) {
		json_object *row = json_object_array_get_idx(result, i);

		if (json_object_is_type(row, json_type_object) &&
		    str_eq(json_string(row, "label"), "agent0"))
			address_seek_agent(m->seek, json_flag(row, "frontend-open"));
	}
}

void
nic_begin(struct machine *m)
{
	CLEANUP_FREE char *agent = fs_join(m->config->run_dir, "agent");
	struct address_config config = { .loop = m->hv->base.env->loop, .agent_path = agent,
		.lease_patterns = m->hv->base.env->lease_patterns };
	const struct network_spec *nic;
	size_t index;

	if (has_tap(m->config->spec))
		adopt_record_taps(m);
	nic = sought_nic(m->config->spec, &index);
	if (nic == NULL || m->seek != NULL)
		return;
	config.mac = m->config->nics[index].mac;
	config.bridge = nic->bridge;
	m->seek = address_seek_create(&config, on_address, m);
	/* Of an agent that came while nobody looked no event is left. */
	qmp_command(m->qmp, "query-chardev", NULL, on_chardevs, m);
}

void
nic_end(struct machine *m)
{
	address_seek_destroy(TAKE(m->seek));
	strings_done(&m->taps);
}

void
nic_facts(const struct machine *m, struct hv_facts *facts)
{
	facts->taps = m->taps.count > 0 ? &m->taps : NULL;
	if (m->seek == NULL)
		return;
	facts->ssh_host = address_seek_host(m->seek);
	facts->ssh_port = vm_spec_ssh_port(m->config->spec);
	facts->address_source = address_seek_source(m->seek);
	facts->address_seen = address_seek_seen(m->seek);
}

void
nic_port_changed(struct machine *m, const char *id, bool open)
{
	if (m->seek != NULL && str_eq(id, "agent"))
		address_seek_agent(m->seek, open);
}
