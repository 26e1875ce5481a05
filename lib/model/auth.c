/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/model/auth.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/base/digest.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"

/* Tokens of some registries are signed documents of several kilobytes. */
enum { SECRET_MAX = 64 << 10, HOSTS_MAX = 256, KEY_HEX = 16 };

/* clang-format off */
const struct field host_auth_fields[] = {
	FIELD_NAMED("for", struct host_auth, host, FIELD_STRING, .required = true, .min = 1, .text = "host[:port], or host[:port]/path for what is below it"),
	FIELD(struct host_auth, username,       FIELD_STRING, .secret = true, .text = "the user's name"),
	FIELD(struct host_auth, password,       FIELD_STRING, .secret = true, .max = SECRET_MAX, .text = "the password"),
	FIELD(struct host_auth, identity_token, FIELD_STRING, .secret = true, .max = SECRET_MAX, .text = "exchanged for a token at the registry's realm"),
	FIELD(struct host_auth, token,          FIELD_STRING, .secret = true, .max = SECRET_MAX, .text = "a bearer token, used as it is"),
	FIELD_END
};

const struct field fetch_auth_fields[] = {
	FIELD(struct fetch_auth, hosts,       FIELD_OBJECTS, .max = HOSTS_MAX, .secret = true, .fields = host_auth_fields, .size = sizeof(struct host_auth), .text = "credentials by host"),
	FIELD(struct fetch_auth, http_proxy,  FIELD_STRING,  .secret = true, .text = "proxy for http:// URLs"),
	FIELD(struct fetch_auth, https_proxy, FIELD_STRING,  .secret = true, .text = "proxy for https:// URLs"),
	FIELD(struct fetch_auth, no_proxy,    FIELD_STRING,  .text = "hosts that are reached without a proxy"),
	FIELD_END
};
/* clang-format on */

/* The length of "host[:port]" without a default port, of a text that may go on with "/path". */
static size_t
host_length(const char *text, size_t *ret_path)
{
	size_t len = strcspn(text, "/");

	*ret_path = len;
	for (size_t i = 0; i < 2; i++) {
		const char *port = i == 0 ? ":443" : ":80";
		size_t n = strlen(port);

		/* The end of an IPv6 address looks like a port but for its bracket. */
		if (len > n && memcmp(text + len - n, port, n) == 0 &&
		    (text[0] != '[' || text[len - n - 1] == ']'))
			return len - n;
	}
	return len;
}

/* Does the entry cover it?  Its length counts: the longest is the nearest. */
static bool
covers(const char *entry, const char *host, const char *path)
{
	size_t entry_path, host_path, entry_len, host_len, n;

	if (entry == NULL)
		return false;
	entry_len = host_length(entry, &entry_path);
	host_len = host_length(host, &host_path);
	if (entry_len != host_len || strncasecmp(entry, host, host_len) != 0)
		return false;
	entry += entry_path;
	while (*entry == '/')
		entry++;
	n = strlen(entry);
	while (n > 0 && entry[n - 1] == '/')
		n--;
	if (n == 0)
		return true;
	while (path != NULL && *path == '/')
		path++;
	return path != NULL && strncmp(entry, path, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

const struct host_auth *
fetch_auth_find(const struct fetch_auth *auth, const char *host, const char *path)
{
	const struct host_auth *items, *best = NULL;

	if (auth == NULL || host == NULL)
		return NULL;
	items = auth->hosts.items;
	for (size_t i = 0; i < auth->hosts.count; i++)
		if (covers(items[i].host, host, path) &&
		    (best == NULL || strlen(items[i].host) > strlen(best->host)))
			best = &items[i];
	return best;
}

void
fetch_auth_copy(struct fetch_auth *ret_copy, const struct fetch_auth *auth)
{
	const struct host_auth *from = auth->hosts.items;
	struct host_auth *to = NULL;

	if (auth->hosts.count > 0)
		to = xcalloc(auth->hosts.count, sizeof(*to));
	for (size_t i = 0; i < auth->hosts.count; i++)
		to[i] = (struct host_auth){
			.present = from[i].present,
			.host = xstrdup(from[i].host),
			.username = xstrdup(from[i].username),
			.password = xstrdup(from[i].password),
			.identity_token = xstrdup(from[i].identity_token),
			.token = xstrdup(from[i].token),
		};
	*ret_copy = (struct fetch_auth){
		.present = auth->present,
		.hosts = { .items = to, .count = auth->hosts.count },
		.http_proxy = xstrdup(auth->http_proxy),
		.https_proxy = xstrdup(auth->https_proxy),
		.no_proxy = xstrdup(auth->no_proxy),
	};
}

static void
wipe(char *secret)
{
	if (secret != NULL)
		mem_wipe(secret, strlen(secret));
}

void
fetch_auth_release(struct fetch_auth *auth)
{
	struct host_auth *items = auth->hosts.items;

	for (size_t i = 0; i < auth->hosts.count; i++) {
		wipe(items[i].username);
		wipe(items[i].password);
		wipe(items[i].identity_token);
		wipe(items[i].token);
	}
	wipe(auth->http_proxy);
	wipe(auth->https_proxy);
	fields_release(fetch_auth_fields, auth);
	auth->present = false;
}

char *
fetch_auth_key(const struct fetch_auth *auth, const char *host, const char *path)
{
	const struct host_auth *found = fetch_auth_find(auth, host, path);
	struct digest *digest;
	char *hex;

	if (found == NULL &&
	    (auth == NULL || (auth->http_proxy == NULL && auth->https_proxy == NULL)))
		return xstrdup("anonymous");
	digest = digest_create();
	digest_text(digest, found != NULL ? found->username : NULL);
	digest_text(digest, found != NULL ? found->password : NULL);
	digest_text(digest, found != NULL ? found->identity_token : NULL);
	digest_text(digest, found != NULL ? found->token : NULL);
	digest_text(digest, auth->http_proxy);
	digest_text(digest, auth->https_proxy);
	digest_text(digest, auth->no_proxy);
	hex = digest_finish(digest);
	hex[KEY_HEX] = '\0';
	return hex;
}
