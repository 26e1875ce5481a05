/* SPDX-License-Identifier: MPL-2.0 */
#ifndef ILLUMOS_PROCFS_H
#define ILLUMOS_PROCFS_H

#include <sys/types.h>
#include <time.h>

/* proc(5): what is used of the psinfo file, which has more fields and another order. */
#define PRARGSZ 80

typedef struct psinfo {
	int pr_nlwp;
	struct timespec pr_start;
	char pr_psargs[PRARGSZ];
} psinfo_t;

#endif
