/* SPDX-License-Identifier: MPL-2.0
 *
 * The files in which container tools keep who logs in where: auth.json and config.json.  A key is
 * a host, a host with a path, or an old URL such as https://index.docker.io/v1/. */
#include <errno.h>
#include <json-c/json.h>
#include <string.h>

#include "client/auth.h"
#include "client/auth_source.h"
#include "client/json.h"
#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"

enum { MAX_DEPTH = 32 };

/* *ret_config NULL: there is no file. */
static int
load(const char *path, json_object **ret_config, struct err *err)
{
	struct err problem = ERR_INIT;
	json_tokener *tokener;
	json_object *config;
	char *text = NULL;
	size_t len, used;
	int rc;

	*ret_config = NULL;
	rc = fs_read(path, AUTH_FILE_MAX, &text, &len, &problem);
	if (rc == E_NOT_FOUND)
		return 0;
	if (rc != 0) {
		*err = problem;
		return rc;
	}
	tokener = json_tokener_new_ex(MAX_DEPTH);
	config = json_tokener_parse_ex(tokener, text, (int)len);
	used = json_tokener_get_parse_end(tokener);
	json_tokener_free(tokener);
	used += strspn(text + used, " \t\r\n");
	mem_wipe(text, len);
	free(text);
	if (json_object_is_type(config, json_type_object) && used == len) {
		*ret_config = config;
		return 0;
	}
	auth_wipe(config);
	json_object_put(config);
	err_set(
	    err, E_FAILED, "'%s', which has credentials of registries, is no JSON object", path);
	return E_FAILED;
}

/* Owned.  Of a URL only the host counts, as it does for the tools that wrote it. */
static char *
canonical_key(const char *key)
{
	CLEANUP_FREE char *host = NULL;
	size_t len, host_len;
	bool url = false;

	for (size_t i = 0; i < 2 && !url; i++) {
		const char *scheme = i == 0 ? "https://" : "http://";

		url = str_starts(key, scheme);
		if (url)
			key += strlen(scheme);
	}
	host_len = strcspn(key, "/");
	len = url ? host_len : strlen(key);
	while (len > host_len && key[len - 1] == '/')
		len--;
	host = auth_canonical_host(key, host_len);
	return xasprintf("%s%.*s", host, (int)(len - host_len), key + host_len);
}

/* How much of the site the key covers; 0: it is another's. */
static size_t
covers(const char *key, const struct auth_site *site)
{
	size_t host_len = strlen(site->host), len = strlen(key);
	const char *path = key + host_len;

	if (strncmp(key, site->host, host_len) != 0 || (*path != '\0' && *path != '/'))
		return 0;
	if (*path == '/') {
		size_t path_len = strlen(++path);

		if (site->path == NULL || strncmp(site->path, path, path_len) != 0)
			return 0;
		if (site->path[path_len] != '\0' && site->path[path_len] != '/')
			return 0;
	}
	return len;
}

static bool
is_set(const char *text)
{
	return text != NULL && text[0] != '\0';
}

/* "user:password" in base64; tools have been seen to pad the password with zeros. */
static int
take_pair(
    const char *pair, const char *file, const char *key, struct host_auth *login, struct err *err)
{
	unsigned char *text = NULL;
	const char *colon = NULL;
	size_t len = 0;

	if (str_unbase64(pair, &text, &len) == 0)
		colon = len > 0 ? memchr(text, ':', len) : NULL;
	if (colon != NULL) {
		auth_wipe_text(&login->username);
		auth_wipe_text(&login->password);
		login->username = xstrndup((char *)text, (size_t)(colon - (char *)text));
		login->password = xstrndup(colon + 1, len - (size_t)(colon + 1 - (char *)text));
	}
	if (text != NULL)
		mem_wipe(text, len);
	free(text);
	return colon != NULL ? 0
			     : err_set(err, E_FAILED,
				   "'%s': the 'auth' of '%s' is no base64 of "
				   "user:password",
				   file, key);
}

static int
take_entry(json_object *entry, const char *file, const char *key, struct host_auth *ret_login,
    struct err *err)
{
	const char *pair = json_string(entry, "auth");
	struct host_auth login = { .present = true };
	int rc = 0;

	login.username = xstrdup(json_string(entry, "username"));
	login.password = xstrdup(json_string(entry, "password"));
	if (is_set(json_string(entry, "identitytoken")))
		login.identity_token = xstrdup(json_string(entry, "identitytoken"));
	if (is_set(json_string(entry, "registrytoken")))
		login.token = xstrdup(json_string(entry, "registrytoken"));
	if (is_set(pair))
		rc = take_pair(pair, file, key, &login, err);
	/* Where a helper keeps the secret, an empty entry says that somebody logged in. */
	if (rc != 0 ||
	    (!is_set(login.password) && !is_set(login.identity_token) && !is_set(login.token))) {
		login_done(&login);
		return rc;
	}
	login.host = canonical_key(key);
	*ret_login = login;
	return 0;
}

static int
find_in_auths(json_object *auths, const char *file, const struct auth_site *site,
    struct host_auth *ret_login, struct err *err)
{
	json_object *best = NULL;
	const char *best_key = NULL;
	size_t best_len = 0;

	if (!json_object_is_type(auths, json_type_object))
		return 0;
	json_object_object_foreach(auths, key, entry) {
		CLEANUP_FREE char *canonical = canonical_key(key);
		size_t len = covers(canonical, site);

		if (len <= best_len || !json_object_is_type(entry, json_type_object))
			continue;
		best = entry;
		best_key = key;
		best_len = len;
	}
	return best != NULL ? take_entry(best, file, best_key, ret_login, err) : 0;
}

/* Helpers know hosts only.  Borrowed; NULL: none is named for it. */
static const char *
helper_of(json_object *helpers, const struct auth_site *site)
{
	if (!json_object_is_type(helpers, json_type_object))
		return NULL;
	json_object_object_foreach(helpers, key, name) {
		CLEANUP_FREE char *canonical = canonical_key(key);

		if (str_eq(canonical, site->host) && json_object_is_type(name, json_type_string))
			return json_object_get_string(name);
	}
	return NULL;
}

int
auth_config_find(
    const char *path, const struct auth_site *site, struct host_auth *ret_login, struct err *err)
{
	json_object *config;
	const char *name;
	int rc = load(path, &config, err);

	if (rc != 0 || config == NULL)
		return rc;
	name = helper_of(json_member(config, "credHelpers"), site);
	if (is_set(name))
		rc = auth_helper_get(name, path, site->host, ret_login, err);
	if (rc == 0 && !ret_login->present)
		rc = find_in_auths(json_member(config, "auths"), path, site, ret_login, err);
	name = json_string(config, "credsStore");
	if (rc == 0 && !ret_login->present && is_set(name))
		rc = auth_helper_get(name, path, site->host, ret_login, err);
	auth_wipe(config);
	json_object_put(config);
	return rc;
}
