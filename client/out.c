/* SPDX-License-Identifier: MPL-2.0 */
#include "client/out.h"

#include <json-c/json.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "client/vmctl.h"
#include "lib/base/err.h"
#include "lib/base/mem.h"

static void __attribute__((format(printf, 2, 0)))
print_line(FILE *file, const char *fmt, va_list ap)
{
	CLEANUP_FREE char *text = xvasprintf(fmt, ap);
	CLEANUP_FREE char *shown = str_printable(text, strlen(text));

	fputs(shown, file);
	fputc('\n', file);
}

void
out_line(const struct vmctl *ctl, const char *fmt, ...)
{
	va_list ap;

	if (ctl->global.json)
		return;
	va_start(ap, fmt);
	print_line(stdout, fmt, ap);
	va_end(ap);
}

void
out_note(const struct vmctl *ctl, const char *fmt, ...)
{
	va_list ap;

	if (ctl->global.quiet)
		return;
	va_start(ap, fmt);
	print_line(stderr, fmt, ap);
	va_end(ap);
}

char *
json_text(struct json_object *value, int flags)
{
	const char *text = json_object_to_json_string_ext(value, flags), *from = text;
	struct sbuf out = { 0 };

	for (; *text != '\0'; text++) {
		unsigned char c = (unsigned char)text[0], next = (unsigned char)text[1];
		bool high = c == 0xc2 && next < 0xa0;

		if (!high && c != 0x7f)
			continue;
		sbuf_add(&out, from, (size_t)(text - from));
		sbuf_addf(&out, "\\u00%02x", high ? next : c);
		text += high;
		from = text + 1;
	}
	sbuf_add(&out, from, (size_t)(text - from));
	return sbuf_take(&out);
}

void
out_json(const struct vmctl *ctl, struct json_object *result)
{
	int flags = JSON_C_TO_STRING_NOSLASHESCAPE;
	CLEANUP_FREE char *text = NULL;

	if (!ctl->global.json)
		return;
	flags |= ctl->out_tty ? JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED
			      : JSON_C_TO_STRING_PLAIN;
	text = json_text(result, flags);
	puts(text);
}

void
out_error(const struct err *err)
{
	CLEANUP_FREE char *msg = str_printable(err->msg, strlen(err->msg));
	CLEANUP_FREE char *hint = str_printable(err->hint, strlen(err->hint));

	fflush(stdout);
	fprintf(stderr, "vmctl: %s\n", msg[0] != '\0' ? msg : err_meaning(err->code));
	if (hint[0] != '\0')
		fprintf(stderr, "hint: %s\n", hint);
}

/* ---- tables ---- */

size_t
text_width(const char *text)
{
	size_t width = 0;

	for (; *text != '\0'; text++)
		width += ((unsigned char)*text & 0xc0) != 0x80;
	return width;
}

char *
text_cut(const char *text, size_t width)
{
	const char *p = text;

	for (size_t seen = 0; *p != '\0'; p++) {
		if (((unsigned char)*p & 0xc0) != 0x80 && seen++ == width)
			break;
	}
	return xstrndup(text, (size_t)(p - text));
}

char *
text_seconds(uint64_t ms)
{
	unsigned long long s = ms / 1000;

	if (ms < 10000)
		return xasprintf("%llu.%llus", s, (unsigned long long)(ms % 1000 / 100));
	if (s < 60)
		return xasprintf("%llus", s);
	if (s < 3600)
		return xasprintf("%llum%02llus", s / 60, s % 60);
	return xasprintf("%lluh%02llum", s / 3600, s / 60 % 60);
}

char *
text_age(uint64_t seconds)
{
	static const struct {
		uint64_t seconds, below; /* of one; and how many are still told in it */
		char letter;
	} units[] = { { 1, 120, 's' }, { 60, 120, 'm' }, { 3600, 48, 'h' } };

	for (size_t i = 0; i < ARRAY_LEN(units); i++)
		if (seconds / units[i].seconds < units[i].below)
			return xasprintf("%llu%c", (unsigned long long)(seconds / units[i].seconds),
			    units[i].letter);
	return xasprintf("%llud", (unsigned long long)(seconds / 86400));
}

void
table_add(struct table *table, const char *text)
{
	char *shown;

	if (text == NULL || text[0] == '\0')
		text = "-";
	shown = str_printable(text, strlen(text));
	for (char *p = shown; *p != '\0'; p++)
		if (*p == '\n' || *p == '\t')
			*p = ' ';
	if ((table->count & (table->count - 1)) == 0)
		table->cells = xreallocarray(
		    table->cells, table->count > 0 ? table->count * 2 : 1, sizeof(char *));
	table->cells[table->count++] = shown;
}

void
table_addf(struct table *table, const char *fmt, ...)
{
	CLEANUP_FREE char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	text = xvasprintf(fmt, ap);
	va_end(ap);
	table_add(table, text);
}

static int
by_first_cell(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

void
table_sort(struct table *table)
{
	if (table->count > 0)
		qsort(table->cells, table->count / table->column_count,
		    table->column_count * sizeof(char *), by_first_cell);
}

static void
add_cell(struct sbuf *out, const char *text, size_t width, bool right, bool last)
{
	size_t pad = width - text_width(text);

	if (right)
		sbuf_addf(out, "%*s", (int)pad, "");
	sbuf_adds(out, text);
	if (!right && !last)
		sbuf_addf(out, "%*s", (int)pad, "");
	sbuf_adds(out, last ? "\n" : "  ");
}

char *
table_text(const struct table *table)
{
	size_t n = table->column_count;
	CLEANUP_FREE size_t *widths = xcalloc(n, sizeof(*widths));
	struct sbuf out = { 0 };

	for (size_t c = 0; c < n; c++)
		widths[c] = text_width(table->columns[c].title);
	for (size_t i = 0; i < table->count; i++)
		if (text_width(table->cells[i]) > widths[i % n])
			widths[i % n] = text_width(table->cells[i]);
	for (size_t c = 0; c < n; c++)
		add_cell(
		    &out, table->columns[c].title, widths[c], table->columns[c].right, c + 1 == n);
	for (size_t i = 0; i < table->count; i++)
		add_cell(&out, table->cells[i], widths[i % n], table->columns[i % n].right,
		    i % n + 1 == n);
	return sbuf_take(&out);
}

void
table_done(struct table *table)
{
	for (size_t i = 0; i < table->count; i++)
		free(table->cells[i]);
	free(table->cells);
	table->cells = NULL;
	table->count = 0;
}
