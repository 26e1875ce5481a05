/* SPDX-License-Identifier: MPL-2.0 */
#ifndef DAEMON_REQUEST_H
#define DAEMON_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "lib/base/err.h"

struct json_object;
struct stream;
struct vmmd;

/* One request of a client.  A handler gets it and must end it exactly once, now or later, by
 * reply, fail or upgrade.  The client may be gone by then: ending it is still right, and harmless.
 * Loop thread only. */
struct request;

struct peer {
	uid_t uid;
	gid_t gid;
	pid_t pid; /* for logs only */
};

/* args: the checked struct of the method's rows, borrowed for the call (steal what must stay and
 * clear it there). */
typedef void method_fn(struct vmmd *vmmd, struct request *request, void *args);

const struct peer *request_peer(const struct request *request);
/* The n-th descriptor of the request; taken by the caller.  -1: there is none, or taken before. */
int request_take_fd(struct request *request, size_t index);
void request_reply(struct request *request, struct json_object *result); /* result: taken */
/* result: JSON text, copied. */
void request_reply_text(struct request *request, const char *result, size_t len);
void request_fail(struct request *request, const struct err *err);

/* Notifications on the request's connection, while it is open (dropped afterwards). */
bool request_wants_progress(const struct request *request); /* the parameter "progress" */
void request_notify(struct request *request, const char *method, struct json_object *params);
/* Bytes that the client has not taken yet; above 1 MiB, leave out what can be left out. */
size_t request_backlog(const struct request *request);
/* fn runs when the client's connection ends before the request; at most once. */
void request_on_gone(struct request *request, void (*fn)(void *arg), void *arg);

/* Answers with result (taken) and hands over the connection, which now carries bytes or frames:
 * the caller owns the stream and sets its handler.  NULL when the client is gone; for a batch or a
 * notification, E_REQUEST is answered instead.  Ends the request. */
struct stream *request_upgrade(struct request *request, struct json_object *result);

/* Answers with result (taken) and keeps a hold on the connection, for notifications after the
 * answer (event.subscribe).  on_gone runs once when the connection ends; the owner destroys the
 * subscription then, or earlier.  NULL when the client is gone already; ends the request. */
struct subscription;
struct subscription *request_subscribe(struct request *request, struct json_object *result,
    void (*on_gone)(void *arg), void *arg);
void subscription_notify(struct subscription *subscription, const char *method,
    struct json_object *params); /* params: taken */
size_t subscription_backlog(const struct subscription *subscription); /* bytes not taken yet */
void subscription_destroy(struct subscription *subscription);

#endif
