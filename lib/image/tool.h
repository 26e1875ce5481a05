/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_IMAGE_TOOL_H
#define LIB_IMAGE_TOOL_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/err.h"

/* Programs that work on images (qemu-img, blkid, sfdisk, debugfs, e2fsck), in the jail, bounded
 * and cancelled with their job.  Inside of lib/image only; on workers. */

struct job;
struct json_object;
struct process_output;

struct tool {
	const char *const *argv;  /* argv[0]: a name */
	const char *const *read;  /* files that it reads; NULL-terminated, NULL: none */
	const char *const *write; /* files that it changes */
	const char *input;	  /* NULL: none */
	uint64_t work_bytes;	  /* what it goes through: its time grows with it */
	uint64_t file_bytes;	  /* no file may become larger; 0: no bound */
};

/* Like process_run: E_FAILED when the program said no, *ret_output filled also then. */
int tool_run(const struct tool *tool, struct job *job, struct process_output *ret_output,
    struct err *err);
/* The JSON object that it prints; owned. */
int tool_json(const struct tool *tool, struct job *job, struct json_object **ret_json,
    struct err *err);
/* Did it stop because the file system is full?  Then says so instead, and returns E_NO_SPACE. */
int tool_explain(const struct process_output *output, const char *path, int rc, struct err *err);

#endif
