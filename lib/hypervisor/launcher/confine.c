/* SPDX-License-Identifier: MPL-2.0
 *
 * What a hypervisor may reach, as Landlock's rules. */
#include "lib/base/landlock.h"
#include "lib/base/mem.h"
#include "lib/hypervisor/launcher/launcher.h"

static int
allow_paths(int rules, const struct strings *paths, unsigned rights, struct err *err)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < paths->count; i++)
		rc = landlock_allow(rules, paths->items[i], rights, err);
	return rc;
}

int
confine_landlock(const struct launch_order *order, struct err *err)
{
	CLEANUP_FD int rules = -1;
	int rc = landlock_create(
		order->network ? LANDLOCK_TCP_ANY : LANDLOCK_TCP_NONE, &rules, err);

	if (rc == 0)
		rc = allow_paths(rules, &order->read, LANDLOCK_READ | LANDLOCK_EXECUTE, err);
	if (rc == 0)
		rc = allow_paths(rules, &order->write, LANDLOCK_READ | LANDLOCK_WRITE, err);
	if (rc == 0)
		rc = allow_paths(rules, &order->make,
		    LANDLOCK_READ | LANDLOCK_WRITE | LANDLOCK_MAKE | LANDLOCK_BIND, err);
	if (rc == 0)
		rc = landlock_enforce(rules, err);
	return rc;
}
