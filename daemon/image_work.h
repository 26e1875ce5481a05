/* SPDX-License-Identifier: MPL-2.0 */
#ifndef DAEMON_IMAGE_WORK_H
#define DAEMON_IMAGE_WORK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "daemon/operation.h"
#include "lib/image/image.h"
#include "lib/image/work.h"

struct image_fetch;
struct json_object;
struct vm;
struct vmmd;

/* A disk or an image that is being read, and the file that is made of it: what commit, push and
 * export share.  It stands first in the data of their operations, so that the steps below find it.
 * The images that it reads are held meanwhile. */
struct image_work {
	/* Given. */
	struct disk_layer layers[2]; /* texts owned */
	size_t layer_count;
	char *format;	 /* of what is made */
	bool clean;	 /* what makes the guest that guest goes */
	char *source;	 /* what the new image says of where it came from */
	/* Found. */
	char *digest;	 /* of the image that is read, or was made; held */
	char *file;	 /* what was made; becomes the image or is removed; NULL: nothing */
	char *removed;	 /* by cleaning; one path a line */
	/* Under way. */
	struct operation *op;
	struct job *job;     /* the loop's; it may be set when the worker has begun already */
	struct job *running; /* the worker's */
	struct image_import *import;
	struct err err;
	_Atomic uint64_t done_bytes, total_bytes;
	uint64_t told_ms;
};

/* E_STATE: the machine runs; E_UNSUPPORTED: it has no disk. */
int image_work_of_vm(struct image_work *work, struct vm *vm, struct err *err);
void image_work_of_image(struct image_work *work, struct vmmd *vmmd, const struct image *image,
    const char *what);
/* Steps: layers -> file; file -> image (digest). */
enum step_result image_work_flatten_run(struct operation *op, struct err *err);
enum step_result image_work_import_run(struct operation *op, struct err *err);
void image_work_cancel(struct operation *op);
/* Worker: tells the operation on the loop, a few times a second.  arg: struct image_work. */
void image_work_progress(void *arg, uint64_t done_bytes, uint64_t total_bytes);
/* Owned: a new name in the folder of images, which is swept at the next start. */
char *image_work_path(struct vmmd *vmmd, const struct operation *op, const char *end);
void image_work_done(struct image_work *work, struct vmmd *vmmd);

#endif
