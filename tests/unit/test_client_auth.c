/* SPDX-License-Identifier: MPL-2.0 */
#include "client/auth_source.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "client/auth.h"
#include "client/conn.h"
#include "lib/base/fs.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "tests/unit/unit.h"

static struct auth_site
site(const char *host, const char *path)
{
	return (
	    struct auth_site){ .host = (char *)(uintptr_t)host, .path = (char *)(uintptr_t)path };
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
	struct auth_site org = site("ghcr.io", "org/image"),
			 hub = site("index.docker.io", "library/x");
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
	    "$s\\\"}\"\n",
	    0700);
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

/* ---- all of a call ---- */

static const char *const variables[] = { "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME",
	"DOCKER_CONFIG", "GITHUB_TOKEN", "NETRC", "http_proxy", "https_proxy", "HTTPS_PROXY",
	"all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY" };

/* Owned folder: a home of nobody's, and an environment without what the real one has. */
static char *
fresh_home(void)
{
	char *dir = xstrdup("/tmp/vmm-auth-XXXXXX");

	ck_assert_ptr_nonnull(mkdtemp(dir));
	for (size_t i = 0; i < ARRAY_LEN(variables); i++)
		unsetenv(variables[i]);
	setenv("HOME", dir, 1);
	return dir;
}

/* Owned text of what would be sent; "null": nothing. */
static char *
sent(const char *const *references, size_t count)
{
	struct json_object *auth = NULL;
	struct err err = ERR_INIT;
	char *text;

	ck_assert_msg(auth_find(references, count, &auth, &err) == 0, "%s", err.msg);
	text = xstrdup(json_object_to_json_string_ext(auth, JSON_TEXT_FLAGS));
	json_object_put(auth);
	return text;
}

static char *
sent_for(const char *reference)
{
	return sent(&reference, 1);
}

START_TEST(auth__urls__what_they_say_then_netrc)
{
	static const char *const both[] = { "https://a.example/x", "https://a.example/y" };
	static const char *const differ[] = { "https://u:p1@a.example/x",
		"https://u:p2@a.example/y" };
	struct json_object *auth = NULL;
	struct err err = ERR_INIT;
	CLEANUP_FREE char *home = fresh_home(), *own = NULL, *of_file = NULL, *named = NULL;
	CLEANUP_FREE char *other = NULL, *once = NULL, *port = NULL;

	write_text(home, ".netrc",
	    "machine a.example login n password p\n"
	    "machine a.example login o password q\n",
	    0600);
	own = sent_for("https://u%40x:p%3aw@B.example:443/x");
	ck_assert_str_eq(own, "{\"hosts\":[{\"for\":\"b.example\",\"username\":\"u@x\","
			      "\"password\":\"p:w\"}]}");
	of_file = sent_for("https://a.example/x");
	ck_assert_str_eq(of_file, "{\"hosts\":[{\"for\":\"a.example\",\"username\":\"n\","
				  "\"password\":\"p\"}]}");
	named = sent_for("https://o@a.example/x");
	ck_assert_ptr_nonnull(strstr(named, "\"password\":\"q\""));
	port = sent_for("http://a.example:8080/x");
	ck_assert_ptr_nonnull(strstr(port, "\"for\":\"a.example:8080\""));
	other = sent_for("https://c.example/x");
	ck_assert_str_eq(other, "null");
	ck_assert_int_eq(auth_find(differ, 2, &auth, &err), E_USAGE);
	ck_assert_ptr_null(strstr(err.msg, "p2"));
	once = sent(both, 2);
	ck_assert_str_eq(once, of_file);
	fs_remove_tree(home, NULL);
}
END_TEST

START_TEST(auth__login_in_a_url__does_not_travel)
{
	CLEANUP_FREE char *with = auth_url_without_login("https://u:p@h.example:1/a@b?c=d@e"),
			  *without = auth_url_without_login("https://h.example/a@b");

	ck_assert_str_eq(with, "https://h.example:1/a@b?c=d@e");
	ck_assert_str_eq(without, "https://h.example/a@b");
}
END_TEST

START_TEST(auth__registries__files_in_order_and_github_token_for_ghcr_alone)
{
	CLEANUP_FREE char *home = fresh_home(), *runtime = fs_join(home, "run"), *none = NULL;
	CLEANUP_FREE char *docker = NULL, *first = NULL, *github = NULL, *other = NULL, *dir = NULL;
	CLEANUP_FREE char *file = fs_join(home, "f.json"), *top = NULL;

	none = sent_for("oci://ghcr.io/org/x:1");
	ck_assert_str_eq(none, "null");
	setenv("GITHUB_TOKEN", "t0k", 1);
	github = sent_for("oci://ghcr.io/org/x:1");
	ck_assert_str_eq(github, "{\"hosts\":[{\"for\":\"ghcr.io\",\"username\":\"_token\","
				 "\"password\":\"t0k\"}]}");
	other = sent_for("oci://quay.io/org/x:1");
	ck_assert_str_eq(other, "null");

	dir = fs_join(home, ".docker");
	ck_assert_int_eq(fs_mkdirs(dir, 0700, NULL), 0);
	write_text(dir, "config.json", "{\"auths\":{\"ghcr.io\":{\"auth\":\"ZDpk\"}}}", 0600);
	docker = sent_for("oci://ghcr.io/org/x:1");
	ck_assert_ptr_nonnull(strstr(docker, "\"username\":\"d\""));

	free(TAKE(dir));
	dir = fs_join(runtime, "containers");
	ck_assert_int_eq(fs_mkdirs(dir, 0700, NULL), 0);
	write_text(dir, "auth.json", "{\"auths\":{\"ghcr.io\":{\"auth\":\"cjpy\"}}}", 0600);
	setenv("XDG_RUNTIME_DIR", runtime, 1);
	first = sent_for("oci://ghcr.io/org/x:1");
	ck_assert_ptr_nonnull(strstr(first, "\"username\":\"r\""));

	write_text(home, "f.json", "{\"auths\":{\"ghcr.io\":{\"auth\":\"Zjpm\"}}}", 0600);
	setenv("REGISTRY_AUTH_FILE", file, 1);
	top = sent_for("oci://ghcr.io/org/x:1");
	ck_assert_ptr_nonnull(strstr(top, "\"username\":\"f\""));
	fs_remove_tree(home, NULL);
}
END_TEST

START_TEST(auth__what_nobody_asks_for__is_not_looked_up)
{
	static const char *const mixed[] = { "https://a.example/x", "debian:12", "/a/path",
		"sha256:0123456789" };
	CLEANUP_FREE char *home = fresh_home(), *dir = fs_join(home, ".docker"), *mark = NULL;
	CLEANUP_FREE char *search = NULL, *script = NULL, *text = NULL;
	const char *ghcr = "oci://ghcr.io/x/y";
	struct json_object *auth = NULL;
	struct err err = ERR_INIT;

	mark = fs_join(home, "ran");
	script = xasprintf("#!/bin/sh\ntouch %s; exit 1\n", mark);
	ck_assert_int_eq(fs_mkdirs(dir, 0700, NULL), 0);
	write_text(dir, "config.json", "{\"credsStore\":\"touch\"}", 0600);
	write_text(home, "docker-credential-touch", script, 0700);
	search = xasprintf("%s:%s", home, getenv("PATH"));
	setenv("PATH", search, 1);
	text = sent(mixed, ARRAY_LEN(mixed));
	ck_assert_str_eq(text, "null");
	ck_assert(!fs_exists(mark));
	ck_assert_int_eq(auth_find(&ghcr, 1, &auth, &err), E_FAILED);
	ck_assert(fs_exists(mark));
	fs_remove_tree(home, NULL);
}
END_TEST

START_TEST(auth__proxies__of_the_environment)
{
	CLEANUP_FREE char *home = fresh_home(), *proxies = NULL, *nothing = NULL, *none = NULL;

	setenv("no_proxy", "localhost", 1);
	none = sent_for("https://a.example/x");
	ck_assert_str_eq(none, "null");
	setenv("HTTPS_PROXY", "http://p.example:1", 1);
	setenv("HTTP_PROXY", "http://evil.example:1", 1);
	proxies = sent_for("https://a.example/x");
	ck_assert_str_eq(
	    proxies, "{\"https_proxy\":\"http://p.example:1\",\"no_proxy\":\"localhost\"}");
	nothing = sent_for("/a/path");
	ck_assert_str_eq(nothing, "null");
	unsetenv("HTTP_PROXY");
	fs_remove_tree(home, NULL);
}
END_TEST

START_TEST(auth__wiped__holds_no_secret)
{
	struct json_object *auth = json_tokener_parse("{\"hosts\":[{\"password\":\"hunter2\"}]}");
	const char *text;

	auth_wipe(auth);
	text = json_object_to_json_string(auth);
	ck_assert_ptr_null(strstr(text, "hunter2"));
	json_object_put(auth);
}
END_TEST

START_TEST(sent__line__leaves_no_text_behind)
{
	struct json_object *message = json_tokener_parse("{\"auth\":{\"password\":\"hunter2\"}}");
	/* json-c makes its text in the same memory each time. */
	const char *text = json_object_to_json_string_ext(
	    message, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
	struct conn conn = { 0 };
	char space[256];
	ssize_t n;
	int fds[2];

	ck_assert_ptr_nonnull(strstr(text, "hunter2"));
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	conn.fd = fds[0];
	ck_assert_int_eq(conn_send(&conn, message, NULL, 0, NULL), 0);
	n = read(fds[1], space, sizeof(space) - 1);
	ck_assert_int_gt(n, 0);
	space[n] = '\0';
	ck_assert_str_eq(space, "{\"auth\":{\"password\":\"hunter2\"}}\n");
	ck_assert_int_eq(text[0], '\0');
	ck_assert_ptr_null(memmem(text, (size_t)n, "hunter2", 7));
	close(fds[1]);
	conn_close(&conn);
	json_object_put(message);
}
END_TEST

int
main(void)
{
	Suite *suite = suite_create("client_auth");

	UNIT_CASE(suite, netrc__words_quotes_macros__the_machine_is_found);
	UNIT_CASE(suite, config__most_specific_key__wins);
	UNIT_CASE(suite, helper__answers_and_failures__told_without_secrets);
	UNIT_CASE(suite, auth__urls__what_they_say_then_netrc);
	UNIT_CASE(suite, auth__login_in_a_url__does_not_travel);
	UNIT_CASE(suite, auth__registries__files_in_order_and_github_token_for_ghcr_alone);
	UNIT_CASE(suite, auth__what_nobody_asks_for__is_not_looked_up);
	UNIT_CASE(suite, auth__proxies__of_the_environment);
	UNIT_CASE(suite, auth__wiped__holds_no_secret);
	UNIT_CASE(suite, sent__line__leaves_no_text_behind);
	return unit_main(suite);
}
