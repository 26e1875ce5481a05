/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_MODEL_AUTH_H
#define LIB_MODEL_AUTH_H

#include <stdbool.h>

#include "lib/model/field.h"

/* How somebody may fetch: what vmctl found as the user and sends in the secret parameter `auth`.
 * Kept in memory for one operation; never stored, logged, shown, or put into an error. */

struct host_auth {
	bool present;
	char *host;	      /* key "for": "host[:port]", or "host[:port]/path" for what is below it */
	char *username, *password;
	char *identity_token; /* OAuth2: exchanged for a token at the registry's own realm */
	char *token;	      /* a bearer token, used as it is */
};

struct fetch_auth {
	bool present;
	struct objects hosts; /* struct host_auth */
	char *http_proxy, *https_proxy, *no_proxy; /* as curl takes them; NULL: none */
};

extern const struct field host_auth_fields[], fetch_auth_fields[];

/* The entry with the longest `for` that covers host[:port] and path ("library/debian"; may be
 * NULL); NULL: none.  Hosts compare without regard to case, paths by whole segments; a port must
 * be equal, and the scheme's default counts as none. */
const struct host_auth *fetch_auth_find(const struct fetch_auth *auth, const char *host,
    const char *path);
void fetch_auth_copy(struct fetch_auth *ret_copy, const struct fetch_auth *auth); /* deep */
void fetch_auth_release(struct fetch_auth *auth); /* wipes, then frees */
/* "anonymous", or 16 hex digits that differ when the secrets for this host and path or the proxies
 * do: who may share a transfer.  Owned. */
char *fetch_auth_key(const struct fetch_auth *auth, const char *host, const char *path);

#endif
