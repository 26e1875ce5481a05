/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_IMAGE_FETCHER_SINK_PARTS_H
#define LIB_IMAGE_FETCHER_SINK_PARTS_H

#include <openssl/evp.h>
#include <pthread.h>
#include <stdatomic.h>

#include "lib/image/fetcher/sink.h"
#include "lib/image/fetcher/stage.h"
#include "lib/image/fetcher/unpack.h"

/* The sink as its own files see it: a chain of threads, with chunks of memory between them.
 *
 *   receiver  body  keeper       kept   unpacker        image  hasher       ready  writer
 *   sink.c    --->  sink_keep.c  --->   sink_unpack.c   --->   sink_keep.c  --->   sink_write.c
 *
 * The keeper hashes the body and, when it is packed, keeps it in SPOOL_FD.  A body that is the
 * image goes from the keeper to the writer as it is.  The hasher hashes what was unpacked.
 * Threads begin with the first bytes and end with the sink, a restart, or the first error. */

enum { HEAD_BYTES = 6, THREADS_MAX = 4 };

struct hashes {
	EVP_MD_CTX *sha256, *sha512; /* sha512 NULL: not wanted */
};

/* A file that one thread writes. */
struct outfile {
	int fd;
	bool direct;     /* O_DIRECT is set */
	bool buffered;   /* this file system has no O_DIRECT */
	uint64_t unsent; /* bytes in the page cache that were not sent to the disk yet */
};

struct sink {
	const struct fetch_order *order;
	enum sink_kind kind;
	bool want_sha512;
	/* The receiver's. */
	uint64_t body_bytes; /* taken */
	uint64_t part_bytes; /* of an earlier process, not read back yet */
	uint64_t expected;   /* of the whole body; 0: unknown */
	uint64_t save_ms;    /* when the last save was asked for */
	bool part_packed;
	struct chunk *filling;
	bool known; /* what kind of body it is */
	bool running;
	size_t thread_count;
	pthread_t threads[THREADS_MAX];
	struct hashes body, image;
	/* Fixed while threads run. */
	enum packing packing;
	bool packed; /* the body is not the image */
	struct queue body_free, body_full, kept, image_free, image_full, ready;
	/* The keeper's and the writer's. */
	struct outfile spool, file;
	/* Shared. */
	_Atomic uint64_t image_bytes; /* written */
	_Atomic uint64_t saved_bytes; /* of the body, synced */
	_Atomic bool failed;
	pthread_mutex_t lock; /* guards err */
	struct err err;       /* the first */
};

void hashes_init(struct hashes *hashes, bool want_sha512);
void hashes_add(struct hashes *hashes, const void *data, size_t len);
void hashes_finish(struct hashes *hashes, char sha256[65], char sha512[129]);
void hashes_done(struct hashes *hashes);

/* From any of the threads: the first error counts, and everybody stops. */
void sink_fail(struct sink *sink, const struct err *err);

void *sink_keep_main(void *arg);
void *sink_hash_main(void *arg);
void *sink_unpack_main(void *arg);
void *sink_write_main(void *arg);
/* More of the image: E_LIMIT.  *total: so far. */
int sink_check_total(const struct sink *sink, uint64_t *total, size_t len, struct err *err);
/* need 0: only what shall stay free.  E_NO_SPACE. */
int sink_check_space(const struct fetch_order *order, uint64_t need, struct err *err);

/* Without the page cache where that can be: the pages would be copied, and be in the way of
 * others.  0 or -1 with errno. */
int outfile_write(struct outfile *file, const void *data, size_t len, uint64_t at);
int outfile_save(struct outfile *file, uint64_t bytes); /* so long, and on the disk */
void outfile_done(struct outfile *file);                /* as it was given to us */

#endif
