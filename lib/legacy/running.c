/* SPDX-License-Identifier: MPL-2.0 */
#include <stdlib.h>
#include <string.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/process.h"
#include "lib/base/str.h"
#include "lib/legacy/legacy.h"

enum { PID_TEXT_MAX = 64 };

static bool
names_folder(uint64_t pid, const char *work_dir)
{
	CLEANUP_FREE char *folder = xasprintf("%s/", work_dir);

	return pid <= INT32_MAX && process_mentions((pid_t)pid, folder);
}

bool
legacy_running(const struct legacy_vm *vm)
{
	CLEANUP_FREE char *path = NULL, *text = NULL;
	uint64_t pid = 0;

	if (vm->work_dir == NULL || vm->work_dir[0] == '\0')
		return false;
	if (vm->pid != 0 && names_folder(vm->pid, vm->work_dir))
		return true;
	path = fs_join(vm->work_dir, "qemu.pid");
	if (fs_read(path, PID_TEXT_MAX, &text, NULL, NULL) != 0)
		return false;
	text[strcspn(text, " \t\r\n")] = '\0';
	return str_to_u64(text, &pid) && pid != 0 && names_folder(pid, vm->work_dir);
}
