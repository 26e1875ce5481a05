/* SPDX-License-Identifier: MPL-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <unistd.h>

#include "client/call.h"
#include "client/json.h"
#include "client/out.h"
#include "client/verbs.h"
#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"

/* What a machine's screen shows, into a file of the user's. */

struct screenshot_args {
	char *name, *file;
};

static const struct field screenshot_fields[] = {
	FIELD(struct screenshot_args, name, FIELD_STRING, .required = true, .min = 1, .max = 63,
	    .text = "the machine's name or id"),
	FIELD(struct screenshot_args, file, FIELD_STRING, .required = true, .min = 1,
	    .text = "the picture to write (PNG); '-': standard output"),
	FIELD_END
};

static int
write_picture(const char *path, const unsigned char *data, size_t len, struct err *err)
{
	CLEANUP_FD int opened = -1;
	int fd = STDOUT_FILENO;

	if (!str_eq(path, "-")) {
		fd = opened = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOCTTY, 0666);
		if (fd < 0)
			return err_errno(err, E_IO, errno, "can not write '%s'", path);
	}
	if (fs_write_all(fd, data, len) < 0)
		return err_errno(err, E_IO, errno, "can not write '%s'", path);
	return 0;
}

static int
run_screenshot(struct vmctl *ctl, void *args, struct err *err)
{
	const struct screenshot_args *a = args;
	struct call call = { .method = METHOD_vm_screenshot, .params = json_object_new_object() };
	struct json_object *result = NULL;
	CLEANUP_FREE unsigned char *data = NULL;
	size_t len = 0;
	int rc;

	json_add_string(call.params, "name", a->name);
	rc = call_run(ctl, &call, &result, err);
	if (rc == 0 && (json_string(result, "base64") == NULL ||
			   str_unbase64(json_string(result, "base64"), &data, &len) != 0))
		rc = err_set(err, E_INTERNAL, "the daemon sent no picture");
	if (rc == 0)
		rc = write_picture(a->file, data, len, err);
	if (rc == 0 && !str_eq(a->file, "-")) {
		json_object_object_del(result, "base64");
		json_add_string(result, "path", a->file);
		out_json(ctl, result);
		out_line(ctl, "wrote '%s' (%zu bytes)", a->file, len);
	}
	json_object_put(result);
	return rc;
}

const struct verb verb_screenshot = {
	.name = "screenshot",
	.details = "The machine needs a display ('display: vnc').",
	.fields = screenshot_fields,
	.args_size = sizeof(struct screenshot_args),
	.positionals = (const struct positional[]){ { "name", "NAME", false, false },
	    { "file", "FILE", false, false }, { 0 } },
	.method = METHOD_vm_screenshot,
	.run = run_screenshot,
};
