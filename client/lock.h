/* SPDX-License-Identifier: MPL-2.0 */
#ifndef CLIENT_LOCK_H
#define CLIENT_LOCK_H

#include <stdbool.h>

#include "client/vmctl.h"
#include "lib/model/spec.h"
#include "lib/vmfile/lock.h"

struct json_object;
struct vmfile;

/* VMFile.lock: what the moving references of a VMFile meant when they were first used.  `up`
 * follows it and adds to it; `image update` alone moves it. */

struct lock {
	char *path; /* owned */
	struct vmlock entries;
};

/* The images of a machine, in both of which a reference may move, and their keys in results. */
enum lock_image { LOCK_DISK, LOCK_CDROM, LOCK_IMAGES };
extern const char *const lock_image_keys[]; /* "image", "cdrom" */
const struct image_spec *lock_image(const struct vm_spec *spec, enum lock_image which);

int lock_load(const struct vmfile *vmfile, struct lock *ret_lock, struct err *err);
/* As it is now: others may have written it since.  Before a change, so that theirs stays. */
int lock_reload(struct lock *lock, struct err *err);
void lock_done(struct lock *lock);
/* Owned: the entry's name of an image whose meaning may change: a name, a URL or a tag without a
 * digest.  NULL: it has none. */
char *lock_key(const struct image_spec *image);
/* Only what others can fetch too is pinned; a source that is not told is the reference itself. */
bool lock_can_pin(const char *key, const char *source);
/* Pins an image on its way to the daemon, when there is an entry. */
void lock_apply(const struct lock *lock, const struct image_spec *spec, struct json_object *image);
/* Adds what the machines of the project stand on.  sent: of each machine of the file, LOCK_IMAGES
 * urls that the daemon was given (NULL: none).  That it can not be written is a warning: the
 * machines are there. */
void lock_record(
    struct vmctl *ctl, struct lock *lock, const struct vmfile *vmfile, char *const *sent);

#endif
