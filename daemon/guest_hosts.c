/* SPDX-License-Identifier: MPL-2.0 */
#include "daemon/guest_hosts.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/cloudinit/cloudinit.h"
#include "lib/model/spec.h"
#include "lib/ssh/ssh.h"

enum { MAX_WORDS = 400 };

/* For whatever shell the user has. */
static const char become_root[] =
    "if [ \"$(id -u)\" = 0 ]; then exec sh -c \"$1\"\n"
    "elif command -v sudo >/dev/null 2>&1; then exec sudo -n sh -c \"$1\"\n"
    "else echo 'there is no sudo' >&2; exit 1; fi\n";

bool
guest_hosts_any(const struct vm_spec *spec)
{
	for (size_t i = 0; i < vm_spec_nic_count(spec); i++)
		if (vm_spec_nic(spec, i)->hosts.count > 0)
			return true;
	return false;
}

static void
on_words(void *arg, enum ssh_stream stream, const void *data, size_t len)
{
	struct sbuf *words = arg;
	size_t room = MAX_WORDS - words->len;

	sbuf_add(words, data, len < room ? len : room);
}

static char *
script_of(const struct vm_spec *spec)
{
	struct strings hosts = { 0 };
	char *script;

	for (size_t i = 0; i < vm_spec_nic_count(spec); i++) {
		const struct strings *own = &vm_spec_nic(spec, i)->hosts;

		for (size_t k = 0; k < own->count; k++)
			strings_add(&hosts, own->items[k]);
	}
	script = seed_hosts_script(hosts.items, hosts.count);
	strings_done(&hosts);
	return script;
}

int
guest_hosts_write(const struct vm_spec *spec, struct ssh *ssh, struct job *job, struct err *err)
{
	CLEANUP_FREE char *script = script_of(spec), *quoted = ssh_quote(script);
	CLEANUP_FREE char *root = ssh_quote(become_root), *words = NULL;
	CLEANUP_FREE char *command = xasprintf("exec sh -c %s sh %s", root, quoted);
	struct sbuf said = { 0 };
	struct ssh_exec exec = { .command = command, .on_output = on_words, .arg = &said };
	struct ssh_result result = { 0 };
	int rc = ssh_exec(ssh, &exec, job, &result, err);

	words = str_line(said.data != NULL ? said.data : "", said.len);
	sbuf_done(&said);
	if (rc != 0 || (result.signal[0] == '\0' && result.status == 0))
		return rc;
	return err_set(err, E_FAILED, "the guest's /etc/hosts could not be written: %s",
	    words[0] != '\0' ? words : "it said nothing");
}
