/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_IMAGE_WORK_H
#define LIB_IMAGE_WORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"

/* What is made of images and disks, on workers, each tool in a jail (lib/base/jail.h).  Formats
 * are named, never guessed; a chain of files is given to qemu-img as explicit nodes. */

struct job;

struct disk_layer { /* from the top down to the base */
	const char *path, *format;
};

typedef void disk_progress_fn(void *arg, uint64_t done_bytes, uint64_t total_bytes);

/* Writes what the layers show together as one sparse file of `format` ("qcow2", "raw") to `path`
 * (new; 0600; synced).  compressed: qcow2 clusters, with zstd where qemu-img can, else zlib.  Free
 * space is checked first.  Leaves nothing when it fails. */
int disk_flatten(const struct disk_layer *layers, size_t layer_count, const char *path,
    const char *format, bool compressed, disk_progress_fn *progress, void *arg, struct job *job,
    struct err *err);

/* Removes from the raw disk at `path` what makes a guest that guest: /etc/machine-id (left empty),
 * the D-Bus copy, SSH host keys, cloud-init's state, random seeds, DHCP leases; free blocks of the
 * file system become holes.  ext2, ext3 and ext4 on the whole disk or in a GPT or MBR partition;
 * E_UNSUPPORTED names what was found instead and how to do it in the guest.  Works without
 * mounting anything.  ret_removed: owned; one path a line. */
int disk_clean_identity(const char *path, char **ret_removed, struct job *job, struct err *err);

/* Checks a stored image: its bytes against the digest, and a qcow2's structure by qemu-img check.
 * E_IMAGE says what is wrong. */
int disk_verify(const char *path, const char *format, const char *digest,
    disk_progress_fn *progress, void *arg, struct job *job, struct err *err);

#endif
