/* SPDX-License-Identifier: MPL-2.0
 *
 * ext2, ext3 and ext4 inside of a raw disk, by the programs of e2fsprogs: they take the place of
 * the file system behind the disk's path.  On workers. */
#include <stdlib.h>
#include <string.h>

#include "lib/base/mem.h"
#include "lib/base/process.h"
#include "lib/base/str.h"
#include "lib/image/tool.h"
#include "lib/image/volume.h"

/* Bits of e2fsck's exit status. */
enum { FSCK_MENDED = 1 | 2, FSCK_DAMAGED = 4 };

bool
volume_is_ext(const struct volume *volume)
{
	return str_eq(volume->type, "ext2") || str_eq(volume->type, "ext3") ||
	    str_eq(volume->type, "ext4");
}

static char *
device_of(const struct ext *ext)
{
	return xasprintf("%s?offset=%llu", ext->path, (unsigned long long)ext->offset);
}

static int
run(const struct ext *ext, const char *const *argv, const char *input, bool writes,
    struct process_output *output, struct err *err)
{
	const char *const files[] = { ext->path, NULL };

	return tool_run(&(struct tool){ .argv = argv, .read = writes ? NULL : files,
	    .write = writes ? files : NULL, .input = input, .work_bytes = ext->bytes,
	    .file_bytes = ext->offset + ext->bytes }, ext->job, output, err);
}

static int
check(const struct ext *ext, bool discard, bool *ret_mended, struct err *err)
{
	CLEANUP_FREE char *device = device_of(ext);
	const char *const plain[] = { "e2fsck", "-f", "-y", device, NULL };
	const char *const discarding[] = { "e2fsck", "-f", "-y", "-E", "discard", device, NULL };
	struct process_output output = { 0 };
	struct err why = ERR_INIT;
	int rc = run(ext, discard ? discarding : plain, NULL, true, &output, &why);

	*ret_mended = false;
	if (rc == E_FAILED && !output.exit.signaled) {
		if ((output.exit.code & ~FSCK_MENDED) == 0) {
			*ret_mended = true;
			rc = 0;
		} else if (output.exit.code & FSCK_DAMAGED) {
			rc = why.code = E_IMAGE;
			err_wrap(&why, "the file system is damaged");
		} else if (strstr(output.err_text, "unsupported") != NULL) {
			rc = why.code = E_UNSUPPORTED;
		}
	}
	process_output_done(&output);
	if (rc != 0 && err != NULL)
		*err = why;
	return rc;
}

int
ext_check(const struct ext *ext, bool discard, struct err *err)
{
	bool mended;
	int rc = check(ext, discard, &mended, err);

	/* Where something was mended, e2fsck discards nothing. */
	if (rc == 0 && mended && discard)
		rc = check(ext, discard, &mended, err);
	return rc;
}

int
ext_inline_data(const struct ext *ext, bool *ret_inline, struct err *err)
{
	CLEANUP_FREE char *device = device_of(ext);
	const char *const argv[] = { "debugfs", "-c", "-R", "features", device, NULL };
	struct process_output output = { 0 };
	int rc = run(ext, argv, NULL, false, &output, err);

	if (rc == 0)
		*ret_inline = strstr(output.out, " inline_data") != NULL;
	process_output_done(&output);
	return rc;
}

/* ---- reading folders ---- */

/* "/INODE/MODE/UID/GID/NAME/SIZE/"; a folder has no size.  Names have no slash. */
static bool
parse_entry(const char *line, size_t len, struct ext_entry *ret_entry)
{
	const char *field[6], *end = line + len;
	char *stop;

	if (len == 0 || *line != '/')
		return false;
	for (size_t i = 0; i < ARRAY_LEN(field); i++) {
		field[i] = line + 1;
		line = memchr(field[i], '/', (size_t)(end - field[i]));
		if (line == NULL)
			return false;
	}
	*ret_entry = (struct ext_entry){
		.mode = (unsigned)strtoul(field[1], &stop, 8),
		.size = strtoull(field[5], NULL, 10),
	};
	if (*stop != '/' || strtoull(field[0], NULL, 10) == 0) /* removed ones linger in an inode */
		return false;
	ret_entry->name = xstrndup(field[4], (size_t)(field[5] - field[4]) - 1);
	if (!str_eq(ret_entry->name, ".") && !str_eq(ret_entry->name, ".."))
		return true;
	free(ret_entry->name);
	return false;
}

int
ext_list(const struct ext *ext, const char *dir, struct ext_entry **ret_entries, size_t *ret_count,
    struct err *err)
{
	CLEANUP_FREE char *device = device_of(ext), *request = xasprintf("ls -p \"%s\"", dir);
	const char *const argv[] = { "debugfs", "-c", "-R", request, device, NULL };
	struct process_output output = { 0 };
	struct ext_entry *entries = NULL;
	size_t count = 0, room = 0;
	int rc = run(ext, argv, NULL, false, &output, err);

	for (const char *line = output.out; rc == 0 && line != NULL && *line != '\0';) {
		size_t len = strcspn(line, "\n");

		if (count == room) {
			room = room * 2 + 16;
			entries = xreallocarray(entries, room, sizeof(*entries));
		}
		count += parse_entry(line, len, &entries[count]);
		line += len + (line[len] == '\n');
	}
	process_output_done(&output);
	if (rc != 0)
		return rc;
	*ret_entries = entries;
	*ret_count = count;
	return 0;
}

void
ext_entries_free(struct ext_entry *entries, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(entries[i].name);
	free(entries);
}

int
ext_change(const struct ext *ext, const char *lines, struct err *err)
{
	CLEANUP_FREE char *device = device_of(ext);
	const char *const argv[] = { "debugfs", "-w", "-f", "-", device, NULL };
	struct process_output output = { 0 };
	int rc = run(ext, argv, lines, true, &output, err);

	process_output_done(&output);
	return rc;
}
