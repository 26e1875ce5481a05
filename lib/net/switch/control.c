/* SPDX-License-Identifier: MPL-2.0
 *
 * What the switch is asked while it runs: lines of JSON over a socket that only its user can
 * reach.  A client that does not read its answers is not read from either. */
#include "lib/net/switch/control.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/json.h"
#include "lib/base/mem.h"

enum { MACS_TOLD = 1024 };

/* ---- status ---- */

static json_object *
describe_port(const struct fabric *f, unsigned number)
{
	const struct fabric_port *p = &f->ports[number];
	json_object *row = json_object_new_object(), *drops = json_object_new_object();
	char mac[18];

	json_add_int(row, "port", (int64_t)number);
	if (p->bound) {
		mac_format(p->mac, mac);
		json_add_string(row, "mac", mac);
	}
	json_add_int(row, "waiting", p->waiting);
	json_add_int(row, "in_frames", (int64_t)p->in_frames);
	json_add_int(row, "in_bytes", (int64_t)p->in_bytes);
	json_add_int(row, "out_frames", (int64_t)p->out_frames);
	json_add_int(row, "out_bytes", (int64_t)p->out_bytes);
	for (int i = 0; i < DROP_KINDS; i++)
		json_add_int(drops, fabric_drop_names[i], (int64_t)p->drops[i]);
	json_object_object_add(row, "drops", drops);
	return row;
}

static json_object *
describe_macs(const struct fabric *f, uint64_t now_ms)
{
	const struct mac_entry *entries = f->macs.entries;
	json_object *list = json_object_new_array();
	int told = 0;

	for (int i = 0; i < MACS_MAX && told < MACS_TOLD; i++) {
		json_object *row;
		char mac[18];

		if (!entries[i].used)
			continue;
		row = json_object_new_object();
		mac_format(entries[i].mac, mac);
		json_add_string(row, "mac", mac);
		json_add_int(row, "port", entries[i].port);
		if (!entries[i].fixed)
			json_add_int(row, "age_ms", (int64_t)(now_ms - entries[i].seen_ms));
		json_object_array_add(list, row);
		told++;
	}
	return list;
}

static void
add_status(json_object *answer, struct wire *w, const char *generation, uint64_t now_ms)
{
	struct fabric *f = w->fabric;
	json_object *ports = json_object_new_array();

	macs_age(&f->macs, now_ms);
	json_add_int(answer, "pid", getpid());
	json_add_string(answer, "generation", generation);
	json_add_int(answer, "mtu", (int64_t)(f->frame_max - FABRIC_HEADER - FABRIC_TAG));
	json_add_int(answer, "ageing_ms", (int64_t)f->macs.ageing_ms);
	for (unsigned i = 0; i < FABRIC_PORTS; i++)
		if (f->ports[i].present)
			json_object_array_add(ports, describe_port(f, i));
	json_object_object_add(answer, "ports", ports);
	json_add_int(answer, "mac_count", (int64_t)f->macs.count);
	json_object_object_add(answer, "macs", describe_macs(f, now_ms));
}

/* ---- requests ---- */

static int
parse(const char *line, size_t len, struct switch_request *ret_request, struct err *err)
{
	CLEANUP_JSON json_object *doc = NULL;

	if (strnlen(line, len) != len)
		return err_set(err, E_PARSE, "the line has a zero byte");
	doc = json_tokener_parse(line);
	if (!json_object_is_type(doc, json_type_object))
		return err_set(err, E_PARSE, "the line is not a JSON object");
	return fields_decode_one(switch_request_fields, doc, ret_request, err);
}

json_object *
control_answer(
    struct wire *wire, const char *generation, const char *line, size_t len, uint64_t now_ms)
{
	struct switch_request request = { 0 };
	json_object *answer = json_object_new_object();
	struct err err = ERR_INIT;
	int rc = parse(line, len, &request, &err);

	if (rc == 0) {
		switch ((enum switch_verb)request.verb) {
		case SWITCH_ADD:
			rc = wire_add(wire, (unsigned)request.port, request.mac, &err);
			break;
		case SWITCH_REMOVE:
			rc = wire_remove(wire, (unsigned)request.port, &err);
			break;
		case SWITCH_STATUS:
			break;
		}
	}
	json_add_bool(answer, "ok", rc == 0);
	if (rc != 0) {
		CLEANUP_FREE char *shown = str_line(err.msg, strlen(err.msg));

		json_add_string(answer, "error", err_name((enum err_code)rc));
		json_add_string(answer, "message", shown);
	} else if (request.verb == SWITCH_STATUS) {
		add_status(answer, wire, generation, now_ms);
	}
	fields_release(switch_request_fields, &request);
	return answer;
}

/* ---- clients ---- */

int
control_create(struct wire *wire, const char *generation, int listener,
    struct control **ret_control, struct err *err)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = wire_tag(WIRE_LISTENER, 0) };
	struct control *c = xcalloc(1, sizeof(*c));

	c->wire = wire;
	c->generation = generation;
	c->listener = listener;
	for (int i = 0; i < CONTROL_CLIENTS; i++)
		c->clients[i].fd = -1;
	if (epoll_ctl(wire->epoll, EPOLL_CTL_ADD, listener, &event) < 0) {
		err_errno(err, E_LIMIT, errno, "can not watch the control socket");
		control_destroy(c);
		return E_LIMIT;
	}
	*ret_control = c;
	return 0;
}

static void
drop_client(struct control_client *client)
{
	if (client->fd >= 0)
		close(client->fd);
	sbuf_done(&client->out);
	*client = (struct control_client){ .fd = -1 };
}

void
control_destroy(struct control *c)
{
	if (c == NULL)
		return;
	for (int i = 0; i < CONTROL_CLIENTS; i++)
		drop_client(&c->clients[i]);
	close(c->listener);
	free(c);
}

void
control_on_connection(struct control *c)
{
	int fd = accept4(c->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd < 0)
		return;
	for (unsigned i = 0; i < CONTROL_CLIENTS; i++) {
		struct epoll_event event = { .events = EPOLLIN,
			.data.u64 = wire_tag(WIRE_CLIENT, i) };

		if (c->clients[i].fd >= 0)
			continue;
		if (epoll_ctl(c->wire->epoll, EPOLL_CTL_ADD, fd, &event) < 0)
			break;
		c->clients[i].fd = fd;
		return;
	}
	close(fd);
}

/* False: the client is gone. */
static bool
write_out(struct control_client *client)
{
	while (client->sent < client->out.len) {
		ssize_t n = send(client->fd, client->out.data + client->sent,
		    client->out.len - client->sent, MSG_NOSIGNAL);

		if (n < 0)
			return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
		client->sent += (size_t)n;
	}
	sbuf_reset(&client->out);
	client->sent = 0;
	return true;
}

/* Answers the lines that are whole, as long as the answers are taken.  False: to be dropped. */
static bool
take_lines(struct control *c, struct control_client *client, uint64_t now_ms)
{
	char *end;

	while (client->out.len == 0 && (end = memchr(client->line, '\n', client->have)) != NULL) {
		size_t len = (size_t)(end - client->line);
		CLEANUP_JSON json_object *answer = NULL;

		*end = '\0';
		answer = control_answer(c->wire, c->generation, client->line, len, now_ms);
		sbuf_adds(&client->out, json_object_to_json_string_ext(answer, JSON_TEXT_FLAGS));
		sbuf_addc(&client->out, '\n');
		client->have -= len + 1;
		memmove(client->line, end + 1, client->have);
		if (!write_out(client))
			return false;
	}
	return client->have < sizeof(client->line) || client->out.len > 0;
}

static bool
serve(struct control *c, struct control_client *client, uint64_t now_ms)
{
	ssize_t n;

	if (!write_out(client))
		return false;
	if (client->out.len == 0 && client->have < sizeof(client->line)) {
		n = read(
		    client->fd, client->line + client->have, sizeof(client->line) - client->have);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return false;
		client->have += n > 0 ? (size_t)n : 0;
	}
	return take_lines(c, client, now_ms);
}

void
control_on_client(struct control *c, unsigned number, uint64_t now_ms)
{
	struct control_client *client = &c->clients[number];
	struct epoll_event event = { .data.u64 = wire_tag(WIRE_CLIENT, number) };

	if (client->fd < 0)
		return;
	if (!serve(c, client, now_ms)) {
		drop_client(client);
		return;
	}
	event.events = client->out.len > 0 ? EPOLLOUT : EPOLLIN;
	epoll_ctl(c->wire->epoll, EPOLL_CTL_MOD, client->fd, &event);
}
