/* SPDX-License-Identifier: MPL-2.0 */
#ifndef PROTO_GATE_H
#define PROTO_GATE_H

#include <stddef.h>

#include "lib/base/err.h"
#include "proto/jsonrpc.h"

/* What stands before json-c, which takes more than JSON and keeps less than it is given.  Any
 * thread. */

enum {
	GATE_MEMBERS_MAX = 1024,     /* of one object */
	GATE_VALUES_MAX = 256 << 10, /* of one line: bounds the memory of its tree */
	GATE_CONTAINER_COST = 4,     /* values that an array or object counts as */
	GATE_NUMBER_MAX = 512        /* characters of a number */
};

/* Where the source of each call's "id" stands, by the call's place in the batch; len 0: none. */
struct gate_ids {
	struct {
		size_t at, len;
	} of[RPC_BATCH_MAX];
	size_t count;
};

/* The check of gate_check; text: zero terminated at len.  ret_ids may be NULL. */
int gate_scan(const char *text, size_t len, struct gate_ids *ret_ids, struct err *err);

#endif
