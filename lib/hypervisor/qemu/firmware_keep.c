/* SPDX-License-Identifier: MPL-2.0
 *
 * The firmware that a machine has, once it was chosen.  Variables belong to the code that wrote
 * them: another code, of a newer package or of another descriptor, may not understand them. */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/hypervisor/qemu/firmware.h"
#include "lib/model/field.h"

/* clang-format off */
static const struct field kept_fields[] = {
	FIELD(struct qemu_firmware, descriptor,  FIELD_STRING, .required = true, .min = 1, .text = "where it was found"),
	FIELD(struct qemu_firmware, code,        FIELD_STRING, .required = true, .min = 1, .text = "what is executed"),
	FIELD(struct qemu_firmware, code_format, FIELD_STRING, .required = true, .min = 1, .text = "of the code"),
	FIELD(struct qemu_firmware, vars_format, FIELD_STRING, .required = true, .min = 1, .text = "of the variables"),
	FIELD(struct qemu_firmware, smm,         FIELD_BOOL,   .text = "with system management mode"),
	FIELD_END
};
/* clang-format on */

static int
copy_vars(const char *dir, const struct qemu_firmware *firmware, struct err *err)
{
	CLEANUP_FREE char *path = fs_join(dir, "efivars.fd");
	CLEANUP_FD int from = open(firmware->template, O_RDONLY | O_CLOEXEC | O_NOCTTY);

	if (from < 0)
		return err_errno(err, E_IO, errno, "can not read the firmware's variables '%s'",
		    firmware->template);
	if (fs_exists(path))
		return err_set(err, E_EXISTS, "there are firmware variables at '%s' already", path);
	return fs_copy_fd(from, firmware->template, path, 0600, NULL, err);
}

int
firmware_keep(const char *dir, const struct qemu_firmware *firmware, struct err *err)
{
	CLEANUP_FREE char *path = fs_join(dir, "firmware.json"), *vars = fs_join(dir, "efivars.fd");
	json_object *doc;
	const char *text;
	int rc = copy_vars(dir, firmware, err);

	if (rc != 0)
		return rc;
	doc = fields_encode(kept_fields, firmware);
	text = json_object_to_json_string_ext(doc, JSON_C_TO_STRING_PLAIN);
	rc = fs_write(path, text, strlen(text), 0600, err);
	json_object_put(doc);
	if (rc != 0)
		unlink(vars);
	return rc;
}

bool
firmware_use_vars(struct qemu_firmware *firmware, const char *vars)
{
	struct stat st, wanted;

	/* A store of 2 MiB firmware has another size than one of 4 MiB firmware. */
	if (lstat(vars, &st) < 0 || !S_ISREG(st.st_mode) ||
	    stat(firmware->template, &wanted) < 0 || st.st_size != wanted.st_size ||
	    !str_eq(firmware->vars_format, "raw"))
		return false;
	free(firmware->template);
	firmware->template = xstrdup(vars);
	return true;
}

static int
check_there(const char *path, const char *what, const struct qemu_arch *arch, struct err *err)
{
	if (access(path, R_OK) == 0)
		return 0;
	err_errno(err, E_IMAGE, errno, "the %s '%s', which the machine was made with, can not be read",
	    what, path);
	if (arch != NULL)
		err_hint(err, "install the package '%s' (as Debian calls it) again, or make the "
			      "machine anew for what there is now", arch->firmware_package);
	else
		err_hint(err, "make the machine anew");
	return E_IMAGE;
}

int
firmware_kept(const char *dir, const struct qemu_arch *arch, struct qemu_firmware *ret_firmware,
    struct err *err)
{
	CLEANUP_FREE char *path = fs_join(dir, "firmware.json"), *vars = fs_join(dir, "efivars.fd");
	CLEANUP_FREE char *text = NULL;
	struct qemu_firmware kept = { 0 };
	json_object *doc;
	int rc = check_there(path, "record of its firmware", NULL, err);

	if (rc == 0)
		rc = fs_read(path, 65536, &text, NULL, err);
	if (rc != 0)
		return rc;
	doc = json_tokener_parse(text);
	if (json_object_is_type(doc, json_type_object))
		rc = fields_decode_one(kept_fields, doc, &kept, err);
	else
		rc = err_set(err, E_IO, "it can not be understood");
	json_object_put(doc);
	if (rc != 0)
		err_wrap(err, "'%s'", path);
	if (rc == 0)
		rc = check_there(kept.code, "firmware", arch, err);
	if (rc == 0)
		rc = check_there(vars, "firmware's variables", NULL, err);
	if (rc == 0)
		*ret_firmware = kept;
	else
		firmware_done(&kept);
	return rc;
}
