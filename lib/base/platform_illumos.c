/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/base/platform.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <priv.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>
#include <zone.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"

_Static_assert(PLATFORM_SEEK_DATA == SEEK_DATA && PLATFORM_SEEK_HOLE == SEEK_HOLE, "as in lseek");

const char platform_runtime_dir[] = "/var/run/vmm";

bool
platform_global_zone(void)
{
	return getzoneid() == GLOBAL_ZONEID;
}

char *
platform_own_path(void)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/path/a.out", path, sizeof(path));

	return n > 0 && n < (ssize_t)sizeof(path) ? xstrndup(path, (size_t)n) : NULL;
}

int
platform_event_fd(void)
{
	return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

/* /tmp is memory there. */
int
platform_memory_file(void)
{
	char path[] = "/tmp/vmm.XXXXXX";
	int fd = fs_mkstemp(path);

	if (fd >= 0)
		unlink(path);
	return fd;
}

int
platform_lock(int fd, bool wait)
{
	return flock(fd, LOCK_EX | (wait ? 0 : LOCK_NB));
}

/* Names below /proc/self/fd lead no further when they are folders. */
int
platform_folder_alias(const char *path, char **ret_alias)
{
	errno = ENAMETOOLONG;
	return -1;
}

bool
platform_clone(int to_fd, int from_fd)
{
	errno = EOPNOTSUPP;
	return false;
}

bool
platform_reserve(int fd, off_t at, off_t len)
{
	int e = posix_fallocate(fd, at, len);

	/* ZFS never writes in place, so it can not promise room, and calls that invalid. */
	errno = e == EINVAL ? EOPNOTSUPP : e;
	return e == 0;
}

void
platform_write_back(int fd, off_t len)
{
	/* ZFS does so every few seconds by itself. */
}

bool
platform_direct(int fd, bool on)
{
	return !on; /* ZFS has no such writes */
}

bool
platform_has_writers(int fd)
{
	return false;
}

void
platform_page_out(void *data, size_t len)
{
	madvise(data, len, MADV_DONTNEED);
}

int
platform_become(uid_t uid, gid_t gid)
{
	if (setgroups(0, NULL) < 0 || setgid(gid) < 0)
		return -1;
	return setuid(uid); /* as root: the real and the saved one, too */
}

/* A parent that is gone is not told: what is written to it then ends the process. */
int
platform_confine_self(void)
{
	return priv_set(PRIV_OFF, PRIV_ALLSETS, PRIV_PROC_EXEC, PRIV_PROC_FORK, PRIV_PROC_INFO,
	    PRIV_PROC_SESSION, PRIV_FILE_LINK_ANY, (char *)NULL);
}
