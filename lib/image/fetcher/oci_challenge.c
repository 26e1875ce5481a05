/* SPDX-License-Identifier: MPL-2.0
 *
 * WWW-Authenticate (RFC 9110, 11.6.1): challenges joined by commas, each a scheme with either one
 * token68 or parameters that are joined by commas, too. */
#include "lib/image/fetcher/oci.h"

#include <string.h>
#include <strings.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"

static const char token_chars[] = "!#$%&'*+-.^_`|~/0123456789"
				  "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

struct scan {
	const char *at;
	struct oci_challenge challenge; /* the one being read */
	bool known;			/* its scheme is Bearer or Basic */
	struct oci_challenge best;
	bool found;
};

static void
skip(struct scan *scan, const char *chars)
{
	scan->at += strspn(scan->at, chars);
}

/* A token or a quoted string; NULL: neither, or with control characters.  Owned. */
static char *
read_value(struct scan *scan)
{
	struct sbuf value = { 0 };
	size_t len;

	if (*scan->at != '"') {
		/* Realms stand here without quotes, too. */
		len = strcspn(scan->at, ", \t\"");
		scan->at += len;
		return len > 0 ? xstrndup(scan->at - len, len) : NULL;
	}
	for (scan->at++; *scan->at != '"'; scan->at++) {
		if (*scan->at == '\\')
			scan->at++;
		if ((unsigned char)*scan->at < ' ' || *scan->at == 0x7f) {
			sbuf_done(&value);
			return NULL;
		}
		sbuf_addc(&value, *scan->at);
	}
	scan->at++;
	return sbuf_take(&value);
}

/* The challenge is complete: Bearer before Basic, else the first of a kind. */
static void
settle(struct scan *scan)
{
	struct oci_challenge *challenge = &scan->challenge;

	if (scan->known && (challenge->basic || challenge->realm != NULL) &&
	    (!scan->found || (scan->best.basic && !challenge->basic))) {
		oci_challenge_done(&scan->best);
		scan->best = *challenge;
		scan->found = true;
		*challenge = (struct oci_challenge){ 0 };
	}
	oci_challenge_done(challenge);
	scan->known = false;
}

static bool
read_parameter(struct scan *scan, const char *name, size_t len)
{
	static const struct {
		const char *name;
		size_t offset;
	} known[] = {
		{ "realm", offsetof(struct oci_challenge, realm) },
		{ "scope", offsetof(struct oci_challenge, scope) },
		{ "service", offsetof(struct oci_challenge, service) },
	};
	char *value = read_value(scan);

	if (value == NULL)
		return false;
	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		char **slot = (char **)(void *)((char *)&scan->challenge + known[i].offset);

		if (strlen(known[i].name) == len && strncasecmp(name, known[i].name, len) == 0 &&
		    *slot == NULL)
			*slot = TAKE(value);
	}
	free(value);
	return true;
}

/* A scheme, a parameter of the scheme before it, or its token68. */
static bool
read_item(struct scan *scan)
{
	const char *name = scan->at;
	size_t len = strspn(name, token_chars);

	if (len == 0)
		return false;
	scan->at += len;
	skip(scan, " \t");
	if (*scan->at == '=') {
		size_t signs = strspn(scan->at, "=");

		scan->at += signs;
		skip(scan, " \t");
		return signs > 1 || *scan->at == ',' || *scan->at == '\0' ||
		    read_parameter(scan, name, len);
	}
	settle(scan);
	scan->challenge.basic = len == 5 && strncasecmp(name, "Basic", len) == 0;
	scan->known = scan->challenge.basic || (len == 6 && strncasecmp(name, "Bearer", len) == 0);
	return true;
}

bool
oci_parse_challenge(const char *text, struct oci_challenge *ret_challenge)
{
	struct scan scan = { .at = text };
	bool good = true;

	if (text == NULL)
		return false;
	for (skip(&scan, " \t,"); good && *scan.at != '\0'; skip(&scan, " \t,"))
		good = read_item(&scan);
	/* What stood before the part that makes no sense is not to be trusted, either. */
	if (good)
		settle(&scan);
	oci_challenge_done(&scan.challenge);
	if (good && scan.found)
		*ret_challenge = scan.best;
	else
		oci_challenge_done(&scan.best);
	return good && scan.found;
}

void
oci_challenge_done(struct oci_challenge *challenge)
{
	free(challenge->realm);
	free(challenge->service);
	free(challenge->scope);
	*challenge = (struct oci_challenge){ 0 };
}
