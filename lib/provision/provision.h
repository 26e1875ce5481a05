/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_PROVISION_PROVISION_H
#define LIB_PROVISION_PROVISION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/model/spec.h"
#include "lib/ssh/ssh.h"

struct job;
struct ssh;

/* The steps of a provision list, in order, over one session.  On a worker. */

/* Owned: identifies a once-step: hash of its content, position and the disk's generation.
 * Content of files is by their sha256 (file_ref.sha256 must be set). */
char *provision_step_key(const struct provision_step *step, size_t index, const char *generation);
/* Owned: what people call it: "shell 'uname -a'", "script 'setup.sh'", "file '/etc/app.conf'". */
char *provision_step_label(const struct provision_step *step);

struct provision_events { /* run on the worker */
	void (*on_start)(void *arg, size_t index);
	void (*on_output)(void *arg, size_t index, enum ssh_stream stream, const void *data,
	    size_t len);
	/* err NULL: the step is done and must be remembered before the next one starts. */
	void (*on_end)(void *arg, size_t index, uint64_t took_ms, const struct err *err);
	void *arg;
};

struct provision_run { /* borrowed for the call */
	const struct vm_spec *spec;
	const bool *pending;   /* which steps to run, spec->provision.count of them */
	const char *user;      /* the login of the session */
	const char *log_path;  /* appended live with times, 0600; secrets are not written */
	struct provision_events events;
};

/* Runs the pending steps and stops at the first failure.  File references of the spec are paths
 * of our own (FILE_PATH).  E_PROVISION names machine, step number (from 1), label and how it ended. */
int provision_run(struct ssh *ssh, const struct provision_run *run, struct job *job,
    struct err *err);

#endif
