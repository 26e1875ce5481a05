/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_BASE_PROCESS_PLATFORM_H
#define LIB_BASE_PROCESS_PLATFORM_H

#include <sys/types.h>

#include "lib/base/process.h"

/* What process.c asks of the system's own file (process_linux.c). */

int process_pidfd(pid_t pid); /* -1 with errno */
/* Marks every descriptor from `first` on to be closed by exec.  Async-signal-safe. */
void process_close_on_exec_from(int first);
/* How an ended child ended; reaps it.  False: not our child, or (without wait) not ended yet. */
bool process_reap(int pidfd, bool wait, struct process_exit *ret_exit);

#endif
