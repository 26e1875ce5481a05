/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_HYPERVISOR_LAUNCHER_LAUNCHER_H
#define LIB_HYPERVISOR_LAUNCHER_LAUNCHER_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/model/field.h"

/* The order that vmmd gives to vmm-launch, as a JSON object on its standard input.  Both sides use
 * the one table, so that they can not disagree.  Plain data: fields_release frees it. */

struct launch_file { /* opened before the privileges go: the program needs no right to the path */
	bool present;
	char *path; /* opened read-only */
	uint64_t to; /* the descriptor's number in the program */
};

struct launch_tap { /* a guest's way onto a bridge, made before the privileges go */
	bool present;
	char *bridge;
	char *name;   /* of a tap of our own */
	char *helper; /* who makes it for us; NULL: we may ourselves */
	uint64_t to;  /* the descriptor's number in the program */
	uint64_t vhost_to; /* of /dev/vhost-net; 0: without */
};

struct launch_order {
	struct strings argv;
	struct env env;		/* all that the program sees */
	uint64_t parent;	/* vmmd's pid: when that is gone, nothing is started */
	char *record;		/* the file that tells who was started, for a vmmd that forgot */
	char *generation;	/* goes into the record */
	struct objects files;	/* struct launch_file */
	struct objects taps;	/* struct launch_tap */
	bool drop;		/* become the uid and gid below */
	uint64_t uid, gid;
	struct strings own;	/* given to them before, where they exist */
	struct strings read;	/* folders and files that may be read and executed */
	struct strings write;	/* files and devices that may be read and written */
	struct strings make;	/* folders in which files and sockets may be made */
	char *lock;		/* a file whose lock (fcntl) must be free before it starts; NULL: none */
	bool network;		/* may open TCP connections, and listen */
};

extern const struct field launch_order_fields[];

/* Binds this process and what it becomes to the order's paths.  What the kernel does not know is
 * left out, and a path that is not there gives no right.  Fails when the kernel has Landlock and
 * refuses. */
int confine_landlock(const struct launch_order *order, struct err *err);

#endif
