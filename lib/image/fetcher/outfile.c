/* SPDX-License-Identifier: MPL-2.0
 *
 * Files that are written from one end to the other. */
#include <errno.h>
#include <unistd.h>

#include "lib/base/platform.h"
#include "lib/image/fetcher/sink_parts.h"

enum { SEND_BYTES = 8 << 20 }; /* to the disk at once */

static bool
set_direct(struct outfile *file, bool on)
{
	if (!platform_direct(file->fd, on))
		return false;
	file->direct = on;
	return true;
}

int
outfile_write(struct outfile *file, const void *data, size_t len, uint64_t at)
{
	const char *p = data;

	while (len > 0) {
		bool whole = ((uintptr_t)p | at | len) % BLOCK_BYTES == 0;
		bool want = whole && !file->buffered;
		ssize_t n;

		if (want != file->direct && !set_direct(file, want))
			file->buffered = true;
		n = pwrite(file->fd, p, len, (off_t)at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EINVAL && file->direct) {
			file->buffered = true;
			continue;
		}
		if (n < 0)
			return -1;
		p += n;
		at += (uint64_t)n;
		len -= (size_t)n;
		file->unsent += file->direct ? 0 : (uint64_t)n;
	}
	/* Early, so that the last sync is short. */
	if (file->unsent >= SEND_BYTES) {
		platform_write_back(file->fd, (off_t)at);
		file->unsent = 0;
	}
	return 0;
}

int
outfile_save(struct outfile *file, uint64_t bytes)
{
	return ftruncate(file->fd, (off_t)bytes) < 0 || fdatasync(file->fd) < 0 ? -1 : 0;
}

void
outfile_done(struct outfile *file)
{
	if (file->direct)
		set_direct(file, false);
}
