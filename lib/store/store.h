/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_STORE_STORE_H
#define LIB_STORE_STORE_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/err.h"

struct loop;
struct store;

/* Durable state: JSON documents by kind and id, and numbered events, in one SQLite database
 * (WAL, synchronous=FULL).  Loop thread only.
 *
 * store_commit_* returns when the change is on the disk: for intent, before a side effect.
 * store_put/store_remove/store_event queue the change for the store's own thread.  Order is kept:
 * a commit also makes everything durable that was queued before it. */

/* In the order of their making: a row's sum covers its kind's number. */
enum store_kind {
	STORE_MACHINE,
	STORE_IMAGE,
	STORE_SOURCE,
	STORE_OPERATION,
	STORE_META,
	STORE_NAME,
	STORE_KINDS
};

/* Opens or makes the database, checks it, moves its schema up.  Corrupt: the file is put aside
 * and the newest backup is restored; *ret_notice (owned, may be NULL) says what was done.  A newer
 * schema is refused.  Both gone: opened empty with a notice, and the caller rebuilds from the
 * machines' own vm.json. */
int store_open(const char *path, struct loop *loop, struct store **ret_store, char **ret_notice,
    struct err *err);
void store_close(struct store *store); /* flushes */

/* Row functions are called with the store locked: they may queue changes, but neither commit nor
 * read.  Rows come in the order in which they were first put.  What is queued is written first;
 * on a full disk, what is queued is missing here (store_get sees it). */
typedef void store_row_fn(void *arg, const char *id, const char *doc);
int store_each(struct store *store, enum store_kind kind, store_row_fn *fn, void *arg,
    struct err *err);
char *store_get(struct store *store, enum store_kind kind, const char *id); /* owned or NULL */

void store_put(struct store *store, enum store_kind kind, const char *id, const char *doc);
void store_remove(struct store *store, enum store_kind kind, const char *id);
/* A failed commit has changed nothing.  On a full disk (E_NO_SPACE) new machines and images are
 * refused, while other changes go on for a while, from a small file kept beside the database. */
int store_commit_put(struct store *store, enum store_kind kind, const char *id, const char *doc,
    struct err *err);
int store_commit_remove(struct store *store, enum store_kind kind, const char *id, struct err *err);
int store_commit(struct store *store, struct err *err); /* everything queued so far */

/* Events: seq is given by the caller, ascending. */
uint64_t store_last_event(struct store *store); /* 0: none */
uint64_t store_first_event(struct store *store);
void store_event(struct store *store, uint64_t seq, const char *doc);
typedef void store_event_fn(void *arg, uint64_t seq, const char *doc);
int store_events(struct store *store, uint64_t after, unsigned limit, store_event_fn *fn, void *arg,
    struct err *err);
/* Queues: drop all but the newest `keep` events and the newest `keep` ended operations, which are
 * those whose document has a member "ended_ms" that is not null. */
void store_trim(struct store *store, unsigned keep);
/* A failed background write is told here, once a failure (full disk …); it is tried again every
 * few seconds, and rows lose nothing by it.  The newest 10,000 events are kept meanwhile. */
void store_on_failure(struct store *store, void (*fn)(void *arg, const struct err *err), void *arg);
/* A consistent, verified copy beside the database (path + ".backup"), on the store's thread. */
void store_backup(struct store *store);

#endif
