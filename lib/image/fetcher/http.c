/* SPDX-License-Identifier: MPL-2.0
 *
 * Requests with their redirects, what an answer means, and waiting before another try. */
#include "lib/image/reference.h"
#include "lib/image/fetcher/http.h"

#include <openssl/rand.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/fetcher/event.h"
#include "lib/image/fetcher/http_parts.h"

enum {
	REDIRECTS_MAX = 10,
	BACK_OFF_MS = 500,
	BACK_OFF_MAX_MS = 30 * 1000,
	RETRY_AFTER_MAX_MS = 120 * 1000,
};

struct http *
http_create(const struct fetch_order *order, struct err *err)
{
	struct http *http = xcalloc(1, sizeof(*http));

	http->order = order;
	if (curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK) {
		http->multi = curl_multi_init();
		http->easy = curl_easy_init();
	}
	if (http->multi != NULL && http->easy != NULL)
		return http;
	http_destroy(http);
	err_set(err, E_FAILED, "libcurl does not start");
	return NULL;
}

void
http_destroy(struct http *http)
{
	if (http == NULL)
		return;
	curl_easy_cleanup(http->easy);
	curl_multi_cleanup(http->multi);
	curl_global_cleanup();
	free(http);
}

long
http_last_status(const struct http *http)
{
	return http->last_status;
}

void
http_reply_done(struct http_reply *reply)
{
	free(reply->url);
	free(reply->etag);
	free(reply->last_modified);
	free(reply->location);
	free(reply->www_authenticate);
	free(reply->content_type);
	free(reply->content_encoding);
	free(reply->digest);
	http_secret_free(reply->body); /* it may be a token */
	*reply = (struct http_reply){ 0 };
}

static bool
is_redirect(const struct http_reply *reply)
{
	return (reply->status == 301 || reply->status == 302 || reply->status == 303 ||
		   reply->status == 307 || reply->status == 308) &&
	       reply->location != NULL;
}

static int
allowed(const char *url, bool plain_http, struct err *err)
{
	CLEANUP_FREE char *host = http_url_host(url), *shown = http_url_public(url);

	if (host == NULL) {
		err_set(err, E_PARAMS, "this is not a URL that can be fetched");
		err_hint(err, "give an https:// URL");
		return E_PARAMS;
	}
	if (!http_url_plain(url) || plain_http || image_host_is_loopback(host))
		return 0;
	err_set(err, E_PARAMS, "'%s' is not encrypted", shown);
	err_hint(
	    err, "use https://, give the image's sha256 with it, or allow it with --insecure-http");
	return E_PARAMS;
}

static int
bad_redirect(struct err *err)
{
	err_hint(err, "give the URL of the image itself, or ask who runs the server");
	return (int)err->code;
}

/* The next URL; the reply says where. */
static int
next_url(const char *url, const struct http_reply *reply, bool plain_http, char **ret_next,
    struct err *err)
{
	CLEANUP_FREE char *next = http_url_join(url, reply->location);
	CLEANUP_FREE char *from = http_url_public(url), *to = NULL;
	int rc;

	to = next != NULL ? http_url_public(next) : NULL;
	if (to == NULL) {
		err_set(err, E_FAILED, "'%s' redirects to what is no URL of http or https", from);
		return bad_redirect(err);
	}
	if (!http_url_plain(url) && http_url_plain(next)) {
		err_set(err, E_FAILED, "'%s' redirects to '%s', which is not encrypted", from, to);
		return bad_redirect(err);
	}
	rc = allowed(next, plain_http, err);
	if (rc != 0)
		return err_wrap(err, "'%s' redirects", from);
	*ret_next = TAKE(next);
	return 0;
}

static bool
same_place(const char *a, const char *b)
{
	CLEANUP_FREE char *host_a = http_url_host(a), *host_b = http_url_host(b);

	return host_a != NULL && host_b != NULL && strcasecmp(host_a, host_b) == 0 &&
	       http_url_plain(a) == http_url_plain(b);
}

static const char *
next_method(const char *method, long status)
{
	bool post = strcmp(method, "POST") == 0;

	if (strcmp(method, "HEAD") != 0 && (status == 303 || (post && status < 303)))
		return "GET";
	return method;
}

int
http_perform(struct http *http, const struct http_request *request, struct http_reply *ret_reply,
    struct err *err)
{
	char *url = http_url_join(request->url, request->url), *next = NULL;
	const char *authorization = request->authorization, *method = request->method;
	struct http_reply reply = { 0 };
	int rc = allowed(request->url, request->plain_http, err);

	for (unsigned hop = 0; rc == 0; hop++) {
		rc = http_exchange(http, request, method, url, authorization, &reply, err);
		if (rc != 0 || request->stay || !is_redirect(&reply))
			break;
		if (hop == REDIRECTS_MAX) {
			CLEANUP_FREE char *shown = http_url_public(request->url);

			err_set(err, E_FAILED, "'%s' redirects more than %d times, in a loop it seems",
			    shown, REDIRECTS_MAX);
			rc = bad_redirect(err);
			break;
		}
		rc = next_url(url, &reply, request->plain_http, &next, err);
		if (rc != 0)
			break;
		/* Once elsewhere, it is not sent again. */
		if (!same_place(url, next))
			authorization = NULL;
		method = next_method(method, reply.status);
		free(url);
		url = TAKE(next);
		http_reply_done(&reply);
	}
	if (rc == 0) {
		reply.url = TAKE(url);
		*ret_reply = reply;
	} else {
		http_reply_done(&reply);
	}
	free(url);
	return rc;
}

static const struct {
	long status;
	enum err_code code;
	const char *text, *hint;
} meanings[] = {
	{ 401, E_PERMISSION, "the server asks who you are, or does not know you",
	    "give credentials for the server (~/.netrc, or a login of the container tools)" },
	{ 403, E_PERMISSION, "the server refuses it",
	    "check the URL, and whether you may read it" },
	{ 404, E_NOT_FOUND, "there is no such file", "check the URL" },
	{ 407, E_PERMISSION, "the proxy asks who you are",
	    "put user and password into the proxy's URL" },
	{ 408, E_NETWORK, "the server waited too long", "" },
	{ 410, E_NOT_FOUND, "the file is gone for good", "look for a newer version" },
	{ 425, E_NETWORK, "the server asks to come back later", "" },
	{ 429, E_NETWORK, "the server says that it is asked too often", "try again later" },
};

int
http_status_error(const struct http_reply *reply, const char *url, struct err *err)
{
	CLEANUP_FREE char *shown = http_url_public(url);
	enum err_code code = reply->status >= 500 ? E_NETWORK : E_FAILED;
	const char *text =
	    reply->status >= 500 ? "the server failed" : "the server does not give it";
	const char *hint = reply->status >= 500 ? "try again later" : "check the URL";

	if ((reply->status >= 200 && reply->status < 300) || reply->status == 304)
		return 0;
	for (size_t i = 0; i < ARRAY_LEN(meanings); i++)
		if (meanings[i].status == reply->status) {
			code = meanings[i].code;
			text = meanings[i].text;
			hint = meanings[i].hint;
		}
	err_set(err, code, "'%s': %s (status %ld)", shown != NULL ? shown : "the server", text,
	    reply->status);
	err_hint(err, "%s", hint);
	return code;
}

bool
http_is_temporary(const struct err *err)
{
	return err->code == E_NETWORK || err->code == E_TIMEOUT;
}

void
http_back_off(struct http *http, unsigned attempt, uint64_t retry_after_ms, const struct err *why)
{
	unsigned doubled = attempt > 1 ? attempt - 1 : 0;
	uint64_t wait_ms = doubled < 6 ? (uint64_t)BACK_OFF_MS << doubled : BACK_OFF_MAX_MS;
	json_object *line = json_object_new_object();
	struct timespec left;
	uint16_t dice = 0;

	if (wait_ms > BACK_OFF_MAX_MS)
		wait_ms = BACK_OFF_MAX_MS;
	/* Between three quarters and all of it, so that many do not come back together. */
	if (RAND_bytes((unsigned char *)&dice, sizeof(dice)) == 1)
		wait_ms -= wait_ms / 4 * dice / UINT16_MAX;
	if (retry_after_ms > wait_ms)
		wait_ms = retry_after_ms < RETRY_AFTER_MAX_MS ? retry_after_ms : RETRY_AFTER_MAX_MS;
	json_add_int(line, "attempt", attempt);
	json_add_int(line, "wait_ms", (int64_t)wait_ms);
	json_add_string(line, "message", why->msg);
	event_emit(http->order, "retry", line);
	left = (struct timespec){ .tv_sec = (time_t)(wait_ms / 1000),
		.tv_nsec = (long)(wait_ms % 1000) * 1000000 };
	while (nanosleep(&left, &left) != 0)
		continue;
}
