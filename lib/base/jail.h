/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_BASE_JAIL_H
#define LIB_BASE_JAIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/base/process.h"

/* Programs that read what nobody trusts (qemu-img, e2fsck, debugfs on images) run in a jail, of
 * every layer that this host has:
 *   landlock  the program and its libraries read-only, the named files, nothing else
 *   netns     an empty network namespace (with a user namespace when not root)
 *   seccomp   no sockets but pairs, no new programs or processes (threads are fine), no signals to
 *             others, no mounts, no tracing, no changes of owners and modes by path
 *   limits    processor time, address space, file size, no core dumps; root keeps the right to
 *             open others' files and no other
 *   privileges  of illumos: opening files and nothing else: no sockets, programs, processes
 * What is missing is told (jail_layers) and never an error; a layer that is there and fails is.
 * No new privileges are to be had in any case. */

enum jail_layer {
	JAIL_LANDLOCK = 1,
	JAIL_NETNS = 2,
	JAIL_SECCOMP = 4,
	JAIL_LIMITS = 8,
	JAIL_PRIVILEGES = 16,
};

struct jail {
	const char *const *read;  /* paths that may be read, NULL-terminated; NULL: none */
	const char *const *write; /* files that may be read, written and truncated */
	const char *const *make;  /* folders in which files may be made and removed */
	struct process_limits limits;
	unsigned without; /* layers left out: for the tests of each alone */
};

/* process_run (lib/base/process.h) inside of the jail, through the program vmm-jail (beside this
 * one, or VMM_JAIL).  argv[0] is looked up in PATH here; it can not be a script.  The paths have to
 * be there already: one that is not gives no right.  The tool is killed when the calling thread
 * ends.  On a worker. */
int jail_run(const struct jail *jail, const char *const *argv, const void *input, size_t input_len,
    size_t out_max, uint64_t timeout_ms, struct job *job, struct process_output *ret_output,
    struct err *err);
/* The layers that work on this host, found out once by trying (any thread). */
unsigned jail_layers(void);
extern const char *const jail_layer_names[]; /* by bit, then NULL */

/* For processes that confine themselves (vmm-fetch): the same layers but netns, on the caller,
 * before it has threads.  Root becomes an ordinary user 0.  network: may reach servers, so no limit
 * on sockets of the internet. */
struct jail_self {
	const char *const *read, *const *write;
	const char *const *sockets; /* folders for UNIX sockets; NULL: none can be made either */
	bool network;
	struct process_limits limits;
};
int jail_enter(const struct jail_self *self, struct err *err);

#endif
