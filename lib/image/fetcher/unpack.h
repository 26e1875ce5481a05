/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_IMAGE_FETCHER_UNPACK_H
#define LIB_IMAGE_FETCHER_UNPACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"

/* What takes one layer of compression off, by zlib, libbz2, liblzma or libzstd.  Checksums are
 * compared, data that ends too early is an error, and the memory is bounded: what packed the data
 * chose a window of bytes that later ones may refer to, and one of more than a few MiB is a
 * mapped region of the image's own file, behind where the image can reach, whose pages the kernel
 * can take back at any time. */

enum packing { PACK_NONE, PACK_GZIP, PACK_BZIP2, PACK_XZ, PACK_ZSTD, PACK_COUNT };
extern const char *const packing_names[PACK_COUNT]; /* "none", "gzip", … */

enum { WINDOW_MAX_MIB = 128 };

/* By the first bytes. */
enum packing unpack_packing(const unsigned char *head, size_t len);

struct unpack_io {
	const unsigned char *in;
	size_t in_len;
	unsigned char *out;
	size_t out_len;
	bool last; /* no input follows */
};

struct unpack;
/* fd: the file that windows may be mapped from, from the offset `at` on.  E_LIMIT, E_NO_SPACE. */
struct unpack *unpack_create(enum packing packing, int fd, uint64_t at, struct err *err);
/* Consumes and gives what it can.  *ret_end: nothing more will come; what is left of the input is
 * no packed data.  With io->last, no input left and room in the output, it is an error when the
 * data is not complete.  E_IMAGE, E_LIMIT, E_NO_SPACE. */
int unpack_step(struct unpack *unpack, struct unpack_io *io, bool *ret_end, struct err *err);
void unpack_destroy(struct unpack *unpack);

#endif
