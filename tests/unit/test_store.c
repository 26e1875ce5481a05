/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/store/store.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/store/change.h"
#include "tests/unit/unit.h"

struct fixture {
	char dir[64];
	char *path;
	struct loop *loop;
	struct store *store;
	char *notice;
	struct err err, failure;
	int failures, rows;
	char seen[4096];
};

static void
setup(struct fixture *f)
{
	memset(f, 0, sizeof(*f));
	snprintf(f->dir, sizeof(f->dir), "/tmp/test-store.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(f->dir));
	f->path = fs_join(f->dir, "vmm.db");
	f->loop = loop_create();
}

static int
reopen(struct fixture *f)
{
	store_close(f->store);
	f->store = NULL;
	free(f->notice);
	f->notice = NULL;
	memset(&f->err, 0, sizeof(f->err));
	return store_open(f->path, f->loop, &f->store, &f->notice, &f->err);
}

static void
must_open(struct fixture *f)
{
	int rc = reopen(f);

	ck_assert_msg(rc == 0, "%s", f->err.msg);
}

static void
teardown(struct fixture *f)
{
	store_close(f->store);
	loop_destroy(f->loop);
	free(f->notice);
	free(f->path);
	ck_assert_int_eq(fs_remove_tree(f->dir, NULL), 0);
}

static void
on_row(void *arg, const char *id, const char *doc)
{
	struct fixture *f = arg;
	size_t at = strlen(f->seen);

	f->rows++;
	snprintf(f->seen + at, sizeof(f->seen) - at, "%s=%s;", id, doc);
}

static void
on_event(void *arg, uint64_t seq, const char *doc)
{
	char id[32];

	snprintf(id, sizeof(id), "%llu", (unsigned long long)seq);
	on_row(arg, id, doc);
}

static const char *
rows(struct fixture *f, enum store_kind kind)
{
	f->rows = 0;
	f->seen[0] = '\0';
	ck_assert_int_eq(store_each(f->store, kind, on_row, f, &f->err), 0);
	return f->seen;
}

static void
on_failure(void *arg, const struct err *err)
{
	struct fixture *f = arg;

	f->failures++;
	f->failure = *err;
	loop_stop(f->loop);
}

static void
stop_when_there(void *arg)
{
	struct fixture *f = arg;
	CLEANUP_FREE char *backup = xasprintf("%s.backup", f->path);

	if (fs_exists(backup))
		loop_stop(f->loop);
	else
		loop_post(f->loop, stop_when_there, f);
}

static void
make_backup(struct fixture *f)
{
	store_backup(f->store);
	loop_post(f->loop, stop_when_there, f);
	loop_run(f->loop);
}

static int
count_files(struct fixture *f, const char *pattern)
{
	CLEANUP_FREE char *path = fs_join(f->dir, pattern);
	glob_t found;
	int n;

	n = glob(path, 0, NULL, &found) == 0 ? (int)found.gl_pathc : 0;
	globfree(&found);
	return n;
}

START_TEST(store__queued_and_committed__last_one_wins)
{
	struct fixture f;
	char *doc;

	setup(&f);
	must_open(&f);
	ck_assert_ptr_null(f.notice);
	store_put(f.store, STORE_MACHINE, "a", "1");
	store_put(f.store, STORE_MACHINE, "b", "1");
	ck_assert_int_eq(store_commit_put(f.store, STORE_MACHINE, "a", "2", &f.err), 0);
	store_put(f.store, STORE_MACHINE, "a", "3");
	store_remove(f.store, STORE_MACHINE, "b");
	store_put(f.store, STORE_IMAGE, "a", "image");
	doc = store_get(f.store, STORE_MACHINE, "a");
	ck_assert_str_eq(doc, "3");
	free(doc);
	ck_assert_ptr_null(store_get(f.store, STORE_MACHINE, "b"));
	ck_assert_str_eq(rows(&f, STORE_MACHINE), "a=3;");
	store_put(f.store, STORE_MACHINE, "c", "1");
	store_put(f.store, STORE_MACHINE, "a", "4");
	ck_assert_int_eq(store_commit_remove(f.store, STORE_IMAGE, "a", &f.err), 0);
	must_open(&f);
	ck_assert_str_eq(rows(&f, STORE_MACHINE), "a=4;c=1;");
	ck_assert_str_eq(rows(&f, STORE_IMAGE), "");
	teardown(&f);
}
END_TEST

START_TEST(store__closed__what_was_queued_is_there)
{
	struct fixture f;
	char id[16];

	setup(&f);
	must_open(&f);
	for (int i = 0; i < 500; i++) {
		snprintf(id, sizeof(id), "m%d", i);
		store_put(f.store, STORE_MACHINE, id, "{}");
	}
	must_open(&f);
	rows(&f, STORE_MACHINE);
	ck_assert_int_eq(f.rows, 500);
	teardown(&f);
}
END_TEST

START_TEST(store__queue__one_change_a_row)
{
	struct queue newer, older;

	queue_init(&newer);
	queue_init(&older);
	for (int i = 0; i < 100; i++)
		queue_push(&older, change_create(CHANGE_PUT, STORE_MACHINE, "a", "old", 0));
	queue_push(&older, change_create(CHANGE_PUT, STORE_IMAGE, "a", "other", 0));
	queue_push(&older, change_create(CHANGE_EVENT, STORE_KINDS, "", "event", 1));
	queue_push(&older, change_create(CHANGE_EVENT, STORE_KINDS, "", "event", 2));
	ck_assert_uint_lt(older.bytes, 1000);
	queue_push(&newer, change_create(CHANGE_PUT, STORE_MACHINE, "a", "new", 0));
	queue_push_older(&newer, &older);
	ck_assert(queue_empty(&older));
	ck_assert_str_eq(queue_find(&newer, STORE_MACHINE, "a")->doc, "new");
	ck_assert_str_eq(queue_find(&newer, STORE_IMAGE, "a")->doc, "other");
	ck_assert_uint_eq(newer.events, 2);
	ck_assert_uint_eq(queue_drop_events(&newer, 1), 1);
	ck_assert_uint_eq(TAILQ_FIRST(&newer.list)->kind, STORE_IMAGE);
	ck_assert_uint_eq(TAILQ_NEXT(TAILQ_FIRST(&newer.list), link)->number, 2);
	queue_done(&newer);
	ck_assert_uint_eq(newer.bytes, 0);
	queue_done(&older);
}
END_TEST

START_TEST(store__files__not_readable_by_others)
{
	struct fixture f;
	static const char *const names[] = { "vmm.db", "vmm.db-wal", "vmm.db.spare", "vmm.db.backup" };

	setup(&f);
	must_open(&f);
	ck_assert_int_eq(store_commit_put(f.store, STORE_META, "k", "v", &f.err), 0);
	make_backup(&f);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		CLEANUP_FREE char *path = fs_join(f.dir, names[i]);
		struct stat st;

		ck_assert_int_eq(stat(path, &st), 0);
		ck_assert_int_eq(st.st_mode & 0777, 0600);
	}
	teardown(&f);
}
END_TEST

/* The child writes until it is killed, and tells each commit through a pipe after it returned. */
static void
commit_until_killed(struct fixture *f, int out)
{
	struct loop *loop = loop_create();
	struct store *store;
	char *notice, text[16];

	if (store_open(f->path, loop, &store, &notice, NULL) != 0)
		_exit(1);
	for (unsigned i = 0;; i++) {
		snprintf(text, sizeof(text), "%u", i);
		store_event(store, i + 1, text);
		store_put(store, STORE_OPERATION, "queued", text);
		if (store_commit_put(store, STORE_MACHINE, "m", text, NULL) != 0 ||
		    write(out, &i, sizeof(i)) != sizeof(i))
			_exit(1);
	}
}

START_TEST(store__killed__what_was_committed_is_there)
{
	for (int round = 0; round < 5; round++) {
		struct fixture f;
		unsigned last = 0, after = (unsigned)round * 37 + 1;
		CLEANUP_FREE char *doc = NULL, *queued = NULL;
		int fds[2];
		pid_t pid;

		setup(&f);
		ck_assert_int_eq(pipe(fds), 0);
		pid = fork();
		if (pid == 0)
			commit_until_killed(&f, fds[1]);
		close(fds[1]);
		while (last < after)
			ck_assert_int_eq(read(fds[0], &last, sizeof(last)), sizeof(last));
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
		while (read(fds[0], &last, sizeof(last)) == sizeof(last))
			;
		close(fds[0]);
		must_open(&f);
		ck_assert_ptr_null(f.notice);
		doc = store_get(f.store, STORE_MACHINE, "m");
		ck_assert_uint_ge((unsigned)strtoul(doc, NULL, 10), last);
		queued = store_get(f.store, STORE_OPERATION, "queued");
		ck_assert_uint_ge((unsigned)strtoul(queued, NULL, 10), last);
		ck_assert_uint_ge(store_last_event(f.store), last + 1);
		ck_assert_uint_eq(store_first_event(f.store), 1);
		teardown(&f);
	}
}
END_TEST

START_TEST(store__events__range_and_trim)
{
	struct fixture f;

	setup(&f);
	must_open(&f);
	ck_assert_uint_eq(store_last_event(f.store), 0);
	ck_assert_uint_eq(store_first_event(f.store), 0);
	for (unsigned i = 1; i <= 100; i++)
		store_event(f.store, i, "{}");
	store_put(f.store, STORE_OPERATION, "old", "{\"ended_ms\": 1}");
	store_put(f.store, STORE_OPERATION, "open", "{\"ended_ms\": null}");
	for (unsigned i = 0; i < 10; i++) {
		char id[16];

		snprintf(id, sizeof(id), "new%u", i);
		store_put(f.store, STORE_OPERATION, id, "{\"ended_ms\": 2}");
	}
	store_put(f.store, STORE_OPERATION, "begun", "{}");
	ck_assert_int_eq(store_events(f.store, 97, 2, on_event, &f, &f.err), 0);
	ck_assert_str_eq(f.seen, "98={};99={};");
	store_trim(f.store, 10);
	ck_assert_uint_eq(store_first_event(f.store), 91);
	ck_assert_uint_eq(store_last_event(f.store), 100);
	rows(&f, STORE_OPERATION);
	ck_assert_int_eq(f.rows, 12);
	ck_assert_ptr_null(strstr(f.seen, "old="));
	ck_assert_ptr_nonnull(strstr(f.seen, "open="));
	ck_assert_ptr_nonnull(strstr(f.seen, "begun="));
	must_open(&f);
	ck_assert_uint_eq(store_last_event(f.store), 100);
	teardown(&f);
}
END_TEST

/* ---- damage ---- */

enum { MACHINES = 400 };

static void
fill(struct fixture *f)
{
	char id[16], doc[512];

	memset(doc, 'd', sizeof(doc) - 1);
	doc[sizeof(doc) - 1] = '\0';
	for (int i = 0; i < MACHINES; i++) {
		snprintf(id, sizeof(id), "m%03d", i);
		store_put(f->store, STORE_MACHINE, id, doc);
	}
	for (unsigned i = 1; i <= 50; i++)
		store_event(f->store, i, "{\"kind\": \"some\"}");
	ck_assert_int_eq(store_commit(f->store, &f->err), 0);
}

static void
flip(const char *path, off_t at)
{
	CLEANUP_FD int fd = open(path, O_RDWR);
	unsigned char c;

	ck_assert_int_eq(pread(fd, &c, 1, at), 1);
	c ^= 0x10;
	ck_assert_int_eq(pwrite(fd, &c, 1, at), 1);
}

static off_t
size_of(const char *path)
{
	struct stat st;

	ck_assert_int_eq(stat(path, &st), 0);
	return st.st_size;
}

static void
close_store(struct fixture *f)
{
	store_close(f->store);
	f->store = NULL;
}

/* After damage: all machines are there, and the notice says where the damaged file is. */
static void
expect_restored(struct fixture *f, int asides)
{
	must_open(f);
	ck_assert_ptr_nonnull(f->notice);
	ck_assert_ptr_nonnull(strstr(f->notice, "restored"));
	rows(f, STORE_MACHINE);
	ck_assert_int_eq(f->rows, MACHINES);
	ck_assert_int_eq(count_files(f, "vmm.db.damaged-*"), asides);
	ck_assert_int_eq(count_files(f, "vmm.db.backup"), 1);
	must_open(f);
	ck_assert_ptr_null(f->notice);
}

START_TEST(store__G_03_damaged__backup_takes_its_place)
{
	struct fixture f;
	off_t size;

	setup(&f);
	must_open(&f);
	fill(&f);
	make_backup(&f);
	close_store(&f);
	size = size_of(f.path);
	ck_assert_int_eq(truncate(f.path, size / 2 + 100), 0);
	expect_restored(&f, 1);
	close_store(&f);
	ck_assert_int_eq(truncate(f.path, 0), 0);
	expect_restored(&f, 2);
	close_store(&f);
	ck_assert_int_eq(unlink(f.path), 0);
	expect_restored(&f, 2);
	close_store(&f);
	flip(f.path, 3); /* the magic */
	expect_restored(&f, 3);
	teardown(&f);
}
END_TEST

/* The log of the damaged file must not be read into the copy that takes its place. */
START_TEST(store__damaged_with_a_log__both_put_aside)
{
	struct fixture f;
	pid_t pid;
	int status;

	setup(&f);
	must_open(&f);
	fill(&f);
	make_backup(&f);
	close_store(&f);
	pid = fork();
	if (pid == 0) {
		char id[16];

		must_open(&f);
		for (int i = 0; i < 200; i++) {
			snprintf(id, sizeof(id), "late%d", i);
			store_put(f.store, STORE_MACHINE, id, "{}");
		}
		_exit(store_commit(f.store, NULL) == 0 ? 0 : 1);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	ck_assert_int_eq(truncate(f.path, 5 * 4096), 0);
	expect_restored(&f, 1);
	ck_assert_int_eq(count_files(&f, "vmm.db-wal.damaged-*"), 1);
	teardown(&f);
}
END_TEST

/* A bit anywhere in a used part of the file is either seen or harmless: never a changed row. */
START_TEST(store__bit_flips__never_a_wrong_row)
{
	struct fixture f;
	int restored = 0, refused = 0, unseen = 0;
	CLEANUP_FREE char *good = NULL;
	size_t len;

	setup(&f);
	must_open(&f);
	fill(&f);
	make_backup(&f);
	close_store(&f);
	ck_assert_int_eq(fs_read(f.path, 1 << 24, &good, &len, NULL), 0);
	for (size_t at = 17; at < len; at += len / 97) {
		ck_assert_int_eq(fs_write(f.path, good, len, 0600, NULL), 0);
		flip(f.path, (off_t)at);
		if (reopen(&f) != 0) {
			/* The version word of the header: a newer schema. */
			ck_assert_int_eq(f.err.code, E_UNSUPPORTED);
			refused++;
			continue;
		}
		restored += f.notice != NULL;
		unseen += f.notice == NULL;
		rows(&f, STORE_MACHINE);
		ck_assert_int_eq(f.rows, MACHINES);
		close_store(&f);
		free(good);
		good = NULL;
		ck_assert_int_eq(fs_read(f.path, 1 << 24, &good, &len, NULL), 0);
	}
	/* Some pages are hardly used (two for each empty table): a flip there changes nothing. */
	ck_assert_int_gt(restored, 70);
	ck_assert_int_lt(unseen, 30);
	ck_assert_int_lt(refused, 5);
	teardown(&f);
}
END_TEST

START_TEST(store__damaged_backup_too__empty_with_a_notice)
{
	struct fixture f;
	CLEANUP_FREE char *backup = NULL;

	setup(&f);
	must_open(&f);
	fill(&f);
	make_backup(&f);
	close_store(&f);
	backup = xasprintf("%s.backup", f.path);
	ck_assert_int_eq(truncate(f.path, 5000), 0);
	ck_assert_int_eq(truncate(backup, 5000), 0);
	must_open(&f);
	ck_assert_ptr_nonnull(strstr(f.notice, "no good copy"));
	ck_assert_str_eq(rows(&f, STORE_MACHINE), "");
	ck_assert_int_eq(store_commit_put(f.store, STORE_MACHINE, "a", "1", &f.err), 0);
	teardown(&f);
}
END_TEST

START_TEST(store__damaged_database__does_not_replace_the_backup)
{
	struct fixture f;
	CLEANUP_FREE char *before = NULL, *after = NULL, *backup = NULL;
	size_t before_len, after_len, at = 0;

	setup(&f);
	must_open(&f);
	fill(&f);
	make_backup(&f);
	backup = xasprintf("%s.backup", f.path);
	ck_assert_int_eq(fs_read(backup, 1 << 24, &before, &before_len, NULL), 0);
	must_open(&f); /* everything is in the file now, nothing in the log */
	{
		/* A row changes behind the store's back. */
		sqlite3 *raw;

		ck_assert_int_eq(sqlite3_open(f.path, &raw), SQLITE_OK);
		ck_assert_int_eq(sqlite3_exec(raw, "UPDATE machine SET doc = 'x' WHERE id = 'm050'",
		    NULL, NULL, NULL), SQLITE_OK);
		sqlite3_close(raw);
	}
	store_on_failure(f.store, on_failure, &f);
	store_backup(f.store);
	loop_run(f.loop);
	ck_assert_int_eq(f.failures, 1);
	ck_assert_ptr_nonnull(strstr(f.failure.msg, "m050"));
	ck_assert_int_eq(fs_read(backup, 1 << 24, &after, &after_len, NULL), 0);
	ck_assert_uint_eq(before_len, after_len);
	while (at < after_len && before[at] == after[at])
		at++;
	ck_assert_uint_eq(at, after_len);
	ck_assert_int_eq(count_files(&f, "*.tmp*"), 0);
	teardown(&f);
}
END_TEST

START_TEST(store__newer_schema__refused_and_untouched)
{
	struct fixture f;
	sqlite3 *raw;

	setup(&f);
	must_open(&f);
	fill(&f);
	make_backup(&f);
	close_store(&f);
	ck_assert_int_eq(sqlite3_open(f.path, &raw), SQLITE_OK);
	ck_assert_int_eq(sqlite3_exec(raw, "PRAGMA user_version = 99", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(raw);
	ck_assert_int_eq(reopen(&f), E_UNSUPPORTED);
	ck_assert_ptr_nonnull(strstr(f.err.msg, "schema 99"));
	ck_assert_uint_gt(strlen(f.err.hint), 0);
	ck_assert_int_eq(count_files(&f, "*.damaged-*"), 0);
	ck_assert_int_eq(sqlite3_open(f.path, &raw), SQLITE_OK);
	ck_assert_int_eq(sqlite3_exec(raw, "PRAGMA user_version = 2", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(raw);
	must_open(&f);
	ck_assert_ptr_null(f.notice);
	teardown(&f);
}
END_TEST

START_TEST(store__older_schema__moved_up_and_nothing_lost)
{
	struct fixture f;
	CLEANUP_FREE char *name = NULL;
	sqlite3 *raw;

	setup(&f);
	must_open(&f);
	fill(&f);
	close_store(&f);
	/* As the first version left it. */
	ck_assert_int_eq(sqlite3_open(f.path, &raw), SQLITE_OK);
	ck_assert_int_eq(sqlite3_exec(raw, "DROP TABLE name; PRAGMA user_version = 1", NULL, NULL,
			     NULL), SQLITE_OK);
	sqlite3_close(raw);
	must_open(&f);
	ck_assert_ptr_null(f.notice);
	rows(&f, STORE_MACHINE);
	ck_assert_int_eq(f.rows, MACHINES);
	ck_assert_int_eq(store_commit_put(f.store, STORE_NAME, "0 golden", "{}", &f.err), 0);
	must_open(&f);
	name = store_get(f.store, STORE_NAME, "0 golden");
	ck_assert_str_eq(name, "{}");
	teardown(&f);
}
END_TEST

START_TEST(store__unreadable__an_error_and_no_recovery)
{
	struct fixture f;

	setup(&f);
	ck_assert_int_eq(mkdir(f.path, 0700), 0);
	ck_assert_int_ne(reopen(&f), 0);
	ck_assert_int_eq(count_files(&f, "*.damaged-*"), 0);
	teardown(&f);
}
END_TEST

/* ---- a full disk ---- */

static bool
mount_small(struct fixture *f)
{
	if (mount("none", f->dir, "tmpfs", 0, "size=12m,mode=0700") == 0)
		return true;
	fprintf(stderr, "NOT CHECKED: a full disk (no tmpfs: %s)\n", strerror(errno));
	printf("# NOT CHECKED: a full disk (no tmpfs: %s)\n", strerror(errno));
	return false;
}

static char *
fill_disk(struct fixture *f)
{
	char *path = fs_join(f->dir, "filler");
	int fd = open(path, O_WRONLY | O_CREAT, 0600);
	char block[4096] = { 1 };

	while (write(fd, block, sizeof(block)) > 0)
		;
	close(fd);
	return path;
}

START_TEST(store__full_disk__removes_go_on_and_creates_do_not)
{
	struct fixture f;
	CLEANUP_FREE char *filler = NULL, *doc = NULL;
	char id[16];

	setup(&f);
	if (!mount_small(&f)) {
		teardown(&f);
		return;
	}
	must_open(&f);
	fill(&f);
	store_on_failure(f.store, on_failure, &f);
	filler = fill_disk(&f);

	/* In the background: told once, kept, and read back. */
	for (unsigned i = 0; i < 20; i++) {
		char big[4096];

		memset(big, 'b', sizeof(big) - 1);
		big[sizeof(big) - 1] = '\0';
		store_event(f.store, 1000 + i, big);
		snprintf(id, sizeof(id), "op%u", i);
		store_put(f.store, STORE_OPERATION, id, big);
	}
	loop_run(f.loop);
	ck_assert_int_eq(f.failures, 1);
	ck_assert_int_eq(f.failure.code, E_NO_SPACE);
	doc = store_get(f.store, STORE_OPERATION, "op7");
	ck_assert_ptr_nonnull(doc);

	/* Nothing new; the rest goes on, from the spare file. */
	ck_assert_int_eq(store_commit_put(f.store, STORE_MACHINE, "new", "{}", &f.err), E_NO_SPACE);
	ck_assert_uint_gt(strlen(f.err.hint) + strlen(f.err.msg), 0);
	for (int i = 0; i < 50; i++) {
		snprintf(id, sizeof(id), "m%03d", i);
		ck_assert_int_eq(store_commit_put(f.store, STORE_MACHINE, id, "{}", &f.err), 0);
		ck_assert_int_eq(store_commit_remove(f.store, STORE_MACHINE, id, &f.err), 0);
	}
	ck_assert_int_eq(count_files(&f, "vmm.db.spare"), 0);
	ck_assert_int_eq(store_commit_put(f.store, STORE_MACHINE, "new", "{}", &f.err), E_NO_SPACE);
	rows(&f, STORE_MACHINE);
	ck_assert_int_eq(f.rows, MACHINES - 50);

	/* A restart on the full disk. */
	must_open(&f);
	rows(&f, STORE_MACHINE);
	ck_assert_int_eq(f.rows, MACHINES - 50);
	ck_assert_int_eq(store_commit_remove(f.store, STORE_MACHINE, "m099", &f.err), 0);

	/* Space again. */
	ck_assert_int_eq(unlink(filler), 0);
	ck_assert_int_eq(store_commit_put(f.store, STORE_MACHINE, "new", "{}", &f.err), 0);
	ck_assert_int_eq(count_files(&f, "vmm.db.spare"), 1);
	must_open(&f);
	ck_assert_ptr_null(f.notice);
	rows(&f, STORE_MACHINE);
	ck_assert_int_eq(f.rows, MACHINES - 50);
	close_store(&f);
	ck_assert_int_eq(umount(f.dir), 0);
	teardown(&f);
}
END_TEST

START_TEST(store__full_disk__what_was_queued_is_written_later)
{
	struct fixture f;
	CLEANUP_FREE char *filler = NULL;
	char big[8192], id[16];

	setup(&f);
	if (!mount_small(&f)) {
		teardown(&f);
		return;
	}
	memset(big, 'b', sizeof(big) - 1);
	big[sizeof(big) - 1] = '\0';
	must_open(&f);
	store_on_failure(f.store, on_failure, &f);
	filler = fill_disk(&f);
	for (int i = 0; i < 50; i++) {
		snprintf(id, sizeof(id), "op%02d", i);
		store_put(f.store, STORE_OPERATION, id, big);
	}
	loop_run(f.loop);
	ck_assert_int_eq(f.failures, 1);
	ck_assert_int_eq(unlink(filler), 0);
	ck_assert_int_eq(store_commit(f.store, &f.err), 0);
	must_open(&f);
	f.rows = 0;
	ck_assert_int_eq(store_each(f.store, STORE_OPERATION, on_row, &f, &f.err), 0);
	ck_assert_int_eq(f.rows, 50);
	close_store(&f);
	ck_assert_int_eq(umount(f.dir), 0);
	teardown(&f);
}
END_TEST

START_TEST(store__many_changes__log_stays_small)
{
	struct fixture f;
	CLEANUP_FREE char *wal = NULL;
	char doc[2048], id[16];

	setup(&f);
	must_open(&f);
	wal = xasprintf("%s-wal", f.path);
	memset(doc, 'd', sizeof(doc) - 1);
	doc[sizeof(doc) - 1] = '\0';
	for (int i = 0; i < 20000; i++) {
		snprintf(id, sizeof(id), "m%d", i % 200);
		store_put(f.store, STORE_MACHINE, id, doc);
		if (i % 10 == 0)
			ck_assert_int_eq(store_commit(f.store, &f.err), 0);
	}
	ck_assert_int_lt(size_of(wal), 64 << 20);
	teardown(&f);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("store");

	UNIT_CASE(s, store__queued_and_committed__last_one_wins);
	UNIT_CASE(s, store__closed__what_was_queued_is_there);
	UNIT_CASE(s, store__queue__one_change_a_row);
	UNIT_CASE(s, store__files__not_readable_by_others);
	UNIT_CASE(s, store__killed__what_was_committed_is_there);
	UNIT_CASE(s, store__events__range_and_trim);
	UNIT_CASE(s, store__G_03_damaged__backup_takes_its_place);
	UNIT_CASE(s, store__damaged_with_a_log__both_put_aside);
	UNIT_CASE(s, store__bit_flips__never_a_wrong_row);
	UNIT_CASE(s, store__damaged_backup_too__empty_with_a_notice);
	UNIT_CASE(s, store__damaged_database__does_not_replace_the_backup);
	UNIT_CASE(s, store__newer_schema__refused_and_untouched);
	UNIT_CASE(s, store__older_schema__moved_up_and_nothing_lost);
	UNIT_CASE(s, store__unreadable__an_error_and_no_recovery);
	UNIT_CASE(s, store__full_disk__removes_go_on_and_creates_do_not);
	UNIT_CASE(s, store__full_disk__what_was_queued_is_written_later);
	UNIT_CASE(s, store__many_changes__log_stays_small);
	return unit_main(s);
}
