/* SPDX-License-Identifier: MPL-2.0
 *
 * Transfers over connections that break, to and from servers that are wrong. */
#include "tests/unit/fetch.h"

enum { BIG = 3 << 20 };

#define ETAG_ONE "\\u0022one\\u0022"

START_TEST(fetch__plain_image__whole_sparse_and_told)
{
	struct fix f;
	struct fetched got;

	fix_init(&f);
	CLEANUP_FREE char *file = serve_bytes(&f, "/disk.img", BIG + 1234, 1);
	CLEANUP_FREE char *hash = file_hash(file, "sha256");
	struct stat st;

	got = fetch(&f, "/disk.img", "");
	ASSERT_GETS(&f, &got, file);
	ck_assert_str_eq(json_string(got.last, "sha256"), hash);
	ck_assert_str_eq(json_string(got.last, "body_sha256"), hash);
	ck_assert_str_eq(json_string(got.last, "compression"), "none");
	ck_assert_str_eq(json_string(got.last, "etag"), "\"one\"");
	ck_assert_int_eq(json_int(got.last, "body_bytes"), BIG + 1234);
	ck_assert_int_eq(json_int(got.last, "image_bytes"), BIG + 1234);
	ck_assert_int_eq(json_int(event_of(&got, "response", 0), "length"), BIG + 1234);
	ck_assert_uint_gt(event_count(&got, "progress"), 0);
	ck_assert_int_eq(stat(f.image, &st), 0);
	ck_assert_int_lt((int64_t)st.st_blocks * 512, BIG);
	ck_assert_uint_eq(file_bytes(f.spool), 0);
	fetched_done(&got);
	fix_done(&f);
}
END_TEST

START_TEST(fetch__connection_cut__goes_on_where_it_was)
{
	static const size_t cuts[] = { BIG / 100, BIG / 2, BIG / 100 * 99, BIG - 1, 1 };

	for (size_t i = 0; i < 2 * ARRAY_LEN(cuts); i++) {
		size_t cut = cuts[i / 2];
		CLEANUP_FREE char *range = xasprintf("bytes=%zu-", cut - 1);
		struct fix f;
		struct fetched got;

		fix_init(&f);
		CLEANUP_FREE char *file = serve_bytes(&f, "/a", BIG, 2);

		web_do(&f.web, "{'do':'then','path':'/a','cut':%zu,'reset':%s}", cut,
		    i % 2 == 0 ? "false" : "true");
		got = fetch(&f, "/a", ",'attempts':3");
		ASSERT_GETS(&f, &got, file);
		ck_assert_uint_eq(event_count(&got, "retry"), 1);
		/* A reset may lose what was on its way. */
		if (i % 2 == 0) {
			CLEANUP_FREE char *sent = hit_header(&f.web, "/a", 1, "range");
			CLEANUP_FREE char *only = hit_header(&f.web, "/a", 1, "if-range");

			ck_assert_str_eq(sent, range);
			ck_assert_str_eq(only, "\"one\"");
			ck_assert_int_eq(hit_sent(&f.web, "/a", 1), (int64_t)(BIG - cut + 1));
		}
		ck_assert_uint_eq(hit_count(&f.web, "/a"), 2);
		fetched_done(&got);
		fix_done(&f);
	}
}
END_TEST

START_TEST(fetch__many_cuts_with_progress__attempts_start_anew)
{
	struct fix f;
	struct fetched got;

	fix_init(&f);
	CLEANUP_FREE char *file = serve_bytes(&f, "/a", 1000, 3);

	web_do(&f.web, "{'do':'then','path':'/a','times':4,'cut':100}");
	got = fetch(&f, "/a", ",'attempts':2");
	ASSERT_GETS(&f, &got, file);
	ck_assert_uint_eq(event_count(&got, "retry"), 4);
	fetched_done(&got);
	fix_done(&f);
}
END_TEST

START_TEST(fetch__file_changed_between__starts_anew)
{
	struct fix f;
	struct fetched got;

	fix_init(&f);
	CLEANUP_FREE char *old = serve_bytes(&f, "/a", BIG, 4), *new = fs_join(f.dir, "new");
	struct run run = { .keep = true };

	make_bytes(new, BIG - 5000, 5);
	web_do(&f.web, "{'do':'then','path':'/a','cut':%d}", BIG / 2);
	got = fetch(&f, "/a", "");
	ASSERT_FAILED(&got, E_NETWORK, "");
	ck_assert(json_flag(got.last, "temporary"));
	fetched_done(&got);
	/* The server says 200 because of If-Range. */
	web_do(&f.web, "{'do':'replace','path':'/a','file':'%s'}", new);
	CLEANUP_FREE char *extra = xasprintf(",'part_bytes':%d,'part_validator':'" ETAG_ONE "'",
	    BIG / 2);

	got = fetch_with(&f, "/a", extra, &run);
	ASSERT_GETS(&f, &got, new);
	ck_assert(!json_flag(event_of(&got, "response", 0), "resumed"));
	ck_assert_str_eq(json_string(got.last, "etag"), "\"two\"");
	fetched_done(&got);
	fix_done(&f);
}
END_TEST

START_TEST(fetch__other_piece_than_asked__starts_anew)
{
	static const char *const wrong[] = {
		"'content_range':'bytes 0-9/99'",	/* of another place */
		"'content_range':'bytes 99-999/1000'",	/* of a file of another size */
		"'content_range':'nonsense'",
		"'etag':'\\u0022other\\u0022'",		/* of another file */
		"'whole':true",
		"'status':206,'content_range':''",
	};

	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		struct fix f;
		struct fetched got;

		fix_init(&f);
		CLEANUP_FREE char *file = serve_bytes(&f, "/a", 300000, 6);

		web_do(&f.web, "{'do':'then','path':'/a','cut':100}");
		web_do(&f.web, "{'do':'then','path':'/a',%s}", wrong[i]);
		got = fetch(&f, "/a", ",'attempts':4");
		ASSERT_GETS(&f, &got, file);
		fetched_done(&got);
		fix_done(&f);
	}
}
END_TEST

START_TEST(fetch__server_without_ranges_or_validator__whole_again)
{
	static const char *const kinds[] = { "'ranges':false", "'etag':null",
		"'etag':'W/\\u0022weak\\u0022'" };

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		struct fix f;
		struct fetched got;

		fix_init(&f);
		CLEANUP_FREE char *file = fs_join(f.dir, "a");

		make_bytes(file, 300000, 7);
		web_do(&f.web, "{'do':'put','path':'/a','file':'%s',%s}", file, kinds[i]);
		web_do(&f.web, "{'do':'then','path':'/a','cut':70000}");
		got = fetch(&f, "/a", ",'attempts':2");
		ASSERT_GETS(&f, &got, file);
		ck_assert_int_eq(hit_sent(&f.web, "/a", 1), 300000);
		fetched_done(&got);
		fix_done(&f);
	}
}
END_TEST

/* A date tells one second from the next, not what happened within one. */
START_TEST(fetch__last_modified__resumes_only_when_old_enough)
{
	static const struct {
		const char *date;
		bool resumes;
	} cases[] = {
		{ "Tue, 01 Oct 2024 10:00:00 GMT", true },
		{ "Tue, 01 Oct 2024 09:59:01 GMT", true },
		{ "Tue, 01 Oct 2024 09:59:00 GMT", false },
		{ "", false },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct fix f;
		struct fetched got;

		fix_init(&f);
		CLEANUP_FREE char *file = fs_join(f.dir, "a"), *range = NULL;

		make_bytes(file, 300000, 8);
		web_do(&f.web, "{'do':'put','path':'/a','file':'%s','etag':null,"
			       "'last_modified':'Tue, 01 Oct 2024 09:59:00 GMT'}", file);
		web_do(&f.web, "{'do':'then','path':'/a','cut':70000,'headers':[['%s','%s']]}",
		    cases[i].date[0] != '\0' ? "Date" : "X-Date", cases[i].date);
		got = fetch(&f, "/a", ",'attempts':2");
		ASSERT_GETS(&f, &got, file);
		range = hit_header(&f.web, "/a", 1, "range");
		ck_assert_msg((range != NULL) == cases[i].resumes, "%s", cases[i].date);
		fetched_done(&got);
		fix_done(&f);
	}
}
END_TEST

START_TEST(fetch__part_of_an_earlier_process__resumed)
{
	struct fix f;
	struct fetched got;
	struct run run = { .keep = true };

	fix_init(&f);
	CLEANUP_FREE char *file = serve_bytes(&f, "/a", BIG + 77, 9);

	web_do(&f.web, "{'do':'then','path':'/a','cut':2000000}");
	got = fetch(&f, "/a", "");
	ASSERT_FAILED(&got, E_NETWORK, "");
	/* What came before it was given up is there and told. */
	ck_assert_int_eq(json_int(event_of(&got, "saved", event_count(&got, "saved") - 1), "bytes"),
	    2000000);
	ck_assert_uint_eq(file_bytes(f.image), 2000000);
	fetched_done(&got);
	got = fetch_with(&f, "/a", ",'part_bytes':2000000,'part_validator':'" ETAG_ONE "'", &run);
	ASSERT_GETS(&f, &got, file);
	ck_assert(json_flag(event_of(&got, "response", 0), "resumed"));
	ck_assert_int_eq(hit_sent(&f.web, "/a", 1), BIG + 77 - 2000000 + 1);
	fetched_done(&got);
	/* All of it is there: one byte is asked for, and what was is hashed again. */
	CLEANUP_FREE char *all = xasprintf(",'part_bytes':%d,'part_validator':'" ETAG_ONE "'",
	    BIG + 77);

	got = fetch_with(&f, "/a", all, &run);
	ASSERT_GETS(&f, &got, file);
	ck_assert_int_eq(hit_sent(&f.web, "/a", 2), 1);
	fetched_done(&got);
	/* More than the server has by now. */
	web_do(&f.web, "{'do':'replace','path':'/a','file':'%s','etag':'" ETAG_ONE "'}", file);
	ck_assert_int_eq(truncate(file, 1000), 0);
	serve_file(&f, "/a", file);
	got = fetch_with(&f, "/a", all, &run);
	ASSERT_GETS(&f, &got, file);
	fetched_done(&got);
	/* A file that has less than it should: nothing can be said of it. */
	ck_assert_int_eq(truncate(f.image, 10), 0);
	got = fetch_with(&f, "/a", ",'part_bytes':500,'part_validator':'" ETAG_ONE "'", &run);
	ASSERT_GETS(&f, &got, file);
	fetched_done(&got);
	fix_done(&f);
}
END_TEST

START_TEST(fetch__wrong_length__told)
{
	struct fix f;
	struct fetched got;

	fix_init(&f);
	CLEANUP_FREE char *file = serve_bytes(&f, "/a", 100000, 10);
	CLEANUP_FREE char *hash = file_hash(file, "sha256");
	CLEANUP_FREE char *extra = xasprintf(",'sha256':'%s'", hash);

	/* More than it sends. */
	web_do(&f.web, "{'do':'then','path':'/a','length':200000}");
	got = fetch(&f, "/a", "");
	ASSERT_FAILED(&got, E_NETWORK, "");
	fetched_done(&got);
	/* Less than there is: only a digest can tell. */
	web_do(&f.web, "{'do':'then','path':'/a','length':50000}");
	got = fetch(&f, "/a", extra);
	ASSERT_FAILED(&got, E_IMAGE, "not the one that was meant");
	ck_assert(!json_flag(got.last, "temporary"));
	fetched_done(&got);
	/* None, until the connection ends; and in chunks. */
	web_do(&f.web, "{'do':'then','path':'/a','length':''}");
	got = fetch(&f, "/a", extra);
	ASSERT_GETS(&f, &got, file);
	ck_assert_ptr_null(json_object_object_get(event_of(&got, "response", 0), "length"));
	fetched_done(&got);
	web_do(&f.web, "{'do':'then','path':'/a','chunked':true}");
	got = fetch(&f, "/a", extra);
	ASSERT_GETS(&f, &got, file);
	fetched_done(&got);
	web_do(&f.web, "{'do':'then','path':'/a','chunked':true,'cut':50000}");
	got = fetch(&f, "/a", extra);
	ASSERT_FAILED(&got, E_NETWORK, "");
	fetched_done(&got);
	fix_done(&f);
}
END_TEST

START_TEST(fetch__answers_that_are_no_image__told_by_their_status)
{
	static const struct {
		int status;
		enum err_code error;
		const char *text;
		bool temporary;
	} cases[] = {
		{ 404, E_NOT_FOUND, "no such file", false },
		{ 410, E_NOT_FOUND, "gone", false },
		{ 401, E_PERMISSION, "who you are", false },
		{ 403, E_PERMISSION, "refuses", false },
		{ 418, E_FAILED, "418", false },
		{ 302, E_FAILED, "302", false },
		{ 204, E_FAILED, "204", false },
		{ 429, E_NETWORK, "too often", true },
		{ 500, E_NETWORK, "failed", true },
		{ 503, E_NETWORK, "failed", true },
	};
	struct fix f;
	struct fetched got;

	fix_init(&f);
	free(serve_bytes(&f, "/a", 1000, 11));
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		web_do(&f.web, "{'do':'then','path':'/a','status':%d}", cases[i].status);
		got = fetch(&f, "/a", "");
		ASSERT_FAILED(&got, cases[i].error, cases[i].text);
		ck_assert_int_eq(json_flag(got.last, "temporary"), cases[i].temporary);
		if (cases[i].status >= 400)
			ck_assert_int_eq(json_int(got.last, "status"), cases[i].status);
		fetched_done(&got);
		ck_assert_uint_eq(hit_count(&f.web, "/a"), i + 1);
	}
	ck_assert_uint_eq(file_bytes(f.image), 0);
	fix_done(&f);
}
END_TEST

START_TEST(fetch__server_in_trouble__tried_again_with_back_off)
{
	struct fix f;
	struct fetched got;
	int64_t first, second;

	fix_init(&f);
	CLEANUP_FREE char *file = serve_bytes(&f, "/a", 1000, 12);

	web_do(&f.web, "{'do':'then','path':'/a','times':2,'status':500}");
	web_do(&f.web, "{'do':'then','path':'/a','status':503,'headers':[['Retry-After','3']]}");
	got = fetch(&f, "/a", ",'attempts':4");
	ASSERT_GETS(&f, &got, file);
	ck_assert_uint_eq(event_count(&got, "retry"), 3);
	first = json_int(event_of(&got, "retry", 0), "wait_ms");
	second = json_int(event_of(&got, "retry", 1), "wait_ms");
	ck_assert(first >= 375 && first <= 500 && second >= 750 && second <= 1000);
	ck_assert_int_eq(json_int(event_of(&got, "retry", 2), "wait_ms"), 3000);
	ck_assert_ptr_nonnull(
	    strstr(json_string(event_of(&got, "retry", 0), "message"), "status 500"));
	fetched_done(&got);
	web_do(&f.web, "{'do':'always','path':'/a','status':502}");
	got = fetch(&f, "/a", ",'attempts':2");
	ASSERT_FAILED(&got, E_NETWORK, "status 502");
	ck_assert_uint_eq(event_count(&got, "retry"), 1);
	fetched_done(&got);
	fix_done(&f);
}
END_TEST

START_TEST(fetch__nobody_there__told)
{
	struct fix f;
	struct fetched got;

	fix_init(&f);
	got = fetch_order(&f, make_order(&f, "http://127.0.0.1:1/x", ""), NULL);
	ASSERT_FAILED(&got, E_NETWORK, "127.0.0.1");
	ck_assert(json_flag(got.last, "temporary"));
	fetched_done(&got);
	got = fetch_order(&f, make_order(&f, "https://no-such-host.invalid/x", ""), NULL);
	ASSERT_FAILED(&got, E_NETWORK, "no-such-host.invalid");
	fetched_done(&got);
	fix_done(&f);
}
END_TEST

START_TEST(fetch__stall__noticed_and_tried_again)
{
	struct fix f;
	struct fetched got;

	fix_init(&f);
	CLEANUP_FREE char *file = serve_bytes(&f, "/a", 100000, 13);

	web_do(&f.web, "{'do':'then','path':'/a','times':2,'hold':40000}");
	got = fetch(&f, "/a", ",'stall_ms':300");
	ASSERT_FAILED(&got, E_TIMEOUT, "nothing came for 0.3 s");
	ck_assert(json_flag(got.last, "temporary"));
	ck_assert_uint_eq(file_bytes(f.image), 40000);
	fetched_done(&got);
	got = fetch(&f, "/a", ",'stall_ms':300,'attempts':2");
	ASSERT_GETS(&f, &got, file);
	ck_assert_uint_eq(event_count(&got, "retry"), 1);
	fetched_done(&got);
	fix_done(&f);
}
END_TEST

START_TEST(fetch__slow_but_alive__waited_for)
{
	struct fix f;
	struct fetched got;

	fix_init(&f);
	CLEANUP_FREE char *file = serve_bytes(&f, "/a", 3000, 14);

	/* Three times the deadline for no progress, all in all. */
	web_do(&f.web, "{'do':'then','path':'/a','drip':[100,0.05]}");
	got = fetch(&f, "/a", ",'stall_ms':500");
	ASSERT_GETS(&f, &got, file);
	ck_assert_uint_eq(event_count(&got, "retry"), 0);
	ck_assert_uint_gt(event_count(&got, "progress"), 3);
	fetched_done(&got);
	fix_done(&f);
}
END_TEST

START_TEST(fetch__known_validator__not_a_byte)
{
	struct fix f;
	struct fetched got;

	fix_init(&f);
	CLEANUP_FREE char *file = serve_bytes(&f, "/a", 1000, 15);

	got = fetch(&f, "/a", ",'etag':'" ETAG_ONE "'");
	ASSERT_DONE(&got);
	ck_assert(json_flag(got.last, "unchanged"));
	ck_assert_int_eq(hit_sent(&f.web, "/a", 0), 0);
	fetched_done(&got);
	web_do(&f.web, "{'do':'replace','path':'/a','file':'%s','etag':null,"
		       "'last_modified':'Tue, 01 Oct 2024 09:59:00 GMT'}", file);
	got = fetch(&f, "/a", ",'last_modified':'Tue, 01 Oct 2024 09:59:00 GMT'");
	ASSERT_DONE(&got);
	ck_assert(json_flag(got.last, "unchanged"));
	fetched_done(&got);
	/* It moved. */
	got = fetch(&f, "/a", ",'etag':'" ETAG_ONE "'");
	ASSERT_GETS(&f, &got, file);
	ck_assert(!json_flag(got.last, "unchanged"));
	fetched_done(&got);
	fix_done(&f);
}
END_TEST

START_TEST(fetch__digest_of_what_is_served__must_be_the_one_given)
{
	struct fix f;
	struct fetched got;

	fix_init(&f);
	CLEANUP_FREE char *file = serve_bytes(&f, "/a", 100000, 16), *other = fs_join(f.dir, "b");

	make_bytes(other, 10, 17);
	CLEANUP_FREE char *good = file_hash(file, "sha256"), *bad = file_hash(other, "sha256");
	CLEANUP_FREE char *good512 = file_hash(file, "sha512"), *bad512 = file_hash(other, "sha512");
	const struct {
		const char *name, *hex;
		bool right;
	} cases[] = { { "sha256", good, true }, { "sha256", bad, false },
		{ "sha512", good512, true }, { "sha512", bad512, false } };

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		CLEANUP_FREE char *extra = xasprintf(",'%s':'%s','attempts':3", cases[i].name,
		    cases[i].hex);

		got = fetch(&f, "/a", extra);
		if (cases[i].right)
			ASSERT_GETS(&f, &got, file);
		else
			ASSERT_FAILED(&got, E_IMAGE, "not the one that was meant");
		fetched_done(&got);
		ck_assert_uint_eq(hit_count(&f.web, "/a"), i + 1);
	}
	fix_done(&f);
}
END_TEST

START_TEST(fetch__list_of_checksums__decides)
{
	struct fix f;
	struct fetched got;

	fix_init(&f);
	CLEANUP_FREE char *file = serve_bytes(&f, "/disk.img", 100000, 18);
	CLEANUP_FREE char *other = fs_join(f.dir, "other.img"), *list = fs_join(f.dir, "SUMS");
	CLEANUP_FREE char *extra = xasprintf(",'checksums':'%s/SUMS'", f.web.url);
	const struct {
		const char *make;
		enum err_code error;
		const char *text;
	} cases[] = {
		{ "sha256sum disk.img other.img", 0, NULL },
		{ "sha256sum -b ./other.img ./disk.img", 0, NULL },
		{ "sha512sum --tag other.img disk.img", 0, NULL },
		{ "sha512sum disk.img | cut -c 1-128", 0, NULL },
		{ "sha256sum disk.img | sed s,^....,0000,", E_IMAGE, "not the one that was meant" },
		{ "sha256sum other.img", E_IMAGE, "does not name 'disk.img'" },
		{ "echo '<html>'", E_IMAGE, "does not name 'disk.img'" },
		{ "head -c 5000000 /dev/zero", E_LIMIT, "too long" },
	};

	make_bytes(other, 10, 19);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		shell("cd %s; %s >SUMS", f.dir, cases[i].make);
		serve_file(&f, "/SUMS", list);
		got = fetch(&f, "/disk.img", extra);
		if (cases[i].text == NULL)
			ASSERT_GETS(&f, &got, file);
		else
			ASSERT_FAILED(&got, cases[i].error, cases[i].text);
		fetched_done(&got);
	}
	web_do(&f.web, "{'do':'always','path':'/SUMS','status':404}");
	got = fetch(&f, "/disk.img", extra);
	ASSERT_FAILED(&got, E_NOT_FOUND, "the list of checksums");
	fetched_done(&got);
	fix_done(&f);
}
END_TEST

START_TEST(fetch__no_space__before_a_byte_and_on_the_way)
{
	struct fix f;
	struct fetched got;

	fix_init(&f);
	free(serve_bytes(&f, "/a", BIG, 20));
	got = fetch(&f, "/a", ",'keep_free_bytes':1152921504606846976");
	ASSERT_FAILED(&got, E_NO_SPACE, "are to stay free");
	ck_assert(!json_flag(got.last, "temporary"));
	ck_assert_uint_eq(file_bytes(f.image), 0);
	fetched_done(&got);
	fix_done(&f);
}
END_TEST

START_TEST(fetch__too_large__refused_by_what_the_server_says_and_by_what_comes)
{
	struct fix f;
	struct fetched got;

	fix_init(&f);
	free(serve_bytes(&f, "/a", BIG, 21));
	got = fetch(&f, "/a", ",'max_bytes':1000000");
	ASSERT_FAILED(&got, E_LIMIT, "too large");
	fetched_done(&got);
	web_do(&f.web, "{'do':'then','path':'/a','endless':true}");
	got = fetch(&f, "/a", ",'max_bytes':10000000,'attempts':3");
	ASSERT_FAILED(&got, E_LIMIT, "too large");
	/* Checked and written side by side: a chunk may be over it, and is gone with the file. */
	ck_assert_uint_le(file_bytes(f.image), 10000000 + (1 << 20));
	fetched_done(&got);
	ck_assert_uint_eq(hit_count(&f.web, "/a"), 2);
	fix_done(&f);
}
END_TEST

START_TEST(fetch__empty_or_a_web_page__no_image)
{
	struct fix f;
	struct fetched got;

	fix_init(&f);
	CLEANUP_FREE char *file = serve_bytes(&f, "/a", 0, 22);

	got = fetch(&f, "/a", "");
	ASSERT_FAILED(&got, E_IMAGE, "empty");
	fetched_done(&got);
	shell("echo '<html>sign in first</html>' >%s", file);
	web_do(&f.web, "{'do':'put','path':'/a','file':'%s','content_type':'text/html; charset=utf-8'}",
	    file);
	got = fetch(&f, "/a", "");
	ASSERT_FAILED(&got, E_IMAGE, "web page");
	fetched_done(&got);
	fix_done(&f);
}
END_TEST

START_TEST(fetch__text_of_a_server__never_with_control_characters)
{
	struct fix f;
	struct fetched got;

	fix_init(&f);
	CLEANUP_FREE char *file = serve_bytes(&f, "/a", 1000, 23);

	web_do(&f.web, "{'do':'then','path':'/a','etag':'\\u0022\\u001b[2J\\u0022',"
		       "'last_modified':'\\u009b31m'}");
	got = fetch(&f, "/a", "");
	ASSERT_GETS(&f, &got, file);
	ck_assert_ptr_null(json_string(got.last, "etag"));
	fetched_done(&got);
	web_do(&f.web, "{'do':'redirect','path':'/r','to':'http://127.0.0.1:1/\\u001b[2J%%1b'}");
	got = fetch(&f, "/r", "");
	ck_assert_int_eq(got.status, 1);
	for (const char *p = json_string(got.last, "message"); *p != '\0'; p++)
		ck_assert((unsigned char)*p >= ' ');
	fetched_done(&got);
	fix_done(&f);
}
END_TEST

START_TEST(fetch__orders_that_make_no_sense__refused)
{
	static const struct {
		const char *text;
		enum err_code error;
	} cases[] = {
		{ "", E_PARAMS },
		{ "{", E_PARAMS },
		{ "[]", E_PARAMS },
		{ "{\"work\":\"dance\",\"parent\":1,\"max_bytes\":1}", E_PARAMS },
		{ "{\"work\":\"http\",\"parent\":1,\"max_bytes\":1,\"url\":\"http://127.0.0.1/\"}", E_CANCELLED },
	};
	struct fix f;
	struct fetched got;

	fix_init(&f);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		got = fetch_text(&f, cases[i].text, strlen(cases[i].text), NULL);
		ASSERT_FAILED(&got, cases[i].error, "");
		fetched_done(&got);
	}
	got = fetch_order(&f, make_order(&f, NULL, ""), NULL);
	ASSERT_FAILED(&got, E_PARAMS, "no URL");
	fetched_done(&got);
	got = fetch_order(&f, make_order(&f, "ftp://127.0.0.1/x", ""), NULL);
	ASSERT_FAILED(&got, E_PARAMS, "can be fetched");
	fetched_done(&got);
	got = fetch_order(&f, make_order(&f, "http://example.invalid/x", ""), NULL);
	ASSERT_FAILED(&got, E_PARAMS, "not encrypted");
	fetched_done(&got);
	fix_done(&f);
}
END_TEST

START_TEST(fetch__another_user__becomes_it_or_says_why_not)
{
	struct fix f;
	struct fetched got;

	fix_init(&f);
	CLEANUP_FREE char *file = serve_bytes(&f, "/a", 1000, 24);

	got = fetch(&f, "/a", ",'drop':true,'uid':65534,'gid':65534");
	if (geteuid() == 0)
		ASSERT_GETS(&f, &got, file);
	else
		ASSERT_FAILED(&got, E_PERMISSION, "65534");
	fetched_done(&got);
	fix_done(&f);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("fetch_http");

	UNIT_CASE(suite, fetch__plain_image__whole_sparse_and_told);
	UNIT_CASE(suite, fetch__connection_cut__goes_on_where_it_was);
	UNIT_CASE(suite, fetch__many_cuts_with_progress__attempts_start_anew);
	UNIT_CASE(suite, fetch__file_changed_between__starts_anew);
	UNIT_CASE(suite, fetch__other_piece_than_asked__starts_anew);
	UNIT_CASE(suite, fetch__server_without_ranges_or_validator__whole_again);
	UNIT_CASE(suite, fetch__last_modified__resumes_only_when_old_enough);
	UNIT_CASE(suite, fetch__part_of_an_earlier_process__resumed);
	UNIT_CASE(suite, fetch__wrong_length__told);
	UNIT_CASE(suite, fetch__answers_that_are_no_image__told_by_their_status);
	UNIT_CASE(suite, fetch__server_in_trouble__tried_again_with_back_off);
	UNIT_CASE(suite, fetch__nobody_there__told);
	UNIT_CASE(suite, fetch__stall__noticed_and_tried_again);
	UNIT_CASE(suite, fetch__slow_but_alive__waited_for);
	UNIT_CASE(suite, fetch__known_validator__not_a_byte);
	UNIT_CASE(suite, fetch__digest_of_what_is_served__must_be_the_one_given);
	UNIT_CASE(suite, fetch__list_of_checksums__decides);
	UNIT_CASE(suite, fetch__no_space__before_a_byte_and_on_the_way);
	UNIT_CASE(suite, fetch__too_large__refused_by_what_the_server_says_and_by_what_comes);
	UNIT_CASE(suite, fetch__empty_or_a_web_page__no_image);
	UNIT_CASE(suite, fetch__text_of_a_server__never_with_control_characters);
	UNIT_CASE(suite, fetch__orders_that_make_no_sense__refused);
	UNIT_CASE(suite, fetch__another_user__becomes_it_or_says_why_not);
	return unit_main(suite);
}
