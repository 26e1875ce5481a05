/* SPDX-License-Identifier: MPL-2.0 */
#ifndef CLIENT_AUTH_SOURCE_H
#define CLIENT_AUTH_SOURCE_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/err.h"
#include "lib/model/auth.h"

/* Where client/auth.c finds credentials.  A login is zeroed by the caller, filled when there is
 * one (then its host is set: whom it is for), and ends in login_done. */

enum { AUTH_FILE_MAX = 1 << 20 };

struct auth_site {
	char *host; /* lower case, without the scheme's default port */
	char *path; /* a repository; NULL: none */
};

void login_done(struct host_auth *login); /* wipes, then frees */
void auth_wipe_text(char **text);         /* the same for one string; NULL is fine */
/* Owned: lower case, ":443" taken off, Docker's registry by its one name. */
char *auth_canonical_host(const char *host, size_t len);

/* The file's login for the site, by its `credHelpers`, `auths` and `credsStore`.  A file that is
 * not there has none. */
int auth_config_find(
    const char *path, const struct auth_site *site, struct host_auth *ret_login, struct err *err);
/* Asks docker-credential-<name>; file: who named it, for messages. */
int auth_helper_get(const char *name, const char *file, const char *host,
    struct host_auth *ret_login, struct err *err);
/* A netrc's login for a host (no port); user: only that one's; NULL: the first. */
bool netrc_find(
    const char *text, size_t len, const char *host, const char *user, struct host_auth *ret_login);

#endif
