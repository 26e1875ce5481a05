/* SPDX-License-Identifier: MPL-2.0
 *
 * One vmm-fetch: a process that gets its order on standard input and tells what becomes of it in
 * lines.  It ends with its last line; what counts is that its process is gone, because only then
 * nobody writes into the files it was given.
 *
 * Where it runs as the user who asked, that user can stop it or end it, which its silence or its
 * end tells, and no more: from the change of its user on it is not dumpable, so that it can not
 * be traced, nor its descriptors be taken. */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/json.h"
#include "lib/base/log.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/platform.h"
#include "lib/base/process.h"
#include "lib/base/str.h"
#include "lib/base/stream.h"
#include "lib/image/fetches.h"

/* SILENCE_MS: longer than a server may ask to wait, and than a part takes to be read back. */
enum { LINE_MAX_BYTES = 64 << 10, SILENCE_MS = 600 * 1000, END_MS = 5000, NOBODY = 65534 };

struct child {
	LIST_ENTRY(child) link;
	struct image_store *images;
	struct stream *stream; /* NULL: it said its last */
	struct process_watch *watch; /* NULL: it has ended */
	struct timer *silence;
	pid_t pid;
	int pidfd;
	bool killed, good;
	bool busy, dead; /* in a callback of its stream; to be freed after it */
	struct child_failure failure;
	child_line_fn *line;
	child_end_fn *end;
	void *arg;
};

static void
child_free(struct child *c)
{
	LIST_REMOVE(c, link);
	stream_destroy(c->stream);
	process_watch_destroy(c->watch);
	timer_destroy(c->silence);
	if (c->pidfd >= 0)
		close(c->pidfd);
	free(c);
}

static void
end_if_over(struct child *c)
{
	child_end_fn *end = c->end;
	struct child_failure failure = c->failure;
	bool good = c->good && !c->killed;
	void *arg = c->arg;

	if (c->stream != NULL || c->watch != NULL)
		return;
	if (c->killed)
		err_set(&failure.err, E_CANCELLED, "the transfer was cancelled");
	child_free(c);
	end(arg, good ? NULL : &failure);
}

static void
hear(struct child *c, json_object *line)
{
	const char *event = json_string(line, "event");
	const char *message = json_string(line, "message"), *hint = json_string(line, "hint");
	CLEANUP_FREE char *said = NULL, *advice = NULL;

	if (event == NULL || c->killed)
		return;
	timer_arm(c->silence, SILENCE_MS + c->images->fetches->config.stall_ms);
	if (str_eq(event, "failed")) {
		/* The words may be a server's, in part. */
		said = message != NULL ? str_printable(message, strlen(message)) : xstrdup("it failed");
		advice = hint != NULL ? str_printable(hint, strlen(hint)) : xstrdup("");
		memset(&c->failure, 0, sizeof(c->failure));
		err_set(&c->failure.err, err_from_name(json_string(line, "error")), "%s", said);
		if (advice[0] != '\0')
			err_hint(&c->failure.err, "%s", advice);
		c->failure.temporary = json_flag(line, "temporary");
		c->failure.status = (int)json_int(line, "status");
		return;
	}
	c->good = str_eq(event, "done") || str_eq(event, "manifest") || str_eq(event, "pushed");
	c->line(c->arg, event, line);
}

char *
child_retry_note(json_object *line)
{
	const char *said = json_string(line, "message");
	CLEANUP_FREE char *shown = said != NULL ? str_printable(said, strlen(said)) : NULL;

	if (shown == NULL)
		return NULL;
	return xasprintf("%s; try %lld follows in %.1f s", shown,
	    (long long)json_int(line, "attempt") + 1, (double)json_int(line, "wait_ms") / 1000);
}

static void
on_input(void *arg)
{
	struct child *c = arg;
	bool overlong = false;
	size_t len;
	char *text;

	c->busy = true;
	while (!c->dead && (text = stream_line(c->stream, LINE_MAX_BYTES, &len, &overlong)) != NULL) {
		CLEANUP_JSON json_object *line = json_tokener_parse(text);

		if (json_object_is_type(line, json_type_object))
			hear(c, line);
	}
	c->busy = false;
	if (c->dead) {
		child_free(c);
		return;
	}
	if (overlong || (c->stream != NULL && stream_at_eof(c->stream))) {
		stream_destroy(TAKE(c->stream));
		end_if_over(c);
	}
}

static void
on_closed(void *arg, int errno_value)
{
	struct child *c = arg;

	stream_destroy(TAKE(c->stream));
	end_if_over(c);
}

static void
on_exit_seen(void *arg, const struct process_exit *how)
{
	struct child *c = arg;

	process_watch_destroy(TAKE(c->watch));
	/* A last line is worth what the end of the process is. */
	c->good = c->good && how->known && !how->signaled && how->code == 0;
	end_if_over(c);
}

static void
on_silence(void *arg)
{
	struct child *c = arg;

	c->good = false;
	c->failure.temporary = c->failure.vanished = true;
	err_set(&c->failure.err, E_TIMEOUT, "vmm-fetch has said nothing for %d minutes",
	    SILENCE_MS / 60000);
	if (c->watch != NULL)
		process_signal(c->pid, c->pidfd, SIGKILL);
}

static const struct stream_handler handler = { .on_input = on_input, .on_closed = on_closed };

/* ---- starting ---- */

/* A file in memory that has no name: an order may hold secrets. */
static int
order_file(const struct fetch_order *order, struct err *err)
{
	json_object *doc = fields_encode(fetch_order_fields, order);
	const char *shared = json_object_to_json_string_ext(doc, JSON_TEXT_FLAGS);
	size_t len = strlen(shared);
	int fd = platform_memory_file();

	if (fd < 0 || fs_write_all(fd, shared, len) < 0 || lseek(fd, 0, SEEK_SET) < 0) {
		err_errno(err, E_LIMIT, errno, "can not write an order for vmm-fetch");
		if (fd >= 0)
			close(fd);
		fd = -1;
	}
	mem_wipe((char *)(uintptr_t)shared, len);
	fetch_order_wipe(doc);
	json_object_put(doc);
	return fd;
}

static void
complete(const struct image_store *images, struct fetch_order *order, uid_t uid)
{
	const struct image_fetcher *config = &images->fetches->config;

	order->parent = (uint64_t)getpid();
	order->drop = config->drop;
	/* Nothing that a server says is read with the rights of root. */
	order->uid = uid != 0 ? uid : NOBODY;
	order->gid = NOBODY;
	if (order->max_bytes == 0)
		order->max_bytes = config->max_bytes;
	order->keep_free_bytes = config->keep_free_bytes;
	order->stall_ms = config->stall_ms;
	if (order->connect_ms == 0)
		order->connect_ms = config->connect_ms;
	if (order->attempts == 0)
		order->attempts = config->attempts;
}

struct child *
child_start(struct image_store *images, struct fetch_order *order, uid_t uid, int sink_fd,
    int spool_fd, child_line_fn *line, child_end_fn *end, void *arg, struct err *err)
{
	const char *argv[] = { images->fetches->config.program, NULL };
	struct process_fd fds[2];
	struct process_spec spec = { .argv = argv, .stdout_fd = -1, .stderr_fd = -1, .fds = fds };
	int pair[2] = { -1, -1 };
	CLEANUP_FD int input = -1;
	struct child *c;
	int rc;

	complete(images, order, uid);
	input = order_file(order, err);
	if (input < 0)
		return NULL;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
		err_errno(err, E_LIMIT, errno, "can not start '%s'", argv[0]);
		return NULL;
	}
	if (sink_fd >= 0)
		fds[spec.fd_count++] = (struct process_fd){ sink_fd, SINK_FD };
	if (spool_fd >= 0)
		fds[spec.fd_count++] = (struct process_fd){ spool_fd, SPOOL_FD };
	spec.stdin_fd = input;
	spec.stdout_fd = pair[1];
	c = xcalloc(1, sizeof(*c));
	c->pidfd = -1;
	rc = process_spawn(&spec, &c->pid, &c->pidfd, err);
	close(pair[1]);
	if (rc != 0) {
		close(pair[0]);
		free(c);
		return NULL;
	}
	c->images = images;
	c->line = line;
	c->end = end;
	c->arg = arg;
	err_set(&c->failure.err, E_FAILED, "vmm-fetch ended before its work was done");
	err_hint(&c->failure.err, "ask again: what has come so far is kept");
	c->failure.temporary = c->failure.vanished = true;
	c->failure.uid = uid;
	c->stream = stream_create(images->loop, pair[0], &handler, c);
	c->watch = process_watch_create(images->loop, c->pid, c->pidfd, on_exit_seen, c);
	c->silence = timer_create_on(images->loop, on_silence, c);
	timer_arm(c->silence, SILENCE_MS + images->fetches->config.stall_ms);
	LIST_INSERT_HEAD(&images->fetches->children, c, link);
	return c;
}

void
child_kill(struct child *c)
{
	c->killed = true;
	if (c->watch != NULL)
		process_signal(c->pid, c->pidfd, SIGKILL);
}

/* What it writes to may be opened anew soon: its end is waited for. */
void
child_destroy(struct child *c)
{
	struct pollfd ended = { .fd = c != NULL ? c->pidfd : -1, .events = POLLIN };
	struct process_exit how;

	if (c == NULL)
		return;
	if (c->watch != NULL) {
		process_signal(c->pid, c->pidfd, SIGKILL);
		poll(&ended, 1, END_MS);
		process_reap(c->pid, c->pidfd, false, &how);
	}
	c->dead = c->busy;
	if (!c->dead)
		child_free(c);
}
