/* SPDX-License-Identifier: MPL-2.0
 *
 * The layers of a jail on Linux, in the order in which they can be put on: each takes away what
 * the ones before it needed. */
#include "lib/base/jail_parts.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/landlock.h"
#include "lib/base/mem.h"

/* ---- the network ---- */

static int
put_text(const char *path, const char *text)
{
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd >= 0 ? fs_write_all(fd, text, strlen(text)) : -1;
}

/* Who is not root needs a user namespace, and is the same user in it. */
static int
leave_network(void)
{
	CLEANUP_FREE char *uids = xasprintf("%u %u 1", geteuid(), geteuid());
	CLEANUP_FREE char *gids = xasprintf("%u %u 1", getegid(), getegid());

	if (geteuid() == 0 && unshare(CLONE_NEWNET) == 0)
		return 0;
	if (unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0)
		return -1;
	if (put_text("/proc/self/setgroups", "deny") < 0)
		return -1;
	return put_text("/proc/self/uid_map", uids) < 0 ? -1 : put_text("/proc/self/gid_map", gids);
}

/* ---- files ---- */

static int
allow_each(int rules, const char *const *paths, unsigned rights, struct err *err)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && paths != NULL && paths[i] != NULL; i++)
		rc = landlock_allow(rules, paths[i], rights, err);
	return rc;
}

static int
confine_files(const struct confinement *wanted, struct err *err)
{
	static const char *const libraries[] = { "/lib", "/lib32", "/lib64", "/libx32", "/usr/lib",
		"/usr/lib32", "/usr/lib64", "/usr/libx32", "/usr/local/lib", "/usr/local/lib64",
		"/etc/ld.so.cache", NULL };
	CLEANUP_FD int rules = -1;
	int rc = landlock_create(
		wanted->network ? LANDLOCK_TCP_CLIENT : LANDLOCK_TCP_NONE, &rules, err);

	if (rc == 0)
		rc = allow_each(rules, libraries,
		    LANDLOCK_READ | (wanted->program != NULL ? LANDLOCK_EXECUTE : 0), err);
	if (rc == 0 && wanted->program != NULL)
		rc = landlock_allow(rules, wanted->program, LANDLOCK_READ | LANDLOCK_EXECUTE, err);
	if (rc == 0) /* tools try their locks on it */
		rc = landlock_allow(rules, "/dev/null", LANDLOCK_READ | LANDLOCK_WRITE, err);
	if (rc == 0)
		rc = allow_each(rules, wanted->read, LANDLOCK_READ, err);
	if (rc == 0)
		rc = allow_each(rules, wanted->write, LANDLOCK_READ | LANDLOCK_WRITE, err);
	if (rc == 0)
		rc = allow_each(
		    rules, wanted->make, LANDLOCK_READ | LANDLOCK_WRITE | LANDLOCK_MAKE, err);
	if (rc == 0)
		rc = allow_each(rules, wanted->sockets, LANDLOCK_BIND, err);
	if (rc == 0)
		rc = landlock_enforce(rules, err);
	return rc;
}

/* ---- rights and limits ---- */

/* Root keeps the right to open files of other users, so that a disk which belongs to its machine
 * can be read; every other right of root goes. */
static int
drop_rights(bool to_nothing, struct err *err)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = { 0 };

	for (int right = 0; prctl(PR_CAPBSET_READ, right, 0, 0, 0) >= 0; right++)
		if ((to_nothing || right != CAP_DAC_OVERRIDE) &&
		    prctl(PR_CAPBSET_DROP, right, 0, 0, 0) < 0 && errno != EPERM)
			return err_errno(err, E_FAILED, errno, "can not give up a right");
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (to_nothing && syscall(SYS_capset, &head, none) < 0)
		return err_errno(err, E_FAILED, errno, "can not give up the rights");
	return 0;
}

static int
limit_descriptors(struct err *err)
{
	struct rlimit limit = { JAIL_EXEC_FD, JAIL_EXEC_FD };

	if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
		return err_errno(err, E_FAILED, errno, "can not limit descriptors");
	return 0;
}

/* ---- all of it ---- */

unsigned
jail_probe_self(void)
{
	return JAIL_LIMITS | (landlock_abi() > 0 ? JAIL_LANDLOCK : 0) |
	       (jail_filter_works() ? JAIL_SECCOMP : 0);
}

unsigned
jail_probe(void)
{
	return jail_probe_self() | (leave_network() == 0 ? JAIL_NETNS : 0);
}

int
jail_confine(const struct confinement *wanted, long parent, struct err *err)
{
	const unsigned layers = wanted->layers;
	int rc = 0;

	if ((layers & JAIL_NETNS) && leave_network() < 0)
		return err_errno(err, E_FAILED, errno, "can not make an empty network");
	/* After the namespace, which would forget it. */
	if (parent > 0 && (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != (pid_t)parent))
		return err_set(err, E_CANCELLED, "vmmd is gone");
	if (layers & JAIL_LIMITS)
		rc = drop_rights(wanted->program == NULL, err);
	if (rc == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		rc = err_errno(err, E_FAILED, errno, "can not give up new privileges");
	if (rc == 0 && (layers & JAIL_LANDLOCK))
		rc = confine_files(wanted, err);
	if (rc == 0 && (layers & JAIL_LIMITS) && process_limit(&wanted->limits) < 0)
		rc = err_errno(err, E_FAILED, errno, "can not set limits");
	if (rc == 0 && wanted->program != NULL)
		rc = limit_descriptors(err);
	if (rc == 0 && (layers & JAIL_SECCOMP))
		rc = jail_filter_install(wanted->network       ? JAIL_SOCKETS_ALL
					 : wanted->sockets != NULL ? JAIL_SOCKETS_UNIX
								   : JAIL_SOCKETS_NONE,
		    wanted->program != NULL, err);
	return rc;
}

int
jail_become(const struct confinement *wanted, long parent, char *const *argv, struct err *err)
{
	CLEANUP_FD int fd = open(wanted->program, O_PATH | O_CLOEXEC);
	int rc;

	/* Opened beforehand: only through this descriptor does the filter let a program begin. */
	if (fd < 0 || dup3(fd, JAIL_EXEC_FD, O_CLOEXEC) < 0)
		return err_errno(err, E_FAILED, errno, "can not open '%s'", wanted->program);
	rc = jail_confine(wanted, parent, err);
	if (rc != 0)
		return rc;
	syscall(SYS_execveat, JAIL_EXEC_FD, "", argv, environ, AT_EMPTY_PATH);
	return err_errno(err, E_FAILED, errno, "can not become '%s'", wanted->program);
}
