/* SPDX-License-Identifier: MPL-2.0 */
#ifndef DAEMON_OP_IMAGE_H
#define DAEMON_OP_IMAGE_H

#include <stdbool.h>

#include "daemon/operation.h"
#include "lib/image/fetch.h"

/* The operations of images.  Each answers what its method says (proto/results.c). */

/* Of a file (its descriptor is taken), or of what is elsewhere.  spec and auth: borrowed.
 * name: given to the image at the end; NULL: none. */
int op_image_pull(struct vmmd *vmmd, struct image_spec *spec, const char *name,
    enum image_policy policy, const struct fetch_auth *auth, const struct op_call *call,
    struct err *err);
/* image or vm; a machine's disk becomes an image without a name first. */
int op_image_push(struct vmmd *vmmd, const struct image *image, struct vm *vm,
    const char *reference, const struct fetch_auth *auth, const struct op_call *call,
    struct err *err);
int op_image_commit(struct vm *vm, const char *name, const char *format, bool clean,
    const struct op_call *call, struct err *err);
/* file: FILE_FD, claimed; taken.  format NULL: the image's. */
int op_image_export(struct vmmd *vmmd, const struct image *image, const char *format,
    struct file_ref *file, const struct op_call *call, struct err *err);
/* image NULL: all that the caller may use. */
int op_image_verify(struct vmmd *vmmd, const struct image *image, const struct op_call *call,
    struct err *err);

/* Gives the image a name of the caller's; E_PARAMS for a wrong one. */
int op_image_name(struct vmmd *vmmd, uid_t uid, const char *name, const struct image *image,
    struct err *err);
/* What a transfer tells, as progress of the operation in arg. */
void op_image_progress(void *arg, const struct image_progress *progress);

#endif
