/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_IMAGE_FETCHER_TRANSFER_H
#define LIB_IMAGE_FETCHER_TRANSFER_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/image/fetcher/http.h"
#include "lib/image/fetcher/order.h"
#include "lib/image/fetcher/sink.h"

/* A body into a sink: asked for, resumed when a connection breaks, tried again with back-off until
 * `attempts` of the order are used up without a new byte.  Tells `response`, `progress`, `saved`
 * and `retry`. */

struct transfer_source {
	const char *url;
	bool plain_http; /* as in struct http_request */
	/* The URL always gives the same bytes (a blob, named by its digest): a range needs no
	 * validator, neither in this process nor for a part of an earlier one. */
	bool immutable;
	bool conditional; /* order's etag and last_modified: 304 is an answer */
	uint64_t
	    length; /* of the whole body, where it is known; another one is refused; 0: unknown */
	/* Before each try, with what is set by then: may set authorization (borrowed until the try
	 * has ended) and headers (those count besides Range and the like).  NULL: nothing. */
	int (*prepare)(void *arg, struct http_request *request, struct err *err);
	/* An answer that is neither 2xx nor 304.  0: try again at once (there is a new token); an
	 * error: it is final, unless it is temporary.  NULL: http_status_error. */
	int (*refused)(void *arg, const struct http_reply *reply, struct err *err);
	void *arg;
};

struct transfer_result {
	bool unchanged;                   /* 304: nothing went into the sink */
	char *url, *etag, *last_modified; /* owned; of the answer the body came with; or NULL */
	struct sink_result sink;
};

/* From the first try to sink_finish. */
int transfer_body(struct http *http, const struct fetch_order *order,
    const struct transfer_source *source, struct sink *sink, struct transfer_result *ret_result,
    struct err *err);
void transfer_result_done(struct transfer_result *result);

/* FETCH_HTTP and FETCH_FILE, to their `done`. */
int transfer_http(struct http *http, const struct fetch_order *order, struct err *err);
int transfer_file(struct http *http, const struct fetch_order *order, struct err *err);
/* Is it what this digest (hex; NULL: any) says: the bytes as they came, or the image? */
int transfer_check_digest(const char *want, const struct sink_result *result, struct err *err);

#endif
