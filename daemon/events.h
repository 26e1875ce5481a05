/* SPDX-License-Identifier: MPL-2.0 */
#ifndef DAEMON_EVENTS_H
#define DAEMON_EVENTS_H

#include <stdint.h>

struct json_object;
struct request;
struct vm;
struct vmmd;

/* What happened, numbered, kept in the store to a bound and sent to subscribers.  Loop thread. */
struct events;

enum { EVENTS_KEPT = 10000 };

struct events *events_create(struct vmmd *vmmd);
void events_destroy(struct events *events);
/* kind: "state", "operation", …  vm: may be NULL.  data: taken, may be NULL. */
void events_add(struct events *events, const char *kind, struct vm *vm, struct json_object *data);
uint64_t events_last(const struct events *events);

#endif
