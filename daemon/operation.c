/* SPDX-License-Identifier: MPL-2.0
 *
 * The engine that runs operations.  Forward through the steps, or, once something failed or was
 * cancelled, backward through the undos; one place decides which. */
#include "daemon/operation.h"

#include <assert.h>
#include <openssl/rand.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/events.h"
#include "daemon/request.h"
#include "daemon/vm.h"
#include "daemon/vmmd.h"
#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/base/log.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/store/store.h"

const char *const op_state_names[OP_STATES] = { "running", "done", "failed", "cancelled",
	"interrupted" };

enum { BACKLOG_MAX = 1 << 20 };

struct operations {
	TAILQ_HEAD(, operation) list;
};

struct operations *
operations_create(struct vmmd *vmmd)
{
	struct operations *operations = xcalloc(1, sizeof(*operations));

	TAILQ_INIT(&operations->list);
	return operations;
}

static void
op_free(struct operation *op)
{
	struct op_listener *listener;
	struct op_audience *a;

	while ((listener = TAILQ_FIRST(&op->listeners)) != NULL) {
		TAILQ_REMOVE(&op->listeners, listener, link);
		free(listener);
	}
	while ((a = TAILQ_FIRST(&op->audience)) != NULL) {
		TAILQ_REMOVE(&op->audience, a, link);
		free(a);
	}
	timer_destroy(op->deadline);
	json_object_put(op->result);
	free(op->err);
	free(op->vm_name);
	free(op);
}

void
operations_destroy(struct operations *operations)
{
	struct operation *op;

	if (operations == NULL)
		return;
	while ((op = TAILQ_FIRST(&operations->list)) != NULL) {
		TAILQ_REMOVE(&operations->list, op, link);
		if (op->kind->release != NULL)
			op->kind->release(op);
		op_free(op);
	}
	free(operations);
}

static void
tell_shutdown(struct operation *op)
{
	struct op_listener *listener = TAILQ_FIRST(&op->listeners), *next;
	struct err err = ERR_INIT;

	err_set(&err, E_SHUTDOWN, "vmmd is going down; %s was not finished", op->kind->name);
	err_hint(&err, "ask again when it is back");
	for (; listener != NULL; listener = next) {
		next = TAILQ_NEXT(listener, link);
		if (listener->fn != op_answer_request)
			continue;
		TAILQ_REMOVE(&op->listeners, listener, link);
		op_deafen(op, listener->arg);
		request_fail(listener->arg, &err);
		free(listener);
	}
}

void
operations_tell_shutdown(struct vmmd *vmmd)
{
	struct operation *op;

	TAILQ_FOREACH(op, &vmmd->operations->list, link)
		tell_shutdown(op);
}

bool
operations_idle(const struct operations *operations)
{
	return TAILQ_EMPTY(&operations->list);
}

struct operation *
op_find(struct vmmd *vmmd, const char *id)
{
	struct operation *op;

	TAILQ_FOREACH(op, &vmmd->operations->list, link)
		if (str_eq(op->id, id))
			return op;
	return NULL;
}

void
operations_each(struct vmmd *vmmd, void (*fn)(void *arg, struct operation *op), void *arg)
{
	struct operation *op, *next;

	for (op = TAILQ_FIRST(&vmmd->operations->list); op != NULL; op = next) {
		next = TAILQ_NEXT(op, link);
		fn(arg, op);
	}
}

/* ---- documents ---- */

static const char *
phase_now(const struct operation *op)
{
	if (op->undoing)
		return "undo";
	return op->at < op->kind->step_count ? op->kind->steps[op->at].phase : "end";
}

json_object *
operation_brief(const struct operation *op)
{
	json_object *json = json_object_new_object();

	json_add_string(json, "id", op->id);
	json_add_string(json, "kind", op->kind->name);
	json_add_string(json, "phase", phase_now(op));
	return json;
}

static json_object *
error_json(const struct err *err)
{
	json_object *json = json_object_new_object();

	json_add_string(json, "name", err_name(err->code));
	json_add_int(json, "code", err_rpc_code(err->code));
	json_add_string(json, "message", err->msg);
	json_add_string(json, "hint", err->hint[0] != '\0' ? err->hint : NULL);
	return json;
}

json_object *
operation_json(const struct operation *op)
{
	json_object *json = operation_brief(op), *phases = json_object_new_array();
	CLEANUP_FREE char *started = clock_rfc3339(op->started_wall_ms), *ended = NULL;

	json_add_string(json, "state", op_state_names[op->state]);
	json_add_string(json, "vm", op->vm_name);
	json_add_int(json, "owner_uid", op->uid);
	json_add_string(json, "started", started);
	json_add_string(json, "parent", op->parent != NULL ? op->parent->id : NULL);
	for (size_t i = 0; i < op->phase_count; i++) {
		json_object *item = json_object_new_object();

		json_add_string(item, "name", op->phases[i].name);
		json_add_int(item, "ms", (int64_t)op->phases[i].ms);
		json_object_array_add(phases, item);
	}
	json_object_object_add(json, "phases", phases);
	if (op->ended_wall_ms != 0) {
		ended = clock_rfc3339(op->ended_wall_ms);
		json_add_string(json, "ended", ended);
		json_add_int(json, "ended_ms", op->ended_wall_ms);
	}
	if (op->err != NULL)
		json_object_object_add(json, "error", error_json(op->err));
	if (op->result != NULL)
		json_object_object_add(json, "result", json_object_get(op->result));
	return json;
}

static void
journal(struct operation *op)
{
	CLEANUP_JSON json_object *doc = operation_json(op);

	if (op->vm != NULL)
		json_add_string(doc, "vm_id", op->vm->id);
	store_put(op->vmmd->store, STORE_OPERATION, op->id,
	    json_object_to_json_string_ext(doc, JSON_TEXT_FLAGS));
}

/* ---- progress ---- */

static bool
wanted(const struct operation *op)
{
	for (; op != NULL; op = op->parent)
		if (!TAILQ_EMPTY(&op->audience))
			return true;
	return false;
}

/* Tells the audience of the operation and of its parents; params: taken. */
static void
tell(struct operation *op, json_object *params, bool droppable)
{
	const char *vm_name = op->vm_name;

	json_add_string(params, "vm", vm_name);
	for (; op != NULL; op = op->parent) {
		struct op_audience *a;

		json_object_object_del(params, "operation");
		json_add_string(params, "operation", op->id);
		TAILQ_FOREACH(a, &op->audience, link)
			if (!droppable || request_backlog(a->request) < BACKLOG_MAX)
				request_notify(a->request, "operation.progress",
				    json_object_get(params));
	}
	json_object_put(params);
}

static json_object *
progress_params(const struct operation *op, const char *phase, const char *state)
{
	json_object *params = json_object_new_object();

	json_add_string(params, "phase", phase);
	json_add_string(params, "state", state);
	json_add_int(params, "elapsed_ms", (int64_t)(clock_ms() - op->started_at_ms));
	return params;
}

void
op_progress(struct operation *op, uint64_t done, uint64_t total, const char *unit)
{
	json_object *params;

	if (!wanted(op))
		return;
	params = progress_params(op, phase_now(op), "progress");
	json_add_int(params, "done", (int64_t)done);
	json_add_int(params, "total", (int64_t)total);
	json_add_string(params, "unit", unit);
	tell(op, params, true);
}

void
op_note(struct operation *op, const char *fmt, ...)
{
	CLEANUP_FREE char *text = NULL;
	json_object *params;
	va_list ap;

	if (!wanted(op))
		return;
	va_start(ap, fmt);
	text = xvasprintf(fmt, ap);
	va_end(ap);
	params = progress_params(op, phase_now(op), "note");
	json_add_string(params, "message", text);
	tell(op, params, false);
}

void
op_output(struct operation *op, const char *stream, const void *data, size_t len)
{
	CLEANUP_FREE char *text = NULL;
	json_object *params;

	if (!wanted(op))
		return;
	/* JSON is UTF-8; other bytes are shown as \xNN, and are whole in the log. */
	text = str_utf8_valid(data, len) && memchr(data, '\0', len) == NULL ? xstrndup(data, len)
									    : str_printable(data, len);
	params = progress_params(op, phase_now(op), "output");
	json_add_string(params, "stream", stream);
	json_add_string(params, "data", text);
	tell(op, params, true);
}

void
op_subphase(struct operation *op, const char *phase, const char *state, const char *message,
    uint64_t elapsed_ms)
{
	json_object *params;

	if (!wanted(op))
		return;
	params = progress_params(op, phase, state);
	json_add_string(params, "message", message);
	json_add_int(params, "phase_ms", (int64_t)elapsed_ms);
	tell(op, params, false);
}

static void
tell_phase(struct operation *op, const char *state, const char *message)
{
	json_object *params;

	if (!wanted(op))
		return;
	params = progress_params(op, phase_now(op), state);
	json_add_int(params, "phase_ms", (int64_t)(clock_ms() - op->phase_at_ms));
	json_add_string(params, "message", message);
	tell(op, params, false);
}

/* ---- the engine ---- */

static void
tell_event(struct operation *op)
{
	json_object *data = operation_json(op);

	json_object_object_del(data, "result");
	events_add(op->vmmd->events, "operation", op->vm, data);
}

static void
finish(struct operation *op)
{
	struct op_listener *listener;
	struct err own = ERR_INIT;

	op->state = op->err == NULL ? OP_DONE
	    : op->err->code == E_CANCELLED ? OP_CANCELLED : OP_FAILED;
	op->ended_wall_ms = clock_wall_ms();
	timer_destroy(TAKE(op->deadline));
	TAILQ_REMOVE(&op->vmmd->operations->list, op, link);
	journal(op);
	tell_event(op);
	if (op->err != NULL)
		log_warn("%s%s%s: %s", op->kind->name, op->vm_name != NULL ? " " : "",
		    op->vm_name != NULL ? op->vm_name : "", op->err->msg);
	if (op->kind->ended != NULL)
		op->kind->ended(op);
	if (op->vm != NULL) {
		struct vm *vm = op->vm;

		vm->op = NULL;
		op->vm = NULL;
		vm_changed(vm);
	}
	/* Its end is durable before anybody is told of it. */
	if (!TAILQ_EMPTY(&op->listeners) && store_commit(op->vmmd->store, &own) != 0)
		log_warn("the end of %s is not kept: %s", op->kind->name, own.msg);
	/* Nobody hears progress any more; a listener may answer, and free, the request. */
	while (!TAILQ_EMPTY(&op->audience))
		op_deafen(op, TAILQ_FIRST(&op->audience)->request);
	while ((listener = TAILQ_FIRST(&op->listeners)) != NULL) {
		TAILQ_REMOVE(&op->listeners, listener, link);
		listener->fn(listener->arg, op);
		free(listener);
	}
	if (op->kind->release != NULL)
		op->kind->release(op);
	op_free(op);
}

static void
keep_error(struct operation *op, const struct err *err)
{
	if (op->err == NULL) {
		op->err = xmemdup(err, sizeof(*err));
		return;
	}
	log_warn("while undoing %s %s: %s", op->kind->name, op->vm_name != NULL ? op->vm_name : "",
	    err->msg);
}

static void
end_phase(struct operation *op)
{
	uint64_t ms = clock_ms() - op->phase_at_ms;

	if (!op->undoing && op->phase_count < ARRAY_LEN(op->phases))
		op->phases[op->phase_count++] =
		    (struct op_phase){ op->kind->steps[op->at].phase, ms };
}

/* A step has ended, well or not: where next? */
static void
step_over(struct operation *op, const struct err *err)
{
	end_phase(op);
	if (err != NULL) {
		tell_phase(op, "failed", err->msg);
		keep_error(op, err);
	} else if (!op->undoing) {
		tell_phase(op, "done", NULL);
	}
	if (!op->undoing && err == NULL && !op->cancelled) {
		op->at++;
	} else if (!op->undoing) {
		if (op->err == NULL) {
			struct err cancelled = ERR_INIT;

			err_set(&cancelled, op->timed_out ? E_TIMEOUT : E_CANCELLED, "%s of '%s' %s",
			    op->kind->name, op->vm_name != NULL ? op->vm_name : "all",
			    op->timed_out ? "took too long" : "was cancelled");
			keep_error(op, &cancelled);
		}
		op->undoing = true; /* begins with the step that was running */
	} else {
		if (op->at == 0) {
			op->at = SIZE_MAX;
			return;
		}
		op->at--;
	}
}

static bool
over(const struct operation *op)
{
	return op->undoing ? op->at == SIZE_MAX : op->at >= op->kind->step_count;
}

static enum step_result
run_step(struct operation *op, struct err *err)
{
	const struct op_step *step = &op->kind->steps[op->at];

	op->phase_at_ms = clock_ms();
	if (op->undoing)
		return step->undo != NULL ? step->undo(op, err) : STEP_DONE;
	tell_phase(op, "start", NULL);
	return step->run(op, err);
}

static void
advance(struct operation *op)
{
	assert(!op->stepping);
	while (!over(op)) {
		struct err err = ERR_INIT;
		enum step_result result;

		op->step_ended = false;
		op->stepping = true;
		result = run_step(op, &err);
		op->stepping = false;
		if (result == STEP_WAIT && !op->step_ended)
			return;
		if (result != STEP_WAIT)
			step_over(op, result == STEP_FAILED ? &err : NULL);
		/* else: it ended while it ran, and step_over has been there */
	}
	finish(op);
}

static void
step_ended(struct operation *op, const struct err *err)
{
	loop_assert(op->vmmd->loop);
	assert(!op->step_ended);
	op->step_ended = true;
	step_over(op, err);
	if (!op->stepping)
		advance(op);
}

void
op_step_done(struct operation *op)
{
	step_ended(op, NULL);
}

void
op_step_failed(struct operation *op, const struct err *err)
{
	struct err timed;

	if (err->code == E_CANCELLED && op->timed_out) {
		timed = *err;
		timed.code = E_TIMEOUT;
		step_ended(op, &timed);
		return;
	}
	step_ended(op, err);
}

void
op_cancel(struct operation *op)
{
	loop_assert(op->vmmd->loop);
	if (op->cancelled || op->undoing)
		return;
	op->cancelled = true;
	log_info("%s of '%s' is being %s", op->kind->name, op->vm_name != NULL ? op->vm_name : "all",
	    op->timed_out ? "stopped: its time is over" : "cancelled");
	if (op->at < op->kind->step_count && op->kind->steps[op->at].cancel != NULL)
		op->kind->steps[op->at].cancel(op);
}

static void
on_deadline(void *arg)
{
	struct operation *op = arg;

	op->timed_out = true;
	op_cancel(op);
}

static void
new_id(char id[17])
{
	unsigned char bytes[8];
	char *hex;

	if (RAND_bytes(bytes, sizeof(bytes)) != 1)
		abort();
	hex = str_hex(bytes, sizeof(bytes));
	memcpy(id, hex, 17);
	free(hex);
}

static int
refuse_busy(struct vmmd *vmmd, struct vm *vm, const char *kind, struct err *err)
{
	if (vmmd->stopping)
		return err_set(err, E_SHUTDOWN, "vmmd is going down");
	if (vm != NULL && vm->adopting) {
		err_set(err, E_BUSY, "machine '%s' is still being taken over from a former vmmd",
		    vm->spec.name);
		err_hint(err, "try again in a moment");
		err_object(err, vm->spec.name);
		return E_BUSY;
	}
	if (vm == NULL || vm->op == NULL)
		return 0;
	err_set(err, E_BUSY, "machine '%s' is busy: %s is running (%s)", vm->spec.name,
	    vm->op->kind->name, phase_now(vm->op));
	err_hint(err, "wait for it, or cancel it with 'vmctl rpc operation.cancel id=%s'", vm->op->id);
	err_object(err, vm->spec.name);
	return E_BUSY;
}

int
op_start(struct vmmd *vmmd, const struct op_kind *kind, struct vm *vm, void *data,
    uint64_t deadline_ms, const struct op_call *call, char ret_id[17], struct err *err)
{
	struct operation *op = xcalloc(1, sizeof(*op));
	int rc;

	loop_assert(vmmd->loop);
	op->vmmd = vmmd;
	op->kind = kind;
	op->uid = call->uid;
	op->data = data;
	TAILQ_INIT(&op->listeners);
	TAILQ_INIT(&op->audience);
	rc = refuse_busy(vmmd, vm, kind->name, err);
	if (rc != 0) {
		if (kind->release != NULL)
			kind->release(op);
		op_free(op);
		return rc;
	}
	new_id(op->id);
	if (ret_id != NULL)
		memcpy(ret_id, op->id, sizeof(op->id));
	op->vm = vm;
	if (vm != NULL) {
		vm->op = op;
		op->vm_name = xstrdup(vm->spec.name);
		vm_changed(vm);
	}
	op->parent = call->parent;
	op->started_at_ms = clock_ms();
	op->started_wall_ms = clock_wall_ms();
	TAILQ_INSERT_TAIL(&vmmd->operations->list, op, link);
	if (call->audience != NULL && request_wants_progress(call->audience)) {
		struct op_audience *a = xcalloc(1, sizeof(*a));

		a->request = call->audience;
		TAILQ_INSERT_TAIL(&op->audience, a, link);
	}
	if (call->ended != NULL)
		op_listen(op, call->ended, call->arg);
	if (deadline_ms > 0) {
		op->deadline = timer_create_on(vmmd->loop, on_deadline, op);
		timer_arm(op->deadline, deadline_ms);
	}
	journal(op);
	advance(op);
	return 0;
}

void
op_listen(struct operation *op, op_ended_fn *fn, void *arg)
{
	struct op_listener *listener = xcalloc(1, sizeof(*listener));

	listener->fn = fn;
	listener->arg = arg;
	TAILQ_INSERT_TAIL(&op->listeners, listener, link);
}

void
op_deafen(struct operation *op, struct request *request)
{
	struct op_audience *a;

	TAILQ_FOREACH(a, &op->audience, link) {
		if (a->request == request) {
			TAILQ_REMOVE(&op->audience, a, link);
			free(a);
			return;
		}
	}
}

void
op_answer_request(void *arg, struct operation *op)
{
	struct request *request = arg;

	if (op->err != NULL)
		request_fail(request, op->err);
	else
		request_reply(request, op->result != NULL ? json_object_get(op->result)
							  : json_object_new_object());
}

/* ---- after a restart ---- */

struct recovery {
	struct vmmd *vmmd;
	void (*fn)(void *arg, const char *kind, const char *vm_id);
	void *arg;
};

static void
recover_row(void *arg, const char *id, const char *text)
{
	struct recovery *r = arg;
	CLEANUP_JSON json_object *doc = json_tokener_parse(text);
	CLEANUP_FREE char *now = clock_rfc3339(clock_wall_ms());
	const char *kind, *vm_id;

	if (doc == NULL || !str_eq(json_string(doc, "state"), "running"))
		return;
	kind = json_string(doc, "kind");
	vm_id = json_string(doc, "vm_id");
	json_object_object_add(doc, "state", json_object_new_string("interrupted"));
	json_add_string(doc, "ended", now);
	json_add_int(doc, "ended_ms", clock_wall_ms());
	store_put(r->vmmd->store, STORE_OPERATION, id,
	    json_object_to_json_string_ext(doc, JSON_TEXT_FLAGS));
	log_warn("%s of '%s' was interrupted (phase %s)", kind != NULL ? kind : "an operation",
	    json_string(doc, "vm") != NULL ? json_string(doc, "vm") : "all",
	    json_string(doc, "phase"));
	events_add(r->vmmd->events, "operation",
	    vm_id != NULL ? vm_by_id(r->vmmd, vm_id) : NULL, json_object_get(doc));
	if (r->fn != NULL && kind != NULL)
		r->fn(r->arg, kind, vm_id);
}

void
operations_recover(struct vmmd *vmmd, void (*fn)(void *arg, const char *kind, const char *vm_id),
    void *arg)
{
	struct recovery r = { vmmd, fn, arg };

	store_each(vmmd->store, STORE_OPERATION, recover_row, &r, NULL);
}

