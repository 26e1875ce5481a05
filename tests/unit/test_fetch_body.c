/* SPDX-License-Identifier: MPL-2.0
 *
 * Bodies that are packed, damaged, or made to take all memory and all space. */
#include "tests/unit/fetch.h"

static const char *const packers[][2] = {
	{ "gzip", "gzip -c" },
	{ "bzip2", "bzip2 -c" },
	{ "xz", "xz -c" },
	{ "zstd", "zstd -qc" },
};

/* The pages of 16 KiB that hold something, and not many more. */
static void
assert_sparse(const char *path)
{
	struct stat st;

	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_lt((int64_t)st.st_blocks * 512, st.st_size);
}

START_TEST(fetch__packed__unpacked_by_what_it_is)
{
	struct fix f;
	struct fetched got;

	fix_init(&f);
	CLEANUP_FREE char *file = fs_join(f.dir, "a"), *packed = fs_join(f.dir, "packed");

	make_bytes(file, (3 << 20) + 55, 1);
	CLEANUP_FREE char *hash = file_hash(file, "sha256");

	for (size_t i = 0; i < ARRAY_LEN(packers); i++) {
		shell("cd %s; %s a >packed", f.dir, packers[i][1]);
		serve_file(&f, "/a.img", packed);
		CLEANUP_FREE char *body = file_hash(packed, "sha256");
		CLEANUP_FREE char *of_image = xasprintf(",'sha256':'%s'", hash);
		CLEANUP_FREE char *of_body = xasprintf(",'sha256':'%s'", body);

		/* Either digest is one that people publish. */
		for (size_t j = 0; j < 2; j++) {
			got = fetch(&f, "/a.img", j == 0 ? of_image : of_body);
			ASSERT_GETS(&f, &got, file);
			ck_assert_str_eq(json_string(got.last, "sha256"), hash);
			ck_assert_str_eq(json_string(got.last, "body_sha256"), body);
			ck_assert_str_eq(json_string(got.last, "compression"), packers[i][0]);
			ck_assert(json_flag(event_of(&got, "response", 0), "packed"));
			ck_assert(same_files(f.spool, packed));
			assert_sparse(f.image);
			fetched_done(&got);
		}
	}
	fix_done(&f);
}
END_TEST

START_TEST(fetch__packed_in_pieces__all_of_them)
{
	static const char *const makes[] = {
		"(gzip -c a; gzip -c b)",
		"(gzip -c a; gzip -c b; head -c 1000 /dev/zero)",
		"(bzip2 -c a; bzip2 -c b)",
		"(xz -c a; xz -c b)",
		"(xz -c a; head -c 64 /dev/zero; xz -c b)",
		"(zstd -qc a; zstd -qc b)",
		/* A frame without data before and between, as parallel packers write. */
		("(printf '\\120\\052\\115\\030\\004\\000\\000\\000\\001\\002\\003\\004'; zstd -qc a;"
		 " printf '\\137\\052\\115\\030\\000\\000\\000\\000'; zstd -qc b)"),
		"cat a b | xz -c --block-size=65536",
		"cat a b | zstd -qc --long=27",
	};
	struct fix f;
	struct fetched got;

	fix_init(&f);
	CLEANUP_FREE char *a = fs_join(f.dir, "a"), *b = fs_join(f.dir, "b");
	CLEANUP_FREE char *both = fs_join(f.dir, "both"), *packed = fs_join(f.dir, "packed");

	make_bytes(a, 700000, 2);
	make_bytes(b, 500001, 3);
	shell("cd %s; cat a b >both", f.dir);
	for (size_t i = 0; i < ARRAY_LEN(makes); i++) {
		shell("cd %s; %s >packed", f.dir, makes[i]);
		serve_file(&f, "/p", packed);
		got = fetch(&f, "/p", "");
		ASSERT_GETS(&f, &got, both);
		ck_assert_int_eq(json_int(got.last, "body_bytes"), (int64_t)file_bytes(packed));
		fetched_done(&got);
	}
	fix_done(&f);
}
END_TEST

START_TEST(fetch__packed_and_damaged__no_image)
{
	struct fix f;
	struct fetched got;

	fix_init(&f);
	CLEANUP_FREE char *file = fs_join(f.dir, "a"), *packed = fs_join(f.dir, "packed");

	make_bytes(file, 1 << 20, 4);
	for (size_t i = 0; i < ARRAY_LEN(packers); i++) {
		static const char *const damages[] = {
			"head -c -1",			     /* its end is missing */
			"head -c 1000",
			"head -c 10",
			"(head -c 20000; tail -c +20100)",    /* a hole in it */
			("python3 -c 'import sys; d = bytearray(sys.stdin.buffer.read());"
			 " d[len(d) // 2] ^= 4; sys.stdout.buffer.write(d)'"),
		};

		for (size_t j = 0; j < ARRAY_LEN(damages); j++) {
			shell("cd %s; %s a | %s >packed", f.dir, packers[i][1], damages[j]);
			serve_file(&f, "/p", packed);
			got = fetch(&f, "/p", ",'attempts':3");
			ASSERT_FAILED(&got, E_IMAGE, "can not be unpacked");
			ck_assert(!json_flag(got.last, "temporary"));
			ck_assert_uint_eq(event_count(&got, "retry"), 0);
			fetched_done(&got);
		}
	}
	fix_done(&f);
}
END_TEST

START_TEST(fetch__packed_and_cut__resumed_in_and_between_processes)
{
	struct fix f;
	struct fetched got;
	struct run run = { .keep = true };

	fix_init(&f);
	CLEANUP_FREE char *file = fs_join(f.dir, "a"), *packed = fs_join(f.dir, "packed");

	make_bytes(file, 5 << 20, 5);
	for (size_t i = 0; i < ARRAY_LEN(packers); i++) {
		uint64_t len, half;

		shell("cd %s; %s a >packed", f.dir, packers[i][1]);
		len = file_bytes(packed);
		half = len / 2;
		serve_file(&f, "/p", packed);
		web_do(&f.web, "{'do':'then','path':'/p','cut':%d}", (int)half);
		got = fetch(&f, "/p", ",'attempts':2");
		ASSERT_GETS(&f, &got, file);
		ck_assert_uint_eq(event_count(&got, "retry"), 1);
		fetched_done(&got);

		web_do(&f.web, "{'do':'then','path':'/p','cut':%d}", (int)half);
		got = fetch(&f, "/p", "");
		ASSERT_FAILED(&got, E_NETWORK, "");
		ck_assert_str_eq(json_string(event_of(&got, "response", 0), "validator"), "\"one\"");
		ck_assert_int_eq(
		    json_int(event_of(&got, "saved", event_count(&got, "saved") - 1), "bytes"),
		    (int64_t)half);
		fetched_done(&got);
		CLEANUP_FREE char *extra = xasprintf(",'part_packed':true,'part_bytes':%d,"
			"'part_validator':'\\u0022one\\u0022'", (int)half);

		got = fetch_with(&f, "/p", extra, &run);
		ASSERT_GETS(&f, &got, file);
		ck_assert(same_files(f.spool, packed));
		ck_assert_int_eq(hit_sent(&f.web, "/p", hit_count(&f.web, "/p") - 1),
		    (int64_t)(len - half + 1));
		fetched_done(&got);
		/* Said to be what it is not. */
		CLEANUP_FREE char *wrong = xasprintf(",'part_bytes':%d,"
			"'part_validator':'\\u0022one\\u0022'", 1000);

		shell("cp %s %s", packed, f.image);
		got = fetch_with(&f, "/p", wrong, &run);
		ASSERT_FAILED(&got, E_IO, "not what it should be");
		fetched_done(&got);
	}
	fix_done(&f);
}
END_TEST

/* The window alone is more than the program may use. */
START_TEST(fetch__large_windows__small_memory)
{
	static const char *const makes[] = {
		/* The window of -9, in less time. */
		"xz --lzma2=preset=0,dict=64MiB,mode=fast,mf=hc3,nice=8,depth=1 -T 1 -c big",
		"zstd -q -1 --long=27 -c big big",
	};
	struct fix f;
	struct fetched got;

	fix_init(&f);
	CLEANUP_FREE char *big = fs_join(f.dir, "big"), *packed = fs_join(f.dir, "packed");

	/* Its end was there before, far back. */
	shell("cd %s; head -c 45000000 /dev/urandom >a; head -c 300000 /dev/zero >z;"
	      "(cat a z; head -c 5000000 a) >big; rm a z", f.dir);
	for (size_t i = 0; i < ARRAY_LEN(makes); i++) {
		shell("cd %s; %s >packed", f.dir, makes[i]);
		serve_file(&f, "/p", packed);
		got = fetch(&f, "/p", ""); /* looks at the memory, too */
		ASSERT_DONE(&got);
		ck_assert_uint_eq(file_bytes(f.image), (i + 1) * file_bytes(big));
		shell("cd %s; for i in $(seq %zu); do cat big; done | cmp - image", f.dir, i + 1);
		assert_sparse(f.image);
		fetched_done(&got);
	}
	fix_done(&f);
}
END_TEST

START_TEST(fetch__windows_beyond_reason__refused)
{
	static const char *const makes[] = {
		"head -c 300000000 /dev/zero | xz -0 --lzma2=preset=0,dict=256MiB -T 1 -c",
		"head -c 300000000 /dev/zero | zstd -q -1 --long=28 -c",
	};
	struct fix f;
	struct fetched got;

	fix_init(&f);
	CLEANUP_FREE char *packed = fs_join(f.dir, "packed");

	for (size_t i = 0; i < ARRAY_LEN(makes); i++) {
		shell("cd %s; %s >packed", f.dir, makes[i]);
		serve_file(&f, "/p", packed);
		got = fetch(&f, "/p", "");
		ASSERT_FAILED(&got, E_LIMIT, "window of more than 128 MiB");
		fetched_done(&got);
	}
	fix_done(&f);
}
END_TEST

START_TEST(fetch__bomb__ends_at_the_limit)
{
	static const char *const bombs[] = {
		/* A gigabyte in 33 kB, again and again. */
		("head -c 1073741824 /dev/zero | zstd -q -1 -c >p; for i in 1 2 3 4 5 6 7 8; do"
		 " cat p p p p p p p p; done"),
		"head -c 200000000 /dev/zero | gzip -c",
		"head -c 200000000 /dev/zero | bzip2 -c",
		"head -c 200000000 /dev/zero | xz -c",
	};
	struct fix f;
	struct fetched got;

	fix_init(&f);
	CLEANUP_FREE char *packed = fs_join(f.dir, "packed");

	for (size_t i = 0; i < ARRAY_LEN(bombs); i++) {
		struct stat st;

		shell("cd %s; (%s) >packed", f.dir, bombs[i]);
		serve_file(&f, "/p", packed);
		got = fetch(&f, "/p", ",'max_bytes':100000000,'attempts':3");
		ASSERT_FAILED(&got, E_LIMIT, "too large");
		ck_assert(!json_flag(got.last, "temporary"));
		ck_assert_uint_eq(event_count(&got, "retry"), 0);
		fetched_done(&got);
		ck_assert_int_eq(stat(f.image, &st), 0);
		ck_assert_int_lt((int64_t)st.st_blocks * 512, 1 << 20);
	}
	fix_done(&f);
}
END_TEST

START_TEST(fetch__packed_by_the_server_too__taken_as_it_came)
{
	struct fix f;
	struct fetched got;

	fix_init(&f);
	CLEANUP_FREE char *file = fs_join(f.dir, "a"), *packed = fs_join(f.dir, "packed");
	CLEANUP_FREE char *coding = NULL;

	make_bytes(file, 1 << 20, 6);
	shell("cd %s; gzip -c a >packed", f.dir);
	serve_file(&f, "/p", packed);
	web_do(&f.web, "{'do':'always','path':'/p','headers':[['Content-Encoding','gzip']]}");
	got = fetch(&f, "/p", "");
	ASSERT_GETS(&f, &got, file);
	fetched_done(&got);
	/* It was not asked for. */
	coding = hit_header(&f.web, "/p", 0, "accept-encoding");
	ck_assert(coding == NULL || str_eq(coding, "identity"));
	/* What can not be seen by its first bytes would be stored packed. */
	web_do(&f.web, "{'do':'always','path':'/p','headers':[['Content-Encoding','br']]}");
	got = fetch(&f, "/p", "");
	ASSERT_FAILED(&got, E_IMAGE, "'br'");
	fetched_done(&got);
	fix_done(&f);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("fetch_body");

	UNIT_CASE(suite, fetch__packed__unpacked_by_what_it_is);
	UNIT_CASE(suite, fetch__packed_in_pieces__all_of_them);
	UNIT_CASE(suite, fetch__packed_and_damaged__no_image);
	UNIT_CASE(suite, fetch__packed_and_cut__resumed_in_and_between_processes);
	UNIT_CASE(suite, fetch__large_windows__small_memory);
	UNIT_CASE(suite, fetch__windows_beyond_reason__refused);
	UNIT_CASE(suite, fetch__bomb__ends_at_the_limit);
	UNIT_CASE(suite, fetch__packed_by_the_server_too__taken_as_it_came);
	return unit_main(suite);
}
