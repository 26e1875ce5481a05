/* SPDX-License-Identifier: MPL-2.0 */
#include "tests/unit/fetching.h"

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

/* ---- the server ---- */

/* Owned: its answer. */
json_object *
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
void
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

size_t
hit_count(struct fixture *f, const char *path)
{
	uint64_t bytes;
	size_t count;

	hits(f, path, &count, &bytes);
	return count;
}

/* ---- images ---- */

/* A raw image: no two blocks alike, and not compressible to nothing.  Owned path. */
char *
make_image(struct fixture *f, const char *name, size_t bytes, uint32_t seed)
{
	char *path = fs_join(f->dir, name);
	CLEANUP_FREE uint32_t *words = xmalloc(bytes);

	for (size_t i = 0; i < bytes / sizeof(*words); i++)
		words[i] = seed = seed * 1664525 + 1013904223;
	ck_assert_int_eq(fs_write(path, words, bytes, 0600, NULL), 0);
	return path;
}

char *
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

void
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

void
close_all(struct fixture *f)
{
	image_store_close(f->images);
	worker_pool_destroy(f->pool);
	store_close(f->store);
}

void
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

void
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
	if (want->cancel_at_progress || (want->cancel_at_note && progress->note != NULL))
		image_fetch_cancel(want->fetch);
}

struct want *
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

struct want *
begin(struct fixture *f, int i, const char *url)
{
	const struct image_spec spec = { .present = true, .url = (char *)(uintptr_t)url };

	return begin_as(f, i, &spec, IMAGE_REVALIDATE, ALICE, NULL);
}

struct want *
get_spec(struct fixture *f, const struct image_spec *spec, enum image_policy policy)
{
	struct want *want = begin_as(f, 0, spec, policy, ALICE, NULL);

	loop_run(f->loop);
	return want;
}

struct want *
get(struct fixture *f, const char *url)
{
	const struct image_spec spec = { .present = true, .url = (char *)(uintptr_t)url };

	return get_spec(f, &spec, IMAGE_REVALIDATE);
}

char *
url_of(struct fixture *f, const char *path)
{
	return xasprintf("%s%s", f->url, path);
}

/* Serves a new image; owned digest. */
char *
serve(struct fixture *f, const char *path, size_t bytes, uint32_t seed, const char *options)
{
	CLEANUP_FREE char *file = make_image(f, "served", bytes, seed);

	TELL(f, "[\"put\", \"%s\", \"%s\", {%s}]", path, file, options);
	return digest_of(file);
}

/* ---- looking ---- */

void
assert_got(const struct want *want, const char *digest, uint64_t transferred)
{
	ck_assert_int_eq(want->done, 1);
	ck_assert_msg(want->digest != NULL, "%s", want->err.msg);
	ck_assert_str_eq(want->digest, digest);
	ck_assert_uint_eq(want->transferred, transferred);
}

void
assert_failed(const struct want *want, enum err_code code, const char *words)
{
	ck_assert_int_eq(want->done, 1);
	ck_assert_ptr_null(want->digest);
	ck_assert_msg(want->err.code == code, "%s: %s", err_name(want->err.code), want->err.msg);
	ck_assert_msg(strstr(want->err.msg, words) != NULL, "%s", want->err.msg);
}

size_t
files(struct fixture *f, const char *pattern)
{
	CLEANUP_FREE char *path = fs_join(f->images_dir, pattern);
	glob_t found;
	size_t count;

	count = glob(path, 0, NULL, &found) == 0 ? found.gl_pathc : 0;
	globfree(&found);
	return count;
}

void
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
void
run_to_part(struct fixture *f)
{
	f->look = timer_create_on(f->loop, on_look, f);
	timer_arm(f->look, 5);
	loop_run(f->loop);
	timer_destroy(f->look);
}
