/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/base/platform.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/fs.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "lib/base/mem.h"

_Static_assert(PLATFORM_SEEK_DATA == SEEK_DATA && PLATFORM_SEEK_HOLE == SEEK_HOLE, "as in lseek");

const char platform_runtime_dir[] = "/run/vmm";

bool
platform_global_zone(void)
{
	return true; /* there are no others */
}

char *
platform_own_path(void)
{
	char path[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path));

	return n > 0 && n < (ssize_t)sizeof(path) ? xstrndup(path, (size_t)n) : NULL;
}

int
platform_event_fd(void)
{
	return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

int
platform_memory_file(void)
{
	return memfd_create("vmm", MFD_CLOEXEC);
}

int
platform_lock(int fd, bool wait)
{
	return flock(fd, LOCK_EX | (wait ? 0 : LOCK_NB));
}

int
platform_folder_alias(const char *path, char **ret_alias)
{
	int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0)
		*ret_alias = xasprintf("/proc/self/fd/%d", fd);
	return fd;
}

bool
platform_clone(int to_fd, int from_fd)
{
	return ioctl(to_fd, FICLONE, from_fd) == 0;
}

bool
platform_reserve(int fd, off_t at, off_t len)
{
	return fallocate(fd, 0, at, len) == 0;
}

void
platform_write_back(int fd, off_t len)
{
	sync_file_range(fd, 0, len, SYNC_FILE_RANGE_WRITE);
}

bool
platform_direct(int fd, bool on)
{
	int flags = fcntl(fd, F_GETFL);

	return flags >= 0 && fcntl(fd, F_SETFL, on ? flags | O_DIRECT : flags & ~O_DIRECT) == 0;
}

/* A lease for reading is given only while nobody has the file open for writing.  Another error
 * than EAGAIN: this file system has no leases. */
bool
platform_has_writers(int fd)
{
	if (fcntl(fd, F_SETLEASE, F_RDLCK) < 0)
		return errno == EAGAIN;
	fcntl(fd, F_SETLEASE, F_UNLCK);
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
	if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0)
		return -1;
	return setresuid(uid, uid, uid);
}

int
platform_confine_self(void)
{
	if (prctl(PR_SET_DUMPABLE, 0) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -1;
	return prctl(PR_SET_PDEATHSIG, SIGKILL); /* a change of user forgets it: after that */
}
