/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/net/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <linux/vhost.h>
#include <net/if.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "lib/base/mem.h"
#include "lib/base/process.h"
#include "lib/base/str.h"
#include "lib/net/netlink.h"

enum { HELPER_PATIENCE_S = 10, HELPER_FD = 3 };

static const char *const helper_places[] = { "/usr/lib/qemu/qemu-bridge-helper",
	"/usr/libexec/qemu-bridge-helper", "/usr/local/libexec/qemu-bridge-helper" };

void
tap_name(const char *id, unsigned n, char ret_name[TAP_NAME_MAX])
{
	snprintf(ret_name, TAP_NAME_MAX, "vm%.12s%u", id, n % 10);
}

bool
tap_privileged(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2] = { 0 };

	return syscall(SYS_capget, &head, data) == 0 && data[0].effective & 1U << CAP_NET_ADMIN;
}

const char *
tap_helper_path(void)
{
	for (size_t i = 0; i < ARRAY_LEN(helper_places); i++)
		if (access(helper_places[i], F_OK) == 0)
			return helper_places[i];
	return NULL;
}

static int
find_bridge(const char *bridge, struct net_link *ret_link, struct err *err)
{
	int rc = netlink_link(bridge, ret_link, err);

	if (rc == E_NOT_FOUND) {
		err_set(err, E_UNSUPPORTED, "the bridge '%s' does not exist", bridge);
		err_hint(err, "make it: 'sudo ip link add %s type bridge && sudo ip link set %s up'; "
			      "'ip link show type bridge' lists those that are there",
		    bridge, bridge);
		return E_UNSUPPORTED;
	}
	if (rc == 0 && !str_eq(ret_link->kind, "bridge")) {
		err_set(err, E_UNSUPPORTED, "the network link '%s' is no bridge%s%s", bridge,
		    ret_link->kind[0] != '\0' ? ", but of kind " : "", ret_link->kind);
		err_hint(err, "'ip link show type bridge' lists the bridges");
		return E_UNSUPPORTED;
	}
	if (rc == 0 && !ret_link->up) {
		err_set(err, E_UNSUPPORTED, "the bridge '%s' is down", bridge);
		err_hint(err, "'sudo ip link set %s up'", bridge);
		return E_UNSUPPORTED;
	}
	return rc;
}

int
tap_check(const char *bridge, struct err *err)
{
	struct net_link link;
	int rc = find_bridge(bridge, &link, err);

	if (rc != 0)
		return rc;
	if (!tap_privileged())
		rc = tap_check_helper(tap_helper_path(), "/etc/qemu/bridge.conf", bridge, err);
	/* The helper opens it as the user that we are. */
	if (rc != 0 || access("/dev/net/tun", R_OK | W_OK) == 0)
		return rc;
	err_errno(err, E_UNSUPPORTED, errno, "can not open '/dev/net/tun'");
	err_hint(err, errno == EACCES ? "sudo chmod 666 /dev/net/tun"
				      : "sudo modprobe tun, where the kernel has it as a module");
	return E_UNSUPPORTED;
}

/* ---- our own ---- */

static int
join(const char *name, const struct net_link *bridge_link, const char *bridge, struct err *err)
{
	CLEANUP_FD int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	struct ifreq r = { .ifr_ifindex = (int)if_nametoindex(name) };

	snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", bridge);
	if (fd < 0 || r.ifr_ifindex == 0 || ioctl(fd, SIOCBRADDIF, &r) < 0)
		return err_errno(err, E_FAILED, errno, "can not add the tap '%s' to the bridge '%s' (link %u)",
		    name, bridge, bridge_link->index);
	r = (struct ifreq){ 0 };
	snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", name);
	if (ioctl(fd, SIOCGIFFLAGS, &r) < 0)
		return err_errno(err, E_FAILED, errno, "can not read the flags of the tap '%s'", name);
	r.ifr_flags = (short)(r.ifr_flags | IFF_UP);
	if (ioctl(fd, SIOCSIFFLAGS, &r) < 0)
		return err_errno(err, E_FAILED, errno, "can not set the tap '%s' up", name);
	return 0;
}

int
tap_create(const char *name, const char *bridge, int *ret_fd, struct err *err)
{
	CLEANUP_FD int fd = open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK);
	struct ifreq r = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_TUN_EXCL };
	struct net_link link;
	int rc = find_bridge(bridge, &link, err);

	if (rc != 0)
		return rc;
	snprintf(r.ifr_name, sizeof(r.ifr_name), "%s", name);
	if (fd < 0)
		return err_errno(err, E_FAILED, errno, "can not open '/dev/net/tun'");
	if (ioctl(fd, TUNSETIFF, &r) < 0) {
		if (errno == EBUSY || errno == EEXIST)
			return err_set(err, E_FAILED, "another process holds the tap '%s'", name);
		return err_errno(err, E_FAILED, errno, "can not make the tap '%s'", name);
	}
	rc = join(name, &link, bridge, err);
	if (rc == 0)
		*ret_fd = TAKE_FD(fd);
	return rc;
}

/* ---- the helper's ---- */

static int
receive(int fd)
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
		.msg_controllen = sizeof(control) };
	struct cmsghdr *c;
	int got = -1;
	ssize_t n;

	do
		n = recvmsg(fd, &m, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	c = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;
	if (c != NULL && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
	    c->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(&got, CMSG_DATA(c), sizeof(got));
	return got;
}

int
tap_from_helper(const char *helper, const char *bridge, int *ret_fd, struct err *err)
{
	static const char *const env[] = { "PATH=/usr/sbin:/usr/bin:/sbin:/bin", NULL };
	CLEANUP_FREE char *br = xasprintf("--br=%s", bridge);
	CLEANUP_FREE char *number = xasprintf("--fd=%d", HELPER_FD);
	const char *const argv[] = { helper, "--use-vnet", number, br, NULL };
	struct timeval patience = { .tv_sec = HELPER_PATIENCE_S };
	struct process_exit how;
	struct process_spec spec = { .argv = argv, .envp = env, .cwd = "/", .stdin_fd = -1,
		.stdout_fd = -1, .stderr_fd = STDERR_FILENO, .fd_count = 1 };
	struct process_fd pass;
	CLEANUP_FD int pidfd = -1;
	int pair[2], rc, fd;
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
		return err_errno(err, E_FAILED, errno, "can not make a socket for '%s'", helper);
	pass = (struct process_fd){ pair[1], HELPER_FD };
	spec.fds = &pass;
	rc = process_spawn(&spec, &pid, &pidfd, err);
	close(pair[1]);
	if (rc != 0) {
		close(pair[0]);
		return rc;
	}
	setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	fd = receive(pair[0]);
	close(pair[0]);
	if (fd < 0)
		process_signal(pid, pidfd, SIGKILL);
	process_reap(pid, pidfd, true, &how);
	if (fd < 0)
		return err_set(err, E_FAILED,
		    "'%s' made no tap on the bridge '%s'; what it said is above", helper, bridge);
	*ret_fd = fd;
	return 0;
}

int
tap_verify(int fd, const char *bridge, char ret_name[TAP_NAME_MAX], struct err *err)
{
	struct net_link tap, on;
	struct ifreq r = { 0 };
	int rc;

	if (ioctl(fd, TUNGETIFF, &r) < 0)
		return err_errno(err, E_FAILED, errno, "what was made for the bridge '%s' is no tap", bridge);
	rc = netlink_link(r.ifr_name, &tap, err);
	if (rc == 0)
		rc = netlink_link(bridge, &on, err);
	if (rc != 0)
		return rc;
	if (tap.master != on.index)
		return err_set(err, E_FAILED, "the tap '%s' is no member of the bridge '%s'", r.ifr_name,
		    bridge);
	if (!tap.up)
		return err_set(err, E_FAILED, "the tap '%s' is down", r.ifr_name);
	snprintf(ret_name, TAP_NAME_MAX, "%s", r.ifr_name);
	return 0;
}

/* QEMU would warn into its log and go on without. */
int
tap_vhost_open(const char *path, int *ret_fd, struct err *err)
{
	CLEANUP_FD int fd = open(path, O_RDWR | O_CLOEXEC);
	uint64_t features;

	*ret_fd = -1;
	if (fd < 0)
		return 0;
	if (ioctl(fd, VHOST_GET_FEATURES, &features) < 0) {
		err_errno(err, E_UNSUPPORTED, errno, "'%s' can be opened, but does not work", path);
		err_hint(err, "'sudo modprobe vhost_net' brings it back; without a right to '%s' the "
			      "network is slower, but works", path);
		return E_UNSUPPORTED;
	}
	*ret_fd = TAKE_FD(fd);
	return 0;
}
