/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/vmfile/depends.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/vmfile/convert.h"
#include "lib/vmfile/vmfile.h"
#include "lib/yaml/problems.h"

enum visit { UNSEEN, ON_PATH, DONE };

struct walk {
	struct vmfile *vmfile;
	struct problems *problems;
	const char **names; /* borrowed; "" where the name itself is a problem */
	enum visit *visits;
	size_t *path; /* machines from the start of the walk to here */
	size_t depth;
};

static size_t
find_vm(const struct walk *w, const char *name)
{
	for (size_t i = 0; i < w->vmfile->vms.count; i++)
		if (str_eq(w->names[i], name))
			return i;
	return SIZE_MAX;
}

static void
report(struct walk *w, size_t vm, size_t entry, const char *hint, const char *text)
{
	CLEANUP_FREE char *path = xasprintf("vms[%zu].depends-on[%zu]", vm, entry);
	const struct mark *mark = marks_find(w->vmfile->marks, path);

	problems_addf(w->problems, mark != NULL ? mark->line : 0, mark != NULL ? mark->column : 0,
	    hint, "'depends-on': %s", text);
}

static void
report_unknown(struct walk *w, size_t vm, size_t entry, const char *name)
{
	const char *near = str_nearest(name, w->names, w->vmfile->vms.count);
	CLEANUP_FREE char *shown = str_printable(name, strnlen(name, 64));
	CLEANUP_FREE char *text = xasprintf("there is no machine '%s' in the file", shown);
	CLEANUP_FREE char *hint = near != NULL ? xasprintf("did you mean '%s'?", near) : NULL;

	/* A machine whose name is a problem itself may well be the one. */
	if (find_vm(w, "") == SIZE_MAX)
		report(w, vm, entry, hint, text);
}

static void
report_cycle(struct walk *w, size_t entry, size_t back_to)
{
	struct sbuf out = { 0 };
	CLEANUP_FREE char *text = NULL;
	size_t start = w->depth;

	while (w->path[start - 1] != back_to)
		start--;
	sbuf_adds(&out, "machines wait for each other: ");
	for (size_t i = start - 1; i < w->depth; i++)
		sbuf_addf(&out, "%s -> ", w->names[w->path[i]]);
	sbuf_adds(&out, w->names[back_to]);
	text = sbuf_take(&out);
	report(w, w->path[w->depth - 1], entry, NULL, text);
}

static void
walk_from(struct walk *w, size_t vm)
{
	const struct strings *list = &vmfile_vm(w->vmfile, vm)->depends_on;

	w->visits[vm] = ON_PATH;
	w->path[w->depth++] = vm;
	for (size_t i = 0; i < list->count; i++) {
		size_t next = find_vm(w, list->items[i]);

		if (next == SIZE_MAX)
			report_unknown(w, vm, i, list->items[i]);
		else if (next == vm)
			report(w, vm, i, NULL, "a machine can not wait for itself");
		else if (w->visits[next] == ON_PATH)
			report_cycle(w, i, next);
		else if (w->visits[next] == UNSEEN)
			walk_from(w, next);
	}
	w->depth--;
	w->visits[vm] = DONE;
}

void
depends_check(struct vmfile *vmfile, struct problems *problems)
{
	size_t count = vmfile->vms.count;
	struct walk w = { .vmfile = vmfile, .problems = problems };

	w.names = xcalloc(count, sizeof(*w.names));
	w.visits = xcalloc(count, sizeof(*w.visits));
	w.path = xcalloc(count, sizeof(*w.path));
	for (size_t i = 0; i < count; i++)
		w.names[i] = vmfile_vm(vmfile, i)->name != NULL ? vmfile_vm(vmfile, i)->name : "";
	for (size_t i = 0; i < count; i++)
		if (w.visits[i] == UNSEEN)
			walk_from(&w, i);
	free(w.names);
	free(w.visits);
	free(w.path);
}
