/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/base/str.h"

#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "tests/unit/unit.h"

START_TEST(str__sizes__units_and_refusals)
{
	static const struct {
		const char *text;
		uint64_t unit, bytes;
	} good[] = {
		{ "512", 1 << 20, 512ULL << 20 },
		{ "1GiB", 1 << 20, 1ULL << 30 },
		{ "1.5GiB", 1, 3ULL << 29 },
		{ "10 GB", 1, 10000000000ULL },
		{ "2g", 1, 2ULL << 30 },
	};
	static const char *const bad[] = { "", "GiB", "-1", "1XiB", "1e3", "0x10", "1..5G", "9999999999TiB" };
	uint64_t bytes;

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		ck_assert_int_eq(str_to_size(good[i].text, good[i].unit, &bytes, NULL), 0);
		ck_assert_uint_eq(bytes, good[i].bytes);
	}
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		ck_assert_int_eq(str_to_size(bad[i], 1, &bytes, NULL), E_PARAMS);
}
END_TEST

START_TEST(mem__texts_of_all_lengths__printed_whole)
{
	for (int len = 0; len < 1000; len++) {
		CLEANUP_FREE char *s = xasprintf("%*s%d", len, "", 7);

		ck_assert_uint_eq(strlen(s), (size_t)len + 1);
		ck_assert_int_eq(s[len], '7');
	}
}
END_TEST

START_TEST(mem__part__found_where_it_stands)
{
	static const char data[] = "ab\0abc\0abd";
	const size_t len = sizeof(data) - 1;

	ck_assert_ptr_eq(mem_find(data, len, "abd", 3), data + 7);
	ck_assert_ptr_eq(mem_find(data, len, "b\0a", 3), data + 1);
	ck_assert_ptr_eq(mem_find(data, len, "", 0), data);
	ck_assert_ptr_eq(mem_find(data, len, data, len), data);
	ck_assert_ptr_null(mem_find(data, len, "abe", 3));
	ck_assert_ptr_null(mem_find(data, len - 1, "abd", 3));
	ck_assert_ptr_null(mem_find(data, 0, "a", 1));
}
END_TEST

START_TEST(clock__from_utc__as_the_library_has_it)
{
	/* From 1601 to about 2400, some days and an odd number of seconds apart. */
	for (int64_t t = -11644473600; t < 13569465600; t += 86400 * 11 + 4271) {
		time_t seconds = (time_t)t;
		struct tm tm;

		gmtime_r(&seconds, &tm);
		ck_assert_int_eq(clock_from_utc(&tm), t);
	}
}
END_TEST

START_TEST(str__durations__compound)
{
	uint64_t ms;

	ck_assert_int_eq(str_to_duration("1h30m", &ms, NULL), 0);
	ck_assert_uint_eq(ms, 5400000);
	ck_assert_int_eq(str_to_duration("90", &ms, NULL), 0);
	ck_assert_uint_eq(ms, 90000);
	ck_assert_int_eq(str_to_duration("250ms", &ms, NULL), 0);
	ck_assert_uint_eq(ms, 250);
	ck_assert_int_ne(str_to_duration("soon", &ms, NULL), 0);
	ck_assert_int_ne(str_to_duration("", &ms, NULL), 0);
}
END_TEST

START_TEST(str__names__only_host_labels)
{
	static const char *const bad[] = { "", "-a", "a-", "A", "a_b", "a.b", "../x", "/", "a,b", "a b",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" };

	ck_assert(str_name_valid("a"));
	ck_assert(str_name_valid("web-1"));
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		ck_assert_msg(!str_name_valid(bad[i]), "%s", bad[i]);
}
END_TEST

START_TEST(str__printable__no_escape_passes)
{
	CLEANUP_FREE char *s = str_printable("a\033[31m\xc2\x9b\xff\n\xc3\xa9", 12);

	ck_assert_str_eq(s, "a\\x1b[31m\\xc2\\x9b\\xff\n\xc3\xa9");
}
END_TEST

START_TEST(str__base64__round_trip_and_refusal)
{
	unsigned char data[256], *back;
	size_t len;

	for (int i = 0; i < 256; i++)
		data[i] = (unsigned char)i;
	for (size_t n = 0; n <= 256; n++) {
		CLEANUP_FREE char *text = str_base64(data, n);

		ck_assert_int_eq(str_unbase64(text, &back, &len), 0);
		ck_assert_uint_eq(len, n);
		ck_assert_int_eq(memcmp(back, data, n), 0);
		free(back);
	}
	ck_assert_int_ne(str_unbase64("abc", &back, &len), 0);
	ck_assert_int_ne(str_unbase64("ab=c", &back, &len), 0);
	ck_assert_int_ne(str_unbase64("a\nbc", &back, &len), 0);
}
END_TEST

START_TEST(str__nearest__typos_but_not_strangers)
{
	static const char *const words[] = { "start", "status", "stop", "destroy" };

	ck_assert_str_eq(str_nearest("strat", words, 4), "start");
	ck_assert_str_eq(str_nearest("destory", words, 4), "destroy");
	ck_assert_ptr_null(str_nearest("provision", words, 4));
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("str");

	UNIT_CASE(s, mem__texts_of_all_lengths__printed_whole);
	UNIT_CASE(s, mem__part__found_where_it_stands);
	UNIT_CASE(s, clock__from_utc__as_the_library_has_it);
	UNIT_CASE(s, str__sizes__units_and_refusals);
	UNIT_CASE(s, str__durations__compound);
	UNIT_CASE(s, str__names__only_host_labels);
	UNIT_CASE(s, str__printable__no_escape_passes);
	UNIT_CASE(s, str__base64__round_trip_and_refusal);
	UNIT_CASE(s, str__nearest__typos_but_not_strangers);
	return unit_main(s);
}
