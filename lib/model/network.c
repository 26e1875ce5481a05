/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/model/network.h"

#include <arpa/inet.h>
#include <string.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/model/spec.h"

struct check {
	network_problem_fn *report;
	void *arg;
};

struct address {
	size_t len; /* 4 or 16 bytes */
	unsigned char bytes[16];
	size_t prefix; /* bits */
};

static void
problem(const struct check *c, const char *path, const char *text, const char *hint)
{
	c->report(c->arg, path, text, hint);
}

static bool
parse_address(const char *text, struct address *a)
{
	if (inet_pton(AF_INET, text, a->bytes) == 1)
		a->len = 4;
	else if (inet_pton(AF_INET6, text, a->bytes) == 1)
		a->len = 16;
	else
		return false;
	a->prefix = a->len * 8;
	return true;
}

static bool
parse_cidr(const char *text, struct address *a)
{
	const char *slash = strchr(text, '/');
	CLEANUP_FREE char *host = NULL;
	uint64_t prefix;

	if (slash == NULL || !str_to_u64(slash + 1, &prefix))
		return false;
	host = xstrndup(text, (size_t)(slash - text));
	if (!parse_address(host, a) || prefix == 0 || prefix > a->len * 8)
		return false;
	a->prefix = (size_t)prefix;
	return true;
}

static bool
bit_at(const struct address *a, size_t bit)
{
	return a->bytes[bit / 8] >> (7 - bit % 8) & 1;
}

/* Are all bits of the host's part the same as this one? */
static bool
host_part_is(const struct address *a, bool one)
{
	for (size_t bit = a->prefix; bit < a->len * 8; bit++)
		if (bit_at(a, bit) != one)
			return false;
	return true;
}

static bool
same_network(const struct address *a, const struct address *b)
{
	if (a->len != b->len)
		return false;
	for (size_t bit = 0; bit < a->prefix; bit++)
		if (bit_at(a, bit) != bit_at(b, bit))
			return false;
	return true;
}

/* An address that is a network's name, its broadcast, or nobody's in particular. */
static bool
is_host(const struct address *a)
{
	static const unsigned char zero[16];

	if (memcmp(a->bytes, zero, a->len) == 0)
		return false;
	if (a->len == 4 && (a->bytes[0] == 0 || a->bytes[0] >= 224))
		return false;
	if (a->len == 16 && a->bytes[0] == 0xff)
		return false;
	/* Networks of one or two addresses have neither name nor broadcast. */
	if (a->len * 8 - a->prefix < 2)
		return true;
	return !host_part_is(a, false) && (a->len == 16 || !host_part_is(a, true));
}

/* A router of IPv6 is often known by its address on the link alone. */
static bool
is_link_local(const struct address *a)
{
	return a->len == 16 && a->bytes[0] == 0xfe && (a->bytes[1] & 0xc0) == 0x80;
}

static void
check_gateway(const struct check *c, const char *text, const struct address *own)
{
	struct address gateway;

	if (!parse_address(text, &gateway)) {
		problem(c, "network.gateway", "is not an address", "write it as in 192.0.2.1");
		return;
	}
	if (own->len == 0)
		return;
	gateway.prefix = own->prefix;
	if (gateway.len != own->len)
		problem(c, "network.gateway", "is of another kind than the address",
		    "both are IPv4, or both are IPv6");
	else if (is_link_local(&gateway))
		return;
	else if (!same_network(&gateway, own))
		problem(c, "network.gateway", "is not in the address's network",
		    "a guest reaches its router without another one");
	else if (memcmp(gateway.bytes, own->bytes, own->len) == 0)
		problem(c, "network.gateway", "is the guest's own address", NULL);
	else if (!is_host(&gateway))
		problem(c, "network.gateway", "is no address of a host", NULL);
}

static void
check_addresses(const struct check *c, const struct network_spec *net)
{
	struct address own = { 0 };

	if (net->address == NULL) {
		if (net->gateway != NULL)
			problem(c, "network.gateway", "needs an address",
			    "without one, DHCP says it");
		if (net->dns.count > 0)
			problem(c, "network.dns", "needs an address", "without one, DHCP says it");
	} else if (!parse_cidr(net->address, &own)) {
		own.len = 0;
		problem(c, "network.address", "is not an address with its prefix",
		    "write it as in 192.0.2.10/24");
	} else if (!is_host(&own)) {
		problem(c, "network.address", "is no address of a host",
		    "it names the network, all of its hosts, or none");
	}
	if (net->gateway != NULL && net->address != NULL)
		check_gateway(c, net->gateway, &own);
	for (size_t i = 0; i < net->dns.count; i++) {
		CLEANUP_FREE char *path = xasprintf("network.dns[%zu]", i);
		struct address dns;

		if (!parse_address(net->dns.items[i], &dns))
			problem(c, path, "is not an address", "write it as in 192.0.2.1");
	}
}

/* As illumos wants the name of a link: it ends with its number. */
static bool
is_link(const char *name)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
	static const char digits[] = "0123456789";
	size_t len = strlen(name), number = len;

	while (number > 0 && strchr(digits, name[number - 1]) != NULL)
		number--;
	if (number == 0 || number == len || strchr(letters, name[0]) == NULL)
		return false;
	if (name[number] == '0' && number + 1 < len)
		return false;
	for (size_t i = 0; i < number; i++)
		if (strchr(letters, name[i]) == NULL && strchr(digits, name[i]) == NULL &&
		    name[i] != '_' && name[i] != '.')
			return false;
	return true;
}

static void
check_link(const struct check *c, const char *path, const char *name)
{
	if (name != NULL && !is_link(name))
		problem(c, path, "is not the name of a link",
		    "letters, digits and '_', from a letter to a number, such as web0");
}

void
network_check(const struct network_spec *net, network_problem_fn *report, void *arg)
{
	const struct {
		const char *path;
		bool given;
		enum network_type type;
	} rows[] = {
		{ "network.bridge", net->bridge != NULL, NETWORK_TAP },
		{ "network.name", net->name != NULL, NETWORK_VNIC },
		{ "network.link", net->link != NULL, NETWORK_VNIC },
		{ "network.address", net->address != NULL, NETWORK_VNIC },
		{ "network.gateway", net->gateway != NULL, NETWORK_VNIC },
		{ "network.dns", net->dns.count > 0, NETWORK_VNIC },
	};
	const struct check c = { report, arg };

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		CLEANUP_FREE char *text =
		    xasprintf("belongs to network type %s", network_names[rows[i].type]);

		if (rows[i].given && net->type != (int)rows[i].type)
			problem(&c, rows[i].path, text, NULL);
	}
	if (net->type == NETWORK_TAP && net->bridge == NULL)
		problem(&c, "network.bridge", "is missing",
		    "a tap is on a bridge of the host: {type: tap, bridge: br0}");
	if (net->type != NETWORK_VNIC)
		return;
	check_link(&c, "network.name", net->name);
	check_link(&c, "network.link", net->link);
	check_addresses(&c, net);
}
