/* SPDX-License-Identifier: MPL-2.0
 *
 * Inside the guest: wait until it can be reached, log in, wait for cloud-init, run the steps.
 * One worker holds the session throughout; what it learns comes back as messages. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/config.h"
#include "daemon/console.h"
#include "daemon/guest_hosts.h"
#include "daemon/guest_seed.h"
#include "daemon/nics.h"
#include "daemon/ops.h"
#include "daemon/step_wait.h"
#include "daemon/vm.h"
#include "daemon/vmmd.h"
#include "lib/base/clock.h"
#include "lib/base/fs.h"
#include "lib/base/json.h"
#include "lib/base/log.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/platform.h"
#include "lib/base/str.h"
#include "lib/base/worker.h"
#include "lib/provision/provision.h"
#include "lib/ssh/ssh.h"

enum { ATTEMPT_MS = 15000, BANNER_MS = 5000, RETRY_MS = 300, AUTH_PATIENCE_MS = 60000, MAX_KEY = 1 << 16 };

struct guest_data {
	struct operation *op;
	struct guest_args args;
	struct step_wait wait;
	uint64_t address_began_ms; /* 0: it is not waited for */
	/* the worker's copies */
	struct job *job;
	struct vm_spec spec;
	char *host, *host_key, *key_path, *log_path;
	uint16_t port;
	bool wait_cloud_init, may_strip;
	bool *pending;
	char **keys; /* of the steps */
	size_t key_count;
	size_t ran;
	struct seed_work *seed;
	int ack_fd; /* the loop has remembered a step */
	struct err err;
};

/* ---- messages from the worker ---- */

struct message {
	struct guest_data *d;
	void (*handle)(struct guest_data *d, struct message *m);
	const char *phase, *stream;
	char *text;
	size_t len, index;
	uint64_t ms;
	int number;
};

static void
on_message(void *arg)
{
	struct message *m = arg;

	m->handle(m->d, m);
	free(m->text);
	free(m);
}

static struct message *
message(struct guest_data *d, void (*handle)(struct guest_data *, struct message *))
{
	struct message *m = xcalloc(1, sizeof(*m));

	m->d = d;
	m->handle = handle;
	return m;
}

static void
post(struct guest_data *d, struct message *m)
{
	job_post(d->job, on_message, m);
}

static void
handle_phase(struct guest_data *d, struct message *m)
{
	op_subphase(d->op, m->phase, m->stream, m->text, m->ms);
	if (str_eq(m->stream, "done")) {
		vm_phase(d->op->vm, m->phase, m->ms);
		vm_save(d->op->vm);
	}
}

static void
tell_phase(struct guest_data *d, const char *phase, const char *state, const char *text, uint64_t ms)
{
	struct message *m = message(d, handle_phase);

	m->phase = phase;
	m->stream = state;
	m->text = xstrdup(text);
	m->ms = ms;
	post(d, m);
}

static void
handle_host_key(struct guest_data *d, struct message *m)
{
	struct vm *vm = d->op->vm;

	if (vm->host_key != NULL)
		return;
	vm_set_string(&vm->host_key, m->text);
	vm->host_key_injected = false;
	vm_save(vm);
}

static void
handle_cloud_init(struct guest_data *d, struct message *m)
{
	struct vm *vm = d->op->vm;
	json_object *data = json_object_new_object();

	vm->cloud_init_known = true;
	vm->cloud_init = (enum cloudinit_result)m->number;
	json_add_string(data, "result", cloudinit_result_names[m->number]);
	json_add_string(data, "detail", m->text);
	vm_tell(vm, "cloud-init", data);
	vm_save(vm);
}

static void
handle_output(struct guest_data *d, struct message *m)
{
	op_output(d->op, m->stream, m->text, m->len);
}

static void
handle_step_start(struct guest_data *d, struct message *m)
{
	op_subphase(d->op, "provision", "start", m->text, 0);
	op_progress(d->op, m->index, d->spec.provision.count, "steps");
}

static void
add_done(struct vm *vm, const char *key)
{
	for (size_t i = 0; i < vm->steps_done.count; i++)
		if (str_eq(vm->steps_done.items[i], key))
			return;
	vm->steps_done.items = xreallocarray(vm->steps_done.items, vm->steps_done.count + 1,
	    sizeof(char *));
	vm->steps_done.items[vm->steps_done.count++] = xstrdup(key);
}

static void
handle_step_done(struct guest_data *d, struct message *m)
{
	struct vm *vm = d->op->vm;
	uint64_t one = 1;
	struct err err = ERR_INIT;

	d->ran++;
	add_done(vm, d->keys[m->index]);
	if (vm_commit(vm, &err) != 0)
		log_warn("machine '%s': %s", vm->spec.name, err.msg);
	op_subphase(d->op, "provision", "step", m->text, m->ms);
	if (write(d->ack_fd, &one, sizeof(one)) < 0)
		log_debug("acknowledging a step: %s", strerror(errno));
}

/* ---- the worker ---- */

static void
on_step_start(void *arg, size_t index)
{
	struct guest_data *d = arg;
	struct message *m = message(d, handle_step_start);
	CLEANUP_FREE char *label = provision_step_label(vm_spec_step(&d->spec, index));

	m->index = index;
	m->text = xasprintf("step %zu/%zu: %s", index + 1, d->spec.provision.count, label);
	post(d, m);
}

static void
on_step_output(void *arg, size_t index, enum ssh_stream stream, const void *data, size_t len)
{
	struct message *m = message(arg, handle_output);

	m->stream = stream == SSH_STDOUT ? "stdout" : "stderr";
	m->text = xmalloc(len + 1);
	memcpy(m->text, data, len);
	m->text[len] = '\0';
	m->len = len;
	post(arg, m);
}

/* A step that is done must be remembered before the next one begins. */
static void
on_step_end(void *arg, size_t index, uint64_t took_ms, const struct err *err)
{
	struct guest_data *d = arg;
	struct message *m;
	struct pollfd fds[2] = { { .fd = d->ack_fd, .events = POLLIN },
		{ .fd = job_cancel_fd(d->job), .events = POLLIN } };
	uint64_t count;

	if (err != NULL)
		return;
	m = message(d, handle_step_done);
	m->index = index;
	m->ms = took_ms;
	m->text = provision_step_label(vm_spec_step(&d->spec, index));
	post(d, m);
	while (poll(fds, 2, -1) < 0 && errno == EINTR)
		;
	if ((fds[0].revents & POLLIN) && read(d->ack_fd, &count, sizeof(count)) < 0)
		return;
}

static bool
pause_job(struct job *job, int ms)
{
	struct pollfd fd = { .fd = job_cancel_fd(job), .events = POLLIN };

	poll(&fd, 1, ms);
	return !job_cancelled(job);
}

static int
login(struct guest_data *d, struct job *job, struct ssh **ret_ssh)
{
	CLEANUP_FREE char *key = NULL;
	struct ssh_target target = { .host = d->host, .port = d->port,
		.user = vm_spec_user(&d->spec), .host_key = d->host_key, .timeout_ms = ATTEMPT_MS,
		.banner_timeout_ms = BANNER_MS };
	uint64_t refused_at_ms = 0, began_ms = clock_ms();
	size_t len;
	int rc = fs_read(d->key_path, MAX_KEY, &key, &len, &d->err);

	if (rc != 0)
		return rc;
	target.private_key = key;
	target.private_key_len = len;
	for (;;) {
		memset(&d->err, 0, sizeof(d->err));
		rc = ssh_open(&target, job, ret_ssh, &d->err);
		if (rc != E_IO && rc != E_TIMEOUT && rc != E_AUTH)
			break;
		/* cloud-init may still be making the user: a refusal is final only after a while. */
		if (rc == E_AUTH && refused_at_ms == 0)
			refused_at_ms = clock_ms();
		if (rc == E_AUTH &&
		    (!d->wait_cloud_init || clock_ms() - refused_at_ms > AUTH_PATIENCE_MS))
			break;
		if (clock_ms() - began_ms > d->args.timeout_ms)
			break;
		if (!pause_job(job, RETRY_MS)) {
			err_wrap(&d->err, "logging in to '%s' was given up", d->spec.name);
			d->err.code = job_timed_out(job) ? E_TIMEOUT : E_CANCELLED;
			return d->err.code;
		}
	}
	mem_wipe(key, len);
	if (rc != 0)
		err_wrap(&d->err, "logging in to '%s' as '%s'", d->spec.name, target.user);
	return rc;
}

struct collect {
	struct sbuf out;
};

static void
collect_output(void *arg, enum ssh_stream stream, const void *data, size_t len)
{
	struct collect *c = arg;

	if (stream == SSH_STDOUT && c->out.len + len < 65536)
		sbuf_add(&c->out, data, len);
}

static int
await_cloud_init(struct guest_data *d, struct job *job, struct ssh *ssh)
{
	struct collect c = { 0 };
	struct ssh_exec exec = { .command = cloudinit_status_command(), .on_output = collect_output,
		.arg = &c };
	CLEANUP_FREE char *detail = NULL;
	struct ssh_result result;
	enum cloudinit_result answer;
	struct message *m;
	int rc = ssh_exec(ssh, &exec, job, &result, &d->err);

	if (rc != 0) {
		sbuf_done(&c.out);
		return err_wrap(&d->err, "waiting for cloud-init in '%s'", d->spec.name);
	}
	answer = cloudinit_status_parse(result.signal[0] != '\0' ? 255 : result.status,
	    c.out.data != NULL ? c.out.data : "", &detail);
	sbuf_done(&c.out);
	m = message(d, handle_cloud_init);
	m->number = (int)answer;
	m->text = xstrdup(detail);
	post(d, m);
	if (answer == CLOUDINIT_ERROR) {
		err_set(&d->err, E_FAILED, "cloud-init failed in '%s': %s", d->spec.name,
		    detail != NULL ? detail : "no detail");
		err_hint(&d->err, "'vmctl exec %s -- cloud-init status --long' and "
				  "/var/log/cloud-init.log tell more", d->spec.name);
		return E_FAILED;
	}
	return 0;
}

static int
set_up(struct guest_data *d, struct job *job, struct ssh *ssh)
{
	uint64_t began = clock_ms();
	struct message *m = message(d, handle_host_key);
	int rc;

	m->text = xstrdup(ssh_host_key(ssh));
	post(d, m);
	if (!d->wait_cloud_init)
		return 0;
	tell_phase(d, "cloud-init", "start", NULL, 0);
	rc = await_cloud_init(d, job, ssh);
	tell_phase(d, "cloud-init", rc == 0 ? "done" : "failed", rc == 0 ? NULL : d->err.msg,
	    clock_ms() - began);
	if (rc == 0 && d->may_strip)
		rc = seed_work_strip(d->seed, &d->err);
	return rc;
}

/* Names that others were given meanwhile.  A guest that does not let itself be told is no worse than
 * before: it hears of them at its next boot. */
static void
tell_hosts(struct guest_data *d, struct job *job, struct ssh *ssh)
{
	struct err err = ERR_INIT;

	if (guest_hosts_any(&d->spec) && guest_hosts_write(&d->spec, ssh, job, &err) != 0)
		tell_phase(d, "hosts", "note", err.msg, 0);
}

static void
guest_job(struct job *job, void *data)
{
	struct guest_data *d = data;
	struct provision_run run = { .spec = &d->spec, .pending = d->pending,
		.user = vm_spec_user(&d->spec), .log_path = d->log_path,
		.events = { on_step_start, on_step_output, on_step_end, d } };
	uint64_t began = clock_ms();
	struct ssh *ssh = NULL;
	int rc;

	d->job = job;
	tell_phase(d, "login", "start", NULL, 0);
	rc = login(d, job, &ssh);
	tell_phase(d, "login", rc == 0 ? "done" : "failed", rc == 0 ? NULL : d->err.msg,
	    clock_ms() - began);
	if (rc != 0)
		return;
	rc = set_up(d, job, ssh);
	if (rc == 0)
		tell_hosts(d, job, ssh);
	began = clock_ms();
	if (rc == 0 && d->args.steps) {
		rc = provision_run(ssh, &run, job, &d->err);
		tell_phase(d, "provision", rc == 0 ? "done" : "failed",
		    rc == 0 ? NULL : d->err.msg, clock_ms() - began);
	}
	ssh_close(ssh);
}

/* ---- step: boot ---- */

/* The wait for an address of somebody else's giving has a name and a time of its own. */
static void
tell_address(struct operation *op)
{
	struct guest_data *d = op->data;
	struct hv_facts facts = { 0 };
	uint64_t ms;

	op->vm->hv->ops->facts(op->vm->hv, &facts);
	if (facts.address_seen == NULL)
		return;
	if (facts.ssh_host == NULL && d->address_began_ms == 0) {
		d->address_began_ms = clock_ms();
		op_subphase(op, "address", "start", facts.address_seen, 0);
	} else if (facts.ssh_host != NULL && d->address_began_ms != 0) {
		ms = clock_ms() - d->address_began_ms;
		d->address_began_ms = 0;
		op_subphase(op, "address", "done", facts.ssh_host, ms);
		vm_phase(op->vm, "address", ms);
	}
}

static int
is_reachable(struct operation *op, struct err *err)
{
	struct vm *vm = op->vm;

	if (vm->state == VM_RUNNING)
		tell_address(op);
	if (vm->reachable)
		return 1;
	if (vm->state == VM_RUNNING)
		return 0;
	err_set(err, E_STATE, "machine '%s' is %s%s%s; it can not be reached", vm->spec.name,
	    vm_state_names[vm->state], vm->reason != NULL ? ": " : "",
	    vm->reason != NULL ? vm->reason : "");
	err_hint(err, "'vmctl log --console %s' shows how far it came", vm->spec.name);
	return -1;
}

static void
unreachable(struct operation *op, struct err *err)
{
	CLEANUP_FREE char *last = console_last_line(op->vm);
	struct hv_facts facts = { 0 };

	op->vm->hv->ops->facts(op->vm->hv, &facts);
	if (facts.ssh_host == NULL && facts.address_seen != NULL) {
		err_set(err, E_TIMEOUT, "machine '%s' had no address in time; seen: %s%s%s%s",
		    op->vm_name, facts.address_seen,
		    last != NULL ? "; its console's last line: '" : "", last != NULL ? last : "",
		    last != NULL ? "'" : "");
		err_hint(err, "is there a DHCP server on the bridge '%s', and does the guest ask it?",
		    vm_spec_login_nic(&op->vm->spec, NULL)->bridge);
		return;
	}

	err_set(err, E_TIMEOUT, "machine '%s' did not answer on its SSH port in time%s%s%s",
	    op->vm_name, last != NULL ? "; its console's last line: '" : "",
	    last != NULL ? last : "", last != NULL ? "'" : "");
	err_hint(err, "'vmctl log --console %s' shows how far it came", op->vm_name);
}

static enum step_result
boot_run(struct operation *op, struct err *err)
{
	struct guest_data *d = op->data;

	if (vm_is_noop(op->vm))
		return STEP_DONE;
	return step_wait_start(&d->wait, op, d->args.timeout_ms, is_reachable, unreachable, err);
}

static void
boot_cancel(struct operation *op)
{
	struct guest_data *d = op->data;

	step_wait_cancel(&d->wait);
}

/* ---- step: guest ---- */

static bool
is_done(const struct vm *vm, const char *key)
{
	for (size_t i = 0; i < vm->steps_done.count; i++)
		if (str_eq(vm->steps_done.items[i], key))
			return true;
	return false;
}

static bool
runs_always(const struct provision_step *step)
{
	return (step->shell.present ? step->shell.run : step->file.run) == RUN_ALWAYS;
}

/* Which steps are due; what is remembered of steps that no longer exist is forgotten. */
static void
plan_steps(struct guest_data *d, struct vm *vm)
{
	size_t count = vm->spec.provision.count, kept = 0;
	struct strings old = vm->steps_done;
	char space[32];

	d->pending = xcalloc(count, sizeof(*d->pending));
	d->keys = xcalloc(count, sizeof(*d->keys));
	d->key_count = count;
	for (size_t i = 0; i < count; i++) {
		const struct provision_step *step = vm_spec_step(&vm->spec, i);

		d->keys[i] = provision_step_key(step, i, vm_generation(vm, space));
		d->pending[i] = d->args.force || runs_always(step) || !is_done(vm, d->keys[i]);
	}
	for (size_t i = 0; i < old.count; i++) {
		bool known = false;

		for (size_t k = 0; k < count; k++)
			known = known || str_eq(d->keys[k], old.items[i]);
		if (known)
			old.items[kept++] = old.items[i];
		else
			free(old.items[i]);
	}
	vm->steps_done.count = kept;
}

static void
guest_done(void *data)
{
	struct guest_data *d = data;
	struct operation *op = d->op;
	struct vm *vm = op->vm;
	bool interrupted = d->err.code == E_CANCELLED;

	d->job = NULL;
	if (d->err.code == E_OK && d->may_strip)
		vm->seed_stripped = true;
	if (d->args.steps) {
		vm->provision = d->err.code == E_OK ? PROVISION_DONE
		    : interrupted ? PROVISION_INTERRUPTED : PROVISION_FAILED;
		vm_set_string(&vm->provision_error, d->err.code == E_OK ? NULL : d->err.msg);
	}
	op->result = json_object_new_object();
	json_add_string(op->result, "name", vm->spec.name);
	json_add_int(op->result, "ran", (int64_t)d->ran);
	json_add_int(op->result, "steps", (int64_t)vm->spec.provision.count);
	vm_save(vm);
	if (d->err.code != E_OK)
		op_step_failed(op, &d->err);
	else
		op_step_done(op);
}

/* The no-op backend has no guest: its steps are recorded. */
static enum step_result
record_steps(struct guest_data *d, struct vm *vm)
{
	for (size_t i = 0; i < vm->spec.provision.count && d->args.steps; i++) {
		if (!d->pending[i])
			continue;
		add_done(vm, d->keys[i]);
		d->ran++;
	}
	if (d->args.steps)
		vm->provision = PROVISION_DONE;
	vm_save(vm);
	d->op->result = json_object_new_object();
	json_add_string(d->op->result, "name", vm->spec.name);
	json_add_int(d->op->result, "ran", (int64_t)d->ran);
	json_add_int(d->op->result, "steps", (int64_t)vm->spec.provision.count);
	return STEP_DONE;
}

/* Login and cloud-init may each take the whole patience, and each step its own time. */
static uint64_t
longest(const struct guest_data *d)
{
	uint64_t ms = 2 * d->args.timeout_ms;

	for (size_t i = 0; i < d->spec.provision.count; i++) {
		const struct provision_step *step = vm_spec_step(&d->spec, i);

		ms += step->shell.present ? step->shell.timeout_ms : step->file.timeout_ms;
	}
	return ms;
}

static enum step_result
guest_run(struct operation *op, struct err *err)
{
	struct guest_data *d = op->data;
	struct vm *vm = op->vm;
	struct hv_facts facts = { 0 };

	d->op = op;
	plan_steps(d, vm);
	if (vm_is_noop(vm))
		return record_steps(d, vm);
	vm->hv->ops->facts(vm->hv, &facts);
	if (facts.ssh_host == NULL || facts.ssh_port == 0) {
		err_set(err, E_STATE, "machine '%s' has no address to log in to", vm->spec.name);
		return STEP_FAILED;
	}
	vm_spec_copy(&d->spec, &vm->spec);
	d->host = xstrdup(facts.ssh_host);
	d->port = facts.ssh_port;
	d->host_key = xstrdup(vm->host_key);
	d->key_path = vm_login_key_path(vm);
	d->log_path = vm_path(vm, "provision.log");
	d->wait_cloud_init = vm->spec.cloud_init.present;
	d->may_strip = d->wait_cloud_init && !vm->seed_stripped && vm->seed_instance != NULL;
	d->seed = seed_work_create(vm);
	d->ack_fd = platform_event_fd();
	if (d->args.steps && vm->spec.provision.count > 0) {
		vm->provision = PROVISION_RUNNING;
		if (vm_commit(vm, err) != 0)
			return STEP_FAILED;
	}
	if (worker_submit(op->vmmd->pool, "guest", guest_job, guest_done, d, longest(d), &d->job, err) != 0)
		return STEP_FAILED;
	return STEP_WAIT;
}

static void
guest_cancel(struct operation *op)
{
	struct guest_data *d = op->data;

	if (d->job != NULL)
		job_cancel(d->job);
}

static void
guest_release(struct operation *op)
{
	struct guest_data *d = op->data;

	step_wait_done(&d->wait);
	for (size_t i = 0; i < d->key_count; i++)
		free(d->keys[i]);
	vm_spec_release(&d->spec);
	free(d->keys);
	free(d->pending);
	free(d->host);
	free(d->host_key);
	free(d->key_path);
	free(d->log_path);
	seed_work_destroy(d->seed);
	if (d->ack_fd >= 0)
		close(d->ack_fd);
	free(d);
}

static const struct op_step steps[] = {
	{ "boot", boot_run, boot_cancel, NULL },
	{ "guest", guest_run, guest_cancel, NULL },
};
const struct op_kind op_kind_guest = { "vm.provision", steps, ARRAY_LEN(steps), guest_release,
	NULL };

bool
vm_needs_guest_work(const struct vm *vm)
{
	if (vm->spec.provision.count > 0 && vm->provision != PROVISION_DONE)
		return true;
	return !vm_is_noop(vm) && vm_has_login(vm) && vm->spec.cloud_init.present &&
	    !vm->cloud_init_known;
}

int
ops_guest(struct vm *vm, struct guest_args args, const struct op_call *call, struct err *err)
{
	struct guest_data *d;

	if (vm->state != VM_RUNNING) {
		err_set(err, E_STATE, "machine '%s' is %s; cannot provision it", vm->spec.name,
		    vm_state_names[vm->state]);
		err_hint(err, "'vmctl start %s' first", vm->spec.name);
		err_object(err, vm->spec.name);
		return E_STATE;
	}
	if (!vm_is_noop(vm) && nics_unreachable(vm) != NULL) {
		err_set(err, E_STATE, "machine '%s' %s, so there is no SSH to it", vm->spec.name,
		    nics_unreachable(vm));
		err_hint(err, "'vmctl console %s' reaches it", vm->spec.name);
		err_object(err, vm->spec.name);
		return E_STATE;
	}
	if (!vm_is_noop(vm) && !vm_has_login(vm)) {
		err_set(err, E_AUTH, "there is no private key to log in to machine '%s' with",
		    vm->spec.name);
		err_hint(err, "give it 'ssh: {private-key: …}', or leave user-data and ssh-key out of "
			      "its cloud-init block so that a key is made");
		err_object(err, vm->spec.name);
		return E_AUTH;
	}
	d = xcalloc(1, sizeof(*d));
	d->ack_fd = -1;
	d->args = args;
	if (d->args.timeout_ms == 0)
		d->args.timeout_ms = vm->vmmd->config->ready_timeout_ms;
	return op_start(vm->vmmd, &op_kind_guest, vm, d, 0, call, NULL, err);
}
