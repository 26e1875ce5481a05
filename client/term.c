/* SPDX-License-Identifier: MPL-2.0 */
#include "client/term.h"

#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "client/signals.h"

void
term_raw(struct term *term, int fd)
{
	struct termios raw;

	term->fd = fd;
	term->raw = false;
	if (!isatty(fd) || tcgetattr(fd, &term->cooked) < 0)
		return;
	raw = term->cooked;
	raw.c_iflag &=
	    ~(tcflag_t)(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
	raw.c_oflag &= ~(tcflag_t)OPOST;
	raw.c_lflag &= ~(tcflag_t)(ECHO | ECHONL | ICANON | ISIG | IEXTEN);
	raw.c_cflag = (raw.c_cflag & ~(tcflag_t)(CSIZE | PARENB)) | CS8;
	raw.c_cc[VMIN] = 1;
	raw.c_cc[VTIME] = 0;
	signals_guard_terminal(fd, &term->cooked, &raw);
	term->raw = tcsetattr(fd, TCSADRAIN, &raw) == 0;
}

void
term_restore(struct term *term)
{
	if (!term->raw)
		return;
	tcsetattr(term->fd, TCSADRAIN, &term->cooked);
	signals_unguard_terminal();
	term->raw = false;
}

bool
term_size(int fd, unsigned *ret_columns, unsigned *ret_rows)
{
	struct winsize size;

	*ret_columns = 80;
	*ret_rows = 24;
	if (ioctl(fd, TIOCGWINSZ, &size) < 0)
		return false;
	if (size.ws_col > 0)
		*ret_columns = size.ws_col;
	if (size.ws_row > 0)
		*ret_rows = size.ws_row;
	return true;
}

/* ---- the filter ---- */

enum state {
	GROUND,
	ESCAPE,      /* after ESC */
	SEQUENCE,    /* in ESC [ …, until a byte from '@' to '~' */
	TEXT,        /* in ESC ] …, ESC P … and the like, until BEL or ESC \ */
	TEXT_ESCAPE, /* an ESC in there */
	CHARSET,     /* ESC ( and the like take one more */
};

/* Escape sequences by their shape, whatever they mean; GROUND again when one has ended. */
static enum state
escape_step(enum state state, unsigned char c)
{
	switch (state) {
	case GROUND:
		break;
	case ESCAPE:
		if (c == '[')
			return SEQUENCE;
		if (strchr("]PX^_", c) != NULL)
			return TEXT;
		if (c >= 0x20 && c <= 0x2f)
			return CHARSET;
		return GROUND;
	case SEQUENCE:
		/* A control character or a newline ends a sequence that is broken off. */
		return c >= 0x20 && c < 0x40 ? SEQUENCE : GROUND;
	case TEXT:
		if (c == 0x1b)
			return TEXT_ESCAPE;
		return c == 0x07 || c == '\n' ? GROUND : TEXT;
	case TEXT_ESCAPE:
		return GROUND;
	case CHARSET:
		return c >= 0x20 && c <= 0x2f ? CHARSET : GROUND;
	}
	return GROUND;
}

static size_t
sequence_length(unsigned char c)
{
	if (c < 0x80)
		return 1;
	if (c >= 0xc2 && c <= 0xdf)
		return 2;
	if (c >= 0xe0 && c <= 0xef)
		return 3;
	return c >= 0xf0 && c <= 0xf4 ? 4 : 0;
}

static void
flush_pending(struct term_filter *f, struct sbuf *out)
{
	const char *bytes = (const char *)f->pending;
	/* C1 controls steer some terminals too. */
	bool c1 = f->pending_len == 2 && f->pending[0] == 0xc2 && f->pending[1] < 0xa0;

	if (!c1 && str_utf8_valid(bytes, f->pending_len))
		sbuf_add(out, bytes, f->pending_len);
	else
		sbuf_addc(out, '?');
	f->pending_len = 0;
}

static void
text_step(struct term_filter *f, unsigned char c, struct sbuf *out)
{
	if (f->pending_len > 0 && (c & 0xc0) == 0x80) {
		f->pending[f->pending_len++] = c;
		if (f->pending_len == sequence_length(f->pending[0]))
			flush_pending(f, out);
		return;
	}
	if (f->pending_len > 0)
		flush_pending(f, out); /* broken off */
	if (c == 0x1b) {
		f->state = ESCAPE;
	} else if (c < 0x20 || c == 0x7f) {
		if (c == '\n' || c == '\t' || c == '\r')
			sbuf_addc(out, (char)c);
	} else if (sequence_length(c) == 1) {
		sbuf_addc(out, (char)c);
	} else if (sequence_length(c) == 0) {
		sbuf_addc(out, '?');
	} else {
		f->pending[f->pending_len++] = c;
	}
}

void
term_filter(struct term_filter *filter, const void *data, size_t len, struct sbuf *out)
{
	const unsigned char *bytes = data;

	for (size_t i = 0; i < len; i++) {
		enum state before = (enum state)filter->state;

		if (before == GROUND) {
			text_step(filter, bytes[i], out);
			continue;
		}
		filter->state = escape_step(before, bytes[i]);
		if (filter->state == GROUND && bytes[i] == '\n')
			sbuf_addc(out, '\n');
	}
}
