/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/image/catalogue.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/reference.h"
#include "tests/unit/unit.h"

#define HEX8 "0123abcd"
#define HEX64 HEX8 HEX8 HEX8 HEX8 HEX8 HEX8 HEX8 HEX8
#define HEAD "images:\n"
#define ENTRY(name, version, arch, rest)                                                           \
	"- {name: " name ", version: " version ", architecture: " arch ", url: 'https://h/" name   \
	"-" version "-" arch ".qcow2'" rest "}\n"
#define URL(text) HEAD "- {name: a, version: 1, architecture: amd64, url: '" text "'}\n"

static void
add(struct catalogue *catalogue, const char *text, const char *file)
{
	struct err err = ERR_INIT;

	ck_assert_msg(catalogue_add(catalogue, text, strlen(text), file, &err) == 0, "%s", err.msg);
}

static const char *
url_of(const struct catalogue *catalogue, const char *name, const char *architecture)
{
	struct err err = ERR_INIT;
	const struct catalogue_entry *entry = catalogue_find(catalogue, name, architecture, &err);

	ck_assert_msg(entry != NULL, "%s: %s", name, err.msg);
	return entry->url;
}

/* The names of the project's own promise, and that each entry is one a fetcher can use. */
START_TEST(catalogue__shipped_file__has_what_is_promised)
{
	static const char *const names[] = { "debian:12", "debian:13", "debian:bookworm", "debian",
		"ubuntu:22.04", "ubuntu:24.04", "ubuntu", "alpine:3.20", "alpine", "fedora",
		"rocky:9", "almalinux:9", "omnios:r151050", "omnios:latest" };
	const char *const path[] = { SHIPPED_CATALOGUE };
	struct catalogue catalogue = { 0 };
	struct err err = ERR_INIT;

	ck_assert_msg(catalogue_load(path, 1, &catalogue, &err) == 0, "%s", err.msg);
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		url_of(&catalogue, names[i], "amd64");
	ck_assert_str_eq(
	    url_of(&catalogue, "debian", "amd64"), "https://cloud.debian.org/images/cloud/trixie/"
						   "latest/debian-13-genericcloud-amd64.qcow2");
	ck_assert_str_eq(url_of(&catalogue, "debian:12", "arm64"),
	    "https://cloud.debian.org/images/cloud/bookworm/latest/"
	    "debian-12-genericcloud-arm64.qcow2");
	for (size_t i = 0; i < catalogue.count; i++) {
		const struct catalogue_entry *entry = &catalogue.items[i];
		CLEANUP_FREE char *host = image_url_host(entry->url);
		CLEANUP_FREE char *other = image_url_host(entry->checksums);

		ck_assert(str_starts(entry->url, "https://"));
		ck_assert_msg(strstr(entry->url, entry->version) != NULL ||
				  strstr(entry->url, entry->aliases.items[0]) != NULL,
		    "%s", entry->url);
		ck_assert_str_eq(host, other);
		ck_assert_ptr_nonnull(entry->user);
		ck_assert_str_eq(
		    entry->firmware, str_eq(entry->architecture, "arm64") ? "uefi" : "bios");
	}
	catalogue_done(&catalogue);
}
END_TEST

START_TEST(catalogue__later_files__go_before_earlier_ones)
{
	struct catalogue c = { 0 };
	static const char more[] = HEAD
	    "- {name: a, version: '1', architecture: amd64, url: 'https://mine/a.img', user: me,\n"
	    "   sha256: " HEX64 ", aliases: [latest, one], firmware: uefi, format: raw}\n";

	add(&c,
	    HEAD ENTRY("a", "1", "amd64", "") ENTRY("a", "1", "arm64", "")
		ENTRY("a", "2", "amd64", ", aliases: [latest, two]") ENTRY("b", "0640", "amd64", "")
		    ENTRY("b", "24.10", "amd64", ""),
	    "/x/one.yaml");
	ck_assert_uint_eq(c.count, 5);
	ck_assert_str_eq(url_of(&c, "a", "amd64"), "https://h/a-2-amd64.qcow2");
	ck_assert_str_eq(url_of(&c, "a:two", "amd64"), "https://h/a-2-amd64.qcow2");
	ck_assert_str_eq(url_of(&c, "a", "arm64"), "https://h/a-1-arm64.qcow2");
	ck_assert_str_eq(url_of(&c, "b", "amd64"), "https://h/b-24.10-amd64.qcow2");
	ck_assert_str_eq(url_of(&c, "b:latest", "amd64"), "https://h/b-24.10-amd64.qcow2");
	ck_assert_str_eq(url_of(&c, "b:0640", "amd64"), "https://h/b-0640-amd64.qcow2");
	add(&c, more, "/x/two.yaml");
	ck_assert_uint_eq(c.count, 5);
	ck_assert_str_eq(url_of(&c, "a", "amd64"), "https://mine/a.img");
	ck_assert_str_eq(url_of(&c, "a:1", "amd64"), "https://mine/a.img");
	ck_assert_str_eq(url_of(&c, "a:one", "amd64"), "https://mine/a.img");
	ck_assert_str_eq(url_of(&c, "a:2", "amd64"), "https://h/a-2-amd64.qcow2");
	ck_assert_str_eq(url_of(&c, "a:1", "arm64"), "https://h/a-1-arm64.qcow2");
	ck_assert_str_eq(c.items[4].file, "/x/two.yaml");
	ck_assert_uint_eq(c.items[4].line, 2);
	ck_assert_str_eq(c.items[4].user, "me");
	ck_assert_str_eq(c.items[4].firmware, "uefi");
	ck_assert_str_eq(c.items[4].format, "raw");
	ck_assert_str_eq(c.items[4].sha256, HEX64);
	ck_assert_str_eq(c.items[0].firmware, "uefi"); /* a:1 for arm64 */
	catalogue_done(&c);
}
END_TEST

START_TEST(catalogue__unknown_name__told_what_is_near)
{
	static const struct {
		const char *name, *architecture, *msg, *hint;
	} rows[] = {
		{ "debain:12", "amd64", "there is no 'debain:12' in the catalogue",
		    "did you mean 'debian'?" },
		{ "debian:11", "amd64", "there is no 'debian:11' in the catalogue",
		    "it has debian:12, debian:13" },
		{ "debian:13", "arm64", "the catalogue has 'debian:13' for amd64, not for arm64",
		    "" },
		{ "zzz", "amd64", "there is no 'zzz' in the catalogue", "vmctl image catalogue" },
		{ "z\x1b[1m", "amd64", "there is no 'z\\x1b[1m' in the catalogue", "" },
		{ "", "amd64", "there is no '' in the catalogue", "" },
	};
	struct catalogue c = { 0 };

	add(&c,
	    HEAD ENTRY("debian", "12", "amd64", "") ENTRY("debian", "12", "arm64", "")
		ENTRY("debian", "13", "amd64", ""),
	    "x");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct err err = ERR_INIT;

		ck_assert(catalogue_find(&c, rows[i].name, rows[i].architecture, &err) == NULL);
		ck_assert_int_eq(err.code, E_NOT_FOUND);
		ck_assert_str_eq(err.msg, rows[i].msg);
		ck_assert_msg(strstr(err.hint, rows[i].hint) != NULL, "%s", err.hint);
	}
	ck_assert(catalogue_find(&(struct catalogue){ 0 }, "debian", NULL, NULL) == NULL);
	catalogue_done(&c);
}
END_TEST

/* clang-format off */
static const struct {
	const char *text, *msg, *hint;
} wrong[] = {
	{ "[]", "x.yaml:1:1: the file must be a mapping with the key 'images'", "" },
	{ "image: []\n", "x.yaml:1:1: unknown key 'image'", "did you mean 'images'?" },
	{ "images: {}\n", "x.yaml:1:9: 'images' must be a list", "- name" },
	{ HEAD "- debian\n", "x.yaml:2:3: an image must be a mapping", "" },
	{ HEAD "- {}\n", "x.yaml:2:3: 'architecture' is missing (and 3 more)", "" },
	{ HEAD ENTRY("a", "1", "amd64", ", usr: me"), "x.yaml:2:80: unknown key 'usr'", "did you mean 'user'?" },
	{ HEAD ENTRY("a", "1", "amd64", ", name: b"), "x.yaml:2:80: 'name' is given twice", "" },
	{ HEAD ENTRY("a", "1", "x86_64", ""), "x.yaml:2:39: 'architecture' is not one that is known", "did you mean 'amd64'?" },
	{ HEAD ENTRY("a", "1", "aarch64", ""), "x.yaml:2:39: 'architecture' is not one", "did you mean 'arm64'?" },
	{ HEAD ENTRY("a", "1", "mips", ""), "x.yaml:2:39: 'architecture' is not one", "s390x" },
	{ HEAD ENTRY("a/b", "1", "amd64", ""), "x.yaml:2:10: 'name' can not be the name of an image", "" },
	{ HEAD ENTRY("..", "1", "amd64", ""), "x.yaml:2:10: 'name' can not be the name of an image", "" },
	{ HEAD ENTRY("'a:b'", "1", "amd64", ""), "x.yaml:2:", "" },
	{ HEAD ENTRY("a", "../1", "amd64", ""), "x.yaml:2:22: 'version' can not be that of an image", "" },
	{ HEAD ENTRY("a", "latest", "amd64", ""), "x.yaml:2:22: 'version' can not be latest", "aliases" },
	{ HEAD ENTRY("a", "on", "amd64", ""), "x.yaml:2:22: 'version' must be a text", "quotes" },
	{ HEAD ENTRY("a", "~", "amd64", ""), "x.yaml:2:22: 'version' must be a text", "quotes" },
	{ HEAD ENTRY("a", "[1]", "amd64", ""), "x.yaml:2:22: 'version' must be one line of text", "" },
	{ HEAD ENTRY("a", "\"1\\e[31m\"", "amd64", ""), "x.yaml:2:22: 'version' must be one line of text", "" },
	{ HEAD ENTRY("a", "\"1\\u009b31m\"", "amd64", ""), "x.yaml:2:22: 'version' must be one line of text", "" },
	{ HEAD ENTRY("a", "1", "amd64", ", aliases: b"), "x.yaml:2:89: 'aliases' must be a list", "[one" },
	{ HEAD ENTRY("a", "1", "amd64", ", aliases: [b/c]"), "x.yaml:2:89: 'aliases' has what can not be a version", "" },
	{ HEAD ENTRY("a", "1", "amd64", ", aliases: [[]]"), "x.yaml:2:90: 'aliases' must be one line of text", "" },
	{ HEAD ENTRY("a", "1", "amd64", ", firmware: efi"), "x.yaml:2:90: 'firmware' is neither bios nor uefi", "" },
	{ HEAD ENTRY("a", "1", "amd64", ", format: vmdk"), "x.yaml:2:88: 'format' is neither qcow2 nor raw", "" },
	{ HEAD ENTRY("a", "1", "amd64", ", sha256: abc"), "x.yaml:2:88: 'sha256' is not a digest", "" },
	{ HEAD ENTRY("a", "1", "amd64", ", user: 'a b'"), "x.yaml:2:86: 'user' is not the name of a user", "" },
	{ HEAD ENTRY("a", "1", "amd64", ", user: '-x'"), "x.yaml:2:86: 'user' is not the name of a user", "" },
	{ HEAD ENTRY("a", "1", "amd64", ", checksums: 'http://h/S'"), "x.yaml:2:91: 'checksums' must be a URL of https://", "" },
	{ HEAD ENTRY("a", "1", "amd64", ", checksums: 'https://u:p@h/S'"), "x.yaml:2:91: 'checksums' can not hold", "netrc" },
	{ URL("http://h/x"), "x.yaml:2:51: 'url' is http://", "sha256" },
	{ URL("ftp://h/x"), "x.yaml:2:51: 'url': ", "" },
	{ URL("file:///etc/passwd"), "x.yaml:2:51: 'url': ", "" },
	{ URL("/etc/passwd"), "x.yaml:2:51: 'url' is not one", "https://" },
	{ URL("debian:12"), "x.yaml:2:51: 'url' is not one", "https://" },
	{ URL("https://u:p@h/x"), "x.yaml:2:51: 'url' can not hold a user and a password", "netrc" },
	{ URL("oci://a"), "x.yaml:2:51: 'url': ", "" },
	{ HEAD ENTRY("a", "1", "amd64", "") ENTRY("a", "1", "amd64", ""), "x.yaml:3:3: 'a:1' for amd64 is given twice; the first is in line 2", "" },
	{ HEAD ENTRY("a", "1", "amd64", "") ENTRY("a", "2", "amd64", ", aliases: ['1']"), "x.yaml:3:3: 'a:1' for amd64 is given twice", "" },
	{ HEAD ENTRY("a", "1", "amd64", ", aliases: [two]") ENTRY("a", "two", "amd64", ""), "x.yaml:3:3: 'a:two' for amd64 is given twice", "" },
	{ HEAD ENTRY("a", "1", "amd64", ", aliases: [new]") ENTRY("a", "2", "amd64", ", aliases: [new]"), "x.yaml:3:3: 'a:new' for amd64 is given twice", "" },
	/* the same mistake at the same place, told once */
	{ HEAD "- {name: a, version: '1', architecture: amd64, url: &u \"h\\t\"}\n- {name: a, version: '2', architecture: amd64, url: *u}\n", "x.yaml:2:53: 'url' must be one line of text", "" },
	{ HEAD "- {name: a, \"b\\nc\": 1}\n", "x.yaml:2:13: unknown key 'b c'", "" },
	{ HEAD "- {\n", "x.yaml:3:1: not valid YAML", "" },
	{ HEAD "\xff\n", "x.yaml:2:1: is not valid UTF-8", "UTF-8" },
};
/* clang-format on */

START_TEST(catalogue__wrong_files__told_with_their_place_and_add_nothing)
{
	struct catalogue c = { 0 };

	add(&c, HEAD ENTRY("keep", "1", "amd64", ""), "first");
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		struct err err = ERR_INIT;

		ck_assert_msg(catalogue_add(&c, wrong[i].text, strlen(wrong[i].text), "x.yaml",
				  &err) == E_PARAMS,
		    "%s", wrong[i].text);
		ck_assert_msg(str_starts(err.msg, wrong[i].msg), "%s: %s", wrong[i].text, err.msg);
		ck_assert_msg(strstr(err.hint, wrong[i].hint) != NULL, "%s: %s", err.msg, err.hint);
		ck_assert_msg(strchr(err.msg, '\x1b') == NULL, "%s", err.msg);
		ck_assert_uint_eq(c.count, 1);
	}
	add(&c, "", "empty");
	add(&c, "images:\n", "empty");
	ck_assert_uint_eq(c.count, 1);
	catalogue_done(&c);
}
END_TEST

/* Shared lists of YAML: 4,096 images of 33 names would be little work to write. */
START_TEST(catalogue__too_much__refused)
{
	struct catalogue c = { 0 };
	struct sbuf text = { 0 };
	struct err err = ERR_INIT;

	sbuf_adds(&text, HEAD "- &x {}\n");
	for (int i = 0; i <= CATALOGUE_MAX_ENTRIES; i++)
		sbuf_adds(&text, "- *x\n");
	ck_assert_int_eq(catalogue_add(&c, text.data, text.len, "x", &err), E_PARAMS);
	ck_assert_str_eq(err.msg, "x:2:1: 'images' are too many");
	sbuf_reset(&text);
	sbuf_adds(&text, HEAD
	    "- {name: a, version: '1', architecture: amd64, url: 'https://h/x', aliases: [&a a");
	for (int i = 0; i < CATALOGUE_MAX_ALIASES; i++)
		sbuf_adds(&text, ", *a");
	sbuf_adds(&text, "]}\n");
	ck_assert_int_eq(catalogue_add(&c, text.data, text.len, "x", &err), E_PARAMS);
	ck_assert_msg(strstr(err.msg, "'aliases' are too many") != NULL, "%s", err.msg);
	sbuf_done(&text);
}
END_TEST

static void
put(const char *dir, const char *name, const char *text)
{
	CLEANUP_FREE char *path = fs_join(dir, name);

	ck_assert_int_eq(fs_write(path, text, strlen(text), 0644, NULL), 0);
}

START_TEST(catalogue__folders__read_by_name_after_the_files)
{
	char dir[] = "/tmp/test-catalogue-XXXXXX";
	CLEANUP_FREE char *more = NULL, *shipped = NULL;
	struct catalogue c = { 0 };
	struct err err = ERR_INIT;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	more = fs_join(dir, "catalogue.d");
	ck_assert_int_eq(mkdir(more, 0755), 0);
	put(dir, "shipped", HEAD ENTRY("a", "0", "amd64", ""));
	put(dir, "catalogue.yaml", HEAD ENTRY("a", "1", "amd64", ""));
	put(more, "20.yaml", HEAD ENTRY("a", "20", "amd64", ""));
	put(more, "10.yaml", HEAD ENTRY("a", "10", "amd64", ""));
	put(more, ".hidden.yaml", "not: a catalogue\n");
	put(more, "10.yaml~", "not: a catalogue\n");
	shipped = fs_join(dir, "shipped");
	ck_assert_int_eq(setenv("VMM_CATALOGUE", shipped, 1), 0);
	ck_assert_msg(catalogue_load_all(dir, &c, &err) == 0, "%s", err.msg);
	ck_assert_uint_eq(c.count, 4);
	for (size_t i = 0; i < 4; i++)
		ck_assert_str_eq(c.items[i].version, ((const char *[]){ "0", "1", "10", "20" })[i]);
	catalogue_done(&c);
	ck_assert_int_eq(catalogue_load_all(NULL, &c, NULL), 0);
	ck_assert_uint_eq(c.count, 1);
	catalogue_done(&c);
	put(more, "15.yaml", "images: 5\n");
	ck_assert_int_eq(catalogue_load_all(dir, &c, &err), E_PARAMS);
	ck_assert_msg(strstr(err.msg, "catalogue.d/15.yaml:1:9: ") != NULL, "%s", err.msg);
	ck_assert_uint_eq(c.count, 0);
	ck_assert_int_eq(unsetenv("VMM_CATALOGUE"), 0);
	ck_assert_int_eq(fs_remove_tree(dir, NULL), 0);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("catalogue");

	UNIT_CASE(suite, catalogue__shipped_file__has_what_is_promised);
	UNIT_CASE(suite, catalogue__later_files__go_before_earlier_ones);
	UNIT_CASE(suite, catalogue__unknown_name__told_what_is_near);
	UNIT_CASE(suite, catalogue__wrong_files__told_with_their_place_and_add_nothing);
	UNIT_CASE(suite, catalogue__too_much__refused);
	UNIT_CASE(suite, catalogue__folders__read_by_name_after_the_files);
	return unit_main(suite);
}
