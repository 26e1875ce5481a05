/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/net/addr.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

static size_t
length_of(const struct net_addr *a)
{
	return a->family == AF_INET ? 4 : 16;
}

bool
net_addr_parse(const char *text, struct net_addr *ret_addr)
{
	struct net_addr a = { 0 };

	if (inet_pton(AF_INET, text, a.bytes) == 1)
		a.family = AF_INET;
	else if (inet_pton(AF_INET6, text, a.bytes) == 1)
		a.family = AF_INET6;
	else
		return false;
	*ret_addr = a;
	return true;
}

bool
net_addr_equal(const struct net_addr *a, const struct net_addr *b)
{
	return a->family == b->family && memcmp(a->bytes, b->bytes, length_of(a)) == 0;
}

bool
net_addr_of_host(const struct net_addr *a)
{
	static const unsigned char mapped[12] = { [10] = 0xff, [11] = 0xff }, none[15];

	if (a->family == AF_INET)
		return a->bytes[0] != 0 && a->bytes[0] != 127 && a->bytes[0] < 224;
	if (a->family != AF_INET6 || a->bytes[0] == 0xff)
		return false;
	if (memcmp(a->bytes, mapped, sizeof(mapped)) == 0)
		return false;
	return memcmp(a->bytes, none, sizeof(none)) != 0 || a->bytes[15] > 1;
}

bool
net_addr_link_local(const struct net_addr *a)
{
	if (a->family == AF_INET)
		return a->bytes[0] == 169 && a->bytes[1] == 254;
	return a->bytes[0] == 0xfe && (a->bytes[1] & 0xc0) == 0x80;
}

void
net_addr_text(const struct net_addr *a, const char *link, char ret_text[NET_TEXT_MAX])
{
	char text[INET6_ADDRSTRLEN] = "";

	inet_ntop(a->family, a->bytes, text, sizeof(text));
	if (a->family == AF_INET6 && net_addr_link_local(a) && link != NULL)
		snprintf(ret_text, NET_TEXT_MAX, "%s%%%.15s", text, link);
	else
		snprintf(ret_text, NET_TEXT_MAX, "%s", text);
}

static int
nibble(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool
net_mac_parse(const char *text, unsigned char ret_mac[NET_MAC_LEN])
{
	unsigned char mac[NET_MAC_LEN];

	if (strlen(text) != 3 * NET_MAC_LEN - 1)
		return false;
	for (size_t i = 0; i < NET_MAC_LEN; i++) {
		int high = nibble(text[3 * i]), low = nibble(text[3 * i + 1]);

		if (high < 0 || low < 0 || (i + 1 < NET_MAC_LEN && text[3 * i + 2] != ':'))
			return false;
		mac[i] = (unsigned char)(high << 4 | low);
	}
	memcpy(ret_mac, mac, sizeof(mac));
	return true;
}

void
net_mac_text(const unsigned char mac[NET_MAC_LEN], char ret_text[18])
{
	snprintf(ret_text, 18, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4],
	    mac[5]);
}
