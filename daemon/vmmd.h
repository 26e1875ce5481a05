/* SPDX-License-Identifier: MPL-2.0 */
#ifndef DAEMON_VMMD_H
#define DAEMON_VMMD_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/image/catalogue.h"

/* The daemon's one context.  Functions take the smallest part of it that will do. */

struct config;
struct events;
struct hv_env;
struct hv_router;
struct image_store;
struct loop;
struct operations;
struct privates;
struct server;
struct sigwatch;
struct store;
struct timer;
struct vms;
struct worker_pool;

struct vmmd {
	struct config *config;
	struct loop *loop;
	struct worker_pool *pool;      /* SSH and everything long */
	struct worker_pool *disk_pool; /* hashing, copying, qemu-img */
	struct store *store;
	struct image_store *images;
	struct catalogue catalogue;
	struct hv_env *hv_env;
	struct hv_router *router;
	struct events *events;
	struct operations *operations;
	struct vms *vms;
	struct privates *privates; /* NULL: this host has no switch */
	struct server *server;
	struct sigwatch *signals[3];
	struct timer *stop_timer;
	int lock_fd;
	int64_t started_ms;
	char *info_head; /* owned: of system.info's answer; NULL: none yet */
	uint64_t info_until_ms;
	bool stopping, failed;
};

/* config: taken on success. */
int vmmd_create(struct config *config, struct vmmd **ret_vmmd, struct err *err);
bool vmmd_run(struct vmmd *vmmd); /* until vmmd_shutdown; false: it could not serve */
void vmmd_destroy(struct vmmd *vmmd);
/* Ends soon; a second call ends at once.  Machines live on. */
void vmmd_shutdown(struct vmmd *vmmd);

#endif
