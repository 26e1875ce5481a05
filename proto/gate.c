/* SPDX-License-Identifier: MPL-2.0
 *
 * One pass over a line: RFC 8259 and nothing else, in UTF-8, with bounds.  json-c's strict mode
 * still takes NaN, single quotes, raw tabs and duplicate keys, and cuts a key at \u0000. */
#include "proto/gate.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"

struct key {
	const char *text; /* decoded; of the line, or of gate.decoded */
	size_t len, at;
};

struct gate {
	const char *start, *at, *end;
	size_t depth, values;
	struct key *keys; /* of all open objects, the innermost last */
	size_t key_count, key_cap;
	char *decoded; /* keys that were written with escapes */
	size_t decoded_len;
	struct gate_ids *ids;
	struct err *err;
};

/* The line, a call (the line itself or an element of a batch), a call's id, anything else. */
enum role { ROLE_LINE, ROLE_CALL, ROLE_ID, ROLE_PLAIN };

enum { FEW_KEYS = 12 };

static int check_value(struct gate *g, enum role role);

static int __attribute__((format(printf, 3, 4)))
fail(struct gate *g, const char *at, const char *fmt, ...)
{
	char reason[128];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(reason, sizeof(reason), fmt, ap);
	va_end(ap);
	return err_set(
	    g->err, E_PARSE, "bad JSON at byte %zu: %s", (size_t)(at - g->start), reason);
}

static int
unexpected(struct gate *g, const char *wanted)
{
	unsigned char c = (unsigned char)*g->at;

	if (g->at >= g->end)
		return fail(g, g->at, "it ends where %s is due", wanted);
	if (c > 0x20 && c < 0x7f)
		return fail(g, g->at, "'%c' where %s is due", c, wanted);
	return fail(g, g->at, "the byte 0x%02x where %s is due", c, wanted);
}

static void
skip_space(struct gate *g)
{
	while (*g->at == ' ' || *g->at == '\t' || *g->at == '\n' || *g->at == '\r')
		g->at++;
}

static int
hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Four hex digits; the zero at the end of the line is none.  -1: not so. */
static int
hex_four(const char *p)
{
	int value = 0;

	for (int i = 0; i < 4; i++) {
		int digit = hex_digit(p[i]);

		if (digit < 0)
			return -1;
		value = value << 4 | digit;
	}
	return value;
}

static int
check_unicode_escape(struct gate *g, const char **p)
{
	const char *escape = *p; /* at the backslash */
	int high = hex_four(escape + 2), low;

	if (high < 0)
		return fail(g, escape, "\\u without four hexadecimal digits");
	if (high == 0)
		return fail(g, escape, "\\u0000 is not taken");
	*p += 6;
	if (high < 0xd800 || high > 0xdfff)
		return 0;
	low = high < 0xdc00 && escape[6] == '\\' && escape[7] == 'u' ? hex_four(escape + 8) : -1;
	if (low < 0xdc00 || low > 0xdfff)
		return fail(g, escape, "half of a surrogate pair");
	*p += 6;
	return 0;
}

static int
check_escape(struct gate *g, const char **p)
{
	switch ((*p)[1]) {
	case '"':
	case '\\':
	case '/':
	case 'b':
	case 'f':
	case 'n':
	case 'r':
	case 't':
		*p += 2;
		return 0;
	case 'u':
		return check_unicode_escape(g, p);
	}
	return fail(g, *p, "an unknown escape in a string");
}

/* From one quote to the other.  ret_escapes: it holds a backslash. */
static int
check_string(struct gate *g, bool *ret_escapes)
{
	const char *open = g->at, *p = open + 1;
	unsigned char all = 0;

	*ret_escapes = false;
	for (;;) {
		unsigned char c = (unsigned char)*p;

		if (c == '"')
			break;
		if (c == '\\') {
			*ret_escapes = true;
			if (check_escape(g, &p) != 0)
				return E_PARSE;
			continue;
		}
		if (c < 0x20)
			return p >= g->end
				   ? fail(g, open, "a string without an end")
				   : fail(g, p, "the raw control byte 0x%02x in a string", c);
		all |= c;
		p++;
	}
	if ((all & 0x80) != 0 && !str_utf8_valid(open + 1, (size_t)(p - open) - 1))
		return fail(g, open, "a string that is not valid UTF-8");
	g->at = p + 1;
	return 0;
}

static char *
put_utf8(char *out, uint32_t c)
{
	if (c < 0x80) {
		*out++ = (char)c;
		return out;
	}
	if (c < 0x800) {
		*out++ = (char)(0xc0 | c >> 6);
	} else {
		if (c < 0x10000) {
			*out++ = (char)(0xe0 | c >> 12);
		} else {
			*out++ = (char)(0xf0 | c >> 18);
			*out++ = (char)(0x80 | (c >> 12 & 0x3f));
		}
		*out++ = (char)(0x80 | (c >> 6 & 0x3f));
	}
	*out++ = (char)(0x80 | (c & 0x3f));
	return out;
}

/* The text of a checked string: escapes never grow, so the line's length is room for all. */
static void
decode_key(struct gate *g, struct key *key)
{
	static const char letters[] = "bfnrt", meant[] = "\b\f\n\r\t";
	const char *p = key->text, *end = p + key->len;
	char *out;

	if (g->decoded == NULL)
		g->decoded = xmalloc((size_t)(g->end - g->start));
	out = g->decoded + g->decoded_len;
	key->text = out;
	while (p < end) {
		const char *letter;
		uint32_t c;

		if (*p != '\\') {
			*out++ = *p++;
		} else if (p[1] != 'u') {
			letter = strchr(letters, p[1]);
			*out++ = letter != NULL ? meant[letter - letters] : p[1];
			p += 2;
		} else {
			c = (uint32_t)hex_four(p + 2);
			p += 6;
			if (c >= 0xd800 && c < 0xdc00) {
				c = 0x10000 + ((c - 0xd800) << 10) +
				    ((uint32_t)hex_four(p + 2) - 0xdc00);
				p += 6;
			}
			out = put_utf8(out, c);
		}
	}
	key->len = (size_t)(out - key->text);
	g->decoded_len += key->len;
}

static int
check_key(struct gate *g, struct key *ret_key)
{
	const char *open = g->at;
	bool escapes;

	if (*g->at != '"')
		return unexpected(g, "a member's name in double quotes");
	if (check_string(g, &escapes) != 0)
		return E_PARSE;
	ret_key->text = open + 1;
	ret_key->len = (size_t)(g->at - open) - 2;
	ret_key->at = (size_t)(open - g->start);
	if (escapes)
		decode_key(g, ret_key);
	if (g->key_count == g->key_cap) {
		g->key_cap = g->key_cap != 0 ? 2 * g->key_cap : 64;
		g->keys = xreallocarray(g->keys, g->key_cap, sizeof(*g->keys));
	}
	g->keys[g->key_count++] = *ret_key;
	return 0;
}

/* Any order will do, so the cheap comparison comes first. */
static int
order_keys(const void *one, const void *two)
{
	const struct key *a = one, *b = two;
	int order;

	if (a->len != b->len)
		return a->len < b->len ? -1 : 1;
	order = memcmp(a->text, b->text, a->len);
	if (order != 0)
		return order;
	return a->at < b->at ? -1 : a->at > b->at;
}

static bool
same_key(const struct key *a, const struct key *b)
{
	return a->len == b->len && memcmp(a->text, b->text, a->len) == 0;
}

static int
check_duplicates(struct gate *g, size_t first)
{
	struct key *keys = g->keys + first;
	size_t count = g->key_count - first;

	if (count > FEW_KEYS)
		qsort(keys, count, sizeof(*keys), order_keys);
	for (size_t i = 1; i < count; i++)
		for (size_t j = count > FEW_KEYS ? i - 1 : 0; j < i; j++)
			if (same_key(&keys[j], &keys[i]))
				return fail(g, g->start + keys[i].at,
				    "the second member of that name in an object");
	return 0;
}

static void
note_id(struct gate *g, const char *value)
{
	if (g->ids == NULL || g->ids->count == 0 || g->ids->count > RPC_BATCH_MAX)
		return;
	g->ids->of[g->ids->count - 1].at = (size_t)(value - g->start);
	g->ids->of[g->ids->count - 1].len = (size_t)(g->at - value);
}

static int
check_member(struct gate *g, bool call)
{
	struct key key;
	const char *value;
	bool id;

	if (check_key(g, &key) != 0)
		return E_PARSE;
	skip_space(g);
	if (*g->at != ':')
		return unexpected(g, "':'");
	g->at++;
	skip_space(g);
	id = call && key.len == 2 && memcmp(key.text, "id", 2) == 0;
	value = g->at;
	if (check_value(g, id ? ROLE_ID : ROLE_PLAIN) != 0)
		return E_PARSE;
	if (id)
		note_id(g, value);
	return 0;
}

static int
check_object(struct gate *g, bool call)
{
	size_t first = g->key_count;
	int rc;

	g->at++;
	skip_space(g);
	if (*g->at == '}') {
		g->at++;
		return 0;
	}
	for (;;) {
		if (g->key_count - first == GATE_MEMBERS_MAX)
			return fail(
			    g, g->at, "more than %d members in an object", GATE_MEMBERS_MAX);
		if (check_member(g, call) != 0)
			return E_PARSE;
		skip_space(g);
		if (*g->at == '}')
			break;
		if (*g->at != ',')
			return unexpected(g, "',' or '}'");
		g->at++;
		skip_space(g);
	}
	rc = check_duplicates(g, first);
	g->key_count = first;
	g->at++;
	return rc;
}

static int
check_array(struct gate *g, enum role of_elements)
{
	g->at++;
	skip_space(g);
	if (*g->at == ']') {
		g->at++;
		return 0;
	}
	for (;;) {
		if (check_value(g, of_elements) != 0)
			return E_PARSE;
		skip_space(g);
		if (*g->at == ']')
			break;
		if (*g->at != ',')
			return unexpected(g, "',' or ']'");
		g->at++;
		skip_space(g);
	}
	g->at++;
	return 0;
}

static const char *
skip_digits(const char *p)
{
	while (*p >= '0' && *p <= '9')
		p++;
	return p;
}

/* json-c would bend a number that does not fit to the nearest that does. */
static bool
fits(const char *number, bool integer)
{
	errno = 0;
	if (!integer)
		return isfinite(strtod(number, NULL));
	if (number[0] == '-')
		strtoll(number, NULL, 10);
	else
		strtoull(number, NULL, 10);
	return errno == 0;
}

static int
check_number(struct gate *g, bool id)
{
	const char *start = g->at, *p = start + (*start == '-'), *part = p;
	bool integer = true;

	p = *p == '0' ? p + 1 : skip_digits(p);
	if (p == part)
		goto malformed;
	if (*p == '.') {
		integer = false;
		part = ++p;
		p = skip_digits(p);
		if (p == part)
			goto malformed;
	}
	if (*p == 'e' || *p == 'E') {
		integer = false;
		p++;
		part = p += *p == '+' || *p == '-';
		p = skip_digits(p);
		if (p == part)
			goto malformed;
	}
	if (p - start > GATE_NUMBER_MAX)
		return fail(g, start, "a number of more than %d characters", GATE_NUMBER_MAX);
	if (!id && p - start > 3 && !fits(start, integer))
		return fail(g, start, "a number that does not fit 64 bits");
	g->at = p;
	return 0;
malformed:
	g->at = p;
	return unexpected(g, "a digit");
}

static int
check_word(struct gate *g, const char *word)
{
	size_t len = strlen(word);

	if (strncmp(g->at, word, len) != 0)
		return unexpected(g, "a value");
	g->at += len;
	return 0;
}

static int
check_container(struct gate *g, enum role role)
{
	int rc;

	if (g->depth == RPC_DEPTH_MAX)
		return fail(g, g->at, "nested more than %d levels deep", RPC_DEPTH_MAX);
	g->depth++;
	if (*g->at == '{')
		rc = check_object(g, role == ROLE_LINE || role == ROLE_CALL);
	else
		rc = check_array(g, role == ROLE_LINE ? ROLE_CALL : ROLE_PLAIN);
	g->depth--;
	return rc;
}

static int
check_value(struct gate *g, enum role role)
{
	bool escapes;

	g->values += *g->at == '{' || *g->at == '[' ? GATE_CONTAINER_COST : 1;
	if (g->values > GATE_VALUES_MAX)
		return fail(g, g->at, "more than %d values", GATE_VALUES_MAX);
	if (g->ids != NULL && (role == ROLE_CALL || (role == ROLE_LINE && *g->at == '{'))) {
		if (g->ids->count < RPC_BATCH_MAX)
			g->ids->of[g->ids->count].at = g->ids->of[g->ids->count].len = 0;
		g->ids->count++;
	}
	switch (*g->at) {
	case '{':
	case '[':
		return check_container(g, role);
	case '"':
		return check_string(g, &escapes);
	case 't':
		return check_word(g, "true");
	case 'f':
		return check_word(g, "false");
	case 'n':
		return check_word(g, "null");
	}
	if (*g->at == '-' || (*g->at >= '0' && *g->at <= '9'))
		return check_number(g, role == ROLE_ID);
	return unexpected(g, "a value");
}

int
gate_scan(const char *text, size_t len, struct gate_ids *ret_ids, struct err *err)
{
	struct gate g = {
		.start = text, .at = text, .end = text + len, .ids = ret_ids, .err = err
	};
	int rc;

	if (len > RPC_LINE_MAX)
		return err_set(err, E_LIMIT, "the line is longer than %d bytes", RPC_LINE_MAX);
	if (ret_ids != NULL)
		ret_ids->count = 0;
	skip_space(&g);
	rc = check_value(&g, ROLE_LINE);
	if (rc == 0) {
		skip_space(&g);
		if (g.at != g.end)
			rc = unexpected(&g, "the end");
	}
	free(g.keys);
	free(g.decoded);
	return rc;
}

int
gate_check(const char *text, size_t len, struct err *err)
{
	return gate_scan(text, len, NULL, err);
}
