/* SPDX-License-Identifier: MPL-2.0 */
#include "client/args.h"

#include <stdlib.h>
#include <string.h>

#include "client/verbs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "tests/unit/unit.h"

enum { MAX_WORDS = 16 };

struct line {
	struct global_args global;
	const struct verb *verb;
	void *args;
	struct err err;
	int rc;
};

/* "vmctl " and words, split at spaces; '_' alone stands for an empty word. */
static void
parse(struct line *line, const char *text)
{
	CLEANUP_FREE char *copy = xstrdup(text);
	char *argv[MAX_WORDS] = { (char *)(uintptr_t) "vmctl" }, *rest = copy, *word;
	int argc = 1, next;

	*line = (struct line){ 0 };
	while ((word = strsep(&rest, " ")) != NULL && word[0] != '\0')
		argv[argc++] = word;
	line->rc = args_verb(argc, argv, &line->global, &line->verb, &next, &line->err);
	if (line->rc != 0 || line->verb == NULL)
		return;
	line->args = xcalloc(1, line->verb->args_size + 1);
	line->rc =
	    args_parse(line->verb, argc - next, argv + next, &line->global, line->args, &line->err);
}

static void
done(struct line *line)
{
	if (line->args != NULL && line->verb->fields != NULL)
		fields_release(line->verb->fields, line->args);
	free(line->args);
	fields_release(global_fields, &line->global);
}

START_TEST(args__flags__anywhere)
{
	struct vm_stop_args *a;
	struct line line;

	parse(&line, "--json stop --timeout=1min web -q --force");
	ck_assert_msg(line.rc == 0, "%s", line.err.msg);
	ck_assert_ptr_eq(line.verb, &verb_stop);
	a = line.args;
	ck_assert_str_eq(a->name, "web");
	ck_assert_uint_eq(a->timeout_ms, 60000);
	ck_assert(a->force);
	ck_assert(line.global.json && line.global.quiet);
	done(&line);
	parse(&line, "stop --name web");
	ck_assert_int_eq(line.rc, 0);
	ck_assert_uint_eq(((struct vm_stop_args *)line.args)->timeout_ms, 30000);
	done(&line);
}
END_TEST

START_TEST(args__command_of_exec__keeps_its_flags)
{
	struct vm_exec_args *a;
	struct line line;

	parse(&line, "exec -t web ls --json -t --");
	ck_assert_msg(line.rc == 0, "%s", line.err.msg);
	a = line.args;
	ck_assert(a->tty && !line.global.json);
	ck_assert_str_eq(a->name, "web");
	ck_assert_uint_eq(a->command.count, 4);
	ck_assert_str_eq(a->command.items[1], "--json");
	ck_assert_str_eq(a->command.items[3], "--");
	done(&line);
	parse(&line, "exec web -- -odd --json");
	a = line.args;
	ck_assert_int_eq(line.rc, 0);
	ck_assert_uint_eq(a->command.count, 2);
	ck_assert_str_eq(a->command.items[0], "-odd");
	done(&line);
}
END_TEST

START_TEST(args__ssh__name_optional_before_dashes)
{
	struct {
		char *name, *user;
	} * a;
	struct line line;

	parse(&line, "ssh -- uname -a");
	ck_assert_msg(line.rc == 0, "%s", line.err.msg);
	a = line.args;
	ck_assert_ptr_null(a->name);
	done(&line);
	parse(&line, "ssh web --user root uname -a");
	ck_assert_int_eq(line.rc, 0);
	a = line.args;
	ck_assert_str_eq(a->name, "web");
	ck_assert_str_eq(a->user, "root");
	done(&line);
}
END_TEST

START_TEST(args__families__two_words)
{
	struct line line;

	parse(&line, "image rm abc");
	ck_assert_int_eq(line.rc, 0);
	ck_assert_ptr_eq(line.verb, &verb_image_rm);
	done(&line);
	parse(&line, "daemon");
	ck_assert_int_eq(line.rc, E_USAGE);
	ck_assert_str_eq(line.err.msg, "'daemon' needs a second word");
	done(&line);
}
END_TEST

/* clang-format off */
static const struct {
	const char *line, *msg, *hint;
} wrong[] = {
	{ "", "a verb is missing", "'vmctl help' lists the verbs" },
	{ "strat web", "unknown verb 'strat'", "did you mean 'start'?" },
	{ "frobnicate", "unknown verb 'frobnicate'", "'vmctl help' lists the verbs" },
	{ "image lst", "unknown verb 'image lst'", "did you mean 'image list'?" },
	{ "start", "NAME is missing", "'vmctl help start' tells what it takes" },
	{ "start a b", "unexpected 'b'", "'vmctl help start' tells what it takes" },
	{ "start a --name b", "--name is given twice", "" },
	{ "list --jsn", "unknown flag '--jsn'", "did you mean '--json'?" },
	{ "stop web --timeot 3", "unknown flag '--timeot'", "did you mean '--timeout'?" },
	{ "stop web --timeout", "--timeout needs a value", "" },
	{ "stop web --timeout soon", "--timeout: 'soon' is not a duration", "write a number with a unit, such as 90s, 10min or 1h30m" },
	{ "stop web --force=yes", "--force takes no value", "" },
	{ "stop web --progress", "unknown flag '--progress'", "'vmctl help stop' tells what it takes" },
	{ "log web -x", "unknown flag '-x'", "'vmctl help log' tells what it takes" },
	{ "up --backend qmu", "--backend: 'qmu' is none of: default, qemu, propolis, noop", "did you mean 'qemu'?" },
	{ "exec web", "COMMAND is missing", "'vmctl help exec' tells what it takes" },
};
/* clang-format on */

START_TEST(args__wrong_lines__told_with_a_hint)
{
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		struct line line;

		parse(&line, wrong[i].line);
		ck_assert_msg(line.rc == E_USAGE, "'%s' gave %d", wrong[i].line, line.rc);
		ck_assert_str_eq(line.err.msg, wrong[i].msg);
		ck_assert_str_eq(line.err.hint, wrong[i].hint);
		done(&line);
	}
}
END_TEST

START_TEST(args__short_flags__joined)
{
	struct {
		char *name;
		bool console, provision, hypervisor, follow;
		uint64_t tail;
	} * a;
	struct line line;

	parse(&line, "log -fn5 web");
	ck_assert_msg(line.rc == 0, "%s", line.err.msg);
	a = line.args;
	ck_assert(a->follow);
	ck_assert_uint_eq(a->tail, 5);
	done(&line);
}
END_TEST

/* Every row of every verb can be used: names, positionals and short flags that exist, defaults
 * that parse, a text for help. */
START_TEST(args__verbs__rows_are_whole)
{
	for (size_t i = 0; verbs[i] != NULL; i++) {
		const struct verb *v = verbs[i];
		void *args = xcalloc(1, v->args_size + 1);
		struct global_args global = { .help = true };
		struct err err = ERR_INIT;

		ck_assert_ptr_eq(verb_find(v->name), v);
		ck_assert_ptr_nonnull(verb_summary(v));
		ck_assert_ptr_nonnull(v->run);
		ck_assert_int_eq(args_parse(v, 0, NULL, &global, args, &err), 0);
		for (const struct field *f = v->fields; f != NULL && f->name != NULL; f++)
			ck_assert_msg(
			    f->text != NULL && f->offset < v->args_size, "%s %s", v->name, f->name);
		for (const struct positional *p = v->positionals; p != NULL && p->field != NULL;
		     p++)
			ck_assert_ptr_nonnull(fields_find(v->fields, p->field));
		for (const struct short_flag *s = v->shorts; s != NULL && s->letter != '\0'; s++)
			ck_assert_ptr_nonnull(fields_find(v->fields, s->field));
		if (v->fields != NULL)
			fields_release(v->fields, args);
		free(args);
	}
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("client_args");

	UNIT_CASE(s, args__flags__anywhere);
	UNIT_CASE(s, args__command_of_exec__keeps_its_flags);
	UNIT_CASE(s, args__ssh__name_optional_before_dashes);
	UNIT_CASE(s, args__families__two_words);
	UNIT_CASE(s, args__wrong_lines__told_with_a_hint);
	UNIT_CASE(s, args__short_flags__joined);
	UNIT_CASE(s, args__verbs__rows_are_whole);
	return unit_main(s);
}
