/* SPDX-License-Identifier: MPL-2.0
 *
 * The methods of images: those that answer at once, and the beginnings of the others. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/files.h"
#include "daemon/image_access.h"
#include "daemon/methods.h"
#include "daemon/op_image.h"
#include "daemon/vm.h"
#include "daemon/vmmd.h"
#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/catalogue.h"
#include "lib/image/fetch.h"
#include "lib/image/names.h"
#include "lib/image/reference.h"

static uid_t
caller(const struct request *request)
{
	return request_peer(request)->uid;
}

static struct op_call
call_of(struct request *request)
{
	return (struct op_call){ .uid = caller(request), .audience = request,
		.ended = op_answer_request, .arg = request };
}

/* NULL: the request was answered. */
static const struct image *
named_image(struct vmmd *vmmd, struct request *request, const char *ref)
{
	const struct image *image = NULL;
	struct err err = ERR_INIT;

	if (image_lookup(vmmd, caller(request), ref, &image, &err) == 0)
		return image;
	request_fail(request, &err);
	return NULL;
}

/* ---- list, inspect, catalogue ---- */

struct listing {
	struct vmmd *vmmd;
	uid_t uid;
	json_object *list;
};

static void
add_image(void *arg, const struct image *image)
{
	struct listing *l = arg;

	if (image_visible(l->vmmd, image, l->uid))
		json_object_array_add(l->list, image_row(l->vmmd, image, l->uid));
}

void
method_image_list(struct vmmd *vmmd, struct request *request, void *args)
{
	struct listing l = { vmmd, caller(request), json_object_new_array() };
	json_object *result = json_object_new_object();

	image_each(vmmd->images, add_image, &l);
	json_object_object_add(result, "images", l.list);
	request_reply(request, result);
}

static void
add_time(json_object *row, const char *key, int64_t ms)
{
	CLEANUP_FREE char *text = ms != 0 ? clock_rfc3339(ms) : NULL;

	json_add_string(row, key, text);
}

static void
add_reference(void *arg, const struct image_name *name)
{
	struct listing *l = arg;
	json_object *row;

	if (names_is_claim(name))
		return;
	if (l->uid != 0 && l->uid != geteuid() && l->uid != name->uid)
		return;
	row = json_object_new_object();
	json_add_string(row, "name", name->name);
	json_add_bool(row, "fetched", name->fetched);
	json_add_string(row, "source", name->source);
	json_add_string(row, "etag", name->etag);
	json_add_string(row, "last_modified", name->last_modified);
	json_add_string(row, "body_digest", name->body_digest);
	add_time(row, "changed", name->changed_ms);
	add_time(row, "checked", name->checked_ms);
	json_object_array_add(l->list, row);
}

void
method_image_inspect(struct vmmd *vmmd, struct request *request, void *args)
{
	struct image_args *a = args;
	/* Before the request may be answered, and gone. */
	struct listing l = { vmmd, caller(request), NULL };
	const struct image *image = named_image(vmmd, request, a->image);
	json_object *row;

	if (image == NULL)
		return;
	l.list = json_object_new_array();
	names_each(vmmd->images, image->digest, add_reference, &l);
	row = image_row(vmmd, image, l.uid);
	json_object_object_add(row, "references", l.list);
	request_reply(request, row);
}

static json_object *
entry_row(const struct catalogue_entry *e)
{
	json_object *row = json_object_new_object(), *aliases = json_object_new_array();

	for (size_t i = 0; i < e->aliases.count; i++)
		json_object_array_add(aliases, json_object_new_string(e->aliases.items[i]));
	json_add_string(row, "name", e->name);
	json_add_string(row, "version", e->version);
	json_object_object_add(row, "aliases", aliases);
	json_add_string(row, "architecture", e->architecture);
	json_add_string(row, "url", e->url);
	json_add_string(row, "checksums", e->checksums);
	json_add_string(row, "sha256", e->sha256);
	json_add_string(row, "sha512", e->sha512);
	json_add_string(row, "format", e->format);
	json_add_string(row, "user", e->user);
	json_add_string(row, "firmware", e->firmware);
	json_add_string(row, "file", e->file);
	return row;
}

void
method_image_catalogue(struct vmmd *vmmd, struct request *request, void *args)
{
	json_object *result = json_object_new_object(), *list = json_object_new_array();

	for (size_t i = 0; i < vmmd->catalogue.count; i++)
		json_object_array_add(list, entry_row(&vmmd->catalogue.items[i]));
	json_object_object_add(result, "entries", list);
	json_add_string(result, "architecture", catalogue_host_architecture());
	request_reply(request, result);
}

/* ---- names ---- */

void
method_image_tag(struct vmmd *vmmd, struct request *request, void *args)
{
	struct image_tag_args *a = args;
	const struct image *image = named_image(vmmd, request, a->image);
	struct err err = ERR_INIT;

	if (image == NULL)
		return;
	if (op_image_name(vmmd, caller(request), a->name, image, &err) != 0)
		request_fail(request, &err);
	else
		request_reply(request, image_row(vmmd, image, caller(request)));
}

/* ---- removal ---- */

struct given {
	uid_t uid;
	size_t count; /* names that the caller gave */
};

static void
count_given(void *arg, const struct image_name *name)
{
	struct given *g = arg;

	if (name->uid == g->uid && !name->fetched)
		g->count++;
}

/* Is it one of several names that the caller gave to the image? */
static bool
is_one_of_many(struct vmmd *vmmd, const struct image *image, uid_t uid, const char *ref)
{
	const struct image_name *name = names_find(vmmd->images, uid, ref);
	struct given g = { uid, 0 };

	if (name == NULL || name->uid != uid || name->fetched || !str_eq(name->digest, image->digest))
		return false;
	names_each(vmmd->images, image->digest, count_given, &g);
	return g.count > 1;
}

static json_object *
removed(const char *digest, bool untagged, uint64_t bytes)
{
	json_object *result = json_object_new_object();

	json_add_string(result, "digest", digest);
	json_add_bool(result, "untagged", untagged);
	json_add_int(result, "bytes", (int64_t)bytes);
	return result;
}

void
method_image_rm(struct vmmd *vmmd, struct request *request, void *args)
{
	struct image_args *a = args;
	const struct image *image = NULL;
	CLEANUP_FREE char *digest = NULL;
	struct err err = ERR_INIT;
	uint64_t bytes;
	bool untagged;
	int rc;

	/* One whose file is gone is removed like any other. */
	rc = image_lookup(vmmd, caller(request), a->image, &image, &err);
	if (image == NULL) {
		request_fail(request, &err);
		return;
	}
	digest = xstrdup(image->digest);
	bytes = image_disk_bytes(image);
	untagged = is_one_of_many(vmmd, image, caller(request), a->image);
	if (untagged) {
		rc = names_remove(vmmd->images, caller(request), a->image, &err);
	} else {
		rc = image_check_unused(vmmd, image, caller(request), &err);
		if (rc == 0)
			rc = image_remove(vmmd->images, digest, &err);
	}
	if (rc != 0)
		request_fail(request, &err);
	else
		request_reply(request, removed(digest, untagged, untagged ? 0 : bytes));
}

struct pruning {
	struct vmmd *vmmd;
	uid_t uid;
	bool all;
	struct strings digests;
};

static void
choose(void *arg, const struct image *image)
{
	struct pruning *p = arg;

	if (!image_visible(p->vmmd, image, p->uid) ||
	    (!p->all && image_has_given_name(p->vmmd, image)) ||
	    image_check_unused(p->vmmd, image, p->uid, NULL) != 0)
		return;
	p->digests.items = xreallocarray(p->digests.items, p->digests.count + 1, sizeof(char *));
	p->digests.items[p->digests.count++] = xstrdup(image->digest);
}

/* The row of what was, or would be, removed; NULL: it stays after all. */
static json_object *
prune_one(const struct pruning *p, const char *digest, bool dry_run, uint64_t *bytes)
{
	const struct image *image = NULL;
	struct err err = ERR_INIT;
	json_object *row;
	uint64_t own;

	/* One whose file is gone or damaged is removed like any other. */
	image_get(p->vmmd->images, digest, &image, NULL);
	if (image == NULL)
		return NULL;
	row = image_row(p->vmmd, image, p->uid);
	own = image_disk_bytes(image);
	if (!dry_run && image_remove(p->vmmd->images, digest, &err) != 0) {
		json_object_put(row);
		return NULL;
	}
	*bytes += own;
	return row;
}

void
method_image_prune(struct vmmd *vmmd, struct request *request, void *args)
{
	struct image_prune_args *a = args;
	struct pruning p = { .vmmd = vmmd, .uid = caller(request), .all = a->all };
	json_object *result = json_object_new_object(), *list = json_object_new_array(), *row;
	uint64_t bytes = 0;
	size_t parts;

	image_each(vmmd->images, choose, &p);
	for (size_t i = 0; i < p.digests.count; i++) {
		row = prune_one(&p, p.digests.items[i], a->dry_run, &bytes);
		if (row != NULL)
			json_object_array_add(list, row);
		free(p.digests.items[i]);
	}
	free(p.digests.items);
	parts = image_parts_prune(vmmd->images, caller(request), a->dry_run, &bytes);
	json_object_object_add(result, "images", list);
	json_add_int(result, "parts", (int64_t)parts);
	json_add_int(result, "bytes", (int64_t)bytes);
	request_reply(request, result);
}

/* ---- operations ---- */

/* rc of a start: 0, or the request is answered with the error. */
static void
fail_if(struct request *request, int rc, const struct err *err)
{
	if (rc != 0)
		request_fail(request, err);
}

void
method_image_pull(struct vmmd *vmmd, struct request *request, void *args)
{
	static const enum image_policy policies[] = {
		[PULL_REVALIDATE] = IMAGE_REVALIDATE,
		[PULL_MISSING] = IMAGE_MISSING,
		[PULL_REFRESH] = IMAGE_REFRESH,
	};
	struct image_pull_args *a = args;
	struct op_call call = call_of(request);
	struct err err = ERR_INIT;
	int rc = 0;

	if (a->image.file.kind != FILE_NONE) {
		err_set(&err, E_PARAMS, "image: a file is not pulled");
		err_hint(&err, "use image.import");
		err_object(&err, "image");
		rc = E_PARAMS;
	}
	if (rc == 0)
		rc = image_spec_check(&a->image, "image", &err);
	if (rc == 0)
		rc = op_image_pull(vmmd, &a->image, a->name, policies[a->policy], &a->auth, &call, &err);
	fail_if(request, rc, &err);
}

void
method_image_import(struct vmmd *vmmd, struct request *request, void *args)
{
	struct image_import_args *a = args;
	struct op_call call = call_of(request);
	struct err err = ERR_INIT;
	int rc = files_claim_image(request, &a->image, &err);

	if (rc == 0)
		rc = image_spec_check(&a->image, "image", &err);
	if (rc == 0 && a->image.file.kind == FILE_NONE) {
		err_set(&err, E_PARAMS, "image: is not a file");
		err_hint(&err, "use image.pull for what is elsewhere");
		err_object(&err, "image");
		rc = E_PARAMS;
	}
	if (rc == 0)
		rc = op_image_pull(vmmd, &a->image, a->name, IMAGE_MISSING, NULL, &call, &err);
	files_close_image(&a->image);
	fail_if(request, rc, &err);
}

void
method_image_push(struct vmmd *vmmd, struct request *request, void *args)
{
	struct image_push_args *a = args;
	struct op_call call = call_of(request);
	const struct image *image = NULL;
	struct vm *vm = NULL;
	struct err err = ERR_INIT;
	int rc = 0;

	if ((a->image != NULL) == (a->vm != NULL)) {
		err_set(&err, E_PARAMS, "image: give it, or 'vm'; one of them");
		err_object(&err, "image");
		rc = E_PARAMS;
	}
	if (rc == 0 && a->vm != NULL)
		rc = vm_lookup(vmmd, a->vm, call.uid, &vm, &err);
	if (rc == 0 && a->image != NULL)
		rc = image_lookup(vmmd, call.uid, a->image, &image, &err);
	if (rc == 0)
		rc = op_image_push(vmmd, image, vm, a->reference, &a->auth, &call, &err);
	fail_if(request, rc, &err);
}

void
method_image_commit(struct vmmd *vmmd, struct request *request, void *args)
{
	struct image_commit_args *a = args;
	struct op_call call = call_of(request);
	struct vm *vm = NULL;
	struct err err = ERR_INIT;
	int rc = vm_lookup(vmmd, a->vm, call.uid, &vm, &err);

	if (rc == 0)
		rc = op_image_commit(vm, a->name, a->format, a->clean, &call, &err);
	fail_if(request, rc, &err);
}

void
method_image_export(struct vmmd *vmmd, struct request *request, void *args)
{
	struct image_export_args *a = args;
	struct op_call call = call_of(request);
	const struct image *image = NULL;
	struct err err = ERR_INIT;
	int rc = a->file.kind == FILE_FD ? files_claim_file(request, &a->file, "file", &err) : 0;

	if (rc == 0 && a->file.kind != FILE_FD) {
		err_set(&err, E_PARAMS, "file: is not a descriptor");
		err_hint(&err, "send one that is open for reading and writing, as vmctl does");
		err_object(&err, "file");
		rc = E_PARAMS;
	}
	if (rc == 0)
		rc = image_lookup(vmmd, call.uid, a->image, &image, &err);
	if (rc == 0)
		rc = op_image_export(vmmd, image, a->format, &a->file, &call, &err);
	if (a->file.kind == FILE_FD && a->file.fd >= 0) {
		close(a->file.fd);
		a->file.kind = FILE_NONE;
	}
	fail_if(request, rc, &err);
}

void
method_image_verify(struct vmmd *vmmd, struct request *request, void *args)
{
	struct image_verify_args *a = args;
	struct op_call call = call_of(request);
	const struct image *image = NULL;
	struct err err = ERR_INIT;
	int rc = 0;

	/* One whose file is gone is told by the operation. */
	if (a->image != NULL && image_lookup(vmmd, call.uid, a->image, &image, &err) != 0 && image == NULL)
		rc = (int)err.code;
	if (rc == 0)
		rc = op_image_verify(vmmd, image, &call, &err);
	fail_if(request, rc, &err);
}
