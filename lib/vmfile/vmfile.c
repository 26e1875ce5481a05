/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/vmfile/vmfile.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/vmfile/convert.h"
#include "lib/vmfile/depends.h"
#include "lib/vmfile/networks.h"
#include "lib/yaml/problems.h"
#include "lib/yaml/yaml.h"

/* ---- finding ---- */

static char *
look_in_parents(const char *start)
{
	CLEANUP_FREE char *dir = xstrdup(start);

	for (;;) {
		char *path = fs_join(dir, VMFILE_NAME), *up;

		if (fs_exists(path))
			return path;
		free(path);
		if (str_eq(dir, "/"))
			return NULL;
		up = fs_dirname(dir);
		free(dir);
		dir = up;
	}
}

int
vmfile_find(const char *file, char **ret_path, struct err *err)
{
	CLEANUP_FREE char *cwd = NULL, *path = NULL;

	if (file != NULL) {
		path = fs_expand(file, NULL);
		if (!fs_exists(path)) {
			err_set(err, E_VMFILE, "there is no file '%s'", path);
			return E_VMFILE;
		}
		*ret_path = TAKE(path);
		return 0;
	}
	cwd = getcwd(NULL, 0);
	if (cwd == NULL)
		return err_errno(err, E_IO, errno, "can not tell the working directory");
	path = look_in_parents(cwd);
	if (path == NULL) {
		err_set(
		    err, E_VMFILE, "there is no %s in '%s' or a folder above it", VMFILE_NAME, cwd);
		err_hint(err, "write one, or name it with --file");
		return E_VMFILE;
	}
	*ret_path = TAKE(path);
	return 0;
}

/* ---- checking ---- */

struct load {
	struct vmfile *vmfile;
	struct problems *problems;
	enum backend backend;
};

/* lib/model's words with the place and, where they do not name it, the field. */
static void
on_problem(void *arg, const char *path, const struct err *problem)
{
	static const char *const verbs[] = { "is ", "must ", "has ", "needs ", "can ", "belongs " };
	struct load *load = arg;
	struct mark *mark = marks_find(load->vmfile->marks, path);
	const char *dot = strchr(path, '.'), *field = dot != NULL ? dot + 1 : path;
	struct err err = *problem;
	bool verb = false;

	if (marks_bad(load->vmfile->marks, path))
		return;
	for (size_t i = 0; i < ARRAY_LEN(verbs); i++)
		verb = verb || str_starts(problem->msg, verbs[i]);
	if (verb)
		err_set(&err, E_VMFILE, "'%s' %s", field, problem->msg);
	else if (!str_starts(problem->msg, "unknown key ") && !str_eq(field, "name"))
		err_set(&err, E_VMFILE, "'%s': %s", field, problem->msg);
	if (problem->hint[0] != '\0')
		err_hint(&err, "%s", problem->hint);
	problems_add(
	    load->problems, mark != NULL ? mark->line : 0, mark != NULL ? mark->column : 0, &err);
	if (mark != NULL && str_eq(mark->path, path))
		mark->bad = true;
}

static void
check_machine(struct load *load, json_object *json, const char *prefix, struct vm_spec *spec)
{
	struct field_options options = { .kebab = true, .on_problem = on_problem, .arg = load };
	CLEANUP_FREE char *image = xasprintf("%s.image", prefix);
	struct err err = ERR_INIT;

	vm_spec_check(spec, prefix, &options);
	if (load->backend != BACKEND_DEFAULT)
		spec->backend = (int)load->backend;
	if (!spec->image.present && vm_spec_needs_image(spec) &&
	    !json_object_object_get_ex(json, "image", NULL)) {
		err_set(&err, E_VMFILE, "is missing");
		err_hint(&err, "give a file, a URL or a name such as debian:12");
		on_problem(load, image, &err);
	}
}

static void
read_machines(struct load *load, const struct node *vms, const struct node *networks)
{
	struct field_options options = { .kebab = true, .on_problem = on_problem, .arg = load };
	struct convert convert = {
		.marks = load->vmfile->marks, .problems = load->problems, .dir = load->vmfile->dir
	};
	size_t count = vms->count / 2;
	json_object **machines = xcalloc(count, sizeof(struct json_object *));
	struct vm_spec *specs = xcalloc(count, sizeof(*specs));

	load->vmfile->vms = (struct objects){ .items = specs, .count = count };
	for (size_t i = 0; i < count; i++) {
		CLEANUP_FREE char *prefix = xasprintf("vms[%zu]", i);

		machines[i] = convert_machine(
		    &convert, vm_spec_fields, vms->items[2 * i], vms->items[2 * i + 1], prefix);
	}
	if (networks != NULL)
		networks_read(load->vmfile, &convert, networks, &options);
	for (size_t i = 0; i < count; i++) {
		CLEANUP_FREE char *prefix = xasprintf("vms[%zu]", i);

		specs[i].present = machines[i] != NULL;
		if (machines[i] != NULL)
			fields_decode(vm_spec_fields, machines[i], prefix, &options, &specs[i]);
	}
	networks_resolve(load->vmfile, load->problems);
	for (size_t i = 0; i < count; i++) {
		CLEANUP_FREE char *prefix = xasprintf("vms[%zu]", i);

		if (machines[i] != NULL)
			check_machine(load, machines[i], prefix, &specs[i]);
		json_object_put(machines[i]);
	}
	free(machines);
	depends_check(load->vmfile, load->problems);
}

static void
read_root(struct load *load, const struct node *root)
{
	static const char *const known[] = { "vms", "networks" };
	const struct node *vms = NULL, *networks = NULL;

	if (root->kind != NODE_MAP) {
		problems_addf(load->problems, root->line, root->column, NULL,
		    "the file must be a mapping with the key 'vms'");
		return;
	}
	for (size_t i = 0; i + 1 < root->count; i += 2) {
		const struct node *key = root->items[i];
		CLEANUP_FREE char *shown = str_line(key->text, strnlen(key->text, 64)), *hint = NULL;
		const char *near = str_nearest(key->text, known, ARRAY_LEN(known));

		if (str_eq(key->text, "vms")) {
			vms = root->items[i + 1];
		} else if (str_eq(key->text, "networks")) {
			networks = root->items[i + 1];
		} else {
			hint = near != NULL ? xasprintf("did you mean '%s'?", near)
					    : xstrdup("known here: vms, networks");
			problems_addf(load->problems, key->line, key->column, hint,
			    "unknown key '%s'", shown);
		}
	}
	if (vms != NULL && vms->kind == NODE_MAP && vms->count > 0)
		read_machines(load, vms, networks);
	else if (vms != NULL && vms->kind != NODE_MAP && node_plain_kind(vms) != PLAIN_NULL)
		problems_addf(load->problems, vms->line, vms->column,
		    "write a line 'name:' for each machine, with its settings below it",
		    "'vms' must be a mapping of names to machines");
	else
		problems_addf(load->problems, vms != NULL ? vms->line : 0,
		    vms != NULL ? vms->column : 0, NULL, "the file has no machines");
}

/* ---- the whole ---- */

int
vmfile_parse(const char *path, const char *text, size_t len, enum backend backend,
    struct vmfile **ret_vmfile, struct problems *ret_problems, struct err *err)
{
	struct vmfile *vmfile = xcalloc(1, sizeof(*vmfile));
	struct load load = { .vmfile = vmfile, .problems = ret_problems, .backend = backend };
	struct tree tree = { 0 };

	vmfile->path = realpath(path, NULL);
	if (vmfile->path == NULL)
		vmfile->path = fs_expand(path, NULL);
	vmfile->dir = fs_dirname(vmfile->path);
	vmfile->marks = xcalloc(1, sizeof(*vmfile->marks));
	tree_read(text, len, &tree, ret_problems);
	if (tree.root != NULL)
		read_root(&load, tree.root);
	else if (ret_problems->count == 0)
		problems_addf(ret_problems, 0, 0, NULL, "the file has no machines");
	tree_done(&tree);
	if (ret_problems->count == 0) {
		*ret_vmfile = vmfile;
		return 0;
	}
	problems_sort(ret_problems);
	vmfile_destroy(vmfile);
	if (ret_problems->count == 1)
		err_set(err, E_VMFILE, "'%s' has a problem", path);
	else
		err_set(err, E_VMFILE, "'%s' has %zu%s problems", path, ret_problems->count,
		    ret_problems->count >= PROBLEMS_MAX ? " or more" : "");
	return E_VMFILE;
}

int
vmfile_load(const char *path, enum backend backend, struct vmfile **ret_vmfile,
    struct problems *ret_problems, struct err *err)
{
	CLEANUP_FREE char *text = NULL;
	struct err problem = ERR_INIT;
	size_t len;

	if (fs_read(path, VMFILE_MAX_BYTES, &text, &len, &problem) != 0)
		return err_set(err, E_VMFILE, "%s", problem.msg);
	return vmfile_parse(path, text, len, backend, ret_vmfile, ret_problems, err);
}

void
vmfile_destroy(struct vmfile *vmfile)
{
	if (vmfile == NULL)
		return;
	for (size_t i = 0; i < vmfile->vms.count; i++)
		vm_spec_release((struct vm_spec *)vmfile->vms.items + i);
	free(vmfile->vms.items);
	networks_done(vmfile);
	marks_done(vmfile->marks);
	free(vmfile->marks);
	free(vmfile->path);
	free(vmfile->dir);
	free(vmfile);
}

const struct vm_spec *
vmfile_vm(const struct vmfile *vmfile, size_t index)
{
	return (const struct vm_spec *)vmfile->vms.items + index;
}

char *
vmfile_where(const struct vmfile *vmfile, const char *value_path)
{
	const char *name = fs_basename(vmfile->path);
	CLEANUP_FREE char *shown = str_line(name, strlen(name));
	const struct mark *mark = marks_find(vmfile->marks, value_path);

	if (mark == NULL)
		return TAKE(shown);
	return xasprintf("%s:%u:%u", shown, mark->line, mark->column);
}
