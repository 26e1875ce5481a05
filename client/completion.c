/* SPDX-License-Identifier: MPL-2.0
 *
 * Completion for bash, written from the rows: verbs, flags, the words that a flag takes, and the
 * names of machines where a machine is meant. */
#include <stdio.h>
#include <string.h>

#include "client/args.h"
#include "client/verbs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"

struct completion_args {
	char *shell;
};

/* clang-format off */
static const struct field completion_fields[] = {
	FIELD(struct completion_args, shell, FIELD_STRING, .text = "bash"),
	FIELD_END
};
/* clang-format on */

static void
print_flags(const struct verb *verb)
{
	for (const struct field *f = verb->fields; f != NULL && f->name != NULL; f++) {
		CLEANUP_FREE char *flag = args_flag_name(f);

		if (args_is_flag(verb, f))
			printf(" %s", flag);
	}
	for (const struct field *f = global_fields; f->name != NULL; f++) {
		CLEANUP_FREE char *flag = args_flag_name(f);

		printf(" %s", flag);
	}
}

static bool
takes_machine(const struct verb *verb)
{
	return verb->positionals != NULL &&
	       (str_eq(verb->positionals->field, "name") ||
		   str_eq(verb->positionals->field, "vm")) &&
	       !str_eq(verb->name, "create");
}

/* "  'image list') flags='…'; machines=1 ;;" */
static void
print_verb(const struct verb *verb)
{
	printf("\t'%s') flags='", verb->name);
	print_flags(verb);
	printf("'; machines=%d ;;\n", takes_machine(verb));
}

/* After a flag that takes one of some words, or a path. */
static void
print_values(void)
{
	for (size_t i = 0; verbs[i] != NULL; i++) {
		for (const struct field *f = verbs[i]->fields; f != NULL && f->name != NULL; f++) {
			CLEANUP_FREE char *flag = args_flag_name(f);

			if (!args_is_flag(verbs[i], f))
				continue;
			if (f->type == FIELD_ENUM) {
				printf("\t'%s %s') words='", verbs[i]->name, flag);
				for (size_t w = 0; f->words[w] != NULL; w++)
					printf("%s%s", w > 0 ? " " : "", f->words[w]);
				printf("' ;;\n");
			} else if (f->type == FIELD_FILE || str_eq(f->name, "file") ||
				   str_eq(f->name, "image")) {
				printf("\t'%s %s') words=@files ;;\n", verbs[i]->name, flag);
			}
		}
	}
}

static void
print_verb_words(void)
{
	const char *last = "";
	size_t last_len = 0;

	for (size_t i = 0; verbs[i] != NULL; i++) {
		size_t len = strcspn(verbs[i]->name, " ");

		/* The verbs of a family stand beside each other. */
		if (len == last_len && strncmp(last, verbs[i]->name, len) == 0)
			continue;
		printf(" %.*s", (int)len, verbs[i]->name);
		last = verbs[i]->name;
		last_len = len;
	}
}

static void
print_families(void)
{
	for (size_t i = 0; verbs[i] != NULL; i++) {
		const char *space = strchr(verbs[i]->name, ' ');

		if (space != NULL)
			printf("\t%.*s) second+=' %s' ;;&\n", (int)(space - verbs[i]->name),
			    verbs[i]->name, space + 1);
	}
}

static void
print_bash(void)
{
	printf("# Completion of vmctl for bash; written by 'vmctl completion bash'.\n"
	       "_vmctl() {\n"
	       "\tlocal word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}\n"
	       "\tlocal verb= second= flags= machines=0 words= i\n"
	       "\tCOMPREPLY=()\n"
	       "\tfor ((i = 1; i < COMP_CWORD; i++)); do\n"
	       "\t\tcase ${COMP_WORDS[i]} in\n"
	       "\t\t--socket) ((i++)) ;;\n"
	       "\t\t-*) ;;\n"
	       "\t\t*) verb=${COMP_WORDS[i]}; break ;;\n"
	       "\t\tesac\n"
	       "\tdone\n"
	       "\tif [[ -z $verb ]]; then\n"
	       "\t\tCOMPREPLY=($(compgen -W '");
	print_verb_words();
	for (const struct field *f = global_fields; f->name != NULL; f++) {
		CLEANUP_FREE char *flag = args_flag_name(f);

		printf(" %s", flag);
	}
	printf("' -- \"$word\"))\n"
	       "\t\treturn\n"
	       "\tfi\n"
	       "\tcase $verb in\n");
	print_families();
	printf("\tesac\n"
	       "\tif [[ -n $second ]]; then\n"
	       "\t\tif ((i + 1 == COMP_CWORD)); then\n"
	       "\t\t\tCOMPREPLY=($(compgen -W \"$second\" -- \"$word\"))\n"
	       "\t\t\treturn\n"
	       "\t\tfi\n"
	       "\t\tverb+=\" ${COMP_WORDS[i+1]}\"\n"
	       "\tfi\n"
	       "\tcase $verb in\n");
	for (size_t i = 0; verbs[i] != NULL; i++)
		print_verb(verbs[i]);
	printf("\tesac\n"
	       "\tcase \"$verb $before\" in\n");
	print_values();
	printf("\tesac\n"
	       "\tif [[ $words == @files ]]; then\n"
	       "\t\tcompopt -o filenames 2>/dev/null\n"
	       "\t\tCOMPREPLY=($(compgen -f -- \"$word\"))\n"
	       "\telif [[ -n $words ]]; then\n"
	       "\t\tCOMPREPLY=($(compgen -W \"$words\" -- \"$word\"))\n"
	       "\telif [[ $word == -* ]]; then\n"
	       "\t\tCOMPREPLY=($(compgen -W \"$flags\" -- \"$word\"))\n"
	       "\telif ((machines)); then\n"
	       "\t\tCOMPREPLY=($(compgen -W \"$(VMCTL_NO_AUTOSTART=1 \"${COMP_WORDS[0]}\" list "
	       "2>/dev/null | sed -n '2,$s/ .*//p')\" -- \"$word\"))\n"
	       "\telse\n"
	       "\t\tcompopt -o filenames 2>/dev/null\n"
	       "\t\tCOMPREPLY=($(compgen -f -- \"$word\"))\n"
	       "\tfi\n"
	       "}\n"
	       "complete -F _vmctl vmctl\n");
}

static int
run_completion(struct vmctl *ctl, void *args, struct err *err)
{
	const struct completion_args *a = args;

	(void)ctl;
	if (!str_eq(a->shell, "bash"))
		return err_set(
		    err, E_USAGE, "there is completion for bash only, not for '%s'", a->shell);
	print_bash();
	return 0;
}

const struct verb verb_completion = {
	.name = "completion",
	.summary = "Print the completion rules for a shell",
	.fields = completion_fields,
	.args_size = sizeof(struct completion_args),
	.positionals = (const struct positional[]){ { "shell", "SHELL", false, false }, { 0 } },
	.run = run_completion,
};
