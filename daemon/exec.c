/* SPDX-License-Identifier: MPL-2.0
 *
 * vm.exec: a worker holds the SSH session and, after the answer, the client's socket itself; the
 * loop is not in the way of the bytes. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/config.h"
#include "daemon/methods.h"
#include "daemon/nics.h"
#include "daemon/vm.h"
#include "daemon/vmmd.h"
#include "lib/base/frame.h"
#include "lib/base/fs.h"
#include "lib/base/json.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/base/stream.h"
#include "lib/base/worker.h"
#include "lib/ssh/ssh.h"

enum { LOGIN_MS = 20000, MAX_KEY = 1 << 16, SEND_MS = 5000 };

struct exec {
	struct vmmd *vmmd;
	struct request *request; /* until the login worked */
	char vm_id[13];
	char *name, *host, *user, *host_key, *key_path, *command, *term;
	uint16_t port;
	bool tty;
	unsigned columns, rows;
	struct ssh *ssh; /* between the two jobs */
	struct stream *stream;
	int fd;
	struct err err;
};

static void
exec_destroy(struct exec *e)
{
	if (e->fd >= 0)
		close(e->fd);
	free(e->name);
	free(e->host);
	free(e->user);
	free(e->host_key);
	free(e->key_path);
	free(e->command);
	free(e->term);
	free(e);
}

/* ---- second job: the command ---- */

static void
relay_job(struct job *job, void *data)
{
	struct exec *e = data;
	struct ssh_relay relay = { e->command, e->tty, e->term, e->columns, e->rows };

	ssh_relay(e->ssh, &relay, e->fd, job, &e->err);
	ssh_close(TAKE(e->ssh));
}

/* A command that could not be run to its end is told as a last frame. */
static void
relay_done(void *data)
{
	struct exec *e = data;
	unsigned char head[FRAME_HEADER];
	CLEANUP_JSON json_object *end = NULL;
	const char *text;

	if (e->ssh != NULL)
		ssh_close(e->ssh); /* cancelled before it ran */
	if (e->err.code != E_OK) {
		end = json_object_new_object();
		json_add_string(end, "error", e->err.msg);
		json_add_string(end, "name", err_name(e->err.code));
		text = json_object_to_json_string_ext(end, JSON_TEXT_FLAGS);
		frame_header(head, FRAME_EXIT, strlen(text));
		if (fs_write_all(e->fd, head, sizeof(head)) == 0)
			fs_write_all(e->fd, text, strlen(text));
	}
	exec_destroy(e);
}

static void
begin_relay(struct exec *e)
{
	struct err err = ERR_INIT;

	e->fd = stream_detach(TAKE(e->stream));
	if (worker_submit(e->vmmd->pool, "exec", relay_job, relay_done, e, 0, NULL, &err) != 0) {
		e->err = err;
		relay_done(e);
	}
}

static void
on_input(void *arg)
{
	/* Paused from the start: the bytes stay in the socket for the worker. */
}

/* The answer must have left before the socket changes hands. */

static void
on_drained(void *arg)
{
	begin_relay(arg);
}

static void
on_closed(void *arg, int errno_value)
{
	struct exec *e = arg;

	stream_destroy(TAKE(e->stream));
	ssh_close(TAKE(e->ssh));
	exec_destroy(e);
}

static const struct stream_handler handler = { on_input, on_drained, on_closed };

/* ---- first job: the login ---- */

static void
login_job(struct job *job, void *data)
{
	struct exec *e = data;
	struct ssh_target target = { .host = e->host, .port = e->port, .user = e->user,
		.host_key = e->host_key, .timeout_ms = LOGIN_MS };
	CLEANUP_FREE char *key = NULL;
	size_t len;

	if (fs_read(e->key_path, MAX_KEY, &key, &len, &e->err) != 0)
		return;
	target.private_key = key;
	target.private_key_len = len;
	if (ssh_open(&target, job, &e->ssh, &e->err) != 0)
		err_wrap(&e->err, "logging in to '%s' as '%s'", e->name, e->user);
	mem_wipe(key, len);
}

static void
learn_host_key(struct exec *e)
{
	struct vm *vm = vm_by_id(e->vmmd, e->vm_id);

	if (vm == NULL || vm->host_key != NULL || e->ssh == NULL)
		return;
	vm_set_string(&vm->host_key, ssh_host_key(e->ssh));
	vm->host_key_injected = false;
	vm_save(vm);
}

static void
login_done(void *data)
{
	struct exec *e = data;
	json_object *result;

	if (e->ssh == NULL) {
		if (e->err.code == E_OK)
			err_set(&e->err, E_CANCELLED, "the login to '%s' was cancelled", e->name);
		request_fail(e->request, &e->err);
		exec_destroy(e);
		return;
	}
	learn_host_key(e);
	result = json_object_new_object();
	json_add_string(result, "name", e->name);
	e->stream = request_upgrade(e->request, result);
	if (e->stream == NULL) {
		ssh_close(e->ssh);
		exec_destroy(e);
		return;
	}
	/* Nothing is read here any more: what the client sends is the worker's. */
	stream_pause(e->stream, true);
	if (stream_queued(e->stream) == 0) {
		begin_relay(e);
		return;
	}
	stream_set_handler(e->stream, &handler, e);
}

/* ---- the method ---- */

static char *
quote_all(const struct strings *words)
{
	struct sbuf out = { 0 };

	for (size_t i = 0; i < words->count; i++) {
		CLEANUP_FREE char *quoted = ssh_quote(words->items[i]);

		sbuf_addf(&out, "%s%s", i > 0 ? " " : "", quoted);
	}
	return sbuf_take(&out);
}

static int
check(struct vm *vm, struct hv_facts *facts, struct err *err)
{
	const char *unreachable = nics_unreachable(vm);

	if (vm->hv != NULL && vm->runtime != NULL)
		vm->hv->ops->facts(vm->hv, facts);
	if (vm->state != VM_RUNNING || facts->ssh_host == NULL || facts->ssh_port == 0) {
		err_set(err, E_STATE, "machine '%s' is %s; nothing can be run in it%s%s", vm->spec.name,
		    vm_state_names[vm->state],
		    vm_is_noop(vm) ? " (backend noop has no guest)"
		    : unreachable != NULL ? ": it "
		    : facts->address_seen != NULL ? ": it has no address yet" : "",
		    !vm_is_noop(vm) && unreachable != NULL ? unreachable : "");
		if (facts->address_seen != NULL)
			err_hint(err, "it is looked for; so far: %s", facts->address_seen);
		err_object(err, vm->spec.name);
		return E_STATE;
	}
	if (vm_has_login(vm))
		return 0;
	err_set(err, E_AUTH, "there is no private key to log in to machine '%s' with", vm->spec.name);
	err_hint(err, "give it 'ssh: {private-key: …}'");
	err_object(err, vm->spec.name);
	return E_AUTH;
}

void
method_vm_exec(struct vmmd *vmmd, struct request *request, void *args)
{
	struct vm_exec_args *a = args;
	struct hv_facts facts = { 0 };
	struct err err = ERR_INIT;
	struct exec *e;
	struct vm *vm;

	if (vm_lookup(vmmd, a->name, request_peer(request)->uid, &vm, &err) != 0 ||
	    check(vm, &facts, &err) != 0) {
		request_fail(request, &err);
		return;
	}
	e = xcalloc(1, sizeof(*e));
	e->vmmd = vmmd;
	e->request = request;
	e->fd = -1;
	memcpy(e->vm_id, vm->id, sizeof(e->vm_id));
	e->name = xstrdup(vm->spec.name);
	e->host = xstrdup(facts.ssh_host);
	e->port = facts.ssh_port;
	e->user = xstrdup(vm_spec_user(&vm->spec));
	e->host_key = xstrdup(vm->host_key);
	e->key_path = vm_login_key_path(vm);
	e->command = quote_all(&a->command);
	e->term = xstrdup(a->term);
	e->tty = a->tty;
	e->columns = (unsigned)a->columns;
	e->rows = (unsigned)a->rows;
	if (worker_submit(vmmd->pool, "exec", login_job, login_done, e, LOGIN_MS + 5000, NULL, &err) != 0) {
		request_fail(request, &err);
		exec_destroy(e);
	}
}
