/* SPDX-License-Identifier: MPL-2.0 */
#ifndef DAEMON_CONSOLE_H
#define DAEMON_CONSOLE_H

#include <stddef.h>

#include "lib/base/err.h"

struct console;
struct stream;
struct vm;

/* The console hub of a machine: any number of clients, with scroll-back from the log.  Input of
 * all goes to the guest.  Opened with the first client, closed with the last.  Loop thread. */

/* stream: taken.  history_bytes: of the log, sent first. */
void console_attach(struct vm *vm, struct stream *stream, size_t history_bytes);
void console_destroy(struct console *console); /* drops the clients */
/* The machine ended: clients are told and let go. */
void console_ended(struct vm *vm);
/* Owned: the last line with something on it, printable; NULL: none. */
char *console_last_line(struct vm *vm);

#endif
