/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_BASE_STREAM_H
#define LIB_BASE_STREAM_H

#include <stdbool.h>
#include <stddef.h>

struct loop;
struct stream;

/* A buffered, non-blocking socket on the loop: lines or bytes in, a queue out, descriptors both
 * ways over UNIX sockets.  Loop thread only.  A stream may be destroyed in its own callbacks. */
struct stream_handler {
	void (*on_input)(void *arg);   /* new bytes are buffered (or end of input was seen) */
	void (*on_drained)(void *arg); /* the output queue went empty; may be NULL */
	void (*on_closed)(void *arg, int errno_value); /* the peer is gone, 0: orderly; last call */
};

/* fd: taken, made non-blocking.  handler, arg: borrowed for the stream's life. */
struct stream *stream_create(struct loop *loop, int fd, const struct stream_handler *handler,
    void *arg);
/* Another user takes over; what is buffered stays, and on_input is called soon if there is any. */
void stream_set_handler(struct stream *stream, const struct stream_handler *handler, void *arg);
void stream_destroy(struct stream *stream); /* closes the socket; queued output is lost */
/* Hands over the socket and destroys the stream; buffered input is lost. */
int stream_detach(struct stream *stream);

/* The next line without its newline, zero terminated; valid until the next call on the stream.
 * NULL: no whole line yet.  *ret_overlong is set when more than `max` bytes hold no newline. */
char *stream_line(struct stream *stream, size_t max, size_t *ret_len, bool *ret_overlong);
/* All buffered input, contiguous; stream_consume takes it off. */
const unsigned char *stream_peek(struct stream *stream, size_t *ret_len);
void stream_consume(struct stream *stream, size_t len);
size_t stream_buffered(const struct stream *stream);
bool stream_at_eof(const struct stream *stream); /* the peer will send no more */
/* The peer neither sends nor reads any more.  on_closed tells it after the last input; a peer that
 * first shut down its sending side and then went away is only found by asking. */
bool stream_hung_up(const struct stream *stream);
/* Takes the descriptors that came with the bytes consumed so far (that is: with the lines up to
 * and including the last one taken).  Returns how many; extra ones are closed. */
size_t stream_take_fds(struct stream *stream, int *fds, size_t max);

void stream_write(struct stream *stream, const void *data, size_t len);
size_t stream_queued(const struct stream *stream); /* bytes not sent yet */
/* Sends of the queue what the socket takes now, without the loop; false: it is broken. */
bool stream_flush(struct stream *stream);
void stream_pause(struct stream *stream, bool paused); /* stops reading the socket */
/* Closes once the queue is sent (on_closed(0) then), or at the first error. */
void stream_finish(struct stream *stream);
int stream_fd(const struct stream *stream);
/* fn runs once, when the stream is destroyed or detached; for who lent it.  NULL: nobody. */
void stream_on_end(struct stream *stream, void (*fn)(void *arg), void *arg);

#endif
