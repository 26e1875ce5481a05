/* SPDX-License-Identifier: MPL-2.0 */
#include "client/call.h"

#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client/auth.h"
#include "client/conn.h"
#include "client/json.h"
#include "client/progress.h"
#include "client/signals.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"

enum { CALL_ID = 1, CANCEL_ID = 2 };

struct waiting {
	struct vmctl *ctl;
	struct progress progress;
	bool cancel_wanted, cancel_sent;
};

static json_object *
make_request(int id, enum method_id method, json_object *params)
{
	json_object *request = json_object_new_object();

	json_object_object_add(request, "jsonrpc", json_object_new_string("2.0"));
	json_object_object_add(request, "id", json_object_new_int(id));
	json_object_object_add(request, "method", json_object_new_string(methods[method].wire));
	if (params != NULL)
		json_object_object_add(request, "params", params);
	return request;
}

void
call_error(struct json_object *error, struct err *ret_err)
{
	json_object *data = json_member(error, "data");
	const char *name = json_string(data, "name"), *message = json_string(error, "message");
	enum err_code code =
	    name != NULL ? err_from_name(name) : err_from_rpc_code((int)json_int(error, "code"));

	err_set(ret_err, code, "%s", message != NULL ? message : err_meaning(code));
	if (json_string(data, "hint") != NULL)
		err_hint(ret_err, "%s", json_string(data, "hint"));
	if (json_string(data, "object") != NULL)
		err_object(ret_err, json_string(data, "object"));
}

/* ---- Ctrl-C ---- */

static int
send_cancel(struct waiting *w, struct err *err)
{
	json_object *params = json_object_new_object(), *request;
	int rc;

	json_object_object_add(params, "id", json_object_new_string(w->ctl->operation));
	request = make_request(CANCEL_ID, METHOD_operation_cancel, params);
	rc = conn_send(w->ctl->conn, request, NULL, 0, err);
	json_object_put(request);
	w->cancel_sent = true;
	return rc;
}

static int
on_signal(struct waiting *w, bool has_operation, struct err *err)
{
	if (signals_interrupts() == 0 || w->cancel_wanted)
		return 0;
	if (!has_operation)
		return err_set(err, E_CANCELLED, "interrupted");
	w->cancel_wanted = true;
	progress_note(&w->progress, "vmctl: cancelling; Ctrl-C again leaves at once");
	return w->ctl->operation != NULL ? send_cancel(w, err) : 0;
}

/* ---- answers ---- */

static int
on_notification(struct waiting *w, json_object *message, struct err *err)
{
	json_object *params = json_member(message, "params");
	const char *operation = json_string(params, "operation");

	if (!str_eq(json_string(message, "method"), "operation.progress"))
		return 0;
	/* A call may be several operations, one after the other. */
	if (operation != NULL && !str_eq(operation, w->ctl->operation)) {
		free(w->ctl->operation);
		w->ctl->operation = xstrdup(operation);
		w->cancel_sent = false;
	}
	progress_event(&w->progress, params);
	if (w->cancel_wanted && !w->cancel_sent && w->ctl->operation != NULL)
		return send_cancel(w, err);
	return 0;
}

static int
take_answer(struct waiting *w, json_object *message, json_object **ret_result, struct err *err)
{
	json_object *error = json_member(message, "error");

	if (error == NULL) {
		*ret_result = json_object_get(json_member(message, "result"));
		return 0;
	}
	json_object_put(w->ctl->error);
	w->ctl->error = json_object_get(error);
	call_error(error, err);
	return (int)err->code;
}

/* The next message; NULL when it was the answer and its rows were given out. */
static enum conn_event
next_message(struct waiting *w, const struct call *call, json_object **ret_message, struct err *err)
{
	int interval = progress_interval(&w->progress);
	enum conn_event event;
	const char *line;
	size_t len;

	if (call->rows_key == NULL)
		return conn_next(w->ctl->conn, interval, ret_message, err);
	event = conn_line(w->ctl->conn, interval, &line, &len, err);
	if (event != CONN_MESSAGE ||
	    rows_each(line, len, call->rows_key, call->on_row, call->arg) == 0)
		return event;
	*ret_message = conn_parse(line, len, err);
	return *ret_message != NULL ? CONN_MESSAGE : CONN_FAILED;
}

/* True: it was the answer. */
static bool
on_message(
    struct waiting *w, json_object *message, json_object **ret_result, int *ret_rc, struct err *err)
{
	json_object *id = json_member(message, "id");

	if (json_has(message, "method")) {
		*ret_rc = on_notification(w, message, err);
		return false;
	}
	/* An error without id: the line itself was refused. */
	if (id != NULL && json_object_get_int(id) != CALL_ID)
		return false;
	*ret_rc = take_answer(w, message, ret_result, err);
	return true;
}

static int
wait_for_answer(
    struct waiting *w, const struct call *call, json_object **ret_result, struct err *err)
{
	bool answered = false;
	int rc = 0;

	while (rc == 0 && !answered) {
		json_object *message = NULL;

		switch (next_message(w, call, &message, err)) {
		case CONN_FAILED:
			return E_NO_DAEMON;
		case CONN_TIMEOUT:
			progress_tick(&w->progress);
			break;
		case CONN_SIGNAL:
			rc = on_signal(w, call->progress, err);
			break;
		case CONN_MESSAGE:
			answered = message == NULL || on_message(w, message, ret_result, &rc, err);
			json_object_put(message);
			break;
		}
	}
	return rc;
}

int
call_run(
    struct vmctl *ctl, const struct call *call, struct json_object **ret_result, struct err *err)
{
	enum progress_style style = ctl->err_tty ? PROGRESS_LIVE : PROGRESS_PLAIN;
	struct waiting w = { .ctl = ctl };
	json_object *params = call->params, *request;
	int rc = vmctl_connect(ctl, err);

	if (rc != 0) {
		auth_wipe(json_member(params, "auth"));
		json_object_put(params);
		return rc;
	}
	if (call->progress) {
		if (params == NULL)
			params = json_object_new_object();
		json_object_object_add(params, "progress", json_object_new_boolean(true));
	}
	signals_catch_interrupt();
	progress_init(&w.progress, call->progress && !ctl->global.quiet ? style : PROGRESS_NONE,
	    STDERR_FILENO);
	request = make_request(CALL_ID, call->method, params);
	rc = conn_send(ctl->conn, request, call->fds, call->fd_count, err);
	auth_wipe(json_member(params, "auth"));
	json_object_put(request);
	if (rc == 0)
		rc = wait_for_answer(&w, call, ret_result, err);
	progress_done(&w.progress);
	free(ctl->operation);
	ctl->operation = NULL;
	return rc;
}

int
call_verb(struct vmctl *ctl, const void *args, bool progress, struct json_object **ret_result,
    struct err *err)
{
	struct call call = { .method = ctl->verb->method,
		.params = fields_encode(ctl->verb->fields, args),
		.progress = progress };

	return call_run(ctl, &call, ret_result, err);
}
