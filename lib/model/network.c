/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/model/network.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/model/spec.h"
#include "lib/net/addr.h"

struct check {
	network_problem_fn *report;
	void *arg;
	const char *at; /* "network", "networks[1]" */
};

struct address {
	size_t len; /* 4 or 16 bytes */
	unsigned char bytes[16];
	size_t prefix; /* bits */
};

static void
problem(const struct check *c, const char *key, const char *text, const char *hint)
{
	CLEANUP_FREE char *path = key != NULL ? xasprintf("%s.%s", c->at, key) : xstrdup(c->at);

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
		problem(c, "gateway", "is not an address", "write it as in 192.0.2.1");
		return;
	}
	if (own->len == 0)
		return;
	gateway.prefix = own->prefix;
	if (gateway.len != own->len)
		problem(c, "gateway", "is of another kind than the address",
		    "both are IPv4, or both are IPv6");
	else if (is_link_local(&gateway))
		return;
	else if (!same_network(&gateway, own))
		problem(c, "gateway", "is not in the address's network",
		    "a guest reaches its router without another one");
	else if (memcmp(gateway.bytes, own->bytes, own->len) == 0)
		problem(c, "gateway", "is the guest's own address", NULL);
	else if (!is_host(&gateway))
		problem(c, "gateway", "is no address of a host", NULL);
}

static void
check_addresses(const struct check *c, const struct network_spec *net)
{
	struct address own = { 0 };

	if (net->address == NULL) {
		if (net->gateway != NULL)
			problem(c, "gateway", "needs an address",
			    "without one, DHCP says it");
		if (net->dns.count > 0)
			problem(c, "dns", "needs an address", "without one, DHCP says it");
	} else if (!parse_cidr(net->address, &own)) {
		own.len = 0;
		problem(c, "address", "is not an address with its prefix",
		    "write it as in 192.0.2.10/24");
	} else if (!is_host(&own)) {
		problem(c, "address", "is no address of a host",
		    "it names the network, all of its hosts, or none");
	}
	if (net->gateway != NULL && net->address != NULL)
		check_gateway(c, net->gateway, &own);
	for (size_t i = 0; i < net->dns.count; i++) {
		CLEANUP_FREE char *path = xasprintf("dns[%zu]", i);
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

static void
check_mac(const struct check *c, const char *mac)
{
	unsigned char bytes[NET_MAC_LEN], any = 0;

	if (mac == NULL)
		return;
	if (!net_mac_parse(mac, bytes)) {
		problem(c, "mac", "is not a MAC address", "write it as in 52:54:00:12:34:56");
		return;
	}
	for (size_t i = 0; i < sizeof(bytes); i++)
		any |= bytes[i];
	if (bytes[0] & 1 || any == 0)
		problem(c, "mac", "is no address of a single NIC",
		    "its first byte is even, as in 52:54:00:12:34:56");
}

static void
check_private(const struct check *c, const struct network_spec *net)
{
	CLEANUP_FREE char *address = NULL;
	struct subnet subnet;
	const char *why;

	if (net->name == NULL)
		problem(c, "name", "is missing", "name the private network, as in {name: lan}");
	if (net->subnet == NULL)
		problem(c, "subnet", "is missing", "it has a private network's addresses: 10.66.0.0/24");
	else if (!subnet_parse(net->subnet, &subnet))
		problem(c, "subnet", "is not a network with its prefix", "write it as in 10.66.0.0/24");
	else if (net->address == NULL)
		problem(c, "address", "is missing", "give the guest an address of the private network");
	else if ((address = subnet_address(&subnet, net->address, &why)) == NULL)
		problem(c, "address", why, "choose another of the private network's subnet");
	for (size_t i = 0; i < net->hosts.count; i++) {
		CLEANUP_FREE char *key = xasprintf("hosts[%zu]", i);
		CLEANUP_FREE char *host = xstrdup(net->hosts.items[i]);
		char *name = host + strcspn(host, " ");
		struct address a;

		if (*name != '\0')
			*name++ = '\0';
		if (!parse_address(host, &a) || !host_name_valid(name))
			problem(c, key, "is not an address and a name", "write it as in 10.66.0.50 printer");
	}
}

static void
check_nic(const struct check *c, const struct network_spec *net)
{
	enum { TAP = 1 << NETWORK_TAP, VNIC = 1 << NETWORK_VNIC, PRIVATE = 1 << NETWORK_PRIVATE };
	const struct {
		const char *key;
		bool given;
		unsigned types;
		const char *text;
	} rows[] = {
		{ "bridge", net->bridge != NULL, TAP, "belongs to network type tap" },
		{ "name", net->name != NULL, VNIC | PRIVATE, "belongs to network types vnic and private" },
		{ "link", net->link != NULL, VNIC, "belongs to network type vnic" },
		{ "subnet", net->subnet != NULL, PRIVATE, "belongs to network type private" },
		{ "address", net->address != NULL, VNIC | PRIVATE,
		    "belongs to network types vnic and private" },
		{ "gateway", net->gateway != NULL, VNIC, "belongs to network type vnic" },
		{ "dns", net->dns.count > 0, VNIC, "belongs to network type vnic" },
		{ "hosts", net->hosts.count > 0, PRIVATE, "belongs to network type private" },
		{ "mac", net->mac != NULL, ~(1U << NETWORK_NONE), "has no use without a NIC" },
	};
	enum network_type type = network_type(net);

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (rows[i].given && !(rows[i].types >> type & 1))
			problem(c, rows[i].key, rows[i].text, NULL);
	check_mac(c, net->mac);
	if (type == NETWORK_TAP && net->bridge == NULL)
		problem(c, "bridge", "is missing",
		    "a tap is on a bridge of the host: {type: tap, bridge: br0}");
	if (type == NETWORK_PRIVATE)
		check_private(c, net);
	if (type != NETWORK_VNIC)
		return;
	check_link(c, "name", net->name);
	check_link(c, "link", net->link);
	check_addresses(c, net);
}

/* What one NIC rules out for a later one. */
static void
check_pair(const struct check *c, const struct network_spec *a, const struct network_spec *b)
{
	enum network_type type = network_type(b);

	if (type == NETWORK_USER && network_type(a) == type)
		problem(c, NULL, "is a second network of type user", "one is enough: they lead to the same");
	if (type == NETWORK_PRIVATE && network_type(a) == type && str_eq(a->name, b->name))
		problem(c, "name", "is a private network that the machine is on already", NULL);
	if (b->mac != NULL && a->mac != NULL && strcasecmp(a->mac, b->mac) == 0)
		problem(c, "mac", "is that of an earlier NIC", NULL);
}

void
networks_check(const struct vm_spec *spec, network_problem_fn *report, void *arg)
{
	const struct network_spec *list = spec->networks.items;
	struct check c = { report, arg, "networks" };

	if (spec->networks.count == 0) {
		c.at = "network";
		if (spec->network.present)
			check_nic(&c, &spec->network);
		return;
	}
	if (spec->network.present)
		problem(&c, NULL, "can not stand beside 'network'", "list all NICs in 'networks'");
	for (size_t i = 0; i < spec->networks.count; i++) {
		CLEANUP_FREE char *at = xasprintf("networks[%zu]", i);

		c.at = at;
		check_nic(&c, &list[i]);
		if (list[i].type == NETWORK_NONE && spec->networks.count > 1)
			problem(&c, NULL, "can not stand beside others", "'none' is no NIC at all");
		for (size_t k = 0; k < i; k++)
			check_pair(&c, &list[k], &list[i]);
	}
}

bool
host_name_valid(const char *text)
{
	size_t len = strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.");

	return len > 0 && text[len] == '\0' && text[0] != '-' && text[0] != '.';
}

/* ---- a private network's addresses ---- */

enum { HOSTS_COUNTED = 65534 };

bool
subnet_parse(const char *text, struct subnet *ret_subnet)
{
	struct address a;

	if (!parse_cidr(text, &a) || !host_part_is(&a, false) || a.len * 8 - a.prefix < 2)
		return false;
	*ret_subnet = (struct subnet){ .len = a.len, .prefix = a.prefix };
	memcpy(ret_subnet->bytes, a.bytes, a.len);
	return subnet_hosts(ret_subnet) >= 2 && (a.len == 16 || (a.bytes[0] != 0 && a.bytes[0] < 224));
}

static struct address
address_of(const struct subnet *subnet)
{
	struct address a = { .len = subnet->len, .prefix = subnet->prefix };

	memcpy(a.bytes, subnet->bytes, sizeof(a.bytes));
	return a;
}

bool
subnet_overlaps(const struct subnet *a, const struct subnet *b)
{
	struct address wide = address_of(a->prefix <= b->prefix ? a : b);
	struct address other = address_of(a->prefix <= b->prefix ? b : a);

	return same_network(&wide, &other);
}

size_t
subnet_hosts(const struct subnet *subnet)
{
	size_t bits = subnet->len * 8 - subnet->prefix;

	/* Neither its name nor, of IPv4, its broadcast. */
	return bits >= 16 ? HOSTS_COUNTED : ((size_t)1 << bits) - (subnet->len == 4 ? 2 : 1);
}

static char *
address_text(const struct address *a)
{
	char text[INET6_ADDRSTRLEN];

	inet_ntop(a->len == 4 ? AF_INET : AF_INET6, a->bytes, text, sizeof(text));
	return xasprintf("%s/%zu", text, a->prefix);
}

char *
subnet_host(const struct subnet *subnet, size_t index)
{
	struct address a = address_of(subnet);

	a.bytes[a.len - 1] |= (unsigned char)(index + 1);
	a.bytes[a.len - 2] |= (unsigned char)((index + 1) >> 8);
	return address_text(&a);
}

char *
subnet_address(const struct subnet *subnet, const char *text, const char **ret_why)
{
	struct address own, network = address_of(subnet);
	bool plain = parse_address(text, &own);

	*ret_why = NULL;
	if (!plain && !parse_cidr(text, &own))
		*ret_why = "is not an address";
	else if (own.len != network.len || !same_network(&network, &own))
		*ret_why = "is not in the private network's subnet";
	else if (!plain && own.prefix != network.prefix)
		*ret_why = "has another prefix than the private network's subnet";
	if (*ret_why != NULL)
		return NULL;
	own.prefix = network.prefix;
	if (!is_host(&own)) {
		*ret_why = "is no address of a host";
		return NULL;
	}
	return address_text(&own);
}
