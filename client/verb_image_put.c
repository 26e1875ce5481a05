/* SPDX-License-Identifier: MPL-2.0
 *
 * Images out of the store, and out of machines: push, export, commit. */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/call.h"
#include "client/image.h"
#include "client/json.h"
#include "client/out.h"
#include "client/verbs.h"
#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/reference.h"

/* ---- push ---- */

struct push_args {
	char *what, *reference;
	bool image, vm;
};

/* clang-format off */
static const struct field push_fields[] = {
	FIELD(struct push_args, what,      FIELD_STRING, .required = true, .min = 1, .text = "an image, or a machine that is stopped"),
	FIELD(struct push_args, reference, FIELD_STRING, .required = true, .min = 1, .text = "oci://registry/repository:tag"),
	FIELD(struct push_args, image,     FIELD_BOOL, .text = "it is an image, also when a machine is called so"),
	FIELD(struct push_args, vm,        FIELD_BOOL, .text = "it is a machine, also when an image is called so"),
	FIELD_END
};
/* clang-format on */

/* Is there one?  Another problem than its absence is an error. */
static int
look(struct vmctl *ctl, enum method_id method, const char *key, const char *name, bool *ret_there,
    struct err *err)
{
	struct call call = { .method = method, .params = json_object_new_object() };
	struct json_object *result = NULL;
	struct err problem = ERR_INIT;
	int rc;

	json_add_string(call.params, key, name);
	rc = call_run(ctl, &call, &result, &problem);
	json_object_put(result);
	*ret_there = rc == 0;
	/* What can be no machine's name is none. */
	if (rc == 0 || rc == E_NOT_FOUND || rc == E_PARAMS) {
		json_object_put(ctl->error);
		ctl->error = NULL;
		return 0;
	}
	*err = problem;
	return rc;
}

static int
decide(struct vmctl *ctl, const struct push_args *a, bool *ret_image, struct err *err)
{
	bool image = false, vm = false;
	int rc;

	*ret_image = a->image;
	if (a->image || a->vm)
		return a->image && a->vm
			   ? err_set(err, E_USAGE, "--image and --vm exclude each other")
			   : 0;
	rc = look(ctl, METHOD_image_inspect, "image", a->what, &image, err);
	if (rc == 0)
		rc = look(ctl, METHOD_vm_get, "name", a->what, &vm, err);
	*ret_image = image;
	if (rc != 0 || image != vm)
		return rc;
	if (!image) {
		err_set(err, E_NOT_FOUND, "there is no image and no machine '%s'", a->what);
		err_hint(err, "'vmctl image list' and 'vmctl list' tell what there is");
		return E_NOT_FOUND;
	}
	err_set(err, E_USAGE, "'%s' is an image and a machine", a->what);
	err_hint(err, "say which with --image or --vm");
	return E_USAGE;
}

static int
check_reference(const char *reference, struct err *err)
{
	struct err problem = ERR_INIT;
	struct oci_ref ref;

	if (!str_starts(reference, "oci://")) {
		err_set(err, E_USAGE, "images are pushed to registries only");
		err_hint(err, "write oci://registry/repository:tag");
		return E_USAGE;
	}
	if (oci_ref_parse(reference, &ref, &problem) != 0) {
		*err = problem;
		return err->code = E_USAGE;
	}
	oci_ref_done(&ref);
	return 0;
}

static void
print_pushed(const struct vmctl *ctl, struct json_object *result)
{
	out_json(ctl, result);
	out_line(ctl, json_flag(result, "uploaded") ? "pushed to '%s'" : "was there: '%s'",
	    json_shown(result, "reference"));
	out_line(ctl, "  manifest %s", json_shown(result, "digest"));
	out_line(ctl, "  image %s", json_shown(json_member(result, "image"), "digest"));
}

static int
run_image_push(struct vmctl *ctl, void *args, struct err *err)
{
	const struct push_args *a = args;
	struct call call = { .method = METHOD_image_push, .progress = true };
	struct images images = { 0 };
	struct json_object *result = NULL;
	bool image;
	int rc = check_reference(a->reference, err);

	if (rc == 0)
		rc = decide(ctl, a, &image, err);
	if (rc != 0)
		return rc;
	call.params = json_object_new_object();
	json_add_string(call.params, image ? "image" : "vm", a->what);
	json_add_string(call.params, "reference", a->reference);
	images_need(&images, a->reference, NULL);
	rc = images_auth(ctl, &images, call.params, err);
	images_done(&images);
	if (rc != 0) {
		json_object_put(call.params);
		return rc;
	}
	rc = call_run(ctl, &call, &result, err);
	if (rc == 0)
		print_pushed(ctl, result);
	json_object_put(result);
	return rc;
}

const struct verb verb_image_push = {
	.name = "image push",
	.details =
	    "An image and a machine may have the same name; then say which with --image or --vm.",
	.fields = push_fields,
	.args_size = sizeof(struct push_args),
	.positionals = (const struct positional[]){ { "what", "IMAGE|VM", false, false },
	    { "reference", "REFERENCE", false, false }, { 0 } },
	.method = METHOD_image_push,
	.run = run_image_push,
};

/* ---- export ---- */

struct export_args {
	char *image, *file, *format;
	bool force;
};

/* clang-format off */
static const struct field export_fields[] = {
	FIELD(struct export_args, image,  FIELD_STRING, .required = true, .min = 1, .text = "digest (or its beginning) or name of the image"),
	FIELD(struct export_args, file,   FIELD_STRING, .required = true, .min = 1, .text = "the file to write; it appears when it is whole"),
	FIELD(struct export_args, format, FIELD_STRING, .min = 1, .text = "qcow2 or raw; default: as it is in the store"),
	FIELD(struct export_args, force,  FIELD_BOOL, .text = "replace the file if it is there"),
	FIELD_END
};
/* clang-format on */

static int
exists(const char *path, struct err *err)
{
	err_set(err, E_EXISTS, "'%s' is there already", path);
	err_hint(err, "--force replaces it");
	return E_EXISTS;
}

/* The file beside the wanted one; ret_path: owned. */
static int
open_beside(const char *path, char **ret_path, int *ret_fd, struct err *err)
{
	CLEANUP_FREE char *temporary = xasprintf("%s.XXXXXX", path);
	int fd = fs_mkstemp(temporary);

	if (fd < 0)
		return err_errno(err, E_IO, errno, "can not write '%s'", path);
	*ret_fd = fd;
	*ret_path = TAKE(temporary);
	return 0;
}

/* Gives it its name.  Without force a link: it can not replace what came meanwhile. */
static int
put_in_place(int fd, const char *temporary, const char *path, bool force, struct err *err)
{
	mode_t mask = umask(0);
	int rc;

	umask(mask);
	if (fchmod(fd, 0666 & ~mask) < 0)
		return err_errno(err, E_IO, errno, "can not write '%s'", path);
	if (!force) {
		rc = link(temporary, path);
		if (rc == 0)
			return 0;
		if (errno == EEXIST)
			return exists(path, err);
		if (fs_exists(path))
			return exists(path, err);
		/* A file system without links. */
	}
	rc = rename(temporary, path);
	return rc < 0 ? err_errno(err, E_IO, errno, "can not write '%s'", path) : 0;
}

static int
check_target(const struct export_args *a, const char *path, struct err *err)
{
	struct stat st;

	if (str_eq(a->file, "-"))
		return err_set(err, E_USAGE, "an image is written to a file, not to a pipe");
	if (stat(path, &st) < 0)
		return 0;
	if (!S_ISREG(st.st_mode))
		return err_set(err, E_USAGE, "'%s' is no regular file", path);
	return a->force ? 0 : exists(path, err);
}

static int
run_image_export(struct vmctl *ctl, void *args, struct err *err)
{
	const struct export_args *a = args;
	CLEANUP_FREE char *path = fs_expand(a->file, NULL), *temporary = NULL, *size = NULL;
	struct call call = { .method = METHOD_image_export, .progress = true };
	json_object *file = json_object_new_object();
	struct json_object *result = NULL;
	CLEANUP_FD int fd = -1;
	int rc = check_target(a, path, err);

	if (rc == 0)
		rc = open_beside(path, &temporary, &fd, err);
	if (rc != 0) {
		json_object_put(file);
		return rc;
	}
	json_add_int(file, "fd", 0);
	json_add_string(file, "name", path);
	call.params = json_object_new_object();
	json_add_string(call.params, "image", a->image);
	json_object_object_add(call.params, "file", file);
	json_add_string(call.params, "format", a->format);
	call.fds = &fd;
	call.fd_count = 1;
	rc = call_run(ctl, &call, &result, err);
	if (rc == 0)
		rc = put_in_place(fd, temporary, path, a->force, err);
	unlink(temporary);
	if (rc == 0) {
		size = str_size((uint64_t)json_int(result, "bytes"));
		out_json(ctl, result);
		out_line(ctl, "wrote '%s' (%s, %s)", path, json_shown(result, "format"), size);
	}
	json_object_put(result);
	return rc;
}

const struct verb verb_image_export = {
	.name = "image export",
	.summary = "Write an image to a file",
	.fields = export_fields,
	.args_size = sizeof(struct export_args),
	.positionals = (const struct positional[]){ { "image", "IMAGE", false, false },
	    { "file", "FILE", false, false }, { 0 } },
	.method = METHOD_image_export,
	.run = run_image_export,
};

/* ---- commit ---- */

static int
run_image_commit(struct vmctl *ctl, void *args, struct err *err)
{
	const struct image_commit_args *a = args;
	struct json_object *result = NULL, *removed;
	int rc = call_verb(ctl, args, true, &result, err);

	if (rc != 0)
		return rc;
	out_json(ctl, result);
	out_line(ctl, "'%s' is %s", a->name, json_shown(json_member(result, "image"), "digest"));
	removed = json_member(result, "removed");
	for (size_t i = 0; i < json_length(removed); i++)
		out_line(ctl, "  removed %s", json_object_get_string(json_item(removed, i)));
	json_object_put(result);
	return 0;
}

const struct verb verb_image_commit = {
	.name = "image commit",
	.fields = image_commit_params,
	.args_size = sizeof(struct image_commit_args),
	.positionals = (const struct positional[]){ { "vm", "VM", false, false },
	    { "name", "NAME", false, false }, { 0 } },
	.method = METHOD_image_commit,
	.run = run_image_commit,
};
