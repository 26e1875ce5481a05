/* SPDX-License-Identifier: MPL-2.0
 *
 * vmmd: the theory.
 *
 * One loop thread owns all state of machines (vm.c), operations (operation.c), events and
 * connections; it never sleeps, waits for a child, or reads an image.  Two pools of workers do
 * what blocks: `pool` holds SSH sessions, `disk_pool` hashes, copies and runs qemu-img.  A worker
 * sees copies only, and its results come back as messages that the loop runs in order.  The store
 * has a thread of its own for what need not be durable at once; what must be, the loop commits
 * before the side effect (vm_commit).
 *
 * Machines live outside: each is a process in a session of its own.  vmmd may be killed at any
 * moment; the next one reads the rows, adopts what still runs by pid, start time and boot id
 * (adopt.c), and finishes or undoes operations that were under way.  Ending vmmd ends no machine. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/config.h"
#include "daemon/vmmd.h"
#include "lib/base/err.h"
#include "lib/base/log.h"

int
main(int argc, char **argv)
{
	struct config *config = NULL;
	struct vmmd *vmmd = NULL;
	struct err err = ERR_INIT;
	enum log_level level;
	bool leave, ok;
	int rc;

	rc = config_load(argc, argv, &config, &leave, &err);
	if (rc == 0 && leave)
		return EXIT_SUCCESS;
	if (rc == 0) {
		log_level_parse(config->log_level, &level);
		log_set_level(level);
		rc = vmmd_create(config, &vmmd, &err);
	}
	if (rc != 0) {
		log_error("%s", err.msg);
		if (err.hint[0] != '\0')
			log_error("%s", err.hint);
		config_destroy(config);
		return rc == E_USAGE ? 2 : EXIT_FAILURE;
	}
	ok = vmmd_run(vmmd);
	vmmd_destroy(vmmd);
	return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
