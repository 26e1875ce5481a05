/* SPDX-License-Identifier: MPL-2.0 */
#ifndef ILLUMOS_SYS_CONTRACT_H
#define ILLUMOS_SYS_CONTRACT_H

#include <sys/types.h>

typedef int ctid_t;

enum { CTD_COMMON = 0 }; /* how much of the status */

#endif
