/* SPDX-License-Identifier: MPL-2.0
 *
 * A body into a sink, over as many connections as it takes. */
#include "lib/image/fetcher/transfer.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/fetcher/event.h"

enum { TELL_MS = 100, HEADERS_MAX = 16 };

struct transfer {
	struct http *http;
	const struct fetch_order *order;
	const struct transfer_source *source;
	struct sink *sink;
	struct transfer_result *result;
	char *validator; /* of the bytes in the sink; NULL: they can not be added to */
	uint64_t total;  /* of the whole body; 0: unknown */
	uint64_t best;   /* the most bytes that there were */
	uint64_t told_ms, told_saved;
	uint64_t retry_after_ms;
	/* Of the try at hand. */
	bool asked_range, resumed, told_response, began;
	uint64_t skip; /* bytes of the answer that the sink has already */
	long status;
	char range[48];
	struct http_header headers[HEADERS_MAX];
};

static void
tell_response(struct transfer *t)
{
	json_object *line;
	CLEANUP_FREE char *shown = NULL;

	if (t->told_response || !sink_kind_known(t->sink))
		return;
	t->told_response = true;
	shown = http_url_public(t->source->url);
	line = json_object_new_object();
	json_add_int(line, "status", t->status);
	json_add_string(line, "url", shown);
	json_object_object_add(
	    line, "length", t->total > 0 ? json_object_new_int64((int64_t)t->total) : NULL);
	json_add_string(line, "etag", t->result->etag);
	json_add_string(line, "last_modified", t->result->last_modified);
	json_add_string(line, "validator", t->validator);
	json_add_bool(line, "resumed", t->resumed);
	json_add_bool(line, "packed", sink_packed(t->sink));
	event_emit(t->order, "response", line);
}

static void
tell_saved(struct transfer *t)
{
	uint64_t saved = sink_saved_bytes(t->sink);
	json_object *line;

	if (saved <= t->told_saved)
		return;
	t->told_saved = saved;
	line = json_object_new_object();
	json_add_int(line, "bytes", (int64_t)saved);
	event_emit(t->order, "saved", line);
}

static void
tell_progress(struct transfer *t, bool now)
{
	uint64_t ms = clock_ms();
	json_object *line;

	if (!now && ms - t->told_ms < TELL_MS)
		return;
	t->told_ms = ms;
	line = json_object_new_object();
	json_add_int(line, "done", (int64_t)sink_body_bytes(t->sink));
	json_add_int(line, "total", (int64_t)t->total);
	json_add_int(line, "written", (int64_t)sink_image_bytes(t->sink));
	event_emit(t->order, "progress", line);
	tell_saved(t);
}

/* A weak ETag does not promise the same bytes, nor does a date of this very second. */
static const char *
validator_of(const struct http_reply *reply)
{
	if (reply->etag != NULL && !str_starts(reply->etag, "W/"))
		return reply->etag;
	return reply->settled ? reply->last_modified : NULL;
}

/* May a piece be of what `validator` was told with?  The server compared it; it may still err. */
static bool
is_same(const struct http_reply *reply, const char *validator)
{
	const char *told =
	    validator != NULL && validator[0] == '"' ? reply->etag : reply->last_modified;

	return told == NULL || str_eq(told, validator);
}

static int
restart(struct transfer *t, struct err *err)
{
	free(TAKE(t->validator));
	t->told_saved = 0;
	return sink_body_bytes(t->sink) > 0 ? sink_restart(t->sink, err) : 0;
}

static void
remember(struct transfer *t, const struct http_reply *head)
{
	const char *validator = validator_of(head);

	free(t->validator);
	t->validator = xstrdup(validator);
	free(t->result->etag);
	t->result->etag = xstrdup(head->etag);
	free(t->result->last_modified);
	t->result->last_modified = xstrdup(head->last_modified);
}

static int
wrong_length(const struct transfer *t, uint64_t told, struct err *err)
{
	return err_set(err, E_IMAGE,
	    "the server's file has %" PRIu64 " bytes where %" PRIu64 " are expected", told,
	    t->source->length);
}

/* Is it the piece that was asked for, of what the first piece was of? */
static int
check_range(struct transfer *t, const struct http_reply *head, struct err *err)
{
	uint64_t at = sink_body_bytes(t->sink) - 1;

	if (!t->asked_range || head->range_start != at ||
	    (t->total > 0 && head->range_total >= 0 && (uint64_t)head->range_total != t->total) ||
	    (!t->source->immutable && !is_same(head, t->validator))) {
		err_set(err, E_NETWORK, "the server went on with another piece or another file");
		/* With nothing in the sink, the next try asks for all of it. */
		return restart(t, NULL) != 0 ? E_IO : E_NETWORK;
	}
	if (t->total == 0 && head->range_total > 0)
		t->total = (uint64_t)head->range_total;
	t->skip = 1;
	t->resumed = true;
	if (t->result->etag == NULL && t->result->last_modified == NULL) {
		t->result->etag = xstrdup(head->etag);
		t->result->last_modified = xstrdup(head->last_modified);
	}
	return 0;
}

/* A web page comes for an image when a gate wants a login, or when a link leads to a page about it.
 */
static int
check_kind(const struct http_reply *head, struct err *err)
{
	const char *coding = head->content_encoding;

	/* gzip is seen by what comes; another one would be taken for the image. */
	if (coding != NULL && strcasecmp(coding, "identity") != 0 &&
	    strcasecmp(coding, "gzip") != 0 && strcasecmp(coding, "x-gzip") != 0) {
		CLEANUP_FREE char *shown = str_printable(coding, strnlen(coding, 40));

		return err_set(err, E_IMAGE,
		    "the server packed the image for the way as '%s', which nobody asked for",
		    shown);
	}
	if (head->content_type == NULL || strncasecmp(head->content_type, "text/html", 9) != 0)
		return 0;
	err_set(err, E_IMAGE, "the server sends a web page, and no image");
	err_hint(err, "open the URL in a browser: it may want a login, or be a page with the link");
	return E_IMAGE;
}

static int
on_head(void *arg, const struct http_reply *head, struct err *err)
{
	struct transfer *t = arg;
	int rc = 0;

	t->status = head->status;
	t->retry_after_ms = head->retry_after_ms;
	if (head->status == 206) {
		rc = check_range(t, head, err);
	} else if (head->status == 200) {
		t->total = head->length > 0 ? (uint64_t)head->length : 0;
		rc = restart(t, err);
		if (rc == 0)
			remember(t, head);
	} else {
		return 0;
	}
	if (rc == 0)
		rc = check_kind(head, err);
	if (rc == 0 && t->source->length > 0 && t->total > 0 && t->total != t->source->length)
		rc = wrong_length(t, t->total, err);
	if (rc == 0 && t->total == 0)
		t->total = t->source->length;
	if (rc == 0 && t->total > 0)
		rc = sink_expect(t->sink, t->total, err);
	t->began = rc == 0;
	if (rc == 0)
		tell_response(t);
	return rc;
}

static int
on_body(void *arg, const void *data, size_t len, struct err *err)
{
	struct transfer *t = arg;
	const char *from = data;
	size_t skip = t->skip < len ? (size_t)t->skip : len;
	int rc;

	t->skip -= skip;
	from += skip;
	len -= skip;
	if (t->total > 0 && len > t->total - sink_body_bytes(t->sink))
		return t->source->length > 0
			   ? wrong_length(t, sink_body_bytes(t->sink) + len, err)
			   : err_set(err, E_NETWORK, "the server sends more than it said");
	rc = len > 0 ? sink_write(t->sink, from, len, err) : 0;
	if (rc == 0) {
		tell_response(t);
		tell_progress(t, false);
	}
	return rc;
}

static int
on_idle(void *arg, struct err *err)
{
	struct transfer *t = arg;

	tell_progress(t, false);
	return sink_idle(t->sink, err);
}

static void
add_header(struct transfer *t, struct http_request *request, const char *name, const char *value)
{
	if (value != NULL && request->header_count < HEADERS_MAX)
		t->headers[request->header_count++] =
		    (struct http_header){ .name = name, .value = value };
}

static int
make_request(struct transfer *t, struct http_request *ret_request, struct err *err)
{
	const struct transfer_source *source = t->source;
	struct http_request request = { .method = "GET",
		.url = source->url,
		.plain_http = source->plain_http,
		.body_fd = -1,
		.headers = t->headers,
		.on_head = on_head,
		.on_body = on_body,
		.on_idle = on_idle,
		.arg = t };
	uint64_t have = sink_body_bytes(t->sink);
	int rc;

	if (have > 0 && t->validator == NULL && !source->immutable) {
		rc = restart(t, err);
		if (rc != 0)
			return rc;
		have = 0;
	}
	add_header(t, &request, "Accept-Encoding", "identity");
	t->asked_range = have > 0;
	t->resumed = t->told_response = t->began = false;
	t->skip = 0;
	t->status = 0;
	if (have > 0) {
		/* From the last byte that is there: so the range can be satisfied, and what is
		 * there is confirmed, also when it is all. */
		snprintf(t->range, sizeof(t->range), "bytes=%" PRIu64 "-", have - 1);
		add_header(t, &request, "Range", t->range);
		if (!source->immutable)
			add_header(t, &request, "If-Range", t->validator);
	}
	if (source->conditional && t->best == 0) {
		add_header(t, &request, "If-None-Match", t->order->etag);
		add_header(t, &request, "If-Modified-Since",
		    t->order->etag == NULL ? t->order->last_modified : NULL);
	}
	rc = source->prepare != NULL ? source->prepare(source->arg, &request, err) : 0;
	*ret_request = request;
	return rc;
}

/* An answer that came to its end.  *ret_again: at once. */
static int
judge(struct transfer *t, const struct http_reply *reply, bool *ret_again, struct err *err)
{
	int rc;

	if (reply->status == 304 && t->source->conditional && t->best == 0) {
		t->result->unchanged = true;
		t->result->etag = xstrdup(reply->etag);
		t->result->last_modified = xstrdup(reply->last_modified);
		return 0;
	}
	if (reply->status == 200 || reply->status == 206) {
		if (t->began && (t->total == 0 || sink_body_bytes(t->sink) == t->total))
			return 0;
		return err_set(err, E_NETWORK, "the server sent less than it said");
	}
	/* It has become shorter than what we have of it. */
	if (reply->status == 416 && t->asked_range) {
		rc = restart(t, err);
		*ret_again = rc == 0;
		return rc;
	}
	if (t->source->refused != NULL) {
		rc = t->source->refused(t->source->arg, reply, err);
		*ret_again = rc == 0;
		return rc;
	}
	rc = http_status_error(reply, t->source->url, err);
	return rc != 0
		   ? rc
		   : err_set(err, E_FAILED, "the server answers with status %ld, which is no image",
			 reply->status);
}

static int
try_once(struct transfer *t, bool *ret_again, struct err *err)
{
	struct http_request request;
	struct http_reply reply = { 0 };
	int rc = make_request(t, &request, err);

	*ret_again = false;
	t->retry_after_ms = 0;
	if (rc == 0)
		rc = http_perform(t->http, &request, &reply, err);
	if (rc == 0)
		rc = judge(t, &reply, ret_again, err);
	if (rc == 0 && !*ret_again) {
		free(t->result->url);
		t->result->url = http_url_public(reply.url);
	}
	http_reply_done(&reply);
	return rc;
}

static int
until_there(struct transfer *t, struct err *err)
{
	unsigned attempt = 0, again_count = 0;
	struct err why = ERR_INIT;
	bool again;
	int rc;

	/* A blob that is all there needs no server. */
	if (t->source->immutable && t->source->length > 0 &&
	    sink_body_bytes(t->sink) == t->source->length)
		return 0;
	for (;;) {
		rc = try_once(t, &again, &why);
		if (rc == 0 && !again)
			return 0;
		if (rc == 0 && ++again_count <= t->order->attempts)
			continue;
		if (rc == 0)
			rc = err_set(&why, E_FAILED, "the server asks again and again");
		if (sink_body_bytes(t->sink) > t->best) {
			t->best = sink_body_bytes(t->sink);
			attempt = again_count = 0;
		}
		if (!http_is_temporary(&why) || ++attempt >= t->order->attempts) {
			if (err != NULL)
				*err = why;
			return rc;
		}
		http_back_off(t->http, attempt, t->retry_after_ms, &why);
	}
}

int
transfer_body(struct http *http, const struct fetch_order *order,
    const struct transfer_source *source, struct sink *sink, struct transfer_result *ret_result,
    struct err *err)
{
	struct transfer_result result = { 0 };
	struct transfer t = { .http = http,
		.order = order,
		.source = source,
		.sink = sink,
		.result = &result,
		.total = source->length };
	int rc;

	t.validator = xstrdup(order->part_validator);
	rc = until_there(&t, err);
	if (rc == 0 && !result.unchanged) {
		rc = sink_finish(sink, &result.sink, err);
		if (rc == 0) {
			tell_response(&t);
			tell_progress(&t, true);
		}
	}
	if (rc != 0 && (t.validator != NULL || source->immutable)) {
		sink_give_up(sink);
		tell_saved(&t);
	}
	free(t.validator);
	if (rc == 0)
		*ret_result = result;
	else
		transfer_result_done(&result);
	return rc;
}

void
transfer_result_done(struct transfer_result *result)
{
	free(result->url);
	free(result->etag);
	free(result->last_modified);
	*result = (struct transfer_result){ 0 };
}
