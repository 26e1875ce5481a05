/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_BASE_PLATFORM_H
#define LIB_BASE_PLATFORM_H

#include <stdbool.h>

/* What only the system's own file (platform_linux.c …) can tell. */

/* Not inside a zone, where neither zones nor links nor datasets can be made. */
bool platform_global_zone(void);

#endif
