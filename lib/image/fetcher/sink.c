/* SPDX-License-Identifier: MPL-2.0
 *
 * The receiver's side of the sink: takes the body in pieces, finds out what it is, starts and ends
 * the threads that do the rest. */
#include "lib/image/fetcher/sink.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/fetcher/sink_parts.h"

enum { SAVE_MS = 5000 }; /* what a crash may cost */

void
hashes_init(struct hashes *hashes, bool want_sha512)
{
	hashes->sha256 = EVP_MD_CTX_new();
	hashes->sha512 = want_sha512 ? EVP_MD_CTX_new() : NULL;
	if (EVP_DigestInit_ex(hashes->sha256, EVP_sha256(), NULL) != 1 ||
	    (want_sha512 && EVP_DigestInit_ex(hashes->sha512, EVP_sha512(), NULL) != 1))
		abort();
}

void
hashes_add(struct hashes *hashes, const void *data, size_t len)
{
	EVP_DigestUpdate(hashes->sha256, data, len);
	if (hashes->sha512 != NULL)
		EVP_DigestUpdate(hashes->sha512, data, len);
}

static void
finish_one(EVP_MD_CTX *context, char *ret_hex)
{
	unsigned char sum[EVP_MAX_MD_SIZE];
	CLEANUP_FREE char *hex = NULL;
	unsigned len = 0;

	*ret_hex = '\0';
	if (context == NULL || EVP_DigestFinal_ex(context, sum, &len) != 1)
		return;
	hex = str_hex(sum, len);
	memcpy(ret_hex, hex, 2 * (size_t)len + 1);
}

void
hashes_finish(struct hashes *hashes, char sha256[65], char sha512[129])
{
	finish_one(hashes->sha256, sha256);
	finish_one(hashes->sha512, sha512);
}

void
hashes_done(struct hashes *hashes)
{
	EVP_MD_CTX_free(hashes->sha256);
	EVP_MD_CTX_free(hashes->sha512);
	*hashes = (struct hashes){ 0 };
}

void
sink_fail(struct sink *sink, const struct err *err)
{
	pthread_mutex_lock(&sink->lock);
	if (!sink->failed) {
		sink->err = *err;
		sink->failed = true;
	}
	pthread_mutex_unlock(&sink->lock);
	queue_break(&sink->body_free);
	queue_break(&sink->body_full);
	queue_break(&sink->kept);
	queue_break(&sink->image_free);
	queue_break(&sink->image_full);
	queue_break(&sink->ready);
}

static int
failure(struct sink *sink, struct err *err)
{
	int code;

	pthread_mutex_lock(&sink->lock);
	code = (int)sink->err.code;
	if (err != NULL)
		*err = sink->err;
	pthread_mutex_unlock(&sink->lock);
	return code;
}

static void
fill(struct queue *queue)
{
	for (size_t i = 0; i < CHUNK_COUNT; i++)
		queue_put(queue, chunk_create());
}

/* The threads can begin: it is known what the body is. */
static int
start(struct sink *sink, struct err *err)
{
	void *(*const mains[])(
	    void *) = { sink_keep_main, sink_write_main, sink_unpack_main, sink_hash_main };
	size_t count = sink->packed ? THREADS_MAX : 2;

	sink->running = true;
	if (sink->packed)
		fill(&sink->image_free);
	for (size_t i = 0; i < count; i++) {
		if (!stage_start(&sink->threads[i], mains[i], sink))
			return err_set(err, E_FAILED, "can not start a thread");
		sink->thread_count++;
	}
	return 0;
}

static void
prepare(struct sink *sink)
{
	queue_init(&sink->body_free);
	queue_init(&sink->body_full);
	queue_init(&sink->kept);
	queue_init(&sink->image_free);
	queue_init(&sink->image_full);
	queue_init(&sink->ready);
	fill(&sink->body_free);
	hashes_init(&sink->body, sink->want_sha512);
	hashes_init(&sink->image, sink->want_sha512);
	sink->file = (struct outfile){ .fd = SINK_FD };
	sink->spool = (struct outfile){ .fd = SPOOL_FD };
	sink->save_ms = clock_ms();
}

/* Joins what runs.  broken: without the end of the body. */
static void
stop(struct sink *sink, bool broken)
{
	static const struct err stopped = { .code = E_CANCELLED, .msg = "stopped" };

	if (broken)
		sink_fail(sink, &stopped);
	queue_close(&sink->body_full);
	for (size_t i = 0; i < sink->thread_count; i++)
		pthread_join(sink->threads[i], NULL);
	sink->thread_count = 0;
	sink->running = false;
	outfile_done(&sink->file);
	outfile_done(&sink->spool);
}

static void
unprepare(struct sink *sink)
{
	free(TAKE(sink->filling));
	queue_done(&sink->body_free);
	queue_done(&sink->body_full);
	queue_done(&sink->kept);
	queue_done(&sink->image_free);
	queue_done(&sink->image_full);
	queue_done(&sink->ready);
	hashes_done(&sink->body);
	hashes_done(&sink->image);
}

static int
truncate_to(int fd, uint64_t bytes, struct err *err)
{
	struct stat st;

	/* There is no spool where nothing can be packed. */
	if (fd == SPOOL_FD && fstat(fd, &st) < 0 && errno == EBADF)
		return 0;
	if (ftruncate(fd, (off_t)bytes) < 0)
		return err_errno(err, E_IO, errno, "can not prepare the image's file");
	return 0;
}

/* A part counts when its file has the bytes that it should. */
static uint64_t
part_bytes(const struct fetch_order *order, enum sink_kind kind)
{
	struct stat st;

	if (order->part_bytes == 0 || (kind == SINK_CONTAINER && !order->part_packed))
		return 0;
	if (fstat(order->part_packed ? SPOOL_FD : SINK_FD, &st) < 0 ||
	    (uint64_t)st.st_size < order->part_bytes)
		return 0;
	return order->part_bytes;
}

struct sink *
sink_create(const struct fetch_order *order, enum sink_kind kind, bool want_sha512, struct err *err)
{
	struct sink *sink = xcalloc(1, sizeof(*sink));
	int rc;

	sink->order = order;
	sink->kind = kind;
	sink->want_sha512 = want_sha512;
	sink->part_bytes = part_bytes(order, kind);
	sink->part_packed = order->part_packed;
	sink->body_bytes = sink->part_bytes;
	pthread_mutex_init(&sink->lock, NULL);
	prepare(sink);
	rc = truncate_to(SINK_FD, sink->part_packed ? 0 : sink->part_bytes, err);
	if (rc == 0 && kind != SINK_FILE)
		rc = truncate_to(SPOOL_FD, sink->part_packed ? sink->part_bytes : 0, err);
	if (rc == 0)
		return sink;
	sink_destroy(sink);
	return NULL;
}

int
sink_restart(struct sink *sink, struct err *err)
{
	int rc;

	stop(sink, true);
	unprepare(sink);
	sink->failed = false;
	sink->err = (struct err)ERR_INIT;
	sink->known = sink->packed = false;
	sink->body_bytes = sink->part_bytes = sink->expected = 0;
	sink->image_bytes = sink->saved_bytes = 0;
	prepare(sink);
	rc = truncate_to(SINK_FD, 0, err);
	return rc != 0 ? rc : truncate_to(SPOOL_FD, 0, err);
}

static int
check_limit(const struct sink *sink, struct err *err)
{
	CLEANUP_FREE char *size = NULL, *limit = NULL;

	if (!sink->known || sink->packed || sink->expected <= sink->order->max_bytes)
		return 0;
	size = str_size(sink->expected);
	limit = str_size(sink->order->max_bytes);
	return err_set(
	    err, E_LIMIT, "the image is too large: it has %s, and %s are allowed", size, limit);
}

int
sink_expect(struct sink *sink, uint64_t body_bytes, struct err *err)
{
	int rc;

	sink->expected = body_bytes;
	rc = check_limit(sink, err);
	if (rc != 0 || body_bytes <= sink->body_bytes)
		return rc;
	return sink_check_space(sink->order, body_bytes - sink->body_bytes, err);
}

/* By the first bytes it is known what the body is. */
static int
find_out(struct sink *sink, struct err *err)
{
	if (sink->known)
		return 0;
	sink->packing = unpack_packing(sink->filling->data, sink->filling->len);
	sink->packed = sink->packing != PACK_NONE || sink->kind == SINK_CONTAINER;
	sink->known = true;
	return check_limit(sink, err);
}

/* The chunk that is being filled goes on. */
static int
flush(struct sink *sink, struct err *err)
{
	struct chunk *chunk = sink->filling;
	int rc = find_out(sink, err);

	if (rc == 0 && !sink->running)
		rc = start(sink, err);
	if (rc != 0)
		return rc;
	if (chunk->len > 0 || chunk->save) {
		sink->filling = NULL;
		queue_put(&sink->body_full, chunk);
	}
	return sink->failed ? failure(sink, err) : 0;
}

static int
take_chunk(struct sink *sink, bool replayed, struct err *err)
{
	if (sink->filling == NULL) {
		sink->filling = queue_take(&sink->body_free);
		if (sink->filling == NULL)
			return failure(sink, err);
		sink->filling->len = 0;
		sink->filling->save = false;
	}
	sink->filling->replayed = replayed;
	return 0;
}

/* What is there goes to the disk, where a later process finds it. */
static int
save(struct sink *sink, struct err *err)
{
	int rc;

	sink->save_ms = clock_ms();
	rc = take_chunk(sink, false, err);
	if (rc != 0)
		return rc;
	sink->filling->save = true;
	return flush(sink, err);
}

/* Reads back what an earlier process had. */
static int
replay(struct sink *sink, struct err *err)
{
	int fd = sink->part_packed ? SPOOL_FD : SINK_FD, rc = 0;
	uint64_t end = sink->part_bytes, at = 0;

	sink->part_bytes = 0;
	while (rc == 0 && at < end) {
		struct chunk *chunk;
		size_t room;
		ssize_t n;

		rc = take_chunk(sink, true, err);
		if (rc != 0)
			break;
		chunk = sink->filling;
		room = CHUNK_BYTES - chunk->len;
		n = pread(fd, chunk->data + chunk->len, end - at < room ? (size_t)(end - at) : room,
		    (off_t)at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return err_errno(err, E_IO, n < 0 ? errno : EIO,
			    "can not read back what was fetched before");
		chunk->len += (size_t)n;
		at += (uint64_t)n;
		if (chunk->len < CHUNK_BYTES && (at < end || chunk->len < HEAD_BYTES))
			continue;
		rc = find_out(sink, err);
		if (rc == 0 && sink->packed != sink->part_packed)
			rc = err_set(err, E_IO, "what was fetched before is not what it should be");
		if (rc == 0)
			rc = flush(sink, err);
	}
	return rc;
}

int
sink_write(struct sink *sink, const void *data, size_t len, struct err *err)
{
	const unsigned char *at = data;
	int rc = sink->failed ? failure(sink, err) : 0;

	if (rc == 0 && sink->part_bytes > 0)
		rc = replay(sink, err);
	while (rc == 0 && len > 0) {
		struct chunk *chunk;
		size_t n, room;

		rc = take_chunk(sink, false, err);
		if (rc != 0)
			break;
		chunk = sink->filling;
		/* Chunks end where blocks of the file do. */
		room = CHUNK_BYTES - (size_t)((sink->body_bytes - chunk->len) % BLOCK_BYTES) -
		       chunk->len;
		n = room < len ? room : len;
		memcpy(chunk->data + chunk->len, at, n);
		chunk->len += n;
		sink->body_bytes += n;
		at += n;
		len -= n;
		if (n == room)
			rc = flush(sink, err);
		else if (chunk->len >= HEAD_BYTES)
			rc = find_out(sink, err);
	}
	if (rc == 0 && sink->known && clock_ms() - sink->save_ms >= SAVE_MS)
		rc = save(sink, err);
	return rc;
}

int
sink_idle(struct sink *sink, struct err *err)
{
	if (sink->failed)
		return failure(sink, err);
	return sink->known && sink->filling != NULL && sink->filling->len > 0 ? flush(sink, err)
									      : 0;
}

void
sink_give_up(struct sink *sink)
{
	if (sink->failed || !sink->known || save(sink, NULL) != 0)
		return;
	stop(sink, false);
	sink_fail(sink, &(struct err){ .code = E_CANCELLED, .msg = "given up" });
}

uint64_t
sink_body_bytes(const struct sink *sink)
{
	return sink->body_bytes;
}

uint64_t
sink_image_bytes(const struct sink *sink)
{
	return sink->image_bytes;
}

uint64_t
sink_saved_bytes(const struct sink *sink)
{
	return sink->saved_bytes;
}

bool
sink_kind_known(const struct sink *sink)
{
	return sink->known || sink->part_bytes > 0;
}

bool
sink_packed(const struct sink *sink)
{
	return sink->known ? sink->packed : sink->part_packed;
}

int
sink_finish(struct sink *sink, struct sink_result *ret_result, struct err *err)
{
	struct sink_result result = { .body_bytes = sink->body_bytes };
	int rc = sink->failed ? failure(sink, err) : 0;

	if (rc == 0 && sink->part_bytes > 0)
		rc = replay(sink, err);
	if (rc == 0 && sink->body_bytes == 0)
		rc = err_set(err, E_IMAGE, "the image is empty");
	if (rc == 0 && sink->filling != NULL && (sink->filling->len > 0 || !sink->known))
		rc = flush(sink, err);
	if (rc != 0)
		return rc;
	stop(sink, false);
	if (sink->failed)
		return failure(sink, err);
	/* Without what lies behind the image, but with holes at its end. */
	if (ftruncate(SINK_FD, (off_t)sink->image_bytes) < 0 || fsync(SINK_FD) < 0)
		return err_errno(err, E_IO, errno, "can not store the image");
	result.image_bytes = sink->image_bytes;
	result.compression = packing_names[sink->packing];
	hashes_finish(&sink->body, result.body_sha256, result.body_sha512);
	if (sink->packed) {
		hashes_finish(&sink->image, result.sha256, result.sha512);
	} else {
		memcpy(result.sha256, result.body_sha256, sizeof(result.sha256));
		memcpy(result.sha512, result.body_sha512, sizeof(result.sha512));
	}
	*ret_result = result;
	return 0;
}

void
sink_destroy(struct sink *sink)
{
	if (sink == NULL)
		return;
	stop(sink, true);
	unprepare(sink);
	pthread_mutex_destroy(&sink->lock);
	free(sink);
}
