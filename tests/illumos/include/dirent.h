/* SPDX-License-Identifier: MPL-2.0 */
#ifndef ILLUMOS_DIRENT_H
#define ILLUMOS_DIRENT_H

#include_next <dirent.h>

/* getdents(2) */
int getdents(int fd, struct dirent *buffer, size_t len);

#endif
