/* SPDX-License-Identifier: MPL-2.0
 *
 * What the libc of illumos has besides POSIX and the libc of this host has not, as far as it is
 * called: for linking, not for running. */
#include <dirent.h>
#include <errno.h>
#include <priv.h>
#include <ucred.h>
#include <zone.h>

static int
refuse(void)
{
	errno = ENOSYS;
	return -1;
}

int
getdents(int fd, struct dirent *buffer, size_t len)
{
	return refuse();
}

int
getpeerucred(int fd, ucred_t **cred)
{
	return refuse();
}

void
ucred_free(ucred_t *cred)
{
}

uid_t
ucred_geteuid(const ucred_t *cred)
{
	return (uid_t)refuse();
}

gid_t
ucred_getegid(const ucred_t *cred)
{
	return (gid_t)refuse();
}

pid_t
ucred_getpid(const ucred_t *cred)
{
	return refuse();
}

int
priv_set(priv_op_t operation, priv_ptype_t set, ...)
{
	return refuse();
}

zoneid_t
getzoneid(void)
{
	return GLOBAL_ZONEID;
}
