/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_VMFILE_VMFILE_H
#define LIB_VMFILE_VMFILE_H

#include <stddef.h>

#include "lib/base/err.h"
#include "lib/model/spec.h"
#include "lib/yaml/problems.h"

/* VMFile.yaml: YAML to checked machine specs, with line and column in every problem.  Any thread.
 */

#define VMFILE_NAME "VMFile.yaml"
enum { VMFILE_MAX_BYTES = 1 << 20 };

struct marks;

struct vmfile {
	char *path; /* real path: the project's identity */
	char *dir;
	struct objects vms;  /* struct vm_spec, in file order; all file references are FILE_PATH,
				absolute, "~" expanded, and not yet opened */
	struct objects networks; /* struct file_network, in file order; lib/vmfile/networks.h */
	struct marks *marks; /* private */
};

/* Owned path: `file` when given (must exist), else VMFile.yaml in the working directory or the
 * nearest parent.  E_VMFILE names where it looked. */
int vmfile_find(const char *file, char **ret_path, struct err *err);
/* Reads and checks.  backend: of all machines, whatever the file says; BACKEND_DEFAULT: as it
 * says.  On E_VMFILE every problem is in ret_problems (zeroed by the caller, released in any case)
 * and err is their summary. */
int vmfile_load(const char *path, enum backend backend, struct vmfile **ret_vmfile,
    struct problems *ret_problems, struct err *err);
/* The same from text that was read from elsewhere; path need not exist. */
int vmfile_parse(const char *path, const char *text, size_t len, enum backend backend,
    struct vmfile **ret_vmfile, struct problems *ret_problems, struct err *err);
void vmfile_destroy(struct vmfile *vmfile);
const struct vm_spec *vmfile_vm(const struct vmfile *vmfile, size_t index);
/* Owned: "VMFile.yaml:3:5" of a value such as "vms[0].image". */
char *vmfile_where(const struct vmfile *vmfile, const char *value_path);

#endif
