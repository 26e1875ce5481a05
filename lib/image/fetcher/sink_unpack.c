/* SPDX-License-Identifier: MPL-2.0
 *
 * The unpacker's thread.  One layer is taken off, the one that the first bytes announce: what an
 * image holds is the guest's business. */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/fetcher/sink_parts.h"

/* A layer with a disk has a handful of entries. */
enum { ENTRIES_MAX = 4096, SKIPPED_MAX = 64 << 20 };

struct unpacker {
	struct sink *sink;
	struct chunk *input; /* the one that libarchive reads */
	uint64_t total;      /* of the image */
};

struct chunk *
sink_next_body(struct sink *sink)
{
	struct chunk *chunk = queue_take(&sink->body_full);
	struct err err = ERR_INIT;

	if (chunk == NULL)
		return NULL;
	hashes_add(&sink->body, chunk->data, chunk->len);
	if (!sink->packed)
		return chunk;
	if (!chunk->replayed &&
	    sink_pwrite(SPOOL_FD, chunk->data, chunk->len, sink->kept_bytes) < 0) {
		err_errno(&err, E_IO, errno, "can not keep what was fetched");
		sink_fail(sink, &err);
		free(chunk);
		return NULL;
	}
	sink->kept_bytes += chunk->len;
	return chunk;
}

int
sink_put_image(struct sink *sink, struct chunk *chunk, uint64_t *total, struct err *err)
{
	CLEANUP_FREE char *limit = NULL;

	*total += chunk->len;
	if (*total <= sink->order->max_bytes) {
		queue_put(&sink->image_full, chunk);
		return 0;
	}
	free(chunk);
	limit = str_size(sink->order->max_bytes);
	return err_set(err, E_LIMIT,
	    "the image is too large: it has more than the %s that are allowed", limit);
}

static int
broken(struct archive *archive, const char *what, struct err *err)
{
	const char *text = archive_error_string(archive);
	CLEANUP_FREE char *shown =
	    str_printable(text != NULL ? text : "", text != NULL ? strnlen(text, 200) : 0);

	err_set(err, E_IMAGE, "the image can not be unpacked: its %s data is broken or cut off%s%s",
	    what, text != NULL ? ": " : "", shown);
	err_hint(
	    err, "the file on the server may be damaged; fetch it again, or ask who offers it");
	return E_IMAGE;
}

static la_ssize_t
on_read(struct archive *archive, void *arg, const void **ret_data)
{
	struct unpacker *u = arg;

	if (u->input != NULL)
		queue_put(&u->sink->body_free, u->input);
	u->input = sink_next_body(u->sink);
	if (u->input == NULL)
		return u->sink->failed ? -1 : 0;
	*ret_data = u->input->data;
	return (la_ssize_t)u->input->len;
}

/* The data of the entry at hand. */
static int
read_data(struct unpacker *u, struct archive *archive, const char *what, struct err *err)
{
	struct sink *sink = u->sink;
	int rc = 0;

	while (rc == 0) {
		struct chunk *chunk = queue_take(&sink->image_free);
		la_ssize_t n;

		if (chunk == NULL)
			return err_set(err, E_CANCELLED, "stopped");
		n = archive_read_data(archive, chunk->data, CHUNK_BYTES);
		if (n <= 0) {
			queue_put(&sink->image_free, chunk);
			return n == 0 ? 0 : broken(archive, what, err);
		}
		chunk->len = (size_t)n;
		rc = sink_put_image(sink, chunk, &u->total, err);
	}
	return rc;
}

/* What is below disk/; NULL: the entry is elsewhere. */
static const char *
below_disk(const char *path)
{
	while (path[0] == '/' || (path[0] == '.' && path[1] == '/'))
		path++;
	if (!str_starts(path, "disk/"))
		return NULL;
	path += strlen("disk/");
	while (*path == '/')
		path++;
	return *path != '\0' ? path : NULL;
}

static int
take_entry(struct unpacker *u, struct archive *archive, struct archive_entry *entry, bool *found,
    struct err *err)
{
	const char *path = archive_entry_pathname(entry);
	const char *below = path != NULL ? below_disk(path) : NULL;
	CLEANUP_FREE char *shown =
	    str_printable(path != NULL ? path : "", path != NULL ? strnlen(path, 100) : 0);

	if (below == NULL || archive_entry_filetype(entry) == AE_IFDIR)
		return 0;
	if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry) != NULL)
		return err_set(err, E_IMAGE, "'%s' in the layer is not a regular file", shown);
	if (strstr(below, "..") != NULL)
		return err_set(err, E_IMAGE, "'%s' in the layer is no name for a disk", shown);
	if (*found)
		return err_set(
		    err, E_IMAGE, "the layer has several disks: '%s' is another one", shown);
	if (archive_entry_size(entry) < 0 ||
	    (uint64_t)archive_entry_size(entry) > u->sink->order->max_bytes)
		return err_set(err, E_LIMIT, "the disk '%s' in the layer is too large", shown);
	*found = true;
	return read_data(u, archive, "layer's", err);
}

static int
unpack_container(struct unpacker *u, struct archive *archive, struct err *err)
{
	uint64_t skipped = 0;
	bool found = false;
	int rc = 0;

	for (size_t count = 0; rc == 0; count++) {
		struct archive_entry *entry;
		int status = archive_read_next_header(archive, &entry);

		if (status == ARCHIVE_EOF)
			break;
		if (status != ARCHIVE_OK && status != ARCHIVE_WARN)
			return broken(archive, "layer's", err);
		if (count == ENTRIES_MAX)
			return err_set(
			    err, E_IMAGE, "the layer has more than %d entries", ENTRIES_MAX);
		if (below_disk(archive_entry_pathname(entry) != NULL ? archive_entry_pathname(entry)
								     : "") == NULL)
			skipped +=
			    archive_entry_size(entry) > 0 ? (uint64_t)archive_entry_size(entry) : 0;
		if (skipped > SKIPPED_MAX)
			return err_set(
			    err, E_IMAGE, "the layer has much besides a disk: it is no disk image");
		rc = take_entry(u, archive, entry, &found, err);
	}
	if (rc == 0 && !found) {
		err_set(err, E_NOT_FOUND, "the layer has no disk: there is no file below 'disk/'");
		return E_NOT_FOUND;
	}
	return rc;
}

static int
unpack_archive(struct unpacker *u, struct err *err)
{
	static const int filters[PACK_COUNT] = { ARCHIVE_FILTER_NONE, ARCHIVE_FILTER_GZIP,
		ARCHIVE_FILTER_BZIP2, ARCHIVE_FILTER_XZ, ARCHIVE_FILTER_ZSTD };
	struct sink *sink = u->sink;
	const char *what = packing_names[sink->packing];
	struct archive *archive = archive_read_new();
	struct archive_entry *entry;
	int rc;

	if (sink->kind == SINK_CONTAINER)
		archive_read_support_format_tar(archive);
	else
		archive_read_support_format_raw(archive);
	/* Named, not looked for: libarchive would go on unpacking what was packed twice. */
	if (archive_read_append_filter(archive, filters[sink->packing]) < ARCHIVE_WARN)
		rc = err_set(err, E_UNSUPPORTED, "this libarchive can not unpack %s", what);
	else if (archive_read_open(archive, u, NULL, on_read, NULL) != ARCHIVE_OK)
		rc = broken(archive, what, err);
	else if (sink->kind == SINK_CONTAINER)
		rc = unpack_container(u, archive, err);
	else if (archive_read_next_header(archive, &entry) != ARCHIVE_OK)
		rc = broken(archive, what, err);
	else
		rc = read_data(u, archive, what, err);
	archive_read_free(archive);
	return rc;
}

static int
pass_on(struct sink *sink, uint64_t *total, struct err *err)
{
	struct chunk *chunk;
	int rc = 0;

	while (rc == 0 && (chunk = sink_next_body(sink)) != NULL)
		rc = sink_put_image(sink, chunk, total, err);
	return rc;
}

void *
sink_unpack_main(void *arg)
{
	struct unpacker u = { .sink = arg };
	struct sink *sink = arg;
	struct err err = ERR_INIT;
	int rc;

	if (!sink->packed)
		rc = pass_on(sink, &u.total, &err);
	else if (sink->packing == PACK_GZIP && sink->kind == SINK_IMAGE)
		rc = sink_gunzip(sink, &u.total, &err);
	else
		rc = unpack_archive(&u, &err);
	/* What follows the end of the packed data still belongs to the body. */
	while (rc == 0 && sink->packed && u.input != NULL) {
		queue_put(&sink->body_free, u.input);
		u.input = sink_next_body(sink);
	}
	free(u.input);
	if (rc == 0 && u.total == 0)
		rc = err_set(&err, E_IMAGE, "the image is empty");
	if (rc != 0)
		sink_fail(sink, &err);
	queue_close(&sink->image_full);
	return NULL;
}
