/* SPDX-License-Identifier: MPL-2.0
 *
 * A want that came with its file: imported, and then it is what it must be or it is refused. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/digest.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/base/worker.h"
#include "lib/image/fetches.h"
#include "lib/image/take.h"

enum { CHUNK = 1 << 20 };

struct check { /* an image's SHA-512, which the store has no use for */
	LIST_ENTRY(check) link;
	struct image_fetch *fetch; /* NULL: nobody waits any more */
	struct job *job;
	/* The worker's until done. */
	char *path, *want;
	struct err err;
};

static void
settle_imported(struct image_fetch *f, const char *digest, const char *body_digest,
    const struct err *failure)
{
	const struct image *image = failure == NULL ? fetch_stored(f->images, digest) : NULL;
	struct err err = ERR_INIT;

	if (failure != NULL)
		err = *failure;
	else if (image == NULL)
		err_set(&err, E_NOT_FOUND, "the image was removed meanwhile");
	else if (names_claim(f->images, f->uid, image->digest, body_digest, &err) == 0)
		f->is_known = image->created_ms < f->began_ms;
	fetch_settle(f, digest, err.code != E_OK ? &err : NULL);
}

/* ---- another digest ---- */

static void
check_run(struct job *job, void *data)
{
	struct check *check = data;
	CLEANUP_FD int fd = open(check->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	CLEANUP_FREE char *chunk = xmalloc(CHUNK), *hex = NULL;
	struct digest *digest = digest_create_sha512();
	ssize_t n = fd;

	while (n >= 0 && !job_cancelled(job)) {
		n = read(fd, chunk, CHUNK);
		if (n == 0)
			break;
		if (n > 0)
			digest_add(digest, chunk, (size_t)n);
		else if (errno == EINTR)
			n = 0;
	}
	hex = digest_finish(digest);
	if (n < 0) {
		err_errno(&check->err, E_IO, errno, "can not read '%s'", check->path);
	} else if (job_cancelled(job)) {
		err_set(&check->err, E_CANCELLED, "checking the image was stopped");
	} else if (!str_eq(hex, check->want)) {
		err_set(&check->err, E_IMAGE,
		    "it is not the image that was meant: its sha512 is %s, and not %s", hex, check->want);
	}
}

static void
check_done(void *data)
{
	struct check *check = data;
	struct image_fetch *f = check->fetch;

	if (f != NULL) {
		LIST_REMOVE(check, link);
		f->check = NULL;
		settle_imported(f, f->known, NULL, check->err.code != E_OK ? &check->err : NULL);
	}
	free(check->path);
	free(check->want);
	free(check);
}

/* While it is looked at, it is held. */
static int
begin_check(struct image_fetch *f, const struct image *image, struct err *err)
{
	struct check *check = xcalloc(1, sizeof(*check));
	int rc;

	check->path = xstrdup(image->path);
	check->want = xstrdup(f->spec.sha512);
	rc = worker_submit(f->images->pool, "image-check", check_run, check_done, check, 0, &check->job,
	    err);
	if (rc != 0) {
		free(check->path);
		free(check->want);
		free(check);
		return rc;
	}
	check->fetch = f;
	f->check = check;
	f->known = xstrdup(image->digest);
	image_hold(f->images, f->known, "is being checked");
	LIST_INSERT_HEAD(&f->images->fetches->checks, check, link);
	fetch_tell(f, "check", 0, image->file_bytes, 0, NULL);
	return 0;
}

void
fetch_file_stop(struct image_fetch *f)
{
	struct check *check = TAKE(f->check);

	if (check == NULL)
		return;
	LIST_REMOVE(check, link);
	check->fetch = NULL;
	job_cancel(check->job);
}

void
file_fetches_close(struct image_store *images)
{
	struct check *check;
	struct err err = ERR_INIT;

	err_set(&err, E_SHUTDOWN, "vmmd is going down");
	while ((check = LIST_FIRST(&images->fetches->checks)) != NULL) {
		struct image_fetch *f = check->fetch;

		fetch_file_stop(f);
		fetch_settle(f, NULL, &err);
	}
}

/* ---- the import ---- */

static void
on_progress(void *arg, uint64_t done, uint64_t total)
{
	fetch_tell(arg, "import", done, total, 0, NULL);
}

static void
on_imported(void *arg, const struct image *image, const struct err *err)
{
	struct image_fetch *f = arg;
	struct err own = ERR_INIT;

	f->import = NULL;
	if (err == NULL && f->spec.sha256 != NULL && !fetch_digest_is(image->digest, f->spec.sha256)) {
		err_set(&own, E_IMAGE, "'%s' is not the image that was meant: its sha256 is %s, and not %s",
		    image_spec_shown(&f->spec), image->digest + 7, f->spec.sha256);
		err_object(&own, image_spec_shown(&f->spec));
		err = &own;
	}
	if (err == NULL && fetch_check_image(f, image, &own) != 0)
		err = &own;
	if (err == NULL && f->spec.sha512 != NULL) {
		if (begin_check(f, image, &own) == 0)
			return;
		err = &own;
	}
	settle_imported(f, image != NULL ? image->digest : NULL, NULL, err);
}

/* ---- packed files ---- */

void
fetch_file_transferred(struct image_fetch *f, const struct transfer_got *got,
    const struct child_failure *failure)
{
	const char *shown = image_spec_shown(&f->spec);
	CLEANUP_FREE char *after = NULL;
	const struct image *image;
	struct err err = ERR_INIT;

	if (failure != NULL) {
		err = failure->err;
		err_wrap(&err, "the image '%s'", shown);
		err_object(&err, shown);
		settle_imported(f, NULL, NULL, &err);
		return;
	}
	image = fetch_stored(f->images, got->digest);
	if (take_key(f->file_fd, shown, &after, &err) == 0 && !str_eq(after, f->file_key)) {
		err_set(&err, E_IMAGE, "'%s' was changed while it was taken", shown);
		err_hint(&err, "try again when nothing writes to it");
	}
	if (err.code == E_OK && image != NULL && fetch_check_image(f, image, &err) == 0)
		images_remember(f->images, f->file_key, got->digest);
	settle_imported(f, got->digest, got->body_digest, err.code != E_OK ? &err : NULL);
}

/* Unpacked by a vmm-fetch, like what comes from a server.  fd: taken. */
static void
begin_packed(struct image_fetch *f, int fd, const char *shown)
{
	struct fetch_order order = { .work = FETCH_FILE, .sha256 = f->spec.sha256,
		.sha512 = f->spec.sha512 };
	CLEANUP_FREE char *name = image_file_name(shown), *key = NULL;
	const struct image *known;
	struct err err = ERR_INIT;

	f->file_fd = fd;
	if (take_key(fd, shown, &f->file_key, &err) != 0) {
		fetch_settle(f, NULL, &err);
		return;
	}
	/* A digest may be that of the file, which nobody remembers. */
	known = f->spec.sha256 == NULL && f->spec.sha512 == NULL
	    ? images_by_key(f->images, f->file_key) : NULL;
	if (known != NULL) {
		settle_imported(f, known->digest, NULL, fetch_check_image(f, known, &err) != 0 ? &err : NULL);
		return;
	}
	f->sha256 = xstrdup(f->spec.sha256);
	key = xasprintf("file\n%s\n%s", f->file_key, f->spec.sha512 != NULL ? f->spec.sha512 : "");
	if (transfer_join(f, key, &order, name, shown, fd, &err) != 0)
		fetch_settle(f, NULL, &err);
}

void
fetch_file_begin(struct image_fetch *f, const struct file_ref *file)
{
	const char *shown = f->spec.name != NULL ? f->spec.name : file_ref_shown(file);
	struct err err = ERR_INIT;

	if (file->kind != FILE_FD || file->fd < 0) {
		err_set(&err, E_PARAMS, "the image '%s' did not come as a descriptor", shown);
		fetch_settle(f, NULL, &err);
		return;
	}
	if (disk_is_packed(file->fd))
		begin_packed(f, file->fd, shown);
	else
		f->import = image_import(f->images, file->fd, shown, on_progress, on_imported, f);
}
