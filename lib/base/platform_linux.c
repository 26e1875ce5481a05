/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/base/platform.h"

bool
platform_global_zone(void)
{
	return true; /* there are no others */
}
