/* SPDX-License-Identifier: MPL-2.0 */
#ifndef ILLUMOS_SYS_FILE_H
#define ILLUMOS_SYS_FILE_H

/* flock(3C) */
#define LOCK_EX 2
#define LOCK_NB 4

int flock(int fd, int operation);

#endif
