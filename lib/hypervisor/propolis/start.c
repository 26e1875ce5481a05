/* SPDX-License-Identifier: MPL-2.0
 *
 * Starting a machine: its zone boots with an address of its own, the server in it is awaited, the
 * instance made; and later, when the daemon has remembered all that, run. */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/base/fs.h"
#include "lib/base/json.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/base/worker.h"
#include "lib/hypervisor/propolis/machine.h"

/* SEED_MAX: with the rest it has to fit a request, which may be 1 MiB in base64. */
enum {
	BOOT_MS = 90000,
	AWAIT_MS = 60000,
	AGAIN_MS = 100,
	ENSURE_MS = 90000,
	PUT_MS = 30000,
	RUN_MS = 60000,
	SEED_MAX = 720 * 1024
};

/* ---- the address ---- */

struct network {
	int family;
	unsigned char base[16];
	unsigned size, prefix; /* bytes, bits */
};

static int
network_parse(const char *text, struct network *ret, struct err *err)
{
	CLEANUP_FREE char *address = xstrndup(text, strcspn(text, "/"));
	const char *slash = strchr(text, '/');
	uint64_t prefix = 0;

	*ret = (struct network){ .family = strchr(address, ':') != NULL ? AF_INET6 : AF_INET };
	ret->size = ret->family == AF_INET6 ? 16 : 4;
	if (inet_pton(ret->family, address, ret->base) != 1 || slash == NULL ||
	    !str_to_u64(slash + 1, &prefix) || prefix < 8 ||
	    prefix > (ret->family == AF_INET6 ? 80 : 24)) {
		err_set(err, E_PARAMS, "'%s' is no network for the zones of machines", text);
		err_hint(err, "control_network wants one such as fd76:6d6d::/64 or 10.76.0.0/16");
		return E_PARAMS;
	}
	ret->prefix = (unsigned)prefix;
	return 0;
}

static bool
in_use(const struct propolis *hv, const struct machine *m, const char *address)
{
	const struct machine *other;

	LIST_FOREACH(other, &hv->machines, link)
		if (other != m && str_eq(other->address, address))
			return true;
	return false;
}

/* The host part from the machine's id, so that it is the same each time; another one when that is
 * taken by a machine that runs. */
static bool
try_address(const struct network *network, uint64_t number, char ret_address[46])
{
	unsigned char bytes[16];
	unsigned host_bits = network->size * 8 - network->prefix;
	uint64_t mask = host_bits >= 48 ? (1ULL << 48) - 1 : (1ULL << host_bits) - 1;

	number &= mask;
	/* The network's own, ours (the first), and the last are nobody's. */
	if (number < 2 || number == mask)
		return false;
	memcpy(bytes, network->base, sizeof(bytes));
	for (unsigned i = network->size; mask != 0; i--) {
		bytes[i - 1] = (unsigned char)((bytes[i - 1] & ~mask) | (number & 0xff));
		number >>= 8;
		mask >>= 8;
	}
	return inet_ntop(network->family, bytes, ret_address, 46) != NULL;
}

bool
address_pick(
    const struct propolis *hv, const struct machine *m, char ret_address[46], struct err *err)
{
	enum { TRIES = 4096 };
	struct network network;
	uint64_t number = strtoull(m->config->id, NULL, 16);

	if (network_parse(hv->config->control_network, &network, err) != 0)
		return false;
	/* A short host part gets all of the id's bits. */
	if (network.family == AF_INET)
		number ^= (number >> 16) ^ (number >> 32);
	for (int i = 0; i < TRIES; i++)
		if (try_address(&network, number + (uint64_t)i, ret_address) &&
		    !in_use(hv, m, ret_address))
			return true;
	err_set(err, E_LIMIT, "there is no address left in '%s' for another machine",
	    hv->config->control_network);
	err_hint(err, "set a larger control_network");
	return false;
}

char *
address_with_prefix(const struct hv_propolis_config *config, const char *address)
{
	const char *slash = strchr(config->control_network, '/');

	return xasprintf("%s%s", address, slash != NULL ? slash : "");
}

/* ---- failure ---- */

void
launch_fail(struct machine *m, const struct err *err)
{
	m->phase = PHASE_FAILING;
	m->failure = *err;
	timer_disarm(m->deadline);
	timer_disarm(m->again);
	monitor_stop(m);
	propolis_console_destroy(TAKE(m->console));
	rest_destroy(TAKE(m->rest));
	machine_halt(m, NULL);
}

void
launch_failed(struct machine *m)
{
	struct hv_op *op = TAKE(m->start);

	m->phase = PHASE_IDLE;
	m->state = HV_GONE;
	m->address[0] = '\0';
	json_object_put(TAKE(m->body));
	if (op != NULL)
		call_finish(op, &m->failure);
}

void
launch_zone_gone(struct machine *m)
{
	CLEANUP_FREE char *words = machine_log(m), *path = machine_log_path(m);
	struct err err = ERR_INIT;

	err_set(&err, E_FAILED, "the zone '%s' of machine '%s' halted as soon as it had booted%s%s",
	    m->zone, m->config->name, words != NULL ? ": " : "", words != NULL ? words : "");
	err_hint(&err, "its log is in %s", path);
	launch_fail(m, &err);
}

/* ---- the instance ---- */

/* The server's own words for a failure of its own say nothing; its log does. */
static void
add_log(struct machine *m, struct err *err)
{
	CLEANUP_FREE char *words = machine_log(m);

	err_hint(err, "its log%s%s", words != NULL ? " ends so: " : " is in the zone: ",
	    words != NULL ? words : "/var/log/vmm.log");
}

static void
ensured(void *arg, const struct rest_reply *reply, const struct err *err)
{
	struct machine *m = arg;
	struct err own;

	if (err != NULL && err->code == E_CANCELLED)
		return;
	propolis_enter(m);
	json_object_put(TAKE(m->body));
	if (err != NULL) {
		own = *err;
		err_wrap(&own, "machine '%s'", m->config->name);
		if (reply->status >= 500)
			add_log(m, &own);
		launch_fail(m, &own);
	} else {
		struct hv_op *op = TAKE(m->start);

		timer_disarm(m->deadline);
		m->phase = PHASE_ALIVE;
		m->state = HV_PRELAUNCH;
		monitor_start(m);
		m->console = propolis_console_create(m, true);
		call_finish(op, NULL);
	}
	propolis_leave(m);
}

static void
ensure(struct machine *m)
{
	struct rest_call call = { .method = "PUT",
		.path = "/instance",
		.body = m->body,
		.expect = 201,
		.timeout_ms = ENSURE_MS,
		.done = ensured,
		.arg = m };

	m->phase = PHASE_ENSURING;
	timer_disarm(m->deadline);
	rest_call(m->rest, &call);
}

static void
answered(void *arg, const struct rest_reply *reply, const struct err *err)
{
	struct machine *m = arg;

	if (err != NULL && err->code == E_CANCELLED)
		return;
	propolis_enter(m);
	/* 424: there is a server, and no instance, as it has to be. */
	if (err == NULL || reply->status == 424) {
		ensure(m);
	} else if (reply->status >= 400 && reply->status < 500) {
		struct err own = *err;

		err_wrap(&own, "the server in zone '%s'", m->zone);
		launch_fail(m, &own);
	} else {
		instance_again(m, err, AGAIN_MS);
	}
	propolis_leave(m);
}

void
launch_on_again(struct machine *m)
{
	if (m->phase == PHASE_AWAITING)
		instance_ask(m, answered);
}

void
launch_on_deadline(struct machine *m)
{
	CLEANUP_FREE char *path = machine_log_path(m);
	struct err err = ERR_INIT;

	if (m->phase == PHASE_AWAITING) {
		err_set(&err, E_TIMEOUT,
		    "propolis-server in zone '%s' did not answer at %s within %d s%s%s", m->zone,
		    m->address, AWAIT_MS / 1000, m->last.code != E_OK ? ": " : "",
		    m->last.code != E_OK ? m->last.msg : "");
		err_hint(&err, "its log is in %s; is the host in the network %s on %s?", path,
		    m->hv->config->control_network, m->hv->config->control_link);
		launch_fail(m, &err);
	} else if (m->run != NULL) {
		err_set(&err, E_TIMEOUT, "the instance of machine '%s' did not run within %d s",
		    m->config->name, RUN_MS / 1000);
		run_finish(m, &err);
	}
}

/* ---- the zone ---- */

static int
boot_run(struct task *task, struct job *job)
{
	CLEANUP_FREE char *path = fs_join(task->dir, "seed.iso"), *data = NULL;
	CLEANUP_FREE char *bare = xstrndup(task->address, strcspn(task->address, "/"));
	size_t len = 0;
	int rc = fs_exists(path) ? fs_read(path, SEED_MAX, &data, &len, &task->err) : 0;

	if (rc == E_LIMIT) {
		err_set(&task->err, E_LIMIT, "the seed of machine '%s' is larger than %d KiB",
		    task->host->name, SEED_MAX / 1024);
		err_hint(&task->err,
		    "propolis-server takes no larger one: make user-data shorter, or let it fetch "
		    "what it needs");
	}
	if (rc == 0 && data != NULL)
		task->seed = str_base64(data, len);
	/* Before the zone is there: who comes after a crash looks for it. */
	if (rc == 0)
		rc = launch_record_write(task->dir, bare, false, &task->err);
	if (rc == 0)
		rc = host_boot(task->host, task->address, job, &task->err);
	if (rc == 0)
		rc = launch_record_write(task->dir, bare, true, &task->err);
	return rc;
}

static void
booted(struct machine *m, struct task *task)
{
	if (task->rc != 0) {
		m->failure = task->err;
		task->op = NULL;
		launch_failed(m);
		return;
	}
	m->body = body_create(m->config, &task->host->names, machine_has_nic(m), task->seed);
	m->phase = PHASE_AWAITING;
	m->rest = rest_create(m->loop, m->address, m->hv->config->port);
	m->last.code = E_OK;
	timer_arm(m->deadline, AWAIT_MS);
	machine_watch_zone(m);
	launch_on_again(m);
}

void
propolis_op_launch(struct hv_machine *base, hv_done_fn *done, void *arg)
{
	struct machine *m = (struct machine *)base;
	struct err err = ERR_INIT;
	struct task *task;

	if (m->phase != PHASE_IDLE) {
		call_refuse(m, done, arg, E_STATE, "the machine runs already");
		return;
	}
	if (!address_pick(m->hv, m, m->address, &err)) {
		m->address[0] = '\0';
		call_finish_soon(call_create(m, done, arg), &err);
		return;
	}
	m->phase = PHASE_BOOTING;
	m->stopping = m->halting = m->seen = m->active_once = m->unresponsive = false;
	m->end_reason = NULL;
	m->guest_address[0] = '\0';
	m->start = call_create(m, done, arg);
	task = xcalloc(1, sizeof(*task));
	task->dir = xstrdup(m->config->dir);
	task->address = address_with_prefix(m->hv->config, m->address);
	task->run = boot_run;
	task->done = booted;
	task_submit(m, task, "boot", BOOT_MS);
}

/* ---- run ---- */

void
run_finish(struct machine *m, const struct err *err)
{
	struct hv_op *op = TAKE(m->run);

	timer_disarm(m->deadline);
	if (op != NULL)
		call_finish(op, err);
}

static void
run_taken(void *arg, const struct rest_reply *reply, const struct err *err)
{
	struct machine *m = arg;
	struct err own;

	if (err == NULL || err->code == E_CANCELLED || m->run == NULL)
		return; /* the monitor tells when it runs */
	propolis_enter(m);
	own = *err;
	err_wrap(&own, "machine '%s'", m->config->name);
	run_finish(m, &own);
	propolis_leave(m);
}

void
propolis_op_run(struct hv_machine *base, hv_done_fn *done, void *arg)
{
	struct machine *m = (struct machine *)base;
	struct rest_call call = { .method = "PUT",
		.path = "/instance/state",
		.expect = 204,
		.timeout_ms = PUT_MS,
		.done = run_taken,
		.arg = m };

	if (m->phase != PHASE_ALIVE || m->state != HV_PRELAUNCH || m->run != NULL) {
		call_refuse(m, done, arg, E_STATE, "the machine is not there to be run");
		return;
	}
	m->run = call_create(m, done, arg);
	timer_arm(m->deadline, RUN_MS);
	call.body = json_object_new_string("Run");
	rest_call(m->rest, &call);
	json_object_put(call.body);
}

/* ---- giving up ---- */

void
launch_cancel(struct machine *m)
{
	struct err err = ERR_INIT;
	struct task *task;

	err_set(&err, E_CANCELLED, "the start of machine '%s' was cancelled", m->config->name);
	LIST_FOREACH(task, &m->tasks, entry)
		if (task->done == booted && task->job != NULL)
			job_cancel(task->job);
	if (m->phase == PHASE_AWAITING || m->phase == PHASE_ENSURING) {
		launch_fail(m, &err);
	} else if (m->run != NULL) {
		timer_disarm(m->deadline);
		call_finish_soon(TAKE(m->run), &err);
	}
}
