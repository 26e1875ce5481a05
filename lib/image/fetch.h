/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_IMAGE_FETCH_H
#define LIB_IMAGE_FETCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/image/image.h"
#include "lib/model/auth.h"
#include "lib/model/spec.h"

/* Images from anywhere into the store: what create, up, pull and update all use.  Loop thread.
 *
 * A transfer is one vmm-fetch, run for the user who asked.  Who wants the same thing with the same
 * rights waits for the same transfer; for OCI each asks for the manifest with their own
 * credentials, and the blob is shared by its digest.  What a transfer had when it broke, or when
 * vmmd was killed, stays as a part (<data>/images/.part-*) for a week and is resumed when the
 * server's validator is still the same; a part is never an image, and prune removes it. */

struct catalogue;
struct image_fetcher {
	const char *program;		 /* vmm-fetch */
	bool drop;			 /* it becomes the user who asked; nobody for root */
	bool shared;			 /* several users have the store: its word is not enough */
	const char *os, *architecture;	 /* of images with several: "linux", "amd64" */
	uint64_t max_bytes, keep_free_bytes;
	uint64_t stall_ms, connect_ms, attempts;
};
/* Before the first image_fetch; copied. */
void image_store_set_fetcher(struct image_store *images, const struct image_fetcher *fetcher);
/* Borrowed while the store is open; NULL: none. */
void image_store_set_catalogue(struct image_store *images, const struct catalogue *catalogue);

enum image_policy {
	IMAGE_MISSING,	  /* what the store knows for it will do; else fetch */
	IMAGE_REVALIDATE, /* ask whether it moved; when no server can be reached, what is known will
			   * do and the note says so */
	IMAGE_REFRESH,	  /* ask, and fail when nobody answers */
};

struct image_want {
	const struct image_spec *spec; /* borrowed for the call; a file: its descriptor is taken */
	const struct fetch_auth *auth; /* borrowed for the call; NULL: none */
	uid_t uid;
	enum image_policy policy;
};

struct image_progress {
	const char *phase; /* static: "resolve", "fetch", "check", "import" */
	uint64_t done_bytes, total_bytes; /* 0: unknown */
	uint64_t bytes_per_second;	  /* over the last few seconds */
	const char *note; /* what happened ("try 2 in 1 s: …"); NULL: nothing new */
};
typedef void image_want_progress_fn(void *arg, const struct image_progress *progress);

struct image_got {
	const struct image *image;
	const char *source;	   /* in full: the URL, or oci://…@sha256:…; NULL: not to be had again */
	uint64_t transferred_bytes; /* of bodies, for this want; 0: nothing was fetched */
	bool known;		   /* it was in the store before */
	const char *note;	   /* NULL, or why what is known had to do */
};
/* got: borrowed; NULL when it failed, and err says why. */
typedef void image_got_fn(void *arg, const struct image_got *got, const struct err *err);

struct image_fetch;
/* done runs once, never before return.  Cancelling the last who waits ends the transfer and
 * removes its part. */
struct image_fetch *image_fetch(struct image_store *images, const struct image_want *want,
    image_want_progress_fn *progress, image_got_fn *done, void *arg);
void image_fetch_cancel(struct image_fetch *fetch); /* done runs with E_CANCELLED */
/* Nobody hears of it any more, neither progress nor done: for who goes away while it goes on. */
void image_fetch_forget(struct image_fetch *fetch);

/* The image that a reference means by what is known, without asking anybody; NULL: unknown. */
const struct image *image_known(struct image_store *images, const struct image_spec *spec,
    uid_t uid);

/* Removes, or with dry_run counts, the parts that no transfer uses, of this user (root and the
 * daemon's own: of all).  Returns how many; adds what they take on the disk. */
size_t image_parts_prune(struct image_store *images, uid_t uid, bool dry_run, uint64_t *add_bytes);

/* Pushing: an image of the store to oci://….  ret_digest of done: the manifest's. */
typedef void image_pushed_fn(void *arg, const char *manifest_digest, bool uploaded,
    const struct err *err);
struct image_push;
struct image_push *image_push(struct image_store *images, const struct image *image,
    const char *reference, const struct fetch_auth *auth, uid_t uid,
    image_want_progress_fn *progress, image_pushed_fn *done, void *arg);
void image_push_cancel(struct image_push *push);
void image_push_forget(struct image_push *push); /* as image_fetch_forget */

#endif
