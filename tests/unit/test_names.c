/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/image/names.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/base/worker.h"
#include "lib/store/store.h"
#include "tests/unit/unit.h"

enum { ALICE = 4001, BOB = 4002 };

struct fixture {
	char dir[64];
	char *images_dir, *db_path;
	struct loop *loop;
	struct worker_pool *pool;
	struct store *store;
	struct image_store *images;
	struct err err;
	char *first, *second; /* digests */
	int seen;
};

static void
open_all(struct fixture *f)
{
	char *notice;

	f->pool = worker_pool_create(f->loop, 1, 16);
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
reopen(struct fixture *f)
{
	close_all(f);
	open_all(f);
}

struct taken {
	struct loop *loop;
	char *digest;
};

static void
on_taken(void *arg, const struct image *image, const struct err *err)
{
	struct taken *taken = arg;

	ck_assert_msg(image != NULL, "%s", err != NULL ? err->msg : "");
	taken->digest = xstrdup(image->digest);
	loop_stop(taken->loop);
}

static char *
take(struct fixture *f, const char *name, const char *text)
{
	CLEANUP_FREE char *path = fs_join(f->dir, name);
	struct taken taken = { .loop = f->loop };

	ck_assert_int_eq(fs_write(path, text, strlen(text), 0600, &f->err), 0);
	ck_assert_int_eq(truncate(path, 1 << 20), 0);
	image_import(f->images, open(path, O_RDONLY | O_CLOEXEC), path, NULL, on_taken, &taken);
	loop_run(f->loop);
	return taken.digest;
}

static void
setup(struct fixture *f)
{
	memset(f, 0, sizeof(*f));
	snprintf(f->dir, sizeof(f->dir), "/tmp/test-names.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(f->dir));
	f->images_dir = fs_join(f->dir, "images");
	f->db_path = fs_join(f->dir, "vmm.db");
	f->loop = loop_create();
	open_all(f);
	f->first = take(f, "first.raw", "first");
	f->second = take(f, "second.raw", "second");
}

static void
teardown(struct fixture *f)
{
	close_all(f);
	loop_destroy(f->loop);
	free(f->images_dir);
	free(f->db_path);
	free(f->first);
	free(f->second);
	ck_assert_int_eq(fs_remove_tree(f->dir, NULL), 0);
}

static void
set(struct fixture *f, uid_t uid, const char *name, const char *digest)
{
	struct image_name row = { .uid = uid, .name = (char *)(uintptr_t)name,
		.digest = (char *)(uintptr_t)digest };

	ck_assert_msg(names_set(f->images, &row, &f->err) == 0, "%s", f->err.msg);
}

static const char *
meant(struct fixture *f, uid_t uid, const char *name)
{
	const struct image_name *found = names_find(f->images, uid, name);

	return found != NULL ? found->digest : NULL;
}

static void
count(void *arg, const struct image_name *name)
{
	struct fixture *f = arg;

	f->seen++;
}

static int
count_of(struct fixture *f, const char *digest)
{
	f->seen = 0;
	names_each(f->images, digest, count, f);
	return f->seen;
}

START_TEST(names__same_name_of_two_users__each_has_their_own)
{
	struct fixture f;
	const struct image *image;

	setup(&f);
	set(&f, ALICE, "golden", f.first);
	set(&f, BOB, "golden", f.second);
	reopen(&f);
	ck_assert_str_eq(meant(&f, ALICE, "golden"), f.first);
	ck_assert_str_eq(meant(&f, BOB, "golden"), f.second);
	ck_assert_ptr_null(meant(&f, 4003, "golden"));
	ck_assert_int_eq(image_get_for(f.images, BOB, "golden", &image, &f.err), 0);
	ck_assert_str_eq(image->digest, f.second);
	ck_assert_int_eq(image_get_for(f.images, 4003, "golden", &image, &f.err), E_NOT_FOUND);
	teardown(&f);
}
END_TEST

START_TEST(names__image_of_another__found_by_the_whole_digest_alone)
{
	struct fixture f;
	const struct image *image;
	char prefix[20] = "";

	setup(&f);
	memcpy(prefix, f.first, sizeof(prefix) - 1);
	set(&f, ALICE, "mine", f.first);
	ck_assert_int_eq(image_get_for(f.images, ALICE, "first.raw", &image, &f.err), 0);
	ck_assert_int_eq(image_get_for(f.images, ALICE, prefix, &image, &f.err), 0);
	ck_assert_int_eq(image_get_for(f.images, BOB, "first.raw", &image, &f.err), E_NOT_FOUND);
	ck_assert_int_eq(image_get_for(f.images, BOB, prefix, &image, &f.err), E_NOT_FOUND);
	ck_assert_int_eq(image_get_for(f.images, BOB, f.first, &image, &f.err), 0);
	ck_assert_int_eq(image_get_for(f.images, geteuid(), "first.raw", &image, &f.err), 0);
	ck_assert_int_eq(names_claim(f.images, BOB, f.first, NULL, &f.err), 0);
	reopen(&f);
	ck_assert(names_show(f.images, BOB, f.first));
	ck_assert(!names_show(f.images, BOB, f.second));
	ck_assert_int_eq(image_get_for(f.images, BOB, "first.raw", &image, &f.err), 0);
	ck_assert(names_is_claim(names_find(f.images, BOB, f.first)));
	teardown(&f);
}
END_TEST

START_TEST(names__file_of_another_with_the_same_name__does_not_hide_ours)
{
	struct fixture f;
	const struct image *image;
	CLEANUP_FREE char *theirs = NULL;

	setup(&f);
	theirs = take(&f, "first.raw", "of another");
	ck_assert_int_eq(names_claim(f.images, ALICE, f.first, NULL, &f.err), 0);
	ck_assert_int_eq(names_claim(f.images, BOB, theirs, NULL, &f.err), 0);
	ck_assert_int_eq(image_get_for(f.images, ALICE, "first.raw", &image, &f.err), 0);
	ck_assert_str_eq(image->digest, f.first);
	ck_assert_int_eq(image_get_for(f.images, BOB, "first.raw", &image, &f.err), 0);
	ck_assert_str_eq(image->digest, theirs);
	teardown(&f);
}
END_TEST

START_TEST(names__of_root__seen_by_all_after_their_own)
{
	struct fixture f;

	setup(&f);
	set(&f, 0, "golden", f.first);
	ck_assert_str_eq(meant(&f, ALICE, "golden"), f.first);
	set(&f, ALICE, "golden", f.second);
	ck_assert_str_eq(meant(&f, ALICE, "golden"), f.second);
	ck_assert_str_eq(meant(&f, BOB, "golden"), f.first);
	ck_assert_int_eq(names_remove(f.images, BOB, "golden", &f.err), E_NOT_FOUND);
	ck_assert_int_eq(names_remove(f.images, ALICE, "golden", &f.err), 0);
	reopen(&f);
	ck_assert_str_eq(meant(&f, ALICE, "golden"), f.first);
	teardown(&f);
}
END_TEST

START_TEST(names__fetched_by_root_with_credentials__not_seen_by_others)
{
	char url[] = "https://example.test/private.qcow2", key[] = "0123456789abcdef";
	char open_url[] = "https://example.test/open.qcow2", nobody[] = "anonymous";
	struct image_name row = { .name = url, .fetched = true, .auth_key = key };
	struct fixture f;

	setup(&f);
	row.digest = f.first;
	ck_assert_int_eq(names_set(f.images, &row, &f.err), 0);
	row.name = open_url;
	row.auth_key = nobody;
	ck_assert_int_eq(names_set(f.images, &row, &f.err), 0);
	ck_assert_ptr_nonnull(meant(&f, 0, url));
	ck_assert_ptr_null(meant(&f, ALICE, url));
	ck_assert_ptr_nonnull(meant(&f, ALICE, open_url));
	teardown(&f);
}
END_TEST

START_TEST(names__fetched__all_that_was_told_is_there_after_a_restart)
{
	char url[] = "https://example.test/a.qcow2", etag[] = "\"e1\"", date[] = "yesterday";
	char body[] = "sha256:beef", key[] = "anonymous";
	struct image_name row = { .uid = ALICE, .name = url, .fetched = true, .source = url,
		.etag = etag, .last_modified = date, .body_digest = body, .auth_key = key,
		.checked_ms = 77 };
	const struct image_name *found;
	struct fixture f;

	setup(&f);
	row.digest = f.first;
	ck_assert_int_eq(names_set(f.images, &row, &f.err), 0);
	reopen(&f);
	found = names_find_body(f.images, body);
	ck_assert_ptr_nonnull(found);
	ck_assert_ptr_eq(found, names_find(f.images, ALICE, url));
	ck_assert(found->fetched);
	ck_assert_str_eq(found->source, url);
	ck_assert_str_eq(found->etag, etag);
	ck_assert_str_eq(found->last_modified, date);
	ck_assert_str_eq(found->auth_key, key);
	ck_assert_int_eq(found->checked_ms, 77);
	ck_assert_int_gt(found->changed_ms, 0);
	ck_assert_ptr_null(names_find_body(f.images, "sha256:dead"));
	/* Set from itself: what was borrowed is copied before it goes. */
	row = *found;
	row.digest = f.second;
	ck_assert_int_eq(names_set(f.images, &row, &f.err), 0);
	ck_assert_str_eq(meant(&f, ALICE, url), f.second);
	ck_assert_int_eq(count_of(&f, NULL), 1);
	teardown(&f);
}
END_TEST

START_TEST(names__image_removed__what_points_at_it_goes)
{
	struct fixture f;

	setup(&f);
	set(&f, ALICE, "golden", f.first);
	set(&f, BOB, "silver", f.first);
	set(&f, BOB, "golden", f.second);
	ck_assert_int_eq(count_of(&f, f.first), 2);
	ck_assert_int_eq(image_remove(f.images, f.first, &f.err), 0);
	ck_assert_int_eq(count_of(&f, NULL), 1);
	reopen(&f);
	ck_assert_int_eq(count_of(&f, NULL), 1);
	ck_assert_ptr_null(meant(&f, ALICE, "golden"));
	teardown(&f);
}
END_TEST

START_TEST(names__of_an_image_that_is_not_there__refused)
{
	char name[] = "golden", digest[] = "sha256:beef";
	struct image_name row = { .name = name, .digest = digest };
	struct fixture f;

	setup(&f);
	ck_assert_int_eq(names_set(f.images, &row, &f.err), E_NOT_FOUND);
	ck_assert_ptr_null(meant(&f, 0, name));
	teardown(&f);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("names");

	UNIT_CASE(s, names__same_name_of_two_users__each_has_their_own);
	UNIT_CASE(s, names__image_of_another__found_by_the_whole_digest_alone);
	UNIT_CASE(s, names__file_of_another_with_the_same_name__does_not_hide_ours);
	UNIT_CASE(s, names__of_root__seen_by_all_after_their_own);
	UNIT_CASE(s, names__fetched_by_root_with_credentials__not_seen_by_others);
	UNIT_CASE(s, names__fetched__all_that_was_told_is_there_after_a_restart);
	UNIT_CASE(s, names__image_removed__what_points_at_it_goes);
	UNIT_CASE(s, names__of_an_image_that_is_not_there__refused);
	return unit_main(s);
}
