/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_BASE_JAIL_PARTS_H
#define LIB_BASE_JAIL_PARTS_H

#include <stdbool.h>

#include "lib/base/err.h"
#include "lib/base/jail.h"

/* What jail.c and vmm-jail ask of the system's own file (jail_linux.c, jail_illumos.c).  All of it
 * is for a process with one thread. */

struct confinement {
	unsigned layers;     /* each of these is put in force, or it is an error */
	const char *program; /* may be executed; NULL: nothing may */
	const char *const *read, *const *write, *const *make, *const *sockets; /* each may be NULL */
	bool network;
	struct process_limits limits;
};

/* The layers that work here.  Leaves the process in an empty network: for one that ends then. */
unsigned jail_probe(void);
/* The layers that a process can put on itself without anything else changing. */
unsigned jail_probe_self(void);
/* parent: killed together with that process; 0: not. */
int jail_confine(const struct confinement *wanted, long parent, struct err *err);
/* jail_confine, and then the program instead of this one; returns only for an error. */
int jail_become(const struct confinement *wanted, long parent, char *const *argv, struct err *err);

/* ---- jail_filter.c: system calls ---- */

enum { JAIL_EXEC_FD = 63 }; /* also the limit of descriptors: nobody can make this one again */

bool jail_filter_works(void);
enum jail_sockets { JAIL_SOCKETS_NONE, JAIL_SOCKETS_UNIX, JAIL_SOCKETS_ALL };
/* program: the descriptor JAIL_EXEC_FD may be executed; it is closed by that. */
int jail_filter_install(enum jail_sockets sockets, bool program, struct err *err);

#endif
