/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_IMAGE_FETCHES_H
#define LIB_IMAGE_FETCHES_H

#include <sys/queue.h>

#include "lib/image/fetch.h"
#include "lib/image/fetcher/order.h"
#include "lib/image/images.h"
#include "lib/image/names.h"
#include "lib/image/reference.h"

/* Fetching, as its own files see it.
 *   fetch.c           what somebody wants, what is known of it, and the answer
 *   fetch_known.c     what is known without asking anybody
 *   fetch_file.c      a file that came with the want
 *   fetch_oci.c       the same for references to registries
 *   fetch_transfer.c  one body on its way into the store, and who waits for it
 *   fetch_child.c     one vmm-fetch: its order, its lines, its end
 *   fetch_part.c      what an unfinished transfer leaves in the folder
 * Loop thread. */

struct json_object;

/* ---- a vmm-fetch ---- */

struct child;
/* One line that it said; borrowed. */
typedef void child_line_fn(void *arg, const char *event, struct json_object *line);
struct child_failure {
	struct err err;
	bool temporary; /* another try may go well */
	int status;	/* of the server's answer; 0: it is not about one */
	bool vanished;	/* it did not say so itself: it was ended, or was silent */
	uid_t uid;	/* whose process it was, then */
};
/* Once, last, after its process has ended.  failure: NULL when its last line was a good one
 * (`done`, `manifest`, `pushed`).  The child is gone afterwards. */
typedef void child_end_fn(void *arg, const struct child_failure *failure);

/* Of a `retry` line: what went wrong, and when it is tried again.  Owned; NULL: it says nothing. */
char *child_retry_note(struct json_object *line);
/* The program and what every order has are filled in here.  sink_fd, spool_fd: borrowed, -1: none.
 * NULL: it could not be started; err says why. */
struct child *child_start(struct image_store *images, struct fetch_order *order, uid_t uid,
    int sink_fd, int spool_fd, child_line_fn *line, child_end_fn *end, void *arg, struct err *err);
void child_kill(struct child *child);	 /* `end` follows, with E_CANCELLED */
void child_destroy(struct child *child); /* kills it, and nothing follows */

/* ---- a part ---- */

#define PART_PREFIX ".part-"

struct part {
	char *path; /* of the image; the spool and the notes have endings of their own */
	int sink_fd, spool_fd;
	char *validator; /* NULL: none */
	uint64_t bytes;	 /* that are good */
	bool packed;	 /* they are in the spool */
	uid_t uid;
	int64_t created_ms;
};

/* The part of this key: what an earlier transfer left, or a new one.  E_IO, E_LIMIT. */
int part_open(struct image_store *images, const char *key, uid_t uid, struct part *ret_part,
    struct err *err);
void part_note(const struct part *part);   /* keeps what is known of it, for a later resume */
/* Its writer is gone: it stays when somebody could go on with it.  immutable: also without a
 * validator. */
void part_keep(struct part *part, bool immutable);
void part_forget(const struct part *part); /* its notes: after a crash it is swept */
/* Does nothing write to this file any more?  fd: opened for reading alone.  patient: on a worker; it
 * waits for half a second at most.  E_BUSY. */
int part_check_quiet(int fd, bool patient, struct err *err);
void part_remove(struct part *part);	   /* its files */
void part_close_files(struct part *part);
void part_close(struct part *part);	   /* its descriptors and texts */
void parts_sweep(struct image_store *images); /* what is old or not whole, and not in use */

/* ---- a transfer ---- */

struct transfer;
TAILQ_HEAD(waiter_list, image_fetch);

struct transfer_got {
	const char *digest; /* of the image, in the store now */
	bool unchanged;	    /* what was known is still it; digest is NULL */
	const char *body_digest, *etag, *last_modified;
	uint64_t body_bytes; /* that came, for it */
};

/* Joins the transfer of this key, and of the digest and the format that the want asks for, or
 * starts it.  order: borrowed; its part fields are set here.  name, source: of the image's row.
 * source_fd: FETCH_FILE, the file; else -1.  fetch_transferred comes, never before return. */
int transfer_join(struct image_fetch *fetch, const char *key, struct fetch_order *order,
    const char *name, const char *source, int source_fd, struct err *err);
void transfer_leave(struct image_fetch *fetch); /* the last one out ends it */
bool transfer_uses(struct image_store *images, const char *part_path);
void transfers_close(struct image_store *images);

/* ---- somebody's want ---- */

struct image_fetch {
	LIST_ENTRY(image_fetch) asking; /* while child is set */
	TAILQ_ENTRY(image_fetch) link; /* among the waiters of its transfer, or the settled */
	struct image_store *images;
	struct image_spec spec; /* own copy; no file */
	struct fetch_auth auth;
	uid_t uid;
	enum image_policy policy;
	image_want_progress_fn *progress;
	image_got_fn *done; /* NULL: nobody hears */
	void *arg;
	int64_t began_ms;
	/* What is asked, after names and the catalogue. */
	char *location; /* URL or oci://…, in full */
	char *name;	/* public: the row of names that it gets */
	char *alias;	/* the catalogue's name for it; NULL */
	char *sha256, *sha512, *checksums;
	char *auth_key;
	char *known; /* digest of the image that this meant at last, which is held; NULL */
	/* How far it is; one of these at most. */
	struct image_import *import;
	struct check *check; /* of an imported file */
	struct transfer *transfer;
	struct child *child; /* asks for a manifest */
	/* A packed file. */
	char *file_key; /* take_key; NULL: it is none */
	int file_fd;	/* 0: none */
	/* A registry's image. */
	struct oci_ref ref;
	char *manifest_digest;
	struct json_object *layers;
	size_t layer_at;
	/* The answer. */
	bool settled, is_known, asked_again;
	struct err err;
	char *digest, *source, *note;
	uint64_t transferred;
};

/* Of the transfer that it joined; it has left it. */
void fetch_transferred(struct image_fetch *fetch, const struct transfer_got *got,
    const struct child_failure *failure);
void fetch_tell(struct image_fetch *fetch, const char *phase, uint64_t done, uint64_t total,
    uint64_t rate, const char *note);
void fetch_settle(struct image_fetch *fetch, const char *digest, const struct err *err);
/* With what is known when that will do, else with the error. */
void fetch_failed(struct image_fetch *fetch, const struct child_failure *failure);
/* The image arrived, or is the one that was known: checks, names, the answer.  body: may be NULL. */
void fetch_arrived(struct image_fetch *fetch, const char *digest, const struct transfer_got *body);
/* What is known can do: then nobody waits long for an answer. */
void fetch_set_patience(const struct image_fetch *fetch, struct fetch_order *order);

/* ---- what is known (fetch_known.c) ---- */

/* Is what the name meant at last still there, and as it must be?  Sets known, and holds it. */
const struct image_name *fetch_find_known(struct image_fetch *fetch);
const struct image *fetch_stored(struct image_store *images, const char *digest); /* and whole */
/* What a digest of the image, or else a sha256 (of it or of its body) names; NULL: unknown. */
const struct image *fetch_pinned(struct image_store *images, const char *digest, const char *sha256);
bool fetch_digest_is(const char *digest, const char *hex);
/* What is checked besides the sha256, as a hash: a URL may be a secret.  Owned; NULL: nothing. */
char *fetch_verified_by(const char *sha512, const char *checksums);
/* The name of a URL's row: nothing in it is secret, and two queries are two rows.  Owned. */
char *fetch_url_row(const char *url);
/* With what rights it is fetched; checksums: NULL, or the URL of their list.  Owned. */
char *fetch_http_auth_key(const struct fetch_auth *auth, const char *url, const char *checksums);

/* Is it what was asked for?  E_IMAGE. */
int fetch_check_image(const struct image_fetch *fetch, const struct image *image, struct err *err);

/* fetch_file.c */
void fetch_file_begin(struct image_fetch *fetch, const struct file_ref *file); /* takes its fd */
void fetch_file_transferred(struct image_fetch *fetch, const struct transfer_got *got,
    const struct child_failure *failure);
void fetch_file_stop(struct image_fetch *fetch); /* looking at what was imported, if it does */

/* fetch_oci.c */
void fetch_oci_begin(struct image_fetch *fetch);
void fetch_oci_stop(struct image_fetch *fetch); /* asking for the manifest, if it does */
void fetch_oci_again(struct image_fetch *fetch); /* for the blob */
void fetch_oci_transferred(struct image_fetch *fetch, const struct transfer_got *got,
    const struct child_failure *failure);

/* In struct image_store, from image_store_open to image_store_close. */
struct fetches {
	struct image_fetcher config;
	const struct catalogue *catalogue;
	struct waiter_list settled;
	struct timer *settle;
	LIST_HEAD(, transfer) transfers;
	LIST_HEAD(, child) children;
	LIST_HEAD(, image_fetch) asking; /* for a manifest */
	LIST_HEAD(, check) checks;
	LIST_HEAD(, image_push) pushes;
};
void fetches_open(struct image_store *images);
void fetches_close(struct image_store *images);
/* End all with E_SHUTDOWN. */
void file_fetches_close(struct image_store *images);
void oci_fetches_close(struct image_store *images);
void pushes_close(struct image_store *images);

#endif
