/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/net/lease.h"

#include <glob.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "lib/base/fs.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"

enum { FILE_MAX = 1 << 20, FILES_MAX = 256 };
enum { WORDS_V4 = 3, WORDS_V6 = 5 };

static const char *const usual[] = {
	"/run/systemd/netif/dhcp-server-lease/*",
	"/var/lib/NetworkManager/dnsmasq-*.leases",
	"/var/lib/dnsmasq/dnsmasq.leases",
	"/var/lib/libvirt/dnsmasq/*.leases",
	"/var/lib/libvirt/dnsmasq/*.status",
	"/var/lib/misc/dnsmasq.leases",
	"/var/lib/systemd/network/dhcp-server-lease/*",
	NULL,
};

struct scan {
	const unsigned char *mac;
	int64_t now_s;
	const char *place;
	lease_fn *fn;
	void *arg;
};

/* The card in a client's identifier of DHCPv6, in hex with colons; only two of its forms have one,
 * both of them with Ethernet's number. */
static bool
mac_of_duid(const char *text, unsigned char ret_mac[NET_MAC_LEN])
{
	static const struct {
		const char *start;
		size_t skip; /* a time of four bytes */
	} forms[] = { { "00:01:00:01:", 12 }, { "00:03:00:01:", 0 } };

	for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
		size_t head = strlen(forms[i].start) + forms[i].skip;

		if (str_starts(text, forms[i].start) && strlen(text) > head)
			return net_mac_parse(text + head, ret_mac);
	}
	return false;
}

static void
take(const struct scan *s, const unsigned char *mac, const char *text, int64_t ends_s)
{
	struct net_addr address;

	if (text == NULL || memcmp(mac, s->mac, NET_MAC_LEN) != 0)
		return;
	if (ends_s != 0 && ends_s <= s->now_s)
		return;
	if (net_addr_parse(text, &address) && net_addr_of_host(&address))
		s->fn(s->arg, &address, s->place);
}

/* "1732460000 52:54:00:12:34:56 192.0.2.10 name 01:52:…"; 0: it never ends.
 * "1732460000 1193046 2001:db8::10 name 00:03:00:01:52:54:…": the second word is no MAC. */
static void
scan_line(const struct scan *s, char *line)
{
	char *save = NULL, *words[WORDS_V6];
	unsigned char mac[NET_MAC_LEN];
	uint64_t ends_s;
	size_t n = 0;

	while (n < ARRAY_LEN(words) &&
	    (words[n] = strtok_r(n == 0 ? line : NULL, " \t\r", &save)) != NULL)
		n++;
	if (n < WORDS_V4 || !str_to_u64(words[0], &ends_s) || ends_s > INT64_MAX)
		return;
	if (net_mac_parse(words[1], mac) || (n == WORDS_V6 && mac_of_duid(words[4], mac)))
		take(s, mac, words[2], (int64_t)ends_s);
}

static void
scan_lines(const struct scan *s, char *text)
{
	while (*text != '\0') {
		char *line = text;

		text += strcspn(text, "\n");
		if (*text != '\0')
			*text++ = '\0';
		scan_line(s, line);
	}
}

/* [{"ip-address": "192.0.2.10", "mac-address": "52:…", "expiry-time": 1732460000}]; of IPv6 there
 * may be a "client-id" alone. */
static void
scan_status(const struct scan *s, json_object *list)
{
	size_t count = json_object_array_length(list);

	for (size_t i = 0; i < count; i++) {
		json_object *row = json_object_array_get_idx(list, i);
		unsigned char mac[NET_MAC_LEN];
		const char *own, *client;

		if (!json_object_is_type(row, json_type_object))
			continue;
		own = json_string(row, "mac-address");
		client = json_string(row, "client-id");
		if (own != NULL ? net_mac_parse(own, mac) : client != NULL && mac_of_duid(client, mac))
			take(s, mac, json_string(row, "ip-address"), json_int(row, "expiry-time"));
	}
}

/* A list of bytes, with that very length. */
static bool
bytes_of(json_object *row, const char *key, unsigned char *ret_bytes, size_t len)
{
	json_object *list = NULL;

	if (!json_object_object_get_ex(row, key, &list) ||
	    !json_object_is_type(list, json_type_array) || json_object_array_length(list) != len)
		return false;
	for (size_t i = 0; i < len; i++)
		ret_bytes[i] = (unsigned char)json_object_get_int(json_object_array_get_idx(list, i));
	return true;
}

/* {"Leases": [{"Address": [192,0,2,10], "HardwareAddress": [82,…], "ExpirationRealtimeUSec": …}]} */
static void
scan_networkd(const struct scan *s, json_object *doc)
{
	json_object *list = NULL;
	size_t count = 0;

	if (json_object_object_get_ex(doc, "Leases", &list) &&
	    json_object_is_type(list, json_type_array))
		count = json_object_array_length(list);
	for (size_t i = 0; i < count; i++) {
		json_object *row = json_object_array_get_idx(list, i);
		struct net_addr a = { .family = AF_INET };
		unsigned char mac[NET_MAC_LEN];
		char text[NET_TEXT_MAX];
		int64_t ends_us;

		if (!json_object_is_type(row, json_type_object) ||
		    !bytes_of(row, "HardwareAddress", mac, sizeof(mac)) ||
		    !bytes_of(row, "Address", a.bytes, 4))
			continue;
		net_addr_text(&a, NULL, text);
		ends_us = json_int(row, "ExpirationRealtimeUSec");
		take(s, mac, text, ends_us == 0 ? 0 : ends_us / 1000000 + 1);
	}
}

void
lease_scan(char *text, const unsigned char mac[NET_MAC_LEN], int64_t now_s, const char *place,
    lease_fn *fn, void *arg)
{
	const struct scan s = { mac, now_s, place, fn, arg };
	const char *start = text + strspn(text, " \t\r\n");
	CLEANUP_JSON json_object *doc = NULL;

	if (*start != '{' && *start != '[') {
		scan_lines(&s, text);
		return;
	}
	doc = json_tokener_parse(start);
	if (json_object_is_type(doc, json_type_array))
		scan_status(&s, doc);
	else if (json_object_is_type(doc, json_type_object))
		scan_networkd(&s, doc);
}

/* ---- the files ---- */

typedef void file_fn(void *arg, const char *path);

static void
each_file(const char *const *patterns, file_fn *fn, void *arg)
{
	for (; patterns != NULL && *patterns != NULL; patterns++) {
		glob_t found = { 0 };

		if (glob(*patterns, GLOB_NOSORT, NULL, &found) == 0)
			for (size_t i = 0; i < found.gl_pathc && i < FILES_MAX; i++)
				fn(arg, found.gl_pathv[i]);
		globfree(&found);
	}
}

static void
scan_file(void *arg, const char *path)
{
	const struct scan *s = arg;
	CLEANUP_FREE char *text = NULL;

	if (fs_read(path, FILE_MAX, &text, NULL, NULL) == 0)
		lease_scan(text, s->mac, s->now_s, path, s->fn, s->arg);
}

void
lease_search(const char *const *patterns, const unsigned char mac[NET_MAC_LEN], int64_t now_s,
    lease_fn *fn, void *arg)
{
	struct scan s = { mac, now_s, NULL, fn, arg };

	each_file(patterns, scan_file, &s);
	each_file(usual, scan_file, &s);
}

static void
mix(uint64_t *stamp, uint64_t value)
{
	*stamp = (*stamp ^ value) * 0x100000001b3ULL;
}

static void
stamp_file(void *arg, const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return;
	mix(arg, (uint64_t)st.st_ino);
	mix(arg, (uint64_t)st.st_size);
	mix(arg, (uint64_t)st.st_mtim.tv_sec);
	mix(arg, (uint64_t)st.st_mtim.tv_nsec);
}

uint64_t
lease_stamp(const char *const *patterns)
{
	uint64_t stamp = 1;

	each_file(patterns, stamp_file, &stamp);
	each_file(usual, stamp_file, &stamp);
	return stamp;
}
