/* SPDX-License-Identifier: MPL-2.0
 *
 * Images that want something.  Each attack is refused by its header, and then run all the same, to
 * see that the jail holds: without it the attack succeeds, with one layer of it not. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/jail.h"
#include "lib/base/landlock.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/image.h"
#include "tests/unit/unit.h"

#define SECRET "a secret of this host\n"
enum { ALL = JAIL_LANDLOCK | JAIL_NETNS | JAIL_SECCOMP | JAIL_LIMITS, OUT_MAX = 65536 };
enum { CLUSTER = 65536, IMAGE_BYTES = 6 * CLUSTER, DISK_BYTES = 1 << 20, TIMEOUT_MS = 60000 };
enum { ABI_TCP = 4, UNHEARD_MS = 1500 /* the server at the other end says nothing */ };

struct fixture {
	char *dir, *evil, *secret, *out;
};

static void
setup(struct fixture *f)
{
	char dir[] = "/tmp/test-hostile-XXXXXX";
	char text[4096] = SECRET;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	f->dir = xstrdup(dir);
	f->evil = fs_join(dir, "evil");
	f->secret = fs_join(dir, "secret");
	f->out = fs_join(dir, "out");
	ck_assert_int_eq(fs_write(f->secret, text, sizeof(text), 0600, NULL), 0);
}

static void
finish(struct fixture *f)
{
	ck_assert_int_eq(fs_remove_tree(f->dir, NULL), 0);
	free(f->dir);
	free(f->evil);
	free(f->secret);
	free(f->out);
}

static void
make(const char *const argv[])
{
	struct process_output output = { 0 };
	struct err err = ERR_INIT;

	ck_assert_msg(
	    process_run(argv, NULL, 0, OUT_MAX, TIMEOUT_MS, NULL, NULL, &output, &err) == 0, "%s",
	    err.msg);
	process_output_done(&output);
}

static void
write_file(const char *path, const void *data, size_t len)
{
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	ck_assert_int_eq(fs_write_all(fd, data, len), 0);
}

static void
expect_refused(const struct fixture *f, const char *word)
{
	CLEANUP_FD int fd = open(f->evil, O_RDONLY | O_CLOEXEC);
	struct disk_header header = { 0 };
	struct err err = ERR_INIT;

	ck_assert_int_eq(disk_inspect(fd, "evil.img", &header, &err), E_IMAGE);
	ck_assert_msg(strstr(err.msg, word) != NULL, "%s", err.msg);
	ck_assert_ptr_null(header.format);
}

/* Converts the evil image in a jail of these layers alone. */
static int
convert(const struct fixture *f, const char *format, unsigned layers, uint64_t timeout_ms)
{
	const char *const argv[] = { "qemu-img", "convert", "-f", format, "-O", "raw", f->evil,
		f->out, NULL };
	const char *const read[] = { f->evil, NULL }, *const write[] = { f->out, NULL };
	const struct jail jail = { .read = read,
		.write = write,
		.without = ALL & ~layers,
		.limits = { 60, 1 << 30, 64 << 20 } };
	struct process_output output = { 0 };
	int rc;

	write_file(f->out, "", 0);
	rc = jail_run(&jail, argv, NULL, 0, OUT_MAX, timeout_ms, NULL, &output, NULL);
	process_output_done(&output);
	return rc;
}

static bool
leaked(const struct fixture *f)
{
	CLEANUP_FREE char *text = NULL;
	size_t len = 0;

	ck_assert_int_eq(fs_read(f->out, 64 << 20, &text, &len, NULL), 0);
	return memmem(text, len, SECRET, strlen(SECRET)) != NULL;
}

static void
expect_no_leak(const struct fixture *f, const char *format)
{
	ck_assert_int_eq(convert(f, format, 0, TIMEOUT_MS), 0);
	ck_assert_msg(leaked(f), "the attack is none");
	if (jail_layers() & JAIL_LANDLOCK) {
		ck_assert_int_eq(convert(f, format, JAIL_LANDLOCK, TIMEOUT_MS), E_FAILED);
		ck_assert(!leaked(f));
	}
	convert(f, format, jail_layers(), TIMEOUT_MS);
	ck_assert(!leaked(f) || !(jail_layers() & JAIL_LANDLOCK));
}

START_TEST(hostile__backing_file__no_secret_of_the_host)
{
	struct fixture f;

	setup(&f);
	const char *const argv[] = { "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b",
		f.secret, f.evil, NULL };
	make(argv);
	expect_refused(&f, "backing file");
	expect_no_leak(&f, "qcow2");
	finish(&f);
}
END_TEST

START_TEST(hostile__backing_file_as_json__no_secret_of_the_host)
{
	struct fixture f;

	setup(&f);
	CLEANUP_FREE char *name = xasprintf(
	    "json:{\"driver\":\"raw\",\"file\":{\"driver\":\"file\",\"filename\":\"%s\"}}",
	    f.secret);
	const char *const argv[] = { "qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "raw",
		"-b", name, f.evil, "4096", NULL };
	make(argv);
	expect_refused(&f, "backing file");
	expect_no_leak(&f, "qcow2");
	finish(&f);
}
END_TEST

START_TEST(hostile__data_file__no_secret_of_the_host)
{
	struct fixture f;

	setup(&f);
	CLEANUP_FREE char *options = xasprintf("data_file=%s,data_file_raw=on", f.secret);
	const char *const argv[] = { "qemu-img", "create", "-q", "-f", "qcow2", "-o", options,
		f.evil, "4096", NULL };
	const char *const fill[] = { "qemu-io", "-f", "qcow2", "-c", "write 0 4096", f.evil, NULL };
	char text[4096] = SECRET;
	make(argv);
	make(fill); /* so that its tables point into the file */
	write_file(f.secret, text, sizeof(text));
	expect_refused(&f, "another file");
	expect_no_leak(&f, "qcow2");
	finish(&f);
}
END_TEST

START_TEST(hostile__vmdk_descriptor__no_secret_of_the_host)
{
	struct fixture f;

	setup(&f);
	CLEANUP_FREE char *text =
	    xasprintf("# Disk DescriptorFile\nversion=1\nCID=fffffffe\n"
		      "parentCID=ffffffff\ncreateType=\"monolithicFlat\"\n\n# Extent description\n"
		      "RW 8 FLAT \"%s\" 0\n",
		f.secret);
	write_file(f.evil, text, strlen(text));
	expect_refused(&f, "VMDK");
	expect_no_leak(&f, "vmdk");
	finish(&f);
}
END_TEST

/* ---- the network ---- */

static int
listen_anywhere(int *ret_port)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, len), 0);
	ck_assert_int_eq(listen(fd, 16), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	*ret_port = ntohs(address.sin_port);
	return fd;
}

static bool
somebody_came(int listener)
{
	CLEANUP_FD int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

	return fd >= 0;
}

START_TEST(hostile__backing_file_on_a_server__nobody_is_called)
{
	static const unsigned layers[] = { JAIL_NETNS, JAIL_SECCOMP, JAIL_LANDLOCK };
	struct fixture f;
	int port;

	setup(&f);
	CLEANUP_FD int listener = listen_anywhere(&port);
	CLEANUP_FREE char *url = xasprintf("nbd://127.0.0.1:%d/disk", port);
	const char *const argv[] = { "qemu-img", "create", "-q", "-u", "-f", "qcow2", "-F", "raw",
		"-b", url, f.evil, "1M", NULL };
	make(argv);
	expect_refused(&f, "backing file");
	ck_assert_int_ne(convert(&f, "qcow2", JAIL_LIMITS, UNHEARD_MS), 0);
	ck_assert_msg(somebody_came(listener), "the attack is none");
	for (size_t i = 0; i < ARRAY_LEN(layers); i++) {
		if (!(jail_layers() & layers[i]) ||
		    (layers[i] == JAIL_LANDLOCK && landlock_abi() < ABI_TCP))
			continue;
		ck_assert_int_eq(convert(&f, "qcow2", layers[i], TIMEOUT_MS), E_FAILED);
		ck_assert_msg(!somebody_came(listener), "layer %u", layers[i]);
	}
	finish(&f);
}
END_TEST

/* ---- what an image is, is decided once ---- */

START_TEST(hostile__raw_that_looks_like_qcow2__never_guessed_again)
{
	struct fixture f;
	struct err err = ERR_INIT;
	CLEANUP_FREE char *bytes = NULL, *text = NULL, *zeros = xcalloc(1, DISK_BYTES);
	size_t len, out_len;

	setup(&f);
	CLEANUP_FREE char *base = fs_join(f.dir, "base"), *disk = fs_join(f.dir, "disk");
	const char *const evil[] = { "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b",
		f.secret, f.evil, NULL };
	const char *const show[] = { "qemu-img", "convert", "-f", "qcow2", "-O", "raw", disk, f.out,
		NULL };
	make(evil);
	ck_assert_int_eq(fs_read(f.evil, 64 << 20, &bytes, &len, NULL), 0);
	ck_assert_uint_le(len, DISK_BYTES);
	/* As it comes it is refused, whatever it is called. */
	ck_assert_int_eq(truncate(f.evil, DISK_BYTES), 0);
	expect_refused(&f, "backing file");
	/* A disk that becomes such after it was taken stays the raw disk that it is. */
	write_file(base, zeros, DISK_BYTES);
	ck_assert_msg(
	    disk_create_overlay(base, "raw", DISK_BYTES, disk, 0, NULL, &err) == 0, "%s", err.msg);
	memcpy(zeros, bytes, len);
	write_file(base, zeros, DISK_BYTES);
	make(show); /* in no jail at all */
	ck_assert_int_eq(fs_read(f.out, 64 << 20, &text, &out_len, NULL), 0);
	ck_assert_uint_eq(out_len, DISK_BYTES);
	ck_assert_int_eq(memcmp(text, zeros, DISK_BYTES), 0);
	ck_assert(!leaked(&f));
	finish(&f);
}
END_TEST

/* ---- tables ---- */

static void
put_be(unsigned char *p, size_t width, uint64_t value)
{
	for (size_t i = 0; i < width; i++)
		p[i] = (unsigned char)(value >> 8 * (width - 1 - i));
}

/* 1 GiB with one snapshot: header, reference table, cluster table, its table, the snapshots. */
static void
snapshot_qcow2(unsigned char *image)
{
	memset(image, 0, IMAGE_BYTES);
	memcpy(image, "QFI\xfb", 4);
	put_be(image + 4, 4, 3);
	put_be(image + 20, 4, 16);
	put_be(image + 24, 8, 1 << 30);
	put_be(image + 36, 4, 2);
	put_be(image + 40, 8, 2 * CLUSTER);
	put_be(image + 48, 8, CLUSTER);
	put_be(image + 56, 4, 1);
	put_be(image + 60, 4, 1);
	put_be(image + 64, 8, 4 * CLUSTER);
	put_be(image + 96, 4, 4);
	put_be(image + 100, 4, 104);
	put_be(image + 4 * CLUSTER, 8, 2 * CLUSTER);
	put_be(image + 4 * CLUSTER + 8, 4, 2);
	put_be(image + 4 * CLUSTER + 12, 2, 1);
	put_be(image + 4 * CLUSTER + 14, 2, 4);
}

START_TEST(hostile__odd_tables__refused_by_reason)
{
	enum { SNAPSHOT = 4 * CLUSTER };
	static const struct {
		size_t at, width;
		uint64_t value;
		const char *word;
	} cases[] = {
		{ 24, 8, 1ULL << 63, "size" }, /* 8 EiB */
		{ 36, 4, UINT32_MAX / 8, "cluster table" },
		{ 96, 4, 63, "reference counts" },
		{ 96, 4, UINT32_MAX, "reference counts" },
		{ 72, 8, 1 << 2, "another file" },
		{ 72, 8, 1ULL << 40, "bit 40" },
		{ 104, 8, 0x4441544100000010ULL, "another file" },
		{ 60, 4, 4000, "snapshot table" },
		{ 60, 4, UINT32_MAX, "snapshot table" },
		{ 64, 8, 0x10, "snapshot table" },
		{ 64, 8, UINT64_MAX - CLUSTER + 1, "snapshot table" },
		{ SNAPSHOT, 8, IMAGE_BYTES, "snapshot 1" },
		{ SNAPSHOT, 8, 2 * CLUSTER + 8, "snapshot 1" },
		{ SNAPSHOT, 8, UINT64_MAX - CLUSTER + 1, "snapshot 1" },
		{ SNAPSHOT + 8, 4, UINT32_MAX, "snapshot 1" },
		{ SNAPSHOT + 8, 4, 1 << 20, "snapshot 1" },
		{ SNAPSHOT + 36, 4, 1025, "snapshot 1" },
		{ SNAPSHOT + 36, 4, UINT32_MAX, "snapshot 1" },
	};
	static unsigned char image[IMAGE_BYTES];
	struct fixture f;

	setup(&f);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		snapshot_qcow2(image);
		put_be(image + cases[i].at, cases[i].width, cases[i].value);
		write_file(f.evil, image, sizeof(image));
		expect_refused(&f, cases[i].word);
	}
	finish(&f);
}
END_TEST

START_TEST(hostile__honest_snapshots__taken)
{
	static unsigned char image[IMAGE_BYTES];
	struct disk_header header = { 0 };
	struct fixture f;
	struct err err = ERR_INIT;

	setup(&f);
	const char *const create[] = { "qemu-img", "create", "-q", "-f", "qcow2", f.evil, "64M",
		NULL };
	const char *const first[] = { "qemu-img", "snapshot", "-c", "first", f.evil, NULL };
	const char *const second[] = { "qemu-img", "snapshot", "-c", "another one", f.evil, NULL };
	make(create);
	make(first);
	make(second);
	for (int i = 0; i < 2; i++) {
		CLEANUP_FD int fd = open(f.evil, O_RDONLY | O_CLOEXEC);

		ck_assert_msg(disk_inspect(fd, "snapshots", &header, &err) == 0, "%s", err.msg);
		ck_assert_str_eq(header.format, "qcow2");
		snapshot_qcow2(image);
		write_file(f.evil, image, sizeof(image));
	}
	finish(&f);
}
END_TEST

START_TEST(hostile__sources_that_are_no_files__refused_at_once)
{
	static const char *const names[] = { "/dev/zero", "/dev/null", "/proc/self", "fifo" };
	struct fixture f;

	setup(&f);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		CLEANUP_FREE char *path = fs_join(f.dir, names[i]);
		struct disk_header header = { 0 };
		struct err err = ERR_INIT;

		if (names[i][0] != '/')
			ck_assert_int_eq(mkfifo(path, 0600), 0);
		CLEANUP_FD int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
		ck_assert_int_ge(fd, 0);
		ck_assert_int_eq(disk_inspect(fd, path, &header, &err), E_IMAGE);
		ck_assert_msg(strstr(err.msg, "not a regular file") != NULL, "%s", err.msg);
	}
	finish(&f);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("hostile_images");

	UNIT_CASE(s, hostile__backing_file__no_secret_of_the_host);
	UNIT_CASE(s, hostile__backing_file_as_json__no_secret_of_the_host);
	UNIT_CASE(s, hostile__data_file__no_secret_of_the_host);
	UNIT_CASE(s, hostile__vmdk_descriptor__no_secret_of_the_host);
	UNIT_CASE(s, hostile__backing_file_on_a_server__nobody_is_called);
	UNIT_CASE(s, hostile__raw_that_looks_like_qcow2__never_guessed_again);
	UNIT_CASE(s, hostile__odd_tables__refused_by_reason);
	UNIT_CASE(s, hostile__honest_snapshots__taken);
	UNIT_CASE(s, hostile__sources_that_are_no_files__refused_at_once);
	return unit_main(s);
}
