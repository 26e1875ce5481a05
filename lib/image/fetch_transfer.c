/* SPDX-License-Identifier: MPL-2.0
 *
 * One body on its way into the store, and everybody who waits for it.  What vmm-fetch filled and
 * verified is inspected here, made read-only and durable, and gets its name at last. */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/digest.h"
#include "lib/base/fs.h"
#include "lib/base/json.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/base/worker.h"
#include "lib/image/fetches.h"
#include "lib/image/take.h"

enum { RATE_WINDOW_MS = 2000, CHUNK = 1 << 20, TELL_MS = 200 };

struct transfer {
	LIST_ENTRY(transfer) link;
	struct image_store *images; /* NULL: closed meanwhile; the worker's last act frees it */
	char *key, *name, *source;
	char *format, *expected; /* what the image must be; NULL */
	char *pin; /* sha256 of the image or its body; NULL */
	struct waiter_list waiters;
	struct child *child;
	struct part part;
	bool dying; /* nobody waits; not to be joined; the files are another's, if they are there */
	bool immutable;
	/* Told by the child. */
	char *sha256, *body_digest, *etag, *last_modified;
	uint64_t old_bytes, body_bytes, image_bytes; /* old_bytes: of the body, that were there */
	bool unchanged;
	/* Speed, over the last seconds. */
	uint64_t mark_ms, mark_bytes, older_ms, older_bytes;
	/* The worker's. */
	struct job *job;
	bool rehash;
	struct take take;
};

static void
transfer_free(struct transfer *t)
{
	part_close(&t->part);
	take_release(&t->take);
	free(t->key);
	free(t->name);
	free(t->source);
	free(t->format);
	free(t->expected);
	free(t->pin);
	free(t->sha256);
	free(t->body_digest);
	free(t->etag);
	free(t->last_modified);
	free(t);
}

static void
transfer_end(struct transfer *t, const struct transfer_got *got, const struct child_failure *failure)
{
	struct image_fetch *fetch;

	LIST_REMOVE(t, link);
	while ((fetch = TAILQ_FIRST(&t->waiters)) != NULL) {
		TAILQ_REMOVE(&t->waiters, fetch, link);
		fetch->transfer = NULL;
		fetch_transferred(fetch, got, failure);
	}
	transfer_free(t);
}

bool
transfer_uses(struct image_store *images, const char *part_path)
{
	struct transfer *t;

	LIST_FOREACH(t, &images->fetches->transfers, link)
		if (str_eq(t->part.path, part_path))
			return true;
	return false;
}

/* ---- what the child says ---- */

static void
tell(struct transfer *t, const char *phase, uint64_t done, uint64_t total, uint64_t rate,
    const char *note)
{
	struct image_fetch *fetch = TAILQ_FIRST(&t->waiters), *next;

	for (; fetch != NULL; fetch = next) {
		next = TAILQ_NEXT(fetch, link);
		fetch_tell(fetch, phase, done, total, rate, note);
	}
}

static uint64_t
rate_of(struct transfer *t, uint64_t done)
{
	uint64_t now = clock_ms();

	if (t->mark_ms == 0 || done < t->mark_bytes) {
		t->mark_ms = t->older_ms = now;
		t->mark_bytes = t->older_bytes = done;
	} else if (now - t->mark_ms >= RATE_WINDOW_MS) {
		t->older_ms = t->mark_ms;
		t->older_bytes = t->mark_bytes;
		t->mark_ms = now;
		t->mark_bytes = done;
	}
	return now > t->older_ms ? (done - t->older_bytes) * 1000 / (now - t->older_ms) : 0;
}

/* A header that goes back to the server some day; NULL when it is not fit for that. */
static char *
header_copy(json_object *line, const char *key)
{
	const char *text = json_string(line, key);

	for (const char *c = text; c != NULL && *c != '\0'; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			return NULL;
	return xstrdup(text);
}

static void
hear_response(struct transfer *t, json_object *line)
{
	bool resumed = json_flag(line, "resumed");

	free(t->part.validator);
	t->part.validator = header_copy(line, "validator");
	t->part.packed = json_flag(line, "packed");
	if (!resumed)
		t->part.bytes = t->old_bytes = 0;
	part_note(&t->part);
}

static void
hear_done(struct transfer *t, json_object *line)
{
	const char *body = json_string(line, "body_sha256");

	if (t->sha256 != NULL)
		return; /* it has said so */
	t->unchanged = json_flag(line, "unchanged");
	t->sha256 = xstrdup(json_string(line, "sha256"));
	t->body_digest = body != NULL ? xasprintf("sha256:%s", body) : NULL;
	t->etag = header_copy(line, "etag");
	t->last_modified = header_copy(line, "last_modified");
	t->body_bytes = (uint64_t)json_int(line, "body_bytes");
	t->image_bytes = (uint64_t)json_int(line, "image_bytes");
}

static void
on_line(void *arg, const char *event, json_object *line)
{
	struct transfer *t = arg;
	uint64_t done = (uint64_t)json_int(line, "done");

	if (t->dying)
		return;
	if (str_eq(event, "progress")) {
		tell(t, "fetch", done, (uint64_t)json_int(line, "total"), rate_of(t, done), NULL);
	} else if (str_eq(event, "saved")) {
		t->part.bytes = (uint64_t)json_int(line, "bytes");
		part_note(&t->part);
	} else if (str_eq(event, "retry")) {
		CLEANUP_FREE char *note = child_retry_note(line);

		tell(t, "fetch", 0, 0, 0, note);
	} else if (str_eq(event, "response")) {
		hear_response(t, line);
	} else if (str_eq(event, "done")) {
		hear_done(t, line);
	}
}

/* ---- into the store ---- */

static void
on_checked(void *arg)
{
	struct transfer *t = arg;

	if (t->images != NULL && !t->dying)
		tell(t, "check", t->take.done_bytes, t->image_bytes, 0, NULL);
}

/* Where several share the store, what a process says that reads what one of them pointed it to is
 * only a claim: it could make them all believe it. */
static int
check_digest(struct transfer *t, struct job *job)
{
	struct take *take = &t->take;
	CLEANUP_FREE char *chunk = xmalloc(CHUNK), *hex = NULL;
	struct digest *digest = digest_create();
	off_t at = 0;
	ssize_t n = 1;

	while (n > 0 && !job_cancelled(job)) {
		n = pread(take->fd, chunk, CHUNK, at);
		if (n < 0 && errno == EINTR)
			n = 1;
		else if (n > 0) {
			digest_add(digest, chunk, (size_t)n);
			at += n;
			take->done_bytes = (uint64_t)at;
		}
		if (clock_ms() - take->told_ms >= TELL_MS) {
			take->told_ms = clock_ms();
			job_post(job, on_checked, t);
		}
	}
	hex = digest_finish(digest);
	if (n < 0)
		return err_errno(&take->err, E_IO, errno, "can not read the image");
	if (n > 0)
		return err_set(&take->err, E_CANCELLED, "taking '%s' was stopped", take->name);
	if (!str_eq(hex, take->hex))
		return err_set(&take->err, E_IMAGE, "'%s' is not what it was while it was fetched",
		    take->name);
	return 0;
}

static int
settle_part(struct transfer *t, struct job *job)
{
	struct take *take = &t->take;
	struct stat st;
	int rc;

	take->fd = open(t->part.path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (take->fd < 0 || fstat(take->fd, &st) < 0)
		return err_errno(&take->err, E_IO, errno, "can not read the image '%s'", take->name);
	rc = part_check_quiet(take->fd, true, &take->err);
	if (rc != 0)
		return rc;
	take->file_bytes = (uint64_t)st.st_size;
	if (take->file_bytes != t->image_bytes)
		return err_set(&take->err, E_IMAGE, "'%s' is not as long as what was fetched",
		    take->name);
	rc = disk_inspect(take->fd, take->name, &take->header, &take->err);
	if (rc == 0 && t->format != NULL && !str_eq(t->format, take->header.format)) {
		rc = err_set(&take->err, E_IMAGE, "'%s' is a %s image, and not %s", take->name,
		    take->header.format, t->format);
		err_hint(&take->err, "leave 'format' out, or say '%s'", take->header.format);
	}
	if (rc == 0 && t->rehash)
		rc = check_digest(t, job);
	if (rc == 0)
		rc = take_compare(take, job, take->fd);
	if (rc == 0 && job_cancelled(job))
		rc = err_set(&take->err, E_CANCELLED, "taking '%s' was stopped", take->name);
	if (rc == 0 && (fchmod(take->fd, 0400) < 0 || fsync(take->fd) < 0))
		rc = err_errno(&take->err, E_IO, errno, "can not store the image '%s'", take->name);
	return rc;
}

static void
settle_job(struct job *job, void *data)
{
	struct transfer *t = data;

	if (settle_part(t, job) == 0)
		t->take.err = (struct err)ERR_INIT;
}

/* On the loop, so that no removal comes between the look and the row. */
static int
place(struct transfer *t, struct err *err)
{
	struct image_store *images = t->images;
	CLEANUP_FREE char *path = xasprintf("%s/" IMAGE_PREFIX "%s", images->dir, t->take.hex);
	bool ours = !fs_exists(path);
	int rc = images_place(images, t->part.path, t->take.hex, t->take.file_bytes, t->take.damaged,
	    err);

	if (rc == 0)
		rc = images_add(images, &t->take, NULL, err);
	if (rc != 0 && ours)
		unlink(path);
	return rc;
}

static void
settle_done(void *data)
{
	struct transfer *t = data;
	CLEANUP_FREE char *digest = xasprintf("sha256:%s", t->take.hex);
	struct transfer_got got = { .digest = digest, .body_digest = t->body_digest, .etag = t->etag,
		.last_modified = t->last_modified,
		.body_bytes = t->body_bytes > t->old_bytes ? t->body_bytes - t->old_bytes : 0 };
	struct child_failure failure = { .err = t->take.err };

	t->job = NULL;
	if (t->images == NULL) {
		transfer_free(t);
		return;
	}
	if (failure.err.code == E_OK && !t->dying)
		place(t, &failure.err);
	if (!t->dying)
		part_remove(&t->part);
	transfer_end(t, &got, failure.err.code != E_OK ? &failure : NULL);
}

static int
check_claims(struct transfer *t, struct err *err)
{
	CLEANUP_FREE char *digest = t->sha256 != NULL ? xasprintf("sha256:%s", t->sha256) : xstrdup("");

	if (!image_digest_valid(digest))
		return err_set(err, E_FAILED, "vmm-fetch did not say what it fetched");
	if (t->pin != NULL && !fetch_digest_is(digest, t->pin) && !fetch_digest_is(t->body_digest, t->pin))
		return err_set(err, E_IMAGE,
		    "'%s' is not the image that was meant: its sha256 is %s, and not %s", t->source,
		    t->sha256, t->pin);
	if (t->expected == NULL || str_eq(digest, t->expected))
		return 0;
	err_set(err, E_IMAGE, "'%s' is not the image that was meant: it is %s, and not %s", t->source,
	    digest, t->expected);
	err_hint(err, "it was replaced where it came from; if that is right, move the lock with "
		      "'vmctl image update'");
	return E_IMAGE;
}

static int
start_settling(struct transfer *t, struct err *err)
{
	t->take = (struct take){ .fd = -1, .name = xstrdup(t->name), .source = xstrdup(t->source),
		.dir = xstrdup(t->images->dir) };
	memcpy(t->take.hex, t->sha256, SHA256_HEX);
	err_set(&t->take.err, E_CANCELLED, "taking '%s' was stopped", t->name);
	/* What is looked at can not be written to any more, by us neither. */
	part_close_files(&t->part);
	tell(t, "check", t->body_bytes, t->body_bytes, 0, NULL);
	return worker_submit(t->images->pool, "image", settle_job, settle_done, t, 0, &t->job, err);
}

static void
on_end(void *arg, const struct child_failure *failure)
{
	struct transfer *t = arg;
	struct transfer_got got = { .unchanged = true, .etag = t->etag,
		.last_modified = t->last_modified };
	struct child_failure own = { .temporary = false };

	t->child = NULL;
	if (failure != NULL || t->unchanged) {
		if (!t->dying && failure != NULL && failure->temporary)
			part_keep(&t->part, t->immutable);
		else if (!t->dying)
			part_remove(&t->part);
		transfer_end(t, &got, failure);
	} else if (check_claims(t, &own.err) != 0 || start_settling(t, &own.err) != 0) {
		part_remove(&t->part);
		transfer_end(t, NULL, &own);
	}
}

/* ---- joining ---- */

static struct transfer *
find_transfer(struct image_store *images, const char *key)
{
	struct transfer *t;

	LIST_FOREACH(t, &images->fetches->transfers, link)
		if (!t->dying && str_eq(t->key, key))
			return t;
	return NULL;
}

static struct transfer *
start_transfer(struct image_store *images, const char *key, struct fetch_order *order, uid_t uid,
    int source_fd, struct err *err)
{
	struct transfer *t = xcalloc(1, sizeof(*t));

	t->images = images;
	t->take.fd = -1;
	TAILQ_INIT(&t->waiters);
	parts_sweep(images);
	parts_sweep(images);
	if (part_open(images, key, uid, &t->part, err) != 0) {
		free(t);
		return NULL;
	}
	if (source_fd >= 0) {
		part_forget(&t->part);
	} else {
		order->part_validator = t->part.validator;
		order->part_bytes = t->part.bytes;
		order->part_packed = t->part.packed;
		t->old_bytes = t->part.bytes;
	}
	t->immutable = order->work == FETCH_BLOB;
	t->child = child_start(images, order, uid, t->part.sink_fd,
	    source_fd >= 0 ? source_fd : t->part.spool_fd, on_line, on_end, t, err);
	order->part_validator = NULL;
	if (t->child == NULL) {
		part_keep(&t->part, t->immutable);
		part_close(&t->part);
		free(t);
		return NULL;
	}
	t->rehash = images->fetches->config.shared;
	t->key = xstrdup(key);
	LIST_INSERT_HEAD(&images->fetches->transfers, t, link);
	return t;
}

int
transfer_join(struct image_fetch *fetch, const char *key, struct fetch_order *order,
    const char *name, const char *source, int source_fd, struct err *err)
{
	const struct image_spec *spec = &fetch->spec;
	CLEANUP_FREE char *full = xasprintf("%s\n%s\n%s\n%s", key,
	    spec->digest != NULL ? spec->digest : "", fetch->sha256 != NULL ? fetch->sha256 : "",
	    spec->format != NULL ? spec->format : "");
	struct transfer *t = find_transfer(fetch->images, full);

	if (t == NULL) {
		t = start_transfer(fetch->images, full, order, fetch->uid, source_fd, err);
		if (t == NULL)
			return (int)(err != NULL ? err->code : E_FAILED);
		t->name = xstrdup(name);
		t->source = xstrdup(source);
		t->expected = xstrdup(spec->digest);
		t->format = xstrdup(spec->format);
		t->pin = xstrdup(fetch->sha256);
	}
	fetch->transfer = t;
	TAILQ_INSERT_TAIL(&t->waiters, fetch, link);
	return 0;
}

void
transfer_leave(struct image_fetch *fetch)
{
	struct transfer *t = fetch->transfer;

	fetch->transfer = NULL;
	TAILQ_REMOVE(&t->waiters, fetch, link);
	if (!TAILQ_EMPTY(&t->waiters))
		return;
	/* Who asks anew begins anew: these files have no names any more. */
	t->dying = true;
	part_remove(&t->part);
	if (t->child != NULL)
		child_kill(t->child);
	if (t->job != NULL)
		job_cancel(t->job);
}

void
transfers_close(struct image_store *images)
{
	struct err err = ERR_INIT;
	struct transfer *t;
	struct image_fetch *fetch;

	err_set(&err, E_SHUTDOWN, "vmmd is going down");
	while ((t = LIST_FIRST(&images->fetches->transfers)) != NULL) {
		LIST_REMOVE(t, link);
		while ((fetch = TAILQ_FIRST(&t->waiters)) != NULL) {
			TAILQ_REMOVE(&t->waiters, fetch, link);
			fetch->transfer = NULL;
			fetch_settle(fetch, NULL, &err);
		}
		child_destroy(TAKE(t->child));
		t->images = NULL;
		if (t->job != NULL) {
			job_cancel(t->job); /* settle_done frees it; the part stays */
			continue;
		}
		if (!t->dying)
			part_keep(&t->part, t->immutable);
		transfer_free(t);
	}
}
