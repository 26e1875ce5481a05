/* SPDX-License-Identifier: MPL-2.0
 *
 * The hypervisor that runs nothing: for tests, and to try the daemon out.  It keeps to the event
 * protocol of a real one, writes no file and starts no process.  What its machine does is told by
 * its runtime document alone, so that one found after a restart of the daemon "still runs", unless
 * the host was booted since. */
#include "lib/hypervisor/hypervisor.h"

#include <json-c/json.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"

/* What shall happen on the next turn of the loop: a callback, and perhaps an event after it. */
struct step {
	TAILQ_ENTRY(step) entry;
	hv_done_fn *done; /* NULL: an event alone */
	void *arg;
	struct err err; /* E_OK: it went well */
	bool has_event;
	struct hv_event event; /* detail: static text */
};
TAILQ_HEAD(step_list, step);

struct noop_machine {
	struct hv_machine base;
	struct loop *loop;
	hv_event_fn *on_event;
	void *arg;
	enum hv_run_state state;
	const struct hv_config *config;
	struct port forwards[PORTS_MAX]; /* as asked for: nothing listens */
	size_t forward_count;
	struct step_list steps;
	bool posted, closed, running_steps;
};

static struct noop_machine *
noop_of(struct hv_machine *m)
{
	return (struct noop_machine *)m;
}

static int
noop_available(struct hypervisor *hv, struct err *err)
{
	return 0;
}

static struct json_object *
noop_info(struct hypervisor *hv)
{
	return json_object_new_object();
}

static struct hv_machine *
noop_open(struct hypervisor *hv, const struct hv_config *config, hv_event_fn *on_event, void *arg)
{
	struct noop_machine *m = xcalloc(1, sizeof(*m));

	loop_assert(hv->env->loop);
	m->base.ops = hv->ops;
	m->loop = hv->env->loop;
	m->on_event = on_event;
	m->arg = arg;
	m->config = config;
	m->state = HV_GONE;
	TAILQ_INIT(&m->steps);
	return &m->base;
}

static void
run_step(struct noop_machine *m, struct step *step)
{
	if (step->done != NULL)
		step->done(step->arg, step->err.code == E_OK ? NULL : &step->err);
	if (step->has_event && !m->closed)
		m->on_event(m->arg, &step->event);
	free(step);
}

static void
on_posted(void *arg)
{
	struct noop_machine *m = arg;
	struct step *step;

	m->posted = false;
	m->running_steps = true;
	while (!m->closed && (step = TAILQ_FIRST(&m->steps)) != NULL) {
		TAILQ_REMOVE(&m->steps, step, entry);
		run_step(m, step);
	}
	m->running_steps = false;
	if (m->closed && !m->posted)
		free(m);
}

static struct step *
later(struct noop_machine *m, hv_done_fn *done, void *arg)
{
	struct step *step = xcalloc(1, sizeof(*step));

	loop_assert(m->loop);
	step->done = done;
	step->arg = arg;
	TAILQ_INSERT_TAIL(&m->steps, step, entry);
	if (!m->posted) {
		m->posted = true;
		loop_post(m->loop, on_posted, m);
	}
	return step;
}

static struct hv_event *
later_event(struct noop_machine *m, enum hv_event_kind kind)
{
	struct step *step = later(m, NULL, NULL);

	step->has_event = true;
	step->event.kind = kind;
	return &step->event;
}

/* Answers that the machine is not in a state for it. */
static void
later_refused(struct noop_machine *m, const char *what, hv_done_fn *done, void *arg)
{
	struct step *step = later(m, done, arg);

	err_set(&step->err, E_STATE, "the machine is not running; it can not be %s", what);
}

static void
noop_close(struct hv_machine *base)
{
	struct noop_machine *m = noop_of(base);
	struct step *step;

	loop_assert(m->loop);
	m->closed = true;
	while ((step = TAILQ_FIRST(&m->steps)) != NULL) {
		TAILQ_REMOVE(&m->steps, step, entry);
		err_set(&step->err, E_CANCELLED, "the machine was closed");
		run_step(m, step);
	}
	/* A posted turn, or one that runs now, still needs the memory and frees it. */
	if (!m->posted && !m->running_steps)
		free(m);
}

static void
noop_prepare(struct hv_machine *base, const struct hv_image *image, hv_done_fn *done, void *arg)
{
	later(noop_of(base), done, arg);
}

static void
noop_unprepare(struct hv_machine *base, hv_done_fn *done, void *arg)
{
	later(noop_of(base), done, arg);
}

static void
begin_forwards(struct noop_machine *m)
{
	if (m->config->spec != NULL)
		m->forward_count = ports_parse(&m->config->spec->ports, m->forwards);
}

static void
noop_launch(struct hv_machine *base, hv_done_fn *done, void *arg)
{
	struct noop_machine *m = noop_of(base);

	if (m->state != HV_GONE) {
		struct step *step = later(m, done, arg);

		err_set(&step->err, E_STATE, "the machine runs already");
		return;
	}
	m->state = HV_PRELAUNCH;
	begin_forwards(m);
	later(m, done, arg);
}

static const char *const state_names[] = { [HV_GONE] = "gone", [HV_PRELAUNCH] = "prelaunch",
	[HV_RUNNING] = "running", [HV_PAUSED] = "paused", [HV_SHUTDOWN] = "shutdown" };

static struct json_object *
noop_runtime(struct hv_machine *base)
{
	struct json_object *doc = json_object_new_object();

	json_object_object_add(doc, "state",
	    json_object_new_string(state_names[noop_of(base)->state]));
	json_object_object_add(doc, "boot_id", json_object_new_string(process_boot_id()));
	return doc;
}

static const char *
text_of(struct json_object *doc, const char *key)
{
	struct json_object *value = NULL;

	return json_object_object_get_ex(doc, key, &value) ? json_object_get_string(value) : NULL;
}

static void
noop_adopt(struct hv_machine *base, struct json_object *runtime, hv_done_fn *done, void *arg)
{
	struct noop_machine *m = noop_of(base);
	const char *word = text_of(runtime, "state");
	struct step *step = later(m, done, arg);

	m->state = HV_GONE;
	if (str_eq(text_of(runtime, "boot_id"), process_boot_id()))
		for (size_t i = 0; word != NULL && i < ARRAY_LEN(state_names); i++)
			if (str_eq(word, state_names[i]))
				m->state = (enum hv_run_state)i;
	/* Its document was made before run; what was committed ran. */
	if (m->state == HV_PRELAUNCH)
		m->state = HV_RUNNING;
	begin_forwards(m);
	if (m->state == HV_GONE)
		err_set(&step->err, E_NOT_FOUND, "the machine does not run any more");
}

static void
noop_run(struct hv_machine *base, hv_done_fn *done, void *arg)
{
	struct noop_machine *m = noop_of(base);

	if (m->state != HV_PRELAUNCH) {
		later_refused(m, "run", done, arg);
		return;
	}
	m->state = HV_RUNNING;
	later(m, done, arg);
	later_event(m, HV_EV_RESUMED);
}

static void
noop_ask_shutdown(struct hv_machine *base, hv_done_fn *done, void *arg)
{
	struct noop_machine *m = noop_of(base);

	if (m->state != HV_RUNNING && m->state != HV_PAUSED) {
		later_refused(m, "shut down", done, arg);
		return;
	}
	m->state = HV_SHUTDOWN;
	later(m, done, arg);
	later_event(m, HV_EV_SHUTDOWN);
}

static void
noop_end(struct hv_machine *base, enum hv_force how, hv_done_fn *done, void *arg)
{
	struct noop_machine *m = noop_of(base);

	if (m->state == HV_GONE) {
		later_refused(m, "ended", done, arg);
		return;
	}
	m->state = HV_GONE;
	later(m, done, arg);
	/* As a process that quits, or that is killed. */
	later_event(m, HV_EV_EXITED)->exit = (struct process_exit){ .known = true,
		.signaled = how == HV_KILL, .code = how == HV_KILL ? SIGKILL : 0 };
}

static void
noop_suspend(struct hv_machine *base, hv_done_fn *done, void *arg)
{
	struct noop_machine *m = noop_of(base);

	if (m->state != HV_RUNNING) {
		later_refused(m, "suspended", done, arg);
		return;
	}
	m->state = HV_PAUSED;
	later(m, done, arg);
	later_event(m, HV_EV_PAUSED);
}

static void
noop_resume(struct hv_machine *base, hv_done_fn *done, void *arg)
{
	struct noop_machine *m = noop_of(base);

	if (m->state != HV_PAUSED) {
		later_refused(m, "resumed", done, arg);
		return;
	}
	m->state = HV_RUNNING;
	later(m, done, arg);
	later_event(m, HV_EV_RESUMED);
}

static void
noop_forward(struct hv_machine *base, const struct port *port, bool add, hv_done_fn *done,
    void *arg)
{
	struct noop_machine *m = noop_of(base);
	size_t i = 0;

	if (m->state != HV_RUNNING && m->state != HV_PAUSED) {
		later_refused(m, "given other ports", done, arg);
		return;
	}
	while (i < m->forward_count && !port_equal(&m->forwards[i], port))
		i++;
	if (add && m->forward_count < PORTS_MAX)
		m->forwards[m->forward_count++] = *port;
	else if (!add && i < m->forward_count)
		m->forwards[i] = m->forwards[--m->forward_count];
	later(m, done, arg);
}

static enum hv_run_state
noop_state(struct hv_machine *base)
{
	return noop_of(base)->state;
}

static void
noop_facts(struct hv_machine *base, struct hv_facts *ret_facts)
{
	struct noop_machine *m = noop_of(base);

	*ret_facts = (struct hv_facts){ 0 };
	if (m->state != HV_GONE) {
		ret_facts->forwards = m->forwards;
		ret_facts->forward_count = m->forward_count;
	}
}

static int
noop_console_open(struct hv_machine *base, hv_output_fn *on_output, void *arg, struct err *err)
{
	return err_set(err, E_UNSUPPORTED, "a machine of the backend 'noop' has no console");
}

static int
noop_console_write(struct hv_machine *base, const void *data, size_t len, struct err *err)
{
	return noop_console_open(base, NULL, NULL, err);
}

static uint64_t
noop_console_offset(struct hv_machine *base)
{
	return 0;
}

static void
noop_console_close(struct hv_machine *base)
{
}

static const struct hv_ops noop_ops = {
	.backend = BACKEND_NOOP,
	.capabilities = HV_CAN_SUSPEND | HV_CAN_USER_NET | HV_CAN_PRIVATE | HV_CAN_NICS | HV_CAN_POWER_BUTTON |
	    HV_CAN_BIOS | HV_CAN_FORWARD,
	.end_words = { "quit", "term", "kill" },
	.end_ms = { 3000, 3000, 15000 },
	.available = noop_available,
	.info = noop_info,
	.open = noop_open,
	.close = noop_close,
	.prepare = noop_prepare,
	.unprepare = noop_unprepare,
	.launch = noop_launch,
	.runtime = noop_runtime,
	.run = noop_run,
	.adopt = noop_adopt,
	.ask_shutdown = noop_ask_shutdown,
	.end = noop_end,
	.suspend = noop_suspend,
	.resume = noop_resume,
	.forward = noop_forward,
	.state = noop_state,
	.facts = noop_facts,
	.console_open = noop_console_open,
	.console_write = noop_console_write,
	.console_offset = noop_console_offset,
	.console_close = noop_console_close,
};

struct hypervisor *
hv_noop_create(const struct hv_env *env)
{
	struct hypervisor *hv = xcalloc(1, sizeof(*hv));

	hv->ops = &noop_ops;
	hv->env = env;
	return hv;
}

void
hv_noop_destroy(struct hypervisor *hv)
{
	free(hv);
}
