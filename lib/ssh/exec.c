/* SPDX-License-Identifier: MPL-2.0 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/ssh/session.h"

enum {
	CHUNK = 65536,
	ROUND = 1 << 18, /* bytes of a stream before the other has its turn */
	/* What one request can carry in libssh2 is 35000 bytes. */
	COMMAND_MAX = 32000,
};

struct feed { /* stdin on its way */
	const struct ssh_source *source;
	char *chunk; /* of the file */
	size_t at, have, chunk_at;
	uint64_t file_at;
	bool ended;
};

/* The bytes that go next; *ret_len 0: there are no more. */
static int
feed_next(struct feed *feed, const char **ret_data, size_t *ret_len, struct err *err)
{
	const struct ssh_source *source = feed->source;
	uint64_t left;
	ssize_t n;

	*ret_len = 0;
	if (source == NULL)
		return 0;
	if (feed->at < source->len) {
		*ret_data = source->data + feed->at;
		*ret_len = source->len - feed->at;
		return 0;
	}
	if (feed->chunk_at == feed->have && feed->file_at < source->fd_len) {
		left = source->fd_len - feed->file_at;
		do
			n = pread(source->fd, feed->chunk, left < CHUNK ? left : CHUNK,
			    (off_t)feed->file_at);
		while (n < 0 && errno == EINTR);
		if (n < 0)
			return err_errno(err, E_IO, errno, "can not read the file to send");
		if (n == 0)
			return err_set(err, E_IO, "the file became shorter while it was sent");
		feed->file_at += (uint64_t)n;
		feed->have = (size_t)n;
		feed->chunk_at = 0;
	}
	*ret_data = feed->chunk + feed->chunk_at;
	*ret_len = feed->have - feed->chunk_at;
	return 0;
}

static void
feed_took(struct feed *feed, size_t len)
{
	if (feed->at < feed->source->len)
		feed->at += len;
	else
		feed->chunk_at += len;
}

/* Sends what fits now.  -1 with err, or whether something moved. */
static int
feed_send(struct ssh *ssh, LIBSSH2_CHANNEL *channel, struct feed *feed,
    const struct ssh_limit *limit, struct err *err)
{
	const char *data;
	size_t len;
	ssize_t n;
	int rc;

	if (feed->ended)
		return 0;
	if (feed_next(feed, &data, &len, err) != 0)
		return -1;
	if (len > 0) {
		n = ssh_channel_write(ssh, channel, data, len, limit, err);
		if (n > 0)
			feed_took(feed, (size_t)n);
		return n < 0 ? -1 : n > 0;
	}
	if (SSH_REPEAT(ssh, limit, err, rc, libssh2_channel_send_eof(channel)) != 0)
		return -1;
	feed->ended = rc != LIBSSH2_ERROR_EAGAIN;
	return feed->ended;
}

/* Moves bytes both ways until the streams have ended. */
static int
pump(struct ssh *ssh, LIBSSH2_CHANNEL *channel, struct feed *feed, ssh_output_fn *on_output,
    void *arg, const struct ssh_limit *limit, struct err *err)
{
	uint64_t silent_since = clock_ms();
	ssize_t came;
	int rc, sent;

	for (;;) {
		came = ssh_channel_read(ssh, channel, on_output, arg, ROUND, limit, err);
		sent = came < 0 ? 0 : feed_send(ssh, channel, feed, limit, err);
		if (came < 0 || sent < 0)
			return err != NULL ? (int)err->code : E_IO;
		rc = ssh_check(limit, err);
		if (rc != 0)
			return rc;
		if (came > 0)
			silent_since = clock_ms();
		if (came > 0 || sent > 0)
			continue;
		if (libssh2_channel_eof(channel))
			return 0;
		if (ssh->exited && clock_ms() - silent_since >= SSH_LINGER_MS)
			return 0;
		rc = ssh_wait(ssh, limit, NULL, 0, ssh->exited ? SSH_LINGER_MS : UINT64_MAX, err);
		if (rc != 0)
			return rc;
	}
}

int
ssh_run(struct ssh *ssh, const char *command, const struct ssh_source *source,
    ssh_output_fn *on_output, void *arg, const struct ssh_limit *limit,
    struct ssh_result *ret_result, struct err *err)
{
	struct feed feed = { .source = source };
	struct err own = ERR_INIT; /* the code is needed even if the caller wants no words */
	CLEANUP_FREE char *chunk = NULL;
	LIBSSH2_CHANNEL *channel;
	int rc;

	if (source != NULL && source->fd_len > 0)
		feed.chunk = chunk = xmalloc(CHUNK);
	rc = ssh_channel_open(ssh, command, NULL, limit, &channel, &own);
	if (rc == 0) {
		rc = pump(ssh, channel, &feed, on_output, arg, limit, &own);
		if (rc == 0)
			rc = ssh_channel_result(ssh, channel, limit, ret_result, &own);
		ssh_channel_close(ssh, channel, rc == 0);
	}
	if (rc != 0 && err != NULL)
		*err = own;
	return rc;
}

int
ssh_exec(struct ssh *ssh, const struct ssh_exec *exec, struct job *job,
    struct ssh_result *ret_result, struct err *err)
{
	struct ssh_limit limit = ssh_limit_in(job, exec->timeout_ms, "the command");
	CLEANUP_FREE char *full = ssh_with_env(exec->command, exec->env), *loader = NULL,
			  *joined = NULL;
	struct ssh_source source = { .data = exec->input, .len = exec->input_len, .fd = -1 };
	size_t len = strlen(full);

	if (len <= COMMAND_MAX)
		return ssh_run(
		    ssh, full, &source, exec->on_output, exec->arg, &limit, ret_result, err);
	/* Too long for a request: it goes first on stdin, and the rest of stdin is the command's.
	 */
	loader = xasprintf("eval \"$(head -c %zu)\"", len);
	joined = xmalloc(len + exec->input_len + 1);
	memcpy(joined, full, len);
	if (exec->input_len > 0)
		memcpy(joined + len, exec->input, exec->input_len);
	source.data = joined;
	source.len = len + exec->input_len;
	return ssh_run(ssh, loader, &source, exec->on_output, exec->arg, &limit, ret_result, err);
}
