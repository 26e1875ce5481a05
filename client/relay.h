/* SPDX-License-Identifier: MPL-2.0 */
#ifndef CLIENT_RELAY_H
#define CLIENT_RELAY_H

#include <stdbool.h>

#include "lib/base/err.h"

struct conn;

/* A connection that carries bytes or frames: the user's descriptors on the other side. */

/* Raw bytes both ways until Ctrl-] (only looked for when `escape`), the end of the connection, or
 * a Ctrl-C that reaches us.  What was typed before Ctrl-] is delivered.  *ret_left: true for the
 * first and the last.  Input that ends does not end the output. */
int relay_bytes(
    struct conn *conn, int in_fd, int out_fd, bool escape, bool *ret_left, struct err *err);

struct relay_frames {
	int in_fd; /* -1: no input */
	int out_fd, err_fd;
	int tty_fd;     /* its size is sent when it changes; -1: none */
	bool printable; /* what steers a terminal is taken out */
};
/* Frames until the exit frame, or, for what has none (a log), the end of the connection:
 * *ret_status is -1 then.  A signal is 128 + its number; 130 after Ctrl-C. */
int relay_frames(
    struct conn *conn, const struct relay_frames *relay, int *ret_status, struct err *err);
/* 9 of "KILL", 0 when unknown. */
int relay_signal_number(const char *name);

#endif
