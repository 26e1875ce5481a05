/* SPDX-License-Identifier: MPL-2.0
 *
 * The operations that move images: pull, import, push. */
#include "daemon/op_image.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/image_access.h"
#include "daemon/image_work.h"
#include "daemon/vm.h"
#include "daemon/vmmd.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/names.h"
#include "lib/image/reference.h"

int
op_image_name(struct vmmd *vmmd, uid_t uid, const char *name, const struct image *image,
    struct err *err)
{
	struct image_name row = { .uid = uid, .name = (char *)(uintptr_t)name, .digest = image->digest };
	int rc = image_name_check(name, err);

	return rc == 0 ? names_set(vmmd->images, &row, err) : rc;
}

void
op_image_progress(void *arg, const struct image_progress *progress)
{
	if (progress->note != NULL)
		op_note(arg, "%s", progress->note);
	else
		op_progress(arg, progress->done_bytes, progress->total_bytes, "bytes");
}

/* ---- pull, import ---- */

struct pull {
	struct image_spec spec;
	struct fetch_auth auth;
	enum image_policy policy;
	char *name; /* NULL: none */
	struct image_fetch *fetch;
};

static json_object *
pull_result(struct operation *op, const struct image_got *got)
{
	json_object *result = json_object_new_object();

	json_object_object_add(result, "image", image_row(op->vmmd, got->image, op->uid));
	json_add_string(result, "source", got->source);
	json_add_int(result, "transferred_bytes", (int64_t)got->transferred_bytes);
	json_add_bool(result, "known", got->known);
	json_add_string(result, "note", got->note);
	return result;
}

static void
pulled(void *arg, const struct image_got *got, const struct err *err)
{
	struct operation *op = arg;
	struct pull *p = op->data;
	struct err own = ERR_INIT;

	p->fetch = NULL;
	if (err == NULL && p->name != NULL && op_image_name(op->vmmd, op->uid, p->name, got->image, &own) != 0)
		err = &own;
	if (err != NULL) {
		op_step_failed(op, err);
		return;
	}
	if (got->note != NULL)
		op_note(op, "%s", got->note);
	op->result = pull_result(op, got);
	op_step_done(op);
}

static enum step_result
pull_run(struct operation *op, struct err *err)
{
	struct pull *p = op->data;
	struct image_want want = { &p->spec, &p->auth, op->uid, p->policy };

	p->fetch = image_fetch(op->vmmd->images, &want, op_image_progress, pulled, op);
	p->spec.file.kind = FILE_NONE; /* the descriptor is taken */
	return STEP_WAIT;
}

static void
pull_cancel(struct operation *op)
{
	struct pull *p = op->data;

	if (p->fetch != NULL)
		image_fetch_cancel(p->fetch);
}

static void
pull_release(struct operation *op)
{
	struct pull *p = op->data;

	if (p->fetch != NULL)
		image_fetch_forget(p->fetch);
	if (p->spec.file.kind == FILE_FD && p->spec.file.fd >= 0)
		close(p->spec.file.fd);
	fields_release(vm_image_fields, &p->spec);
	fetch_auth_release(&p->auth);
	free(p->name);
	free(p);
}

static const struct op_step pull_steps[] = { { "image", pull_run, pull_cancel, NULL } };
static const struct op_kind op_kind_pull = { "image.pull", pull_steps, 1, pull_release, NULL };
static const struct op_kind op_kind_import = { "image.import", pull_steps, 1, pull_release, NULL };

/* What a file is called that nobody gave a name: its own, as far as it can be one. */
static char *
name_of_file(const struct image_spec *spec)
{
	CLEANUP_FREE char *file = image_file_name(image_spec_shown(spec));
	char *end = strrchr(file, '.');

	if (end != NULL && end != file)
		*end = '\0';
	return image_name_check(file, NULL) == 0 ? xstrdup(file) : NULL;
}

int
op_image_pull(struct vmmd *vmmd, struct image_spec *spec, const char *name,
    enum image_policy policy, const struct fetch_auth *auth, const struct op_call *call,
    struct err *err)
{
	bool file = spec->file.kind == FILE_FD;
	struct pull *p;

	if (name != NULL && image_name_check(name, err) != 0) {
		err_object(err, "name");
		return (int)err->code;
	}
	p = xcalloc(1, sizeof(*p));
	p->spec = *spec;
	memset(spec, 0, sizeof(*spec));
	if (auth != NULL)
		fetch_auth_copy(&p->auth, auth);
	p->policy = policy;
	p->name = name != NULL || !file ? xstrdup(name) : name_of_file(&p->spec);
	return op_start(vmmd, file ? &op_kind_import : &op_kind_pull, NULL, p, 0, call, NULL, err);
}

/* ---- push ---- */

struct push {
	struct image_work work; /* of a machine: its disk, flattened */
	char *reference;
	struct fetch_auth auth;
	struct image_push *push;
};

static void
pushed(void *arg, const char *manifest_digest, bool uploaded, const struct err *err)
{
	struct operation *op = arg;
	struct push *p = op->data;
	const struct image *image;
	json_object *result;
	struct oci_ref ref;
	struct err own = ERR_INIT;

	p->push = NULL;
	if (err == NULL && image_get(op->vmmd->images, p->work.digest, &image, &own) != 0)
		err = &own;
	if (err == NULL && oci_ref_parse(p->reference, &ref, &own) != 0)
		err = &own;
	if (err != NULL) {
		op_step_failed(op, err);
		return;
	}
	vm_set_string(&ref.digest, manifest_digest);
	result = json_object_new_object();
	json_object_object_add(result, "image", image_row(op->vmmd, image, op->uid));
	{
		CLEANUP_FREE char *full = oci_ref_text(&ref);

		json_add_string(result, "reference", full);
	}
	json_add_string(result, "digest", manifest_digest);
	json_add_bool(result, "uploaded", uploaded);
	oci_ref_done(&ref);
	op->result = result;
	op_step_done(op);
}

static enum step_result
push_run(struct operation *op, struct err *err)
{
	struct push *p = op->data;
	const struct image *image;

	if (image_get(op->vmmd->images, p->work.digest, &image, err) != 0)
		return STEP_FAILED;
	p->push = image_push(op->vmmd->images, image, p->reference, &p->auth, op->uid,
	    op_image_progress, pushed, op);
	return STEP_WAIT;
}

static void
push_cancel(struct operation *op)
{
	struct push *p = op->data;

	if (p->push != NULL)
		image_push_cancel(p->push);
}

static void
push_release(struct operation *op)
{
	struct push *p = op->data;

	if (p->push != NULL)
		image_push_forget(p->push);
	image_work_done(&p->work, op->vmmd);
	fetch_auth_release(&p->auth);
	free(p->reference);
	free(p);
}

static const struct op_step push_image_steps[] = { { "push", push_run, push_cancel, NULL } };
static const struct op_step push_vm_steps[] = {
	{ "flatten", image_work_flatten_run, image_work_cancel, NULL },
	{ "import", image_work_import_run, image_work_cancel, NULL },
	{ "push", push_run, push_cancel, NULL },
};
static const struct op_kind op_kind_push_image = { "image.push", push_image_steps,
	ARRAY_LEN(push_image_steps), push_release, NULL };
static const struct op_kind op_kind_push_vm = { "image.push", push_vm_steps,
	ARRAY_LEN(push_vm_steps), push_release, NULL };

int
op_image_push(struct vmmd *vmmd, const struct image *image, struct vm *vm, const char *reference,
    const struct fetch_auth *auth, const struct op_call *call, struct err *err)
{
	struct oci_ref ref;
	struct push *p;
	int rc = oci_ref_parse(reference, &ref, err);

	if (rc == 0 && ref.digest != NULL) {
		rc = err_set(err, E_PARAMS, "reference: '%s' has a digest; only a tag can be pushed to",
		    reference);
		err_object(err, "reference");
	}
	if (rc != 0)
		return rc;
	oci_ref_done(&ref);
	p = xcalloc(1, sizeof(*p));
	if (vm != NULL)
		rc = image_work_of_vm(&p->work, vm, err);
	else
		image_work_of_image(&p->work, vmmd, image, "is being pushed");
	p->reference = xstrdup(reference);
	fetch_auth_copy(&p->auth, auth);
	if (rc != 0) {
		struct operation carrier = { .vmmd = vmmd, .data = p };

		push_release(&carrier);
		return rc;
	}
	return op_start(vmmd, vm != NULL ? &op_kind_push_vm : &op_kind_push_image, vm, p, 0, call, NULL,
	    err);
}
