/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_BASE_LANDLOCK_H
#define LIB_BASE_LANDLOCK_H

#include <stdbool.h>

#include "lib/base/err.h"

/* Landlock: a process binds itself, and what it becomes, to a list of paths, without privileges
 * and for good.  Rights that this kernel does not know are left out; a path that is not there
 * gives no right.  Any thread; binds the calling one and what it starts later. */

enum landlock_right {
	LANDLOCK_READ = 1, /* files and folders */
	LANDLOCK_EXECUTE = 2,
	LANDLOCK_WRITE = 4,  /* files and devices, also truncating them */
	LANDLOCK_MAKE = 8,   /* regular files may be made and removed in the folder */
	LANDLOCK_BIND = 16,  /* sockets may be made in the folder, and names removed */
};

int landlock_abi(void); /* the version of the interface in this kernel; 0: there is none */
enum landlock_tcp {
	LANDLOCK_TCP_NONE,
	LANDLOCK_TCP_CLIENT, /* connections, and listening on a port that the kernel chooses */
	LANDLOCK_TCP_ANY,    /* also on ports that are chosen later: rules can not be loosened */
};
/* A set of rules that allows nothing yet but what `tcp` says.
 * ret_rules: a descriptor; -1 when the kernel has no Landlock, which the other two take. */
int landlock_create(enum landlock_tcp tcp, int *ret_rules, struct err *err);
int landlock_allow(int rules, const char *path, unsigned rights, struct err *err);
/* Needs no_new_privs. */
int landlock_enforce(int rules, struct err *err);

#endif
