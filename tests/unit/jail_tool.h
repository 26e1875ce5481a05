/* SPDX-License-Identifier: MPL-2.0
 *
 * The jailed side of test_jail.c: tries things and says what went. */
#ifndef TESTS_UNIT_JAIL_TOOL_H
#define TESTS_UNIT_JAIL_TOOL_H

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/jail.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"

enum { EXEC_FD = 63 };
enum { ABI_TRUNCATE = 3, ABI_TCP = 4, ABI_SCOPE = 6 };

struct place { /* what is tried, as the first words of the tool */
	char *dir;
	int tcp_port, udp_port;
	int outside; /* a process */
};

static bool
can_open(const struct place *at, const char *name, int flags)
{
	CLEANUP_FREE char *path = fs_join(at->dir, name);
	CLEANUP_FD int fd = open(path, flags, 0600);

	return fd >= 0;
}

static bool
try_read_named(const struct place *at)
{
	return can_open(at, "named", O_RDONLY);
}

static bool
try_write_named(const struct place *at)
{
	return can_open(at, "target", O_RDWR | O_TRUNC);
}

static bool
try_make_in_folder(const struct place *at)
{
	CLEANUP_FREE char *path = fs_join(at->dir, "folder/new");

	return can_open(at, "folder/new", O_WRONLY | O_CREAT | O_EXCL) && unlink(path) == 0;
}

static bool
try_read_secret(const struct place *at)
{
	return can_open(at, "secret", O_RDONLY);
}

static bool
try_write_read_only(const struct place *at)
{
	return can_open(at, "named", O_WRONLY);
}

static bool
try_write_elsewhere(const struct place *at)
{
	CLEANUP_FREE char *path = fs_join(at->dir, "elsewhere");

	return can_open(at, "elsewhere", O_WRONLY | O_CREAT | O_EXCL) && unlink(path) == 0;
}

static bool
try_truncate(const struct place *at)
{
	CLEANUP_FREE char *path = fs_join(at->dir, "named");

	return truncate(path, 6) == 0;
}

static bool
reaches(int type, int port)
{
	struct sockaddr_in to = { .sin_family = AF_INET,
		.sin_port = htons((uint16_t)port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	CLEANUP_FD int fd = socket(AF_INET, type, 0);

	return fd >= 0 && connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0;
}

static bool
try_tcp(const struct place *at)
{
	return reaches(SOCK_STREAM, at->tcp_port);
}

static bool
try_udp(const struct place *at)
{
	return reaches(SOCK_DGRAM, at->udp_port);
}

static socklen_t
unix_address(const struct place *at, bool abstract, struct sockaddr_un *ret_address)
{
	*ret_address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + (size_t)abstract +
			   (size_t)snprintf(
			       ret_address->sun_path + abstract, 100, "%s/socket", at->dir));
}

static bool
reaches_unix(const struct place *at, bool abstract)
{
	struct sockaddr_un address;
	socklen_t len = unix_address(at, abstract, &address);
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	return fd >= 0 && connect(fd, (struct sockaddr *)&address, len) == 0;
}

static bool
try_unix(const struct place *at)
{
	return reaches_unix(at, false);
}

static bool
try_unix_abstract(const struct place *at)
{
	return reaches_unix(at, true);
}

static bool
try_unix_by_pair(const struct place *at)
{
	int pair[2], rc = socketpair(AF_UNIX, SOCK_DGRAM, 0, pair);

	if (rc == 0) {
		close(pair[0]);
		close(pair[1]);
	}
	return rc == 0;
}

static bool
try_pair(const struct place *at)
{
	int pair[2], rc = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair);

	if (rc == 0) {
		close(pair[0]);
		close(pair[1]);
	}
	return rc == 0;
}

static bool
ends_well(pid_t pid)
{
	int status = -1;

	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

static bool
try_fork(const struct place *at)
{
	pid_t pid = fork();

	if (pid == 0)
		_exit(0);
	return ends_well(pid);
}

static bool
try_vfork(const struct place *at)
{
	pid_t pid = vfork();

	if (pid == 0)
		_exit(0);
	return ends_well(pid);
}

static int
in_thread(void *arg)
{
	return *(int *)arg;
}

static bool
try_thread(const struct place *at)
{
	thrd_t thread;
	int value = 7, result = 0;

	return thrd_create(&thread, in_thread, &value) == thrd_success &&
	       thrd_join(thread, &result) == thrd_success && result == value;
}

static bool
try_signal(const struct place *at)
{
	return kill(at->outside, 0) == 0;
}

static bool
try_signal_self(const struct place *at)
{
	signal(SIGUSR1, SIG_IGN);
	return raise(SIGUSR1) == 0 && kill(getpid(), SIGUSR1) == 0;
}

static bool
try_chmod(const struct place *at)
{
	CLEANUP_FREE char *path = fs_join(at->dir, "secret");

	return chmod(path, 0644) == 0;
}

/* With senseless arguments: whoever is let through hears another reason. */
static bool
passes(long call)
{
	return syscall(call, -1L, -1L, -1L, -1L, -1L, -1L) >= 0 || errno != EPERM;
}

static bool
try_ptrace(const struct place *at)
{
	return passes(SYS_ptrace);
}

static bool
try_keyctl(const struct place *at)
{
	return passes(SYS_keyctl);
}

static bool
try_unshare(const struct place *at)
{
	return passes(SYS_unshare);
}

static bool
try_read_memory(const struct place *at)
{
	return passes(SYS_process_vm_readv);
}

static bool
try_shared_memory(const struct place *at)
{
	return passes(SYS_shmat);
}

static bool
try_io_uring(const struct place *at)
{
	return passes(SYS_io_uring_register);
}

static bool
try_unknown_call(const struct place *at)
{
	return syscall(SYS_io_uring_setup + 500) >= 0 || errno == ENOSYS;
}

static bool
try_raise_limit(const struct place *at)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_FSIZE, &limit) < 0)
		return false;
	return setrlimit(RLIMIT_FSIZE, &limit) == 0;
}

static bool
try_core(const struct place *at)
{
	struct rlimit limit;

	return getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_max > 0;
}

/* Root's rights, but for the one to open files. */
static bool
try_rights(const struct place *at)
{
	CLEANUP_FREE char *text = NULL;

	return fs_read("/proc/self/status", 65536, &text, NULL, NULL) == 0 &&
	       strstr(text, "CapEff:\t0000000000000002\n") == NULL &&
	       strstr(text, "CapEff:\t0000000000000000\n") == NULL;
}

static bool
try_new_privileges(const struct place *at)
{
	return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1;
}

enum { NEVER = 1U << 8 }; /* refused with any layer, and with none */

static const struct attempt {
	const char *name;
	bool (*run)(const struct place *at);
	unsigned refused_by; /* layers */
	int abi;             /* Landlock refuses it from this version on */
	bool network;        /* left to who confines itself and needs servers */
} attempts[] = {
	/* what tools need */
	{ "read-named", try_read_named, 0 },
	{ "write-named", try_write_named, 0 },
	{ "make-in-folder", try_make_in_folder, 0 },
	{ "thread", try_thread, 0 },
	{ "signal-self", try_signal_self, 0 },
	{ "pair", try_pair, 0 },
	{ "unknown-call", try_unknown_call, 0 },
	/* files */
	{ "read-secret", try_read_secret, JAIL_LANDLOCK },
	{ "write-read-only", try_write_read_only, JAIL_LANDLOCK },
	{ "write-elsewhere", try_write_elsewhere, JAIL_LANDLOCK },
	{ "truncate", try_truncate, JAIL_LANDLOCK, ABI_TRUNCATE },
	{ "chmod", try_chmod, JAIL_SECCOMP },
	/* the network */
	{ "tcp", try_tcp, JAIL_LANDLOCK | JAIL_NETNS | JAIL_SECCOMP, ABI_TCP, true },
	{ "udp", try_udp, JAIL_NETNS | JAIL_SECCOMP, 0, true },
	{ "unix", try_unix, JAIL_SECCOMP, 0, true },
	{ "unix-by-pair", try_unix_by_pair, JAIL_SECCOMP },
	{ "unix-abstract", try_unix_abstract, JAIL_LANDLOCK | JAIL_NETNS | JAIL_SECCOMP,
	    ABI_SCOPE },
	/* processes */
	{ "fork", try_fork, JAIL_SECCOMP },
	{ "vfork", try_vfork, JAIL_SECCOMP },
	{ "signal", try_signal, JAIL_LANDLOCK | JAIL_SECCOMP, ABI_SCOPE },
	{ "ptrace", try_ptrace, JAIL_SECCOMP },
	{ "read-memory", try_read_memory, JAIL_SECCOMP },
	{ "shared-memory", try_shared_memory, JAIL_SECCOMP },
	/* the kernel */
	{ "keyctl", try_keyctl, JAIL_SECCOMP },
	{ "unshare", try_unshare, JAIL_SECCOMP },
	{ "io-uring", try_io_uring, JAIL_SECCOMP },
	{ "new-privileges", try_new_privileges, NEVER },
	/* limits */
	{ "raise-limit", try_raise_limit, JAIL_SECCOMP },
	{ "core", try_core, JAIL_LIMITS },
	{ "rights", try_rights, JAIL_LIMITS },
};

static int
become(void)
{
	execl("/bin/echo", "echo", "exec=yes", (char *)NULL);
	printf("exec=no\n");
	return 0;
}

/* The descriptor by which the jail let this program begin must not be there again. */
static int
become_by_descriptor(void)
{
	static char *const argv[] = { (char *)(uintptr_t) "echo", (char *)(uintptr_t) "exec=yes",
		NULL };
	struct rlimit limit = { 1024, 1024 };
	int fd = open("/bin/echo", O_PATH);

	setrlimit(RLIMIT_NOFILE, &limit);
	printf("there=%s\n", fcntl(EXEC_FD, F_GETFD) >= 0 ? "yes" : "no");
	printf("again=%s\n", dup2(fd, EXEC_FD) >= 0 ? "yes" : "no");
	fflush(stdout);
	syscall(SYS_execveat, EXEC_FD, "", argv, environ, AT_EMPTY_PATH);
	syscall(SYS_execveat, fd, "", argv, environ, AT_EMPTY_PATH);
	printf("exec=no\n");
	return 0;
}

static int
spin(void)
{
	volatile unsigned turns = 0;
	time_t end = time(NULL) + 20;

	while (time(NULL) < end)
		turns = turns + 1;
	printf("spun=yes\n");
	return 0;
}

static int
grow(void)
{
	void *p = mmap(NULL, (size_t)1 << 30, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	printf("grown=%s\n", p != MAP_FAILED ? "yes" : "no");
	return 0;
}

static int
extend(const char *path)
{
	CLEANUP_FD int fd = open(path, O_WRONLY);

	signal(SIGXFSZ, SIG_IGN);
	printf("extended=%s\n", ftruncate(fd, 1 << 20) == 0 ? "yes" : "no");
	return 0;
}

/* Until it is killed. */
static int
hold(const char *path)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fcntl(fd, F_SETLK, &lock) < 0)
		return 1;
	for (;;)
		pause();
}

static int
jailed(int argc, char **argv)
{
	struct place at = { .dir = argv[2] };

	if (str_eq(argv[1], "--exec"))
		return become();
	if (str_eq(argv[1], "--exec-again"))
		return become_by_descriptor();
	if (str_eq(argv[1], "--spin"))
		return spin();
	if (str_eq(argv[1], "--grow"))
		return grow();
	if (str_eq(argv[1], "--hold"))
		return hold(argv[2]);
	if (str_eq(argv[1], "--extend"))
		return extend(argv[2]);
	at.tcp_port = (int)strtol(argv[3], NULL, 10);
	at.udp_port = (int)strtol(argv[4], NULL, 10);
	at.outside = (int)strtol(argv[5], NULL, 10);
	for (size_t i = 0; i < ARRAY_LEN(attempts); i++)
		printf("%s=%s\n", attempts[i].name, attempts[i].run(&at) ? "yes" : "no");
	return 0;
}

#endif
