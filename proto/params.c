/* SPDX-License-Identifier: MPL-2.0 */
#include "proto/params.h"

#include <string.h>

#define MINUTE_MS (60ULL * 1000)
#define DAY_MS (24ULL * 60 * MINUTE_MS)

const char *const wait_for_names[] = { "running", "ssh", "ready", "provisioned", "stopped", NULL };
const char *const pull_policy_names[] = { "revalidate", "missing", "refresh", NULL };
const char *const log_source_names[] = { "console", "provision", "hypervisor", NULL };

/* clang-format off */
#define ROW_NAME(type) FIELD(type, name, FIELD_STRING, .required = true, .min = 1, .max = 63, .text = "the machine's name or id")
#define ROW_AUTH(type) FIELD(type, auth, FIELD_OBJECT, .secret = true, .fields = fetch_auth_fields, .text = "credentials and proxies, for images that are fetched; never kept")
#define ROW_PROGRESS(type) FIELD(type, progress, FIELD_BOOL, .text = "send operation.progress notifications before the answer")
#define ROW_TIMEOUT(type, initial, words) FIELD_NAMED("timeout", type, timeout_ms, FIELD_DURATION, .max = 7 * DAY_MS, .fallback = initial, .text = words)

#define NAME_PARAMS(id) const struct field id##_params[] = { ROW_NAME(struct name_args), ROW_PROGRESS(struct name_args), FIELD_END }
#define NO_PARAMS(id) const struct field id##_params[] = { FIELD_END }

NO_PARAMS(image_catalogue);
NO_PARAMS(image_list);
NO_PARAMS(rpc_discover);
NO_PARAMS(system_info);
NO_PARAMS(system_shutdown);
NO_PARAMS(vm_list);
NAME_PARAMS(vm_get);
NAME_PARAMS(vm_port_list);
NAME_PARAMS(vm_resume);
NAME_PARAMS(vm_screenshot);
NAME_PARAMS(vm_ssh_info);
NAME_PARAMS(vm_start);
NAME_PARAMS(vm_suspend);

const struct field event_subscribe_params[] = {
	FIELD(struct event_subscribe_args, since,  FIELD_UINT, .text = "with replay: events after this number"),
	FIELD(struct event_subscribe_args, replay, FIELD_BOOL, .text = "send kept events first"),
	FIELD_END
};

#define FILE_HEAD \
	FIELD(struct file_args, project, FIELD_STRING, .required = true, .min = 1, .text = "real path of the VMFile"), \
	FIELD(struct file_args, vms, FIELD_OBJECTS, .required = true, .fields = vm_spec_fields, .size = sizeof(struct vm_spec), .max = 1000, .text = "its machines"), \
	FIELD(struct file_args, names, FIELD_STRINGS, .text = "only these machines, and what they depend on")

const struct field file_plan_params[] = {
	FILE_HEAD,
	FIELD(struct file_args, provision, FIELD_BOOL, .fallback = "true", .text = "count provisioning as work"),
	FIELD_END
};
const struct field file_up_params[] = {
	FILE_HEAD,
	FIELD(struct file_args, provision, FIELD_BOOL, .fallback = "true", .text = "run the provision steps"),
	ROW_TIMEOUT(struct file_args, "5min", "how long a guest may take to be reachable and set up"),
	ROW_AUTH(struct file_args),
	ROW_PROGRESS(struct file_args),
	FIELD_END
};
const struct field file_reload_params[] = {
	FILE_HEAD,
	FIELD(struct file_args, provision, FIELD_BOOL, .fallback = "true", .text = "run the provision steps"),
	ROW_TIMEOUT(struct file_args, "5min", "how long a guest may take to be reachable and set up"),
	ROW_AUTH(struct file_args),
	ROW_PROGRESS(struct file_args),
	FIELD_END
};
const struct field file_down_params[] = {
	FILE_HEAD,
	FIELD(struct file_args, destroy, FIELD_BOOL, .text = "remove the machines and their disks too"),
	FIELD(struct file_args, orphans, FIELD_BOOL, .text = "with destroy: also machines that are no longer in the VMFile"),
	ROW_TIMEOUT(struct file_args, "30s", "how long a guest may take to power off"),
	ROW_PROGRESS(struct file_args),
	FIELD_END
};

#define ROW_IMAGE(type) FIELD(type, image, FIELD_STRING, .required = true, .min = 1, .text = "digest (or its beginning) or name of the image")
#define ROW_FORMAT(type, words) FIELD(type, format, FIELD_STRING, .min = 1, .max = 16, .text = words)
const struct field image_inspect_params[] = { ROW_IMAGE(struct image_args), FIELD_END };
const struct field image_rm_params[] = { ROW_IMAGE(struct image_args), FIELD_END };
const struct field image_commit_params[] = {
	FIELD(struct image_commit_args, vm,     FIELD_STRING, .required = true, .min = 1, .max = 63, .text = "the machine's name or id; it must be stopped"),
	FIELD(struct image_commit_args, name,   FIELD_STRING, .required = true, .min = 1, .text = "what the image shall be called"),
	FIELD(struct image_commit_args, clean,  FIELD_BOOL, .text = "remove what makes the guest that guest: machine-id, host keys, cloud-init state"),
	ROW_FORMAT(struct image_commit_args, "qcow2 (the default) or raw"),
	ROW_PROGRESS(struct image_commit_args),
	FIELD_END
};
const struct field image_export_params[] = {
	ROW_IMAGE(struct image_export_args),
	FIELD(struct image_export_args, file, FIELD_FILE, .required = true, .text = "an empty file, as a descriptor that can be read and written"),
	ROW_FORMAT(struct image_export_args, "qcow2 or raw; default: as it is in the store"),
	ROW_PROGRESS(struct image_export_args),
	FIELD_END
};
const struct field image_import_params[] = {
	FIELD(struct image_import_args, image, FIELD_OBJECT, .required = true, .fields = vm_image_fields, .text = "the file, and what it must be"),
	FIELD(struct image_import_args, name, FIELD_STRING, .min = 1, .text = "a name to give it; default: the file's, as far as it can be one"),
	ROW_PROGRESS(struct image_import_args),
	FIELD_END
};
const struct field image_prune_params[] = {
	FIELD(struct image_prune_args, all,     FIELD_BOOL, .text = "also those that somebody gave a name"),
	FIELD(struct image_prune_args, dry_run, FIELD_BOOL, .text = "only tell what would go"),
	FIELD_END
};
const struct field image_pull_params[] = {
	FIELD(struct image_pull_args, image,  FIELD_OBJECT, .required = true, .fields = vm_image_fields, .shorthand = "url", .text = "https://…, oci://… or a name, and what it must be"),
	FIELD(struct image_pull_args, name,   FIELD_STRING, .min = 1, .text = "a name to give it"),
	FIELD(struct image_pull_args, policy, FIELD_ENUM,   .words = pull_policy_names, .fallback = "revalidate", .text = "missing: what the store knows will do; revalidate: ask whether it moved, if anybody answers; refresh: ask, or fail"),
	ROW_AUTH(struct image_pull_args),
	ROW_PROGRESS(struct image_pull_args),
	FIELD_END
};
const struct field image_push_params[] = {
	FIELD(struct image_push_args, reference, FIELD_STRING, .required = true, .min = 1, .text = "oci://registry/repository:tag"),
	FIELD(struct image_push_args, image,     FIELD_STRING, .min = 1, .text = "digest or name of the image"),
	FIELD(struct image_push_args, vm,        FIELD_STRING, .min = 1, .max = 63, .text = "or a machine, which must be stopped"),
	ROW_AUTH(struct image_push_args),
	ROW_PROGRESS(struct image_push_args),
	FIELD_END
};
const struct field image_tag_params[] = {
	ROW_IMAGE(struct image_tag_args),
	FIELD(struct image_tag_args, name, FIELD_STRING, .required = true, .min = 1, .text = "the name: letters, digits, '.', '_', '-', and one ':version'"),
	FIELD_END
};
const struct field image_verify_params[] = {
	FIELD(struct image_verify_args, image, FIELD_STRING, .min = 1, .text = "digest or name of the image; default: every image"),
	ROW_PROGRESS(struct image_verify_args),
	FIELD_END
};

#define ROW_OPERATION FIELD(struct operation_args, id, FIELD_STRING, .required = true, .min = 1, .max = 64, .text = "the operation's id")
const struct field operation_cancel_params[] = { ROW_OPERATION, FIELD_END };
const struct field operation_get_params[] = { ROW_OPERATION, FIELD_END };
const struct field operation_wait_params[] = {
	ROW_OPERATION,
	ROW_TIMEOUT(struct operation_args, "1h", "how long to wait"),
	ROW_PROGRESS(struct operation_args),
	FIELD_END
};
const struct field operation_list_params[] = {
	FIELD(struct operation_list_args, all, FIELD_BOOL, .text = "also those that have ended"),
	FIELD_END
};

const struct field system_hello_params[] = {
	FIELD(struct system_hello_args, protocol, FIELD_UINT, .required = true, .min = 1, .max = 1000000, .text = "the newest protocol version that the client speaks"),
	FIELD(struct system_hello_args, client,   FIELD_STRING, .max = 128, .text = "the client's name and version"),
	FIELD_END
};
const struct field system_import_legacy_params[] = {
	FIELD(struct system_import_legacy_args, store, FIELD_FILE, .required = true, .text = "the vms.json of the former vmctl"),
	FIELD(struct system_import_legacy_args, take,  FIELD_BOOL, .text = "take the machines over; else they are only listed"),
	FIELD(struct system_import_legacy_args, names, FIELD_STRINGS, .text = "only these machines"),
	ROW_PROGRESS(struct system_import_legacy_args),
	FIELD_END
};

const struct field vm_console_params[] = {
	ROW_NAME(struct vm_console_args),
	FIELD(struct vm_console_args, history_bytes, FIELD_UINT, .max = 16 << 20, .fallback = "65536", .text = "how much of what was shown before to send first"),
	FIELD_END
};

const struct field vm_create_params[] = {
#include "lib/model/spec_rows.def"
	FIELD(struct vm_create_args, start,    FIELD_BOOL, .text = "start it at once"),
	ROW_AUTH(struct vm_create_args),
	ROW_PROGRESS(struct vm_create_args),
	FIELD_END
};

const struct field vm_destroy_params[] = {
	ROW_NAME(struct vm_destroy_args),
	FIELD(struct vm_destroy_args, force, FIELD_BOOL, .text = "do not ask a running guest to power off first"),
	ROW_PROGRESS(struct vm_destroy_args),
	FIELD_END
};
const struct field vm_exec_params[] = {
	ROW_NAME(struct vm_exec_args),
	FIELD(struct vm_exec_args, command, FIELD_STRINGS, .required = true, .min = 1, .text = "program and arguments"),
	FIELD(struct vm_exec_args, tty,     FIELD_BOOL, .text = "with a terminal"),
	FIELD(struct vm_exec_args, term,    FIELD_STRING, .max = 64, .fallback = "xterm", .text = "the terminal's type"),
	FIELD(struct vm_exec_args, columns, FIELD_UINT, .min = 1, .max = 10000, .fallback = "80", .text = "the terminal's width"),
	FIELD(struct vm_exec_args, rows,    FIELD_UINT, .min = 1, .max = 10000, .fallback = "24", .text = "the terminal's height"),
	FIELD_END
};
const struct field vm_log_params[] = {
	ROW_NAME(struct vm_log_args),
	FIELD(struct vm_log_args, source, FIELD_ENUM, .words = log_source_names, .fallback = "console", .text = "which log"),
	FIELD(struct vm_log_args, tail,   FIELD_UINT, .max = 1000000000, .text = "only the last lines; 0: all"),
	FIELD(struct vm_log_args, follow, FIELD_BOOL, .text = "go on with what comes"),
	FIELD_END
};
#define PORT_PARAMS(id, words) const struct field id##_params[] = { \
	ROW_NAME(struct vm_ports_args), \
	FIELD(struct vm_ports_args, ports, FIELD_STRINGS, .required = true, .min = 1, .max = PORTS_MAX, .text = words), \
	ROW_PROGRESS(struct vm_ports_args), \
	FIELD_END \
}
PORT_PARAMS(vm_port_add, "8080:80, 127.0.0.1:5353:53/udp, 0:22: of the host, then of the guest");
PORT_PARAMS(vm_port_remove, "as they were added, or with the port of the host that they have");
const struct field vm_provision_params[] = {
	ROW_NAME(struct vm_provision_args),
	FIELD(struct vm_provision_args, project, FIELD_STRING, .min = 1, .text = "real path of the VMFile that asks"),
	FIELD(struct vm_provision_args, force, FIELD_BOOL, .text = "also the steps that are done"),
	ROW_TIMEOUT(struct vm_provision_args, "5min", "how long the guest may take to be reachable and set up"),
	ROW_PROGRESS(struct vm_provision_args),
	FIELD_END
};
const struct field vm_stop_params[] = {
	ROW_NAME(struct vm_stop_args),
	ROW_TIMEOUT(struct vm_stop_args, "30s", "how long the guest may take to power off"),
	FIELD(struct vm_stop_args, force, FIELD_BOOL, .text = "do not ask the guest"),
	ROW_PROGRESS(struct vm_stop_args),
	FIELD_END
};
const struct field vm_wait_params[] = {
	ROW_NAME(struct vm_wait_args),
	FIELD_NAMED("for", struct vm_wait_args, condition, FIELD_ENUM, .words = wait_for_names, .fallback = "ready", .text = "what to wait for"),
	ROW_TIMEOUT(struct vm_wait_args, "5min", "how long to wait"),
	FIELD_END
};
/* clang-format on */

const struct method methods[METHODS] = {
#define METHOD(id, wire_name, access_class, words)                                                 \
	[METHOD_##id] = { wire_name, access_class, words, id##_params, sizeof(struct id##_args) },
#include "proto/methods.def"
#undef METHOD
};

const struct method *
method_find(const char *wire, size_t len)
{
	size_t low = 0, high = METHODS;

	while (low < high) {
		size_t mid = (low + high) / 2;
		int order = strncmp(wire, methods[mid].wire, len);

		if (order == 0 && methods[mid].wire[len] != '\0')
			order = -1;
		if (order == 0)
			return &methods[mid];
		if (order < 0)
			high = mid;
		else
			low = mid + 1;
	}
	return NULL;
}
