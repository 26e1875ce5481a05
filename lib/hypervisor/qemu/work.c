/* SPDX-License-Identifier: MPL-2.0
 *
 * What a machine's disk needs of the workers.  A job has copies of everything; when its machine is
 * closed meanwhile, it ends without a taker. */
#include <stdlib.h>

#include "lib/base/mem.h"
#include "lib/base/worker.h"
#include "lib/hypervisor/qemu/machine.h"

enum { PREPARE_MS = 120000 };

struct hv_job {
	struct hv_op *op; /* NULL: nobody waits any more */
	struct job *job;
	char *dir, *run_dir;
	bool remove; /* instead of making */
	char *image_path, *image_format; /* NULL: an empty disk */
	const char *const *folders; /* of firmware; borrowed */
	const struct qemu_arch *arch;
	bool uefi, secure_boot;
	uint64_t image_bytes, disk_bytes;
	struct err err;
	int rc;
};

/* Chosen once, for the life of the disk. */
static int
prepare_firmware(struct hv_job *work)
{
	struct qemu_firmware firmware = { 0 };
	int rc = firmware_find(work->folders, work->arch, work->secure_boot, &firmware, &work->err);

	if (rc == 0)
		rc = firmware_keep(work->dir, &firmware, &work->err);
	firmware_done(&firmware);
	return rc;
}

int
qemu_firmware_record(const struct hypervisor *hv, int arch, const char *dir, const char *vars,
    bool *ret_kept, struct err *err)
{
	const struct qemu *qemu = (const struct qemu *)hv;
	struct qemu_firmware firmware = { 0 };
	int rc = firmware_find((const char *const *)qemu->firmware_folders,
	    qemu_arch_get(arch), false, &firmware, err);

	if (rc == 0) {
		*ret_kept = firmware_use_vars(&firmware, vars);
		rc = firmware_keep(dir, &firmware, err);
	}
	firmware_done(&firmware);
	return rc;
}

static void
run(struct job *job, void *data)
{
	struct hv_job *work = data;
	struct hv_image image = { work->image_path, work->image_format, work->image_bytes };

	if (work->remove) {
		work->rc = qemu_disk_unprepare(work->dir, work->run_dir, &work->err);
		return;
	}
	work->rc = work->uefi ? prepare_firmware(work) : 0;
	if (work->rc == 0)
		work->rc = qemu_disk_prepare(work->dir, image.path != NULL ? &image : NULL,
		    work->disk_bytes, job, &work->err);
}

static void
done(void *data)
{
	struct hv_job *work = data;
	struct hv_op *op = work->op;

	if (op != NULL) {
		struct machine *m = op->machine;

		machine_enter(m);
		op->job = NULL;
		op_finish(op, work->rc == 0 ? NULL : &work->err);
		machine_leave(m);
	}
	free(work->dir);
	free(work->run_dir);
	free(work->image_path);
	free(work->image_format);
	free(work);
}

static void
submit(struct machine *m, struct hv_job *work, const char *name, hv_done_fn *fn, void *arg)
{
	struct hv_op *op = op_create(m, fn, arg);
	struct err err = ERR_INIT;

	work->op = op;
	op->job = work;
	work->dir = xstrdup(m->config->dir);
	work->run_dir = xstrdup(m->config->run_dir);
	/* A job that never ran was cancelled. */
	work->rc = err_set(&work->err, E_CANCELLED, "the work on the disk was stopped");
	if (worker_submit(m->hv->base.env->pool, name, run, done, work, PREPARE_MS, &work->job,
		&err) == 0)
		return;
	op->job = NULL;
	work->op = NULL;
	op_finish_soon(op, &err);
	done(work);
}

void
qemu_op_prepare(struct hv_machine *base, const struct hv_image *image, hv_done_fn *fn, void *arg)
{
	struct machine *m = (struct machine *)base;
	const struct vm_spec *spec = m->config->spec;
	struct hv_job *work = xcalloc(1, sizeof(*work));

	if (image != NULL) {
		work->image_path = xstrdup(image->path);
		work->image_format = xstrdup(image->format);
		work->image_bytes = image->virtual_bytes;
	}
	work->disk_bytes = spec->disk_bytes;
	work->folders = (const char *const *)m->hv->firmware_folders;
	work->arch = qemu_arch_get(spec->arch);
	work->uefi = spec->firmware.type == FIRMWARE_UEFI;
	work->secure_boot = spec->firmware.secure_boot;
	submit(m, work, "prepare", fn, arg);
}

void
qemu_op_unprepare(struct hv_machine *base, hv_done_fn *fn, void *arg)
{
	struct machine *m = (struct machine *)base;
	struct hv_job *work;
	struct err err = ERR_INIT;

	if (m->phase != PHASE_IDLE) {
		err_set(&err, E_STATE, "the machine still runs; its disk can not be removed");
		op_finish_soon(op_create(m, fn, arg), &err);
		return;
	}
	work = xcalloc(1, sizeof(*work));
	work->remove = true;
	submit(m, work, "unprepare", fn, arg);
}

void
work_abandon(struct hv_op *op)
{
	if (op->job == NULL)
		return;
	op->job->op = NULL;
	job_cancel(op->job->job);
	op->job = NULL;
}
