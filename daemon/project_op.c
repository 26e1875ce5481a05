/* SPDX-License-Identifier: MPL-2.0
 *
 * up, reload and down as operations: what is checked, hashed and taken before any machine is
 * touched, and then the chains of project_run.c. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/op_image.h"
#include "daemon/ops.h"
#include "daemon/project.h"
#include "daemon/spec_diff.h"
#include "daemon/vm.h"
#include "daemon/vmmd.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/base/worker.h"
#include "lib/image/fetch.h"
#include "lib/image/names.h"

static void
hash_job(struct job *job, void *data)
{
	struct project *p = data;

	project_hash(p, job, &p->job_err);
}

/* is: of the machine that there is, NULL: none. */
static void
known_image(struct project *p, struct image_spec *ref, const struct image_spec *is)
{
	const struct image *image;

	if (!ref->present || ref->digest != NULL || (is != NULL && spec_same_image_words(is, ref)))
		return;
	image = image_known(p->vmmd->images, ref, p->uid);
	if (image != NULL)
		ref->digest = xstrdup(image->digest);
}

void
project_known_images(struct project *p)
{
	for (size_t i = 0; i < p->count; i++) {
		struct member *m = &p->members[i];
		const struct vm *vm = member_vm(m);

		m->busy = vm != NULL; /* a machine to compare it with */
		known_image(p, &m->spec.image, vm != NULL ? &vm->spec.image : NULL);
		known_image(p, &m->spec.cdrom, vm != NULL ? &vm->spec.cdrom : NULL);
	}
}

void
project_packed_images(struct project *p)
{
	for (size_t i = 0; i < p->count; i++) {
		struct image_spec *ref = &p->members[i].spec.image;
		const struct image_name *name;

		if (ref->file.kind != FILE_FD || ref->digest == NULL || !disk_is_packed(ref->file.fd) ||
		    image_find(p->vmmd->images, ref->digest) != NULL)
			continue;
		name = names_find_body(p->vmmd->images, ref->digest);
		free(TAKE(ref->digest)); /* the file's, which is not an image's */
		ref->digest = name != NULL ? xstrdup(name->digest) : NULL;
	}
}

static void
hash_done(void *data)
{
	struct project *p = data;

	p->job = NULL;
	for (size_t i = 0; i < p->count; i++)
		p->members[i].busy = false;
	project_packed_images(p);
	if (p->job_err.code != E_OK)
		op_step_failed(p->op, &p->job_err);
	else
		op_step_done(p->op);
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

static struct image_spec *
image_at(struct project *p)
{
	struct vm_spec *spec = &p->members[p->image_at / MEMBER_IMAGES].spec;

	return p->image_at % MEMBER_IMAGES == 0 ? &spec->image : &spec->cdrom;
}

static void
image_got(void *arg, const struct image_got *got, const struct err *err)
{
	struct project *p = arg;
	struct member *m = &p->members[p->image_at / MEMBER_IMAGES];
	struct image_spec *ref = image_at(p);
	char **held = &m->held[p->image_at % MEMBER_IMAGES];

	p->fetch = NULL;
	if (err != NULL) {
		struct err own = *err;

		err_wrap(&own, "machine '%s'", m->name);
		op_step_failed(p->op, &own);
		return;
	}
	if (got->note != NULL)
		op_note(p->op, "%s", got->note);
	/* The machine is made of this very image, whatever moves meanwhile. */
	vm_set_string(&ref->digest, got->image->digest);
	if (got->source != NULL)
		vm_set_string(&ref->source, got->source);
	/* Once the old machine is gone, nothing else keeps it. */
	*held = xstrdup(got->image->digest);
	image_hold(p->vmmd->images, *held, "is needed by a reload");
	p->image_at++;
	take_next_image(p);
}

static void
image_progress(void *arg, const struct image_progress *progress)
{
	struct project *p = arg;

	op_image_progress(p->op, progress);
}

/* Before a reload destroys anything, every image that it needs is in the store. */
static void
take_next_image(struct project *p)
{
	for (; p->image_at < p->count * MEMBER_IMAGES; p->image_at++) {
		struct image_spec ref = *image_at(p);
		struct image_want want = { &ref, &p->auth, p->uid, IMAGE_REVALIDATE };
		struct err err = ERR_INIT;

		if (!p->members[p->image_at / MEMBER_IMAGES].selected || !ref.present)
			continue;
		/* The machine takes the descriptor when it is made. */
		if (ref.file.kind == FILE_FD) {
			ref.file.fd = fcntl(ref.file.fd, F_DUPFD_CLOEXEC, 3);
			if (ref.file.fd < 0) {
				err_set(&err, E_LIMIT, "too many files are open");
				op_step_failed(p->op, &err);
				return;
			}
		}
		p->fetch = image_fetch(p->vmmd->images, &want, image_progress, image_got, p);
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

	if (p->fetch != NULL)
		image_fetch_cancel(p->fetch);
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
