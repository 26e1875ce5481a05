/* SPDX-License-Identifier: MPL-2.0
 *
 * An image from a packed file of this host: no server is asked, but what unpacks it reads the bytes
 * of strangers all the same. */
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/image/fetcher/event.h"
#include "lib/image/fetcher/transfer.h"

enum { PIECE_BYTES = 256 << 10, TELL_MS = 100 };

static void
tell(const struct fetch_order *order, const struct sink *sink, uint64_t total, uint64_t *told_ms)
{
	uint64_t now = clock_ms();
	json_object *line;

	if (now - *told_ms < TELL_MS)
		return;
	*told_ms = now;
	line = json_object_new_object();
	json_add_int(line, "done", (int64_t)sink_body_bytes(sink));
	json_add_int(line, "total", (int64_t)total);
	json_add_int(line, "written", (int64_t)sink_image_bytes(sink));
	event_emit(order, "progress", line);
}

static int
pass(const struct fetch_order *order, struct sink *sink, uint64_t total, struct err *err)
{
	CLEANUP_FREE char *piece = xmalloc(PIECE_BYTES);
	uint64_t told_ms = 0;
	ssize_t n = 1;
	int rc = 0;

	while (rc == 0 && n != 0) {
		n = pread(SPOOL_FD, piece, PIECE_BYTES, (off_t)sink_body_bytes(sink));
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(err, E_IO, errno, "can not read the file");
		if (n > 0)
			rc = sink_write(sink, piece, (size_t)n, err);
		tell(order, sink, total, &told_ms);
	}
	return rc;
}

int
transfer_file(struct http *http, const struct fetch_order *order, struct err *err)
{
	struct sink_result result = { 0 };
	struct sink *sink;
	struct stat st;
	int rc;

	if (fstat(SPOOL_FD, &st) < 0)
		return err_errno(err, E_IO, errno, "can not read the file");
	sink = sink_create(order, SINK_FILE, order->sha512 != NULL, err);
	if (sink == NULL)
		return err != NULL ? (int)err->code : E_IO;
	rc = sink_expect(sink, (uint64_t)st.st_size, err);
	if (rc == 0)
		rc = pass(order, sink, (uint64_t)st.st_size, err);
	if (rc == 0)
		rc = sink_finish(sink, &result, err);
	if (rc == 0)
		rc = transfer_check_digest(order->sha256, &result, err);
	if (rc == 0)
		rc = transfer_check_digest(order->sha512, &result, err);
	if (rc == 0)
		event_done(order, &result, NULL, NULL, NULL);
	sink_destroy(sink);
	return rc;
}
