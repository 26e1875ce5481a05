/* SPDX-License-Identifier: MPL-2.0
 *
 * Logs of machines: read whole or by the last lines, or followed as frames. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/methods.h"
#include "daemon/vm.h"
#include "daemon/vmmd.h"
#include "lib/base/frame.h"
#include "lib/base/json.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/base/stream.h"

/* What one answer holds, and how often a followed file is looked at. */
enum { TEXT_MAX = 2 << 20, LOOK_MS = 100, BACKLOG_MAX = 1 << 20 };

static const char *const file_names[] = {
	[LOG_CONSOLE] = "console.log",
	[LOG_PROVISION] = "provision.log",
	[LOG_HYPERVISOR] = "qemu.log",
};

/* Where the last `lines` lines begin, looking back at most TEXT_MAX bytes. */
static off_t
tail_start(int fd, off_t size, uint64_t lines, bool *ret_cut)
{
	CLEANUP_FREE char *data = xmalloc(TEXT_MAX);
	off_t floor = size > TEXT_MAX ? size - TEXT_MAX : 0;
	ssize_t n = pread(fd, data, (size_t)(size - floor), floor);

	*ret_cut = floor > 0;
	if (n <= 0 || lines == 0)
		return floor;
	/* A newline at the very end closes the last line, it does not begin one. */
	for (ssize_t i = n - 2; i >= 0; i--) {
		if (data[i] == '\n' && --lines == 0) {
			*ret_cut = false;
			return floor + i + 1;
		}
	}
	return floor;
}

static int
open_log(struct vm *vm, enum log_source source, int *ret_fd, off_t *ret_size, struct err *err)
{
	CLEANUP_FREE char *path = vm_path(vm, file_names[source]);
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	struct stat st;

	*ret_fd = -1;
	*ret_size = 0;
	if (fd < 0 && errno == ENOENT)
		return 0;
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_errno(err, E_IO, errno, "can not read the %s log of '%s'",
		    log_source_names[source], vm->spec.name);
	*ret_size = st.st_size;
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* ---- follow ---- */

struct follower {
	struct vmmd *vmmd;
	struct stream *stream;
	struct timer *timer;
	char vm_id[13];
	enum log_source source;
	int fd; /* -1: the file is not there yet */
	off_t at;
};

static void
follower_destroy(struct follower *f)
{
	timer_destroy(f->timer);
	stream_destroy(f->stream);
	if (f->fd >= 0)
		close(f->fd);
	free(f);
}

static void
send_frame(struct stream *stream, enum frame_type type, const void *data, size_t len)
{
	unsigned char head[FRAME_HEADER];

	frame_header(head, type, len);
	stream_write(stream, head, sizeof(head));
	stream_write(stream, data, len);
}

static void
send_new(struct follower *f)
{
	char data[FRAME_MAX];
	struct stat st;
	ssize_t n;

	if (fstat(f->fd, &st) == 0 && st.st_size < f->at)
		f->at = 0; /* it was capped: what is left is new enough */
	while (stream_queued(f->stream) < BACKLOG_MAX &&
	    (n = pread(f->fd, data, sizeof(data), f->at)) > 0) {
		f->at += n;
		send_frame(f->stream, FRAME_STDOUT, data, (size_t)n);
	}
}

static void
on_look(void *arg)
{
	struct follower *f = arg;
	struct vm *vm = vm_by_id(f->vmmd, f->vm_id);
	static const char end[] = "{\"status\":0}";
	off_t size;

	if (f->fd < 0 && vm != NULL)
		open_log(vm, f->source, &f->fd, &size, NULL);
	if (f->fd >= 0)
		send_new(f);
	if (vm == NULL) {
		send_frame(f->stream, FRAME_EXIT, end, sizeof(end) - 1);
		stream_finish(f->stream);
		return;
	}
	timer_arm(f->timer, LOOK_MS);
}

static void
on_input(void *arg)
{
	struct follower *f = arg;
	size_t len;

	if (stream_peek(f->stream, &len) != NULL)
		stream_consume(f->stream, len);
	if (stream_at_eof(f->stream))
		follower_destroy(f);
}

static void
on_closed(void *arg, int errno_value)
{
	follower_destroy(arg);
}

static const struct stream_handler handler = { on_input, NULL, on_closed };

static void
follow(struct vm *vm, struct request *request, enum log_source source, int fd, off_t at)
{
	struct follower *f = xcalloc(1, sizeof(*f));
	json_object *result = json_object_new_object();

	f->vmmd = vm->vmmd;
	f->source = source;
	f->fd = fd;
	f->at = at;
	memcpy(f->vm_id, vm->id, sizeof(f->vm_id));
	json_add_string(result, "name", vm->spec.name);
	json_add_string(result, "source", log_source_names[source]);
	f->stream = request_upgrade(request, result);
	if (f->stream == NULL) {
		if (fd >= 0)
			close(fd);
		free(f);
		return;
	}
	f->timer = timer_create_on(f->vmmd->loop, on_look, f);
	stream_set_handler(f->stream, &handler, f);
	timer_arm(f->timer, 0);
}

/* ---- read ---- */

static void
reply_text(struct vm *vm, struct request *request, enum log_source source, int fd, off_t at,
    off_t size, bool cut)
{
	CLEANUP_FREE char *data = xmalloc((size_t)(size - at) + 1), *shown = NULL;
	CLEANUP_FREE char *path = vm_path(vm, file_names[source]);
	json_object *result = json_object_new_object();
	ssize_t n = fd >= 0 ? pread(fd, data, (size_t)(size - at), at) : 0;
	size_t len = n > 0 ? (size_t)n : 0;

	json_add_string(result, "name", vm->spec.name);
	json_add_string(result, "source", log_source_names[source]);
	json_add_string(result, "path", path);
	json_add_bool(result, "exists", fd >= 0);
	json_add_bool(result, "cut", cut);
	if (str_utf8_valid(data, len) && memchr(data, '\0', len) == NULL) {
		json_object_object_add(result, "text", json_object_new_string_len(data, (int)len));
	} else {
		shown = str_base64(data, len);
		json_add_string(result, "base64", shown);
	}
	request_reply(request, result);
}

void
method_vm_log(struct vmmd *vmmd, struct request *request, void *args)
{
	struct vm_log_args *a = args;
	enum log_source source = (enum log_source)a->source;
	struct err err = ERR_INIT;
	struct vm *vm;
	bool cut = false;
	off_t size, at = 0;
	int fd = -1;

	if (vm_lookup(vmmd, a->name, request_peer(request)->uid, &vm, &err) != 0 ||
	    open_log(vm, source, &fd, &size, &err) != 0) {
		request_fail(request, &err);
		return;
	}
	if (fd >= 0 && size > 0)
		at = tail_start(fd, size, a->tail, &cut);
	if (a->follow) {
		follow(vm, request, source, fd, at);
		return;
	}
	reply_text(vm, request, source, fd, at, size, cut);
	if (fd >= 0)
		close(fd);
}
