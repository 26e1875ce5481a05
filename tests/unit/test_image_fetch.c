/* SPDX-License-Identifier: MPL-2.0
 *
 * Images over HTTP into the store, with the real vmm-fetch and a real server that can do wrong. */
#include "lib/image/fetch.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <json-c/json.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/digest.h"
#include "lib/base/fs.h"
#include "lib/base/json.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/process.h"
#include "lib/base/str.h"
#include "lib/base/worker.h"
#include "lib/image/images.h"
#include "lib/image/names.h"
#include "lib/store/store.h"
#include "tests/unit/unit.h"

#define MIB (1ULL << 20)
enum { WANTS = 4, ALICE = 1001, BOB = 1002 };

struct want { /* what its callbacks saw */
	struct fixture *f;
	struct image_fetch *fetch;
	int done;
	struct err err;
	char *digest, *source, *note, *notes; /* notes: of progress */
	uint64_t transferred, done_bytes, total_bytes;
	bool known;
	bool cancel_at_progress;
};

struct fixture {
	char dir[64];
	char *images_dir, *db_path;
	struct loop *loop;
	struct worker_pool *pool;
	struct store *store;
	struct image_store *images;
	struct want wants[WANTS];
	int pending;
	struct timer *look;
	/* The server. */
	pid_t pid;
	FILE *to, *from;
	char *url;
};

/* ---- the server ---- */

/* Owned: its answer. */
static json_object *__attribute__((format(printf, 2, 3)))
ask(struct fixture *f, const char *fmt, ...)
{
	char *line = NULL;
	size_t cap = 0;
	json_object *json;
	va_list ap;

	va_start(ap, fmt);
	vfprintf(f->to, fmt, ap);
	va_end(ap);
	fputc('\n', f->to);
	fflush(f->to);
	ck_assert_int_gt(getline(&line, &cap, f->from), 0);
	json = json_tokener_parse(line);
	free(line);
	return json;
}
#define TELL(f, ...) json_object_put(ask(f, __VA_ARGS__))

static void
start_server(struct fixture *f)
{
	const char *const argv[] = { "python3", getenv("WEB_LINES"), NULL };
	int in[2], out[2];
	struct process_spec spec = { .argv = argv, .stderr_fd = STDERR_FILENO };
	char *line = NULL;
	size_t cap = 0;
	json_object *json;

	ck_assert_int_eq(pipe2(in, O_CLOEXEC), 0);
	ck_assert_int_eq(pipe2(out, O_CLOEXEC), 0);
	spec.stdin_fd = in[0];
	spec.stdout_fd = out[1];
	ck_assert_int_eq(process_spawn(&spec, &f->pid, NULL, NULL), 0);
	close(in[0]);
	close(out[1]);
	f->to = fdopen(in[1], "w");
	f->from = fdopen(out[0], "r");
	ck_assert_int_gt(getline(&line, &cap, f->from), 0);
	json = json_tokener_parse(line);
	f->url = xstrdup(json_object_get_string(json));
	json_object_put(json);
	free(line);
}

static void
stop_server(struct fixture *f)
{
	fclose(f->to);
	fclose(f->from);
	ck_assert_int_eq(waitpid(f->pid, NULL, 0), f->pid);
	free(f->url);
}

/* [count of answers, bytes of bodies]. */
static void
hits(struct fixture *f, const char *path, size_t *ret_count, uint64_t *ret_bytes)
{
	json_object *json = ask(f, "[\"hits\", \"%s\"]", path);

	*ret_count = json_object_array_length(json);
	*ret_bytes = 0;
	for (size_t i = 0; i < *ret_count; i++)
		*ret_bytes += json_object_get_uint64(json_object_array_get_idx(
		    json_object_array_get_idx(json, i), 1));
	json_object_put(json);
}

static size_t
hit_count(struct fixture *f, const char *path)
{
	uint64_t bytes;
	size_t count;

	hits(f, path, &count, &bytes);
	return count;
}

/* ---- images ---- */

/* A raw image: no two blocks alike, and not compressible to nothing.  Owned path. */
static char *
make_image(struct fixture *f, const char *name, size_t bytes, uint32_t seed)
{
	char *path = fs_join(f->dir, name);
	FILE *file = fopen(path, "w");

	for (size_t i = 0; i < bytes / 4; i++) {
		seed = seed * 1664525 + 1013904223;
		ck_assert_int_eq(fwrite(&seed, 4, 1, file), 1);
	}
	fclose(file);
	return path;
}

static char *
digest_of(const char *path)
{
	struct digest *digest = digest_create();
	CLEANUP_FREE char *data = NULL, *hex = NULL;
	size_t len;

	ck_assert_int_eq(fs_read(path, 64 * MIB, &data, &len, NULL), 0);
	digest_add(digest, data, len);
	hex = digest_finish(digest);
	return xasprintf("sha256:%s", hex);
}

/* ---- the store ---- */

static void
open_all(struct fixture *f)
{
	const struct image_fetcher fetcher = { .program = getenv("VMM_FETCH"), .attempts = 1,
		.stall_ms = 20000, .connect_ms = 5000, .max_bytes = 64 * MIB };
	struct err err;
	char *notice;

	f->pool = worker_pool_create(f->loop, 2, 16);
	ck_assert_int_eq(store_open(f->db_path, f->loop, &f->store, &notice, &err), 0);
	free(notice);
	ck_assert_msg(image_store_open(f->images_dir, f->store, f->loop, f->pool, &f->images,
		&err) == 0, "%s", err.msg);
	image_store_set_fetcher(f->images, &fetcher);
}

static void
close_all(struct fixture *f)
{
	image_store_close(f->images);
	worker_pool_destroy(f->pool);
	store_close(f->store);
}

static void
setup(struct fixture *f)
{
	memset(f, 0, sizeof(*f));
	snprintf(f->dir, sizeof(f->dir), "/tmp/test-fetch.XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(f->dir));
	f->images_dir = fs_join(f->dir, "images");
	f->db_path = fs_join(f->dir, "vmm.db");
	f->loop = loop_create();
	start_server(f);
	open_all(f);
}

static void
want_done(struct want *want)
{
	free(want->digest);
	free(want->source);
	free(want->note);
	free(want->notes);
	*want = (struct want){ 0 };
}

static void
teardown(struct fixture *f)
{
	close_all(f);
	for (size_t i = 0; i < WANTS; i++)
		want_done(&f->wants[i]);
	stop_server(f);
	loop_destroy(f->loop);
	free(f->images_dir);
	free(f->db_path);
	ck_assert_int_eq(fs_remove_tree(f->dir, NULL), 0);
}

/* ---- wanting ---- */

static void
on_got(void *arg, const struct image_got *got, const struct err *err)
{
	struct want *want = arg;
	struct fixture *f = want->f;

	loop_assert(f->loop);
	ck_assert_int_eq(want->done++, 0);
	want->fetch = NULL;
	if (got == NULL) {
		want->err = *err;
		ck_assert_int_ne(err->code, E_OK);
	} else {
		ck_assert_ptr_null(err);
		want->digest = xstrdup(got->image->digest);
		want->source = xstrdup(got->source);
		want->note = xstrdup(got->note);
		want->transferred = got->transferred_bytes;
		want->known = got->known;
	}
	if (--f->pending == 0)
		loop_stop(f->loop);
}

static void
on_progress(void *arg, const struct image_progress *progress)
{
	struct want *want = arg;

	if (progress->note != NULL) {
		free(want->notes);
		want->notes = xstrdup(progress->note);
	}
	want->done_bytes = progress->done_bytes;
	want->total_bytes = progress->total_bytes;
	if (want->cancel_at_progress)
		image_fetch_cancel(want->fetch);
}

static struct want *
begin_as(struct fixture *f, int i, const struct image_spec *spec, enum image_policy policy,
    uid_t uid, const struct fetch_auth *auth)
{
	struct want *want = &f->wants[i];
	const struct image_want asked = { .spec = spec, .policy = policy, .uid = uid, .auth = auth };

	want_done(want);
	want->f = f;
	f->pending++;
	want->fetch = image_fetch(f->images, &asked, on_progress, on_got, want);
	ck_assert_int_eq(want->done, 0);
	return want;
}

static struct want *
begin(struct fixture *f, int i, const char *url)
{
	const struct image_spec spec = { .present = true, .url = (char *)(uintptr_t)url };

	return begin_as(f, i, &spec, IMAGE_REVALIDATE, ALICE, NULL);
}

static struct want *
get_spec(struct fixture *f, const struct image_spec *spec, enum image_policy policy)
{
	struct want *want = begin_as(f, 0, spec, policy, ALICE, NULL);

	loop_run(f->loop);
	return want;
}

static struct want *
get(struct fixture *f, const char *url)
{
	const struct image_spec spec = { .present = true, .url = (char *)(uintptr_t)url };

	return get_spec(f, &spec, IMAGE_REVALIDATE);
}

static char *
url_of(struct fixture *f, const char *path)
{
	return xasprintf("%s%s", f->url, path);
}

/* Serves a new image; owned digest. */
static char *
serve(struct fixture *f, const char *path, size_t bytes, uint32_t seed, const char *options)
{
	CLEANUP_FREE char *file = make_image(f, "served", bytes, seed);

	TELL(f, "[\"put\", \"%s\", \"%s\", {%s}]", path, file, options);
	return digest_of(file);
}

/* ---- looking ---- */

static void
assert_got(const struct want *want, const char *digest, uint64_t transferred)
{
	ck_assert_int_eq(want->done, 1);
	ck_assert_msg(want->digest != NULL, "%s", want->err.msg);
	ck_assert_str_eq(want->digest, digest);
	ck_assert_uint_eq(want->transferred, transferred);
}

static void
assert_failed(const struct want *want, enum err_code code, const char *words)
{
	ck_assert_int_eq(want->done, 1);
	ck_assert_ptr_null(want->digest);
	ck_assert_msg(want->err.code == code, "%s: %s", err_name(want->err.code), want->err.msg);
	ck_assert_msg(strstr(want->err.msg, words) != NULL, "%s", want->err.msg);
}

static size_t
files(struct fixture *f, const char *pattern)
{
	CLEANUP_FREE char *path = fs_join(f->images_dir, pattern);
	glob_t found;
	size_t count;

	count = glob(path, 0, NULL, &found) == 0 ? found.gl_pathc : 0;
	globfree(&found);
	return count;
}

static void
assert_file(struct fixture *f, const char *digest, uint64_t bytes)
{
	const struct image *image = image_find(f->images, digest);
	CLEANUP_FREE char *is = NULL;
	struct stat st;

	ck_assert_ptr_nonnull(image);
	ck_assert_int_eq(stat(image->path, &st), 0);
	ck_assert_uint_eq((uint64_t)st.st_size, bytes);
	ck_assert_uint_eq(st.st_mode & 07777, 0400);
	is = digest_of(image->path);
	ck_assert_str_eq(is, digest);
	ck_assert_uint_eq(files(f, ".part-*"), 0);
}

static void
on_look(void *arg)
{
	struct fixture *f = arg;
	CLEANUP_FREE char *pattern = fs_join(f->images_dir, ".part-*");
	glob_t found;
	struct stat st = { 0 };

	if (glob(pattern, 0, NULL, &found) == 0)
		stat(found.gl_pathv[0], &st);
	globfree(&found);
	if (st.st_size > (off_t)MIB)
		loop_stop(f->loop);
	else
		timer_arm(f->look, 5);
}

/* Until there is a part of an image. */
static void
run_to_part(struct fixture *f)
{
	f->look = timer_create_on(f->loop, on_look, f);
	timer_arm(f->look, 5);
	loop_run(f->loop);
	timer_destroy(f->look);
}

/* ---- one transfer ---- */

START_TEST(fetch__new_url__is_an_image_of_its_digest)
{
	struct fixture f;
	CLEANUP_FREE char *digest = NULL, *url = NULL;
	const struct image *image;
	struct want *want;

	setup(&f);
	digest = serve(&f, "/pub/disk.img", 3 * MIB, 1, "\"etag\": \"\\\"one\\\"\"");
	url = url_of(&f, "/pub/disk.img");
	want = get(&f, url);
	assert_got(want, digest, 3 * MIB);
	ck_assert(!want->known);
	ck_assert_str_eq(want->source, url);
	assert_file(&f, digest, 3 * MIB);
	image = image_find(f.images, digest);
	ck_assert_str_eq(image->name, "disk.img");
	ck_assert_str_eq(image->source, url);
	ck_assert_str_eq(image->format, "raw");
	teardown(&f);
}
END_TEST

START_TEST(fetch__packed__is_stored_unpacked)
{
	struct fixture f;
	CLEANUP_FREE char *file = NULL, *packed = NULL, *digest = NULL, *url = NULL;
	struct process_output output = { 0 };

	setup(&f);
	file = make_image(&f, "plain", 2 * MIB, 7);
	packed = fs_join(f.dir, "packed");
	digest = digest_of(file);
	{
		const char *const argv[] = { "zstd", "-q", "-o", packed, file, NULL };

		ck_assert_int_eq(process_run(argv, NULL, 0, 100, 60000, NULL, NULL, &output, NULL), 0);
		process_output_done(&output);
	}
	TELL(&f, "[\"put\", \"/disk.img.zst\", \"%s\", {}]", packed);
	url = url_of(&f, "/disk.img.zst");
	ck_assert_ptr_nonnull(get(&f, url)->digest);
	ck_assert_str_eq(f.wants[0].digest, digest);
	ck_assert_uint_gt(f.wants[0].transferred, 0);
	assert_file(&f, digest, 2 * MIB);
	ck_assert_str_eq(image_find(f.images, digest)->name, "disk.img");
	teardown(&f);
}
END_TEST

START_TEST(fetch__unchanged__transfers_nothing)
{
	struct fixture f;
	CLEANUP_FREE char *digest = NULL, *url = NULL;
	uint64_t bytes;
	size_t count;

	setup(&f);
	digest = serve(&f, "/d", MIB, 1, "");
	url = url_of(&f, "/d");
	assert_got(get(&f, url), digest, MIB);
	assert_got(get(&f, url), digest, 0);
	ck_assert(f.wants[0].known);
	hits(&f, "/d", &count, &bytes);
	ck_assert_uint_eq(count, 2);
	ck_assert_uint_eq(bytes, MIB);
	/* Also after a restart. */
	close_all(&f);
	open_all(&f);
	assert_got(get(&f, url), digest, 0);
	hits(&f, "/d", &count, &bytes);
	ck_assert_uint_eq(bytes, MIB);
	teardown(&f);
}
END_TEST

START_TEST(fetch__moved__is_fetched_and_the_old_one_stays)
{
	struct fixture f;
	CLEANUP_FREE char *one = NULL, *two = NULL, *url = NULL;
	struct image_spec spec = { .present = true };

	setup(&f);
	one = serve(&f, "/d", MIB, 1, "");
	spec.url = url = url_of(&f, "/d");
	assert_got(get(&f, url), one, MIB);
	two = serve(&f, "/d", 2 * MIB, 2, "");
	/* Who does not ask does not learn of it. */
	assert_got(get_spec(&f, &spec, IMAGE_MISSING), one, 0);
	ck_assert_str_eq(image_known(f.images, &spec, ALICE)->digest, one);
	assert_got(get(&f, url), two, 2 * MIB);
	ck_assert_str_eq(image_known(f.images, &spec, ALICE)->digest, two);
	ck_assert_ptr_nonnull(image_find(f.images, one));
	teardown(&f);
}
END_TEST

START_TEST(fetch__damaged__is_fetched_anew_though_unchanged)
{
	struct fixture f;
	CLEANUP_FREE char *one = NULL, *url = NULL, *found = NULL;
	const struct image *image;
	CLEANUP_FD int fd = -1;

	setup(&f);
	one = serve(&f, "/d", MIB, 1, "");
	url = url_of(&f, "/d");
	assert_got(get(&f, url), one, MIB);
	image = image_find(f.images, one);
	ck_assert_int_eq(chmod(image->path, 0600), 0);
	fd = open(image->path, O_RDWR);
	ck_assert_int_eq(pwrite(fd, "X", 1, 5000), 1);
	image_set_damaged(f.images, one, true);
	ck_assert_ptr_null(image_find(f.images, one));
	assert_got(get(&f, url), one, MIB);
	image = image_find(f.images, one);
	ck_assert_ptr_nonnull(image);
	found = digest_of(image->path);
	ck_assert_str_eq(found, one);
	teardown(&f);
}
END_TEST

START_TEST(fetch__server_gone__what_is_known_will_do)
{
	struct fixture f;
	CLEANUP_FREE char *digest = NULL, *url = NULL;
	struct image_spec spec = { .present = true };

	setup(&f);
	digest = serve(&f, "/d", MIB, 1, "");
	spec.url = url = url_of(&f, "/d");
	assert_got(get(&f, url), digest, MIB);
	TELL(&f, "[\"always\", \"/d\", {\"status\": 503}]");
	assert_got(get(&f, url), digest, 0);
	ck_assert_ptr_nonnull(f.wants[0].note);
	ck_assert_ptr_nonnull(strstr(f.wants[0].note, "503"));
	assert_failed(get_spec(&f, &spec, IMAGE_REFRESH), E_NETWORK, "503");
	/* That it is gone is an answer. */
	TELL(&f, "[\"always\", \"/d\", {\"status\": 404}]");
	assert_failed(get(&f, url), E_NOT_FOUND, "404");
	teardown(&f);
}
END_TEST

START_TEST(fetch__wrong_digest__leaves_nothing)
{
	struct fixture f;
	CLEANUP_FREE char *digest = NULL, *url = NULL, *other = NULL;
	struct image_spec spec = { .present = true };

	setup(&f);
	digest = serve(&f, "/d", MIB, 1, "");
	spec.url = url = url_of(&f, "/d");
	spec.sha256 = other = xstrdup(digest + 7);
	other[0] = other[0] == 'a' ? 'b' : 'a';
	assert_failed(get_spec(&f, &spec, IMAGE_REVALIDATE), E_IMAGE, "that was meant");
	spec.sha256 = NULL;
	spec.digest = xasprintf("sha256:%s", other);
	assert_failed(get_spec(&f, &spec, IMAGE_REVALIDATE), E_IMAGE, "that was meant");
	ck_assert_uint_eq(files(&f, ".part-*"), 0);
	ck_assert_uint_eq(files(&f, "sha256-*"), 0);
	ck_assert_ptr_null(image_known(f.images, &spec, ALICE));
	free(spec.digest);
	teardown(&f);
}
END_TEST

START_TEST(fetch__known_digest__asks_nobody)
{
	struct fixture f;
	CLEANUP_FREE char *digest = NULL, *url = NULL;
	struct image_spec spec = { .present = true };

	setup(&f);
	digest = serve(&f, "/d", MIB, 1, "");
	url = url_of(&f, "/d");
	spec.digest = digest;
	spec.source = url;
	/* What a lock says: fetched from its source. */
	spec.url = (char *)(uintptr_t)"debian:12";
	assert_got(get_spec(&f, &spec, IMAGE_REVALIDATE), digest, MIB);
	ck_assert_uint_eq(hit_count(&f, "/d"), 1);
	assert_got(get_spec(&f, &spec, IMAGE_REFRESH), digest, 0);
	ck_assert(f.wants[0].known);
	spec = (struct image_spec){ .present = true, .url = url, .sha256 = digest + 7 };
	assert_got(get_spec(&f, &spec, IMAGE_REFRESH), digest, 0);
	ck_assert_uint_eq(hit_count(&f, "/d"), 1);
	teardown(&f);
}
END_TEST

START_TEST(fetch__known_but_not_checked__is_fetched_to_be_checked)
{
	struct fixture f;
	CLEANUP_FREE char *digest = NULL, *url = NULL;
	struct image_spec spec = { .present = true };
	char wrong[129];

	setup(&f);
	digest = serve(&f, "/d", MIB, 1, "");
	spec.url = url = url_of(&f, "/d");
	assert_got(get(&f, url), digest, MIB);
	memset(wrong, 'a', 128);
	wrong[128] = '\0';
	spec.sha512 = wrong;
	ck_assert_ptr_null(image_known(f.images, &spec, ALICE));
	assert_failed(get_spec(&f, &spec, IMAGE_MISSING), E_IMAGE, "sha512");
	assert_failed(get_spec(&f, &spec, IMAGE_REVALIDATE), E_IMAGE, "sha512");
	teardown(&f);
}
END_TEST

START_TEST(fetch__list_of_checksums__counts_and_is_remembered)
{
	struct fixture f;
	CLEANUP_FREE char *digest = NULL, *url = NULL, *list = NULL, *text = NULL, *list_url = NULL;
	struct image_spec spec = { .present = true };

	setup(&f);
	digest = serve(&f, "/d.img", MIB, 1, "");
	text = xasprintf("%s  d.img\n", digest + 7);
	list = fs_join(f.dir, "list");
	ck_assert_int_eq(fs_write(list, text, strlen(text), 0600, NULL), 0);
	TELL(&f, "[\"put\", \"/SHA256SUMS\", \"%s\", {}]", list);
	spec.url = url = url_of(&f, "/d.img");
	spec.checksums = list_url = url_of(&f, "/SHA256SUMS");
	assert_got(get_spec(&f, &spec, IMAGE_REVALIDATE), digest, MIB);
	assert_got(get_spec(&f, &spec, IMAGE_REVALIDATE), digest, 0);
	ck_assert_uint_eq(hit_count(&f, "/d.img"), 2);
	teardown(&f);
}
END_TEST

START_TEST(fetch__another_query__is_another_image)
{
	struct fixture f;
	CLEANUP_FREE char *digest = NULL, *one = NULL, *two = NULL;
	struct image_spec spec = { .present = true };

	setup(&f);
	digest = serve(&f, "/d", MIB, 1, "");
	one = url_of(&f, "/d?id=1&token=secret");
	two = url_of(&f, "/d?id=2");
	assert_got(get(&f, one), digest, MIB);
	spec.url = one;
	ck_assert_ptr_nonnull(image_known(f.images, &spec, ALICE));
	ck_assert_ptr_null(strstr(image_find(f.images, digest)->source, "secret"));
	spec.url = two;
	ck_assert_ptr_null(image_known(f.images, &spec, ALICE));
	teardown(&f);
}
END_TEST

START_TEST(fetch__wrong_format__is_refused)
{
	struct fixture f;
	CLEANUP_FREE char *digest = NULL, *url = NULL;
	struct image_spec spec = { .present = true, .format = (char *)(uintptr_t)"qcow2" };

	setup(&f);
	digest = serve(&f, "/d", MIB, 1, "");
	spec.url = url = url_of(&f, "/d");
	assert_failed(get_spec(&f, &spec, IMAGE_REVALIDATE), E_IMAGE, "is a raw image, and not qcow2");
	ck_assert_uint_eq(files(&f, "sha256-*"), 0);
	ck_assert_uint_eq(files(&f, ".part-*"), 0);
	teardown(&f);
}
END_TEST

/* ---- broken off ---- */

START_TEST(fetch__cut__goes_on_where_it_was)
{
	struct fixture f;
	CLEANUP_FREE char *digest = NULL, *url = NULL;
	uint64_t bytes;
	size_t count;

	setup(&f);
	digest = serve(&f, "/d", 8 * MIB, 1, "");
	url = url_of(&f, "/d");
	TELL(&f, "[\"then\", \"/d\", {\"cut\": 6291456}]");
	assert_failed(get(&f, url), E_NETWORK, "");
	ck_assert_uint_eq(files(&f, ".part-*"), 3);
	ck_assert_uint_eq(files(&f, "sha256-*"), 0);
	ck_assert_ptr_nonnull(get(&f, url)->digest);
	ck_assert_str_eq(f.wants[0].digest, digest);
	ck_assert_uint_lt(f.wants[0].transferred, 4 * MIB);
	hits(&f, "/d", &count, &bytes);
	ck_assert_uint_eq(count, 2);
	ck_assert_uint_lt(bytes, 10 * MIB);
	assert_file(&f, digest, 8 * MIB);
	teardown(&f);
}
END_TEST

START_TEST(fetch__cut_and_replaced__begins_anew)
{
	struct fixture f;
	CLEANUP_FREE char *one = NULL, *two = NULL, *url = NULL;

	setup(&f);
	one = serve(&f, "/d", 8 * MIB, 1, "");
	url = url_of(&f, "/d");
	TELL(&f, "[\"then\", \"/d\", {\"cut\": 6291456}]");
	assert_failed(get(&f, url), E_NETWORK, "");
	two = serve(&f, "/d", 8 * MIB, 2, "");
	assert_got(get(&f, url), two, 8 * MIB);
	assert_file(&f, two, 8 * MIB);
	teardown(&f);
}
END_TEST

START_TEST(fetch__closed_midway__goes_on_after_the_restart)
{
	struct fixture f;
	CLEANUP_FREE char *digest = NULL, *url = NULL;

	setup(&f);
	digest = serve(&f, "/d", 8 * MIB, 1, "");
	url = url_of(&f, "/d");
	TELL(&f, "[\"then\", \"/d\", {\"hold\": 6291456}]");
	begin(&f, 0, url);
	run_to_part(&f);
	f.pending = 100;
	close_all(&f);
	f.pending = 0;
	assert_failed(&f.wants[0], E_SHUTDOWN, "going down");
	ck_assert_uint_eq(files(&f, ".part-*"), 3);
	open_all(&f);
	TELL(&f, "[\"release\", \"/d\"]");
	ck_assert_ptr_nonnull(get(&f, url)->digest);
	ck_assert_str_eq(f.wants[0].digest, digest);
	ck_assert_uint_lt(f.wants[0].transferred, 8 * MIB);
	assert_file(&f, digest, 8 * MIB);
	teardown(&f);
}
END_TEST

START_TEST(fetch__parts_of_nobody__go_at_the_next_open)
{
	struct fixture f;
	CLEANUP_FREE char *lone = NULL, *body = NULL, *old = NULL, *note = NULL;
	const char text[] = "{\"validator\":\"\\\"a\\\"\",\"bytes\":3,\"uid\":0,\"created_ms\":1}";

	setup(&f);
	close_all(&f);
	lone = fs_join(f.images_dir, ".part-00112233445566778899aabbccddeeff");
	body = fs_join(f.images_dir, ".part-10112233445566778899aabbccddeeff.spool");
	old = fs_join(f.images_dir, ".part-20112233445566778899aabbccddeeff");
	note = fs_join(f.images_dir, ".part-20112233445566778899aabbccddeeff.json");
	ck_assert_int_eq(fs_write(lone, "abc", 3, 0600, NULL), 0);
	ck_assert_int_eq(fs_write(body, "abc", 3, 0600, NULL), 0);
	ck_assert_int_eq(fs_write(old, "abc", 3, 0600, NULL), 0);
	ck_assert_int_eq(fs_write(note, text, strlen(text), 0600, NULL), 0);
	open_all(&f);
	close_all(&f);
	open_all(&f); /* nor at the one after it */
	ck_assert_uint_eq(files(&f, ".part-*"), 0);
	teardown(&f);
}
END_TEST

/* ---- together ---- */

START_TEST(fetch__two_who_want_it__share_one_transfer)
{
	struct fixture f;
	CLEANUP_FREE char *digest = NULL, *url = NULL;
	struct image_spec spec = { .present = true };

	setup(&f);
	digest = serve(&f, "/d", MIB, 1, "");
	spec.url = url = url_of(&f, "/d");
	begin(&f, 0, url);
	begin(&f, 1, url);
	begin_as(&f, 2, &spec, IMAGE_REVALIDATE, BOB, NULL);
	loop_run(f.loop);
	for (int i = 0; i < 3; i++)
		assert_got(&f.wants[i], digest, MIB);
	ck_assert_uint_eq(hit_count(&f, "/d"), 1);
	ck_assert_str_eq(image_known(f.images, &spec, BOB)->digest, digest);
	teardown(&f);
}
END_TEST

START_TEST(fetch__one_cancels__the_other_gets_it)
{
	struct fixture f;
	CLEANUP_FREE char *digest = NULL, *url = NULL;

	setup(&f);
	digest = serve(&f, "/d", 4 * MIB, 1, "");
	url = url_of(&f, "/d");
	begin(&f, 0, url);
	begin(&f, 1, url);
	f.wants[0].cancel_at_progress = true;
	loop_run(f.loop);
	assert_failed(&f.wants[0], E_CANCELLED, "cancelled");
	assert_got(&f.wants[1], digest, 4 * MIB);
	teardown(&f);
}
END_TEST

START_TEST(fetch__last_cancels__nothing_stays)
{
	struct fixture f;
	CLEANUP_FREE char *digest = NULL, *url = NULL;

	setup(&f);
	digest = serve(&f, "/d", 8 * MIB, 1, "");
	url = url_of(&f, "/d");
	TELL(&f, "[\"then\", \"/d\", {\"hold\": 6291456}]");
	begin(&f, 0, url);
	begin(&f, 1, url);
	f.wants[0].cancel_at_progress = f.wants[1].cancel_at_progress = true;
	loop_run(f.loop);
	assert_failed(&f.wants[0], E_CANCELLED, "cancelled");
	assert_failed(&f.wants[1], E_CANCELLED, "cancelled");
	ck_assert_uint_eq(files(&f, ".part-*"), 0);
	ck_assert_uint_eq(files(&f, "sha256-*"), 0);
	/* And at once again. */
	TELL(&f, "[\"release\", \"/d\"]");
	assert_got(get(&f, url), digest, 8 * MIB);
	teardown(&f);
}
END_TEST

START_TEST(fetch__with_credentials__is_not_for_others)
{
	struct fixture f;
	CLEANUP_FREE char *digest = NULL, *url = NULL, *host = NULL;
	struct host_auth entry = { .present = true, .username = (char *)(uintptr_t)"alice",
		.password = (char *)(uintptr_t)"secret" };
	struct fetch_auth auth = { .present = true, .hosts = { &entry, 1 } };
	struct image_spec spec = { .present = true };
	CLEANUP_FREE char *begin_of_digest = NULL;
	const struct image *image;

	setup(&f);
	digest = serve(&f, "/d", MIB, 1, "");
	spec.url = url = url_of(&f, "/d");
	begin_of_digest = xstrdup(digest);
	entry.host = host = xstrdup(f.url + strlen("http://"));
	TELL(&f, "[\"login\", \"/d\", \"alice\", \"secret\"]");
	begin_as(&f, 0, &spec, IMAGE_REVALIDATE, ALICE, &auth);
	begin_as(&f, 1, &spec, IMAGE_REVALIDATE, BOB, NULL);
	loop_run(f.loop);
	assert_got(&f.wants[0], digest, MIB);
	assert_failed(&f.wants[1], E_PERMISSION, "401");
	ck_assert_ptr_nonnull(image_known(f.images, &spec, ALICE));
	ck_assert_ptr_null(image_known(f.images, &spec, BOB));
	begin_of_digest[20] = '\0';
	ck_assert_int_eq(image_get_for(f.images, ALICE, begin_of_digest, &image, NULL), 0);
	ck_assert_int_eq(image_get_for(f.images, BOB, begin_of_digest, &image, NULL), E_NOT_FOUND);
	ck_assert_int_eq(image_get_for(f.images, BOB, "d", &image, NULL), E_NOT_FOUND);
	teardown(&f);
}
END_TEST

/* ---- as another user ---- */

/* The vmm-fetch of this process; 0: none. */
static pid_t
find_fetcher(void)
{
	glob_t found;
	pid_t pid = 0;

	ck_assert_int_eq(glob("/proc/[0-9]*/stat", 0, NULL, &found), 0);
	for (size_t i = 0; i < found.gl_pathc && pid == 0; i++) {
		CLEANUP_FREE char *text = NULL;
		char *end;
		int parent = 0;

		if (fs_read(found.gl_pathv[i], 4096, &text, NULL, NULL) != 0 ||
		    strstr(text, "(vmm-fetch) ") == NULL)
			continue;
		end = strrchr(text, ')');
		if (sscanf(end, ") %*c %d", &parent) == 1 && parent == getpid())
			pid = (pid_t)strtol(text, NULL, 10);
	}
	globfree(&found);
	return pid;
}

enum { REACHED_FILE = 1, REACHED_MEMORY = 2, REACHED_TRACE = 4, REACHED_FD = 8, NOT_OURS = 16 };

/* What a user can do to a process; a bit for each. */
static int
reach_as(uid_t uid, pid_t pid)
{
	pid_t child = fork();
	int status;

	ck_assert_int_ge(child, 0);
	if (child == 0) {
		CLEANUP_FREE char *file = xasprintf("/proc/%d/fd/3", (int)pid);
		CLEANUP_FREE char *memory = xasprintf("/proc/%d/mem", (int)pid);
		int reached = 0, pidfd;

		if (setresgid(uid, uid, uid) < 0 || setresuid(uid, uid, uid) < 0)
			_exit(64);
		pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
		reached |= kill(pid, 0) == 0 ? 0 : NOT_OURS;
		reached |= open(file, O_RDWR) >= 0 ? REACHED_FILE : 0;
		reached |= open(memory, O_RDWR) >= 0 ? REACHED_MEMORY : 0;
		reached |= ptrace(PTRACE_ATTACH, pid, NULL, NULL) == 0 ? REACHED_TRACE : 0;
		reached |= syscall(SYS_pidfd_getfd, pidfd, 3, 0) >= 0 ? REACHED_FD : 0;
		_exit(reached);
	}
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert(WIFEXITED(status));
	return WEXITSTATUS(status);
}

START_TEST(fetch__as_its_user__can_not_be_reached_by_them)
{
	struct fixture f;
	CLEANUP_FREE char *digest = NULL, *url = NULL;
	const struct image_fetcher fetcher = { .program = getenv("VMM_FETCH"), .attempts = 1,
		.stall_ms = 20000, .connect_ms = 5000, .max_bytes = 64 * MIB, .drop = true, .shared = true };
	struct stat st;

	if (geteuid() != 0)
		return; /* nobody can become another */
	setup(&f);
	image_store_set_fetcher(f.images, &fetcher);
	digest = serve(&f, "/d", 8 * MIB, 1, "");
	url = url_of(&f, "/d");
	TELL(&f, "[\"then\", \"/d\", {\"hold\": 6291456}]");
	begin(&f, 0, url);
	run_to_part(&f);
	ck_assert_int_gt(find_fetcher(), 0);
	ck_assert_int_eq(reach_as(ALICE, find_fetcher()), 0);
	ck_assert_int_eq(reach_as(BOB, find_fetcher()), NOT_OURS);
	TELL(&f, "[\"release\", \"/d\"]");
	loop_run(f.loop);
	assert_got(&f.wants[0], digest, 8 * MIB);
	assert_file(&f, digest, 8 * MIB);
	ck_assert_int_eq(stat(image_find(f.images, digest)->path, &st), 0);
	ck_assert_uint_eq(st.st_uid, 0);
	teardown(&f);
}
END_TEST

/* ---- files ---- */

static struct want *
get_file(struct fixture *f, struct image_spec *spec, const char *path)
{
	spec->present = true;
	spec->file = (struct file_ref){ .kind = FILE_FD, .fd = open(path, O_RDONLY | O_CLOEXEC),
		.name = (char *)(uintptr_t)"mine.img" };
	ck_assert_int_ge(spec->file.fd, 0);
	return get_spec(f, spec, IMAGE_REVALIDATE);
}

START_TEST(fetch__file__is_what_its_digests_say)
{
	struct fixture f;
	CLEANUP_FREE char *path = NULL, *digest = NULL, *data = NULL, *hex = NULL;
	struct image_spec spec = { 0 };
	struct digest *sha512 = digest_create_sha512();
	size_t len;

	setup(&f);
	path = make_image(&f, "mine", MIB, 3);
	digest = digest_of(path);
	ck_assert_int_eq(fs_read(path, MIB, &data, &len, NULL), 0);
	digest_add(sha512, data, len);
	hex = digest_finish(sha512);
	spec.sha512 = hex;
	spec.sha256 = digest + strlen("sha256:");
	assert_got(get_file(&f, &spec, path), digest, 0);
	ck_assert(!f.wants[0].known);
	assert_got(get_file(&f, &spec, path), digest, 0);
	hex[0] = hex[0] == 'a' ? 'b' : 'a';
	assert_failed(get_file(&f, &spec, path), E_IMAGE, "sha512");
	spec.sha512 = NULL;
	spec.sha256 = hex;
	hex[64] = '\0';
	assert_failed(get_file(&f, &spec, path), E_IMAGE, "sha256");
	teardown(&f);
}
END_TEST

START_TEST(fetch__file_at_the_end__is_told)
{
	struct fixture f;
	CLEANUP_FREE char *path = NULL;
	struct image_spec spec = { .present = true };

	setup(&f);
	path = make_image(&f, "mine", 4 * MIB, 3);
	spec.file = (struct file_ref){ .kind = FILE_FD, .fd = open(path, O_RDONLY | O_CLOEXEC) };
	begin_as(&f, 0, &spec, IMAGE_REVALIDATE, ALICE, NULL);
	f.pending = 100;
	close_all(&f);
	assert_failed(&f.wants[0], E_SHUTDOWN, "going down");
	open_all(&f);
	teardown(&f);
}
END_TEST

/* ---- registries ---- */

#define MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define RAW "application/octet-stream"
#define TAR "application/vnd.oci.image.layer.v1.tar"

static void
put_file(struct fixture *f, const char *target, const char *text, size_t len, const char *type)
{
	CLEANUP_FREE char *path = fs_join(f->dir, "put");

	ck_assert_int_eq(fs_write(path, text, len, 0600, NULL), 0);
	TELL(f, "[\"put\", \"%s\", \"%s\", {\"content_type\": \"%s\"}]", target, path, type);
}

/* A tag of a repository whose one layer is this file; owned digest of the manifest. */
static char *
push(struct fixture *f, const char *repository, const char *tag, const char *file, const char *type,
    bool container)
{
	static const char config[] = "{}";
	struct digest *digest = digest_create();
	CLEANUP_FREE char *blob = digest_of(file), *data = NULL, *text = NULL, *target = NULL;
	CLEANUP_FREE char *hex = NULL, *config_hex = NULL, *by_digest = NULL;
	size_t len;

	ck_assert_int_eq(fs_read(file, 64 * MIB, &data, &len, NULL), 0);
	target = xasprintf("/v2/%s/blobs/%s", repository, blob);
	put_file(f, target, data, len, RAW);
	digest_add(digest, config, 2);
	config_hex = digest_finish(digest);
	text = xasprintf("{\"schemaVersion\":2,\"mediaType\":\"" MANIFEST "\",\"config\":{"
			 "\"mediaType\":\"%s\",\"digest\":\"sha256:%s\",\"size\":2},\"layers\":["
			 "{\"mediaType\":\"%s\",\"digest\":\"%s\",\"size\":%zu}]}",
	    container ? "application/vnd.oci.image.config.v1+json" : "application/vnd.oci.empty.v1+json",
	    config_hex, type, blob, len);
	digest = digest_create();
	digest_add(digest, text, strlen(text));
	hex = digest_finish(digest);
	free(target);
	target = xasprintf("/v2/%s/manifests/%s", repository, tag);
	put_file(f, target, text, strlen(text), MANIFEST);
	by_digest = xasprintf("/v2/%s/manifests/sha256:%s", repository, hex);
	put_file(f, by_digest, text, strlen(text), MANIFEST);
	return xasprintf("sha256:%s", hex);
}

static char *
oci_of(struct fixture *f, const char *rest)
{
	return xasprintf("oci://%s/%s", f->url + strlen("http://"), rest);
}

static size_t
blob_hits(struct fixture *f, const char *repository, const char *digest)
{
	CLEANUP_FREE char *path = xasprintf("/v2/%s/blobs/%s", repository, digest);

	return hit_count(f, path);
}

START_TEST(fetch__registry__is_asked_for_the_manifest_alone_when_known)
{
	struct fixture f;
	CLEANUP_FREE char *file = NULL, *moved = NULL, *digest = NULL, *second = NULL, *url = NULL;
	CLEANUP_FREE char *manifest = NULL, *other = NULL, *fixed = NULL, *source = NULL;

	setup(&f);
	file = make_image(&f, "one", MIB, 1);
	digest = digest_of(file);
	manifest = push(&f, "a/disk", "v1", file, RAW, false);
	url = oci_of(&f, "a/disk:v1");
	assert_got(get(&f, url), digest, MIB);
	source = xasprintf("%s@%s", url, manifest);
	source[strlen(url) - strlen(":v1")] = '\0';
	fixed = xasprintf("%s@%s", source, manifest);
	ck_assert_str_eq(f.wants[0].source, fixed);
	assert_file(&f, digest, MIB);
	assert_got(get(&f, url), digest, 0);
	ck_assert(f.wants[0].known);
	ck_assert_str_eq(f.wants[0].source, fixed);
	ck_assert_uint_eq(blob_hits(&f, "a/disk", digest), 1);
	/* The tag moves. */
	moved = make_image(&f, "two", 2 * MIB, 2);
	second = digest_of(moved);
	other = push(&f, "a/disk", "v1", moved, RAW, false);
	assert_got(get(&f, url), second, 2 * MIB);
	/* By digest it does not. */
	assert_got(get(&f, fixed), digest, 0);
	ck_assert_uint_eq(blob_hits(&f, "a/disk", digest), 1);
	teardown(&f);
}
END_TEST

START_TEST(fetch__same_blob_elsewhere__is_not_fetched_again)
{
	struct fixture f;
	CLEANUP_FREE char *file = NULL, *digest = NULL, *one = NULL, *two = NULL, *url = NULL;
	CLEANUP_FREE char *url_two = NULL;
	struct image_spec spec = { .present = true };

	setup(&f);
	file = make_image(&f, "one", MIB, 1);
	digest = digest_of(file);
	one = push(&f, "alice/disk", "v1", file, RAW, false);
	two = push(&f, "bob/copy", "v2", file, RAW, false);
	url = oci_of(&f, "alice/disk:v1");
	spec.url = url_two = oci_of(&f, "bob/copy:v2");
	begin(&f, 0, url);
	begin_as(&f, 1, &spec, IMAGE_REVALIDATE, BOB, NULL);
	loop_run(f.loop);
	ck_assert_str_eq(f.wants[0].digest, digest);
	ck_assert_str_eq(f.wants[1].digest, digest);
	ck_assert_uint_eq(blob_hits(&f, "alice/disk", digest) + blob_hits(&f, "bob/copy", digest), 1);
	spec.sha512 = (char *)(uintptr_t)"ab";
	assert_failed(get_spec(&f, &spec, IMAGE_REVALIDATE), E_PARAMS, "sha512");
	teardown(&f);
}
END_TEST

START_TEST(fetch__disk_in_a_tar__is_taken_out_of_it_when_it_is_called_so)
{
	struct fixture f;
	CLEANUP_FREE char *disk = NULL, *tar = NULL, *digest = NULL;
	CLEANUP_FREE char *evil = NULL, *good = NULL, *evil_url = NULL, *good_url = NULL;
	struct process_output output = { 0 };

	setup(&f);
	disk = make_image(&f, "disk.img", MIB, 1);
	digest = digest_of(disk);
	tar = fs_join(f.dir, "layer.tar");
	{
		const char *const argv[] = { "tar", "-C", f.dir, "-cf", tar,
			"--transform=s,^,disk/,", "disk.img", NULL };

		ck_assert_int_eq(process_run(argv, NULL, 0, 100, 60000, NULL, NULL, &output, NULL), 0);
		process_output_done(&output);
	}
	evil = push(&f, "bob/evil", "v1", tar, RAW, false);
	good = push(&f, "alice/good", "v1", tar, TAR, true);
	evil_url = oci_of(&f, "bob/evil:v1");
	good_url = oci_of(&f, "alice/good:v1");
	assert_failed(get(&f, evil_url), E_IMAGE, "tar");
	ck_assert_uint_eq(files(&f, "sha256-*"), 0);
	get(&f, good_url);
	assert_got(&f.wants[0], digest, f.wants[0].transferred);
	ck_assert(!f.wants[0].known);
	assert_file(&f, digest, MIB);
	teardown(&f);
}
END_TEST

/* ---- held ---- */

START_TEST(fetch__asked_for__can_not_be_removed)
{
	struct fixture f;
	CLEANUP_FREE char *digest = NULL, *url = NULL;
	struct err err;

	setup(&f);
	digest = serve(&f, "/d", MIB, 1, "");
	url = url_of(&f, "/d");
	assert_got(get(&f, url), digest, MIB);
	begin(&f, 0, url);
	ck_assert_int_eq(image_remove(f.images, digest, &err), E_BUSY);
	loop_run(f.loop);
	assert_got(&f.wants[0], digest, 0);
	ck_assert_int_eq(image_remove(f.images, digest, &err), 0);
	/* What pointed at it is gone, too: it is fetched again. */
	assert_got(get(&f, url), digest, MIB);
	teardown(&f);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("image_fetch");

	signal(SIGPIPE, SIG_IGN);
	UNIT_CASE(suite, fetch__new_url__is_an_image_of_its_digest);
	UNIT_CASE(suite, fetch__packed__is_stored_unpacked);
	UNIT_CASE(suite, fetch__unchanged__transfers_nothing);
	UNIT_CASE(suite, fetch__moved__is_fetched_and_the_old_one_stays);
	UNIT_CASE(suite, fetch__damaged__is_fetched_anew_though_unchanged);
	UNIT_CASE(suite, fetch__server_gone__what_is_known_will_do);
	UNIT_CASE(suite, fetch__wrong_digest__leaves_nothing);
	UNIT_CASE(suite, fetch__known_digest__asks_nobody);
	UNIT_CASE(suite, fetch__known_but_not_checked__is_fetched_to_be_checked);
	UNIT_CASE(suite, fetch__list_of_checksums__counts_and_is_remembered);
	UNIT_CASE(suite, fetch__another_query__is_another_image);
	UNIT_CASE(suite, fetch__wrong_format__is_refused);
	UNIT_CASE(suite, fetch__cut__goes_on_where_it_was);
	UNIT_CASE(suite, fetch__cut_and_replaced__begins_anew);
	UNIT_CASE(suite, fetch__closed_midway__goes_on_after_the_restart);
	UNIT_CASE(suite, fetch__parts_of_nobody__go_at_the_next_open);
	UNIT_CASE(suite, fetch__two_who_want_it__share_one_transfer);
	UNIT_CASE(suite, fetch__one_cancels__the_other_gets_it);
	UNIT_CASE(suite, fetch__last_cancels__nothing_stays);
	UNIT_CASE(suite, fetch__with_credentials__is_not_for_others);
	UNIT_CASE(suite, fetch__as_its_user__can_not_be_reached_by_them);
	UNIT_CASE(suite, fetch__file__is_what_its_digests_say);
	UNIT_CASE(suite, fetch__file_at_the_end__is_told);
	UNIT_CASE(suite, fetch__registry__is_asked_for_the_manifest_alone_when_known);
	UNIT_CASE(suite, fetch__same_blob_elsewhere__is_not_fetched_again);
	UNIT_CASE(suite, fetch__disk_in_a_tar__is_taken_out_of_it_when_it_is_called_so);
	UNIT_CASE(suite, fetch__asked_for__can_not_be_removed);
	return unit_main(suite);
}
