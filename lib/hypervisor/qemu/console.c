/* SPDX-License-Identifier: MPL-2.0
 *
 * Serial consoles.  The guest's output is a file that the emulator appends to, and input is a
 * FIFO: a daemon that is stopped or gone blocks no guest.  Live output is the growth of the file,
 * told by one inotify descriptor for all machines. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/hypervisor/qemu/qemu.h"

enum { CHUNK = 65536, INPUT_MAX = 65536 };

struct console {
	LIST_ENTRY(console) entry;
	struct console_hub *hub;
	int log_fd, wd;
	off_t offset;
	hv_output_fn *fn;
	void *arg;
	char *fifo;
	int in_fd;		  /* -1: nothing was written yet */
	struct watch *writable;	  /* while input waits */
	struct sbuf input;
	struct timer *more; /* a chunk was taken and there is more */
	int busy;
	bool dead;
};

struct console_hub {
	struct loop *loop;
	int fd; /* inotify; -1 until the first console is opened */
	struct watch *watch;
	LIST_HEAD(, console) consoles;
};

char *
console_fifo_path(const struct hv_config *config)
{
	return fs_join(config->run_dir, "console");
}

struct console_hub *
console_hub_create(struct loop *loop)
{
	struct console_hub *hub = xcalloc(1, sizeof(*hub));

	hub->loop = loop;
	hub->fd = -1;
	LIST_INIT(&hub->consoles);
	return hub;
}

void
console_hub_destroy(struct console_hub *hub)
{
	if (hub == NULL)
		return;
	watch_destroy(hub->watch);
	if (hub->fd >= 0)
		close(hub->fd);
	free(hub);
}

/* One chunk a turn, so that a guest which floods its console leaves time for others. */
static void
take_output(void *arg)
{
	struct console *console = arg;
	char chunk[CHUNK];
	struct stat st;
	ssize_t n;

	/* Shorter than what we have seen: it was trimmed, and begins anew. */
	if (fstat(console->log_fd, &st) == 0 && st.st_size < console->offset)
		console->offset = 0;
	n = pread(console->log_fd, chunk, sizeof(chunk), console->offset);
	if (n <= 0)
		return;
	console->offset += n;
	if (n == (ssize_t)sizeof(chunk))
		timer_arm(console->more, 1);
	console->busy++;
	console->fn(console->arg, chunk, (size_t)n);
	if (--console->busy == 0 && console->dead)
		free(console);
}

static void
on_inotify(void *arg, unsigned events)
{
	struct console_hub *hub = arg;
	_Alignas(struct inotify_event) char space[4096];
	const struct inotify_event *event;
	ssize_t n = read(hub->fd, space, sizeof(space));

	for (ssize_t at = 0; at < n; at += (ssize_t)(sizeof(*event) + event->len)) {
		struct console *console;

		event = (const void *)(space + at);
		LIST_FOREACH(console, &hub->consoles, entry)
			if (console->wd == event->wd)
				break;
		/* Soon instead of now: a burst of small writes becomes one read. */
		if (console != NULL && !timer_armed(console->more))
			timer_arm(console->more, 1);
	}
}

static int
start_inotify(struct console_hub *hub, struct err *err)
{
	if (hub->fd >= 0)
		return 0;
	hub->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	if (hub->fd < 0)
		return err_errno(err, E_LIMIT, errno, "can not watch consoles");
	hub->watch = watch_create(hub->loop, hub->fd, LOOP_READ, on_inotify, hub);
	return 0;
}

int
console_open(struct console_hub *hub, const struct hv_config *config, hv_output_fn *fn, void *arg,
    struct console **ret_console, struct err *err)
{
	CLEANUP_FREE char *path = fs_join(config->dir, "console.log");
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct console *console;
	struct stat st;
	int wd;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(err, E_IO, errno, "can not open '%s'", path);
	if (start_inotify(hub, err) != 0)
		return E_LIMIT;
	wd = inotify_add_watch(hub->fd, path, IN_MODIFY);
	if (wd < 0)
		return err_errno(err, E_LIMIT, errno, "can not watch '%s'", path);
	console = xcalloc(1, sizeof(*console));
	*console = (struct console){ .hub = hub, .wd = wd, .offset = st.st_size, .fn = fn, .arg = arg,
		.in_fd = -1 };
	console->log_fd = TAKE_FD(fd);
	console->fifo = console_fifo_path(config);
	console->more = timer_create_on(hub->loop, take_output, console);
	/* What came between the look at the size and the watch raises no event. */
	timer_arm(console->more, 1);
	LIST_INSERT_HEAD(&hub->consoles, console, entry);
	*ret_console = console;
	return 0;
}

static void
flush_input(struct console *console)
{
	ssize_t n = 0;

	while (console->input.len > 0 && n >= 0) {
		n = write(console->in_fd, console->input.data, console->input.len);
		if (n > 0) {
			memmove(console->input.data, console->input.data + n,
			    console->input.len - (size_t)n);
			console->input.len -= (size_t)n;
		}
	}
}

static void
on_writable(void *arg, unsigned events)
{
	struct console *console = arg;

	flush_input(console);
	if (console->input.len == 0)
		watch_set(console->writable, 0);
}

int
console_write(struct console *console, const void *data, size_t len, struct err *err)
{
	if (console->in_fd < 0) {
		/* Also for reading: then a write can not raise SIGPIPE when the emulator is gone. */
		console->in_fd = open(console->fifo, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW);
		if (console->in_fd < 0)
			return err_errno(err, E_STATE, errno, "the console takes no input");
		console->writable =
		    watch_create(console->hub->loop, console->in_fd, 0, on_writable, console);
	}
	if (console->input.len + len > INPUT_MAX)
		return err_set(err, E_LIMIT, "the guest does not read its console");
	sbuf_add(&console->input, data, len);
	flush_input(console);
	watch_set(console->writable, console->input.len > 0 ? LOOP_WRITE : 0);
	return 0;
}

void
console_forget_input(struct console *console)
{
	if (console == NULL || console->in_fd < 0)
		return;
	watch_destroy(TAKE(console->writable));
	close(TAKE_FD(console->in_fd));
	sbuf_reset(&console->input);
}

uint64_t
console_offset(const struct console *console)
{
	return (uint64_t)console->offset;
}

void
console_close(struct console *console)
{
	if (console == NULL)
		return;
	LIST_REMOVE(console, entry);
	inotify_rm_watch(console->hub->fd, console->wd);
	timer_destroy(console->more);
	console_forget_input(console);
	close(console->log_fd);
	free(console->fifo);
	sbuf_done(&console->input);
	console->dead = true;
	if (console->busy == 0)
		free(console);
}
