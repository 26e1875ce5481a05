/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_BASE_FRAME_H
#define LIB_BASE_FRAME_H

#include <stddef.h>
#include <stdint.h>

/* What flows after vm.exec and followed logs: 1 byte type, 4 bytes length big-endian, payload. */
enum frame_type {
	FRAME_STDIN,
	FRAME_STDOUT,
	FRAME_STDERR,
	FRAME_STDIN_END,
	FRAME_WINDOW, /* {"columns": N, "rows": N} */
	FRAME_EXIT,   /* {"status": N} or {"signal": "KILL"} or {"error": …} */
	FRAME_TYPES
};
enum { FRAME_HEADER = 5, FRAME_MAX = 65536 };

static inline void
frame_header(unsigned char out[FRAME_HEADER], enum frame_type type, size_t len)
{
	out[0] = (unsigned char)type;
	out[1] = (unsigned char)(len >> 24);
	out[2] = (unsigned char)(len >> 16);
	out[3] = (unsigned char)(len >> 8);
	out[4] = (unsigned char)len;
}

/* Looks at the start of buffered bytes.  1: a whole frame, its payload follows the header;
 * 0: more is needed; -1: not a frame (unknown type or too long). */
static inline int
frame_peek(const unsigned char *data, size_t have, enum frame_type *ret_type, size_t *ret_len)
{
	size_t len;

	if (have < 1)
		return 0;
	if (data[0] >= FRAME_TYPES)
		return -1;
	if (have < FRAME_HEADER)
		return 0;
	len = (size_t)data[1] << 24 | (size_t)data[2] << 16 | (size_t)data[3] << 8 | data[4];
	if (len > FRAME_MAX)
		return -1;
	if (have - FRAME_HEADER < len)
		return 0;
	*ret_type = (enum frame_type)data[0];
	*ret_len = len;
	return 1;
}

#endif
