/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_BASE_PROCESS_PLATFORM_H
#define LIB_BASE_PROCESS_PLATFORM_H

#include <sys/types.h>

#include "lib/base/process.h"

/* What process.c asks of the system's own file (process_linux.c, process_illumos.c). */

/* Around fork, on the thread that forks: what the system needs for watching the child.
 * The end also in the child; async-signal-safe. */
int process_fork_begin(void); /* what process_fork_end wants; -1 with errno */
void process_fork_end(int begun);
/* The descriptor for the child that this thread has made last; -1 with errno. */
int process_pidfd(pid_t pid);
/* Marks every descriptor from `first` on to be closed by exec.  Async-signal-safe. */
void process_close_on_exec_from(int first);

#endif
