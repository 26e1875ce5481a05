/* SPDX-License-Identifier: MPL-2.0 */
#include "client/auth.h"

#include <ctype.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "client/auth_source.h"
#include "client/json.h"
#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/reference.h"

/* ---- registries ---- */

struct place {
	const char *variable, *file; /* file: below the variable's folder; NULL: it is the file */
	const char *at_home;         /* without the variable; NULL: nowhere */
};

static const struct place places[] = {
	{ "REGISTRY_AUTH_FILE", NULL, NULL },
	{ "XDG_RUNTIME_DIR", "containers/auth.json", NULL },
	{ "XDG_CONFIG_HOME", "containers/auth.json", ".config/containers/auth.json" },
	{ "DOCKER_CONFIG", "config.json", ".docker/config.json" },
};

static char *
place_path(const struct place *place)
{
	const char *value = getenv(place->variable);
	CLEANUP_FREE char *home = NULL;

	if (value != NULL && value[0] != '\0')
		return place->file != NULL ? fs_join(value, place->file) : xstrdup(value);
	if (place->at_home == NULL)
		return NULL;
	home = fs_home();
	return home != NULL ? fs_join(home, place->at_home) : NULL;
}

static int
find_for_registry(const struct auth_site *site, struct host_auth *ret_login, struct err *err)
{
	const char *token = getenv("GITHUB_TOKEN");
	int rc = 0;

	for (size_t i = 0; rc == 0 && !ret_login->present && i < ARRAY_LEN(places); i++) {
		CLEANUP_FREE char *path = place_path(&places[i]);

		if (path != NULL)
			rc = auth_config_find(path, site, ret_login, err);
	}
	if (rc == 0 && !ret_login->present && str_eq(site->host, "ghcr.io") && token != NULL &&
	    token[0] != '\0')
		*ret_login = (struct host_auth){ .present = true,
			.host = xstrdup(site->host),
			.username = xstrdup("_token"),
			.password = xstrdup(token) };
	return rc;
}

/* ---- web servers ---- */

/* The user and password of a URL: where they begin and end with the '@'; NULL: there are none. */
static const char *
url_login(const char *url, size_t *ret_len)
{
	const char *start = strstr(url, "://"), *at = NULL;

	if (start == NULL)
		return NULL;
	start += 3;
	for (const char *p = start; *p != '\0' && strchr("/?#", *p) == NULL; p++)
		if (*p == '@')
			at = p;
	if (at == NULL)
		return NULL;
	*ret_len = (size_t)(at + 1 - start);
	return start;
}

char *
auth_url_without_login(const char *url)
{
	size_t len;
	const char *login = url_login(url, &len);

	if (login == NULL)
		return xstrdup(url);
	return xasprintf("%.*s%s", (int)(login - url), url, login + len);
}

static int
hex_value(char c)
{
	static const char digits[] = "0123456789abcdef";
	const char *digit = c != '\0' ? strchr(digits, tolower((unsigned char)c)) : NULL;

	return digit != NULL ? (int)(digit - digits) : -1;
}

static char *
percent_decode(const char *text, size_t len)
{
	char *out = xmalloc(len + 1);
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		int high = i + 2 < len && text[i] == '%' ? hex_value(text[i + 1]) : -1;
		int low = high >= 0 ? hex_value(text[i + 2]) : -1;

		out[n++] = low >= 0 ? (char)(high << 4 | low) : text[i];
		i += low >= 0 ? 2 : 0;
	}
	out[n] = '\0';
	return out;
}

/* "[::1]:80" -> "::1" */
static char *
host_without_port(const char *host)
{
	size_t len = strcspn(host, host[0] == '[' ? "]" : ":");

	return host[0] == '[' ? xstrndup(host + 1, len - 1) : xstrndup(host, len);
}

static int
find_in_netrc(const char *host, const char *user, struct host_auth *ret_login, struct err *err)
{
	CLEANUP_FREE char *home = fs_home(), *path = NULL, *name = host_without_port(host);
	const char *named = getenv("NETRC");
	struct err problem = ERR_INIT;
	char *text = NULL;
	size_t len;
	int rc;

	if (named != NULL && named[0] != '\0')
		path = xstrdup(named);
	else if (home != NULL)
		path = fs_join(home, ".netrc");
	if (path == NULL)
		return 0;
	rc = fs_read(path, AUTH_FILE_MAX, &text, &len, &problem);
	if (rc == E_NOT_FOUND)
		return 0;
	if (rc != 0) {
		*err = problem;
		return rc;
	}
	netrc_find(text, len, name, user, ret_login);
	mem_wipe(text, len);
	free(text);
	return 0;
}

static int
find_for_url(
    const char *url, const struct auth_site *site, struct host_auth *ret_login, struct err *err)
{
	size_t len = 0, user_len;
	const char *text = url_login(url, &len);
	char *user = NULL;
	int rc = 0;

	if (text != NULL) {
		user_len = strcspn(text, ":@");
		user = percent_decode(text, user_len);
		if (text[user_len] == ':') {
			ret_login->present = true;
			ret_login->username = TAKE(user);
			ret_login->password =
			    percent_decode(text + user_len + 1, len - user_len - 2);
		}
	}
	if (!ret_login->present)
		rc = find_in_netrc(site->host, user, ret_login, err);
	if (ret_login->present)
		ret_login->host = xstrdup(site->host);
	auth_wipe_text(&user);
	return rc;
}

/* ---- all of a call ---- */

/* Who the reference is of; false: of nobody who could want credentials. */
static bool
site_of(const char *reference, struct auth_site *ret_site, bool *ret_oci)
{
	CLEANUP_FREE char *host = NULL, *bare = NULL;
	struct oci_ref ref;

	*ret_oci = str_starts(reference, "oci://");
	if (*ret_oci) {
		if (oci_ref_parse(reference, &ref, NULL) != 0)
			return false;
		ret_site->host = auth_canonical_host(ref.registry, strlen(ref.registry));
		ret_site->path = xstrdup(ref.repository);
		oci_ref_done(&ref);
		return true;
	}
	if (!str_starts(reference, "http://") && !str_starts(reference, "https://"))
		return false;
	bare = auth_url_without_login(reference);
	host = image_url_host(bare);
	if (host == NULL)
		return false;
	if (str_starts(reference, "http://") && str_ends(host, ":80"))
		host[strlen(host) - 3] = '\0';
	ret_site->host = auth_canonical_host(host, strlen(host));
	ret_site->path = NULL;
	return true;
}

static json_object *
find_known(json_object *hosts, const char *host)
{
	for (size_t i = 0; i < json_length(hosts); i++)
		if (str_eq(json_string(json_item(hosts, i), "for"), host))
			return json_item(hosts, i);
	return NULL;
}

static int
add_login(json_object *hosts, const struct host_auth *login, struct err *err)
{
	json_object *entry;

	if (!login->present)
		return 0;
	entry = find_known(hosts, login->host);
	/* URLs can say different things of one host; only one of them would be heard. */
	if (entry != NULL && (!str_eq(json_string(entry, "username"), login->username) ||
				 !str_eq(json_string(entry, "password"), login->password))) {
		err_set(err, E_USAGE, "two URLs of '%s' log in as different users", login->host);
		err_hint(err, "fetch them one after the other");
		return E_USAGE;
	}
	if (entry != NULL)
		return 0;
	entry = json_object_new_object();
	json_add_string(entry, "for", login->host);
	json_add_string(entry, "username", login->username);
	json_add_string(entry, "password", login->password);
	json_add_string(entry, "identity_token", login->identity_token);
	json_add_string(entry, "token", login->token);
	json_object_array_add(hosts, entry);
	return 0;
}

static int
add_reference(json_object *hosts, const char *reference, bool *network, struct err *err)
{
	struct auth_site site = { 0 };
	struct host_auth login = { 0 };
	bool oci;
	int rc;

	if (!site_of(reference, &site, &oci))
		return 0;
	*network = true;
	rc = oci ? find_for_registry(&site, &login, err)
		 : find_for_url(reference, &site, &login, err);
	if (rc == 0)
		rc = add_login(hosts, &login, err);
	login_done(&login);
	free(site.host);
	free(site.path);
	return rc;
}

/* As curl does: http_proxy in capitals is not looked at, since a server's CGI would set it. */
static void
add_proxy(json_object *auth, const char *key, const char *const *variables)
{
	for (; *variables != NULL; variables++) {
		const char *value = getenv(*variables);

		if (value != NULL && value[0] != '\0') {
			json_add_string(auth, key, value);
			return;
		}
	}
}

static void
add_proxies(json_object *auth)
{
	static const char *const http[] = { "http_proxy", "all_proxy", "ALL_PROXY", NULL };
	static const char *const https[] = { "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY",
		NULL };
	static const char *const none[] = { "no_proxy", "NO_PROXY", NULL };

	add_proxy(auth, "http_proxy", http);
	add_proxy(auth, "https_proxy", https);
	if (json_object_object_length(auth) > 0)
		add_proxy(auth, "no_proxy", none);
}

int
auth_find(
    const char *const *references, size_t count, struct json_object **ret_auth, struct err *err)
{
	json_object *auth = json_object_new_object(), *hosts = json_object_new_array();
	bool network = false;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < count; i++)
		rc = add_reference(hosts, references[i], &network, err);
	if (network)
		add_proxies(auth);
	if (json_length(hosts) > 0)
		json_object_object_add(auth, "hosts", hosts);
	else
		json_object_put(hosts);
	if (rc == 0 && json_object_object_length(auth) > 0) {
		*ret_auth = auth;
		return 0;
	}
	auth_wipe(auth);
	json_object_put(auth);
	if (rc == 0)
		*ret_auth = NULL;
	return rc;
}
