/* SPDX-License-Identifier: MPL-2.0 */
#include "daemon/ports.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/vm.h"
#include "daemon/vmmd.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/hypervisor/hostport.h"

/* Which forward that is there is which that was asked for. */
struct match {
	struct port want[PORTS_MAX];
	const struct port *real[PORTS_MAX]; /* of want; NULL: it is not there */
	size_t count;
	const struct port *ssh, *surplus; /* NULL: none; surplus: the first */
};

static bool
is_used(const struct match *m, const struct port *real)
{
	if (real == m->ssh)
		return true;
	for (size_t i = 0; i < m->count; i++)
		if (m->real[i] == real)
			return true;
	return false;
}

static bool
fits(const struct port *want, struct port real)
{
	if (want->host_port == 0)
		real.host_port = 0;
	return port_equal(want, &real);
}

/* Those that name their port first: what is left is the kernel's choice. */
static void
match_forwards(const struct hv_facts *facts, const struct strings *texts, struct match *m)
{
	memset(m, 0, sizeof(*m));
	m->count = ports_parse(texts, m->want);
	for (size_t k = 0; k < facts->forward_count && facts->ssh_port != 0; k++)
		if (facts->forwards[k].host_port == facts->ssh_port &&
		    facts->forwards[k].protocol == PORT_TCP)
			m->ssh = &facts->forwards[k];
	for (int chosen = 0; chosen < 2; chosen++)
		for (size_t i = 0; i < m->count; i++)
			for (size_t k = 0; k < facts->forward_count && m->real[i] == NULL; k++)
				if ((m->want[i].host_port == 0) == (chosen == 1) &&
				    !is_used(m, &facts->forwards[k]) &&
				    fits(&m->want[i], facts->forwards[k]))
					m->real[i] = &facts->forwards[k];
	for (size_t k = 0; k < facts->forward_count && m->surplus == NULL; k++)
		if (!is_used(m, &facts->forwards[k]))
			m->surplus = &facts->forwards[k];
}

static json_object *
row_of(const struct port *port, bool active)
{
	json_object *row = json_object_new_object();

	json_add_string(row, "host", port->host);
	if (port->host_port != 0)
		json_add_int(row, "host_port", port->host_port);
	json_add_int(row, "guest_port", port->guest_port);
	json_add_string(row, "protocol", port_protocol_names[port->protocol]);
	json_add_bool(row, "active", active);
	return row;
}

json_object *
ports_rows(const struct vm *vm, const struct hv_facts *facts)
{
	json_object *rows = json_object_new_array(), *ssh;
	struct match m;

	match_forwards(facts, &vm->spec.ports, &m);
	for (size_t i = 0; i < m.count; i++)
		json_object_array_add(
		    rows, row_of(m.real[i] != NULL ? m.real[i] : &m.want[i], m.real[i] != NULL));
	if (m.ssh != NULL) {
		ssh = row_of(m.ssh, true);
		json_add_bool(ssh, "ssh", true);
		json_object_array_add(rows, ssh);
	}
	return rows;
}

bool
ports_next(
    const struct hv_facts *facts, const struct strings *want, struct port *ret_port, bool *ret_add)
{
	struct match m;

	match_forwards(facts, want, &m);
	if (m.surplus != NULL) {
		*ret_port = *m.surplus;
		*ret_add = false;
		return true;
	}
	for (size_t i = 0; i < m.count; i++) {
		if (m.real[i] != NULL)
			continue;
		*ret_port = m.want[i];
		*ret_add = true;
		return true;
	}
	return false;
}

static void
facts_of(const struct vm *vm, struct hv_facts *ret_facts)
{
	*ret_facts = (struct hv_facts){ 0 };
	if (vm->hv != NULL && vm->runtime != NULL)
		vm->hv->ops->facts(vm->hv, ret_facts);
}

bool
ports_can_change(const struct vm *vm)
{
	return vm->hv != NULL && vm->runtime != NULL && vm->hv->ops->forward != NULL &&
	       (vm->state == VM_RUNNING || vm->state == VM_SUSPENDED);
}

bool
ports_differ(const struct vm *vm, const struct strings *want)
{
	struct hv_facts facts;
	struct port port;
	bool add;

	if (!ports_can_change(vm) || !vm_spec_has_user_network(&vm->spec))
		return false;
	facts_of(vm, &facts);
	return ports_next(&facts, want, &port, &add);
}

int
ports_find(const struct vm *vm, const char *text, size_t *ret_index, struct err *err)
{
	struct hv_facts facts;
	struct port asked;
	struct match m;
	int rc = port_parse(text, &asked, err);

	if (rc != 0)
		return rc;
	facts_of(vm, &facts);
	match_forwards(&facts, &vm->spec.ports, &m);
	for (size_t i = 0; i < m.count; i++) {
		if (!port_equal(&m.want[i], &asked) &&
		    (m.real[i] == NULL || !port_equal(m.real[i], &asked)))
			continue;
		*ret_index = i;
		return 0;
	}
	if (m.ssh != NULL && port_equal(m.ssh, &asked)) {
		err_set(err, E_STATE,
		    "the forward '%s' of machine '%s' is the one for SSH, and stays", text,
		    vm->spec.name);
	} else {
		err_set(err, E_NOT_FOUND, "machine '%s' has no forward '%s'", vm->spec.name, text);
		err_hint(err, "'vmctl port list %s' shows those that it has", vm->spec.name);
	}
	err_object(err, vm->spec.name);
	return m.ssh != NULL && port_equal(m.ssh, &asked) ? E_STATE : E_NOT_FOUND;
}

void
ports_normalise(struct strings *texts)
{
	char shown[PORT_TEXT_MAX];
	struct port port;

	for (size_t i = 0; i < texts->count; i++)
		if (port_parse(texts->items[i], &port, NULL) == 0)
			vm_set_string(&texts->items[i], port_text(&port, shown));
}

/* ---- the host ---- */

void
ports_trial_init(const struct vm *vm, const struct strings *texts, struct ports_trial *ret_trial)
{
	struct hv_facts facts;
	struct match m;

	*ret_trial = (struct ports_trial){ .uid = vm->vmmd->hv_env->qemu_uid, .err = ERR_INIT };
	if (vm_is_noop(vm))
		return; /* nothing listens */
	facts_of(vm, &facts);
	match_forwards(&facts, texts, &m);
	for (size_t i = 0; i < m.count; i++) {
		bool given_up = false;

		for (size_t k = 0; k < facts.forward_count; k++)
			given_up |= port_overlaps(&m.want[i], &facts.forwards[k]);
		if (m.real[i] == NULL && m.want[i].host_port != 0 && !given_up)
			ret_trial->ports[ret_trial->count++] = m.want[i];
	}
}

void
ports_trial_run(struct ports_trial *trial)
{
	for (size_t i = 0; i < trial->count; i++)
		if (hostport_check(&trial->ports[i], trial->uid, &trial->err) != 0)
			return;
}

/* ---- other machines ---- */

struct search {
	const struct vm *self;
	const char *self_name;
	struct port ports[PORTS_MAX];
	size_t count;
	bool wanted; /* also those that do not run now, and shall */
	struct vm *found;
	struct port port;
	uid_t uid;
	json_object *warnings;
};

static bool
overlaps_any(struct search *s, const struct port *others, size_t count)
{
	for (size_t i = 0; i < s->count; i++)
		for (size_t k = 0; k < count; k++)
			if (port_overlaps(&s->ports[i], &others[k])) {
				s->port = s->ports[i];
				return true;
			}
	return false;
}

static bool
has_port(struct search *s, const struct vm *vm)
{
	struct port asked[PORTS_MAX];
	size_t count = ports_parse(&vm->spec.ports, asked);
	struct hv_facts facts;

	if (!vm_state_is_live(vm->state) && vm->runtime == NULL &&
	    !(s->wanted && vm->wanted == VM_WANT_UP))
		return false;
	facts_of(vm, &facts);
	return overlaps_any(s, asked, count) ||
	       overlaps_any(s, facts.forwards, facts.forward_count);
}

static void
look_at(void *arg, struct vm *vm)
{
	struct search *s = arg;

	if (s->found == NULL && vm != s->self && has_port(s, vm))
		s->found = vm;
}

struct vm *
ports_holder(
    struct vmmd *vmmd, const struct vm *vm, const struct strings *texts, struct port *ret_port)
{
	struct search s = { .self = vm };

	s.count = ports_parse(texts, s.ports);
	if (s.count > 0)
		vm_each(vmmd, look_at, &s);
	if (s.found != NULL)
		*ret_port = s.port;
	return s.found;
}

/* A machine's name is for its owner. */
static char *
name_for(const struct vm *vm, uid_t uid)
{
	if (uid == 0 || vm->owner == uid || uid == geteuid())
		return xasprintf("the machine '%s'", vm->spec.name);
	return xstrdup("a machine of another user");
}

int
ports_check_ours(
    struct vmmd *vmmd, const struct vm *vm, uid_t uid, const struct strings *texts, struct err *err)
{
	CLEANUP_FREE char *name = NULL;
	char shown[PORT_TEXT_MAX];
	struct port port;
	struct vm *holder = ports_holder(vmmd, vm, texts, &port);

	if (holder == NULL)
		return 0;
	name = name_for(holder, uid);
	err_set(err, E_CONFLICT, "the port %s is taken by %s", port_host_text(&port, shown), name);
	err_hint(err, "stop that one, or choose another port of the host");
	if (vm != NULL)
		err_object(err, vm->spec.name);
	return E_CONFLICT;
}

static void
warn_of(void *arg, struct vm *vm)
{
	struct search *s = arg;
	char shown[PORT_TEXT_MAX];

	if (!str_eq(vm->spec.name, s->self_name) && has_port(s, vm)) {
		CLEANUP_FREE char *name = name_for(vm, s->uid), *text = NULL;

		text =
		    xasprintf("the port %s is taken by %s", port_host_text(&s->port, shown), name);
		json_object_array_add(s->warnings, json_object_new_string(text));
	}
}

json_object *
ports_warnings(struct vmmd *vmmd, const char *name, uid_t uid, const struct strings *texts)
{
	struct search s = {
		.self_name = name, .uid = uid, .wanted = true, .warnings = json_object_new_array()
	};

	s.count = ports_parse(texts, s.ports);
	if (s.count > 0)
		vm_each(vmmd, warn_of, &s);
	return s.warnings;
}
