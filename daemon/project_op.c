/* SPDX-License-Identifier: MPL-2.0
 *
 * up, reload and down as operations: what is checked, hashed and taken before any machine is
 * touched, and then the chains of project_run.c. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/ops.h"
#include "daemon/project.h"
#include "daemon/vm.h"
#include "daemon/vmmd.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/base/worker.h"
#include "lib/image/image.h"

static void
hash_job(struct job *job, void *data)
{
	struct project *p = data;

	project_hash(p, job, &p->job_err);
}

static void
hash_done(void *data)
{
	struct project *p = data;

	p->job = NULL;
	for (size_t i = 0; i < p->count; i++)
		p->members[i].busy = false;
	if (p->job_err.code != E_OK)
		op_step_failed(p->op, &p->job_err);
	else
		op_step_done(p->op);
}

void
project_known_images(struct project *p)
{
	for (size_t i = 0; i < p->count; i++) {
		struct member *m = &p->members[i];
		struct image_spec *ref = &m->spec.image;
		const struct image *image = NULL;

		m->busy = member_vm(m) != NULL; /* a machine to compare it with */
		if (ref->digest != NULL)
			continue;
		if (ref->file.kind == FILE_FD)
			image = image_find_file(p->vmmd->images, ref->file.fd);
		else if (ref->url != NULL)
			image = image_find(p->vmmd->images, ref->url);
		if (image != NULL)
			ref->digest = xstrdup(image->digest);
	}
}

static enum step_result
check_run(struct operation *op, struct err *err)
{
	struct project *p = op->data;

	p->op = op;
	project_known_images(p);
	if (worker_submit(p->vmmd->disk_pool, "hash", hash_job, hash_done, p, 0, &p->job, err) != 0)
		return STEP_FAILED;
	return STEP_WAIT;
}

static void
check_cancel(struct operation *op)
{
	struct project *p = op->data;

	if (p->job != NULL)
		job_cancel(p->job);
}

static void take_next_image(struct project *p);

static void
image_taken(void *arg, const struct image *image, const struct err *err)
{
	struct project *p = arg;

	p->import = NULL;
	if (err != NULL) {
		op_step_failed(p->op, err);
		return;
	}
	p->image_at++;
	take_next_image(p);
}

/* Before a reload destroys anything, every image that it needs is in the store. */
static void
take_next_image(struct project *p)
{
	for (; p->image_at < p->count; p->image_at++) {
		struct member *m = &p->members[p->image_at];
		struct image_spec *ref = &m->spec.image;
		struct err err = ERR_INIT;
		int fd;

		if (!m->selected || !ref->present)
			continue;
		if (ref->url != NULL && image_find(p->vmmd->images, ref->url) == NULL) {
			err_set(&err, E_NOT_FOUND, "machine '%s': there is no image '%s'", m->name,
			    ref->url);
			op_step_failed(p->op, &err);
			return;
		}
		if (ref->file.kind != FILE_FD)
			continue;
		fd = dup(ref->file.fd);
		if (fd < 0) {
			err_set(&err, E_LIMIT, "too many files are open");
			op_step_failed(p->op, &err);
			return;
		}
		p->import = image_import(p->vmmd->images, fd, image_spec_shown(ref), NULL, image_taken, p);
		return;
	}
	op_step_done(p->op);
}

static enum step_result
images_run(struct operation *op, struct err *err)
{
	struct project *p = op->data;

	if (p->verb == PROJECT_RELOAD) {
		take_next_image(p);
		return STEP_WAIT;
	}
	return STEP_DONE;
}

static void
images_cancel(struct operation *op)
{
	struct project *p = op->data;

	if (p->import != NULL)
		image_import_cancel(p->import);
}

static enum step_result
machines_run(struct operation *op, struct err *err)
{
	struct project *p = op->data;

	p->op = op;
	return project_run(p);
}

static void
machines_cancel(struct operation *op)
{
	project_cancel(op->data);
}

static void
project_release(struct operation *op)
{
	project_destroy(op->data);
}

static const struct op_step up_steps[] = {
	{ "check", check_run, check_cancel, NULL },
	{ "images", images_run, images_cancel, NULL },
	{ "machines", machines_run, machines_cancel, NULL },
};
static const struct op_step down_steps[] = {
	{ "machines", machines_run, machines_cancel, NULL },
};
const struct op_kind op_kind_up = { "file.up", up_steps, ARRAY_LEN(up_steps), project_release, NULL };
const struct op_kind op_kind_reload = { "file.reload", up_steps, ARRAY_LEN(up_steps),
	project_release, NULL };
const struct op_kind op_kind_down = { "file.down", down_steps, ARRAY_LEN(down_steps),
	project_release, NULL };
