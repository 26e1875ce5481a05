/* SPDX-License-Identifier: MPL-2.0 */
#ifndef CLIENT_AUTH_H
#define CLIENT_AUTH_H

#include <stddef.h>

#include "lib/base/err.h"

struct json_object;

/* Credentials and proxies, found as the user who runs vmctl: the daemon reads nobody's files and
 * runs nobody's helpers.  They are sent in the parameter `auth` of the one call that needs them,
 * and only those for the hosts that the call's references name.
 *
 * For oci://: the files of the container tools (REGISTRY_AUTH_FILE, the two auth.json, Docker's
 * config.json) with their credential helpers, then GITHUB_TOKEN for ghcr.io.  For http(s)://: what
 * the URL itself says, then ~/.netrc or NETRC. */

/* references: URLs and oci://…; others need nothing.  *ret_auth: owned; NULL when there is nothing
 * to send.  A file or a helper that is broken is an error that names it. */
int auth_find(
    const char *const *references, size_t count, struct json_object **ret_auth, struct err *err);
/* Owned: the URL as it may travel outside of the secret parameter: without user and password. */
char *auth_url_without_login(const char *url);
/* Overwrites every string in it; the object is of no use afterwards but to be released. */
void auth_wipe(struct json_object *json);

#endif
