/* SPDX-License-Identifier: MPL-2.0
 *
 * The backend itself: whether it can be used here, what it refuses, and the states of all zones,
 * asked for by one command for all machines. */
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/base/worker.h"
#include "lib/hypervisor/propolis/machine.h"

enum { POOL_THREADS = 8, POOL_QUEUE = 4096, VCPUS_MAX = 254 };
enum { ZONES_MS = 15000, LOOK_EVERY_MS = 5000, LOOK_LEAST_MS = 250, DROP_MS = 60000 };

/* ---- the zones ---- */

struct zones_job {
	struct propolis *hv; /* NULL: nobody waits */
	const struct hv_propolis_config *config;
	struct job *job;
	struct zone_row *rows;
	size_t count;
	uint64_t serial;
	int rc;
	struct err err;
};

static void
zones_run(struct job *job, void *data)
{
	struct zones_job *z = data;

	z->rc = host_zones(z->config, &z->rows, &z->count, job, &z->err);
}

static bool
is_gone(enum zone_state state)
{
	return state == ZONE_ABSENT || state == ZONE_CONFIGURED || state == ZONE_INCOMPLETE ||
	       state == ZONE_INSTALLED;
}

static void
zone_went(struct machine *m)
{
	CLEANUP_FREE char *words = NULL;

	if (m->stopping) {
		machine_gone(m, m->end_reason, NULL);
		return;
	}
	words = machine_log(m);
	machine_gone(m, "zone-halted", words != NULL ? words : "its zone halted");
}

static void
tell_zone(struct machine *m, const struct zones_job *z)
{
	enum zone_state state = z->rc == 0 ? ZONE_ABSENT : ZONE_UNKNOWN;

	for (size_t i = 0; i < z->count; i++)
		if (str_eq(z->rows[i].zone, m->zone))
			state = z->rows[i].state;
	propolis_enter(m);
	if (m->phase == PHASE_ADOPTING)
		adoption_on_zone(m, state, z->rc == 0 ? NULL : &z->err);
	else if (m->halting || !is_gone(state))
		; /* as it should be, or asked for */
	else if (m->phase == PHASE_AWAITING || m->phase == PHASE_ENSURING)
		launch_zone_gone(m);
	else if (m->phase == PHASE_ALIVE)
		zone_went(m);
	propolis_leave(m);
}

/* The first machine that has not heard of this look; what we call may close any of them. */
static struct machine *
not_told(struct propolis *hv, uint64_t serial)
{
	struct machine *m;

	LIST_FOREACH(m, &hv->machines, link)
		if (m->zone_since <= serial && m->zone_told < serial && m->phase != PHASE_IDLE)
			return m;
	return NULL;
}

static bool
any_live(const struct propolis *hv)
{
	const struct machine *m;

	LIST_FOREACH(m, &hv->machines, link)
		if (m->phase != PHASE_IDLE)
			return true;
	return false;
}

static void
zones_done(void *data)
{
	struct zones_job *z = data;
	struct propolis *hv = z->hv;
	struct machine *m;

	if (hv != NULL) {
		hv->zones = NULL;
		while ((m = not_told(hv, z->serial)) != NULL) {
			m->zone_told = z->serial;
			tell_zone(m, z);
		}
		if (hv->zones_again)
			zones_look(hv);
		else if (hv->zones == NULL && !timer_armed(hv->zones_timer) && any_live(hv))
			timer_arm(hv->zones_timer, LOOK_EVERY_MS);
	}
	free(z->rows);
	free(z);
}

static void
zones_ask(void *arg)
{
	struct propolis *hv = arg;
	struct zones_job *z;

	if (hv->zones != NULL) {
		hv->zones_again = true;
		return;
	}
	z = hv->zones = xcalloc(1, sizeof(*z));
	hv->zones_again = false;
	hv->zones_ms = clock_ms();
	z->hv = hv;
	z->config = hv->config;
	z->serial = ++hv->zones_serial;
	z->rc = err_set(&z->err, E_CANCELLED, "the look at the zones was stopped");
	if (worker_submit(hv->pool, "zones", zones_run, zones_done, z, ZONES_MS, &z->job, NULL) ==
	    0)
		return;
	hv->zones = NULL;
	free(z);
	timer_arm(hv->zones_timer, LOOK_EVERY_MS);
}

void
zones_look(struct propolis *hv)
{
	uint64_t since = clock_ms() - hv->zones_ms;

	if (hv->zones != NULL)
		hv->zones_again = true;
	else
		timer_arm(hv->zones_timer, since < LOOK_LEAST_MS ? LOOK_LEAST_MS - since : 0);
}

void
machine_watch_zone(struct machine *m)
{
	/* A look that began earlier knows nothing of what was done since. */
	m->zone_since = m->hv->zones_serial + 1;
	zones_look(m->hv);
}

/* ---- what it can ---- */

int
propolis_available(struct hypervisor *base, struct err *err)
{
	return host_available(((struct propolis *)base)->config, err);
}

struct json_object *
propolis_info(struct hypervisor *base)
{
	const struct hv_propolis_config *config = ((struct propolis *)base)->config;
	json_object *doc = json_object_new_object();

	json_add_string(doc, "program", config->server);
	json_add_string(doc, "api_version", PROPOLIS_API_VERSION);
	json_add_string(doc, "dataset", config->dataset);
	json_add_string(doc, "zone_dir", config->zone_dir);
	json_add_string(doc, "control_network", config->control_network);
	return doc;
}

int
propolis_check_spec(struct hypervisor *base, const struct vm_spec *spec, struct err *err)
{
	struct propolis *hv = (struct propolis *)base;

	if (spec->vcpus > VCPUS_MAX) {
		err_set(err, E_PARAMS,
		    "machine '%s' asks for %llu processors; propolis-server takes %d at most",
		    spec->name, (unsigned long long)spec->vcpus, VCPUS_MAX);
		err_hint(err, "lower 'vcpus'");
		return E_PARAMS;
	}
	return host_check_names(hv->config, spec, err);
}

/* ---- images that went ---- */

struct drop {
	const struct hv_propolis_config *config;
	char *digest;
};

static void
drop_run(struct job *job, void *data)
{
	struct drop *drop = data;

	/* What could not go now goes with the next one of its kind. */
	host_drop_image(drop->config, drop->digest, job, NULL);
}

static void
drop_done(void *data)
{
	struct drop *drop = data;

	free(drop->digest);
	free(drop);
}

void
propolis_image_removed(struct hypervisor *base, const char *digest)
{
	struct propolis *hv = (struct propolis *)base;
	struct drop *drop = xcalloc(1, sizeof(*drop));

	drop->config = hv->config;
	drop->digest = xstrdup(digest);
	if (worker_submit(hv->pool, "drop-image", drop_run, drop_done, drop, DROP_MS, NULL, NULL) !=
	    0)
		drop_done(drop);
}

/* ---- the backend ---- */

struct hypervisor *
hv_propolis_create(const struct hv_env *env)
{
	struct propolis *hv = xcalloc(1, sizeof(*hv));

	hv->base.ops = &propolis_ops;
	hv->base.env = env;
	hv->config = env->propolis;
	hv->imports = host_imports_create();
	hv->pool = worker_pool_create(env->loop, POOL_THREADS, POOL_QUEUE);
	hv->zones_timer = timer_create_on(env->loop, zones_ask, hv);
	LIST_INIT(&hv->machines);
	return &hv->base;
}

void
hv_propolis_destroy(struct hypervisor *base)
{
	struct propolis *hv = (struct propolis *)base;

	if (hv == NULL)
		return;
	if (hv->zones != NULL)
		hv->zones->hv = NULL;
	timer_destroy(hv->zones_timer);
	worker_pool_destroy(hv->pool);
	host_imports_destroy(hv->imports);
	free(hv);
}
