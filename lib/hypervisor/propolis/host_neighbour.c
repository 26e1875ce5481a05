/* SPDX-License-Identifier: MPL-2.0
 *
 * The guest's address, from what the host has heard on its links. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/hypervisor/propolis/host_parts.h"

enum { WORDS_MAX = 12 };

static size_t
cut_words(char *line, char **ret_words, size_t max)
{
	size_t count = 0;

	for (line += strspn(line, " \t\r"); *line != '\0' && count < max;
	     line += strspn(line, " \t\r")) {
		ret_words[count++] = line;
		line += strcspn(line, " \t\r");
		if (*line != '\0')
			*line++ = '\0';
	}
	return count;
}

/* Of use: not of all machines, and not one that needs its link to be named. */
static bool
is_address(const char *word, int family)
{
	unsigned char bytes[sizeof(struct in6_addr)];

	if (inet_pton(family, word, bytes) != 1)
		return false;
	if (family == AF_INET)
		return bytes[0] != 0 && bytes[0] < 224;
	return bytes[0] != 0xff && !(bytes[0] == 0xfe && (bytes[1] & 0xc0) == 0x80);
}

/* The tables differ in the order of their columns, and some are empty; a MAC and an address are
 * known by their looks.  Of two addresses, arp's second is the mask. */
static bool
find(char *table, const char *mac, int family, char ret_address[46])
{
	char *line, *words[WORDS_MAX];

	while ((line = host_line(&table)) != NULL) {
		size_t count = cut_words(line, words, WORDS_MAX), at = count;
		bool ours = false;

		for (size_t i = count; i-- > 0;) {
			ours = ours || host_mac_equal(words[i], mac);
			if (is_address(words[i], family))
				at = i;
		}
		if (!ours || at == count)
			continue;
		snprintf(ret_address, 46, "%s", words[at]);
		return true;
	}
	return false;
}

int
host_neighbour(const char *mac, char ret_address[46], struct job *job, struct err *err)
{
	static const struct {
		const char *argv[3];
		int family;
	} tables[] = { { { "arp", "-an", NULL }, AF_INET }, { { "ndp", "-an", NULL }, AF_INET6 } };
	struct host_turn turn = { .job = job };
	struct err first = ERR_INIT, why = ERR_INIT;

	for (size_t i = 0; i < ARRAY_LEN(tables); i++) {
		CLEANUP_FREE char *out = NULL;
		int rc = host_tool(&turn, tables[i].argv, HOST_TOOL_MS, &out, &why);

		if (rc == 0 && find(out, mac, tables[i].family, ret_address))
			return 0;
		if (rc != 0 && first.code == 0)
			first = why;
	}
	if (first.code != 0) {
		if (err != NULL)
			*err = first;
		return (int)first.code;
	}
	return err_set(err, E_NOT_FOUND, "no neighbour with the address '%s' was heard", mac);
}
