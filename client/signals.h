/* SPDX-License-Identifier: MPL-2.0 */
#ifndef CLIENT_SIGNALS_H
#define CLIENT_SIGNALS_H

#include <stdbool.h>

struct termios;

/* What a signal handler may touch, and nothing else: the one place with mutable file-scope state,
 * because the kernel passes a handler no context. */

/* Ctrl-C: counted, and told by a descriptor that becomes readable.  The second one ends the
 * process at once with 130. */
void signals_catch_interrupt(void);
unsigned signals_interrupts(void);
/* Window changes: the descriptor becomes readable, and signals_window_changed is true once. */
void signals_catch_window(void);
bool signals_window_changed(void);
int signals_fd(void);     /* -1: nothing is caught */
void signals_drain(void); /* makes the descriptor unreadable again */

/* For a program that waits for another: Ctrl-C is that one's, and what would end us (SIGTERM,
 * SIGHUP) is told by the descriptor and by signals_ended, 0 until then. */
void signals_catch_end(void);
int signals_ended(void);

/* While the terminal is raw: whatever ends or stops the process restores it first. */
void signals_guard_terminal(int fd, const struct termios *cooked, const struct termios *raw);
void signals_unguard_terminal(void);

#endif
