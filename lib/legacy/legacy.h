/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_LEGACY_LEGACY_H
#define LIB_LEGACY_LEGACY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/model/spec.h"

/* The machines of the original vmctl, which kept them in one file, vms.json.  The file is only
 * read.  Any thread. */

struct legacy_vm {
	char *name;	/* as it was */
	char *new_name; /* what it can be called here, often the same; NULL: nothing can be made */
	char *id;	/* NULL: none was given; so for every text below */
	int backend;	/* enum backend */
	uint64_t vcpus, memory_bytes;
	uint64_t disk_bytes; /* 0: its image's size */
	struct network_spec network;
	bool uefi;
	char *work_dir, *overlay_path, *seed_path, *mac; /* paths as in the file */
	uint64_t ssh_port; /* 0: none */
	uint64_t pid;	   /* it was started and not stopped by vmctl; 0: stopped */
	struct strings problems; /* why it can not be taken over; empty: it can be */
	struct strings notes;	 /* what changes when it is taken over */
};

struct legacy_vms {
	struct legacy_vm *items; /* by name */
	size_t count;
};

/* Where the original kept the file: owned; NULL when there is no home. */
char *legacy_default_path(void);
/* Files of older versions lack some members; these have the original's defaults.  A machine with
 * wrong members is in the list, with its problems.  E_PARSE: the text is no such file. */
int legacy_load(const char *text, size_t len, struct legacy_vms *ret_vms, struct err *err);
void legacy_done(struct legacy_vms *vms);

/* Is there a process of this machine?  By its pid file and the stored pid, and only when the
 * process's command line names the machine's folder: pids are used again. */
bool legacy_running(const struct legacy_vm *vm);

/* For people and for JSON: {"name", "new_name", "backend", "vcpus", "memory_mib", "disk_bytes",
 * "network", "mac", "uefi", "overlay", "running", "problems", "notes"}.  Owned. */
struct json_object *legacy_describe(const struct legacy_vm *vm);

#endif
