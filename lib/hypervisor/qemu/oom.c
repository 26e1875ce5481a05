/* SPDX-License-Identifier: MPL-2.0
 *
 * Whether the kernel killed for want of memory: the cgroup of the process counts its victims, in
 * memory.events (version 2) or memory.oom_control (version 1). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/hypervisor/qemu/qemu.h"

static bool
read_kills(const char *path, uint64_t *ret_kills)
{
	CLEANUP_FREE char *text = NULL;
	char *line;

	if (fs_read(path, 4096, &text, NULL, NULL) != 0)
		return false;
	line = strstr(text, "oom_kill ");
	if (line == NULL)
		return false;
	*ret_kills = strtoull(line + strlen("oom_kill "), NULL, 10);
	return true;
}

/* One line of /proc/PID/cgroup, "0::/path" or "4:memory:/path"; NULL: not that of memory. */
static char *
counter_of(char *line)
{
	char *controllers = strchr(line, ':'), *path;

	if (controllers == NULL)
		return NULL;
	controllers++;
	path = strchr(controllers, ':');
	if (path == NULL)
		return NULL;
	*path++ = '\0';
	if (controllers[0] == '\0')
		return xasprintf("/sys/fs/cgroup%s/memory.events", path);
	if (str_eq(controllers, "memory"))
		return xasprintf("/sys/fs/cgroup/memory%s/memory.oom_control", path);
	return NULL;
}

void
oom_watch(pid_t pid, struct oom_count *ret_count)
{
	CLEANUP_FREE char *path = xasprintf("/proc/%d/cgroup", (int)pid), *text = NULL;
	char *rest, *line;

	*ret_count = (struct oom_count){ 0 };
	if (fs_read(path, 65536, &text, NULL, NULL) != 0)
		return;
	for (rest = text; (line = strsep(&rest, "\n")) != NULL;) {
		char *counter = counter_of(line);

		if (counter != NULL && read_kills(counter, &ret_count->kills)) {
			ret_count->path = counter;
			return;
		}
		free(counter);
	}
}

bool
oom_happened(const struct oom_count *count)
{
	uint64_t kills = 0;

	return count->path != NULL && read_kills(count->path, &kills) && kills > count->kills;
}

void
oom_done(struct oom_count *count)
{
	free(TAKE(count->path));
}
