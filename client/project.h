/* SPDX-License-Identifier: MPL-2.0 */
#ifndef CLIENT_PROJECT_H
#define CLIENT_PROJECT_H

#include "client/files.h"
#include "client/image.h"
#include "client/lock.h"
#include "client/vmctl.h"
#include "lib/model/spec.h"

struct json_object;
struct vmfile;

/* A VMFile on its way to the daemon. */

/* Finds, reads and checks; its problems are printed, all of them.  names: each must be a machine of
 * the file. */
int project_load(struct vmctl *ctl, const char *file, enum backend backend,
    const struct strings *names, struct vmfile **ret_vmfile, struct err *err);
bool project_is_asked(const struct strings *names, const char *name); /* no names: all are */

/* What goes with the machines. */
struct project_send { /* zero-initialise */
	struct sent_files files;
	struct images images;
	struct lock lock;
	char **urls; /* of each machine's LOCK_IMAGES, as they are sent; NULL: it has none */
	size_t url_count;
};

/* {project, vms, names}.  send: what was opened and found for it; NULL: only the names and
 * dependencies of the machines, and no files. */
int project_params(const struct vmfile *vmfile, const struct strings *names,
    struct project_send *send, struct json_object **ret_params, struct err *err);
void project_send_done(struct project_send *send);
/* Puts the line of the VMFile before an error of the daemon that names a parameter. */
void project_place_error(const struct vmfile *vmfile, struct err *err);

#endif
