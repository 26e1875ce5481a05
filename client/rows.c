/* SPDX-License-Identifier: MPL-2.0 */
#include "client/rows.h"

#include <json-c/json.h>
#include <stdbool.h>
#include <string.h>

struct scan {
	const char *p, *end;
};

static bool
take(struct scan *s, char c)
{
	while (s->p < s->end && (*s->p == ' ' || *s->p == '\t'))
		s->p++;
	if (s->p == s->end || *s->p != c)
		return false;
	s->p++;
	return true;
}

/* Past the closing quote; the opening one is taken. */
static bool
skip_string(struct scan *s)
{
	while (s->p < s->end) {
		const char *quote = memchr(s->p, '"', (size_t)(s->end - s->p));
		size_t slashes = 0;

		if (quote == NULL)
			return false;
		while (quote - slashes > s->p && quote[-1 - (ptrdiff_t)slashes] == '\\')
			slashes++;
		s->p = quote + 1;
		if (slashes % 2 == 0)
			return true;
	}
	return false;
}

static bool
skip_value(struct scan *s)
{
	unsigned depth = 0;

	for (; s->p < s->end; s->p++) {
		switch (*s->p) {
		case '"':
			s->p++;
			if (!skip_string(s))
				return false;
			s->p--;
			break;
		case '{':
		case '[':
			depth++;
			break;
		case '}':
		case ']':
			/* What holds a number or a word ends it. */
			if (depth == 0)
				return true;
			if (--depth == 0) {
				s->p++;
				return true;
			}
			break;
		case ',':
			if (depth == 0)
				return true;
			break;
		default:
			break;
		}
	}
	return false;
}

/* In an object whose brace is taken: to the value of the key. */
static bool
find_key(struct scan *s, const char *key)
{
	size_t len = strlen(key);

	do {
		const char *name;
		bool found;

		if (!take(s, '"'))
			return false;
		name = s->p;
		if (!skip_string(s))
			return false;
		found = (size_t)(s->p - name) == len + 1 && memcmp(name, key, len) == 0;
		if (!take(s, ':'))
			return false;
		if (found)
			return true;
	} while (skip_value(s) && take(s, ','));
	return false;
}

/* To behind the array, whose bracket is taken. */
static bool
skip_array(struct scan *s)
{
	if (take(s, ']'))
		return true;
	do
		if (!skip_value(s))
			return false;
	while (take(s, ','));
	return take(s, ']');
}

static void
give_rows(struct scan *s, json_tokener *tokener, rows_fn *fn, void *arg)
{
	if (take(s, ']'))
		return;
	do {
		const char *start = s->p;
		json_object *row;

		skip_value(s);
		json_tokener_reset(tokener);
		row = json_tokener_parse_ex(tokener, start, (int)(s->p - start));
		if (row != NULL)
			fn(arg, row);
		json_object_put(row);
	} while (take(s, ','));
}

int
rows_each(const char *line, size_t len, const char *key, rows_fn *fn, void *arg)
{
	struct scan s = { line, line + len }, ahead;
	json_tokener *tokener;

	if (!take(&s, '{') || !find_key(&s, "result") || !take(&s, '{') || !find_key(&s, key) ||
	    !take(&s, '['))
		return -1;
	ahead = s;
	if (!skip_array(&ahead))
		return -1;
	tokener = json_tokener_new_ex(32);
	give_rows(&s, tokener, fn, arg);
	json_tokener_free(tokener);
	return 0;
}
