/* SPDX-License-Identifier: MPL-2.0 */
#ifndef ILLUMOS_SYS_TYPES_H
#define ILLUMOS_SYS_TYPES_H

#include_next <sys/types.h>

typedef unsigned int uint_t;
typedef int zoneid_t;

#endif
