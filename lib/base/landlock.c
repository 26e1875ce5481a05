/* SPDX-License-Identifier: MPL-2.0
 *
 * Landlock's system calls.  The interface grew over the years, so its version is asked first and
 * newer rights are left out. */
#include "lib/base/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/base/mem.h"

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
#define FS_REMOVE_FILE (1ULL << 5)
#define FS_MAKE_REG (1ULL << 8)
#define FS_MAKE_SOCK (1ULL << 9)
#define FS_TRUNCATE (1ULL << 14)
#define FS_IOCTL_DEV (1ULL << 15)
#define FS_OF_FILES (FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV)
#define TCP_BIND (1ULL << 0)
#define TCP_CONNECT (1ULL << 1)
#define SCOPE_ABSTRACT_SOCKET (1ULL << 0)
#define SCOPE_SIGNAL (1ULL << 1)

/* By bit of enum landlock_right. */
static const uint64_t rights_fs[] = {
	FS_READ_FILE | FS_READ_DIR,
	FS_EXECUTE,
	FS_WRITE_FILE | FS_TRUNCATE | FS_IOCTL_DEV,
	FS_MAKE_REG | FS_REMOVE_FILE,
	FS_MAKE_SOCK | FS_REMOVE_FILE,
};

int
landlock_abi(void)
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

int
landlock_create(enum landlock_tcp tcp, int *ret_rules, struct err *err)
{
	static const uint64_t handled[] = { [LANDLOCK_TCP_NONE] = TCP_BIND | TCP_CONNECT,
		[LANDLOCK_TCP_CLIENT] = TCP_BIND, [LANDLOCK_TCP_ANY] = 0 };
	int abi = landlock_abi();
	struct ruleset_attr attr = { .fs = all_fs(abi) };
	struct port_attr any_port = { .access = TCP_BIND, .port = 0 };
	size_t size = offsetof(struct ruleset_attr, net);
	CLEANUP_FD int rules = -1;

	*ret_rules = -1;
	if (abi == 0)
		return 0;
	if (abi >= ABI_TCP) {
		attr.net = handled[tcp];
		size = offsetof(struct ruleset_attr, scope);
	}
	if (abi >= ABI_SCOPE) {
		attr.scope = SCOPE_ABSTRACT_SOCKET | SCOPE_SIGNAL;
		size = sizeof(attr);
	}
	rules = (int)syscall(SYS_landlock_create_ruleset, &attr, size, 0);
	if (rules < 0)
		return err_errno(err, E_FAILED, errno, "Landlock refuses the rule set");
	if (abi >= ABI_TCP && tcp == LANDLOCK_TCP_CLIENT &&
	    syscall(SYS_landlock_add_rule, rules, RULE_PORT, &any_port, 0) < 0)
		return err_errno(err, E_FAILED, errno, "Landlock refuses a rule for ports");
	*ret_rules = TAKE_FD(rules);
	return 0;
}

int
landlock_allow(int rules, const char *path, unsigned rights, struct err *err)
{
	CLEANUP_FD int fd = open(path, O_PATH | O_CLOEXEC);
	struct path_attr attr = { .parent_fd = fd };
	struct stat st;

	if (rules < 0 || fd < 0 || fstat(fd, &st) < 0)
		return 0;
	for (size_t i = 0; i < ARRAY_LEN(rights_fs); i++)
		if (rights & (1U << i))
			attr.access |= rights_fs[i];
	attr.access &= all_fs(landlock_abi());
	if (!S_ISDIR(st.st_mode))
		attr.access &= FS_OF_FILES;
	if (syscall(SYS_landlock_add_rule, rules, RULE_PATH, &attr, 0) < 0)
		return err_errno(err, E_FAILED, errno, "Landlock refuses a rule for '%s'", path);
	return 0;
}

int
landlock_enforce(int rules, struct err *err)
{
	if (rules >= 0 && syscall(SYS_landlock_restrict_self, rules, 0) < 0)
		return err_errno(err, E_FAILED, errno, "Landlock refuses to be used");
	return 0;
}
