/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_IMAGE_VOLUME_H
#define LIB_IMAGE_VOLUME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"

/* File systems inside of a raw disk, without mounting anything.  Inside of lib/image only; on
 * workers. */

struct job;

struct volume {
	unsigned number; /* of the partition; 0: the whole disk */
	uint64_t offset, bytes;
	char *type; /* owned: "ext4", "xfs", "LVM2_member", … as blkid calls it; "" unknown */
};

/* What is on the disk, in the order of the table.  *ret_volumes: owned; volumes_free. */
int volumes_find(const char *path, struct job *job, struct volume **ret_volumes,
    size_t *ret_count, struct err *err);
void volumes_free(struct volume *volumes, size_t count);

/* ---- ext2, ext3 and ext4 ---- */

bool volume_is_ext(const struct volume *volume);

struct ext {
	const char *path; /* of the disk */
	uint64_t offset, bytes;
	struct job *job;
};

struct ext_entry {
	char *name; /* owned */
	unsigned mode; /* as in stat */
	uint64_t size;
};

/* Replays the journal, mends what was left unfinished.  discard: free blocks become holes.
 * E_IMAGE when it can not be mended. */
int ext_check(const struct ext *ext, bool discard, struct err *err);
/* Are small files kept in the inodes, where nothing discards them? */
int ext_inline_data(const struct ext *ext, bool *ret_inline, struct err *err);
/* What the folder holds, "." and ".." left out; nothing when there is no such folder. */
int ext_list(const struct ext *ext, const char *dir, struct ext_entry **ret_entries,
    size_t *ret_count, struct err *err);
void ext_entries_free(struct ext_entry *entries, size_t count);
/* Runs lines of debugfs.  What they did is only known by looking. */
int ext_change(const struct ext *ext, const char *lines, struct err *err);

#endif
