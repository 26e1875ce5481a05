/* SPDX-License-Identifier: MPL-2.0 */
#ifndef CLIENT_CONN_H
#define CLIENT_CONN_H

#include <stddef.h>

#include "lib/base/err.h"
#include "lib/base/str.h"

struct json_object;

/* A connection to vmmd: lines of JSON with descriptors out, lines in.  One thread; everything
 * waits in poll, beside the signals of client/signals.h. */

struct conn {
	int fd;
	struct sbuf in; /* received, not yet a line */
	size_t scanned; /* of in: holds no newline */
	size_t used;    /* of in: the line that was given out last */
};

enum conn_event { CONN_MESSAGE, CONN_SIGNAL, CONN_TIMEOUT, CONN_FAILED };

/* 0, or E_NO_DAEMON with errno kept for the caller; no words when nobody listens. */
int conn_open(const char *path, struct conn *ret_conn, struct err *err);
void conn_close(struct conn *conn);
/* One line.  fds: borrowed, sent with its first bytes, in order. */
int conn_send(struct conn *conn, struct json_object *message, const int *fds, size_t fd_count,
    struct err *err);
/* The next line, with its newline: borrowed until the next call.  timeout_ms: -1 waits for ever. */
enum conn_event conn_line(
    struct conn *conn, int timeout_ms, const char **ret_line, size_t *ret_len, struct err *err);
/* The line as a message, owned by the caller; NULL: what answers is not vmmd. */
struct json_object *conn_parse(const char *line, size_t len, struct err *err);
/* Both of the above; conn->in holds what came after the line. */
enum conn_event conn_next(
    struct conn *conn, int timeout_ms, struct json_object **ret_message, struct err *err);

#endif
