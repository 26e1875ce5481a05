/* SPDX-License-Identifier: MPL-2.0
 *
 * What a VMFile asks for against what is: selection, checks, comparison, plan. */
#include "daemon/project.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/files.h"
#include "daemon/nics.h"
#include "daemon/ops.h"
#include "daemon/ports.h"
#include "daemon/private.h"
#include "daemon/spec_diff.h"
#include "daemon/vm.h"
#include "daemon/vmmd.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/fetch.h"

struct project *
project_create(struct vmmd *vmmd, enum project_verb verb, const char *path, uid_t uid,
    struct objects *vms)
{
	struct project *p = xcalloc(1, sizeof(*p));
	struct vm_spec *specs = vms->items;

	p->vmmd = vmmd;
	p->verb = verb;
	p->path = xstrdup(path);
	p->uid = uid;
	p->count = vms->count;
	p->members = xcalloc(vms->count, sizeof(*p->members));
	for (size_t i = 0; i < vms->count; i++) {
		struct member *m = &p->members[i];

		m->project = p;
		m->spec = specs[i];
		m->name = xstrdup(specs[i].name);
		m->changes = json_object_new_array();
		m->action = "unchanged";
	}
	free(vms->items);
	memset(vms, 0, sizeof(*vms));
	return p;
}

void
project_destroy(struct project *p)
{
	if (p == NULL)
		return;
	p->ended = true;
	for (size_t i = 0; i < p->count * MEMBER_IMAGES; i++) {
		char **held = &p->members[i / MEMBER_IMAGES].held[i % MEMBER_IMAGES];

		if (*held != NULL)
			image_unhold(p->vmmd->images, *held);
		free(TAKE(*held));
	}
	if (p->kicks > 0)
		return;
	for (size_t i = 0; i < p->count; i++) {
		struct member *m = &p->members[i];

		files_release_spec(&m->spec);
		json_object_put(m->changes);
		free(m->name);
		free(m->error);
		free(m->dir);
		strings_done(&m->macs);
	}
	if (p->fetch != NULL)
		image_fetch_forget(p->fetch);
	fetch_auth_release(&p->auth);
	free(p->members);
	free(p->path);
	free(p);
}

struct member *
project_member(struct project *p, const char *name)
{
	for (size_t i = 0; i < p->count; i++)
		if (str_eq(p->members[i].name, name))
			return &p->members[i];
	return NULL;
}

struct vm *
member_vm(const struct member *m)
{
	return vm_find(m->project->vmmd, m->name);
}

/* ---- selection ---- */

static int
unknown_name(struct project *p, const char *name, const char *of, struct err *err)
{
	CLEANUP_FREE const char **names = xcalloc(p->count + 1, sizeof(*names));
	CLEANUP_FREE char *shown = str_printable(name, strnlen(name, 64));
	const char *near;

	for (size_t i = 0; i < p->count; i++)
		names[i] = p->members[i].name;
	near = str_nearest(name, names, p->count);
	err_set(err, E_NOT_FOUND, "%s has no machine '%s'", of, shown);
	if (near != NULL)
		err_hint(err, "did you mean '%s'?", near);
	err_object(err, shown);
	return E_NOT_FOUND;
}

static void
select_with_needs(struct project *p, struct member *m)
{
	if (m->selected)
		return;
	m->selected = true;
	for (size_t i = 0; i < m->spec.depends_on.count; i++) {
		struct member *needed = project_member(p, m->spec.depends_on.items[i]);

		/* What is taken down does not take down what it stands on. */
		if (needed != NULL && p->verb != PROJECT_DOWN && p->verb != PROJECT_RELOAD)
			select_with_needs(p, needed);
	}
}

int
project_select(struct project *p, const struct strings *names, struct err *err)
{
	for (size_t i = 0; i < p->count; i++)
		if (project_member(p, p->members[i].name) != &p->members[i]) {
			err_set(err, E_PARAMS, "two machines are called '%s'", p->members[i].name);
			err_hint(err, "give them unique names");
			return E_PARAMS;
		}
	for (size_t i = 0; i < names->count; i++) {
		struct member *m = project_member(p, names->items[i]);

		if (m == NULL)
			return unknown_name(p, names->items[i], "the VMFile", err);
		select_with_needs(p, m);
	}
	for (size_t i = 0; names->count == 0 && i < p->count; i++)
		p->members[i].selected = true;
	return 0;
}

/* ---- checks ---- */

static int
check_owner(const struct project *p, const struct member *m, struct err *err)
{
	struct vm *vm = member_vm(m);

	if (vm == NULL)
		return 0;
	if (vm->owner != p->uid && p->uid != 0) {
		err_set(err, E_EXISTS, "the name '%s' is in use by another user", m->name);
		err_hint(err, "choose another name");
	} else if (vm->project == NULL) {
		err_set(err, E_CONFLICT, "machine '%s' was made by 'vmctl create', not by a VMFile",
		    m->name);
		err_hint(err, "use 'vmctl start|stop|destroy %s', or choose another name", m->name);
	} else if (!str_eq(vm->project, p->path)) {
		err_set(err, E_CONFLICT, "machine '%s' belongs to %s", m->name, vm->project);
		err_hint(err, "choose another name, or work from that VMFile");
	} else {
		return 0;
	}
	err_object(err, m->name);
	return (int)(err != NULL ? err->code : E_CONFLICT);
}

/* 0 or the cycle's error; mark: 0 new, 1 on the way, 2 seen. */
static int
visit(struct project *p, size_t index, char *mark, struct err *err)
{
	struct member *m = &p->members[index];

	if (mark[index] == 2)
		return 0;
	if (mark[index] == 1)
		return err_set(err, E_PARAMS, "machine '%s' depends on itself by way of others",
		    m->name);
	mark[index] = 1;
	for (size_t i = 0; i < m->spec.depends_on.count; i++) {
		struct member *needed = project_member(p, m->spec.depends_on.items[i]);
		int rc;

		if (needed == NULL)
			return unknown_name(p, m->spec.depends_on.items[i],
			    "depends_on names a stranger: the VMFile", err);
		rc = visit(p, (size_t)(needed - p->members), mark, err);
		if (rc != 0)
			return rc;
	}
	mark[index] = 2;
	return 0;
}

static bool
has_login(const struct vm_spec *s)
{
	return s->backend == BACKEND_NOOP || s->ssh.private_key.kind != FILE_NONE ||
	    (s->cloud_init.present && s->cloud_init.ssh_key.kind == FILE_NONE &&
		s->cloud_init.user_data.kind == FILE_NONE);
}

static int
check_member(struct project *p, struct member *m, struct err *err)
{
	int rc = check_owner(p, m, err);

	if (rc != 0 || p->verb == PROJECT_DOWN)
		return rc;
	rc = ops_check_spec(p->vmmd, &m->spec, err);
	if (rc == 0)
		rc = nics_check(p->vmmd, member_vm(m), p->uid, &m->spec, err);
	if (rc == 0)
		rc = private_check(p->vmmd, member_vm(m), p->uid, p->path, &m->spec,
		    p->verb == PROJECT_UP, err);
	if (rc == 0 && m->spec.provision.count > 0 && p->provision &&
	    m->spec.backend != BACKEND_NOOP && vm_spec_login_nic(&m->spec, NULL) == NULL) {
		err_set(err, E_PARAMS, "machine '%s' has provision steps and no network by which the host "
				       "reaches it", m->name);
		err_hint(err, "add one to its networks, as in [user, {name: lan}]");
		err_object(err, m->name);
		rc = E_PARAMS;
	}
	if (rc == 0 && m->spec.provision.count > 0 && p->provision && !has_login(&m->spec)) {
		err_set(err, E_PARAMS, "machine '%s' has provision steps and no key to log in with",
		    m->name);
		err_hint(err, "give it 'ssh: {private-key: …}', or leave user-data and ssh-key out of "
			      "its cloud-init block so that a key is made");
		err_object(err, m->name);
		rc = E_PARAMS;
	}
	return rc;
}

/* Two that are asked for together can not have the same port. */
static int
check_ports(const struct project *p, const struct member *m, struct err *err)
{
	struct port own[PORTS_MAX], others[PORTS_MAX];
	size_t count = ports_parse(&m->spec.ports, own);
	char shown[PORT_TEXT_MAX];

	for (const struct member *other = p->members; other < m; other++) {
		size_t other_count = other->selected ? ports_parse(&other->spec.ports, others) : 0;

		for (size_t i = 0; i < count * other_count; i++) {
			if (!port_overlaps(&own[i / other_count], &others[i % other_count]))
				continue;
			err_set(err, E_PARAMS, "the machines '%s' and '%s' ask for the same port %s",
			    other->name, m->name, port_host_text(&own[i / other_count], shown));
			err_hint(err, "give one of them another port of the host");
			err_object(err, m->name);
			return E_PARAMS;
		}
	}
	return 0;
}

static int
check_nics(const struct project *p, const struct member *m, struct err *err)
{
	int rc = 0;

	for (const struct member *other = p->members; rc == 0 && other < m; other++)
		if (other->selected)
			rc = nics_check_pair(&m->spec, &other->spec, err);
	return rc;
}

int
project_check(struct project *p, struct err *err)
{
	CLEANUP_FREE char *mark = xcalloc(p->count + 1, 1);
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < p->count; i++)
		rc = visit(p, i, mark, err);
	for (size_t i = 0; rc == 0 && i < p->count; i++)
		if (p->members[i].selected)
			rc = check_member(p, &p->members[i], err);
	for (size_t i = 0; rc == 0 && p->verb != PROJECT_DOWN && i < p->count; i++) {
		if (!p->members[i].selected)
			continue;
		rc = check_ports(p, &p->members[i], err);
		if (rc == 0)
			rc = check_nics(p, &p->members[i], err);
	}
	return rc;
}

/* ---- hashes ---- */

int
project_hash(struct project *p, struct job *job, struct err *err)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < p->count; i++) {
		struct member *m = &p->members[i];
		struct image_spec *images[] = { &m->spec.image, &m->spec.cdrom };

		if (!m->selected)
			continue;
		rc = files_take(&m->spec, NULL, job, err);
		/* An image is hashed here only when a machine is there to compare it with: making
		 * one takes it into the store, which hashes it anyway. */
		for (size_t k = 0; rc == 0 && k < ARRAY_LEN(images); k++)
			if (images[k]->file.kind == FILE_FD && images[k]->digest == NULL && m->busy)
				rc = files_digest(images[k]->file.fd, image_spec_shown(images[k]), job,
				    &images[k]->digest, err);
		if (rc != 0)
			err_wrap(err, "machine '%s'", m->name);
	}
	return rc;
}

/* ---- plan ---- */

struct orphan_search {
	struct project *p;
	json_object *names;
};

static void
find_orphan(void *arg, struct vm *vm)
{
	struct orphan_search *s = arg;

	if (vm->project != NULL && str_eq(vm->project, s->p->path) &&
	    (vm->owner == s->p->uid || s->p->uid == 0) &&
	    project_member(s->p, vm->spec.name) == NULL)
		json_object_array_add(s->names, json_object_new_string(vm->spec.name));
}

json_object *
project_orphans(struct project *p)
{
	struct orphan_search s = { p, json_object_new_array() };

	vm_each(p->vmmd, find_orphan, &s);
	return s.names;
}

static bool
only_ports(json_object *changes)
{
	for (size_t i = 0; i < json_object_array_length(changes); i++)
		if (!str_eq(json_string(json_object_array_get_idx(changes, i), "field"), "ports"))
			return false;
	return true;
}

static const char *
planned_action(const struct member *m, struct vm *vm, enum change_when when)
{
	if (vm == NULL)
		return "create";
	if (when > CHANGE_STOPPED || (when == CHANGE_STOPPED && vm_state_is_live(vm->state)))
		return "changed";
	if (vm->state != VM_RUNNING)
		return "start";
	if (when == CHANGE_NOW && only_ports(m->changes) && !vm_needs_guest_work(vm))
		return "ports";
	return vm_needs_guest_work(vm) || when == CHANGE_NOW ? "provision" : "none";
}

json_object *
project_plan(struct project *p)
{
	json_object *result = json_object_new_object(), *list = json_object_new_array();
	json_object *orphans = project_orphans(p);
	bool work = false;

	for (size_t i = 0; i < p->count; i++) {
		struct member *m = &p->members[i];
		struct vm *vm = member_vm(m);
		enum change_when when = CHANGE_NONE;
		struct err clash = ERR_INIT;
		json_object *row, *warnings;
		const char *action;

		if (!m->selected)
			continue;
		if (vm != NULL)
			when = spec_diff(&vm->spec, &m->spec, m->changes);
		action = planned_action(m, vm, when);
		work = work || !str_eq(action, "none");
		row = json_object_new_object();
		json_add_string(row, "name", m->name);
		json_add_string(row, "action", action);
		json_add_string(row, "state", vm != NULL ? vm_state_names[vm->state] : NULL);
		json_object_object_add(row, "changes", json_object_get(m->changes));
		warnings = ports_warnings(p->vmmd, m->name, p->uid, &m->spec.ports);
		/* What 'up' would refuse while those others run; 'reload' makes them agree. */
		if (private_check(p->vmmd, vm, p->uid, p->path, &m->spec, true, &clash) != 0)
			json_object_array_add(warnings, json_object_new_string(clash.msg));
		if (json_object_array_length(warnings) > 0)
			json_object_object_add(row, "warnings", warnings);
		else
			json_object_put(warnings);
		json_object_array_add(list, row);
	}
	json_object_object_add(result, "vms", list);
	json_object_object_add(result, "orphans", orphans);
	json_add_bool(result, "work", work);
	json_add_string(result, "project", p->path);
	return result;
}

void
project_add_orphans(struct project *p)
{
	CLEANUP_JSON json_object *names = project_orphans(p);
	size_t more = json_object_array_length(names);

	p->members = xreallocarray(p->members, p->count + more + 1, sizeof(*p->members));
	for (size_t i = 0; i < more; i++) {
		struct member *m = &p->members[p->count++];

		memset(m, 0, sizeof(*m));
		m->project = p;
		m->name = xstrdup(json_object_get_string(json_object_array_get_idx(names, i)));
		m->spec.name = xstrdup(m->name);
		m->changes = json_object_new_array();
		m->action = "unchanged";
		m->selected = true;
	}
}
