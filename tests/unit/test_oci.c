/* SPDX-License-Identifier: MPL-2.0
 *
 * What registries send, taken apart: manifests and challenges. */
#include "lib/image/fetcher/oci.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "tests/unit/unit.h"

#define HEX "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define OTHER "1123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define CONFIG "\"config\":{\"mediaType\":\"application/vnd.oci.empty.v1+json\",\"digest\":\"sha256:" HEX "\",\"size\":2}"
#define LAYER(type, size) "{\"mediaType\":\"" type "\",\"digest\":\"sha256:" HEX "\",\"size\":" size "}"
#define QCOW2 "application/vnd.cloudnebula.qcow2.layer.v1"
#define MANIFEST(layers) "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\"," CONFIG ",\"layers\":[" layers "]}"
#define ENTRY(arch) "{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"digest\":\"sha256:" HEX "\",\"size\":9,\"platform\":{\"os\":\"linux\",\"architecture\":\"" arch "\"}}"
#define INDEX(entries) "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.index.v1+json\",\"manifests\":[" entries "]}"

START_TEST(oci__manifest__the_disk_is_found)
{
	static const char text[] = MANIFEST(LAYER(QCOW2, "77"));
	struct oci_manifest m = { 0 };
	struct err err = ERR_INIT;

	ck_assert_msg(oci_parse(text, strlen(text), "linux", "amd64", &m, &err) == 0, "%s", err.msg);
	ck_assert(!m.index);
	ck_assert_uint_eq(m.layer_count, 1);
	ck_assert_uint_eq(m.layers[0].bytes, 77);
	ck_assert(!m.layers[0].container);
	ck_assert_str_eq(m.layers[0].digest, "sha256:" HEX);
	oci_manifest_done(&m);
}
END_TEST

START_TEST(oci__index__the_platform_is_chosen_or_named)
{
	static const char text[] = INDEX(ENTRY("arm64") "," ENTRY("amd64"));
	struct oci_manifest m = { 0 };
	struct err err = ERR_INIT;

	ck_assert_msg(oci_parse(text, strlen(text), "linux", "amd64", &m, &err) == 0, "%s", err.msg);
	ck_assert(m.index);
	ck_assert_str_eq(m.digest, "sha256:" HEX);
	oci_manifest_done(&m);
	memset(&m, 0, sizeof(m));
	ck_assert_int_eq(oci_parse(text, strlen(text), "linux", "riscv64", &m, &err), E_IMAGE);
	ck_assert_ptr_nonnull(strstr(err.msg, "arm64"));
	oci_manifest_done(&m);
}
END_TEST

START_TEST(oci__hostile_manifests__refused)
{
	static const char *const cases[] = {
		"",
		"null",
		"[]",
		"{",
		MANIFEST(""),
		MANIFEST(LAYER(QCOW2, "0")),
		MANIFEST(LAYER(QCOW2, "-1")),
		MANIFEST(LAYER(QCOW2, "9223372036854775807")),
		MANIFEST(LAYER("text/html", "5")),
		MANIFEST(LAYER(QCOW2, "5") ",{\"mediaType\":\"" QCOW2 "\",\"digest\":\"sha256:" OTHER "\",\"size\":5}"),
		MANIFEST("{\"mediaType\":\"" QCOW2 "\",\"digest\":\"sha512:00\",\"size\":5}"),
		MANIFEST("{\"mediaType\":\"" QCOW2 "\",\"digest\":\"sha256:../../x\",\"size\":5}"),
		INDEX(""),
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct oci_manifest m = { 0 };
		struct err err = ERR_INIT;

		ck_assert_msg(oci_parse(cases[i], strlen(cases[i]), "linux", "amd64", &m, &err) ==
			E_IMAGE, "%s", cases[i]);
		oci_manifest_done(&m);
	}
}
END_TEST

START_TEST(oci__challenge__taken_apart)
{
	struct oci_challenge c = { 0 };

	ck_assert(oci_parse_challenge("Basic realm=\"x\", Bearer realm=\"https://a.example/token\","
				      "service=\"r\",scope=\"repository:a/b:pull\"", &c));
	ck_assert(!c.basic);
	ck_assert_str_eq(c.realm, "https://a.example/token");
	ck_assert_str_eq(c.service, "r");
	ck_assert_str_eq(c.scope, "repository:a/b:pull");
	oci_challenge_done(&c);
	memset(&c, 0, sizeof(c));
	ck_assert(oci_parse_challenge("Basic realm=\"x\"", &c));
	ck_assert(c.basic);
	oci_challenge_done(&c);
	memset(&c, 0, sizeof(c));
	ck_assert(!oci_parse_challenge("Negotiate", &c));
	oci_challenge_done(&c);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("oci");

	UNIT_CASE(s, oci__manifest__the_disk_is_found);
	UNIT_CASE(s, oci__index__the_platform_is_chosen_or_named);
	UNIT_CASE(s, oci__hostile_manifests__refused);
	UNIT_CASE(s, oci__challenge__taken_apart);
	return unit_main(s);
}
