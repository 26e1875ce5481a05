/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_BASE_LOOP_H
#define LIB_BASE_LOOP_H

#include <stdbool.h>
#include <stdint.h>

/* The event loop, and with stream.c the only place that knows libevent.  Everything here belongs
 * to the thread that created the loop, and asserts it; loop_post alone may be called anywhere.
 * Handles are made and destroyed by their user; a handle may be destroyed in its own callback. */

struct loop;
struct timer;
struct watch;
struct sigwatch;
typedef void loop_fn(void *arg);
typedef void watch_fn(void *arg, unsigned events);
enum { LOOP_READ = 1, LOOP_WRITE = 2 };

struct loop *loop_create(void);
void loop_destroy(struct loop *loop);
void loop_run(struct loop *loop); /* until loop_stop */
void loop_stop(struct loop *loop);
void loop_assert(const struct loop *loop);
struct event_base;
struct event_base *loop_event_base(struct loop *loop); /* for the files that know libevent */
bool loop_is_current(const struct loop *loop);

/* Runs fn on the loop thread, soon, in order.  Any thread. */
void loop_post(struct loop *loop, loop_fn *fn, void *arg);
/* Runs what was posted so far, now.  Loop thread; for shutdown. */
void loop_flush(struct loop *loop);

/* One-shot timers; arming an armed timer moves it. */
struct timer *timer_create_on(struct loop *loop, loop_fn *fn, void *arg);
void timer_arm(struct timer *timer, uint64_t delay_ms);
void timer_disarm(struct timer *timer);
bool timer_armed(const struct timer *timer);
void timer_destroy(struct timer *timer);

/* Level-triggered; events: LOOP_READ | LOOP_WRITE, 0 pauses.  fd: borrowed, must stay open. */
struct watch *watch_create(struct loop *loop, int fd, unsigned events, watch_fn *fn, void *arg);
void watch_set(struct watch *watch, unsigned events);
void watch_destroy(struct watch *watch);

struct sigwatch *sigwatch_create(struct loop *loop, int signo, loop_fn *fn, void *arg);
void sigwatch_destroy(struct sigwatch *watch);

#endif
