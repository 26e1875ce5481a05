/* SPDX-License-Identifier: MPL-2.0
 *
 * Landlock: a process binds itself to a list of paths, without privileges and for good.  The
 * interface grew over the years, so its version is asked first and newer rights are left out. */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/base/mem.h"
#include "lib/hypervisor/launcher/launcher.h"

/* From linux/landlock.h; the headers here may be older than the kernel. */
struct ruleset_attr {
	uint64_t fs, net, scope;
};
struct path_attr {
	uint64_t access;
	int32_t parent_fd;
} __attribute__((packed));
struct port_attr {
	uint64_t access, port;
};
enum { RULE_PATH = 1, RULE_PORT = 2, GET_VERSION = 1 };
enum { ABI_TRUNCATE = 3, ABI_TCP = 4, ABI_IOCTL = 5, ABI_SCOPE = 6 };
#define FS_EXECUTE (1ULL << 0)
#define FS_WRITE_FILE (1ULL << 1)
#define FS_READ_FILE (1ULL << 2)
#define FS_READ_DIR (1ULL << 3)
#define FS_TRUNCATE (1ULL << 14)
#define FS_IOCTL_DEV (1ULL << 15)
#define TCP_BIND (1ULL << 0)
#define TCP_CONNECT (1ULL << 1)
#define SCOPE_ABSTRACT_SOCKET (1ULL << 0)
#define SCOPE_SIGNAL (1ULL << 1)

int
confine_landlock_abi(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, (size_t)0, GET_VERSION);

	return abi > 0 ? (int)abi : 0;
}

/* Every right that the version knows: what is not handled is not forbidden. */
static uint64_t
all_fs(int abi)
{
	static const int known[] = { 13, 13, 14, 15, 15, 16 }; /* rights by version */
	size_t n = ARRAY_LEN(known);

	return (1ULL << ((size_t)abi < n ? known[abi] : known[n - 1])) - 1;
}

static int
allow_path(int ruleset, uint64_t handled, const char *path, uint64_t access, struct err *err)
{
	CLEANUP_FD int fd = open(path, O_PATH | O_CLOEXEC);
	struct path_attr attr = { .access = access & handled, .parent_fd = fd };
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return 0;
	if (!S_ISDIR(st.st_mode))
		attr.access &= ~FS_READ_DIR;
	if (syscall(SYS_landlock_add_rule, ruleset, RULE_PATH, &attr, 0) < 0)
		return err_errno(err, E_FAILED, errno, "Landlock refuses a rule for '%s'", path);
	return 0;
}

static int
allow_paths(int ruleset, uint64_t handled, const struct strings *paths, uint64_t access,
    struct err *err)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < paths->count; i++)
		rc = allow_path(ruleset, handled, paths->items[i], access, err);
	return rc;
}

int
confine_landlock(const struct launch_order *order, struct err *err)
{
	CLEANUP_FD int ruleset = -1;
	int abi = confine_landlock_abi(), rc;
	struct ruleset_attr attr = { .fs = all_fs(abi) };
	/* A forward may take any free port, and no other. */
	struct port_attr any_port = { .access = TCP_BIND, .port = 0 };
	size_t size = offsetof(struct ruleset_attr, net);

	if (abi == 0)
		return 0;
	if (abi >= ABI_TCP) {
		attr.net = order->network ? TCP_BIND : TCP_BIND | TCP_CONNECT;
		size = offsetof(struct ruleset_attr, scope);
	}
	if (abi >= ABI_SCOPE) {
		attr.scope = SCOPE_ABSTRACT_SOCKET | SCOPE_SIGNAL;
		size = sizeof(attr);
	}
	ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
	if (ruleset < 0)
		return err_errno(err, E_FAILED, errno, "Landlock refuses the rule set");
	rc = allow_paths(ruleset, attr.fs, &order->read, FS_READ_FILE | FS_READ_DIR | FS_EXECUTE, err);
	if (rc == 0)
		rc = allow_paths(ruleset, attr.fs, &order->write,
		    FS_READ_FILE | FS_WRITE_FILE | FS_TRUNCATE | FS_IOCTL_DEV, err);
	if (rc != 0)
		return rc;
	if (abi >= ABI_TCP && order->network &&
	    syscall(SYS_landlock_add_rule, ruleset, RULE_PORT, &any_port, 0) < 0)
		return err_errno(err, E_FAILED, errno, "Landlock refuses a rule for ports");
	if (syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		return err_errno(err, E_FAILED, errno, "Landlock refuses to be used");
	return 0;
}
