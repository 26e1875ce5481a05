/* SPDX-License-Identifier: MPL-2.0 */
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client/call.h"
#include "client/json.h"
#include "client/out.h"
#include "client/port.h"
#include "client/verbs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"

/* "running", "failed (guest-panic)", "running (unresponsive)" */
static char *
state_shown(struct json_object *vm)
{
	const char *state = json_string(vm, "state"), *reason = json_string(vm, "reason");
	bool silent = json_has(vm, "responsive") && !json_flag(vm, "responsive");

	if (state == NULL)
		state = "?";
	if (silent)
		return xasprintf("%s (unresponsive)", state);
	/* What was asked for needs no reason. */
	if (reason == NULL || str_eq(reason, "user"))
		return xstrdup(state);
	return xasprintf("%s (%s)", state, reason);
}

static void
add_number(struct table *table, const char *before, int64_t number)
{
	if (number > 0)
		table_addf(table, "%s%lld", before, (long long)number);
	else
		table_add(table, NULL);
}

/* "user+private" */
static char *
networks_shown(struct json_object *vm)
{
	struct json_object *list = json_member(vm, "networks");
	struct sbuf text = { 0 };

	if (json_length(list) < 2)
		return xstrdup(json_string(json_member(vm, "network"), "type"));
	for (size_t i = 0; i < json_length(list); i++)
		sbuf_addf(&text, "%s%s", i > 0 ? "+" : "", json_shown(json_item(list, i), "type"));
	return sbuf_take(&text);
}

static void
add_row(struct table *table, struct json_object *vm)
{
	CLEANUP_FREE char *state = state_shown(vm);
	CLEANUP_FREE char *memory = str_size((uint64_t)json_int(vm, "memory_mib") << 20);
	CLEANUP_FREE char *networks = networks_shown(vm);
	int64_t pid = json_int(vm, "pid"), port = json_int(json_member(vm, "ssh"), "port");

	table_add(table, json_string(vm, "name"));
	table_add(table, json_string(vm, "backend"));
	table_add(table, state);
	table_addf(table, "%lld", (long long)json_int(vm, "vcpus"));
	table_add(table, memory);
	table_add(table, networks);
	add_number(table, "", pid);
	add_number(table, ":", port);
}

static const struct table_column list_columns[] = {
	{ "NAME", false },
	{ "BACKEND", false },
	{ "STATE", false },
	{ "VCPUS", true },
	{ "MEM", true },
	{ "NETWORK", false },
	{ "PID", true },
	{ "SSH", false },
};

static void
on_row(void *arg, struct json_object *vm)
{
	add_row(arg, vm);
}

static void
print_list(struct table *table)
{
	CLEANUP_FREE char *text = NULL;

	if (table->count == 0) {
		puts("no machines");
		return;
	}
	table_sort(table);
	text = table_text(table);
	fputs(text, stdout);
}

static int
run_list(struct vmctl *ctl, void *args, struct err *err)
{
	struct table table = { .columns = list_columns, .column_count = ARRAY_LEN(list_columns) };
	struct call call = { .method = METHOD_vm_list,
		.rows_key = ctl->global.json ? NULL : "vms",
		.on_row = on_row,
		.arg = &table };
	struct json_object *result = NULL, *vms;
	int rc;

	(void)args;
	rc = call_run(ctl, &call, &result, err);
	if (rc == 0 && ctl->global.json) {
		out_json(ctl, result);
	} else if (rc == 0) {
		vms = json_member(result, "vms");
		for (size_t i = 0; i < json_length(vms); i++)
			on_row(&table, json_item(vms, i));
		print_list(&table);
	}
	table_done(&table);
	json_object_put(result);
	return rc;
}

const struct verb verb_list = {
	.name = "list",
	.fields = vm_list_params,
	.args_size = sizeof(struct vm_list_args),
	.method = METHOD_vm_list,
	.run = run_list,
};

/* ---- status ---- */

static void
line(const struct vmctl *ctl, const char *label, const char *text)
{
	if (text != NULL && text[0] != '\0')
		out_line(ctl, "%-12s %s", label, text);
}

static char *
network_shown(struct json_object *network)
{
	const char *type = json_string(network, "type"), *bridge = json_string(network, "bridge"),
		   *tap = json_string(network, "tap");
	static const struct {
		const char *key, *label;
	} parts[] = { { "name", "" }, { "link", "over " }, { "address", "" },
		{ "gateway", "by " } };
	struct sbuf text = { 0 };
	size_t count = 0;

	if (bridge != NULL)
		return xasprintf("%s (bridge: %s%s%s)", type != NULL ? type : "?", bridge,
		    tap != NULL ? ", tap: " : "", tap != NULL ? tap : "");
	sbuf_adds(&text, type != NULL ? type : "");
	for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
		const char *value = json_string(network, parts[i].key);

		if (value != NULL)
			sbuf_addf(
			    &text, "%s%s%s", count++ > 0 ? ", " : " (", parts[i].label, value);
	}
	if (count > 0)
		sbuf_addc(&text, ')');
	return sbuf_take(&text);
}

static char *
ssh_shown(struct json_object *vm)
{
	struct json_object *ssh = json_member(vm, "ssh");
	const char *host = json_string(ssh, "host"), *user = json_string(ssh, "user");
	const char *source = json_string(ssh, "address_source");
	int64_t port = json_int(ssh, "port");

	if (host == NULL)
		return NULL;
	return xasprintf(strchr(host, ':') != NULL ? "%s@[%s]:%lld%s%s%s" : "%s@%s:%lld%s%s%s",
	    user != NULL ? user : "vm", host, (long long)(port > 0 ? port : 22),
	    source != NULL ? ", by its " : "", source != NULL ? source : "",
	    json_flag(ssh, "reachable") ? "" : " (not reachable yet)");
}

/* "127.0.0.1:8080 -> 80, 127.0.0.1:5353 -> 53/udp"; that of SSH has a line of its own. */
static char *
ports_shown(struct json_object *ports)
{
	struct sbuf text = { 0 };

	for (size_t i = 0; i < json_length(ports); i++) {
		struct json_object *port = json_item(ports, i);
		CLEANUP_FREE char *from = port_from_shown(port), *to = port_to_shown(port);

		if (!json_flag(port, "ssh"))
			sbuf_addf(&text, "%s%s -> %s", text.len > 0 ? ", " : "", from, to);
	}
	return sbuf_take(&text);
}

static char *
provision_shown(struct json_object *vm)
{
	struct json_object *provision = json_member(vm, "provision");
	const char *state = json_string(provision, "state"),
		   *error = json_string(provision, "error");

	if (state == NULL || json_int(provision, "steps") == 0)
		return NULL;
	return xasprintf("%s, %lld of %lld steps%s%s", state,
	    (long long)json_int(provision, "done"), (long long)json_int(provision, "steps"),
	    error != NULL ? ": " : "", error != NULL ? error : "");
}

/* What was asked for, when that says more than the digest. */
static char *
image_shown(struct json_object *image)
{
	const char *digest = json_string(image, "digest"), *url = json_string(image, "url");

	if (digest == NULL || url == NULL)
		return xstrdup(digest);
	return xasprintf("%s (%s)", url, digest);
}

static char *
firmware_shown(struct json_object *firmware)
{
	const char *type = json_string(firmware, "type");

	if (type == NULL)
		return NULL;
	return xasprintf("%s%s%s", type, json_flag(firmware, "secure_boot") ? ", secure boot" : "",
	    json_flag(firmware, "tpm") ? ", TPM" : "");
}

static char *
phases_shown(struct json_object *phases)
{
	struct sbuf text = { 0 };

	if (json_length(phases) == 0)
		return NULL;
	for (size_t i = 0; i < json_length(phases); i++) {
		struct json_object *phase = json_item(phases, i);
		CLEANUP_FREE char *took = text_seconds((uint64_t)json_int(phase, "ms"));

		sbuf_addf(&text, "%s%s %s", i > 0 ? ", " : "", json_shown(phase, "name"), took);
	}
	return sbuf_take(&text);
}

static void
print_networks(const struct vmctl *ctl, struct json_object *vm)
{
	struct json_object *list = json_member(vm, "networks");
	size_t count = json_length(list);
	CLEANUP_FREE char *first = network_shown(json_member(vm, "network"));

	if (count < 2)
		line(ctl, "Network:", first);
	for (size_t i = 0; count > 1 && i < count; i++) {
		struct json_object *nic = json_item(list, i);
		CLEANUP_FREE char *network = network_shown(nic);

		out_line(ctl, "%-12s %s, %s", "Network:", network, json_shown(nic, "mac"));
	}
}

static void
print_times(const struct vmctl *ctl, struct json_object *vm)
{
	static const struct {
		const char *label, *key;
	} rows[] = {
		{ "Created:", "created" },
		{ "Started:", "started" },
		{ "Changed:", "changed" },
	};
	CLEANUP_FREE char *phases = phases_shown(json_member(vm, "phases"));

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		line(ctl, rows[i].label, json_string(vm, rows[i].key));
	line(ctl, "Phases:", phases);
}

static void
print_status(const struct vmctl *ctl, struct json_object *vm)
{
	struct json_object *operation = json_member(vm, "operation");
	CLEANUP_FREE char *state = state_shown(vm);
	CLEANUP_FREE char *ssh = ssh_shown(vm), *provision = provision_shown(vm);
	CLEANUP_FREE char *ports = ports_shown(json_member(vm, "ports"));
	CLEANUP_FREE char *image = image_shown(json_member(vm, "image"));
	CLEANUP_FREE char *cdrom = image_shown(json_member(vm, "cdrom"));
	CLEANUP_FREE char *disk = str_size((uint64_t)json_int(vm, "disk_bytes"));
	CLEANUP_FREE char *memory = str_size((uint64_t)json_int(vm, "memory_mib") << 20);
	CLEANUP_FREE char *firmware = firmware_shown(json_member(vm, "firmware"));
	int64_t pid = json_int(vm, "pid");

	line(ctl, "Name:", json_string(vm, "name"));
	line(ctl, "ID:", json_string(vm, "id"));
	line(ctl, "Backend:", json_string(vm, "backend"));
	line(ctl, "State:", state);
	out_line(ctl, "%-12s %lld", "vCPUs:", (long long)json_int(vm, "vcpus"));
	line(ctl, "Memory:", memory);
	line(ctl, "Disk:", json_int(vm, "disk_bytes") > 0 ? disk : NULL);
	print_networks(ctl, vm);
	line(ctl, "Ports:", ports);
	line(ctl, "Arch:", json_string(vm, "arch"));
	line(ctl, "Firmware:", firmware);
	line(ctl, "Project:", json_string(vm, "project"));
	line(ctl, "Image:", image);
	line(ctl, "CD-ROM:", cdrom);
	line(ctl, "WorkDir:", json_string(vm, "work_dir"));
	line(ctl, "Overlay:", json_string(vm, "overlay"));
	line(ctl, "Seed:", json_string(vm, "seed"));
	if (pid > 0)
		out_line(ctl, "%-12s %lld", "PID:", (long long)pid);
	line(ctl, "VNC:", json_string(vm, "vnc"));
	line(ctl, "Accel:", json_string(vm, "accel"));
	line(ctl, "SSH:", ssh);
	line(ctl, "Host key:", json_string(json_member(vm, "ssh"), "host_key"));
	line(ctl, "MAC:", json_string(vm, "mac"));
	line(ctl, "cloud-init:", json_string(vm, "cloud_init"));
	line(ctl, "Provision:", provision);
	if (operation != NULL)
		out_line(ctl, "%-12s %s, %s (%s)", "Operation:", json_shown(operation, "kind"),
		    json_shown(operation, "phase"), json_shown(operation, "id"));
	print_times(ctl, vm);
}

static int
run_status(struct vmctl *ctl, void *args, struct err *err)
{
	struct json_object *result = NULL;
	int rc = call_verb(ctl, args, false, &result, err);

	if (rc == 0) {
		out_json(ctl, result);
		print_status(ctl, result);
	}
	json_object_put(result);
	return rc;
}

const struct verb verb_status = {
	.name = "status",
	.fields = vm_get_params,
	.args_size = sizeof(struct vm_get_args),
	.positionals = name_positional,
	.method = METHOD_vm_get,
	.run = run_status,
};
