/* SPDX-License-Identifier: MPL-2.0 */
#define _GNU_SOURCE /* struct ucred */
#include <sys/socket.h>

#include "daemon/wire.h"

bool
peer_read(int fd, struct peer *ret_peer)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	/* The credentials of the moment of connect, so that a later exec does not change them. */
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) != 0 || len != sizeof(cred))
		return false;
	*ret_peer = (struct peer){ .uid = cred.uid, .gid = cred.gid, .pid = cred.pid };
	return true;
}
