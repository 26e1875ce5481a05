/* SPDX-License-Identifier: MPL-2.0 */
#include "client/help.h"

#include <stdio.h>
#include <string.h>

#include "client/args.h"
#include "client/verbs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"

void
help_all(void)
{
	printf("usage: vmctl [FLAG…] VERB [ARGUMENT…]\n\nverbs:\n");
	for (size_t i = 0; verbs[i] != NULL; i++)
		if ((verbs[i]->flags & VERB_HIDDEN) == 0)
			printf("  %-16s %s\n", verbs[i]->name, verb_summary(verbs[i]));
	printf("\nflags of every verb:\n");
	help_flags(global_fields, global_shorts, NULL);
	printf("\n'vmctl help VERB' tells more about one.\n");
}

static char
short_of(const struct short_flag *shorts, const char *field)
{
	for (; shorts != NULL && shorts->letter != '\0'; shorts++)
		if (str_eq(shorts->field, field))
			return shorts->letter;
	return '\0';
}

static char *
value_shown(const struct field *field)
{
	if (field->type == FIELD_BOOL)
		return xstrdup("");
	if (field->type == FIELD_ENUM)
		return xstrdup("WORD");
	if (field->type == FIELD_FILE)
		return xstrdup("PATH");
	if (field->type == FIELD_SIZE)
		return xstrdup("SIZE");
	if (field->type == FIELD_DURATION)
		return xstrdup("TIME");
	if (field->type == FIELD_UINT)
		return xstrdup("N");
	return xstrdup(field->type == FIELD_NAME || str_eq(field->name, "name") ? "NAME" : "TEXT");
}

/* ": one, two, three" of what takes words. */
static void
print_words(const struct field *field)
{
	if (field->type != FIELD_ENUM)
		return;
	for (size_t i = 0; field->words[i] != NULL; i++)
		printf("%s %s", i == 0 ? ":" : ",", field->words[i]);
}

void
help_flags(const struct field *fields, const struct short_flag *shorts, const struct verb *verb)
{
	for (const struct field *f = fields; f != NULL && f->name != NULL; f++) {
		CLEANUP_FREE char *flag = args_flag_name(f), *value = value_shown(f), *both = NULL;
		char letter = short_of(shorts, f->name);

		if (verb != NULL && !args_is_flag(verb, f))
			continue;
		both = letter != '\0'
			   ? xasprintf("-%c, %s%s%s", letter, flag, *value ? " " : "", value)
			   : xasprintf("    %s%s%s", flag, *value ? " " : "", value);
		printf("  %-28s %s", both, f->text);
		print_words(f);
		if (f->fallback != NULL && f->type != FIELD_BOOL && !str_eq(f->fallback, "default"))
			printf(" (default: %s)", f->fallback);
		printf("%s\n", f->required ? " (required)" : "");
	}
}

static void
print_usage(const struct verb *verb)
{
	const struct positional *p = verb->positionals;
	bool flags = false;

	printf("usage: vmctl %s", verb->name);
	for (const struct field *f = verb->fields; f != NULL && f->name != NULL; f++)
		flags = flags || args_is_flag(verb, f);
	if (flags)
		printf(" [FLAG…]");
	for (; p != NULL && p->field != NULL; p++)
		printf(" %s%s%s%s%s", p->optional ? "[" : "",
		    p->rest && (verb->flags & VERB_PASSES_STATUS) != 0 ? "-- " : "", p->shown,
		    p->rest ? "…" : "", p->optional ? "]" : "");
	printf("\n");
}

void
help_verb(const struct verb *verb)
{
	const struct positional *p = verb->positionals;

	print_usage(verb);
	printf("\n%s.\n", verb_summary(verb));
	if (verb->details != NULL)
		printf("\n%s\n", verb->details);
	if (p != NULL && p->field != NULL)
		printf("\narguments:\n");
	for (; p != NULL && p->field != NULL; p++)
		printf("  %-28s %s\n", p->shown, fields_find(verb->fields, p->field)->text);
	printf("\nflags:\n");
	help_flags(verb->fields, verb->shorts, verb);
	help_flags(global_fields, global_shorts, NULL);
}

/* ---- the verbs ---- */

struct help_args {
	struct strings verb;
};

/* clang-format off */
static const struct field help_fields[] = {
	FIELD(struct help_args, verb, FIELD_STRINGS, .text = "the verb to tell about"),
	FIELD_END
};
/* clang-format on */

static int
run_help(struct vmctl *ctl, void *args, struct err *err)
{
	const struct help_args *a = args;
	CLEANUP_FREE char *name = NULL;
	const struct verb *verb;

	(void)ctl;
	if (a->verb.count == 0) {
		help_all();
		return 0;
	}
	name = a->verb.count == 1 ? xstrdup(a->verb.items[0])
				  : xasprintf("%s %s", a->verb.items[0], a->verb.items[1]);
	verb = verb_find(name);
	if (verb == NULL) {
		err_set(err, E_USAGE, "unknown verb '%s'", name);
		err_hint(err, "'vmctl help' lists the verbs");
		return E_USAGE;
	}
	help_verb(verb);
	return 0;
}

const struct verb verb_help = {
	.name = "help",
	.summary = "Tell what vmctl or one of its verbs takes",
	.fields = help_fields,
	.args_size = sizeof(struct help_args),
	.positionals = (const struct positional[]){ { "verb", "VERB", true, true }, { 0 } },
	.run = run_help,
};

static int
run_version(struct vmctl *ctl, void *args, struct err *err)
{
	(void)ctl;
	(void)args;
	(void)err;
	printf("vmctl %s\n", VMM_VERSION);
	return 0;
}

const struct verb verb_version = {
	.name = "version",
	.summary = "Print the version of vmctl",
	.run = run_version,
};
