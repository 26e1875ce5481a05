/* SPDX-License-Identifier: MPL-2.0 */
#ifndef DAEMON_OPS_H
#define DAEMON_OPS_H

#include <stdbool.h>
#include <stdint.h>

#include "daemon/operation.h"
#include "lib/model/spec.h"

struct fetch_auth;
struct vm;

/* The operations of one machine: each starts a table of steps. */

/* Checks everything that can be refused before something is made, then makes the machine.
 * spec: taken (descriptors claimed).  auth: how its image may be fetched; borrowed, may be NULL.
 * The machine exists, in state preparing, from here on. */
int ops_create(struct vmmd *vmmd, struct vm_spec *spec, const char *project,
    const struct fetch_auth *auth, const struct op_call *call, struct err *err);
int ops_start(struct vm *vm, const struct op_call *call, struct err *err);

struct stop_args {
	uint64_t timeout_ms; /* for the guest to power off; 0: do not ask */
	bool force;
};
int ops_stop(struct vm *vm, struct stop_args args, const struct op_call *call, struct err *err);
int ops_destroy(struct vm *vm, bool force, const struct op_call *call, struct err *err);
int ops_suspend(struct vm *vm, const struct op_call *call, struct err *err);
int ops_resume(struct vm *vm, const struct op_call *call, struct err *err);

/* The machine's forwards become these, at once while it runs.  want: copied, not checked yet. */
int ops_ports(struct vm *vm, const struct strings *want, const struct op_call *call,
    struct err *err);

struct guest_args {
	bool steps; /* run provision steps; else only wait until the guest is set up */
	bool force; /* also those that are done */
	uint64_t timeout_ms; /* to be reachable and set up; 0: the configured one */
};
/* Waits for SSH, the login and cloud-init, then runs what is pending. */
int ops_guest(struct vm *vm, struct guest_args args, const struct op_call *call, struct err *err);
bool vm_needs_guest_work(const struct vm *vm); /* something of the above is not done yet */

/* Cancels what runs on the machine when it may be preempted (a start, a wait, provisioning), and
 * calls fn once it is free: at once, or later.  vm is NULL then if the machine went away.
 * E_BUSY when it may not.  A started machine is not undone by that: a start that is cancelled is. */
typedef void ops_free_fn(void *arg, struct vm *vm);
int ops_preempt(struct vm *vm, ops_free_fn *fn, void *arg, struct err *err);

/* Refuses a spec that this host or backend can not do; chooses the backend. */
int ops_check_spec(struct vmmd *vmmd, struct vm_spec *spec, struct err *err);

extern const struct op_kind op_kind_create, op_kind_start, op_kind_stop, op_kind_destroy,
    op_kind_suspend, op_kind_resume, op_kind_guest, op_kind_ports;

#endif
