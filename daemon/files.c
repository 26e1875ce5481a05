/* SPDX-License-Identifier: MPL-2.0 */
#include "daemon/files.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/request.h"
#include "lib/base/digest.h"
#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/base/worker.h"
#include "lib/cloudinit/cloudinit.h"
#include "lib/ssh/ssh.h"

enum { CHUNK = 1 << 20, MAX_TEXT = 1 << 20 };

struct claim {
	struct file_table *table;
	struct request *request;
	struct err *err;
};

static int
regular(int fd, struct file_ref *file, const char *what, struct err *err)
{
	struct stat st;

	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode))
		return 0;
	err_set(err, E_PARAMS, "the %s '%s' is not a regular file", what, file_ref_shown(file));
	err_object(err, what);
	return E_PARAMS;
}

static int
claim_fd(struct claim *c, struct file_ref *file, const char *what)
{
	size_t index = (size_t)(-2 - file->fd);

	if (index >= c->table->count) {
		c->table->fds = xreallocarray(c->table->fds, index + 1, sizeof(int));
		while (c->table->count <= index)
			c->table->fds[c->table->count++] = -1;
	}
	if (c->table->fds[index] < 0)
		c->table->fds[index] = request_take_fd(c->request, index);
	if (c->table->fds[index] < 0)
		return err_set(c->err, E_PARAMS,
		    "the %s is descriptor %zu, but the request did not bring it", what, index);
	file->fd = fcntl(c->table->fds[index], F_DUPFD_CLOEXEC, 3);
	if (file->fd < 0)
		return err_errno(c->err, E_LIMIT, errno, "can not take the %s", what);
	return regular(file->fd, file, what, c->err);
}

static int
claim_path(struct claim *c, struct file_ref *file, const char *what)
{
	int fd;

	if (request_peer(c->request)->uid != geteuid()) {
		err_set(c->err, E_PERMISSION, "the daemon opens no path for another user: '%s'",
		    file->path);
		err_hint(c->err, "send the file's descriptor or its bytes, as vmctl does");
		return E_PERMISSION;
	}
	if (file->path[0] != '/') {
		err_set(c->err, E_PARAMS, "the %s '%s' is not an absolute path", what, file->path);
		err_hint(c->err, "the daemon does not know your folder");
		return E_PARAMS;
	}
	fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return err_errno(c->err, errno == ENOENT ? E_NOT_FOUND : E_IO, errno,
		    "can not open the %s '%s'", what, file->path);
	if (file->name == NULL)
		file->name = TAKE(file->path);
	free(TAKE(file->path));
	file->kind = FILE_FD;
	file->fd = fd;
	return regular(fd, file, what, c->err);
}

static int
claim_file(void *arg, struct file_ref *file, const char *what)
{
	struct claim *c = arg;

	free(TAKE(file->sha256)); /* what a client says of a hash is worth nothing */
	if (file->kind == FILE_FD)
		return claim_fd(c, file, what);
	return file->kind == FILE_PATH ? claim_path(c, file, what) : 0;
}

/* Bytes that came in the request become an unlinked file, so that the rest is alike. */
static int
data_to_fd(struct file_ref *file, struct err *err)
{
	FILE *tmp = tmpfile();
	int fd;

	if (tmp == NULL)
		return err_errno(err, E_IO, errno, "can not keep '%s'", file_ref_shown(file));
	fd = fcntl(fileno(tmp), F_DUPFD_CLOEXEC, 3);
	fclose(tmp);
	if (fd < 0 || fs_write_all(fd, file->data, file->len) < 0) {
		int e = errno;

		if (fd >= 0)
			close(fd);
		return err_errno(err, E_IO, e, "can not keep '%s'", file_ref_shown(file));
	}
	free(TAKE(file->data));
	file->kind = FILE_FD;
	file->fd = fd;
	return 0;
}

/* A bare string may be a path, too: one has a '/' and no scheme. */
static int
claim_image(struct claim *c, struct image_spec *image)
{
	struct file_ref *file = &image->file;
	int rc;

	if (file->kind == FILE_NONE && image->url != NULL && strchr(image->url, '/') != NULL &&
	    strstr(image->url, "://") == NULL) {
		file->kind = FILE_PATH;
		file->path = TAKE(image->url);
	}
	if (file->kind == FILE_NONE)
		return 0;
	if (image->name == NULL && file->path != NULL)
		image->name = str_printable(file->path, strlen(file->path));
	file->name = xstrdup(image->name);
	rc = claim_file(c, file, "image");
	return rc == 0 && file->kind == FILE_DATA ? data_to_fd(file, c->err) : rc;
}

static int
close_file(void *arg, struct file_ref *file, const char *what)
{
	if (file->kind == FILE_FD && file->fd >= 0) {
		close(file->fd);
		file->kind = FILE_NONE;
	}
	return 0;
}

/* As sent, a FILE_FD holds an index; until it is claimed it is kept negative, so that nothing ever
 * takes it for a descriptor. */
static int
mark_index(void *arg, struct file_ref *file, const char *what)
{
	if (file->kind == FILE_FD)
		file->fd = -2 - file->fd;
	return 0;
}

int
files_claim(struct file_table *table, struct request *request, struct vm_spec *spec,
    struct err *err)
{
	struct claim c = { table, request, err };
	int rc;

	vm_spec_each_file(spec, mark_index, NULL);
	mark_index(NULL, &spec->image.file, "image");
	mark_index(NULL, &spec->cdrom.file, "cdrom");
	rc = vm_spec_each_file(spec, claim_file, &c);
	if (rc == 0)
		rc = claim_image(&c, &spec->image);
	return rc == 0 ? claim_image(&c, &spec->cdrom) : rc;
}

int
files_claim_image(struct request *request, struct image_spec *image, struct err *err)
{
	struct file_table table = { 0 };
	struct claim c = { &table, request, err };
	int rc;

	mark_index(NULL, &image->file, "image");
	rc = claim_image(&c, image);
	files_table_done(&table);
	return rc;
}

int
files_claim_file(struct request *request, struct file_ref *file, const char *what, struct err *err)
{
	struct file_table table = { 0 };
	struct claim c = { &table, request, err };
	int rc;

	mark_index(NULL, file, what);
	rc = claim_file(&c, file, what);
	files_table_done(&table);
	return rc;
}

void
files_close_image(struct image_spec *image)
{
	close_file(NULL, &image->file, "image");
}

void
files_table_done(struct file_table *table)
{
	for (size_t i = 0; i < table->count; i++)
		if (table->fds[i] >= 0)
			close(table->fds[i]);
	free(table->fds);
	memset(table, 0, sizeof(*table));
}

/* ---- on a worker ---- */

struct take {
	const char *dir;
	struct job *job;
	struct err *err;
};

/* Hashes a descriptor from its start, and copies it when `to` is not -1. */
static int
stream_file(int fd, const char *name, int to, struct job *job, char **ret_hex, struct err *err)
{
	CLEANUP_FREE char *chunk = xmalloc(CHUNK);
	struct digest *digest = digest_create();
	off_t at = 0;
	int rc = 0;
	ssize_t n;

	while (rc == 0 && (n = pread(fd, chunk, CHUNK, at)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			rc = err_errno(err, E_IO, errno, "can not read '%s'", name);
		else if (job_cancelled(job))
			rc = err_set(err, E_CANCELLED, "reading '%s' was stopped", name);
		else if (to >= 0 && fs_write_all(to, chunk, (size_t)n) < 0)
			rc = err_errno(err, E_IO, errno, "can not copy '%s'", name);
		if (n > 0) {
			digest_add(digest, chunk, (size_t)n);
			at += n;
		}
	}
	if (rc == 0)
		*ret_hex = digest_finish(digest);
	else
		digest_destroy(digest);
	return rc;
}

int
files_digest(int fd, const char *name, struct job *job, char **ret_digest, struct err *err)
{
	CLEANUP_FREE char *hex = NULL;
	int rc = stream_file(fd, name, -1, job, &hex, err);

	if (rc == 0)
		*ret_digest = xasprintf("sha256:%s", hex);
	return rc;
}

static int
check_content(const struct file_ref *file, const char *what, struct err *err)
{
	CLEANUP_FREE char *text = NULL;
	size_t len;
	int rc;

	if (!str_eq(what, "ssh-key") && !str_eq(what, "user-data") && !str_eq(what, "private-key"))
		return 0;
	rc = fs_read_fd(file->fd, file_ref_shown(file), MAX_TEXT, &text, &len, err);
	if (rc == 0 && str_eq(what, "ssh-key"))
		rc = ssh_public_key_check(text, err);
	if (rc == 0 && str_eq(what, "user-data"))
		rc = seed_check_user_data(text, len, file_ref_shown(file), err);
	if (rc != 0)
		err_wrap(err, "the %s '%s'", what, file_ref_shown(file));
	if (str_eq(what, "private-key"))
		mem_wipe(text, len);
	return rc;
}

static int
copy_in(struct take *t, struct file_ref *file)
{
	CLEANUP_FREE char *dir = fs_join(t->dir, "files"), *tmp = NULL, *path = NULL, *hex = NULL;
	CLEANUP_FD int to = -1;
	int rc = fs_mkdirs(dir, 0700, t->err);

	if (rc != 0)
		return rc;
	tmp = xasprintf("%s/.tmp.XXXXXX", dir);
	to = fs_mkstemp(tmp);
	if (to < 0)
		return err_errno(t->err, E_IO, errno, "can not write into '%s'", dir);
	rc = stream_file(file->fd, file_ref_shown(file), to, t->job, &hex, t->err);
	if (rc == 0 && fsync(to) < 0)
		rc = err_errno(t->err, E_IO, errno, "can not write into '%s'", dir);
	if (rc == 0) {
		path = fs_join(dir, hex);
		if (rename(tmp, path) < 0)
			rc = err_errno(t->err, E_IO, errno, "can not write '%s'", path);
	}
	if (rc != 0) {
		unlink(tmp);
		return rc;
	}
	close(file->fd);
	file->kind = FILE_PATH;
	file->path = TAKE(path);
	free(file->sha256);
	file->sha256 = TAKE(hex);
	return fs_sync_dir(dir, t->err);
}

static int
take_file(void *arg, struct file_ref *file, const char *what)
{
	struct take *t = arg;
	int rc = 0;

	if (file->kind == FILE_DATA)
		rc = data_to_fd(file, t->err);
	if (rc != 0 || file->kind != FILE_FD)
		return rc;
	rc = check_content(file, what, t->err);
	if (rc == 0 && t->dir != NULL)
		return copy_in(t, file);
	if (rc == 0 && file->sha256 == NULL)
		rc = stream_file(file->fd, file_ref_shown(file), -1, t->job, &file->sha256, t->err);
	return rc;
}

int
files_take(struct vm_spec *spec, const char *dir, struct job *job, struct err *err)
{
	struct take t = { dir, job, err };
	int rc = vm_spec_each_file(spec, take_file, &t);

	if (rc != 0 && job_timed_out(job) && err != NULL && err->code == E_CANCELLED)
		err->code = E_TIMEOUT;
	return rc;
}

void
files_release_spec(struct vm_spec *spec)
{
	vm_spec_each_file(spec, close_file, NULL);
	close_file(NULL, &spec->image.file, "image");
	close_file(NULL, &spec->cdrom.file, "cdrom");
	vm_spec_release(spec);
}
