/* SPDX-License-Identifier: MPL-2.0
 *
 * SQLite, and the one file that knows it.  Rows carry a sum over kind, id and document, because
 * SQLite itself does not notice a flipped bit inside a text. */
#include "lib/store/db.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/store/change.h"

/* Each brings the schema from its index to the next version; never edited once released.  A row
 * keeps its number when its document changes, so rows come back in the order of their making. */
#define ROWS(table, more)                                                                          \
	"CREATE TABLE " table " (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, " more       \
	"  sum INTEGER NOT NULL, doc TEXT NOT NULL);"
static const char *const migrations[] = {
	ROWS("machine", "") ROWS("image", "") ROWS("source", "") ROWS("meta", "")
	/* Before the document, so that trimming reads no overflow pages. */
	ROWS("operation", "ended INTEGER,")
	"CREATE TABLE event (seq INTEGER PRIMARY KEY, sum INTEGER NOT NULL, doc TEXT NOT NULL);",
	ROWS("name", ""),
};

static const char *const tables[STORE_KINDS] = {
	[STORE_MACHINE] = "machine",
	[STORE_IMAGE] = "image",
	[STORE_SOURCE] = "source",
	[STORE_OPERATION] = "operation",
	[STORE_META] = "meta",
	[STORE_NAME] = "name",
};

enum stmt {
	STMT_BEGIN,
	STMT_COMMIT,
	STMT_ROLLBACK,
	STMT_EVENT,
	STMT_TRIM_EVENTS,
	STMT_TRIM_OPERATIONS,
	STMT_PUT_OPERATION,
	STMT_EVENTS,
	STMT_RANGE,
	STMTS
};

static const char *const stmt_sql[STMTS] = {
	[STMT_BEGIN] = "BEGIN IMMEDIATE",
	[STMT_COMMIT] = "COMMIT",
	[STMT_ROLLBACK] = "ROLLBACK",
	[STMT_EVENT] = "INSERT OR REPLACE INTO event (seq, doc, sum) VALUES (?1, ?2, ?3)",
	[STMT_TRIM_EVENTS] = "DELETE FROM event WHERE seq <="
			     " (SELECT seq FROM event ORDER BY seq DESC LIMIT 1 OFFSET ?1)",
	[STMT_TRIM_OPERATIONS] =
	    "DELETE FROM operation WHERE ended IS NOT NULL AND number <= (SELECT number"
	    "  FROM operation WHERE ended IS NOT NULL ORDER BY number DESC LIMIT 1 OFFSET ?1)",
	/* No index: each change of a document would have to write it. */
	[STMT_PUT_OPERATION] =
	    "INSERT INTO operation (id, doc, sum, ended) VALUES (?1, ?2, ?3,"
	    "  CASE WHEN json_valid(?2) THEN json_extract(?2, '$.ended_ms') END) ON CONFLICT (id)"
	    " DO UPDATE SET doc = excluded.doc, sum = excluded.sum, ended = excluded.ended",
	[STMT_EVENTS] = "SELECT seq, doc FROM event WHERE seq > ?1 ORDER BY seq LIMIT ?2",
	[STMT_RANGE] = "SELECT ifnull(min(seq), 0), ifnull(max(seq), 0) FROM event",
};

/* One of each for every table. */
enum row_stmt { ROW_PUT, ROW_REMOVE, ROW_EACH, ROW_GET, ROW_STMTS };

static const char *const row_sql[ROW_STMTS] = {
	[ROW_PUT] = ("INSERT INTO %s (id, doc, sum) VALUES (?1, ?2, ?3)"
		     " ON CONFLICT (id) DO UPDATE SET doc = excluded.doc, sum = excluded.sum"),
	[ROW_REMOVE] = "DELETE FROM %s WHERE id = ?1",
	[ROW_EACH] = "SELECT id, doc FROM %s ORDER BY number",
	[ROW_GET] = "SELECT doc FROM %s WHERE id = ?1",
};

struct db {
	sqlite3 *handle;
	sqlite3_stmt *stmts[STMTS];
	sqlite3_stmt *row_stmts[STORE_KINDS][ROW_STMTS];
	char *path;
	unsigned wal_pages;
};

static int
fail(struct db *db, int rc, struct err *err, const char *what)
{
	enum err_code code = E_IO;
	int e = sqlite3_system_errno(db->handle);

	if (rc == SQLITE_FULL || ((rc & 0xff) == SQLITE_IOERR && (e == ENOSPC || e == EDQUOT)))
		code = E_NO_SPACE;
	else if ((rc & 0xff) == SQLITE_BUSY)
		code = E_BUSY;
	err_set(err, code, "can not %s the database '%s': %s", what, db->path,
	    sqlite3_errmsg(db->handle));
	if (code == E_NO_SPACE)
		err_hint(err, "free some space; machines can still be stopped and destroyed");
	return code;
}

static bool
is_damage(int rc)
{
	return (rc & 0xff) == SQLITE_CORRUPT || (rc & 0xff) == SQLITE_NOTADB;
}

/* Eight bytes at a time; every step can be undone, so that no single change goes unseen. */
static uint64_t
sum_add(uint64_t sum, const void *data, size_t len)
{
	const char *p = data;

	while (len > 0) {
		size_t n = len < sizeof(uint64_t) ? len : sizeof(uint64_t);
		uint64_t word = n;

		memcpy(&word, p, n);
		sum = (sum ^ word) * 0x9e3779b97f4a7c15ULL;
		sum ^= sum >> 32;
		p += n;
		len -= n;
	}
	return sum;
}

/* number: the kind, or an event's seq. */
static int64_t
row_sum(uint64_t number, const char *id, const char *doc)
{
	uint64_t sum = sum_add(1, &number, sizeof(number));

	sum = sum_add(sum, id, strlen(id) + 1);
	return (int64_t)sum_add(sum, doc, strlen(doc) + 1);
}

/* ---- statements ---- */

static sqlite3_stmt *
stmt(struct db *db, enum stmt which)
{
	sqlite3_stmt *s = db->stmts[which];

	sqlite3_reset(s);
	sqlite3_clear_bindings(s);
	return s;
}

static sqlite3_stmt *
row_stmt(struct db *db, enum store_kind kind, enum row_stmt which)
{
	sqlite3_stmt *s = db->row_stmts[kind][which];

	sqlite3_reset(s);
	sqlite3_clear_bindings(s);
	return s;
}

static const char *
column(sqlite3_stmt *s, int i)
{
	const unsigned char *text = sqlite3_column_text(s, i);

	return text != NULL ? (const char *)text : "";
}

/* Runs a statement that answers nothing.  Resetting at once ends its locks. */
static int
run(struct db *db, sqlite3_stmt *s, struct err *err, const char *what)
{
	int rc = sqlite3_step(s);

	rc = rc == SQLITE_DONE ? 0 : fail(db, rc, err, what);
	sqlite3_reset(s);
	return rc;
}

int
db_begin(struct db *db, struct err *err)
{
	return run(db, stmt(db, STMT_BEGIN), err, "write");
}

int
db_commit(struct db *db, struct err *err)
{
	return run(db, stmt(db, STMT_COMMIT), err, "write");
}

void
db_rollback(struct db *db)
{
	/* SQLite may have rolled back by itself (a full disk). */
	if (!sqlite3_get_autocommit(db->handle))
		run(db, stmt(db, STMT_ROLLBACK), NULL, "roll back");
}

int
db_apply(struct db *db, const struct change *c, struct err *err)
{
	sqlite3_stmt *s = NULL;
	int rc;

	switch (c->type) {
	case CHANGE_PUT:
		s = c->kind == STORE_OPERATION ? stmt(db, STMT_PUT_OPERATION) :
						 row_stmt(db, c->kind, ROW_PUT);
		sqlite3_bind_text(s, 1, c->id, -1, SQLITE_STATIC);
		sqlite3_bind_text(s, 2, c->doc, -1, SQLITE_STATIC);
		sqlite3_bind_int64(s, 3, row_sum(c->kind, c->id, c->doc));
		break;
	case CHANGE_REMOVE:
		s = row_stmt(db, c->kind, ROW_REMOVE);
		sqlite3_bind_text(s, 1, c->id, -1, SQLITE_STATIC);
		break;
	case CHANGE_EVENT:
		s = stmt(db, STMT_EVENT);
		sqlite3_bind_int64(s, 1, (int64_t)c->number);
		sqlite3_bind_text(s, 2, c->doc, -1, SQLITE_STATIC);
		sqlite3_bind_int64(s, 3, row_sum(c->number, "", c->doc));
		break;
	case CHANGE_TRIM:
		s = stmt(db, STMT_TRIM_EVENTS);
		sqlite3_bind_int64(s, 1, (int64_t)c->number);
		rc = run(db, s, err, "write");
		if (rc != 0)
			return rc;
		s = stmt(db, STMT_TRIM_OPERATIONS);
		sqlite3_bind_int64(s, 1, (int64_t)c->number);
		break;
	}
	return run(db, s, err, "write");
}

int
db_each(struct db *db, enum store_kind kind, store_row_fn *fn, void *arg, struct err *err)
{
	sqlite3_stmt *s = row_stmt(db, kind, ROW_EACH);
	int rc;

	while ((rc = sqlite3_step(s)) == SQLITE_ROW)
		fn(arg, column(s, 0), column(s, 1));
	rc = rc == SQLITE_DONE ? 0 : fail(db, rc, err, "read");
	sqlite3_reset(s);
	return rc;
}

char *
db_get(struct db *db, enum store_kind kind, const char *id)
{
	sqlite3_stmt *s = row_stmt(db, kind, ROW_GET);
	char *doc = NULL;

	sqlite3_bind_text(s, 1, id, -1, SQLITE_STATIC);
	if (sqlite3_step(s) == SQLITE_ROW)
		doc = xstrdup(column(s, 0));
	sqlite3_reset(s);
	return doc;
}

int
db_events(struct db *db, uint64_t after, unsigned limit, store_event_fn *fn, void *arg,
    struct err *err)
{
	sqlite3_stmt *s = stmt(db, STMT_EVENTS);
	int rc;

	sqlite3_bind_int64(s, 1, after > INT64_MAX ? INT64_MAX : (int64_t)after);
	sqlite3_bind_int64(s, 2, limit);
	while ((rc = sqlite3_step(s)) == SQLITE_ROW)
		fn(arg, (uint64_t)sqlite3_column_int64(s, 0), column(s, 1));
	rc = rc == SQLITE_DONE ? 0 : fail(db, rc, err, "read");
	sqlite3_reset(s);
	return rc;
}

void
db_event_range(struct db *db, uint64_t *ret_first, uint64_t *ret_last)
{
	sqlite3_stmt *s = stmt(db, STMT_RANGE);

	*ret_first = *ret_last = 0;
	if (sqlite3_step(s) == SQLITE_ROW) {
		*ret_first = (uint64_t)sqlite3_column_int64(s, 0);
		*ret_last = (uint64_t)sqlite3_column_int64(s, 1);
	}
	sqlite3_reset(s);
}

/* ---- opening ---- */

static int
exec(struct db *db, const char *sql, bool *ret_damaged, struct err *err)
{
	int rc = sqlite3_exec(db->handle, sql, NULL, NULL, NULL);

	if (rc == SQLITE_OK)
		return 0;
	*ret_damaged |= is_damage(rc);
	return fail(db, rc, err, "open");
}

/* The first column of the first row: a number, or a text compared with `want`. */
static int
query(struct db *db, const char *sql, const char *want, int64_t *ret_value, bool *ret_damaged,
    struct err *err)
{
	sqlite3_stmt *s = NULL;
	int rc = sqlite3_prepare_v2(db->handle, sql, -1, &s, NULL);

	if (rc == SQLITE_OK)
		rc = sqlite3_step(s);
	if (rc == SQLITE_ROW) {
		if (ret_value != NULL)
			*ret_value = sqlite3_column_int64(s, 0);
		rc = SQLITE_OK;
		if (want != NULL && !str_eq(column(s, 0), want)) {
			*ret_damaged = true;
			rc = err_set(err, E_IO, "the database '%s' is damaged: %s", db->path,
			    column(s, 0));
		}
	} else {
		*ret_damaged |= is_damage(rc);
		rc = fail(db, rc, err, "read");
	}
	sqlite3_finalize(s);
	return rc;
}

/* Every row's sum; `sql` answers number, id, doc, sum. */
static int
check_sums(struct db *db, const char *sql, bool *ret_damaged, struct err *err)
{
	sqlite3_stmt *s = NULL;
	int rc = sqlite3_prepare_v2(db->handle, sql, -1, &s, NULL);

	while (rc == SQLITE_OK || rc == SQLITE_ROW) {
		rc = sqlite3_step(s);
		if (rc != SQLITE_ROW)
			break;
		if (row_sum((uint64_t)sqlite3_column_int64(s, 0), column(s, 1), column(s, 2)) !=
		    sqlite3_column_int64(s, 3)) {
			*ret_damaged = true;
			rc = err_set(err, E_IO, "the database '%s' is damaged: the row '%s' of "
						"kind %lld has another sum",
			    db->path, column(s, 1), sqlite3_column_int64(s, 0));
			sqlite3_finalize(s);
			return rc;
		}
	}
	*ret_damaged |= is_damage(rc);
	rc = rc == SQLITE_DONE ? 0 : fail(db, rc, err, "read");
	sqlite3_finalize(s);
	return rc;
}

static int
verify(struct db *db, bool *ret_damaged, struct err *err)
{
	int rc = query(db, "PRAGMA integrity_check(1)", "ok", NULL, ret_damaged, err);

	for (int kind = 0; rc == 0 && kind < STORE_KINDS; kind++) {
		CLEANUP_FREE char *sql = xasprintf("SELECT %d, id, doc, sum FROM %s", kind,
		    tables[kind]);

		rc = check_sums(db, sql, ret_damaged, err);
	}
	if (rc == 0)
		rc = check_sums(db, "SELECT seq, '', doc, sum FROM event", ret_damaged, err);
	return rc;
}

static int
migrate(struct db *db, bool *ret_damaged, struct err *err)
{
	const int64_t latest = ARRAY_LEN(migrations);
	int64_t version = 0;
	int rc = query(db, "PRAGMA user_version", NULL, &version, ret_damaged, err);

	if (rc != 0)
		return rc;
	if (version < 0 || version > latest) {
		err_set(err, E_UNSUPPORTED,
		    "the database '%s' has schema %lld, and this vmmd knows %lld at most", db->path,
		    (long long)version, (long long)latest);
		err_hint(err, "a newer vmmd wrote it: use that one, or another data folder");
		return E_UNSUPPORTED;
	}
	for (; version < latest && rc == 0; version++) {
		CLEANUP_FREE char *sql = xasprintf("BEGIN IMMEDIATE; %s PRAGMA user_version = %lld;"
						   "COMMIT", migrations[version],
		    (long long)version + 1);

		rc = exec(db, sql, ret_damaged, err);
		if (rc != 0)
			sqlite3_exec(db->handle, "ROLLBACK", NULL, NULL, NULL);
	}
	return rc;
}

/* The text with %s replaced: printf wants its formats constant. */
static char *
row_text(const char *sql, const char *table)
{
	const char *mark = strstr(sql, "%s");

	return xasprintf("%.*s%s%s", (int)(mark - sql), sql, table, mark + 2);
}

static int
prepare_one(struct db *db, const char *sql, sqlite3_stmt **ret_stmt, bool *ret_damaged,
    struct err *err)
{
	int rc = sqlite3_prepare_v3(db->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, ret_stmt, NULL);

	if (rc == SQLITE_OK)
		return 0;
	/* The version says that the tables are there. */
	*ret_damaged |= is_damage(rc) || rc == SQLITE_ERROR;
	return fail(db, rc, err, "read");
}

static int
prepare(struct db *db, bool *ret_damaged, struct err *err)
{
	int rc = 0;

	for (int i = 0; rc == 0 && i < STMTS; i++)
		rc = prepare_one(db, stmt_sql[i], &db->stmts[i], ret_damaged, err);
	for (int i = 0; rc == 0 && i < STORE_KINDS * ROW_STMTS; i++) {
		int kind = i / ROW_STMTS, which = i % ROW_STMTS;
		CLEANUP_FREE char *sql = row_text(row_sql[which], tables[kind]);

		rc = prepare_one(db, sql, &db->row_stmts[kind][which], ret_damaged, err);
	}
	return rc;
}

static int
on_wal(void *arg, sqlite3 *handle, const char *name, int pages)
{
	struct db *db = arg;

	db->wal_pages = (unsigned)pages;
	return SQLITE_OK;
}

static void
db_closep(struct db **db)
{
	db_close(*db);
}

int
db_open(const char *path, bool check, struct db **ret_db, bool *ret_damaged, struct err *err)
{
	CLEANUP(db_closep) struct db *db = xcalloc(1, sizeof(*db));
	bool damaged = false;
	int rc, fd;

	*ret_damaged = false;
	db->path = xstrdup(path);
	/* SQLite would make it readable for others; its log takes the mode of the file. */
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd >= 0)
		close(fd);
	else if (errno != EEXIST)
		return err_errno(err, E_IO, errno, "can not make the database '%s'", path);
	rc = sqlite3_open_v2(path, &db->handle, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX |
		SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_EXRESCODE, NULL);
	if (rc != SQLITE_OK)
		return fail(db, rc, err, "open");
	sqlite3_busy_timeout(db->handle, 5000);
	/* Checkpoints are made by the store's thread, so that a commit never waits for one. */
	rc = exec(db,
	    "PRAGMA cell_size_check = ON; PRAGMA cache_size = -256;"
	    "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;"
	    "PRAGMA journal_size_limit = 4194304", &damaged, err);
	if (rc == 0 && check)
		rc = migrate(db, &damaged, err);
	if (rc == 0 && check)
		rc = prepare(db, &damaged, err);
	if (rc == 0 && check)
		rc = verify(db, &damaged, err);
	*ret_damaged = damaged;
	if (rc != 0)
		return rc;
	sqlite3_db_release_memory(db->handle);
	sqlite3_wal_hook(db->handle, on_wal, db);
	*ret_db = TAKE(db);
	return 0;
}

void
db_close(struct db *db)
{
	if (db == NULL)
		return;
	for (int i = 0; i < STMTS; i++)
		sqlite3_finalize(db->stmts[i]);
	for (int i = 0; i < STORE_KINDS * ROW_STMTS; i++)
		sqlite3_finalize(db->row_stmts[i / ROW_STMTS][i % ROW_STMTS]);
	sqlite3_close(db->handle);
	mem_freep(&db->path);
	free(db);
}

/* ---- the log and copies ---- */

unsigned
db_wal_pages(const struct db *db)
{
	return db->wal_pages;
}

void
db_checkpoint(struct db *db, bool restart)
{
	int mode = restart ? SQLITE_CHECKPOINT_RESTART : SQLITE_CHECKPOINT_PASSIVE;

	if (sqlite3_wal_checkpoint_v2(db->handle, NULL, mode, NULL, NULL) == SQLITE_OK && restart)
		db->wal_pages = 0;
}

static int
sync_file(const char *path, struct err *err)
{
	CLEANUP_FD int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0 || fsync(fd) < 0)
		return err_errno(err, E_IO, errno, "can not write '%s'", path);
	return 0;
}

int
db_copy(struct db *db, const char *to, struct err *err)
{
	CLEANUP_FREE char *tmp = xasprintf("%s.tmp", to), *dir = fs_dirname(to);
	sqlite3_stmt *s = NULL;
	struct db *copy = NULL;
	bool damaged;
	int rc, fd;

	unlink(tmp);
	/* An empty file is accepted as a target, and has our mode from the first byte. */
	fd = open(tmp, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_errno(err, E_IO, errno, "can not make '%s'", tmp);
	close(fd);
	rc = sqlite3_prepare_v2(db->handle, "VACUUM INTO ?1", -1, &s, NULL);
	if (rc == SQLITE_OK) {
		sqlite3_bind_text(s, 1, tmp, -1, SQLITE_STATIC);
		rc = sqlite3_step(s);
	}
	rc = rc == SQLITE_DONE ? 0 : fail(db, rc, err, "copy");
	sqlite3_finalize(s);
	/* A damaged database must not take the place of the last good copy. */
	if (rc == 0)
		rc = db_open(tmp, true, &copy, &damaged, err);
	if (rc == 0) {
		db_checkpoint(copy, true);
		db_close(copy);
		rc = sync_file(tmp, err);
	}
	if (rc == 0 && rename(tmp, to) < 0)
		rc = err_errno(err, E_IO, errno, "can not write '%s'", to);
	if (rc == 0)
		return fs_sync_dir(dir, err);
	unlink(tmp);
	return rc;
}
