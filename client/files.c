/* SPDX-License-Identifier: MPL-2.0 */
#include "client/files.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "client/json.h"
#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"

enum {
	MANY_FDS = 64, /* from here on small files go as bytes */
	SMALL_BYTES = 8192,
};

static int
open_regular(const char *path, struct stat *ret_st, struct err *err)
{
	/* O_NONBLOCK: a FIFO of that name must not hold us. */
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0) {
		err_errno(err, errno == ENOENT || errno == ENOTDIR ? E_NOT_FOUND : E_IO, errno,
		    "can not open '%s'", path);
		return -1;
	}
	if (fstat(fd, ret_st) < 0) {
		err_errno(err, E_IO, errno, "can not read '%s'", path);
		return -1;
	}
	if (!S_ISREG(ret_st->st_mode)) {
		err_set(err, E_IO, "'%s' is %s, not a regular file", path,
		    S_ISDIR(ret_st->st_mode) ? "a folder" : "a special file");
		return -1;
	}
	return TAKE_FD(fd);
}

static int
add_fd(struct sent_files *files, int fd)
{
	struct rlimit limit;

	/* More files than the soft limit allows are not unusual; the hard one is meant for that. */
	if (files->fd_count == MANY_FDS && getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
	files->fds = xreallocarray(files->fds, files->fd_count + 1, sizeof(int));
	files->fds[files->fd_count] = fd;
	return (int)files->fd_count++;
}

static int
find_sent(const struct sent_files *files, const char *path)
{
	for (size_t i = 0; i < files->count; i++)
		if (str_eq(files->items[i].path, path))
			return files->items[i].index;
	return -1;
}

static int
attach_bytes(int fd, const char *path, struct json_object *json, struct err *err)
{
	CLEANUP_FREE char *data = NULL, *text = NULL;
	size_t len;
	int rc = fs_read_fd(fd, path, SMALL_BYTES, &data, &len, err);

	if (rc != 0)
		return rc;
	text = str_base64(data, len);
	json_add_string(json, "data", text);
	return 0;
}

int
files_attach(
    struct sent_files *files, const char *path, struct json_object **ret_json, struct err *err)
{
	json_object *json = json_object_new_object();
	int index = find_sent(files, path), rc = 0;
	CLEANUP_FD int fd = -1;
	struct stat st;

	if (index < 0) {
		fd = open_regular(path, &st, err);
		if (fd < 0)
			rc = err->code;
		else if (files->fd_count >= MANY_FDS && st.st_size <= SMALL_BYTES)
			rc = attach_bytes(fd, path, json, err);
		else
			index = add_fd(files, TAKE_FD(fd));
		if (index >= 0) {
			files->items =
			    xreallocarray(files->items, files->count + 1, sizeof(*files->items));
			files->items[files->count++] =
			    (struct sent_file){ .path = xstrdup(path), .index = index };
		}
	}
	if (rc != 0) {
		json_object_put(json);
		return rc;
	}
	if (index >= 0)
		json_object_object_add(json, "fd", json_object_new_int(index));
	json_add_string(json, "name", path);
	*ret_json = json;
	return 0;
}

/* ---- all of a struct ---- */

struct walk {
	struct sent_files *files;
	files_where_fn *where;
	void *arg;
};

static int replace_all(struct walk *w, const struct field *fields, json_object *object,
    const char *prefix, struct err *err);

static int
failed_at(struct walk *w, const char *at, struct err *err)
{
	CLEANUP_FREE char *where = w->where != NULL ? w->where(w->arg, at) : NULL;

	if (where != NULL) {
		err_wrap(err, "%s", where);
		err->code = E_VMFILE;
	}
	return (int)err->code;
}

/* A file whose keys stand among the object's own. */
static int
replace_inlined(struct walk *w, json_object *object, const char *at, struct err *err)
{
	const char *path = json_string(object, "path");
	json_object *sent = NULL;

	if (path == NULL)
		return 0;
	if (files_attach(w->files, path, &sent, err) != 0)
		return failed_at(w, at, err);
	json_object_object_del(object, "path");
	json_object_object_foreach(sent, key, value)
		if (!json_has(object, key))
			json_object_object_add(object, key, json_object_get(value));
	json_object_put(sent);
	return 0;
}

static int
replace_one(
    struct walk *w, const struct field *field, json_object *object, const char *at, struct err *err)
{
	const char *path = json_string(json_member(object, field->name), "path");
	json_object *sent = NULL;

	if (path == NULL)
		return 0;
	if (files_attach(w->files, path, &sent, err) != 0)
		return failed_at(w, at, err);
	json_object_object_add(object, field->name, sent);
	return 0;
}

static int
replace_list(
    struct walk *w, const struct field *field, json_object *list, const char *at, struct err *err)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < json_length(list); i++) {
		CLEANUP_FREE char *item = xasprintf("%s[%zu]", at, i);

		rc = replace_all(w, field->fields, json_item(list, i), item, err);
	}
	return rc;
}

static int
replace_all(struct walk *w, const struct field *fields, json_object *object, const char *prefix,
    struct err *err)
{
	int rc = 0;

	for (const struct field *f = fields; rc == 0 && f->name != NULL; f++) {
		if (f->inlined) {
			rc = replace_inlined(w, object, prefix, err);
			continue;
		}
		CLEANUP_FREE char *at = xasprintf("%s%s%s", prefix, *prefix ? "." : "", f->name);
		json_object *value = json_member(object, f->name);

		if (f->type == FIELD_FILE)
			rc = replace_one(w, f, object, at, err);
		else if (f->type == FIELD_OBJECT)
			rc = replace_all(w, f->fields, value, at, err);
		else if (f->type == FIELD_OBJECTS)
			rc = replace_list(w, f, value, at, err);
	}
	return rc;
}

int
files_replace(struct sent_files *files, const struct field *fields, struct json_object *object,
    const char *prefix, files_where_fn *where, void *arg, struct err *err)
{
	struct walk w = { .files = files, .where = where, .arg = arg };

	return replace_all(&w, fields, object, prefix, err);
}

void
files_done(struct sent_files *files)
{
	for (size_t i = 0; i < files->count; i++)
		free(files->items[i].path);
	for (size_t i = 0; i < files->fd_count; i++)
		close(files->fds[i]);
	free(files->items);
	free(files->fds);
	*files = (struct sent_files){ 0 };
}
