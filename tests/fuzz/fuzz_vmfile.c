/* SPDX-License-Identifier: MPL-2.0 */
#include <assert.h>
#include <json-c/json.h>
#include <stdlib.h>

#include "lib/base/mem.h"
#include "lib/vmfile/vmfile.h"
#include "tests/fuzz/fuzz.h"

/* Any bytes are a VMFile or a list of problems; what is a VMFile survives the wire. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct problems problems = { 0 };
	struct vmfile *vmfile = NULL;
	struct err err = ERR_INIT;

	if (vmfile_parse("/p/VMFile.yaml", (const char *)data, size, BACKEND_DEFAULT, &vmfile,
		&problems, &err) == 0) {
		assert(problems.count == 0 && vmfile->vms.count > 0);
		for (size_t i = 0; i < vmfile->vms.count; i++) {
			json_object *json = fields_encode(vm_spec_fields, vmfile_vm(vmfile, i));
			struct vm_spec again = { 0 };

			assert(fields_decode_one(vm_spec_fields, json, &again, &err) == 0);
			vm_spec_release(&again);
			json_object_put(json);
		}
	} else {
		CLEANUP_FREE char *text = problems_text(&problems, "VMFile.yaml");

		assert(text[0] != 0 && problems.count > 0 && err.code == E_VMFILE);
	}
	problems_done(&problems);
	vmfile_destroy(vmfile);
	return 0;
}
