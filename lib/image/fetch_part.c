/* SPDX-License-Identifier: MPL-2.0
 *
 * What an unfinished transfer leaves: the image so far, the bytes as they came when they are
 * packed, and notes that say how much of it is good: within one boot of the host, as much as
 * there is, since it grows in order and its writer is gone; after a crash of the host, what was
 * synced before it was noted.  If the notes are lost, so is the part, and nothing else. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/digest.h"
#include "lib/base/fs.h"
#include "lib/base/json.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/base/platform.h"
#include "lib/base/process.h"
#include "lib/base/str.h"
#include "lib/image/fetches.h"

#define WEEK_MS (7LL * 24 * 3600 * 1000)
#define SPOOL_END ".spool"
#define NOTES_END ".json"
enum { KEY_HEX = 32, NOTES_MAX = 64 << 10, QUIET_TRIES = 100, QUIET_NS = 5 * 1000 * 1000 };

static char *
path_with(const struct part *part, const char *end)
{
	return xasprintf("%s%s", part->path, end);
}

/* ---- notes ---- */

void
part_note(const struct part *part)
{
	CLEANUP_JSON json_object *notes = json_object_new_object();
	CLEANUP_FREE char *path = path_with(part, NOTES_END), *tmp = path_with(part, NOTES_END ".new");
	CLEANUP_FD int fd = -1;
	const char *text;

	json_add_string(notes, "validator", part->validator);
	json_add_int(notes, "bytes", (int64_t)part->bytes);
	json_add_bool(notes, "packed", part->packed);
	json_add_int(notes, "uid", part->uid);
	json_add_int(notes, "created_ms", part->created_ms);
	json_add_string(notes, "boot_id", process_boot_id());
	text = json_object_to_json_string_ext(notes, JSON_TEXT_FLAGS);
	/* Not synced: old notes, or none, are right as well. */
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || fs_write_all(fd, text, strlen(text)) < 0 || rename(tmp, path) < 0)
		log_debug("images: '%s' is not kept: %s", path, strerror(errno));
}

static bool
read_notes(struct part *part)
{
	CLEANUP_FREE char *path = path_with(part, NOTES_END), *text = NULL;
	CLEANUP_JSON json_object *notes = NULL;
	struct stat st;
	size_t len;

	if (fs_read(path, NOTES_MAX, &text, &len, NULL) != 0)
		return false;
	notes = json_tokener_parse(text);
	if (!json_object_is_type(notes, json_type_object) || json_int(notes, "bytes") < 0)
		return false;
	part->validator = xstrdup(json_string(notes, "validator"));
	part->bytes = (uint64_t)json_int(notes, "bytes");
	part->packed = json_flag(notes, "packed");
	part->uid = (uid_t)json_int(notes, "uid");
	part->created_ms = json_int(notes, "created_ms");
	if (part->sink_fd < 0)
		return true;
	if (fstat(part->packed ? part->spool_fd : part->sink_fd, &st) < 0 ||
	    (uint64_t)st.st_size < part->bytes)
		return false;
	if (str_eq(json_string(notes, "boot_id"), process_boot_id()))
		part->bytes = (uint64_t)st.st_size;
	return true;
}

/* ---- files ---- */

void
part_close_files(struct part *part)
{
	if (part->sink_fd >= 0)
		close(TAKE_FD(part->sink_fd));
	if (part->spool_fd >= 0)
		close(TAKE_FD(part->spool_fd));
}

int
part_check_quiet(int fd, bool patient, struct err *err)
{
	const struct timespec pause = { .tv_nsec = QUIET_NS };

	/* Another thread may be between fork and exec, where it has all that we had. */
	for (int i = 0; i < (patient ? QUIET_TRIES : 1); i++) {
		if (!platform_has_writers(fd))
			return 0;
		if (patient)
			nanosleep(&pause, NULL);
	}
	return err_set(err, E_BUSY, "something still writes to the fetched image");
}

/* What is there, unless the writer of an earlier vmmd is not quite gone. */
static int
open_old(const char *path)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	if (fd < 0 || part_check_quiet(fd, false, NULL) != 0)
		return -1;
	return open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
}

static int
open_new(const char *path)
{
	unlink(path);
	return open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
}

int
part_open(struct image_store *images, const char *key, uid_t uid, struct part *ret_part,
    struct err *err)
{
	struct digest *digest = digest_create();
	CLEANUP_FREE char *hex = NULL, *spool = NULL;
	struct part part = { .sink_fd = -1, .spool_fd = -1, .uid = uid };

	digest_text(digest, key);
	hex = digest_finish(digest);
	part.path = xasprintf("%s/" PART_PREFIX "%.*s", images->dir, KEY_HEX, hex);
	spool = path_with(&part, SPOOL_END);
	part.sink_fd = open_old(part.path);
	part.spool_fd = part.sink_fd >= 0 ? open_old(spool) : -1;
	if (part.spool_fd < 0 || !read_notes(&part) || part.uid != uid) {
		part_close_files(&part);
		free(TAKE(part.validator));
		part.bytes = 0;
		part.packed = false;
		part.uid = uid;
		part.created_ms = clock_wall_ms();
		part.sink_fd = open_new(part.path);
		part.spool_fd = part.sink_fd >= 0 ? open_new(spool) : -1;
	}
	if (part.spool_fd < 0) {
		err_errno(err, E_IO, errno, "can not write into '%s'", images->dir);
		part_remove(&part);
		part_close(&part);
		return (int)(err != NULL ? err->code : E_IO);
	}
	part_note(&part);
	*ret_part = part;
	return 0;
}

void
part_forget(const struct part *part)
{
	CLEANUP_FREE char *notes = path_with(part, NOTES_END);

	unlink(notes);
}

void
part_keep(struct part *part, bool immutable)
{
	struct stat st;

	if ((part->validator != NULL || immutable) &&
	    fstat(part->packed ? part->spool_fd : part->sink_fd, &st) == 0 && st.st_size > 0)
		part_note(part);
	else
		part_remove(part);
}

void
part_remove(struct part *part)
{
	CLEANUP_FREE char *spool = path_with(part, SPOOL_END), *notes = path_with(part, NOTES_END);
	CLEANUP_FREE char *tmp = path_with(part, NOTES_END ".new");

	unlink(part->path);
	unlink(spool);
	unlink(notes);
	unlink(tmp);
}

void
part_close(struct part *part)
{
	part_close_files(part);
	free(part->path);
	free(part->validator);
	memset(part, 0, sizeof(*part));
	part->sink_fd = part->spool_fd = -1;
}

/* ---- all of them ---- */

typedef void each_part_fn(void *arg, struct part *part, bool whole);

/* Every file of a part counts, so that none is left of one that has lost the others. */
static void
each_part(struct image_store *images, each_part_fn *fn, void *arg)
{
	DIR *dir = opendir(images->dir);
	struct dirent *found;

	while (dir != NULL && (found = readdir(dir)) != NULL) {
		struct part part = { .sink_fd = -1, .spool_fd = -1 };
		size_t stem = strlen(PART_PREFIX) + KEY_HEX;

		if (!str_starts(found->d_name, PART_PREFIX) || strlen(found->d_name) < stem)
			continue;
		part.path = xasprintf("%s/%.*s", images->dir, (int)stem, found->d_name);
		fn(arg, &part, read_notes(&part) && fs_exists(part.path));
		part_close(&part);
	}
	if (dir != NULL)
		closedir(dir);
}

static void
sweep(void *arg, struct part *part, bool whole)
{
	int64_t age = clock_wall_ms() - part->created_ms;

	if (transfer_uses(arg, part->path))
		return;
	if (!whole || age > WEEK_MS || age < -WEEK_MS)
		part_remove(part);
}

void
parts_sweep(struct image_store *images)
{
	each_part(images, sweep, images);
}

struct pruning {
	struct image_store *images;
	uid_t uid;
	bool dry_run;
	uint64_t bytes;
	char **seen; /* paths */
	size_t count;
};

static bool
is_new(struct pruning *p, const char *path)
{
	for (size_t i = 0; i < p->count; i++)
		if (str_eq(p->seen[i], path))
			return false;
	p->seen = xreallocarray(p->seen, p->count + 1, sizeof(*p->seen));
	p->seen[p->count] = xstrdup(path);
	return true;
}

static uint64_t
size_of(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

static void
prune(void *arg, struct part *part, bool whole)
{
	struct pruning *p = arg;
	CLEANUP_FREE char *spool = path_with(part, SPOOL_END);

	if ((p->uid != 0 && p->uid != geteuid() && p->uid != part->uid) ||
	    transfer_uses(p->images, part->path) || !is_new(p, part->path))
		return;
	p->count++;
	p->bytes += size_of(part->path) + size_of(spool);
	if (!p->dry_run)
		part_remove(part);
}

size_t
image_parts_prune(struct image_store *images, uid_t uid, bool dry_run, uint64_t *add_bytes)
{
	struct pruning p = { .images = images, .uid = uid, .dry_run = dry_run };

	each_part(images, prune, &p);
	for (size_t i = 0; i < p.count; i++)
		free(p.seen[i]);
	free(p.seen);
	*add_bytes += p.bytes;
	return p.count;
}
