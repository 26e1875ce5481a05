/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_STORE_DB_H
#define LIB_STORE_DB_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/store/store.h"

/* One connection to the database: schema, checks and statements.  Inside of lib/store only.  A
 * connection is used by one thread at a time; who that is, is the caller's business. */

struct change;
struct db;

/* Opens or makes the file (0600).  check: the schema is moved up, the pages and every row's sum
 * are verified; without it the connection is good for checkpoints and copies only.  *ret_damaged tells a damaged file from one that can not be opened. */
int db_open(const char *path, bool check, struct db **ret_db, bool *ret_damaged, struct err *err);
void db_close(struct db *db);

int db_begin(struct db *db, struct err *err);
int db_commit(struct db *db, struct err *err);
void db_rollback(struct db *db);
int db_apply(struct db *db, const struct change *change, struct err *err);

int db_each(struct db *db, enum store_kind kind, store_row_fn *fn, void *arg, struct err *err);
char *db_get(struct db *db, enum store_kind kind, const char *id); /* owned or NULL */
int db_events(struct db *db, uint64_t after, unsigned limit, store_event_fn *fn, void *arg,
    struct err *err);
void db_event_range(struct db *db, uint64_t *ret_first, uint64_t *ret_last);

unsigned db_wal_pages(const struct db *db); /* as of this connection's last commit */
/* Moves the log's pages into the file.  restart: also lets the log begin
 * anew in its own space. */
void db_checkpoint(struct db *db, bool restart);
/* Writes a verified copy and puts it at `to` in one step. */
int db_copy(struct db *db, const char *to, struct err *err);

#endif
