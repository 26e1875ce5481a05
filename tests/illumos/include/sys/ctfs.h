/* SPDX-License-Identifier: MPL-2.0 */
#ifndef ILLUMOS_SYS_CTFS_H
#define ILLUMOS_SYS_CTFS_H

#include <sys/contract.h>

#define CTFS_ROOT "/system/contract"

#endif
