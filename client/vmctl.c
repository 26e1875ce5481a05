/* SPDX-License-Identifier: MPL-2.0
 *
 * vmctl: parses, makes one call, prints, exits.  Rules about machines live in the daemon.  There
 * is one thread; it waits in poll only, in client/conn.c while a call runs and in client/relay.c
 * once a connection carries bytes.  Signal handlers touch client/signals.c and nothing else. */
#include "client/vmctl.h"

#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/args.h"
#include "client/call.h"
#include "client/conn.h"
#include "client/endpoint.h"
#include "client/help.h"
#include "client/json.h"
#include "client/out.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"

enum { EXIT_OWN_FAILURE = 255 };

/* clang-format off */
const struct field global_fields[] = {
	FIELD(struct global_args, socket,  FIELD_STRING, .min = 1, .text = "vmmd's socket; default: VMCTL_SOCKET, the user's, the system's"),
	FIELD(struct global_args, json,    FIELD_BOOL,   .text = "print the result as JSON"),
	FIELD(struct global_args, quiet,   FIELD_BOOL,   .text = "no progress and no notes"),
	FIELD(struct global_args, help,    FIELD_BOOL,   .text = "tell what a verb takes"),
	FIELD(struct global_args, version, FIELD_BOOL,   .text = "print the version of vmctl"),
	FIELD_END
};

const struct short_flag global_shorts[] = {
	{ 'q', "quiet" }, { 'h', "help" }, { 'V', "version" }, { 0 },
};
/* clang-format on */

/* A daemon of another version works as far as it can, but people should know. */
static int
check_version(struct vmctl *ctl, struct err *err)
{
	CLEANUP_FREE char *theirs = NULL;
	struct call call = { .method = METHOD_system_hello, .params = json_object_new_object() };
	json_object *result = NULL;
	int rc;

	json_object_object_add(call.params, "protocol", json_object_new_int(PROTOCOL_VERSION));
	json_add_string(call.params, "client", "vmctl " VMM_VERSION);

	rc = call_run(ctl, &call, &result, err);
	if (rc != 0)
		return rc;
	theirs = xstrdup(json_string(result, "version"));
	json_object_put(result);
	if (theirs != NULL && !str_eq(theirs, VMM_VERSION))
		out_note(ctl,
		    "vmctl: note: this is vmctl %s, but vmmd %s is running; "
		    "'vmctl daemon stop' ends it and spares the machines",
		    VMM_VERSION, theirs);
	return 0;
}

int
vmctl_connect(struct vmctl *ctl, struct err *err)
{
	struct conn *conn;
	int rc;

	if (ctl->conn != NULL)
		return 0;
	conn = xcalloc(1, sizeof(*conn));
	rc = endpoint_open(ctl->global.socket, !ctl->no_start, conn, err);
	if (rc != 0) {
		free(conn);
		return rc;
	}
	ctl->conn = conn;
	return check_version(ctl, err);
}

static void
print_error_object(const struct vmctl *ctl, const struct err *err)
{
	json_object *error = json_object_get(ctl->error), *data;

	if (error == NULL) {
		error = json_object_new_object();
		data = json_object_new_object();
		json_object_object_add(error, "code", json_object_new_int(err_rpc_code(err->code)));
		json_add_string(error, "message", err->msg);
		json_add_string(data, "name", err_name(err->code));
		json_add_string(data, "hint", err->hint[0] != '\0' ? err->hint : NULL);
		json_add_string(data, "object", err->object[0] != '\0' ? err->object : NULL);
		json_object_object_add(error, "data", data);
	}
	out_json(ctl, error);
	json_object_put(error);
}

static int
fail(const struct vmctl *ctl, const struct err *err)
{
	if (!ctl->answered)
		print_error_object(ctl, err);
	out_error(err);
	if (ctl->verb != NULL && (ctl->verb->flags & VERB_PASSES_STATUS) != 0)
		return EXIT_OWN_FAILURE;
	return err_exit_status(err->code);
}

static int
run_verb(struct vmctl *ctl, int argc, char **argv, struct err *err)
{
	void *args = xcalloc(1, ctl->verb->args_size > 0 ? ctl->verb->args_size : 1);
	int rc = args_parse(ctl->verb, argc, argv, &ctl->global, args, err);

	if (rc == 0 && ctl->global.help)
		help_verb(ctl->verb);
	else if (rc == 0)
		rc = ctl->verb->run(ctl, args, err);
	if (ctl->verb->fields != NULL)
		fields_release(ctl->verb->fields, args);
	free(args);
	if (fflush(stdout) != 0 && rc == 0)
		rc = err_set(err, E_IO, "can not write the answer");
	return rc;
}

int
vmctl_run(int argc, char **argv)
{
	struct vmctl ctl = { .out_tty = isatty(STDOUT_FILENO) };
	const char *term = getenv("TERM");
	struct err err = ERR_INIT;
	int next, rc;

	ctl.err_tty = isatty(STDERR_FILENO) && term != NULL && !str_eq(term, "dumb");
	rc = args_verb(argc, argv, &ctl.global, &ctl.verb, &next, &err);
	if (rc == 0 && ctl.global.version)
		printf("vmctl %s\n", VMM_VERSION);
	else if (rc == 0 && ctl.verb == NULL)
		help_all();
	else if (rc == 0)
		rc = run_verb(&ctl, argc - next, argv + next, &err);
	if (rc != 0)
		ctl.status = fail(&ctl, &err);
	if (ctl.conn != NULL)
		conn_close(ctl.conn);
	free(ctl.conn);
	json_object_put(ctl.error);
	fields_release(global_fields, &ctl.global);
	return ctl.status;
}
