/* SPDX-License-Identifier: MPL-2.0
 *
 * A jail of illumos: privileges.  There even opening a file is one, so what is left out of the sets
 * a process can not do: start programs or processes, see others, reach the network.  Which files it
 * may open can not be said so; those of its user remain. */
#include "lib/base/jail_parts.h"

#include <errno.h>
#include <priv.h>
#include <unistd.h>

#include "lib/base/mem.h"

unsigned
jail_probe_self(void)
{
	return JAIL_LIMITS | JAIL_PRIVILEGES;
}

unsigned
jail_probe(void)
{
	return jail_probe_self();
}

static int
limit(const struct confinement *wanted, long parent, struct err *err)
{
	if (parent > 0 && getppid() != (pid_t)parent)
		return err_set(err, E_CANCELLED, "vmmd is gone");
	if ((wanted->layers & JAIL_LIMITS) && process_limit(&wanted->limits) < 0)
		return err_errno(err, E_FAILED, errno, "can not set limits");
	return 0;
}

/* Exactly these, in each of the sets. */
static int
keep(const priv_ptype_t *sets, size_t count, bool network)
{
	const char *net = network ? PRIV_NET_ACCESS : (const char *)NULL;

	for (size_t i = 0; i < count; i++)
		if (priv_set(PRIV_SET, sets[i], PRIV_FILE_READ, PRIV_FILE_WRITE, net,
			(const char *)NULL) < 0)
			return -1;
	return 0;
}

int
jail_confine(const struct confinement *wanted, long parent, struct err *err)
{
	const priv_ptype_t sets[] = { PRIV_INHERITABLE, PRIV_EFFECTIVE, PRIV_PERMITTED };
	int rc = limit(wanted, parent, err);

	if (rc != 0 || !(wanted->layers & JAIL_PRIVILEGES))
		return rc;
	if (keep(sets, ARRAY_LEN(sets), wanted->network) < 0)
		return err_errno(err, E_FAILED, errno, "can not give up privileges");
	return 0;
}

/* The sets of what runs after exec; until then this process may still execute it.  Root keeps the
 * right to open others' files and no other: without any it could not read what it was given. */
static int
keep_after_exec(void)
{
	const priv_ptype_t sets[] = { PRIV_INHERITABLE, PRIV_LIMIT };

	if (geteuid() != 0)
		return keep(sets, ARRAY_LEN(sets), false);
	for (size_t i = 0; i < ARRAY_LEN(sets); i++)
		if (priv_set(PRIV_SET, sets[i], PRIV_FILE_READ, PRIV_FILE_WRITE, PRIV_FILE_DAC_READ,
			PRIV_FILE_DAC_WRITE, PRIV_FILE_DAC_SEARCH, (const char *)NULL) < 0)
			return -1;
	return 0;
}

int
jail_become(const struct confinement *wanted, long parent, char *const *argv, struct err *err)
{
	int rc = limit(wanted, parent, err);

	if (rc != 0)
		return rc;
	if ((wanted->layers & JAIL_PRIVILEGES) && keep_after_exec() < 0)
		return err_errno(err, E_FAILED, errno, "can not give up privileges");
	execv(wanted->program, argv);
	return err_errno(err, E_FAILED, errno, "can not become '%s'", wanted->program);
}
