/* SPDX-License-Identifier: MPL-2.0 */
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/call.h"
#include "client/files.h"
#include "client/json.h"
#include "client/out.h"
#include "client/verbs.h"
#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/legacy/legacy.h"

struct import_args {
	char *store;
	struct strings names;
	bool take;
};

/* clang-format off */
static const struct field import_fields[] = {
	FIELD(struct import_args, store, FIELD_STRING, .min = 1, .text = "its vms.json; default: the one in your home"),
	FIELD_NAMED("name", struct import_args, names, FIELD_STRINGS, .text = "only this machine; may be given again"),
	FIELD(struct import_args, take,  FIELD_BOOL,   .text = "take the machines over; else they are only listed"),
	FIELD_END
};
/* clang-format on */

static void
print_list(const struct vmctl *ctl, struct json_object *list, const char *word)
{
	for (size_t i = 0; i < json_length(list); i++)
		out_line(ctl, "  %s: %s", word, json_object_get_string(json_item(list, i)));
}

static void
print_machine(const struct vmctl *ctl, struct json_object *vm)
{
	const char *name = json_shown(vm, "name"), *new_name = json_string(vm, "new_name");
	const char *action = json_string(vm, "action"), *error = json_string(vm, "error");
	bool can = json_length(json_member(vm, "problems")) == 0;
	bool renamed = can && new_name != NULL && !str_eq(name, new_name);

	if (action == NULL)
		action = can ? "can be taken over" : "can not be taken over";
	out_line(ctl, "%s: %s%s%s", name, action, renamed ? " as " : "", renamed ? new_name : "");
	if (error != NULL)
		out_line(ctl, "  error: %s", error);
	print_list(ctl, json_member(vm, "problems"), "problem");
	if (can)
		print_list(ctl, json_member(vm, "notes"), "note");
}

static int
print_machines(struct vmctl *ctl, struct json_object *vms, struct err *err)
{
	size_t failed = 0;

	if (json_length(vms) == 0)
		out_line(ctl, "no machines");
	for (size_t i = 0; i < json_length(vms); i++) {
		print_machine(ctl, json_item(vms, i));
		failed += str_eq(json_string(json_item(vms, i), "action"), "failed");
	}
	if (failed == 0)
		return 0;
	ctl->answered = true;
	return err_set(
	    err, E_FAILED, "%zu machine%s could not be taken over", failed, failed == 1 ? "" : "s");
}

static int
run_import(struct vmctl *ctl, void *args, struct err *err)
{
	const struct import_args *a = args;
	CLEANUP_FREE char *path =
	    a->store != NULL ? fs_expand(a->store, NULL) : legacy_default_path();
	struct call call = { .method = METHOD_system_import_legacy, .progress = true };
	struct sent_files files = { 0 };
	json_object *store = NULL, *names;
	struct json_object *result = NULL;
	int rc;

	if (path == NULL)
		return err_set(err, E_USAGE, "no home folder is known; name the vms.json");
	rc = files_attach(&files, path, &store, err);
	if (rc == 0) {
		call.params = json_object_new_object();
		names = json_object_new_array();
		json_object_object_add(call.params, "store", store);
		json_object_object_add(call.params, "take", json_object_new_boolean(a->take));
		for (size_t i = 0; i < a->names.count; i++)
			json_object_array_add(names, json_object_new_string(a->names.items[i]));
		json_object_object_add(call.params, "names", names);
		call.fds = files.fds;
		call.fd_count = files.fd_count;
		rc = call_run(ctl, &call, &result, err);
	}
	files_done(&files);
	if (rc == 0) {
		out_json(ctl, result);
		rc = print_machines(ctl, json_member(result, "vms"), err);
	}
	json_object_put(result);
	return rc;
}

const struct verb verb_import_legacy = {
	.name = "import-legacy",
	.fields = import_fields,
	.args_size = sizeof(struct import_args),
	.positionals = (const struct positional[]){ { "store", "VMS.JSON", true, false }, { 0 } },
	.method = METHOD_system_import_legacy,
	.run = run_import,
};
