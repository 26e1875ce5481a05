/* SPDX-License-Identifier: MPL-2.0
 *
 * Ports of the host that lead to a guest on the user network: QEMU's rules for them, what it says
 * that they are, and changing them while the machine runs.  Only the human monitor has commands
 * for that; they answer with text, and never with an error, so each is checked by what is there
 * after it. */
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/hypervisor/qemu/machine.h"

const char *
forward_rule(const struct port *port, char *text)
{
	snprintf(text, PORT_TEXT_MAX, "%s:%s:%u-:%u", port_protocol_names[port->protocol],
	    port->host, port->host_port, port->guest_port);
	return text;
}

/* ---- what is ---- */

/* "  TCP[HOST_FORWARD]  14  127.0.0.1 38471  10.0.2.15  22  0  0"; '*' is every address. */
static bool
parse_line(const char *line, struct port *ret_port)
{
	struct port port = { .protocol = PORT_TCP };
	char kind[24], host[PORT_HOST_MAX];
	unsigned host_port, guest_port;

	if (sscanf(line, "%23s %*d %45s %u %*s %u", kind, host, &host_port, &guest_port) != 4)
		return false;
	if (str_eq(kind, "UDP[HOST_FORWARD]"))
		port.protocol = PORT_UDP;
	else if (!str_eq(kind, "TCP[HOST_FORWARD]"))
		return false;
	if (host_port == 0 || host_port > UINT16_MAX || guest_port > UINT16_MAX)
		return false;
	snprintf(port.host, sizeof(port.host), "%s", str_eq(host, "*") ? "0.0.0.0" : host);
	port.host_port = (uint16_t)host_port;
	port.guest_port = (uint16_t)guest_port;
	*ret_port = port;
	return true;
}

size_t
forward_parse(const char *usernet, struct port **ret_ports)
{
	struct port *ports = NULL, port;
	size_t count = 0;

	for (const char *line = usernet; line != NULL; line = strchr(line, '\n')) {
		CLEANUP_FREE char *text = NULL;

		line += strspn(line, "\r\n");
		text = xstrndup(line, strcspn(line, "\r\n"));
		if (!parse_line(text, &port))
			continue;
		ports = xreallocarray(ports, count + 1, sizeof(*ports));
		ports[count++] = port;
	}
	*ret_ports = ports;
	return count;
}

static bool
is_of_spec(const struct port *forward, const struct port *ports, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (port_equal(forward, &ports[i]))
			return true;
	return false;
}

uint16_t
forward_ssh_port(
    const struct port *forwards, size_t count, const struct vm_spec *spec, uint16_t known)
{
	struct port ports[PORTS_MAX];
	size_t port_count = ports_parse(&spec->ports, ports);
	uint16_t found = 0;

	for (size_t i = 0; i < count; i++) {
		const struct port *f = &forwards[i];

		if (f->protocol != PORT_TCP || f->guest_port != vm_spec_ssh_port(spec) ||
		    !str_eq(f->host, "127.0.0.1"))
			continue;
		if (f->host_port == known)
			return known;
		if (found == 0 && !is_of_spec(f, ports, port_count))
			found = f->host_port;
	}
	return found;
}

void
forward_learn(struct machine *m, struct json_object *result)
{
	uint16_t known = m->ssh_port;

	forward_forget(m);
	m->forward_count = forward_parse(json_object_get_string(result), &m->forwards);
	m->ssh_port = forward_ssh_port(m->forwards, m->forward_count, m->config->spec, known);
}

void
forward_forget(struct machine *m)
{
	free(TAKE(m->forwards));
	m->forward_count = 0;
	m->ssh_port = 0;
}

/* ---- changes ---- */

struct change {
	struct hv_op *op;
	struct port port;
	bool add;
	char *said; /* by the command; owned, may be NULL */
};

static void
finish(struct change *c, const struct err *err)
{
	struct hv_op *op = c->op;

	free(c->said);
	free(c);
	op_finish(op, err);
}

/* Is it there, as far as it can be told by its numbers? */
static bool
is_there(const struct machine *m, const struct port *port)
{
	for (size_t i = 0; i < m->forward_count; i++) {
		struct port f = m->forwards[i];

		if (port->host_port == 0)
			f.host_port = 0;
		if (port_equal(&f, port))
			return true;
	}
	return false;
}

static void
on_usernet(void *arg, json_object *result, const struct err *err)
{
	struct change *c = arg;
	struct machine *m = c->op->machine;
	struct err failure = ERR_INIT;
	char rule[PORT_TEXT_MAX];

	machine_enter(m);
	if (err == NULL && !m->dead && m->phase == PHASE_ALIVE) {
		forward_learn(m, result);
		if (is_there(m, &c->port) != c->add) {
			err_set(&failure, E_FAILED, "QEMU did not %s the forward '%s': %s",
			    c->add ? "add" : "remove", forward_rule(&c->port, rule),
			    c->said != NULL && c->said[0] != '\0' ? c->said : "it said nothing");
			err = &failure;
		}
	}
	finish(c, err);
	machine_leave(m);
}

static void
on_command(void *arg, json_object *result, const struct err *err)
{
	struct change *c = arg;
	struct machine *m = c->op->machine;
	const char *text = json_object_get_string(result);

	machine_enter(m);
	if (text != NULL)
		c->said = str_line(text, strcspn(text, "\r\n"));
	if (err != NULL || m->dead || m->qmp == NULL || !monitor_ask_usernet(m, on_usernet, c))
		finish(c, err);
	machine_leave(m);
}

void
qemu_op_forward(
    struct hv_machine *base, const struct port *port, bool add, hv_done_fn *done, void *arg)
{
	struct machine *m = (struct machine *)base;
	struct hv_op *op = machine_ask(m, done, arg);
	CLEANUP_FREE char *line = NULL;
	char rule[PORT_TEXT_MAX];
	struct change *c;
	json_object *args;
	size_t nic = 0;

	if (op == NULL)
		return;
	vm_spec_login_nic(m->config->spec, &nic);
	c = xcalloc(1, sizeof(*c));
	c->op = op;
	c->port = *port;
	c->add = add;
	if (add)
		line = xasprintf("hostfwd_add net%zu %s", nic, forward_rule(port, rule));
	else
		line = xasprintf("hostfwd_remove net%zu %s:%s:%u", nic,
		    port_protocol_names[port->protocol], port->host, port->host_port);
	args = json_object_new_object();
	json_object_object_add(args, "command-line", json_object_new_string(line));
	qmp_command(m->qmp, "human-monitor-command", args, on_command, c);
}
