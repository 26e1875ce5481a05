/* SPDX-License-Identifier: MPL-2.0
 *
 * Images that do not come from a plain URL, and a vmm-fetch that is another user's process. */
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

START_TEST(fetch__ended_by_its_user__others_get_it_all_the_same)
{
	struct fixture f;
	CLEANUP_FREE char *digest = NULL, *url = NULL;
	struct image_spec spec = { .present = true };

	setup(&f);
	digest = serve(&f, "/d", 8 * MIB, 1, "");
	spec.url = url = url_of(&f, "/d");
	TELL(&f, "[\"then\", \"/d\", {\"hold\": 6291456}]");
	begin(&f, 0, url);
	begin_as(&f, 1, &spec, IMAGE_REVALIDATE, BOB, NULL);
	run_to_part(&f);
	ck_assert_int_eq(kill(find_fetcher(), SIGKILL), 0);
	loop_run(f.loop);
	TELL(&f, "[\"release\", \"/d\"]");
	assert_failed(&f.wants[0], E_FAILED, "ended before");
	assert_got(&f.wants[1], digest, 8 * MIB);
	assert_file(&f, digest, 8 * MIB);
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

static char *
pack(const struct fixture *f, const char *file)
{
	char *packed = fs_join(f->dir, "packed.zst");
	const char *const argv[] = { "zstd", "-q", "-f", "-o", packed, file, NULL };
	struct process_output output = { 0 };

	ck_assert_int_eq(process_run(argv, NULL, 0, 100, 60000, NULL, NULL, &output, NULL), 0);
	process_output_done(&output);
	return packed;
}

START_TEST(fetch__packed_file__is_stored_unpacked_and_known_again)
{
	struct fixture f;
	CLEANUP_FREE char *file = NULL, *packed = NULL, *digest = NULL, *body = NULL;
	const struct image_fetcher none = { .program = "/nonexistent/vmm-fetch", .max_bytes = MIB };
	struct image_spec spec = { 0 };

	setup(&f);
	file = make_image(&f, "mine", 2 * MIB, 5);
	digest = digest_of(file);
	packed = pack(&f, file);
	body = digest_of(packed);
	assert_got(get_file(&f, &spec, packed), digest, 0);
	ck_assert(!f.wants[0].known);
	assert_file(&f, digest, 2 * MIB);
	ck_assert_str_eq(names_find_body(f.images, body)->digest, digest);
	/* Unchanged, it is not unpacked again: nothing could be started that does it. */
	image_store_set_fetcher(f.images, &none);
	assert_got(get_file(&f, &spec, packed), digest, 0);
	ck_assert(f.wants[0].known);
	teardown(&f);
}
END_TEST

START_TEST(fetch__packed_file__is_what_its_digests_say)
{
	struct fixture f;
	CLEANUP_FREE char *file = NULL, *packed = NULL, *digest = NULL, *body = NULL;
	struct image_spec spec = { 0 };
	char wrong[65];

	setup(&f);
	file = make_image(&f, "mine", MIB, 9);
	digest = digest_of(file);
	packed = pack(&f, file);
	body = digest_of(packed);
	memset(wrong, 'a', 64);
	wrong[64] = '\0';
	spec.sha256 = wrong;
	assert_failed(get_file(&f, &spec, packed), E_IMAGE, "sha256");
	ck_assert_ptr_null(image_find(f.images, digest));
	spec.sha256 = body + strlen("sha256:");
	assert_got(get_file(&f, &spec, packed), digest, 0);
	spec.sha256 = digest + strlen("sha256:");
	assert_got(get_file(&f, &spec, packed), digest, 0);
	spec.sha256 = NULL;
	ck_assert_int_eq(truncate(packed, 100), 0);
	assert_failed(get_file(&f, &spec, packed), E_IMAGE, "ends too early");
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

START_TEST(fetch__cancelled_while_a_registry_is_asked_again__ends)
{
	struct fixture f;
	const struct image_fetcher fetcher = { .program = getenv("VMM_FETCH"), .attempts = 5,
		.stall_ms = 20000, .connect_ms = 5000, .max_bytes = 64 * MIB };
	CLEANUP_FREE char *file = NULL, *manifest = NULL, *url = NULL;

	setup(&f);
	image_store_set_fetcher(f.images, &fetcher);
	file = make_image(&f, "one", MIB, 1);
	manifest = push(&f, "a/disk", "v1", file, RAW, false);
	url = oci_of(&f, "a/disk:v1");
	TELL(&f, "[\"always\", \"/v2/a/disk/manifests/v1\", {\"status\": 503}]");
	begin(&f, 0, url);
	f.wants[0].cancel_at_note = true;
	loop_run(f.loop);
	assert_failed(&f.wants[0], E_CANCELLED, "cancelled");
	teardown(&f);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("image_fetch_others");

	signal(SIGPIPE, SIG_IGN);
	UNIT_CASE(suite, fetch__as_its_user__can_not_be_reached_by_them);
	UNIT_CASE(suite, fetch__ended_by_its_user__others_get_it_all_the_same);
	UNIT_CASE(suite, fetch__file__is_what_its_digests_say);
	UNIT_CASE(suite, fetch__packed_file__is_stored_unpacked_and_known_again);
	UNIT_CASE(suite, fetch__packed_file__is_what_its_digests_say);
	UNIT_CASE(suite, fetch__file_at_the_end__is_told);
	UNIT_CASE(suite, fetch__registry__is_asked_for_the_manifest_alone_when_known);
	UNIT_CASE(suite, fetch__same_blob_elsewhere__is_not_fetched_again);
	UNIT_CASE(suite, fetch__disk_in_a_tar__is_taken_out_of_it_when_it_is_called_so);
	UNIT_CASE(suite, fetch__cancelled_while_a_registry_is_asked_again__ends);
	return unit_main(suite);
}
