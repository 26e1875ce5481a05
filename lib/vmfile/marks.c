/* SPDX-License-Identifier: MPL-2.0 */
#include <stdlib.h>
#include <string.h>

#include "lib/base/mem.h"
#include "lib/vmfile/convert.h"
#include "lib/yaml/yaml.h"

void
marks_add(struct marks *marks, const char *path, const struct node *node, bool bad)
{
	if (marks->count == marks->cap) {
		marks->cap = marks->cap != 0 ? marks->cap * 2 : 64;
		marks->items = xreallocarray(marks->items, marks->cap, sizeof(*marks->items));
	}
	marks->items[marks->count++] = (struct mark){
		.path = xstrdup(path), .line = node->line, .column = node->column, .bad = bad
	};
	marks->sorted = false;
}

static int
compare(const void *a, const void *b)
{
	const struct mark *x = a, *y = b;

	return strcmp(x->path, y->path);
}

/* The first mark that is not before path. */
static size_t
lower_bound(struct marks *marks, const char *path)
{
	size_t lo = 0, hi = marks->count;

	if (!marks->sorted && marks->count > 1)
		qsort(marks->items, marks->count, sizeof(*marks->items), compare);
	marks->sorted = true;
	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (strcmp(marks->items[mid].path, path) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

struct mark *
marks_find(struct marks *marks, const char *path)
{
	CLEANUP_FREE char *part = xstrdup(path);

	while (*part != '\0') {
		size_t i = lower_bound(marks, part), len = strlen(part);

		if (i < marks->count && strcmp(marks->items[i].path, part) == 0)
			return &marks->items[i];
		while (len > 0 && part[--len] != '.' && part[len] != '[')
			;
		part[len] = '\0';
	}
	return NULL;
}

bool
marks_bad(struct marks *marks, const char *path)
{
	size_t len = strlen(path);

	for (size_t i = lower_bound(marks, path); i < marks->count; i++) {
		const char *found = marks->items[i].path;

		if (strncmp(found, path, len) != 0)
			break;
		if (marks->items[i].bad &&
		    (found[len] == '\0' || found[len] == '.' || found[len] == '['))
			return true;
	}
	return false;
}

void
marks_done(struct marks *marks)
{
	for (size_t i = 0; i < marks->count; i++)
		free(marks->items[i].path);
	free(marks->items);
	*marks = (struct marks){ 0 };
}
