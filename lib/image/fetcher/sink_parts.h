/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_IMAGE_FETCHER_SINK_PARTS_H
#define LIB_IMAGE_FETCHER_SINK_PARTS_H

#include <openssl/evp.h>
#include <pthread.h>
#include <stdatomic.h>

#include "lib/image/fetcher/sink.h"
#include "lib/image/fetcher/stage.h"

/* The sink as its own files see it.
 *
 *   receiver (sink.c)  ->  body  ->  unpacker (sink_unpack.c)  ->  image  ->  writer (sink_write.c)
 *
 * Chunks of a body that is the image pass the unpacker as they are; it hashes them.  A packed body
 * is hashed and kept in SPOOL_FD by the unpacker, and the writer hashes the image.  A fourth
 * thread, the keeper, syncs what is there of the body now and then.  Threads begin with the first
 * bytes and end with the sink, a restart, or the first error. */

enum packing { PACK_NONE, PACK_GZIP, PACK_BZIP2, PACK_XZ, PACK_ZSTD, PACK_COUNT };
extern const char *const packing_names[PACK_COUNT];

enum { HEAD_BYTES = 6 };

struct hashes {
	EVP_MD_CTX *sha256, *sha512; /* sha512 NULL: not wanted */
};

struct sink {
	const struct fetch_order *order;
	enum sink_kind kind;
	bool want_sha512;
	/* The receiver's. */
	uint64_t body_bytes; /* taken */
	uint64_t part_bytes; /* of an earlier process, not read back yet */
	uint64_t expected;   /* of the whole body; 0: unknown */
	bool part_packed;
	struct chunk *filling;
	bool known; /* what kind of body it is */
	bool running;
	size_t thread_count;
	pthread_t threads[3];
	struct hashes body, image;
	/* Fixed while threads run. */
	enum packing packing;
	bool packed; /* the body is not the image */
	struct queue body_free, body_full, image_free, image_full;
	/* Shared. */
	_Atomic uint64_t image_bytes; /* written */
	_Atomic uint64_t kept_bytes;  /* of the body, in its file */
	_Atomic uint64_t saved_bytes; /* of these, synced */
	_Atomic bool failed;
	pthread_mutex_t lock; /* guards err and ended */
	pthread_cond_t wake;
	bool ended;
	struct err err; /* the first */
};

void hashes_init(struct hashes *hashes, bool want_sha512);
void hashes_add(struct hashes *hashes, const void *data, size_t len);
void hashes_finish(struct hashes *hashes, char sha256[65], char sha512[129]);
void hashes_done(struct hashes *hashes);

/* From any of the threads: the first error counts, and everybody stops. */
void sink_fail(struct sink *sink, const struct err *err);
enum packing sink_packing(const unsigned char *head, size_t len);

void *sink_unpack_main(void *arg);
void *sink_write_main(void *arg);
void *sink_keep_main(void *arg);
/* The next chunk of the body, hashed and kept; NULL: its end, or an error. */
struct chunk *sink_next_body(struct sink *sink);
/* Full output of the unpacker goes on; E_LIMIT.  Takes the chunk. */
int sink_put_image(struct sink *sink, struct chunk *chunk, uint64_t *total, struct err *err);
/* gzip, with the checksum of every member. */
int sink_gunzip(struct sink *sink, uint64_t *total, struct err *err);
/* need 0: only what shall stay free.  E_NO_SPACE. */
int sink_check_space(const struct fetch_order *order, uint64_t need, struct err *err);
int sink_pwrite(int fd, const void *data, size_t len, uint64_t at); /* 0 or -1 with errno */

#endif
