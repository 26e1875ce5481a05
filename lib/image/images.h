/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_IMAGE_IMAGES_H
#define LIB_IMAGE_IMAGES_H

#include <sys/queue.h>
#include <uthash.h>

#include "lib/image/image.h"

/* The store of images as its own files see it: rows in image.c, imports in import.c, what points
 * at images in names.c. */

struct take;
struct timer;

struct entry {
	TAILQ_ENTRY(entry) link;
	struct image image;
	unsigned holds;
	const char *held_for; /* static; by the last who held it */
};

struct source { /* a file that was taken, in the state it had */
	UT_hash_handle hh;
	char *digest;
	char key[];
};

TAILQ_HEAD(entry_list, entry);
TAILQ_HEAD(name_list, name_entry);
TAILQ_HEAD(work_list, work);
TAILQ_HEAD(import_list, image_import);

struct image_store {
	char *dir;
	struct store *store;
	struct loop *loop;
	struct worker_pool *pool;
	struct entry_list entries;
	struct source *sources;
	struct name_list names; /* names.c; the newest first */
	/* import.c */
	unsigned scratch_count;
	struct work_list works;
	struct import_list settled; /* their done is due */
	struct timer *settle;
	struct fetches *fetches; /* fetch.c */
	void (*on_removed)(void *arg, const char *digest); /* NULL: nobody cares */
	void *removed_arg;
};

/* Gives a verified and synced file of the folder, `tmp`, its name for good, durably.  A file of
 * that digest may be there already: it stays, unless it is damaged or has another size. */
int images_place(struct image_store *images, const char *tmp, const char *hex, uint64_t bytes,
    bool damaged, struct err *err);
/* Makes the row of a file that lies in the folder; the file's key is remembered. */
int images_add(struct image_store *images, const struct take *take, const char *key,
    struct err *err);
/* The file with this key was taken as this image. */
void images_remember(struct image_store *images, const char *key, const char *digest);
struct entry *images_by_digest(struct image_store *images, const char *digest);
/* What the file with this key was taken as, when that is still there. */
const struct image *images_by_key(struct image_store *images, const char *key);

void imports_open(struct image_store *images);
void imports_close(struct image_store *images); /* ends all with E_SHUTDOWN */

#endif
