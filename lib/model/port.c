/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/model/port.h"

#include <arpa/inet.h>
#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/model/field.h"

const char *const port_protocol_names[] = { "tcp", "udp", NULL };

static const char form[] = "[ADDRESS:][HOST-PORT:]GUEST-PORT[/tcp|/udp], as in 8080:80";

static int
bad(struct err *err, const char *text, const char *why)
{
	CLEANUP_FREE char *shown = str_line(text, strnlen(text, PORT_TEXT_MAX));

	err_set(err, E_PARAMS, "'%s' is not a port to forward: %s", shown, why);
	err_hint(err, "write %s", form);
	return E_PARAMS;
}

/* Digits alone: neither a sign nor a leading zero, which others read as octal. */
static bool
parse_number(const char *text, uint16_t *ret_number)
{
	uint64_t number;

	if (!str_to_u64(text, &number) || number > UINT16_MAX)
		return false;
	if (text[0] < '0' || text[0] > '9' || (text[0] == '0' && text[1] != '\0'))
		return false;
	*ret_number = (uint16_t)number;
	return true;
}

static bool
parse_host(const char *text, struct port *port)
{
	unsigned char bytes[16];
	size_t len = strlen(text);
	CLEANUP_FREE char *inner = NULL;

	if (text[0] != '[')
		return inet_pton(AF_INET, text, bytes) == 1 &&
		       inet_ntop(AF_INET, bytes, port->host, sizeof(port->host)) != NULL;
	if (len < 3 || text[len - 1] != ']')
		return false;
	inner = xstrndup(text + 1, len - 2);
	port->ipv6 = true;
	return inet_pton(AF_INET6, inner, bytes) == 1 &&
	       inet_ntop(AF_INET6, bytes, port->host, sizeof(port->host)) != NULL;
}

/* Cuts the last part off; the colons of an address in brackets do not count. */
static char *
cut_last(char *text)
{
	char *colon = strrchr(text, ':');

	if (colon == NULL || strchr(colon, ']') != NULL)
		return NULL;
	*colon = '\0';
	return colon + 1;
}

int
port_parse(const char *text, struct port *ret_port, struct err *err)
{
	struct port port = { .host = "127.0.0.1", .protocol = PORT_TCP };
	CLEANUP_FREE char *copy = xstrdup(text);
	char *slash = strchr(copy, '/'), *guest, *host_port;

	if (strlen(text) >= PORT_TEXT_MAX)
		return bad(err, text, "it is too long");
	if (slash != NULL) {
		*slash = '\0';
		if (str_eq(slash + 1, port_protocol_names[PORT_UDP]))
			port.protocol = PORT_UDP;
		else if (!str_eq(slash + 1, port_protocol_names[PORT_TCP]))
			return bad(err, text, "its protocol is neither tcp nor udp");
	}
	guest = cut_last(copy);
	if (guest == NULL) {
		guest = copy;
		host_port = NULL;
	} else {
		host_port = cut_last(copy);
	}
	if (!parse_number(guest, &port.guest_port) || port.guest_port == 0)
		return bad(err, text, "the guest's port is not a number from 1 to 65535");
	if (host_port != NULL) {
		if (!parse_host(copy, &port))
			return bad(err, text,
			    "the host's address is not one; IPv6 is written in brackets");
		if (host_port[0] != '\0' && !parse_number(host_port, &port.host_port))
			return bad(err, text, "the host's port is not a number from 0 to 65535");
	} else if (guest != copy && !parse_number(copy, &port.host_port)) {
		return bad(err, text, "the host's port is not a number from 0 to 65535");
	}
	*ret_port = port;
	return 0;
}

const char *
port_text(const struct port *port, char *text)
{
	bool plain = str_eq(port->host, "127.0.0.1");

	snprintf(text, PORT_TEXT_MAX, "%s%s%s%s%u:%u%s", port->ipv6 ? "[" : "",
	    plain ? "" : port->host, port->ipv6 ? "]" : "", plain ? "" : ":", port->host_port,
	    port->guest_port, port->protocol == PORT_UDP ? "/udp" : "");
	return text;
}

const char *
port_host_text(const struct port *port, char *text)
{
	snprintf(text, PORT_TEXT_MAX, "%s%s%s:%u (%s)", port->ipv6 ? "[" : "", port->host,
	    port->ipv6 ? "]" : "", port->host_port, port_protocol_names[port->protocol]);
	return text;
}

bool
port_equal(const struct port *a, const struct port *b)
{
	return str_eq(a->host, b->host) && a->host_port == b->host_port &&
	       a->guest_port == b->guest_port && a->protocol == b->protocol;
}

static bool
is_any(const struct port *port)
{
	return str_eq(port->host, port->ipv6 ? "::" : "0.0.0.0");
}

bool
port_overlaps(const struct port *a, const struct port *b)
{
	if (a->host_port == 0 || a->host_port != b->host_port || a->protocol != b->protocol)
		return false;
	if (a->ipv6 != b->ipv6) /* a socket on all of IPv6 may take those of IPv4 too */
		return is_any(a->ipv6 ? a : b);
	return is_any(a) || is_any(b) || str_eq(a->host, b->host);
}

size_t
ports_parse(const struct strings *texts, struct port ret_ports[PORTS_MAX])
{
	size_t count = 0;

	assert(texts->count <= PORTS_MAX);
	for (size_t i = 0; i < texts->count; i++)
		if (port_parse(texts->items[i], &ret_ports[count], NULL) == 0)
			count++;
	return count;
}

int
ports_check(const struct strings *texts, size_t *ret_index, struct err *err)
{
	struct port ports[PORTS_MAX];

	for (size_t i = 0; i < texts->count; i++) {
		*ret_index = i;
		if (i == PORTS_MAX)
			return err_set(err, E_PARAMS, "there are more than %d ports", PORTS_MAX);
		if (port_parse(texts->items[i], &ports[i], err) != 0)
			return E_PARAMS;
		for (size_t k = 0; k < i; k++) {
			if (!port_overlaps(&ports[i], &ports[k]) &&
			    !port_equal(&ports[i], &ports[k]))
				continue;
			err_set(err, E_PARAMS, "'%s' takes the same port of the host as '%s'",
			    texts->items[i], texts->items[k]);
			err_hint(err, "leave one of them out, or give it another port");
			return E_PARAMS;
		}
	}
	return 0;
}
