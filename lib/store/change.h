/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_STORE_CHANGE_H
#define LIB_STORE_CHANGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <uthash.h>

#include "lib/store/store.h"

/* What is to be written, and the queue of it.  Inside of lib/store only.  No locks here: the
 * store's queue is used under the store's lock. */

enum change_type { CHANGE_PUT, CHANGE_REMOVE, CHANGE_EVENT, CHANGE_TRIM };

struct change {
	TAILQ_ENTRY(change) link;
	UT_hash_handle hh; /* by key; events have none and are not in the table */
	enum change_type type;
	enum store_kind kind;
	uint64_t number; /* an event's seq; how many to keep for a trim */
	char *id;	 /* part of key */
	char *doc;	 /* owned, NULL for removals */
	size_t bytes;
	bool written; /* by the transaction under way */
	char key[]; /* kind, id */
};

TAILQ_HEAD(change_list, change);

/* A later change of a row takes the place of an earlier one: everything queued is written in one
 * transaction, so only the last document of a row counts. */
struct queue {
	struct change_list list;
	struct change *by_key;
	size_t bytes;
	size_t events;
};

struct change *change_create(enum change_type type, enum store_kind kind, const char *id,
    const char *doc, uint64_t number); /* id, doc: copied */
void change_destroy(struct change *change);

void queue_init(struct queue *queue);
void queue_done(struct queue *queue);
bool queue_empty(const struct queue *queue);
void queue_push(struct queue *queue, struct change *change); /* change: taken */
/* Puts what could not be written back before what came later.  older is empty afterwards. */
void queue_push_older(struct queue *queue, struct queue *older);
void queue_move(struct queue *from, struct queue *to); /* to must be empty */
void queue_remove(struct queue *queue, struct change *change); /* and destroys it */
/* Drops the oldest events above `max`; returns how many. */
size_t queue_drop_events(struct queue *queue, size_t max);
const struct change *queue_find(const struct queue *queue, enum store_kind kind, const char *id);

#endif
