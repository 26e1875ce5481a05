/* SPDX-License-Identifier: MPL-2.0
 *
 * An image of the store to a registry. */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/json.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/fetches.h"

struct image_push {
	LIST_ENTRY(image_push) link;
	struct image_store *images;
	struct child *child; /* NULL: it has ended */
	struct timer *settle;
	char *held; /* digest of the image */
	char *manifest;
	bool uploaded, cancelled;
	image_want_progress_fn *progress;
	image_pushed_fn *done; /* NULL: nobody hears */
	void *arg;
	struct err err;
};

static void
push_end(void *arg)
{
	struct image_push *p = arg;

	LIST_REMOVE(p, link);
	image_unhold(p->images, p->held);
	if (p->done != NULL)
		p->done(p->arg, p->err.code == E_OK ? p->manifest : NULL, p->uploaded,
		    p->err.code == E_OK ? NULL : &p->err);
	child_destroy(p->child);
	timer_destroy(p->settle);
	free(p->held);
	free(p->manifest);
	free(p);
}

static void
on_line(void *arg, const char *event, json_object *line)
{
	struct image_push *p = arg;
	struct image_progress progress = { .phase = "push" };
	CLEANUP_FREE char *note = str_eq(event, "retry") ? child_retry_note(line) : NULL;

	if (str_eq(event, "pushed")) {
		free(p->manifest);
		p->manifest = xstrdup(json_string(line, "digest"));
		p->uploaded = json_flag(line, "uploaded");
	} else if (p->done != NULL && (str_eq(event, "progress") || str_eq(event, "retry"))) {
		progress.done_bytes = (uint64_t)json_int(line, "done");
		progress.total_bytes = (uint64_t)json_int(line, "total");
		progress.note = note;
		p->progress(p->arg, &progress);
	}
}

static void
on_end(void *arg, const struct child_failure *failure)
{
	struct image_push *p = arg;

	p->child = NULL;
	if (failure != NULL)
		p->err = failure->err;
	else if (p->manifest == NULL)
		err_set(&p->err, E_FAILED, "vmm-fetch did not say what it pushed");
	push_end(p);
}

static int
start(struct image_push *p, const struct image *image, const char *reference,
    const struct fetch_auth *auth, uid_t uid)
{
	CLEANUP_FD int fd = open(image->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct fetch_order order = { .work = FETCH_PUSH,
		.media_type = (char *)(uintptr_t)(str_eq(image->format, "qcow2") ? OCI_QCOW2 : OCI_RAW),
		.sha256 = image->digest + strlen("sha256:") };
	struct oci_ref ref;
	int rc;

	if (fd < 0)
		return err_errno(&p->err, E_IMAGE, errno, "can not read the image '%s'", image->name);
	rc = oci_ref_parse(reference, &ref, &p->err);
	if (rc != 0)
		return rc;
	order.registry = ref.registry;
	order.repository = ref.repository;
	order.tag = ref.tag;
	order.digest = ref.digest;
	if (auth != NULL)
		order.auth = *auth;
	p->child = child_start(p->images, &order, uid, fd, -1, on_line, on_end, p, &p->err);
	oci_ref_done(&ref);
	return p->child != NULL ? 0 : (int)p->err.code;
}

struct image_push *
image_push(struct image_store *images, const struct image *image, const char *reference,
    const struct fetch_auth *auth, uid_t uid, image_want_progress_fn *progress,
    image_pushed_fn *done, void *arg)
{
	struct image_push *p = xcalloc(1, sizeof(*p));

	loop_assert(images->loop);
	p->images = images;
	p->progress = progress;
	p->done = done;
	p->arg = arg;
	p->held = xstrdup(image->digest);
	image_hold(images, image->digest, "is being pushed");
	p->settle = timer_create_on(images->loop, push_end, p);
	LIST_INSERT_HEAD(&images->fetches->pushes, p, link);
	if (start(p, image, reference, auth, uid) != 0)
		timer_arm(p->settle, 0);
	return p;
}

void
image_push_cancel(struct image_push *p)
{
	loop_assert(p->images->loop);
	if (p->child != NULL)
		child_kill(p->child); /* on_end follows */
}

void
image_push_forget(struct image_push *p)
{
	p->done = NULL;
	p->progress = NULL;
}

void
pushes_close(struct image_store *images)
{
	struct image_push *p;

	while ((p = LIST_FIRST(&images->fetches->pushes)) != NULL) {
		memset(&p->err, 0, sizeof(p->err));
		err_set(&p->err, E_SHUTDOWN, "vmmd is going down");
		push_end(p);
	}
}
