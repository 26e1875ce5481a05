/* SPDX-License-Identifier: MPL-2.0
 *
 * Four libraries behind one step: what differs stands in a table, members that follow each other
 * are the same for all. */
#define ZSTD_STATIC_LINKING_ONLY /* an allocator of our own */
#include "lib/image/fetcher/unpack.h"

#include <bzlib.h>
#include <errno.h>
#include <inttypes.h>
#include <lzma.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "lib/base/mem.h"
#include "lib/base/platform.h"
#include "lib/base/str.h"

enum {
	GZIP_ONLY = 16 + MAX_WBITS,
	WINDOW_LOG_MAX = 27,
	REGIONS_MAX = 4,
	ANONYMOUS_MAX = 20 << 20, /* what need not be mapped */
	TRIM_BYTES = 1 << 20,
};
#define WINDOW_MAX ((uint64_t)WINDOW_MAX_MIB << 20)
/* liblzma counts what it needs besides the window, too. */
#define XZ_MEMORY_MAX (WINDOW_MAX + (4 << 20))

struct region {
	void *data; /* NULL: free */
	size_t len;
};

struct unpack {
	enum packing packing;
	int fd;
	uint64_t at;
	struct region regions[REGIONS_MAX];
	uint64_t untrimmed;
	struct err err; /* of the allocator */
	bool inside;    /* a member has begun and not ended */
	bool any;       /* one has ended */
	z_stream z;
	bz_stream bz;
	lzma_stream xz;
	lzma_allocator xz_allocator;
	ZSTD_DCtx *zstd;
};

enum outcome { RUN_MORE, RUN_END, RUN_BROKEN, RUN_TOO_LARGE };

/* ---- windows ---- */

static void *
map_region(struct unpack *u, size_t size)
{
	const size_t stride = (size_t)WINDOW_MAX + (8 << 20);
	size_t i = 0;
	off_t at;
	void *data;

	while (i < REGIONS_MAX && u->regions[i].data != NULL)
		i++;
	if (i == REGIONS_MAX || size > stride)
		return NULL;
	at = (off_t)(u->at + i * stride);
	/* The room first: without it a write would end the process. */
	if (!platform_reserve(u->fd, at, (off_t)size) &&
	    (errno != EOPNOTSUPP || ftruncate(u->fd, at + (off_t)size) < 0)) {
		err_errno(&u->err, E_IO, errno, "can not make room to unpack the image");
		return NULL;
	}
	data = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, u->fd, at);
	if (data == MAP_FAILED) {
		err_errno(&u->err, E_IO, errno, "can not map room to unpack the image");
		return NULL;
	}
	/* Page by page: with what is read or mapped ahead, there would be many more. */
	posix_madvise(data, size, POSIX_MADV_RANDOM);
	u->regions[i] = (struct region){ .data = data, .len = size };
	return data;
}

static void *
window_alloc(void *arg, size_t size)
{
	return size <= ANONYMOUS_MAX ? malloc(size) : map_region(arg, size);
}

static void
window_free(void *arg, void *data)
{
	struct unpack *u = arg;

	for (size_t i = 0; data != NULL && i < REGIONS_MAX; i++)
		if (u->regions[i].data == data) {
			munmap(data, u->regions[i].len);
			u->regions[i] = (struct region){ 0 };
			return;
		}
	free(data);
}

static void *
xz_alloc(void *arg, size_t count, size_t size)
{
	return size == 0 || count <= SIZE_MAX / size ? window_alloc(arg, count * size) : NULL;
}

/* The pages stay in the kernel's cache, which takes them back when it must. */
static void
trim(struct unpack *u, size_t made)
{
	u->untrimmed += made;
	if (u->untrimmed < TRIM_BYTES)
		return;
	u->untrimmed = 0;
	for (size_t i = 0; i < REGIONS_MAX; i++)
		if (u->regions[i].data != NULL)
			platform_page_out(u->regions[i].data, u->regions[i].len);
}

/* ---- the libraries ---- */

static bool
gzip_begin(struct unpack *u)
{
	return u->any ? inflateReset(&u->z) == Z_OK : inflateInit2(&u->z, GZIP_ONLY) == Z_OK;
}

static enum outcome
gzip_run(struct unpack *u, struct unpack_io *io)
{
	int status;

	u->z.next_in = (unsigned char *)(uintptr_t)io->in;
	u->z.avail_in = (uInt)io->in_len;
	u->z.next_out = io->out;
	u->z.avail_out = (uInt)io->out_len;
	status = inflate(&u->z, Z_NO_FLUSH);
	io->in_len = u->z.avail_in;
	io->out_len = u->z.avail_out;
	if (status == Z_STREAM_END)
		return RUN_END;
	return status == Z_OK || status == Z_BUF_ERROR ? RUN_MORE : RUN_BROKEN;
}

static void
gzip_end(struct unpack *u)
{
	inflateEnd(&u->z);
}

static bool
bzip2_begin(struct unpack *u)
{
	BZ2_bzDecompressEnd(&u->bz);
	u->bz = (bz_stream){ 0 };
	return BZ2_bzDecompressInit(&u->bz, 0, 0) == BZ_OK;
}

static enum outcome
bzip2_run(struct unpack *u, struct unpack_io *io)
{
	int status;

	u->bz.next_in = (char *)(uintptr_t)io->in;
	u->bz.avail_in = (unsigned)io->in_len;
	u->bz.next_out = (char *)io->out;
	u->bz.avail_out = (unsigned)io->out_len;
	status = BZ2_bzDecompress(&u->bz);
	io->in_len = u->bz.avail_in;
	io->out_len = u->bz.avail_out;
	return status == BZ_STREAM_END ? RUN_END : status == BZ_OK ? RUN_MORE : RUN_BROKEN;
}

static void
bzip2_end(struct unpack *u)
{
	BZ2_bzDecompressEnd(&u->bz);
}

static bool
xz_begin(struct unpack *u)
{
	u->xz_allocator = (lzma_allocator){ .alloc = xz_alloc, .free = window_free, .opaque = u };
	u->xz.allocator = &u->xz_allocator;
	return lzma_stream_decoder(&u->xz, XZ_MEMORY_MAX, 0) == LZMA_OK;
}

static enum outcome
xz_run(struct unpack *u, struct unpack_io *io)
{
	lzma_ret status;

	u->xz.next_in = io->in;
	u->xz.avail_in = io->in_len;
	u->xz.next_out = io->out;
	u->xz.avail_out = io->out_len;
	status = lzma_code(&u->xz, LZMA_RUN);
	io->in_len = u->xz.avail_in;
	io->out_len = u->xz.avail_out;
	if (status == LZMA_STREAM_END)
		return RUN_END;
	if (status == LZMA_MEMLIMIT_ERROR)
		return RUN_TOO_LARGE;
	return status == LZMA_OK || status == LZMA_BUF_ERROR ? RUN_MORE : RUN_BROKEN;
}

static void
xz_end(struct unpack *u)
{
	lzma_end(&u->xz);
}

static bool
zstd_begin(struct unpack *u)
{
	if (u->zstd == NULL)
		u->zstd = ZSTD_createDCtx_advanced((ZSTD_customMem){
		    .customAlloc = window_alloc, .customFree = window_free, .opaque = u });
	return u->zstd != NULL &&
	       !ZSTD_isError(ZSTD_DCtx_setParameter(u->zstd, ZSTD_d_windowLogMax, WINDOW_LOG_MAX));
}

static enum outcome
zstd_run(struct unpack *u, struct unpack_io *io)
{
	ZSTD_inBuffer in = { io->in, io->in_len, 0 };
	ZSTD_outBuffer out = { io->out, io->out_len, 0 };
	size_t status = ZSTD_decompressStream(u->zstd, &out, &in);

	io->in_len -= in.pos;
	io->out_len -= out.pos;
	if (ZSTD_isError(status))
		return ZSTD_getErrorCode(status) == ZSTD_error_frameParameter_windowTooLarge
			   ? RUN_TOO_LARGE
			   : RUN_BROKEN;
	return status == 0 ? RUN_END : RUN_MORE;
}

static void
zstd_end(struct unpack *u)
{
	ZSTD_freeDCtx(u->zstd);
}

/* clang-format off */
static const struct {
	const char *magic;
	size_t len;
	bool (*begin)(struct unpack *u);
	enum outcome (*run)(struct unpack *u, struct unpack_io *io);
	void (*end)(struct unpack *u);
} ways[PACK_COUNT] = {
	[PACK_GZIP]  = { "\x1f\x8b\x08",       3, gzip_begin,  gzip_run,  gzip_end },
	[PACK_BZIP2] = { "BZh",                3, bzip2_begin, bzip2_run, bzip2_end },
	[PACK_XZ]    = { "\xfd" "7zXZ\0",      6, xz_begin,    xz_run,    xz_end },
	[PACK_ZSTD]  = { "\x28\xb5\x2f\xfd",   4, zstd_begin,  zstd_run,  zstd_end },
};
/* clang-format on */
const char *const packing_names[PACK_COUNT] = { "none", "gzip", "bzip2", "xz", "zstd" };

/* zstd has frames without data besides, of which some programs write one first. */
static bool
is_skippable(const unsigned char *head, size_t len)
{
	return len >= 4 && (head[0] & 0xf0) == 0x50 && memcmp(head + 1, "\x2a\x4d\x18", 3) == 0;
}

enum packing
unpack_packing(const unsigned char *head, size_t len)
{
	for (size_t i = PACK_NONE + 1; i < PACK_COUNT; i++)
		if (len >= ways[i].len && memcmp(head, ways[i].magic, ways[i].len) == 0)
			return (enum packing)i;
	return is_skippable(head, len) ? PACK_ZSTD : PACK_NONE;
}

/* ---- the step ---- */

static int
broken(const struct unpack *u, const char *why, struct err *err)
{
	err_set(err, E_IMAGE, "the image can not be unpacked: its %s data %s",
	    packing_names[u->packing], why);
	err_hint(
	    err, "the file on the server may be damaged; fetch it again, or ask who offers it");
	return E_IMAGE;
}

static int
too_large(const struct unpack *u, struct err *err)
{
	err_set(err, E_LIMIT,
	    "the image can not be unpacked: its %s data needs a window of more than %d MiB",
	    packing_names[u->packing], WINDOW_MAX_MIB);
	err_hint(err, "pack it again, with 'xz -9' or 'zstd --long=27' at most");
	return E_LIMIT;
}

struct unpack *
unpack_create(enum packing packing, int fd, uint64_t at, struct err *err)
{
	struct unpack *u = xcalloc(1, sizeof(*u));

	u->packing = packing;
	u->fd = fd;
	u->at = at;
	if (ways[packing].begin(u))
		return u;
	unpack_destroy(u);
	err_set(err, E_FAILED, "the library for %s does not start", packing_names[packing]);
	return NULL;
}

/* Between two members; zeros may stand there.  false: no member follows, as far as can be seen. */
static bool
next_member(struct unpack *u, struct unpack_io *io)
{
	while (u->any && io->in_len > 0 && *io->in == 0) {
		io->in++;
		io->in_len--;
	}
	if (io->in_len == 0)
		return false;
	return !u->any || *io->in == (unsigned char)ways[u->packing].magic[0] ||
	       (u->packing == PACK_ZSTD && (*io->in & 0xf0) == 0x50);
}

int
unpack_step(struct unpack *u, struct unpack_io *io, bool *ret_end, struct err *err)
{
	const unsigned char *in_end = io->in + io->in_len;
	unsigned char *out_end = io->out + io->out_len;
	bool moved = true;

	*ret_end = false;
	while (moved) {
		size_t in_len, out_len;

		if (!u->inside && !next_member(u, io)) {
			*ret_end = io->in_len > 0 || io->last;
			return 0;
		}
		if (!u->inside && u->any && !ways[u->packing].begin(u))
			return broken(u, "can not be read any further", err);
		u->inside = true;
		in_len = io->in_len;
		out_len = io->out_len;
		switch (ways[u->packing].run(u, io)) {
		case RUN_END:
			u->inside = false;
			u->any = true;
			break;
		case RUN_BROKEN:
			if (u->err.code == 0)
				return broken(u, "is broken", err);
			if (err != NULL)
				*err = u->err;
			return (int)u->err.code;
		case RUN_TOO_LARGE:
			return too_large(u, err);
		case RUN_MORE:
			break;
		}
		io->in = in_end - io->in_len;
		io->out = out_end - io->out_len;
		moved = io->in_len != in_len || io->out_len != out_len;
		trim(u, out_len - io->out_len);
	}
	if (io->last && io->in_len == 0 && io->out_len > 0)
		return broken(u, "ends too early", err);
	return 0;
}

void
unpack_destroy(struct unpack *u)
{
	if (u == NULL)
		return;
	ways[u->packing].end(u);
	free(u);
}
