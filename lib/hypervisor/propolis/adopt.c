/* SPDX-License-Identifier: MPL-2.0
 *
 * Taking over a machine of an earlier daemon: its zone runs, a server answers at its address, and
 * its instance has the machine's uuid.  Whatever fails, nothing is ever halted here. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/fs.h"
#include "lib/base/json.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/process.h"
#include "lib/base/str.h"
#include "lib/hypervisor/propolis/machine.h"

/* LOOKS: a boot that was under way when the daemon was killed may bring the zone up yet. */
enum { ADOPT_MS = 6000, AGAIN_MS = 200, LOOK_MS = 1000, LOOKS = 4 };

static json_object *
record(const char *address, bool booted)
{
	json_object *doc = json_object_new_object();

	json_add_string(doc, "address", address);
	json_add_bool(doc, "booted", booted);
	json_add_string(doc, "boot_id", process_boot_id());
	return doc;
}

json_object *
propolis_op_runtime(struct hv_machine *base)
{
	return record(((struct machine *)base)->address, true);
}

int
launch_record_write(const char *dir, const char *address, bool booted, struct err *err)
{
	CLEANUP_FREE char *path = fs_join(dir, "launch.json");
	CLEANUP_JSON json_object *doc = record(address, booted);
	const char *text = json_object_to_json_string_ext(doc, JSON_TEXT_FLAGS);

	return fs_write(path, text, strlen(text), 0600, err);
}

static json_object *
read_record(const struct hv_config *config)
{
	CLEANUP_FREE char *path = fs_join(config->dir, "launch.json"), *text = NULL;

	return fs_read(path, 65536, &text, NULL, NULL) == 0 ? json_tokener_parse(text) : NULL;
}

static void
finish(struct machine *m, const struct err *err)
{
	struct hv_op *op = TAKE(m->start);

	timer_disarm(m->deadline);
	timer_disarm(m->again);
	if (op != NULL)
		call_finish(op, err);
}

static void
not_there(struct machine *m, const char *zone_state)
{
	struct err err = ERR_INIT;

	m->phase = PHASE_IDLE;
	m->state = HV_GONE;
	m->address[0] = '\0';
	rest_destroy(TAKE(m->rest));
	err_set(&err, E_NOT_FOUND, "the zone '%s' does not run: it is %s", m->zone, zone_state);
	finish(m, &err);
}

static void
alive(struct machine *m, enum hv_run_state state)
{
	m->phase = PHASE_ALIVE;
	m->state = state;
	m->active_once = false;
	if (m->rest == NULL)
		return;
	monitor_start(m);
	m->console = propolis_console_create(m, false);
}

/* It lives and is watched; what it does will be known when its server answers. */
static void
adopt_blindly(struct machine *m, const char *why)
{
	struct err err = ERR_INIT;

	if (m->rest == NULL && m->address[0] != '\0')
		m->rest = rest_create(m->loop, m->address, m->hv->config->port);
	m->unresponsive = true;
	alive(m, HV_UNKNOWN);
	zones_look(m->hv);
	err_set(&err, E_UNRESPONSIVE, "%s", why);
	finish(m, &err);
}

static void
found(struct machine *m, json_object *body)
{
	json_object *instance = NULL, *properties = NULL;
	enum hv_run_state state;
	const char *word;

	json_object_object_get_ex(body, "instance", &instance);
	word = json_string(instance, "state");
	json_object_object_get_ex(instance, "properties", &properties);
	if (!str_eq(json_string(properties, "id"), m->config->uuid)) {
		adopt_blindly(m, "the instance in its zone is another machine's");
	} else if (!monitor_word(word, &state)) {
		adopt_blindly(m, "propolis-server's state can not be understood");
	} else {
		/* It was told to run before the daemon was killed. */
		if (str_eq(word, "Starting"))
			state = HV_RUNNING;
		alive(m, state);
		finish(m, NULL);
	}
}

static void
answered(void *arg, const struct rest_reply *reply, const struct err *err)
{
	struct machine *m = arg;

	if (err != NULL && err->code == E_CANCELLED)
		return;
	propolis_enter(m);
	if (m->phase != PHASE_ADOPTING) {
		/* decided meanwhile */
	} else if (err == NULL) {
		found(m, reply->body);
	} else if (reply->status == 424 && m->had_instance) {
		alive(m, HV_RUNNING);
		finish(m, NULL); /* the monitor finds that it is gone */
	} else if (reply->status == 424) {
		alive(m, HV_PRELAUNCH);
		finish(m, NULL);
	} else {
		instance_again(m, err, AGAIN_MS);
	}
	propolis_leave(m);
}

void
adoption_on_again(struct machine *m)
{
	if (m->rest == NULL)
		zones_look(m->hv);
	else
		instance_ask(m, answered);
}

void
adoption_on_zone(struct machine *m, enum zone_state state, const struct err *err)
{
	CLEANUP_FREE char *why = NULL;

	switch (state) {
	case ZONE_ABSENT:
	case ZONE_CONFIGURED:
	case ZONE_INCOMPLETE:
	case ZONE_INSTALLED:
		if (m->booting_found && ++m->looks < LOOKS)
			timer_arm(m->again, LOOK_MS);
		else
			not_there(m, zone_state_names[state]);
		break;
	case ZONE_RUNNING:
	case ZONE_READY:
		if (m->address[0] == '\0') {
			adopt_blindly(m, "the address of its zone is not known any more");
		} else if (m->rest == NULL) {
			m->rest = rest_create(m->loop, m->address, m->hv->config->port);
			timer_arm(m->deadline, ADOPT_MS);
			adoption_on_again(m);
		}
		break;
	case ZONE_MOUNTED:
	case ZONE_SHUTTING_DOWN:
	case ZONE_DOWN:
	case ZONE_UNKNOWN:
	case ZONE_STATES:
		why = err != NULL
			  ? xstrdup(err->msg)
			  : xasprintf("its zone '%s' is %s", m->zone, zone_state_names[state]);
		adopt_blindly(m, why);
		break;
	}
}

void
adoption_on_deadline(struct machine *m)
{
	CLEANUP_FREE char *why =
	    xasprintf("propolis-server in zone '%s' does not answer at %s%s%s", m->zone, m->address,
		m->last.code != E_OK ? ": " : "", m->last.code != E_OK ? m->last.msg : "");

	adopt_blindly(m, why);
}

void
propolis_op_adopt(struct hv_machine *base, json_object *runtime, hv_done_fn *done, void *arg)
{
	struct machine *m = (struct machine *)base;
	CLEANUP_JSON json_object *own = runtime == NULL ? read_record(m->config) : NULL;
	json_object *doc = runtime != NULL ? runtime : own;
	const char *address = doc != NULL ? json_string(doc, "address") : NULL;

	if (m->phase != PHASE_IDLE) {
		call_refuse(m, done, arg, E_STATE, "the machine is known already");
		return;
	}
	snprintf(m->address, sizeof(m->address), "%s", address != NULL ? address : "");
	m->booting_found = own != NULL && !json_flag(own, "booted");
	m->had_instance = runtime != NULL;
	m->looks = 0;
	m->last.code = E_OK;
	m->phase = PHASE_ADOPTING;
	m->start = call_create(m, done, arg);
	machine_watch_zone(m);
}
