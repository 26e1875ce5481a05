/* SPDX-License-Identifier: MPL-2.0
 *
 * URLs taken apart, by the same parser that the requests are made with. */
#include <curl/curl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/fetcher/http.h"

static void
url_cleanupp(CURLU **url)
{
	curl_url_cleanup(*url);
}
#define CLEANUP_URL CLEANUP(url_cleanupp)

/* NULL: not one of http or https with a host. */
static CURLU *
parse(const char *text)
{
	CURLU *url = curl_url();
	char *scheme = NULL, *host = NULL;
	bool good = text != NULL && curl_url_set(url, CURLUPART_URL, text, 0) == CURLUE_OK &&
		    curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
		    (strcasecmp(scheme, "https") == 0 || strcasecmp(scheme, "http") == 0) &&
		    curl_url_get(url, CURLUPART_HOST, &host, 0) == CURLUE_OK && *host != '\0';

	curl_free(scheme);
	curl_free(host);
	if (good)
		return url;
	curl_url_cleanup(url);
	return NULL;
}

/* Owned by malloc; NULL when there is none. */
static char *
part(CURLU *url, CURLUPart which, unsigned flags)
{
	char *text = NULL, *copy;

	if (curl_url_get(url, which, &text, flags) != CURLUE_OK)
		return NULL;
	copy = xstrdup(text);
	mem_wipe(text, strlen(text));
	curl_free(text);
	return copy;
}

static char *
stripped(CURLU *url, bool query)
{
	char *text, *shown;

	curl_url_set(url, CURLUPART_USER, NULL, 0);
	curl_url_set(url, CURLUPART_PASSWORD, NULL, 0);
	curl_url_set(url, CURLUPART_FRAGMENT, NULL, 0);
	if (!query)
		curl_url_set(url, CURLUPART_QUERY, NULL, 0);
	text = part(url, CURLUPART_URL, 0);
	if (query || text == NULL)
		return text;
	shown = str_printable(text, strlen(text));
	free(text);
	return shown;
}

char *
http_url_public(const char *text)
{
	CLEANUP_URL CURLU *url = parse(text);

	return url != NULL ? stripped(url, false) : NULL;
}

char *
http_url_host(const char *text)
{
	CLEANUP_URL CURLU *url = parse(text);
	CLEANUP_FREE char *host = NULL, *port = NULL;

	if (url == NULL)
		return NULL;
	host = part(url, CURLUPART_HOST, 0);
	port = part(url, CURLUPART_PORT, CURLU_NO_DEFAULT_PORT);
	return port != NULL ? xasprintf("%s:%s", host, port) : TAKE(host);
}

char *
http_url_path(const char *text)
{
	CLEANUP_URL CURLU *url = parse(text);
	CLEANUP_FREE char *path = NULL;

	if (url == NULL)
		return NULL;
	path = part(url, CURLUPART_PATH, CURLU_URLDECODE);
	return xstrdup(path == NULL ? "" : path[0] == '/' ? path + 1 : path);
}

char *
http_url_join(const char *base, const char *to)
{
	CLEANUP_URL CURLU *url = parse(base);

	if (url == NULL || to == NULL || curl_url_set(url, CURLUPART_URL, to, 0) != CURLUE_OK)
		return NULL;
	return stripped(url, true);
}

bool
http_url_plain(const char *text)
{
	CLEANUP_URL CURLU *url = parse(text);
	CLEANUP_FREE char *scheme = url != NULL ? part(url, CURLUPART_SCHEME, 0) : NULL;

	return scheme != NULL && strcasecmp(scheme, "http") == 0;
}

void
http_secret_free(char *secret)
{
	if (secret != NULL)
		mem_wipe(secret, strlen(secret));
	free(secret);
}

static char *
basic(const char *user, const char *password)
{
	char *pair = xasprintf("%s:%s", user != NULL ? user : "", password != NULL ? password : "");
	char *code = str_base64(pair, strlen(pair));
	char *text = xasprintf("Basic %s", code);

	http_secret_free(pair);
	http_secret_free(code);
	return text;
}

char *
http_basic(const struct fetch_order *order, const char *host, const char *path)
{
	const struct host_auth *found = fetch_auth_find(&order->auth, host, path);

	if (found == NULL || (found->username == NULL && found->password == NULL))
		return NULL;
	return basic(found->username, found->password);
}

char *
http_authorization(const struct fetch_order *order, const char *text)
{
	CLEANUP_URL CURLU *url = parse(text);
	CLEANUP_FREE char *host = http_url_host(text), *path = http_url_path(text);
	const struct host_auth *found;
	char *user, *password, *result;

	if (url == NULL)
		return NULL;
	user = part(url, CURLUPART_USER, CURLU_URLDECODE);
	password = part(url, CURLUPART_PASSWORD, CURLU_URLDECODE);
	result = user != NULL ? basic(user, password) : http_basic(order, host, path);
	http_secret_free(user);
	http_secret_free(password);
	found = result == NULL ? fetch_auth_find(&order->auth, host, path) : NULL;
	return found != NULL && found->token != NULL ? xasprintf("Bearer %s", found->token)
						     : result;
}
