/* SPDX-License-Identifier: MPL-2.0 */
#ifndef CLIENT_PROJECT_H
#define CLIENT_PROJECT_H

#include "client/files.h"
#include "client/vmctl.h"
#include "lib/model/spec.h"

struct json_object;
struct vmfile;

/* A VMFile on its way to the daemon. */

/* Finds, reads and checks; its problems are printed, all of them.  names: each must be a machine of
 * the file. */
int project_load(struct vmctl *ctl, const char *file, enum backend backend,
    const struct strings *names, struct vmfile **ret_vmfile, struct err *err);
/* {project, vms, names}.  files: its descriptors, to be sent with it; attach false: only the names
 * and dependencies of the machines, and no files. */
int project_params(const struct vmfile *vmfile, const struct strings *names, bool attach,
    struct sent_files *files, struct json_object **ret_params, struct err *err);
/* Puts the line of the VMFile before an error of the daemon that names a parameter. */
void project_place_error(const struct vmfile *vmfile, struct err *err);

#endif
