/* SPDX-License-Identifier: MPL-2.0
 *
 * Machines: the registry, their life cycle, and what their hypervisor tells of them.
 * Loop thread; owns every struct vm. */
#include "daemon/nics.h"
#include "daemon/private.h"
#include "daemon/vm.h"

#include <assert.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/config.h"
#include "daemon/console.h"
#include "daemon/events.h"
#include "daemon/probe.h"
#include "daemon/vmmd.h"
#include "lib/base/clock.h"
#include "lib/base/fs.h"
#include "lib/base/json.h"
#include "lib/base/log.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/base/worker.h"
#include "lib/store/store.h"

struct vms {
	struct vm *by_id, *by_name;
};

struct vms *
vms_create(struct vmmd *vmmd)
{
	return xcalloc(1, sizeof(struct vms));
}

void
vms_destroy(struct vms *vms)
{
	struct vm *vm, *next;

	if (vms == NULL)
		return;
	HASH_ITER(by_id, vms->by_id, vm, next)
		vm_free(vm);
	free(vms);
}

struct vm *
vm_by_id(struct vmmd *vmmd, const char *id)
{
	struct vm *vm;

	HASH_FIND(by_id, vmmd->vms->by_id, id, strlen(id), vm);
	return vm;
}

struct vm *
vm_find(struct vmmd *vmmd, const char *name_or_id)
{
	struct vm *vm;

	HASH_FIND(by_name, vmmd->vms->by_name, name_or_id, strlen(name_or_id), vm);
	return vm != NULL ? vm : vm_by_id(vmmd, name_or_id);
}

size_t
vm_count(struct vmmd *vmmd)
{
	return HASH_CNT(by_id, vmmd->vms->by_id);
}

void
vm_each(struct vmmd *vmmd, void (*fn)(void *arg, struct vm *vm), void *arg)
{
	struct vm *vm, *next;

	HASH_ITER(by_name, vmmd->vms->by_name, vm, next)
		fn(arg, vm);
}

static int
compare_names(const struct vm *a, const struct vm *b)
{
	return strcmp(a->spec.name, b->spec.name);
}

struct gather {
	uid_t uid;
	const char **names;
	size_t count;
};

static bool
visible(const struct vm *vm, uid_t uid)
{
	return uid == 0 || vm->owner == uid || uid == geteuid();
}

static void
gather_name(void *arg, struct vm *vm)
{
	struct gather *g = arg;

	if (visible(vm, g->uid))
		g->names[g->count++] = vm->spec.name;
}

int
vm_lookup(struct vmmd *vmmd, const char *name, uid_t uid, struct vm **ret_vm, struct err *err)
{
	struct vm *vm = vm_find(vmmd, name);
	struct gather g = { .uid = uid };
	CLEANUP_FREE const char **names = NULL;
	CLEANUP_FREE char *shown = NULL;
	const char *near;

	if (vm != NULL && visible(vm, uid)) {
		*ret_vm = vm;
		return 0;
	}
	g.names = names = xcalloc(vm_count(vmmd) + 1, sizeof(*names));
	vm_each(vmmd, gather_name, &g);
	near = str_nearest(name, g.names, g.count);
	shown = str_printable(name, strnlen(name, 64));
	err_set(err, E_NOT_FOUND, "there is no machine '%s'", shown);
	if (near != NULL)
		err_hint(err, "did you mean '%s'?", near);
	else
		err_hint(err, "'vmctl list' shows the machines");
	err_object(err, shown);
	return E_NOT_FOUND;
}

static void
random_id(struct vmmd *vmmd, struct vm *vm)
{
	unsigned char bytes[22];
	char *hex;

	do {
		if (RAND_bytes(bytes, sizeof(bytes)) != 1)
			abort();
		hex = str_hex(bytes, 6);
		snprintf(vm->id, sizeof(vm->id), "%s", hex);
		free(hex);
	} while (vm_by_id(vmmd, vm->id) != NULL);
	bytes[12] = (unsigned char)((bytes[12] & 0x0f) | 0x40);
	bytes[14] = (unsigned char)((bytes[14] & 0x3f) | 0x80);
	hex = str_hex(bytes + 6, 16);
	snprintf(vm->uuid, sizeof(vm->uuid), "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12,
	    hex + 16, hex + 20);
	free(hex);
}

struct vm *
vm_new(struct vmmd *vmmd)
{
	struct vm *vm = xcalloc(1, sizeof(*vm));

	vm->vmmd = vmmd;
	vm->responsive = true;
	TAILQ_INIT(&vm->watchers);
	return vm;
}

void
vm_register(struct vm *vm)
{
	struct vms *vms = vm->vmmd->vms;

	vm->dir = xasprintf("%s/vms/%s", vm->vmmd->config->data_dir, vm->id);
	vm->run_dir = xasprintf("%s/%s", vm->vmmd->config->vm_run_dir, vm->id);
	HASH_ADD(by_id, vms->by_id, id, strlen(vm->id), vm);
	HASH_ADD_KEYPTR_INORDER(by_name, vms->by_name, vm->spec.name, strlen(vm->spec.name), vm,
	    compare_names);
}

int
vm_create(struct vmmd *vmmd, struct vm_spec *spec, uid_t owner, const char *project,
    struct vm **ret_vm, struct err *err)
{
	struct vm *vm;

	loop_assert(vmmd->loop);
	if (vm_find(vmmd, spec->name) != NULL) {
		err_set(err, E_EXISTS, "a machine '%s' exists already", spec->name);
		err_hint(err, "choose another name, or 'vmctl destroy %s' first", spec->name);
		err_object(err, spec->name);
		return E_EXISTS;
	}
	vm = vm_new(vmmd);
	random_id(vmmd, vm);
	vm->spec = *spec;
	memset(spec, 0, sizeof(*spec));
	vm->owner = owner;
	vm->project = xstrdup(project);
	vm->state = VM_PREPARING;
	vm->created_ms = vm->changed_ms = clock_wall_ms();
	vm->disk_generation = 1;
	vm->provision = vm->spec.provision.count > 0 ? PROVISION_PENDING : PROVISION_NONE;
	nics_settle(vm);
	vm_register(vm);
	private_settle(vm);
	*ret_vm = vm;
	return 0;
}

void
vm_replace_spec(struct vm *vm, struct vm_spec *spec)
{
	char *name = vm->spec.name; /* the registry's key: the pointer must stay */

	vm->spec.name = NULL;
	vm_spec_release(&vm->spec);
	free(spec->name);
	vm->spec = *spec;
	vm->spec.name = name;
	memset(spec, 0, sizeof(*spec));
	nics_settle(vm);
	private_settle(vm);
	nics_lend(vm);
	free(TAKE(vm->row));
}

void
vm_free(struct vm *vm)
{
	struct vms *vms;
	struct vm_watcher *w;

	if (vm == NULL)
		return;
	vms = vm->vmmd->vms;
	HASH_DELETE(by_id, vms->by_id, vm);
	HASH_DELETE(by_name, vms->by_name, vm);
	while ((w = TAILQ_FIRST(&vm->watchers)) != NULL)
		TAILQ_REMOVE(&vm->watchers, w, link);
	probe_destroy(vm->probe);
	free(vm->probed_host);
	console_destroy(vm->console);
	if (vm->hv != NULL)
		vm->hv->ops->close(vm->hv);
	nics_look(vm);
	nics_release(vm);
	vm_spec_release(&vm->spec);
	for (size_t i = 0; i < vm->steps_done.count; i++)
		free(vm->steps_done.items[i]);
	free(vm->steps_done.items);
	free(vm->project);
	free(vm->dir);
	free(vm->run_dir);
	free(vm->reason);
	free(vm->image_digest);
	free(vm->cdrom_path);
	free(vm->host_key);
	free(vm->seed_instance);
	free(vm->provision_error);
	free(vm->end_error);
	free(vm->runtime);
	free(vm->row);
	free(vm);
}

void
vm_set_string(char **slot, const char *value)
{
	char *copy = xstrdup(value);

	free(*slot);
	*slot = copy;
}

char *
vm_path(const struct vm *vm, const char *name)
{
	return xasprintf("%s/%s", vm->dir, name);
}

const char *
vm_generation(const struct vm *vm, char space[32])
{
	snprintf(space, 32, "%s-%u", vm->id, vm->disk_generation);
	return space;
}

bool
vm_is_noop(const struct vm *vm)
{
	return vm->spec.backend == BACKEND_NOOP;
}

bool
vm_has_login(const struct vm *vm)
{
	const struct vm_spec *s = &vm->spec;

	if (s->ssh.private_key.kind != FILE_NONE)
		return true;
	return s->cloud_init.present && s->cloud_init.ssh_key.kind == FILE_NONE &&
	    s->cloud_init.user_data.kind == FILE_NONE;
}

char *
vm_login_key_path(const struct vm *vm)
{
	const struct vm_spec *s = &vm->spec;

	/* Our own pair where there is one: it never needs a passphrase. */
	if (s->cloud_init.present && s->cloud_init.ssh_key.kind == FILE_NONE &&
	    s->cloud_init.user_data.kind == FILE_NONE)
		return vm_path(vm, "id_ed25519");
	return xstrdup(s->ssh.private_key.path);
}

void
vm_add_private_key(const struct vm *vm, struct json_object *info)
{
	CLEANUP_FREE char *path = vm_login_key_path(vm), *text = NULL;
	size_t len;

	if (path == NULL)
		return;
	json_add_string(info, "private_key_path", path);
	if (fs_read(path, 1 << 16, &text, &len, NULL) != 0)
		return;
	json_add_string(info, "private_key", text);
	mem_wipe(text, len);
}

void
vm_phase(struct vm *vm, const char *name, uint64_t ms)
{
	for (size_t i = 0; i < vm->phase_count; i++) {
		if (str_eq(vm->phases[i].name, name)) {
			vm->phases[i].ms = ms;
			return;
		}
	}
	if (vm->phase_count < ARRAY_LEN(vm->phases))
		vm->phases[vm->phase_count++] = (struct phase){ name, ms };
}

/* ---- change ---- */

void
vm_watch(struct vm *vm, struct vm_watcher *watcher, void (*fn)(void *arg), void *arg)
{
	watcher->fn = fn;
	watcher->arg = arg;
	TAILQ_INSERT_TAIL(&vm->watchers, watcher, link);
}

void
vm_unwatch(struct vm *vm, struct vm_watcher *watcher)
{
	TAILQ_REMOVE(&vm->watchers, watcher, link);
}

void
vm_changed(struct vm *vm)
{
	struct vm_watcher *w, *next;
	struct vmmd *vmmd = vm->vmmd;
	char id[sizeof(vm->id)];

	free(TAKE(vm->row));
	nics_look(vm);
	memcpy(id, vm->id, sizeof(id));
	for (w = TAILQ_FIRST(&vm->watchers); w != NULL; w = next) {
		next = TAILQ_NEXT(w, link);
		w->fn(w->arg);
		/* A watcher may end an operation, and that may free the machine. */
		if (vm_by_id(vmmd, id) != vm)
			return;
	}
}

void
vm_save(struct vm *vm)
{
	CLEANUP_JSON json_object *doc = vm_encode(vm);

	store_put(vm->vmmd->store, STORE_MACHINE, vm->id,
	    json_object_to_json_string_ext(doc, JSON_TEXT_FLAGS));
	vm_changed(vm);
}

int
vm_commit(struct vm *vm, struct err *err)
{
	CLEANUP_JSON json_object *doc = vm_encode(vm);

	free(TAKE(vm->row));
	return store_commit_put(vm->vmmd->store, STORE_MACHINE, vm->id,
	    json_object_to_json_string_ext(doc, JSON_TEXT_FLAGS), err);
}

struct copy {
	char *path, *text;
};

static void
copy_job(struct job *job, void *data)
{
	struct copy *copy = data;
	struct err err = ERR_INIT;

	if (fs_write(copy->path, copy->text, strlen(copy->text), 0600, &err) != 0)
		log_warn("%s", err.msg);
}

static void
copy_done(void *data)
{
	struct copy *copy = data;

	free(copy->path);
	free(copy->text);
	free(copy);
}

void
vm_write_copy(struct vm *vm)
{
	CLEANUP_JSON json_object *doc = vm_encode(vm);
	struct copy *copy = xcalloc(1, sizeof(*copy));

	copy->path = vm_path(vm, "vm.json");
	copy->text = xstrdup(json_object_to_json_string_ext(doc, JSON_TEXT_FLAGS));
	if (worker_submit(vm->vmmd->disk_pool, "copy", copy_job, copy_done, copy, 0, NULL, NULL) != 0)
		copy_done(copy);
}

void
vm_tell(struct vm *vm, const char *kind, struct json_object *data)
{
	events_add(vm->vmmd->events, kind, vm, data);
}

int
vm_check_event(const struct vm *vm, enum vm_event event, struct err *err)
{
	enum vm_state next;

	if (vm_state_next(vm->state, event, &next))
		return 0;
	err_set(err, E_STATE, "machine '%s' is %s; cannot %s it", vm->spec.name,
	    vm_state_names[vm->state], vm_event_verbs[event]);
	err_hint(err, "'vmctl status %s' tells what it is doing", vm->spec.name);
	err_object(err, vm->spec.name);
	return E_STATE;
}

int
vm_event(struct vm *vm, enum vm_event event, const char *reason, bool commit, struct err *err)
{
	enum vm_state before = vm->state, next;
	json_object *data;
	int rc = vm_check_event(vm, event, err);

	if (rc != 0)
		return rc;
	vm_state_next(vm->state, event, &next);
	if (next == before && str_eq(reason, vm->reason))
		return 0;
	vm->state = next;
	vm_set_string(&vm->reason, reason);
	vm->changed_ms = clock_wall_ms();
	if (!vm_state_is_live(next)) {
		vm->reachable = false;
		probe_destroy(TAKE(vm->probe));
	}
	if (commit && (rc = vm_commit(vm, err)) != 0) {
		/* The intent is not on the disk, so nothing may follow from it. */
		vm->state = before;
		return rc;
	}
	data = json_object_new_object();
	json_add_string(data, "state", vm_state_names[next]);
	json_add_string(data, "previous", vm_state_names[before]);
	json_add_string(data, "reason", reason);
	vm_tell(vm, "state", data);
	log_info("machine '%s' is %s%s%s", vm->spec.name, vm_state_names[next],
	    reason != NULL ? ": " : "", reason != NULL ? reason : "");
	if (commit)
		vm_changed(vm);
	else
		vm_save(vm);
	return 0;
}
