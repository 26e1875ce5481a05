/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/image/reference.h"

#include <string.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "tests/unit/unit.h"

#define HEX64 "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void
refused(const char *text)
{
	enum image_ref_kind kind = IMAGE_REF_NAME;
	struct err err = ERR_INIT;

	ck_assert_msg(image_ref_kind(text, &kind, &err) == E_PARAMS, "%s was taken", text);
	ck_assert(err.code == E_PARAMS && err.msg[0] != '\0');
	ck_assert_msg(strstr(err.msg, "secret") == NULL && strstr(err.hint, "secret") == NULL,
	    "%s: %s", text, err.msg);
	for (const char *c = err.msg; *c != '\0'; c++)
		ck_assert_msg((unsigned char)*c >= ' ', "%s", err.msg);
}

START_TEST(reference__kinds__by_what_is_written)
{
	static const struct {
		const char *text;
		enum image_ref_kind kind;
	} rows[] = {
		{ "/srv/a b.qcow2", IMAGE_REF_PATH },
		{ "./debian", IMAGE_REF_PATH },
		{ "../x:y", IMAGE_REF_PATH },
		{ "~/x", IMAGE_REF_PATH },
		{ "images/debian:12", IMAGE_REF_PATH },
		{ "./a://b", IMAGE_REF_PATH },
		{ "https://h/x.qcow2", IMAGE_REF_HTTP },
		{ "http://127.0.0.1:8080/x?a=b#c", IMAGE_REF_HTTP },
		{ "https://user:pa@[::1]:8443/x", IMAGE_REF_HTTP },
		{ "oci://ghcr.io/a/b:1", IMAGE_REF_OCI },
		{ "sha256:01234567", IMAGE_REF_DIGEST },
		{ "sha256:" HEX64, IMAGE_REF_DIGEST },
		{ "debian:12", IMAGE_REF_NAME },
		{ "golden", IMAGE_REF_NAME },
		{ "debian-12.qcow2", IMAGE_REF_NAME },
		{ "Ab_c.1:r15.10-50", IMAGE_REF_NAME },
	};
	enum image_ref_kind kind;
	struct err err = ERR_INIT;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		ck_assert_msg(image_ref_kind(rows[i].text, &kind, &err) == 0, "%s: %s",
		    rows[i].text, err.msg);
		ck_assert_msg(kind == rows[i].kind, "%s", rows[i].text);
	}
}
END_TEST

START_TEST(reference__hostile__refused_with_a_reason)
{
	static const char *const rows[] = { "", "a\nb", "a\x1b[31m", "\x7f", "a\xff", "debian:12:3",
		":12", "debian:", "-x", "_x", "a b", "a;b", "a%2fb", "debian:-1", "debian:a b",
		"ftp://h/x", "file:///etc/passwd", "docker://a.b/c", "HTTP://h/x", "oci:/x:y\x01",
		"://x", "https://", "https:///x", "https://?x", "https://h:0/x",
		"https://h:65536/x", "https://h:/x", "https://h:08/x", "https://h:secret/x",
		"https://u:secret@/x", "https://u:secret@h:x/", "https://a..b/x", "https://-a/x",
		"https://a-/x", "https://.a/x", "https://[::1/x", "https://[::1]x/", "https://[]/x",
		"https://[zz::]/", "https://[::1]:/", "https://h/a b", "https://h\\@evil/x",
		"https://h/\xc3\xa4", "https://h/<x>", "https://u@a@/", "sha256:0123456",
		"sha256:0123456G", "sha256:ABCDEF01", "sha256:" HEX64 "0", "sha512:" HEX64,
		"sha256:../../etc", "oci://", "oci://x", "oci://debian", "oci://library/debian",
		"oci://u:secret@a.b/c", "oci://a.b", "oci://a.b/", "oci://a.b/C", "oci://a.b/../c",
		"oci://a.b/c/../d", "oci://a.b/./c", "oci://a.b/c//d", "oci://a.b/c/",
		"oci://a.b//c", "oci://a.b/c..d", "oci://a.b/c___d", "oci://a.b/c._d",
		"oci://a.b/-c", "oci://a.b/c-", "oci://a.b/c:", "oci://a.b/c:..", "oci://a.b/c:-x",
		"oci://a.b/c:a/b", "oci://a.b/c:a:b", "oci://a.b/c:a b", "oci://a.b/c@",
		"oci://a.b/c@sha256:12345678", "oci://a.b/c?x", "oci://a.b/c#x",
		"oci://a.b/c@sha512:" HEX64, "oci://a.b/c@sha256:" HEX64 "@x", "oci://a.b/%2e%2e",
		"oci://a.b/"
		"c@sha256:0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef",
		"oci://a.b:99999/c", "oci://[::1/c", "oci://a.b\\c/d" };
	CLEANUP_FREE char *huge = xmalloc(100001);

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		refused(rows[i]);
	memset(huge, 'a', 100000);
	huge[100000] = '\0';
	refused(huge);
	memcpy(huge, "https://h/", 10);
	refused(huge);
	memcpy(huge, "oci://h.a/", 10);
	refused(huge);
	huge[10 + 256] = '\0';
	refused(huge);
	huge[10 + 255] = '\0';
	ck_assert_int_eq(image_ref_kind(huge, &(enum image_ref_kind){ 0 }, NULL), 0);
	refused(huge + 10 + 100);
	refused("sha256:");
}
END_TEST

START_TEST(reference__names__are_never_paths)
{
	static const char *const bad[] = { "", "..", ".", "a/b", "/", "a\\b", "~", "a:b:c",
		"a:", "sha256:abcdef01", "sha512:00", "https://x", "a b", "a\n", "-" };

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		ck_assert_msg(image_name_check(bad[i], NULL) == E_PARAMS, "%s", bad[i]);
	ck_assert_int_eq(image_name_check("a", NULL), 0);
	ck_assert_int_eq(image_name_check("omnios:r151050", NULL), 0);
	ck_assert_int_eq(image_name_check("20240101", NULL), 0);
}
END_TEST

START_TEST(reference__oci__taken_apart_and_written_in_full)
{
	static const struct {
		const char *text, *registry, *repository, *tag, *digest, *full;
	} rows[] = {
		{ "oci://ghcr.io/a/b", "ghcr.io", "a/b", NULL, NULL, "oci://ghcr.io/a/b:latest" },
		{ "oci://localhost/x", "localhost", "x", NULL, NULL, "oci://localhost/x:latest" },
		{ "oci://localhost:5000/x:1", "localhost:5000", "x", "1", NULL,
		    "oci://localhost:5000/x:1" },
		{ "oci://[::1]:5000/x__y/z--w:V_1.2", "[::1]:5000", "x__y/z--w", "V_1.2", NULL,
		    "oci://[::1]:5000/x__y/z--w:V_1.2" },
		{ "oci://GHCR.io/a/b@sha256:" HEX64, "ghcr.io", "a/b", NULL, "sha256:" HEX64,
		    "oci://ghcr.io/a/b@sha256:" HEX64 },
		{ "oci://ghcr.io/a:t@sha256:" HEX64, "ghcr.io", "a", "t", "sha256:" HEX64,
		    "oci://ghcr.io/a:t@sha256:" HEX64 },
		{ "oci://docker.io/debian:12", "index.docker.io", "library/debian", "12", NULL,
		    "oci://index.docker.io/library/debian:12" },
		{ "oci://index.docker.io/debian", "index.docker.io", "library/debian", NULL, NULL,
		    "oci://index.docker.io/library/debian:latest" },
		{ "oci://docker.io/me/debian:12", "index.docker.io", "me/debian", "12", NULL,
		    "oci://index.docker.io/me/debian:12" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct oci_ref ref, again;
		struct err err = ERR_INIT;
		CLEANUP_FREE char *full = NULL, *twice = NULL;

		ck_assert_msg(
		    oci_ref_parse(rows[i].text, &ref, &err) == 0, "%s: %s", rows[i].text, err.msg);
		ck_assert_str_eq(ref.registry, rows[i].registry);
		ck_assert_str_eq(ref.repository, rows[i].repository);
		ck_assert_msg(str_eq(ref.tag, rows[i].tag), "%s", rows[i].text);
		ck_assert_msg(str_eq(ref.digest, rows[i].digest), "%s", rows[i].text);
		full = oci_ref_text(&ref);
		ck_assert_str_eq(full, rows[i].full);
		ck_assert_int_eq(oci_ref_parse(full, &again, NULL), 0);
		twice = oci_ref_text(&again);
		ck_assert_str_eq(twice, full);
		oci_ref_done(&ref);
		oci_ref_done(&again);
	}
}
END_TEST

START_TEST(reference__url__what_is_shown_holds_no_secret)
{
	static const struct {
		const char *url, *shown, *host, *name;
	} rows[] = {
		{ "https://h/a/b.qcow2", "https://h/a/b.qcow2", "h", "b.qcow2" },
		{ "https://u:p@H:8443/a/b.img.zst?sig=x#f", "https://H:8443/a/b.img.zst", "h:8443",
		    "b.img" },
		{ "https://u:p@ss@h/a/", "https://h/a/", "h", "a" },
		{ "http://[::1]:80/x.raw.xz", "http://[::1]:80/x.raw.xz", "[::1]:80", "x.raw" },
		{ "https://h", "https://h", "h", "image" },
		{ "https://h/", "https://h/", "h", "image" },
		{ "https://h?x=/y.qcow2", "https://h", "h", "image" },
		{ "https://h/x.GZ/?a", "https://h/x.GZ/", "h", "x" },
		{ "https://h/x.bz2.zstd", "https://h/x.bz2.zstd", "h", "x" },
		{ "https://h/.zst", "https://h/.zst", "h", "image" },
		{ "https://h/a/..", "https://h/a/..", "h", "image" },
		{ "https://h/..%2f..%2fx", "https://h/..%2f..%2fx", "h", "..%2f..%2fx" },
		{ "https://h/a\nb\033", "https://h/a\nb\\x1b", "h", "a_b_" },
		{ "oci://ghcr.io/a/deb:12", "oci://ghcr.io/a/deb:12", "ghcr.io", "deb" },
		{ "debian?x", "debian", NULL, "image" },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		CLEANUP_FREE char *shown = image_url_public(rows[i].url),
				  *host = image_url_host(rows[i].url),
				  *name = image_url_name(rows[i].url);

		ck_assert_str_eq(shown, rows[i].shown);
		ck_assert_msg(str_eq(host, rows[i].host), "%s: %s", rows[i].url, host);
		ck_assert_str_eq(name, rows[i].name);
	}
}
END_TEST

START_TEST(reference__digest__is_whole_and_small)
{
	ck_assert(image_digest_valid("sha256:" HEX64));
	ck_assert(!image_digest_valid(HEX64));
	ck_assert(!image_digest_valid("sha256:" HEX64 "0"));
	ck_assert(!image_digest_valid("sha256:abc"));
	ck_assert(!image_digest_valid(""));
	ck_assert(!image_digest_valid(
	    "sha256:"
	    "0123456789ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef"));
}
END_TEST

START_TEST(reference__file_names__by_their_end)
{
	ck_assert(image_is_file_name("debian-12.qcow2"));
	ck_assert(image_is_file_name("disk.raw.zst"));
	ck_assert(!image_is_file_name("debian"));
	ck_assert(!image_is_file_name("qcow2"));
	ck_assert(!image_is_file_name(""));
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("reference");

	UNIT_CASE(suite, reference__kinds__by_what_is_written);
	UNIT_CASE(suite, reference__hostile__refused_with_a_reason);
	UNIT_CASE(suite, reference__names__are_never_paths);
	UNIT_CASE(suite, reference__oci__taken_apart_and_written_in_full);
	UNIT_CASE(suite, reference__url__what_is_shown_holds_no_secret);
	UNIT_CASE(suite, reference__digest__is_whole_and_small);
	UNIT_CASE(suite, reference__file_names__by_their_end);
	return unit_main(suite);
}
