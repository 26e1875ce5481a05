/* SPDX-License-Identifier: MPL-2.0
 *
 * One request and its answer over libcurl.  What a server sends is checked here, before anybody
 * else sees it. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/image/fetcher/http_parts.h"

enum {
	RECEIVE_BYTES = 256 << 10,
	HEADERS_MAX = 256,
	HEADER_VALUE_MAX = 8 << 10,
	REFUSAL_MAX = 64 << 10, /* what is kept of the body of a refusal */
	POLL_MS = 100,
	CONNECTIONS_MAX = 4,
};

struct exchange {
	struct http *http;
	const struct http_request *request;
	struct http_reply *reply;
	struct sbuf body;
	struct curl_slist *headers;
	uint64_t moved_ms; /* when the last byte came or went */
	uint64_t sent, told_ms;
	off_t sent_at;
	unsigned header_count;
	bool head_told, enough, idle;
	char *date;
	int rc; /* of a callback, with *err */
	struct err *err;
	char words[CURL_ERROR_SIZE];
};

static bool
good_value(const char *text, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (iscntrl((unsigned char)text[i]))
			return false;
	return len <= HEADER_VALUE_MAX && str_utf8_valid(text, len);
}

/* "bytes 5-9/100", or with a star in place of the range. */
static void
parse_range(struct http_reply *reply, const char *text)
{
	const char *slash = strchr(text, '/');
	uint64_t start, total;
	char number[24];
	size_t n;

	if (!str_starts(text, "bytes "))
		return;
	text += strlen("bytes ");
	n = strspn(text, "0123456789");
	if (n > 0 && n < sizeof(number)) {
		memcpy(number, text, n);
		number[n] = '\0';
		if (str_to_u64(number, &start))
			reply->range_start = start;
	}
	if (slash != NULL && str_to_u64(slash + 1, &total) && total <= INT64_MAX)
		reply->range_total = (int64_t)total;
}

static void
keep_header(struct http_reply *reply, const char *name, const char *value)
{
	const struct {
		const char *name;
		char **to;
	} kept[] = {
		{ "ETag", &reply->etag },
		{ "Last-Modified", &reply->last_modified },
		{ "Location", &reply->location },
		{ "Content-Type", &reply->content_type },
		{ "Content-Encoding", &reply->content_encoding },
		{ "Docker-Content-Digest", &reply->digest },
	};

	for (size_t i = 0; i < ARRAY_LEN(kept); i++)
		if (strcasecmp(name, kept[i].name) == 0) {
			free(*kept[i].to);
			*kept[i].to = xstrdup(value);
		}
	/* Of several ways to log in a token is the one that is asked for first. */
	if (strcasecmp(name, "WWW-Authenticate") == 0 &&
	    (reply->www_authenticate == NULL || strncasecmp(value, "Bearer", 6) == 0)) {
		free(reply->www_authenticate);
		reply->www_authenticate = xstrdup(value);
	}
	if (strcasecmp(name, "Content-Range") == 0)
		parse_range(reply, value);
}

/* A date tells one second from the next, not what happened within one. */
static bool
is_settled(const char *date, const char *last_modified)
{
	time_t told = date != NULL ? curl_getdate(date, NULL) : -1;
	time_t modified = last_modified != NULL ? curl_getdate(last_modified, NULL) : -1;

	return told != -1 && modified != -1 && told - modified >= 1;
}

static void
moved(struct exchange *x)
{
	x->moved_ms = clock_ms();
	x->idle = false;
}

static size_t
on_header(char *data, size_t size, size_t count, void *arg)
{
	struct exchange *x = arg;
	size_t len = size * count, name_len;
	CLEANUP_FREE char *line = NULL;
	char *value;

	moved(x);
	/* What comes after the body counts for nothing. */
	if (x->head_told)
		return len;
	if (++x->header_count > HEADERS_MAX) {
		x->rc = err_set(x->err, E_FAILED, "the server sends too many headers");
		return 0;
	}
	/* An interim answer came before: what counts is the last. */
	if (len > 5 && memcmp(data, "HTTP/", 5) == 0) {
		http_reply_done(x->reply);
		x->reply->length = x->reply->range_total = -1;
		return len;
	}
	while (len > 0 && isspace((unsigned char)data[len - 1]))
		len--;
	if (!good_value(data, len))
		return size * count;
	line = xstrndup(data, len);
	name_len = strcspn(line, ":");
	if (line[name_len] == '\0')
		return size * count;
	line[name_len] = '\0';
	value = line + name_len + 1;
	value += strspn(value, " \t");
	keep_header(x->reply, line, value);
	if (strcasecmp(line, "Date") == 0) {
		free(x->date);
		x->date = xstrdup(value);
	}
	return size * count;
}

static int
tell_head(struct exchange *x)
{
	curl_off_t length = -1, retry_after = 0;
	struct http_reply *reply = x->reply;

	if (x->head_told)
		return x->rc;
	x->head_told = true;
	curl_easy_getinfo(x->http->easy, CURLINFO_RESPONSE_CODE, &reply->status);
	curl_easy_getinfo(x->http->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
	curl_easy_getinfo(x->http->easy, CURLINFO_RETRY_AFTER, &retry_after);
	reply->length = length;
	reply->retry_after_ms =
	    retry_after > 0 && retry_after < 86400 ? (uint64_t)retry_after * 1000 : 0;
	reply->settled = is_settled(x->date, reply->last_modified);
	x->http->last_status = reply->status;
	if (reply->status / 100 != 3 && x->request->on_head != NULL)
		x->rc = x->request->on_head(x->request->arg, reply, x->err);
	return x->rc;
}

static size_t
on_body(char *data, size_t size, size_t count, void *arg)
{
	struct exchange *x = arg;
	size_t len = size * count, max = x->request->max_body;
	bool good;

	if (tell_head(x) != 0)
		return 0;
	good = x->reply->status / 100 == 2;
	if ((x->reply->status == 200 || x->reply->status == 206) && x->request->on_body != NULL) {
		x->rc = x->request->on_body(x->request->arg, data, len, x->err);
		moved(x);
		return x->rc == 0 ? len : 0;
	}
	moved(x);
	if (!good && (max == 0 || max > REFUSAL_MAX))
		max = REFUSAL_MAX;
	if (len > max - x->body.len) {
		x->enough = !good;
		if (good)
			x->rc = err_set(x->err, E_LIMIT,
			    "the server's answer is too long: more than %zu bytes", max);
		return 0;
	}
	sbuf_add(&x->body, data, len);
	return len;
}

static size_t
on_send(char *data, size_t size, size_t count, void *arg)
{
	struct exchange *x = arg;
	uint64_t left = x->request->body_len - (uint64_t)x->sent_at;
	size_t want = size * count < left ? size * count : (size_t)left;
	ssize_t n;

	moved(x);
	do {
		n = pread(x->request->body_fd, data, want, x->sent_at);
	} while (n < 0 && errno == EINTR);
	if (n < 0 || (n == 0 && want > 0)) {
		x->rc =
		    err_errno(x->err, E_IO, n < 0 ? errno : EIO, "can not read what is to be sent");
		return CURL_READFUNC_ABORT;
	}
	x->sent_at += n;
	return (size_t)n;
}

static int
on_seek(void *arg, curl_off_t offset, int origin)
{
	struct exchange *x = arg;

	if (origin != SEEK_SET)
		return CURL_SEEKFUNC_CANTSEEK;
	x->sent_at = (off_t)offset;
	return CURL_SEEKFUNC_OK;
}

static int
on_progress(void *arg, curl_off_t down_total, curl_off_t down, curl_off_t up_total, curl_off_t up)
{
	struct exchange *x = arg;
	uint64_t now = clock_ms();

	if ((uint64_t)up == x->sent)
		return 0;
	x->sent = (uint64_t)up;
	moved(x);
	if (x->request->on_sent == NULL || now - x->told_ms < POLL_MS)
		return 0;
	x->told_ms = now;
	x->rc = x->request->on_sent(x->request->arg, x->sent, x->err);
	return x->rc != 0;
}

static int
add_header(struct exchange *x, const char *name, const char *value, struct err *err)
{
	char *line;

	if (!good_value(value, strlen(value)) && strlen(value) <= HEADER_VALUE_MAX)
		return err_set(
		    err, E_PARAMS, "the value for the header '%s' has control characters", name);
	line = *value != '\0' ? xasprintf("%s: %s", name, value) : xasprintf("%s:", name);
	x->headers = curl_slist_append(x->headers, line);
	http_secret_free(line);
	return 0;
}

static int
make_headers(struct exchange *x, const char *authorization, struct err *err)
{
	const struct http_request *request = x->request;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < request->header_count; i++)
		rc = add_header(x, request->headers[i].name, request->headers[i].value, err);
	if (rc == 0 && authorization != NULL)
		rc = add_header(x, "Authorization", authorization, err);
	/* Without a wait for a go-ahead that many servers never give. */
	if (rc == 0)
		rc = add_header(x, "Expect", "", err);
	return rc;
}

static void
free_headers(struct curl_slist *headers)
{
	for (struct curl_slist *item = headers; item != NULL; item = item->next)
		mem_wipe(item->data, strlen(item->data));
	curl_slist_free_all(headers);
}

static void
set_body(struct exchange *x, const char *method)
{
	const struct http_request *request = x->request;
	CURL *easy = x->http->easy;

	if (strcmp(method, "HEAD") == 0) {
		curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
	} else if (strcmp(method, "GET") == 0) {
		curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
	} else if (request->body_fd >= 0 && request->body == NULL && request->body_len > 0) {
		curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
		curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)request->body_len);
		curl_easy_setopt(easy, CURLOPT_READFUNCTION, on_send);
		curl_easy_setopt(easy, CURLOPT_READDATA, x);
		curl_easy_setopt(easy, CURLOPT_SEEKFUNCTION, on_seek);
		curl_easy_setopt(easy, CURLOPT_SEEKDATA, x);
		curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method);
	} else {
		curl_easy_setopt(easy, CURLOPT_POST, 1L);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
		    (curl_off_t)(request->body != NULL ? request->body_len : 0));
		curl_easy_setopt(
		    easy, CURLOPT_POSTFIELDS, request->body != NULL ? request->body : "");
		curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, method);
	}
}

static void
set_options(struct exchange *x, const char *method, const char *url)
{
	const struct fetch_order *order = x->http->order;
	const char *proxy = http_url_plain(url) ? order->auth.http_proxy : order->auth.https_proxy;
	const char *authorities = getenv("SSL_CERT_FILE");
	CURL *easy = x->http->easy;

	curl_easy_reset(easy);
	curl_easy_setopt(easy, CURLOPT_URL, url);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
	if (authorities != NULL && *authorities != '\0')
		curl_easy_setopt(easy, CURLOPT_CAINFO, authorities);
	/* Empty and not absent: else the environment would be asked. */
	curl_easy_setopt(easy, CURLOPT_PROXY, proxy != NULL ? proxy : "");
	curl_easy_setopt(
	    easy, CURLOPT_NOPROXY, order->auth.no_proxy != NULL ? order->auth.no_proxy : "");
	curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, "vmm-fetch/" VMM_VERSION);
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, x->headers);
	curl_easy_setopt(easy, CURLOPT_HEADEROPT, (long)CURLHEADER_SEPARATE);
	curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)order->connect_ms);
	curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)RECEIVE_BYTES);
	curl_easy_setopt(easy, CURLOPT_MAXCONNECTS, (long)CONNECTIONS_MAX);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, x->words);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, x);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, x);
	curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(easy, CURLOPT_XFERINFODATA, x);
	set_body(x, method);
}

static int
curl_error(struct exchange *x, CURLcode code, const char *url, struct err *err)
{
	CLEANUP_FREE char *shown = http_url_public(url);
	const char *text = x->words[0] != '\0' ? x->words : curl_easy_strerror(code);
	CLEANUP_FREE char *words = str_printable(text, strnlen(text, 200));

	switch ((int)code) {
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_ISSUER_ERROR:
		err_set(
		    err, E_FAILED, "'%s': the server can not prove who it is: %s", shown, words);
		err_hint(err,
		    "check the URL and the clock; a certificate authority of your own is named by "
		    "SSL_CERT_FILE in the daemon's environment");
		return E_FAILED;
	case CURLE_URL_MALFORMAT:
	case CURLE_UNSUPPORTED_PROTOCOL:
		return err_set(err, E_PARAMS, "'%s' can not be fetched: %s", shown, words);
	case CURLE_OUT_OF_MEMORY:
	case CURLE_FAILED_INIT:
		return err_set(err, E_FAILED, "'%s': %s", shown, words);
	case CURLE_OPERATION_TIMEDOUT:
		return err_set(err, E_TIMEOUT, "'%s': no connection within %.1f s", shown,
		    (double)x->http->order->connect_ms / 1000);
	default:
		return err_set(err, E_NETWORK, "'%s': %s", shown, words);
	}
}

/* Until the answer is there.  CURLE_OK, or why not; x->rc when we ended it ourselves. */
static CURLcode
drive(struct exchange *x, const char *url)
{
	const struct fetch_order *order = x->http->order;
	CLEANUP_FREE char *shown = http_url_public(url);
	CURLMsg *message;
	int running = 1, queued;
	bool connected;

	for (;;) {
		curl_off_t since = 0;
		uint64_t now;

		if (curl_multi_perform(x->http->multi, &running) != CURLM_OK)
			return CURLE_FAILED_INIT;
		while ((message = curl_multi_info_read(x->http->multi, &queued)) != NULL)
			if (message->msg == CURLMSG_DONE)
				return message->data.result;
		/* Until there is a connection, its own deadline counts. */
		curl_easy_getinfo(x->http->easy, CURLINFO_PRETRANSFER_TIME_T, &since);
		connected = since > 0;
		now = clock_ms();
		if (!connected)
			x->moved_ms = now;
		if (now - x->moved_ms >= order->stall_ms) {
			x->rc = err_set(x->err, E_TIMEOUT, "'%s': nothing came for %.1f s", shown,
			    (double)order->stall_ms / 1000);
			return CURLE_OPERATION_TIMEDOUT;
		}
		if (now - x->moved_ms >= POLL_MS && !x->idle && x->request->on_idle != NULL) {
			x->idle = true;
			x->rc = x->request->on_idle(x->request->arg, x->err);
			if (x->rc != 0)
				return CURLE_ABORTED_BY_CALLBACK;
		}
		now = order->stall_ms - (now - x->moved_ms);
		curl_multi_poll(x->http->multi, NULL, 0, now < POLL_MS ? (int)now : POLL_MS, NULL);
	}
}

int
http_exchange(struct http *http, const struct http_request *request, const char *method,
    const char *url, const char *authorization, struct http_reply *ret_reply, struct err *err)
{
	struct err why = ERR_INIT;
	struct exchange x = { .http = http, .request = request, .reply = ret_reply, .err = &why };
	CURLcode code = CURLE_OK;
	int rc;

	ret_reply->length = ret_reply->range_total = -1;
	http->last_status = 0;
	rc = make_headers(&x, authorization, err);
	if (rc == 0) {
		set_options(&x, method, url);
		x.moved_ms = clock_ms();
		curl_multi_add_handle(http->multi, http->easy);
		code = drive(&x, url);
		curl_multi_remove_handle(http->multi, http->easy);
		if (x.rc == 0 && (code == CURLE_OK || x.enough))
			tell_head(&x);
		if (x.rc != 0) {
			rc = x.rc;
			if (err != NULL)
				*err = why;
		} else if (code != CURLE_OK && !x.enough) {
			rc = curl_error(&x, code, url, err);
		}
	}
	/* Nothing may point to x when the handle is next used or cleaned up. */
	curl_easy_reset(http->easy);
	free_headers(x.headers);
	free(x.date);
	ret_reply->body_len = x.body.len;
	ret_reply->body = sbuf_take(&x.body);
	return rc;
}
