/* SPDX-License-Identifier: MPL-2.0
 *
 * What every call of the backend needs: answers, work on workers, the disk, the guest's address. */
#include "lib/hypervisor/propolis/machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/json.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/base/worker.h"

/* An image is converted and copied within the first; the others are a few commands. */
enum { PREPARE_MS = 3600000, UNPREPARE_MS = 300000, ADDRESS_MS = 10000,
	INSTANCE_MS = 3000 };
/* How often the neighbour tables are read: until an address is known, and then. */
enum { SEEK_MS = 1000, RECHECK_MS = 30000 };

void
propolis_enter(struct machine *m)
{
	m->busy++;
}

void
propolis_leave(struct machine *m)
{
	if (--m->busy == 0 && m->dead)
		free(m);
}

void
propolis_emit(struct machine *m, const struct hv_event *event)
{
	if (!m->dead)
		m->on_event(m->arg, event);
}

void
propolis_tell(struct machine *m, enum hv_event_kind kind, const char *detail)
{
	struct hv_event event = { .kind = kind, .detail = detail };

	propolis_emit(m, &event);
}

/* ---- calls that wait for an answer ---- */

struct hv_op *
call_create(struct machine *m, hv_done_fn *done, void *arg)
{
	struct hv_op *op = xcalloc(1, sizeof(*op));

	loop_assert(m->loop);
	*op = (struct hv_op){ .machine = m, .done = done, .arg = arg };
	LIST_INSERT_HEAD(&m->ops, op, entry);
	return op;
}

void
call_finish(struct hv_op *op, const struct err *err)
{
	struct err copy = ERR_INIT;

	LIST_REMOVE(op, entry);
	if (op->task != NULL)
		op->task->op = NULL;
	if (err != NULL)
		copy = *err;
	op->done(op->arg, err != NULL ? &copy : NULL);
	free(op);
}

void
call_finish_soon(struct hv_op *op, const struct err *err)
{
	if (err != NULL)
		op->err = *err;
	op->soon = true;
	timer_arm(op->machine->soon, 0);
}

void
call_refuse(struct machine *m, hv_done_fn *done, void *arg, enum err_code code, const char *text)
{
	struct err err = ERR_INIT;

	err_set(&err, code, "%s", text);
	call_finish_soon(call_create(m, done, arg), &err);
}

static struct hv_op *
due(struct machine *m)
{
	struct hv_op *op;

	LIST_FOREACH(op, &m->ops, entry)
		if (op->soon)
			return op;
	return NULL;
}

static void
on_soon(void *arg)
{
	struct machine *m = arg;
	struct hv_op *op;

	propolis_enter(m);
	while (!m->dead && (op = due(m)) != NULL)
		call_finish(op, op->err.code == E_OK ? NULL : &op->err);
	propolis_leave(m);
}

/* ---- work on workers ---- */

static void
task_free(struct task *task)
{
	host_machine_destroy(task->host);
	free(task->dir);
	free(task->address);
	free(task->image_path);
	free(task->image_format);
	free(task->image_digest);
	free(task->seed);
	free(task->text);
	free(task);
}

static void
task_run(struct job *job, void *data)
{
	struct task *task = data;

	memset(&task->err, 0, sizeof(task->err));
	task->rc = task->run(task, job);
}

static void
task_end(void *data)
{
	struct task *task = data;
	struct machine *m = task->m;

	if (m != NULL) {
		propolis_enter(m);
		LIST_REMOVE(task, entry);
		if (task->op != NULL)
			task->op->task = NULL;
		task->done(m, task);
		propolis_leave(m);
	}
	task_free(task);
}

void
task_submit(struct machine *m, struct task *task, const char *name, uint64_t deadline_ms)
{
	struct err err = ERR_INIT;

	task->m = m;
	if (task->op != NULL)
		task->op->task = task;
	if (task->host == NULL)
		task->host = host_machine_copy(m->hv->config, m->config);
	task->host->imports = m->hv->imports;
	LIST_INSERT_HEAD(&m->tasks, task, entry);
	/* A job that never ran was cancelled. */
	task->rc = err_set(&task->err, E_CANCELLED, "the work on the machine's zone was stopped");
	if (worker_submit(
		m->hv->pool, name, task_run, task_end, task, deadline_ms, &task->job, &err) == 0)
		return;
	task->err = err;
	task->rc = (int)err.code;
	loop_post(m->loop, task_end, task);
}

static void
answer_op(struct machine *m, struct task *task)
{
	struct hv_op *op = TAKE(task->op);

	if (op != NULL)
		call_finish(op, task->rc == 0 ? NULL : &task->err);
}

static int
prepare_run(struct task *task, struct job *job)
{
	struct hv_image image = { task->image_path, task->image_format, task->image_bytes,
		task->image_digest };

	return host_prepare(task->host, &image, job, &task->err);
}

static void
propolis_op_prepare(
    struct hv_machine *base, const struct hv_image *image, hv_done_fn *done, void *arg)
{
	struct machine *m = (struct machine *)base;
	struct task *task;

	if (image == NULL) {
		call_refuse(
		    m, done, arg, E_PARAMS, "a machine of the backend 'propolis' needs an image");
		return;
	}
	task = xcalloc(1, sizeof(*task));
	task->op = call_create(m, done, arg);
	task->image_path = xstrdup(image->path);
	task->image_format = xstrdup(image->format);
	task->image_digest = xstrdup(image->digest);
	task->image_bytes = image->virtual_bytes;
	task->run = prepare_run;
	task->done = answer_op;
	task_submit(m, task, "prepare", PREPARE_MS);
}

static void
propolis_op_cancel(struct hv_machine *base)
{
	struct machine *m = (struct machine *)base;
	struct task *task;

	LIST_FOREACH(task, &m->tasks, entry)
		if (task->run == prepare_run && task->job != NULL)
			job_cancel(task->job);
	launch_cancel(m);
}

static int
unprepare_run(struct task *task, struct job *job)
{
	return host_unprepare(task->host, job, &task->err);
}

static void
propolis_op_unprepare(struct hv_machine *base, hv_done_fn *done, void *arg)
{
	struct machine *m = (struct machine *)base;
	struct task *task;

	if (m->phase != PHASE_IDLE) {
		call_refuse(
		    m, done, arg, E_STATE, "the machine still runs; its disk can not be removed");
		return;
	}
	task = xcalloc(1, sizeof(*task));
	task->op = call_create(m, done, arg);
	task->run = unprepare_run;
	task->done = answer_op;
	task_submit(m, task, "unprepare", UNPREPARE_MS);
}

/* ---- what the machine is ---- */

bool
machine_has_nic(const struct machine *m)
{
	return vm_spec_login_nic(m->config->spec, NULL) != NULL;
}

const char *
machine_ssh_host(struct machine *m)
{
	const struct network_spec *nic = vm_spec_login_nic(m->config->spec, NULL);
	const char *address = nic != NULL ? nic->address : NULL;

	if (nic == NULL)
		return NULL;
	if (address == NULL)
		return m->guest_address[0] != '\0' ? m->guest_address : NULL;
	snprintf(m->facts_host, sizeof(m->facts_host), "%.*s", (int)strcspn(address, "/"), address);
	return m->facts_host;
}

static void
propolis_op_facts(struct hv_machine *base, struct hv_facts *ret_facts)
{
	struct machine *m = (struct machine *)base;

	*ret_facts = (struct hv_facts){ 0 };
	if (m->phase != PHASE_ALIVE)
		return;
	ret_facts->accel = "bhyve";
	ret_facts->ssh_host = machine_ssh_host(m);
	ret_facts->ssh_port =
	    ret_facts->ssh_host != NULL ? vm_spec_ssh_port(m->config->spec) : 0;
	snprintf(m->facts_vnc, sizeof(m->facts_vnc),
	    strchr(m->address, ':') != NULL ? "[%s]:5900" : "%s:5900", m->address);
	ret_facts->vnc = m->facts_vnc;
}

static enum hv_run_state
propolis_op_state(struct hv_machine *base)
{
	return ((struct machine *)base)->state;
}

char *
machine_log(const struct machine *m)
{
	struct host_machine *host = host_machine_copy(m->hv->config, m->config);
	CLEANUP_FREE char *text = host_zone_log(host);
	size_t len = text != NULL ? strlen(text) : 0;

	host_machine_destroy(host);
	while (len > 0 && text[len - 1] == '\n')
		len--;
	return len > 0 ? str_line(text, len) : NULL;
}

void
instance_ask(struct machine *m, rest_done_fn *done)
{
	struct rest_call call = { .method = "GET",
		.path = "/instance",
		.expect = 200,
		.timeout_ms = INSTANCE_MS,
		.done = done,
		.arg = m };

	rest_call(m->rest, &call);
}

void
instance_again(struct machine *m, const struct err *err, uint64_t delay_ms)
{
	m->last = *err;
	zones_look(m->hv);
	timer_arm(m->again, delay_ms);
}

char *
machine_log_path(const struct machine *m)
{
	return xasprintf("%s/%s/root/var/log/vmm.log", m->hv->config->zone_dir, m->zone);
}

/* ---- the guest's address ---- */

static int
seek_run(struct task *task, struct job *job)
{
	char address[46];
	int rc = host_neighbour(task->host->mac, address, job, &task->err);

	if (rc == 0)
		task->text = xstrdup(address);
	return rc;
}

static void
seek_done(struct machine *m, struct task *task)
{
	m->address_task = NULL;
	if (m->phase != PHASE_ALIVE)
		return;
	/* An entry that expired says nothing; another address does. */
	timer_arm(m->address_timer,
	    task->text == NULL && m->guest_address[0] == '\0' ? SEEK_MS : RECHECK_MS);
	if (task->text == NULL || str_eq(task->text, m->guest_address))
		return;
	snprintf(m->guest_address, sizeof(m->guest_address), "%s", task->text);
	propolis_tell(m, HV_EV_ADDRESS, m->guest_address);
}

static void
on_address_timer(void *arg)
{
	struct machine *m = arg;

	if (m->phase == PHASE_ALIVE && m->address_task == NULL)
		machine_seek_address(m);
}

void
machine_seek_address(struct machine *m)
{
	const struct network_spec *nic = vm_spec_login_nic(m->config->spec, NULL);
	struct task *task;

	if (nic == NULL || nic->address != NULL ||
	    m->address_task != NULL)
		return;
	task = m->address_task = xcalloc(1, sizeof(*task));
	task->run = seek_run;
	task->done = seek_done;
	task_submit(m, task, "address", ADDRESS_MS);
}

/* ---- what this hypervisor does not do ---- */

static void
no_button(struct hv_machine *base, hv_done_fn *done, void *arg)
{
	call_refuse((struct machine *)base, done, arg, E_UNSUPPORTED,
	    "propolis-server has no power button; only the guest itself can power off in order");
}

static void
no_pause(struct hv_machine *base, hv_done_fn *done, void *arg)
{
	call_refuse((struct machine *)base, done, arg, E_UNSUPPORTED,
	    "propolis-server can not pause a machine");
}

/* ---- opening and closing ---- */

static void
on_deadline(void *arg)
{
	struct machine *m = arg;

	propolis_enter(m);
	if (m->phase == PHASE_ADOPTING)
		adoption_on_deadline(m);
	else
		launch_on_deadline(m);
	propolis_leave(m);
}

static void
on_again(void *arg)
{
	struct machine *m = arg;

	propolis_enter(m);
	if (m->phase == PHASE_ADOPTING)
		adoption_on_again(m);
	else if (m->phase == PHASE_ALIVE)
		monitor_on_again(m);
	else
		launch_on_again(m);
	propolis_leave(m);
}

static struct hv_machine *
propolis_op_open(
    struct hypervisor *base, const struct hv_config *config, hv_event_fn *on_event, void *arg)
{
	struct propolis *hv = (struct propolis *)base;
	struct machine *m = xcalloc(1, sizeof(*m));

	loop_assert(base->env->loop);
	m->base.ops = base->ops;
	m->hv = hv;
	m->loop = base->env->loop;
	m->config = config;
	m->on_event = on_event;
	m->arg = arg;
	m->state = HV_GONE;
	snprintf(m->zone, sizeof(m->zone), "vmm-%s", config->id);
	LIST_INIT(&m->ops);
	LIST_INIT(&m->tasks);
	m->soon = timer_create_on(m->loop, on_soon, m);
	m->deadline = timer_create_on(m->loop, on_deadline, m);
	m->again = timer_create_on(m->loop, on_again, m);
	m->address_timer = timer_create_on(m->loop, on_address_timer, m);
	LIST_INSERT_HEAD(&hv->machines, m, link);
	return &m->base;
}

static void
propolis_op_close(struct hv_machine *base)
{
	struct machine *m = (struct machine *)base;
	struct err err = ERR_INIT;
	struct task *task;
	struct hv_op *op;

	loop_assert(m->loop);
	propolis_enter(m);
	LIST_REMOVE(m, link);
	m->dead = true;
	m->start = m->run = NULL;
	while ((task = LIST_FIRST(&m->tasks)) != NULL) {
		LIST_REMOVE(task, entry);
		task->m = NULL;
		if (task->op != NULL)
			task->op->task = NULL;
		if (task->job != NULL)
			job_cancel(task->job);
	}
	monitor_stop(m);
	propolis_console_destroy(TAKE(m->console));
	rest_destroy(TAKE(m->rest)); /* ends the calls that wait for it */
	err_set(&err, E_CANCELLED, "the machine was closed");
	while ((op = LIST_FIRST(&m->ops)) != NULL)
		call_finish(op, &err);
	timer_destroy(m->soon);
	timer_destroy(m->deadline);
	timer_destroy(m->again);
	timer_destroy(m->address_timer);
	json_object_put(m->body);
	free(m->end_detail);
	propolis_leave(m);
}

/* clang-format off */
static const struct hv_lack lacks[] = {
	{ HV_CAN_SUSPEND,      "propolis-server can not pause a machine" },
	{ HV_CAN_POWER_BUTTON, "propolis-server has none; a guest is asked through its own login" },
	{ HV_CAN_BIOS,         "it boots by its UEFI boot ROM" },
	{ HV_CAN_USER_NET,     "guests are on a link of the host, by a VNIC" },
	{ HV_CAN_TAP,          "illumos has VNICs instead" },
	{ HV_CAN_FORWARD,      "a guest on a VNIC has an address of its own" },
	{ HV_CAN_COMMIT,       "its disks are ZFS volumes" },
	{ 0, NULL },
};
/* clang-format on */

const struct hv_ops propolis_ops = {
	.backend = BACKEND_PROPOLIS,
	.capabilities = HV_CAN_VNIC | HV_CAN_UEFI | HV_CAN_CONSOLE | HV_CAN_SSH,
	.lacks = lacks,
	.end_words = { "stop", "halt", "halt" },
	.end_ms = { 20000, 75000, 75000 }, /* a halt has 60 s */
	.available = propolis_available,
	.info = propolis_info,
	.check_spec = propolis_check_spec,
	.open = propolis_op_open,
	.close = propolis_op_close,
	.prepare = propolis_op_prepare,
	.cancel = propolis_op_cancel,
	.unprepare = propolis_op_unprepare,
	.launch = propolis_op_launch,
	.runtime = propolis_op_runtime,
	.run = propolis_op_run,
	.adopt = propolis_op_adopt,
	.ask_shutdown = no_button,
	.end = propolis_op_end,
	.suspend = no_pause,
	.resume = no_pause,
	.state = propolis_op_state,
	.facts = propolis_op_facts,
	.console_open = propolis_op_console_open,
	.console_write = propolis_op_console_write,
	.console_offset = propolis_op_console_offset,
	.console_close = propolis_op_console_close,
	.image_removed = propolis_image_removed,
};
