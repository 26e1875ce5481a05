/* SPDX-License-Identifier: MPL-2.0
 *
 * Making a machine: journal, files, image, disk.  Until the last step is done a restart, or a
 * failure, takes everything back. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/config.h"
#include "daemon/events.h"
#include "daemon/files.h"
#include "daemon/image_arch.h"
#include "daemon/nics.h"
#include "daemon/op_image.h"
#include "daemon/ops.h"
#include "daemon/ports.h"
#include "daemon/private.h"
#include "daemon/vm.h"
#include "daemon/vmmd.h"
#include "lib/base/fs.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/base/worker.h"
#include "lib/image/fetch.h"
#include "lib/image/reference.h"
#include "lib/store/store.h"

struct create_data {
	struct operation *op;
	struct vm_spec spec; /* what the machine gets once its files are ours */
	struct job *job;
	struct err err;
	char *dir;
	struct fetch_auth auth;
	struct image_fetch *fetch;
	struct image_spec *taking; /* what is fetched: the disk's image, or the CD-ROM's */
};

/* ---- checks ---- */

static int
check_host(const struct vm_spec *spec, struct err *err)
{
	uint64_t host = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
	CLEANUP_FREE char *asked = str_size(spec->memory_bytes), *there = str_size(host);
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	if (spec->backend == BACKEND_NOOP)
		return 0;
	if (spec->memory_bytes > host) {
		err_set(err, E_PARAMS, "machine '%s' asks for %s of memory; this host has %s",
		    spec->name, asked, there);
		err_hint(err, "lower 'memory'");
		err_object(err, spec->name);
		return E_PARAMS;
	}
	if (spec->vcpus > (uint64_t)cpus * 16) {
		err_set(err, E_PARAMS, "machine '%s' asks for %llu processors; this host has %ld",
		    spec->name, (unsigned long long)spec->vcpus, cpus);
		err_hint(err, "more than sixteen to one is refused; lower 'vcpus'");
		err_object(err, spec->name);
		return E_PARAMS;
	}
	return 0;
}

int
ops_check_spec(struct vmmd *vmmd, struct vm_spec *spec, struct err *err)
{
	struct hypervisor *hv;
	int rc;

	ports_normalise(&spec->ports);
	nics_normalise(spec);
	if (spec->backend == BACKEND_DEFAULT)
		spec->backend = hv_router_default();
	rc = hv_router_get(vmmd->router, (enum backend)spec->backend, &hv, err);
	if (rc == 0) {
		hv_complete_spec(hv, spec);
		rc = hv_check_spec(hv, spec, err);
	}
	if (rc == 0)
		rc = image_arch_fit(&vmmd->catalogue, spec, err);
	if (rc == 0)
		rc = check_host(spec, err);
	if (rc != 0) {
		err_object(err, spec->name);
		return rc;
	}
	if (!spec->image.present && vm_spec_needs_image(spec)) {
		err_set(err, E_PARAMS, "machine '%s' has no image", spec->name);
		err_hint(err, "say which disk image it starts from, with 'image'");
		err_object(err, spec->name);
		return E_PARAMS;
	}
	return 0;
}

/* ---- step: journal ---- */

static enum step_result
journal_run(struct operation *op, struct err *err)
{
	/* The row first: after a crash it says what to take back. */
	if (vm_commit(op->vm, err) != 0 || fs_mkdirs(op->vm->dir, 0700, err) != 0)
		return STEP_FAILED;
	vm_tell(op->vm, "created", NULL);
	return STEP_DONE;
}

static enum step_result
journal_undo(struct operation *op, struct err *err)
{
	struct vm *vm = op->vm;
	struct vmmd *vmmd = op->vmmd;

	fs_remove_tree(vm->run_dir, NULL);
	if (fs_remove_tree(vm->dir, err) != 0)
		return STEP_FAILED;
	vm_tell(vm, "destroyed", NULL);
	store_remove(vmmd->store, STORE_MACHINE, vm->id);
	op->vm = NULL;
	vm_free(vm);
	return STEP_DONE;
}

/* ---- step: files ---- */

static void
files_job(struct job *job, void *data)
{
	struct create_data *d = data;

	files_take(&d->spec, d->dir, job, &d->err);
}

static void
files_done(void *data)
{
	struct create_data *d = data;

	d->job = NULL;
	if (d->err.code != E_OK)
		op_step_failed(d->op, &d->err);
	else
		op_step_done(d->op);
}

static enum step_result
files_run(struct operation *op, struct err *err)
{
	struct create_data *d = op->data;

	d->op = op;
	d->dir = xstrdup(op->vm->dir);
	if (worker_submit(op->vmmd->disk_pool, "files", files_job, files_done, d, 0, &d->job, err) != 0)
		return STEP_FAILED;
	return STEP_WAIT;
}

static void
files_cancel(struct operation *op)
{
	struct create_data *d = op->data;

	if (d->job != NULL)
		job_cancel(d->job);
}

/* ---- step: image ---- */

/* What a login in a URL says is for the transfer alone. */
static void
forget_login(struct image_spec *ref)
{
	const char *host = ref->url != NULL ? strstr(ref->url, "://") : NULL;
	char *public;

	if (host == NULL || memchr(host + 3, '@', strcspn(host + 3, "/?#")) == NULL)
		return;
	public = image_url_public(ref->url);
	free(ref->url);
	ref->url = public;
}

static void
use_image(struct image_spec *ref, const struct image_got *got)
{
	forget_login(ref);
	if (ref->name == NULL)
		ref->name = xstrdup(image_spec_shown(ref));
	file_ref_done(&ref->file);
	vm_set_string(&ref->digest, got->image->digest);
	if (got->source != NULL)
		vm_set_string(&ref->source, got->source);
}

static void
image_got(void *arg, const struct image_got *got, const struct err *err)
{
	struct operation *op = arg;
	struct create_data *d = op->data;
	struct err own = ERR_INIT;

	d->fetch = NULL;
	if (err != NULL) {
		op_step_failed(op, err);
		return;
	}
	if (got->note != NULL)
		op_note(op, "%s", got->note);
	use_image(d->taking, got);
	if (d->taking == &d->spec.image) {
		vm_set_string(&op->vm->image_digest, got->image->digest);
	} else if (!str_eq(got->image->format, "raw")) {
		err_set(&own, E_IMAGE, "the image '%s' is %s; a CD-ROM's is its bytes as they are (raw)",
		    image_spec_shown(d->taking), got->image->format);
		op_step_failed(op, &own);
		return;
	}
	op_step_done(op);
}

static enum step_result
take_image(struct operation *op, struct image_spec *ref)
{
	struct create_data *d = op->data;
	struct image_want want = { ref, &d->auth, op->uid, IMAGE_REVALIDATE };

	if (!ref->present)
		return STEP_DONE;
	d->taking = ref;
	d->fetch = image_fetch(op->vmmd->images, &want, op_image_progress, image_got, op);
	if (ref->file.kind == FILE_FD)
		ref->file.kind = FILE_NONE; /* the descriptor is the store's now */
	return STEP_WAIT;
}

static enum step_result
image_run(struct operation *op, struct err *err)
{
	return take_image(op, &((struct create_data *)op->data)->spec.image);
}

/* In the store, as the disk's: many machines may be installed from it. */
static enum step_result
cdrom_run(struct operation *op, struct err *err)
{
	return take_image(op, &((struct create_data *)op->data)->spec.cdrom);
}

static void
image_cancel(struct operation *op)
{
	struct create_data *d = op->data;

	if (d->fetch != NULL)
		image_fetch_cancel(d->fetch);
}

/* ---- step: disk ---- */

static void
step_callback(void *arg, const struct err *err)
{
	if (err != NULL)
		op_step_failed(arg, err);
	else
		op_step_done(arg);
}

static enum step_result
disk_run(struct operation *op, struct err *err)
{
	struct create_data *d = op->data;
	struct vm *vm = op->vm;
	const struct image *image = NULL;
	struct hv_image base;

	/* Nothing of the spec changes any more: the machine gets the checked one. */
	vm_replace_spec(vm, &d->spec);
	if (vm_commit(vm, err) != 0 || vm_open_hv(vm, err) != 0)
		return STEP_FAILED;
	if (vm->image_digest != NULL &&
	    image_get(op->vmmd->images, vm->image_digest, &image, err) != 0)
		return STEP_FAILED;
	if (image == NULL)
		base = (struct hv_image){ 0 };
	else
		base = (struct hv_image){ image->path, image->format, image->virtual_bytes,
			image->digest };
	vm->hv->ops->prepare(vm->hv, image != NULL ? &base : NULL, step_callback, op);
	return STEP_WAIT;
}

static void
disk_cancel(struct operation *op)
{
	struct hv_machine *hv = op->vm->hv;

	if (hv != NULL && hv->ops->cancel != NULL)
		hv->ops->cancel(hv);
}

static enum step_result
disk_undo(struct operation *op, struct err *err)
{
	if (op->vm->hv == NULL)
		return STEP_DONE;
	op->vm->hv->ops->unprepare(op->vm->hv, step_callback, op);
	return STEP_WAIT;
}

/* ---- step: done ---- */

static enum step_result
prepared_run(struct operation *op, struct err *err)
{
	struct vm *vm = op->vm;

	if (vm_event(vm, VM_EV_PREPARED, NULL, true, err) != 0)
		return STEP_FAILED;
	vm_write_copy(vm);
	op->result = vm_row_json(vm);
	return STEP_DONE;
}

static void
create_release(struct operation *op)
{
	struct create_data *d = op->data;

	if (d->fetch != NULL)
		image_fetch_forget(d->fetch);
	files_release_spec(&d->spec);
	fetch_auth_release(&d->auth);
	free(d->dir);
	free(d);
}

static const struct op_step steps[] = {
	{ "journal", journal_run, NULL, journal_undo },
	{ "files", files_run, files_cancel, NULL },
	{ "image", image_run, image_cancel, NULL },
	{ "cdrom", cdrom_run, image_cancel, NULL },
	{ "disk", disk_run, disk_cancel, disk_undo },
	{ "prepared", prepared_run, NULL, NULL },
};
const struct op_kind op_kind_create = { "vm.create", steps, ARRAY_LEN(steps), create_release, NULL };

int
ops_create(struct vmmd *vmmd, struct vm_spec *spec, const char *project,
    const struct fetch_auth *auth, const struct op_call *call, struct err *err)
{
	struct create_data *d;
	struct vm_spec shown;
	struct vm *vm;
	int rc;

	rc = ops_check_spec(vmmd, spec, err);
	if (rc == 0)
		rc = nics_check(vmmd, NULL, call->uid, spec, err);
	if (rc == 0)
		rc = private_check(vmmd, NULL, call->uid, project, spec, false, err);
	if (rc == 0) {
		vm_spec_copy(&shown, spec);
		rc = vm_create(vmmd, &shown, call->uid, project, &vm, err);
		vm_spec_release(&shown);
	}
	if (rc != 0) {
		files_release_spec(spec);
		return rc;
	}
	d = xcalloc(1, sizeof(*d));
	d->spec = *spec;
	memset(spec, 0, sizeof(*spec));
	if (auth != NULL)
		fetch_auth_copy(&d->auth, auth);
	rc = op_start(vmmd, &op_kind_create, vm, d, 0, call, NULL, err);
	if (rc != 0)
		vm_free(vm);
	return rc;
}
