/* SPDX-License-Identifier: MPL-2.0
 *
 * The life of a private network's switch, as the daemon sees it.  The ports that are wanted are
 * kept here, so that every start gives them all; the process answers requests in order.  Nothing
 * is called back from within a call: what is owed is posted, or called by net_switch_close. */
#include "lib/net/switch.h"

#include <assert.h>
#include <json-c/json.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/base/stream.h"
#include "lib/net/switch/fabric.h"
#include "lib/net/switch_parts.h"

enum {
	ANSWER_MS = 5000,
	TERM_MS = 2000,
	PAUSE_MIN_MS = 50,
	PAUSE_MAX_MS = 10000,
	STEADY_MS = 30000, /* who lived that long begins with a short pause again */
	ANSWER_MAX = 1 << 20,
};
_Static_assert((int)NET_SWITCH_PORTS == (int)FABRIC_PORTS, "the same ports on both sides");

static void launch(struct net_switch *sw);

/* ---- what is owed ---- */

static struct net_switch_op *
op_create(struct net_switch *sw, net_switch_done_fn *done, void *arg)
{
	struct net_switch_op *op = xcalloc(1, sizeof(*op));

	op->sw = sw;
	op->done = done;
	op->arg = arg;
	TAILQ_INSERT_TAIL(&sw->ops, op, link);
	return op;
}

static void
op_call(struct net_switch_op *op)
{
	const struct err *err = op->err.code != E_OK ? &op->err : NULL;
	struct net_switch *sw = op->sw;

	TAILQ_REMOVE(&sw->ops, op, link);
	op->sw = NULL;
	if (op->is_event && sw->on_event != NULL)
		sw->on_event(sw->arg, op->event, err != NULL ? err->msg : NULL);
	if (op->done != NULL)
		op->done(op->arg, err);
	if (op->status != NULL)
		op->status(op->arg, err == NULL ? op->answer : NULL, err);
}

static void
op_free(struct net_switch_op *op)
{
	json_object_put(op->answer);
	free(op);
}

static void
on_posted(void *arg)
{
	struct net_switch_op *op = arg;

	if (op->sw != NULL)
		op_call(op);
	op_free(op);
}

static void
op_finish(struct net_switch_op *op, const struct err *err)
{
	if (op == NULL)
		return;
	if (err != NULL)
		op->err = *err;
	op->posted = true;
	loop_post(op->sw->loop, on_posted, op);
}

static void
tell(struct net_switch *sw, enum net_switch_event event, const struct err *err)
{
	struct net_switch_op *op = op_create(sw, NULL, NULL);

	op->is_event = true;
	op->event = event;
	op_finish(op, err);
}

/* ---- requests ---- */

static void on_answer(struct net_switch *sw, json_object *answer);

static void
forget_port(struct net_switch *sw, unsigned port)
{
	free(sw->ports[port].mac);
	sw->ports[port] = (struct net_switch_port){ .present = false };
}

/* No answers will come.  The ports that are wanted are noted, so those requests went well. */
static void
drop_asked(struct net_switch *sw)
{
	struct net_switch_ask *ask;
	struct err err = ERR_INIT;

	err_set(&err, E_UNRESPONSIVE, "the network's switch ended");
	while ((ask = TAILQ_FIRST(&sw->asked)) != NULL) {
		TAILQ_REMOVE(&sw->asked, ask, link);
		op_finish(ask->op, ask->verb == SWITCH_STATUS ? &err : NULL);
		free(ask);
	}
}

static void
disconnect(struct net_switch *sw)
{
	stream_destroy(TAKE(sw->stream));
	drop_asked(sw);
}

static void
on_input(void *arg)
{
	struct net_switch *sw = arg;
	bool overlong = false;
	size_t len;
	char *text;

	while (sw->stream != NULL &&
	       (text = stream_line(sw->stream, ANSWER_MAX, &len, &overlong)) != NULL) {
		CLEANUP_JSON json_object *answer = json_tokener_parse(text);

		on_answer(sw, answer);
	}
	if (overlong)
		disconnect(sw);
}

/* Its process is watched; while that lives, the next request connects anew. */
static void
on_closed(void *arg, int errno_value)
{
	disconnect(arg);
}

static const struct stream_handler handler = { .on_input = on_input, .on_closed = on_closed };

static int
reach(struct net_switch *sw, struct err *err)
{
	int fd, rc;

	if (sw->stream != NULL)
		return 0;
	rc = net_switch_connect(sw, &fd, err);
	if (rc == 0)
		sw->stream = stream_create(sw->loop, fd, &handler, sw);
	return rc;
}

/* op: may be NULL; finished in any case. */
static void
ask(struct net_switch *sw, enum switch_verb verb, unsigned port, struct net_switch_op *op)
{
	struct switch_request request = { .verb = (int)verb,
		.port = port,
		.mac = verb == SWITCH_ADD ? sw->ports[port].mac : NULL };
	CLEANUP_JSON json_object *doc = fields_encode(switch_request_fields, &request);
	const char *text = json_object_to_json_string_ext(doc, JSON_TEXT_FLAGS);
	struct net_switch_ask *a;
	struct err err = ERR_INIT;

	if (reach(sw, &err) != 0) {
		op_finish(op, &err);
		return;
	}
	a = xcalloc(1, sizeof(*a));
	*a = (struct net_switch_ask){ .verb = verb, .port = port, .op = op };
	TAILQ_INSERT_TAIL(&sw->asked, a, link);
	stream_write(sw->stream, text, strlen(text));
	stream_write(sw->stream, "\n", 1);
}

/* ---- the process ---- */

static void
detach(struct net_switch *sw)
{
	disconnect(sw);
	process_watch_destroy(TAKE(sw->watch));
	if (sw->pidfd >= 0)
		close(sw->pidfd);
	sw->pidfd = -1;
	sw->pid = 0;
	timer_disarm(sw->timer);
}

static void
wait_for_start(struct net_switch *sw)
{
	uint64_t pause_ms = PAUSE_MAX_MS;

	if (sw->failures < 8)
		pause_ms = (uint64_t)PAUSE_MIN_MS << sw->failures;
	if (pause_ms > PAUSE_MAX_MS)
		pause_ms = PAUSE_MAX_MS;
	sw->failures++;
	sw->phase = SW_WAITING;
	timer_arm(sw->timer, pause_ms);
}

/* A first start that fails is told and over; a later one is tried again. */
static void
start_failed(struct net_switch *sw, const struct err *err)
{
	if (sw->was_up) {
		wait_for_start(sw);
		return;
	}
	sw->phase = SW_IDLE;
	op_finish(TAKE(sw->first), err);
}

static void
describe(const struct net_switch *sw, const struct process_exit *how, struct err *err)
{
	CLEANUP_FREE char *words = net_switch_last_words(sw);

	if (words != NULL)
		err_set(err, E_FAILED, "the network's switch ended: %s", words);
	else if (how->known)
		err_set(err, E_FAILED, "the network's switch was ended by %s %d",
		    how->signaled ? "signal" : "itself with status", how->code);
	else
		err_set(err, E_FAILED, "the network's switch ended");
}

static void
on_exit_seen(void *arg, const struct process_exit *how)
{
	struct net_switch *sw = arg;
	enum net_switch_phase phase = sw->phase;
	struct err err = ERR_INIT;

	describe(sw, how, &err);
	detach(sw);
	if (phase == SW_STOPPING) {
		net_switch_remove_files(sw);
		sw->phase = SW_IDLE;
		op_finish(TAKE(sw->stop), NULL);
	} else if (phase == SW_ADOPTING && !sw->was_up) {
		sw->phase = SW_IDLE;
		err.code = E_NOT_FOUND;
		op_finish(TAKE(sw->first), &err);
	} else if (phase == SW_STARTING) {
		start_failed(sw, &err);
	} else {
		if (clock_ms() - sw->up_since_ms >= STEADY_MS)
			sw->failures = 0;
		op_finish(TAKE(sw->first), &err);
		wait_for_start(sw);
		tell(sw, NET_SWITCH_DOWN, &err);
	}
}

static int
attach(struct net_switch *sw, struct err *err)
{
	sw->watch = process_watch_create(sw->loop, sw->pid, sw->pidfd, on_exit_seen, sw);
	if (sw->watch == NULL)
		return err_set(err, E_LIMIT, "can not watch the network's switch");
	return 0;
}

static void
launch(struct net_switch *sw)
{
	struct err err = ERR_INIT;
	int rc = net_switch_spawn(sw, &err);

	if (rc == 0)
		rc = attach(sw, &err);
	if (rc != 0) {
		if (sw->pid > 0)
			process_signal(sw->pid, sw->pidfd, SIGKILL);
		detach(sw);
		start_failed(sw, &err);
		return;
	}
	sw->phase = SW_STARTING;
	timer_arm(sw->timer, ANSWER_MS);
	ask(sw, SWITCH_STATUS, 0, NULL);
}

static void
on_timer(void *arg)
{
	struct net_switch *sw = arg;
	struct err err = ERR_INIT;

	switch (sw->phase) {
	case SW_WAITING:
		launch(sw);
		break;
	case SW_STARTING: /* its end is seen, and told */
	case SW_STOPPING:
		process_signal(sw->pid, sw->pidfd, SIGKILL);
		break;
	case SW_ADOPTING:
		sw->was_up = sw->unresponsive = true;
		err_set(&err, E_UNRESPONSIVE, "the network's switch, process %d, does not answer",
		    (int)sw->pid);
		op_finish(TAKE(sw->first), &err);
		if (sw->stream == NULL)
			ask(sw, SWITCH_STATUS, 0, NULL);
		timer_arm(sw->timer, ANSWER_MS);
		break;
	case SW_IDLE:
	case SW_UP:
		break;
	}
}

/* ---- answers ---- */

/* The ports of a process that is taken over become those that are wanted. */
static void
reconcile(struct net_switch *sw, json_object *status)
{
	bool there[NET_SWITCH_PORTS] = { false };
	json_object *ports = NULL;

	json_object_object_get_ex(status, "ports", &ports);
	for (size_t i = 0; ports != NULL && i < json_object_array_length(ports); i++) {
		json_object *row = json_object_array_get_idx(ports, i);
		int64_t port = json_int(row, "port");

		if (port < 0 || port >= NET_SWITCH_PORTS)
			continue;
		there[port] =
		    sw->ports[port].present && str_eq(json_string(row, "mac"), sw->ports[port].mac);
		if (!there[port])
			ask(sw, SWITCH_REMOVE, (unsigned)port, NULL);
	}
	for (unsigned i = 0; i < NET_SWITCH_PORTS; i++)
		if (sw->ports[i].present && !there[i])
			ask(sw, SWITCH_ADD, i, NULL);
}

/* The first status of a process: it is the one, and it works. */
static void
on_greeting(struct net_switch *sw, json_object *status)
{
	bool again = sw->was_up;

	if (json_int(status, "pid") != sw->pid ||
	    !str_eq(json_string(status, "generation"), sw->generation)) {
		disconnect(sw);
		return;
	}
	timer_disarm(sw->timer);
	if (sw->phase == SW_ADOPTING)
		reconcile(sw, status);
	sw->phase = SW_UP;
	sw->was_up = true;
	sw->unresponsive = false;
	sw->up_since_ms = clock_ms();
	op_finish(TAKE(sw->first), NULL);
	if (again)
		tell(sw, NET_SWITCH_UP, NULL);
}

static void
refused(struct net_switch *sw, const struct net_switch_ask *a, json_object *answer, struct err *err)
{
	const char *name = json_string(answer, "error"), *said = json_string(answer, "message");
	CLEANUP_FREE char *shown = said != NULL ? str_line(said, strlen(said)) : NULL;

	err_set(err, name != NULL ? err_from_name(name) : E_FAILED, "%s",
	    shown != NULL ? shown : "the network's switch refuses it");
	/* What we asked for ourselves may have been asked for already, and is wanted still. */
	if (a->verb == SWITCH_ADD && a->op != NULL)
		forget_port(sw, a->port);
}

static void
on_answer(struct net_switch *sw, json_object *answer)
{
	struct net_switch_ask *a = TAILQ_FIRST(&sw->asked);
	struct err err = ERR_INIT;

	if (a == NULL)
		return;
	TAILQ_REMOVE(&sw->asked, a, link);
	if (!json_flag(answer, "ok"))
		refused(sw, a, answer, &err);
	else if (a->op != NULL && a->verb == SWITCH_STATUS)
		a->op->answer = json_object_get(answer);
	if (a->op != NULL)
		op_finish(a->op, err.code != E_OK ? &err : NULL);
	else if (a->verb == SWITCH_STATUS && err.code == E_OK)
		on_greeting(sw, answer);
	free(a);
}

/* ---- calls ---- */

struct net_switch *
net_switch_open(const struct net_switch_config *config, net_switch_event_fn *on_event, void *arg)
{
	struct net_switch *sw = xcalloc(1, sizeof(*sw));

	loop_assert(config->loop);
	sw->loop = config->loop;
	sw->program = xstrdup(config->program);
	sw->dir = xstrdup(config->dir);
	sw->mtu = config->mtu != 0 ? config->mtu : 1500;
	sw->ageing_ms = config->ageing_ms != 0 ? config->ageing_ms : 300000;
	sw->on_event = on_event;
	sw->arg = arg;
	sw->pidfd = -1;
	sw->timer = timer_create_on(sw->loop, on_timer, sw);
	TAILQ_INIT(&sw->ops);
	TAILQ_INIT(&sw->asked);
	return sw;
}

void
net_switch_close(struct net_switch *sw)
{
	struct net_switch_op *op;
	struct err err = ERR_INIT;

	if (sw == NULL)
		return;
	loop_assert(sw->loop);
	err_set(&err, E_CANCELLED, "the network was closed");
	sw->on_event = NULL;
	detach(sw);
	while ((op = TAILQ_FIRST(&sw->ops)) != NULL) {
		bool posted = op->posted;

		op->err = err;
		op_call(op);
		if (!posted) /* else the message frees it */
			op_free(op);
	}
	timer_destroy(sw->timer);
	for (unsigned i = 0; i < NET_SWITCH_PORTS; i++)
		forget_port(sw, i);
	free(sw->program);
	free(sw->dir);
	free(sw);
}

static bool
has_process(const struct net_switch *sw)
{
	return sw->phase == SW_STARTING || sw->phase == SW_ADOPTING || sw->phase == SW_UP;
}

static int
check_port(const struct net_switch *sw, unsigned port, const char *mac, struct err *err)
{

	if (port >= NET_SWITCH_PORTS)
		return err_set(err, E_LIMIT, "a network has %d ports", NET_SWITCH_PORTS);
	if (sw->ports[port].present)
		return err_set(err, E_STATE, "port %u is there already", port);
	if (mac == NULL)
		return 0;
	if (strlen(mac) != 17 || strspn(mac, "0123456789abcdef:") != 17)
		return err_set(err, E_PARAMS, "'%s' is not the address of a station", mac);
	for (unsigned i = 0; i < NET_SWITCH_PORTS; i++)
		if (sw->ports[i].present && str_eq(sw->ports[i].mac, mac))
			return err_set(err, E_EXISTS, "the address '%s' is another port's", mac);
	return 0;
}

void
net_switch_add(
    struct net_switch *sw, unsigned port, const char *mac, net_switch_done_fn *done, void *arg)
{
	struct net_switch_op *op = op_create(sw, done, arg);
	struct err err = ERR_INIT;

	loop_assert(sw->loop);
	if (check_port(sw, port, mac, &err) != 0) {
		op_finish(op, &err);
		return;
	}
	if (net_switch_make_folder(sw, port, &err) != 0) {
		op_finish(op, &err);
		return;
	}
	sw->ports[port] = (struct net_switch_port){ .present = true, .mac = xstrdup(mac) };
	if (has_process(sw))
		ask(sw, SWITCH_ADD, port, op);
	else
		op_finish(op, NULL);
}

void
net_switch_remove(struct net_switch *sw, unsigned port, net_switch_done_fn *done, void *arg)
{
	struct net_switch_op *op = op_create(sw, done, arg);
	struct err err = ERR_INIT;

	loop_assert(sw->loop);
	if (port >= NET_SWITCH_PORTS || !sw->ports[port].present) {
		err_set(&err, E_NOT_FOUND, "there is no port %u", port);
		op_finish(op, &err);
		return;
	}
	forget_port(sw, port);
	net_switch_remove_folder(sw, port);
	if (has_process(sw))
		ask(sw, SWITCH_REMOVE, port, op);
	else
		op_finish(op, NULL);
}

void
net_switch_start(struct net_switch *sw, net_switch_done_fn *done, void *arg)
{
	struct net_switch_op *op = op_create(sw, done, arg);
	struct err err = ERR_INIT;

	loop_assert(sw->loop);
	if (sw->phase != SW_IDLE || net_switch_find(sw, NULL) == 0) {
		err_set(&err, E_STATE, "the network's switch runs already, as process %d",
		    (int)sw->pid);
		if (sw->phase == SW_IDLE)
			detach(sw);
		op_finish(op, &err);
		return;
	}
	sw->first = op;
	sw->was_up = false;
	sw->failures = 0;
	launch(sw);
}

void
net_switch_adopt(struct net_switch *sw, net_switch_done_fn *done, void *arg)
{
	struct net_switch_op *op = op_create(sw, done, arg);
	struct err err = ERR_INIT;
	int rc;

	loop_assert(sw->loop);
	if (sw->phase != SW_IDLE) {
		err_set(&err, E_STATE, "the network's switch is known already");
		op_finish(op, &err);
		return;
	}
	rc = net_switch_find(sw, &err);
	if (rc == 0)
		rc = attach(sw, &err);
	if (rc != 0) {
		detach(sw);
		op_finish(op, &err);
		return;
	}
	sw->phase = SW_ADOPTING;
	sw->was_up = false;
	sw->first = op;
	timer_arm(sw->timer, ANSWER_MS);
	ask(sw, SWITCH_STATUS, 0, NULL);
}

void
net_switch_stop(struct net_switch *sw, net_switch_done_fn *done, void *arg)
{
	struct net_switch_op *op = op_create(sw, done, arg);
	struct err err = ERR_INIT;

	loop_assert(sw->loop);
	if (sw->phase == SW_STOPPING) {
		err_set(&err, E_STATE, "the network's switch is being stopped already");
		op_finish(op, &err);
		return;
	}
	err_set(&err, E_CANCELLED, "the network's switch is being stopped");
	op_finish(TAKE(sw->first), &err);
	if (!has_process(sw)) {
		timer_disarm(sw->timer);
		net_switch_remove_files(sw);
		sw->phase = SW_IDLE;
		op_finish(op, NULL);
		return;
	}
	sw->phase = SW_STOPPING;
	sw->stop = op;
	timer_arm(sw->timer, TERM_MS);
	process_signal(sw->pid, sw->pidfd, SIGTERM);
}

void
net_switch_status(struct net_switch *sw, net_switch_status_fn *done, void *arg)
{
	struct net_switch_op *op = op_create(sw, NULL, arg);
	struct err err = ERR_INIT;

	loop_assert(sw->loop);
	op->status = done;
	if (!has_process(sw)) {
		err_set(&err, E_STATE, "the network's switch does not run");
		op_finish(op, &err);
		return;
	}
	ask(sw, SWITCH_STATUS, 0, op);
}

pid_t
net_switch_pid(const struct net_switch *sw)
{
	return sw->pid;
}
