/* SPDX-License-Identifier: MPL-2.0
 *
 * What the server says of the instance: long polls, each for the generation after the last one.
 * States in between may be missing; a number that jumped tells so. */
#include <stdlib.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/hypervisor/propolis/machine.h"

/* POLL_MS: of one long poll; whether the server is there at all is asked in between. */
enum { POLL_MS = 20000, PROBE_MS = 5000, RETRY_MS = 300, SILENT_MS = 10000, RUNDOWN_MS = 5000 };

static void ask(struct machine *m);

/* clang-format off */
static const struct {
	const char *word;
	enum hv_run_state state;
} words[] = {
	{ "Creating",  HV_PRELAUNCH },
	{ "Starting",  HV_PRELAUNCH },
	{ "Running",   HV_RUNNING },
	{ "Stopping",  HV_RUNNING }, /* a guest that powers off is not off yet */
	{ "Stopped",   HV_SHUTDOWN },
	{ "Rebooting", HV_RUNNING },
	{ "Migrating", HV_RUNNING },
	{ "Repairing", HV_RUNNING },
	{ "Failed",    HV_UNKNOWN },
	{ "Destroyed", HV_SHUTDOWN },
};
/* clang-format on */

bool
monitor_word(const char *word, enum hv_run_state *ret_state)
{
	for (size_t i = 0; word != NULL && i < ARRAY_LEN(words); i++) {
		if (str_eq(word, words[i].word)) {
			*ret_state = words[i].state;
			return true;
		}
	}
	return false;
}

/* ---- what changed ---- */

static void
on_running(struct machine *m, bool skipped)
{
	bool ran = m->state == HV_RUNNING;

	m->state = HV_RUNNING;
	if (!m->active_once) {
		m->active_once = true;
		machine_seek_address(m);
	}
	if (m->run != NULL)
		run_finish(m, NULL);
	else if (ran && m->seen && skipped)
		propolis_tell(m, HV_EV_RESET, NULL); /* it rebooted between two looks */
}

static void
on_ended(struct machine *m)
{
	struct err err = ERR_INIT;

	timer_disarm(m->again);
	if (m->run != NULL) {
		err_set(
		    &err, E_FAILED, "machine '%s' powered off as soon as it ran", m->config->name);
		m->state = HV_SHUTDOWN;
		run_finish(m, &err);
	} else if (m->stopping) {
		m->state = HV_SHUTDOWN;
		machine_halt(m, NULL);
	} else if (m->state != HV_SHUTDOWN) {
		m->state = HV_SHUTDOWN;
		propolis_tell(m, HV_EV_SHUTDOWN, NULL);
	}
}

static void
on_failed(struct machine *m)
{
	static const char text[] = "propolis-server says that the instance failed";
	CLEANUP_FREE char *path = machine_log_path(m);
	struct err err = ERR_INIT;

	m->state = HV_UNKNOWN;
	if (m->run != NULL) {
		err_set(&err, E_FAILED, "machine '%s': %s", m->config->name, text);
		err_hint(&err, "its log is in %s", path);
		run_finish(m, &err);
	} else if (m->stopping) {
		machine_halt(m, NULL);
	} else {
		machine_give_up(m, "instance-failed", text);
	}
}

void
monitor_state(struct machine *m, const char *word, bool skipped)
{
	if (str_eq(word, "Running"))
		on_running(m, skipped);
	else if (str_eq(word, "Rebooting"))
		propolis_tell(m, HV_EV_RESET, NULL);
	else if (str_eq(word, "Destroyed"))
		on_ended(m);
	else if (str_eq(word, "Stopped"))
		timer_arm(m->again, RUNDOWN_MS); /* it still lets go of its devices */
	else if (str_eq(word, "Failed"))
		on_failed(m);
	m->seen = true;
}

void
monitor_on_again(struct machine *m)
{
	on_ended(m);
}

/* ---- asking ---- */

static void
heard(struct machine *m)
{
	m->silent_since_ms = 0;
	if (!m->unresponsive)
		return;
	m->unresponsive = false;
	propolis_tell(m, HV_EV_RESPONSIVE, NULL);
}

/* It does not answer, or not sensibly.  Whether its zone is there is a question for another. */
static void
silent(struct machine *m, const struct err *err)
{
	uint64_t now = clock_ms();

	zones_look(m->hv);
	timer_arm(m->repoll, RETRY_MS);
	if (m->silent_since_ms == 0)
		m->silent_since_ms = now;
	if (m->unresponsive || now - m->silent_since_ms < SILENT_MS)
		return;
	m->unresponsive = true;
	propolis_tell(m, HV_EV_UNRESPONSIVE, err->msg);
}

static void
no_instance(struct machine *m)
{
	struct err err = ERR_INIT;

	if (m->run != NULL) {
		err_set(&err, E_FAILED, "machine '%s': propolis-server lost the instance",
		    m->config->name);
		run_finish(m, &err);
	} else if (m->stopping || m->state == HV_SHUTDOWN) {
		on_ended(m);
	} else {
		machine_give_up(
		    m, "instance-gone", "propolis-server does not have the instance any more");
	}
}

static void
probed(void *arg, const struct rest_reply *reply, const struct err *err)
{
	struct machine *m = arg;

	m->poll = NULL;
	if (err != NULL && err->code == E_CANCELLED)
		return;
	propolis_enter(m);
	if (err == NULL) {
		heard(m);
		if (!m->dead && m->rest != NULL)
			ask(m);
	} else if (reply->status == 424) {
		no_instance(m);
	} else {
		/* Another long poll would only find it out later. */
		m->probe_next = true;
		silent(m, err);
	}
	propolis_leave(m);
}

static void
probe(struct machine *m)
{
	struct rest_call call = { .method = "GET",
		.path = "/instance",
		.expect = 200,
		.timeout_ms = PROBE_MS,
		.done = probed,
		.arg = m };

	m->probe_next = false;
	m->poll = rest_call(m->rest, &call);
}

static void
take(struct machine *m, json_object *body)
{
	const char *word = json_string(body, "state");
	uint64_t gen = (uint64_t)json_int(body, "gen"), before = m->gen;
	struct err err = ERR_INIT;

	if (word == NULL || gen < before) {
		err_set(&err, E_FAILED, "propolis-server's state can not be understood");
		silent(m, &err);
		return;
	}
	m->gen = gen + 1;
	monitor_state(m, word, m->seen && gen > before);
	if (m->dead || m->rest == NULL)
		return;
	heard(m);
	/* After the last state there is nothing to wait for. */
	if (!m->dead && m->rest != NULL && !str_eq(word, "Destroyed"))
		ask(m);
}

static void
polled(void *arg, const struct rest_reply *reply, const struct err *err)
{
	struct machine *m = arg;

	m->poll = NULL;
	if (err != NULL && err->code == E_CANCELLED)
		return;
	propolis_enter(m);
	if (err == NULL)
		take(m, reply->body);
	else if (err->code == E_TIMEOUT)
		probe(m);
	else if (reply->status == 424 || reply->status == 410)
		no_instance(m);
	else
		silent(m, err);
	propolis_leave(m);
}

static void
ask(struct machine *m)
{
	struct rest_call call = { .method = "GET",
		.path = "/instance/state-monitor",
		.expect = 200,
		.timeout_ms = POLL_MS,
		.done = polled,
		.arg = m };

	call.body = json_object_new_object();
	json_add_int(call.body, "gen", (int64_t)m->gen);
	m->poll = rest_call(m->rest, &call);
	json_object_put(call.body);
}

static void
on_repoll(void *arg)
{
	struct machine *m = arg;

	if (m->rest == NULL || m->poll != NULL)
		return;
	if (m->probe_next)
		probe(m);
	else
		ask(m);
}

void
monitor_start(struct machine *m)
{
	monitor_stop(m);
	m->gen = 0;
	m->seen = m->probe_next = false;
	m->silent_since_ms = 0;
	m->repoll = timer_create_on(m->loop, on_repoll, m);
	ask(m);
	zones_look(m->hv);
}

void
monitor_stop(struct machine *m)
{
	if (m->poll != NULL)
		rest_cancel(TAKE(m->poll));
	timer_destroy(TAKE(m->repoll));
}
