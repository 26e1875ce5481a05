/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_IMAGE_FETCHER_HTTP_PARTS_H
#define LIB_IMAGE_FETCHER_HTTP_PARTS_H

#include <curl/curl.h>

#include "lib/base/str.h"
#include "lib/image/fetcher/http.h"

/* HTTP as its own files see it: http.c follows redirects, http_exchange.c does one exchange. */

struct http {
	const struct fetch_order *order;
	CURLM *multi;
	CURL *easy; /* reused, so that connections are */
	long last_status;
};

/* One request to `url` without redirects.  authorization: for this very host; NULL: none.
 * ret_reply: to be released also after an error. */
int http_exchange(struct http *http, const struct http_request *request, const char *method,
    const char *url, const char *authorization, struct http_reply *ret_reply, struct err *err);

#endif
