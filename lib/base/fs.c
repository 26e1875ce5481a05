/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/base/fs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "lib/base/mem.h"
#include "lib/base/platform.h"
#include "lib/base/str.h"
#include "lib/base/worker.h"

enum { COPY_CHUNK = 1 << 20 };

char *
fs_join(const char *dir, const char *name)
{
	if (name[0] == '/')
		return xstrdup(name);
	return xasprintf("%s%s%s", dir, str_ends(dir, "/") ? "" : "/", name);
}

const char *
fs_basename(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash != NULL ? slash + 1 : path;
}

char *
fs_dirname(const char *path)
{
	const char *slash = strrchr(path, '/');

	if (slash == NULL)
		return xstrdup(".");
	return slash == path ? xstrdup("/") : xstrndup(path, (size_t)(slash - path));
}

char *
fs_home(void)
{
	const char *home = getenv("HOME");
	struct passwd pwd, *found = NULL;
	char space[4096];

	if (home != NULL && home[0] == '/')
		return xstrdup(home);
	if (getpwuid_r(geteuid(), &pwd, space, sizeof(space), &found) == 0 && found != NULL)
		return xstrdup(pwd.pw_dir);
	return NULL;
}

/* Folds "//", "." and ".." of an absolute path as text. */
static char *
fold(const char *path)
{
	struct sbuf out = { 0 };

	sbuf_adds(&out, "");
	for (const char *p = path; *p != '\0';) {
		size_t len;

		while (*p == '/')
			p++;
		len = strcspn(p, "/");
		if (len == 2 && p[0] == '.' && p[1] == '.') {
			while (out.len > 0 && out.data[--out.len] != '/')
				;
			out.data[out.len] = '\0';
		} else if (len > 0 && !(len == 1 && p[0] == '.')) {
			sbuf_addc(&out, '/');
			sbuf_add(&out, p, len);
		}
		p += len;
	}
	if (out.len == 0)
		sbuf_addc(&out, '/');
	return sbuf_take(&out);
}

char *
fs_expand(const char *path, const char *base)
{
	CLEANUP_FREE char *home = NULL, *cwd = NULL, *joined = NULL;

	if (path[0] == '~' && (path[1] == '\0' || path[1] == '/')) {
		home = fs_home();
		if (home != NULL) {
			joined = xasprintf("%s%s", home, path + 1);
			return fold(joined);
		}
	}
	if (base == NULL)
		base = cwd = getcwd(NULL, 0);
	joined = fs_join(base != NULL ? base : "/", path);
	return fold(joined);
}

int
fs_mkdirs(const char *path, mode_t mode, struct err *err)
{
	CLEANUP_FREE char *part = xstrdup(path);
	struct stat st;

	for (char *p = part + 1;; p++) {
		char c = *p;

		if (c != '/' && c != '\0')
			continue;
		*p = '\0';
		if (mkdir(part, mode) < 0 && errno != EEXIST)
			return err_errno(err, E_IO, errno, "can not make the folder '%s'", part);
		*p = c;
		if (c == '\0')
			break;
	}
	if (stat(path, &st) < 0)
		return err_errno(err, E_IO, errno, "can not use the folder '%s'", path);
	if (!S_ISDIR(st.st_mode))
		return err_set(err, E_IO, "'%s' is not a folder", path);
	return 0;
}

int
fs_read_fd(int fd, const char *name, size_t max, char **ret_data, size_t *ret_len, struct err *err)
{
	CLEANUP_FREE char *data = NULL;
	size_t len = 0, cap = 0;
	struct stat st;
	ssize_t n;

	if (fstat(fd, &st) < 0)
		return err_errno(err, E_IO, errno, "can not read '%s'", name);
	if (!S_ISREG(st.st_mode))
		return err_set(err, E_IO, "'%s' is not a regular file", name);
	do {
		if (len + 1 >= cap) {
			cap = cap != 0 ? cap * 2 : (size_t)st.st_size + 512;
			if (cap > max + 2)
				cap = max + 2;
			data = xrealloc(data, cap);
		}
		n = pread(fd, data + len, cap - len - 1, (off_t)len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_errno(err, E_IO, errno, "can not read '%s'", name);
		len += (size_t)n;
		if (len > max)
			return err_set(err, E_LIMIT, "'%s' is larger than %zu bytes", name, max);
	} while (n != 0);
	data[len] = '\0';
	*ret_data = TAKE(data);
	if (ret_len != NULL)
		*ret_len = len;
	return 0;
}

int
fs_read(const char *path, size_t max, char **ret_data, size_t *ret_len, struct err *err)
{
	/* O_NONBLOCK: a FIFO of that name must not hold us. */
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return err_errno(err, errno == ENOENT ? E_NOT_FOUND : E_IO, errno,
		    "can not open '%s'", path);
	return fs_read_fd(fd, path, max, ret_data, ret_len, err);
}

int
fs_write_all(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len > 0) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

static int
close_on_exec(int fd)
{
	if (fd >= 0)
		fcntl(fd, F_SETFD, FD_CLOEXEC);
	return fd;
}

int
fs_mkstemp(char *name)
{
	return close_on_exec(mkstemp(name));
}

int
fs_pipe(int ret_fds[2])
{
	if (pipe(ret_fds) < 0)
		return -1;
	close_on_exec(ret_fds[0]);
	close_on_exec(ret_fds[1]);
	return 0;
}

bool
fs_unblock(int fd)
{
	int flags = fcntl(fd, F_GETFL);

	return flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0;
}

int
fs_accept(int listener)
{
	int fd = close_on_exec(accept(listener, NULL, NULL));

	if (fd >= 0)
		fs_unblock(fd);
	return fd;
}

int
fs_sync_dir(const char *path, struct err *err)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || fsync(fd) < 0)
		return err_errno(err, E_IO, errno, "can not sync the folder '%s'", path);
	return 0;
}

int
fs_write(const char *path, const void *data, size_t len, mode_t mode, struct err *err)
{
	CLEANUP_FREE char *dir = fs_dirname(path), *tmp = xasprintf("%s.tmp.XXXXXX", path);
	CLEANUP_FD int fd = fs_mkstemp(tmp); /* 0600 from the first byte */
	int e;

	if (fd < 0)
		return err_errno(err, E_IO, errno, "can not write '%s'", path);
	if (fs_write_all(fd, data, len) < 0 || fchmod(fd, mode) < 0 || fsync(fd) < 0 ||
	    rename(tmp, path) < 0) {
		e = errno;
		unlink(tmp);
		return err_errno(err, E_IO, e, "can not write '%s'", path);
	}
	return fs_sync_dir(dir, err);
}

int
fs_append(const char *path, const void *data, size_t len, mode_t mode, struct err *err)
{
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, mode);

	if (fd < 0 || fs_write_all(fd, data, len) < 0)
		return err_errno(err, E_IO, errno, "can not write '%s'", path);
	return 0;
}

/* Copies the data ranges of the source and leaves its holes. */
static int
copy_ranges(int from, int to, off_t size, struct job *job, const char *name, const char *to_path,
    struct err *err)
{
	CLEANUP_FREE char *chunk = xmalloc(COPY_CHUNK);
	off_t at = 0, end;

	while (at < size) {
		off_t data = lseek(from, at, PLATFORM_SEEK_DATA);

		if (data < 0 && errno == ENXIO)
			break;
		at = data >= 0 ? data : at;
		end = lseek(from, at, PLATFORM_SEEK_HOLE);
		if (end < 0 || end > size)
			end = size;
		while (at < end) {
			size_t want = end - at < COPY_CHUNK ? (size_t)(end - at) : COPY_CHUNK;
			ssize_t n = pread(from, chunk, want, at);

			if (job_cancelled(job))
				return err_set(err, job_timed_out(job) ? E_TIMEOUT : E_CANCELLED,
				    "copying '%s' was stopped", name);
			if (n < 0 && errno == EINTR)
				continue;
			if (n < 0)
				return err_errno(err, E_IO, errno, "can not read '%s'", name);
			if (n == 0)
				return err_set(err, E_IO, "'%s' became shorter while it was copied",
				    name);
			n = pwrite(to, chunk, (size_t)n, at);
			if (n < 0)
				return err_errno(err, E_IO, errno, "can not write '%s'", to_path);
			at += n; /* a short write is told by the next */
		}
	}
	if (ftruncate(to, size) < 0)
		return err_errno(err, E_IO, errno, "can not write '%s'", to_path);
	return 0;
}

int
fs_copy_into(int from_fd, const char *from_name, int to_fd, const char *to_name, struct job *job,
    struct err *err)
{
	struct stat st;
	int rc = 0;

	if (fstat(from_fd, &st) < 0)
		return err_errno(err, E_IO, errno, "can not read '%s'", from_name);
	if (!S_ISREG(st.st_mode))
		return err_set(err, E_IO, "'%s' is not a regular file", from_name);
	if (!platform_clone(to_fd, from_fd))
		rc = copy_ranges(from_fd, to_fd, st.st_size, job, from_name, to_name, err);
	if (rc == 0 && fsync(to_fd) < 0)
		rc = err_errno(err, E_IO, errno, "can not write '%s'", to_name);
	return rc;
}

int
fs_copy_fd(int from_fd, const char *from_name, const char *to_path, mode_t mode, struct job *job,
    struct err *err)
{
	CLEANUP_FD int to = -1;
	int rc;

	to = open(to_path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	if (to < 0)
		return err_errno(err, E_IO, errno, "can not make '%s'", to_path);
	rc = fs_copy_into(from_fd, from_name, to, to_path, job, err);
	if (rc != 0)
		unlink(to_path);
	return rc;
}

bool
fs_exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

bool
fs_is_folder(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

static int
remove_at(int dir_fd, const char *name, const char *shown, int depth, struct err *err)
{
	CLEANUP_FD int fd = -1;
	struct dirent *entry;
	struct stat st;
	DIR *dir;
	int rc = 0;

	/* Never unlink a folder to see what happens: there are systems where root can. */
	if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    (!S_ISDIR(st.st_mode) && unlinkat(dir_fd, name, 0) < 0))
		return errno == ENOENT ? 0
				       : err_errno(err, E_IO, errno, "can not remove '%s'", shown);
	if (!S_ISDIR(st.st_mode))
		return 0;
	if (depth > 64)
		return err_set(err, E_IO, "'%s' is nested too deeply to be removed", shown);
	fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_errno(err, E_IO, errno, "can not remove '%s'", shown);
	dir = fdopendir(dup(fd));
	if (dir == NULL)
		return err_errno(err, E_IO, errno, "can not remove '%s'", shown);
	while (rc == 0 && (entry = readdir(dir)) != NULL) {
		CLEANUP_FREE char *inner = NULL;

		if (str_eq(entry->d_name, ".") || str_eq(entry->d_name, ".."))
			continue;
		inner = fs_join(shown, entry->d_name);
		rc = remove_at(fd, entry->d_name, inner, depth + 1, err);
	}
	closedir(dir);
	if (rc == 0 && unlinkat(dir_fd, name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		rc = err_errno(err, E_IO, errno, "can not remove '%s'", shown);
	return rc;
}

int
fs_remove_tree(const char *path, struct err *err)
{
	return remove_at(AT_FDCWD, path, path, 0, err);
}

int
fs_free_bytes(const char *path, uint64_t *ret_bytes, struct err *err)
{
	struct statvfs st;

	if (statvfs(path, &st) < 0)
		return err_errno(err, E_IO, errno, "can not tell the free space of '%s'", path);
	*ret_bytes = (uint64_t)st.f_bavail * st.f_frsize;
	return 0;
}
