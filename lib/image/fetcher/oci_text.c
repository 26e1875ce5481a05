/* SPDX-License-Identifier: MPL-2.0
 *
 * What a registry sends as text: JSON that is bounded before a tree is made of it, and words that
 * are fit to be shown. */
#include "lib/image/fetcher/oci.h"

#include <ctype.h>
#include <string.h>

#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"

/* An index of every platform has dozens of objects; a tree of a million would be a gigabyte. */
enum { JSON_DEPTH_MAX = 32, JSON_CONTAINERS_MAX = 10000, JSON_VALUES_MAX = 100000 };

static bool
is_bounded(const char *text, size_t len)
{
	size_t containers = 0, values = 0;
	bool quoted = false;

	for (size_t i = 0; i < len; i++) {
		char c = text[i];

		if (quoted && c == '\\')
			i++;
		else if (c == '"')
			quoted = !quoted;
		else if (!quoted && (c == '{' || c == '['))
			containers++;
		else if (!quoted && c == ',')
			values++;
	}
	return containers <= JSON_CONTAINERS_MAX && values <= JSON_VALUES_MAX;
}

json_object *
oci_json(const char *text, size_t len, const char *what, struct err *err)
{
	json_object *doc = NULL;
	json_tokener *tok;
	const char *why;

	if (len == 0 || len > OCI_MANIFEST_MAX || memchr(text, '\0', len) != NULL ||
	    !is_bounded(text, len)) {
		err_set(err, E_IMAGE, "%s is %s", what,
		    len == 0 ? "empty" : "larger or more complex than any that makes sense");
		return NULL;
	}
	tok = json_tokener_new_ex(JSON_DEPTH_MAX);
	if (tok == NULL)
		abort();
	json_tokener_set_flags(tok, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8 |
		JSON_TOKENER_ALLOW_TRAILING_CHARS);
	doc = json_tokener_parse_ex(tok, text, (int)len);
	why = json_tokener_get_error(tok) == json_tokener_success ? "not an object"
	    : json_tokener_error_desc(json_tokener_get_error(tok));
	for (size_t i = json_tokener_get_parse_end(tok); doc != NULL && i < len; i++) {
		if (strchr(" \t\r\n", text[i]) == NULL) {
			json_object_put(doc);
			doc = NULL;
			why = "more text follows";
		}
	}
	if (!json_object_is_type(doc, json_type_object)) {
		json_object_put(doc);
		doc = NULL;
		err_set(err, E_IMAGE, "%s is not JSON: %s", what, why);
	}
	json_tokener_free(tok);
	return doc;
}

char *
oci_shown(const char *text, size_t len, size_t max)
{
	/* Not through the middle of a character. */
	size_t cut = len <= max ? len : max;
	struct sbuf out = { 0 };
	char *shown;

	while (cut < len && cut > 0 && ((unsigned char)text[cut] & 0xc0) == 0x80)
		cut--;
	shown = str_printable(text, cut);
	for (char *p = shown; *p != '\0'; p++) {
		if (*p == '\n' || *p == '\t')
			*p = ' ';
	}
	sbuf_adds(&out, shown);
	if (cut < len)
		sbuf_adds(&out, "…");
	free(shown);
	return sbuf_take(&out);
}

char *
oci_error_text(const char *body, size_t len)
{
	CLEANUP_JSON json_object *doc = body != NULL ? oci_json(body, len, "it", NULL) : NULL;
	json_object *errors = NULL, *first;
	const char *code, *message, *detail;
	CLEANUP_FREE char *text = NULL;

	if (doc == NULL)
		return NULL;
	if (json_object_object_get_ex(doc, "errors", &errors) &&
	    json_object_is_type(errors, json_type_array) && json_object_array_length(errors) > 0) {
		first = json_object_array_get_idx(errors, 0);
		if (!json_object_is_type(first, json_type_object))
			return NULL;
		code = json_string(first, "code");
		message = json_string(first, "message");
		detail = json_string(first, "detail");
	} else {
		/* How token servers say it. */
		code = json_string(doc, "error");
		message = json_string(doc, "error_description");
		detail = json_string(doc, "details");
		if (message == NULL)
			message = json_string(doc, "message");
	}
	if (code == NULL && message == NULL)
		return detail != NULL ? oci_shown(detail, strlen(detail), 200) : NULL;
	text = code == NULL || message == NULL || message[0] == '\0'
	    ? xstrdup(code != NULL ? code : message) : xasprintf("%s: %s", code, message);
	return oci_shown(text, strlen(text), 200);
}

bool
oci_digest_valid(const char *text)
{
	if (text == NULL || !str_starts(text, "sha256:") || strlen(text) != 7 + 64)
		return false;
	return strspn(text + 7, "0123456789abcdef") == 64;
}
