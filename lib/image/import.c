/* SPDX-License-Identifier: MPL-2.0
 *
 * The loop's half of imports.  Everybody who wants the same file, unchanged, waits for one piece
 * of work; whoever is done, or cancelled, goes to the list `settled`, and a timer calls them back,
 * so that no callback ever runs inside of a call into here. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/base/worker.h"
#include "lib/image/images.h"
#include "lib/image/take.h"

struct image_import {
	TAILQ_ENTRY(image_import) link;
	struct image_store *images;
	struct work *work; /* NULL once settled */
	image_progress_fn *progress;
	image_done_fn *done;
	void *arg;
	struct err err;
	char *digest; /* NULL when it failed */
};

struct work {
	TAILQ_ENTRY(work) link;
	struct take take; /* the worker's, until done */
	struct image_store *images; /* NULL: closed meanwhile */
	struct import_list waiters;
	struct job *job;
	char *key;
	bool cancelled; /* nobody waits; not to be joined */
};

static void
settle(struct image_import *import, const char *digest, const struct err *err)
{
	struct image_store *images = import->images;

	if (import->work != NULL)
		TAILQ_REMOVE(&import->work->waiters, import, link);
	import->work = NULL;
	import->digest = xstrdup(digest);
	if (err != NULL)
		import->err = *err;
	TAILQ_INSERT_TAIL(&images->settled, import, link);
	timer_arm(images->settle, 0);
}

static void
call_back(struct image_import *import)
{
	struct entry *entry = NULL;

	if (import->digest != NULL) {
		entry = images_by_digest(import->images, import->digest);
		if (entry == NULL)
			err_set(&import->err, E_NOT_FOUND, "the image was removed meanwhile");
	}
	if (import->done != NULL)
		import->done(import->arg, entry != NULL ? &entry->image : NULL,
		    entry != NULL ? NULL : &import->err);
	free(import->digest);
	free(import);
}

static void
on_settled(void *arg)
{
	struct image_store *images = arg;
	struct image_import *import;

	while ((import = TAILQ_FIRST(&images->settled)) != NULL) {
		TAILQ_REMOVE(&images->settled, import, link);
		call_back(import);
	}
}

/* ---- the work ---- */

static void
on_progress(void *arg)
{
	struct work *work = arg;
	struct image_import *import = TAILQ_FIRST(&work->waiters), *next;

	for (; import != NULL; import = next) {
		next = TAILQ_NEXT(import, link);
		if (import->progress != NULL)
			import->progress(import->arg, work->take.done_bytes, work->take.total_bytes);
	}
}

static void
post_progress(struct take *take, struct job *job)
{
	job_post(job, on_progress, (char *)take - offsetof(struct work, take));
}

static void
work_run(struct job *job, void *data)
{
	struct work *work = data;

	take_run(&work->take, job);
}

/* The copy gets its name and its row in one turn of the loop, and only when somebody waits for it:
 * whatever was removed or taken meanwhile, a row has its file, and a file its row. */
static int
keep(struct work *work, struct err *err)
{
	struct image_store *images = work->images;
	struct take *take = &work->take;
	CLEANUP_FREE char *path = xasprintf("%s/" IMAGE_PREFIX "%s", take->dir, take->hex);
	bool ours = !fs_exists(path);
	int rc = images_place(images, take->tmp, take->hex, take->file_bytes, take->damaged, err);

	if (rc == 0)
		rc = images_add(images, take, take->settled ? work->key : NULL, err);
	if (rc != 0 && ours)
		unlink(path);
	return rc;
}

static void
work_done(void *data)
{
	struct work *work = data;
	struct image_store *images = work->images;
	CLEANUP_FREE char *digest = NULL;
	struct image_import *import;
	struct err err = work->take.err;

	if (images != NULL)
		TAILQ_REMOVE(&images->works, work, link);
	if (images != NULL && err.code == E_OK && !TAILQ_EMPTY(&work->waiters)) {
		digest = xasprintf("sha256:%s", work->take.hex);
		keep(work, &err);
	}
	while ((import = TAILQ_FIRST(&work->waiters)) != NULL)
		settle(import, err.code == E_OK ? digest : NULL, &err);
	take_release(&work->take);
	free(work->key);
	free(work);
}

/* fd, key: taken.  tmp: the scratch file instead of those, copied. */
static struct work *
start_work(struct image_store *images, int fd, const char *name, char *key, const char *tmp,
    struct err *err)
{
	struct work *work = xcalloc(1, sizeof(*work));

	work->images = images;
	work->key = key;
	work->take.fd = fd;
	work->take.tmp = xstrdup(tmp);
	work->take.name = xstrdup(name);
	work->take.dir = xstrdup(images->dir);
	work->take.progress = post_progress;
	TAILQ_INIT(&work->waiters);
	err_set(&work->take.err, E_CANCELLED, "taking '%s' was stopped", name);
	if (worker_submit(images->pool, "image", work_run, work_done, work, 0, &work->job, err) != 0) {
		take_release(&work->take);
		free(work->key);
		free(work);
		return NULL;
	}
	TAILQ_INSERT_TAIL(&images->works, work, link);
	return work;
}

static struct work *
find_work(struct image_store *images, const char *key)
{
	struct work *work;

	TAILQ_FOREACH(work, &images->works, link) {
		if (!work->cancelled && str_eq(work->key, key))
			return work;
	}
	return NULL;
}

static struct image_import *
import_create(struct image_store *images, image_progress_fn *progress, image_done_fn *done,
    void *arg)
{
	struct image_import *import = xcalloc(1, sizeof(*import));

	loop_assert(images->loop);
	import->images = images;
	import->progress = progress;
	import->done = done;
	import->arg = arg;
	return import;
}

/* work NULL: it ends with the digest, or else with the error. */
static void
wait_for(struct image_import *import, struct work *work, const char *digest, const struct err *err)
{
	import->work = work;
	if (work != NULL)
		TAILQ_INSERT_TAIL(&work->waiters, import, link);
	else
		settle(import, digest, err);
}

struct image_import *
image_import(struct image_store *images, int fd, const char *name, image_progress_fn *progress,
    image_done_fn *done, void *arg)
{
	struct image_import *import = import_create(images, progress, done, arg);
	CLEANUP_FREE char *key = NULL;
	const struct image *known = NULL;
	CLEANUP_FD int file = fd;
	struct work *work = NULL;
	struct err err = ERR_INIT;

	if (take_key(file, name, &key, &err) == 0)
		known = images_by_key(images, key);
	if (known == NULL && err.code == E_OK) {
		work = find_work(images, key);
		if (work == NULL)
			work = start_work(images, TAKE_FD(file), name, TAKE(key), NULL, &err);
	}
	wait_for(import, work, known != NULL ? known->digest : NULL, &err);
	return import;
}

char *
image_scratch(struct image_store *images)
{
	loop_assert(images->loop);
	return xasprintf("%s/" TAKE_PREFIX "work-%u", images->dir, images->scratch_count++);
}

struct image_import *
image_import_scratch(struct image_store *images, const char *path, const char *name,
    image_progress_fn *progress, image_done_fn *done, void *arg)
{
	struct image_import *import = import_create(images, progress, done, arg);
	struct err err = ERR_INIT;

	wait_for(import, start_work(images, -1, name, NULL, path, &err), NULL, &err);
	return import;
}

void
image_import_cancel(struct image_import *import)
{
	struct work *work = import->work;
	struct err err;

	loop_assert(import->images->loop);
	if (work == NULL)
		return;
	err_set(&err, E_CANCELLED, "taking '%s' was cancelled", work->take.name);
	settle(import, NULL, &err);
	if (TAILQ_EMPTY(&work->waiters)) {
		work->cancelled = true;
		job_cancel(work->job);
	}
}

void
image_import_forget(struct image_import *import)
{
	import->done = NULL;
	import->progress = NULL;
}

void
imports_open(struct image_store *images)
{
	TAILQ_INIT(&images->works);
	TAILQ_INIT(&images->settled);
	images->settle = timer_create_on(images->loop, on_settled, images);
}

void
imports_close(struct image_store *images)
{
	struct image_import *import;
	struct work *work;
	struct err err;

	err_set(&err, E_SHUTDOWN, "vmmd is going down");
	while ((work = TAILQ_FIRST(&images->works)) != NULL) {
		while ((import = TAILQ_FIRST(&work->waiters)) != NULL)
			settle(import, NULL, &err);
		TAILQ_REMOVE(&images->works, work, link);
		work->images = NULL;
		job_cancel(work->job);
	}
	on_settled(images);
	timer_destroy(images->settle);
}
