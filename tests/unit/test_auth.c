/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/model/auth.h"

#include <string.h>

#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "tests/unit/unit.h"

/* From JSON, in which ' stands for ". */
static struct fetch_auth
auth_of(const char *text)
{
	CLEANUP_FREE char *copy = xstrdup(text);
	CLEANUP_JSON json_object *doc = NULL;
	struct fetch_auth auth = { 0 };
	struct err err = ERR_INIT;

	for (char *p = copy; *p != '\0'; p++)
		if (*p == '\'')
			*p = '"';
	doc = json_tokener_parse(copy);
	ck_assert_msg(doc != NULL && fields_decode_one(fetch_auth_fields, doc, &auth, &err) == 0,
	    "%s: %s", copy, err.msg);
	return auth;
}

static const char some_hosts[] = "{'hosts':["
	"{'for':'registry.example','username':'wide'},"
	"{'for':'registry.example/team','username':'team'},"
	"{'for':'registry.example/team/app/','username':'app'},"
	"{'for':'registry.example:5000','username':'port'},"
	"{'for':'Secure.Example:443','username':'secure'},"
	"{'for':'[::1]','username':'six'},"
	"{'for':'[::1]:5000','username':'six-port'}]}";

START_TEST(auth__find__the_longest_that_covers)
{
	static const struct {
		const char *host, *path, *user;
	} cases[] = {
		{ "registry.example", NULL, "wide" },
		{ "REGISTRY.example", "library/x", "wide" },
		{ "registry.example:443", "x", "wide" },
		{ "registry.example:80", "x", "wide" },
		{ "registry.example", "team", "team" },
		{ "registry.example", "/team/x", "team" },
		{ "registry.example", "teams/x", "wide" }, /* by whole segments */
		{ "registry.example", "team/app", "app" },
		{ "registry.example", "team/app/disk", "app" },
		{ "registry.example", "team/apple", "team" },
		{ "registry.example", "Team/app", "wide" }, /* paths know cases */
		{ "registry.example:5000", "team/app", "port" },
		{ "registry.example:5001", "team", NULL },
		{ "secure.example", NULL, "secure" },
		{ "example", NULL, NULL },
		{ "sub.registry.example", NULL, NULL },
		{ "registry.example.evil", NULL, NULL },
		{ "registry.exampl", NULL, NULL },
		{ "[::1]", NULL, "six" },
		{ "[::1]:443", NULL, "six" },
		{ "[::1]:5000", NULL, "six-port" },
		{ "[::1]:5001", NULL, NULL },
		{ "", NULL, NULL },
	};
	struct fetch_auth auth = auth_of(some_hosts);

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		const struct host_auth *found =
		    fetch_auth_find(&auth, cases[i].host, cases[i].path);
		const char *user = found != NULL ? found->username : "(none)";

		ck_assert_msg(strcmp(user, cases[i].user != NULL ? cases[i].user : "(none)") == 0,
		    "%s %s: %s", cases[i].host, cases[i].path, user);
	}
	ck_assert_ptr_null(fetch_auth_find(NULL, "registry.example", NULL));
	ck_assert_ptr_null(fetch_auth_find(&auth, NULL, NULL));
	fetch_auth_release(&auth);
}
END_TEST

/* Who may share a transfer. */
START_TEST(auth__key__differs_with_what_is_secret)
{
	static const char *const texts[] = {
		"{'hosts':[{'for':'a','username':'u','password':'p'}]}",
		/* Moved from one field to the next is not the same. */
		"{'hosts':[{'for':'a','username':'up','password':''}]}",
		"{'hosts':[{'for':'a','username':'u','password':'q'}]}",
		"{'hosts':[{'for':'a','token':'t'}]}",
		"{'hosts':[{'for':'a','identity_token':'t'}]}",
		"{'http_proxy':'t'}",
		"{'https_proxy':'t'}",
	};
	char *keys[ARRAY_LEN(texts)];
	CLEANUP_FREE char *none = fetch_auth_key(NULL, "a", NULL);

	ck_assert_str_eq(none, "anonymous");
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		struct fetch_auth auth = auth_of(texts[i]);
		CLEANUP_FREE char *again = fetch_auth_key(&auth, "A", "x");
		CLEANUP_FREE char *elsewhere = fetch_auth_key(&auth, "b", NULL);

		keys[i] = fetch_auth_key(&auth, "a", NULL);
		ck_assert_uint_eq(strlen(keys[i]), 16);
		ck_assert_str_eq(keys[i], again);
		/* A proxy is for all hosts, a password for one. */
		ck_assert((auth.hosts.count > 0) == str_eq(elsewhere, "anonymous"));
		for (size_t j = 0; j < i; j++)
			ck_assert_str_ne(keys[i], keys[j]);
		fetch_auth_release(&auth);
	}
	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		free(keys[i]);
}
END_TEST

START_TEST(auth__copy__is_deep)
{
	struct fetch_auth auth = auth_of(some_hosts), copy = { 0 };
	const struct host_auth *found;

	fetch_auth_copy(&copy, &auth);
	fetch_auth_release(&auth);
	ck_assert_uint_eq(auth.hosts.count, 0);
	found = fetch_auth_find(&copy, "registry.example", "team/app");
	ck_assert_ptr_nonnull(found);
	ck_assert_str_eq(found->username, "app");
	fetch_auth_release(&copy);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("auth");

	UNIT_CASE(suite, auth__find__the_longest_that_covers);
	UNIT_CASE(suite, auth__key__differs_with_what_is_secret);
	UNIT_CASE(suite, auth__copy__is_deep);
	return unit_main(suite);
}
