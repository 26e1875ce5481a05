/* SPDX-License-Identifier: MPL-2.0
 *
 * Taking a file into the folder of images, on a worker.  What counts is the copy: it is the copy
 * that is hashed and inspected, so that nobody can change the file between check and use. */
#include "lib/image/take.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/digest.h"
#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/platform.h"
#include "lib/base/str.h"
#include "lib/base/worker.h"

enum { CHUNK = 256 * 1024, PROGRESS_MS = 100, SPACE_LEFT = 64 << 20 };

static const char zeros[CHUNK];

static void
digest_destroyp(struct digest **digest)
{
	digest_destroy(*digest);
}

int
take_key(int fd, const char *name, char **ret_key, struct err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_errno(err, E_IO, errno, "can not read '%s'", name);
	if (!S_ISREG(st.st_mode)) {
		err_set(err, E_IMAGE, "the image '%s' can not be used: it is not a regular file", name);
		err_hint(err, "give the file of a disk image");
		err_object(err, name);
		return E_IMAGE;
	}
	*ret_key = xasprintf("%llx:%llu:%llu:%lld.%09ld:%lld.%09ld", (unsigned long long)st.st_dev,
	    (unsigned long long)st.st_ino, (unsigned long long)st.st_size,
	    (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec, (long long)st.st_ctim.tv_sec,
	    st.st_ctim.tv_nsec);
	return 0;
}

void
take_release(struct take *take)
{
	if (take->fd >= 0)
		close(take->fd);
	if (take->tmp != NULL)
		unlink(take->tmp);
	free(take->tmp);
	free(take->name);
	free(take->source);
	free(take->dir);
}

static int
step(struct take *take, struct job *job, uint64_t done)
{
	uint64_t now = clock_ms();

	if (job_cancelled(job))
		return err_set(&take->err, job_timed_out(job) ? E_TIMEOUT : E_CANCELLED,
		    "taking '%s' was stopped", take->name);
	take->done_bytes = done;
	if (take->progress != NULL && now - take->told_ms >= PROGRESS_MS) {
		take->told_ms = now;
		take->progress(take, job);
	}
	return 0;
}

/* Hashes [at, end), which is a hole. */
static int
pass_hole(struct take *take, struct job *job, struct digest *digest, uint64_t at, uint64_t end)
{
	int rc = 0;

	while (rc == 0 && at < end) {
		size_t n = end - at < CHUNK ? (size_t)(end - at) : CHUNK;

		digest_add(digest, zeros, n);
		at += n;
		rc = step(take, job, at);
	}
	return rc;
}

static int
write_at(int fd, const char *data, size_t len, off_t at)
{
	while (len > 0) {
		ssize_t n = pwrite(fd, data, len, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		data += n;
		at += n;
		len -= (size_t)n;
	}
	return 0;
}

/* Hashes [at, end), and writes what is not zero to `to` unless that is -1. */
static int
pass_data(struct take *take, struct job *job, struct digest *digest, int from, int to, uint64_t at,
    uint64_t end)
{
	CLEANUP_FREE char *chunk = xmalloc(CHUNK);
	int rc = 0;

	while (rc == 0 && at < end) {
		size_t want = end - at < CHUNK ? (size_t)(end - at) : CHUNK;
		ssize_t n = pread(from, chunk, want, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(&take->err, E_IO, errno, "can not read '%s'", take->name);
		if (n == 0)
			return err_set(&take->err, E_IMAGE, "'%s' became shorter while it was taken",
			    take->name);
		digest_add(digest, chunk, (size_t)n);
		/* A block of zeros becomes a hole. */
		if (to >= 0 && memcmp(chunk, zeros, (size_t)n) != 0 &&
		    write_at(to, chunk, (size_t)n, (off_t)at) < 0)
			return err_errno(&take->err, E_IO, errno, "can not store the image '%s'",
			    take->name);
		at += (uint64_t)n;
		rc = step(take, job, at);
	}
	return rc;
}

static int
pass(struct take *take, struct job *job, int from, int to, uint64_t size)
{
	CLEANUP(digest_destroyp) struct digest *digest = digest_create();
	CLEANUP_FREE char *hex = NULL;
	uint64_t at = 0;
	int rc = 0;

	while (rc == 0 && at < size) {
		off_t data = lseek(from, (off_t)at, PLATFORM_SEEK_DATA), end;
		uint64_t hole_end = data >= 0 ? (uint64_t)data : errno == ENXIO ? size : at;

		if (hole_end > size)
			hole_end = size;
		rc = pass_hole(take, job, digest, at, hole_end);
		at = hole_end;
		if (rc != 0 || at == size)
			break;
		end = lseek(from, (off_t)at, PLATFORM_SEEK_HOLE);
		if (end < 0 || (uint64_t)end > size)
			end = (off_t)size;
		rc = pass_data(take, job, digest, from, to, at, (uint64_t)end);
		at = (uint64_t)end;
	}
	if (rc != 0)
		return rc;
	hex = digest_finish(TAKE(digest));
	memcpy(take->hex, hex, sizeof(take->hex));
	if (to >= 0 && ftruncate(to, (off_t)size) < 0)
		return err_errno(&take->err, E_IO, errno, "can not store the image '%s'", take->name);
	return 0;
}

/* A clone shares the blocks and is complete at once; otherwise there must be room. */
static int
copy(struct take *take, struct job *job, int to, const struct stat *st)
{
	uint64_t size = (uint64_t)st->st_size, need = (uint64_t)st->st_blocks * 512, room;
	int rc;

	if (platform_clone(to, take->fd))
		return pass(take, job, to, -1, size);
	if (need > size)
		need = size;
	rc = fs_free_bytes(take->dir, &room, &take->err);
	if (rc != 0)
		return rc;
	if (room < need + SPACE_LEFT) {
		CLEANUP_FREE char *needed = str_size(need + SPACE_LEFT), *left = str_size(room);

		err_set(&take->err, E_NO_SPACE,
		    "the image '%s' needs %s in '%s', where %s are free", take->name, needed,
		    take->dir, left);
		err_hint(&take->err, "'vmctl image list' shows the images that are kept");
		err_object(&take->err, take->name);
		return E_NO_SPACE;
	}
	return pass(take, job, take->fd, to, size);
}

int
take_compare(struct take *take, struct job *job, int copy_fd)
{
	CLEANUP_FREE char *path = xasprintf("%s/" IMAGE_PREFIX "%s", take->dir, take->hex);
	CLEANUP_FREE char *ours = xmalloc(CHUNK), *theirs = xmalloc(CHUNK);
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	ssize_t n = 1;
	int rc = 0;

	/* None, or none that could be taken for it. */
	if (fd < 0 || lseek(fd, 0, SEEK_END) != (off_t)take->file_bytes)
		return 0;
	for (uint64_t at = 0; rc == 0 && n > 0 && !take->damaged; at += (uint64_t)n) {
		n = pread(copy_fd, ours, CHUNK, (off_t)at);
		if (n < 0)
			return err_errno(&take->err, E_IO, errno, "can not store the image '%s'",
			    take->name);
		take->damaged = pread(fd, theirs, (size_t)n, (off_t)at) != n ||
		    memcmp(ours, theirs, (size_t)n) != 0;
		rc = step(take, job, take->file_bytes);
	}
	return rc;
}

/* Before Linux 6.13, a file that is written to twice in one tick of the kernel's clock shows the
 * same times both times.  Once the clock is past the last change, the next one will show. */
static bool
wait_for_tick(const struct timespec *changed)
{
	struct timespec tick, now;

	if (clock_getres(CLOCK_REALTIME_COARSE, &tick) < 0)
		return false;
	for (int i = 0; i < 4; i++) {
		if (clock_gettime(CLOCK_REALTIME_COARSE, &now) < 0)
			return false;
		if (now.tv_sec > changed->tv_sec ||
		    (now.tv_sec == changed->tv_sec && now.tv_nsec > changed->tv_nsec))
			return true;
		nanosleep(&tick, NULL);
	}
	return false; /* its times are of the future */
}

/* Of the copy, which nobody else has. */
static int
finish(struct take *take, struct job *job, int to)
{
	int rc = disk_inspect(to, take->name, &take->header, &take->err);

	if (rc == 0)
		rc = take_compare(take, job, to);
	if (rc == 0 && (fchmod(to, 0400) < 0 || fsync(to) < 0))
		rc = err_errno(&take->err, E_IO, errno, "can not store the image '%s'", take->name);
	return rc;
}

static int
fill(struct take *take, struct job *job, int to)
{
	CLEANUP_FREE char *before = NULL, *after = NULL;
	struct stat st;
	int rc;

	take->settled = fstat(take->fd, &st) == 0 && wait_for_tick(&st.st_ctim);
	rc = take_key(take->fd, take->name, &before, &take->err);
	if (rc != 0)
		return rc;
	if (fstat(take->fd, &st) < 0)
		return err_errno(&take->err, E_IO, errno, "can not read '%s'", take->name);
	take->file_bytes = (uint64_t)st.st_size;
	take->total_bytes = take->file_bytes;
	rc = copy(take, job, to, &st);
	if (rc == 0)
		rc = take_key(take->fd, take->name, &after, &take->err);
	if (rc != 0)
		return rc;
	if (!str_eq(before, after)) {
		err_set(&take->err, E_IMAGE, "'%s' was changed while it was taken", take->name);
		err_hint(&take->err, "try again when nothing writes to it");
		return E_IMAGE;
	}
	return finish(take, job, to);
}

/* The file is the copy. */
static void
run_scratch(struct take *take, struct job *job)
{
	CLEANUP_FD int fd = open(take->tmp, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0) {
		err_errno(&take->err, E_IO, errno, "can not store the image '%s'", take->name);
		return;
	}
	take->file_bytes = (uint64_t)st.st_size;
	take->total_bytes = take->file_bytes;
	if (pass(take, job, fd, -1, take->file_bytes) == 0 && finish(take, job, fd) == 0)
		memset(&take->err, 0, sizeof(take->err));
}

void
take_run(struct take *take, struct job *job)
{
	CLEANUP_FREE char *tmp = xasprintf("%s/" TAKE_PREFIX "XXXXXX", take->dir);
	CLEANUP_FD int to = -1;

	if (take->tmp != NULL) {
		run_scratch(take, job);
		return;
	}
	/* Once before the work, so that a wrong file is refused at once. */
	if (disk_inspect(take->fd, take->name, &take->header, &take->err) != 0)
		return;
	to = fs_mkstemp(tmp);
	if (to < 0) {
		err_errno(&take->err, E_IO, errno, "can not store the image '%s'", take->name);
		return;
	}
	take->tmp = TAKE(tmp);
	if (fill(take, job, to) != 0)
		return; /* releasing it removes the copy */
	memset(&take->err, 0, sizeof(take->err));
}
