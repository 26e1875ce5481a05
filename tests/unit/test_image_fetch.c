/* SPDX-License-Identifier: MPL-2.0
 *
 * Images over HTTP into the store, with the real vmm-fetch and a real server that can do wrong. */
#include "tests/unit/fetching.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <json-c/json.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/digest.h"
#include "lib/base/fs.h"
#include "lib/base/json.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/process.h"
#include "lib/base/str.h"
#include "lib/base/worker.h"
#include "lib/image/images.h"
#include "lib/image/names.h"
#include "lib/store/store.h"

/* ---- one transfer ---- */

START_TEST(fetch__new_url__is_an_image_of_its_digest)
{
	struct fixture f;
	CLEANUP_FREE char *digest = NULL, *url = NULL;
	const struct image *image;
	struct want *want;

	setup(&f);
	digest = serve(&f, "/pub/disk.img", 3 * MIB, 1, "\"etag\": \"\\\"one\\\"\"");
	url = url_of(&f, "/pub/disk.img");
	want = get(&f, url);
	assert_got(want, digest, 3 * MIB);
	ck_assert(!want->known);
	ck_assert_str_eq(want->source, url);
	assert_file(&f, digest, 3 * MIB);
	image = image_find(f.images, digest);
	ck_assert_str_eq(image->name, "disk.img");
	ck_assert_str_eq(image->source, url);
	ck_assert_str_eq(image->format, "raw");
	teardown(&f);
}
END_TEST

/* Owned: the digest of what is packed in it. */
static char *
serve_packed(struct fixture *f, const char *path, size_t bytes)
{
	CLEANUP_FREE char *file = make_image(f, "plain", bytes, 7);
	CLEANUP_FREE char *packed = fs_join(f->dir, "packed");
	const char *const argv[] = { "zstd", "-q", "-o", packed, file, NULL };
	struct process_output output = { 0 };

	ck_assert_int_eq(process_run(argv, NULL, 0, 100, 60000, NULL, NULL, &output, NULL), 0);
	process_output_done(&output);
	TELL(f, "[\"put\", \"%s\", \"%s\", {}]", path, packed);
	return digest_of(file);
}

START_TEST(fetch__packed__is_stored_unpacked)
{
	struct fixture f;
	CLEANUP_FREE char *digest = NULL, *url = NULL;

	setup(&f);
	digest = serve_packed(&f, "/disk.img.zst", 2 * MIB);
	url = url_of(&f, "/disk.img.zst");
	ck_assert_ptr_nonnull(get(&f, url)->digest);
	ck_assert_str_eq(f.wants[0].digest, digest);
	ck_assert_uint_gt(f.wants[0].transferred, 0);
	assert_file(&f, digest, 2 * MIB);
	ck_assert_str_eq(image_find(f.images, digest)->name, "disk.img");
	teardown(&f);
}
END_TEST

START_TEST(fetch__unchanged__transfers_nothing)
{
	struct fixture f;
	CLEANUP_FREE char *digest = NULL, *url = NULL;
	uint64_t bytes;
	size_t count;

	setup(&f);
	digest = serve(&f, "/d", MIB, 1, "");
	url = url_of(&f, "/d");
	assert_got(get(&f, url), digest, MIB);
	assert_got(get(&f, url), digest, 0);
	ck_assert(f.wants[0].known);
	hits(&f, "/d", &count, &bytes);
	ck_assert_uint_eq(count, 2);
	ck_assert_uint_eq(bytes, MIB);
	/* Also after a restart. */
	close_all(&f);
	open_all(&f);
	assert_got(get(&f, url), digest, 0);
	hits(&f, "/d", &count, &bytes);
	ck_assert_uint_eq(bytes, MIB);
	teardown(&f);
}
END_TEST

START_TEST(fetch__moved__is_fetched_and_the_old_one_stays)
{
	struct fixture f;
	CLEANUP_FREE char *one = NULL, *two = NULL, *url = NULL;
	struct image_spec spec = { .present = true };

	setup(&f);
	one = serve(&f, "/d", MIB, 1, "");
	spec.url = url = url_of(&f, "/d");
	assert_got(get(&f, url), one, MIB);
	two = serve(&f, "/d", 2 * MIB, 2, "");
	/* Who does not ask does not learn of it. */
	assert_got(get_spec(&f, &spec, IMAGE_MISSING), one, 0);
	ck_assert_str_eq(image_known(f.images, &spec, ALICE)->digest, one);
	assert_got(get(&f, url), two, 2 * MIB);
	ck_assert_str_eq(image_known(f.images, &spec, ALICE)->digest, two);
	ck_assert_ptr_nonnull(image_find(f.images, one));
	teardown(&f);
}
END_TEST

START_TEST(fetch__damaged__is_fetched_anew_though_unchanged)
{
	struct fixture f;
	CLEANUP_FREE char *one = NULL, *url = NULL, *found = NULL;
	const struct image *image;
	CLEANUP_FD int fd = -1;

	setup(&f);
	one = serve(&f, "/d", MIB, 1, "");
	url = url_of(&f, "/d");
	assert_got(get(&f, url), one, MIB);
	image = image_find(f.images, one);
	ck_assert_int_eq(chmod(image->path, 0600), 0);
	fd = open(image->path, O_RDWR);
	ck_assert_int_eq(pwrite(fd, "X", 1, 5000), 1);
	image_set_damaged(f.images, one, true);
	ck_assert_ptr_null(image_find(f.images, one));
	assert_got(get(&f, url), one, MIB);
	image = image_find(f.images, one);
	ck_assert_ptr_nonnull(image);
	found = digest_of(image->path);
	ck_assert_str_eq(found, one);
	teardown(&f);
}
END_TEST

START_TEST(fetch__server_gone__what_is_known_will_do)
{
	struct fixture f;
	CLEANUP_FREE char *digest = NULL, *url = NULL;
	struct image_spec spec = { .present = true };

	setup(&f);
	digest = serve(&f, "/d", MIB, 1, "");
	spec.url = url = url_of(&f, "/d");
	assert_got(get(&f, url), digest, MIB);
	TELL(&f, "[\"always\", \"/d\", {\"status\": 503}]");
	assert_got(get(&f, url), digest, 0);
	ck_assert_ptr_nonnull(f.wants[0].note);
	ck_assert_ptr_nonnull(strstr(f.wants[0].note, "503"));
	assert_failed(get_spec(&f, &spec, IMAGE_REFRESH), E_NETWORK, "503");
	/* That it is gone is an answer. */
	TELL(&f, "[\"always\", \"/d\", {\"status\": 404}]");
	assert_failed(get(&f, url), E_NOT_FOUND, "404");
	teardown(&f);
}
END_TEST

START_TEST(fetch__wrong_digest__leaves_nothing)
{
	struct fixture f;
	CLEANUP_FREE char *digest = NULL, *url = NULL, *other = NULL;
	struct image_spec spec = { .present = true };

	setup(&f);
	digest = serve(&f, "/d", MIB, 1, "");
	spec.url = url = url_of(&f, "/d");
	spec.sha256 = other = xstrdup(digest + 7);
	other[0] = other[0] == 'a' ? 'b' : 'a';
	assert_failed(get_spec(&f, &spec, IMAGE_REVALIDATE), E_IMAGE, "that was meant");
	spec.sha256 = NULL;
	spec.digest = xasprintf("sha256:%s", other);
	assert_failed(get_spec(&f, &spec, IMAGE_REVALIDATE), E_IMAGE, "that was meant");
	ck_assert_uint_eq(files(&f, ".part-*"), 0);
	ck_assert_uint_eq(files(&f, "sha256-*"), 0);
	ck_assert_ptr_null(image_known(f.images, &spec, ALICE));
	free(spec.digest);
	teardown(&f);
}
END_TEST

START_TEST(fetch__known_digest__asks_nobody)
{
	struct fixture f;
	CLEANUP_FREE char *digest = NULL, *url = NULL;
	struct image_spec spec = { .present = true };

	setup(&f);
	digest = serve(&f, "/d", MIB, 1, "");
	url = url_of(&f, "/d");
	spec.digest = digest;
	spec.source = url;
	/* What a lock says: fetched from its source. */
	spec.url = (char *)(uintptr_t)"debian:12";
	assert_got(get_spec(&f, &spec, IMAGE_REVALIDATE), digest, MIB);
	ck_assert_uint_eq(hit_count(&f, "/d"), 1);
	assert_got(get_spec(&f, &spec, IMAGE_REFRESH), digest, 0);
	ck_assert(f.wants[0].known);
	spec = (struct image_spec){ .present = true, .url = url, .sha256 = digest + 7 };
	assert_got(get_spec(&f, &spec, IMAGE_REFRESH), digest, 0);
	ck_assert_uint_eq(hit_count(&f, "/d"), 1);
	teardown(&f);
}
END_TEST

START_TEST(fetch__known_but_not_checked__is_fetched_to_be_checked)
{
	struct fixture f;
	CLEANUP_FREE char *digest = NULL, *url = NULL;
	struct image_spec spec = { .present = true };
	char wrong[129];

	setup(&f);
	digest = serve(&f, "/d", MIB, 1, "");
	spec.url = url = url_of(&f, "/d");
	assert_got(get(&f, url), digest, MIB);
	memset(wrong, 'a', 128);
	wrong[128] = '\0';
	spec.sha512 = wrong;
	ck_assert_ptr_null(image_known(f.images, &spec, ALICE));
	assert_failed(get_spec(&f, &spec, IMAGE_MISSING), E_IMAGE, "sha512");
	assert_failed(get_spec(&f, &spec, IMAGE_REVALIDATE), E_IMAGE, "sha512");
	teardown(&f);
}
END_TEST

START_TEST(fetch__list_of_checksums__counts_and_is_remembered)
{
	struct fixture f;
	CLEANUP_FREE char *digest = NULL, *url = NULL, *list = NULL, *text = NULL, *list_url = NULL;
	struct image_spec spec = { .present = true };

	setup(&f);
	digest = serve(&f, "/d.img", MIB, 1, "");
	text = xasprintf("%s  d.img\n", digest + 7);
	list = fs_join(f.dir, "list");
	ck_assert_int_eq(fs_write(list, text, strlen(text), 0600, NULL), 0);
	TELL(&f, "[\"put\", \"/SHA256SUMS\", \"%s\", {}]", list);
	spec.url = url = url_of(&f, "/d.img");
	spec.checksums = list_url = url_of(&f, "/SHA256SUMS");
	assert_got(get_spec(&f, &spec, IMAGE_REVALIDATE), digest, MIB);
	assert_got(get_spec(&f, &spec, IMAGE_REVALIDATE), digest, 0);
	ck_assert_uint_eq(hit_count(&f, "/d.img"), 2);
	teardown(&f);
}
END_TEST

START_TEST(fetch__another_query__is_another_image)
{
	struct fixture f;
	CLEANUP_FREE char *digest = NULL, *one = NULL, *two = NULL;
	struct image_spec spec = { .present = true };

	setup(&f);
	digest = serve(&f, "/d", MIB, 1, "");
	one = url_of(&f, "/d?id=1&token=secret");
	two = url_of(&f, "/d?id=2");
	assert_got(get(&f, one), digest, MIB);
	spec.url = one;
	ck_assert_ptr_nonnull(image_known(f.images, &spec, ALICE));
	ck_assert_ptr_null(strstr(image_find(f.images, digest)->source, "secret"));
	spec.url = two;
	ck_assert_ptr_null(image_known(f.images, &spec, ALICE));
	teardown(&f);
}
END_TEST

START_TEST(fetch__wrong_format__is_refused)
{
	struct fixture f;
	CLEANUP_FREE char *digest = NULL, *url = NULL;
	struct image_spec spec = { .present = true, .format = (char *)(uintptr_t)"qcow2" };

	setup(&f);
	digest = serve(&f, "/d", MIB, 1, "");
	spec.url = url = url_of(&f, "/d");
	assert_failed(get_spec(&f, &spec, IMAGE_REVALIDATE), E_IMAGE, "is a raw image, and not qcow2");
	ck_assert_uint_eq(files(&f, "sha256-*"), 0);
	ck_assert_uint_eq(files(&f, ".part-*"), 0);
	teardown(&f);
}
END_TEST

/* ---- broken off ---- */

START_TEST(fetch__cut__goes_on_where_it_was)
{
	struct fixture f;
	CLEANUP_FREE char *digest = NULL, *url = NULL;
	uint64_t bytes;
	size_t count;

	setup(&f);
	digest = serve(&f, "/d", 8 * MIB, 1, "");
	url = url_of(&f, "/d");
	TELL(&f, "[\"then\", \"/d\", {\"cut\": 6291456}]");
	assert_failed(get(&f, url), E_NETWORK, "");
	ck_assert_uint_eq(files(&f, ".part-*"), 3);
	ck_assert_uint_eq(files(&f, "sha256-*"), 0);
	ck_assert_ptr_nonnull(get(&f, url)->digest);
	ck_assert_str_eq(f.wants[0].digest, digest);
	ck_assert_uint_lt(f.wants[0].transferred, 4 * MIB);
	hits(&f, "/d", &count, &bytes);
	ck_assert_uint_eq(count, 2);
	ck_assert_uint_lt(bytes, 10 * MIB);
	assert_file(&f, digest, 8 * MIB);
	teardown(&f);
}
END_TEST

START_TEST(fetch__packed_and_cut__goes_on_with_the_packed_bytes)
{
	struct fixture f;
	CLEANUP_FREE char *digest = NULL, *url = NULL;
	uint64_t bytes;
	size_t count;

	setup(&f);
	digest = serve_packed(&f, "/d.zst", 8 * MIB);
	url = url_of(&f, "/d.zst");
	TELL(&f, "[\"then\", \"/d.zst\", {\"cut\": 6291456}]");
	assert_failed(get(&f, url), E_NETWORK, "");
	close_all(&f);
	open_all(&f);
	get(&f, url);
	assert_got(&f.wants[0], digest, f.wants[0].transferred);
	ck_assert_uint_lt(f.wants[0].transferred, 4 * MIB);
	hits(&f, "/d.zst", &count, &bytes);
	ck_assert_uint_lt(bytes, 10 * MIB);
	assert_file(&f, digest, 8 * MIB);
	teardown(&f);
}
END_TEST

START_TEST(fetch__cut_and_replaced__begins_anew)
{
	struct fixture f;
	CLEANUP_FREE char *one = NULL, *two = NULL, *url = NULL;

	setup(&f);
	one = serve(&f, "/d", 8 * MIB, 1, "");
	url = url_of(&f, "/d");
	TELL(&f, "[\"then\", \"/d\", {\"cut\": 6291456}]");
	assert_failed(get(&f, url), E_NETWORK, "");
	two = serve(&f, "/d", 8 * MIB, 2, "");
	assert_got(get(&f, url), two, 8 * MIB);
	assert_file(&f, two, 8 * MIB);
	teardown(&f);
}
END_TEST

START_TEST(fetch__closed_midway__goes_on_after_the_restart)
{
	struct fixture f;
	CLEANUP_FREE char *digest = NULL, *url = NULL;

	setup(&f);
	digest = serve(&f, "/d", 8 * MIB, 1, "");
	url = url_of(&f, "/d");
	TELL(&f, "[\"then\", \"/d\", {\"hold\": 6291456}]");
	begin(&f, 0, url);
	run_to_part(&f);
	f.pending = 100;
	close_all(&f);
	f.pending = 0;
	assert_failed(&f.wants[0], E_SHUTDOWN, "going down");
	ck_assert_uint_eq(files(&f, ".part-*"), 3);
	open_all(&f);
	TELL(&f, "[\"release\", \"/d\"]");
	ck_assert_ptr_nonnull(get(&f, url)->digest);
	ck_assert_str_eq(f.wants[0].digest, digest);
	ck_assert_uint_lt(f.wants[0].transferred, 8 * MIB);
	assert_file(&f, digest, 8 * MIB);
	teardown(&f);
}
END_TEST

START_TEST(fetch__parts_of_nobody__go_at_the_next_open)
{
	struct fixture f;
	CLEANUP_FREE char *lone = NULL, *body = NULL, *old = NULL, *note = NULL;
	const char text[] = "{\"validator\":\"\\\"a\\\"\",\"bytes\":3,\"uid\":0,\"created_ms\":1}";

	setup(&f);
	close_all(&f);
	lone = fs_join(f.images_dir, ".part-00112233445566778899aabbccddeeff");
	body = fs_join(f.images_dir, ".part-10112233445566778899aabbccddeeff.spool");
	old = fs_join(f.images_dir, ".part-20112233445566778899aabbccddeeff");
	note = fs_join(f.images_dir, ".part-20112233445566778899aabbccddeeff.json");
	ck_assert_int_eq(fs_write(lone, "abc", 3, 0600, NULL), 0);
	ck_assert_int_eq(fs_write(body, "abc", 3, 0600, NULL), 0);
	ck_assert_int_eq(fs_write(old, "abc", 3, 0600, NULL), 0);
	ck_assert_int_eq(fs_write(note, text, strlen(text), 0600, NULL), 0);
	open_all(&f);
	close_all(&f);
	open_all(&f); /* nor at the one after it */
	ck_assert_uint_eq(files(&f, ".part-*"), 0);
	teardown(&f);
}
END_TEST

START_TEST(fetch__part__is_pruned_by_its_user_unless_in_use)
{
	struct fixture f;
	CLEANUP_FREE char *digest = NULL, *url = NULL;
	uint64_t bytes = 0, none = 0;

	setup(&f);
	digest = serve(&f, "/d", 8 * MIB, 1, "");
	url = url_of(&f, "/d");
	TELL(&f, "[\"then\", \"/d\", {\"cut\": 6291456}]");
	assert_failed(get(&f, url), E_NETWORK, "");
	ck_assert_uint_eq(image_parts_prune(f.images, BOB, false, &none), 0);
	ck_assert_uint_eq(none, 0);
	ck_assert_uint_eq(image_parts_prune(f.images, ALICE, true, &bytes), 1);
	ck_assert_uint_gt(bytes, 4 * MIB);
	ck_assert_uint_eq(image_parts_prune(f.images, ALICE, false, &bytes), 1);
	ck_assert_uint_eq(files(&f, ".part-*"), 0);
	TELL(&f, "[\"then\", \"/d\", {\"cut\": 6291456}]");
	assert_failed(get(&f, url), E_NETWORK, "");
	begin(&f, 0, url);
	ck_assert_uint_eq(image_parts_prune(f.images, 0, false, &none), 0);
	loop_run(f.loop);
	assert_got(&f.wants[0], digest, f.wants[0].transferred);
	ck_assert_uint_lt(f.wants[0].transferred, 8 * MIB);
	teardown(&f);
}
END_TEST

/* ---- together ---- */

START_TEST(fetch__two_who_want_it__share_one_transfer)
{
	struct fixture f;
	CLEANUP_FREE char *digest = NULL, *url = NULL;
	struct image_spec spec = { .present = true };

	setup(&f);
	digest = serve(&f, "/d", MIB, 1, "");
	spec.url = url = url_of(&f, "/d");
	begin(&f, 0, url);
	begin(&f, 1, url);
	begin_as(&f, 2, &spec, IMAGE_REVALIDATE, BOB, NULL);
	loop_run(f.loop);
	for (int i = 0; i < 3; i++)
		assert_got(&f.wants[i], digest, MIB);
	ck_assert_uint_eq(hit_count(&f, "/d"), 1);
	ck_assert_str_eq(image_known(f.images, &spec, BOB)->digest, digest);
	teardown(&f);
}
END_TEST

START_TEST(fetch__one_cancels__the_other_gets_it)
{
	struct fixture f;
	CLEANUP_FREE char *digest = NULL, *url = NULL;

	setup(&f);
	digest = serve(&f, "/d", 4 * MIB, 1, "");
	url = url_of(&f, "/d");
	begin(&f, 0, url);
	begin(&f, 1, url);
	f.wants[0].cancel_at_progress = true;
	loop_run(f.loop);
	assert_failed(&f.wants[0], E_CANCELLED, "cancelled");
	assert_got(&f.wants[1], digest, 4 * MIB);
	teardown(&f);
}
END_TEST

START_TEST(fetch__last_cancels__nothing_stays)
{
	struct fixture f;
	CLEANUP_FREE char *digest = NULL, *url = NULL;

	setup(&f);
	digest = serve(&f, "/d", 8 * MIB, 1, "");
	url = url_of(&f, "/d");
	TELL(&f, "[\"then\", \"/d\", {\"hold\": 6291456}]");
	begin(&f, 0, url);
	begin(&f, 1, url);
	f.wants[0].cancel_at_progress = f.wants[1].cancel_at_progress = true;
	loop_run(f.loop);
	assert_failed(&f.wants[0], E_CANCELLED, "cancelled");
	assert_failed(&f.wants[1], E_CANCELLED, "cancelled");
	ck_assert_uint_eq(files(&f, ".part-*"), 0);
	ck_assert_uint_eq(files(&f, "sha256-*"), 0);
	/* And at once again. */
	TELL(&f, "[\"release\", \"/d\"]");
	assert_got(get(&f, url), digest, 8 * MIB);
	teardown(&f);
}
END_TEST

START_TEST(fetch__with_credentials__is_not_for_others)
{
	struct fixture f;
	CLEANUP_FREE char *digest = NULL, *url = NULL, *host = NULL;
	struct host_auth entry = { .present = true, .username = (char *)(uintptr_t)"alice",
		.password = (char *)(uintptr_t)"secret" };
	struct fetch_auth auth = { .present = true, .hosts = { &entry, 1 } };
	struct image_spec spec = { .present = true };
	CLEANUP_FREE char *begin_of_digest = NULL;
	const struct image *image;

	setup(&f);
	digest = serve(&f, "/d", MIB, 1, "");
	spec.url = url = url_of(&f, "/d");
	begin_of_digest = xstrdup(digest);
	entry.host = host = xstrdup(f.url + strlen("http://"));
	TELL(&f, "[\"login\", \"/d\", \"alice\", \"secret\"]");
	begin_as(&f, 0, &spec, IMAGE_REVALIDATE, ALICE, &auth);
	begin_as(&f, 1, &spec, IMAGE_REVALIDATE, BOB, NULL);
	loop_run(f.loop);
	assert_got(&f.wants[0], digest, MIB);
	assert_failed(&f.wants[1], E_PERMISSION, "401");
	ck_assert_ptr_nonnull(image_known(f.images, &spec, ALICE));
	ck_assert_ptr_null(image_known(f.images, &spec, BOB));
	begin_of_digest[20] = '\0';
	ck_assert_int_eq(image_get_for(f.images, ALICE, begin_of_digest, &image, NULL), 0);
	ck_assert_int_eq(image_get_for(f.images, BOB, begin_of_digest, &image, NULL), E_NOT_FOUND);
	ck_assert_int_eq(image_get_for(f.images, BOB, "d", &image, NULL), E_NOT_FOUND);
	teardown(&f);
}
END_TEST

/* ---- held ---- */

START_TEST(fetch__asked_for__can_not_be_removed)
{
	struct fixture f;
	CLEANUP_FREE char *digest = NULL, *url = NULL;
	struct err err;

	setup(&f);
	digest = serve(&f, "/d", MIB, 1, "");
	url = url_of(&f, "/d");
	assert_got(get(&f, url), digest, MIB);
	begin(&f, 0, url);
	ck_assert_int_eq(image_remove(f.images, digest, &err), E_BUSY);
	loop_run(f.loop);
	assert_got(&f.wants[0], digest, 0);
	ck_assert_int_eq(image_remove(f.images, digest, &err), 0);
	/* What pointed at it is gone, too: it is fetched again. */
	assert_got(get(&f, url), digest, MIB);
	teardown(&f);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("image_fetch");

	signal(SIGPIPE, SIG_IGN);
	UNIT_CASE(suite, fetch__new_url__is_an_image_of_its_digest);
	UNIT_CASE(suite, fetch__packed__is_stored_unpacked);
	UNIT_CASE(suite, fetch__unchanged__transfers_nothing);
	UNIT_CASE(suite, fetch__moved__is_fetched_and_the_old_one_stays);
	UNIT_CASE(suite, fetch__damaged__is_fetched_anew_though_unchanged);
	UNIT_CASE(suite, fetch__server_gone__what_is_known_will_do);
	UNIT_CASE(suite, fetch__wrong_digest__leaves_nothing);
	UNIT_CASE(suite, fetch__known_digest__asks_nobody);
	UNIT_CASE(suite, fetch__known_but_not_checked__is_fetched_to_be_checked);
	UNIT_CASE(suite, fetch__list_of_checksums__counts_and_is_remembered);
	UNIT_CASE(suite, fetch__another_query__is_another_image);
	UNIT_CASE(suite, fetch__wrong_format__is_refused);
	UNIT_CASE(suite, fetch__cut__goes_on_where_it_was);
	UNIT_CASE(suite, fetch__packed_and_cut__goes_on_with_the_packed_bytes);
	UNIT_CASE(suite, fetch__cut_and_replaced__begins_anew);
	UNIT_CASE(suite, fetch__closed_midway__goes_on_after_the_restart);
	UNIT_CASE(suite, fetch__parts_of_nobody__go_at_the_next_open);
	UNIT_CASE(suite, fetch__part__is_pruned_by_its_user_unless_in_use);
	UNIT_CASE(suite, fetch__two_who_want_it__share_one_transfer);
	UNIT_CASE(suite, fetch__one_cancels__the_other_gets_it);
	UNIT_CASE(suite, fetch__last_cancels__nothing_stays);
	UNIT_CASE(suite, fetch__with_credentials__is_not_for_others);
	UNIT_CASE(suite, fetch__asked_for__can_not_be_removed);
	return unit_main(suite);
}
