/* SPDX-License-Identifier: MPL-2.0 */
#ifndef DAEMON_VM_H
#define DAEMON_VM_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>
#include <uthash.h>

#include "daemon/vm_state.h"
#include "lib/base/err.h"
#include "lib/base/process.h"
#include "lib/cloudinit/cloudinit.h"
#include "lib/hypervisor/hypervisor.h"
#include "lib/model/spec.h"

struct console;
struct operation;
struct probe;
struct vmmd;

/* Machines.  Loop thread only.  What fires later holds a machine's id and looks it up again. */

enum vm_wanted { VM_WANT_DOWN, VM_WANT_UP };
enum provision_state { PROVISION_NONE, PROVISION_PENDING, PROVISION_RUNNING, PROVISION_DONE,
	PROVISION_FAILED, PROVISION_INTERRUPTED };

struct phase {
	const char *name; /* static text */
	uint64_t ms;
};

struct vm_nic {
	char mac[18]; /* lower case */
	int port;     /* of its private network's switch; -1: it is on none */
	char *local_path, *remote_path; /* of that port: the guest's end and the switch's; NULL */
};

struct vm_watcher {
	TAILQ_ENTRY(vm_watcher) link;
	void (*fn)(void *arg); /* something about the machine changed; it may be destroyed */
	void *arg;
};

struct vm {
	struct vmmd *vmmd;
	UT_hash_handle by_id, by_name;
	char id[13];   /* 12 hex digits: in paths and option strings */
	char uuid[37]; /* what the guest sees */
	struct vm_nic nics[NICS_MAX]; /* of vm_spec_nic(), as many; nics.c */
	size_t nic_count;
	uid_t owner;
	char *project;	     /* real path of its VMFile; NULL: made by vm.create */
	struct vm_spec spec; /* file references are paths of our own */
	char *dir, *run_dir;

	enum vm_state state;
	char *reason;	   /* NULL: nothing to tell */
	enum vm_wanted wanted;
	bool responsive;
	int64_t created_ms, started_ms, changed_ms; /* wall clock, 0: never */

	char *image_digest;
	char *cdrom_path; /* in the store, once the backend was opened */
	unsigned disk_generation; /* counts the disks made for this machine */

	/* cloud-init, SSH */
	char *host_key;		/* "ssh-ed25519 AAAA…", pinned */
	bool host_key_injected; /* else learnt */
	char *seed_instance;	/* instance-id of the seed written last */
	bool seed_stripped;
	bool cloud_init_known;
	enum cloudinit_result cloud_init;
	bool reachable; /* the SSH banner was seen since the start */

	enum provision_state provision;
	struct strings steps_done; /* keys of once-steps */
	char *provision_error;

	struct phase phases[16]; /* of the last start */
	size_t phase_count;

	struct hv_machine *hv; /* NULL: not opened yet */
	struct hv_config hv_config; /* lent to it while it is open */
	struct hv_nic hv_nics[NICS_MAX]; /* the same */
	char *runtime;	       /* JSON of the backend, for adoption; NULL: nothing runs */
	bool adopting;	       /* a former daemon's process is being looked for */
	bool ending;	       /* the end of its process was asked for */
	unsigned ends_pending; /* hv_ops.end was called and has not answered */
	char *end_error;       /* why the last of those failed; NULL: none did */
	struct operation *op;  /* the one that runs on it */
	struct probe *probe;
	char *probed_host;     /* where the banner was, or is, looked for; NULL: nowhere */
	uint64_t probe_began_ms; /* monotonic: when its processors began; 0 after adoption */
	struct console *console;
	TAILQ_HEAD(, vm_watcher) watchers;

	char *row; /* the text of its row, dropped on change */
};

/* The registry. */
struct vms;
struct vms *vms_create(struct vmmd *vmmd);
void vms_destroy(struct vms *vms);
struct vm *vm_find(struct vmmd *vmmd, const char *name_or_id); /* NULL: none */
struct vm *vm_by_id(struct vmmd *vmmd, const char *id);
size_t vm_count(struct vmmd *vmmd);
void vm_each(struct vmmd *vmmd, void (*fn)(void *arg, struct vm *vm), void *arg); /* by name */
/* For a person: E_NOT_FOUND with the nearest name; foreign machines are not found. */
int vm_lookup(struct vmmd *vmmd, const char *name, uid_t uid, struct vm **ret_vm, struct err *err);

/* A new machine in state preparing, registered under its name; spec: taken (zeroed).
 * E_EXISTS when the name is in use.  Makes nothing on the disk. */
int vm_create(struct vmmd *vmmd, struct vm_spec *spec, uid_t owner, const char *project,
    struct vm **ret_vm, struct err *err);
/* For vm_load: an empty machine, and its entry in the registry once id and name are set. */
struct vm *vm_new(struct vmmd *vmmd);
void vm_register(struct vm *vm);
/* The machine's spec becomes this one; spec: taken (zeroed).  The name stays. */
void vm_replace_spec(struct vm *vm, struct vm_spec *spec);
/* Forgets it: closes the backend's handle (the machine lives on) and frees it. */
void vm_free(struct vm *vm);
/* Reads a row of the store. */
int vm_load(struct vmmd *vmmd, const char *id, const char *doc, struct err *err);

/* Applies an event of the life cycle; refusal is E_STATE.  reason: copied, may be NULL.
 * The new state is saved (commit: durable on return) and told as an event. */
int vm_event(struct vm *vm, enum vm_event event, const char *reason, bool commit, struct err *err);
/* Would the event be refused?  The refusal in err. */
int vm_check_event(const struct vm *vm, enum vm_event event, struct err *err);
void vm_changed(struct vm *vm); /* drops the row, runs the watchers */
void vm_save(struct vm *vm);	/* changed, and queued for the store */
int vm_commit(struct vm *vm, struct err *err);
/* Writes vm.json, the copy of the row beside the disk from which a lost store is rebuilt; soon. */
void vm_write_copy(struct vm *vm);
/* Adds {state, reason, …} of `kind` to the events. */
struct json_object;
void vm_tell(struct vm *vm, const char *kind, struct json_object *data);

void vm_watch(struct vm *vm, struct vm_watcher *watcher, void (*fn)(void *arg), void *arg);
void vm_unwatch(struct vm *vm, struct vm_watcher *watcher);

/* The backend's handle, opened on first use. */
int vm_open_hv(struct vm *vm, struct err *err);
unsigned vm_capabilities(const struct vm *vm); /* of its backend, opened or not */
/* Refuses what its backend can not do: E_UNSUPPORTED with the reason. */
int vm_needs(const struct vm *vm, unsigned capability, struct err *err);
void vm_set_runtime(struct vm *vm); /* takes the backend's runtime document */
void vm_phase(struct vm *vm, const char *name, uint64_t ms);
const char *vm_generation(const struct vm *vm, char space[32]); /* names this disk */
char *vm_path(const struct vm *vm, const char *name);		  /* owned: in its folder */
const char *vm_row(struct vm *vm);				  /* JSON text, borrowed */
struct json_object *vm_row_json(struct vm *vm);
struct json_object *vm_encode(struct vm *vm); /* the store's document */
extern const char *const provision_state_names[];
/* Can we log in?  A key of ours or of the user's is there. */
bool vm_has_login(const struct vm *vm);
bool vm_is_noop(const struct vm *vm);
void vm_set_string(char **slot, const char *value);
/* Adds private_key_path and private_key to what vm.ssh_info answers: the key that logs in. */
void vm_add_private_key(const struct vm *vm, struct json_object *info);
char *vm_login_key_path(const struct vm *vm); /* owned; NULL without a login */
/* Starts looking for the SSH banner, anew. */
void vm_begin_probe(struct vm *vm);
/* Sends the machine's process away after the guest ended; once. */
void vm_end_process(struct vm *vm, enum hv_force how);
/* The backend says that it can not end it, and nothing that would is under way. */
bool vm_end_failed(const struct vm *vm);
/* E_TIMEOUT: the machine does not end, with the backend's words. */
void vm_not_ended(const struct vm *vm, struct err *err);
uint64_t vm_end_patience_ms(const struct vm *vm);

#endif
