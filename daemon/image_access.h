/* SPDX-License-Identifier: MPL-2.0 */
#ifndef DAEMON_IMAGE_ACCESS_H
#define DAEMON_IMAGE_ACCESS_H

#include <stdbool.h>
#include <sys/types.h>

#include "lib/image/image.h"

struct json_object;
struct vmmd;

/* Whose images are whose.  The store holds each once; who may use it is said by what points at it:
 * a name of the caller, a name of the administrator's that was fetched without credentials, or a
 * machine of the caller that stands on it.  Root and the daemon's own user may use all.  A digest
 * in full is enough, too: only who has had the image knows it.  Loop thread. */

bool image_visible(struct vmmd *vmmd, const struct image *image, uid_t uid);
/* As image_get_for, and what the caller may not use is not found.  *ret_image may be set with
 * E_IMAGE: its file is gone. */
int image_lookup(struct vmmd *vmmd, uid_t uid, const char *ref, const struct image **ret_image,
    struct err *err);
/* May the caller remove it?  E_STATE when a machine stands on it or it is being read, E_PERMISSION
 * when a name of another user points at it. */
int image_check_unused(struct vmmd *vmmd, const struct image *image, uid_t uid, struct err *err);
bool image_has_given_name(struct vmmd *vmmd, const struct image *image); /* by anybody */

/* The rows that methods answer; the caller's view of it. */
struct json_object *image_row(struct vmmd *vmmd, const struct image *image, uid_t uid);
uint64_t image_disk_bytes(const struct image *image); /* that its file takes on the disk */

#endif
