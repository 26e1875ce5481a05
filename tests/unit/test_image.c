/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/image/image.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <openssl/evp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/base/worker.h"
#include "lib/image/work.h"
#include "lib/store/store.h"
#include "tests/unit/unit.h"

#define MIB (1ULL << 20)
#define GIB (1ULL << 30)

struct fixture {
	char dir[64];
	char *images_dir, *db_path;
	struct loop *loop;
	struct worker_pool *pool;
	struct store *store;
	struct image_store *images;
	/* What the callbacks saw. */
	int done, expected, failed, progressed;
	const struct image *image;
	struct err err;
	struct image_import *cancel; /* at the first progress */
	int touch_fd;		     /* written to at the first progress; -1: none */
	uint64_t last_done, last_total;
	/* Holds the pool's thread. */
	int hold[2];
};

static void
open_all(struct fixture *f, unsigned queue)
{
	char *notice;

	f->pool = worker_pool_create(f->loop, 1, queue);
	ck_assert_int_eq(store_open(f->db_path, f->loop, &f->store, &notice, &f->err), 0);
	free(notice);
	ck_assert_msg(image_store_open(f->images_dir, f->store, f->loop, f->pool, &f->images,
		&f->err) == 0, "%s", f->err.msg);
}

static void
close_all(struct fixture *f)
{
	image_store_close(f->images);
	worker_pool_destroy(f->pool);
	store_close(f->store);
}

static void
setup_in(struct fixture *f, const char *parent)
{
	memset(f, 0, sizeof(*f));
	f->touch_fd = -1;
	snprintf(f->dir, sizeof(f->dir), "%s/test-image.XXXXXX", parent);
	ck_assert_ptr_nonnull(mkdtemp(f->dir));
	f->images_dir = fs_join(f->dir, "images");
	f->db_path = fs_join(f->dir, "vmm.db");
	f->loop = loop_create();
	open_all(f, 16);
}

static void
setup(struct fixture *f)
{
	setup_in(f, "/tmp");
}

static void
teardown(struct fixture *f)
{
	close_all(f);
	loop_destroy(f->loop);
	free(f->images_dir);
	free(f->db_path);
	ck_assert_int_eq(fs_remove_tree(f->dir, NULL), 0);
}

static void
reopen(struct fixture *f, unsigned queue)
{
	close_all(f);
	open_all(f, queue);
}

static void
on_done(void *arg, const struct image *image, const struct err *err)
{
	struct fixture *f = arg;

	loop_assert(f->loop);
	f->image = image;
	if (image == NULL) {
		f->failed++;
		f->err = *err;
		ck_assert_int_ne(err->code, E_OK);
	}
	if (++f->done >= f->expected)
		loop_stop(f->loop);
}

static void
on_progress(void *arg, uint64_t done_bytes, uint64_t total_bytes)
{
	struct fixture *f = arg;

	ck_assert_uint_le(done_bytes, total_bytes);
	ck_assert_uint_ge(done_bytes, f->last_done);
	f->last_done = done_bytes;
	f->last_total = total_bytes;
	if (f->progressed++ > 0)
		return;
	if (f->cancel != NULL)
		image_import_cancel(f->cancel);
	if (f->touch_fd >= 0)
		ck_assert_int_eq(pwrite(f->touch_fd, "x", 1, 0), 1);
}

static char *
make_file(struct fixture *f, const char *name, const char *text, uint64_t bytes)
{
	char *path = fs_join(f->dir, name);
	CLEANUP_FD int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	ck_assert_int_eq(fs_write_all(fd, text, strlen(text)), 0);
	ck_assert_int_eq(ftruncate(fd, (off_t)bytes), 0);
	return path;
}

static struct image_import *
begin(struct fixture *f, const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	ck_assert_int_ge(fd, 0);
	f->last_done = 0;
	return image_import(f->images, fd, path, on_progress, on_done, f);
}

static void
wait_for(struct fixture *f, int count)
{
	f->expected = count;
	ck_assert_int_lt(f->done, count);
	loop_run(f->loop);
	ck_assert_int_eq(f->done, count);
	f->done = 0;
}

static const struct image *
take(struct fixture *f, const char *path)
{
	begin(f, path);
	wait_for(f, 1);
	return f->image;
}

static int
count_files(struct fixture *f, const char *pattern)
{
	CLEANUP_FREE char *path = fs_join(f->images_dir, pattern);
	glob_t found;
	int n;

	n = glob(path, GLOB_PERIOD, NULL, &found) == 0 ? (int)found.gl_pathc : 0;
	globfree(&found);
	return n;
}

static void
hold_run(struct job *job, void *data)
{
	struct fixture *f = data;
	char c;

	if (write(f->hold[0], "x", 1) == 1)
		while (!job_cancelled(job) && read(f->hold[0], &c, 1) < 0)
			;
}

static void
hold_done(void *data)
{
	struct fixture *f = data;

	close(f->hold[0]);
	close(f->hold[1]);
}

/* Keeps the pool's only thread busy until let_go(). */
static void
hold(struct fixture *f)
{
	char c;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, f->hold), 0);
	ck_assert_int_eq(worker_submit(f->pool, "hold", hold_run, hold_done, f, 0, NULL, NULL), 0);
	ck_assert_int_eq(read(f->hold[1], &c, 1), 1);
}

static void
let_go(struct fixture *f)
{
	ck_assert_int_eq(write(f->hold[1], "x", 1), 1);
}

START_TEST(image__taken__kept_by_digest_and_found)
{
	struct fixture f;
	CLEANUP_FREE char *path = NULL, *copy = NULL, *digest = NULL, *text = NULL;
	const struct image *image, *again;
	struct stat st;

	setup(&f);
	path = make_file(&f, "debian.raw", "content", MIB);
	image = take(&f, path);
	ck_assert_msg(image != NULL, "%s", f.err.msg);
	ck_assert_str_eq(image->format, "raw");
	ck_assert_str_eq(image->name, "debian.raw");
	ck_assert_str_eq(image->source, path);
	ck_assert_uint_eq(image->virtual_bytes, MIB);
	ck_assert_uint_eq(image->file_bytes, MIB);
	ck_assert_int_eq(stat(image->path, &st), 0);
	ck_assert_int_eq(st.st_mode & 07777, 0400);
	digest = xstrdup(image->digest);
	ck_assert_int_eq(strlen(digest), strlen("sha256:") + 64);

	/* Later changes of the person's file do not reach it. */
	copy = make_file(&f, "debian.raw", "changed", MIB);
	ck_assert_int_eq(fs_read(image->path, 2 * MIB, &text, NULL, NULL), 0);
	ck_assert_str_eq(text, "content");

	reopen(&f, 16);
	again = image_find(f.images, digest);
	ck_assert_ptr_nonnull(again);
	ck_assert_ptr_eq(image_find(f.images, "debian.raw"), again);
	digest[7 + 12] = '\0';
	ck_assert_ptr_eq(image_find(f.images, digest), again);
	ck_assert_ptr_eq(image_find(f.images, digest + 7), again);
	digest[7 + 7] = '\0';
	ck_assert_ptr_null(image_find(f.images, digest));
	ck_assert_ptr_null(image_find(f.images, "0123456789abcdef"));
	ck_assert_int_eq(image_get(f.images, "nothing", &image, &f.err), E_NOT_FOUND);
	ck_assert_ptr_nonnull(strstr(f.err.msg, "nothing"));
	teardown(&f);
}
END_TEST

START_TEST(image__G_72_same_file_unchanged__not_read_again)
{
	struct fixture f;
	CLEANUP_FREE char *path = NULL, *other = NULL, *digest = NULL;
	CLEANUP_FD int fd = -1;

	setup(&f);
	path = make_file(&f, "one.raw", "content", MIB);
	fd = open(path, O_RDWR);
	ck_assert_ptr_null(image_find_file(f.images, fd));
	digest = xstrdup(take(&f, path)->digest);

	/* No place in the queue: what has to be read is refused. */
	reopen(&f, 0);
	ck_assert_ptr_nonnull(image_find_file(f.images, fd));
	ck_assert_ptr_nonnull(take(&f, path));
	ck_assert_str_eq(f.image->digest, digest);
	other = make_file(&f, "two.raw", "content", MIB);
	ck_assert_ptr_null(take(&f, other));
	ck_assert_int_eq(f.err.code, E_LIMIT);

	/* The same length, other bytes. */
	ck_assert_int_eq(pwrite(fd, "CONTENT", 7, 0), 7);
	ck_assert_ptr_null(image_find_file(f.images, fd));
	reopen(&f, 16);
	ck_assert_ptr_nonnull(take(&f, path));
	ck_assert_str_ne(f.image->digest, digest);
	ck_assert_int_eq(count_files(&f, "sha256-*"), 2);
	teardown(&f);
}
END_TEST

START_TEST(image__same_content__kept_once)
{
	struct fixture f;
	CLEANUP_FREE char *one = NULL, *two = NULL;
	const struct image *first;

	setup(&f);
	one = make_file(&f, "one.raw", "content", MIB);
	two = make_file(&f, "two.raw", "content", MIB);
	first = take(&f, one);
	ck_assert_ptr_nonnull(first);
	ck_assert_ptr_eq(take(&f, two), first);
	ck_assert_int_eq(count_files(&f, "*"), 1 + 2 /* "." and ".." */);
	teardown(&f);
}
END_TEST

START_TEST(image__41_two_at_once__one_piece_of_work)
{
	struct fixture f;
	CLEANUP_FREE char *path = NULL;

	setup(&f);
	reopen(&f, 1);
	path = make_file(&f, "one.raw", "content", MIB);
	hold(&f);
	begin(&f, path);
	begin(&f, path); /* the queue has one place */
	begin(&f, path);
	let_go(&f);
	wait_for(&f, 3);
	ck_assert_int_eq(f.failed, 0);
	ck_assert_int_eq(count_files(&f, "sha256-*"), 1);
	teardown(&f);
}
END_TEST

static void
note_removed(void *arg, const char *digest)
{
	char **seen = arg;

	ck_assert_ptr_null(*seen);
	*seen = xstrdup(digest);
}

START_TEST(image__removed__who_made_something_of_it_hears)
{
	struct fixture f;
	CLEANUP_FREE char *path = NULL, *digest = NULL, *seen = NULL;

	setup(&f);
	path = make_file(&f, "one.raw", "content", MIB);
	image_store_on_removed(f.images, note_removed, &seen);
	begin(&f, path);
	wait_for(&f, 1);
	digest = xstrdup(f.image->digest);
	image_hold(f.images, digest, "is being used");
	ck_assert_int_eq(image_remove(f.images, digest, &f.err), E_BUSY);
	ck_assert_ptr_null(seen);
	image_unhold(f.images, digest);
	ck_assert_int_eq(image_remove(f.images, f.image->digest, &f.err), 0);
	ck_assert_str_eq(seen, digest);
	teardown(&f);
}
END_TEST

START_TEST(image__cancel__leaves_nothing_and_spares_others)
{
	struct fixture f;
	CLEANUP_FREE char *path = NULL;
	struct image_import *import;

	setup(&f);
	path = make_file(&f, "one.raw", "content", MIB);
	hold(&f);
	import = begin(&f, path);
	begin(&f, path);
	image_import_cancel(import);
	ck_assert_int_eq(f.done, 0); /* never before return */
	f.expected = 1;
	loop_run(f.loop);
	ck_assert_int_eq(f.err.code, E_CANCELLED);
	let_go(&f);
	f.done = 0;
	wait_for(&f, 1);
	ck_assert_ptr_nonnull(f.image);

	/* The last one: the work ends, and a new import does not join it. */
	ck_assert_int_eq(image_remove(f.images, f.image->digest, &f.err), 0);
	hold(&f);
	import = begin(&f, path);
	image_import_cancel(import);
	begin(&f, path);
	let_go(&f);
	f.failed = 0;
	wait_for(&f, 2);
	ck_assert_int_eq(f.failed, 1);
	ck_assert_int_eq(count_files(&f, "sha256-*"), 1);
	ck_assert_int_eq(count_files(&f, ".import-*"), 0);
	teardown(&f);
}
END_TEST

START_TEST(image__cancel_under_way__ends_soon)
{
	struct fixture f;
	CLEANUP_FREE char *path = NULL;

	setup(&f);
	path = make_file(&f, "big.raw", "content", 1024 * GIB);
	f.cancel = begin(&f, path);
	wait_for(&f, 1);
	ck_assert_int_eq(f.err.code, E_CANCELLED);
	ck_assert_uint_eq(f.last_total, 1024 * GIB);
	/* The thread is free again: the next one is taken. */
	free(path);
	path = make_file(&f, "small.raw", "content", MIB);
	ck_assert_ptr_nonnull(take(&f, path));
	ck_assert_int_eq(count_files(&f, ".import-*"), 0);
	ck_assert_int_eq(count_files(&f, "sha256-*"), 1);
	teardown(&f);
}
END_TEST

START_TEST(image__changed_while_taken__refused)
{
	struct fixture f;
	CLEANUP_FREE char *path = NULL;

	setup(&f);
	path = make_file(&f, "big.raw", "content", 2 * GIB);
	f.touch_fd = open(path, O_RDWR);
	ck_assert_ptr_null(take(&f, path));
	ck_assert_int_eq(f.err.code, E_IMAGE);
	ck_assert_ptr_nonnull(strstr(f.err.msg, "was changed"));
	ck_assert_int_eq(count_files(&f, "*"), 2);
	close(f.touch_fd);
	teardown(&f);
}
END_TEST

START_TEST(image__holes__kept_and_hashed)
{
	struct fixture f;
	CLEANUP_FREE char *path = NULL, *data = NULL, *hex = NULL;
	unsigned char digest[EVP_MAX_MD_SIZE];
	const struct image *image;
	struct stat st;
	unsigned len;
	size_t size;
	int fd;

	setup(&f);
	path = make_file(&f, "sparse.raw", "begin", 64 * MIB + 1);
	fd = open(path, O_RDWR);
	ck_assert_int_eq(pwrite(fd, "middle", 6, 33 * MIB - 3), 6);
	ck_assert_int_eq(pwrite(fd, "e", 1, 64 * MIB), 1);
	close(fd);
	image = take(&f, path);
	ck_assert_ptr_nonnull(image);
	ck_assert_int_eq(stat(image->path, &st), 0);
	ck_assert_int_lt(st.st_blocks * 512, 4 * MIB);
	ck_assert_int_eq(fs_read(image->path, 100 * MIB, &data, &size, NULL), 0);
	ck_assert_uint_eq(size, 64 * MIB + 1);
	ck_assert_int_eq(EVP_Digest(data, size, digest, &len, EVP_sha256(), NULL), 1);
	hex = str_hex(digest, len);
	ck_assert_str_eq(image->digest + 7, hex);
	teardown(&f);
}
END_TEST

START_TEST(image__refused__reason_and_no_file)
{
	struct fixture f;
	CLEANUP_FREE char *path = NULL;
	int fds[2];

	setup(&f);
	path = make_file(&f, "disk.vmdk", "KDMV", MIB);
	ck_assert_ptr_null(take(&f, path));
	ck_assert_int_eq(f.err.code, E_IMAGE);
	ck_assert_ptr_nonnull(strstr(f.err.hint, "qemu-img convert"));
	ck_assert_int_eq(pipe(fds), 0);
	image_import(f.images, fds[0], "pipe", NULL, on_done, &f);
	wait_for(&f, 1);
	ck_assert_int_eq(f.err.code, E_IMAGE);
	close(fds[1]);
	image_import(f.images, -1, "nothing", NULL, on_done, &f);
	wait_for(&f, 1);
	ck_assert_int_eq(f.err.code, E_IO);
	ck_assert_int_eq(count_files(&f, "*"), 2);
	teardown(&f);
}
END_TEST

START_TEST(image__odd_name__shown_safely)
{
	struct fixture f;
	CLEANUP_FREE char *path = NULL;

	setup(&f);
	path = make_file(&f, "a\x1b[31m\xff b", "content", MIB);
	ck_assert_ptr_nonnull(take(&f, path));
	ck_assert_ptr_null(strchr(f.image->name, 0x1b));
	ck_assert(str_utf8_valid(f.image->name, strlen(f.image->name)));
	reopen(&f, 16);
	ck_assert_ptr_nonnull(image_find(f.images, "a\\x1b[31m\\xff b"));
	teardown(&f);
}
END_TEST

START_TEST(image__G_78_file_gone_or_short__told_and_mended)
{
	struct fixture f;
	CLEANUP_FREE char *path = NULL, *digest = NULL;
	const struct image *image;

	setup(&f);
	path = make_file(&f, "one.raw", "content", MIB);
	image = take(&f, path);
	digest = xstrdup(image->digest);
	ck_assert_int_eq(truncate(image->path, 4096), 0);
	ck_assert_ptr_null(image_find(f.images, digest));
	ck_assert_int_eq(image_get(f.images, digest, &image, &f.err), E_IMAGE);
	ck_assert_ptr_nonnull(strstr(f.err.msg, "one.raw"));
	ck_assert_str_eq(image->digest, digest); /* to be removed by it */
	ck_assert_ptr_nonnull(take(&f, path)); /* not by the memory of it */
	ck_assert_ptr_nonnull(image_find(f.images, digest));
	ck_assert_int_eq(unlink(f.image->path), 0);
	reopen(&f, 16);
	ck_assert_ptr_null(image_find(f.images, digest));
	ck_assert_ptr_nonnull(take(&f, path));
	ck_assert_int_eq(unlink(f.image->path), 0);
	ck_assert_int_eq(image_remove(f.images, digest, &f.err), 0);
	ck_assert_int_eq(image_get(f.images, digest, &image, &f.err), E_NOT_FOUND);
	teardown(&f);
}
END_TEST

static void
count_row(void *arg, const char *id, const char *doc)
{
	(*(int *)arg)++;
}

START_TEST(image__removed__gone_for_good)
{
	struct fixture f;
	CLEANUP_FREE char *path = NULL, *digest = NULL;
	int rows = 0;

	setup(&f);
	path = make_file(&f, "one.raw", "content", MIB);
	digest = xstrdup(take(&f, path)->digest);
	ck_assert_int_eq(image_remove(f.images, digest, &f.err), 0);
	ck_assert_int_eq(store_each(f.store, STORE_SOURCE, count_row, &rows, NULL), 0);
	ck_assert_int_eq(rows, 0);
	ck_assert_int_eq(count_files(&f, "*"), 2);
	ck_assert_int_eq(image_remove(f.images, digest, &f.err), E_NOT_FOUND);
	reopen(&f, 16);
	ck_assert_ptr_null(image_find(f.images, digest));
	/* The memory of the file is gone with it. */
	ck_assert_ptr_nonnull(take(&f, path));
	teardown(&f);
}
END_TEST

START_TEST(image__interrupted_work__tidied_at_open)
{
	struct fixture f;
	CLEANUP_FREE char *one = NULL, *two = NULL, *kept = NULL, *gone = NULL, *aside = NULL,
			   *partial = NULL;
	const struct image *image;

	setup(&f);
	one = make_file(&f, "one.raw", "one", MIB);
	two = make_file(&f, "two.raw", "two", MIB);
	kept = xstrdup(take(&f, one)->digest);
	image = take(&f, two);
	gone = xstrdup(image->digest);
	/* A removal that stopped after its first step. */
	aside = xasprintf("%s/.remove-%s", f.images_dir, gone + 7);
	ck_assert_int_eq(rename(image->path, aside), 0);
	/* An import that stopped in the middle. */
	partial = xasprintf("%s/.import-abcdef", f.images_dir);
	ck_assert_int_eq(fs_write(partial, "x", 1, 0600, NULL), 0);
	/* The database is older than the image. */
	ck_assert_int_eq(store_commit_remove(f.store, STORE_IMAGE, kept, &f.err), 0);
	reopen(&f, 16);
	ck_assert_int_eq(count_files(&f, "*"), 1 + 2);
	ck_assert_ptr_null(image_find(f.images, gone));
	image = image_find(f.images, kept);
	ck_assert_ptr_nonnull(image);
	ck_assert_uint_eq(image->virtual_bytes, MIB);
	reopen(&f, 16);
	ck_assert_ptr_nonnull(image_find(f.images, kept));
	teardown(&f);
}
END_TEST

START_TEST(image__closed_under_way__done_is_called)
{
	struct fixture f;
	CLEANUP_FREE char *path = NULL;

	setup(&f);
	path = make_file(&f, "one.raw", "content", MIB);
	hold(&f);
	begin(&f, path);
	f.expected = 2; /* no loop to stop */
	image_store_close(f.images);
	f.images = NULL;
	ck_assert_int_eq(f.done, 1);
	ck_assert_int_eq(f.err.code, E_SHUTDOWN);
	let_go(&f);
	teardown(&f);
}
END_TEST

/* A second copy was hashed and found to be there; then the first was removed. */
START_TEST(image__removed_after_the_work__has_its_file_all_the_same)
{
	struct fixture f;
	CLEANUP_FREE char *one = NULL, *two = NULL, *digest = NULL;

	setup(&f);
	one = make_file(&f, "one.raw", "content", MIB);
	two = make_file(&f, "two.raw", "content", MIB);
	digest = xstrdup(take(&f, one)->digest);
	begin(&f, two);
	hold(&f); /* begins when that work has ended; its result still waits for the loop */
	ck_assert_int_eq(image_remove(f.images, digest, &f.err), 0);
	let_go(&f);
	wait_for(&f, 1);
	ck_assert_ptr_nonnull(f.image);
	ck_assert_int_eq(image_check(f.image, &f.err), 0);
	ck_assert_int_eq(count_files(&f, "*"), 1 + 2);
	teardown(&f);
}
END_TEST

START_TEST(image__cancelled_beside_its_twin__spares_it)
{
	struct fixture f;
	CLEANUP_FREE char *one = NULL, *two = NULL;
	struct image_import *import;

	setup(&f);
	one = make_file(&f, "one.raw", "content", MIB);
	two = make_file(&f, "two.raw", "content", MIB);
	import = begin(&f, one);
	begin(&f, two);
	hold(&f);
	image_import_cancel(import);
	let_go(&f);
	wait_for(&f, 2);
	ck_assert_int_eq(f.failed, 1);
	ck_assert_ptr_nonnull(f.image);
	ck_assert_int_eq(image_check(f.image, &f.err), 0);
	ck_assert_int_eq(count_files(&f, "*"), 1 + 2);
	teardown(&f);
}
END_TEST

START_TEST(image__closed_after_the_work__nothing_left)
{
	struct fixture f;
	CLEANUP_FREE char *path = NULL;

	setup(&f);
	path = make_file(&f, "one.raw", "content", MIB);
	begin(&f, path);
	hold(&f);
	f.expected = 2; /* no loop to stop */
	image_store_close(f.images);
	f.images = NULL;
	let_go(&f);
	close_all(&f);
	ck_assert_int_eq(count_files(&f, "*"), 2);
	open_all(&f, 16);
	teardown(&f);
}
END_TEST

START_TEST(image__other_bytes_of_the_same_size__mended_by_taking)
{
	struct fixture f;
	CLEANUP_FREE char *one = NULL, *two = NULL, *stored = NULL, *text = NULL;
	CLEANUP_FD int fd = -1;
	size_t len;

	setup(&f);
	one = make_file(&f, "one.raw", "content", MIB);
	two = make_file(&f, "two.raw", "content", MIB);
	stored = xstrdup(take(&f, one)->path);
	ck_assert_int_eq(chmod(stored, 0600), 0);
	fd = open(stored, O_RDWR);
	ck_assert_int_eq(pwrite(fd, "X", 1, 3), 1);
	ck_assert_str_eq(take(&f, two)->path, stored);
	ck_assert_int_eq(fs_read(stored, MIB, &text, &len, NULL), 0);
	ck_assert_str_eq(text, "content");
	ck_assert_int_eq(count_files(&f, "*"), 1 + 2);
	teardown(&f);
}
END_TEST

/* Faster than the clock of the file system: before Linux 6.13 the times alone tell nothing. */
START_TEST(image__written_twice_in_a_tick__seen)
{
	struct fixture f;
	CLEANUP_FREE char *before = NULL;

	setup_in(&f, "/dev/shm"); /* no disk is that fast */
	for (int i = 0; i < 60; i++) {
		CLEANUP_FREE char *text = xasprintf("%d", 100 + i);
		CLEANUP_FREE char *path = make_file(&f, "one.raw", text, 4096);
		const struct image *image = take(&f, path);

		ck_assert_ptr_nonnull(image);
		ck_assert_str_ne(image->digest, before != NULL ? before : "");
		free(before);
		before = xstrdup(image->digest);
	}
	teardown(&f);
}
END_TEST

START_TEST(image__scratch_file__becomes_the_image)
{
	struct fixture f;
	CLEANUP_FREE char *path = NULL, *other = NULL, *left = NULL;
	struct image_import *import;
	struct stat before, after;

	setup(&f);
	path = image_scratch(f.images);
	other = image_scratch(f.images);
	ck_assert_str_ne(path, other);
	free(make_file(&f, path, "flat", MIB));
	ck_assert_int_eq(stat(path, &before), 0);
	image_import_scratch(f.images, path, "golden", on_progress, on_done, &f);
	wait_for(&f, 1);
	ck_assert_msg(f.image != NULL, "%s", f.err.msg);
	ck_assert_str_eq(f.image->name, "golden");
	ck_assert_int_eq(stat(f.image->path, &after), 0);
	ck_assert_uint_eq(after.st_ino, before.st_ino);
	ck_assert_uint_eq(after.st_mode & 07777, 0400);
	/* Again, refused, and cancelled: the file is gone each time. */
	free(make_file(&f, other, "flat", MIB));
	image_import_scratch(f.images, other, "twin", NULL, on_done, &f);
	wait_for(&f, 1);
	ck_assert_str_eq(f.image->name, "golden");
	free(make_file(&f, other, "conectix", MIB));
	image_import_scratch(f.images, other, "bad", NULL, on_done, &f);
	wait_for(&f, 1);
	ck_assert_int_eq(f.err.code, E_IMAGE);
	free(make_file(&f, other, "other", MIB));
	hold(&f);
	import = image_import_scratch(f.images, other, "cancelled", NULL, on_done, &f);
	image_import_cancel(import);
	let_go(&f);
	wait_for(&f, 1);
	ck_assert_int_eq(f.err.code, E_CANCELLED);
	/* What a crash leaves. */
	left = image_scratch(f.images);
	free(make_file(&f, left, "left", MIB));
	reopen(&f, 16);
	ck_assert_int_eq(count_files(&f, "*"), 1 + 2);
	teardown(&f);
}
END_TEST

/* ---- killed at any moment ---- */

static void
take_and_remove(struct fixture *f, const char *const *paths)
{
	char *notice;

	f->loop = loop_create();
	f->pool = worker_pool_create(f->loop, 2, 16);
	if (store_open(f->db_path, f->loop, &f->store, &notice, &f->err) != 0 ||
	    image_store_open(f->images_dir, f->store, f->loop, f->pool, &f->images, &f->err) != 0)
		_exit(1);
	for (unsigned i = 0;; i++) {
		f->done = 0;
		f->expected = 2;
		image_import(f->images, open(paths[0], O_RDONLY), "a", NULL, on_done, f);
		image_import(f->images, open(paths[i % 3], O_RDONLY), "b", NULL, on_done, f);
		loop_run(f->loop);
		if (f->image == NULL || image_remove(f->images, f->image->digest, &f->err) != 0)
			_exit(1);
	}
}

static void
check_whole(void *arg, const struct image *image)
{
	struct fixture *f = arg;
	struct err err;

	f->progressed++;
	ck_assert_msg(disk_verify(image->path, image->format, image->digest, NULL, NULL, NULL, &err)
	    == 0, "%s", err.msg);
}

START_TEST(image__killed__rows_and_files_agree)
{
	struct fixture f;
	CLEANUP_FREE char *one = NULL, *two = NULL, *three = NULL;

	setup(&f);
	one = make_file(&f, "one.raw", "content", 3 * MIB);
	two = make_file(&f, "two.raw", "content", 3 * MIB);
	three = make_file(&f, "three.raw", "other", 2 * MIB);
	for (int i = 0; i < 12; i++) {
		struct timespec some = { .tv_nsec = 5000000 + (rand() % 60) * 1000000 };
		pid_t pid;
		int status;

		close_all(&f);
		pid = fork();
		ck_assert_int_ge(pid, 0);
		if (pid == 0)
			take_and_remove(&f, (const char *[]){ one, two, three });
		nanosleep(&some, NULL); /* any moment will do */
		ck_assert_int_eq(kill(pid, SIGKILL), 0);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert(WIFSIGNALED(status));
		open_all(&f, 16);
		f.progressed = 0;
		image_each(f.images, check_whole, &f);
		ck_assert_int_eq(count_files(&f, "*"), f.progressed + 2);
	}
	teardown(&f);
}
END_TEST

START_TEST(image__full_disk__told_before_copying)
{
	struct fixture f;
	CLEANUP_FREE char *path = NULL;

	setup(&f);
	if (mount("none", f.images_dir, "tmpfs", 0, "size=16m,mode=0700") < 0) {
		printf("# NOT CHECKED: an import on a full disk (no tmpfs: %s)\n", strerror(errno));
		fprintf(stderr, "NOT CHECKED: an import on a full disk (no tmpfs: %s)\n",
		    strerror(errno));
		teardown(&f);
		return;
	}
	path = make_file(&f, "one.raw", "content", MIB);
	ck_assert_ptr_null(take(&f, path));
	ck_assert_int_eq(f.err.code, E_NO_SPACE);
	ck_assert_uint_gt(strlen(f.err.hint), 0);
	ck_assert_int_eq(f.progressed, 0);
	ck_assert_int_eq(count_files(&f, "*"), 2);
	ck_assert_int_eq(umount(f.images_dir), 0);
	teardown(&f);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("image");

	UNIT_CASE(s, image__taken__kept_by_digest_and_found);
	UNIT_CASE(s, image__G_72_same_file_unchanged__not_read_again);
	UNIT_CASE(s, image__same_content__kept_once);
	UNIT_CASE(s, image__41_two_at_once__one_piece_of_work);
	UNIT_CASE(s, image__removed__who_made_something_of_it_hears);
	UNIT_CASE(s, image__cancel__leaves_nothing_and_spares_others);
	UNIT_CASE(s, image__cancel_under_way__ends_soon);
	UNIT_CASE(s, image__changed_while_taken__refused);
	UNIT_CASE(s, image__holes__kept_and_hashed);
	UNIT_CASE(s, image__refused__reason_and_no_file);
	UNIT_CASE(s, image__odd_name__shown_safely);
	UNIT_CASE(s, image__G_78_file_gone_or_short__told_and_mended);
	UNIT_CASE(s, image__removed__gone_for_good);
	UNIT_CASE(s, image__interrupted_work__tidied_at_open);
	UNIT_CASE(s, image__closed_under_way__done_is_called);
	UNIT_CASE(s, image__removed_after_the_work__has_its_file_all_the_same);
	UNIT_CASE(s, image__cancelled_beside_its_twin__spares_it);
	UNIT_CASE(s, image__closed_after_the_work__nothing_left);
	UNIT_CASE(s, image__other_bytes_of_the_same_size__mended_by_taking);
	UNIT_CASE(s, image__written_twice_in_a_tick__seen);
	UNIT_CASE(s, image__scratch_file__becomes_the_image);
	UNIT_CASE(s, image__killed__rows_and_files_agree);
	UNIT_CASE(s, image__full_disk__told_before_copying);
	return unit_main(s);
}
