/* SPDX-License-Identifier: MPL-2.0
 *
 * Load on a socket that takes a line and answers a line: each connection has one request on its
 * way at any time.  Prints one JSON object: requests a second, and the waits in microseconds.
 *
 *   bench_rpcload SOCKET CONNECTIONS SECONDS REQUEST */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"

enum { WARM_UP_MS = 200, EVENTS = 256, CHUNK = 1 << 18 };

struct peer {
	int fd;
	uint64_t sent_ns;
	bool checked; /* its first answer was a result */
};

struct load {
	const char *request;
	size_t request_len;
	int epoll;
	struct peer *peers;
	size_t count;
	uint32_t *waits_ns;
	size_t waits, cap;
	uint64_t bytes;
	bool counting;
	char *chunk;
};

static uint64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static void __attribute__((noreturn)) die(const char *what)
{
	perror(what);
	exit(EXIT_FAILURE);
}

static void
ask(struct load *load, struct peer *peer)
{
	peer->sent_ns = now_ns();
	if (send(peer->fd, load->request, load->request_len, MSG_NOSIGNAL) !=
	    (ssize_t)load->request_len)
		die("send");
}

static void
open_peer(struct load *load, struct peer *peer, const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = peer };

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	peer->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (peer->fd < 0 || connect(peer->fd, (struct sockaddr *)&addr, sizeof(addr)) != 0 ||
	    epoll_ctl(load->epoll, EPOLL_CTL_ADD, peer->fd, &event) != 0)
		die(path);
}

static void
note(struct load *load, uint64_t wait_ns)
{
	if (load->waits == load->cap) {
		load->cap = load->cap != 0 ? 2 * load->cap : 1 << 16;
		load->waits_ns = xreallocarray(load->waits_ns, load->cap, sizeof(*load->waits_ns));
	}
	load->waits_ns[load->waits++] = wait_ns < UINT32_MAX ? (uint32_t)wait_ns : UINT32_MAX;
}

static void
on_readable(struct load *load, struct peer *peer)
{
	ssize_t n = recv(peer->fd, load->chunk, CHUNK, MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		fprintf(stderr, "the other side ended the connection\n");
		exit(EXIT_FAILURE);
	}
	load->bytes += (uint64_t)n;
	if (!peer->checked && memmem(load->chunk, (size_t)n, "\"error\":", 8) != NULL) {
		fprintf(stderr, "refused: %.*s", (int)n, load->chunk);
		exit(EXIT_FAILURE);
	}
	peer->checked = true;
	if (load->chunk[n - 1] != '\n')
		return;
	if (load->counting)
		note(load, now_ns() - peer->sent_ns);
	ask(load, peer);
}

static void
turn_until(struct load *load, uint64_t end_ns)
{
	struct epoll_event events[EVENTS];

	while (now_ns() < end_ns) {
		int n = epoll_wait(load->epoll, events, EVENTS, 100);

		for (int i = 0; i < n; i++)
			on_readable(load, events[i].data.ptr);
	}
}

static int
order(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static double
percentile_us(const struct load *load, double part)
{
	return load->waits > 0 ? load->waits_ns[(size_t)(part * (double)(load->waits - 1))] / 1000.0
			       : 0;
}

int
main(int argc, char **argv)
{
	struct load load = { .epoll = epoll_create1(EPOLL_CLOEXEC) };
	struct rlimit files;
	CLEANUP_FREE char *line = NULL;
	uint64_t count, start_ns;
	double seconds;

	if (argc != 5 || !str_to_u64(argv[2], &count) || (seconds = strtod(argv[3], NULL)) <= 0) {
		fprintf(stderr, "usage: %s SOCKET CONNECTIONS SECONDS REQUEST\n", argv[0]);
		return EXIT_FAILURE;
	}
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	line = xasprintf("%s\n", argv[4]);
	load.request = line;
	load.request_len = strlen(line);
	load.chunk = xmalloc(CHUNK);
	load.peers = xcalloc(count, sizeof(*load.peers));
	for (load.count = 0; load.count < count; load.count++)
		open_peer(&load, &load.peers[load.count], argv[1]);
	for (size_t i = 0; i < count; i++)
		ask(&load, &load.peers[i]);
	turn_until(&load, now_ns() + WARM_UP_MS * 1000000ULL);
	load.counting = true;
	load.bytes = 0;
	start_ns = now_ns();
	turn_until(&load, start_ns + (uint64_t)(seconds * 1e9));
	seconds = (double)(now_ns() - start_ns) / 1e9;
	qsort(load.waits_ns, load.waits, sizeof(*load.waits_ns), order);
	printf("{\"rps\": %.0f, \"p50_us\": %.0f, \"p99_us\": %.0f, \"max_us\": %.0f, "
	       "\"bytes_per_answer\": %.0f}\n",
	    (double)load.waits / seconds, percentile_us(&load, 0.5), percentile_us(&load, 0.99),
	    percentile_us(&load, 1), load.waits > 0 ? (double)load.bytes / (double)load.waits : 0);
	return load.waits > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
