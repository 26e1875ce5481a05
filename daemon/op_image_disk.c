/* SPDX-License-Identifier: MPL-2.0
 *
 * The operations that make something of an image or a disk: commit, export, verify. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/image_access.h"
#include "daemon/image_work.h"
#include "daemon/op_image.h"
#include "daemon/vm.h"
#include "daemon/vmmd.h"
#include "lib/base/fs.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/base/worker.h"
#include "lib/image/reference.h"

static int
check_format(const char *format, struct err *err)
{
	if (format == NULL || str_eq(format, "qcow2") || str_eq(format, "raw"))
		return 0;
	err_set(err, E_PARAMS, "format: is neither qcow2 nor raw");
	err_object(err, "format");
	return E_PARAMS;
}

/* ---- commit ---- */

struct commit {
	struct image_work work;
	char *name;
};

static json_object *
lines_of(const char *text)
{
	json_object *list = json_object_new_array();

	while (text != NULL && *text != '\0') {
		size_t len = strcspn(text, "\n");

		if (len > 0)
			json_object_array_add(list, json_object_new_string_len(text, (int)len));
		text += len + (text[len] != '\0');
	}
	return list;
}

static enum step_result
commit_name_run(struct operation *op, struct err *err)
{
	struct commit *c = op->data;
	const struct image *image;

	if (image_get(op->vmmd->images, c->work.digest, &image, err) != 0 ||
	    op_image_name(op->vmmd, op->uid, c->name, image, err) != 0)
		return STEP_FAILED;
	op->result = json_object_new_object();
	json_object_object_add(op->result, "image", image_row(op->vmmd, image, op->uid));
	json_object_object_add(op->result, "removed", lines_of(c->work.removed));
	return STEP_DONE;
}

static void
commit_release(struct operation *op)
{
	struct commit *c = op->data;

	image_work_done(&c->work, op->vmmd);
	free(c->name);
	free(c);
}

static const struct op_step commit_steps[] = {
	{ "flatten", image_work_flatten_run, image_work_cancel, NULL },
	{ "import", image_work_import_run, image_work_cancel, NULL },
	{ "name", commit_name_run, NULL, NULL },
};
static const struct op_kind op_kind_commit = { "image.commit", commit_steps, ARRAY_LEN(commit_steps),
	commit_release, NULL };

int
op_image_commit(struct vm *vm, const char *name, const char *format, bool clean,
    const struct op_call *call, struct err *err)
{
	struct vmmd *vmmd = vm->vmmd;
	struct commit *c;
	int rc = image_name_check(name, err);

	if (rc == 0)
		rc = check_format(format, err);
	if (rc != 0)
		return rc;
	c = xcalloc(1, sizeof(*c));
	rc = image_work_of_vm(&c->work, vm, err);
	if (rc != 0) {
		image_work_done(&c->work, vmmd);
		free(c);
		return rc;
	}
	if (format != NULL)
		vm_set_string(&c->work.format, format);
	c->work.clean = clean;
	c->name = xstrdup(name);
	return op_start(vmmd, &op_kind_commit, vm, c, 0, call, NULL, err);
}

/* ---- export ---- */

struct export {
	struct image_work work;
	int fd;
	bool convert;
	char *image_digest;
	uint64_t bytes;
};

static void
export_job(struct job *job, void *data)
{
	struct export *e = data;
	struct image_work *work = &e->work;
	const char *from = work->layers[0].path;
	CLEANUP_FD int fd = -1;
	struct stat st;

	work->running = job;
	if (e->convert) {
		if (disk_flatten(work->layers, 1, work->file, work->format, false, image_work_progress,
			work, job, &work->err) != 0)
			return;
		from = work->file;
	}
	fd = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd < 0) {
		err_errno(&work->err, E_IO, errno, "can not read '%s'", from);
		return;
	}
	if (fs_copy_into(fd, from, e->fd, "the file", job, &work->err) == 0 && fstat(e->fd, &st) == 0)
		e->bytes = (uint64_t)st.st_size;
	/* Half an image is none. */
	if (work->err.code != E_OK && ftruncate(e->fd, 0) < 0)
		err_wrap(&work->err, "a part of the image is left in the file");
}

static void
export_done(void *data)
{
	struct export *e = data;
	struct operation *op = e->work.op;

	e->work.job = NULL;
	if (e->work.err.code != E_OK) {
		op_step_failed(op, &e->work.err);
		return;
	}
	op->result = json_object_new_object();
	json_add_string(op->result, "digest", e->work.digest);
	json_add_string(op->result, "format", e->work.format);
	json_add_int(op->result, "bytes", (int64_t)e->bytes);
	op_step_done(op);
}

static enum step_result
export_run(struct operation *op, struct err *err)
{
	struct export *e = op->data;

	e->work.op = op;
	if (e->convert)
		e->work.file = image_work_path(op->vmmd, op, e->work.format);
	if (worker_submit(op->vmmd->disk_pool, "export", export_job, export_done, e, 0, &e->work.job,
		err) != 0)
		return STEP_FAILED;
	return STEP_WAIT;
}

static void
export_release(struct operation *op)
{
	struct export *e = op->data;

	image_work_done(&e->work, op->vmmd);
	close(e->fd);
	free(e);
}

static const struct op_step export_steps[] = { { "export", export_run, image_work_cancel, NULL } };
static const struct op_kind op_kind_export = { "image.export", export_steps, 1, export_release, NULL };

static int
check_target(int fd, struct err *err)
{
	int flags = fcntl(fd, F_GETFL);
	struct stat st;

	if (flags < 0 || (flags & O_ACCMODE) != O_RDWR || (flags & O_APPEND) != 0)
		err_set(err, E_PARAMS, "file: is not open for reading and writing");
	else if (fstat(fd, &st) < 0 || st.st_size != 0)
		err_set(err, E_PARAMS, "file: is not empty");
	else
		return 0;
	err_object(err, "file");
	return E_PARAMS;
}

int
op_image_export(struct vmmd *vmmd, const struct image *image, const char *format,
    struct file_ref *file, const struct op_call *call, struct err *err)
{
	struct export *e;
	int rc = check_format(format, err);

	if (rc == 0)
		rc = check_target(file->fd, err);
	if (rc != 0)
		return rc;
	e = xcalloc(1, sizeof(*e));
	image_work_of_image(&e->work, vmmd, image, "is being exported");
	if (format != NULL)
		vm_set_string(&e->work.format, format);
	e->convert = !str_eq(e->work.format, image->format);
	e->fd = file->fd;
	file->kind = FILE_NONE;
	return op_start(vmmd, &op_kind_export, NULL, e, 0, call, NULL, err);
}

/* ---- verify ---- */

struct verify {
	struct image_work work; /* of the image at hand */
	struct strings digests;
	size_t at;
	bool was_damaged; /* the one at hand, before */
	json_object *rows;
	struct err first; /* what is wrong with the first bad one */
};

static enum step_result verify_next(struct operation *op, struct err *err);

static void
verify_job(struct job *job, void *data)
{
	struct verify *v = data;

	v->work.running = job;
	disk_verify(v->work.layers[0].path, v->work.layers[0].format, v->work.digest,
	    image_work_progress, &v->work, job, &v->work.err);
}

static void
add_verdict(struct verify *v, const char *digest, const char *name, const struct err *err)
{
	json_object *row = json_object_new_object();

	json_add_string(row, "digest", digest);
	json_add_string(row, "name", name);
	json_add_bool(row, "ok", err == NULL);
	json_add_string(row, "message", err != NULL ? err->msg : NULL);
	json_object_array_add(v->rows, row);
	if (err != NULL && v->first.code == E_OK)
		v->first = *err;
}

static void
verify_done(void *data)
{
	struct verify *v = data;
	struct operation *op = v->work.op;
	struct err err = v->work.err, own = ERR_INIT;
	const struct image *image = NULL;
	enum step_result result;

	v->work.job = NULL;
	if (err.code == E_CANCELLED || err.code == E_TIMEOUT) {
		op_step_failed(op, &err);
		return;
	}
	image_set_damaged(op->vmmd->images, v->work.digest,
	    err.code == E_IMAGE || (err.code != E_OK && v->was_damaged));
	image_get(op->vmmd->images, v->work.digest, &image, NULL);
	add_verdict(v, v->work.digest, image != NULL ? image->name : NULL,
	    err.code != E_OK ? &err : NULL);
	image_work_done(&v->work, op->vmmd);
	memset(&v->work, 0, sizeof(v->work));
	result = verify_next(op, &own);
	if (result == STEP_FAILED)
		op_step_failed(op, &own);
	else if (result == STEP_DONE)
		op_step_done(op);
}

/* The next image that is there; those whose file is gone are told on the way. */
static enum step_result
verify_next(struct operation *op, struct err *err)
{
	struct verify *v = op->data;

	while (v->at < v->digests.count) {
		const char *digest = v->digests.items[v->at++];
		const struct image *image = NULL;
		struct err own = ERR_INIT;

		if (image_get(op->vmmd->images, digest, &image, &own) != 0 &&
		    (image == NULL || !image->damaged)) {
			if (image != NULL)
				add_verdict(v, digest, image->name, &own);
			continue;
		}
		/* It is looked at anew, and stays what it was for others until that has ended. */
		v->was_damaged = image->damaged;
		image_work_of_image(&v->work, op->vmmd, image, "is being verified");
		v->work.op = op;
		if (worker_submit(op->vmmd->disk_pool, "verify", verify_job, verify_done, v, 0,
			&v->work.job, err) != 0)
			return STEP_FAILED;
		return STEP_WAIT;
	}
	op->result = json_object_new_object();
	json_object_object_add(op->result, "images", json_object_get(v->rows));
	if (v->first.code == E_OK)
		return STEP_DONE;
	*err = v->first;
	return STEP_FAILED;
}

static void
verify_release(struct operation *op)
{
	struct verify *v = op->data;

	image_work_done(&v->work, op->vmmd);
	for (size_t i = 0; i < v->digests.count; i++)
		free(v->digests.items[i]);
	free(v->digests.items);
	json_object_put(v->rows);
	free(v);
}

static const struct op_step verify_steps[] = { { "verify", verify_next, image_work_cancel, NULL } };
static const struct op_kind op_kind_verify = { "image.verify", verify_steps, 1, verify_release, NULL };

struct collection {
	struct vmmd *vmmd;
	struct verify *v;
	uid_t uid;
	bool all;
};

static void
collect(void *arg, const struct image *image)
{
	struct collection *c = arg;
	struct strings *digests = &c->v->digests;

	if (c->all && !image_visible(c->vmmd, image, c->uid))
		return;
	digests->items = xreallocarray(digests->items, digests->count + 1, sizeof(char *));
	digests->items[digests->count++] = xstrdup(image->digest);
}

int
op_image_verify(struct vmmd *vmmd, const struct image *image, const struct op_call *call,
    struct err *err)
{
	struct verify *v = xcalloc(1, sizeof(*v));
	struct collection c = { vmmd, v, call->uid, image == NULL };

	v->rows = json_object_new_array();
	if (image != NULL)
		collect(&c, image);
	else
		image_each(vmmd->images, collect, &c);
	return op_start(vmmd, &op_kind_verify, NULL, v, 0, call, NULL, err);
}
