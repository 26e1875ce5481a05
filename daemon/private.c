/* SPDX-License-Identifier: MPL-2.0 */
#include "daemon/private.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "daemon/config.h"
#include "daemon/operation.h"
#include "daemon/vm.h"
#include "daemon/vmmd.h"
#include "lib/base/digest.h"
#include "lib/base/fs.h"
#include "lib/base/json.h"
#include "lib/base/log.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/net/switch.h"

enum { RETRY_MS = 5000, KEY_LEN = 12 };

enum net_phase {
	PHASE_IDLE,   /* nobody needs it; there is no process */
	PHASE_BUSY,   /* adopted, started or stopped just now */
	PHASE_WORKS,
	PHASE_FAILED, /* it could not be started, and is tried again */
};

struct net_port {
	bool asked, there; /* the switch was asked for it, and has it */
	bool wanted;       /* while all machines are looked at */
	const char *mac;   /* the same: the machine's */
};

struct private_net {
	LIST_ENTRY(private_net) link;
	struct privates *all;
	char key[KEY_LEN + 1];
	char *name, *dir;
	struct net_switch *sw; /* NULL: idle */
	enum net_phase phase;
	bool down;   /* it ended, and is started again by itself */
	bool looked; /* for a process of a former daemon */
	bool wanted; /* while all machines are looked at */
	struct net_port ports[NET_SWITCH_PORTS];
	struct err err;
};

struct privates {
	struct vmmd *vmmd;
	char *dir;
	struct timer *soon, *retry;
	bool adopting; /* machines of a former daemon are not known yet */
	LIST_HEAD(, private_net) nets;
};

/* ---- which network ---- */

static bool
is_private(const struct network_spec *nic)
{
	return network_type(nic) == NETWORK_PRIVATE && nic->name != NULL;
}

static void
make_key(uid_t owner, const char *project, const char *name, char ret_key[KEY_LEN + 1])
{
	struct digest *digest = digest_create();
	CLEANUP_FREE char *uid = xasprintf("%lu", (unsigned long)owner), *hex = NULL;

	digest_text(digest, uid);
	digest_text(digest, project);
	digest_text(digest, name);
	hex = digest_finish(digest);
	memcpy(ret_key, hex, KEY_LEN);
	ret_key[KEY_LEN] = '\0';
}

static bool
same_network(const struct vm *vm, uid_t owner, const char *project)
{
	return vm->owner == owner && vm->project != NULL && str_eq(vm->project, project);
}

/* Its NIC on the network of that name; NULL: it is not on it. */
static const struct network_spec *
nic_on(const struct vm_spec *spec, const char *name, size_t *ret_index)
{
	for (size_t i = 0; i < vm_spec_nic_count(spec); i++) {
		const struct network_spec *nic = vm_spec_nic(spec, i);

		if (!is_private(nic) || !str_eq(nic->name, name))
			continue;
		if (ret_index != NULL)
			*ret_index = i;
		return nic;
	}
	return NULL;
}

struct members { /* of the network that a NIC is to be on */
	const struct vm *except;
	uid_t owner;
	const char *project;
	const struct network_spec *nic;
	const struct vm *other_subnet, *same_address; /* of those that stay as they are */
	bool taken[NET_SWITCH_PORTS];
	size_t count;
};

static void
look_at_member(void *arg, struct vm *vm)
{
	struct members *m = arg;
	const struct network_spec *nic;
	size_t index;

	if (vm == m->except || !same_network(vm, m->owner, m->project))
		return;
	nic = nic_on(&vm->spec, m->nic->name, &index);
	if (nic == NULL)
		return;
	m->count++;
	if (index < vm->nic_count && vm->nics[index].port >= 0 && vm->nics[index].port < NET_SWITCH_PORTS)
		m->taken[vm->nics[index].port] = true;
	if (!vm_state_is_live(vm->state))
		return;
	if (!str_eq(nic->subnet, m->nic->subnet))
		m->other_subnet = vm;
	else if (str_eq(nic->address, m->nic->address))
		m->same_address = vm;
}

static int
check_nic(struct vmmd *vmmd, const char *name, struct members *m, bool agree, struct err *err)
{
	if (m->project == NULL) {
		err_set(err, E_PARAMS, "machine '%s' can not be on the private network '%s': it is of no VMFile",
		    name, m->nic->name);
		err_hint(err, "private networks are among the machines of one file; write it there");
		return E_PARAMS;
	}
	vm_each(vmmd, look_at_member, m);
	if (agree && m->other_subnet != NULL) {
		err_set(err, E_CONFLICT, "the private network '%s' of machine '%s' has the subnet %s, and for "
			"machine '%s' another", m->nic->name, name, m->nic->subnet,
		    m->other_subnet->spec.name);
		err_hint(err, "'vmctl reload' makes them agree with the file");
		return E_CONFLICT;
	}
	if (agree && m->same_address != NULL) {
		err_set(err, E_CONFLICT, "the address %s of machine '%s' is that of machine '%s'",
		    m->nic->address, name, m->same_address->spec.name);
		err_hint(err, "choose another, or leave it out");
		return E_CONFLICT;
	}
	if (m->count >= NET_SWITCH_PORTS)
		return err_set(err, E_LIMIT, "the private network '%s' has %d machines, and room for no more",
		    m->nic->name, NET_SWITCH_PORTS);
	return 0;
}

int
private_check(struct vmmd *vmmd, const struct vm *vm, uid_t uid, const char *project,
    const struct vm_spec *spec, bool agree, struct err *err)
{
	for (size_t i = 0; i < vm_spec_nic_count(spec); i++) {
		struct members m = { .except = vm, .owner = uid, .project = project,
			.nic = vm_spec_nic(spec, i) };

		if (is_private(m.nic) && check_nic(vmmd, spec->name, &m, agree, err) != 0) {
			err_object(err, spec->name);
			return err->code;
		}
	}
	return 0;
}

static void
settle_nic(struct vm *vm, size_t index)
{
	struct members m = { .except = vm, .owner = vm->owner, .project = vm->project,
		.nic = vm_spec_nic(&vm->spec, index) };
	CLEANUP_FREE char *dir = NULL;
	struct vm_nic *nic = &vm->nics[index];
	char key[KEY_LEN + 1];

	free(TAKE(nic->local_path));
	free(TAKE(nic->remote_path));
	if (!is_private(m.nic) || vm->project == NULL) {
		nic->port = -1;
		return;
	}
	vm_each(vm->vmmd, look_at_member, &m);
	if (nic->port < 0 || nic->port >= NET_SWITCH_PORTS || m.taken[nic->port])
		for (nic->port = 0; nic->port < NET_SWITCH_PORTS - 1 && m.taken[nic->port];)
			nic->port++;
	make_key(vm->owner, vm->project, m.nic->name, key);
	dir = xasprintf("%s/%s", vm->vmmd->config->net_run_dir, key);
	nic->local_path = net_switch_station_path(dir, (unsigned)nic->port);
	nic->remote_path = net_switch_path(dir, (unsigned)nic->port);
}

void
private_settle(struct vm *vm)
{
	for (size_t i = 0; i < vm->nic_count; i++)
		settle_nic(vm, i);
}

/* ---- the switches ---- */

static struct private_net *
net_find(struct privates *all, const char *key)
{
	struct private_net *net;

	LIST_FOREACH(net, &all->nets, link)
		if (str_eq(net->key, key))
			return net;
	return NULL;
}

static struct private_net *
net_get(struct privates *all, const char *key, const char *name)
{
	struct private_net *net = net_find(all, key);

	if (net == NULL) {
		net = xcalloc(1, sizeof(*net));
		net->all = all;
		memcpy(net->key, key, KEY_LEN);
		net->dir = fs_join(all->dir, key);
		net->name = xstrdup(name);
		LIST_INSERT_HEAD(&all->nets, net, link);
	}
	return net;
}

struct gathering {
	const struct private_net *net;
	struct strings ids;
};

static void
gather_member(void *arg, struct vm *vm)
{
	struct gathering *g = arg;
	char key[KEY_LEN + 1];

	for (size_t i = 0; i < vm->nic_count; i++) {
		if (vm->nics[i].port < 0)
			continue;
		make_key(vm->owner, vm->project, vm_spec_nic(&vm->spec, i)->name, key);
		if (str_eq(key, g->net->key))
			strings_add(&g->ids, vm->id);
	}
}

/* Wakes who waits for it; and tells, when there is something to tell.  Who wakes may end an
 * operation, and with it a machine. */
static void
tell_members(struct private_net *net, const char *state, const char *detail)
{
	struct vmmd *vmmd = net->all->vmmd;
	struct gathering g = { .net = net };

	vm_each(vmmd, gather_member, &g);
	for (size_t i = 0; i < g.ids.count; i++) {
		struct vm *vm = vm_by_id(vmmd, g.ids.items[i]);

		if (vm != NULL && state != NULL && vm->runtime != NULL) {
			json_object *data = json_object_new_object();

			json_add_string(data, "network", net->name);
			json_add_string(data, "switch", state);
			json_add_string(data, "detail", detail);
			vm_tell(vm, "network", data);
		}
		if (vm != NULL)
			vm_changed(vm);
	}
	strings_done(&g.ids);
}

static void
on_switch_event(void *arg, enum net_switch_event event, const char *detail)
{
	struct private_net *net = arg;
	bool down = event == NET_SWITCH_DOWN;

	net->down = down;

	if (down)
		log_warn("the switch of the private network '%s' ended: %s", net->name,
		    detail != NULL ? detail : "nobody knows why");
	else
		log_info("the switch of the private network '%s' works again", net->name);
	tell_members(net, down ? "down" : "up", detail);
}

static void
net_close(struct private_net *net)
{
	net->down = false;
	net_switch_close(TAKE(net->sw));
	memset(net->ports, 0, sizeof(net->ports));
}

static void
fail(struct private_net *net, const struct err *err)
{
	net->phase = PHASE_FAILED;
	net->err = *err;
	if (err->code == E_NOT_FOUND) /* the program, not what somebody asked for */
		net->err.code = E_UNSUPPORTED;
	net_close(net);
	log_error("the private network '%s': %s", net->name, err->msg);
	if (!timer_armed(net->all->retry))
		timer_arm(net->all->retry, RETRY_MS);
	tell_members(net, NULL, NULL);
}

static void
on_started(void *arg, const struct err *err)
{
	struct private_net *net = arg;

	if (err != NULL && err->code == E_CANCELLED)
		return;
	if (err != NULL) {
		fail(net, err);
		return;
	}
	net->phase = PHASE_WORKS;
	tell_members(net, NULL, NULL);
	private_look(net->all->vmmd);
}

static void
on_stopped(void *arg, const struct err *err)
{
	struct private_net *net = arg;

	if (err != NULL && err->code == E_CANCELLED)
		return;
	if (err != NULL)
		log_warn("the switch of the private network '%s': %s", net->name, err->msg);
	net->phase = PHASE_IDLE;
	net_close(net);
	fs_remove_tree(net->dir, NULL);
	private_look(net->all->vmmd);
}

static void
net_start(struct private_net *net)
{
	net->phase = PHASE_BUSY;
	net_switch_start(net->sw, on_started, net);
}

static void
on_adopted(void *arg, const struct err *err)
{
	struct private_net *net = arg;

	if (err == NULL || err->code == E_UNRESPONSIVE) {
		if (err == NULL)
			log_info("the switch of the private network '%s' runs on", net->name);
		else
			log_warn("the switch of the private network '%s' does not answer: %s", net->name,
			    err->msg);
		on_started(net, NULL);
	} else if (err->code == E_NOT_FOUND && net->wanted) {
		net_start(net);
	} else if (err->code == E_NOT_FOUND) {
		on_stopped(net, NULL);
	} else if (err->code != E_CANCELLED) {
		fail(net, err);
	}
}

struct addition {
	struct private_net *net;
	unsigned port;
};

static void
on_port_added(void *arg, const struct err *err)
{
	struct addition *a = arg;
	struct private_net *net = a->net;
	struct net_port *port = &net->ports[a->port];

	free(a);
	if (err != NULL && err->code == E_CANCELLED)
		return;
	port->there = err == NULL && port->asked;
	if (err != NULL) {
		port->asked = false;
		log_error("the private network '%s': %s", net->name, err->msg);
		if (!timer_armed(net->all->retry))
			timer_arm(net->all->retry, RETRY_MS);
	}
	tell_members(net, NULL, NULL);
}

/* The ports as the machines that run need them. */
static void
match_ports(struct private_net *net)
{
	for (unsigned i = 0; i < NET_SWITCH_PORTS; i++) {
		struct net_port *port = &net->ports[i];

		if (port->asked && !port->wanted) {
			net_switch_remove(net->sw, i, NULL, NULL);
			port->asked = port->there = false;
		} else if (!port->asked && port->wanted) {
			struct addition *a = xmalloc(sizeof(*a));

			*a = (struct addition){ net, i };
			port->asked = true;
			net_switch_add(net->sw, i, port->mac, on_port_added, a);
		}
	}
}

static void
net_open(struct private_net *net)
{
	const struct net_switch_config config = { .loop = net->all->vmmd->loop,
		.program = net->all->vmmd->config->switcher, .dir = net->dir };
	struct err err = ERR_INIT;

	if (fs_mkdirs(net->dir, 0700, &err) != 0) {
		fail(net, &err);
		return;
	}
	net->sw = net_switch_open(&config, on_switch_event, net);
	match_ports(net);
	if (net->looked) {
		net_start(net);
		return;
	}
	net->looked = true;
	net->phase = PHASE_BUSY;
	net_switch_adopt(net->sw, on_adopted, net);
}

static void
make_so(struct private_net *net)
{
	switch (net->phase) {
	case PHASE_BUSY:
		return; /* its end looks again */
	case PHASE_IDLE:
	case PHASE_FAILED:
		if (net->wanted || (!net->looked && fs_exists(net->dir)))
			net_open(net);
		return;
	case PHASE_WORKS:
		if (net->wanted) {
			match_ports(net);
		} else {
			net->phase = PHASE_BUSY;
			net_switch_stop(net->sw, on_stopped, net);
		}
	}
}

/* ---- what shall be ---- */

static void
want_ports(void *arg, struct vm *vm)
{
	struct privates *all = arg;
	bool runs = vm->runtime != NULL || vm_state_is_live(vm->state) || vm->state == VM_STARTING;
	char key[KEY_LEN + 1];

	for (size_t i = 0; i < vm->nic_count; i++) {
		const struct network_spec *nic = vm_spec_nic(&vm->spec, i);
		struct private_net *net;

		if (vm->nics[i].port < 0 || !is_private(nic) || vm->project == NULL)
			continue;
		make_key(vm->owner, vm->project, nic->name, key);
		net = net_get(all, key, nic->name);
		if (!runs)
			continue;
		net->wanted = true;
		net->ports[vm->nics[i].port].wanted = true;
		net->ports[vm->nics[i].port].mac = vm->nics[i].mac;
	}
}

static void
look(void *arg)
{
	struct privates *all = arg;
	struct private_net *net, *next;

	if (all->adopting)
		return;
	LIST_FOREACH(net, &all->nets, link) {
		net->wanted = false;
		for (size_t i = 0; i < NET_SWITCH_PORTS; i++)
			net->ports[i].wanted = false;
	}
	vm_each(all->vmmd, want_ports, all);
	for (net = LIST_FIRST(&all->nets); net != NULL; net = next) {
		next = LIST_NEXT(net, link);
		make_so(net);
	}
}

void
private_look(struct vmmd *vmmd)
{
	if (vmmd->privates != NULL)
		timer_arm(vmmd->privates->soon, 0);
}

/* Folders of networks that no machine is on: their switches end. */
static void
find_orphans(struct privates *all)
{
	DIR *dir = opendir(all->dir);
	struct dirent *entry;

	while (dir != NULL && (entry = readdir(dir)) != NULL)
		if (strlen(entry->d_name) == KEY_LEN &&
		    strspn(entry->d_name, "0123456789abcdef") == KEY_LEN)
			net_get(all, entry->d_name, "of no machine");
	if (dir != NULL)
		closedir(dir);
}

void
private_adopt(struct vmmd *vmmd)
{
	vmmd->privates->adopting = false;
	vm_each(vmmd, want_ports, vmmd->privates); /* the names */
	find_orphans(vmmd->privates);
	look(vmmd->privates);
}

struct privates *
privates_create(struct vmmd *vmmd)
{
	struct privates *all = xcalloc(1, sizeof(*all));

	all->vmmd = vmmd;
	all->dir = xstrdup(vmmd->config->net_run_dir);
	all->adopting = true;
	all->soon = timer_create_on(vmmd->loop, look, all);
	all->retry = timer_create_on(vmmd->loop, look, all);
	LIST_INIT(&all->nets);
	return all;
}

void
privates_destroy(struct privates *all)
{
	struct private_net *net;

	if (all == NULL)
		return;
	while ((net = LIST_FIRST(&all->nets)) != NULL) {
		LIST_REMOVE(net, link);
		net_close(net);
		free(net->name);
		free(net->dir);
		free(net);
	}
	timer_destroy(all->soon);
	timer_destroy(all->retry);
	free(all->dir);
	free(all);
}

const char *
private_state(const struct vm *vm, size_t index)
{
	const struct private_net *net;
	char key[KEY_LEN + 1];

	if (vm->nics[index].port < 0 || vm->runtime == NULL || vm->vmmd->privates == NULL)
		return NULL;
	make_key(vm->owner, vm->project, vm_spec_nic(&vm->spec, index)->name, key);
	net = net_find(vm->vmmd->privates, key);
	return net != NULL && net->phase == PHASE_WORKS && !net->down &&
	    net->ports[vm->nics[index].port].there ? "up" : "down";
}

void
private_retry(struct vmmd *vmmd)
{
	struct private_net *net;

	LIST_FOREACH(net, &vmmd->privates->nets, link)
		if (net->phase == PHASE_FAILED)
			net->phase = PHASE_IDLE;
	look(vmmd->privates);
}

/* ---- who waits ---- */

/* The first of the machine's networks that is not ready; NULL: all are. */
static const struct private_net *
unready(const struct vm *vm, size_t *ret_nic)
{
	char key[KEY_LEN + 1];

	for (size_t i = 0; i < vm->nic_count; i++) {
		const struct private_net *net;

		if (vm->nics[i].port < 0)
			continue;
		make_key(vm->owner, vm->project, vm_spec_nic(&vm->spec, i)->name, key);
		net = net_find(vm->vmmd->privates, key);
		*ret_nic = i;
		if (net == NULL || net->phase != PHASE_WORKS || !net->ports[vm->nics[i].port].there)
			return net;
	}
	*ret_nic = vm->nic_count;
	return NULL;
}

int
private_ready(struct operation *op, struct err *err)
{
	size_t index;
	const struct private_net *net = unready(op->vm, &index);

	if (index == op->vm->nic_count)
		return 1;
	if (net == NULL || net->phase != PHASE_FAILED)
		return 0;
	*err = net->err;
	err_wrap(err, "the switch of the private network '%s'", net->name);
	err_object(err, op->vm_name);
	return -1;
}

void
private_late(struct operation *op, struct err *err)
{
	size_t index;
	const struct private_net *net = unready(op->vm, &index);

	err_set(err, E_TIMEOUT, "the switch of the private network '%s' was not ready for machine '%s' in time",
	    net != NULL ? net->name : "?", op->vm_name);
	err_object(err, op->vm_name);
}
