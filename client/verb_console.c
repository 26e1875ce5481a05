/* SPDX-License-Identifier: MPL-2.0
 *
 * console and exec: calls whose connection then carries what the machine says. */
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/call.h"
#include "client/conn.h"
#include "client/out.h"
#include "client/relay.h"
#include "client/term.h"
#include "client/verbs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"

static int
run_console(struct vmctl *ctl, void *args, struct err *err)
{
	const struct vm_console_args *a = args;
	struct json_object *result = NULL;
	struct term term;
	bool left = false;
	int rc = call_verb(ctl, args, false, &result, err);

	json_object_put(result);
	if (rc != 0)
		return rc;
	term_raw(&term, STDIN_FILENO);
	if (term.raw && !ctl->global.quiet)
		fprintf(stderr, "vmctl: on the console of '%s'; Ctrl-] leaves it\r\n", a->name);
	rc = relay_bytes(ctl->conn, STDIN_FILENO, STDOUT_FILENO, term.raw, &left, err);
	term_restore(&term);
	if (term.fd >= 0 && ctl->err_tty)
		fputc('\n', stderr);
	if (rc == 0 && !left)
		out_note(ctl, "vmctl: the console of '%s' was closed", a->name);
	return rc;
}

const struct verb verb_console = {
	.name = "console",
	.details =
	    "What the console showed before comes first.  Ctrl-] leaves.  Without a terminal,\n"
	    "bytes are passed as they are, until the console is closed.",
	.fields = vm_console_params,
	.args_size = sizeof(struct vm_console_args),
	.positionals = name_positional,
	.method = METHOD_vm_console,
	.run = run_console,
};

static void
fill_terminal(struct vm_exec_args *a)
{
	const char *type = getenv("TERM");
	unsigned columns, rows;

	if (type != NULL && type[0] != '\0' && strlen(type) <= 64) {
		free(a->term);
		a->term = xstrdup(type);
	}
	if (term_size(STDIN_FILENO, &columns, &rows)) {
		a->columns = columns;
		a->rows = rows;
	}
}

static int
run_exec(struct vmctl *ctl, void *args, struct err *err)
{
	struct vm_exec_args *a = args;
	struct relay_frames relay = { .in_fd = STDIN_FILENO,
		.out_fd = STDOUT_FILENO,
		.err_fd = STDERR_FILENO,
		.tty_fd = a->tty ? STDIN_FILENO : -1 };
	struct json_object *result = NULL;
	struct term term = { 0 };
	int rc;

	if (a->tty)
		fill_terminal(a);
	rc = call_verb(ctl, args, false, &result, err);
	json_object_put(result);
	if (rc != 0)
		return rc;
	if (a->tty)
		term_raw(&term, STDIN_FILENO);
	rc = relay_frames(ctl->conn, &relay, &ctl->status, err);
	term_restore(&term);
	if (rc == 0 && ctl->status < 0)
		rc = err_set(err, E_IO, "the connection to '%s' was lost", a->name);
	return rc;
}

const struct verb verb_exec = {
	.name = "exec",
	.details =
	    "Standard input, output and errors are the command's.  The exit status is the\n"
	    "command's, 128 and the number of the signal that ended it, or 255 when it could\n"
	    "not be run.",
	.fields = vm_exec_params,
	.args_size = sizeof(struct vm_exec_args),
	.positionals = (const struct positional[]){ { "name", "NAME", false, false },
	    { "command", "COMMAND", false, true }, { 0 } },
	.shorts = (const struct short_flag[]){ { 't', "tty" }, { 0 } },
	.hidden = (const char *const[]){ "term", "columns", "rows", NULL },
	.flags = VERB_PASSES_STATUS,
	.method = METHOD_vm_exec,
	.run = run_exec,
};
