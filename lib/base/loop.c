/* SPDX-License-Identifier: MPL-2.0
 *
 * The loop: a thin layer over libevent, so that the rest asks for "call me when". */
#include "lib/base/loop.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/mem.h"
#include "lib/base/platform.h"

struct posted {
	struct posted *next;
	loop_fn *fn;
	void *arg;
};

struct loop {
	struct event_base *base;
	pthread_t thread;
	pthread_mutex_t lock; /* guards the queue alone */
	struct posted *first, **last;
	int wake_fd;
	struct event *wake;
};

struct timer {
	struct loop *loop;
	struct event *event;
	loop_fn *fn;
	void *arg;
};

struct watch {
	struct loop *loop;
	struct event *event;
	int fd;
	unsigned events;
	watch_fn *fn;
	void *arg;
};

struct sigwatch {
	struct loop *loop;
	struct event *event;
	loop_fn *fn;
	void *arg;
};

bool
loop_is_current(const struct loop *loop)
{
	return pthread_equal(loop->thread, pthread_self());
}

void
loop_assert(const struct loop *loop)
{
	assert(loop_is_current(loop));
}

static struct posted *
take_posted(struct loop *loop)
{
	struct posted *list;

	pthread_mutex_lock(&loop->lock);
	list = loop->first;
	loop->first = NULL;
	loop->last = &loop->first;
	pthread_mutex_unlock(&loop->lock);
	return list;
}

void
loop_flush(struct loop *loop)
{
	struct posted *next;

	loop_assert(loop);
	for (struct posted *p = take_posted(loop); p != NULL; p = next) {
		next = p->next;
		p->fn(p->arg);
		free(p);
	}
}

static void
on_wake(evutil_socket_t fd, short what, void *arg)
{
	uint64_t count;

	while (read(fd, &count, sizeof(count)) < 0 && errno == EINTR)
		;
	loop_flush(arg);
}

struct loop *
loop_create(void)
{
	struct loop *loop = xcalloc(1, sizeof(*loop));
	struct event_config *config = event_config_new();

	loop->thread = pthread_self();
	pthread_mutex_init(&loop->lock, NULL);
	loop->last = &loop->first;
	event_config_set_flag(config, EVENT_BASE_FLAG_PRECISE_TIMER);
	loop->base = event_base_new_with_config(config);
	event_config_free(config);
	loop->wake_fd = platform_event_fd();
	assert(loop->base != NULL && loop->wake_fd >= 0);
	loop->wake = event_new(loop->base, loop->wake_fd, EV_READ | EV_PERSIST, on_wake, loop);
	event_add(loop->wake, NULL);
	return loop;
}

void
loop_destroy(struct loop *loop)
{
	struct posted *next;

	if (loop == NULL)
		return;
	loop_assert(loop);
	for (struct posted *p = take_posted(loop); p != NULL; p = next) {
		next = p->next;
		free(p);
	}
	event_free(loop->wake);
	close(loop->wake_fd);
	event_base_free(loop->base);
	pthread_mutex_destroy(&loop->lock);
	free(loop);
}

struct event_base *
loop_event_base(struct loop *loop)
{
	return loop->base;
}

void
loop_run(struct loop *loop)
{
	loop_assert(loop);
	event_base_dispatch(loop->base);
}

void
loop_stop(struct loop *loop)
{
	loop_assert(loop);
	event_base_loopbreak(loop->base);
}

void
loop_post(struct loop *loop, loop_fn *fn, void *arg)
{
	struct posted *p = xcalloc(1, sizeof(*p));
	uint64_t one = 1;

	p->fn = fn;
	p->arg = arg;
	pthread_mutex_lock(&loop->lock);
	*loop->last = p;
	loop->last = &p->next;
	/* Under the lock, so that the loop can not be gone between queueing and waking. */
	while (write(loop->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
	pthread_mutex_unlock(&loop->lock);
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct timer *timer = arg;

	timer->fn(timer->arg);
}

struct timer *
timer_create_on(struct loop *loop, loop_fn *fn, void *arg)
{
	struct timer *timer = xcalloc(1, sizeof(*timer));

	loop_assert(loop);
	timer->loop = loop;
	timer->fn = fn;
	timer->arg = arg;
	timer->event = event_new(loop->base, -1, 0, on_timer, timer);
	return timer;
}

void
timer_arm(struct timer *timer, uint64_t delay_ms)
{
	struct timeval tv = { .tv_sec = (time_t)(delay_ms / 1000),
		.tv_usec = (suseconds_t)(delay_ms % 1000 * 1000) };

	loop_assert(timer->loop);
	event_add(timer->event, &tv);
}

void
timer_disarm(struct timer *timer)
{
	loop_assert(timer->loop);
	event_del(timer->event);
}

bool
timer_armed(const struct timer *timer)
{
	return event_pending(timer->event, EV_TIMEOUT, NULL) != 0;
}

void
timer_destroy(struct timer *timer)
{
	if (timer == NULL)
		return;
	loop_assert(timer->loop);
	event_free(timer->event);
	free(timer);
}

static void
on_watch(evutil_socket_t fd, short what, void *arg)
{
	struct watch *watch = arg;
	unsigned events = 0;

	if (what & EV_READ)
		events |= LOOP_READ;
	if (what & EV_WRITE)
		events |= LOOP_WRITE;
	watch->fn(watch->arg, events);
}

static void
watch_apply(struct watch *watch)
{
	short what = EV_PERSIST;

	event_del(watch->event);
	if (watch->events == 0)
		return;
	if (watch->events & LOOP_READ)
		what |= EV_READ;
	if (watch->events & LOOP_WRITE)
		what |= EV_WRITE;
	event_assign(watch->event, watch->loop->base, watch->fd, what, on_watch, watch);
	event_add(watch->event, NULL);
}

struct watch *
watch_create(struct loop *loop, int fd, unsigned events, watch_fn *fn, void *arg)
{
	struct watch *watch = xcalloc(1, sizeof(*watch));

	loop_assert(loop);
	watch->loop = loop;
	watch->fd = fd;
	watch->events = events;
	watch->fn = fn;
	watch->arg = arg;
	watch->event = event_new(loop->base, fd, EV_PERSIST | EV_READ, on_watch, watch);
	watch_apply(watch);
	return watch;
}

void
watch_set(struct watch *watch, unsigned events)
{
	loop_assert(watch->loop);
	if (watch->events == events)
		return;
	watch->events = events;
	watch_apply(watch);
}

void
watch_destroy(struct watch *watch)
{
	if (watch == NULL)
		return;
	loop_assert(watch->loop);
	event_free(watch->event);
	free(watch);
}

static void
on_signal(evutil_socket_t fd, short what, void *arg)
{
	struct sigwatch *watch = arg;

	watch->fn(watch->arg);
}

struct sigwatch *
sigwatch_create(struct loop *loop, int signo, loop_fn *fn, void *arg)
{
	struct sigwatch *watch = xcalloc(1, sizeof(*watch));

	loop_assert(loop);
	watch->loop = loop;
	watch->fn = fn;
	watch->arg = arg;
	watch->event = evsignal_new(loop->base, signo, on_signal, watch);
	event_add(watch->event, NULL);
	return watch;
}

void
sigwatch_destroy(struct sigwatch *watch)
{
	if (watch == NULL)
		return;
	loop_assert(watch->loop);
	event_free(watch->event);
	free(watch);
}
