/* SPDX-License-Identifier: MPL-2.0 */
#include "daemon/console.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/vm.h"
#include "daemon/vmmd.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/base/stream.h"

/* A client that does not read loses output rather than holding up the others. */
enum { BACKLOG_MAX = 1 << 20, TAIL_MAX = 4096 };

struct client {
	TAILQ_ENTRY(client) link;
	struct console *console;
	struct stream *stream;
};

struct console {
	struct vm *vm;
	TAILQ_HEAD(, client) clients;
	bool open; /* the backend's console is */
};

/* The last `max` bytes of the log before `end`; *ret_len 0 when there is none. */
static char *
read_tail(struct vm *vm, size_t max, uint64_t end, size_t *ret_len)
{
	CLEANUP_FREE char *path = vm_path(vm, "console.log");
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;
	char *data;
	ssize_t n;

	*ret_len = 0;
	if (fd < 0 || fstat(fd, &st) < 0 || st.st_size == 0)
		return NULL;
	if (end > (uint64_t)st.st_size)
		end = (uint64_t)st.st_size;
	if (max > end)
		max = (size_t)end;
	data = xmalloc(max + 1);
	n = pread(fd, data, max, (off_t)(end - max));
	*ret_len = n > 0 ? (size_t)n : 0;
	return data;
}

static void
client_destroy(struct client *c)
{
	struct console *console = c->console;

	TAILQ_REMOVE(&console->clients, c, link);
	stream_destroy(c->stream);
	free(c);
	if (TAILQ_EMPTY(&console->clients) && console->open) {
		console->vm->hv->ops->console_close(console->vm->hv);
		console->open = false;
	}
}

static void
on_input(void *arg)
{
	struct client *c = arg;
	struct vm *vm = c->console->vm;
	const unsigned char *data;
	struct err err = ERR_INIT;
	size_t len;

	data = stream_peek(c->stream, &len);
	if (len > 0 && vm->hv != NULL && c->console->open &&
	    vm->hv->ops->console_write(vm->hv, data, len, &err) != 0)
		log_debug("console of '%s': %s", vm->spec.name, err.msg);
	if (len > 0)
		stream_consume(c->stream, len);
	/* A client that closed its sending side may go on watching. */
}

static void
on_closed(void *arg, int errno_value)
{
	client_destroy(arg);
}

static const struct stream_handler handler = { on_input, NULL, on_closed };

static void
on_output(void *arg, const void *data, size_t len)
{
	struct console *console = arg;
	struct client *c;

	TAILQ_FOREACH(c, &console->clients, link)
		if (stream_queued(c->stream) < BACKLOG_MAX)
			stream_write(c->stream, data, len);
}

void
console_attach(struct vm *vm, struct stream *stream, size_t history_bytes)
{
	struct console *console = vm->console;
	CLEANUP_FREE char *history = NULL;
	uint64_t end = UINT64_MAX;
	struct err err = ERR_INIT;
	struct client *c;
	size_t len;

	if (console == NULL) {
		console = vm->console = xcalloc(1, sizeof(*console));
		console->vm = vm;
		TAILQ_INIT(&console->clients);
	}
	c = xcalloc(1, sizeof(*c));
	c->console = console;
	c->stream = stream;
	/* History ends where the live side begins, in the same file: nothing is lost or doubled. */
	if (!console->open && vm->hv != NULL && vm->runtime != NULL)
		console->open = vm->hv->ops->console_open(vm->hv, on_output, console, &err) == 0;
	if (err.code != E_OK)
		log_warn("console of '%s': %s", vm->spec.name, err.msg);
	if (console->open)
		end = vm->hv->ops->console_offset(vm->hv);
	history = read_tail(vm, history_bytes, end, &len);
	if (len > 0)
		stream_write(stream, history, len);
	TAILQ_INSERT_TAIL(&console->clients, c, link);
	stream_set_handler(stream, &handler, c);
	if (!console->open)
		stream_finish(stream);
}

void
console_ended(struct vm *vm)
{
	struct client *c;

	if (vm->console == NULL)
		return;
	TAILQ_FOREACH(c, &vm->console->clients, link)
		stream_finish(c->stream);
}

void
console_destroy(struct console *console)
{
	struct client *c;

	if (console == NULL)
		return;
	while ((c = TAILQ_FIRST(&console->clients)) != NULL)
		client_destroy(c);
	free(console);
}

char *
console_last_line(struct vm *vm)
{
	size_t len, end;
	CLEANUP_FREE char *tail = read_tail(vm, TAIL_MAX, UINT64_MAX, &len);

	while (len > 0 && strchr(" \r\n\t", tail[len - 1]) != NULL)
		len--;
	if (len == 0)
		return NULL;
	end = len;
	while (len > 0 && tail[len - 1] != '\n')
		len--;
	return str_printable(tail + len, end - len < 200 ? end - len : 200);
}
