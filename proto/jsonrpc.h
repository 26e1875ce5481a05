/* SPDX-License-Identifier: MPL-2.0 */
#ifndef PROTO_JSONRPC_H
#define PROTO_JSONRPC_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/err.h"

struct json_object;
struct method;
struct sbuf;

/* JSON-RPC 2.0: lines in, calls out; results in, lines out.  No I/O.  Any thread. */

enum { RPC_LINE_MAX = 4 << 20, RPC_DEPTH_MAX = 32, RPC_BATCH_MAX = 256 };

struct rpc_call {
	char *id;	    /* JSON text to be echoed exactly ("7", "\"a\"", "null"); NULL: a notification */
	const char *method; /* borrowed from the line's tree; NULL when invalid */
	struct json_object *params; /* borrowed; NULL: none were given */
	struct err *invalid; /* owned; not NULL: the call is answered with this (E_REQUEST) */
};

struct rpc_line {
	bool batch;
	struct rpc_call *calls; /* owned */
	size_t count;
	struct json_object *root; /* owned */
};

/* text: zero terminated at len.  E_PARSE (answered with id null): not JSON, or not of the kind we
 * take (NaN, single quotes, duplicate keys, control bytes, \u0000, lone surrogates, invalid
 * UTF-8, depth).  E_LIMIT: longer than RPC_LINE_MAX.  E_REQUEST: an empty batch, or more than RPC_BATCH_MAX.  A wrong member of a batch
 * is a call with `invalid`. */
int rpc_parse(const char *text, size_t len, struct rpc_line *ret_line, struct err *err);
void rpc_line_done(struct rpc_line *line);
/* Parameters given by position, as an object (owned) by the method's rows in their order; null
 * leaves one out.  NULL with E_PARAMS: more than there are rows. */
struct json_object *rpc_params_by_name(const struct method *method, struct json_object *array,
    struct err *err);

/* Whole answers, without the newline, appended.  id: JSON text; NULL writes null. */
void rpc_result(struct sbuf *out, const char *id, const char *result, size_t len);
void rpc_error(struct sbuf *out, const char *id, const struct err *err);
/* params: borrowed; NULL: none. */
void rpc_notification(struct sbuf *out, const char *method, struct json_object *params);

/* The client's side: an answer's error as a struct err. */
void rpc_error_read(struct json_object *error, struct err *ret_err);

/* The lexical gate alone: E_PARSE with the offset and what is wrong. */
int gate_check(const char *text, size_t len, struct err *err);

/* The whole interface as an OpenRPC document; owned. */
struct json_object *openrpc_document(void);

#endif
