/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_HYPERVISOR_PROPOLIS_WSFRAME_H
#define LIB_HYPERVISOR_PROPOLIS_WSFRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/str.h"

/* The frames of a WebSocket (RFC 6455, section 5), as a client reads and writes them.  Bytes in,
 * values out; any thread. */

enum wsframe_opcode {
	WSFRAME_CONTINUATION = 0,
	WSFRAME_TEXT = 1,
	WSFRAME_BINARY = 2,
	WSFRAME_CLOSE = 8,
	WSFRAME_PING = 9,
	WSFRAME_PONG = 10,
};

enum wsframe_code { /* of a close frame */
	WSFRAME_NORMAL = 1000,
	WSFRAME_GOING_AWAY = 1001,
	WSFRAME_PROTOCOL = 1002,
	WSFRAME_TOO_LARGE = 1009,
};

enum {
	WSFRAME_HEADER_MAX = 14,
	WSFRAME_CONTROL_MAX = 125,
	WSFRAME_TEXT_MAX = 64 << 10,  /* a whole message */
	WSFRAME_BINARY_MAX = 16 << 20, /* one frame; messages may go on without end */
};

enum wsframe_kind {
	WSFRAME_MORE,	/* all bytes were used, and more are needed */
	WSFRAME_DATA,	/* a piece of a binary message, as large as it came */
	WSFRAME_MESSAGE, /* a whole text, zero terminated besides */
	WSFRAME_CONTROL, /* opcode tells which; a close frame has its code, and the rest in data */
	WSFRAME_FAULT,	/* the server broke the rules: `code` to close with, `why` in words */
};

struct wsframe_event {
	enum wsframe_kind kind;
	enum wsframe_opcode opcode;
	const unsigned char *data; /* borrowed until the next call, or of the input */
	size_t len;
	unsigned code; /* 0: a close frame without one */
	const char *why;
};

struct wsframe_reader { /* zero-initialise */
	unsigned char header[WSFRAME_HEADER_MAX];
	size_t have; /* bytes of the header */
	bool in_frame;
	uint64_t left; /* of the frame's payload */
	enum wsframe_opcode message; /* TEXT or BINARY while one goes on, else CONTINUATION */
	struct sbuf text;
	bool text_told;
	unsigned char control[WSFRAME_CONTROL_MAX];
	size_t control_len;
	const char *fault;
	unsigned fault_code;
};

/* Takes from the server's bytes up to the next event; returns how many were used.  After a fault
 * nothing is read any more. */
size_t wsframe_read(struct wsframe_reader *reader, const unsigned char *data, size_t len,
    struct wsframe_event *ret_event);
void wsframe_reader_done(struct wsframe_reader *reader);

/* One whole, masked frame; out: WSFRAME_HEADER_MAX + len bytes.  Returns its size. */
size_t wsframe_write(unsigned char *out, enum wsframe_opcode opcode, const unsigned char mask[4],
    const void *data, size_t len);

#endif
