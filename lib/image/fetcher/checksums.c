/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/image/fetcher/checksums.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"

enum { HEX256 = 64, HEX512 = 128 };

/* Owned and in lower case, when there are just so many hex digits; else NULL. */
static char *
hex_of(const char *text)
{
	size_t len = strspn(text, "0123456789abcdefABCDEF");
	char *hex;

	if ((len != HEX256 && len != HEX512) ||
	    (text[len] != '\0' && !isspace((unsigned char)text[len])))
		return NULL;
	hex = xstrndup(text, len);
	for (size_t i = 0; i < len; i++)
		hex[i] = (char)tolower((unsigned char)hex[i]);
	return hex;
}

/* "SHA256 (name) = hash" */
static char *
bsd_line(char *line, const char **ret_name)
{
	char *open = strstr(line, " ("), *close = strstr(line, ") = ");

	if ((!str_starts(line, "SHA256 (") && !str_starts(line, "SHA512 (")) || open == NULL ||
	    close == NULL || close < open)
		return NULL;
	*close = '\0';
	*ret_name = open + 2;
	return hex_of(close + 4);
}

/* "hash  name", "hash *name"; "hash" alone: *ret_name is empty. */
static char *
gnu_line(char *line, const char **ret_name)
{
	char *hex = hex_of(line);
	const char *name;

	if (hex == NULL)
		return NULL;
	name = line + strlen(hex);
	name += strspn(name, " \t");
	*ret_name = *name == '*' ? name + 1 : name;
	return hex;
}

int
checksums_find(const char *text, size_t len, const char *name, char **ret_hex, struct err *err)
{
	CLEANUP_FREE char *copy = xstrndup(text, len), *alone = NULL, *shown = NULL;
	size_t lines = 0;
	char *save = NULL;

	for (char *line = strtok_r(copy, "\r\n", &save); line != NULL;
	     line = strtok_r(NULL, "\r\n", &save)) {
		const char *listed = "";
		char *hex = bsd_line(line, &listed);

		lines++;
		if (hex == NULL)
			hex = gnu_line(line, &listed);
		if (hex != NULL && *listed != '\0' && str_eq(fs_basename(listed), name)) {
			*ret_hex = hex;
			return 0;
		}
		if (hex != NULL && *listed == '\0' && lines == 1) {
			alone = hex;
			continue;
		}
		free(hex);
	}
	if (lines == 1 && alone != NULL) {
		*ret_hex = TAKE(alone);
		return 0;
	}
	shown = str_printable(name, strnlen(name, 200));
	err_set(err, E_IMAGE, "the list of checksums does not name '%s'", shown);
	err_hint(err, "check that list and image are of the same release");
	return E_IMAGE;
}
