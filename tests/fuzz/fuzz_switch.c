/* SPDX-License-Identifier: MPL-2.0
 *
 * What machines and clients can send to vmm-switch.  The input is a row of records: a kind, a
 * port, two bytes of length, and so many bytes.  Kind 0 is a control line, 1 lets a port's queue
 * be sent, 2 ages, all others are frames. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/net/switch/control.h"
#include "tests/fuzz/fuzz.h"

enum { MTU = 600, AGEING_MS = 8 };

static void
check(const struct fabric *f)
{
	size_t present = 0, waiting = 0, references = 0, known = 0;

	for (unsigned i = 0; i < FABRIC_PORTS; i++) {
		const struct fabric_port *p = &f->ports[i];

		present += p->present;
		assert(p->waiting <= FABRIC_QUEUE && (p->present || p->waiting == 0));
		waiting += p->waiting;
		for (unsigned k = 0; k < p->waiting; k++) {
			uint32_t length = f->lengths[fabric_waiting(p, k)];

			assert(length >= FABRIC_HEADER && length <= f->frame_max);
		}
	}
	for (size_t i = 0; i < FABRIC_PORTS * FABRIC_QUEUE + FABRIC_INBOX; i++)
		references += f->references[i];
	for (int i = 0; i < MACS_MAX; i++)
		known += f->macs.entries[i].used;
	assert(present == f->active_count && known == f->macs.count);
	assert(references == waiting + FABRIC_INBOX);
}

static void
control(struct wire *w, const uint8_t *data, size_t len, uint64_t now_ms)
{
	char *line = xmalloc(len + 1);
	CLEANUP_JSON json_object *answer = NULL;

	memcpy(line, data, len);
	line[len] = '\0';
	answer = control_answer(w, "g", line, len, now_ms);
	assert(strchr(json_object_to_json_string_ext(answer, JSON_TEXT_FLAGS), '\n') == NULL);
	free(line);
}

/* In the place of one of the wire's own, as if it had been received. */
static void
frame(struct wire *w, unsigned port, const uint8_t *data, size_t len, uint64_t now_ms)
{
	struct fabric *f = w->fabric;
	size_t room = f->frame_max + 1;

	if (!f->ports[port].present)
		return;
	memcpy(fabric_buffer(f, w->inbox[0]), data, len < room ? len : room);
	fabric_input(f, port, w->inbox[0], len, now_ms);
	w->inbox[0] = fabric_take(f);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char dir[] = "/tmp/fuzz-switch-XXXXXX";
	struct wire *w = NULL;
	uint64_t now_ms = 0;

	if (mkdtemp(dir) == NULL || wire_create(dir, fabric_create(MTU, AGEING_MS), &w, NULL) != 0)
		abort();
	wire_add(w, 0, NULL, NULL);
	wire_add(w, 1, "52:54:00:00:00:01", NULL);
	wire_add(w, 2, NULL, NULL);
	while (size >= 4) {
		uint8_t kind = data[0], port = data[1] % FABRIC_PORTS;
		size_t len = (size_t)data[2] << 8 | data[3];

		data += 4;
		size -= 4;
		len = len < size ? len : size;
		if (kind == 0)
			control(w, data, len, now_ms);
		else if (kind == 1)
			wire_on_room(w, port, now_ms);
		else if (kind == 2)
			macs_age(&w->fabric->macs, now_ms);
		else
			frame(w, port, data, len, now_ms);
		data += len;
		size -= len;
		now_ms++;
	}
	check(w->fabric);
	wire_flush(w, now_ms);
	check(w->fabric);
	wire_destroy(w);
	rmdir(dir);
	return 0;
}
