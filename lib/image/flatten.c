/* SPDX-License-Identifier: MPL-2.0
 *
 * One file of what a chain of layers shows together.  qemu-img gets the chain as nodes with paths
 * and formats, so that what the headers name is never opened; the target is made here, so that
 * its mode holds from the first byte and an existing file is never written to. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/process.h"
#include "lib/base/str.h"
#include "lib/image/image.h"
#include "lib/image/tool.h"
#include "lib/image/work.h"

enum { SECTOR = 512, SPACE_LEFT = 64 << 20, LAYERS_MAX = 32 };

struct flatten {
	const struct disk_layer *layers;
	size_t layer_count;
	const char *path, *format;
	bool compressed;
	disk_progress_fn *progress;
	void *arg;
	struct job *job;
	/* Found. */
	char *nodes;		 /* "json:{…}"; owned */
	const char **read;	 /* paths of the layers; owned, they are not */
	uint64_t virtual_bytes;
	uint64_t allocated_bytes; /* of all layers, as they lie there */
	uint64_t data_bytes;	  /* what a plain qcow2 of it needs */
	uint64_t full_bytes;	  /* what it needs without a single hole */
};

/* ---- the chain ---- */

static int
look_at(struct flatten *f, size_t i, struct err *err)
{
	const struct disk_layer *layer = &f->layers[i];
	CLEANUP_FD int fd = open(layer->path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	CLEANUP_FREE char *backing = NULL;
	struct disk_header header;
	struct stat st;
	int rc = 0;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(err, errno == ENOENT ? E_IMAGE : E_IO, errno,
		    "can not read the disk '%s'", layer->path);
	header = (struct disk_header){ "raw",
		((uint64_t)st.st_size + SECTOR - 1) / SECTOR * SECTOR };
	if (str_eq(layer->format, "qcow2"))
		rc = disk_inspect_overlay(fd, layer->path, &header, &backing, err);
	else if (!S_ISREG(st.st_mode) || !str_eq(layer->format, "raw") || i + 1 < f->layer_count)
		rc = err_set(err, E_IMAGE, "'%s' can not be a layer of a disk", layer->path);
	/* A part of a chain would look complete, with zeros where the rest was. */
	if (rc == 0 && i + 1 == f->layer_count && backing != NULL)
		rc = err_set(err, E_IMAGE, "the disk '%s' stands on another file", layer->path);
	if (i == 0)
		f->virtual_bytes = header.virtual_bytes;
	f->allocated_bytes += (uint64_t)st.st_blocks * 512;
	f->read[i] = layer->path;
	return rc;
}

static json_object *
node(const struct flatten *f, size_t i)
{
	json_object *json = json_object_new_object(), *file = json_object_new_object();

	json_add_string(file, "driver", "file");
	json_add_string(file, "filename", f->layers[i].path);
	json_add_string(json, "driver", f->layers[i].format);
	json_object_object_add(json, "file", file);
	if (i + 1 < f->layer_count)
		json_object_object_add(json, "backing", node(f, i + 1));
	else if (str_eq(f->layers[i].format, "qcow2"))
		json_object_object_add(json, "backing", NULL); /* whatever its header says */
	return json;
}

static int
look(struct flatten *f, struct err *err)
{
	CLEANUP_JSON json_object *json = NULL;
	int rc = 0;

	if (f->layer_count == 0 || f->layer_count > LAYERS_MAX)
		return err_set(err, E_LIMIT, "a disk of %zu layers can not be made one file",
		    f->layer_count);
	for (size_t i = 0; rc == 0 && i < f->layer_count; i++)
		rc = look_at(f, i, err);
	if (rc != 0)
		return rc;
	json = node(f, 0);
	f->nodes = xasprintf("json:%s", json_object_to_json_string_ext(json, JSON_TEXT_FLAGS));
	return 0;
}

/* ---- room ---- */

static int
measure(struct flatten *f, struct err *err)
{
	const char *const argv[] = { "qemu-img", "measure", "--output=json", "-O", "qcow2", f->nodes,
		NULL };
	CLEANUP_JSON json_object *json = NULL;
	int rc = tool_json(&(struct tool){ .argv = argv, .read = f->read,
	    .work_bytes = f->allocated_bytes }, f->job, &json, err);

	if (rc != 0)
		return rc;
	f->data_bytes = (uint64_t)json_int(json, "required");
	f->full_bytes = (uint64_t)json_int(json, "fully-allocated");
	return 0;
}

static int
check_room(const struct flatten *f, struct err *err)
{
	CLEANUP_FREE char *dir = fs_dirname(f->path), *needed = NULL, *left = NULL;
	uint64_t need = f->data_bytes, room;
	int rc = fs_free_bytes(dir, &room, err);

	/* What is compressed already does not grow by being compressed again. */
	if (f->compressed && f->allocated_bytes < need)
		need = f->allocated_bytes;
	need += SPACE_LEFT;
	if (rc != 0 || room >= need)
		return rc;
	needed = str_size(need);
	left = str_size(room);
	err_set(err, E_NO_SPACE, "'%s' needs %s, and %s are free", f->path, needed, left);
	err_hint(err, "'vmctl image prune' removes the images that nobody uses");
	return E_NO_SPACE;
}

/* ---- the file ---- */

static int
create_qcow2(const struct flatten *f, bool zstd, struct err *err)
{
	CLEANUP_FREE char *size = xasprintf("%llu", (unsigned long long)f->virtual_bytes);
	const char *const argv[] = { "qemu-img", "create", "-q", "-f", "qcow2", "-o",
		zstd ? "compression_type=zstd" : "compression_type=zlib", f->path, size, NULL };
	const char *const write[] = { f->path, NULL };
	struct process_output output = { 0 };
	int rc = tool_run(&(struct tool){ .argv = argv, .write = write, .file_bytes = 256 << 20 },
	    f->job, &output, err);

	rc = tool_explain(&output, f->path, rc, err);
	process_output_done(&output);
	return rc;
}

static int
create(const struct flatten *f, int fd, struct err *err)
{
	struct err why = ERR_INIT;
	int rc;

	if (str_eq(f->format, "raw")) {
		if (ftruncate(fd, (off_t)f->virtual_bytes) < 0)
			return err_errno(err, E_IO, errno, "can not make '%s'", f->path);
		return 0;
	}
	/* Not every qemu-img was built with zstd. */
	rc = create_qcow2(f, f->compressed, &why);
	if (rc == E_FAILED && f->compressed)
		return create_qcow2(f, false, err);
	if (rc != 0 && err != NULL)
		*err = why;
	return rc;
}

/* "    (12.34/100%)\r", again and again; a piece that is cut is made up for by the next. */
static void
on_words(void *arg, const char *data, size_t len)
{
	const struct flatten *f = arg;
	CLEANUP_FREE char *text = xstrndup(data, len);
	const char *last = strrchr(text, '(');
	char *end;
	double percent;

	if (last == NULL || f->progress == NULL)
		return;
	percent = strtod(last + 1, &end);
	if (end > last + 1 && *end == '/' && percent >= 0 && percent <= 100)
		f->progress(f->arg, (uint64_t)((double)f->data_bytes * percent / 100), f->data_bytes);
}

/* In order (no -W): the same disk gives the same bytes each time. */
static int
convert(struct flatten *f, struct err *err)
{
	const char *argv[] = { "qemu-img", "convert", "-n", "--target-is-zero", "-p",
		f->compressed ? "-c" : "-p", "-O", f->format, f->nodes, f->path, NULL };
	const char *const write[] = { f->path, NULL };
	struct process_output output = { .heard = on_words, .heard_arg = f };
	uint64_t most = f->full_bytes > f->virtual_bytes ? f->full_bytes : f->virtual_bytes;
	int rc = tool_run(&(struct tool){ .argv = argv, .read = f->read, .write = write,
	    .work_bytes = f->data_bytes, .file_bytes = most + SPACE_LEFT }, f->job, &output, err);

	rc = tool_explain(&output, f->path, rc, err);
	process_output_done(&output);
	return rc;
}

static int
write_out(struct flatten *f, struct err *err)
{
	CLEANUP_FREE char *dir = fs_dirname(f->path);
	CLEANUP_FD int fd = open(f->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	int rc;

	if (fd < 0)
		return err_errno(err, errno == EEXIST ? E_EXISTS : E_IO, errno, "can not make '%s'",
		    f->path);
	rc = create(f, fd, err);
	if (rc == 0)
		rc = convert(f, err);
	if (rc == 0 && fsync(fd) < 0)
		rc = err_errno(err, E_IO, errno, "can not write '%s'", f->path);
	if (rc == 0)
		rc = fs_sync_dir(dir, err);
	if (rc != 0)
		unlink(f->path);
	return rc;
}

int
disk_flatten(const struct disk_layer *layers, size_t layer_count, const char *path,
    const char *format, bool compressed, disk_progress_fn *progress, void *arg, struct job *job,
    struct err *err)
{
	CLEANUP_FREE char *target = fs_expand(path, NULL);
	struct flatten f = { .layers = layers, .layer_count = layer_count, .path = target,
		.format = format, .compressed = compressed && str_eq(format, "qcow2"),
		.progress = progress, .arg = arg, .job = job,
		.read = xcalloc(layer_count + 1, sizeof(*f.read)) };
	int rc = look(&f, err);

	if (rc == 0)
		rc = measure(&f, err);
	if (rc == 0)
		rc = check_room(&f, err);
	if (rc == 0)
		rc = write_out(&f, err);
	if (rc == 0 && progress != NULL)
		progress(arg, f.data_bytes, f.data_bytes);
	if (rc != 0)
		err_wrap(err, "can not make one file of '%s'",
		    layer_count > 0 ? fs_basename(layers[0].path) : "");
	free(f.nodes);
	free(f.read);
	return rc;
}
