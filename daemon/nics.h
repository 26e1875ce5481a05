/* SPDX-License-Identifier: MPL-2.0 */
#ifndef DAEMON_NICS_H
#define DAEMON_NICS_H

#include <sys/types.h>

#include "lib/base/err.h"
#include "lib/model/spec.h"

struct hv_facts;
struct json_object;
struct vm;
struct vmmd;

/* The NICs of machines: what the daemon knows of each beside the spec.  Loop thread only. */

/* After the spec became another, or of a new machine: vm->nics has an entry for each NIC.  A MAC
 * address that was there stays, unless the spec says one; a new one is no other machine's. */
void nics_settle(struct vm *vm);
/* The first ones become these; before the machine was ever started. */
void nics_keep(struct vm *vm, const struct strings *macs);
struct strings nics_macs(const struct vm *vm); /* owned */
void nics_release(struct vm *vm);
/* Lends them to the backend. */
void nics_lend(struct vm *vm);

/* The machine changed: so may what its networks need. */
void nics_look(const struct vm *vm);

/* MAC addresses that the spec says and that another machine has: E_EXISTS.  vm: not this one; may
 * be NULL.  The other's name is told to its owner alone. */
int nics_check(struct vmmd *vmmd, const struct vm *vm, uid_t uid, const struct vm_spec *spec,
    struct err *err);

/* Addresses on private networks in one way of writing; they must have been checked. */
void nics_normalise(struct vm_spec *spec);
/* Two machines that are asked for together: no MAC address twice, and on a private network of both
 * one subnet and no address twice.  E_PARAMS. */
int nics_check_pair(const struct vm_spec *spec, const struct vm_spec *other, struct err *err);

struct json_object *nics_encode(const struct vm *vm); /* for the store */
/* list: what nics_encode wrote, or NULL with the only MAC address of former versions. */
void nics_decode(struct vm *vm, struct json_object *list, const char *mac);
/* The rows of vm.get: [{type, mac, …}]. */
struct json_object *nics_rows(const struct vm *vm, const struct hv_facts *facts);

/* Why the host can not reach the guest by a network, as in "has no network"; NULL: it can. */
const char *nics_unreachable(const struct vm *vm);

#endif
