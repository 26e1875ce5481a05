/* SPDX-License-Identifier: MPL-2.0 */
#include "client/project.h"

#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/json.h"
#include "client/out.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/vmfile/vmfile.h"

/* The error object of --json, with each problem's place. */
static void
keep_problems(struct vmctl *ctl, const struct problems *problems, const struct err *err)
{
	json_object *error = json_object_new_object(), *data = json_object_new_object();
	json_object *list = json_object_new_array();

	for (size_t i = 0; i < problems->count; i++) {
		const struct problem *p = &problems->items[i];
		json_object *item = json_object_new_object();

		json_object_object_add(item, "line", json_object_new_int((int)p->line));
		json_object_object_add(item, "column", json_object_new_int((int)p->column));
		json_add_string(item, "message", p->err.msg);
		json_add_string(item, "hint", p->err.hint[0] != '\0' ? p->err.hint : NULL);
		json_object_array_add(list, item);
	}
	json_object_object_add(error, "code", json_object_new_int(err_rpc_code(err->code)));
	json_add_string(error, "message", err->msg);
	json_add_string(data, "name", err_name(err->code));
	json_object_object_add(data, "problems", list);
	json_object_object_add(error, "data", data);
	json_object_put(ctl->error);
	ctl->error = error;
}

static int
check_names(const struct vmfile *vmfile, const struct strings *names, struct err *err)
{
	CLEANUP_FREE const char **known = xcalloc(vmfile->vms.count, sizeof(*known));

	for (size_t i = 0; i < vmfile->vms.count; i++)
		known[i] = vmfile_vm(vmfile, i)->name;
	for (size_t n = 0; n < names->count; n++) {
		const char *near, *name = names->items[n];
		bool found = false;

		for (size_t i = 0; i < vmfile->vms.count; i++)
			found = found || str_eq(known[i], name);
		if (found)
			continue;
		near = str_nearest(name, known, vmfile->vms.count);
		err_set(err, E_NOT_FOUND, "there is no machine '%s' in '%s'", name, vmfile->path);
		if (near != NULL)
			err_hint(err, "did you mean '%s'?", near);
		return E_NOT_FOUND;
	}
	return 0;
}

int
project_load(struct vmctl *ctl, const char *file, enum backend backend, const struct strings *names,
    struct vmfile **ret_vmfile, struct err *err)
{
	struct problems problems = { 0 };
	CLEANUP_FREE char *path = NULL, *text = NULL;
	struct vmfile *vmfile = NULL;
	int rc = vmfile_find(file, &path, err);

	if (rc != 0)
		return rc;
	rc = vmfile_load(path, backend, &vmfile, &problems, err);
	if (rc != 0 && problems.count > 0) {
		text = problems_text(&problems, path);
		fputs(text, stderr);
		keep_problems(ctl, &problems, err);
	}
	problems_done(&problems);
	if (rc == 0)
		rc = check_names(vmfile, names, err);
	if (rc != 0) {
		vmfile_destroy(vmfile);
		return rc;
	}
	*ret_vmfile = vmfile;
	return 0;
}

/* lib/vmfile knows values by the keys of the file. */
static char *
where(void *arg, const char *path)
{
	CLEANUP_FREE char *kebab = xstrdup(path);

	for (char *p = kebab; *p != '\0'; p++)
		if (*p == '_')
			*p = '-';
	return vmfile_where(arg, kebab);
}

/* Who it is and whom it needs: enough to end a machine.  vm: taken. */
static json_object *
only_names(json_object *vm)
{
	static const char *const kept[] = { "name", "depends_on" };
	json_object *small = json_object_new_object();

	for (size_t i = 0; i < ARRAY_LEN(kept); i++)
		if (json_has(vm, kept[i]))
			json_object_object_add(
			    small, kept[i], json_object_get(json_member(vm, kept[i])));
	json_object_put(vm);
	return small;
}

bool
project_is_asked(const struct strings *names, const char *name)
{
	for (size_t i = 0; i < names->count; i++)
		if (str_eq(names->items[i], name))
			return true;
	return names->count == 0;
}

/* Owned: which machines the call is about: those named, and what they depend on. */
static bool *
machines_needed(const struct vmfile *vmfile, const struct strings *names)
{
	bool *needed = xcalloc(vmfile->vms.count, sizeof(*needed)), more = true;

	for (size_t i = 0; i < vmfile->vms.count; i++)
		needed[i] = project_is_asked(names, vmfile_vm(vmfile, i)->name);
	while (more) {
		more = false;
		for (size_t i = 0; i < vmfile->vms.count; i++) {
			const struct strings *depends = &vmfile_vm(vmfile, i)->depends_on;

			for (size_t k = 0; needed[i] && k < vmfile->vms.count; k++) {
				if (needed[k] || depends->count == 0 ||
				    !project_is_asked(depends, vmfile_vm(vmfile, k)->name))
					continue;
				needed[k] = more = true;
			}
		}
	}
	return needed;
}

/* Its files are opened, and its image becomes what the daemon takes. */
static int
attach(const struct vmfile *vmfile, size_t index, bool needed, struct project_send *send,
    json_object *vm, struct err *err)
{
	const struct vm_spec *spec = vmfile_vm(vmfile, index);
	CLEANUP_FREE char *prefix = xasprintf("vms[%zu]", index), *place = NULL;
	void *arg = (void *)(uintptr_t)vmfile;
	size_t known;
	int rc = files_replace(&send->files, vm_spec_fields, vm, prefix, where, arg, err);

	if (rc != 0)
		return rc;
	known = send->images.count;
	for (size_t i = 0; rc == 0 && i < LOCK_IMAGES; i++) {
		json_object *image = json_member(vm, lock_image_keys[i]);

		if (image == NULL)
			continue;
		lock_apply(&send->lock, lock_image(spec, i), image);
		rc = images_resolve(&send->images, image, err);
		if (rc == 0)
			send->urls[index * LOCK_IMAGES + i] = xstrdup(json_string(image, "url"));
		else
			place = xasprintf("%s.%s", prefix, lock_image_keys[i]);
	}
	if (!needed)
		images_forget(&send->images, known);
	if (rc == 0)
		return 0;
	err_object(err, place);
	project_place_error(vmfile, err);
	return err->code == E_PARAMS ? (int)(err->code = E_VMFILE) : rc;
}

void
project_send_done(struct project_send *send)
{
	for (size_t i = 0; i < send->url_count; i++)
		free(send->urls[i]);
	free(send->urls);
	files_done(&send->files);
	images_done(&send->images);
	lock_done(&send->lock);
	*send = (struct project_send){ 0 };
}

int
project_params(const struct vmfile *vmfile, const struct strings *names, struct project_send *send,
    struct json_object **ret_params, struct err *err)
{
	json_object *params = json_object_new_object(), *vms = json_object_new_array();
	CLEANUP_FREE bool *needed = machines_needed(vmfile, names);
	int rc = 0;

	if (send != NULL) {
		send->url_count = vmfile->vms.count * LOCK_IMAGES;
		send->urls = xcalloc(send->url_count, sizeof(char *));
		rc = lock_load(vmfile, &send->lock, err);
	}
	json_add_string(params, "project", vmfile->path);
	json_object_object_add(params, "vms", vms);
	for (size_t i = 0; rc == 0 && i < vmfile->vms.count; i++) {
		json_object *vm = fields_encode(vm_spec_fields, vmfile_vm(vmfile, i));

		if (send != NULL)
			rc = attach(vmfile, i, needed[i], send, vm, err);
		else
			vm = only_names(vm);
		json_object_array_add(vms, vm);
	}
	if (rc != 0) {
		json_object_put(params);
		return rc;
	}
	if (names->count > 0) {
		json_object *list = json_object_new_array();

		for (size_t i = 0; i < names->count; i++)
			json_object_array_add(list, json_object_new_string(names->items[i]));
		json_object_object_add(params, "names", list);
	}
	*ret_params = params;
	return 0;
}

void
project_place_error(const struct vmfile *vmfile, struct err *err)
{
	CLEANUP_FREE char *place = NULL;

	if (!str_starts(err->object, "vms["))
		return;
	place = where((void *)(uintptr_t)vmfile, err->object);
	err_wrap(err, "%s", place);
}
