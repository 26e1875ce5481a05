/* SPDX-License-Identifier: MPL-2.0 */
#include "client/conn.h"

#include <errno.h>
#include <json-c/json.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "client/signals.h"
#include "lib/base/clock.h"
#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/platform.h"

enum {
	FDS_A_MESSAGE = 253, /* SCM_MAX_FD of Linux */
	MAX_LINE = 64 << 20, /* ours: the answers of a daemon gone mad must end somewhere */
	READ_CHUNK = 64 << 10,
};

/* A path that is too long for a socket address is reached through its folder's descriptor. */
static int
fill_address(const char *path, struct sockaddr_un *addr, int *ret_dir, struct err *err)
{
	CLEANUP_FREE char *dir = NULL, *alias = NULL, *short_path = NULL;
	const char *use = path;

	addr->sun_family = AF_UNIX;
	if (strlen(path) > FS_SOCKET_PATH_MAX) {
		dir = fs_dirname(path);
		*ret_dir = platform_folder_alias(dir, &alias);
		if (*ret_dir < 0 && errno != ENAMETOOLONG)
			return E_NO_DAEMON;
		if (alias != NULL)
			use = short_path = fs_join(alias, fs_basename(path));
		if (strlen(use) > FS_SOCKET_PATH_MAX)
			return err_set(err, E_NO_DAEMON, "the socket path '%s' is too long", path);
	}
	memcpy(addr->sun_path, use, strlen(use) + 1);
	return 0;
}

int
conn_open(const char *path, struct conn *ret_conn, struct err *err)
{
	struct sockaddr_un addr = { 0 };
	CLEANUP_FD int dir = -1;
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int rc;

	if (fd < 0)
		return err_errno(err, E_NO_DAEMON, errno, "can not make a socket");
	rc = fill_address(path, &addr, &dir, err);
	if (rc != 0)
		return rc;
	/* Blocking: a daemon with a full backlog is one to wait for. */
	do
		rc = connect(fd, (struct sockaddr *)&addr, sizeof(addr));
	while (rc < 0 && errno == EINTR);
	if (rc < 0) {
		int e = errno;

		if (e != ENOENT && e != ECONNREFUSED && e != ENOTDIR)
			err_errno(err, E_NO_DAEMON, e, "can not connect to '%s'", path);
		errno = e;
		return E_NO_DAEMON;
	}
	fs_unblock(fd);
	*ret_conn = (struct conn){ .fd = TAKE_FD(fd) };
	return 0;
}

void
conn_close(struct conn *conn)
{
	if (conn->fd >= 0)
		close(conn->fd);
	conn->fd = -1;
	sbuf_done(&conn->in);
}

/* ---- out ---- */

static int
lost(struct err *err)
{
	err_set(err, E_NO_DAEMON, "vmmd went away before it answered");
	err_hint(err, "what it was doing may go on; 'vmctl list' tells, once vmmd is back");
	return E_NO_DAEMON;
}

/* Bytes sent, 0 when it must be tried again, -1 with errno. */
static ssize_t
send_part(int fd, const char *data, size_t len, const int *fds, size_t fd_count)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int) * FDS_A_MESSAGE)];
	} control = { 0 };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)data, .iov_len = len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct pollfd out = { .fd = fd, .events = POLLOUT };
	ssize_t n;

	if (fd_count > 0) {
		struct cmsghdr *head;

		msg.msg_control = control.space;
		msg.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
		head = CMSG_FIRSTHDR(&msg);
		head->cmsg_level = SOL_SOCKET;
		head->cmsg_type = SCM_RIGHTS;
		head->cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
		memcpy(CMSG_DATA(head), fds, sizeof(int) * fd_count);
	}
	n = sendmsg(fd, &msg, MSG_NOSIGNAL);
	if (n >= 0 || errno == EINTR)
		return n >= 0 ? n : 0;
	/* ETOOMANYREFS: the daemon has yet to take the descriptors before these. */
	if (errno == EAGAIN || errno == ETOOMANYREFS) {
		poll(&out, 1, errno == EAGAIN ? -1 : 10);
		return 0;
	}
	return -1;
}

static int
send_all(struct conn *conn, const char *data, size_t len, const int *fds, size_t fd_count,
    struct err *err)
{
	while (len > 0) {
		size_t carried = fd_count < FDS_A_MESSAGE ? fd_count : FDS_A_MESSAGE;
		/* One byte for each load of descriptors, so that all go before the line ends. */
		ssize_t n = send_part(conn->fd, data, carried > 0 ? 1 : len, fds, carried);

		if (n < 0 && (errno == EPIPE || errno == ECONNRESET))
			return lost(err);
		if (n < 0)
			return err_errno(err, E_NO_DAEMON, errno, "can not send to vmmd");
		if (n > 0 && carried > 0) {
			fds += carried;
			fd_count -= carried;
		}
		data += n;
		len -= (size_t)n;
	}
	return 0;
}

int
conn_send(struct conn *conn, struct json_object *message, const int *fds, size_t fd_count,
    struct err *err)
{
	size_t len;
	const char *text = json_object_to_json_string_length(
	    message, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &len);
	CLEANUP_FREE char *line = xmalloc(len + 1);
	int rc;

	memcpy(line, text, len);
	line[len] = '\n';
	rc = send_all(conn, line, len + 1, fds, fd_count, err);
	/* It may hold somebody's password; json-c makes the text anew when it is asked again. */
	mem_wipe(line, len);
	mem_wipe((char *)(uintptr_t)text, len);
	return rc;
}

/* ---- in ---- */

struct json_object *
conn_parse(const char *line, size_t len, struct err *err)
{
	json_tokener *tokener = json_tokener_new_ex(64);
	json_object *message;

	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	message = json_tokener_parse_ex(tokener, line, (int)len);
	if (message == NULL || !json_object_is_type(message, json_type_object)) {
		err_set(err, E_NO_DAEMON, "what answers is not vmmd: it sends no JSON-RPC");
		json_object_put(message);
		message = NULL;
	}
	json_tokener_free(tokener);
	return message;
}

/* Lets go of the line that was given out last. */
static void
drop_used(struct conn *conn)
{
	if (conn->used == 0)
		return;
	memmove(conn->in.data, conn->in.data + conn->used, conn->in.len - conn->used);
	conn->in.len -= conn->used;
	conn->used = 0;
}

/* A whole line that is in the buffer already. */
static bool
take_line(struct conn *conn, const char **ret_line, size_t *ret_len)
{
	char *end = conn->in.len > conn->scanned
			? memchr(conn->in.data + conn->scanned, '\n', conn->in.len - conn->scanned)
			: NULL;

	if (end == NULL) {
		conn->scanned = conn->in.len;
		return false;
	}
	conn->used = (size_t)(end - conn->in.data) + 1;
	conn->scanned = 0;
	*ret_line = conn->in.data;
	*ret_len = conn->used;
	return true;
}

static int
receive(struct conn *conn, struct err *err)
{
	char space[READ_CHUNK];
	ssize_t n = read(conn->fd, space, sizeof(space));

	if (n > 0) {
		sbuf_add(&conn->in, space, (size_t)n);
		if (conn->in.len > MAX_LINE)
			return err_set(err, E_LIMIT, "an answer of vmmd is too long");
		return 0;
	}
	if (n == 0 || errno == ECONNRESET)
		return lost(err);
	if (errno == EAGAIN || errno == EINTR)
		return 0;
	return err_errno(err, E_NO_DAEMON, errno, "can not read from vmmd");
}

enum conn_event
conn_line(
    struct conn *conn, int timeout_ms, const char **ret_line, size_t *ret_len, struct err *err)
{
	uint64_t end = timeout_ms >= 0 ? clock_ms() + (uint64_t)timeout_ms : UINT64_MAX;

	drop_used(conn);
	for (;;) {
		struct pollfd fds[2] = { { .fd = conn->fd, .events = POLLIN },
			{ .fd = signals_fd(), .events = POLLIN } };
		uint64_t now = clock_ms();
		int wait = -1, n;

		if (take_line(conn, ret_line, ret_len))
			return CONN_MESSAGE;
		if (timeout_ms >= 0)
			wait = now < end ? (int)(end - now) : 0;
		n = poll(fds, 2, wait);
		if (n == 0)
			return CONN_TIMEOUT;
		if (n > 0 && fds[1].revents != 0) {
			signals_drain();
			return CONN_SIGNAL;
		}
		if (n > 0 && receive(conn, err) != 0)
			return CONN_FAILED;
	}
}

enum conn_event
conn_next(struct conn *conn, int timeout_ms, struct json_object **ret_message, struct err *err)
{
	const char *line;
	size_t len;
	enum conn_event event = conn_line(conn, timeout_ms, &line, &len, err);

	if (event != CONN_MESSAGE)
		return event;
	*ret_message = conn_parse(line, len, err);
	drop_used(conn);
	return *ret_message != NULL ? CONN_MESSAGE : CONN_FAILED;
}
