/* SPDX-License-Identifier: MPL-2.0
 *
 * Headers of untrusted images, and overlays.  Real images are made by qemu-img. */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/process.h"
#include "lib/base/str.h"
#include "lib/image/image.h"
#include "tests/unit/unit.h"

#define MIB (1ULL << 20)
#define GIB (1ULL << 30)
enum { CLUSTER = 65536, IMAGE_BYTES = 4 * CLUSTER };

static char dir[64];

static void
setup(void)
{
	snprintf(dir, sizeof(dir), "/tmp/test-disk.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
}

static void
teardown(void)
{
	ck_assert_int_eq(fs_remove_tree(dir, NULL), 0);
}

static void
put_be(unsigned char *p, size_t width, uint64_t value)
{
	for (size_t i = 0; i < width; i++)
		p[i] = (unsigned char)(value >> 8 * (width - 1 - i));
}

/* A plain qcow2 of 1 GiB: header, reference table, L1 table, one empty L2 table. */
static void
plain_qcow2(unsigned char *image)
{
	memset(image, 0, IMAGE_BYTES);
	memcpy(image, "QFI\xfb", 4);
	put_be(image + 4, 4, 3);
	put_be(image + 20, 4, 16);
	put_be(image + 24, 8, GIB);
	put_be(image + 36, 4, 2);
	put_be(image + 40, 8, 2 * CLUSTER);
	put_be(image + 48, 8, CLUSTER);
	put_be(image + 56, 4, 1);
	put_be(image + 96, 4, 4);
	put_be(image + 100, 4, 104);
	put_be(image + 2 * CLUSTER, 8, 0x8000000000000000ULL | (3 * CLUSTER));
}

static int
inspect_bytes(const void *data, size_t len, struct disk_header *header, struct err *err)
{
	CLEANUP_FREE char *path = fs_join(dir, "bytes");
	CLEANUP_FD int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);

	ck_assert_int_eq(fs_write_all(fd, data, len), 0);
	return disk_inspect(fd, "some.img", header, err);
}

static int
inspect_path(const char *path, struct disk_header *header, struct err *err)
{
	CLEANUP_FD int fd = open(path, O_RDONLY);

	ck_assert_int_ge(fd, 0);
	return disk_inspect(fd, path, header, err);
}

START_TEST(disk_inspect__other_formats__named)
{
	static const struct {
		const char *bytes;
		size_t len, at;
		const char *word, *hint;
	} cases[] = {
		{ "KDMV", 4, 0, "VMDK", "convert -f vmdk" },
		{ "# Disk DescriptorFile\nRW 1 FLAT \"/etc/passwd\" 0", 48, 0, "VMDK", "convert" },
		{ "\x7f\x10\xda\xbe", 4, 64, "VDI", "convert -f vdi" },
		{ "vhdxfile", 8, 0, "VHDX", "convert -f vhdx" },
		{ "conectix", 8, 0, "VHD", "convert -f vpc" },
		{ "conectix", 8, 4096 - 512, "VHD", "convert -f vpc" },
		{ "QED\0", 4, 0, "QED", "convert -f qed" },
		{ "LUKS\xba\xbe", 6, 0, "LUKS", "convert -f luks" },
		{ "\x1f\x8b", 2, 0, "gzip", "unpack" },
		{ "\xfd" "7zXZ", 5, 0, "xz", "unpack" },
		{ "\x28\xb5\x2f\xfd", 4, 0, "zstd", "unpack" },
		{ "PK\x03\x04", 4, 0, "ZIP", "unpack" },
		{ "ustar", 5, 257, "tar", "unpack" },
		{ "<!DOCTYPE html>", 15, 0, "HTML", "disk image" },
	};

	setup();
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		unsigned char image[4096] = { 0 };
		struct disk_header header;
		struct err err;

		memcpy(image + cases[i].at, cases[i].bytes, cases[i].len);
		ck_assert_int_eq(inspect_bytes(image, sizeof(image), &header, &err), E_IMAGE);
		ck_assert_msg(strstr(err.msg, cases[i].word) != NULL, "%s", err.msg);
		ck_assert_msg(strstr(err.hint, cases[i].hint) != NULL, "%s", err.hint);
		ck_assert_ptr_nonnull(strstr(err.msg, "some.img"));
	}
	teardown();
}
END_TEST

START_TEST(disk_inspect__raw_and_qcow2__taken)
{
	static unsigned char image[IMAGE_BYTES];
	struct disk_header header;
	struct err err;

	setup();
	memset(image, 0, sizeof(image));
	ck_assert_int_eq(inspect_bytes(image, 512, &header, &err), 0);
	ck_assert_str_eq(header.format, "raw");
	ck_assert_uint_eq(header.virtual_bytes, 512);
	plain_qcow2(image);
	ck_assert_msg(inspect_bytes(image, sizeof(image), &header, &err) == 0, "%s", err.msg);
	ck_assert_str_eq(header.format, "qcow2");
	ck_assert_uint_eq(header.virtual_bytes, GIB);
	put_be(image + 72, 8, 1); /* dirty */
	ck_assert_int_eq(inspect_bytes(image, sizeof(image), &header, &err), 0);
	put_be(image + 72, 8, 1 << 4); /* extended L2: half as many entries */
	put_be(image + 36, 4, 4);
	ck_assert_int_eq(inspect_bytes(image, sizeof(image), &header, &err), 0);
	plain_qcow2(image);
	put_be(image + 4, 4, 2);
	put_be(image + 72, 8, 0); /* version 2: extensions begin here */
	ck_assert_int_eq(inspect_bytes(image, sizeof(image), &header, &err), 0);
	teardown();
}
END_TEST

START_TEST(disk_inspect__hostile_qcow2__refused_by_reason)
{
	static const struct {
		size_t at, width;
		uint64_t value;
		const char *word;
	} cases[] = {
		{ 4, 4, 0, "version" },
		{ 4, 4, 1, "version 1" },
		{ 4, 4, 4, "version" },
		{ 8, 8, 512, "backing file" },
		{ 8, 8, UINT64_MAX, "backing file" },
		{ 16, 4, 11, "backing file" },
		{ 20, 4, 8, "clusters" },
		{ 20, 4, 22, "clusters" },
		{ 20, 4, UINT32_MAX, "clusters" },
		{ 24, 8, 0, "size" },
		{ 24, 8, 1ULL << 60, "size" },
		{ 24, 8, UINT64_MAX, "size" },
		{ 24, 8, 64ULL << 40, "cluster table" }, /* L1 too short for it */
		{ 32, 4, 1, "encrypted" },
		{ 32, 4, 2, "encrypted" },
		{ 36, 4, 0, "cluster table" },
		{ 36, 4, 1, "cluster table" },
		{ 36, 4, 1 << 30, "cluster table" },
		{ 36, 4, UINT32_MAX, "cluster table" },
		{ 40, 8, 0, "cluster table" },
		{ 40, 8, 2 * CLUSTER + 8, "cluster table" },
		{ 40, 8, IMAGE_BYTES, "cluster table" },
		{ 40, 8, UINT64_MAX - CLUSTER + 1, "cluster table" },
		{ 48, 8, 0, "reference table" },
		{ 48, 8, IMAGE_BYTES, "reference table" },
		{ 56, 4, 0, "reference table" },
		{ 56, 4, UINT32_MAX, "reference table" },
		{ 60, 4, UINT32_MAX, "snapshot" },
		{ 60, 4, 65536, "snapshot" },
		{ 72, 8, 1 << 1, "corrupt" },
		{ 72, 8, 1 << 2, "another file" },
		{ 72, 8, 1 << 3, "compression" }, /* no byte says which */
		{ 72, 8, 1 << 5, "bit 5" },
		{ 72, 8, 1ULL << 63, "bit 63" },
		{ 96, 4, 7, "reference counts" },
		{ 100, 4, 72, "header" },
		{ 100, 4, 105, "header" },
		{ 100, 4, UINT32_MAX, "header" },
		{ 104, 8, 0x4441544100000008ULL, "another file" },
		{ 104, 8, 0x0537be7700000010ULL, "encrypted" },
		{ 104, 8, 0x6803f857ffffffffULL, "extension" },
		{ 2 * CLUSTER, 8, IMAGE_BYTES, "incomplete" },
		{ 2 * CLUSTER + 8, 8, 3 * CLUSTER + 512, "damaged" },
	};
	static unsigned char image[IMAGE_BYTES];

	setup();
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct disk_header header = { 0 };
		struct err err = ERR_INIT;

		plain_qcow2(image);
		put_be(image + cases[i].at, cases[i].width, cases[i].value);
		ck_assert_msg(inspect_bytes(image, sizeof(image), &header, &err) == E_IMAGE,
		    "case %zu", i);
		ck_assert_msg(strstr(err.msg, cases[i].word) != NULL, "case %zu: %s", i, err.msg);
		ck_assert_ptr_null(header.format);
	}
	teardown();
}
END_TEST

START_TEST(disk_inspect__cut_off__refused_everywhere)
{
	static unsigned char image[IMAGE_BYTES];
	struct disk_header header;
	struct err err;

	setup();
	plain_qcow2(image);
	ck_assert_int_eq(inspect_bytes(image, 0, &header, &err), E_IMAGE);
	for (size_t len = 4; len < sizeof(image); len += len < 200 ? 1 : 4093)
		ck_assert_msg(inspect_bytes(image, len, &header, &err) == E_IMAGE, "%zu", len);
	teardown();
}
END_TEST

START_TEST(disk_inspect__random_headers__an_answer_and_no_crash)
{
	static unsigned char image[IMAGE_BYTES];
	struct disk_header header;
	struct err err;
	unsigned taken = 0;

	setup();
	srandom(7);
	for (int i = 0; i < 3000; i++) {
		plain_qcow2(image);
		for (int n = 1 + (int)(random() % 4); n > 0; n--)
			image[4 + random() % 140] = (unsigned char)random();
		if (inspect_bytes(image, 2 * CLUSTER + 4096, &header, &err) == 0) {
			taken++;
			ck_assert_uint_le(header.virtual_bytes, 64ULL << 40);
		}
	}
	ck_assert_uint_lt(taken, 3000);
	teardown();
}
END_TEST

START_TEST(disk_inspect__folder_or_pipe__refused)
{
	CLEANUP_FD int fd = open("/tmp", O_RDONLY);
	struct disk_header header;
	struct err err;
	int fds[2];

	ck_assert_int_eq(disk_inspect(fd, "/tmp", &header, &err), E_IMAGE);
	ck_assert_int_eq(pipe(fds), 0);
	ck_assert_int_eq(disk_inspect(fds[0], "pipe", &header, &err), E_IMAGE);
	close(fds[0]);
	close(fds[1]);
}
END_TEST

/* ---- images made by qemu-img ---- */

static void
qemu_img(const char *const argv[])
{
	struct process_output output = { 0 };
	struct err err;

	ck_assert_msg(process_run(argv, NULL, 0, 65536, 60000, NULL, NULL, &output, &err) == 0, "%s",
	    err.msg);
	process_output_done(&output);
}

static void
make_image(const char *format, const char *options, const char *path)
{
	const char *const with[] = { "qemu-img", "create", "-q", "-f", format, "-o", options, path,
		"64M", NULL };
	const char *const without[] = { "qemu-img", "create", "-q", "-f", format, path, "64M", NULL };

	qemu_img(options != NULL ? with : without);
}

START_TEST(disk_inspect__images_of_qemu_img__taken)
{
	static const char *const options[] = { NULL, "compat=0.10", "compression_type=zstd",
		"extended_l2=on", "cluster_size=512", "cluster_size=2M", "preallocation=metadata",
		"lazy_refcounts=on" };

	setup();
	for (size_t i = 0; i < ARRAY_LEN(options); i++) {
		CLEANUP_FREE char *path = fs_join(dir, "image");
		struct disk_header header;
		struct err err;

		make_image("qcow2", options[i], path);
		ck_assert_msg(inspect_path(path, &header, &err) == 0, "%s: %s", options[i], err.msg);
		ck_assert_str_eq(header.format, "qcow2");
		ck_assert_uint_eq(header.virtual_bytes, 64 * MIB);
	}
	teardown();
}
END_TEST

START_TEST(disk_inspect__G_76_attacks_by_qemu_img__refused)
{
	CLEANUP_FREE char *data = NULL, *options = NULL;
	static const struct {
		const char *format, *options, *word;
	} cases[] = {
		{ "qcow2", "backing_file=/etc/passwd,backing_fmt=raw", "backing file" },
		{ "qcow2", "backing_file=json:{\"driver\":\"raw\",,\"file\":{\"driver\":\"file\",,"
			   "\"filename\":\"/etc/passwd\"}},backing_fmt=raw", "backing file" },
		{ "qcow2", NULL, "another file" }, /* external data, see below */
		{ "vmdk", NULL, "VMDK" },
		{ "vdi", NULL, "VDI" },
		{ "vhdx", NULL, "VHDX" },
		{ "vpc", NULL, "VHD" },
		{ "qed", NULL, "QED" },
		{ "parallels", NULL, "Parallels" },
	};

	setup();
	data = fs_join(dir, "data");
	options = xasprintf("data_file=%s,data_file_raw=on", data);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		CLEANUP_FREE char *path = xasprintf("%s/image%zu", dir, i);
		const char *how = i == 2 ? options : cases[i].options;
		struct disk_header header;
		struct err err = ERR_INIT;

		make_image(cases[i].format, how, path);
		ck_assert_int_eq(inspect_path(path, &header, &err), E_IMAGE);
		ck_assert_msg(strstr(err.msg, cases[i].word) != NULL, "%s", err.msg);
	}
	teardown();
}
END_TEST

/* ---- overlays ---- */

static struct json_object *
info(const char *path)
{
	const char *const argv[] = { "qemu-img", "info", "--output=json", path, NULL };
	struct process_output output = { 0 };
	struct json_object *object;
	struct err err;

	ck_assert_msg(process_run(argv, NULL, 0, 65536, 60000, NULL, NULL, &output, &err) == 0, "%s",
	    err.msg);
	object = json_tokener_parse(output.out);
	process_output_done(&output);
	return object;
}

static void
expect_overlay(const char *path, const char *base, const char *format, uint64_t bytes)
{
	struct json_object *object = info(path);
	struct stat st;

	ck_assert_str_eq(json_object_get_string(json_object_object_get(object, "format")), "qcow2");
	ck_assert_str_eq(
	    json_object_get_string(json_object_object_get(object, "backing-filename")), base);
	ck_assert_str_eq(
	    json_object_get_string(json_object_object_get(object, "backing-filename-format")), format);
	ck_assert_uint_eq(
	    json_object_get_uint64(json_object_object_get(object, "virtual-size")), bytes);
	json_object_put(object);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(st.st_mode & 0777, 0600);
}

static char *
raw_base(const char *name, uint64_t bytes)
{
	char *path = fs_join(dir, name);
	CLEANUP_FD int fd = open(path, O_RDWR | O_CREAT, 0400);

	ck_assert_int_eq(ftruncate(fd, (off_t)bytes), 0);
	return path;
}

START_TEST(disk_overlay__sizes_and_formats)
{
	CLEANUP_FREE char *raw = NULL, *qcow2 = NULL;
	static const struct {
		bool raw;
		uint64_t asked, got;
	} cases[] = {
		{ true, 0, 64 * MIB },
		{ true, 64 * MIB + 1, 64 * MIB + 512 },
		{ false, 64 * MIB, 64 * MIB },
		{ false, 3 * GIB, 3 * GIB },
		{ false, 64ULL << 40, 64ULL << 40 },
	};
	struct err err;

	setup();
	raw = raw_base("base.raw", 64 * MIB);
	qcow2 = fs_join(dir, "base.qcow2");
	make_image("qcow2", NULL, qcow2);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		CLEANUP_FREE char *path = xasprintf("%s/overlay%zu", dir, i);
		const char *base = cases[i].raw ? raw : qcow2, *format = cases[i].raw ? "raw" : "qcow2";

		ck_assert_msg(disk_create_overlay(base, format, 64 * MIB, path, cases[i].asked, NULL,
			&err) == 0, "%s", err.msg);
		expect_overlay(path, base, format, cases[i].got);
	}
	teardown();
}
END_TEST

START_TEST(disk_overlay__unaligned_raw_base__rounded_up)
{
	CLEANUP_FREE char *base = NULL, *path = NULL;
	struct err err;

	setup();
	base = raw_base("base", MIB + 100);
	path = fs_join(dir, "overlay");
	ck_assert_int_eq(disk_create_overlay(base, "raw", MIB + 100, path, 0, NULL, &err), 0);
	expect_overlay(path, base, "raw", MIB + 512);
	teardown();
}
END_TEST

START_TEST(disk_overlay__G_30_relative_and_odd_paths)
{
	static const char *const names[] = { "a,b=c", "it's \"quoted\" here", "nbd:unix:x", "-b",
		"json:{}", "100%s" };
	CLEANUP_FREE char *cwd = getcwd(NULL, 0);
	struct err err;

	setup();
	ck_assert_int_eq(chdir(dir), 0);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		CLEANUP_FREE char *base = raw_base(names[i], MIB);
		CLEANUP_FREE char *path = xasprintf("%s.overlay", names[i]), *full = fs_join(dir, path);

		ck_assert_msg(disk_create_overlay(names[i], "raw", MIB, path, 0, NULL, &err) == 0,
		    "%s", err.msg);
		expect_overlay(full, base, "raw", MIB);
	}
	ck_assert_int_eq(chdir(cwd), 0);
	teardown();
}
END_TEST

START_TEST(disk_overlay__G_31_smaller_than_the_image__refused)
{
	CLEANUP_FREE char *base = NULL, *path = NULL;
	struct err err;

	setup();
	base = raw_base("base", 64 * MIB);
	path = fs_join(dir, "overlay");
	ck_assert_int_eq(
	    disk_create_overlay(base, "raw", 64 * MIB, path, 64 * MIB - 1, NULL, &err), E_PARAMS);
	ck_assert_str_eq(err.object, "disk");
	ck_assert_ptr_nonnull(strstr(err.msg, "smaller than its image"));
	ck_assert_int_eq(
	    disk_create_overlay(base, "raw", 64 * MIB, path, (64ULL << 40) + 1, NULL, &err), E_PARAMS);
	ck_assert(!fs_exists(path));
	teardown();
}
END_TEST

START_TEST(disk_overlay__G_32_existing_target__untouched)
{
	CLEANUP_FREE char *base = NULL, *path = NULL, *link_path = NULL, *text = NULL;
	struct err err;

	setup();
	base = raw_base("base", MIB);
	path = fs_join(dir, "overlay");
	link_path = fs_join(dir, "link");
	ck_assert_int_eq(fs_write(path, "precious", 8, 0600, &err), 0);
	ck_assert_int_eq(disk_create_overlay(base, "raw", MIB, path, 0, NULL, &err), E_EXISTS);
	ck_assert_ptr_nonnull(strstr(err.hint, "not overwritten"));
	ck_assert_int_eq(symlink("nowhere", link_path), 0);
	ck_assert_int_eq(disk_create_overlay(base, "raw", MIB, link_path, 0, NULL, &err), E_EXISTS);
	ck_assert_int_eq(fs_read(path, 100, &text, NULL, &err), 0);
	ck_assert_str_eq(text, "precious");
	teardown();
}
END_TEST

START_TEST(disk_overlay__failures__leave_nothing)
{
	CLEANUP_FREE char *base = NULL, *path = NULL, *fresh = NULL, *deep = NULL;
	struct err err;

	setup();
	base = fs_join(dir, "base");
	path = fs_join(dir, "overlay");
	fresh = fs_join(dir, "overlay.new");
	deep = fs_join(dir, "no/such/folder");
	ck_assert_int_eq(disk_create_overlay(base, "raw", MIB, path, 0, NULL, &err), E_IMAGE);
	ck_assert_ptr_nonnull(strstr(err.msg, "is gone"));
	free(base);
	base = raw_base("base", MIB);
	ck_assert_int_ne(disk_create_overlay(base, "raw", MIB, deep, 0, NULL, &err), 0);
	/* qemu-img refuses: it is no qcow2. */
	ck_assert_int_ne(disk_create_overlay(base, "qcow2", MIB, path, 0, NULL, &err), 0);
	ck_assert_uint_gt(strlen(err.msg), strlen(path));
	ck_assert(!fs_exists(path) && !fs_exists(fresh));
	/* What an interrupted run left is no obstacle. */
	ck_assert_int_eq(fs_write(fresh, "x", 1, 0600, &err), 0);
	ck_assert_int_eq(disk_create_overlay(base, "raw", MIB, path, 0, NULL, &err), 0);
	ck_assert(!fs_exists(fresh));
	teardown();
}
END_TEST

START_TEST(disk_overlay__full_disk__told)
{
	CLEANUP_FREE char *base = NULL, *small = NULL, *path = NULL;
	struct err err;

	setup();
	base = raw_base("base", MIB);
	small = fs_join(dir, "small");
	path = fs_join(small, "overlay");
	ck_assert_int_eq(mkdir(small, 0700), 0);
	if (mount("none", small, "tmpfs", 0, "size=16m") < 0) {
		printf("# NOT CHECKED: an overlay on a full disk (no tmpfs: %s)\n", strerror(errno));
		fprintf(stderr, "NOT CHECKED: an overlay on a full disk (no tmpfs: %s)\n",
		    strerror(errno));
	} else {
		ck_assert_int_eq(disk_create_overlay(base, "raw", MIB, path, 0, NULL, &err), E_NO_SPACE);
		ck_assert(!fs_exists(path));
		ck_assert_int_eq(umount(small), 0);
	}
	teardown();
}
END_TEST

/* ---- overlays made elsewhere ---- */

START_TEST(disk_adopt__put_on_another_base)
{
	CLEANUP_FREE char *theirs = NULL, *ours = NULL, *overlay = NULL, *adopted = NULL;
	CLEANUP_FREE char *backing = NULL;
	struct disk_header header;
	struct err err;
	int fd;

	setup();
	theirs = raw_base("their base", MIB);
	ours = raw_base("our base", MIB);
	overlay = fs_join(dir, "overlay");
	adopted = fs_join(dir, "adopted");
	ck_assert_int_eq(disk_create_overlay(theirs, "raw", MIB, overlay, 2 * MIB, NULL, &err), 0);
	fd = open(overlay, O_RDONLY);
	ck_assert_int_eq(disk_inspect(fd, "overlay", &header, &err), E_IMAGE);
	ck_assert_int_eq(disk_inspect_overlay(fd, "overlay", &header, &backing, &err), 0);
	ck_assert_str_eq(backing, theirs);
	ck_assert_uint_eq(header.virtual_bytes, 2 * MIB);
	ck_assert_int_eq(unlink(theirs), 0); /* it is not needed */
	ck_assert_int_eq(
	    disk_adopt_overlay(fd, "overlay", NULL, NULL, adopted, NULL, &err), E_IMAGE);
	ck_assert_msg(disk_adopt_overlay(fd, "overlay", ours, "raw", adopted, NULL, &err) == 0, "%s",
	    err.msg);
	expect_overlay(adopted, ours, "raw", 2 * MIB);
	ck_assert_int_eq(
	    disk_adopt_overlay(fd, "overlay", ours, "raw", adopted, NULL, &err), E_EXISTS);
	close(fd);
	teardown();
}
END_TEST

START_TEST(disk_adopt__without_a_base__copied)
{
	CLEANUP_FREE char *image = NULL, *adopted = NULL;
	struct disk_header header;
	struct err err;
	int fd;

	setup();
	image = fs_join(dir, "image");
	adopted = fs_join(dir, "adopted");
	make_image("qcow2", NULL, image);
	fd = open(image, O_RDONLY);
	ck_assert_int_eq(disk_adopt_overlay(fd, "image", NULL, NULL, adopted, NULL, &err), 0);
	ck_assert_int_eq(inspect_path(adopted, &header, &err), 0);
	ck_assert_uint_eq(header.virtual_bytes, 64 * MIB);
	close(fd);
	teardown();
}
END_TEST

START_TEST(disk_adopt__odd_backing_names__refused)
{
	static const char *const names[] = { "json:{\"driver\":\"nbd\"}", "nbd:unix:/x", "ssh://host/x" };
	static unsigned char image[IMAGE_BYTES];
	struct disk_header header;
	char *backing = NULL;
	struct err err;

	setup();
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		CLEANUP_FREE char *path = fs_join(dir, "bytes");
		CLEANUP_FD int fd = open(path, O_RDWR | O_CREAT, 0600);

		plain_qcow2(image);
		put_be(image + 8, 8, 4096);
		put_be(image + 16, 4, strlen(names[i]));
		memcpy(image + 4096, names[i], strlen(names[i]));
		ck_assert_int_eq(fs_write_all(fd, image, sizeof(image)), 0);
		ck_assert_int_eq(disk_inspect_overlay(fd, "x", &header, &backing, &err), E_IMAGE);
		ck_assert_ptr_null(backing);
	}
	teardown();
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("disk");

	UNIT_CASE(s, disk_inspect__other_formats__named);
	UNIT_CASE(s, disk_inspect__raw_and_qcow2__taken);
	UNIT_CASE(s, disk_inspect__hostile_qcow2__refused_by_reason);
	UNIT_CASE(s, disk_inspect__cut_off__refused_everywhere);
	UNIT_CASE(s, disk_inspect__random_headers__an_answer_and_no_crash);
	UNIT_CASE(s, disk_inspect__folder_or_pipe__refused);
	UNIT_CASE(s, disk_inspect__images_of_qemu_img__taken);
	UNIT_CASE(s, disk_inspect__G_76_attacks_by_qemu_img__refused);
	UNIT_CASE(s, disk_overlay__sizes_and_formats);
	UNIT_CASE(s, disk_overlay__unaligned_raw_base__rounded_up);
	UNIT_CASE(s, disk_overlay__G_30_relative_and_odd_paths);
	UNIT_CASE(s, disk_overlay__G_31_smaller_than_the_image__refused);
	UNIT_CASE(s, disk_overlay__G_32_existing_target__untouched);
	UNIT_CASE(s, disk_overlay__failures__leave_nothing);
	UNIT_CASE(s, disk_overlay__full_disk__told);
	UNIT_CASE(s, disk_adopt__put_on_another_base);
	UNIT_CASE(s, disk_adopt__without_a_base__copied);
	UNIT_CASE(s, disk_adopt__odd_backing_names__refused);
	return unit_main(s);
}
