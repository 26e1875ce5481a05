/* SPDX-License-Identifier: MPL-2.0 */
#include "daemon/events.h"

#include <stdlib.h>
#include <sys/queue.h>

#include "daemon/request.h"
#include "daemon/vm.h"
#include "daemon/vmmd.h"
#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/base/log.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/store/store.h"
#include "daemon/methods.h"

enum { TRIM_EVERY = 500, REPLAY_MAX = EVENTS_KEPT, BACKLOG_MAX = 2 << 20 };

/* A subscriber keeps its request open: its answer comes first, as a reply, and notifications
 * follow on the same connection until that ends. */
struct subscriber {
	TAILQ_ENTRY(subscriber) link;
	struct events *events;
	struct subscription *connection;
	uid_t uid;
	uint64_t seen; /* the newest number that it was sent */
	bool lagged;
};

struct events {
	struct vmmd *vmmd;
	uint64_t seq;
	TAILQ_HEAD(, subscriber) subscribers;
	json_object *fresh; /* an array: not told yet, because not durable yet; NULL: none */
};

struct events *
events_create(struct vmmd *vmmd)
{
	struct events *events = xcalloc(1, sizeof(*events));

	events->vmmd = vmmd;
	events->seq = store_last_event(vmmd->store);
	TAILQ_INIT(&events->subscribers);
	return events;
}

static void
subscriber_destroy(struct subscriber *s)
{
	TAILQ_REMOVE(&s->events->subscribers, s, link);
	subscription_destroy(s->connection);
	free(s);
}

void
events_destroy(struct events *events)
{
	struct subscriber *s;

	if (events == NULL)
		return;
	while ((s = TAILQ_FIRST(&events->subscribers)) != NULL)
		subscriber_destroy(s);
	json_object_put(events->fresh);
	free(events);
}

uint64_t
events_last(const struct events *events)
{
	return events->seq;
}

static bool
may_see(uid_t uid, json_object *event)
{
	json_object *owner;

	return uid == 0 || uid == geteuid() ||
	    !json_object_object_get_ex(event, "owner_uid", &owner) ||
	    (uid_t)json_object_get_int64(owner) == uid;
}

static void
deliver(struct subscriber *s, json_object *event)
{
	json_object *gap;

	uint64_t seq = (uint64_t)json_int(event, "seq");

	if (seq <= s->seen || !may_see(s->uid, event))
		return;
	s->seen = seq;
	if (subscription_backlog(s->connection) > BACKLOG_MAX) {
		s->lagged = true;
		return;
	}
	if (s->lagged) {
		/* The missed ones can be asked for again by number. */
		s->lagged = false;
		gap = json_object_new_object();
		json_add_string(gap, "kind", "lagged");
		json_add_int(gap, "seq", json_int(event, "seq") - 1);
		subscription_notify(s->connection, "event", gap);
	}
	subscription_notify(s->connection, "event", json_object_get(event));
}

/* What was told must not be forgotten, nor its number used again, by whoever comes after a crash:
 * the events of a turn of the loop are made durable together, and then sent. */
static void
tell_fresh(void *arg)
{
	struct vmmd *vmmd = arg;
	struct events *events = vmmd->events;
	CLEANUP_JSON json_object *fresh = TAKE(events->fresh);
	struct subscriber *s, *next;
	struct err err = ERR_INIT;

	if (store_commit(vmmd->store, &err) != 0)
		log_warn("events are not kept: %s", err.msg);
	for (size_t i = 0; fresh != NULL && i < json_object_array_length(fresh); i++) {
		for (s = TAILQ_FIRST(&events->subscribers); s != NULL; s = next) {
			next = TAILQ_NEXT(s, link);
			deliver(s, json_object_array_get_idx(fresh, i));
		}
	}
}

void
events_add(struct events *events, const char *kind, struct vm *vm, struct json_object *data)
{
	CLEANUP_JSON json_object *event = json_object_new_object();
	CLEANUP_FREE char *time = clock_rfc3339(clock_wall_ms());
	json_add_int(event, "seq", (int64_t)++events->seq);
	json_add_string(event, "time", time);
	json_add_string(event, "kind", kind);
	if (vm != NULL) {
		json_add_string(event, "vm", vm->spec.name);
		json_add_string(event, "vm_id", vm->id);
		json_add_int(event, "owner_uid", vm->owner);
	}
	json_object_object_add(event, "data", data != NULL ? data : json_object_new_object());
	store_event(events->vmmd->store, events->seq,
	    json_object_to_json_string_ext(event, JSON_TEXT_FLAGS));
	if (events->seq % TRIM_EVERY == 0)
		store_trim(events->vmmd->store, EVENTS_KEPT);
	if (TAILQ_EMPTY(&events->subscribers))
		return;
	if (events->fresh == NULL) {
		events->fresh = json_object_new_array();
		loop_post(events->vmmd->loop, tell_fresh, events->vmmd);
	}
	json_object_array_add(events->fresh, json_object_get(event));
}

static void
on_gone(void *arg)
{
	subscriber_destroy(arg);
}

static void
replay(void *arg, uint64_t seq, const char *doc)
{
	struct subscriber *s = arg;
	CLEANUP_JSON json_object *event = json_tokener_parse(doc);

	if (event != NULL)
		deliver(s, event);
}

void
method_event_subscribe(struct vmmd *vmmd, struct request *request, void *args)
{
	const struct event_subscribe_args *a = args;
	struct events *events = vmmd->events;
	struct subscriber *s = xcalloc(1, sizeof(*s));
	uint64_t first = store_first_event(vmmd->store), since = a->since;
	json_object *result = json_object_new_object();

	s->events = events;
	s->uid = request_peer(request)->uid;
	s->seen = a->replay ? since : events->seq;
	TAILQ_INSERT_TAIL(&events->subscribers, s, link);
	json_add_int(result, "seq", (int64_t)events->seq);
	/* Not asked for: from now on.  Asked for, and some are no longer kept: told. */
	json_add_bool(result, "gap", a->replay && first > 0 && since + 1 < first);
	s->connection = request_subscribe(request, result, on_gone, s);
	if (s->connection == NULL) {
		TAILQ_REMOVE(&events->subscribers, s, link);
		free(s);
		return;
	}
	if (a->replay)
		store_events(vmmd->store, since, REPLAY_MAX, replay, s, NULL);
}
