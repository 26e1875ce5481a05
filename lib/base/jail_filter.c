/* SPDX-License-Identifier: MPL-2.0
 *
 * The filter of system calls, as a program for the kernel's packet filter.  A list of what is
 * refused rather than of what is allowed: the tools are not ours and change with each release.
 * Calls that are newer than the list look like on an older kernel, so nothing new slips through. */
#include "lib/base/jail_parts.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/base/mem.h"

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#endif

enum {
	CODE_MAX = 512,
	NEWEST = 466,              /* the last call that this list was made with */
	FIRST_OF_X32 = 0x40000000, /* the same calls once more, with other numbers */
	TYPE_OF_SOCKET = 0xf,      /* the rest of the argument is flags */
	NAMESPACES = CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |
		     CLONE_NEWPID | CLONE_NEWNET,
};

/* clang-format off */
static const int refused[] = {
	/* programs */
	SYS_execve,
	/* namespaces and mounts */
	SYS_unshare, SYS_setns, SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot, SYS_open_tree,
	SYS_move_mount, SYS_fsopen, SYS_fsconfig, SYS_fsmount, SYS_fspick, SYS_swapon, SYS_swapoff,
	442, /* mount_setattr */
	/* other processes */
	SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_kcmp, SYS_tkill,
	SYS_pidfd_send_signal, SYS_pidfd_open, 438, 440, /* pidfd_getfd, process_madvise */
	448, /* process_mrelease */
	SYS_shmget, SYS_shmat, SYS_shmctl, SYS_msgget, SYS_msgsnd, SYS_msgrcv, SYS_msgctl,
	SYS_semget, SYS_semctl, SYS_semop, SYS_semtimedop, SYS_mq_open, SYS_mq_unlink,
	/* the wide and deep parts of the kernel */
	SYS_add_key, SYS_request_key, SYS_keyctl, SYS_bpf, SYS_userfaultfd, SYS_perf_event_open,
	SYS_io_uring_setup, SYS_io_uring_enter, SYS_io_uring_register, SYS_fanotify_init,
	SYS_fanotify_mark, SYS_open_by_handle_at, SYS_name_to_handle_at, SYS_personality,
	SYS_quotactl, 443, /* quotactl_fd */
	SYS_init_module, SYS_finit_module, SYS_delete_module, SYS_kexec_load, SYS_acct, SYS_reboot,
	SYS_kexec_file_load, SYS_syslog, SYS_vhangup, SYS_sethostname, SYS_setdomainname,
	SYS_settimeofday, SYS_clock_settime, SYS_clock_adjtime, SYS_adjtimex,
	/* what Landlock does not see of paths */
	SYS_fchmodat, SYS_fchownat, 452, /* fchmodat2 */
	SYS_setxattr, SYS_lsetxattr, SYS_removexattr, SYS_lremovexattr, 463, 466, /* …xattrat */
	SYS_mknodat, SYS_setrlimit,
#ifdef __x86_64__
	SYS_fork, SYS_vfork, SYS_chmod, SYS_chown, SYS_lchown, SYS_mknod, SYS_iopl, SYS_ioperm,
	SYS_modify_ldt, SYS_uselib, SYS_ustat, SYS_sysfs,
#endif
};
/* clang-format on */

struct code {
	struct sock_filter lines[CODE_MAX];
	unsigned short len;
};

static void
add(struct code *c, unsigned op, uint32_t k, unsigned yes, unsigned no)
{
	if (c->len < CODE_MAX)
		c->lines[c->len++] =
		    (struct sock_filter){ (uint16_t)op, (uint8_t)yes, (uint8_t)no, k };
}

static void
load(struct code *c, size_t at)
{
	add(c, BPF_LD | BPF_W | BPF_ABS, (uint32_t)at, 0, 0);
}

/* The low half: what the kernel looks at where an argument is an int.  Both machines have it
 * first. */
static void
load_argument(struct code *c, unsigned i)
{
	load(c, offsetof(struct seccomp_data, args) + i * sizeof(uint64_t));
}

static void
answer(struct code *c, uint32_t what)
{
	add(c, BPF_RET | BPF_K, what, 0, 0);
}

static void
refuse(struct code *c, int e)
{
	answer(c, SECCOMP_RET_ERRNO | (uint32_t)e);
}

/* Goes on with the next `skip` lines only for this call; they have to give an answer. */
static void
only_for(struct code *c, int call, unsigned lines)
{
	add(c, BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, lines);
}

/* Allowed when the argument (its bits in mask) is one of the values. */
static void
allow_values(struct code *c, int call, unsigned argument, uint32_t mask, const uint32_t *values,
    unsigned count)
{
	only_for(c, call, count + 4);
	load_argument(c, argument);
	add(c, BPF_ALU | BPF_AND | BPF_K, mask, 0, 0);
	for (unsigned i = 0; i < count; i++)
		add(c, BPF_JMP | BPF_JEQ | BPF_K, values[i], count - i, 0);
	refuse(c, EPERM);
	answer(c, SECCOMP_RET_ALLOW);
}

static void
allow_sockets(struct code *c, enum jail_sockets sockets)
{
	static const uint32_t families[] = { AF_UNIX, AF_INET, AF_INET6, AF_NETLINK };
	static const unsigned counts[] = { [JAIL_SOCKETS_NONE] = 0, [JAIL_SOCKETS_UNIX] = 1,
		[JAIL_SOCKETS_ALL] = ARRAY_LEN(families) };
	static const uint32_t stream = SOCK_STREAM;

	allow_values(c, SYS_socket, 0, ~0U, families, counts[sockets]);
	/* A pair of any other type can send to names. */
	allow_values(c, SYS_socketpair, 1, TYPE_OF_SOCKET, &stream, 1);
}

static void
allow_threads(struct code *c)
{
	only_for(c, SYS_clone, 5);
	load_argument(c, 0);
	add(c, BPF_JMP | BPF_JSET | BPF_K, NAMESPACES, 1, 0);
	add(c, BPF_JMP | BPF_JSET | BPF_K, CLONE_THREAD, 1, 0);
	refuse(c, EPERM);
	answer(c, SECCOMP_RET_ALLOW);
	/* Its arguments are in memory and can not be seen; libraries know to do without it. */
	only_for(c, SYS_clone3, 1);
	refuse(c, ENOSYS);
}

/* Limits may be read and not changed: of this depends that JAIL_EXEC_FD can not be made again. */
static void
allow_reading_limits(struct code *c)
{
	const size_t at = offsetof(struct seccomp_data, args) + 2 * sizeof(uint64_t);

	only_for(c, SYS_prlimit64, 6);
	load(c, at);
	add(c, BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 2);
	load(c, at + sizeof(uint32_t));
	add(c, BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0);
	refuse(c, EPERM);
	answer(c, SECCOMP_RET_ALLOW);
}

static void
allow_signals_to_self(struct code *c)
{
	static const int calls[] = { SYS_kill, SYS_tgkill, SYS_rt_sigqueueinfo,
		SYS_rt_tgsigqueueinfo };
	const uint32_t self = (uint32_t)getpid(); /* stays the same when a program begins */

	for (size_t i = 0; i < ARRAY_LEN(calls); i++)
		allow_values(c, calls[i], 0, ~0U, &self, 1);
}

static void
refuse_typing(struct code *c)
{
	only_for(c, SYS_ioctl, 5);
	load_argument(c, 1);
	add(c, BPF_JMP | BPF_JEQ | BPF_K, TIOCSTI, 1, 0);
	add(c, BPF_JMP | BPF_JEQ | BPF_K, TIOCLINUX, 0, 1);
	refuse(c, EPERM);
	answer(c, SECCOMP_RET_ALLOW);
}

#ifdef ARCH

static void
write_code(struct code *c, enum jail_sockets sockets, bool program)
{
	static const uint32_t exec_fd = JAIL_EXEC_FD;

	load(c, offsetof(struct seccomp_data, arch));
	add(c, BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0);
	answer(c, SECCOMP_RET_KILL_PROCESS);
	load(c, offsetof(struct seccomp_data, nr));
	add(c, BPF_JMP | BPF_JGE | BPF_K, FIRST_OF_X32, 0, 1);
	answer(c, SECCOMP_RET_KILL_PROCESS);
	add(c, BPF_JMP | BPF_JGT | BPF_K, NEWEST, 0, 1);
	refuse(c, ENOSYS);
	for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
		only_for(c, refused[i], 1);
		refuse(c, EPERM);
	}
	allow_values(c, SYS_execveat, 0, ~0U, &exec_fd, program ? 1 : 0);
	allow_sockets(c, sockets);
	allow_threads(c);
	allow_reading_limits(c);
	allow_signals_to_self(c);
	refuse_typing(c);
	answer(c, SECCOMP_RET_ALLOW);
}

bool
jail_filter_works(void)
{
	/* There is none at that address, which only a kernel with filters gets to see. */
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL) < 0 && errno == EFAULT;
}

int
jail_filter_install(enum jail_sockets sockets, bool program, struct err *err)
{
	struct code code = { .len = 0 };
	struct sock_fprog fprog = { .filter = code.lines };

	write_code(&code, sockets, program);
	fprog.len = code.len;
	if (code.len == CODE_MAX || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &fprog) < 0)
		return err_errno(err, E_FAILED, errno, "the filter of system calls is refused");
	return 0;
}

#else /* a machine whose calls are not known here */

bool
jail_filter_works(void)
{
	return false;
}

int
jail_filter_install(enum jail_sockets sockets, bool program, struct err *err)
{
	return err_set(err, E_FAILED, "there is no filter of system calls for this machine");
}

#endif
