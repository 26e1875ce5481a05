/* SPDX-License-Identifier: MPL-2.0
 *
 * An image from a URL: the list of checksums, the body, and whether it is what was meant. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/fetcher/checksums.h"
#include "lib/image/fetcher/event.h"
#include "lib/image/fetcher/transfer.h"

enum { CHECKSUMS_MAX = 4 << 20, HEX256 = 64 };

struct source {
	const struct fetch_order *order;
	char *authorization;
};

static int
on_prepare(void *arg, struct http_request *request, struct err *err)
{
	struct source *source = arg;

	request->authorization = source->authorization;
	return 0;
}

/* The list's text, with retries of its own. */
static int
get_list(struct http *http, const struct fetch_order *order, struct http_reply *ret_reply,
    struct err *err)
{
	char *authorization = http_authorization(order, order->checksums);
	struct http_request request = { .method = "GET",
		.url = order->checksums,
		.body_fd = -1,
		.authorization = authorization,
		.plain_http = order->insecure_http,
		.max_body = CHECKSUMS_MAX };
	struct err why = ERR_INIT;
	int rc;

	for (unsigned attempt = 1;; attempt++) {
		struct http_reply reply = { 0 };

		rc = http_perform(http, &request, &reply, &why);
		if (rc == 0)
			rc = http_status_error(&reply, order->checksums, &why);
		if (rc == 0) {
			*ret_reply = reply;
			break;
		}
		if (!http_is_temporary(&why) || attempt >= order->attempts) {
			if (err != NULL)
				*err = why;
			http_reply_done(&reply);
			err_wrap(err, "the list of checksums");
			break;
		}
		http_back_off(http, attempt, reply.retry_after_ms, &why);
		http_reply_done(&reply);
	}
	http_secret_free(authorization);
	return rc;
}

static int
get_checksum(struct http *http, const struct fetch_order *order, char **ret_hex, struct err *err)
{
	CLEANUP_FREE char *path = http_url_path(order->url);
	struct http_reply reply = { 0 };
	int rc;

	if (path == NULL)
		return err_set(err, E_PARAMS, "this is not a URL that can be fetched");
	rc = get_list(http, order, &reply, err);
	if (rc == 0)
		rc = checksums_find(reply.body, reply.body_len, fs_basename(path), ret_hex, err);
	http_reply_done(&reply);
	return rc;
}

/* Either of the bytes as they came or of the image. */
int
transfer_check_digest(const char *want, const struct sink_result *result, struct err *err)
{
	bool short_one = want != NULL && strlen(want) == HEX256;
	const char *body = short_one ? result->body_sha256 : result->body_sha512;
	const char *image = short_one ? result->sha256 : result->sha512;

	if (want == NULL || strcasecmp(want, body) == 0 || strcasecmp(want, image) == 0)
		return 0;
	err_set(err, E_IMAGE, "the image is not the one that was meant: its %s is %s, and not %s",
	    short_one ? "sha256" : "sha512", body, want);
	err_hint(err, "if the file on the server was replaced on purpose, give its new digest; "
		      "else do not use it");
	return E_IMAGE;
}

int
transfer_http(struct http *http, const struct fetch_order *order, struct err *err)
{
	struct source source = { .order = order };
	bool conditional = order->etag != NULL || order->last_modified != NULL;
	struct transfer_source from = {
		.url = order->url, .conditional = conditional, .prepare = on_prepare, .arg = &source
	};
	struct transfer_result result = { 0 };
	CLEANUP_FREE char *listed = NULL;
	struct sink *sink = NULL;
	int rc = order->url == NULL ? err_set(err, E_PARAMS, "the order has no URL") : 0;

	/* What has a digest of its own can come over any wire. */
	from.plain_http = order->insecure_http || order->sha256 != NULL || order->sha512 != NULL ||
			  (order->checksums != NULL && !http_url_plain(order->checksums));
	/* When it is likely that nothing is to be fetched, the list can wait. */
	if (rc == 0 && order->checksums != NULL && !conditional)
		rc = get_checksum(http, order, &listed, err);
	if (rc == 0) {
		source.authorization = http_authorization(order, order->url);
		sink = sink_create(order, SINK_IMAGE,
		    order->sha512 != NULL ||
			(order->checksums != NULL && (listed == NULL || strlen(listed) > HEX256)),
		    err);
		rc = sink != NULL ? 0 : err != NULL ? (int)err->code : E_IO;
	}
	if (rc == 0)
		rc = transfer_body(http, order, &from, sink, &result, err);
	if (rc == 0 && result.unchanged) {
		event_unchanged(order, result.etag, result.last_modified, result.url);
	} else if (rc == 0) {
		if (order->checksums != NULL && listed == NULL)
			rc = get_checksum(http, order, &listed, err);
		if (rc == 0)
			rc = transfer_check_digest(order->sha256, &result.sink, err);
		if (rc == 0)
			rc = transfer_check_digest(order->sha512, &result.sink, err);
		if (rc == 0)
			rc = transfer_check_digest(listed, &result.sink, err);
		if (rc == 0)
			event_done(
			    order, &result.sink, result.etag, result.last_modified, result.url);
	}
	sink_destroy(sink);
	http_secret_free(source.authorization);
	transfer_result_done(&result);
	return rc;
}
