/* SPDX-License-Identifier: MPL-2.0 */
#ifndef ILLUMOS_ZONE_H
#define ILLUMOS_ZONE_H

#include <sys/types.h>

/* getzoneid(3C) */
#define GLOBAL_ZONEID 0

zoneid_t getzoneid(void);

#endif
