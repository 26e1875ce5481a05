/* SPDX-License-Identifier: MPL-2.0 */
#include "client/auth_source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "tests/unit/unit.h"

static struct auth_site
site(const char *host, const char *path)
{
	return (struct auth_site){ .host = (char *)(uintptr_t)host,
		.path = (char *)(uintptr_t)path };
}

static bool
netrc(const char *text, const char *host, struct host_auth *ret_login)
{
	*ret_login = (struct host_auth){ 0 };
	return netrc_find(text, strlen(text), host, NULL, ret_login);
}

START_TEST(netrc__words_quotes_macros__the_machine_is_found)
{
	static const char text[] = "# a comment\n"
				   "machine other.example login o password wrong\n"
				   "macdef m\nmachine in.macro password wrong\n\n"
				   "machine Site.example\n\tlogin me password \"a b\\\"c#\"\n"
				   "default login any password rest\n";
	struct host_auth login;

	ck_assert(netrc(text, "site.example", &login));
	ck_assert_str_eq(login.username, "me");
	ck_assert_str_eq(login.password, "a b\"c#");
	login_done(&login);
	ck_assert(netrc(text, "in.macro", &login));
	ck_assert_str_eq(login.password, "rest");
	login_done(&login);
	ck_assert(!netrc("machine a login b", "a", &login));
	ck_assert(!netrc("machine a password", "a", &login));
}
END_TEST

static void
write_text(const char *dir, const char *name, const char *text, mode_t mode)
{
	CLEANUP_FREE char *path = fs_join(dir, name);

	ck_assert_int_eq(fs_write(path, text, strlen(text), mode, NULL), 0);
}

START_TEST(config__most_specific_key__wins)
{
	char dir[] = "/tmp/vmm-auth-XXXXXX";
	struct auth_site org = site("ghcr.io", "org/image"), hub = site("index.docker.io", "library/x");
	struct auth_site near = site("ghcr.io", "organ/image"), none = site("ghcr.io.evil", "org");
	struct host_auth login = { 0 };
	CLEANUP_FREE char *path = NULL;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	path = fs_join(dir, "config.json");
	write_text(dir, "config.json",
	    "{\"auths\":{\"ghcr.io\":{\"auth\":\"dTpwOnc=\"},\"ghcr.io/org\":{\"auth\":\"bzpw\"},"
	    "\"https://index.docker.io/v1/\":{\"identitytoken\":\"id\"}}}\n",
	    0600);
	ck_assert_int_eq(auth_config_find(path, &org, &login, NULL), 0);
	ck_assert_str_eq(login.host, "ghcr.io/org");
	ck_assert_str_eq(login.username, "o");
	login_done(&login);
	ck_assert_int_eq(auth_config_find(path, &near, &login, NULL), 0);
	ck_assert_str_eq(login.host, "ghcr.io");
	ck_assert_str_eq(login.password, "p:w");
	login_done(&login);
	ck_assert_int_eq(auth_config_find(path, &hub, &login, NULL), 0);
	ck_assert_str_eq(login.identity_token, "id");
	login_done(&login);
	ck_assert_int_eq(auth_config_find(path, &none, &login, NULL), 0);
	ck_assert(!login.present);
	fs_remove_tree(dir, NULL);
}
END_TEST

START_TEST(helper__answers_and_failures__told_without_secrets)
{
	char dir[] = "/tmp/vmm-auth-XXXXXX";
	struct auth_site reg = site("reg.example:5000", "x");
	struct host_auth login = { 0 };
	struct err err = ERR_INIT;
	CLEANUP_FREE char *path = NULL, *search = NULL;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	search = xasprintf("%s:%s", dir, getenv("PATH"));
	setenv("PATH", search, 1);
	path = fs_join(dir, "config.json");
	write_text(dir, "docker-credential-good",
	    "#!/bin/sh\nread s\necho \"{\\\"Username\\\":\\\"<token>\\\",\\\"Secret\\\":\\\"for "
	    "$s\\\"}\"\n", 0700);
	write_text(dir, "docker-credential-none",
	    "#!/bin/sh\necho credentials not found in native keychain; exit 1\n", 0700);
	write_text(dir, "docker-credential-bad",
	    "#!/bin/sh\necho hunter2; echo hunter2 >&2; exit 1\n", 0700);

	write_text(dir, "config.json", "{\"credHelpers\":{\"reg.example:5000\":\"good\"}}", 0600);
	ck_assert_int_eq(auth_config_find(path, &reg, &login, &err), 0);
	ck_assert_str_eq(login.identity_token, "for reg.example:5000");
	login_done(&login);
	write_text(dir, "config.json", "{\"credsStore\":\"none\"}", 0600);
	ck_assert_int_eq(auth_config_find(path, &reg, &login, &err), 0);
	ck_assert(!login.present);
	write_text(dir, "config.json", "{\"credsStore\":\"bad\"}", 0600);
	ck_assert_int_eq(auth_config_find(path, &reg, &login, &err), E_FAILED);
	ck_assert_ptr_nonnull(strstr(err.msg, "docker-credential-bad"));
	ck_assert_ptr_null(strstr(err.msg, "hunter2"));
	ck_assert_ptr_null(strstr(err.hint, "hunter2"));
	write_text(dir, "config.json", "{\"credsStore\":\"../bad\"}", 0600);
	ck_assert_int_eq(auth_config_find(path, &reg, &login, &err), E_FAILED);
	fs_remove_tree(dir, NULL);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("client_auth");

	UNIT_CASE(suite, netrc__words_quotes_macros__the_machine_is_found);
	UNIT_CASE(suite, config__most_specific_key__wins);
	UNIT_CASE(suite, helper__answers_and_failures__told_without_secrets);
	return unit_main(suite);
}
