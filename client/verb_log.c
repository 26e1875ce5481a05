/* SPDX-License-Identifier: MPL-2.0 */
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/call.h"
#include "client/conn.h"
#include "client/json.h"
#include "client/out.h"
#include "client/relay.h"
#include "client/term.h"
#include "client/verbs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"

struct log_args {
	char *name;
	bool console, provision, hypervisor, follow;
	uint64_t tail;
};

/* clang-format off */
static const struct field log_fields[] = {
	FIELD(struct log_args, name,       FIELD_STRING, .min = 1, .text = "the machine's name or id"),
	FIELD(struct log_args, console,    FIELD_BOOL,   .text = "what the guest wrote to its console"),
	FIELD(struct log_args, provision,  FIELD_BOOL,   .text = "the output of provision steps"),
	FIELD(struct log_args, hypervisor, FIELD_BOOL,   .text = "what the hypervisor itself said"),
	FIELD(struct log_args, tail,       FIELD_UINT,   .text = "only the last lines; 0: all"),
	FIELD(struct log_args, follow,     FIELD_BOOL,   .text = "go on with what comes"),
	FIELD_END
};
/* clang-format on */

static void
print_bytes(const struct vmctl *ctl, const void *data, size_t len)
{
	struct term_filter filter = { 0 };
	struct sbuf text = { 0 };

	if (!ctl->out_tty) {
		fwrite(data, 1, len, stdout);
		return;
	}
	term_filter(&filter, data, len, &text);
	fwrite(text.data, 1, text.len, stdout);
	sbuf_done(&text);
}

static void
print_log(const struct vmctl *ctl, struct json_object *result, bool header)
{
	const char *source = json_string(result, "source"), *path = json_string(result, "path");
	const char *encoded = json_string(result, "base64");
	struct json_object *text = json_member(result, "text");
	CLEANUP_FREE unsigned char *data = NULL;
	size_t len;

	if (header)
		out_line(ctl, "==> %s (%s)", source, path);
	if (!json_flag(result, "exists"))
		out_note(ctl, "vmctl: there is no %s log yet", source);
	if (json_flag(result, "cut"))
		out_note(
		    ctl, "vmctl: only the end of the %s log; all of it is in '%s'", source, path);
	if (text != NULL)
		print_bytes(
		    ctl, json_object_get_string(text), (size_t)json_object_get_string_len(text));
	else if (encoded != NULL && str_unbase64(encoded, &data, &len) == 0)
		print_bytes(ctl, data, len);
	if (header)
		out_line(ctl, "%s", "");
}

static int
read_log(struct vmctl *ctl, const struct log_args *a, enum log_source source, bool follow,
    struct json_object **ret_result, struct err *err)
{
	struct vm_log_args args = {
		.name = a->name, .source = (int)source, .tail = a->tail, .follow = follow
	};
	struct call call = { .method = METHOD_vm_log,
		.params = fields_encode(vm_log_params, &args) };

	return call_run(ctl, &call, ret_result, err);
}

static int
follow_log(struct vmctl *ctl, const struct log_args *a, enum log_source source, struct err *err)
{
	struct relay_frames relay = { .in_fd = -1,
		.out_fd = STDOUT_FILENO,
		.err_fd = STDERR_FILENO,
		.tty_fd = -1,
		.printable = ctl->out_tty };
	struct json_object *result = NULL;
	int rc = read_log(ctl, a, source, true, &result, err);

	json_object_put(result);
	if (rc == 0)
		rc = relay_frames(ctl->conn, &relay, &ctl->status, err);
	if (ctl->status < 0)
		ctl->status = 0;
	return rc;
}

static int
run_log(struct vmctl *ctl, void *args, struct err *err)
{
	const struct log_args *a = args;
	bool wanted[] = { [LOG_CONSOLE] = a->console,
		[LOG_PROVISION] = a->provision,
		[LOG_HYPERVISOR] = a->hypervisor };
	size_t count = (size_t)a->console + a->provision + a->hypervisor;
	json_object *results = json_object_new_array();
	int rc = 0;

	if (count == 0) {
		wanted[LOG_CONSOLE] = true;
		wanted[LOG_PROVISION] = !a->follow;
		count = a->follow ? 1 : 2;
	}
	if (a->follow && count > 1)
		rc = err_set(err, E_USAGE, "--follow follows one log at a time");
	for (size_t i = 0; rc == 0 && i < ARRAY_LEN(wanted); i++) {
		struct json_object *result = NULL;

		if (!wanted[i])
			continue;
		if (a->follow) {
			rc = follow_log(ctl, a, (enum log_source)i, err);
			continue;
		}
		rc = read_log(ctl, a, (enum log_source)i, false, &result, err);
		if (rc != 0)
			break;
		if (!ctl->global.json)
			print_log(ctl, result, count > 1);
		json_object_array_add(results, result);
	}
	if (rc == 0 && !a->follow)
		out_json(ctl, count > 1 ? results : json_item(results, 0));
	json_object_put(results);
	return rc;
}

const struct verb verb_log = {
	.name = "log",
	.summary = "Show a machine's logs: its console's, and those of its provision steps",
	.fields = log_fields,
	.args_size = sizeof(struct log_args),
	.positionals = name_positional,
	.shorts = (const struct short_flag[]){ { 'n', "tail" }, { 'f', "follow" }, { 0 } },
	.method = METHOD_vm_log,
	.run = run_log,
};
