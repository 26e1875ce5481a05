/* SPDX-License-Identifier: MPL-2.0 */
#include <json-c/json.h>

#include "client/call.h"
#include "client/json.h"
#include "client/out.h"
#include "client/project.h"
#include "client/verbs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/vmfile/vmfile.h"

struct provision_args {
	char *file;
	struct strings names;
	bool force;
	uint64_t timeout_ms;
};

/* clang-format off */
static const struct field provision_fields[] = {
	FIELD_NAMED("name", struct provision_args, names, FIELD_STRINGS, .text = "only these machines"),
	FIELD(struct provision_args, file, FIELD_STRING, .min = 1, .text = "the VMFile; default: VMFile.yaml here or in a folder above"),
	FIELD(struct provision_args, force, FIELD_BOOL, .text = "also the steps that are done"),
	FIELD_NAMED("timeout", struct provision_args, timeout_ms, FIELD_DURATION, .fallback = "5min", .text = "how long the guest may take to be reachable and set up"),
	FIELD_END
};
/* clang-format on */

static int
provision_one(struct vmctl *ctl, const struct provision_args *a, const struct vmfile *vmfile,
    const struct vm_spec *spec, json_object *results, struct err *err)
{
	struct vm_provision_args args = { .name = spec->name,
		.project = vmfile->path,
		.force = a->force,
		.timeout_ms = a->timeout_ms };
	struct call call = { .method = METHOD_vm_provision,
		.params = fields_encode(vm_provision_params, &args),
		.progress = true };
	struct json_object *result = NULL;
	int rc = call_run(ctl, &call, &result, err);

	if (rc != 0)
		return rc;
	out_line(ctl, "%s: %lld of %zu steps ran", spec->name, (long long)json_int(result, "ran"),
	    spec->provision.count);
	json_object_array_add(results, result);
	return 0;
}

/* In the order of the file, and all that can be: the first failure is the one that counts. */
static int
run_provision(struct vmctl *ctl, void *args, struct err *err)
{
	const struct provision_args *a = args;
	struct vmfile *vmfile = NULL;
	json_object *results;
	int rc = project_load(ctl, a->file, BACKEND_DEFAULT, &a->names, &vmfile, err);

	if (rc != 0)
		return rc;
	results = json_object_new_array();
	for (size_t i = 0; rc == 0 && i < vmfile->vms.count; i++) {
		const struct vm_spec *spec = vmfile_vm(vmfile, i);

		if (!project_is_asked(&a->names, spec->name))
			continue;
		if (spec->provision.count == 0)
			out_note(ctl, "%s: no provision steps", spec->name);
		else
			rc = provision_one(ctl, a, vmfile, spec, results, err);
	}
	if (rc == 0)
		out_json(ctl, results);
	json_object_put(results);
	vmfile_destroy(vmfile);
	return rc;
}

const struct verb verb_provision = {
	.name = "provision",
	.summary = "Run the pending provision steps of a VMFile's machines",
	.fields = provision_fields,
	.args_size = sizeof(struct provision_args),
	.positionals = (const struct positional[]){ { "name", "NAME", true, true }, { 0 } },
	.method = METHOD_vm_provision,
	.run = run_provision,
};
