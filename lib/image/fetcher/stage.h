/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_IMAGE_FETCHER_STAGE_H
#define LIB_IMAGE_FETCHER_STAGE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Chunks of memory that go from thread to thread.  A queue holds all chunks that exist of its
 * kind, so putting never blocks; taking does, until there is one, it is closed, or it is broken. */

/* Whole blocks of memory, so that the kernel can write them without a copy. */
enum { BLOCK_BYTES = 4096, CHUNK_BYTES = 512 << 10, CHUNK_COUNT = 8 };

struct chunk {
	size_t len;
	bool replayed; /* the bytes are on the disk already */
	bool save;     /* they shall be, before what follows is taken */
	_Alignas(BLOCK_BYTES) unsigned char data[CHUNK_BYTES];
};

struct chunk *chunk_create(void); /* free() ends it */

struct queue {
	pthread_mutex_t lock;
	pthread_cond_t filled;
	struct chunk *items[2 * CHUNK_COUNT];
	size_t first, count;
	bool closed, broken;
};

void queue_init(struct queue *queue);
void queue_done(struct queue *queue);                     /* frees the chunks in it */
void queue_put(struct queue *queue, struct chunk *chunk); /* takes it; broken: frees it */
/* NULL: closed and empty, or broken. */
struct chunk *queue_take(struct queue *queue);
void queue_close(struct queue *queue); /* no more will be put */
void queue_break(struct queue *queue); /* nobody shall wait any more */

/* A thread of this process with all signals left to the first one. */
bool stage_start(pthread_t *ret_thread, void *(*run)(void *arg), void *arg);

#endif
