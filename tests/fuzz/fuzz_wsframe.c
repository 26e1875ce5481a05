/* SPDX-License-Identifier: MPL-2.0 */
#include <stdlib.h>
#include <string.h>

#include "lib/hypervisor/propolis/wsframe.h"
#include "tests/fuzz/fuzz.h"

/* What was read, so that two readings can be compared: binary pieces joined, all else by kind. */
struct reading {
	struct wsframe_reader reader;
	struct sbuf log;
	bool joined, fault;
};

static void
note(struct reading *r, const struct wsframe_event *event)
{
	bool data = event->kind == WSFRAME_DATA;

	assert(event->kind != WSFRAME_CONTROL || event->len <= WSFRAME_CONTROL_MAX);
	assert(event->kind != WSFRAME_MESSAGE || event->len <= WSFRAME_TEXT_MAX);
	assert(event->kind != WSFRAME_MESSAGE || event->data[event->len] == '\0');
	assert(!data || event->len > 0);
	assert(!r->fault || event->kind == WSFRAME_FAULT);
	if (event->kind == WSFRAME_MORE || (r->fault && event->kind == WSFRAME_FAULT))
		return;
	if (!data || !r->joined)
		sbuf_addf(&r->log, "\n%d %d %u ", event->kind, event->opcode, event->code);
	r->joined = data;
	r->fault = event->kind == WSFRAME_FAULT;
	if (event->len > 0)
		sbuf_add(&r->log, event->data, event->len);
	if (r->fault)
		sbuf_adds(&r->log, event->why);
}

static void
read_all(struct reading *r, const uint8_t *data, size_t size, size_t piece)
{
	size_t at = 0, have = 0;

	while (at < size) {
		struct wsframe_event event;
		size_t used;

		have = have > 0 ? have : size - at < piece ? size - at : piece;
		used = wsframe_read(&r->reader, data + at, have, &event);
		assert(used <= have);
		assert(event.kind != WSFRAME_MORE || used == have);
		note(r, &event);
		if (r->fault)
			return;
		/* Nothing used without an event would be an endless loop. */
		assert(used > 0);
		at += used;
		have -= used;
	}
}

/* Any bytes are frames or a fault, and the same ones in whatever pieces they come.  What we send
 * is read by nobody but servers: its reader must refuse it as masked. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const unsigned char mask[4] = { 1, 2, 3, 4 };
	struct reading whole = { 0 }, bytes = { 0 }, ours = { 0 };
	unsigned char *frame = malloc(WSFRAME_HEADER_MAX + size);

	read_all(&whole, data, size, size);
	read_all(&bytes, data, size, size > 4096 ? 1000 : 1);
	assert(whole.fault == bytes.fault && whole.log.len == bytes.log.len);
	assert(whole.log.len == 0 || memcmp(whole.log.data, bytes.log.data, whole.log.len) == 0);
	read_all(&ours, frame, wsframe_write(frame, WSFRAME_BINARY, mask, data, size), 7);
	assert(ours.fault && ours.reader.fault_code == WSFRAME_PROTOCOL);
	free(frame);
	wsframe_reader_done(&whole.reader);
	wsframe_reader_done(&bytes.reader);
	wsframe_reader_done(&ours.reader);
	sbuf_done(&whole.log);
	sbuf_done(&bytes.log);
	sbuf_done(&ours.log);
	return 0;
}
