/* SPDX-License-Identifier: MPL-2.0
 *
 * What vmctl makes of the words for images. */
#include "client/image.h"

#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/json.h"
#include "client/lock.h"
#include "client/out.h"
#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "tests/unit/unit.h"

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

START_TEST(image__words__paths_and_others)
{
	static const struct {
		const char *word;
		bool path;
	} cases[] = {
		{ "/a/b", true },
		{ "./b", true },
		{ "~/b", true },
		{ "~", true },
		{ "a/b:12", true },
		{ "x.qcow2", true },
		{ "x.img.zst", true },
		{ "x.raw.xz", true },
		{ "debian:12", false },
		{ "golden", false },
		{ "https://h.example/x.qcow2", false },
		{ "oci://h.example/x", false },
		{ "sha256:" HEX64, false },
		{ "name:1.img", false },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++)
		ck_assert_msg(
		    image_word_is_path(cases[i].word) == cases[i].path, "%s", cases[i].word);
}
END_TEST

START_TEST(image__word_of_a_file_that_is_there__is_a_path)
{
	char dir[] = "/tmp/vmm-image-XXXXXX";

	ck_assert_ptr_nonnull(mkdtemp(dir));
	ck_assert_int_eq(chdir(dir), 0);
	ck_assert(!image_word_is_path("golden"));
	ck_assert_int_eq(fs_write("golden", "x", 1, 0600, NULL), 0);
	ck_assert(image_word_is_path("golden"));
	ck_assert_int_eq(chdir("/"), 0);
	fs_remove_tree(dir, NULL);
}
END_TEST

static char *
text(const char *s)
{
	return (char *)(uintptr_t)s;
}

START_TEST(lock__keys__of_what_may_move)
{
	static const struct {
		struct image_spec image;
		const char *key;
	} cases[] = {
		{ { .url = (char *)(uintptr_t) "debian:12" }, "debian:12" },
		{ { .url = (char *)(uintptr_t) "https://u:p@h.example/x?y=z" },
		    "https://h.example/x?y=z" },
		{ { .url = (char *)(uintptr_t) "oci://h.example/x" }, "oci://h.example/x" },
		{ { .url = (char *)(uintptr_t) "oci://h.example/x:1" }, "oci://h.example/x:1" },
		{ { .url = (char *)(uintptr_t) "oci://h.example/x@sha256:" HEX64 }, NULL },
		{ { .url = (char *)(uintptr_t) "oci://h.example/x:1@sha256:" HEX64 }, NULL },
		{ { .url = (char *)(uintptr_t) "sha256:" HEX64 }, NULL },
		{ { .url = (char *)(uintptr_t) "ftp://h.example/x" }, NULL },
		{ { .url = NULL }, NULL },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct image_spec image = cases[i].image;
		CLEANUP_FREE char *absent = lock_key(&image), *key = NULL;

		image.present = true;
		key = lock_key(&image);
		ck_assert_ptr_null(absent);
		ck_assert_msg(str_eq(key, cases[i].key), "%zu: %s", i, key != NULL ? key : "-");
	}
}
END_TEST

START_TEST(lock__what_the_vmfile_pins__has_no_key)
{
	struct image_spec image = { .present = true, .url = text("https://h.example/x") };
	CLEANUP_FREE char *key = lock_key(&image), *sha256 = NULL, *sha512 = NULL, *digest = NULL;

	ck_assert_ptr_nonnull(key);
	image.sha256 = text(HEX64);
	sha256 = lock_key(&image);
	ck_assert_ptr_null(sha256);
	image.sha256 = NULL;
	image.sha512 = text(HEX64 HEX64);
	sha512 = lock_key(&image);
	ck_assert_ptr_null(sha512);
	image.sha512 = NULL;
	image.digest = text("sha256:" HEX64);
	digest = lock_key(&image);
	ck_assert_ptr_null(digest);
}
END_TEST

START_TEST(lock__applied__pins_and_drops_todays_checksums)
{
	struct image_spec image = { .present = true, .url = text("debian:12") };
	struct lock lock = { 0 };
	json_object *json = json_tokener_parse(
	    "{\"url\":\"debian:12\",\"checksums\":\"https://h.example/SHA256SUMS\"}");

	lock_apply(&lock, &image, json);
	ck_assert(!json_has(json, "digest") && json_has(json, "checksums"));
	vmlock_set(&lock.entries, "debian:12", "sha256:" HEX64, "https://h.example/x");
	lock_apply(&lock, &image, json);
	ck_assert_str_eq(json_string(json, "digest"), "sha256:" HEX64);
	ck_assert_str_eq(json_string(json, "source"), "https://h.example/x");
	ck_assert_str_eq(json_string(json, "url"), "debian:12");
	ck_assert(!json_has(json, "checksums"));
	json_object_put(json);
	lock_done(&lock);
}
END_TEST

START_TEST(image__resolved__logins_leave_and_are_remembered)
{
	struct images images = { 0 };
	json_object *json = json_tokener_parse("{\"url\":\"https://u:p@h.example/x\","
					       "\"checksums\":\"https://v:q@h.example/S\","
					       "\"source\":\"oci://r.example/x\"}");

	ck_assert_int_eq(images_resolve(&images, json, NULL), 0);
	ck_assert_str_eq(json_string(json, "url"), "https://h.example/x");
	ck_assert_str_eq(json_string(json, "checksums"), "https://h.example/S");
	ck_assert_uint_eq(images.count, 3);
	ck_assert_str_eq(images.references[0].text, "https://u:p@h.example/x");
	ck_assert_str_eq(images.references[2].text, "oci://r.example/x");
	images_forget(&images, 1);
	ck_assert_uint_eq(images.count, 1);
	images_done(&images);
	json_object_put(json);
}
END_TEST

START_TEST(out__age__in_one_word)
{
	static const struct {
		uint64_t seconds;
		const char *want;
	} cases[] = { { 0, "0s" }, { 119, "119s" }, { 120, "2m" }, { 7199, "119m" }, { 7200, "2h" },
		{ 172799, "47h" }, { 172800, "2d" }, { 86400 * 400, "400d" } };

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		CLEANUP_FREE char *age = text_age(cases[i].seconds);

		ck_assert_str_eq(age, cases[i].want);
	}
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("client_image");

	UNIT_CASE(suite, image__words__paths_and_others);
	UNIT_CASE(suite, image__word_of_a_file_that_is_there__is_a_path);
	UNIT_CASE(suite, lock__keys__of_what_may_move);
	UNIT_CASE(suite, lock__what_the_vmfile_pins__has_no_key);
	UNIT_CASE(suite, lock__applied__pins_and_drops_todays_checksums);
	UNIT_CASE(suite, image__resolved__logins_leave_and_are_remembered);
	UNIT_CASE(suite, out__age__in_one_word);
	return unit_main(suite);
}
