/* SPDX-License-Identifier: MPL-2.0
 *
 * Which keys a guest gets, by the four cases of a machine's cloud-init and ssh fields:
 *   user-data:  the user's, with our host key beside it; login only with ssh.private-key
 *   ssh-key:    a user with that key; login only with ssh.private-key
 *   neither:    a user with a key pair of ours, and with the user's own when it can be read
 *   no cloud-init: no seed; the host key is learnt */
#include "daemon/guest_seed.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/nics.h"
#include "daemon/vm.h"
#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/process.h"
#include "lib/base/str.h"
#include "lib/cloudinit/cloudinit.h"
#include "lib/ssh/ssh.h"

enum { MAX_FILE = 1 << 20, KEYGEN_MS = 5000 };

struct seed_work {
	struct vm_spec spec; /* a copy */
	char *dir, *generation;
	struct strings macs;
	char *old_instance;
	bool old_stripped;
	/* result */
	struct err err;
	char *instance, *host_public;
	bool stripped;
};

struct seed_work *
seed_work_create(const struct vm *vm)
{
	struct seed_work *w = xcalloc(1, sizeof(*w));
	char space[32];

	vm_spec_copy(&w->spec, &vm->spec);
	w->dir = xstrdup(vm->dir);
	w->generation = xstrdup(vm_generation(vm, space));
	w->macs = nics_macs(vm);
	w->old_instance = xstrdup(vm->seed_instance);
	w->old_stripped = vm->seed_stripped;
	return w;
}

void
seed_work_destroy(struct seed_work *w)
{
	if (w == NULL)
		return;
	vm_spec_release(&w->spec);
	free(w->dir);
	free(w->generation);
	strings_done(&w->macs);
	free(w->old_instance);
	free(w->instance);
	free(w->host_public);
	free(w);
}

/* The pair in <dir>/<name>, made when it is not there. */
static int
keep_pair(struct seed_work *w, const char *name, struct ssh_keypair *ret_pair, struct err *err)
{
	CLEANUP_FREE char *path = fs_join(w->dir, name), *public_path = xasprintf("%s.pub", path);
	int rc;

	if (fs_exists(path) && fs_exists(public_path)) {
		rc = fs_read(path, MAX_FILE, &ret_pair->private_pem, NULL, err);
		if (rc == 0)
			rc = fs_read(public_path, MAX_FILE, &ret_pair->public_line, NULL, err);
		if (rc == 0)
			ret_pair->public_line[strcspn(ret_pair->public_line, "\n")] = '\0';
		return rc;
	}
	rc = ssh_keypair_create(ret_pair, err);
	if (rc == 0)
		rc = fs_write(path, ret_pair->private_pem, strlen(ret_pair->private_pem), 0600, err);
	if (rc == 0)
		rc = fs_write(public_path, ret_pair->public_line, strlen(ret_pair->public_line), 0600,
		    err);
	return rc;
}

/* The public half of the user's own key, so that it works too; NULL when it needs a passphrase. */
static char *
user_public_key(const struct seed_work *w)
{
	const char *argv[] = { "ssh-keygen", "-y", "-P", "", "-f", w->spec.ssh.private_key.path, NULL };
	struct process_output out = { 0 };
	char *line = NULL;

	if (w->spec.ssh.private_key.kind != FILE_PATH)
		return NULL;
	if (process_run(argv, NULL, 0, MAX_FILE, KEYGEN_MS, NULL, NULL, &out, NULL) == 0 &&
	    out.out != NULL) {
		out.out[strcspn(out.out, "\n")] = '\0';
		if (ssh_public_key_check(out.out, NULL) == 0)
			line = xstrdup(out.out);
	}
	process_output_done(&out);
	return line;
}

struct seed_parts {
	struct ssh_keypair host;
	char *key, *own_key, *user_data;
	size_t user_data_len;
	struct seed_nic nics[NICS_MAX];
	struct strings hosts; /* its texts are the spec's */
};

static void
parts_done(struct seed_parts *parts)
{
	ssh_keypair_done(&parts->host);
	free(parts->key);
	free(parts->own_key);
	if (parts->user_data != NULL)
		mem_wipe(parts->user_data, parts->user_data_len);
	free(parts->user_data);
	free(parts->hosts.items);
}

static int
authorized_keys(struct seed_work *w, struct seed_parts *parts, struct err *err)
{
	CLEANUP(ssh_keypair_done) struct ssh_keypair pair = { 0 };
	int rc;

	if (w->spec.cloud_init.ssh_key.kind == FILE_PATH) {
		rc = fs_read(w->spec.cloud_init.ssh_key.path, MAX_FILE, &parts->key, NULL, err);
		if (rc == 0)
			parts->key[strcspn(parts->key, "\r\n")] = '\0';
		return rc;
	}
	rc = keep_pair(w, "id_ed25519", &pair, err);
	if (rc != 0)
		return rc;
	parts->own_key = xstrdup(pair.public_line);
	parts->key = user_public_key(w);
	return 0;
}

static void
gather_nics(const struct seed_work *w, struct seed_parts *parts)
{
	for (size_t i = 0; i < w->macs.count; i++) {
		const struct network_spec *nic = vm_spec_nic(&w->spec, i);
		struct strings *hosts = &parts->hosts;

		parts->nics[i] = (struct seed_nic){ .mac = w->macs.items[i], .address = nic->address,
			.gateway = nic->gateway, .dns = nic->dns.items, .dns_count = nic->dns.count };
		hosts->items = xreallocarray(hosts->items, hosts->count + nic->hosts.count + 1,
		    sizeof(*hosts->items));
		for (size_t k = 0; k < nic->hosts.count; k++)
			hosts->items[hosts->count++] = nic->hosts.items[k];
	}
}

static int
gather(struct seed_work *w, struct seed_parts *parts, struct seed *seed, struct err *err)
{
	const struct cloud_init_spec *ci = &w->spec.cloud_init;
	int rc = keep_pair(w, "host_ed25519", &parts->host, err);

	if (rc == 0 && ci->user_data.kind == FILE_PATH)
		rc = fs_read(ci->user_data.path, MAX_FILE, &parts->user_data, &parts->user_data_len, err);
	/* user-data makes its own users, unless a key was given besides. */
	if (rc == 0 && (ci->user_data.kind != FILE_PATH || ci->ssh_key.kind == FILE_PATH))
		rc = authorized_keys(w, parts, err);
	if (rc != 0)
		return rc;
	gather_nics(w, parts);
	*seed = (struct seed){
		.hostname = ci->hostname != NULL ? ci->hostname : w->spec.name,
		.user = vm_spec_user(&w->spec),
		.authorized_key = parts->key,
		.own_key = parts->own_key,
		.host_private_key = parts->host.private_pem,
		.host_public_key = parts->host.public_line,
		.user_data = parts->user_data,
		.user_data_len = parts->user_data_len,
		.user_data_name = file_ref_shown(&ci->user_data),
		.nics = parts->nics,
		.nic_count = w->macs.count,
		.hosts = parts->hosts.items,
		.host_count = parts->hosts.count,
	};
	free(w->instance);
	w->instance = seed_instance_id(seed, w->generation);
	seed->instance_id = w->instance;
	return 0;
}

void
seed_work_run(struct seed_work *w)
{
	CLEANUP(parts_done) struct seed_parts parts = { 0 };
	CLEANUP_FREE char *path = fs_join(w->dir, "seed.iso");
	struct seed seed;
	bool same;

	if (gather(w, &parts, &seed, &w->err) != 0)
		return;
	w->host_public = xstrdup(parts.host.public_line);
	same = str_eq(w->instance, w->old_instance);
	w->stripped = same && w->old_stripped;
	/* Names of other machines come and go, which makes no other instance. */
	if (same && seed.host_count == 0 && fs_exists(path))
		return;
	if (w->stripped)
		seed_write_stripped(&seed, path, &w->err);
	else
		seed_write(&seed, path, &w->err);
}

int
seed_work_apply(struct seed_work *w, struct vm *vm, struct err *err)
{
	if (w->err.code != E_OK) {
		*err = w->err;
		return err_wrap(err, "the cloud-init seed of machine '%s'", vm->spec.name);
	}
	vm_set_string(&vm->host_key, w->host_public);
	vm->host_key_injected = true;
	vm_set_string(&vm->seed_instance, w->instance);
	vm->seed_stripped = w->stripped;
	return 0;
}

int
seed_work_strip(struct seed_work *w, struct err *err)
{
	CLEANUP(parts_done) struct seed_parts parts = { 0 };
	CLEANUP_FREE char *path = fs_join(w->dir, "seed.iso");
	struct seed seed;
	int rc = gather(w, &parts, &seed, err);

	/* Changed inputs since the start: the next start writes the full seed anyway. */
	if (rc == 0 && str_eq(w->instance, w->old_instance))
		rc = seed_write_stripped(&seed, path, err);
	return rc;
}
