/* SPDX-License-Identifier: MPL-2.0
 *
 * Systems without the layers: only the limits, which are everywhere. */
#include "lib/base/jail_parts.h"

#include <errno.h>
#include <unistd.h>

unsigned
jail_probe_self(void)
{
	return JAIL_LIMITS;
}

unsigned
jail_probe(void)
{
	return JAIL_LIMITS;
}

int
jail_confine(const struct confinement *wanted, long parent, struct err *err)
{
	if (parent > 0 && getppid() != (pid_t)parent)
		return err_set(err, E_CANCELLED, "vmmd is gone");
	if ((wanted->layers & JAIL_LIMITS) && process_limit(&wanted->limits) < 0)
		return err_errno(err, E_FAILED, errno, "can not set limits");
	return 0;
}

int
jail_become(const struct confinement *wanted, long parent, char *const *argv, struct err *err)
{
	int rc = jail_confine(wanted, parent, err);

	if (rc != 0)
		return rc;
	execv(wanted->program, argv);
	return err_errno(err, E_FAILED, errno, "can not become '%s'", wanted->program);
}
