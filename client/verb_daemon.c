/* SPDX-License-Identifier: MPL-2.0 */
#include <json-c/json.h>
#include <poll.h>
#include <stdio.h>

#include "client/call.h"
#include "client/conn.h"
#include "client/json.h"
#include "client/out.h"
#include "client/signals.h"
#include "client/verbs.h"
#include "lib/base/mem.h"
#include "lib/base/process.h"
#include "lib/base/str.h"

enum { STOP_TIMEOUT_MS = 60000 };

static const char *
shown(json_object *value)
{
	return json_object_is_type(value, json_type_string)
		   ? json_object_get_string(value)
		   : json_object_to_json_string_ext(value, JSON_C_TO_STRING_NOSLASHESCAPE);
}

static void
print_words(const struct vmctl *ctl, json_object *backend, const char *key, const char *label)
{
	json_object *words = json_member(backend, key);
	struct sbuf text = { 0 };

	for (size_t i = 0; i < json_length(words); i++)
		sbuf_addf(
		    &text, "%s%s", i > 0 ? ", " : "", json_object_get_string(json_item(words, i)));
	if (text.len > 0)
		out_line(ctl, "%-12s   %s: %s", "", label, text.data);
	sbuf_done(&text);
}

static void
print_backend(const struct vmctl *ctl, json_object *backend)
{
	const char *why_not = json_string(backend, "why_not");

	if (why_not != NULL)
		out_line(ctl, "%-12s %s: %s", "backend", json_shown(backend, "name"), why_not);
	else
		out_line(ctl, "%-12s %s%s", "backend", json_shown(backend, "name"),
		    json_flag(backend, "default") ? " (default)" : "");
	print_words(ctl, backend, "capabilities", "can");
	print_words(ctl, backend, "lacks", "lacks");
}

/* What the daemon tells grows with its versions: every value is shown, objects one level down. */
static void
print_info(const struct vmctl *ctl, json_object *info)
{
	json_object_object_foreach(info, key, value) {
		if (str_eq(key, "backends")) {
			for (size_t i = 0; i < json_length(value); i++)
				print_backend(ctl, json_item(value, i));
		} else if (json_object_is_type(value, json_type_object)) {
			json_object_object_foreach(value, inner, item)
				out_line(ctl, "%-12s %s: %s", key, inner, shown(item));
		} else {
			out_line(ctl, "%-12s %s", key, shown(value));
		}
	}
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
		print_info(ctl, result);
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

/* It has ended when its process has: until then it holds its data folder.  A process that can not
 * be watched has at least let go of its connections. */
static int
wait_for_end(struct vmctl *ctl, pid_t pid, struct err *err)
{
	struct pollfd ends[2] = { { .events = POLLIN }, { .events = POLLIN } };
	struct process_id id;
	CLEANUP_FD int pidfd = -1;
	int n;

	if (pid <= 0 || process_identify(pid, &id, NULL) != 0 ||
	    process_open(&id, &pidfd, NULL) != 0)
		pidfd = -1;
	if (pidfd >= 0)
		ends[0].events = process_end_events;
	ends[0].fd = pidfd >= 0 ? pidfd : ctl->conn->fd;
	ends[1].fd = signals_fd();
	n = poll(ends, 2, STOP_TIMEOUT_MS);
	if (n == 0)
		return err_set(err, E_TIMEOUT, "vmmd is still going down");
	if (ends[0].revents == 0)
		return err_set(err, E_CANCELLED, "interrupted; vmmd is going down");
	return 0;
}

static int
run_daemon_stop(struct vmctl *ctl, void *args, struct err *err)
{
	struct json_object *result = NULL;
	int rc;

	ctl->no_start = true;
	rc = call_verb(ctl, args, false, &result, err);
	if (rc == 0)
		rc = wait_for_end(ctl, (pid_t)json_int(result, "pid"), err);
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
