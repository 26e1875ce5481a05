/* SPDX-License-Identifier: MPL-2.0
 *
 * From "start" to QMP's "running": through the backend (launcher, confinement, durable record),
 * and by hand with the very same command line.  Interleaved, medians, with the spread.
 * usage: bench_launch LAUNCHER [REPEATS] */
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/fs.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/base/worker.h"
#include "lib/hypervisor/qemu/qemu.h"

static const struct hv_nic one_nic = { .mac = "52:54:00:00:00:01" };

enum { REPEATS_MAX = 1000, IMAGE_BYTES = 1 << 20 };

struct bench {
	struct loop *loop;
	struct hv_env env;
	struct hypervisor *hv;
	struct hv_config config;
	struct vm_spec spec;
	struct hv_machine *m;
	char *top, *dir, *run_dir, *image;
	bool exited;
	uint64_t began_us, took_us;
};

static void
must(bool ok, const char *what)
{
	if (ok)
		return;
	fprintf(stderr, "bench_launch: %s\n", what);
	exit(1);
}

static void
on_event(void *arg, const struct hv_event *event)
{
	struct bench *b = arg;

	if (event->kind != HV_EV_EXITED)
		return;
	b->exited = true;
	loop_stop(b->loop);
}

static void
on_running(void *arg, const struct err *err)
{
	struct bench *b = arg;

	must(err == NULL, err != NULL ? err->msg : "");
	b->took_us = clock_us() - b->began_us;
	loop_stop(b->loop);
}

static void
on_launched(void *arg, const struct err *err)
{
	struct bench *b = arg;

	must(err == NULL, err != NULL ? err->msg : "");
	b->hv->ops->run(b->m, on_running, b);
}

static void
on_step(void *arg, const struct err *err)
{
	struct bench *b = arg;

	must(err == NULL, err != NULL ? err->msg : "");
	loop_stop(b->loop);
}

static void
ignore(void *arg, const struct err *err)
{
}

static uint64_t
by_backend(struct bench *b)
{
	b->began_us = clock_us();
	b->exited = false;
	b->hv->ops->launch(b->m, on_launched, b);
	loop_run(b->loop);
	b->hv->ops->end(b->m, HV_KILL, ignore, NULL);
	while (!b->exited)
		loop_run(b->loop);
	return b->took_us;
}

static int
listen_at(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	unlink(path);
	must(bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, 1) == 0,
	    "no socket");
	return fd;
}

static void
say(int fd, const char *text)
{
	must(fs_write_all(fd, text, strlen(text)) == 0, "no write");
}

/* Reads until the word was seen. */
static void
hear(int fd, const char *word)
{
	char text[65536];
	size_t len = 0;

	text[0] = '\0';
	while (strstr(text, word) == NULL) {
		ssize_t n = read(fd, text + len, sizeof(text) - 1 - len);

		must(n > 0, "the monitor is gone");
		len += (size_t)n;
		text[len] = '\0';
	}
}

static uint64_t
by_hand(struct bench *b, const struct strings *argv)
{
	CLEANUP_FREE char *monitor = fs_join(b->run_dir, "monitor");
	CLEANUP_FREE char *agent = fs_join(b->run_dir, "agent"), *fifo = fs_join(b->run_dir, "console");
	CLEANUP_FREE char *log = fs_join(b->dir, "console.log");
	uint64_t began = clock_us(), took;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct process_fd fds[] = {
		{ listen_at(monitor), QEMU_FD_MONITOR },
		{ listen_at(agent), QEMU_FD_AGENT },
		{ open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600), QEMU_FD_CONSOLE_LOG },
		{ open(fifo, O_RDONLY | O_NONBLOCK | O_CLOEXEC), QEMU_FD_CONSOLE_IN },
		{ open(b->image, O_RDONLY | O_CLOEXEC), QEMU_FD_IMAGE },
	};
	struct process_spec spec = { .argv = (const char *const *)argv->items, .stdin_fd = -1,
		.stdout_fd = -1, .stderr_fd = 2, .fds = fds, .fd_count = ARRAY_LEN(fds) };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), pidfd;
	pid_t pid;

	must(process_spawn(&spec, &pid, &pidfd, NULL) == 0, "no QEMU");
	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		close(fds[i].from);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", monitor);
	must(connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0, "no monitor");
	hear(fd, "QMP");
	say(fd, "{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"cont\"}\n");
	hear(fd, "RESUME");
	took = clock_us() - began;
	process_signal(pid, pidfd, 9);
	waitpid(pid, NULL, 0);
	close(pidfd);
	close(fd);
	return took;
}

static void
setup(struct bench *b, const char *launcher)
{
	static const unsigned char sector[512] = { 0xfa, 0xf4, 0xeb, 0xfd, [510] = 0x55, 0xaa };
	char top[] = "/tmp/bench-launch-XXXXXX";
	struct hv_image image = { .format = "raw", .virtual_bytes = IMAGE_BYTES };
	struct hv_router *router;
	int fd;

	must(mkdtemp(top) != NULL, "no folder");
	b->top = xstrdup(top);
	b->dir = fs_join(top, "dir");
	b->run_dir = fs_join(top, "run");
	b->image = fs_join(top, "image");
	must(mkdir(b->dir, 0700) == 0 && mkdir(b->run_dir, 0700) == 0, "no folders");
	fd = open(b->image, O_WRONLY | O_CREAT, 0600);
	must(fs_write_all(fd, sector, 512) == 0 && ftruncate(fd, IMAGE_BYTES) == 0, "no image");
	close(fd);
	b->loop = loop_create();
	b->env = (struct hv_env){ .loop = b->loop, .pool = worker_pool_create(b->loop, 1, 4),
		.launcher = launcher, .accel = "tcg", .qemu_uid = -1, .qemu_gid = -1 };
	router = hv_router_create(&b->env);
	must(hv_router_get(router, BACKEND_QEMU, &b->hv, NULL) == 0, "no backend");
	b->spec = (struct vm_spec){ .name = xstrdup("bench"), .vcpus = 1, .memory_bytes = 1ULL << 30 };
	b->config = (struct hv_config){ .id = "1", .uuid = "11111111-2222-4333-8444-555555555555",
		.name = "bench", .dir = b->dir, .run_dir = b->run_dir, .nics = &one_nic,
		.spec = &b->spec };
	b->m = b->hv->ops->open(b->hv, &b->config, on_event, b);
	image.path = b->image;
	b->hv->ops->prepare(b->m, &image, on_step, b);
	loop_run(b->loop);
}

static int
ascending(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static uint64_t
show(const char *name, uint64_t *us, size_t n)
{
	qsort(us, n, sizeof(*us), ascending);
	printf("%-12s median %6.1f ms  (%.1f .. %.1f)\n", name, (double)us[n / 2] / 1000,
	    (double)us[0] / 1000, (double)us[n - 1] / 1000);
	return us[n / 2];
}

int
main(int argc, char **argv)
{
	static uint64_t backend[REPEATS_MAX], hand[REPEATS_MAX];
	struct bench b = { 0 };
	struct qemu_disk disk;
	struct strings line = { 0 };
	uint64_t repeats = 15, x, y;

	must(argc >= 2, "usage: bench_launch LAUNCHER [REPEATS]");
	if (argc > 2)
		must(str_to_u64(argv[2], &repeats) && repeats > 0 && repeats <= REPEATS_MAX, "repeats?");
	setup(&b, argv[1]);
	must(qemu_disk_read(b.dir, &disk, NULL) == 0, "no disk");
	qemu_argv_build(&(struct qemu_plan){ .program = process_find("qemu-system-x86_64"),
			    .config = &b.config, .disk = &disk, .accel = "tcg" },
	    &line);
	line.items = xreallocarray(line.items, line.count + 1, sizeof(*line.items));
	line.items[line.count] = NULL;
	by_backend(&b); /* the page cache is warm for both */
	for (size_t i = 0; i < repeats; i++) {
		backend[i] = by_backend(&b);
		hand[i] = by_hand(&b, &line);
	}
	x = show("backend", backend, repeats);
	y = show("by hand", hand, repeats);
	printf("ratio        %.3f\n", (double)x / (double)y);
	fs_remove_tree(b.top, NULL);
	return 0;
}
