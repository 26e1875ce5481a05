/* SPDX-License-Identifier: MPL-2.0
 *
 * The files of a machine's disk.  What the overlay stands on is kept beside it, in a file that the
 * emulator can not write: the overlay's own header belongs to whoever owns the emulator. */
#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/hypervisor/qemu/qemu.h"
#include "lib/image/image.h"

struct disk_row {
	char *base, *format;
};

/* clang-format off */
static const struct field disk_fields[] = {
	FIELD(struct disk_row, base,   FIELD_STRING, .required = true, .min = 1, .text = "the image"),
	FIELD(struct disk_row, format, FIELD_STRING, .required = true, .min = 1, .text = "its format"),
	FIELD_END
};
/* clang-format on */

int
qemu_disk_read(const char *dir, struct qemu_disk *ret_disk, struct err *err)
{
	CLEANUP_FREE char *path = fs_join(dir, "disk.json"), *text = NULL;
	struct disk_row row = { 0 };
	json_object *doc;
	int rc;

	*ret_disk = (struct qemu_disk){ 0 };
	rc = fs_read(path, 65536, &text, NULL, err);
	if (rc == E_NOT_FOUND)
		return 0;
	if (rc != 0)
		return rc;
	doc = json_tokener_parse(text);
	if (!json_object_is_type(doc, json_type_object)) {
		json_object_put(doc);
		return err_set(err, E_IO, "'%s' can not be understood", path);
	}
	rc = fields_decode_one(disk_fields, doc, &row, err);
	json_object_put(doc);
	if (rc != 0) {
		fields_release(disk_fields, &row);
		return err_wrap(err, "'%s'", path);
	}
	*ret_disk = (struct qemu_disk){ row.base, row.format };
	return 0;
}

void
qemu_disk_done(struct qemu_disk *disk)
{
	free(TAKE(disk->base_path));
	free(TAKE(disk->base_format));
}

int
hv_disk_record(const char *dir, const struct hv_image *image, struct err *err)
{
	CLEANUP_FREE char *path = fs_join(dir, "disk.json");
	struct disk_row row = { (char *)(uintptr_t)image->path, (char *)(uintptr_t)image->format };
	json_object *doc = fields_encode(disk_fields, &row);
	const char *text = json_object_to_json_string_ext(doc, JSON_C_TO_STRING_PLAIN);
	int rc = fs_write(path, text, strlen(text), 0600, err);

	json_object_put(doc);
	return rc;
}

int
qemu_disk_prepare(const char *dir, const struct hv_image *image, uint64_t size_bytes,
    struct job *job, struct err *err)
{
	CLEANUP_FREE char *path = fs_join(dir, "disk.qcow2"), *row = fs_join(dir, "disk.json");
	int rc;

	if (fs_exists(path))
		return err_set(err, E_EXISTS, "there is a disk at '%s' already", path);
	if (image == NULL)
		return disk_create_overlay(NULL, NULL, 0, path, size_bytes, job, err);
	rc = disk_create_overlay(image->path, image->format, image->virtual_bytes, path, size_bytes,
	    job, err);
	if (rc != 0)
		return rc;
	rc = hv_disk_record(dir, image, err);
	if (rc != 0) {
		unlink(path);
		unlink(row);
	}
	return rc;
}

static int
remove_all(const char *dir, const char *const *names, struct err *err)
{
	for (; *names != NULL; names++) {
		CLEANUP_FREE char *path = fs_join(dir, *names);

		if (unlink(path) < 0 && errno != ENOENT && errno != ENOTDIR)
			return err_errno(err, E_IO, errno, "can not remove '%s'", path);
	}
	return 0;
}

int
qemu_disk_unprepare(const char *dir, const char *run_dir, struct err *err)
{
	static const char *const files[] = { "disk.qcow2", "disk.json", "seed.iso", "console.log",
		"console.log.1", "qemu.log", "qemu.log.1", "launch.json", "efivars.fd", "firmware.json",
		"kernel", "initrd", "screen.png", "tpm.json", NULL };
	static const char *const run_files[] = { "monitor", "agent", "console", "probe", "serial.in",
		"serial.out", NULL };
	CLEANUP_FREE char *tpm = fs_join(dir, "tpm"), *display = fs_join(run_dir, "display");
	int rc = remove_all(dir, files, err);

	if (rc == 0)
		rc = remove_all(run_dir, run_files, err);
	if (rc == 0)
		rc = fs_remove_tree(tpm, err);
	return rc == 0 ? fs_remove_tree(display, err) : rc;
}
