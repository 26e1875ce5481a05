/* SPDX-License-Identifier: MPL-2.0
 *
 * The methods of operations. */
#include <stdlib.h>
#include <string.h>

#include "daemon/events.h"
#include "daemon/methods.h"
#include "daemon/operation.h"
#include "daemon/vm.h"
#include "daemon/vmmd.h"
#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/image.h"
#include "lib/store/store.h"

enum { LIST_MAX = 1000 };

static bool
sees(const struct request *request, uid_t owner)
{
	uid_t uid = request_peer(request)->uid;

	return uid == 0 || uid == geteuid() || uid == owner;
}

static int
not_found(const char *id, struct err *err)
{
	CLEANUP_FREE char *shown = str_printable(id, strnlen(id, 64));

	err_set(err, E_NOT_FOUND, "there is no operation '%s'", shown);
	err_hint(err, "'vmctl rpc operation.list all=true' shows them");
	err_object(err, shown);
	return E_NOT_FOUND;
}

/* A running one, or the stored document of one that has ended; E_NOT_FOUND. */
static int
find_operation(struct vmmd *vmmd, struct request *request, const char *id,
    struct operation **ret_op, json_object **ret_doc, struct err *err)
{
	CLEANUP_FREE char *text = NULL;
	struct operation *op = op_find(vmmd, id);

	*ret_doc = NULL;
	*ret_op = NULL;
	if (op != NULL && sees(request, op->uid)) {
		*ret_op = op;
		*ret_doc = operation_json(op);
		return 0;
	}
	text = op == NULL ? store_get(vmmd->store, STORE_OPERATION, id) : NULL;
	*ret_doc = text != NULL ? json_tokener_parse(text) : NULL;
	if (*ret_doc != NULL && sees(request, (uid_t)json_int(*ret_doc, "owner_uid")))
		return 0;
	json_object_put(*ret_doc);
	*ret_doc = NULL;
	return not_found(id, err);
}

struct listing {
	struct request *request;
	json_object *list;
	struct vmmd *vmmd;
};

static void
add_stored(void *arg, const char *id, const char *text)
{
	struct listing *l = arg;
	json_object *doc;

	if (op_find(l->vmmd, id) != NULL)
		return;
	doc = json_tokener_parse(text);
	if (doc == NULL || !sees(l->request, (uid_t)json_int(doc, "owner_uid")))
		json_object_put(doc);
	else
		json_object_array_add(l->list, doc);
}

static void
add_running(void *arg, struct operation *op)
{
	struct listing *l = arg;

	if (sees(l->request, op->uid))
		json_object_array_add(l->list, operation_json(op));
}

static int
by_start(const void *a, const void *b)
{
	json_object *const *x = a, *const *y = b;
	const char *xs = json_string(*x, "started"), *ys = json_string(*y, "started");

	return strcmp(xs != NULL ? xs : "", ys != NULL ? ys : "");
}

void
method_operation_list(struct vmmd *vmmd, struct request *request, void *args)
{
	struct operation_list_args *a = args;
	struct listing l = { request, json_object_new_array(), vmmd };
	json_object *result = json_object_new_object();
	struct err err = ERR_INIT;
	size_t count;

	if (a->all && store_each(vmmd->store, STORE_OPERATION, add_stored, &l, &err) != 0) {
		json_object_put(l.list);
		json_object_put(result);
		request_fail(request, &err);
		return;
	}
	operations_each(vmmd, add_running, &l);
	json_object_array_sort(l.list, by_start);
	count = json_object_array_length(l.list);
	if (count > LIST_MAX)
		json_object_array_del_idx(l.list, 0, count - LIST_MAX);
	json_object_object_add(result, "operations", l.list);
	request_reply(request, result);
}

void
method_operation_get(struct vmmd *vmmd, struct request *request, void *args)
{
	struct operation_args *a = args;
	struct err err = ERR_INIT;
	struct operation *op;
	json_object *doc;

	if (find_operation(vmmd, request, a->id, &op, &doc, &err) != 0)
		request_fail(request, &err);
	else
		request_reply(request, doc);
}

void
method_operation_cancel(struct vmmd *vmmd, struct request *request, void *args)
{
	struct operation_args *a = args;
	struct err err = ERR_INIT;
	struct operation *op;
	json_object *doc;

	if (find_operation(vmmd, request, a->id, &op, &doc, &err) != 0) {
		request_fail(request, &err);
		return;
	}
	if (op == NULL) {
		err_set(&err, E_STATE, "operation '%s' has ended already: %s", a->id,
		    json_string(doc, "state"));
		err_object(&err, a->id);
		json_object_put(doc);
		request_fail(request, &err);
		return;
	}
	json_add_bool(doc, "cancelling", true);
	/* The answer first: the cancel may end the operation, and more, before it returns. */
	request_reply(request, doc);
	op_cancel(op);
}

/* ---- wait ---- */

struct op_wait {
	struct vmmd *vmmd;
	struct request *request;
	struct timer *timer;
	char id[17];
	bool answered;
};

static void
waited_op_ended(void *arg, struct operation *op)
{
	struct op_wait *w = arg;

	if (!w->answered)
		request_reply(w->request, operation_json(op));
	timer_destroy(w->timer);
	free(w);
}

static void
on_op_late(void *arg)
{
	struct op_wait *w = arg;
	struct err err = ERR_INIT;

	err_set(&err, E_TIMEOUT, "operation '%s' has not ended yet", w->id);
	err_object(&err, w->id);
	w->answered = true; /* freed when the operation ends */
	request_fail(w->request, &err);
}

static void
on_op_waiter_gone(void *arg)
{
	struct op_wait *w = arg;
	struct err err = ERR_INIT;

	if (w->answered)
		return;
	w->answered = true;
	err_set(&err, E_CANCELLED, "the client left");
	request_fail(w->request, &err);
}

void
method_operation_wait(struct vmmd *vmmd, struct request *request, void *args)
{
	struct operation_args *a = args;
	struct err err = ERR_INIT;
	struct operation *op;
	struct op_wait *w;
	json_object *doc;

	if (find_operation(vmmd, request, a->id, &op, &doc, &err) != 0) {
		request_fail(request, &err);
		return;
	}
	if (op == NULL) {
		request_reply(request, doc);
		return;
	}
	json_object_put(doc);
	w = xcalloc(1, sizeof(*w));
	w->vmmd = vmmd;
	w->request = request;
	memcpy(w->id, op->id, sizeof(w->id));
	w->timer = timer_create_on(vmmd->loop, on_op_late, w);
	if (a->timeout_ms > 0)
		timer_arm(w->timer, a->timeout_ms);
	request_on_gone(request, on_op_waiter_gone, w);
	op_listen(op, waited_op_ended, w);
}
