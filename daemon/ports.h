/* SPDX-License-Identifier: MPL-2.0 */
#ifndef DAEMON_PORTS_H
#define DAEMON_PORTS_H

#include <stdbool.h>
#include <sys/types.h>

#include "lib/base/err.h"
#include "lib/hypervisor/hypervisor.h"
#include "lib/model/port.h"

struct json_object;
struct vm;
struct vmmd;

/* Forwards of machines: what was asked for, against what is.  Loop thread, where nothing else is
 * said. */

/* The list that vm.get shows: [{host, host_port, guest_port, protocol, active, ssh}]. */
struct json_object *ports_rows(const struct vm *vm, const struct hv_facts *facts);
/* The first step from what is to what is wanted, removals first; false: it is so. */
bool ports_next(const struct hv_facts *facts, const struct strings *want, struct port *ret_port,
    bool *ret_add);
/* The same for the machine as it runs; false also when it does not. */
bool ports_differ(const struct vm *vm, const struct strings *want);
bool ports_can_change(const struct vm *vm); /* it runs, so that its forwards can be changed */
/* Its entry for one that a person writes, by its own words or by the port that it really has.
 * E_NOT_FOUND; E_STATE for the forward of SSH. */
int ports_find(const struct vm *vm, const char *text, size_t *ret_index, struct err *err);
/* As port_text writes them; they must have been checked. */
void ports_normalise(struct strings *texts);

/* A machine that runs, or starts, with one of these ports; NULL: none.  vm: not this one; may be
 * NULL. */
struct vm *ports_holder(struct vmmd *vmmd, const struct vm *vm, const struct strings *texts,
    struct port *ret_port);
/* The same as E_CONFLICT, with its name as far as uid may know it. */
int ports_check_ours(struct vmmd *vmmd, const struct vm *vm, uid_t uid, const struct strings *texts,
    struct err *err);
/* New texts for machines that are wanted up and have, or ask for, one of these ports. */
struct json_object *ports_warnings(struct vmmd *vmmd, const char *name, uid_t uid,
    const struct strings *texts);

/* Are they free on the host?  Made on the loop, run on a worker. */
struct ports_trial {
	struct port ports[PORTS_MAX];
	size_t count;
	int uid; /* of the hypervisor; -1: ours */
	struct err err;
};
/* Of texts those that the machine does not have already. */
void ports_trial_init(const struct vm *vm, const struct strings *texts,
    struct ports_trial *ret_trial);
void ports_trial_run(struct ports_trial *trial);

#endif
