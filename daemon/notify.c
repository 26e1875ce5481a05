/* SPDX-License-Identifier: MPL-2.0
 *
 * systemd's side channels: a socket that is passed in (sd_listen_fds(3)), and words about
 * ourselves (sd_notify(3)).  Two environment variables and a datagram need no library. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "daemon/server.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"

enum { FIRST_FD = 3, MAX_FDS = 64 };

/* Under a name that no child of ours knows: what it would say is not ours. */
#define OWN_NOTIFY_SOCKET "VMMD_NOTIFY_SOCKET"

static void
keep_from_children(void)
{
	const char *path = getenv("NOTIFY_SOCKET");

	if (path != NULL)
		setenv(OWN_NOTIFY_SOCKET, path, 1);
	unsetenv("NOTIFY_SOCKET");
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
}

int
notify_listen_fd(void)
{
	const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
	uint64_t wanted, fds;
	bool ours = pid != NULL && count != NULL && str_to_u64(pid, &wanted) &&
		    wanted == (uint64_t)getpid() && str_to_u64(count, &fds) && fds > 0 &&
		    fds <= MAX_FDS;

	keep_from_children();
	if (!ours)
		return -1;
	if (fds > 1)
		log_warn("systemd passed %llu sockets; the first alone is used",
		    (unsigned long long)fds);
	for (int fd = FIRST_FD; fd < FIRST_FD + (int)fds; fd++)
		fcntl(fd, F_SETFD, FD_CLOEXEC);
	for (int fd = FIRST_FD + 1; fd < FIRST_FD + (int)fds; fd++)
		close(fd);
	return FIRST_FD;
}

bool
notify_send(const char *state)
{
	const char *given = getenv("NOTIFY_SOCKET");
	const char *path = given != NULL ? given : getenv(OWN_NOTIFY_SOCKET);
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	size_t len = path != NULL ? strlen(path) : 0;
	CLEANUP_FD int fd = -1;

	if (len < 2 || len >= sizeof(addr.sun_path) || (path[0] != '/' && path[0] != '@'))
		return false;
	memcpy(addr.sun_path, path, len);
	if (path[0] == '@')
		addr.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	return fd >= 0 && sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&addr,
			      (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len)) >= 0;
}
