/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_IMAGE_FETCHER_HTTP_H
#define LIB_IMAGE_FETCHER_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/image/fetcher/order.h"

/* HTTP by libcurl, for one process and one thread.  What every request has: https, or http where
 * it is allowed; verified peers; redirects followed here, at most 10, never from https to http,
 * and never with credentials or an Authorization header to another host; the proxies of the order;
 * a deadline to connect and one for no progress.  Text of a server in an error is made printable
 * and cut. */

struct http;

struct http *http_create(const struct fetch_order *order, struct err *err);
void http_destroy(struct http *http);

struct http_header {
	const char *name, *value;
};

struct http_reply;

struct http_request {
	const char *method; /* "GET", "HEAD", "POST", "PUT", "PATCH" */
	const char *url;
	const struct http_header *headers; /* Authorization stands apart */
	size_t header_count;
	const char *authorization; /* "Bearer …" or "Basic …"; sent to the URL's own host only */
	bool plain_http;  /* http:// is allowed for others than loopback, redirects included */
	bool stay;        /* a redirect is the answer: the body is for this URL alone */
	const void *body; /* NULL: none */
	size_t body_len;
	int body_fd;     /* -1: none; PUT from the file's start, body_len bytes */
	size_t max_body; /* of the answer, when it is kept */
	/* A body that streams: called for each piece of a 200 or 206; non-zero stops (err filled).
	 */
	int (*on_body)(void *arg, const void *data, size_t len, struct err *err);
	/* The final answer's head, before its body; non-zero stops.  Not for redirects. */
	int (*on_head)(void *arg, const struct http_reply *head, struct err *err);
	/* So much of body or body_fd is sent; every 100 ms at most.  NULL: nobody asks. */
	int (*on_sent)(void *arg, uint64_t sent_bytes, struct err *err);
	/* Nothing came for a moment; once for each such moment.  NULL: nobody asks. */
	int (*on_idle)(void *arg, struct err *err);
	void *arg;
};

struct http_reply {
	long status;
	char *url; /* the last, after redirects; with its query, but never with a password */
	/* A header with control characters or invalid UTF-8 counts as absent. */
	char *etag, *last_modified, *location, *www_authenticate, *content_type, *content_encoding,
	    *digest; /* or NULL */
	/* The date told is at least a second later than last_modified: so no other version can
	 * have the same one. */
	bool settled;
	int64_t length;          /* of the body; -1: not told */
	uint64_t range_start;    /* of a 206 */
	int64_t range_total;     /* of the whole, of a 206 or a 416; -1: not told */
	uint64_t retry_after_ms; /* 0: not told */
	char *body;              /* owned, zero terminated; of what did not stream */
	size_t body_len;
};

/* One request with its redirects.  A reply of any status is 0: the caller judges it.  Errors:
 * E_NETWORK (temporary: worth another try), E_TIMEOUT, E_LIMIT (body too long), E_PARAMS (URL). */
int http_perform(struct http *http, const struct http_request *request,
    struct http_reply *ret_reply, struct err *err);
void http_reply_done(struct http_reply *reply);
long http_last_status(const struct http *http); /* of the last answer that came; 0: none */
/* What a status means: 0 for 2xx and 304, else an error that names the URL, the status and what to
 * do: E_NOT_FOUND 404 and 410, E_PERMISSION 401 and 403, E_NETWORK 408, 425, 429 and 5xx, … */
int http_status_error(const struct http_reply *reply, const char *url, struct err *err);
bool http_is_temporary(const struct err *err);
/* Waits before try number `attempt` (from 1): 0.5 s doubling to 30 s, with jitter, or what the
 * server asked for (at most 2 min).  Tells by a `retry` line. */
void http_back_off(
    struct http *http, unsigned attempt, uint64_t retry_after_ms, const struct err *why);

/* "Basic …" for the URL's host from the order's auth; NULL: none.  Owned, to be wiped. */
char *http_basic(const struct fetch_order *order, const char *host, const char *path);
/* The same from the URL's own user:password@, else from the order's auth, a bearer token of which
 * counts too. */
char *http_authorization(const struct fetch_order *order, const char *url);
void http_secret_free(char *secret); /* wipes */
/* A URL's parts; NULL: not a URL of http or https.  All owned. */
char *http_url_public(const char *url);                /* without user, password, query, fragment */
char *http_url_host(const char *url);                  /* "host[:port]", no default port */
char *http_url_path(const char *url);                  /* decoded, without the first slash */
char *http_url_join(const char *base, const char *to); /* `to` may be relative; no user, password */
bool http_url_plain(const char *url);                  /* is it http://? */

#endif
