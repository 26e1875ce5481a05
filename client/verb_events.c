/* SPDX-License-Identifier: MPL-2.0 */
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>

#include "client/call.h"
#include "client/conn.h"
#include "client/json.h"
#include "client/out.h"
#include "client/signals.h"
#include "client/verbs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"

struct events_args {
	char *since;
	uint64_t count;
};

/* clang-format off */
static const struct field events_fields[] = {
	FIELD(struct events_args, since, FIELD_STRING, .min = 1, .text = "first the kept events after this number; 0: all of them"),
	FIELD(struct events_args, count, FIELD_UINT,   .text = "end after so many events"),
	FIELD_END
};
/* clang-format on */

static void
print_event(const struct vmctl *ctl, json_object *event)
{
	json_object *data = json_member(event, "data");
	const char *vm = json_string(event, "vm");
	CLEANUP_FREE char *text =
	    ctl->global.json
		? json_text(event, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)
		: NULL;

	if (text != NULL)
		puts(text);
	else
		out_line(ctl, "%lld %s %s %s %s", (long long)json_int(event, "seq"),
		    json_shown(event, "time"), json_shown(event, "kind"), vm != NULL ? vm : "-",
		    data != NULL ? json_object_to_json_string_ext(data,
				       JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)
				 : "");
	fflush(stdout);
}

static int
follow(struct vmctl *ctl, uint64_t count, struct err *err)
{
	uint64_t seen = 0;

	while (count == 0 || seen < count) {
		struct json_object *message = NULL;

		switch (conn_next(ctl->conn, -1, &message, err)) {
		case CONN_FAILED:
			return err->code != E_OK ? (int)err->code : E_NO_DAEMON;
		case CONN_SIGNAL:
			ctl->status = err_exit_status(E_CANCELLED);
			return 0;
		case CONN_TIMEOUT:
			break;
		case CONN_MESSAGE:
			if (str_eq(json_string(message, "method"), "event")) {
				print_event(ctl, json_member(message, "params"));
				seen++;
			}
			json_object_put(message);
			break;
		}
	}
	return 0;
}

static int
run_events(struct vmctl *ctl, void *args, struct err *err)
{
	const struct events_args *a = args;
	struct event_subscribe_args subscribe = { .replay = a->since != NULL };
	struct call call = { .method = METHOD_event_subscribe };
	struct json_object *result = NULL;
	int rc;

	if (a->since != NULL && !str_to_u64(a->since, &subscribe.since))
		return err_set(err, E_USAGE, "--since: '%s' is not a whole number", a->since);
	call.params = fields_encode(event_subscribe_params, &subscribe);
	rc = call_run(ctl, &call, &result, err);
	json_object_put(result);
	return rc != 0 ? rc : follow(ctl, a->count, err);
}

const struct verb verb_events = {
	.name = "events",
	.summary = "Follow what happens",
	.fields = events_fields,
	.args_size = sizeof(struct events_args),
	.method = METHOD_event_subscribe,
	.run = run_events,
};
