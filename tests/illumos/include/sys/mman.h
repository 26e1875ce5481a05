/* SPDX-License-Identifier: MPL-2.0 */
#ifndef ILLUMOS_SYS_MMAN_H
#define ILLUMOS_SYS_MMAN_H

#include_next <sys/mman.h>

/* madvise(3C) */
#define MADV_DONTNEED 4

int madvise(void *data, size_t len, int advice);

#endif
