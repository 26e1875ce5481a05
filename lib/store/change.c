/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/store/change.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/mem.h"

struct change *
change_create(enum change_type type, enum store_kind kind, const char *id, const char *doc,
    uint64_t number)
{
	size_t id_len = strlen(id), doc_len = doc != NULL ? strlen(doc) : 0;
	struct change *c = xcalloc(1, sizeof(*c) + id_len + 2);

	c->type = type;
	c->kind = kind;
	c->number = number;
	c->key[0] = (char)(type == CHANGE_TRIM ? STORE_KINDS + 1 : kind + 1);
	memcpy(c->key + 1, id, id_len + 1);
	c->id = c->key + 1;
	c->doc = xstrdup(doc);
	c->bytes = sizeof(*c) + id_len + doc_len;
	return c;
}

void
change_destroy(struct change *change)
{
	if (change == NULL)
		return;
	free(change->doc);
	free(change);
}

void
queue_init(struct queue *queue)
{
	memset(queue, 0, sizeof(*queue));
	TAILQ_INIT(&queue->list);
}

void
queue_remove(struct queue *queue, struct change *change)
{
	TAILQ_REMOVE(&queue->list, change, link);
	if (change->type == CHANGE_EVENT)
		queue->events--;
	else
		HASH_DEL(queue->by_key, change);
	queue->bytes -= change->bytes;
	change_destroy(change);
}

void
queue_done(struct queue *queue)
{
	struct change *c;

	while ((c = TAILQ_FIRST(&queue->list)) != NULL)
		queue_remove(queue, c);
}

bool
queue_empty(const struct queue *queue)
{
	return TAILQ_EMPTY(&queue->list);
}

static struct change *
find_same(const struct queue *queue, const struct change *change)
{
	struct change *found = NULL;

	if (change->type != CHANGE_EVENT)
		HASH_FIND_STR(queue->by_key, change->key, found);
	return found;
}

static void
account(struct queue *queue, struct change *change)
{
	queue->bytes += change->bytes;
	if (change->type == CHANGE_EVENT)
		queue->events++;
	else
		HASH_ADD_STR(queue->by_key, key, change);
}

void
queue_push(struct queue *queue, struct change *change)
{
	struct change *older = find_same(queue, change);

	if (older != NULL)
		queue_remove(queue, older);
	TAILQ_INSERT_TAIL(&queue->list, change, link);
	account(queue, change);
}

void
queue_push_older(struct queue *queue, struct queue *older)
{
	struct change *c;

	while ((c = TAILQ_LAST(&older->list, change_list)) != NULL) {
		if (find_same(queue, c) != NULL) {
			queue_remove(older, c);
			continue;
		}
		TAILQ_REMOVE(&older->list, c, link);
		if (c->type == CHANGE_EVENT)
			older->events--;
		else
			HASH_DEL(older->by_key, c);
		older->bytes -= c->bytes;
		TAILQ_INSERT_HEAD(&queue->list, c, link);
		account(queue, c);
	}
}

void
queue_move(struct queue *from, struct queue *to)
{
	TAILQ_CONCAT(&to->list, &from->list, link);
	to->by_key = from->by_key;
	to->bytes = from->bytes;
	to->events = from->events;
	queue_init(from);
}

size_t
queue_drop_events(struct queue *queue, size_t max)
{
	struct change *c = TAILQ_FIRST(&queue->list), *next;
	size_t dropped = 0;

	for (; c != NULL && queue->events > max; c = next) {
		next = TAILQ_NEXT(c, link);
		if (c->type == CHANGE_EVENT) {
			queue_remove(queue, c);
			dropped++;
		}
	}
	return dropped;
}

const struct change *
queue_find(const struct queue *queue, enum store_kind kind, const char *id)
{
	struct change *probe = change_create(CHANGE_REMOVE, kind, id, NULL, 0);
	struct change *found = find_same(queue, probe);

	change_destroy(probe);
	return found;
}
