/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/net/netlink.h"

#include <errno.h>
#include <linux/neighbour.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "lib/base/mem.h"

enum { REPLY_MAX = 65536, REQUEST_MAX = 256, PATIENCE_S = 2 };

typedef void message_fn(void *arg, const struct nlmsghdr *message);

struct request {
	struct nlmsghdr header;
	char body[REQUEST_MAX];
};

static void
append(struct request *r, const void *data, size_t len)
{
	size_t at = NLMSG_ALIGN(r->header.nlmsg_len);

	if (at + len > sizeof(*r))
		return;
	memcpy((char *)r + at, data, len);
	r->header.nlmsg_len = (uint32_t)(at + len);
}

static void
append_attribute(struct request *r, unsigned short type, const void *data, size_t len)
{
	struct rtattr head = { .rta_len = (unsigned short)RTA_LENGTH(len), .rta_type = type };

	append(r, &head, sizeof(head));
	append(r, data, len);
}

static struct request
request(uint16_t type, uint16_t flags, const void *body, size_t len)
{
	struct request r = { .header = { .nlmsg_len = NLMSG_LENGTH(0), .nlmsg_type = type,
				 .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags), .nlmsg_seq = 1 } };

	append(&r, body, len);
	return r;
}

/* 1: more will come, 0: that was all, else -errno. */
static int
take_replies(const char *buffer, size_t len, bool dump, message_fn *fn, void *arg)
{
	const struct nlmsghdr *m = (const struct nlmsghdr *)(const void *)buffer;

	for (; NLMSG_OK(m, len); m = NLMSG_NEXT(m, len)) {
		if (m->nlmsg_type == NLMSG_DONE)
			return 0;
		if (m->nlmsg_type == NLMSG_ERROR) {
			const struct nlmsgerr *e = NLMSG_DATA(m);

			return m->nlmsg_len >= NLMSG_LENGTH(sizeof(*e)) ? e->error : -EPROTO;
		}
		fn(arg, m);
		if (!dump)
			return 0;
	}
	return 1;
}

/* 0 or -errno. */
static int
converse(const struct request *r, message_fn *fn, void *arg)
{
	CLEANUP_FD int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	CLEANUP_FREE char *buffer = xmalloc(REPLY_MAX);
	struct timeval patience = { .tv_sec = PATIENCE_S };
	bool dump = r->header.nlmsg_flags & NLM_F_DUMP;
	int more = 1;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0 ||
	    send(fd, r, r->header.nlmsg_len, 0) < 0)
		return -errno;
	while (more == 1) {
		ssize_t n = recv(fd, buffer, REPLY_MAX, 0);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -errno : -EPROTO;
		more = take_replies(buffer, (size_t)n, dump, fn, arg);
	}
	return more;
}

/* The attribute, when it has at least len bytes. */
static const struct rtattr *
attribute(const struct rtattr *a, size_t left, unsigned type, size_t len)
{
	int rest = (int)left;

	for (; RTA_OK(a, rest); a = RTA_NEXT(a, rest))
		if ((a->rta_type & NLA_TYPE_MASK) == type && RTA_PAYLOAD(a) >= len)
			return a;
	return NULL;
}

static const struct rtattr *
message_attribute(const struct nlmsghdr *m, size_t head, unsigned type, size_t len)
{
	size_t skip = NLMSG_SPACE(head);
	const char *start = (const char *)m + skip;

	if (m->nlmsg_len < skip)
		return NULL;
	return attribute((const struct rtattr *)(const void *)start, m->nlmsg_len - skip, type, len);
}

static unsigned
attribute_number(const struct rtattr *a)
{
	uint32_t value = 0;

	if (a != NULL)
		memcpy(&value, RTA_DATA(a), sizeof(value));
	return value;
}

/* ---- links ---- */

static void
take_kind(const struct rtattr *info, struct net_link *link)
{
	const struct rtattr *kind = attribute(RTA_DATA(info), RTA_PAYLOAD(info), IFLA_INFO_KIND, 1);

	if (kind != NULL)
		snprintf(link->kind, sizeof(link->kind), "%.*s", (int)RTA_PAYLOAD(kind),
		    (const char *)RTA_DATA(kind));
}

static void
on_link(void *arg, const struct nlmsghdr *m)
{
	struct net_link *link = arg;
	const struct ifinfomsg *info = NLMSG_DATA(m);
	const struct rtattr *details;

	if (m->nlmsg_type != RTM_NEWLINK || m->nlmsg_len < NLMSG_LENGTH(sizeof(*info)))
		return;
	link->index = (unsigned)info->ifi_index;
	link->up = info->ifi_flags & IFF_UP;
	link->master = attribute_number(message_attribute(m, sizeof(*info), IFLA_MASTER, 4));
	details = message_attribute(m, sizeof(*info), IFLA_LINKINFO, 1);
	if (details != NULL)
		take_kind(details, link);
}

int
netlink_link(const char *name, struct net_link *ret_link, struct err *err)
{
	const struct ifinfomsg body = { .ifi_family = AF_UNSPEC };
	struct request r = request(RTM_GETLINK, 0, &body, sizeof(body));
	struct net_link link = { 0 };
	int rc;

	if (name[0] == '\0' || strlen(name) >= IFNAMSIZ)
		return err_set(err, E_NOT_FOUND, "there is no network link '%s'", name);
	append_attribute(&r, IFLA_IFNAME, name, strlen(name) + 1);
	rc = converse(&r, on_link, &link);
	if (rc == -ENODEV || (rc == 0 && link.index == 0))
		return err_set(err, E_NOT_FOUND, "there is no network link '%s'", name);
	if (rc != 0)
		return err_errno(err, E_FAILED, -rc, "can not ask the kernel for the link '%s'", name);
	*ret_link = link;
	return 0;
}

/* ---- neighbours ---- */

struct neighbours {
	unsigned link; /* 0: of all */
	net_neighbour_fn *fn;
	void *arg;
};

static void
on_neighbour(void *arg, const struct nlmsghdr *m)
{
	const struct neighbours *all = arg;
	const struct ndmsg *info = NLMSG_DATA(m);
	struct net_neighbour n = { 0 };
	const struct rtattr *address, *mac;

	if (m->nlmsg_type != RTM_NEWNEIGH || m->nlmsg_len < NLMSG_LENGTH(sizeof(*info)))
		return;
	if (info->ndm_family != AF_INET && info->ndm_family != AF_INET6)
		return;
	n.link = (unsigned)info->ndm_ifindex;
	n.address.family = info->ndm_family;
	address = message_attribute(m, sizeof(*info), NDA_DST, info->ndm_family == AF_INET ? 4 : 16);
	mac = message_attribute(m, sizeof(*info), NDA_LLADDR, NET_MAC_LEN);
	if (address == NULL || mac == NULL || (all->link != 0 && n.link != all->link))
		return;
	memcpy(n.address.bytes, RTA_DATA(address), info->ndm_family == AF_INET ? 4 : 16);
	memcpy(n.mac, RTA_DATA(mac), NET_MAC_LEN);
	n.answered = info->ndm_state &
	    (NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PROBE | NUD_PERMANENT);
	n.stale = info->ndm_state & NUD_STALE;
	all->fn(all->arg, &n);
}

int
netlink_neighbours(unsigned link, net_neighbour_fn *fn, void *arg, struct err *err)
{
	const struct ndmsg body = { .ndm_family = AF_UNSPEC };
	const struct request r = request(RTM_GETNEIGH, NLM_F_DUMP, &body, sizeof(body));
	struct neighbours all = { link, fn, arg };
	int rc = converse(&r, on_neighbour, &all);

	if (rc != 0)
		return err_errno(err, E_FAILED, -rc, "can not read the neighbour table");
	return 0;
}

int
netlink_neighbour_watch(struct err *err)
{
	CLEANUP_FD int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE);
	const struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = RTMGRP_NEIGH };

	if (fd < 0 || bind(fd, (const struct sockaddr *)&address, sizeof(address)) < 0) {
		err_errno(err, E_FAILED, errno, "can not watch the neighbour table");
		return -1;
	}
	return TAKE_FD(fd);
}

bool
netlink_neighbour_read(int fd, net_neighbour_fn *fn, void *arg)
{
	CLEANUP_FREE char *buffer = xmalloc(REPLY_MAX);
	struct neighbours all = { 0, fn, arg };
	bool whole = true;

	for (;;) {
		ssize_t n = recv(fd, buffer, REPLY_MAX, MSG_DONTWAIT);

		if (n > 0)
			take_replies(buffer, (size_t)n, true, on_neighbour, &all);
		else if (n < 0 && errno == ENOBUFS)
			whole = false;
		else if (n == 0 || errno != EINTR)
			return whole;
	}
}

/* ---- routes ---- */

static void
on_route(void *arg, const struct nlmsghdr *m)
{
	struct net_route *route = arg;
	const struct rtmsg *info = NLMSG_DATA(m);

	if (m->nlmsg_type != RTM_NEWROUTE || m->nlmsg_len < NLMSG_LENGTH(sizeof(*info)))
		return;
	route->local = info->rtm_type == RTN_LOCAL;
	route->gateway = message_attribute(m, sizeof(*info), RTA_GATEWAY, 4) != NULL ||
	    message_attribute(m, sizeof(*info), RTA_VIA, 4) != NULL;
	if (info->rtm_type == RTN_LOCAL || info->rtm_type == RTN_UNICAST)
		route->link = attribute_number(message_attribute(m, sizeof(*info), RTA_OIF, 4));
}

int
netlink_route(const struct net_addr *to, struct net_route *ret_route, struct err *err)
{
	size_t len = to->family == AF_INET ? 4 : 16;
	const struct rtmsg body = { .rtm_family = (unsigned char)to->family,
		.rtm_dst_len = (unsigned char)(len * 8) };
	struct request r = request(RTM_GETROUTE, 0, &body, sizeof(body));
	struct net_route route = { 0 };
	int rc;

	append_attribute(&r, RTA_DST, to->bytes, len);
	rc = converse(&r, on_route, &route);
	if (rc != 0 && rc != -ENETUNREACH && rc != -EHOSTUNREACH)
		return err_errno(err, E_FAILED, -rc, "can not ask the kernel for a route");
	*ret_route = route;
	return 0;
}
