/* SPDX-License-Identifier: MPL-2.0
 *
 * Frames between two datagram sockets: straight, and through vmm-switch.  A child sends as fast as
 * the other side takes; what arrives in half a second is counted.  Interleaved, several repeats.
 * usage: bench_switch VMM_SWITCH */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/fs.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/net/switch.h"

enum { REPEATS = 3, SPAN_US = 500000, BATCH = 32, ROUND_TRIPS = 2000, QUIET_MS = 50 };

static const unsigned char macs[2][6] = { { 2, 0, 0, 0, 0, 0 }, { 2, 0, 0, 0, 0, 1 } };

static struct sockaddr_un
at(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	return address;
}

static int
station(const char *dir, unsigned port)
{
	CLEANUP_FREE char *path = net_switch_station_path(dir, port), *folder = fs_dirname(path);
	struct sockaddr_un address = at(path);
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

	fs_mkdirs(folder, 0700, NULL);
	unlink(path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		abort();
	return fd;
}

static void
fill(unsigned char *frame, size_t len, unsigned from)
{
	memset(frame, 0, len);
	memcpy(frame, macs[1 - from], 6);
	memcpy(frame + 6, macs[from], 6);
}

static void __attribute__((noreturn)) send_for_ever(int fd, const char *path, size_t len)
{
	struct sockaddr_un address = at(path);
	unsigned char frame[2048];
	struct iovec part = { frame, len };
	struct mmsghdr messages[BATCH] = { 0 };

	fill(frame, len, 0);
	for (int i = 0; i < BATCH; i++)
		messages[i].msg_hdr = (struct msghdr){ .msg_name = &address,
			.msg_namelen = sizeof(address),
			.msg_iov = &part,
			.msg_iovlen = 1 };
	for (;;)
		if (sendmmsg(fd, messages, BATCH, 0) < 0 && errno != EAGAIN)
			_exit(1);
}

/* Frames that arrived, a second. */
static double
measure(int from, int to, const char *path, size_t len)
{
	unsigned char frames[BATCH][2048];
	struct iovec parts[BATCH];
	struct mmsghdr messages[BATCH] = { 0 };
	uint64_t began, now, count = 0;
	pid_t pid = fork();

	if (pid == 0)
		send_for_ever(from, path, len);
	for (int i = 0; i < BATCH; i++) {
		parts[i] = (struct iovec){ frames[i], sizeof(frames[i]) };
		messages[i].msg_hdr = (struct msghdr){ .msg_iov = &parts[i], .msg_iovlen = 1 };
	}
	began = now = clock_us();
	while (now - began < SPAN_US) {
		int n = recvmmsg(to, messages, BATCH, MSG_WAITFORONE, NULL);

		count += n > 0 ? (uint64_t)n : 0;
		now = clock_us();
	}
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	while (poll(&(struct pollfd){ .fd = to, .events = POLLIN }, 1, QUIET_MS) > 0)
		recv(to, frames[0], sizeof(frames[0]), 0);
	return (double)count * 1e6 / (double)(now - began);
}

/* Microseconds there and back. */
static double
round_trip(int a, int b, const char *path_a, const char *path_b)
{
	struct sockaddr_un address_a = at(path_a), address_b = at(path_b);
	unsigned char there[64], back[64], got[2048];
	uint64_t began;

	fill(there, sizeof(there), 0);
	fill(back, sizeof(back), 1);
	began = clock_us();
	for (int i = 0; i < ROUND_TRIPS; i++) {
		sendto(
		    a, there, sizeof(there), 0, (struct sockaddr *)&address_a, sizeof(address_a));
		recv(b, got, sizeof(got), 0);
		sendto(b, back, sizeof(back), 0, (struct sockaddr *)&address_b, sizeof(address_b));
		recv(a, got, sizeof(got), 0);
	}
	return (double)(clock_us() - began) / ROUND_TRIPS;
}

static void
on_done(void *arg, const struct err *err)
{
	if (err != NULL) {
		fprintf(stderr, "%s\n", err->msg);
		exit(EXIT_FAILURE);
	}
	loop_stop(arg);
}

static void
run(const char *dir)
{
	static const size_t lengths[] = { 64, 1514 };
	int a = station(dir, 0), b = station(dir, 1);
	CLEANUP_FREE char *in_a = net_switch_path(dir, 0), *in_b = net_switch_path(dir, 1);
	CLEANUP_FREE char *end_a = net_switch_station_path(dir, 0);
	CLEANUP_FREE char *end_b = net_switch_station_path(dir, 1);

	for (size_t i = 0; i < ARRAY_LEN(lengths); i++)
		for (int r = 0; r < REPEATS; r++) {
			double straight = measure(a, b, end_b, lengths[i]);
			double through = measure(a, b, in_a, lengths[i]);

			printf("%4zu bytes: straight %8.0f frames/s (%6.0f Mbit/s), "
			       "through the switch %8.0f (%6.0f Mbit/s), %.2f\n",
			    lengths[i], straight, straight * (double)lengths[i] * 8e-6, through,
			    through * (double)lengths[i] * 8e-6, through / straight);
		}
	for (int r = 0; r < REPEATS; r++)
		printf("round trip: straight %.1f us, through the switch %.1f us\n",
		    round_trip(a, b, end_b, end_a), round_trip(a, b, in_a, in_b));
	close(a);
	close(b);
}

int
main(int argc, char **argv)
{
	char dir[] = "/tmp/bench-switch-XXXXXX";
	struct loop *loop = loop_create();
	struct net_switch_config config = { .loop = loop, .program = argv[1], .dir = dir };
	struct net_switch *sw;

	if (argc != 2 || mkdtemp(dir) == NULL) {
		fprintf(stderr, "usage: %s VMM_SWITCH\n", argv[0]);
		return EXIT_FAILURE;
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	sw = net_switch_open(&config, NULL, NULL);
	net_switch_add(sw, 0, "02:00:00:00:00:00", NULL, NULL);
	net_switch_add(sw, 1, "02:00:00:00:00:01", NULL, NULL);
	net_switch_start(sw, on_done, loop);
	loop_run(loop);
	run(dir);
	net_switch_stop(sw, on_done, loop);
	loop_run(loop);
	net_switch_close(sw);
	loop_destroy(loop);
	fs_remove_tree(dir, NULL);
	return EXIT_SUCCESS;
}
