/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_HYPERVISOR_PROPOLIS_REST_H
#define LIB_HYPERVISOR_PROPOLIS_REST_H

#include <stdint.h>

#include "lib/base/err.h"

struct json_object;
struct loop;

/* JSON calls to one propolis-server, over libevent's HTTP client.  Loop thread only; nothing
 * blocks.  Every request carries PROPOLIS_API_VERSION in the header `api-version`; calls run side
 * by side, each on a connection of its own, so that a long poll holds up nobody. */

#define PROPOLIS_API_VERSION "1.0.0"

struct rest;
struct rest_request;

/* host: an address, IPv4 or IPv6 without brackets; copied. */
struct rest *rest_create(struct loop *loop, const char *host, uint16_t port);
/* Calls that are pending end with E_CANCELLED, at once. */
void rest_destroy(struct rest *rest);

struct rest_reply { /* borrowed for the call */
	int status;		  /* HTTP; 0: there was no whole answer */
	struct json_object *body; /* NULL: empty, not JSON, or `null` */
	const char *message;	  /* of the server's error object, printable; NULL */
	const char *error_code;	  /* likewise; Propolis tells in it why it denies */
};

/* Exactly once, never from within rest_call.  err NULL: the status was the expected one, and the
 * body (when the status is not 204) is JSON.  Else, by what happened:
 *   E_NETWORK  nobody listens, the connection broke before or within the answer, or what came is
 *              not HTTP (status 0)
 *   E_TIMEOUT  no whole answer in time (status 0)
 *   E_LIMIT    the answer is larger than 4 MiB, or its chunks are none; or the request is larger
 *              than the 1 MiB that propolis-server takes: then nothing was sent
 *   E_FAILED   another status: "PUT /instance was answered with 409: <message>"; `reply` has it
 *   E_IO       the expected status with a body that is not JSON
 * The callback may destroy the whole rest (not from within rest_destroy); the request is gone. */
typedef void rest_done_fn(void *arg, const struct rest_reply *reply, const struct err *err);

struct rest_call { /* borrowed for the call */
	const char *method;	  /* "GET", "PUT", "POST" */
	const char *path;	  /* with its query */
	struct json_object *body; /* borrowed; NULL: none.  GET may have one (state-monitor) */
	int expect;		  /* the status of success */
	uint64_t timeout_ms;	  /* for all of it; > 0 */
	rest_done_fn *done;
	void *arg;
};
struct rest_request *rest_call(struct rest *rest, const struct rest_call *call);
/* Forgets it: done is not called. */
void rest_cancel(struct rest_request *request);

#endif
