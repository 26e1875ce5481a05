/* SPDX-License-Identifier: MPL-2.0
 *
 * The listening socket: made where nothing stands, or over what a dead daemon left, and open to
 * nobody before it has its final mode. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/wire.h"
#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/platform.h"

static int
refuse(struct err *err, enum err_code code, const char *path, const char *what, const char *hint)
{
	err_set(err, code, "can not listen on '%s': %s", path, what);
	err_hint(err, "%s", hint);
	err_object(err, path);
	return (int)code;
}

/* Others must not be able to put a socket of theirs in the place of ours. */
static int
check_folder(int dir, const char *path, struct err *err)
{
	struct stat st;

	if (fstat(dir, &st) != 0)
		return err_errno(err, E_IO, errno, "can not look at the folder of '%s'", path);
	if (st.st_uid != geteuid() && st.st_uid != 0)
		return refuse(err, E_PERMISSION, path, "its folder belongs to another user",
		    "choose a folder of your own");
	if ((st.st_mode & S_IWOTH) != 0 && (st.st_mode & S_ISVTX) == 0)
		return refuse(err, E_PERMISSION, path, "its folder is open to all for writing",
		    "choose a folder that only you can write");
	return 0;
}

/* What a connection attempt says: 0 nobody listens, E_EXISTS somebody does. */
static int
probe(const struct sockaddr_un *addr, const char *path, struct err *err)
{
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd >= 0 && connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) != 0) {
		if (errno == ECONNREFUSED || errno == ENOENT)
			return 0;
		if (errno != EAGAIN)
			return err_errno(
			    err, E_IO, errno, "can not tell who listens on '%s'", path);
	}
	return refuse(err, E_EXISTS, path, "another vmmd listens there",
	    "'vmctl daemon stop' ends it; or give another --socket");
}

static int
clear_place(
    int dir, const char *name, const struct sockaddr_un *addr, const char *path, struct err *err)
{
	struct stat st;
	int rc;

	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return errno == ENOENT ? 0
				       : err_errno(err, E_IO, errno, "can not look at '%s'", path);
	if (!S_ISSOCK(st.st_mode))
		return refuse(err, E_FAILED, path,
		    S_ISLNK(st.st_mode) ? "a symbolic link stands there" : "it is not a socket",
		    "remove it, or give another --socket");
	if (st.st_uid != geteuid())
		return refuse(err, E_PERMISSION, path, "the socket there belongs to another user",
		    "give another --socket");
	rc = probe(addr, path, err);
	if (rc != 0)
		return rc;
	if (unlinkat(dir, name, 0) != 0 && errno != ENOENT)
		return err_errno(err, E_IO, errno, "can not remove the old socket '%s'", path);
	return 0;
}

static int
find_group(const char *name, gid_t *ret_gid, struct err *err)
{
	struct group entry, *found = NULL;
	char space[16384];

	if (getgrnam_r(name, &entry, space, sizeof(space), &found) != 0 || found == NULL) {
		err_set(err, E_USAGE, "there is no group '%s'", name);
		err_hint(err, "make it with 'groupadd --system %s', or configure another", name);
		return E_USAGE;
	}
	*ret_gid = found->gr_gid;
	return 0;
}

/* Before listen: until then every connection attempt is refused. */
static int
open_to_group(int dir, const char *name, const char *path, const char *group, struct err *err)
{
	gid_t gid = (gid_t)-1;
	int rc = group != NULL ? find_group(group, &gid, err) : 0;

	if (rc != 0)
		return rc;
	if (gid != (gid_t)-1 && fchownat(dir, name, (uid_t)-1, gid, AT_SYMLINK_NOFOLLOW) != 0)
		return err_errno(
		    err, E_PERMISSION, errno, "can not give '%s' to group '%s'", path, group);
	if (fchmodat(dir, name, 0660, 0) != 0)
		return err_errno(err, E_IO, errno, "can not set the mode of '%s'", path);
	return 0;
}

static int
bind_at(struct server *server, int dir, const char *name, const struct sockaddr_un *addr,
    const struct server_options *options, struct err *err)
{
	const char *path = options->socket_path;
	mode_t before = umask(0177);
	struct stat st;
	int rc = bind(server->fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0 ? 0 : errno;

	umask(before);
	if (rc != 0)
		return err_errno(err, E_IO, rc, "can not make the socket '%s'", path);
	if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0) {
		server->path = xstrdup(path);
		server->device = st.st_dev;
		server->inode = st.st_ino;
	}
	rc = options->system ? open_to_group(dir, name, path, options->group, err) : 0;
	if (rc == 0 && listen(server->fd, SOMAXCONN) != 0)
		rc = err_errno(err, E_IO, errno, "can not listen on '%s'", path);
	return rc;
}

static int
listen_at(const struct server_options *options, struct server *server, struct err *err)
{
	const char *path = options->socket_path, *name = fs_basename(path);
	CLEANUP_FREE char *folder = fs_dirname(path);
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	CLEANUP_FD int dir = -1;
	int rc;

	if (strlen(path) > FS_SOCKET_PATH_MAX) {
		err_set(err, E_USAGE, "the path '%s' is too long for a socket (%zu of %d bytes)",
		    path, strlen(path), FS_SOCKET_PATH_MAX);
		err_hint(err, "give a shorter --socket or --runtime-dir");
		return E_USAGE;
	}
	memcpy(addr.sun_path, path, strlen(path));
	dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return err_errno(err, E_IO, errno, "can not open the folder of '%s'", path);
	rc = check_folder(dir, path, err);
	/* Two daemons at once: only one may find the old socket dead, and replace it. */
	if (rc == 0 && platform_lock(dir, true) != 0)
		rc = err_errno(err, E_IO, errno, "can not lock the folder of '%s'", path);
	if (rc == 0)
		rc = clear_place(dir, name, &addr, path, err);
	if (rc != 0)
		return rc;
	server->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (server->fd < 0)
		return err_errno(err, E_IO, errno, "can not make a socket");
	return bind_at(server, dir, name, &addr, options, err);
}

/* A socket that the service manager made. */
static int
adopt_fd(int fd, struct server *server, struct err *err)
{
	struct sockaddr_un addr = { .sun_family = AF_UNSPEC };
	socklen_t addr_len = sizeof(addr), len = sizeof(int);
	int type = 0, accepts = 0;

	if (getsockname(fd, (struct sockaddr *)&addr, &addr_len) != 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) != 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &len) != 0 ||
	    addr.sun_family != AF_UNIX || type != SOCK_STREAM || accepts == 0) {
		err_set(err, E_USAGE, "descriptor %d is not a listening UNIX stream socket", fd);
		err_hint(err, "the .socket unit needs ListenStream= with a path");
		return E_USAGE;
	}
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	server->fd = fd;
	return 0;
}

int
listen_open(const struct server_options *options, struct server *server, struct err *err)
{
	if (options->listen_fd >= 0)
		return adopt_fd(options->listen_fd, server, err);
	return listen_at(options, server, err);
}

void
listen_close(struct server *server)
{
	struct stat st;

	if (server->fd >= 0)
		close(TAKE_FD(server->fd));
	/* Only the one that we made: another daemon may have replaced it. */
	if (server->path != NULL && lstat(server->path, &st) == 0 && S_ISSOCK(st.st_mode) &&
	    st.st_dev == server->device && st.st_ino == server->inode)
		unlink(server->path);
	free(TAKE(server->path));
}
