/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_IMAGE_IMAGE_H
#define LIB_IMAGE_IMAGE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/base/err.h"

struct job;
struct loop;
struct store;
struct worker_pool;

/* Images, stored once, by the digest of their content, read-only in <data>/images/sha256-<hex>.
 * Loop thread only, where no worker is named. */

struct image { /* borrowed from the store of images; gone after image_remove */
	char *digest; /* "sha256:<64 hex>" */
	char *path;
	char *format; /* "qcow2" | "raw" */
	char *name;   /* where it came from, for people: "debian-12.qcow2" */
	char *source; /* path it was taken from, or what the client called it */
	uint64_t virtual_bytes, file_bytes;
	int64_t created_ms;
	bool damaged; /* its bytes were found to be others; not kept over a restart */
};

struct image_store;

/* Loads the rows, removes leftovers of interrupted imports, ends interrupted removals, and takes
 * up images without a row (the database may have been restored from an older copy). */
int image_store_open(const char *dir, struct store *store, struct loop *loop,
    struct worker_pool *pool, struct image_store **ret_images, struct err *err);
void image_store_close(struct image_store *images); /* imports end with E_SHUTDOWN */

typedef void image_progress_fn(void *arg, uint64_t done_bytes, uint64_t total_bytes);
typedef void image_done_fn(void *arg, const struct image *image, const struct err *err);
struct image_import;

/* Takes a file into the store: checked (header, no backing or data file, sane sizes), copied by
 * reflink where possible, hashed, synced, renamed.  fd: taken; a regular file.  A file taken
 * before and unchanged since (device, inode, size, mtime, ctime) answers without reading it, and
 * imports of one file at the same time share the work.  name: the file's path or name, copied.
 * done runs once, never before return.  Cancelling leaves nothing.  progress: a few times a second;
 * it may cancel its own import. */
struct image_import *image_import(struct image_store *images, int fd, const char *name,
    image_progress_fn *progress, image_done_fn *done, void *arg);
/* Owned: a path in the store's folder for work of its own, such as disk_flatten.  Nothing is there
 * yet; what is left there by a crash goes at the next open. */
char *image_scratch(struct image_store *images);
/* Takes such a file, which becomes the image without being copied.  path, name: copied.  The file
 * is gone also when it fails or is cancelled. */
struct image_import *image_import_scratch(struct image_store *images, const char *path,
    const char *name, image_progress_fn *progress, image_done_fn *done, void *arg);
void image_import_cancel(struct image_import *import); /* done runs with E_CANCELLED */
/* Nobody hears of it any more, neither progress nor done. */
void image_import_forget(struct image_import *import);

/* By digest ("sha256:…" or at least 8 hex digits of it) or by name (the newest of that name).
 * NULL: none, or its file is gone or has another size. */
const struct image *image_find(struct image_store *images, const char *ref);
/* The same, with the reason: E_NOT_FOUND, E_LIMIT (several begin so) or E_IMAGE (its file is gone;
 * *ret_image is set all the same, so that it can be removed). */
int image_get(struct image_store *images, const char *ref, const struct image **ret_image,
    struct err *err);
/* As a user means it: by their names (lib/image/names.h), by digest in full, or, of the images that
 * something shows to them, as image_get. */
int image_get_for(struct image_store *images, uid_t uid, const char *ref,
    const struct image **ret_image, struct err *err);
/* After a disk_verify.  A damaged image is not known any more to who wants it: taking or fetching
 * the same again mends it, also under machines. */
void image_set_damaged(struct image_store *images, const char *digest, bool damaged);
/* Is the file there, with the size it had, and not known to be damaged?  E_IMAGE. */
int image_check(const struct image *image, struct err *err);
/* The image that this file, unchanged, was taken as; NULL: never taken, or changed. */
const struct image *image_find_file(struct image_store *images, int fd);
void image_each(struct image_store *images, void (*fn)(void *arg, const struct image *image),
    void *arg);
/* While it is held, image_remove refuses with E_BUSY; holds add up.  what: static words, "is being
 * pushed". */
void image_hold(struct image_store *images, const char *digest, const char *what);
void image_unhold(struct image_store *images, const char *digest);
/* The caller has checked that no machine stands on it.  Durable; an image whose file is gone can
 * be removed too. */
int image_remove(struct image_store *images, const char *digest, struct err *err);
/* fn runs after each removal: what was made of the image elsewhere may go.  One at a time. */
typedef void image_removed_fn(void *arg, const char *digest);
void image_store_on_removed(struct image_store *images, image_removed_fn *fn, void *arg);

/* ---- disks; on workers ---- */

/* Makes a qcow2 overlay (0600, synced) with qemu-img: explicit formats, absolute paths, limits.
 * Refuses an existing target (E_EXISTS), a size below the base's (E_PARAMS, object "disk"), a base
 * that is gone (E_IMAGE) and too little free space (E_NO_SPACE; a tenth of a GiB at least).
 * size_bytes 0: the base's; rounded up to 512.  Leaves nothing when it fails.  base_path NULL: an
 * empty disk that stands on nothing, which needs a size. */
int disk_create_overlay(const char *base_path, const char *base_format, uint64_t base_bytes,
    const char *path, uint64_t size_bytes, struct job *job, struct err *err);

/* Reads the header of an untrusted file.  E_IMAGE for anything but raw and plain qcow2. */
struct disk_header {
	const char *format; /* static: "qcow2" | "raw" */
	uint64_t virtual_bytes;
};
int disk_inspect(int fd, const char *name, struct disk_header *ret_header, struct err *err);
/* Does the file begin like one of zstd, xz, gzip or bzip2? */
bool disk_is_packed(int fd);
/* The same for an overlay made elsewhere, which may stand on another file: qcow2 alone, and
 * *ret_backing (owned; NULL: none) is the path that its header names, as it is written there. */
int disk_inspect_overlay(int fd, const char *name, struct disk_header *ret_header,
    char **ret_backing, struct err *err);
/* Copies such an overlay to `path` (new; 0600; synced) and puts it on base_path in place of what
 * its header names, without opening that; base_path NULL: it stands on nothing.  On a worker. */
int disk_adopt_overlay(int fd, const char *name, const char *base_path, const char *base_format,
    const char *path, struct job *job, struct err *err);

#endif
