/* SPDX-License-Identifier: MPL-2.0
 *
 * Steps, one after the other, over one SSH session. */
#include <errno.h>
#include <fcntl.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/base/worker.h"
#include "lib/provision/log.h"
#include "lib/provision/provision.h"

enum {
	TAIL_MAX = 1000, /* bytes of output that an error quotes */
	TAIL_LINES = 10,
	COMMAND_MAX = 32000, /* of an argument; a longer one goes over stdin */
	CLEAN_UP_MS = 10000,
};

struct runner {
	struct ssh *ssh;
	struct job *job;
	const struct provision_run *run;
	struct provision_log log;
	size_t index;
	const char *proven; /* whom sudo let us become before */
	uint64_t until_ms;  /* the end of the step's time; 0: it has all */
	char tail[TAIL_MAX + 1]; /* the last of what the step said */
	size_t tail_len;
};

/* ---- output ---- */

static void
keep_tail(struct runner *r, const char *data, size_t len)
{
	size_t drop;

	if (len > TAIL_MAX) {
		data += len - TAIL_MAX;
		len = TAIL_MAX;
	}
	drop = r->tail_len + len > TAIL_MAX ? r->tail_len + len - TAIL_MAX : 0;
	memmove(r->tail, r->tail + drop, r->tail_len - drop);
	memcpy(r->tail + r->tail_len - drop, data, len);
	r->tail_len += len - drop;
	r->tail[r->tail_len] = '\0';
}

static void
on_output(void *arg, enum ssh_stream stream, const void *data, size_t len)
{
	struct runner *r = arg;
	const struct provision_events *events = &r->run->events;

	provision_log_output(&r->log, stream, data, len);
	keep_tail(r, data, len);
	if (events->on_output != NULL)
		events->on_output(events->arg, r->index, stream, data, len);
}

static void
on_words(void *arg, enum ssh_stream stream, const void *data, size_t len)
{
	keep_tail(arg, data, len);
}

/* Owned: the last lines, each indented under a message; "" when nothing was said. */
static char *
last_lines(const struct runner *r)
{
	const char *start = r->tail, *end = r->tail + r->tail_len;
	struct sbuf out = { 0 };
	unsigned lines = 0;

	while (end > start && (end[-1] == '\n' || end[-1] == '\r'))
		end--;
	for (const char *p = end; p > start; p--)
		if (p[-1] == '\n' && ++lines == TAIL_LINES)
			start = p;
	if (r->tail_len == TAIL_MAX && start == r->tail &&
	    memchr(start, '\n', (size_t)(end - start)))
		start = (const char *)memchr(start, '\n', (size_t)(end - start)) + 1;
	while (start < end) {
		const char *stop = memchr(start, '\n', (size_t)(end - start));
		size_t len = (size_t)((stop != NULL ? stop : end) - start);
		CLEANUP_FREE char *line =
		    str_printable(start, len > 0 && start[len - 1] == '\r' ? len - 1 : len);

		sbuf_addf(&out, "\n    %s", line);
		start += len + (stop != NULL);
	}
	return sbuf_take(&out);
}

static uint64_t
time_left(const struct runner *r)
{
	uint64_t now = clock_ms();

	if (r->until_ms == 0)
		return 0;
	return r->until_ms > now ? r->until_ms - now : 1;
}

/* ---- becoming somebody else ---- */

static bool
is_login(const struct runner *r, const char *user)
{
	return user == NULL || str_eq(user, r->run->user);
}

/* Asked first, so that a guest without sudo is not taken for a step that failed. */
static int
check_sudo(struct runner *r, const char *user, struct err *err)
{
	CLEANUP_FREE char *quoted = ssh_quote(user), *command = NULL, *said = NULL;
	struct ssh_exec exec = { .on_output = on_words, .arg = r, .timeout_ms = time_left(r) };
	struct ssh_result result;
	int rc;

	if (str_eq(user, r->proven))
		return 0;
	command = xasprintf("sudo -n -u %s -- true", quoted);
	exec.command = command;
	rc = ssh_exec(r->ssh, &exec, r->job, &result, err);
	if (rc != 0)
		return rc;
	if (result.status == 0 && result.signal[0] == '\0') {
		r->tail_len = 0;
		r->proven = user;
		return 0;
	}
	said = last_lines(r);
	if (result.status == 127)
		err_set(err, E_PROVISION, "needs sudo, which the guest does not have");
	else
		err_set(err, E_PROVISION, "'%s' may not become '%s' by sudo without a password:%s",
		    r->run->user, user, said);
	err_hint(err, "log in as a user with that right, or leave out 'as' and 'owner'");
	return E_PROVISION;
}

/* ---- shell ---- */

static int
judge(struct runner *r, const struct ssh_result *result, bool script, struct err *err)
{
	CLEANUP_FREE char *said = NULL;

	if (result->status == 0 && result->signal[0] == '\0')
		return 0;
	said = last_lines(r);
	if (result->signal[0] != '\0')
		err_set(err, E_PROVISION, "was ended by signal %s%s%s", result->signal,
		    *said != '\0' ? "; it last said:" : "", said);
	else
		err_set(err, E_PROVISION, "ended with status %d%s%s", result->status,
		    *said != '\0' ? "; it last said:" : " and said nothing", said);
	if (script && result->status == 126)
		err_hint(err,
		    "is /tmp mounted noexec in the guest, or is the script's interpreter missing?");
	return E_PROVISION;
}

/* Runs text in the login shell, as another user in the same kind of shell. */
static int
run_text(
    struct runner *r, const struct shell_step *step, const char *text, bool script, struct err *err)
{
	CLEANUP_FREE char *full = NULL, *quoted = NULL, *user = NULL, *command = NULL;
	struct ssh_exec exec = { .command = text,
		.env = &step->env,
		.on_output = on_output,
		.arg = r,
		.timeout_ms = time_left(r) };
	struct ssh_result result;
	int rc;

	if (!is_login(r, step->as)) {
		full = ssh_with_env(text, &step->env); /* sudo lets none of it through */
		user = ssh_quote(step->as);
		if (strlen(full) > COMMAND_MAX) {
			CLEANUP_FREE char *loader =
			    xasprintf("eval \"$(head -c %zu)\"", strlen(full));

			exec.input = full;
			exec.input_len = strlen(full);
			quoted = ssh_quote(loader);
		} else {
			quoted = ssh_quote(full);
		}
		command =
		    xasprintf("exec sudo -n -H -u %s -- \"${SHELL:-/bin/sh}\" -c %s", user, quoted);
		exec.command = command;
		exec.env = NULL;
	}
	rc = ssh_exec(r->ssh, &exec, r->job, &result, err);
	return rc != 0 ? rc : judge(r, &result, script, err);
}

/* Whatever happened to the step, and also when the job was cancelled. */
static void
remove_script(struct runner *r, const char *path, bool sudo)
{
	CLEANUP_FREE char *command = xasprintf("%srm -f %s", sudo ? "sudo -n " : "", path);
	struct ssh_exec exec = { .command = command, .timeout_ms = CLEAN_UP_MS };
	struct ssh_result result;

	if (ssh_exec(r->ssh, &exec, NULL, &result, NULL) != 0 || result.status != 0)
		provision_log_say(&r->log, "%s could not be removed from the guest", path);
}

static int
open_file(const struct file_ref *file, int *ret_fd, struct err *err)
{
	if (file->kind != FILE_PATH)
		return err_set(err, E_INTERNAL, "'%s' is not at hand", file_ref_shown(file));
	*ret_fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (*ret_fd < 0)
		return err_errno(err, E_IO, errno, "can not open '%s'", file_ref_shown(file));
	return 0;
}

static int
run_script(struct runner *r, const struct shell_step *step, struct err *err)
{
	bool sudo = !is_login(r, step->as);
	CLEANUP_FREE char *word = NULL, *path = NULL, *command = NULL;
	struct ssh_upload upload = { .mode = 0700, .sudo = sudo, .timeout_ms = time_left(r) };
	unsigned char random[16] = { 0 };
	CLEANUP_FD int fd = -1;
	int rc = open_file(&step->script, &fd, err);

	if (rc != 0)
		return rc;
	RAND_bytes(random, sizeof(random));
	word = str_hex(random, sizeof(random));
	path = xasprintf("/tmp/vmm-%s", word);
	command = xasprintf("exec %s", path);
	upload.fd = fd;
	upload.destination = path;
	upload.owner = sudo ? step->as : NULL;
	rc = ssh_upload(r->ssh, &upload, r->job, err);
	if (rc == 0)
		rc = run_text(r, step, command, true, err);
	remove_script(r, path, sudo);
	return rc;
}

static int
run_shell(struct runner *r, const struct shell_step *step, struct err *err)
{
	int rc = is_login(r, step->as) ? 0 : check_sudo(r, step->as, err);

	if (rc != 0)
		return rc;
	if (step->run_inline != NULL)
		return run_text(r, step, step->run_inline, false, err);
	return run_script(r, step, err);
}

/* ---- file ---- */

static int
run_file(struct runner *r, const struct file_step *step, struct err *err)
{
	struct ssh_upload upload = { .destination = step->destination,
		.owner = is_login(r, step->owner) ? NULL : step->owner,
		.timeout_ms = time_left(r) };
	CLEANUP_FD int fd = -1;
	int rc = 0;

	upload.mode = step->mode != NULL ? (unsigned)strtoul(step->mode, NULL, 8) : 0644;
	upload.sudo = upload.owner != NULL && !str_eq(r->run->user, "root");
	if (upload.sudo)
		rc = check_sudo(r, "root", err);
	if (rc == 0)
		rc = open_file(&step->source, &fd, err);
	if (rc != 0)
		return rc;
	upload.fd = fd;
	rc = ssh_upload(r->ssh, &upload, r->job, err);
	if (rc != E_FAILED)
		return rc;
	err->code = E_PROVISION;
	if (!upload.sudo && strstr(err->msg, "ermission denied") != NULL)
		err_hint(err, "'owner: root' writes it by sudo");
	return E_PROVISION;
}

/* ---- the list ---- */

static void
describe(struct runner *r, const char *label, uint64_t timeout_ms, struct err *err)
{
	const char *name = r->run->spec->name;
	size_t number = r->index + 1;

	if (err->code == E_TIMEOUT && job_timed_out(r->job))
		err_set(err, E_TIMEOUT, "machine '%s': the deadline passed in step %zu (%s)", name,
		    number, label);
	else if (err->code == E_TIMEOUT)
		err_set(err, E_TIMEOUT, "machine '%s': step %zu (%s) did not end within %.10g s",
		    name, number, label, (double)timeout_ms / 1000);
	else if (err->code == E_CANCELLED)
		err_set(err, E_CANCELLED, "machine '%s': step %zu (%s) was cancelled", name, number,
		    label);
	else
		err_wrap(err, "machine '%s': step %zu (%s)%s", name, number, label,
		    err->code == E_PROVISION ? "" : " failed");
	if (err->hint[0] == '\0')
		err_hint(err, "'vmctl log --provision %s' has what it said", name);
	err_object(err, name);
}

static int
run_step(struct runner *r, const struct provision_step *step, struct err *err)
{
	const struct provision_events *events = &r->run->events;
	uint64_t timeout_ms = step->shell.present ? step->shell.timeout_ms : step->file.timeout_ms;
	CLEANUP_FREE char *label = provision_step_label(step);
	uint64_t start = clock_ms(), took;
	int rc;

	r->tail_len = 0;
	r->until_ms = timeout_ms != 0 ? start + timeout_ms : 0;
	provision_log_step(&r->log);
	provision_log_say(&r->log, "step %zu: %s", r->index + 1, label);
	if (events->on_start != NULL)
		events->on_start(events->arg, r->index);
	rc = step->shell.present ? run_shell(r, &step->shell, err) : run_file(r, &step->file, err);
	took = clock_ms() - start;
	if (rc != 0)
		describe(r, label, timeout_ms, err);
	provision_log_say(&r->log, "step %zu: %s after %llu.%03llu s", r->index + 1,
	    rc == 0 ? "done" : err->msg, (unsigned long long)took / 1000,
	    (unsigned long long)took % 1000);
	if (events->on_end != NULL)
		events->on_end(events->arg, r->index, took, rc == 0 ? NULL : err);
	return rc;
}

int
provision_run(struct ssh *ssh, const struct provision_run *run, struct job *job, struct err *err)
{
	struct runner *r = xcalloc(1, sizeof(*r));
	struct err own = ERR_INIT;
	int rc = 0;

	*r = (struct runner){ .ssh = ssh, .job = job, .run = run };
	provision_log_open(&r->log, run->log_path);
	for (size_t i = 0; rc == 0 && i < run->spec->provision.count; i++)
		if (run->pending[i]) {
			r->index = i;
			rc = run_step(r, vm_spec_step(run->spec, i), &own);
		}
	provision_log_close(&r->log);
	free(r);
	if (rc != 0 && err != NULL)
		*err = own;
	return rc;
}
