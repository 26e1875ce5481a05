/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/net/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/net/agent.h"
#include "lib/net/lease.h"
#include "lib/net/netlink.h"

enum { SEEK_MS = 1000, RECHECK_MS = 10000, SETTLE_MS = 50, RESORT_MS = 10000 };
enum { CANDIDATES_MAX = 64, AGENT_EVERY_MS = 5000, DISCARD_PORT = 9 };

enum source { FROM_AGENT, FROM_LEASE, FROM_NEIGHBOUR };
static const char *const source_names[] = { "agent", "lease", "neighbour" };

enum verdict {
	NOBODY,	 /* the neighbour table has nothing to say */
	OURS,	 /* our MAC has it */
	OURS_STALE, /* our MAC had it a while ago */
	ANOTHER, /* another MAC has it */
};

struct candidate {
	struct net_addr address;
	enum source source;
	enum verdict verdict;
	unsigned char other[NET_MAC_LEN];
	char place[80]; /* of a lease */
};

struct list {
	struct candidate items[CANDIDATES_MAX];
	size_t count;
};

struct address_seek {
	struct loop *loop;
	unsigned char mac[NET_MAC_LEN];
	char mac_text[18], bridge[IFNAMSIZ];
	char *agent_path;
	const char *const *patterns;
	address_fn *fn;
	void *arg;

	struct timer *timer;
	struct watch *watch; /* of the neighbours; NULL: only the timer */
	int fd;
	unsigned link; /* the bridge, at the last look */
	uint64_t began_ms;
	unsigned seek_ms, resort_ms;

	bool agent_there;
	struct agent_call *call;
	uint64_t asked_ms;
	struct net_addr agent[AGENT_ADDRESSES_MAX];
	size_t agent_count;

	uint64_t stamp;
	struct list leases; /* of the files as they were then */

	struct net_addr address; /* family 0: unknown */
	enum source source;
	char host[NET_TEXT_MAX];
	char seen[256];
};

/* ---- candidates ---- */

static void
add(struct list *list, const struct net_addr *address, enum source source, enum verdict verdict,
    const char *place)
{
	struct candidate *c;

	for (size_t i = 0; i < list->count; i++)
		if (net_addr_equal(&list->items[i].address, address))
			return;
	if (list->count == CANDIDATES_MAX)
		return;
	c = &list->items[list->count++];
	*c = (struct candidate){ .address = *address, .source = source, .verdict = verdict };
	snprintf(c->place, sizeof(c->place), "%s", place != NULL ? place : "");
}

static void
on_lease(void *arg, const struct net_addr *address, const char *place)
{
	add(arg, address, FROM_LEASE, NOBODY, place);
}

static void
read_leases(struct address_seek *seek)
{
	uint64_t stamp = lease_stamp(seek->patterns);

	/* An end of time changes no file: once an address is known, looks are rare and whole. */
	if (stamp == seek->stamp && seek->address.family == 0)
		return;
	seek->stamp = stamp;
	seek->leases.count = 0;
	lease_search(seek->patterns, seek->mac, clock_wall_ms() / 1000, on_lease, &seek->leases);
}

struct look {
	struct address_seek *seek;
	struct list *list;
	bool own; /* the turn of the neighbours with our MAC */
};

static void
judge(struct candidate *c, const struct net_neighbour *n, const unsigned char *mac)
{
	if (!net_addr_equal(&c->address, &n->address) || !n->answered)
		return;
	if (memcmp(n->mac, mac, NET_MAC_LEN) == 0) {
		c->verdict = n->stale ? OURS_STALE : OURS;
	} else {
		c->verdict = ANOTHER;
		memcpy(c->other, n->mac, NET_MAC_LEN);
	}
}

static void
on_neighbour(void *arg, const struct net_neighbour *n)
{
	struct look *look = arg;
	const unsigned char *mac = look->seek->mac;

	if (look->own && n->answered && memcmp(n->mac, mac, NET_MAC_LEN) == 0 &&
	    net_addr_of_host(&n->address))
		add(look->list, &n->address, FROM_NEIGHBOUR, n->stale ? OURS_STALE : OURS, NULL);
	for (size_t i = 0; i < look->list->count; i++)
		judge(&look->list->items[i], n, mac);
}

/* Makes the host ask the bridge who has the address; the datagram itself is thrown away. */
static void
provoke(const struct address_seek *seek, const struct net_addr *a)
{
	CLEANUP_FD int fd = socket(a->family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_in to4 = { .sin_family = AF_INET, .sin_port = htons(DISCARD_PORT) };
	struct sockaddr_in6 to6 = { .sin6_family = AF_INET6, .sin6_port = htons(DISCARD_PORT),
		.sin6_scope_id = seek->link };
	const struct sockaddr *to = a->family == AF_INET ? (struct sockaddr *)&to4
							   : (struct sockaddr *)&to6;
	socklen_t len = a->family == AF_INET ? sizeof(to4) : sizeof(to6);

	memcpy(&to4.sin_addr, a->bytes, 4);
	memcpy(&to6.sin6_addr, a->bytes, 16);
	if (fd < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, seek->bridge, (socklen_t)strlen(seek->bridge) + 1) < 0)
		return;
	/* Refused, unreachable, no buffer: the table tells what came of it. */
	(void)sendto(fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL, to, len);
}

/* An agent may know of an address that is no neighbour's, behind a router: then its word is all
 * there is.  Never an address of this host. */
static bool
beyond(const struct address_seek *seek, const struct candidate *c)
{
	struct net_route route;

	return c->source == FROM_AGENT && c->verdict == NOBODY && !net_addr_link_local(&c->address) &&
	    netlink_route(&c->address, &route, NULL) == 0 && route.link != 0 && !route.local &&
	    (route.gateway || route.link != seek->link);
}

static bool
believed(const struct address_seek *seek, const struct candidate *c)
{
	if (net_addr_link_local(&c->address) && clock_ms() - seek->began_ms < seek->resort_ms)
		return false;
	return c->verdict == OURS || c->verdict == OURS_STALE || beyond(seek, c);
}

/* Less is better. */
static unsigned
rank(const struct candidate *c)
{
	return (net_addr_link_local(&c->address) ? 100U : 0) + (unsigned)c->source * 10 +
	    (c->address.family == AF_INET6 ? 1 : 0);
}

static const struct candidate *
choose(const struct address_seek *seek, const struct list *list)
{
	const struct candidate *best = NULL;

	for (size_t i = 0; i < list->count; i++) {
		const struct candidate *c = &list->items[i];
		bool current = net_addr_equal(&c->address, &seek->address);

		if (!believed(seek, c))
			continue;
		if (best == NULL || rank(c) < rank(best) || (rank(c) == rank(best) && current))
			best = c;
	}
	return best;
}

/* ---- what was seen ---- */

static void
tell_seen(struct address_seek *seek, const struct list *list)
{
	char *at = seek->seen;
	size_t left = sizeof(seek->seen);

	snprintf(at, left, "neither an agent, nor a lease, nor a neighbour with the MAC %s",
	    seek->mac_text);
	for (size_t i = 0; i < list->count && left > 1; i++) {
		const struct candidate *c = &list->items[i];
		char text[NET_TEXT_MAX], other[18];
		int n;

		net_addr_text(&c->address, seek->bridge, text);
		net_mac_text(c->other, other);
		n = snprintf(at, left, "%s%s%s%s says %s%s%s", at == seek->seen ? "" : "; ",
		    source_names[c->source], c->place[0] != '\0' ? " " : "", c->place, text,
		    c->verdict == ANOTHER ? ", which is of the MAC " :
		    c->verdict == NOBODY ? ", where nobody answers" : "",
		    c->verdict == ANOTHER ? other : "");
		if (n < 0 || (size_t)n >= left)
			return;
		at += n;
		left -= (size_t)n;
	}
}

static void
become(struct address_seek *seek, const struct candidate *c)
{
	bool known = seek->address.family != 0;

	if (c == NULL ? !known
		      : known && net_addr_equal(&c->address, &seek->address) && c->source == seek->source)
		return;
	if (c == NULL) {
		seek->address = (struct net_addr){ 0 };
		seek->host[0] = '\0';
	} else {
		seek->address = c->address;
		seek->source = c->source;
		net_addr_text(&c->address, seek->bridge, seek->host);
	}
	seek->fn(seek->arg); /* last: it may destroy us */
}

/* ---- looking ---- */

static void
on_agent(void *arg, const struct net_addr *addresses, size_t count)
{
	struct address_seek *seek = arg;

	seek->call = NULL;
	memcpy(seek->agent, addresses, count * sizeof(*addresses));
	seek->agent_count = count;
	timer_arm(seek->timer, 0);
}

static void
ask_agent(struct address_seek *seek)
{
	uint64_t now = clock_ms();

	if (!seek->agent_there || seek->call != NULL || seek->agent_path == NULL ||
	    (seek->asked_ms != 0 && now - seek->asked_ms < AGENT_EVERY_MS))
		return;
	seek->asked_ms = now;
	seek->call = agent_ask(seek->loop, seek->agent_path, seek->mac, on_agent, seek);
}

static void
gather(struct address_seek *seek, struct list *list)
{
	struct look look = { seek, list, true };

	read_leases(seek);
	for (size_t i = 0; i < seek->agent_count; i++)
		add(list, &seek->agent[i], FROM_AGENT, NOBODY, NULL);
	for (size_t i = 0; i < seek->leases.count; i++)
		add(list, &seek->leases.items[i].address, FROM_LEASE, NOBODY,
		    seek->leases.items[i].place);
	netlink_neighbours(seek->link, on_neighbour, &look, NULL);
	/* Those that came last were not held against the whole table yet. */
	look.own = false;
	netlink_neighbours(seek->link, on_neighbour, &look, NULL);
}

/* Is the address that we have now another's?  Only then it is forgotten without a better one: a
 * table that forgets says nothing. */
static bool
taken_away(const struct address_seek *seek, const struct list *list)
{
	for (size_t i = 0; i < list->count; i++)
		if (net_addr_equal(&list->items[i].address, &seek->address))
			return list->items[i].verdict == ANOTHER;
	return false;
}

static void
look(struct address_seek *seek)
{
	struct list list = { .count = 0 };
	const struct candidate *best;
	bool known = seek->address.family != 0;

	seek->link = if_nametoindex(seek->bridge);
	if (seek->link == 0) {
		snprintf(seek->seen, sizeof(seek->seen), "the bridge '%s' is gone", seek->bridge);
		timer_arm(seek->timer, seek->seek_ms);
		return;
	}
	ask_agent(seek);
	gather(seek, &list);
	if (known)
		add(&list, &seek->address, seek->source, NOBODY, NULL);
	if (known) {
		struct look again = { seek, &list, false };

		netlink_neighbours(seek->link, on_neighbour, &again, NULL);
	}
	for (size_t i = 0; i < list.count; i++)
		if (list.items[i].verdict != OURS)
			provoke(seek, &list.items[i].address);
	best = choose(seek, &list);
	tell_seen(seek, &list);
	timer_arm(seek->timer,
	    best != NULL && !net_addr_link_local(&best->address) ? RECHECK_MS : seek->seek_ms);
	if (best != NULL || taken_away(seek, &list))
		become(seek, best);
}

static void
on_timer(void *arg)
{
	look(arg);
}

struct change {
	const struct address_seek *seek;
	bool concerns;
};

static void
on_changed(void *arg, const struct net_neighbour *n)
{
	struct change *change = arg;
	const struct address_seek *seek = change->seek;

	if (n->link != seek->link && seek->link != 0)
		return;
	if (memcmp(n->mac, seek->mac, NET_MAC_LEN) == 0 || net_addr_equal(&n->address, &seek->address))
		change->concerns = true;
}

static void
on_readable(void *arg, unsigned events)
{
	struct address_seek *seek = arg;
	struct change change = { seek, false };

	if (!netlink_neighbour_read(seek->fd, on_changed, &change) || change.concerns)
		timer_arm(seek->timer, SETTLE_MS);
}

/* ---- life ---- */

struct address_seek *
address_seek_create(const struct address_config *config, address_fn *fn, void *arg)
{
	struct address_seek *seek = xcalloc(1, sizeof(*seek));

	loop_assert(config->loop);
	seek->loop = config->loop;
	snprintf(seek->bridge, sizeof(seek->bridge), "%s", config->bridge);
	if (!net_mac_parse(config->mac, seek->mac))
		abort(); /* ours, checked where it was made */
	net_mac_text(seek->mac, seek->mac_text);
	seek->agent_path = xstrdup(config->agent_path);
	seek->patterns = config->lease_patterns;
	seek->fn = fn;
	seek->arg = arg;
	seek->began_ms = clock_ms();
	seek->seek_ms = config->seek_ms != 0 ? config->seek_ms : SEEK_MS;
	seek->resort_ms = config->resort_ms != 0 ? config->resort_ms : RESORT_MS;
	seek->timer = timer_create_on(config->loop, on_timer, seek);
	seek->fd = netlink_neighbour_watch(NULL);
	if (seek->fd >= 0)
		seek->watch = watch_create(config->loop, seek->fd, LOOP_READ, on_readable, seek);
	timer_arm(seek->timer, 0);
	return seek;
}

void
address_seek_destroy(struct address_seek *seek)
{
	if (seek == NULL)
		return;
	agent_cancel(seek->call);
	watch_destroy(seek->watch);
	if (seek->fd >= 0)
		close(seek->fd);
	timer_destroy(seek->timer);
	free(seek->agent_path);
	free(seek);
}

void
address_seek_agent(struct address_seek *seek, bool there)
{
	if (seek->agent_there == there)
		return;
	seek->agent_there = there;
	seek->asked_ms = 0;
	if (!there)
		seek->agent_count = 0;
	timer_arm(seek->timer, 0);
}

const char *
address_seek_host(const struct address_seek *seek)
{
	return seek->address.family != 0 ? seek->host : NULL;
}

const char *
address_seek_source(const struct address_seek *seek)
{
	return seek->address.family != 0 ? source_names[seek->source] : NULL;
}

const char *
address_seek_seen(const struct address_seek *seek)
{
	return seek->seen;
}
