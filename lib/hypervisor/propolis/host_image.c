/* SPDX-License-Identifier: MPL-2.0
 *
 * Images as zvols.  One is made under another name, and gets its own when it is whole: what has
 * the name can be cloned, and what a crash left half-made is known by the other one.  Of one image
 * at a time, for the second maker would take the first one's work for such a leftover. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/hypervisor/propolis/host_parts.h"
#include "lib/image/work.h"

enum { DIGEST_PREFIX = 7, NAME_DIGITS = 32, WAIT_NS = 100000000, COPY_MS = 300000 };
/* COPY_BYTES_MS: nothing is so slow.  METADATA_SHARE: a zvol needs a 32nd more than its data. */
#define COPY_BYTES_MS (4ULL << 10)
#define METADATA_SHARE 32
#define ROOM_LEFT (64ULL << 20)

static const char mark_name[] = "vmm:digest";

/* ---- one at a time ---- */

struct import {
	struct import *next;
	const char *digest; /* borrowed of its maker */
};

struct host_imports {
	pthread_mutex_t lock;
	pthread_cond_t change;
	struct import *list; /* guarded by lock; each is its maker's */
};

struct host_imports *
host_imports_create(void)
{
	struct host_imports *imports = xcalloc(1, sizeof(*imports));

	pthread_mutex_init(&imports->lock, NULL);
	pthread_cond_init(&imports->change, NULL);
	return imports;
}

void
host_imports_destroy(struct host_imports *imports)
{
	if (imports == NULL)
		return;
	pthread_cond_destroy(&imports->change);
	pthread_mutex_destroy(&imports->lock);
	free(imports);
}

static bool
is_made(const struct host_imports *imports, const char *digest)
{
	const struct import *i = imports->list;

	while (i != NULL && !str_eq(i->digest, digest))
		i = i->next;
	return i != NULL;
}

static int
enter(struct host_imports *imports, struct import *mine, const struct host_turn *turn,
    struct err *err)
{
	int rc = 0;

	if (imports == NULL)
		return 0;
	pthread_mutex_lock(&imports->lock);
	while (rc == 0 && is_made(imports, mine->digest)) {
		struct timespec until;

		/* In pieces: nobody signals when the job is cancelled. */
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_nsec += WAIT_NS;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		pthread_cond_timedwait(&imports->change, &imports->lock, &until);
		rc = host_turn_check(turn, err);
	}
	if (rc == 0) {
		mine->next = imports->list;
		imports->list = mine;
	}
	pthread_mutex_unlock(&imports->lock);
	return rc;
}

static void
leave(struct host_imports *imports, struct import *mine)
{
	struct import **at;

	if (imports == NULL)
		return;
	pthread_mutex_lock(&imports->lock);
	for (at = &imports->list; *at != mine; at = &(*at)->next)
		;
	*at = mine->next;
	pthread_cond_broadcast(&imports->change);
	pthread_mutex_unlock(&imports->lock);
}

/* ---- making one ---- */

static char *
image_dataset(const struct hv_propolis_config *config, const char *digest)
{
	return xasprintf("%s/images/%.*s", config->dataset, NAME_DIGITS, digest + DIGEST_PREFIX);
}

static int
check_digest(const char *digest, struct err *err)
{
	if (digest != NULL && strlen(digest) == DIGEST_PREFIX + 64 &&
	    str_starts(digest, "sha256:") &&
	    strspn(digest + DIGEST_PREFIX, "0123456789abcdef") == 64)
		return 0;
	return err_set(
	    err, E_IMAGE, "the image's digest '%s' is none", digest != NULL ? digest : "");
}

static int
create(
    const struct host_turn *turn, const struct hv_image *image, const char *part, struct err *err)
{
	CLEANUP_FREE char *mark = xasprintf("%s=%s", mark_name, image->digest);
	CLEANUP_FREE char *size =
	    xasprintf("%llu", (unsigned long long)host_zfs_round(image->virtual_bytes));
	const char *const argv[] = { "zfs", "create", "-p", "-V", size, "-o", mark, part, NULL };
	int rc = host_tool(turn, argv, HOST_TOOL_MS, NULL, err);

	return rc == 0 ? 0 : err_wrap(err, "can not make the volume '%s'", part);
}

static int
copy(const struct host_turn *turn, const struct host_machine *m, const char *raw, const char *part,
    uint64_t bytes, struct err *err)
{
	CLEANUP_FREE char *from = xasprintf("if=%s", raw);
	CLEANUP_FREE char *to = xasprintf("of=%s/%s", m->config->zvol_dir, part);
	const char *const argv[] = { "dd", from, to, "bs=1048576", "conv=sync", NULL };
	int rc = host_tool(turn, argv, COPY_MS + bytes / COPY_BYTES_MS, NULL, err);

	return rc == 0 ? 0 : err_wrap(err, "can not write the image to '%s'", to + 3);
}

static int
fill(const struct host_turn *turn, const struct host_machine *m, const struct hv_image *image,
    const char *part, struct err *err)
{
	struct disk_layer layer = { image->path, image->format };
	CLEANUP_FREE char *raw = fs_join(m->dir, "image.raw");
	int rc;

	if (str_eq(image->format, "raw"))
		return copy(turn, m, image->path, part, image->virtual_bytes, err);
	unlink(raw); /* of a crash */
	rc = disk_flatten(&layer, 1, raw, "raw", false, NULL, NULL, turn->job, err);
	if (rc == 0)
		rc = copy(turn, m, raw, part, image->virtual_bytes, err);
	unlink(raw);
	return rc;
}

static int
finish(const struct host_turn *turn, const char *part, const char *whole, struct err *err)
{
	CLEANUP_FREE char *snapshot = xasprintf("%s@image", part);
	const char *const snap_argv[] = { "zfs", "snapshot", snapshot, NULL };
	const char *const name_argv[] = { "zfs", "rename", part, whole, NULL };
	int rc = host_tool(turn, snap_argv, HOST_TOOL_MS, NULL, err);

	if (rc != 0)
		return err_wrap(err, "can not make the snapshot '%s'", snapshot);
	rc = host_tool(turn, name_argv, HOST_TOOL_MS, NULL, err);
	return rc == 0 ? 0 : err_wrap(err, "can not rename '%s' to '%s'", part, whole);
}

static int
look(const struct host_turn *turn, const char *dataset, const char *digest, bool *ret_there,
    struct err *err)
{
	CLEANUP_FREE char *mark = NULL;
	int rc = host_zfs_get(turn, mark_name, dataset, &mark, err);

	*ret_there = mark != NULL;
	if (rc != 0 || mark == NULL || str_eq(mark, digest))
		return rc;
	err_set(err, E_CONFLICT, "there is a dataset '%s' that is not this image", dataset);
	err_hint(err, "vmmd does not touch it: rename it, or give another zfs_dataset");
	return E_CONFLICT;
}

static int
make(const struct host_turn *turn, const struct host_machine *m, const struct hv_image *image,
    const char *whole, struct err *err)
{
	CLEANUP_FREE char *part = xasprintf("%s.part", whole);
	bool there;
	int rc = look(turn, part, image->digest, &there, err);

	if (rc == 0 && there)
		rc = host_zfs_remove(turn, part, mark_name, image->digest, err);
	if (rc == 0)
		rc = host_zfs_room(turn, m->config,
		    image->virtual_bytes + image->virtual_bytes / METADATA_SHARE + ROOM_LEFT, err);
	if (rc != 0)
		return rc;
	rc = create(turn, image, part, err);
	if (rc == 0)
		rc = fill(turn, m, image, part, err);
	if (rc == 0)
		rc = finish(turn, part, whole, err);
	if (rc != 0) {
		struct host_turn back = host_turn_back();
		struct err why = ERR_INIT;

		host_zfs_remove(&back, part, mark_name, image->digest, &why);
		host_turn_back_failed(err, &why);
	}
	return rc;
}

int
host_image_ensure(const struct host_turn *turn, const struct host_machine *m,
    const struct hv_image *image, char **ret_origin, struct err *err)
{
	CLEANUP_FREE char *whole = NULL;
	struct import mine = { .digest = image->digest };
	bool there;
	int rc = check_digest(image->digest, err);

	if (rc == 0)
		rc = enter(m->imports, &mine, turn, err);
	if (rc != 0)
		return rc;
	whole = image_dataset(m->config, image->digest);
	rc = look(turn, whole, image->digest, &there, err);
	if (rc == 0 && there)
		rc = host_zfs_room(turn, m->config, ROOM_LEFT, err);
	else if (rc == 0)
		rc = make(turn, m, image, whole, err);
	leave(m->imports, &mine);
	if (rc == 0)
		*ret_origin = xasprintf("%s@image", whole);
	return rc == 0 ? 0 : err_wrap(err, "the image '%s'", fs_basename(image->path));
}

int
host_drop_image(
    const struct hv_propolis_config *config, const char *digest, struct job *job, struct err *err)
{
	CLEANUP_FREE char *whole = NULL, *part = NULL;
	struct host_turn turn = { .job = job };
	struct err why = ERR_INIT;
	int rc = check_digest(digest, err), part_rc;

	if (rc != 0)
		return rc;
	whole = image_dataset(config, digest);
	part = xasprintf("%s.part", whole);
	part_rc = host_zfs_remove(&turn, part, mark_name, digest, err);
	rc = host_zfs_remove(&turn, whole, mark_name, digest, &why);
	if (rc == E_FAILED && strstr(why.msg, "dependent clones") != NULL)
		rc = err_set(&why, E_BUSY, "the disk of a machine stands on '%s'", whole);
	if (rc != 0 && err != NULL)
		*err = why;
	return rc != 0 ? rc : part_rc;
}
