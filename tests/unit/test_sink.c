/* SPDX-License-Identifier: MPL-2.0
 *
 * Layers of containers, and file systems that are full. */
#include "lib/image/fetcher/sink.h"

#include <sched.h>
#include <sys/mount.h>

#include "tests/unit/fetch.h"

struct layer {
	char *dir, *tar, *image;
	struct fetch_order order;
	struct sink_result result;
	struct err err;
};

static void
layer_init(struct layer *l)
{
	*l = (struct layer){ .order = { .max_bytes = 100 << 20 } };
	l->dir = xstrdup("/tmp/vmm-sink-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(l->dir));
	l->tar = fs_join(l->dir, "tar");
	l->image = fs_join(l->dir, "image");
	shell("cd %s; mkdir disk other; : >image", l->dir);
}

static void
layer_done(struct layer *l)
{
	ck_assert_int_eq(fs_remove_tree(l->dir, NULL), 0);
	free(l->dir);
	free(l->tar);
	free(l->image);
}

/* `from` into a sink whose files lie in `to`. */
static int
take(struct layer *l, enum sink_kind kind, const char *from, const char *to, size_t piece)
{
	CLEANUP_FREE char *image = fs_join(to, "image"), *spool = fs_join(to, "spool");
	int file = open(image, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int kept = open(spool, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	FILE *in = fopen(from, "r");
	char *data = xmalloc(piece);
	struct sink *sink;
	size_t n;
	int rc = 0;

	ck_assert(file >= 0 && kept >= 0 && in != NULL);
	dup2(file, SINK_FD);
	dup2(kept, SPOOL_FD);
	l->err = (struct err)ERR_INIT;
	sink = sink_create(&l->order, kind, false, &l->err);
	ck_assert_ptr_nonnull(sink);
	while (rc == 0 && (n = fread(data, 1, piece, in)) > 0)
		rc = sink_write(sink, data, n, &l->err);
	if (rc == 0)
		rc = sink_finish(sink, &l->result, &l->err);
	sink_destroy(sink);
	fclose(in);
	free(data);
	close(file);
	close(kept);
	return rc;
}

static int
take_layer(struct layer *l, const char *make)
{
	shell("cd %s; %s", l->dir, make);
	return take(l, SINK_CONTAINER, l->tar, l->dir, 7777);
}

START_TEST(sink__layer_with_a_disk__the_disk)
{
	static const char *const makes[] = {
		"tar cf tar disk/a",
		"tar cf tar ./disk/a",
		"tar cPf tar --transform 's,^,/,' disk/a",
		"tar czf tar other disk/a",
		"tar cJf tar other disk",
		"tar cf tar --zstd disk",
		"tar cjf tar disk",
		"tar cf tar --sparse disk",
		/* What a layer above removes is no disk. */
		": >disk/.wh.b; : >disk/.wh..wh..opq; tar cf tar disk; rm disk/.wh*",
	};
	struct layer l;

	layer_init(&l);
	CLEANUP_FREE char *file = fs_join(l.dir, "disk/a");

	make_bytes(file, 3000001, 1);
	shell("echo >%s/other/x", l.dir);
	for (size_t i = 0; i < ARRAY_LEN(makes); i++) {
		ck_assert_msg(take_layer(&l, makes[i]) == 0, "%s: %s", makes[i], l.err.msg);
		ck_assert_msg(same_files(l.image, file), "%s", makes[i]);
		ck_assert_uint_eq(l.result.image_bytes, 3000001);
		ck_assert_uint_eq(l.result.body_bytes, file_bytes(l.tar));
	}
	layer_done(&l);
}
END_TEST

START_TEST(sink__layer_that_is_no_disk__says_why)
{
	static const struct {
		const char *make;
		enum err_code code;
		const char *text;
	} cases[] = {
		{ "tar cf tar other", E_NOT_FOUND, "no disk" },
		{ "tar cf tar disk", E_NOT_FOUND, "no disk" },
		{ ": >disk/.wh.a; tar cf tar disk", E_NOT_FOUND, "no disk" },
		{ "echo 1 >disk/a; echo 2 >disk/b; tar cf tar disk", E_IMAGE, "several disks" },
		{ "ln -s /etc/passwd disk/a; tar cf tar disk", E_IMAGE, "not a regular file" },
		{ "mkfifo disk/a; tar cf tar disk", E_IMAGE, "not a regular file" },
		{ "echo 1 >x; ln x y; tar cf tar --transform 's,y,disk/y,' x y", E_IMAGE, "not a regular file" },
		{ "echo 1 >x; tar cPf tar --transform 's,x,disk/../x,' x", E_IMAGE, "no name for a disk" },
		{ ": >disk/a; tar cf tar disk", E_IMAGE, "empty" },
		{ "truncate -s 200M disk/a; tar cf tar --sparse disk", E_LIMIT, "too large" },
		{ "truncate -s 200M disk/a; tar cf tar --zstd disk", E_LIMIT, "too large" },
		{ "truncate -s 90M x y; echo >disk/a; tar cf tar --zstd x y disk", E_IMAGE, "much besides" },
		{ "cd other; seq 5000 | xargs touch; cd ..; tar cf tar other disk", E_IMAGE, "more than 4096 entries" },
		{ "head -c 100000 /dev/urandom >disk/a; tar cf t disk/a; head -c 90000 t >tar", E_IMAGE, "cut off" },
		{ "head -c 100000 /dev/urandom >disk/a; tar czf t disk/a; head -c 90000 t >tar", E_IMAGE, "ends too early" },
		{ "head -c 100000 /dev/urandom >tar", E_IMAGE, "broken" },
		{ ": >tar", E_IMAGE, "empty" },
		/* Packed twice: only one layer is taken off. */
		{ "echo 1 >disk/a; tar c disk | gzip | gzip >tar", E_IMAGE, "broken" },
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct layer l;
		int rc;

		layer_init(&l);
		rc = take_layer(&l, cases[i].make);
		ck_assert_msg(rc == (int)cases[i].code && strstr(l.err.msg, cases[i].text) != NULL,
		    "%s: %d %s", cases[i].make, rc, l.err.msg);
		layer_done(&l);
	}
}
END_TEST

START_TEST(sink__pieces_of_any_size__the_same_image)
{
	static const size_t pieces[] = { 1, 5, 4095, 4097, 524288, 600000 };
	struct layer l;

	layer_init(&l);
	CLEANUP_FREE char *file = fs_join(l.dir, "file");

	for (size_t i = 0; i < ARRAY_LEN(pieces); i++) {
		make_bytes(file, pieces[i] < 10 ? 70000 : 2000001, (unsigned)i);
		CLEANUP_FREE char *hash = file_hash(file, "sha256");

		ck_assert_int_eq(take(&l, SINK_IMAGE, file, l.dir, pieces[i]), 0);
		ck_assert(same_files(l.image, file));
		ck_assert_str_eq(l.result.sha256, hash);
		ck_assert_str_eq(l.result.body_sha256, hash);
	}
	/* Nothing but holes, also at the end. */
	shell("cd %s; truncate -s 5000001 file", l.dir);
	ck_assert_int_eq(take(&l, SINK_IMAGE, file, l.dir, 100000), 0);
	ck_assert(same_files(l.image, file));
	layer_done(&l);
}
END_TEST

/* A file system of its own, in a mount namespace of its own. */
static int
fill_up(struct layer *l, const char *from)
{
	CLEANUP_FREE char *full = fs_join(l->dir, "other");
	int rc;

	if (unshare(CLONE_NEWNS | (geteuid() == 0 ? 0 : CLONE_NEWUSER)) < 0 ||
	    (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 && geteuid() == 0) ||
	    mount("none", full, "tmpfs", 0, "size=1m") < 0)
		return -1;
	rc = take(l, SINK_IMAGE, from, full, 100000);
	return rc == E_NO_SPACE ? 0 : 1 + rc;
}

START_TEST(sink__full_file_system__told)
{
	struct layer l;

	layer_init(&l);
	CLEANUP_FREE char *file = fs_join(l.dir, "file"), *packed = fs_join(l.dir, "packed");

	shell("cd %s; head -c 3000000 /dev/urandom >file; (yes | head -c 9000000 | tr y a;"
	      "cat file) | zstd -qc >packed", l.dir);
	for (size_t i = 0; i < 2; i++) {
		pid_t pid = fork();
		int status;

		if (pid == 0)
			_exit(fill_up(&l, i == 0 ? file : packed) & 0xff);
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert_msg(status == 0, "wait status %x", (unsigned)status);
	}
	layer_done(&l);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("sink");
	int null = open("/dev/null", O_RDWR);

	/* The numbers are the sink's. */
	dup2(null, SINK_FD);
	dup2(null, SPOOL_FD);
	UNIT_CASE(suite, sink__layer_with_a_disk__the_disk);
	UNIT_CASE(suite, sink__layer_that_is_no_disk__says_why);
	UNIT_CASE(suite, sink__pieces_of_any_size__the_same_image);
	UNIT_CASE(suite, sink__full_file_system__told);
	return unit_main(suite);
}
