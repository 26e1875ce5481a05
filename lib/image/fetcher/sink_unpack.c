/* SPDX-License-Identifier: MPL-2.0
 *
 * The unpacker's thread.  One layer is taken off, the one that the first bytes announce: what an
 * image holds is the guest's business. */
#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/fetcher/sink_parts.h"

enum {
	/* A layer with a disk has a handful of entries. */
	ENTRIES_MAX = 4096,
	SKIPPED_MAX = 64 << 20,
	TAR_BYTES = 128 << 10,
	ALIGN_BYTES = 1 << 20,
};

struct unpacker {
	struct sink *sink;
	struct unpack *unpack; /* NULL: it is not packed, but a tar */
	struct chunk *input;   /* NULL: to be taken */
	size_t pos;
	bool all_in, all_out;
	uint64_t total; /* of the image */
	unsigned char *tar;
	struct err *err; /* of what libarchive reads */
};

/* The next chunk with something in it, or the end. */
static int
next_input(struct unpacker *u, struct err *err)
{
	while (!u->all_in && (u->input == NULL || u->pos == u->input->len)) {
		if (u->input != NULL)
			queue_put(&u->sink->body_free, u->input);
		u->pos = 0;
		u->input = queue_take(&u->sink->kept);
		if (u->input == NULL && u->sink->failed)
			return err_set(err, E_CANCELLED, "stopped");
		u->all_in = u->input == NULL;
	}
	return 0;
}

/* Of what is below the compression: as much as there is room for, less only at the end. */
static int
read_unpacked(struct unpacker *u, unsigned char *out, size_t room, size_t *ret_len, struct err *err)
{
	struct unpack_io io = { .out = out, .out_len = room };
	int rc = 0;

	while (rc == 0 && io.out_len > 0 && !u->all_out) {
		rc = next_input(u, err);
		if (rc != 0)
			break;
		io.in = u->input != NULL ? u->input->data + u->pos : NULL;
		io.in_len = u->input != NULL ? u->input->len - u->pos : 0;
		io.last = u->all_in;
		if (u->unpack != NULL) {
			rc = unpack_step(u->unpack, &io, &u->all_out, err);
		} else {
			size_t n = io.in_len < io.out_len ? io.in_len : io.out_len;

			if (n > 0)
				memcpy(io.out, io.in, n);
			io.in_len -= n;
			io.out += n;
			io.out_len -= n;
			u->all_out = u->all_in;
		}
		if (u->input != NULL)
			u->pos = u->input->len - io.in_len;
	}
	*ret_len = room - io.out_len;
	return rc;
}

static int
put_image(struct unpacker *u, struct chunk *chunk, struct err *err)
{
	int rc = sink_check_total(u->sink, &u->total, chunk->len, err);

	queue_put(rc == 0 ? &u->sink->image_full : &u->sink->image_free, chunk);
	return rc;
}

static int
unpack_image(struct unpacker *u, struct err *err)
{
	int rc = 0;

	while (rc == 0 && !u->all_out) {
		struct chunk *chunk = queue_take(&u->sink->image_free);

		if (chunk == NULL)
			return err_set(err, E_CANCELLED, "stopped");
		rc = read_unpacked(u, chunk->data, CHUNK_BYTES, &chunk->len, err);
		if (rc == 0)
			rc = put_image(u, chunk, err);
		else
			queue_put(&u->sink->image_free, chunk);
	}
	return rc;
}

/* ---- layers of containers ---- */

static int
broken(const struct unpacker *u, struct archive *archive, struct err *err)
{
	const char *text = archive_error_string(archive);
	CLEANUP_FREE char *shown =
	    str_printable(text != NULL ? text : "", text != NULL ? strnlen(text, 200) : 0);

	if (err->code != 0)
		return (int)err->code;
	err_set(err, E_IMAGE, "the image can not be unpacked: the layer is broken or cut off%s%s",
	    text != NULL ? ": " : "", shown);
	err_hint(
	    err, "the file on the server may be damaged; fetch it again, or ask who offers it");
	return E_IMAGE;
}

static la_ssize_t
on_read(struct archive *archive, void *arg, const void **ret_data)
{
	struct unpacker *u = arg;
	size_t len = 0;

	*ret_data = u->tar;
	if (read_unpacked(u, u->tar, TAR_BYTES, &len, u->err) == 0)
		return (la_ssize_t)len;
	archive_set_error(archive, EIO, "%s", u->err->msg);
	return -1;
}

/* The data of the entry at hand, in full chunks. */
static int
read_data(struct unpacker *u, struct archive *archive, struct err *err)
{
	la_ssize_t n = 1;
	int rc = 0;

	while (rc == 0 && n > 0) {
		struct chunk *chunk = queue_take(&u->sink->image_free);

		if (chunk == NULL)
			return err_set(err, E_CANCELLED, "stopped");
		chunk->len = 0;
		do {
			n = archive_read_data(
			    archive, chunk->data + chunk->len, CHUNK_BYTES - chunk->len);
			chunk->len += n > 0 ? (size_t)n : 0;
		} while (n > 0 && chunk->len < CHUNK_BYTES);
		rc = put_image(u, chunk, err);
	}
	return rc == 0 && n < 0 ? broken(u, archive, err) : rc;
}

/* What is below disk/; NULL: the entry is elsewhere, or the mark of one that is removed. */
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
	return *path != '\0' && !str_starts(fs_basename(path), ".wh.") ? path : NULL;
}

static int
take_entry(struct unpacker *u, struct archive *archive, struct archive_entry *entry,
    const char *path, bool *found, struct err *err)
{
	CLEANUP_FREE char *shown = str_printable(path, strnlen(path, 100));

	if (archive_entry_filetype(entry) != AE_IFREG || archive_entry_hardlink(entry) != NULL)
		return err_set(err, E_IMAGE, "'%s' in the layer is not a regular file", shown);
	if (strstr(path, "..") != NULL)
		return err_set(err, E_IMAGE, "'%s' in the layer is no name for a disk", shown);
	if (*found)
		return err_set(
		    err, E_IMAGE, "the layer has several disks: '%s' is another one", shown);
	if (archive_entry_size(entry) < 0 ||
	    (uint64_t)archive_entry_size(entry) > u->sink->order->max_bytes)
		return err_set(err, E_LIMIT, "the disk '%s' in the layer is too large", shown);
	*found = true;
	return read_data(u, archive, err);
}

static int
walk_layer(struct unpacker *u, struct archive *archive, struct err *err)
{
	uint64_t skipped = 0;
	bool found = false;
	int rc = 0;

	for (size_t count = 0; rc == 0; count++) {
		struct archive_entry *entry;
		int status = archive_read_next_header(archive, &entry);
		const char *path;

		if (status == ARCHIVE_EOF)
			break;
		if (status != ARCHIVE_OK && status != ARCHIVE_WARN)
			return broken(u, archive, err);
		if (count == ENTRIES_MAX)
			return err_set(
			    err, E_IMAGE, "the layer has more than %d entries", ENTRIES_MAX);
		path = archive_entry_pathname(entry);
		if (path != NULL && below_disk(path) != NULL &&
		    archive_entry_filetype(entry) != AE_IFDIR)
			rc = take_entry(u, archive, entry, path, &found, err);
		else if (archive_entry_size(entry) > 0)
			skipped += (uint64_t)archive_entry_size(entry);
		if (skipped > SKIPPED_MAX)
			return err_set(
			    err, E_IMAGE, "the layer has much besides a disk: it is no disk image");
	}
	if (rc == 0 && !found) {
		rc = err_set(
		    err, E_NOT_FOUND, "the layer has no disk: there is no file below 'disk/'");
		err_hint(err, "it is an image of a container, and not of a machine");
	}
	return rc;
}

static int
unpack_layer(struct unpacker *u, struct err *err)
{
	struct archive *archive = archive_read_new();
	int rc;

	u->tar = xmalloc(TAR_BYTES);
	u->err = err;
	archive_read_support_format_tar(archive);
	/* No filter: libarchive would go on unpacking what was packed twice. */
	if (archive_read_open(archive, u, NULL, on_read, NULL) == ARCHIVE_OK)
		rc = walk_layer(u, archive, err);
	else
		rc = broken(u, archive, err);
	archive_read_free(archive);
	free(u->tar);
	return rc;
}

/* ---- the thread ---- */

static int
unpack_all(struct unpacker *u, struct err *err)
{
	struct sink *sink = u->sink;
	/* Where the image can not reach, there is room for windows; what is written there goes
	 * when the file gets its length. */
	uint64_t at = (sink->order->max_bytes / ALIGN_BYTES + 1) * ALIGN_BYTES;
	int rc;

	if (sink->packing != PACK_NONE) {
		u->unpack = unpack_create(sink->packing, SINK_FD, at, err);
		if (u->unpack == NULL)
			return (int)err->code;
	}
	rc = sink->kind == SINK_CONTAINER ? unpack_layer(u, err) : unpack_image(u, err);
	/* What follows the end of the packed data still belongs to the body. */
	while (rc == 0 && !u->all_in) {
		if (u->input != NULL)
			u->pos = u->input->len;
		rc = next_input(u, err);
	}
	if (rc == 0 && u->total == 0)
		rc = err_set(err, E_IMAGE, "the image is empty");
	return rc;
}

void *
sink_unpack_main(void *arg)
{
	struct unpacker u = { .sink = arg };
	struct err err = ERR_INIT;

	if (unpack_all(&u, &err) != 0)
		sink_fail(u.sink, &err);
	unpack_destroy(u.unpack);
	free(u.input);
	queue_close(&u.sink->image_full);
	return NULL;
}
