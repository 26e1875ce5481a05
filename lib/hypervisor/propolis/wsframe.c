/* SPDX-License-Identifier: MPL-2.0
 *
 * WebSocket frames.  The header is collected byte by byte and judged as soon as what tells is
 * there, so that nothing is kept for a frame that will be refused. */
#include "lib/hypervisor/propolis/wsframe.h"

#include <string.h>

enum { FIN = 0x80, RESERVED = 0x70, OPCODE = 0x0f, MASKED = 0x80, LENGTH = 0x7f, CONTROL = 0x08 };
enum { LENGTH_16 = 126, LENGTH_64 = 127 };

static bool
fault(struct wsframe_reader *reader, unsigned code, const char *why)
{
	reader->fault = why;
	reader->fault_code = code;
	return false;
}

/* Codes that a peer may send (section 7.4). */
static bool
code_valid(unsigned code)
{
	return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
	       (code >= 3000 && code <= 4999);
}

static size_t
header_len(const struct wsframe_reader *reader)
{
	unsigned length = reader->have < 2 ? 0 : reader->header[1] & LENGTH;

	return length == LENGTH_64 ? 10 : length == LENGTH_16 ? 4 : 2;
}

/* The first two bytes, against each other and the message that goes on. */
static bool
check_start(struct wsframe_reader *reader)
{
	unsigned opcode = reader->header[0] & OPCODE, length = reader->header[1] & LENGTH;
	bool fin = (reader->header[0] & FIN) != 0;

	if ((reader->header[0] & RESERVED) != 0)
		return fault(reader, WSFRAME_PROTOCOL, "a frame with reserved bits");
	if ((opcode & 7) > 2) /* 0 to 2 are data, 8 to 10 control */
		return fault(reader, WSFRAME_PROTOCOL, "a frame of an unknown kind");
	if ((reader->header[1] & MASKED) != 0)
		return fault(reader, WSFRAME_PROTOCOL, "a masked frame");
	if ((opcode & CONTROL) != 0 && !fin)
		return fault(reader, WSFRAME_PROTOCOL, "a control frame in fragments");
	if ((opcode & CONTROL) != 0 && length > WSFRAME_CONTROL_MAX)
		return fault(reader, WSFRAME_PROTOCOL, "a control frame that is too long");
	if ((opcode & CONTROL) != 0)
		return true;
	if (opcode == WSFRAME_CONTINUATION && reader->message == WSFRAME_CONTINUATION)
		return fault(reader, WSFRAME_PROTOCOL, "a fragment of no message");
	if (opcode != WSFRAME_CONTINUATION && reader->message != WSFRAME_CONTINUATION)
		return fault(reader, WSFRAME_PROTOCOL, "a message within another one");
	return true;
}

static bool
check_length(struct wsframe_reader *reader, uint64_t length)
{
	unsigned opcode = reader->header[0] & OPCODE;
	size_t size = header_len(reader);

	if ((size == 4 && length < LENGTH_16) || (size == 10 && length <= UINT16_MAX))
		return fault(reader, WSFRAME_PROTOCOL, "a length in more bytes than it needs");
	if (length > INT64_MAX)
		return fault(reader, WSFRAME_PROTOCOL, "a length beyond numbers");
	if ((opcode & CONTROL) != 0)
		return true;
	if (reader->message == WSFRAME_TEXT || opcode == WSFRAME_TEXT) {
		if (length > WSFRAME_TEXT_MAX || reader->text.len + length > WSFRAME_TEXT_MAX)
			return fault(reader, WSFRAME_TOO_LARGE, "a text of more than 64 KiB");
	} else if (length > WSFRAME_BINARY_MAX) {
		return fault(reader, WSFRAME_TOO_LARGE, "a frame of more than 16 MiB");
	}
	return true;
}

/* false: more bytes are needed, or there is a fault. */
static bool
read_header(struct wsframe_reader *reader, const unsigned char *data, size_t len, size_t *used)
{
	unsigned opcode;
	uint64_t length = 0;

	while (reader->have < header_len(reader)) {
		if (*used == len)
			return false;
		reader->header[reader->have++] = data[(*used)++];
		if (reader->have == 2 && !check_start(reader))
			return false;
	}
	if (reader->have == 2)
		length = reader->header[1] & LENGTH;
	for (size_t i = 2; i < reader->have; i++)
		length = length << 8 | reader->header[i];
	if (!check_length(reader, length))
		return false;
	opcode = reader->header[0] & OPCODE;
	if (opcode == WSFRAME_TEXT || opcode == WSFRAME_BINARY)
		reader->message = (enum wsframe_opcode)opcode;
	reader->in_frame = true;
	reader->left = length;
	reader->control_len = 0;
	return true;
}

static void
end_frame(struct wsframe_reader *reader)
{
	unsigned opcode = reader->header[0] & OPCODE;

	if ((opcode & CONTROL) == 0 && (reader->header[0] & FIN) != 0)
		reader->message = WSFRAME_CONTINUATION;
	reader->in_frame = false;
	reader->have = 0;
}

static bool
end_control(struct wsframe_reader *reader, struct wsframe_event *event)
{
	event->kind = WSFRAME_CONTROL;
	event->opcode = (enum wsframe_opcode)(reader->header[0] & OPCODE);
	event->data = reader->control;
	event->len = reader->control_len;
	if (event->opcode != WSFRAME_CLOSE || event->len == 0)
		return true;
	event->code = (unsigned)event->data[0] << 8 | event->data[1];
	if (event->len == 1 || !code_valid(event->code))
		return fault(reader, WSFRAME_PROTOCOL, "a close frame with an impossible code");
	event->data += 2;
	event->len -= 2;
	return true;
}

/* true: there is an event. */
static bool
read_payload(struct wsframe_reader *reader, const unsigned char *data, size_t len, size_t *used,
    struct wsframe_event *event)
{
	size_t n = len - *used < reader->left ? len - *used : (size_t)reader->left;
	bool control = (reader->header[0] & CONTROL) != 0, ended;
	bool text = !control && reader->message == WSFRAME_TEXT;

	data += *used;
	*used += n;
	reader->left -= n;
	ended = reader->left == 0;
	if (control && n > 0) {
		memcpy(reader->control + reader->control_len, data, n);
		reader->control_len += n;
	} else if (text) {
		sbuf_add(&reader->text, data, n);
	}
	if (ended)
		end_frame(reader);
	if (control)
		return ended && end_control(reader, event);
	if (!text && n > 0) {
		event->kind = WSFRAME_DATA;
		event->opcode = WSFRAME_BINARY;
		event->data = data;
		event->len = n;
		return true;
	}
	if (!text || !ended || reader->message != WSFRAME_CONTINUATION)
		return false;
	event->kind = WSFRAME_MESSAGE;
	event->opcode = WSFRAME_TEXT;
	event->data = (const unsigned char *)reader->text.data;
	event->len = reader->text.len;
	reader->text_told = true;
	return true;
}

size_t
wsframe_read(struct wsframe_reader *reader, const unsigned char *data, size_t len,
    struct wsframe_event *ret_event)
{
	size_t used = 0;

	memset(ret_event, 0, sizeof(*ret_event));
	if (reader->text_told) {
		sbuf_reset(&reader->text);
		reader->text_told = false;
	}
	while (reader->fault == NULL) {
		if (!reader->in_frame && !read_header(reader, data, len, &used))
			break;
		if (read_payload(reader, data, len, &used, ret_event))
			return used;
		if (reader->in_frame)
			break;
	}
	if (reader->fault != NULL)
		*ret_event = (struct wsframe_event){
			.kind = WSFRAME_FAULT, .code = reader->fault_code, .why = reader->fault
		};
	return used;
}

void
wsframe_reader_done(struct wsframe_reader *reader)
{
	sbuf_done(&reader->text);
}

size_t
wsframe_write(unsigned char *out, enum wsframe_opcode opcode, const unsigned char mask[4],
    const void *data, size_t len)
{
	const unsigned char *from = data;
	size_t at = 2, bytes = len < LENGTH_16 ? 0 : len <= UINT16_MAX ? 2 : 8;

	out[0] = (unsigned char)(FIN | opcode);
	out[1] = (unsigned char)(MASKED | (bytes == 0 ? len : bytes == 2 ? LENGTH_16 : LENGTH_64));
	while (bytes-- > 0)
		out[at++] = (unsigned char)((uint64_t)len >> 8 * bytes);
	memcpy(out + at, mask, 4);
	at += 4;
	for (size_t i = 0; i < len; i++)
		out[at + i] = from[i] ^ mask[i % 4];
	return at + len;
}
