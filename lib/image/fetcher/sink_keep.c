/* SPDX-License-Identifier: MPL-2.0
 *
 * The threads that hash: the keeper's, which keeps the body when it is packed, so that a later
 * process can go on with it, and the one for what was unpacked. */
#include <errno.h>

#include "lib/image/fetcher/sink_parts.h"

static int
keep(struct sink *sink, const struct chunk *chunk, uint64_t at, struct err *err)
{
	if (sink->kind == SINK_FILE)
		return 0;
	if (!chunk->replayed && outfile_write(&sink->spool, chunk->data, chunk->len, at) < 0)
		return err_errno(err, E_IO, errno, "can not keep what was fetched");
	if (chunk->save && outfile_save(&sink->spool, at + chunk->len) < 0)
		return err_errno(err, E_IO, errno, "can not store what was fetched");
	if (chunk->save)
		sink->saved_bytes = at + chunk->len;
	return 0;
}

void *
sink_keep_main(void *arg)
{
	struct sink *sink = arg;
	struct queue *next = sink->packed ? &sink->kept : &sink->ready;
	struct chunk *chunk;
	struct err err = ERR_INIT;
	uint64_t at = 0, total = 0;
	int rc = 0;

	while (rc == 0 && (chunk = queue_take(&sink->body_full)) != NULL) {
		hashes_add(&sink->body, chunk->data, chunk->len);
		rc = sink->packed ? keep(sink, chunk, at, &err)
				  : sink_check_total(sink, &total, chunk->len, &err);
		at += chunk->len;
		queue_put(next, chunk);
	}
	if (rc != 0)
		sink_fail(sink, &err);
	queue_close(next);
	return NULL;
}

void *
sink_hash_main(void *arg)
{
	struct sink *sink = arg;
	struct chunk *chunk;

	while ((chunk = queue_take(&sink->image_full)) != NULL) {
		hashes_add(&sink->image, chunk->data, chunk->len);
		queue_put(&sink->ready, chunk);
	}
	queue_close(&sink->ready);
	return NULL;
}
