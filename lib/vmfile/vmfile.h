/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_VMFILE_VMFILE_H
#define LIB_VMFILE_VMFILE_H

#include <stddef.h>

#include "lib/base/err.h"
#include "lib/model/spec.h"

/* VMFile.yaml: YAML to checked machine specs, with line and column in every problem. */

struct vmfile {
	char *path;	      /* real path: the project's identity */
	char *dir;
	struct objects vms;   /* struct vm_spec, in file order; all file references are FILE_PATH,
				 absolute, "~" expanded, and not yet opened */
};

struct vmfile_problem {
	unsigned line, column; /* from 1; 0: of the whole file */
	struct err err;
};

struct vmfile_problems {
	struct vmfile_problem *items; /* in order of line */
	size_t count;
};

/* Owned path: `file` when given (must exist), else VMFile.yaml in the working directory or the
 * nearest parent.  E_VMFILE names where it looked. */
int vmfile_find(const char *file, char **ret_path, struct err *err);
/* Reads and checks.  On E_VMFILE every problem is in ret_problems and err is their summary. */
int vmfile_load(const char *path, struct vmfile **ret_vmfile, struct vmfile_problems *ret_problems,
    struct err *err);
void vmfile_destroy(struct vmfile *vmfile);
void vmfile_problems_done(struct vmfile_problems *problems);
/* Owned: "VMFile.yaml:3:5: unknown key 'vcpu' (did you mean 'vcpus'?)" a line each. */
char *vmfile_problems_text(const struct vmfile_problems *problems, const char *path);
const struct vm_spec *vmfile_vm(const struct vmfile *vmfile, size_t index);

#endif
