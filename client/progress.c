/* SPDX-License-Identifier: MPL-2.0 */
#include "client/progress.h"

#include <stdlib.h>
#include <string.h>

#include "client/json.h"
#include "client/out.h"
#include "lib/base/clock.h"
#include "lib/base/fs.h"
#include "lib/base/mem.h"

enum {
	REDRAW_MS = 100,
	LOOK_MS = 250,
	WORTH_MS = 500, /* a phase that takes longer gets a line of its own */
	LONG_PHASE_MS = 1000,
	SAMPLE_MS = 500,  /* a rate is of at least so long */
	SILENT_MS = 5000, /* without news it is not known any more */
	COUNT_MS = 10000, /* elsewhere than on a terminal bytes are told so often */
	MAX_PARTIAL = 16 << 10,
};

void
progress_init(struct progress *p, enum progress_style style, int fd)
{
	*p = (struct progress){ .style = style, .fd = fd };
}

static char *
copy_text(struct json_object *params, const char *key)
{
	const char *text = json_string(params, key);
	char *shown;

	if (text == NULL || text[0] == '\0')
		return NULL;
	shown = str_printable(text, strlen(text));
	for (char *c = shown; *c != '\0'; c++)
		if (*c == '\n' || *c == '\t')
			*c = ' ';
	return shown;
}

static struct progress_vm *
find_vm(struct progress *p, struct json_object *params)
{
	CLEANUP_FREE char *name = copy_text(params, "vm");
	struct progress_vm *vm;

	for (size_t i = 0; i < p->count; i++)
		if (str_eq(p->vms[i].name, name != NULL ? name : ""))
			return &p->vms[i];
	p->vms = xreallocarray(p->vms, p->count + 1, sizeof(*p->vms));
	vm = &p->vms[p->count++];
	*vm = (struct progress_vm){ .name = name != NULL ? TAKE(name) : xstrdup("") };
	return vm;
}

/* ---- the block ---- */

/* How far, how fast, and how long it will take. */
static void
add_bytes(const struct progress_vm *vm, uint64_t now_ms, struct sbuf *out)
{
	uint64_t share = vm->total > 0 ? (uint64_t)((double)vm->done * 100 / (double)vm->total) : 0;
	CLEANUP_FREE char *size = str_size(vm->total > 0 ? vm->total : vm->done), *rate = NULL;
	CLEANUP_FREE char *left = NULL;

	if (vm->total > 0)
		sbuf_addf(out, " %llu%% of %s", (unsigned long long)share, size);
	else if (vm->done > 0)
		sbuf_addf(out, " %s", size);
	if (vm->rate == 0 || now_ms - vm->sample_ms > SILENT_MS)
		return;
	rate = str_size(vm->rate);
	sbuf_addf(out, ", %s/s", rate);
	if (vm->total <= vm->done)
		return;
	left = text_seconds((vm->total - vm->done) / vm->rate * 1000 +
			    (vm->total - vm->done) % vm->rate * 1000 / vm->rate);
	sbuf_addf(out, ", %s left", left);
}

static void
add_detail(const struct progress_vm *vm, uint64_t now_ms, struct sbuf *out)
{
	if (vm->bytes) {
		add_bytes(vm, now_ms, out);
	} else if (vm->total > 0) {
		sbuf_addf(
		    out, " %llu/%llu", (unsigned long long)vm->done, (unsigned long long)vm->total);
	}
	if (vm->message != NULL)
		sbuf_addf(out, ": %s", vm->message);
}

static void
render_vm(const struct progress_vm *vm, uint64_t now_ms, size_t name_width, unsigned columns,
    struct sbuf *out)
{
	CLEANUP_FREE char *time = text_seconds(vm->running ? now_ms - vm->since_ms : vm->took_ms);
	CLEANUP_FREE char *line = NULL, *cut = NULL;
	struct sbuf text = { 0 };
	size_t room, pad = name_width - text_width(vm->name);

	sbuf_addf(&text, "%s%*s%s%s", vm->name, (int)pad, "", name_width > 0 ? "  " : "",
	    vm->phase != NULL ? vm->phase : "waiting");
	if (vm->failed)
		sbuf_adds(&text, " failed");
	else if (!vm->running && vm->phase != NULL)
		sbuf_adds(&text, " done");
	if (vm->running)
		add_detail(vm, now_ms, &text);
	line = sbuf_take(&text);
	room = columns > strlen(time) + 3 ? columns - strlen(time) - 3 : 1;
	cut = text_cut(line, room);
	sbuf_addf(out, "%s  %s", cut, time);
}

unsigned
progress_render(
    const struct progress *p, uint64_t now_ms, unsigned columns, unsigned rows, struct sbuf *out)
{
	size_t width = 0, shown, rest, named = 0;
	unsigned lines = 0;

	for (size_t i = 0; i < p->count; i++) {
		named += p->vms[i].name[0] != '\0';
		if (text_width(p->vms[i].name) > width)
			width = text_width(p->vms[i].name);
	}
	rest = named > 0 ? named : p->count;
	if (width > columns / 3)
		width = columns / 3;
	if (rest > rows)
		shown = rows > 0 ? rows - 1 : 0;
	else
		shown = rest;
	for (size_t i = 0; i < p->count && lines < shown; i++) {
		struct progress_vm vm = p->vms[i];
		CLEANUP_FREE char *name = text_cut(vm.name, width);

		/* Work that is no machine's shows only as long as no machine does. */
		if (named > 0 && vm.name[0] == '\0')
			continue;
		vm.name = name;
		render_vm(&vm, now_ms, width, columns, out);
		sbuf_adds(out, "\033[K\n");
		lines++;
	}
	if (lines < rest && rows > 0) {
		sbuf_addf(out, "… and %zu more\033[K\n", rest - lines);
		lines++;
	}
	return lines;
}

/* To the block's first line, with what is below it gone. */
static void
erase(struct progress *p)
{
	if (p->drawn > 0)
		sbuf_addf(&p->out, "\r\033[%uA\033[J", p->drawn);
	p->drawn = 0;
}

static void
draw(struct progress *p)
{
	unsigned columns, rows;

	if (p->style != PROGRESS_LIVE)
		return;
	erase(p);
	term_size(p->fd, &columns, &rows);
	p->drawn = progress_render(p, clock_ms(), columns, rows > 2 ? rows - 2 : 1, &p->out);
}

static void
flush(struct progress *p)
{
	if (p->out.len > 0)
		fs_write_all(p->fd, p->out.data, p->out.len);
	sbuf_reset(&p->out);
}

/* ---- lines that stay ---- */

static void
add_line(struct progress *p, const struct progress_vm *vm, const char *sign, const char *text,
    size_t len)
{
	erase(p);
	if (vm->name[0] != '\0')
		sbuf_addf(&p->out, "%s%s", vm->name, sign);
	sbuf_add(&p->out, text, len);
	sbuf_addc(&p->out, '\n');
}

static void
add_output_lines(struct progress *p, struct progress_vm *vm, struct sbuf *text, bool all)
{
	size_t start = 0, len;

	for (;;) {
		len = 0;
		while (start + len < text->len && text->data[start + len] != '\n' &&
		       text->data[start + len] != '\r')
			len++;
		if (start + len == text->len)
			break;
		/* A lone return starts the line anew: a progress bar's. */
		if (len > 0 || text->data[start + len] == '\n')
			add_line(p, vm, " | ", text->data + start, len);
		start += len + 1;
		if (text->data[start - 1] == '\r' && start < text->len && text->data[start] == '\n')
			start++;
	}
	if (len > 0 && (all || len > MAX_PARTIAL)) {
		add_line(p, vm, " | ", text->data + start, len);
		start = text->len;
	}
	len = text->len - start;
	if (len > 0)
		memmove(text->data, text->data + start, len);
	text->len = len;
	if (text->data != NULL)
		text->data[len] = '\0';
}

static void
on_output(struct progress *p, struct progress_vm *vm, struct json_object *params)
{
	const char *data = json_string(params, "data");
	size_t stream = str_eq(json_string(params, "stream"), "stderr");

	if (data == NULL)
		return;
	if (p->style == PROGRESS_LIVE)
		term_filter(&vm->filters[stream], data, strlen(data), &vm->partial[stream]);
	else
		sbuf_adds(&vm->partial[stream], data);
	add_output_lines(p, vm, &vm->partial[stream], false);
}

static void
plain_line(struct progress *p, struct progress_vm *vm, const char *state)
{
	CLEANUP_FREE char *time = text_seconds(vm->took_ms), *line = NULL;
	const char *phase = vm->phase != NULL ? vm->phase : "";
	struct sbuf text = { 0 };

	sbuf_adds(&text, phase);
	if (str_eq(state, "failed"))
		sbuf_addf(&text, " failed after %s", time);
	else if (str_eq(state, "done"))
		sbuf_addf(&text, " done in %s", time);
	/* Why it failed is told by the answer. */
	if (vm->message != NULL && !vm->failed)
		sbuf_addf(&text, "%s%s", text.len > 0 ? ": " : "", vm->message);
	if (str_eq(state, "step"))
		sbuf_addf(&text, ", done in %s", time);
	line = sbuf_take(&text);
	add_line(p, vm, ": ", line, strlen(line));
}

static void
count_line(struct progress *p, struct progress_vm *vm, uint64_t now)
{
	struct sbuf text = { 0 };

	if (vm->phase != NULL)
		sbuf_adds(&text, vm->phase);
	add_bytes(vm, now, &text);
	if (text.len > 0)
		add_line(p, vm, ": ", text.data, text.len);
	sbuf_done(&text);
	vm->counted_ms = now;
	vm->told = true;
}

/* ---- events ---- */

/* Over a second or two: what a network does in a tenth of one says nothing. */
static void
take_sample(struct progress_vm *vm, uint64_t now)
{
	uint64_t took = now - vm->sample_ms, rate;

	if (vm->sample_ms == 0 || vm->done < vm->sample || took > SILENT_MS) {
		vm->rate = 0;
	} else if (took < SAMPLE_MS) {
		return;
	} else {
		rate = (vm->done - vm->sample) * 1000 / took;
		vm->rate = vm->rate == 0 ? rate : (vm->rate * 3 + rate) / 4;
	}
	vm->sample_ms = now;
	vm->sample = vm->done;
}

/* A phase's time counts from its start; what comes on the way there may not tell it. */
static void
take_phase(struct progress_vm *vm, struct json_object *params, const char *state, uint64_t now)
{
	char *phase = copy_text(params, "phase");
	uint64_t phase_ms = (uint64_t)json_int(params, "phase_ms");

	if (phase != NULL && !str_eq(phase, vm->phase)) {
		free(vm->phase);
		vm->phase = phase;
		vm->since_ms = now - (phase_ms < now ? phase_ms : now);
	} else {
		free(phase);
	}
	if (str_eq(state, "start")) {
		vm->since_ms = now;
		vm->told = false;
	}
	vm->took_ms = phase_ms != 0 ? phase_ms : now - vm->since_ms;
	vm->running = !str_eq(state, "done") && !str_eq(state, "failed");
	vm->failed = str_eq(state, "failed");
	free(vm->message);
	vm->message = copy_text(params, "message");
	if (str_eq(state, "note"))
		return;
	/* The end of a transfer is told like the transfer. */
	if (!str_eq(state, "done") || json_has(params, "unit"))
		vm->bytes = str_eq(json_string(params, "unit"), "bytes");
	vm->done = (uint64_t)json_int(params, "done");
	vm->total = (uint64_t)json_int(params, "total");
	if (vm->bytes && vm->running)
		take_sample(vm, now);
	else
		vm->rate = vm->sample_ms = 0;
}

/* Elsewhere than on a terminal one line tells that a phase lasts, and one that it failed or took
 * long; what is over at once, and counts on the way, would only fill a log. */
static bool
worth_a_line(const struct progress_vm *vm, const char *state)
{
	if (str_eq(state, "note") || str_eq(state, "step") || str_eq(state, "start"))
		return vm->message != NULL;
	if ((vm->name[0] == '\0' && !vm->bytes) || str_eq(state, "progress"))
		return false;
	return vm->failed || (str_eq(state, "done") && vm->took_ms >= LONG_PHASE_MS);
}

static void
tell_lasting(struct progress *p, uint64_t now)
{
	for (size_t i = 0; i < p->count; i++) {
		struct progress_vm *vm = &p->vms[i];

		if (vm->running && vm->bytes && vm->done > 0 && now - vm->since_ms >= WORTH_MS &&
		    now - vm->counted_ms >= COUNT_MS) {
			count_line(p, vm, now);
			continue;
		}
		if (!vm->running || vm->told || vm->name[0] == '\0' ||
		    now - vm->since_ms < WORTH_MS)
			continue;
		plain_line(p, vm, "start");
		vm->told = true;
	}
}

void
progress_event(struct progress *p, struct json_object *params)
{
	const char *state = json_string(params, "state");
	struct progress_vm *vm;

	if (p->style == PROGRESS_NONE || state == NULL)
		return;
	vm = find_vm(p, params);
	if (str_eq(state, "output")) {
		on_output(p, vm, params);
	} else {
		bool note = str_eq(state, "note");

		take_phase(vm, params, state, clock_ms());
		/* On a terminal, too, what happened on the way stays to be read. */
		if ((note || p->style == PROGRESS_PLAIN) && worth_a_line(vm, state)) {
			plain_line(p, vm, state);
			vm->told = true;
		}
		if (note) {
			free(vm->message);
			vm->message = NULL;
		}
	}
	/* Where much is told there is no time without news. */
	if (p->style == PROGRESS_PLAIN)
		tell_lasting(p, clock_ms());
	draw(p);
	flush(p);
}

void
progress_tick(struct progress *p)
{
	if (p->style == PROGRESS_PLAIN)
		tell_lasting(p, clock_ms());
	draw(p);
	flush(p);
}

int
progress_interval(const struct progress *p)
{
	if (p->count == 0 || p->style == PROGRESS_NONE)
		return -1;
	return p->style == PROGRESS_LIVE ? REDRAW_MS : LOOK_MS;
}

void
progress_note(struct progress *p, const char *text)
{
	erase(p);
	sbuf_addf(&p->out, "%s\n", text);
	draw(p);
	flush(p);
}

void
progress_done(struct progress *p)
{
	erase(p);
	for (size_t i = 0; i < p->count; i++) {
		struct progress_vm *vm = &p->vms[i];

		for (size_t s = 0; s < 2; s++) {
			add_output_lines(p, vm, &vm->partial[s], true);
			sbuf_done(&vm->partial[s]);
		}
		free(vm->name);
		free(vm->phase);
		free(vm->message);
	}
	flush(p);
	sbuf_done(&p->out);
	free(p->vms);
	*p = (struct progress){ 0 };
}
