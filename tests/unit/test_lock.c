/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/vmfile/lock.h"

#include <string.h>
#include <sys/stat.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "tests/unit/unit.h"

#define HEX_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define HEX_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define HEAD                                                                                       \
	"# Written by vmctl: what the VMFile's images were when they were fetched.\n"              \
	"# Keep it in version control; 'vmctl image update' moves it.\n"
#define V "version: 1\n"

START_TEST(lock__path__stands_beside_the_file)
{
	static const char *const rows[][2] = {
		{ "/p/VMFile.yaml", "/p/VMFile.lock" },
		{ "x.yml", "x.lock" },
		{ "/p/lab", "/p/lab.lock" },
		{ "/p/.yaml", "/p/.yaml.lock" },
		{ "/p.yaml/x", "/p.yaml/x.lock" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		CLEANUP_FREE char *path = vmlock_path(rows[i][0]);

		ck_assert_str_eq(path, rows[i][1]);
	}
}
END_TEST

START_TEST(lock__order_of_setting__same_bytes)
{
	struct vmlock one = { 0 }, two = { 0 };
	CLEANUP_FREE char *a = NULL, *b = NULL;

	ck_assert(vmlock_set(&one, "ubuntu:24.04", "sha256:" HEX_B, "https://h/u.img"));
	ck_assert(vmlock_set(&one, "debian:12", "sha256:" HEX_A, NULL));
	ck_assert(vmlock_set(&two, "debian:12", "sha256:" HEX_B, "x"));
	ck_assert(vmlock_set(&two, "ubuntu:24.04", "sha256:" HEX_B, "https://h/u.img"));
	ck_assert(vmlock_set(&two, "debian:12", "sha256:" HEX_A, NULL));
	ck_assert(!vmlock_set(&two, "debian:12", "sha256:" HEX_A, NULL));
	a = vmlock_text(&one);
	b = vmlock_text(&two);
	ck_assert_str_eq(a, b);
	ck_assert_str_eq(a,
	    HEAD "version: 1\nimages:\n"
		 "  debian:12:\n    digest: sha256:" HEX_A "\n"
		 "  ubuntu:24.04:\n    digest: sha256:" HEX_B "\n    source: https://h/u.img\n");
	vmlock_done(&one);
	vmlock_done(&two);
}
END_TEST

START_TEST(lock__odd_texts__come_back_as_they_were)
{
	static const char *const images[] = { "null", "12", "~", "yes", "a: b", "# x", "'", "\"",
		"- x", "{a}", "*a", "!t", "%x", "\xc3\xa4 b", " x ", "a:", "https://h/x?y=1&z#%41",
		"oci://ghcr.io/a/b:1", "<<", "=", "@", "\xf0\x9f\x90\xa7" };
	struct vmlock lock = { 0 }, again = { 0 };
	CLEANUP_FREE char *text = NULL, *same = NULL;
	struct err err = ERR_INIT;

	for (size_t i = 0; i < ARRAY_LEN(images); i++)
		vmlock_set(&lock, images[i], "sha256:" HEX_A, images[ARRAY_LEN(images) - 1 - i]);
	text = vmlock_text(&lock);
	ck_assert_msg(vmlock_parse(text, strlen(text), "x.lock", &again, &err) == 0, "%s", err.msg);
	same = vmlock_text(&again);
	ck_assert_str_eq(text, same);
	for (size_t i = 0; i < ARRAY_LEN(images); i++) {
		const struct vmlock_entry *entry = vmlock_find(&again, images[i]);

		ck_assert_msg(entry != NULL, "%s", images[i]);
		ck_assert_str_eq(entry->source, images[ARRAY_LEN(images) - 1 - i]);
	}
	ck_assert(vmlock_find(&again, "none") == NULL);
	ck_assert(vmlock_remove(&again, "null"));
	ck_assert(!vmlock_remove(&again, "null"));
	ck_assert_uint_eq(again.count, ARRAY_LEN(images) - 1);
	vmlock_done(&lock);
	vmlock_done(&again);
}
END_TEST

START_TEST(lock__wrong_files__told_with_their_place)
{
	static const char *const rows[][3] = {
		{ "", "x.lock: 'version' is missing: this is no lock file", "writes it anew" },
		{ "a", "x.lock: 'version' is missing: this is no lock file", "writes it anew" },
		{ "images: {}\n", "x.lock: 'version' is missing: this is no lock file", "anew" },
		{ "version: 2\nfoo: 1\n", "x.lock:1:10: version '2' of lock files is not known",
		    "newer vmctl" },
		{ "version: [1]\n", "x.lock:1:10: 'version' is missing: this is no lock file",
		    "anew" },
		{ V "image: {}\n", "x.lock:2:1: unknown key 'image'", "did you mean 'images'?" },
		{ V "images: []\n",
		    "x.lock:2:9: 'images' must be a mapping of images to what they are", "" },
		{ V "images:\n<<<<<<< HEAD\n", "x.lock:3:1: a merge left its marks here",
		    "one side" },
		{ V "images:\n  a: {}\n=======\n", "x.lock:4:1: a merge left its marks here",
		    "image update" },
		{ V "images:\n>>>>>>> b", "x.lock:3:1: a merge left its marks here", "" },
		{ V "images: {a: {}}\n", "x.lock:2:10: the entry has no digest",
		    "remove the entry" },
		{ V "images: {a: x}\n", "x.lock:2:10: the entry has no digest", "" },
		{ V "images: {'': {}}\n", "x.lock:2:10: this is no image", "" },
		{ V "images: {\"a\\nb\": {digest: 'sha256:" HEX_A "'}}\n",
		    "x.lock:2:10: this is no image", "" },
		{ V "images: {a: {digest: 12}}\n",
		    "x.lock:2:22: 'digest' must be sha256: and 64 small hexadecimal digits", "" },
		{ V "images: {a: {digest: 'sha256:" HEX_A "', sorce: x}}\n",
		    "x.lock:2:97: unknown key 'sorce'", "did you mean 'source'?" },
		{ V "images: {a: {source: [x]}}\n",
		    "x.lock:2:22: 'source' must be one line of text", "" },
		{ V "images: {a: {}, a: {}}\n",
		    "x.lock:2:17: 'a' is given twice; the first is in line 2", "" },
		{ V "images: {\n", "x.lock:3:1: not valid YAML", "" },
		{ V "\xff\n", "x.lock:2:1: is not valid UTF-8", "UTF-8" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct vmlock lock = { 0 };
		struct err err = ERR_INIT;

		ck_assert_msg(
		    vmlock_parse(rows[i][0], strlen(rows[i][0]), "x.lock", &lock, &err) == E_VMFILE,
		    "%s", rows[i][0]);
		ck_assert_msg(str_starts(err.msg, rows[i][1]), "%s", err.msg);
		ck_assert_msg(strstr(err.hint, rows[i][2]) != NULL, "%s: %s", err.msg, err.hint);
		ck_assert_uint_eq(lock.count, 0);
	}
}
END_TEST

START_TEST(lock__file__written_once_and_removed_when_empty)
{
	char dir[] = "/tmp/test-lock-XXXXXX";
	CLEANUP_FREE char *path = NULL;
	struct vmlock lock = { 0 }, again = { 0 };
	struct stat first, second;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	path = fs_join(dir, "VMFile.lock");
	ck_assert_int_eq(vmlock_load(path, &again, NULL), 0);
	ck_assert_uint_eq(again.count, 0);
	ck_assert_int_eq(vmlock_save(&lock, path, NULL), 0);
	vmlock_set(&lock, "debian:12", "sha256:" HEX_A, NULL);
	ck_assert_int_eq(vmlock_save(&lock, path, NULL), 0);
	ck_assert_int_eq(stat(path, &first), 0);
	ck_assert_uint_eq(first.st_mode & 07777, 0644);
	ck_assert_int_eq(vmlock_save(&lock, path, NULL), 0);
	ck_assert_int_eq(stat(path, &second), 0);
	ck_assert_uint_eq(first.st_ino, second.st_ino);
	ck_assert_int_eq(vmlock_load(path, &again, NULL), 0);
	ck_assert_str_eq(vmlock_find(&again, "debian:12")->digest, "sha256:" HEX_A);
	vmlock_done(&again);
	ck_assert(vmlock_remove(&lock, "debian:12"));
	ck_assert_int_eq(vmlock_save(&lock, path, NULL), 0);
	ck_assert(!fs_exists(path));
	vmlock_done(&lock);
	ck_assert_int_eq(fs_remove_tree(dir, NULL), 0);
}
END_TEST

START_TEST(lock__long_texts_and_no_texts__kept_or_refused)
{
	char dir[] = "/tmp/test-lock-XXXXXX", url[3000];
	CLEANUP_FREE char *path = NULL, *text = NULL;
	struct vmlock lock = { 0 }, again = { 0 };
	struct err err = ERR_INIT;
	static const char *const bad[] = { "", "a\nb", "\x1b[1m", "\xff", "\xc2\x9b" };

	ck_assert_ptr_nonnull(mkdtemp(dir));
	path = fs_join(dir, "VMFile.lock");
	memset(url, 'x', sizeof(url));
	memcpy(url, "https://h/", 10);
	url[sizeof(url) - 1] = '\0';
	vmlock_set(&lock, url, "sha256:" HEX_A, url);
	ck_assert_msg(vmlock_save(&lock, path, &err) == 0, "%s", err.msg);
	ck_assert_msg(vmlock_load(path, &again, &err) == 0, "%s", err.msg);
	ck_assert_str_eq(vmlock_find(&again, url)->source, url);
	vmlock_done(&again);
	/* One line, for those who compare versions. */
	for (size_t i = 20; i < sizeof(url) - 20; i += 10)
		url[i] = ' ';
	vmlock_set(&lock, "a", "sha256:" HEX_A, url);
	text = vmlock_text(&lock);
	ck_assert(strstr(text, url) != NULL);
	ck_assert(vmlock_remove(&lock, "a"));
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		vmlock_set(&lock, bad[i], "sha256:" HEX_A, NULL);
		ck_assert_int_eq(vmlock_save(&lock, path, &err), E_VMFILE);
		ck_assert(vmlock_remove(&lock, bad[i]));
		vmlock_set(&lock, "a", "sha256:" HEX_A, bad[i]);
		ck_assert_int_eq(vmlock_save(&lock, path, &err), E_VMFILE);
		vmlock_set(&lock, "a", "sha256:12", NULL);
		ck_assert_int_eq(vmlock_save(&lock, path, &err), E_VMFILE);
		vmlock_remove(&lock, "a");
	}
	ck_assert_int_eq(vmlock_load(path, &again, &err), 0);
	ck_assert_uint_eq(again.count, 1);
	vmlock_done(&again);
	vmlock_done(&lock);
	ck_assert_int_eq(fs_remove_tree(dir, NULL), 0);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("lock");

	UNIT_CASE(suite, lock__path__stands_beside_the_file);
	UNIT_CASE(suite, lock__order_of_setting__same_bytes);
	UNIT_CASE(suite, lock__odd_texts__come_back_as_they_were);
	UNIT_CASE(suite, lock__wrong_files__told_with_their_place);
	UNIT_CASE(suite, lock__long_texts_and_no_texts__kept_or_refused);
	UNIT_CASE(suite, lock__file__written_once_and_removed_when_empty);
	return unit_main(suite);
}
