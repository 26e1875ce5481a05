/* SPDX-License-Identifier: MPL-2.0
 *
 * Is sshd there?  User networking accepts a connection long before the guest listens, and then
 * holds it; so several attempts overlap, each is short-lived, and only a banner counts. */
#include "daemon/probe.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"

enum { EVERY_MS = 50, ATTEMPTS = 6, SPACING_MS = 400, LIFE_MS = 3000 };

struct attempt {
	struct probe *probe;
	struct watch *watch;
	int fd; /* -1: free */
	uint64_t started_ms;
};

struct probe {
	struct loop *loop;
	struct sockaddr_storage address;
	socklen_t address_len;
	struct attempt attempts[ATTEMPTS];
	struct timer *timer;
	uint64_t last_ms; /* when the newest attempt began */
	void (*on_banner)(void *arg);
	void *arg;
};

static void
attempt_end(struct attempt *a)
{
	if (a->fd < 0)
		return;
	watch_destroy(TAKE(a->watch));
	close(a->fd);
	a->fd = -1;
}

static void
on_ready(void *arg, unsigned events)
{
	struct attempt *a = arg;
	struct probe *probe = a->probe;
	char text[4];
	ssize_t n = recv(a->fd, text, sizeof(text), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	attempt_end(a);
	if (n < (ssize_t)sizeof(text) || memcmp(text, "SSH-", 4) != 0)
		return; /* refused, reset or not SSH: the timer tries again */
	timer_disarm(probe->timer);
	for (size_t i = 0; i < ATTEMPTS; i++)
		attempt_end(&probe->attempts[i]);
	probe->on_banner(probe->arg);
}

static void
attempt_begin(struct probe *probe, struct attempt *a)
{
	a->fd = socket(probe->address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (a->fd < 0)
		return;
	if (connect(a->fd, (struct sockaddr *)&probe->address, probe->address_len) < 0 &&
	    errno != EINPROGRESS) {
		close(a->fd);
		a->fd = -1;
		return;
	}
	a->started_ms = probe->last_ms = clock_ms();
	a->watch = watch_create(probe->loop, a->fd, LOOP_READ, on_ready, a);
}

static void
on_timer(void *arg)
{
	struct probe *probe = arg;
	struct attempt *spare = NULL;
	uint64_t now = clock_ms();
	size_t waiting = 0;

	for (size_t i = 0; i < ATTEMPTS; i++) {
		struct attempt *a = &probe->attempts[i];

		if (a->fd >= 0 && now - a->started_ms > LIFE_MS)
			attempt_end(a);
		if (a->fd >= 0)
			waiting++;
		else
			spare = a;
	}
	/* A refused attempt is repeated at once, one that hangs gets company after a while. */
	if (spare != NULL && (waiting == 0 || now - probe->last_ms >= SPACING_MS))
		attempt_begin(probe, spare);
	timer_arm(probe->timer, EVERY_MS);
}

struct probe *
probe_create(struct loop *loop, const char *host, uint16_t port, void (*on_banner)(void *arg),
    void *arg)
{
	const struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
		.ai_socktype = SOCK_STREAM };
	struct probe *probe;
	struct addrinfo *found = NULL;
	char service[8];

	snprintf(service, sizeof(service), "%u", port);
	if (getaddrinfo(host, service, &hints, &found) != 0)
		return NULL;
	probe = xcalloc(1, sizeof(*probe));
	probe->loop = loop;
	memcpy(&probe->address, found->ai_addr, found->ai_addrlen);
	probe->address_len = found->ai_addrlen;
	freeaddrinfo(found);
	for (size_t i = 0; i < ATTEMPTS; i++) {
		probe->attempts[i].probe = probe;
		probe->attempts[i].fd = -1;
	}
	probe->on_banner = on_banner;
	probe->arg = arg;
	probe->timer = timer_create_on(loop, on_timer, probe);
	timer_arm(probe->timer, 0);
	return probe;
}

void
probe_destroy(struct probe *probe)
{
	if (probe == NULL)
		return;
	for (size_t i = 0; i < ATTEMPTS; i++)
		attempt_end(&probe->attempts[i]);
	timer_destroy(probe->timer);
	free(probe);
}
