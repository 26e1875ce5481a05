/* SPDX-License-Identifier: MPL-2.0 */
#include <json-c/json.h>
#include <stdio.h>

#include "client/call.h"
#include "client/conn.h"
#include "client/json.h"
#include "client/out.h"
#include "client/verbs.h"
#include "lib/base/str.h"

enum { STOP_TIMEOUT_MS = 60000 };

static void
print_value(const struct vmctl *ctl, const char *key, json_object *value)
{
	if (json_object_is_type(value, json_type_object)) {
		json_object_object_foreach(value, inner, item)
		    out_line(ctl, "%-16s %s: %s", key, inner,
			json_object_is_type(item, json_type_string)
			    ? json_object_get_string(item)
			    : json_object_to_json_string_ext(item, JSON_C_TO_STRING_SPACED));
		return;
	}
	out_line(ctl, "%-16s %s", key,
	    json_object_is_type(value, json_type_string)
		? json_object_get_string(value)
		: json_object_to_json_string_ext(value, JSON_C_TO_STRING_SPACED));
}

static int
run_daemon_status(struct vmctl *ctl, void *args, struct err *err)
{
	struct json_object *result = NULL;
	int rc;

	ctl->no_start = true;
	rc = call_verb(ctl, args, false, &result, err);
	if (rc == 0) {
		out_json(ctl, result);
		json_object_object_foreach(result, key, value) print_value(ctl, key, value);
	}
	json_object_put(result);
	return rc;
}

const struct verb verb_daemon_status = {
	.name = "daemon status",
	.fields = system_info_params,
	.args_size = sizeof(struct system_info_args),
	.method = METHOD_system_info,
	.run = run_daemon_status,
};

/* It has ended when the connection has: vmmd closes its connections last. */
static int
wait_for_end(struct vmctl *ctl, struct err *err)
{
	struct err ignored = ERR_INIT;

	for (;;) {
		struct json_object *message = NULL;

		switch (conn_next(ctl->conn, STOP_TIMEOUT_MS, &message, &ignored)) {
		case CONN_FAILED:
			return 0;
		case CONN_MESSAGE:
			json_object_put(message);
			break;
		case CONN_SIGNAL:
			return err_set(err, E_CANCELLED, "interrupted; vmmd is going down");
		case CONN_TIMEOUT:
			return err_set(err, E_TIMEOUT, "vmmd is still going down");
		}
	}
}

static int
run_daemon_stop(struct vmctl *ctl, void *args, struct err *err)
{
	struct json_object *result = NULL;
	int rc;

	ctl->no_start = true;
	rc = call_verb(ctl, args, false, &result, err);
	if (rc == 0)
		rc = wait_for_end(ctl, err);
	if (rc == 0) {
		out_json(ctl, result);
		out_line(ctl, "vmmd has ended; machines live on");
	}
	json_object_put(result);
	return rc;
}

const struct verb verb_daemon_stop = {
	.name = "daemon stop",
	.fields = system_shutdown_params,
	.args_size = sizeof(struct system_shutdown_args),
	.method = METHOD_system_shutdown,
	.run = run_daemon_stop,
};
