/* SPDX-License-Identifier: MPL-2.0
 *
 * Files that the emulator appends to: its own words, and the guest's console. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/base/worker.h"
#include "lib/hypervisor/qemu/qemu.h"

enum { WORDS_MAX = 1200, WORDS_LINES = 8, TAIL_MAX = 4 << 20, CHUNK = 65536 };

int
qemu_log_open(const char *dir, const char *name, off_t *ret_size, struct err *err)
{
	CLEANUP_FREE char *path = fs_join(dir, name);
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
		err_errno(err, E_IO, fd < 0 ? errno : EINVAL, "can not write '%s'", path);
		if (fd >= 0)
			close(fd);
		return -1;
	}
	if (ret_size != NULL)
		*ret_size = st.st_size;
	return fd;
}

char *
qemu_log_words(const char *dir, off_t from)
{
	CLEANUP_FREE char *path = fs_join(dir, "qemu.log");
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	char text[WORDS_MAX + 1];
	const char *start = text;
	struct stat st;
	ssize_t n;
	int lines = 0;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size <= from)
		return NULL;
	if (st.st_size - from > WORDS_MAX)
		from = st.st_size - WORDS_MAX;
	n = pread(fd, text, WORDS_MAX, from);
	while (n > 0 && text[n - 1] == '\n')
		n--;
	if (n <= 0)
		return NULL;
	text[n] = '\0';
	for (char *p = text + n - 1; p > text && lines < WORDS_LINES; p--)
		if (*p == '\n' && ++lines == WORDS_LINES)
			start = p + 1;
	return str_printable(start, strlen(start));
}

struct trim {
	char *path;
	off_t max_bytes;
};

static void
trim_run(struct job *job, void *data)
{
	struct trim *trim = data;
	CLEANUP_FREE char *old = xasprintf("%s.1", trim->path), *chunk = xmalloc(CHUNK);
	CLEANUP_FD int from = open(trim->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK), to = -1;
	struct stat st;
	off_t at;
	ssize_t n;

	if (from < 0 || fstat(from, &st) < 0 || st.st_size <= trim->max_bytes)
		return;
	to = open(old, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	at = st.st_size > TAIL_MAX ? st.st_size - TAIL_MAX : 0;
	/* Best effort: with a full disk the tail is lost, and the room is gained. */
	while (to >= 0 && (n = pread(from, chunk, CHUNK, at)) > 0 &&
	       fs_write_all(to, chunk, (size_t)n) == 0)
		at += n;
	if (ftruncate(from, 0) < 0)
		return;
}

static void
trim_done(void *data)
{
	struct trim *trim = data;

	free(trim->path);
	free(trim);
}

void
qemu_log_trim(struct worker_pool *pool, const char *dir, const char *name, off_t max_bytes)
{
	struct trim *trim;
	struct stat st;
	char *path = fs_join(dir, name);

	if (pool == NULL || lstat(path, &st) < 0 || st.st_size <= max_bytes) {
		free(path);
		return;
	}
	trim = xcalloc(1, sizeof(*trim));
	*trim = (struct trim){ path, max_bytes };
	if (worker_submit(pool, "trim", trim_run, trim_done, trim, 10000, NULL, NULL) != 0)
		trim_done(trim);
}
