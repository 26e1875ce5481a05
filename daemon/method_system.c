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
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/hypervisor/hypervisor.h"
#include "proto/jsonrpc.h"

void
method_system_hello(struct vmmd *vmmd, struct request *request, void *args)
{
	struct system_hello_args *a = args;
	json_object *result = json_object_new_object();

	json_add_int(result, "protocol", (int64_t)(a->protocol < PROTOCOL_VERSION ? a->protocol
										     : PROTOCOL_VERSION));
	json_add_string(result, "server", "vmmd");
	json_add_string(result, "version", VMM_VERSION);
	json_add_int(result, "pid", getpid());
	request_reply(request, result);
}

static json_object *
backend_row(struct vmmd *vmmd, enum backend backend)
{
	json_object *row = json_object_new_object(), *can = json_object_new_array();
	struct hypervisor *hv;
	struct err err = ERR_INIT;
	int rc = hv_router_get(vmmd->router, backend, &hv, &err);

	json_add_string(row, "name", backend_names[backend]);
	json_add_bool(row, "available", rc == 0);
	json_add_bool(row, "default", backend == hv_router_default());
	if (rc != 0)
		json_add_string(row, "why_not", err.msg);
	for (unsigned bit = 1; rc == 0 && bit <= HV_CAN_SSH; bit <<= 1)
		if (hv_capabilities(hv) & bit)
			json_object_array_add(can,
			    json_object_new_string(hv_capability_name((enum hv_capability)bit)));
	json_object_object_add(row, "capabilities", can);
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
	json_add_int(row, "memory_mib", (int64_t)((uint64_t)sysconf(_SC_PHYS_PAGES) *
	    (uint64_t)sysconf(_SC_PAGESIZE) >> 20));
	return row;
}

void
method_system_info(struct vmmd *vmmd, struct request *request, void *args)
{
	json_object *result = json_object_new_object(), *backends = json_object_new_array();
	json_object *paths = json_object_new_object();
	CLEANUP_FREE char *started = clock_rfc3339(vmmd->started_ms);

	json_add_string(result, "version", VMM_VERSION);
	json_add_int(result, "protocol", PROTOCOL_VERSION);
	json_add_int(result, "pid", getpid());
	json_add_string(result, "mode", vmmd->config->system ? "system" : "user");
	json_add_string(result, "started", started);
	json_add_int(result, "machines", (int64_t)vm_count(vmmd));
	json_add_int(result, "connections", (int64_t)server_connections(vmmd->server));
	json_add_int(result, "last_event", (int64_t)events_last(vmmd->events));
	json_add_string(result, "accel", vmmd->config->accel);
	json_add_string(paths, "socket", vmmd->config->socket);
	json_add_string(paths, "data", vmmd->config->data_dir);
	json_add_string(paths, "runtime", vmmd->config->runtime_dir);
	json_object_object_add(result, "paths", paths);
	json_object_object_add(result, "host", host_row());
	for (int b = BACKEND_QEMU; b < BACKENDS; b++)
		json_object_array_add(backends, backend_row(vmmd, (enum backend)b));
	json_object_object_add(result, "backends", backends);
	request_reply(request, result);
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
