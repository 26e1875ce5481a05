/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_HYPERVISOR_HOSTPORT_H
#define LIB_HYPERVISOR_HOSTPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "lib/base/err.h"
#include "lib/model/port.h"

/* Ports of this host, before a hypervisor is told to listen on them.  Any thread; they read files
 * of the kernel, so better a worker. */

/* Could a process of this user (-1: of ours) listen there now?  E_CONFLICT names who does;
 * E_PERMISSION: the port is root's alone; E_PARAMS: the host has no such address. */
int hostport_check(const struct port *port, int uid, struct err *err);

/* hostport_linux.c, hostport_illumos.c */
/* Ports below are for those with rights alone. */
unsigned hostport_first_free(void);
/* Owned: "'nginx' (process 123)", "a process of uid 33"; NULL: nobody that can be seen. */
char *hostport_holder(const struct port *port);

#endif
