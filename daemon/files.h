/* SPDX-License-Identifier: MPL-2.0 */
#ifndef DAEMON_FILES_H
#define DAEMON_FILES_H

#include "lib/base/err.h"
#include "lib/model/spec.h"

struct job;
struct request;

/* The files that a request brings with a spec: descriptors, bytes, or (from the daemon's own user)
 * paths.  After files_claim each FILE_FD holds an open descriptor that the spec owns. */

struct file_table { /* of one request; zero-initialise */
	int *fds;
	size_t count;
};

/* Loop thread.  Resolves the references of one spec, image included (one that is no file is left
 * as it is). */
int files_claim(struct file_table *table, struct request *request, struct vm_spec *spec,
    struct err *err);
/* The same for an image alone, and for a single file; `what` names it in messages. */
int files_claim_image(struct request *request, struct image_spec *image, struct err *err);
int files_claim_file(struct request *request, struct file_ref *file, const char *what,
    struct err *err);
void files_close_image(struct image_spec *image); /* its descriptor, if it is still there */
void files_table_done(struct file_table *table);

/* Worker.  Hashes every file but the image and checks keys and user-data; with dir, also copies
 * each to <dir>/files/<sha256> (0600) and makes the reference that path, closing the descriptor. */
int files_take(struct vm_spec *spec, const char *dir, struct job *job, struct err *err);
/* Worker.  "sha256:…" of an image's descriptor, owned. */
int files_digest(int fd, const char *name, struct job *job, char **ret_digest, struct err *err);
/* Closes what is still open, then releases the spec. */
void files_release_spec(struct vm_spec *spec);

#endif
