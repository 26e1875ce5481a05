/* SPDX-License-Identifier: MPL-2.0 */
#ifndef PROTO_PARAMS_H
#define PROTO_PARAMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/model/auth.h"
#include "lib/model/field.h"
#include "lib/model/spec.h"

/* The arguments of every method, as structs and as rows; both programs use them. */

#define PROTOCOL_VERSION 1

enum method_access { OBSERVE, OPERATE, ADMIN };

enum wait_for { WAIT_RUNNING, WAIT_SSH, WAIT_READY, WAIT_PROVISIONED, WAIT_STOPPED };
extern const char *const wait_for_names[];
enum log_source { LOG_CONSOLE, LOG_PROVISION, LOG_HYPERVISOR };
extern const char *const log_source_names[];
enum pull_policy { PULL_REVALIDATE, PULL_MISSING, PULL_REFRESH };
extern const char *const pull_policy_names[];

struct none_args {
	bool present;
};

struct name_args { /* most vm.* methods */
	char *name;
	bool progress;
};

struct event_subscribe_args {
	uint64_t since; /* events after this number; 0: all that are kept */
	bool replay;	/* false: only new ones */
};

struct file_args { /* plan, up, down, reload */
	char *project;
	struct objects vms; /* struct vm_spec */
	struct strings names;
	struct fetch_auth auth;
	bool provision, destroy, orphans, progress;
	uint64_t timeout_ms;
};

struct image_commit_args {
	char *vm, *name;
	char *format; /* NULL: qcow2 */
	bool clean, progress;
};

struct image_export_args {
	char *image;
	struct file_ref file; /* empty, open for reading and writing */
	char *format;	      /* NULL: the image's */
	bool progress;
};

struct image_import_args {
	struct image_spec image; /* a file */
	char *name;
	bool progress;
};

struct image_prune_args {
	bool all, dry_run;
};

struct image_pull_args {
	struct image_spec image;
	char *name;
	int policy; /* enum pull_policy */
	struct fetch_auth auth;
	bool progress;
};

struct image_push_args {
	char *image, *vm; /* one of them */
	char *reference;
	struct fetch_auth auth;
	bool progress;
};

struct image_args { /* inspect, rm */
	char *image;
};

struct image_tag_args {
	char *image, *name;
};

struct image_verify_args {
	char *image; /* NULL: all */
	bool progress;
};

struct operation_args { /* get, cancel, wait */
	char *id;
	uint64_t timeout_ms;
	bool progress;
};

struct operation_list_args {
	bool all;
};

struct system_hello_args {
	uint64_t protocol;
	char *client;
};

struct system_import_legacy_args {
	struct file_ref store; /* the vms.json of the former vmctl */
	bool take;
	struct strings names;
	bool progress;
};

struct vm_console_args {
	char *name;
	uint64_t history_bytes;
};

struct vm_create_args {
	struct vm_spec spec; /* first: its rows are shared */
	struct fetch_auth auth;
	bool start, progress;
};

struct vm_destroy_args {
	char *name;
	bool force, progress;
};

struct vm_exec_args {
	char *name;
	struct strings command;
	bool tty;
	char *term;
	uint64_t columns, rows;
};

struct vm_log_args {
	char *name;
	int source; /* enum log_source */
	uint64_t tail;
	bool follow;
};

struct vm_ports_args { /* port_add, port_remove */
	char *name;
	struct strings ports;
	bool progress;
};

struct vm_provision_args {
	char *name, *project;
	bool force, progress;
	uint64_t timeout_ms;
};

struct vm_stop_args {
	char *name;
	uint64_t timeout_ms;
	bool force, progress;
};

struct vm_wait_args {
	char *name;
	int condition; /* key "for" */
	uint64_t timeout_ms;
};

#define file_plan_args file_args
#define file_up_args file_args
#define file_down_args file_args
#define file_reload_args file_args
#define image_catalogue_args none_args
#define image_inspect_args image_args
#define image_list_args none_args
#define image_rm_args image_args
#define operation_cancel_args operation_args
#define operation_get_args operation_args
#define operation_wait_args operation_args
#define rpc_discover_args none_args
#define system_info_args none_args
#define system_shutdown_args none_args
#define vm_get_args name_args
#define vm_list_args none_args
#define vm_port_add_args vm_ports_args
#define vm_port_list_args name_args
#define vm_port_remove_args vm_ports_args
#define vm_resume_args name_args
#define vm_screenshot_args name_args
#define vm_ssh_info_args name_args
#define vm_start_args name_args
#define vm_suspend_args name_args

enum method_id {
#define METHOD(id, wire, access, summary) METHOD_##id,
#include "proto/methods.def"
#undef METHOD
	METHODS
};

struct method {
	const char *wire;
	enum method_access access;
	const char *summary;
	const struct field *params;
	size_t args_size;
};

extern const struct method methods[METHODS]; /* sorted by wire name */
/* NULL: there is none. */
const struct method *method_find(const char *wire, size_t len);

#define METHOD(id, wire, access, summary) extern const struct field id##_params[];
#include "proto/methods.def"
#undef METHOD

#endif
