/* SPDX-License-Identifier: MPL-2.0 */
#include "daemon/guest_off.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/nics.h"
#include "daemon/vm.h"
#include "daemon/vmmd.h"
#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/base/worker.h"
#include "lib/ssh/ssh.h"

/* A guest whose SSH was seen since its start answers soon; one that never was gets a chance. */
enum { SEEN_MS = 15000, UNSEEN_MS = 3000, BANNER_MS = 2000, MAX_KEY = 1 << 16, MAX_WORDS = 400 };

/* For whatever shell the user has.  illumos waits before it goes down unless it is told, and
 * its own way to root comes where there is no sudo. */
static const char script[] =
    "PATH=$PATH:/usr/sbin:/sbin\n"
    "if [ \"$(id -u)\" = 0 ]; then set --\n"
    "elif command -v sudo >/dev/null 2>&1; then set -- sudo -n\n"
    "elif command -v pfexec >/dev/null 2>&1; then set -- pfexec\n"
    "else echo 'there is no sudo' >&2; exit 1; fi\n"
    "case $(uname -s) in\n"
    "SunOS) \"$@\" shutdown -i5 -g0 -y ;;\n"
    "*) { command -v systemctl >/dev/null 2>&1 && \"$@\" systemctl poweroff; } ||\n"
    "   \"$@\" poweroff || \"$@\" shutdown -h now ;;\n"
    "esac\n";

struct guest_off {
	guest_off_fn *done; /* NULL: forgotten */
	void *arg;
	struct job *job;
	char *host, *user, *host_key, *key_path;
	uint16_t port;
	uint64_t login_ms;
	struct sbuf words; /* what the guest said */
	struct err err;
};

static void
destroy(struct guest_off *off)
{
	free(off->host);
	free(off->user);
	free(off->host_key);
	free(off->key_path);
	sbuf_done(&off->words);
	free(off);
}

/* ---- the worker ---- */

static int
login(struct guest_off *off, struct job *job, struct ssh **ret_ssh)
{
	CLEANUP_FREE char *key = NULL;
	struct ssh_target target = { .host = off->host, .port = off->port, .user = off->user,
		.host_key = off->host_key, .timeout_ms = off->login_ms, .banner_timeout_ms = BANNER_MS };
	size_t len;
	int rc = fs_read(off->key_path, MAX_KEY, &key, &len, &off->err);

	if (rc != 0)
		return rc;
	target.private_key = key;
	target.private_key_len = len;
	rc = ssh_open(&target, job, ret_ssh, &off->err);
	mem_wipe(key, len);
	return rc;
}

static void
on_words(void *arg, enum ssh_stream stream, const void *data, size_t len)
{
	struct guest_off *off = arg;
	size_t room = MAX_WORDS - off->words.len;

	sbuf_add(&off->words, data, len < room ? len : room);
}

static void
off_job(struct job *job, void *data)
{
	struct guest_off *off = data;
	CLEANUP_FREE char *quoted = ssh_quote(script), *command = xasprintf("exec sh -c %s", quoted);
	struct ssh_exec exec = { .command = command, .on_output = on_words, .arg = off };
	CLEANUP_FREE char *words = NULL;
	struct ssh_result result = { 0 };
	struct ssh *ssh = NULL;
	int rc = login(off, job, &ssh);

	if (rc != 0)
		return;
	rc = ssh_exec(ssh, &exec, job, &result, &off->err);
	ssh_close(ssh);
	/* A connection that is lost now, or a command that takes its time, is a guest going down. */
	if (rc != 0) {
		memset(&off->err, 0, sizeof(off->err));
		return;
	}
	if (result.signal[0] == '\0' && result.status == 0)
		return;
	words = str_line(off->words.data != NULL ? off->words.data : "", off->words.len);
	for (size_t len = strlen(words); len > 0 && words[len - 1] == ' '; len--)
		words[len - 1] = '\0';
	/* As its user goes, so does the shell. */
	if (result.signal[0] != '\0' && words[0] == '\0')
		return;
	err_set(&off->err, E_FAILED, "it refused: %s", words[0] != '\0' ? words : "without a word");
}

/* ---- the loop ---- */

static void
off_done(void *data)
{
	struct guest_off *off = data;

	if (off->done != NULL)
		off->done(off->arg, off->err.code != E_OK ? &off->err : NULL);
	destroy(off);
}

static int
check(struct vm *vm, struct hv_facts *facts, struct err *err)
{
	if (nics_unreachable(vm) != NULL)
		return err_set(err, E_STATE, "it %s", nics_unreachable(vm));
	if (!vm_has_login(vm))
		return err_set(err, E_AUTH, "there is no private key to log in with");
	vm->hv->ops->facts(vm->hv, facts);
	if (facts->ssh_host == NULL || facts->ssh_port == 0)
		return err_set(err, E_STATE, "its address is not known");
	return 0;
}

int
guest_off_start(struct vm *vm, uint64_t timeout_ms, guest_off_fn *done, void *arg,
    struct guest_off **ret_off, struct err *err)
{
	uint64_t patience_ms = vm->reachable ? SEEN_MS : UNSEEN_MS;
	struct hv_facts facts = { 0 };
	struct guest_off *off;
	int rc = check(vm, &facts, err);

	if (rc != 0)
		return rc;
	off = xcalloc(1, sizeof(*off));
	off->done = done;
	off->arg = arg;
	off->host = xstrdup(facts.ssh_host);
	off->port = facts.ssh_port;
	off->user = xstrdup(vm_spec_user(&vm->spec));
	off->host_key = xstrdup(vm->host_key);
	off->key_path = vm_login_key_path(vm);
	off->login_ms = timeout_ms < patience_ms ? timeout_ms : patience_ms;
	rc = worker_submit(vm->vmmd->pool, "power off", off_job, off_done, off, timeout_ms, &off->job,
	    err);
	if (rc != 0) {
		destroy(off);
		return rc;
	}
	*ret_off = off;
	return 0;
}

void
guest_off_forget(struct guest_off *off)
{
	if (off == NULL)
		return;
	off->done = NULL;
	job_cancel(off->job);
}
