/* SPDX-License-Identifier: MPL-2.0
 *
 * The writer's thread, which leaves holes where there are zeros and sends pages to the disk early,
 * and the keeper's, which waits for them. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/fetcher/sink_parts.h"

enum {
	HOLE_BYTES = 4096,
	FLUSH_BYTES = 8 << 20,  /* to the disk at once */
	SPACE_BYTES = 64 << 20, /* between two looks at the free space */
	SAVE_BYTES = 64 << 20,
	SAVE_SECONDS = 5,
};

int
sink_pwrite(int fd, const void *data, size_t len, uint64_t at)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = pwrite(fd, p, len, (off_t)at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		p += n;
		at += (uint64_t)n;
		len -= (size_t)n;
	}
	return 0;
}

int
sink_check_space(const struct fetch_order *order, uint64_t need, struct err *err)
{
	CLEANUP_FREE char *need_text = NULL, *free_text = NULL, *keep_text = NULL;
	struct statvfs fs;
	uint64_t free_bytes;

	if (fstatvfs(SINK_FD, &fs) < 0)
		return err_errno(err, E_IO, errno, "can not ask for the free space");
	free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
	if (free_bytes >= order->keep_free_bytes && free_bytes - order->keep_free_bytes >= need)
		return 0;
	need_text = str_size(need);
	free_text = str_size(free_bytes);
	keep_text = str_size(order->keep_free_bytes);
	err_set(err, E_NO_SPACE,
	    "no space for the image: %s more are needed, %s are free, of which %s "
	    "are to stay free",
	    need_text, free_text, keep_text);
	err_hint(err, "remove images that nobody uses, or make room in the data folder");
	return E_NO_SPACE;
}

static bool
is_zero(const unsigned char *data, size_t len)
{
	return data[0] == 0 && memcmp(data, data + 1, len - 1) == 0;
}

/* Runs of blocks with something in them are written; the file is as long as it should be after
 * each chunk, so that a part of it can be told by its length. */
static int
write_sparse(const struct chunk *chunk, uint64_t at)
{
	size_t begin = 0, pos = 0;
	bool hole = false;

	while (pos < chunk->len) {
		size_t n = chunk->len - pos < HOLE_BYTES ? chunk->len - pos : HOLE_BYTES;

		hole = is_zero(chunk->data + pos, n);
		if (hole) {
			if (pos > begin &&
			    sink_pwrite(SINK_FD, chunk->data + begin, pos - begin, at + begin) < 0)
				return -1;
			begin = pos + n;
		}
		pos += n;
	}
	if (hole)
		return ftruncate(SINK_FD, (off_t)(at + chunk->len));
	return sink_pwrite(SINK_FD, chunk->data + begin, pos - begin, at + begin);
}

static int
write_chunk(struct sink *sink, struct chunk *chunk, uint64_t *looked, struct err *err)
{
	uint64_t at = sink->image_bytes, end = at + chunk->len;

	if (sink->packed)
		hashes_add(&sink->image, chunk->data, chunk->len);
	if (!chunk->replayed || sink->packed) {
		if (end - *looked >= SPACE_BYTES) {
			*looked = end;
			if (sink_check_space(sink->order, 0, err) != 0)
				return err->code;
		}
		if (write_sparse(chunk, at) < 0)
			return err_errno(err, E_IO, errno, "can not write the image");
		if (end / FLUSH_BYTES != at / FLUSH_BYTES)
			sync_file_range(SINK_FD, 0, 0, SYNC_FILE_RANGE_WRITE);
	}
	sink->image_bytes = end;
	if (!sink->packed)
		sink->kept_bytes = end;
	return 0;
}

void *
sink_write_main(void *arg)
{
	struct sink *sink = arg;
	struct chunk *chunk;
	struct err err = ERR_INIT;
	uint64_t looked = 0;

	while ((chunk = queue_take(&sink->image_full)) != NULL) {
		int rc = write_chunk(sink, chunk, &looked, &err);

		queue_put(sink->packed ? &sink->image_free : &sink->body_free, chunk);
		if (rc != 0) {
			sink_fail(sink, &err);
			break;
		}
		if (sink->kept_bytes - sink->saved_bytes >= SAVE_BYTES)
			pthread_cond_signal(&sink->wake);
	}
	return NULL;
}

void *
sink_keep_main(void *arg)
{
	struct sink *sink = arg;
	struct timespec until;
	struct err err = ERR_INIT;
	uint64_t kept;

	pthread_mutex_lock(&sink->lock);
	while (!sink->ended) {
		clock_gettime(CLOCK_REALTIME, &until);
		until.tv_sec += SAVE_SECONDS;
		pthread_cond_timedwait(&sink->wake, &sink->lock, &until);
		kept = sink->kept_bytes;
		if (sink->ended || sink->failed || kept == sink->saved_bytes)
			continue;
		pthread_mutex_unlock(&sink->lock);
		if (fdatasync(sink->packed ? SPOOL_FD : SINK_FD) < 0) {
			err_errno(&err, E_IO, errno, "can not store what was fetched");
			sink_fail(sink, &err);
		} else {
			sink->saved_bytes = kept;
		}
		pthread_mutex_lock(&sink->lock);
	}
	pthread_mutex_unlock(&sink->lock);
	return NULL;
}
