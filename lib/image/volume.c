/* SPDX-License-Identifier: MPL-2.0
 *
 * What a raw disk holds: blkid tells file systems, sfdisk partitions.  On workers. */
#include "lib/image/volume.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/process.h"
#include "lib/base/str.h"
#include "lib/image/tool.h"

/* How blkid ends when it knows nothing, or too much. */
enum { BLKID_NOTHING = 2, BLKID_SEVERAL = 8, PARTITIONS_MAX = 256 };

static char *
value_of(const char *text, const char *key)
{
	size_t len = strlen(key);

	for (const char *line = text; line != NULL && *line != '\0';) {
		if (strncmp(line, key, len) == 0 && line[len] == '=')
			return str_printable(line + len + 1, strcspn(line + len + 1, "\n"));
		line = strchr(line, '\n');
		line = line != NULL ? line + 1 : NULL;
	}
	return xstrdup("");
}

/* ret_table may be NULL. */
static int
probe(const char *path, struct volume *volume, char **ret_table, struct job *job, struct err *err)
{
	CLEANUP_FREE char *offset = xasprintf("%llu", (unsigned long long)volume->offset);
	CLEANUP_FREE char *size = xasprintf("%llu", (unsigned long long)volume->bytes);
	const char *const argv[] = { "blkid", "-p", "-o", "export", "-O", offset, "-S", size, path,
		NULL };
	const char *const read[] = { path, NULL };
	struct process_output output = { 0 };
	struct err why = ERR_INIT;
	int rc = tool_run(&(struct tool){ .argv = argv, .read = read }, job, &output, &why);

	if (rc == E_FAILED && !output.exit.signaled &&
	    (output.exit.code == BLKID_NOTHING || output.exit.code == BLKID_SEVERAL))
		rc = 0;
	if (rc != 0 && err != NULL)
		*err = why;
	if (rc == 0) {
		volume->type = value_of(output.out, "TYPE");
		if (ret_table != NULL)
			*ret_table = value_of(output.out, "PTTYPE");
	}
	process_output_done(&output);
	return rc;
}

/* "…disk.raw2" and "…disk7p2": the digits at the end. */
static unsigned
number_of(const char *node)
{
	size_t len = node != NULL ? strlen(node) : 0, at = len;

	while (at > 0 && isdigit((unsigned char)node[at - 1]))
		at--;
	return at < len ? (unsigned)strtoul(node + at, NULL, 10) : 0;
}

static int
read_table(const char *path, struct job *job, json_object **ret_json, struct err *err)
{
	const char *const argv[] = { "sfdisk", "--json", path, NULL };
	const char *const read[] = { path, NULL };

	return tool_json(&(struct tool){ .argv = argv, .read = read }, job, ret_json, err);
}

/* Adds the partitions that lie inside of the disk. */
static int
find_partitions(const char *path, uint64_t bytes, struct job *job, struct volume *volumes,
    size_t *count, struct err *err)
{
	CLEANUP_JSON json_object *json = NULL;
	json_object *table = NULL, *list = NULL;
	uint64_t sector;
	int rc = read_table(path, job, &json, err);

	if (rc != 0)
		return rc;
	if (!json_object_object_get_ex(json, "partitiontable", &table) ||
	    !json_object_object_get_ex(table, "partitions", &list))
		return 0;
	sector = json_int(table, "sectorsize") > 0 ? (uint64_t)json_int(table, "sectorsize") : 512;
	for (size_t i = 0; rc == 0 && i < json_object_array_length(list) && *count < PARTITIONS_MAX;
	     i++) {
		json_object *row = json_object_array_get_idx(list, i);
		uint64_t start = (uint64_t)json_int(row, "start");
		uint64_t size = (uint64_t)json_int(row, "size");
		struct volume volume = { .number = number_of(json_string(row, "node")) };

		if (size == 0 || size > bytes / sector || start > bytes / sector - size)
			continue;
		volume.offset = start * sector;
		volume.bytes = size * sector;
		rc = probe(path, &volume, NULL, job, err);
		if (rc == 0)
			volumes[(*count)++] = volume;
	}
	return rc;
}

int
volumes_find(const char *path, struct job *job, struct volume **ret_volumes, size_t *ret_count,
    struct err *err)
{
	struct volume *volumes = xcalloc(PARTITIONS_MAX + 1, sizeof(*volumes));
	CLEANUP_FREE char *table = NULL;
	size_t count = 0;
	struct stat st;
	int rc;

	if (stat(path, &st) < 0 || !S_ISREG(st.st_mode)) {
		free(volumes);
		return err_set(err, E_IO, "can not read the disk '%s'", path);
	}
	volumes[0].bytes = (uint64_t)st.st_size;
	rc = probe(path, &volumes[0], &table, job, err);
	if (rc == 0) {
		/* A table alone is no file system; a disk may show both. */
		if (volumes[0].type[0] != '\0' || table[0] == '\0')
			count = 1;
		else
			free(TAKE(volumes[0].type));
		if (table[0] != '\0')
			rc = find_partitions(path, (uint64_t)st.st_size, job, volumes, &count, err);
	}
	if (rc != 0) {
		volumes_free(volumes, count);
		return rc;
	}
	*ret_volumes = volumes;
	*ret_count = count;
	return 0;
}

void
volumes_free(struct volume *volumes, size_t count)
{
	for (size_t i = 0; i < count; i++)
		free(volumes[i].type);
	free(volumes);
}
