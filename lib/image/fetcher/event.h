/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_IMAGE_FETCHER_EVENT_H
#define LIB_IMAGE_FETCHER_EVENT_H

#include <json-c/json.h>

#include "lib/base/err.h"
#include "lib/image/fetcher/order.h"
#include "lib/image/fetcher/sink.h"

/* Lines for vmmd (order.h says which).  One thread: the one that speaks HTTP. */

/* fields: taken; NULL: none.  Text of servers in it must be printable already.  A reader that is
 * gone ends the process by SIGPIPE, which is meant. */
void event_emit(const struct fetch_order *order, const char *name, json_object *fields);
/* status: of the reply that failed; 0: none did. */
void event_failed(
    const struct fetch_order *order, const struct err *err, long status, bool temporary);
/* The last line of what filled SINK_FD.  etag, last_modified, url: or NULL. */
void event_done(const struct fetch_order *order, const struct sink_result *result, const char *etag,
    const char *last_modified, const char *url);
/* The server says that what is known is what it has. */
void event_unchanged(
    const struct fetch_order *order, const char *etag, const char *last_modified, const char *url);

#endif
