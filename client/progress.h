/* SPDX-License-Identifier: MPL-2.0 */
#ifndef CLIENT_PROGRESS_H
#define CLIENT_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "client/term.h"
#include "lib/base/str.h"

struct json_object;

/* What a long call is doing, on stderr: a line a machine that is redrawn in place on a terminal,
 * a line an event elsewhere.  Output of steps streams past with the machine's name before it. */

enum progress_style { PROGRESS_NONE, PROGRESS_PLAIN, PROGRESS_LIVE };

struct progress_vm {
	char *name;    /* printable; "" for work that is no machine's */
	char *phase;   /* printable; NULL: none yet */
	char *message; /* printable; NULL: none */
	bool running;
	bool failed;
	bool told;                  /* PROGRESS_PLAIN: the phase has its line */
	uint64_t since_ms, took_ms; /* of the phase, our clock */
	uint64_t done, total;
	bool bytes;
	uint64_t rate;                 /* bytes a second, of late; 0: not known */
	uint64_t sample_ms, sample;    /* when `done` was looked at for it */
	uint64_t counted_ms;           /* PROGRESS_PLAIN: when bytes were told last */
	struct term_filter filters[2]; /* stdout, stderr */
	struct sbuf partial[2];        /* output without its newline yet */
};

struct progress {
	enum progress_style style;
	int fd;
	struct progress_vm *vms;
	size_t count;
	unsigned drawn;  /* lines of the block on the terminal */
	struct sbuf out; /* to be written as one */
};

void progress_init(struct progress *p, enum progress_style style, int fd);
/* params of operation.progress */
void progress_event(struct progress *p, struct json_object *params);
/* Draws the times anew, or tells what lasts; call it every progress_interval ms (-1: never). */
void progress_tick(struct progress *p);
int progress_interval(const struct progress *p);
/* A line that stays, past the block. */
void progress_note(struct progress *p, const char *text);
/* Takes the block away, prints what is left of the output, and frees. */
void progress_done(struct progress *p);

/* The block as text, `rows` lines at most; for tests too.  Returns the lines. */
unsigned progress_render(
    const struct progress *p, uint64_t now_ms, unsigned columns, unsigned rows, struct sbuf *out);

#endif
