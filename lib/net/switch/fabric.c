/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/net/switch/fabric.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "lib/base/mem.h"

enum { BUFFERS = FABRIC_PORTS * FABRIC_QUEUE + FABRIC_INBOX, ALIGNMENT = 64 };

const char *const fabric_drop_names[DROP_KINDS] = {
	[DROP_SHORT] = "short",
	[DROP_LONG] = "long",
	[DROP_SOURCE] = "source",
	[DROP_SPOOFED] = "spoofed",
	[DROP_RESERVED] = "reserved",
	[DROP_FULL] = "full",
	[DROP_AWAY] = "away",
};

/* Pages are there once they are used, and the last one given is the first one taken: a switch
 * without traffic has next to no memory, whatever room there is for frames. */
struct fabric *
fabric_create(uint64_t mtu, uint64_t ageing_ms)
{
	struct fabric *f = xcalloc(1, sizeof(*f));

	macs_init(&f->macs, ageing_ms);
	f->frame_max = (size_t)mtu + FABRIC_HEADER + FABRIC_TAG;
	f->stride = (f->frame_max + 1 + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
	f->memory = mmap(NULL, BUFFERS * f->stride, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (f->memory == MAP_FAILED)
		abort(); /* as the allocator does */
	f->lengths = xcalloc(BUFFERS, sizeof(*f->lengths));
	f->references = xcalloc(BUFFERS, sizeof(*f->references));
	f->free = xcalloc(BUFFERS, sizeof(*f->free));
	for (uint32_t i = BUFFERS; i-- > 0;)
		f->free[f->free_count++] = i;
	return f;
}

void
fabric_destroy(struct fabric *f)
{
	if (f == NULL)
		return;
	munmap(f->memory, BUFFERS * f->stride);
	free(f->lengths);
	free(f->references);
	free(f->free);
	free(f);
}

bool
fabric_add(struct fabric *f, unsigned port, const uint8_t *mac)
{
	struct fabric_port *p = &f->ports[port];

	if (p->present || (mac != NULL && !macs_fix(&f->macs, mac, port)))
		return false;
	memset(p, 0, sizeof(*p));
	p->present = true;
	p->bound = mac != NULL;
	if (mac != NULL)
		memcpy(p->mac, mac, MAC_BYTES);
	f->active[f->active_count++] = (uint8_t)port;
	return true;
}

void
fabric_remove(struct fabric *f, unsigned port)
{
	struct fabric_port *p = &f->ports[port];

	if (!p->present)
		return;
	fabric_dropped(f, port, p->waiting, DROP_AWAY);
	macs_forget_port(&f->macs, port);
	p->present = false;
	for (unsigned i = 0; i < f->active_count; i++)
		if (f->active[i] == port)
			f->active[i] = f->active[--f->active_count];
}

uint32_t
fabric_take(struct fabric *f)
{
	uint32_t buffer;

	assert(f->free_count > 0);
	buffer = f->free[--f->free_count];
	f->references[buffer] = 1;
	return buffer;
}

void
fabric_give(struct fabric *f, uint32_t buffer)
{
	assert(f->references[buffer] > 0);
	if (--f->references[buffer] == 0)
		f->free[f->free_count++] = buffer;
}

/* ---- a frame ---- */

static void
push(struct fabric *f, unsigned to, uint32_t buffer)
{
	struct fabric_port *p = &f->ports[to];

	if (p->waiting == FABRIC_QUEUE) {
		p->drops[DROP_FULL]++;
		return;
	}
	if (p->waiting == 0 && !f->is_woken[to]) {
		f->is_woken[to] = true;
		f->woken[f->woken_count++] = (uint8_t)to;
	}
	p->queue[(p->head + p->waiting++) % FABRIC_QUEUE] = buffer;
	f->references[buffer]++;
}

/* 01:80:c2:00:00:01 to 0f end at a bridge.  00 goes on: by these frames guests that are bridges
 * themselves find a loop which they made. */
static bool
is_reserved(const uint8_t *to)
{
	static const uint8_t prefix[] = { 0x01, 0x80, 0xc2, 0x00, 0x00 };

	return memcmp(to, prefix, sizeof(prefix)) == 0 && to[5] >= 0x01 && to[5] <= 0x0f;
}

static int
check(struct fabric *f, unsigned port, const uint8_t *frame, size_t len, uint64_t now_ms)
{
	const struct fabric_port *p = &f->ports[port];
	const uint8_t *from = frame + MAC_BYTES;

	if (len < FABRIC_HEADER)
		return DROP_SHORT;
	if (len > f->frame_max)
		return DROP_LONG;
	if (from[0] & 1)
		return DROP_SOURCE;
	if (p->bound && memcmp(from, p->mac, MAC_BYTES) != 0)
		return DROP_SPOOFED;
	if (!macs_learn(&f->macs, from, port, now_ms))
		return DROP_SPOOFED;
	return is_reserved(frame) ? DROP_RESERVED : -1;
}

void
fabric_input(struct fabric *f, unsigned port, uint32_t buffer, size_t len, uint64_t now_ms)
{
	struct fabric_port *p = &f->ports[port];
	const uint8_t *frame = fabric_buffer(f, buffer);
	int why = check(f, port, frame, len, now_ms), to = MACS_NOWHERE;

	p->in_frames++;
	p->in_bytes += len;
	if (why >= 0) {
		p->drops[why]++;
		fabric_give(f, buffer);
		return;
	}
	f->lengths[buffer] = (uint32_t)len;
	if (!(frame[0] & 1))
		to = macs_find(&f->macs, frame, now_ms);
	if (to == MACS_NOWHERE) {
		for (unsigned i = 0; i < f->active_count; i++)
			if (f->active[i] != port)
				push(f, f->active[i], buffer);
	} else if ((unsigned)to != port) { /* else both are behind that port already */
		push(f, (unsigned)to, buffer);
	}
	fabric_give(f, buffer);
}

int
fabric_woken(struct fabric *f)
{
	unsigned port;

	if (f->woken_count == 0)
		return -1;
	port = f->woken[--f->woken_count];
	f->is_woken[port] = false;
	return (int)port;
}

static uint64_t
pop(struct fabric *f, unsigned port, unsigned count)
{
	struct fabric_port *p = &f->ports[port];
	uint64_t bytes = 0;

	assert(count <= p->waiting);
	for (unsigned i = 0; i < count; i++) {
		uint32_t buffer = fabric_waiting(p, i);

		bytes += f->lengths[buffer];
		fabric_give(f, buffer);
	}
	p->head = (uint16_t)((p->head + count) % FABRIC_QUEUE);
	p->waiting = (uint16_t)(p->waiting - count);
	return bytes;
}

void
fabric_sent(struct fabric *f, unsigned port, unsigned count)
{
	f->ports[port].out_frames += count;
	f->ports[port].out_bytes += pop(f, port, count);
}

void
fabric_dropped(struct fabric *f, unsigned port, unsigned count, enum fabric_drop why)
{
	f->ports[port].drops[why] += count;
	pop(f, port, count);
}
