/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/image/fetcher/event.h"

#include <string.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"

void
event_emit(const struct fetch_order *order, const char *name, json_object *fields)
{
	CLEANUP_JSON json_object *line = fields != NULL ? fields : json_object_new_object();
	struct sbuf sb = { 0 };

	json_add_string(line, "event", name);
	sbuf_adds(&sb, json_object_to_json_string_ext(line, JSON_TEXT_FLAGS));
	sbuf_addc(&sb, '\n');
	if (fs_write_all(order->events_fd > 0 ? order->events_fd : STDOUT_FILENO, sb.data, sb.len) <
	    0)
		_exit(1); /* nobody is left who could be told */
	sbuf_done(&sb);
}

void
event_failed(const struct fetch_order *order, const struct err *err, long status, bool temporary)
{
	json_object *line = json_object_new_object();

	json_add_string(line, "error", err_name(err->code));
	json_add_string(line, "message", err->msg);
	json_add_string(line, "hint", err->hint);
	json_add_int(line, "status", status);
	json_add_bool(line, "temporary", temporary);
	event_emit(order, "failed", line);
}

static json_object *
source_of(bool unchanged, const char *etag, const char *last_modified, const char *url)
{
	json_object *line = json_object_new_object();

	json_add_bool(line, "unchanged", unchanged);
	json_add_string(line, "etag", etag);
	json_add_string(line, "last_modified", last_modified);
	json_add_string(line, "url", url);
	return line;
}

void
event_done(const struct fetch_order *order, const struct sink_result *result, const char *etag,
    const char *last_modified, const char *url)
{
	json_object *line = source_of(false, etag, last_modified, url);

	json_add_string(line, "sha256", result->sha256);
	json_add_string(line, "body_sha256", result->body_sha256);
	json_add_int(line, "body_bytes", (int64_t)result->body_bytes);
	json_add_int(line, "image_bytes", (int64_t)result->image_bytes);
	json_add_string(line, "compression", result->compression);
	event_emit(order, "done", line);
}

void
event_unchanged(
    const struct fetch_order *order, const char *etag, const char *last_modified, const char *url)
{
	event_emit(order, "done", source_of(true, etag, last_modified, url));
}
