/* SPDX-License-Identifier: MPL-2.0 */
#ifndef ILLUMOS_UNISTD_H
#define ILLUMOS_UNISTD_H

#include_next <unistd.h>

/* lseek(2) */
#ifndef SEEK_DATA
#define SEEK_DATA 3
#define SEEK_HOLE 4
#endif

/* setgroups(2) */
int setgroups(int count, const gid_t *groups);

#endif
