/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/yaml/problems.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"

void
problems_add(struct problems *problems, unsigned line, unsigned column, const struct err *err)
{
	struct problem *item;

	if (problems->count >= PROBLEMS_MAX)
		return;
	for (size_t i = 0; i < problems->count; i++) {
		item = &problems->items[i];
		if (item->line == line && item->column == column && str_eq(item->err.msg, err->msg))
			return;
	}
	problems->items = xreallocarray(problems->items, problems->count + 1, sizeof(*item));
	item = &problems->items[problems->count++];
	item->line = line;
	item->column = column;
	item->err = *err;
	item->err.code = E_VMFILE;
}

void
problems_addf(struct problems *problems, unsigned line, unsigned column, const char *hint,
    const char *fmt, ...)
{
	CLEANUP_FREE char *text = NULL;
	struct err err = ERR_INIT;
	va_list ap;

	va_start(ap, fmt);
	text = xvasprintf(fmt, ap);
	va_end(ap);
	err_set(&err, E_VMFILE, "%s", text);
	if (hint != NULL)
		err_hint(&err, "%s", hint);
	problems_add(problems, line, column, &err);
}

void
problems_unknown_key(struct problems *problems, unsigned line, unsigned column, const char *key,
    const char *const *known, size_t count)
{
	CLEANUP_FREE char *shown = str_line(key, strnlen(key, 64)), *hint = NULL;
	const char *near = str_nearest(key, known, count);

	if (near != NULL)
		hint = xasprintf("did you mean '%s'?", near);
	problems_addf(problems, line, column, hint, "unknown key '%s'", shown);
}

int
problems_err(struct problems *problems, const char *file, enum err_code code, struct err *err)
{
	CLEANUP_FREE char *shown = str_line(file, strlen(file)), *rest = NULL;
	const struct problem *first;

	problems_sort(problems);
	first = &problems->items[0];
	if (problems->count > 1)
		rest = xasprintf(" (and %zu more)", problems->count - 1);
	if (first->line > 0)
		err_set(err, code, "%s:%u:%u: %s%s", shown, first->line, first->column,
		    first->err.msg, rest != NULL ? rest : "");
	else
		err_set(err, code, "%s: %s%s", shown, first->err.msg, rest != NULL ? rest : "");
	if (first->err.hint[0] != '\0')
		err_hint(err, "%s", first->err.hint);
	return (int)code;
}

static int
compare(const void *a, const void *b)
{
	const struct problem *x = a, *y = b;

	if (x->line != y->line)
		return x->line < y->line ? -1 : 1;
	if (x->column != y->column)
		return x->column < y->column ? -1 : 1;
	return strcmp(x->err.msg, y->err.msg);
}

void
problems_sort(struct problems *problems)
{
	if (problems->count > 1)
		qsort(problems->items, problems->count, sizeof(*problems->items), compare);
}

void
problems_done(struct problems *problems)
{
	free(problems->items);
	problems->items = NULL;
	problems->count = 0;
}

char *
problems_text(const struct problems *problems, const char *path)
{
	CLEANUP_FREE char *shown = str_line(fs_basename(path), strlen(fs_basename(path)));
	struct sbuf out = { 0 };

	for (size_t i = 0; i < problems->count; i++) {
		const struct problem *p = &problems->items[i];

		sbuf_adds(&out, shown);
		if (p->line > 0)
			sbuf_addf(&out, ":%u:%u", p->line, p->column);
		sbuf_addf(&out, ": %s", p->err.msg);
		if (p->err.hint[0] != '\0')
			sbuf_addf(&out, " (%s)", p->err.hint);
		sbuf_addc(&out, '\n');
	}
	return sbuf_take(&out);
}
