/* SPDX-License-Identifier: MPL-2.0
 *
 * The serial console.  propolis-server keeps what the guest wrote and counts its bytes; all of it
 * is copied into the machine's console.log while the machine runs, and after a pause (ours, or the
 * connection's) goes on at the byte where the copy ends.  Where in the log the instance's first
 * byte is stands in console.json beside it. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/json.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/hypervisor/propolis/machine.h"
#include "lib/hypervisor/propolis/websocket.h"

/* HISTORY: what is asked for when the server does not have the byte any more where we stopped. */
enum {
	OPEN_MS = 10000,
	IDLE_MS = 60000,
	RETRY_MIN_MS = 200,
	RETRY_MAX_MS = 5000,
	LOG_MAX = 16 << 20,
	HISTORY = 256 << 10,
	HISTORY_MS = 20000,
	BARREN = 2 /* connections */
};

struct propolis_console {
	struct machine *m;
	struct websocket *ws; /* NULL: not connected, nor about to be */
	struct rest *history_rest;
	struct timer *retry;
	unsigned retry_ms;
	bool open;
	bool opened, heard; /* this connection: was taken, brought something */
	unsigned barren;    /* how many in a row brought nothing */
	char *host;         /* where the instance is: ours, or where it was moved */
	uint16_t port;
	int fd;           /* console.log; -1: it can not be written */
	int64_t size;     /* of the log */
	int64_t base;     /* where in the log the instance's first byte is, or would be */
	hv_output_fn *fn; /* the hub; NULL: nobody looks */
	void *arg;
};

static void connect_soon(struct propolis_console *c);

/* ---- the log ---- */

static void
write_base(struct propolis_console *c)
{
	CLEANUP_FREE char *path = fs_join(c->m->config->dir, "console.json");
	CLEANUP_JSON json_object *doc = json_object_new_object();
	const char *text;

	json_add_int(doc, "base", c->base);
	text = json_object_to_json_string_ext(doc, JSON_TEXT_FLAGS);
	fs_write(path, text, strlen(text), 0600, NULL);
}

static bool
read_base(struct propolis_console *c)
{
	CLEANUP_FREE char *path = fs_join(c->m->config->dir, "console.json"), *text = NULL;
	CLEANUP_JSON json_object *doc = NULL;

	if (fs_read(path, 4096, &text, NULL, NULL) != 0)
		return false;
	doc = json_tokener_parse(text);
	if (!json_object_object_get_ex(doc, "base", NULL))
		return false;
	c->base = json_int(doc, "base");
	return c->base <= c->size;
}

static void
open_log(struct propolis_console *c)
{
	CLEANUP_FREE char *path = fs_join(c->m->config->dir, "console.log");
	struct stat st;

	c->fd =
	    open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
	c->size = c->fd >= 0 && fstat(c->fd, &st) == 0 ? (int64_t)st.st_size : 0;
}

static void
rotate(struct propolis_console *c)
{
	CLEANUP_FREE char *path = fs_join(c->m->config->dir, "console.log");
	CLEANUP_FREE char *old = fs_join(c->m->config->dir, "console.log.1");
	int64_t size = c->size;

	if (rename(path, old) < 0)
		return;
	close(c->fd);
	open_log(c);
	c->base -= size;
	write_base(c);
}

/* What can not be written to the log is shown all the same; it counts, since it is gone. */
static void
keep(struct propolis_console *c, const void *data, size_t len)
{
	if (c->fd < 0 || fs_write_all(c->fd, data, len) != 0)
		c->base -= (int64_t)len;
	else
		c->size += (int64_t)len;
	if (c->fn != NULL)
		c->fn(c->arg, data, len);
}

/* ---- the connection ---- */

static void
on_open(void *arg)
{
	struct propolis_console *c = arg;

	c->open = c->opened = true;
}

static void
on_binary(void *arg, const void *data, size_t len)
{
	struct propolis_console *c = arg;
	struct machine *m = c->m;

	propolis_enter(m);
	c->heard = true;
	c->retry_ms = RETRY_MIN_MS;
	keep(c, data, len);
	if (!m->dead && m->console == c && c->fd >= 0 && c->size > LOG_MAX)
		rotate(c);
	propolis_leave(m);
}

static bool
parse_place(const char *text, char **ret_host, uint16_t *ret_port)
{
	const char *colon = text != NULL ? strrchr(text, ':') : NULL;
	uint64_t port;
	size_t len;

	if (colon == NULL || !str_to_u64(colon + 1, &port) || port == 0 || port > 65535)
		return false;
	len = (size_t)(colon - text);
	if (text[0] == '[' && len > 2 && text[len - 1] == ']') {
		text++;
		len -= 2;
	}
	*ret_host = xstrndup(text, len);
	*ret_port = (uint16_t)port;
	return len > 0;
}

/* {"Migrating": {"destination": "ip:port", "from_start": N}}: it goes on there. */
static void
on_text(void *arg, const char *text, size_t len)
{
	struct propolis_console *c = arg;
	CLEANUP_JSON json_object *doc = json_tokener_parse(text);
	json_object *notice = NULL;
	char *host = NULL;
	uint16_t port;

	if (!json_object_is_type(doc, json_type_object) ||
	    !json_object_object_get_ex(doc, "Migrating", &notice) ||
	    !parse_place(json_string(notice, "destination"), &host, &port)) {
		free(host);
		return;
	}
	free(c->host);
	c->host = host;
	c->port = port;
	websocket_destroy(TAKE(c->ws));
	c->open = false;
	connect_soon(c);
}

/* ---- when the byte where we stopped is gone ---- */

static void
take_history(struct propolis_console *c, json_object *body)
{
	int64_t end = json_int(body, "last_byte_offset"), have = c->size - c->base;
	CLEANUP_FREE unsigned char *bytes = NULL;
	json_object *data = NULL;
	int64_t count, known;

	if (!json_object_object_get_ex(body, "data", &data) ||
	    !json_object_is_type(data, json_type_array))
		return;
	count = (int64_t)json_object_array_length(data);
	known = have - (end - count); /* how much of it we have; less than none: some was lost */
	if (known >= count)
		return;
	bytes = xmalloc((size_t)count);
	for (int64_t i = 0; i < count; i++)
		bytes[i] =
		    (unsigned char)json_object_get_int(json_object_array_get_idx(data, (size_t)i));
	if (known < 0) {
		CLEANUP_FREE char *mark = xasprintf(
		    "\r\n[vmmd: %lld bytes of the console were lost]\r\n", (long long)-known);

		keep(c, mark, strlen(mark));
		known = 0;
	}
	keep(c, bytes + known, (size_t)(count - known));
	c->base = c->size - end;
	write_base(c);
}

static void
on_history(void *arg, const struct rest_reply *reply, const struct err *err)
{
	struct propolis_console *c = arg;
	struct machine *m = c->m;

	if (err != NULL && err->code == E_CANCELLED)
		return;
	propolis_enter(m);
	if (err == NULL)
		take_history(c, reply->body);
	if (!m->dead && m->console == c) {
		rest_destroy(TAKE(c->history_rest));
		connect_soon(c);
	}
	propolis_leave(m);
}

static void
ask_history(struct propolis_console *c)
{
	CLEANUP_FREE char *path =
	    xasprintf("/instance/serial/history?most_recent=%d&max_bytes=%d", HISTORY, HISTORY);
	struct rest_call call = { .method = "GET",
		.path = path,
		.expect = 200,
		.timeout_ms = HISTORY_MS,
		.done = on_history,
		.arg = c };

	c->history_rest = rest_create(c->m->loop, c->host, c->port);
	rest_call(c->history_rest, &call);
}

static void
on_closed(void *arg, unsigned code, int status, const struct err *err)
{
	struct propolis_console *c = arg;

	websocket_destroy(TAKE(c->ws));
	c->open = false;
	c->barren = c->heard ? 0 : c->barren + 1;
	/* A server that does not have the byte any more where we stopped says so, or takes the
	 * upgrade and drops the connection. */
	if (c->history_rest == NULL &&
	    (status == 400 || (status == 0 && c->barren % BARREN == 0 && c->opened)))
		ask_history(c);
	else
		connect_soon(c);
}

static const struct websocket_handler handler = { on_open, on_binary, on_text, on_closed };

static void
on_retry(void *arg)
{
	struct propolis_console *c = arg;
	CLEANUP_FREE char *path =
	    xasprintf("/instance/serial?from_start=%lld", (long long)(c->size - c->base));
	struct websocket_target target = { .host = c->host,
		.port = c->port,
		.path = path,
		.open_timeout_ms = OPEN_MS,
		.idle_timeout_ms = IDLE_MS };

	c->opened = c->heard = false;
	if (c->ws == NULL && c->history_rest == NULL)
		c->ws = websocket_create(c->m->loop, &target, &handler, c);
}

static void
connect_soon(struct propolis_console *c)
{
	timer_arm(c->retry, c->retry_ms);
	c->retry_ms = c->retry_ms * 2 < RETRY_MAX_MS ? c->retry_ms * 2 : RETRY_MAX_MS;
}

struct propolis_console *
propolis_console_create(struct machine *m, bool fresh)
{
	struct propolis_console *c = xcalloc(1, sizeof(*c));

	c->m = m;
	c->host = xstrdup(m->address);
	c->port = m->hv->config->port;
	c->retry_ms = RETRY_MIN_MS;
	c->retry = timer_create_on(m->loop, on_retry, c);
	open_log(c);
	if (fresh || !read_base(c)) {
		c->base = c->size;
		write_base(c);
	}
	on_retry(c);
	return c;
}

void
propolis_console_destroy(struct propolis_console *c)
{
	if (c == NULL)
		return;
	websocket_destroy(c->ws);
	rest_destroy(TAKE(c->history_rest));
	timer_destroy(c->retry);
	if (c->fd >= 0)
		close(c->fd);
	free(c->host);
	free(c);
}

/* ---- the hub's side ---- */

int
propolis_op_console_open(
    struct hv_machine *base, hv_output_fn *on_output, void *arg, struct err *err)
{
	struct machine *m = (struct machine *)base;

	if (m->console == NULL)
		return err_set(err, E_STATE, "the machine's console is not there");
	m->console->fn = on_output;
	m->console->arg = arg;
	return 0;
}

int
propolis_op_console_write(struct hv_machine *base, const void *data, size_t len, struct err *err)
{
	struct machine *m = (struct machine *)base;

	if (m->console == NULL || !m->console->open)
		return err_set(err, E_STATE, "the console is not connected now; it takes no input");
	return websocket_send(m->console->ws, data, len, err);
}

uint64_t
propolis_op_console_offset(struct hv_machine *base)
{
	struct machine *m = (struct machine *)base;

	return m->console != NULL ? (uint64_t)m->console->size : 0;
}

void
propolis_op_console_close(struct hv_machine *base)
{
	struct machine *m = (struct machine *)base;

	if (m->console != NULL)
		m->console->fn = NULL;
}
