/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/image/fetcher/stage.h"

#include <assert.h>
#include <signal.h>
#include <stdlib.h>

#include "lib/base/mem.h"

enum { STACK_BYTES = 512 << 10 };

struct chunk *
chunk_create(void)
{
	struct chunk *chunk = aligned_alloc(BLOCK_BYTES, sizeof(*chunk));

	if (chunk == NULL)
		abort();
	chunk->len = 0;
	chunk->replayed = chunk->save = false;
	return chunk;
}

void
queue_init(struct queue *queue)
{
	*queue = (struct queue){ 0 };
	pthread_mutex_init(&queue->lock, NULL);
	pthread_cond_init(&queue->filled, NULL);
}

void
queue_done(struct queue *queue)
{
	for (size_t i = 0; i < queue->count; i++)
		free(queue->items[(queue->first + i) % ARRAY_LEN(queue->items)]);
	pthread_cond_destroy(&queue->filled);
	pthread_mutex_destroy(&queue->lock);
}

void
queue_put(struct queue *queue, struct chunk *chunk)
{
	pthread_mutex_lock(&queue->lock);
	if (queue->broken) {
		free(chunk);
	} else {
		assert(queue->count < ARRAY_LEN(queue->items));
		queue->items[(queue->first + queue->count++) % ARRAY_LEN(queue->items)] = chunk;
		pthread_cond_signal(&queue->filled);
	}
	pthread_mutex_unlock(&queue->lock);
}

struct chunk *
queue_take(struct queue *queue)
{
	struct chunk *chunk = NULL;

	pthread_mutex_lock(&queue->lock);
	while (queue->count == 0 && !queue->closed && !queue->broken)
		pthread_cond_wait(&queue->filled, &queue->lock);
	if (queue->count > 0 && !queue->broken) {
		chunk = queue->items[queue->first];
		queue->first = (queue->first + 1) % ARRAY_LEN(queue->items);
		queue->count--;
	}
	pthread_mutex_unlock(&queue->lock);
	return chunk;
}

void
queue_close(struct queue *queue)
{
	pthread_mutex_lock(&queue->lock);
	queue->closed = true;
	pthread_cond_broadcast(&queue->filled);
	pthread_mutex_unlock(&queue->lock);
}

void
queue_break(struct queue *queue)
{
	pthread_mutex_lock(&queue->lock);
	queue->broken = true;
	pthread_cond_broadcast(&queue->filled);
	pthread_mutex_unlock(&queue->lock);
}

bool
stage_start(pthread_t *ret_thread, void *(*run)(void *arg), void *arg)
{
	pthread_attr_t attr;
	sigset_t all, old;
	bool ok;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	ok = pthread_create(ret_thread, &attr, run, arg) == 0;
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return ok;
}
