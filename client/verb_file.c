/* SPDX-License-Identifier: MPL-2.0
 *
 * up, plan, down, reload: a VMFile, one call, and a line for each machine. */
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/call.h"
#include "client/json.h"
#include "client/out.h"
#include "client/project.h"
#include "client/verbs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/vmfile/vmfile.h"

enum { EXIT_WORK_TO_DO = 10 };

struct file_verb_args {
	char *file;
	struct strings names;
	int backend;
	bool no_provision, destroy, orphans;
	uint64_t timeout_ms;
};

/* clang-format off */
#define ROW_NAMES FIELD_NAMED("name", struct file_verb_args, names, FIELD_STRINGS, .text = "only these machines")
#define ROW_FILE FIELD(struct file_verb_args, file, FIELD_STRING, .min = 1, .text = "the VMFile; default: VMFile.yaml here or in a folder above")
#define ROW_BACKEND FIELD(struct file_verb_args, backend, FIELD_ENUM, .words = backend_names, .fallback = "default", .text = "use this hypervisor, whatever the VMFile says")
#define ROW_NO_PROVISION FIELD(struct file_verb_args, no_provision, FIELD_BOOL, .text = "leave the provision steps out")
#define ROW_TIMEOUT(initial, words) FIELD_NAMED("timeout", struct file_verb_args, timeout_ms, FIELD_DURATION, .fallback = initial, .text = words)
#define GUEST_TIMEOUT ROW_TIMEOUT("5min", "how long a guest may take to be reachable and set up")

static const struct field up_fields[] = { ROW_NAMES, ROW_FILE, ROW_BACKEND, ROW_NO_PROVISION, GUEST_TIMEOUT, FIELD_END };
static const struct field plan_fields[] = { ROW_NAMES, ROW_FILE, ROW_BACKEND, ROW_NO_PROVISION, FIELD_END };
static const struct field down_fields[] = {
	ROW_NAMES,
	ROW_FILE,
	FIELD(struct file_verb_args, destroy, FIELD_BOOL, .text = "remove the machines and their disks too"),
	FIELD(struct file_verb_args, orphans, FIELD_BOOL, .text = "with --destroy: also machines that are no longer in the VMFile"),
	ROW_TIMEOUT("30s", "how long a guest may take to power off"),
	FIELD_END
};
/* clang-format on */

static const struct positional names_positional[] = { { "name", "NAME", true, true }, { 0 } };

/* ---- the call ---- */

/* What of the arguments the method takes. */
static void
add_options(enum method_id method, const struct file_verb_args *a, json_object *params)
{
	const struct field *rows = methods[method].params;

	if (fields_find(rows, "provision") != NULL)
		json_object_object_add(
		    params, "provision", json_object_new_boolean(!a->no_provision));
	if (fields_find(rows, "destroy") != NULL) {
		json_object_object_add(params, "destroy", json_object_new_boolean(a->destroy));
		json_object_object_add(params, "orphans", json_object_new_boolean(a->orphans));
	}
	if (fields_find(rows, "timeout") != NULL) {
		CLEANUP_FREE char *text = xasprintf("%llums", (unsigned long long)a->timeout_ms);

		json_add_string(params, "timeout", text);
	}
}

static int
call_file(struct vmctl *ctl, const struct file_verb_args *a, struct json_object **ret_result,
    struct err *err)
{
	enum method_id method = ctl->verb->method;
	bool fetches = fields_find(methods[method].params, "auth") != NULL;
	struct call call = { .method = method,
		.progress = fields_find(methods[method].params, "progress") != NULL };
	struct project_send send = { 0 };
	struct vmfile *vmfile = NULL;
	int rc;

	rc = project_load(ctl, a->file, (enum backend)a->backend, &a->names, &vmfile, err);
	if (rc != 0)
		return rc;
	rc = project_params(
	    vmfile, &a->names, method != METHOD_file_down ? &send : NULL, &call.params, err);
	if (rc == 0 && fetches) {
		rc = images_auth(ctl, &send.images, call.params, err);
		if (rc != 0)
			json_object_put(call.params);
	}
	if (rc == 0) {
		add_options(method, a, call.params);
		call.fds = send.files.fds;
		call.fd_count = send.files.fd_count;
		rc = call_run(ctl, &call, ret_result, err);
		if (rc != 0)
			project_place_error(vmfile, err);
	}
	if (rc == 0 && fetches)
		lock_record(ctl, &send.lock, vmfile, send.urls);
	project_send_done(&send);
	vmfile_destroy(vmfile);
	return rc;
}

/* ---- the answer ---- */

static const char *
or_nothing(const char *text)
{
	return text != NULL ? text : "nothing";
}

static void
print_changes(const struct vmctl *ctl, const char *name, struct json_object *changes)
{
	for (size_t i = 0; i < json_length(changes); i++) {
		struct json_object *change = json_item(changes, i);
		const char *when = json_string(change, "when");

		out_line(ctl, "%s:   %s: %s -> %s%s%s%s", name, json_shown(change, "field"),
		    or_nothing(json_string(change, "from")), or_nothing(json_string(change, "to")),
		    when != NULL ? " (" : "", when != NULL ? when : "", when != NULL ? ")" : "");
	}
}

static void
print_warnings(const struct vmctl *ctl, const char *name, struct json_object *warnings)
{
	for (size_t i = 0; i < json_length(warnings); i++)
		out_note(ctl, "vmctl: warning: %s: %s", name,
		    json_object_get_string(json_item(warnings, i)));
}

static void
print_phases(const struct vmctl *ctl, const char *name, struct json_object *phases)
{
	CLEANUP_FREE char *line = NULL;
	struct sbuf text = { 0 };
	uint64_t total = 0;

	if (json_length(phases) == 0)
		return;
	for (size_t i = 0; i < json_length(phases); i++) {
		struct json_object *phase = json_item(phases, i);
		uint64_t ms = (uint64_t)json_int(phase, "ms");
		CLEANUP_FREE char *took = text_seconds(ms);

		sbuf_addf(&text, "%s%s %s", i > 0 ? ", " : "", json_shown(phase, "name"), took);
		total += ms;
	}
	line = text_seconds(total);
	out_line(ctl, "%s:   %s in all: %s", name, line, text.data);
	sbuf_done(&text);
}

static void
print_orphans(const struct vmctl *ctl, struct json_object *orphans)
{
	for (size_t i = 0; i < json_length(orphans); i++)
		out_note(ctl,
		    "vmctl: note: machine '%s' is of this VMFile's project but no longer in the "
		    "file; "
		    "'vmctl down --destroy --orphans' removes it",
		    json_object_get_string(json_item(orphans, i)));
}

/* The first failure decides the exit status; all are told. */
static int
print_results(const struct vmctl *ctl, struct json_object *result, struct err *err)
{
	struct json_object *vms = json_member(result, "vms");
	size_t failed = 0;

	for (size_t i = 0; i < json_length(vms); i++) {
		struct json_object *vm = json_item(vms, i), *error = json_member(vm, "error");
		const char *name = json_string(vm, "name"), *action = json_string(vm, "action");
		struct err one = ERR_INIT;

		if (name == NULL || action == NULL)
			continue;
		out_line(ctl, "%s: %s", name, action);
		print_changes(ctl, name, json_member(vm, "changed"));
		print_phases(ctl, name, json_member(vm, "phases"));
		if (error == NULL)
			continue;
		err_set(&one, err_from_name(json_shown(error, "name")), "%s",
		    json_shown(error, "message"));
		if (json_string(error, "hint") != NULL)
			err_hint(&one, "%s", json_string(error, "hint"));
		if (failed++ > 0)
			out_error(err);
		*err = one;
	}
	return failed > 0 ? (int)err->code : 0;
}

static int
run_file(struct vmctl *ctl, void *args, struct err *err)
{
	const struct file_verb_args *a = args;
	struct json_object *result = NULL;
	int rc;

	if (a->orphans && !a->destroy)
		return err_set(err, E_USAGE, "--orphans goes with --destroy");
	rc = call_file(ctl, a, &result, err);
	if (rc != 0)
		return rc;
	out_json(ctl, result);
	print_orphans(ctl, json_member(result, "orphans"));
	rc = print_results(ctl, result, err);
	ctl->answered = true; /* --json printed the result, which has the errors */
	json_object_put(result);
	return rc;
}

static int
run_plan(struct vmctl *ctl, void *args, struct err *err)
{
	struct json_object *result = NULL, *vms;
	int rc = call_file(ctl, args, &result, err);

	if (rc != 0)
		return rc;
	out_json(ctl, result);
	vms = json_member(result, "vms");
	for (size_t i = 0; i < json_length(vms); i++) {
		struct json_object *vm = json_item(vms, i);

		out_line(ctl, "%s: %s", json_shown(vm, "name"), json_shown(vm, "action"));
		print_changes(ctl, json_shown(vm, "name"), json_member(vm, "changes"));
		print_warnings(ctl, json_shown(vm, "name"), json_member(vm, "warnings"));
	}
	print_orphans(ctl, json_member(result, "orphans"));
	if (json_flag(result, "work"))
		ctl->status = EXIT_WORK_TO_DO;
	else
		out_line(ctl, "nothing to do");
	json_object_put(result);
	return 0;
}

const struct verb verb_up = {
	.name = "up",
	.fields = up_fields,
	.args_size = sizeof(struct file_verb_args),
	.positionals = names_positional,
	.method = METHOD_file_up,
	.run = run_file,
};

const struct verb verb_plan = {
	.name = "plan",
	.summary = "Tell what 'up' would do; exit status 10 when there is something",
	.fields = plan_fields,
	.args_size = sizeof(struct file_verb_args),
	.positionals = names_positional,
	.method = METHOD_file_plan,
	.run = run_plan,
};

const struct verb verb_down = {
	.name = "down",
	.fields = down_fields,
	.args_size = sizeof(struct file_verb_args),
	.positionals = names_positional,
	.method = METHOD_file_down,
	.run = run_file,
};

const struct verb verb_reload = {
	.name = "reload",
	.fields = up_fields,
	.args_size = sizeof(struct file_verb_args),
	.positionals = names_positional,
	.method = METHOD_file_reload,
	.run = run_file,
};
