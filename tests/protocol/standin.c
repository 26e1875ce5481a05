/* SPDX-License-Identifier: MPL-2.0
 *
 * The daemon's server with handlers that know no machines: they answer what the rows made of the
 * parameters, wait, fill the queue, or take the connection over.  For tests of the wire alone.
 *
 *   protocol_standin SOCKET [--system GROUP] [--max N] [--per-uid N] [--files N] [--listen-fd]
 *
 * What some methods do here, where the others answer their own arguments:
 *   system.info       {"connections", "gone", "waiting", "fds"}: what happened so far
 *   vm.wait           never answers
 *   operation.wait    answers after its timeout
 *   vm.log            answers `tail` bytes of text
 *   vm.console        raw bytes, sent back, after `history_bytes` bytes of 'h'
 *   event.subscribe   sends `since` notifications after the answer
 *   image.list        fails with E_FAILED
 *   system.shutdown   ends the program */
#include <json-c/json.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "daemon/server.h"
#include "daemon/vmmd.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/base/stream.h"
#include "proto/params.h"

struct standin {
	struct vmmd vmmd; /* first */
	int64_t gone, waiting, fds;
};

static void
answer_args(struct vmmd *vmmd, struct request *request, const struct field *rows, void *args)
{
	struct standin *standin = (struct standin *)vmmd;
	int fd;

	for (size_t i = 0; (fd = request_take_fd(request, i)) >= 0; i++) {
		standin->fds++;
		close(fd);
	}
	if (request_wants_progress(request))
		request_notify(request, "operation.progress", json_object_new_object());
	request_reply(request, fields_encode(rows, args));
}

#define METHOD(id, wire, access, summary)                                                          \
	static void answer_##id(struct vmmd *vmmd, struct request *request, void *args)            \
	{                                                                                          \
		answer_args(vmmd, request, id##_params, args);                                     \
	}
#include "proto/methods.def"
#undef METHOD

static void
info(struct vmmd *vmmd, struct request *request, void *args)
{
	struct standin *standin = (struct standin *)vmmd;
	json_object *result = json_object_new_object();

	json_object_object_add(result, "connections",
	    json_object_new_int64((int64_t)server_connections(vmmd->server)));
	json_object_object_add(result, "gone", json_object_new_int64(standin->gone));
	json_object_object_add(result, "waiting", json_object_new_int64(standin->waiting));
	json_object_object_add(result, "fds", json_object_new_int64(standin->fds));
	request_reply(request, result);
}

struct waiting {
	struct standin *standin;
	struct request *request;
	struct timer *timer;
};

/* A request must end, also when nobody waits for the answer any more. */
static void
waiter_gone(void *arg)
{
	struct waiting *waiting = arg;

	waiting->standin->gone++;
	waiting->standin->waiting--;
	request_reply(waiting->request, NULL);
	free(waiting);
}

static void
wait_for_ever(struct vmmd *vmmd, struct request *request, void *args)
{
	struct waiting *waiting = xcalloc(1, sizeof(*waiting));

	waiting->standin = (struct standin *)vmmd;
	waiting->request = request;
	waiting->standin->waiting++;
	request_on_gone(request, waiter_gone, waiting);
}

static void
waited(void *arg)
{
	struct waiting *waiting = arg;

	request_reply(waiting->request, json_object_new_string("waited"));
	timer_destroy(waiting->timer);
	free(waiting);
}

static void
wait_a_time(struct vmmd *vmmd, struct request *request, void *args)
{
	const struct operation_args *wait = args;
	struct waiting *waiting = xcalloc(1, sizeof(*waiting));

	waiting->request = request;
	waiting->timer = timer_create_on(vmmd->loop, waited, waiting);
	timer_arm(waiting->timer, wait->timeout_ms);
}

static void
answer_much(struct vmmd *vmmd, struct request *request, void *args)
{
	const struct vm_log_args *log = args;
	char *text = xmalloc(log->tail + 2);

	memset(text, 'x', log->tail + 2);
	text[0] = text[log->tail + 1] = '"';
	request_reply_text(request, text, log->tail + 2);
	free(text);
}

struct console {
	struct stream *stream;
};

static void
console_input(void *arg)
{
	struct console *console = arg;
	size_t len;
	const unsigned char *data = stream_peek(console->stream, &len);

	if (len > 0) {
		stream_write(console->stream, data, len);
		stream_consume(console->stream, len);
	}
	if (stream_at_eof(console->stream))
		stream_finish(console->stream);
}

static void
console_closed(void *arg, int errno_value)
{
	struct console *console = arg;

	stream_destroy(console->stream);
	free(console);
}

static void
open_console(struct vmmd *vmmd, struct request *request, void *args)
{
	static const struct stream_handler handler = { .on_input = console_input,
		.on_closed = console_closed };
	const struct vm_console_args *wanted = args;
	uint64_t history = wanted->history_bytes;
	struct stream *stream = request_upgrade(request, json_object_new_object());
	struct console *console;

	if (stream == NULL)
		return;
	console = xcalloc(1, sizeof(*console));
	console->stream = stream;
	stream_set_handler(stream, &handler, console);
	for (uint64_t i = 0; i < history; i++)
		stream_write(stream, "h", 1);
}

struct follower {
	struct standin *standin;
	struct subscription *subscription;
};

static void
follower_gone(void *arg)
{
	struct follower *follower = arg;

	follower->standin->gone++;
	follower->standin->waiting--;
	subscription_destroy(follower->subscription);
	free(follower);
}

static void
subscribe(struct vmmd *vmmd, struct request *request, void *args)
{
	const struct event_subscribe_args *wanted = args;
	uint64_t count = wanted->since;
	struct follower *follower = xcalloc(1, sizeof(*follower));

	follower->standin = (struct standin *)vmmd;
	follower->subscription =
	    request_subscribe(request, json_object_new_object(), follower_gone, follower);
	if (follower->subscription == NULL) {
		free(follower);
		return;
	}
	follower->standin->waiting++;
	for (uint64_t i = 0; i < count; i++) {
		json_object *event = json_object_new_object();

		json_object_object_add(event, "seq", json_object_new_int64((int64_t)i + 1));
		subscription_notify(follower->subscription, "event", event);
	}
}

static void
fail(struct vmmd *vmmd, struct request *request, void *args)
{
	struct err err = ERR_INIT;

	err_set(&err, E_FAILED, "the image store is \"gone\"");
	err_hint(&err, "look for it");
	err_object(&err, "store");
	request_fail(request, &err);
}

static void
shutdown_now(struct vmmd *vmmd, struct request *request, void *args)
{
	request_reply(request, json_object_new_object());
	loop_stop(vmmd->loop);
}

static void
on_signal(void *arg)
{
	loop_stop(arg);
}

static method_fn *const handlers[METHODS] = {
#define METHOD(id, wire, access, summary) [METHOD_##id] = answer_##id,
#include "proto/methods.def"
#undef METHOD
};

static void
fill_handlers(method_fn **table)
{
	memcpy(table, handlers, sizeof(handlers));
	table[METHOD_event_subscribe] = subscribe;
	table[METHOD_image_list] = fail;
	table[METHOD_operation_wait] = wait_a_time;
	table[METHOD_system_info] = info;
	table[METHOD_system_shutdown] = shutdown_now;
	table[METHOD_vm_console] = open_console;
	table[METHOD_vm_log] = answer_much;
	table[METHOD_vm_wait] = wait_for_ever;
}

static bool
read_options(int argc, char **argv, struct server_options *options)
{
	int passed = notify_listen_fd();
	uint64_t number;

	for (int i = 2; i < argc; i++) {
		const char *value = i + 1 < argc ? argv[i + 1] : NULL;

		if (str_eq(argv[i], "--listen-fd")) {
			options->listen_fd = passed;
			continue;
		}
		if (value == NULL)
			return false;
		if (str_eq(argv[i], "--system")) {
			options->system = true;
			options->group = value[0] != '\0' ? value : NULL;
		} else if (!str_to_u64(value, &number)) {
			return false;
		} else if (str_eq(argv[i], "--max")) {
			options->max_connections = (unsigned)number;
		} else if (str_eq(argv[i], "--per-uid")) {
			options->max_per_uid = (unsigned)number;
		} else if (str_eq(argv[i], "--files")) {
			setrlimit(RLIMIT_NOFILE, &(struct rlimit){ number, number });
		} else {
			return false;
		}
		i++;
	}
	return true;
}

int
main(int argc, char **argv)
{
	method_fn *table[METHODS];
	struct server_options options = {
		.listen_fd = -1, .max_connections = 4096, .max_per_uid = 256, .handlers = table
	};
	struct standin standin = { .vmmd = { 0 } };
	struct sigwatch *term;
	struct err err = ERR_INIT;

	if (argc < 2 || !read_options(argc, argv, &options)) {
		fprintf(stderr, "usage: %s SOCKET [OPTION...]\n", argv[0]);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	fill_handlers(table);
	options.socket_path = options.listen_fd < 0 ? argv[1] : NULL;
	standin.vmmd.loop = loop_create();
	if (server_create(&standin.vmmd, standin.vmmd.loop, &options, &standin.vmmd.server, &err) !=
	    0) {
		fprintf(stderr, "%s: %s (%s)\n", err_name(err.code), err.msg, err.hint);
		loop_destroy(standin.vmmd.loop);
		return EXIT_FAILURE;
	}
	term = sigwatch_create(standin.vmmd.loop, SIGTERM, on_signal, standin.vmmd.loop);
	notify_send("READY=1");
	puts("ready");
	fflush(stdout);
	loop_run(standin.vmmd.loop);
	server_destroy(standin.vmmd.server);
	sigwatch_destroy(term);
	loop_destroy(standin.vmmd.loop);
	return EXIT_SUCCESS;
}
