/* SPDX-License-Identifier: MPL-2.0
 *
 * port list, add, rm: ports of the host that lead to a machine. */
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "client/call.h"
#include "client/json.h"
#include "client/out.h"
#include "client/port.h"
#include "client/verbs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"

static const struct table_column columns[] = { { "HOST", false }, { "GUEST", false },
	{ "STATE", false } };

char *
port_from_shown(struct json_object *port)
{
	const char *host = json_string(port, "host");
	bool brackets = host != NULL && strchr(host, ':') != NULL;
	int64_t number = json_int(port, "host_port");
	CLEANUP_FREE char *digits = xasprintf("%lld", (long long)number);

	return xasprintf("%s%s%s:%s", brackets ? "[" : "", host != NULL ? host : "?",
	    brackets ? "]" : "", number > 0 ? digits : "(chosen at start)");
}

char *
port_to_shown(struct json_object *port)
{
	bool udp = str_eq(json_string(port, "protocol"), "udp");

	return xasprintf("%lld%s", (long long)json_int(port, "guest_port"), udp ? "/udp" : "");
}

static int
run_ports(struct vmctl *ctl, void *args, struct err *err)
{
	struct table table = { .columns = columns, .column_count = ARRAY_LEN(columns) };
	struct json_object *result = NULL, *ports;
	CLEANUP_FREE char *text = NULL;
	int rc = call_verb(ctl, args, false, &result, err);

	if (rc != 0)
		return rc;
	out_json(ctl, result);
	ports = json_member(result, "ports");
	for (size_t i = 0; i < json_length(ports); i++) {
		struct json_object *port = json_item(ports, i);
		CLEANUP_FREE char *from = port_from_shown(port), *to = port_to_shown(port);

		table_add(&table, from);
		table_add(&table, to);
		table_add(&table, json_flag(port, "ssh")      ? "ssh"
				  : json_flag(port, "active") ? "active"
							      : "at the next start");
	}
	text = table_text(&table);
	if (table.count == 0)
		out_line(ctl, "no ports");
	else if (!ctl->global.json)
		fputs(text, stdout);
	table_done(&table);
	json_object_put(result);
	return 0;
}

static const struct positional port_positionals[] = { { "name", "NAME", false, false },
	{ "ports", "PORT", false, true }, { 0 } };

const struct verb verb_port_list = {
	.name = "port list",
	.fields = vm_port_list_params,
	.args_size = sizeof(struct vm_port_list_args),
	.positionals = name_positional,
	.method = METHOD_vm_port_list,
	.run = run_ports,
};

const struct verb verb_port_add = {
	.name = "port add",
	.details =
	    "A PORT is [ADDRESS:][HOST-PORT:]GUEST-PORT[/udp]: 8080:80, 127.0.0.1:5353:53/udp.\n"
	    "Without an address it is 127.0.0.1; without a port of the host, or with 0, the\n"
	    "kernel chooses one.",
	.fields = vm_port_add_params,
	.args_size = sizeof(struct vm_port_add_args),
	.positionals = port_positionals,
	.method = METHOD_vm_port_add,
	.run = run_ports,
};

const struct verb verb_port_rm = {
	.name = "port rm",
	.fields = vm_port_remove_params,
	.args_size = sizeof(struct vm_port_remove_args),
	.positionals = port_positionals,
	.method = METHOD_vm_port_remove,
	.run = run_ports,
};
