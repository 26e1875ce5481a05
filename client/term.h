/* SPDX-License-Identifier: MPL-2.0 */
#ifndef CLIENT_TERM_H
#define CLIENT_TERM_H

#include <stdbool.h>
#include <stddef.h>
#include <termios.h>

#include "lib/base/str.h"

/* The user's terminal. */

struct term {
	int fd;
	bool raw; /* it was a terminal, and is raw now */
	struct termios cooked;
};

/* Raw mode until term_restore, and restored by every way out of the process.  Not a terminal:
 * nothing happens. */
void term_raw(struct term *term, int fd);
void term_restore(struct term *term);
/* False when fd is no terminal; then a common size is given. */
bool term_size(int fd, unsigned *ret_columns, unsigned *ret_rows);

/* Takes what could steer or confuse the terminal out of a log: escape sequences and control
 * characters but newline, tab and carriage return go, bytes that are no UTF-8 become '?'.
 * Sequences may be cut anywhere between two calls.  Zero-initialise. */
struct term_filter {
	int state;
	unsigned char pending[4]; /* the start of a UTF-8 sequence */
	size_t pending_len;
};
void term_filter(struct term_filter *filter, const void *data, size_t len, struct sbuf *out);

#endif
