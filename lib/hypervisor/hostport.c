/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/hypervisor/hostport.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/mem.h"

static socklen_t
make_address(const struct port *port, struct sockaddr_storage *ret_address)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)ret_address;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret_address;

	memset(ret_address, 0, sizeof(*ret_address));
	if (port->ipv6) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(port->host_port);
		inet_pton(AF_INET6, port->host, &v6->sin6_addr);
		return sizeof(*v6);
	}
	v4->sin_family = AF_INET;
	v4->sin_port = htons(port->host_port);
	inet_pton(AF_INET, port->host, &v4->sin_addr);
	return sizeof(*v4);
}

/* 0 or an errno.  Two sockets of datagrams may share a port when both say so, as QEMU's do, and
 * then one of them hears nothing: what is bound for trial does not say so. */
static int
try_port(const struct port *port)
{
	struct sockaddr_storage address;
	socklen_t len = make_address(port, &address);
	bool tcp = port->protocol == PORT_TCP;
	CLEANUP_FD int fd =
	    socket(port->ipv6 ? AF_INET6 : AF_INET, tcp ? SOCK_STREAM : SOCK_DGRAM, 0);
	const int on = 1;

	if (fd < 0)
		return errno;
	if (tcp) /* connections that ended a moment ago are in nobody's way */
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	return bind(fd, (struct sockaddr *)&address, len) < 0 ? errno : 0;
}

static int
refuse_rights(const struct port *port, const char *shown, struct err *err)
{
	err_set(err, E_PERMISSION,
	    "the port %s needs rights that the machine's process does not have: those below %u are "
	    "root's",
	    shown, hostport_first_free());
	err_hint(err, "choose a port of the host from %u on", hostport_first_free());
	return E_PERMISSION;
}

int
hostport_check(const struct port *port, int uid, struct err *err)
{
	CLEANUP_FREE char *holder = NULL;
	char shown[PORT_TEXT_MAX];
	int problem;

	if (port->host_port == 0)
		return 0;
	port_host_text(port, shown);
	if (uid > 0 && port->host_port < hostport_first_free())
		return refuse_rights(port, shown, err);
	problem = try_port(port);
	switch (problem) {
	case 0:
		return 0;
	case EACCES:
	case EPERM:
		return refuse_rights(port, shown, err);
	case EADDRINUSE:
		holder = hostport_holder(port);
		err_set(err, E_CONFLICT, "the port %s is taken%s%s", shown,
		    holder != NULL ? " by " : "", holder != NULL ? holder : "");
		err_hint(err, "end what holds it, or choose another port of the host");
		return E_CONFLICT;
	case EADDRNOTAVAIL:
	case EAFNOSUPPORT:
		err_set(err, E_PARAMS, "the port %s can not be had: the host has no address %s",
		    shown, port->host);
		err_hint(err, "use an address of this host, or none for 127.0.0.1");
		return E_PARAMS;
	default:
		return err_errno(err, E_FAILED, problem, "the port %s can not be had", shown);
	}
}
