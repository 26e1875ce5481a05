/* SPDX-License-Identifier: MPL-2.0
 *
 * From a call to its handler: known, allowed, its parameters checked; in that order, so that who
 * may not call something learns nothing from it. */
#include <assert.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/wire.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "proto/params.h"

static int
unknown_method(const char *wire, struct err *err)
{
	const char *names[METHODS], *near;
	CLEANUP_FREE char *shown = str_printable(wire, strnlen(wire, 64));

	for (size_t i = 0; i < METHODS; i++)
		names[i] = methods[i].wire;
	near = str_nearest(wire, names, METHODS);
	err_set(err, E_METHOD, "there is no method '%s'", shown);
	if (near != NULL)
		err_hint(err, "did you mean '%s'?", near);
	else
		err_hint(err, "'rpc.discover' lists them");
	err_object(err, shown);
	return E_METHOD;
}

/* Does this connection still take requests? */
static int
check_open(const struct connection *c, struct err *err)
{
	if (c->server->refusing)
		return err_set(err, E_SHUTDOWN, "vmmd is going down");
	if (c->upgrading != NULL)
		return err_set(
		    err, E_REQUEST, "the request before this one takes the connection over");
	return 0;
}

static int
check_call(const struct connection *c, const struct rpc_call *call,
    const struct method **ret_method, struct err *err)
{
	int rc;

	if (call->invalid != NULL) {
		*err = *call->invalid;
		return (int)err->code;
	}
	rc = check_open(c, err);
	if (rc != 0)
		return rc;
	*ret_method = method_find(call->method, strlen(call->method));
	if (*ret_method == NULL)
		return unknown_method(call->method, err);
	if (authz(&c->peer, (*ret_method)->access, c->server->system))
		return 0;
	err_set(err, E_PERMISSION, "you may not call '%s'", call->method);
	err_object(err, call->method);
	return E_PERMISSION;
}

static int
decode(const struct method *method, json_object *params, void *args, struct err *err)
{
	json_object *named = NULL;
	int rc;

	if (json_object_is_type(params, json_type_array)) {
		named = rpc_params_by_name(method, params, err);
		if (named == NULL)
			return (int)err->code;
		params = named;
	}
	rc = fields_decode_one(method->params, params, args, err);
	json_object_put(named);
	return rc;
}

/* After its answer the connection carries no requests any more. */
static bool
upgrades(const struct method *method, const void *args)
{
	return method == &methods[METHOD_vm_console] || method == &methods[METHOD_vm_exec] ||
	       (method == &methods[METHOD_vm_log] && ((const struct vm_log_args *)args)->follow);
}

static void
call_handler(
    struct connection *c, const struct method *method, struct request *request, json_object *params)
{
	void *args = xcalloc(1, method->args_size);
	const struct field *progress = fields_find(method->params, "progress");
	method_fn *handler = c->server->handlers[method - methods];
	struct err err;

	if (decode(method, params, args, &err) != 0) {
		request_fail(request, &err);
	} else {
		if (progress != NULL)
			request_set_progress(request, *(bool *)((char *)args + progress->offset));
		if (upgrades(method, args))
			request_set_upgrading(request);
		assert(handler != NULL);
		handler(c->server->vmmd, request, args);
	}
	fields_release(method->params, args);
	free(args);
}

static void
dispatch(struct connection *c, struct rpc_call *call, struct batch *batch, struct wire_fds *fds)
{
	const struct method *method = NULL;
	struct request *request;
	struct err err;

	/* What is no request has no id that could be trusted to be missing on purpose. */
	if (call->invalid != NULL && call->id == NULL)
		call->id = xstrdup("null");
	request = request_create(c, TAKE(call->id), batch, fds);
	if (check_call(c, call, &method, &err) != 0)
		request_fail(request, &err);
	else
		call_handler(c, method, request, call->params);
}

void
dispatch_more(struct connection *c)
{
	struct batch *batch = c->beginning;

	/* A handler may end the connection, and the batch with it. */
	while (!c->dead && batch->begun < batch->line.count) {
		if (c->in_flight >= WIRE_IN_FLIGHT_MAX)
			return;
		dispatch(c, &batch->line.calls[batch->begun++], batch, batch->fds);
	}
	if (c->dead)
		return;
	c->beginning = NULL;
	batch_seal(c, batch);
}

void
dispatch_line(struct connection *c, struct rpc_line *line, struct wire_fds *fds)
{
	struct batch *batch;

	if (!line->batch) {
		dispatch(c, &line->calls[0], NULL, fds);
		rpc_line_done(line);
		return;
	}
	batch = xcalloc(1, sizeof(*batch));
	batch->line = *line;
	batch->fds = fds;
	if (fds != NULL)
		fds->references++;
	LIST_INSERT_HEAD(&c->batches, batch, link);
	c->beginning = batch;
	dispatch_more(c);
}
