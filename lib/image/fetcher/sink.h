/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_IMAGE_FETCHER_SINK_H
#define LIB_IMAGE_FETCHER_SINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/image/fetcher/order.h"

/* Where a body goes: unpacked as its bytes arrive (zstd, xz, gzip, bzip2 by content; and with
 * SINK_CONTAINER the one disk in a tar), hashed before and after, written sparse to SINK_FD.
 * Receiving, hashing, unpacking and writing are threads with bounded memory between them, so that
 * the slowest of them sets the speed. */

struct sink;

enum sink_kind {
	SINK_IMAGE,     /* the body is the image, packed or not */
	SINK_CONTAINER, /* a layer: a tar, packed or not, with the disk below disk/ */
	SINK_FILE,      /* as SINK_IMAGE, and the body is in a file already: it is not kept */
};

struct sink_result {
	char body_sha256[65], body_sha512[129]; /* of the bytes as they came */
	char sha256[65], sha512[129];           /* of the image */
	uint64_t body_bytes, image_bytes;
	const char *compression; /* static: "zstd", "xz", "gzip", "bzip2", "none" */
};

/* SHA-512 is made only when want_sha512.  Resumes as the order's part_* say: reads what is there
 * back through the same path. */
struct sink *sink_create(
    const struct fetch_order *order, enum sink_kind kind, bool want_sha512, struct err *err);
/* The next piece of the body.  Blocks while the ring is full.  An error of the other side (no
 * space, broken data, too large, a tar with no disk) comes back here or in sink_finish. */
int sink_write(struct sink *sink, const void *data, size_t len, struct err *err);
/* What the server says of the whole body: checked against the limit and the free space.  May be
 * called again, for each answer. */
int sink_expect(struct sink *sink, uint64_t body_bytes, struct err *err);
uint64_t sink_body_bytes(const struct sink *sink);  /* taken so far, resumed ones included */
uint64_t sink_image_bytes(const struct sink *sink); /* written so far */
uint64_t sink_saved_bytes(const struct sink *sink); /* of the body, on the disk */
bool sink_kind_known(const struct sink *sink);      /* once 6 bytes came */
bool sink_packed(const struct sink *sink);          /* then: the body is not the image */
/* A body that starts anew (the server sent 200 instead of 206): forgets everything. */
int sink_restart(struct sink *sink, struct err *err);
/* Nothing comes at the moment: what did is written, however little. */
int sink_idle(struct sink *sink, struct err *err);
/* No more will come, and the end is not there: what is there of the body is saved for a later
 * process, and the sink is of no more use. */
void sink_give_up(struct sink *sink);
/* The end of the body: waits for the rest, syncs, gives the digests. */
int sink_finish(struct sink *sink, struct sink_result *ret_result, struct err *err);
void sink_destroy(struct sink *sink);

#endif
