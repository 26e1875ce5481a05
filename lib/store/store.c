/* SPDX-License-Identifier: MPL-2.0
 *
 * The store: two threads, two connections, two locks.
 *
 * The loop queues changes; a few milliseconds later a worker of the store's own pool drains the
 * queue, one transaction a batch.  A commit on the loop takes the queue along with its own change.
 * Both use the connection `db` under `db_lock`, held from taking the queue to the end of the
 * transaction, so that order is kept.  `queue_lock` is held for moments only, so that queueing
 * never waits for a disk.  Order: db_lock, then queue_lock.  The connection `side` is the worker's
 * alone, for checkpoints and copies, which must not hold up a commit.  The locks are SQLite's own
 * mutexes: only the worker pool knows pthread.
 *
 * A full disk.  A file of SPARE_BYTES lies beside the database.  When a commit finds no space, the
 * log is begun anew; then the spare file is given up, but only for changes that do not begin a
 * machine or an image, so that stopping and destroying keep working.  Without it, queued changes
 * that add rows (events, above all) wait.  Each write, and a timer, tries to make it again. */
#include "lib/store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/worker.h"
#include "lib/store/change.h"
#include "lib/store/db.h"
#include "lib/store/recover.h"

enum {
	QUEUE_BYTES = 4 << 20, /* more than this is written by the loop itself */
	QUEUE_EVENTS = 10000,  /* kept while nothing can be written */
	WAL_PAGES = 1000,      /* so many new ones are worth a checkpoint */
	WAL_PAGES_MAX = 8000,  /* 32 MiB: commits must wait for one */
	/* What the file may have to grow by to take in the log, and some changes more. */
	SPARE_BYTES = WAL_PAGES * 4096 + 512 * 1024,
	DRAIN_MS = 10, /* a commit that comes meanwhile takes the queue along */
	RETRY_MS = 5000,
	SLOW_MS = 100,
};

struct store {
	struct loop *loop;
	struct worker_pool *pool; /* one thread */
	struct timer *next_drain;
	char *path, *spare_path, *backup_path;
	struct db *side;	     /* the worker's */
	unsigned checkpointed_pages; /* the worker's; of the log, at its last checkpoint */

	sqlite3_mutex *db_lock;
	struct db *db;
	bool spare; /* the file is there */

	sqlite3_mutex *queue_lock;
	struct queue queue;

	/* Loop thread. */
	bool draining; /* a job is under way */
	bool want_backup, failing;
	uint64_t last_event;
	void (*on_failure)(void *arg, const struct err *err);
	void *on_failure_arg;
};

struct drain {
	struct store *store;
	bool backup;
	struct err err;
};

/* ---- the spare file; under db_lock ---- */

static void
make_spare(struct store *store)
{
	CLEANUP_FD int fd = -1;

	if (store->spare)
		return;
	fd = open(store->spare_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	store->spare = fd >= 0 && posix_fallocate(fd, 0, SPARE_BYTES) == 0;
	if (!store->spare)
		unlink(store->spare_path);
}

static void
give_up_spare(struct store *store)
{
	if (store->spare && unlink(store->spare_path) == 0)
		log_debug("store: no space; the spare file was given up");
	store->spare = false;
}

/* ---- writing; under db_lock ---- */

/* Does the change add a row? */
static bool
adds(struct store *store, const struct change *c)
{
	CLEANUP_FREE char *old = NULL;

	if (c->type != CHANGE_PUT)
		return c->type == CHANGE_EVENT;
	old = db_get(store->db, c->kind, c->id);
	return old == NULL;
}

/* Does it begin something that will need more space later? */
static bool
begins(struct store *store, const struct change *c)
{
	return (c->kind == STORE_MACHINE || c->kind == STORE_IMAGE) && adds(store, c);
}

/* One transaction of the batch and `extra` (may be NULL).  sparing: what adds rows is left in the
 * batch.  What was written is gone from it. */
static int
transact(struct store *store, struct queue *batch, const struct change *extra, bool sparing,
    struct err *err)
{
	struct change *c, *next;
	int rc = db_begin(store->db, err);

	if (rc != 0)
		return rc;
	TAILQ_FOREACH(c, &batch->list, link) {
		c->written = !sparing || !adds(store, c);
		if (c->written)
			rc = db_apply(store->db, c, err);
		if (rc != 0)
			goto undo;
	}
	if (extra != NULL)
		rc = db_apply(store->db, extra, err);
	if (rc == 0)
		rc = db_commit(store->db, err);
	if (rc != 0)
		goto undo;
	for (c = TAILQ_FIRST(&batch->list); c != NULL; c = next) {
		next = TAILQ_NEXT(c, link);
		if (c->written)
			queue_remove(batch, c);
	}
	return 0;
undo:
	db_rollback(store->db);
	return rc;
}

static int
no_space(const struct store *store, struct err *err)
{
	err_set(err, E_NO_SPACE, "the file system of the database '%s' is full", store->path);
	err_hint(err, "free some space; machines can still be stopped and destroyed");
	return E_NO_SPACE;
}

static int
write_batch(struct store *store, struct queue *batch, const struct change *extra, struct err *err)
{
	int rc;

	make_spare(store);
	if (!store->spare && extra != NULL && begins(store, extra))
		return no_space(store, err);
	rc = transact(store, batch, extra, !store->spare, err);
	if (rc == E_NO_SPACE) {
		db_checkpoint(store->db, true);
		rc = transact(store, batch, extra, !store->spare, err);
	}
	if (rc == E_NO_SPACE && store->spare && extra != NULL && !begins(store, extra)) {
		give_up_spare(store);
		db_checkpoint(store->db, true);
		rc = transact(store, batch, extra, true, err);
	}
	/* Without a spare file the log must not grow. */
	if (!store->spare || db_wal_pages(store->db) > WAL_PAGES_MAX)
		db_checkpoint(store->db, true);
	if (rc == 0 && extra == NULL && !queue_empty(batch))
		return no_space(store, err);
	return rc;
}

/* Writes the queue and `extra` (may be NULL: nobody waits).  What could not be written goes back
 * into the queue; extra does not. */
static int
write_out(struct store *store, const struct change *extra, struct err *err)
{
	struct queue batch;
	int rc = 0;

	queue_init(&batch);
	sqlite3_mutex_enter(store->queue_lock);
	queue_move(&store->queue, &batch);
	sqlite3_mutex_leave(store->queue_lock);
	if (!queue_empty(&batch) || extra != NULL)
		rc = write_batch(store, &batch, extra, err);
	sqlite3_mutex_enter(store->queue_lock);
	queue_push_older(&store->queue, &batch);
	queue_drop_events(&store->queue, QUEUE_EVENTS);
	sqlite3_mutex_leave(store->queue_lock);
	return rc;
}

/* ---- the store's thread ---- */

static void
drain_run(struct job *job, void *data)
{
	struct drain *drain = data;
	struct store *store = drain->store;
	unsigned pages;

	sqlite3_mutex_enter(store->db_lock);
	write_out(store, NULL, &drain->err);
	make_spare(store);
	pages = db_wal_pages(store->db);
	sqlite3_mutex_leave(store->db_lock);
	if (pages < store->checkpointed_pages)
		store->checkpointed_pages = 0; /* the log has begun anew */
	if (pages - store->checkpointed_pages > WAL_PAGES) {
		db_checkpoint(store->side, false);
		store->checkpointed_pages = pages;
	}
	if (drain->backup && !job_cancelled(job))
		db_copy(store->side, store->backup_path,
		    drain->err.code == E_OK ? &drain->err : NULL);
}

static void
drain_done(void *data)
{
	struct drain *drain = data;
	struct store *store = drain->store;
	bool failed = drain->err.code != E_OK, more;

	store->draining = false;
	sqlite3_mutex_enter(store->queue_lock);
	more = !queue_empty(&store->queue);
	sqlite3_mutex_leave(store->queue_lock);
	if (failed && !store->failing && store->on_failure != NULL)
		store->on_failure(store->on_failure_arg, &drain->err);
	store->failing = failed;
	if (failed)
		timer_arm(store->next_drain, RETRY_MS);
	else if (more || store->want_backup)
		timer_arm(store->next_drain, DRAIN_MS);
	free(drain);
}

static void
start_drain(struct store *store)
{
	struct drain *drain;

	if (store->draining || store->pool == NULL)
		return;
	drain = xcalloc(1, sizeof(*drain));
	drain->store = store;
	drain->backup = store->want_backup;
	if (worker_submit(store->pool, "store", drain_run, drain_done, drain, 0, NULL, NULL) != 0) {
		free(drain);
		timer_arm(store->next_drain, RETRY_MS);
		return;
	}
	store->draining = true;
	store->want_backup = false;
}

static void
on_next_drain(void *arg)
{
	start_drain(arg);
}

static void
plan_drain(struct store *store)
{
	if (!store->draining && !timer_armed(store->next_drain))
		timer_arm(store->next_drain, DRAIN_MS);
}

/* ---- open and close ---- */

static char *
beside(const char *path, const char *suffix)
{
	return xasprintf("%s%s", path, suffix);
}

int
store_open(const char *path, struct loop *loop, struct store **ret_store, char **ret_notice,
    struct err *err)
{
	struct store *store = xcalloc(1, sizeof(*store));
	struct err first = ERR_INIT;
	uint64_t first_event;
	bool damaged;
	int rc;

	loop_assert(loop);
	*ret_notice = NULL;
	store->loop = loop;
	store->path = xstrdup(path);
	store->spare_path = beside(path, ".spare");
	store->backup_path = beside(path, ".backup");
	queue_init(&store->queue);
	rc = recover_open(path, &store->db, ret_notice, &first);
	if (rc == E_NO_SPACE && unlink(store->spare_path) == 0)
		rc = recover_open(path, &store->db, ret_notice, &first);
	if (rc == 0)
		rc = db_open(path, false, &store->side, &damaged, &first);
	if (rc != 0) {
		if (err != NULL)
			*err = first;
		mem_freep(ret_notice);
		*ret_notice = NULL;
		store_close(store);
		return rc;
	}
	/* Recursive: a row function may queue changes. */
	store->db_lock = sqlite3_mutex_alloc(SQLITE_MUTEX_RECURSIVE);
	store->queue_lock = sqlite3_mutex_alloc(SQLITE_MUTEX_FAST);
	store->pool = worker_pool_create(loop, 1, 4);
	store->next_drain = timer_create_on(loop, on_next_drain, store);
	make_spare(store);
	db_event_range(store->db, &first_event, &store->last_event);
	*ret_store = store;
	return 0;
}

void
store_close(struct store *store)
{
	if (store == NULL)
		return;
	loop_assert(store->loop);
	/* A drain that ends only now still sets the timer. */
	worker_pool_destroy(TAKE(store->pool));
	timer_destroy(TAKE(store->next_drain));
	if (store->db_lock != NULL) {
		write_out(store, NULL, NULL);
		db_checkpoint(store->db, true);
	}
	db_close(store->side);
	db_close(store->db);
	queue_done(&store->queue);
	sqlite3_mutex_free(store->db_lock);
	sqlite3_mutex_free(store->queue_lock);
	free(store->path);
	free(store->spare_path);
	free(store->backup_path);
	free(store);
}

/* ---- changes ---- */

static void
enqueue(struct store *store, struct change *change)
{
	bool full;

	loop_assert(store->loop);
	sqlite3_mutex_enter(store->queue_lock);
	queue_push(&store->queue, change);
	full = store->queue.bytes > QUEUE_BYTES;
	if (full && store->failing)
		queue_drop_events(&store->queue, store->queue.events / 2);
	sqlite3_mutex_leave(store->queue_lock);
	if (full && !store->failing)
		store_commit(store, NULL);
	plan_drain(store);
}

static int
commit(struct store *store, struct change *change, struct err *err)
{
	uint64_t began = clock_ms(), took;
	unsigned pages;
	bool left;
	int rc;

	loop_assert(store->loop);
	sqlite3_mutex_enter(store->db_lock);
	rc = write_out(store, change, err);
	pages = db_wal_pages(store->db);
	sqlite3_mutex_leave(store->db_lock);
	change_destroy(change);
	sqlite3_mutex_enter(store->queue_lock);
	left = !queue_empty(&store->queue);
	sqlite3_mutex_leave(store->queue_lock);
	took = clock_ms() - began;
	if (took > SLOW_MS)
		log_debug("store: a commit took %llu ms", (unsigned long long)took);
	if (left || pages > WAL_PAGES)
		plan_drain(store);
	return rc;
}

void
store_put(struct store *store, enum store_kind kind, const char *id, const char *doc)
{
	enqueue(store, change_create(CHANGE_PUT, kind, id, doc, 0));
}

void
store_remove(struct store *store, enum store_kind kind, const char *id)
{
	enqueue(store, change_create(CHANGE_REMOVE, kind, id, NULL, 0));
}

void
store_event(struct store *store, uint64_t seq, const char *doc)
{
	if (seq > store->last_event)
		store->last_event = seq;
	enqueue(store, change_create(CHANGE_EVENT, STORE_KINDS, "", doc, seq));
}

void
store_trim(struct store *store, unsigned keep)
{
	enqueue(store, change_create(CHANGE_TRIM, STORE_KINDS, "", NULL, keep));
}

int
store_commit_put(struct store *store, enum store_kind kind, const char *id, const char *doc,
    struct err *err)
{
	return commit(store, change_create(CHANGE_PUT, kind, id, doc, 0), err);
}

int
store_commit_remove(struct store *store, enum store_kind kind, const char *id, struct err *err)
{
	return commit(store, change_create(CHANGE_REMOVE, kind, id, NULL, 0), err);
}

int
store_commit(struct store *store, struct err *err)
{
	return commit(store, NULL, err);
}

/* ---- reading ---- */

/* A reader sees what was queued before; when it can not be written, what is in the file. */
static void
settle(struct store *store)
{
	bool pending;

	loop_assert(store->loop);
	sqlite3_mutex_enter(store->queue_lock);
	pending = !queue_empty(&store->queue);
	sqlite3_mutex_leave(store->queue_lock);
	if (pending || store->draining)
		commit(store, NULL, NULL);
}

int
store_each(struct store *store, enum store_kind kind, store_row_fn *fn, void *arg, struct err *err)
{
	int rc;

	settle(store);
	sqlite3_mutex_enter(store->db_lock);
	rc = db_each(store->db, kind, fn, arg, err);
	sqlite3_mutex_leave(store->db_lock);
	return rc;
}

char *
store_get(struct store *store, enum store_kind kind, const char *id)
{
	const struct change *queued;
	char *doc = NULL;

	loop_assert(store->loop);
	sqlite3_mutex_enter(store->db_lock);
	sqlite3_mutex_enter(store->queue_lock);
	queued = queue_find(&store->queue, kind, id);
	if (queued != NULL)
		doc = xstrdup(queued->doc);
	sqlite3_mutex_leave(store->queue_lock);
	if (queued == NULL)
		doc = db_get(store->db, kind, id);
	sqlite3_mutex_leave(store->db_lock);
	return doc;
}

int
store_events(struct store *store, uint64_t after, unsigned limit, store_event_fn *fn, void *arg,
    struct err *err)
{
	int rc;

	settle(store);
	sqlite3_mutex_enter(store->db_lock);
	rc = db_events(store->db, after, limit, fn, arg, err);
	sqlite3_mutex_leave(store->db_lock);
	return rc;
}

uint64_t
store_last_event(struct store *store)
{
	loop_assert(store->loop);
	return store->last_event;
}

uint64_t
store_first_event(struct store *store)
{
	uint64_t first, last;

	settle(store);
	sqlite3_mutex_enter(store->db_lock);
	db_event_range(store->db, &first, &last);
	sqlite3_mutex_leave(store->db_lock);
	return first;
}

void
store_on_failure(struct store *store, void (*fn)(void *arg, const struct err *err), void *arg)
{
	store->on_failure = fn;
	store->on_failure_arg = arg;
}

void
store_backup(struct store *store)
{
	loop_assert(store->loop);
	store->want_backup = true;
	start_drain(store);
}
