/* SPDX-License-Identifier: MPL-2.0
 *
 * What all sources of credentials share: hosts by one name, and secrets that are wiped. */
#include <ctype.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "client/auth.h"
#include "client/auth_source.h"
#include "client/json.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"

#define DOCKER_HOST "index.docker.io"

void
auth_wipe_text(char **text)
{
	if (*text != NULL)
		mem_wipe(*text, strlen(*text));
	free(*text);
	*text = NULL;
}

void
login_done(struct host_auth *login)
{
	auth_wipe_text(&login->host);
	auth_wipe_text(&login->username);
	auth_wipe_text(&login->password);
	auth_wipe_text(&login->identity_token);
	auth_wipe_text(&login->token);
	login->present = false;
}

void
auth_wipe(struct json_object *json)
{
	if (json_object_is_type(json, json_type_string)) {
		/* Ours alone, and on its way out: nobody sees the const broken. */
		mem_wipe((char *)(uintptr_t)json_object_get_string(json),
		    (size_t)json_object_get_string_len(json));
	} else if (json_object_is_type(json, json_type_object)) {
		json_object_object_foreach(json, key, value) {
			(void)key;
			auth_wipe(value);
		}
	}
	for (size_t i = 0; i < json_length(json); i++)
		auth_wipe(json_item(json, i));
}

char *
auth_canonical_host(const char *host, size_t len)
{
	static const char *const docker[] = { "docker.io", "registry-1.docker.io" };
	char *text = xstrndup(host, len);

	for (char *p = text; *p != '\0'; p++)
		*p = (char)tolower((unsigned char)*p);
	if (str_ends(text, ":443"))
		text[strlen(text) - 4] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(docker); i++) {
		if (str_eq(text, docker[i])) {
			free(text);
			return xstrdup(DOCKER_HOST);
		}
	}
	return text;
}
