/* SPDX-License-Identifier: MPL-2.0
 *
 * From QEMU's words to a machine's state.  Events are never replayed, so after every silence all is
 * asked again, and what changed meanwhile is told as if it happened now. */
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/hypervisor/qemu/machine.h"

enum { RESET_EVERY_MS = 1000 };

/* clang-format off */
static const struct {
	const char *word;
	enum hv_run_state state;
} statuses[] = {
	{ "colo",             HV_PAUSED },
	{ "debug",            HV_PAUSED },
	{ "finish-migrate",   HV_PAUSED },
	{ "guest-panicked",   HV_PANICKED },
	{ "inmigrate",        HV_PRELAUNCH },
	{ "internal-error",   HV_PANICKED },
	{ "io-error",         HV_IO_ERROR },
	{ "paused",           HV_PAUSED },
	{ "postmigrate",      HV_PAUSED },
	{ "preconfig",        HV_PRELAUNCH },
	{ "prelaunch",        HV_PRELAUNCH },
	{ "restore-vm",       HV_PAUSED },
	{ "running",          HV_RUNNING },
	{ "save-vm",          HV_PAUSED },
	{ "shutdown",         HV_SHUTDOWN },
	{ "suspended",        HV_PAUSED },
	{ "watchdog",         HV_PAUSED },
};

/* What entering a state is told as; the states that are not here are told otherwise. */
static const struct {
	enum hv_run_state state;
	enum hv_event_kind kind;
} entries[] = {
	{ HV_RUNNING,  HV_EV_RESUMED },
	{ HV_PAUSED,   HV_EV_PAUSED },
	{ HV_SHUTDOWN, HV_EV_SHUTDOWN },
	{ HV_PANICKED, HV_EV_PANIC },
	{ HV_IO_ERROR, HV_EV_IO_ERROR },
	{ HV_NO_SPACE, HV_EV_NO_SPACE },
};
/* clang-format on */

static json_object *
member(json_object *doc, const char *key)
{
	json_object *value = NULL;

	return json_object_object_get_ex(doc, key, &value) ? value : NULL;
}

static const char *
word(json_object *doc, const char *key)
{
	json_object *value = member(doc, key);

	return json_object_is_type(value, json_type_string) ? json_object_get_string(value) : "";
}

bool
monitor_status(struct json_object *result, enum hv_run_state *ret_state)
{
	const char *status = word(result, "status");

	for (size_t i = 0; i < ARRAY_LEN(statuses); i++) {
		if (str_eq(status, statuses[i].word)) {
			*ret_state = statuses[i].state;
			return true;
		}
	}
	return false;
}

/* Before anything else that is told after a silence. */
static void
tell_responsive(struct machine *m)
{
	if (!m->tell_responsive)
		return;
	m->tell_responsive = false;
	machine_tell(m, HV_EV_RESPONSIVE, NULL);
}

static void
enter_state(struct machine *m, enum hv_run_state state, const char *detail)
{
	if (m->state == state)
		return;
	m->state = state;
	if (m->phase != PHASE_ALIVE)
		return;
	tell_responsive(m);
	for (size_t i = 0; i < ARRAY_LEN(entries) && !m->dead; i++)
		if (entries[i].state == state)
			machine_tell(m, entries[i].kind, detail);
}

/* ---- asking ---- */

static void
finish_requery(struct machine *m, enum hv_run_state state, const char *detail)
{
	tell_responsive(m);
	if (!m->dead)
		enter_state(m, state, detail);
}

static void
on_blocks(void *arg, json_object *result, const struct err *err)
{
	struct machine *m = arg;
	enum hv_run_state state = HV_IO_ERROR;
	size_t count = json_object_is_type(result, json_type_array) ? json_object_array_length(result) : 0;

	if (err != NULL || m->phase != PHASE_ALIVE)
		return;
	for (size_t i = 0; i < count; i++)
		if (str_eq(word(json_object_array_get_idx(result, i), "io-status"), "nospace"))
			state = HV_NO_SPACE;
	machine_enter(m);
	finish_requery(m, state, NULL);
	machine_leave(m);
}

static void
on_status(void *arg, json_object *result, const struct err *err)
{
	struct machine *m = arg;
	enum hv_run_state state;

	if (err != NULL || m->phase != PHASE_ALIVE || !monitor_status(result, &state))
		return;
	if (state == HV_IO_ERROR) {
		qmp_command(m->qmp, "query-block", NULL, on_blocks, m);
		return;
	}
	machine_enter(m);
	finish_requery(m, state, NULL);
	machine_leave(m);
}

static void
on_usernet(void *arg, json_object *result, const struct err *err)
{
	struct machine *m = arg;

	if (err == NULL && m->phase == PHASE_ALIVE)
		forward_learn(m, result);
}

void
monitor_requery(struct machine *m)
{
	monitor_ask_usernet(m, on_usernet, m);
	qmp_command(m->qmp, "query-status", NULL, on_status, m);
}

bool
monitor_ask_usernet(struct machine *m, qmp_reply_fn *fn, void *arg)
{
	json_object *args;

	if (!vm_spec_has_user_network(m->config->spec))
		return false;
	args = json_object_new_object();
	json_object_object_add(args, "command-line", json_object_new_string("info usernet"));
	qmp_command(m->qmp, "human-monitor-command", args, fn, arg);
	return true;
}

/* ---- events ---- */

static void
event_shutdown(struct machine *m, json_object *data)
{
	/* What the host asked for ends the process; that is told by its end. */
	if (json_object_get_boolean(member(data, "guest")))
		enter_state(m, HV_SHUTDOWN, NULL);
}

static void
event_panicked(struct machine *m, json_object *data)
{
	enter_state(m, HV_PANICKED, NULL);
}

static void
event_stop(struct machine *m, json_object *data)
{
	/* An error or a panic is told before the stop that it brings. */
	if (m->state == HV_RUNNING || m->state == HV_UNKNOWN)
		enter_state(m, HV_PAUSED, NULL);
}

static void
event_resume(struct machine *m, json_object *data)
{
	enter_state(m, HV_RUNNING, NULL);
}

static void
event_reset(struct machine *m, json_object *data)
{
	uint64_t now = clock_ms();

	/* A guest that can not boot resets without end. */
	if (m->phase != PHASE_ALIVE || now - m->reset_ms < RESET_EVERY_MS)
		return;
	m->reset_ms = now;
	machine_tell(m, HV_EV_RESET, NULL);
}

static void
event_block_error(struct machine *m, json_object *data)
{
	CLEANUP_FREE char *detail = NULL;
	const char *reason = word(data, "reason");

	if (!str_eq(word(data, "action"), "stop"))
		return;
	detail = str_printable(reason, strlen(reason));
	enter_state(m, json_object_get_boolean(member(data, "nospace")) ? HV_NO_SPACE : HV_IO_ERROR,
	    detail);
}

static void
event_port(struct machine *m, json_object *data)
{
	nic_port_changed(m, word(data, "id"), json_object_get_boolean(member(data, "open")));
}

/* clang-format off */
static const struct {
	const char *name;
	void (*fn)(struct machine *m, json_object *data);
} events[] = {
	{ "BLOCK_IO_ERROR", event_block_error },
	{ "GUEST_PANICKED", event_panicked },
	{ "RESET",          event_reset },
	{ "RESUME",         event_resume },
	{ "SHUTDOWN",       event_shutdown },
	{ "STOP",           event_stop },
	{ "VSERPORT_CHANGE", event_port },
};
/* clang-format on */

static void
on_event(void *arg, const char *name, struct json_object *data)
{
	struct machine *m = arg;

	machine_enter(m);
	for (size_t i = 0; i < ARRAY_LEN(events); i++)
		if (str_eq(events[i].name, name))
			events[i].fn(m, data);
	machine_leave(m);
}

static void
on_ready(void *arg)
{
	struct machine *m = arg;

	machine_enter(m);
	snprintf(m->version, sizeof(m->version), "%s", qmp_version(m->qmp));
	if (m->phase == PHASE_STARTING)
		start_on_ready(m);
	else if (m->phase == PHASE_ADOPTING)
		adopt_on_ready(m);
	else if (m->phase == PHASE_ALIVE)
		monitor_requery(m);
	machine_leave(m);
}

static void
on_responsive(void *arg, bool responsive)
{
	struct machine *m = arg;

	if (m->phase != PHASE_ALIVE)
		return;
	machine_enter(m);
	if (!responsive) {
		m->tell_responsive = false;
		machine_tell(m, HV_EV_UNRESPONSIVE, NULL);
	} else {
		m->tell_responsive = true;
		monitor_requery(m);
	}
	machine_leave(m);
}

const struct qmp_handler machine_qmp_handler = { on_ready, on_event, on_responsive };
