/* SPDX-License-Identifier: MPL-2.0
 *
 * The writer's thread, which leaves holes where there are zeros. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/fetcher/sink_parts.h"

enum {
	/* Finer holes would cost more in writes than they save. */
	HOLE_BYTES = 16 << 10,
	SPACE_BYTES = 64 << 20, /* between two looks at the free space */
};

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

int
sink_check_total(const struct sink *sink, uint64_t *total, size_t len, struct err *err)
{
	CLEANUP_FREE char *limit = NULL;

	*total += len;
	if (*total <= sink->order->max_bytes)
		return 0;
	limit = str_size(sink->order->max_bytes);
	return err_set(err, E_LIMIT,
	    "the image is too large: it has more than the %s that are allowed", limit);
}

static bool
is_zero(const unsigned char *data, size_t len)
{
	return data[0] == 0 && memcmp(data, data + 1, len - 1) == 0;
}

/* Runs of what is not a hole are written. */
static int
write_sparse(struct sink *sink, const struct chunk *chunk, uint64_t at)
{
	size_t begin = 0, pos = 0;

	while (pos < chunk->len) {
		size_t n = HOLE_BYTES - (size_t)((at + pos) % HOLE_BYTES);

		if (n > chunk->len - pos)
			n = chunk->len - pos;
		if (is_zero(chunk->data + pos, n)) {
			if (outfile_write(
				&sink->file, chunk->data + begin, pos - begin, at + begin) < 0)
				return -1;
			begin = pos + n;
		}
		pos += n;
	}
	return outfile_write(&sink->file, chunk->data + begin, pos - begin, at + begin);
}

static int
write_chunk(struct sink *sink, const struct chunk *chunk, uint64_t *looked, struct err *err)
{
	uint64_t at = sink->image_bytes, end = at + chunk->len;

	if (end - *looked >= SPACE_BYTES) {
		*looked = end;
		if (sink_check_space(sink->order, 0, err) != 0)
			return err->code;
	}
	if (!chunk->replayed && write_sparse(sink, chunk, at) < 0)
		return err_errno(err, E_IO, errno, "can not write the image");
	if (chunk->save && outfile_save(&sink->file, end) < 0)
		return err_errno(err, E_IO, errno, "can not store what was fetched");
	sink->image_bytes = end;
	if (chunk->save)
		sink->saved_bytes = end;
	return 0;
}

void *
sink_write_main(void *arg)
{
	struct sink *sink = arg;
	struct chunk *chunk;
	struct err err = ERR_INIT;
	uint64_t looked = 0;

	while ((chunk = queue_take(&sink->ready)) != NULL) {
		int rc = write_chunk(sink, chunk, &looked, &err);

		queue_put(sink->packed ? &sink->image_free : &sink->body_free, chunk);
		if (rc != 0) {
			sink_fail(sink, &err);
			break;
		}
	}
	return NULL;
}
