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

enum store_kind { STORE_MACHINE, STORE_IMAGE, STORE_SOURCE, STORE_OPERATION, STORE_META, STORE_KINDS };

/* Opens or makes the database, checks it, moves its schema up.  Corrupt: the file is put aside
 * and the newest backup is restored; *ret_notice (owned, may be NULL) says what was done.  A newer
 * schema is refused.  Both gone: opened empty with a notice, and the caller rebuilds from the
 * machines' own vm.json. */
int store_open(const char *path, struct loop *loop, struct store **ret_store, char **ret_notice,
    struct err *err);
void store_close(struct store *store); /* flushes */

typedef void store_row_fn(void *arg, const char *id, const char *doc);
int store_each(struct store *store, enum store_kind kind, store_row_fn *fn, void *arg,
    struct err *err);
char *store_get(struct store *store, enum store_kind kind, const char *id); /* owned or NULL */

void store_put(struct store *store, enum store_kind kind, const char *id, const char *doc);
void store_remove(struct store *store, enum store_kind kind, const char *id);
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
/* Drops all but the newest `keep` events and ended operations. */
void store_trim(struct store *store, unsigned keep);
/* A failed background write is told here, once a failure (full disk …). */
void store_on_failure(struct store *store, void (*fn)(void *arg, const struct err *err), void *arg);
/* A consistent copy beside the database (path + ".backup"), on the store's thread. */
void store_backup(struct store *store);

#endif
