/* SPDX-License-Identifier: MPL-2.0 */
#include <ucred.h>

#include "daemon/wire.h"

bool
peer_read(int fd, struct peer *ret_peer)
{
	ucred_t *cred = NULL;

	/* The credentials of the moment of connect, so that a later exec does not change them. */
	if (getpeerucred(fd, &cred) != 0)
		return false;
	*ret_peer = (struct peer){
		.uid = ucred_geteuid(cred), .gid = ucred_getegid(cred), .pid = ucred_getpid(cred)
	};
	ucred_free(cred);
	/* What the kernel does not tell is (uid_t)-1, which is nobody. */
	return ret_peer->uid != (uid_t)-1;
}
