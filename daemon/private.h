/* SPDX-License-Identifier: MPL-2.0 */
#ifndef DAEMON_PRIVATE_H
#define DAEMON_PRIVATE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "lib/base/err.h"
#include "lib/model/spec.h"

struct operation;
struct vm;
struct vmmd;

/* Private networks: those of one VMFile and one owner with one name are one.  A switch of its own
 * (a process, lib/net/switch.h) serves each, from the first start of a machine on it to the end of
 * the last.  What shall be follows from the machines as they are; private_look() makes it so.  Loop
 * thread only. */

struct privates *privates_create(struct vmmd *vmmd);
void privates_destroy(struct privates *privates); /* forgets them; the switches live on */

/* What the rows of one machine can not say: whose network it is, and whether the others agree about
 * its subnet and leave the address free (agree: those that run, and so stay as they are).  E_PARAMS,
 * E_CONFLICT, E_LIMIT.  vm: not this one; may be
 * NULL. */
int private_check(struct vmmd *vmmd, const struct vm *vm, uid_t uid, const char *project,
    const struct vm_spec *spec, bool agree, struct err *err);
/* After nics_settle(): gives each NIC on a private network a port of its switch, and the paths. */
void private_settle(struct vm *vm);

/* Looks at all of them, soon: after a machine's state changed, or it is gone. */
void private_look(struct vmmd *vmmd);
/* Machines of a former daemon are known: switches are adopted, and those without a machine end. */
void private_adopt(struct vmmd *vmmd);

/* What could not be started is tried at once. */
void private_retry(struct vmmd *vmmd);
/* While the machine runs: "up" or "down"; else, and of other NICs, NULL. */
const char *private_state(const struct vm *vm, size_t nic);

/* For a step's wait: do the switches of the machine's networks work, and know it?  1: yes; 0: not
 * yet; -1: they can not be started (err filled). */
int private_ready(struct operation *op, struct err *err);
void private_late(struct operation *op, struct err *err); /* it took too long */

#endif
