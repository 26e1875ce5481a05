/* SPDX-License-Identifier: MPL-2.0
 *
 * The least that libevent and json-c can do for a request: a line is parsed, an answer is built as
 * a tree around it, printed and queued.  What the daemon does is measured against this.
 *
 *   bench_echo SOCKET        until it is ended; "ready" on stdout when it listens */
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <json-c/json.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static void
answer(struct bufferevent *bev, const char *line)
{
	json_object *request = json_tokener_parse(line), *reply = json_object_new_object(), *id;
	size_t len;
	const char *text;

	json_object_object_add(reply, "jsonrpc", json_object_new_string("2.0"));
	if (json_object_object_get_ex(request, "id", &id))
		json_object_object_add(reply, "id", json_object_get(id));
	json_object_object_add(reply, "result", request);
	text = json_object_to_json_string_length(reply, JSON_C_TO_STRING_PLAIN, &len);
	bufferevent_write(bev, text, len);
	bufferevent_write(bev, "\n", 1);
	json_object_put(reply);
}

static void
on_read(struct bufferevent *bev, void *arg)
{
	char *line;

	while (
	    (line = evbuffer_readln(bufferevent_get_input(bev), NULL, EVBUFFER_EOL_LF)) != NULL) {
		answer(bev, line);
		free(line);
	}
}

static void
on_event(struct bufferevent *bev, short what, void *arg)
{
	if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR))
		bufferevent_free(bev);
}

static void
on_accept(
    struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *peer, int len, void *arg)
{
	struct bufferevent *bev =
	    bufferevent_socket_new(evconnlistener_get_base(listener), fd, BEV_OPT_CLOSE_ON_FREE);

	bufferevent_setcb(bev, on_read, NULL, on_event, NULL);
	bufferevent_enable(bev, EV_READ | EV_WRITE);
}

int
main(int argc, char **argv)
{
	struct event_base *base = event_base_new();
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct evconnlistener *listener;

	if (argc != 2 || strlen(argv[1]) >= sizeof(addr.sun_path)) {
		fprintf(stderr, "usage: %s SOCKET\n", argv[0]);
		return EXIT_FAILURE;
	}
	signal(SIGPIPE, SIG_IGN);
	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", argv[1]);
	unlink(argv[1]);
	listener = evconnlistener_new_bind(base, on_accept, NULL,
	    LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 1024, (struct sockaddr *)&addr,
	    sizeof(addr));
	if (listener == NULL) {
		perror(argv[1]);
		return EXIT_FAILURE;
	}
	puts("ready");
	fflush(stdout);
	event_base_dispatch(base);
	evconnlistener_free(listener);
	event_base_free(base);
	return EXIT_SUCCESS;
}
