/* SPDX-License-Identifier: MPL-2.0 */
#ifndef DAEMON_VMMD_H
#define DAEMON_VMMD_H

#include <stdbool.h>

/* The daemon's one context.  Functions take the smallest part of it that will do. */

struct config;
struct events;
struct hv_env;
struct hv_router;
struct image_store;
struct loop;
struct operations;
struct server;
struct store;
struct vms;
struct worker_pool;

struct vmmd {
	struct config *config;
	struct loop *loop;
	struct worker_pool *pool;     /* SSH and everything long */
	struct worker_pool *disk_pool; /* hashing, copying, qemu-img */
	struct store *store;
	struct image_store *images;
	struct hv_env *hv_env;
	struct hv_router *router;
	struct events *events;
	struct operations *operations;
	struct vms *vms;
	struct server *server;
	bool stopping;
};

#endif
