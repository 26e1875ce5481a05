/* SPDX-License-Identifier: MPL-2.0 */
#include "client/args.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"

enum { MAX_FLAGS = 64 };

struct parser {
	const struct verb *verb; /* NULL before it is known */
	struct global_args *global;
	void *args;
	int argc, next;
	char **argv;
};

char *
args_flag_name(const struct field *field)
{
	char *flag = xasprintf("--%s", field->name);

	for (char *p = flag + 2; *p != '\0'; p++)
		if (*p == '_')
			*p = '-';
	return flag;
}

const struct positional *
args_positional(const struct verb *verb, const char *field)
{
	const struct positional *p = verb->positionals;

	for (; p != NULL && p->field != NULL; p++)
		if (str_eq(p->field, field))
			return p;
	return NULL;
}

static bool
is_hidden(const struct verb *verb, const struct field *field)
{
	const char *const *hidden = verb->hidden;

	if (str_eq(field->name, "progress"))
		return true;
	for (; hidden != NULL && *hidden != NULL; hidden++)
		if (str_eq(*hidden, field->name))
			return true;
	return false;
}

bool
args_is_flag(const struct verb *verb, const struct field *field)
{
	return args_positional(verb, field->name) == NULL && !is_hidden(verb, field);
}

/* ---- flags ---- */

static const struct field *
flag_in(const struct field *fields, const char *flag)
{
	for (; fields != NULL && fields->name != NULL; fields++) {
		CLEANUP_FREE char *name = args_flag_name(fields);

		if (str_eq(name, flag))
			return fields;
	}
	return NULL;
}

/* The row of a long flag and the struct that it fills. */
static const struct field *
find_long(struct parser *p, const char *flag, void **ret_target)
{
	const struct field *field = p->verb != NULL ? flag_in(p->verb->fields, flag) : NULL;

	/* "--name web" is fine where "web" is. */
	if (field != NULL && !is_hidden(p->verb, field)) {
		*ret_target = p->args;
		return field;
	}
	*ret_target = p->global;
	return flag_in(global_fields, flag);
}

static const struct field *
find_short(struct parser *p, char letter, void **ret_target)
{
	const struct short_flag *s = p->verb != NULL ? p->verb->shorts : NULL;

	*ret_target = p->args;
	for (; s != NULL && s->letter != '\0'; s++)
		if (s->letter == letter)
			return fields_find(p->verb->fields, s->field);
	*ret_target = p->global;
	for (s = global_shorts; s->letter != '\0'; s++)
		if (s->letter == letter)
			return fields_find(global_fields, s->field);
	return NULL;
}

static int
unknown_flag(struct parser *p, const char *flag, struct err *err)
{
	const struct field *tables[] = { p->verb != NULL ? p->verb->fields : NULL, global_fields };
	CLEANUP_FREE char *shown = str_printable(flag, strnlen(flag, 64));
	char *known[MAX_FLAGS];
	const char *near;
	size_t n = 0;

	for (size_t t = 0; t < ARRAY_LEN(tables); t++)
		for (const struct field *f = tables[t]; f != NULL && f->name != NULL; f++)
			if (n < MAX_FLAGS && (t > 0 || args_is_flag(p->verb, f)))
				known[n++] = args_flag_name(f);
	err_set(err, E_USAGE, "unknown flag '%s'", shown);
	near = str_nearest(flag, (const char *const *)known, n);
	if (near != NULL)
		err_hint(err, "did you mean '%s'?", near);
	else if (p->verb != NULL)
		err_hint(err, "'vmctl help %s' tells what it takes", p->verb->name);
	while (n > 0)
		free(known[--n]);
	return E_USAGE;
}

static bool
was_given(const struct field *field, const void *args)
{
	const struct strings *list = (const void *)((const char *)args + field->offset);

	if (field->type == FIELD_STRINGS)
		return list->count > 0;
	if (field->type == FIELD_FILE)
		return ((const struct file_ref *)(const void *)list)->kind != FILE_NONE;
	if (field->type == FIELD_STRING || field->type == FIELD_NAME)
		return *(char *const *)(const void *)list != NULL;
	return true;
}

static int
set_value(
    const struct field *field, const char *shown, const char *text, void *target, struct err *err)
{
	struct err problem = ERR_INIT;
	struct strings *list;

	if (field->type == FIELD_STRING && was_given(field, target))
		return err_set(err, E_USAGE, "%s is given twice", shown);
	if (field->type == FIELD_STRINGS) {
		list = (struct strings *)((char *)target + field->offset);
		list->items = xreallocarray(list->items, list->count + 1, sizeof(char *));
		list->items[list->count++] = xstrdup(text);
		return 0;
	}
	if (field_parse(field, text, target, &problem) == 0)
		return 0;
	err_set(err, E_USAGE, "%s: %s", shown, problem.msg);
	if (problem.hint[0] != '\0')
		err_hint(err, "%s", problem.hint);
	return E_USAGE;
}

/* value: what came with the flag ("--tail=5", "-n5"), or NULL: the next word, if one is needed. */
static int
set_flag(struct parser *p, const struct field *field, const char *shown, const char *value,
    void *target, struct err *err)
{
	if (field->type == FIELD_BOOL) {
		if (value != NULL)
			return err_set(err, E_USAGE, "%s takes no value", shown);
		return set_value(field, shown, "true", target, err);
	}
	if (value == NULL) {
		if (p->next >= p->argc)
			return err_set(err, E_USAGE, "%s needs a value", shown);
		value = p->argv[p->next++];
	}
	return set_value(field, shown, value, target, err);
}

static int
parse_long(struct parser *p, const char *word, struct err *err)
{
	const char *equals = strchr(word, '=');
	CLEANUP_FREE char *flag =
	    equals != NULL ? xstrndup(word, (size_t)(equals - word)) : xstrdup(word);
	void *target;
	const struct field *field = find_long(p, flag, &target);

	if (field == NULL)
		return unknown_flag(p, flag, err);
	return set_flag(p, field, flag, equals != NULL ? equals + 1 : NULL, target, err);
}

/* "-f", "-n 5", "-n5", "-fn5" */
static int
parse_short(struct parser *p, const char *word, struct err *err)
{
	for (const char *c = word + 1; *c != '\0'; c++) {
		char shown[3] = { '-', *c, '\0' };
		void *target;
		const struct field *field = find_short(p, *c, &target);
		bool last = c[1] == '\0' || (field != NULL && field->type != FIELD_BOOL);
		int rc;

		if (field == NULL)
			return unknown_flag(p, word, err);
		rc = set_flag(p, field, shown,
		    field->type != FIELD_BOOL && c[1] != '\0' ? c + 1 : NULL, target, err);
		if (rc != 0 || last)
			return rc;
	}
	return 0;
}

static bool
is_flag(const char *word)
{
	return word[0] == '-' && word[1] != '\0';
}

static int
parse_flag(struct parser *p, struct err *err)
{
	const char *word = p->argv[p->next++];

	return word[1] == '-' ? parse_long(p, word, err) : parse_short(p, word, err);
}

/* ---- verbs ---- */

const struct verb *
verb_find(const char *name)
{
	for (size_t i = 0; verbs[i] != NULL; i++)
		if (str_eq(verbs[i]->name, name))
			return verbs[i];
	return NULL;
}

const char *
verb_summary(const struct verb *verb)
{
	return verb->summary != NULL ? verb->summary : methods[verb->method].summary;
}

/* Is the word the first half of verbs such as "image list"? */
static bool
is_family(const char *word)
{
	size_t len = strlen(word);

	for (size_t i = 0; verbs[i] != NULL; i++)
		if (str_starts(verbs[i]->name, word) && verbs[i]->name[len] == ' ')
			return true;
	return false;
}

static int
unknown_verb(const char *name, struct err *err)
{
	CLEANUP_FREE char *shown = str_printable(name, strnlen(name, 64));
	const char *known[MAX_FLAGS], *near;
	size_t n = 0;

	for (size_t i = 0; verbs[i] != NULL && n < MAX_FLAGS; i++)
		if ((verbs[i]->flags & VERB_HIDDEN) == 0)
			known[n++] = verbs[i]->name;
	near = str_nearest(name, known, n);
	err_set(err, E_USAGE, "unknown verb '%s'", shown);
	if (near != NULL)
		err_hint(err, "did you mean '%s'?", near);
	else
		err_hint(err, "'vmctl help' lists the verbs");
	return E_USAGE;
}

int
args_verb(int argc, char **argv, struct global_args *global, const struct verb **ret_verb,
    int *ret_next, struct err *err)
{
	struct parser p = { .global = global, .argc = argc, .argv = argv, .next = 1 };
	CLEANUP_FREE char *both = NULL;
	int rc = 0;

	while (rc == 0 && p.next < argc && is_flag(argv[p.next]))
		rc = parse_flag(&p, err);
	if (rc != 0)
		return rc;
	*ret_verb = NULL;
	*ret_next = p.next;
	if (p.next >= argc) {
		if (global->help || global->version)
			return 0;
		err_set(err, E_USAGE, "a verb is missing");
		err_hint(err, "'vmctl help' lists the verbs");
		return E_USAGE;
	}
	*ret_next = p.next + 1;
	*ret_verb = verb_find(argv[p.next]);
	if (*ret_verb != NULL)
		return 0;
	if (!is_family(argv[p.next]))
		return unknown_verb(argv[p.next], err);
	if (p.next + 1 >= argc || is_flag(argv[p.next + 1])) {
		err_set(err, E_USAGE, "'%s' needs a second word", argv[p.next]);
		err_hint(err, "'vmctl help' lists the verbs");
		return E_USAGE;
	}
	both = xasprintf("%s %s", argv[p.next], argv[p.next + 1]);
	*ret_verb = verb_find(both);
	*ret_next = p.next + 2;
	return *ret_verb != NULL ? 0 : unknown_verb(both, err);
}

/* ---- the rest ---- */

static int
take_positional(struct parser *p, const struct positional **at, struct err *err)
{
	const char *word = p->argv[p->next++];
	const struct positional *here = *at;

	if (here == NULL || here->field == NULL) {
		CLEANUP_FREE char *shown = str_printable(word, strnlen(word, 64));

		err_set(err, E_USAGE, "unexpected '%s'", shown);
		err_hint(err, "'vmctl help %s' tells what it takes", p->verb->name);
		return E_USAGE;
	}
	if (!here->rest)
		(*at)++;
	return set_value(
	    fields_find(p->verb->fields, here->field), here->shown, word, p->args, err);
}

/* After "--": all words belong to the rest, if there is one. */
static void
skip_to_rest(const struct positional **at)
{
	const struct positional *p = *at;

	for (; p != NULL && p->field != NULL; p++) {
		if (p->rest) {
			*at = p;
			return;
		}
		if (!p->optional)
			return;
	}
}

static void
fill_defaults(const struct field *fields, void *args)
{
	for (; fields != NULL && fields->name != NULL; fields++)
		if (fields->fallback != NULL &&
		    field_parse(fields, fields->fallback, args, NULL) != 0)
			abort(); /* a wrong row */
}

static int
check_required(const struct verb *verb, const void *args, struct err *err)
{
	const struct positional *p = verb->positionals;

	for (; p != NULL && p->field != NULL; p++) {
		if (p->optional || was_given(fields_find(verb->fields, p->field), args))
			continue;
		err_set(err, E_USAGE, "%s is missing", p->shown);
		err_hint(err, "'vmctl help %s' tells what it takes", verb->name);
		return E_USAGE;
	}
	for (const struct field *f = verb->fields; f != NULL && f->name != NULL; f++) {
		CLEANUP_FREE char *flag = args_flag_name(f);

		if (!f->required || args_positional(verb, f->name) != NULL || was_given(f, args))
			continue;
		return err_set(err, E_USAGE, "%s is missing", flag);
	}
	return 0;
}

int
args_parse(const struct verb *verb, int argc, char **argv, struct global_args *global, void *args,
    struct err *err)
{
	struct parser p = {
		.verb = verb, .global = global, .args = args, .argc = argc, .argv = argv
	};
	const struct positional *at = verb->positionals;
	bool flags_end = false;
	int rc = 0;

	fill_defaults(verb->fields, args);
	while (rc == 0 && p.next < argc) {
		const char *word = argv[p.next];

		/* What follows the guest's command is the command's. */
		if (at != NULL && at->field != NULL && at->rest &&
		    (verb->flags & VERB_PASSES_STATUS) != 0 && !is_flag(word))
			flags_end = true;
		if (!flags_end && str_eq(word, "--")) {
			flags_end = true;
			p.next++;
			skip_to_rest(&at);
		} else if (!flags_end && is_flag(word)) {
			rc = parse_flag(&p, err);
		} else {
			rc = take_positional(&p, &at, err);
		}
	}
	if (rc != 0 || global->help)
		return rc;
	return check_required(verb, args, err);
}
