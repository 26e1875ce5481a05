/* SPDX-License-Identifier: MPL-2.0 */
#ifndef CLIENT_FILES_H
#define CLIENT_FILES_H

#include <stddef.h>

#include "lib/base/err.h"
#include "lib/model/field.h"

struct json_object;

/* The files of a request: opened here, with the user's rights, and passed as descriptors. */

struct sent_file {
	char *path;
	int index;
};

struct sent_files { /* zero-initialise */
	struct sent_file *items;
	size_t count;
	int *fds;
	size_t fd_count;
};

/* Owned: what a message puts before a problem with the value at `path` ("VMFile.yaml:3:12"); NULL:
 * nothing. */
typedef char *files_where_fn(void *arg, const char *path);

/* A new reference {"fd": N, "name": …} to the file; the same path is opened once. */
int files_attach(
    struct sent_files *files, const char *path, struct json_object **ret_json, struct err *err);
/* Replaces all {"path": P} of an object that fields_encode made by what files_attach gives.
 * prefix: of the paths given to where.  A file that where knows a place of is E_VMFILE. */
int files_replace(struct sent_files *files, const struct field *fields, struct json_object *object,
    const char *prefix, files_where_fn *where, void *arg, struct err *err);
void files_done(struct sent_files *files);

#endif
