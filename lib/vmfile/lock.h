/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_VMFILE_LOCK_H
#define LIB_VMFILE_LOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"

/* VMFile.lock, beside the VMFile: what its moving image references meant.  YAML, written by vmctl,
 * made to be kept in version control: sorted, one entry a reference, no times of the writing. */

struct vmlock_entry {
	char *image;   /* as the VMFile has it: "debian:12", a URL, oci://… */
	char *digest;  /* "sha256:…" of the image as it is stored */
	char *source;  /* where it came from: the URL, or oci://…@sha256:…; NULL */
};

struct vmlock {
	struct vmlock_entry *items;
	size_t count;
};

char *vmlock_path(const char *vmfile_path); /* owned: VMFile.yaml -> VMFile.lock, x.yaml -> x.lock */
/* A file that is not there is an empty lock.  E_VMFILE with file:line:column for a wrong one. */
int vmlock_load(const char *path, struct vmlock *ret_lock, struct err *err);
int vmlock_parse(const char *text, size_t len, const char *file, struct vmlock *ret_lock,
    struct err *err);
const struct vmlock_entry *vmlock_find(const struct vmlock *lock, const char *image);
/* Adds or replaces; true when that changed something. */
bool vmlock_set(struct vmlock *lock, const char *image, const char *digest, const char *source);
bool vmlock_remove(struct vmlock *lock, const char *image);
char *vmlock_text(const struct vmlock *lock); /* owned: the file's bytes; texts of UTF-8 only */
/* Atomic; mode 0644; an empty lock removes the file.  Keeps the file when nothing changed.
 * E_VMFILE: an entry that could not be read again. */
int vmlock_save(const struct vmlock *lock, const char *path, struct err *err);
void vmlock_done(struct vmlock *lock);

#endif
