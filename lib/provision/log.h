/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_PROVISION_LOG_H
#define LIB_PROVISION_LOG_H

#include <stddef.h>
#include <stdint.h>

#include "lib/base/str.h"
#include "lib/ssh/ssh.h"

/* The provision log: a line with its time for every line of output, written as it comes.  A log
 * that can not be written (a full disk) does not stop a step. */
struct provision_log {
	int fd;
	struct sbuf partial[2]; /* of each stream: what has no newline yet */
	uint64_t left;          /* bytes that this step may still log */
};

void provision_log_open(struct provision_log *log, const char *path);
void provision_log_step(struct provision_log *log); /* a new step begins */
void provision_log_output(
    struct provision_log *log, enum ssh_stream stream, const void *data, size_t len);
void provision_log_say(struct provision_log *log, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void provision_log_close(struct provision_log *log);

#endif
