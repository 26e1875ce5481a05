/* SPDX-License-Identifier: MPL-2.0
 *
 * The methods of the daemon itself. */
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "daemon/config.h"
#include "daemon/events.h"
#include "daemon/methods.h"
#include "daemon/server.h"
#include "daemon/vm.h"
#include "daemon/vmmd.h"
#include "lib/base/clock.h"
#include "lib/base/jail.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/hypervisor/hypervisor.h"
#include "proto/jsonrpc.h"

enum { INFO_KEPT_MS = 1000 };

void
method_system_hello(struct vmmd *vmmd, struct request *request, void *args)
{
	struct system_hello_args *a = args;
	json_object *result = json_object_new_object();

	json_add_int(result, "protocol",
	    (int64_t)(a->protocol < PROTOCOL_VERSION ? a->protocol : PROTOCOL_VERSION));
	json_add_string(result, "server", "vmmd");
	json_add_string(result, "version", VMM_VERSION);
	json_add_int(result, "pid", getpid());
	request_reply(request, result);
}

static json_object *
backend_row(struct vmmd *vmmd, enum backend backend)
{
	json_object *row = json_object_new_object(), *can = json_object_new_array();
	json_object *lacks = json_object_new_array();
	struct hypervisor *hv;
	struct err err = ERR_INIT;
	int rc = hv_router_get(vmmd->router, backend, &hv, &err);

	json_add_string(row, "name", backend_names[backend]);
	json_add_bool(row, "available", rc == 0);
	json_add_bool(row, "default", backend == hv_router_default());
	if (rc != 0)
		json_add_string(row, "why_not", err.msg);
	for (const struct hv_feature *f = hv_features; rc == 0 && f->name != NULL; f++)
		json_object_array_add(hv_capabilities(hv) & f->bit ? can : lacks,
		    json_object_new_string(f->name));
	json_object_object_add(row, "capabilities", can);
	json_object_object_add(row, "lacks", lacks);
	if (rc == 0)
		json_object_object_add(row, "details", hv->ops->info(hv));
	return row;
}

static json_object *
host_row(void)
{
	json_object *row = json_object_new_object();
	struct utsname name;

	if (uname(&name) == 0) {
		json_add_string(row, "system", name.sysname);
		json_add_string(row, "release", name.release);
		json_add_string(row, "machine", name.machine);
	}
	json_add_int(row, "cpus", sysconf(_SC_NPROCESSORS_ONLN));
	json_add_int(row, "memory_mib",
	    (int64_t)((uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) >> 20));
	return row;
}

static json_object *
jail_list(void)
{
	json_object *list = json_object_new_array();

	for (int bit = 0; jail_layer_names[bit] != NULL; bit++)
		if (jail_layers() & (1U << bit))
			json_object_array_add(list, json_object_new_string(jail_layer_names[bit]));
	return list;
}

/* What hardly ever changes, as the beginning of an object. */
static char *
info_head(struct vmmd *vmmd)
{
	CLEANUP_JSON json_object *head = json_object_new_object();
	json_object *paths = json_object_new_object(), *backends = json_object_new_array();
	CLEANUP_FREE char *started = clock_rfc3339(vmmd->started_ms);
	size_t len;
	const char *text;

	json_add_string(head, "version", VMM_VERSION);
	json_add_int(head, "protocol", PROTOCOL_VERSION);
	json_add_int(head, "pid", getpid());
	json_add_string(head, "mode", vmmd->config->system ? "system" : "user");
	json_add_string(head, "started", started);
	json_add_string(head, "accel", vmmd->config->accel);
	json_add_string(paths, "socket", vmmd->config->socket);
	json_add_string(paths, "data", vmmd->config->data_dir);
	json_add_string(paths, "runtime", vmmd->config->runtime_dir);
	json_object_object_add(head, "paths", paths);
	json_object_object_add(head, "host", host_row());
	for (int b = BACKEND_QEMU; b < BACKENDS; b++)
		json_object_array_add(backends, backend_row(vmmd, (enum backend)b));
	json_object_object_add(head, "backends", backends);
	json_object_object_add(head, "jail", jail_list());
	text = json_object_to_json_string_length(head, JSON_TEXT_FLAGS, &len);
	return xstrndup(text, len - 1); /* left open, for the numbers */
}

/* Asked in every health check and by many at once: looking at the host again for each would cost
 * more than all the rest of the answer. */
void
method_system_info(struct vmmd *vmmd, struct request *request, void *args)
{
	struct sbuf out = { 0 };

	if (vmmd->info_head == NULL || clock_ms() >= vmmd->info_until_ms) {
		free(vmmd->info_head);
		vmmd->info_head = info_head(vmmd);
		vmmd->info_until_ms = clock_ms() + INFO_KEPT_MS;
	}
	sbuf_addf(&out, "%s,\"machines\":%zu,\"connections\":%zu,\"last_event\":%llu}",
	    vmmd->info_head, vm_count(vmmd), server_connections(vmmd->server),
	    (unsigned long long)events_last(vmmd->events));
	request_reply_text(request, out.data, out.len);
	sbuf_done(&out);
}

void
method_system_shutdown(struct vmmd *vmmd, struct request *request, void *args)
{
	json_object *result = json_object_new_object();

	json_add_int(result, "pid", getpid());
	request_reply(request, result);
	vmmd_shutdown(vmmd);
}

void
method_rpc_discover(struct vmmd *vmmd, struct request *request, void *args)
{
	request_reply(request, openrpc_document());
}
