/* SPDX-License-Identifier: MPL-2.0
 *
 * The store on a disk that fails: below SQLite lies a file system of the test, whose N-th write,
 * sync or truncation fails, for every N that there is. */
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/store/store.h"
#include "tests/unit/unit.h"

enum fault { FAULT_FULL, FAULT_WRITE, FAULT_SYNC, FAULT_TRUNCATE, FAULTS };
enum { COMMITS = 6 };

/* One test at a time; SQLite's interface has no place for a context. */
static struct {
	enum fault fault;
	_Atomic int countdown; /* 0: nothing fails any more */
} plan;

static sqlite3_vfs *real;
static sqlite3_vfs faulty;
static sqlite3_io_methods methods;

struct faulty_file {
	sqlite3_file base;
	const sqlite3_io_methods *inner; /* of the real file, which follows */
};

static sqlite3_file *
inner(sqlite3_file *file)
{
	return (sqlite3_file *)((struct faulty_file *)file + 1);
}

static bool
due(enum fault fault)
{
	return plan.fault == fault && plan.countdown > 0 && atomic_fetch_sub(&plan.countdown, 1) == 1;
}

#define PASS(name, parameters, arguments)                                                          \
	static int pass_##name parameters                                                          \
	{                                                                                          \
		return inner(f)->pMethods->name arguments;                                         \
	}
PASS(xRead, (sqlite3_file *f, void *p, int n, sqlite3_int64 at), (inner(f), p, n, at))
PASS(xFileSize, (sqlite3_file *f, sqlite3_int64 *size), (inner(f), size))
PASS(xLock, (sqlite3_file *f, int level), (inner(f), level))
PASS(xUnlock, (sqlite3_file *f, int level), (inner(f), level))
PASS(xCheckReservedLock, (sqlite3_file *f, int *out), (inner(f), out))
PASS(xFileControl, (sqlite3_file *f, int op, void *arg), (inner(f), op, arg))
PASS(xSectorSize, (sqlite3_file *f), (inner(f)))
PASS(xDeviceCharacteristics, (sqlite3_file *f), (inner(f)))
PASS(xClose, (sqlite3_file *f), (inner(f)))
PASS(xShmMap, (sqlite3_file *f, int i, int n, int extend, void volatile **p),
    (inner(f), i, n, extend, p))
PASS(xShmLock, (sqlite3_file *f, int offset, int n, int flags), (inner(f), offset, n, flags))
PASS(xShmUnmap, (sqlite3_file *f, int remove_it), (inner(f), remove_it))

static void
pass_xShmBarrier(sqlite3_file *f)
{
	inner(f)->pMethods->xShmBarrier(inner(f));
}

static int
fail_xWrite(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
	if (due(FAULT_FULL))
		return SQLITE_FULL;
	if (due(FAULT_WRITE)) {
		/* Half of it arrives. */
		inner(f)->pMethods->xWrite(inner(f), p, n / 2, at);
		return SQLITE_IOERR_WRITE;
	}
	return inner(f)->pMethods->xWrite(inner(f), p, n, at);
}

static int
fail_xSync(sqlite3_file *f, int flags)
{
	return due(FAULT_SYNC) ? SQLITE_IOERR_FSYNC : inner(f)->pMethods->xSync(inner(f), flags);
}

static int
fail_xTruncate(sqlite3_file *f, sqlite3_int64 size)
{
	return due(FAULT_TRUNCATE) ? SQLITE_IOERR_TRUNCATE :
				     inner(f)->pMethods->xTruncate(inner(f), size);
}

static int
open_file(sqlite3_vfs *vfs, const char *name, sqlite3_file *f, int flags, int *out)
{
	int rc = real->xOpen(real, name, inner(f), flags, out);

	f->pMethods = inner(f)->pMethods != NULL ? &methods : NULL;
	return rc;
}

static void
install(void)
{
	real = sqlite3_vfs_find(NULL);
	faulty = *real;
	faulty.zName = "faulty";
	faulty.szOsFile = real->szOsFile + (int)sizeof(struct faulty_file);
	faulty.xOpen = open_file;
	methods = (sqlite3_io_methods){ .iVersion = 2, .xClose = pass_xClose, .xRead = pass_xRead,
		.xWrite = fail_xWrite, .xTruncate = fail_xTruncate, .xSync = fail_xSync,
		.xFileSize = pass_xFileSize, .xLock = pass_xLock, .xUnlock = pass_xUnlock,
		.xCheckReservedLock = pass_xCheckReservedLock, .xFileControl = pass_xFileControl,
		.xSectorSize = pass_xSectorSize,
		.xDeviceCharacteristics = pass_xDeviceCharacteristics, .xShmMap = pass_xShmMap,
		.xShmLock = pass_xShmLock, .xShmBarrier = pass_xShmBarrier,
		.xShmUnmap = pass_xShmUnmap };
	ck_assert_int_eq(sqlite3_vfs_register(&faulty, 1), SQLITE_OK);
}

static struct store *
open_store(struct loop *loop, const char *path, struct err *err)
{
	struct store *store = NULL;
	char *notice = NULL;

	if (store_open(path, loop, &store, &notice, err) != 0)
		return NULL;
	ck_assert_msg(notice == NULL, "%s", notice);
	return store;
}

/* What was promised must be there, whatever else happened.  Returns false when nothing failed. */
static bool
round_of_commits(const char *dir, enum fault fault, int n)
{
	CLEANUP_FREE char *path = xasprintf("%s/%d-%d.db", dir, fault, n);
	struct loop *loop = loop_create();
	struct err err = ERR_INIT;
	struct store *store = open_store(loop, path, &err);
	bool promised[COMMITS];
	char id[16], doc[3000];
	bool failed;

	ck_assert_ptr_nonnull(store);
	memset(doc, 'd', sizeof(doc) - 1);
	doc[sizeof(doc) - 1] = '\0';
	plan.fault = fault;
	plan.countdown = n;
	for (int i = 0; i < COMMITS; i++) {
		snprintf(id, sizeof(id), "m%d", i);
		store_event(store, (uint64_t)i + 1, "{}");
		promised[i] = store_commit_put(store, STORE_MACHINE, id, doc, &err) == 0;
	}
	/* With everything well again, the store works on. */
	failed = plan.countdown == 0;
	plan.countdown = 0;
	ck_assert_msg(store_commit_put(store, STORE_MACHINE, "last", doc, &err) == 0, "%s", err.msg);
	store_close(store);

	store = open_store(loop, path, &err);
	ck_assert_msg(store != NULL, "%s", err.msg);
	for (int i = 0; i <= COMMITS; i++) {
		CLEANUP_FREE char *found = NULL;

		snprintf(id, sizeof(id), i < COMMITS ? "m%d" : "last", i);
		found = store_get(store, STORE_MACHINE, id);
		if (i == COMMITS || promised[i])
			ck_assert_str_eq(found, doc);
		else if (found != NULL)
			ck_assert_str_eq(found, doc); /* all of it or nothing */
	}
	/* No event was given up, since none was in the way. */
	ck_assert_uint_eq(store_first_event(store), 1);
	ck_assert_uint_eq(store_last_event(store), COMMITS);
	store_close(store);
	loop_destroy(loop);
	return failed;
}

START_TEST(store__22_nth_write_fails__nothing_promised_is_lost)
{
	char dir[] = "/tmp/test-faults.XXXXXX";

	ck_assert_ptr_nonnull(mkdtemp(dir));
	install();
	for (int fault = 0; fault < FAULTS; fault++) {
		int n = 1;

		while (round_of_commits(dir, (enum fault)fault, n))
			n++;
		/* Every commit writes and syncs at least once. */
		if (fault < FAULT_TRUNCATE)
			ck_assert_int_gt(n, COMMITS);
	}
	ck_assert_int_eq(sqlite3_vfs_unregister(&faulty), SQLITE_OK);
	ck_assert_int_eq(fs_remove_tree(dir, NULL), 0);
}
END_TEST

/* The making of the database itself: an error or a database, and the next start works. */
START_TEST(store__22_nth_write_fails_at_open__next_start_works)
{
	char dir[] = "/tmp/test-faults.XXXXXX";
	struct loop *loop = loop_create();
	bool failed = true;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	install();
	for (int n = 1; failed; n++) {
		CLEANUP_FREE char *path = xasprintf("%s/%d.db", dir, n);
		struct store *store = NULL;
		struct err err = ERR_INIT;
		char *notice = NULL;

		plan.fault = FAULT_SYNC;
		plan.countdown = n;
		if (store_open(path, loop, &store, &notice, &err) == 0)
			store_close(store);
		else
			ck_assert_int_eq(err.code, E_IO);
		free(notice);
		failed = plan.countdown == 0;
		plan.countdown = 0;
		ck_assert_msg(store_open(path, loop, &store, &notice, &err) == 0, "%s", err.msg);
		free(notice);
		ck_assert_int_eq(store_commit_put(store, STORE_META, "a", "b", &err), 0);
		store_close(store);
	}
	ck_assert_int_eq(sqlite3_vfs_unregister(&faulty), SQLITE_OK);
	ck_assert_int_eq(fs_remove_tree(dir, NULL), 0);
	loop_destroy(loop);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("store_faults");

	UNIT_CASE(s, store__22_nth_write_fails__nothing_promised_is_lost);
	UNIT_CASE(s, store__22_nth_write_fails_at_open__next_start_works);
	return unit_main(s);
}
