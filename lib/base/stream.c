/* SPDX-License-Identifier: MPL-2.0
 *
 * Sockets with buffers.  Input is read with recvmsg, because descriptors come beside the bytes
 * and libevent's own bufferevents drop them. */
#include "lib/base/stream.h"

#include <assert.h>
#include <errno.h>
#include <event2/buffer.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lib/base/loop.h"
#include "lib/base/mem.h"

enum { READ_CHUNK = 65536, MAX_FDS_QUEUED = 1024, MAX_FDS_MESSAGE = 253 };

struct queued_fd {
	int fd;
	uint64_t offset; /* the input byte that it came with */
};

struct stream {
	struct loop *loop;
	struct watch *watch;
	int fd;
	const struct stream_handler *handler;
	void *arg;
	struct evbuffer *in, *out;
	uint64_t consumed; /* input bytes taken so far */
	struct queued_fd *fds;
	size_t fd_count;
	size_t line_len;  /* bytes of the line handed out last, drained at the next call */
	size_t searched;  /* input bytes known to hold no newline */
	bool eof, paused, finishing, broken, closed;
	void (*on_end)(void *arg);
	void *on_end_arg;
	struct timer *soon; /* calls back in a turn of the loop of its own; NULL: never needed */
	int busy; /* callbacks running; destruction waits for them */
	bool dead;
};

static void
stream_free(struct stream *stream)
{
	free(stream);
}

static void
enter(struct stream *stream)
{
	stream->busy++;
}

static void
leave(struct stream *stream)
{
	if (--stream->busy == 0 && stream->dead)
		stream_free(stream);
}

static void
release(struct stream *stream)
{
	watch_destroy(TAKE(stream->watch));
	timer_destroy(TAKE(stream->soon));
	for (size_t i = 0; i < stream->fd_count; i++)
		close(stream->fds[i].fd);
	stream->fd_count = 0;
	free(TAKE(stream->fds));
	evbuffer_free(TAKE(stream->in));
	evbuffer_free(TAKE(stream->out));
	if (stream->on_end != NULL)
		TAKE(stream->on_end)(stream->on_end_arg);
}

static void
update_watch(struct stream *stream)
{
	unsigned events = 0;

	if (stream->dead || stream->closed)
		return;
	if (!stream->paused && !stream->eof && !stream->finishing)
		events |= LOOP_READ;
	if (evbuffer_get_length(stream->out) > 0)
		events |= LOOP_WRITE;
	watch_set(stream->watch, events);
}

static void
report_closed(struct stream *stream, int errno_value)
{
	if (stream->dead || stream->closed)
		return;
	stream->closed = true;
	watch_set(stream->watch, 0);
	stream->handler->on_closed(stream->arg, errno_value);
}

static void
keep_fds(struct stream *stream, struct msghdr *msg, uint64_t offset)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c != NULL; c = CMSG_NXTHDR(msg, c)) {
		size_t count;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			fcntl(fd, F_SETFD, FD_CLOEXEC);
			if (stream->fd_count >= MAX_FDS_QUEUED) {
				close(fd);
				continue;
			}
			stream->fds = xreallocarray(stream->fds, stream->fd_count + 1,
			    sizeof(*stream->fds));
			stream->fds[stream->fd_count++] = (struct queued_fd){ fd, offset };
		}
	}
}

static void
read_some(struct stream *stream)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int) * MAX_FDS_MESSAGE)];
	} control;
	struct evbuffer_iovec vec;
	struct msghdr msg = { .msg_control = control.space, .msg_controllen = sizeof(control) };
	struct iovec iov;
	ssize_t n;

	if (evbuffer_reserve_space(stream->in, READ_CHUNK, &vec, 1) < 1)
		abort();
	iov.iov_base = vec.iov_base;
	iov.iov_len = vec.iov_len < READ_CHUNK ? vec.iov_len : READ_CHUNK;
	msg.msg_iov = &iov;
	msg.msg_iovlen = 1;
	n = recvmsg(stream->fd, &msg, MSG_DONTWAIT);
	if (n < 0) {
		if (errno == EAGAIN || errno == EINTR)
			return;
		stream->eof = stream->broken = true;
		evbuffer_drain(stream->out, evbuffer_get_length(stream->out));
		report_closed(stream, errno);
		return;
	}
	/* The kernel may glue earlier bytes to the message that carries descriptors, but it ends the
	 * read there: they belong to its last byte. */
	if (msg.msg_controllen > 0 && n > 0)
		keep_fds(stream, &msg,
		    stream->consumed + evbuffer_get_length(stream->in) + (size_t)n - 1);
	if (n == 0) {
		stream->eof = true;
	} else {
		vec.iov_len = (size_t)n;
		evbuffer_commit_space(stream->in, &vec, 1);
	}
	update_watch(stream);
	stream->handler->on_input(stream->arg);
	/* A peer that only shut down its sending side still gets its answers: the user of the
	 * stream sees stream_at_eof and finishes it. */
	if (n == 0 && !stream->dead && stream_hung_up(stream))
		report_closed(stream, 0);
}

static void
write_some(struct stream *stream)
{
	int n = evbuffer_write(stream->out, stream->fd);

	if (n < 0 && errno != EAGAIN && errno != EINTR) {
		stream->broken = true;
		report_closed(stream, errno);
		return;
	}
	if (evbuffer_get_length(stream->out) > 0)
		return;
	update_watch(stream);
	if (stream->finishing)
		report_closed(stream, 0);
	else if (stream->handler->on_drained != NULL)
		stream->handler->on_drained(stream->arg);
}

static void
on_ready(void *arg, unsigned events)
{
	struct stream *stream = arg;

	enter(stream);
	if (events & LOOP_WRITE)
		write_some(stream);
	if ((events & LOOP_READ) && !stream->dead && !stream->closed && !stream->paused)
		read_some(stream);
	leave(stream);
}

struct stream *
stream_create(struct loop *loop, int fd, const struct stream_handler *handler, void *arg)
{
	struct stream *stream = xcalloc(1, sizeof(*stream));

	stream->loop = loop;
	stream->fd = fd;
	stream->handler = handler;
	stream->arg = arg;
	stream->in = evbuffer_new();
	stream->out = evbuffer_new();
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	stream->watch = watch_create(loop, fd, LOOP_READ, on_ready, stream);
	return stream;
}

static void
on_soon(void *arg)
{
	struct stream *stream = arg;

	enter(stream);
	if (stream->finishing && evbuffer_get_length(stream->out) == 0)
		report_closed(stream, 0);
	else if (!stream->closed && (stream_buffered(stream) > 0 || stream->eof))
		stream->handler->on_input(stream->arg);
	leave(stream);
}

static void
call_soon(struct stream *stream)
{
	if (stream->soon == NULL)
		stream->soon = timer_create_on(stream->loop, on_soon, stream);
	timer_arm(stream->soon, 0);
}

void
stream_set_handler(struct stream *stream, const struct stream_handler *handler, void *arg)
{
	stream->handler = handler;
	stream->arg = arg;
	call_soon(stream);
}

int
stream_detach(struct stream *stream)
{
	int fd = stream->fd;

	assert(!stream->dead);
	release(stream);
	stream->dead = true;
	if (stream->busy == 0)
		stream_free(stream);
	return fd;
}

void
stream_destroy(struct stream *stream)
{
	if (stream != NULL)
		close(stream_detach(stream));
}

static void
drain_line(struct stream *stream)
{
	if (stream->line_len == 0)
		return;
	evbuffer_drain(stream->in, stream->line_len);
	stream->consumed += stream->line_len;
	stream->line_len = 0;
}

char *
stream_line(struct stream *stream, size_t max, size_t *ret_len, bool *ret_overlong)
{
	struct evbuffer_ptr start, end;
	char *line;

	drain_line(stream);
	*ret_overlong = false;
	evbuffer_ptr_set(stream->in, &start, stream->searched, EVBUFFER_PTR_SET);
	end = evbuffer_search(stream->in, "\n", 1, &start);
	if (end.pos < 0) {
		stream->searched = evbuffer_get_length(stream->in);
		*ret_overlong = stream->searched > max;
		return NULL;
	}
	if ((size_t)end.pos > max) {
		*ret_overlong = true;
		return NULL;
	}
	line = (char *)evbuffer_pullup(stream->in, end.pos + 1);
	line[end.pos] = '\0';
	*ret_len = (size_t)end.pos;
	stream->line_len = (size_t)end.pos + 1;
	stream->searched = 0;
	return line;
}

const unsigned char *
stream_peek(struct stream *stream, size_t *ret_len)
{
	drain_line(stream);
	*ret_len = evbuffer_get_length(stream->in);
	return *ret_len > 0 ? evbuffer_pullup(stream->in, -1) : NULL;
}

void
stream_consume(struct stream *stream, size_t len)
{
	drain_line(stream);
	evbuffer_drain(stream->in, len);
	stream->consumed += len;
	stream->searched = 0;
}

size_t
stream_buffered(const struct stream *stream)
{
	return evbuffer_get_length(stream->in) - stream->line_len;
}

bool
stream_at_eof(const struct stream *stream)
{
	return stream->eof;
}

bool
stream_hung_up(const struct stream *stream)
{
	struct pollfd p = { .fd = stream->fd };

	return poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR)) != 0;
}

size_t
stream_take_fds(struct stream *stream, int *fds, size_t max)
{
	uint64_t limit = stream->consumed + stream->line_len;
	size_t taken = 0, used = 0;

	while (used < stream->fd_count && stream->fds[used].offset < limit) {
		if (taken < max)
			fds[taken++] = stream->fds[used].fd;
		else
			close(stream->fds[used].fd);
		used++;
	}
	stream->fd_count -= used;
	if (used > 0)
		memmove(stream->fds, stream->fds + used,
		    stream->fd_count * sizeof(*stream->fds));
	return taken;
}

void
stream_write(struct stream *stream, const void *data, size_t len)
{
	ssize_t n = 0;

	if (stream->dead || stream->closed || stream->broken || len == 0)
		return;
	/* The common short answer goes out at once, without a turn of the loop. */
	if (evbuffer_get_length(stream->out) == 0) {
		n = send(stream->fd, data, len, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0)
			n = 0; /* the loop meets the error again and reports it */
	}
	if ((size_t)n < len)
		evbuffer_add(stream->out, (const char *)data + n, len - (size_t)n);
	update_watch(stream);
}

size_t
stream_queued(const struct stream *stream)
{
	return evbuffer_get_length(stream->out);
}

bool
stream_flush(struct stream *stream)
{
	if (stream->dead || stream->closed || stream->broken)
		return false;
	return evbuffer_write(stream->out, stream->fd) >= 0 || errno == EAGAIN;
}

void
stream_pause(struct stream *stream, bool paused)
{
	stream->paused = paused;
	update_watch(stream);
}

void
stream_finish(struct stream *stream)
{
	if (stream->finishing || stream->dead)
		return;
	stream->finishing = true;
	update_watch(stream);
	if (evbuffer_get_length(stream->out) == 0)
		call_soon(stream);
}

void
stream_on_end(struct stream *stream, void (*fn)(void *arg), void *arg)
{
	stream->on_end = fn;
	stream->on_end_arg = arg;
}

int
stream_fd(const struct stream *stream)
{
	return stream->fd;
}
