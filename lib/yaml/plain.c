/* SPDX-License-Identifier: MPL-2.0
 *
 * The implicit types of YAML 1.1, as far as somebody could mean something else by them.  Nothing
 * is converted: the kind decides whether a plain scalar may stand where it stands. */
#include <string.h>
#include <strings.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/yaml/yaml.h"

static bool
among(const char *text, const char *const *words, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (strcasecmp(text, words[i]) == 0)
			return true;
	return false;
}

static bool
all_of(const char *text, const char *set)
{
	return *text != '\0' && text[strspn(text, set)] == '\0';
}

/* Digits and underscores, then ":" and one or two digits below 60, once or more. */
static bool
is_sexagesimal(const char *text)
{
	size_t n = strspn(text, "0123456789_");
	const char *p = text + n;

	if (n == 0 || *text == '_' || *p != ':')
		return false;
	while (*p == ':') {
		n = strspn(p + 1, "0123456789");
		if (n < 1 || n > 2 || (n == 2 && p[1] > '5'))
			return false;
		p += n + 1;
	}
	return *p == '\0' || (*p == '.' && p[1 + strspn(p + 1, "0123456789_")] == '\0');
}

static bool
is_odd_integer(const char *text)
{
	const char *digits = text + (*text == '+' || *text == '-');

	if (*digits == '0' && (digits[1] == 'x' || digits[1] == 'X'))
		return all_of(digits + 2, "0123456789abcdefABCDEF_");
	if (*digits == '0' &&
	    (digits[1] == 'o' || digits[1] == 'O' || digits[1] == 'b' || digits[1] == 'B'))
		return all_of(digits + 2, "01234567_");
	if (*digits >= '0' && *digits <= '9' && all_of(digits, "0123456789_"))
		return true;
	return is_sexagesimal(digits);
}

/* 1.5e3, 1e3, .5, 1_0.5, .inf, .nan; "1.5" is told apart before. */
static bool
is_odd_float(const char *text)
{
	static const char *const words[] = { ".inf", ".nan" };
	const char *p = text + (*text == '+' || *text == '-');
	size_t digits, fraction = 0;

	if (among(p, words, ARRAY_LEN(words)))
		return true;
	digits = strspn(p, "0123456789_");
	if (digits > 0 && *p == '_')
		return false;
	p += digits;
	if (*p == '.') {
		fraction = strspn(++p, "0123456789_");
		p += fraction;
	}
	if (digits + fraction == 0)
		return false;
	if (*p == 'e' || *p == 'E') {
		p++;
		p += *p == '+' || *p == '-';
		return all_of(p, "0123456789");
	}
	return *p == '\0';
}

static bool
is_plain_integer(const char *text)
{
	const char *digits = text + (*text == '-');

	return all_of(digits, "0123456789") && (digits[0] != '0' || digits[1] == '\0');
}

static bool
is_plain_float(const char *text)
{
	const char *p = text + (*text == '-');
	size_t whole = strspn(p, "0123456789");

	return whole > 0 && (*p != '0' || whole == 1) && p[whole] == '.' &&
	       all_of(p + whole + 1, "0123456789");
}

enum plain_kind
node_plain_kind(const struct node *node)
{
	static const char *const nulls[] = { "", "~", "null" };
	static const char *const bools[] = { "true", "false", "yes", "no", "on", "off", "y", "n" };

	if (node->kind != NODE_SCALAR || !node->plain)
		return PLAIN_TEXT;
	if (among(node->text, nulls, ARRAY_LEN(nulls)))
		return PLAIN_NULL;
	if (among(node->text, bools, ARRAY_LEN(bools)))
		return PLAIN_BOOL;
	if (str_eq(node->text, "=") || str_eq(node->text, "<<"))
		return PLAIN_SPECIAL;
	if (is_plain_integer(node->text))
		return PLAIN_INT;
	if (is_plain_float(node->text))
		return PLAIN_FLOAT;
	if (is_odd_integer(node->text))
		return PLAIN_ODD_INT;
	return is_odd_float(node->text) ? PLAIN_ODD_FLOAT : PLAIN_TEXT;
}

const char *
plain_kind_name(enum plain_kind kind)
{
	switch (kind) {
	case PLAIN_TEXT:
		return "a string";
	case PLAIN_NULL:
		return "nothing";
	case PLAIN_BOOL:
		return "a boolean";
	case PLAIN_INT:
	case PLAIN_ODD_INT:
	case PLAIN_FLOAT:
	case PLAIN_ODD_FLOAT:
		return "a number";
	case PLAIN_SPECIAL:
		return "a sign";
	}
	return "a value";
}

bool
node_bool(const struct node *node, bool *ret_value)
{
	if (node->kind != NODE_SCALAR || !node->plain ||
	    (!str_eq(node->text, "true") && !str_eq(node->text, "false")))
		return false;
	*ret_value = str_eq(node->text, "true");
	return true;
}
