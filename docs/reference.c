/* SPDX-License-Identifier: MPL-2.0
 *
 * Prints the chapters of the documentation that are made from tables, so that no page can say
 * something else than the code: docs-reference CHAPTER.  tests/docs puts them into the pages, and
 * fails when a page has an older one. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/verbs.h"
#include "daemon/config.h"
#include "daemon/ops.h"
#include "daemon/project.h"
#include "daemon/vm_state.h"
#include "daemon/wire.h"
#include "lib/base/frame.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/vmfile/networks.h"
#include "lib/vmfile/vmfile.h"
#include "proto/gate.h"
#include "proto/results.h"

/* A cell of a table: a bar would end it. */
static void
cell(const char *text)
{
	for (; *text != '\0'; text++) {
		if (*text == '|')
			putchar('\\');
		putchar(*text);
	}
}

static char *
kebab(const char *name)
{
	char *copy = xstrdup(name);

	for (char *c = copy; *c != '\0'; c++)
		if (*c == '_')
			*c = '-';
	return copy;
}

/* ---- parameters, VMFile, settings ---- */

static char *
bound(const struct field *field, uint64_t value)
{
	if (field->type == FIELD_SIZE)
		return str_size(value);
	if (field->type == FIELD_DURATION && value % (24 * 3600 * 1000) == 0 && value > 0)
		return xasprintf("%llu days", (unsigned long long)(value / (24 * 3600 * 1000)));
	if (field->type == FIELD_DURATION && value % 1000 == 0 && value > 0)
		return xasprintf("%llu s", (unsigned long long)(value / 1000));
	if (field->type == FIELD_DURATION)
		return xasprintf("%llu ms", (unsigned long long)value);
	return xasprintf("%llu", (unsigned long long)value);
}

static void
print_bounds(const struct field *field)
{
	bool numeric = field->type == FIELD_UINT || field->type == FIELD_SIZE ||
		       field->type == FIELD_DURATION;
	CLEANUP_FREE char *min = bound(field, field->min), *max = bound(field, field->max);

	if (!numeric || (field->min == 0 && field->max == 0))
		return;
	if (field->max == 0)
		printf(", from %s", min);
	else if (field->min == 0)
		printf(", at most %s", max);
	else
		printf(", %s to %s", min, max);
}

static void
print_default(const struct field *field)
{
	if (field->required)
		printf("required");
	else if (field->fallback != NULL)
		printf("`%s`", field->fallback);
	else if (field->type == FIELD_BOOL)
		printf("`false`");
}

/* One row, and what is below it unless `deep` is false. */
static void
print_field(const struct field *field, const char *prefix, bool kebabs, bool deep)
{
	CLEANUP_FREE char *name = kebabs ? kebab(field->name) : xstrdup(field->name);
	CLEANUP_FREE char *path = xasprintf("%s%s", prefix, name);
	CLEANUP_FREE char *type = field_describe_type(field), *below = NULL;
	bool list = field->type == FIELD_OBJECTS;

	printf("| `%s` | ", path);
	cell(type);
	print_bounds(field);
	printf(" | ");
	print_default(field);
	printf(" | ");
	cell(field->text);
	if (field->shorthand != NULL)
		printf("; a bare value is its `%s`", field->shorthand);
	if (field->fields == vm_spec_fields)
		printf("; each as [vm.create](#vmcreate) takes one, without `start` and `progress`");
	printf(" |\n");
	/* What a machine is stands under vm.create. */
	if (!deep || field->fields == vm_spec_fields || (!list && field->type != FIELD_OBJECT))
		return;
	below = xasprintf("%s%s.", path, list ? "[]" : "");
	for (const struct field *f = field->fields; f->name != NULL; f++)
		print_field(f, below, kebabs, true);
}

static void
print_fields(const struct field *fields, const char *head, bool kebabs, bool deep)
{
	printf("| %s | type | default | meaning |\n|---|---|---|---|\n", head);
	for (; fields->name != NULL; fields++)
		print_field(fields, "", kebabs, deep);
}

static void
chapter_vmfile(void)
{
	printf("| key | type | default | meaning |\n|---|---|---|---|\n");
	for (const struct field *f = vm_spec_fields; f->name != NULL; f++)
		if (!str_eq(f->name, "name")) /* the mapping's key */
			print_field(f, "", true, true);
	printf("\nA private network, under `networks` at the top of the file:\n\n"
	       "| key | type | default | meaning |\n|---|---|---|---|\n");
	for (const struct field *f = file_network_fields; f->name != NULL; f++)
		if (!str_eq(f->name, "name")) /* the mapping's key */
			print_field(f, "", true, true);
}

static void
chapter_settings(void)
{
	print_fields(settings_fields, "setting", true, false);
}

/* ---- methods ---- */

static const char *const access_words[] = { "observe", "operate", "admin" };

static const char *
result_type(const struct result_row *row)
{
	switch (row->type) {
	case RESULT_STRING:
		return "string";
	case RESULT_TIME:
		return "time";
	case RESULT_INTEGER:
		return "integer";
	case RESULT_BOOLEAN:
		return "boolean";
	case RESULT_STRINGS:
		return "list of strings";
	case RESULT_OBJECT:
		return "object";
	case RESULT_OBJECTS:
		return "list of objects";
	case RESULT_ANY:
		return "any";
	}
	return "";
}

/* The name of the shape that these rows are; NULL: they are nobody's. */
static const char *
shape_of(const struct result_row *rows)
{
	for (int i = 0; i < METHODS; i++)
		if (method_results[i].name != NULL && method_results[i].rows == rows)
			return method_results[i].name;
	return NULL;
}

static void
print_result(const struct result_row *rows, const char *prefix)
{
	for (; rows->name != NULL; rows++) {
		bool list = rows->type == RESULT_OBJECTS;
		const char *shape = rows->rows != NULL ? shape_of(rows->rows) : NULL;
		CLEANUP_FREE char *path = xasprintf("%s%s", prefix, rows->name);
		CLEANUP_FREE char *below = xasprintf("%s%s.", path, list ? "[]" : "");

		printf("| `%s` | %s%s%s | ", path, result_type(rows), rows->maybe ? ", maybe" : "",
		    rows->null ? ", may be null" : "");
		cell(rows->text);
		if (shape != NULL)
			printf("; see [%s](#%s)", shape, shape);
		for (size_t i = 0; rows->words != NULL && rows->words[i] != NULL; i++)
			printf("%s `%s`", i == 0 ? ":" : ",", rows->words[i]);
		printf(" |\n");
		if (rows->rows != NULL && shape == NULL)
			print_result(rows->rows, below);
	}
}

static void
print_results(const struct result_row *rows)
{
	printf("| member | type | meaning |\n|---|---|---|\n");
	print_result(rows, "");
}

static void
chapter_methods(void)
{
	for (int i = 0; i < METHODS; i++) {
		const struct method *m = &methods[i];
		const struct result_shape *shape = &method_results[i];

		printf("%s### %s\n\n%s.  Access: %s.\n\n", i > 0 ? "\n" : "", m->wire, m->summary,
		    access_words[m->access]);
		if (m->params->name == NULL)
			printf("No parameters.\n");
		else
			print_fields(m->params, "parameter", false, true);
		if (shape->name != NULL || shape->rows == NULL) {
			printf("\nResult: %s", shape->text);
			if (shape->name != NULL)
				printf(" ([%s](#%s))", shape->name, shape->name);
			printf(".\n");
			continue;
		}
		printf("\nResult: %s.\n\n", shape->text);
		print_results(shape->rows);
	}
}

/* Results that several methods share, each once. */
static void
chapter_objects(void)
{
	for (int i = 0; i < METHODS; i++) {
		const struct result_shape *shape = &method_results[i];
		bool seen = false;

		for (int k = 0; k < i; k++)
			seen = seen || str_eq(method_results[k].name, shape->name);
		if (shape->name == NULL || seen)
			continue;
		printf("### %s\n\n", shape->name);
		print_results(shape->rows);
		printf("\n");
	}
}

static void
chapter_notifications(void)
{
	for (const struct notification *n = notifications; n->wire != NULL; n++) {
		printf("### %s\n\nSent: %s.\n\n", n->wire, n->text);
		print_results(n->rows);
		printf("\n");
	}
}

/* ---- small tables ---- */

static void
chapter_errors(void)
{
	printf("| code | name | exit status of `vmctl` | meaning |\n|---|---|---|---|\n");
	for (int i = E_OK + 1; i < E_COUNT; i++) {
		enum err_code code = (enum err_code)i;

		printf("| %d | `%s` | %d | %s |\n", err_rpc_code(code), err_name(code),
		    err_exit_status(code), err_meaning(code));
	}
}

static void
chapter_verbs(void)
{
	printf("| verb | what it does |\n|---|---|\n");
	for (size_t i = 0; verbs[i] != NULL; i++)
		if ((verbs[i]->flags & VERB_HIDDEN) == 0)
			printf("| `%s` | %s |\n", verbs[i]->name, verb_summary(verbs[i]));
}

static void
chapter_limits(void)
{
	static const struct {
		const char *what;
		unsigned long value;
		const char *unit;
	} rows[] = {
		{ "length of a line", RPC_LINE_MAX >> 20, "MiB" },
		{ "nesting of arrays and objects", RPC_DEPTH_MAX, "levels" },
		{ "calls in a batch", RPC_BATCH_MAX, "" },
		{ "members of an object", GATE_MEMBERS_MAX, "" },
		{ "values in a line (an array or object counts as four)", GATE_VALUES_MAX, "" },
		{ "characters of a number", GATE_NUMBER_MAX, "" },
		{ "length of a string parameter, where its row sets none", FIELD_STRING_MAX, "bytes" },
		{ "requests of a connection that are not answered yet", WIRE_IN_FLIGHT_MAX, "" },
		{ "subscriptions of a connection", WIRE_SUBSCRIPTIONS_MAX, "" },
		{ "time for the rest of a line that was begun", WIRE_LINE_MS / 1000, "s" },
		{ "answers queued before nothing more is read", WIRE_QUEUE_HIGH >> 20, "MiB" },
		{ "answers queued before notifications are dropped", WIRE_QUEUE_DROP >> 20, "MiB" },
		{ "time a full queue may stand still", WIRE_DRAIN_MS / 1000, "s" },
		{ "payload of a frame", FRAME_MAX >> 10, "KiB" },
	};

	printf("| what | limit |\n|---|---|\n");
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		printf("| %s | %lu%s%s |\n", rows[i].what, rows[i].value,
		    rows[i].unit[0] != '\0' ? " " : "", rows[i].unit);
}

static const char *const event_words[VM_EVENTS] = {
	[VM_EV_PREPARED] = "disk and folder are made",
	[VM_EV_START] = "a start begins",
	[VM_EV_STARTED] = "its processors run",
	[VM_EV_START_FAILED] = "the start failed",
	[VM_EV_START_UNDONE] = "the start was taken back",
	[VM_EV_PAUSED] = "its processors stand still",
	[VM_EV_RESUMED] = "its processors run again",
	[VM_EV_STOP] = "a stop begins",
	[VM_EV_STOP_UNDONE] = "the stop was taken back",
	[VM_EV_GUEST_OFF] = "the guest powered off",
	[VM_EV_PANIC] = "the guest panicked",
	[VM_EV_EXITED] = "its process ended unasked",
	[VM_EV_ENDED] = "its process ended as asked",
	[VM_EV_HOST_REBOOT] = "the host was restarted",
	[VM_EV_DESTROY] = "a destroy begins",
};

static void
chapter_states(void)
{
	printf("| event |");
	for (int state = 0; state < VM_STATES; state++)
		printf(" %s |", vm_state_names[state]);
	printf("\n|---|");
	for (int state = 0; state < VM_STATES; state++)
		printf("---|");
	printf("\n");
	for (int event = 0; event < VM_EVENTS; event++) {
		printf("| %s |", event_words[event]);
		for (int state = 0; state < VM_STATES; state++) {
			enum vm_state next;

			if (vm_state_next((enum vm_state)state, (enum vm_event)event, &next))
				printf(" %s |", vm_state_names[next]);
			else
				printf("  |");
		}
		printf("\n");
	}
}

static void
chapter_operations(void)
{
	static const struct op_kind *const kinds[] = { &op_kind_create, &op_kind_start,
		&op_kind_guest, &op_kind_ports, &op_kind_stop, &op_kind_suspend, &op_kind_resume, &op_kind_destroy,
		&op_kind_up, &op_kind_down, &op_kind_reload };

	printf("| operation | steps (those with an undo are in bold) |\n|---|---|\n");
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		printf("| `%s` |", kinds[i]->name);
		for (size_t k = 0; k < kinds[i]->step_count; k++) {
			const struct op_step *step = &kinds[i]->steps[k];
			const char *bold = step->undo != NULL ? "**" : "";

			printf("%s %s%s%s", k > 0 ? "," : "", bold, step->phase, bold);
		}
		printf(" |\n");
	}
}

static const struct {
	const char *name;
	void (*print)(void);
} chapters[] = {
	{ "errors", chapter_errors },
	{ "limits", chapter_limits },
	{ "methods", chapter_methods },
	{ "notifications", chapter_notifications },
	{ "objects", chapter_objects },
	{ "operations", chapter_operations },
	{ "settings", chapter_settings },
	{ "states", chapter_states },
	{ "verbs", chapter_verbs },
	{ "vmfile", chapter_vmfile },
};

int
main(int argc, char **argv)
{
	for (size_t i = 0; argc == 2 && i < ARRAY_LEN(chapters); i++) {
		if (!str_eq(argv[1], chapters[i].name))
			continue;
		chapters[i].print();
		return fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
	}
	fprintf(stderr, "usage: docs-reference CHAPTER\n");
	return 2;
}
