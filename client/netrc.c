/* SPDX-License-Identifier: MPL-2.0
 *
 * ~/.netrc as curl reads it: words, quoted or not, in machines.  libcurl reads the file only
 * inside of a transfer, and here is none: what the daemon gets is the one entry that it needs. */
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "client/auth_source.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"

struct scan {
	const char *p, *end;
};

static bool
at_space(const struct scan *s)
{
	return s->p < s->end && isspace((unsigned char)*s->p);
}

static void
skip_line(struct scan *s)
{
	while (s->p < s->end && *s->p != '\n')
		s->p++;
}

static char
unescaped(char c)
{
	switch (c) {
	case 'n':
		return '\n';
	case 'r':
		return '\r';
	case 't':
		return '\t';
	default:
		return c;
	}
}

/* Owned; NULL at the end.  A '#' that begins a word begins a comment, but not where a value has to
 * be: passwords may begin so. */
static char *
next_word(struct scan *s, bool value)
{
	struct sbuf word = { 0 };
	bool quoted;

	for (;;) {
		while (at_space(s))
			s->p++;
		if (s->p == s->end)
			return NULL;
		if (*s->p != '#' || value)
			break;
		skip_line(s);
	}
	quoted = *s->p == '"';
	if (quoted)
		s->p++;
	while (s->p < s->end && (quoted ? *s->p != '"' : !at_space(s))) {
		if (quoted && *s->p == '\\' && s->p + 1 < s->end)
			sbuf_addc(&word, unescaped(*++s->p));
		else
			sbuf_addc(&word, *s->p);
		s->p++;
	}
	if (quoted && s->p < s->end)
		s->p++;
	return sbuf_take(&word);
}

/* A macro ends with an empty line. */
static void
skip_macro(struct scan *s)
{
	do {
		skip_line(s);
		if (s->p < s->end)
			s->p++;
	} while (s->p < s->end && *s->p != '\n');
}

static bool
is_wanted(const struct host_auth *login, const char *user)
{
	if (login->password == NULL)
		return false;
	return user == NULL || login->username == NULL || str_eq(user, login->username);
}

static void
take_value(struct scan *s, char **into)
{
	char *value = next_word(s, true);

	auth_wipe_text(into);
	*into = value;
}

bool
netrc_find(
    const char *text, size_t len, const char *host, const char *user, struct host_auth *ret_login)
{
	struct scan s = { text, text + len };
	struct host_auth login = { 0 };
	bool ours = false;
	char *word;

	while ((word = next_word(&s, false)) != NULL) {
		CLEANUP_FREE char *key = word, *value = NULL;
		bool machine = str_eq(key, "machine");

		if (machine || str_eq(key, "default")) {
			if (is_wanted(&login, user))
				break;
			login_done(&login);
			if (machine)
				value = next_word(&s, true);
			ours = !machine || (value != NULL && strcasecmp(value, host) == 0);
		} else if (str_eq(key, "macdef")) {
			skip_macro(&s);
		} else if (ours && str_eq(key, "login")) {
			take_value(&s, &login.username);
		} else if (ours && str_eq(key, "password")) {
			take_value(&s, &login.password);
		} else if (str_eq(key, "login") || str_eq(key, "password") ||
			   str_eq(key, "account")) {
			take_value(&s, &value);
			auth_wipe_text(&value);
		}
	}
	if (!is_wanted(&login, user)) {
		login_done(&login);
		return false;
	}
	if (login.username == NULL)
		login.username = xstrdup(user != NULL ? user : "");
	login.present = true;
	*ret_login = login;
	return true;
}
