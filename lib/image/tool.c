/* SPDX-License-Identifier: MPL-2.0
 *
 * Running the programs that work on images.  On workers. */
#include "lib/image/tool.h"

#include <errno.h>
#include <string.h>

#include "lib/base/fs.h"
#include "lib/base/jail.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/process.h"
#include "lib/base/str.h"

/* SECOND_BYTES: nothing is so slow that it does not get so far in a second. */
enum { OUT_MAX = 4 << 20, LEAST_SECONDS = 300, SECOND_BYTES = 4 << 20 };
/* Threads of a program reserve much more than they use. */
#define ADDRESS_SPACE_BYTES (8ULL << 30)

static const struct {
	const char *program, *package;
} packages[] = {
	{ "blkid", "util-linux" },
	{ "debugfs", "e2fsprogs" },
	{ "e2fsck", "e2fsprogs" },
	{ "qemu-img", "qemu-utils" },
	{ "sfdisk", "fdisk" },
};

int
tool_run(const struct tool *tool, struct job *job, struct process_output *ret_output,
    struct err *err)
{
	uint64_t seconds = LEAST_SECONDS + tool->work_bytes / SECOND_BYTES;
	struct jail jail = {
		.read = tool->read,
		.write = tool->write,
		.limits = { seconds, ADDRESS_SPACE_BYTES, tool->file_bytes },
	};
	int rc = jail_run(&jail, tool->argv, tool->input,
	    tool->input != NULL ? strlen(tool->input) : 0, OUT_MAX, seconds * 1000, job, ret_output,
	    err);

	for (size_t i = 0; rc == E_NOT_FOUND && i < ARRAY_LEN(packages); i++) {
		if (str_eq(packages[i].program, tool->argv[0]))
			err_hint(err, "it is in the package %s", packages[i].package);
	}
	return rc;
}

int
tool_json(const struct tool *tool, struct job *job, struct json_object **ret_json, struct err *err)
{
	struct process_output output = { 0 };
	struct json_object *json = NULL;
	int rc = tool_run(tool, job, &output, err);

	if (rc == 0)
		json = json_tokener_parse(output.out);
	process_output_done(&output);
	if (rc != 0)
		return rc;
	if (!json_object_is_type(json, json_type_object)) {
		json_object_put(json);
		return err_set(err, E_FAILED, "'%s' gave no answer that can be read", tool->argv[0]);
	}
	*ret_json = json;
	return 0;
}

int
tool_explain(const struct process_output *output, const char *path, int rc, struct err *err)
{
	CLEANUP_FREE char *dir = fs_dirname(path);

	if (rc != E_FAILED || output->err_text == NULL ||
	    strstr(output->err_text, strerror(ENOSPC)) == NULL)
		return rc;
	err_set(err, E_NO_SPACE, "the file system of '%s' is full", dir);
	err_hint(err, "'vmctl image prune' removes the images that nobody uses");
	return E_NO_SPACE;
}
