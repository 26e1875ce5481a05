/* SPDX-License-Identifier: MPL-2.0 */
#include "daemon/image_work.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/config.h"
#include "daemon/op_image.h"
#include "daemon/vm.h"
#include "daemon/vmmd.h"
#include "lib/base/clock.h"
#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/base/worker.h"
#include "lib/image/take.h"

enum { TELL_MS = 200 };

/* ---- what is read ---- */

static void
hold(struct image_work *work, struct vmmd *vmmd, const struct image *image, const char *what)
{
	work->digest = xstrdup(image->digest);
	image_hold(vmmd->images, image->digest, what);
}

static void
unhold(struct image_work *work, struct vmmd *vmmd)
{
	if (work->digest != NULL)
		image_unhold(vmmd->images, work->digest);
	free(TAKE(work->digest));
}

static void
add_layer(struct image_work *work, char *path, const char *format)
{
	work->layers[work->layer_count++] = (struct disk_layer){ path, xstrdup(format) };
}

int
image_work_of_vm(struct image_work *work, struct vm *vm, struct err *err)
{
	const struct image *image = NULL;
	int rc = 0;

	if (vm_state_is_live(vm->state) || vm->state == VM_PREPARING) {
		err_set(err, E_STATE, "machine '%s' is %s", vm->spec.name, vm_state_names[vm->state]);
		err_hint(err, "stop it first: 'vmctl stop %s'", vm->spec.name);
		rc = E_STATE;
	} else if (vm_is_noop(vm) || vm->image_digest == NULL) {
		rc = err_set(err, E_UNSUPPORTED, "machine '%s' has no disk of an image", vm->spec.name);
	} else {
		rc = vm_needs(vm, HV_CAN_COMMIT, err);
	}
	if (rc != 0) {
		err_object(err, vm->spec.name);
		return rc;
	}
	rc = image_get(vm->vmmd->images, vm->image_digest, &image, err);
	if (rc != 0)
		return rc;
	add_layer(work, vm_path(vm, "disk.qcow2"), "qcow2");
	add_layer(work, xstrdup(image->path), image->format);
	work->format = xstrdup("qcow2");
	work->source = xasprintf("machine %s", vm->spec.name);
	hold(work, vm->vmmd, image, "is being copied with a machine's disk");
	return 0;
}

void
image_work_of_image(struct image_work *work, struct vmmd *vmmd, const struct image *image,
    const char *what)
{
	add_layer(work, xstrdup(image->path), image->format);
	work->format = xstrdup(image->format);
	hold(work, vmmd, image, what);
}

char *
image_work_path(struct vmmd *vmmd, const struct operation *op, const char *end)
{
	return xasprintf("%s/images/" TAKE_PREFIX "%s.%s", vmmd->config->data_dir, op->id, end);
}

/* ---- progress ---- */

static void
tell(void *arg)
{
	struct image_work *work = arg;

	op_progress(work->op, work->done_bytes, work->total_bytes, "bytes");
}

void
image_work_progress(void *arg, uint64_t done_bytes, uint64_t total_bytes)
{
	struct image_work *work = arg;
	uint64_t now = clock_ms();

	work->done_bytes = done_bytes;
	work->total_bytes = total_bytes;
	if (now - work->told_ms < TELL_MS)
		return;
	work->told_ms = now;
	job_post(work->running, tell, work);
}

/* ---- flatten ---- */

/* Cleaning wants a raw disk, which becomes what was asked for afterwards. */
static int
flatten_clean(struct image_work *work, const char *raw, struct job *job)
{
	const struct disk_layer layer = { raw, "raw" };
	int rc = disk_flatten(work->layers, work->layer_count, raw, "raw", false, image_work_progress,
	    work, job, &work->err);

	if (rc == 0)
		rc = disk_clean_identity(raw, &work->removed, job, &work->err);
	if (rc == 0 && str_eq(work->format, "raw")) {
		if (rename(raw, work->file) == 0)
			return 0;
		rc = err_errno(&work->err, E_IO, errno, "can not write '%s'", work->file);
	} else if (rc == 0) {
		rc = disk_flatten(&layer, 1, work->file, work->format, true, image_work_progress, work, job,
		    &work->err);
	}
	unlink(raw);
	return rc;
}

static void
flatten_job(struct job *job, void *data)
{
	struct image_work *work = data;
	CLEANUP_FREE char *raw = xasprintf("%s.raw", work->file);

	work->running = job;
	if (work->clean)
		flatten_clean(work, raw, job);
	else
		disk_flatten(work->layers, work->layer_count, work->file, work->format,
		    str_eq(work->format, "qcow2"), image_work_progress, work, job, &work->err);
}

static void
flatten_done(void *data)
{
	struct image_work *work = data;

	work->job = NULL;
	if (work->err.code != E_OK)
		op_step_failed(work->op, &work->err);
	else
		op_step_done(work->op);
}

enum step_result
image_work_flatten_run(struct operation *op, struct err *err)
{
	struct image_work *work = op->data;

	work->op = op;
	work->file = image_work_path(op->vmmd, op, work->format);
	if (worker_submit(op->vmmd->disk_pool, "flatten", flatten_job, flatten_done, work, 0, &work->job,
		err) != 0)
		return STEP_FAILED;
	return STEP_WAIT;
}

/* ---- import ---- */

static void
imported(void *arg, const struct image *image, const struct err *err)
{
	struct image_work *work = arg;
	struct err own;

	work->import = NULL;
	/* What a guest wrote at the start of its disk may look like anything. */
	if (err == NULL && !str_eq(image->format, work->format)) {
		err_set(&own, E_IMAGE, "the disk of '%s' looks like %s as a %s image", work->source,
		    image->format, work->format);
		err_hint(&own, "leave 'format' out");
		err = &own;
	}
	if (err != NULL) {
		op_step_failed(work->op, err);
		return;
	}
	unhold(work, work->op->vmmd);
	hold(work, work->op->vmmd, image, "is being used");
	op_step_done(work->op);
}

static void
import_progress(void *arg, uint64_t done_bytes, uint64_t total_bytes)
{
	struct image_work *work = arg;

	op_progress(work->op, done_bytes, total_bytes, "bytes");
}

enum step_result
image_work_import_run(struct operation *op, struct err *err)
{
	struct image_work *work = op->data;

	work->import = image_import_scratch(op->vmmd->images, work->file, work->source,
	    import_progress, imported, work);
	return STEP_WAIT;
}

void
image_work_cancel(struct operation *op)
{
	struct image_work *work = op->data;

	if (work->job != NULL)
		job_cancel(work->job);
	if (work->import != NULL)
		image_import_cancel(work->import);
}

void
image_work_done(struct image_work *work, struct vmmd *vmmd)
{
	if (work->import != NULL)
		image_import_forget(work->import);
	if (work->file != NULL)
		unlink(work->file);
	unhold(work, vmmd);
	for (size_t i = 0; i < work->layer_count; i++) {
		free((char *)(uintptr_t)work->layers[i].path);
		free((char *)(uintptr_t)work->layers[i].format);
	}
	free(work->format);
	free(work->source);
	free(work->file);
	free(work->removed);
}
