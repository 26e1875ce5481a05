/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/base/str.h"

#include <ctype.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/base/mem.h"

static void
sbuf_grow(struct sbuf *sb, size_t more)
{
	size_t need = sb->len + more + 1;

	if (need <= sb->cap)
		return;
	sb->cap = need > sb->cap * 2 ? need : sb->cap * 2;
	if (sb->cap < 64)
		sb->cap = 64;
	sb->data = xrealloc(sb->data, sb->cap);
}

void
sbuf_add(struct sbuf *sb, const void *data, size_t len)
{
	sbuf_grow(sb, len);
	if (len > 0)
		memcpy(sb->data + sb->len, data, len);
	sb->len += len;
	sb->data[sb->len] = '\0';
}

void
sbuf_adds(struct sbuf *sb, const char *s)
{
	sbuf_add(sb, s, strlen(s));
}

void
sbuf_addc(struct sbuf *sb, char c)
{
	sbuf_add(sb, &c, 1);
}

void
sbuf_addf(struct sbuf *sb, const char *fmt, ...)
{
	va_list ap, again;
	int len;

	va_start(ap, fmt);
	va_copy(again, ap);
	len = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (len > 0) {
		sbuf_grow(sb, (size_t)len);
		vsnprintf(sb->data + sb->len, (size_t)len + 1, fmt, again);
		sb->len += (size_t)len;
	}
	va_end(again);
}

void
sbuf_reset(struct sbuf *sb)
{
	sb->len = 0;
	if (sb->data != NULL)
		sb->data[0] = '\0';
}

void
sbuf_done(struct sbuf *sb)
{
	free(sb->data);
	memset(sb, 0, sizeof(*sb));
}

char *
sbuf_take(struct sbuf *sb)
{
	char *s;

	sbuf_grow(sb, 0);
	sb->data[sb->len] = '\0';
	s = sb->data;
	memset(sb, 0, sizeof(*sb));
	return s;
}

bool
str_eq(const char *a, const char *b)
{
	return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

bool
str_starts(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool
str_ends(const char *s, const char *suffix)
{
	size_t len = strlen(s), tail = strlen(suffix);

	return len >= tail && strcmp(s + len - tail, suffix) == 0;
}

/* The length of the valid UTF-8 sequence at s, or 0.  RFC 3629: no surrogates, no overlong forms. */
static size_t
utf8_sequence(const unsigned char *s, size_t len)
{
	static const struct {
		unsigned char first_lo, first_hi, second_lo, second_hi;
		unsigned char count;
	} forms[] = {
		{ 0x00, 0x7f, 0x00, 0x00, 1 }, { 0xc2, 0xdf, 0x80, 0xbf, 2 },
		{ 0xe0, 0xe0, 0xa0, 0xbf, 3 }, { 0xe1, 0xec, 0x80, 0xbf, 3 },
		{ 0xed, 0xed, 0x80, 0x9f, 3 }, { 0xee, 0xef, 0x80, 0xbf, 3 },
		{ 0xf0, 0xf0, 0x90, 0xbf, 4 }, { 0xf1, 0xf3, 0x80, 0xbf, 4 },
		{ 0xf4, 0xf4, 0x80, 0x8f, 4 },
	};

	for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
		if (s[0] < forms[i].first_lo || s[0] > forms[i].first_hi)
			continue;
		if (len < forms[i].count)
			return 0;
		if (forms[i].count > 1 &&
		    (s[1] < forms[i].second_lo || s[1] > forms[i].second_hi))
			return 0;
		for (size_t k = 2; k < forms[i].count; k++)
			if (s[k] < 0x80 || s[k] > 0xbf)
				return 0;
		return forms[i].count;
	}
	return 0;
}

bool
str_utf8_valid(const char *s, size_t len)
{
	size_t step;

	for (size_t i = 0; i < len; i += step) {
		step = utf8_sequence((const unsigned char *)s + i, len - i);
		if (step == 0)
			return false;
	}
	return true;
}

char *
str_printable(const char *s, size_t len)
{
	struct sbuf out = { 0 };
	size_t step;

	for (size_t i = 0; i < len; i += step) {
		unsigned char c = (unsigned char)s[i];

		step = utf8_sequence((const unsigned char *)s + i, len - i);
		/* C1 controls (U+0080..U+009F) steer some terminals too. */
		if (step == 2 && c == 0xc2 && (unsigned char)s[i + 1] < 0xa0)
			step = 0;
		if (step == 0 || (step == 1 && c != '\n' && c != '\t' && (c < 0x20 || c == 0x7f))) {
			sbuf_addf(&out, "\\x%02x", c);
			step = 1;
		} else {
			sbuf_add(&out, s + i, step);
		}
	}
	return sbuf_take(&out);
}

char *
str_line(const char *s, size_t len)
{
	char *line = str_printable(s, len);

	for (char *c = line; *c != '\0'; c++)
		if (*c == '\n' || *c == '\t')
			*c = ' ';
	return line;
}

size_t
str_distance(const char *a, const char *b)
{
	size_t la = strlen(a), lb = strlen(b), w = lb + 1;
	CLEANUP_FREE size_t *d = xcalloc((la + 1) * w, sizeof(*d));

	for (size_t i = 0; i <= la; i++)
		d[i * w] = i;
	for (size_t j = 0; j <= lb; j++)
		d[j] = j;
	for (size_t i = 1; i <= la; i++) {
		for (size_t j = 1; j <= lb; j++) {
			size_t best = d[(i - 1) * w + j - 1] + (a[i - 1] != b[j - 1]);

			if (d[(i - 1) * w + j] + 1 < best)
				best = d[(i - 1) * w + j] + 1;
			if (d[i * w + j - 1] + 1 < best)
				best = d[i * w + j - 1] + 1;
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] &&
			    d[(i - 2) * w + j - 2] + 1 < best)
				best = d[(i - 2) * w + j - 2] + 1;
			d[i * w + j] = best;
		}
	}
	return d[la * w + lb];
}

const char *
str_nearest(const char *word, const char *const *words, size_t count)
{
	const char *best = NULL;
	size_t best_distance, len = strlen(word);

	if (len > 64)
		return NULL;
	best_distance = len <= 3 ? 2 : len / 3 + 2; /* exclusive */
	for (size_t i = 0; i < count; i++) {
		size_t distance = str_distance(word, words[i]);

		if (distance < best_distance && distance < strlen(words[i])) {
			best = words[i];
			best_distance = distance;
		}
	}
	return best;
}

bool
str_to_u64(const char *s, uint64_t *ret_value)
{
	uint64_t value = 0;

	if (*s == '\0')
		return false;
	for (; *s != '\0'; s++) {
		if (*s < '0' || *s > '9' || value > (UINT64_MAX - (uint64_t)(*s - '0')) / 10)
			return false;
		value = value * 10 + (uint64_t)(*s - '0');
	}
	*ret_value = value;
	return true;
}

struct unit {
	const char *name;
	double factor;
};

/* Reads "digits[.digits]" and then a unit of the table; moves *s past both.  No unit: `bare`. */
static bool
read_quantity(const char **s, const struct unit *units, size_t count, double bare, double *ret)
{
	const char *p = *s;
	double value = 0, scale = 1;
	size_t len;

	if (!isdigit((unsigned char)*p))
		return false;
	for (; isdigit((unsigned char)*p); p++)
		value = value * 10 + (*p - '0');
	if (*p == '.') {
		if (!isdigit((unsigned char)*++p))
			return false;
		for (; isdigit((unsigned char)*p); p++) {
			scale /= 10;
			value += (*p - '0') * scale;
		}
	}
	while (*p == ' ')
		p++;
	for (len = 0; isalpha((unsigned char)p[len]); len++)
		;
	if (len == 0) {
		if (*p != '\0')
			return false;
		*ret = value * bare;
		*s = p;
		return true;
	}
	for (size_t i = 0; i < count; i++) {
		if (strlen(units[i].name) == len && strncasecmp(units[i].name, p, len) == 0) {
			*ret = value * units[i].factor;
			*s = p + len;
			return true;
		}
	}
	return false;
}

int
str_to_size(const char *s, uint64_t unit, uint64_t *ret_bytes, struct err *err)
{
	static const struct unit units[] = {
		{ "B", 1 }, { "K", 0x1p10 }, { "KiB", 0x1p10 }, { "KB", 1e3 }, { "M", 0x1p20 },
		{ "MiB", 0x1p20 }, { "MB", 1e6 }, { "G", 0x1p30 }, { "GiB", 0x1p30 }, { "GB", 1e9 },
		{ "T", 0x1p40 }, { "TiB", 0x1p40 }, { "TB", 1e12 },
	};
	const char *p = s;
	double bytes;

	if (!read_quantity(&p, units, ARRAY_LEN(units), (double)unit, &bytes) || *p != '\0') {
		err_set(err, E_PARAMS, "'%s' is not a size", s);
		err_hint(err, "write a number with a unit, such as 512MiB or 10GiB");
		return E_PARAMS;
	}
	if (bytes >= 0x1p63)
		return err_set(err, E_PARAMS, "'%s' is too large", s);
	if (bytes != floor(bytes))
		return err_set(err, E_PARAMS, "'%s' is not a whole number of bytes", s);
	*ret_bytes = (uint64_t)bytes;
	return 0;
}

int
str_to_duration(const char *s, uint64_t *ret_ms, struct err *err)
{
	static const struct unit units[] = {
		{ "ms", 1 }, { "s", 1e3 }, { "sec", 1e3 }, { "m", 6e4 }, { "min", 6e4 },
		{ "h", 3.6e6 }, { "d", 8.64e7 },
	};
	const char *p = s;
	double total = 0, part;

	do {
		if (!read_quantity(&p, units, ARRAY_LEN(units), 1e3, &part)) {
			err_set(err, E_PARAMS, "'%s' is not a duration", s);
			err_hint(err, "write a number with a unit, such as 90s, 10min or 1h30m");
			return E_PARAMS;
		}
		total += part;
	} while (*p != '\0');
	if (total > 366 * 8.64e7)
		return err_set(err, E_PARAMS, "'%s' is longer than a year", s);
	*ret_ms = (uint64_t)total;
	return 0;
}

char *
str_size(uint64_t bytes)
{
	static const char *const names[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
	double value = (double)bytes;
	size_t i = 0;

	while (value >= 1024 && i + 1 < ARRAY_LEN(names)) {
		value /= 1024;
		i++;
	}
	if (value == floor(value))
		return xasprintf("%.0f %s", value, names[i]);
	return xasprintf("%.1f %s", value, names[i]);
}

bool
str_name_valid(const char *name)
{
	size_t len = strlen(name);

	if (len == 0 || len > 63 || name[0] == '-' || name[len - 1] == '-')
		return false;
	for (size_t i = 0; i < len; i++)
		if (!(name[i] >= 'a' && name[i] <= 'z') && !(name[i] >= '0' && name[i] <= '9') &&
		    name[i] != '-')
			return false;
	return true;
}

int
str_name_check(const char *name, struct err *err)
{
	CLEANUP_FREE char *shown = NULL;

	if (str_name_valid(name))
		return 0;
	shown = str_printable(name, strnlen(name, 80));
	err_set(err, E_PARAMS, "'%s' is not a name for a machine", shown);
	err_hint(err, "use 1 to 63 of a-z, 0-9 and '-', with no '-' at either end");
	err_object(err, shown);
	return E_PARAMS;
}

static const char base64_digits[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

char *
str_base64(const void *data, size_t len)
{
	const unsigned char *in = data;
	char *out = xmalloc((len + 2) / 3 * 4 + 1), *p = out;

	for (size_t i = 0; i < len; i += 3) {
		uint32_t v = (uint32_t)in[i] << 16;

		if (i + 1 < len)
			v |= (uint32_t)in[i + 1] << 8;
		if (i + 2 < len)
			v |= in[i + 2];
		*p++ = base64_digits[v >> 18];
		*p++ = base64_digits[v >> 12 & 63];
		*p++ = i + 1 < len ? base64_digits[v >> 6 & 63] : '=';
		*p++ = i + 2 < len ? base64_digits[v & 63] : '=';
	}
	*p = '\0';
	return out;
}

int
str_unbase64(const char *s, unsigned char **ret_data, size_t *ret_len)
{
	size_t len = strlen(s), pad = 0, n = 0;
	CLEANUP_FREE unsigned char *out = NULL;

	if (len % 4 != 0)
		return E_PARAMS;
	while (pad < 2 && len > pad && s[len - 1 - pad] == '=')
		pad++;
	out = xmalloc(len / 4 * 3 + 1);
	for (size_t i = 0; i < len; i += 4) {
		uint32_t v = 0;

		for (size_t k = 0; k < 4; k++) {
			const char *digit = NULL;

			if (i + k < len - pad) {
				digit = memchr(base64_digits, s[i + k], 64);
				if (digit == NULL)
					return E_PARAMS;
			}
			v = v << 6 | (digit != NULL ? (uint32_t)(digit - base64_digits) : 0);
		}
		out[n++] = (unsigned char)(v >> 16);
		out[n++] = (unsigned char)(v >> 8);
		out[n++] = (unsigned char)v;
	}
	*ret_len = n - pad;
	*ret_data = TAKE(out);
	return 0;
}

char *
str_hex(const void *data, size_t len)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *in = data;
	char *out = xmalloc(len * 2 + 1);

	for (size_t i = 0; i < len; i++) {
		out[i * 2] = digits[in[i] >> 4];
		out[i * 2 + 1] = digits[in[i] & 15];
	}
	out[len * 2] = '\0';
	return out;
}
