/* SPDX-License-Identifier: MPL-2.0 */
#ifndef PROTO_RESULTS_H
#define PROTO_RESULTS_H

#include <stdbool.h>
#include <stddef.h>

#include "proto/params.h"

/* What every method answers and what the daemon notifies, as rows: for rpc.discover and for the
 * documentation.  Clients ignore members that they do not know. */

enum result_type {
	RESULT_STRING,
	RESULT_TIME, /* a string, RFC 3339 */
	RESULT_INTEGER,
	RESULT_BOOLEAN,
	RESULT_STRINGS,
	RESULT_OBJECT,  /* rows */
	RESULT_OBJECTS, /* a list of such */
	RESULT_ANY
};

struct result_row {
	const char *name; /* NULL ends the table */
	enum result_type type;
	bool maybe; /* absent when there is nothing to tell */
	bool null;  /* may be null */
	const struct result_row *rows;
	const char *const *words; /* RESULT_STRING: one of these; NULL-terminated */
	const char *text;         /* one line for people */
};

struct result_shape {
	const char *name; /* of a shape that stands for itself ("vm"); NULL: only used here */
	const struct result_row *rows;
	const char *text;
};

extern const struct result_shape method_results[METHODS];

struct notification {
	const char *wire, *text;
	const struct result_row *rows;
};

extern const struct notification notifications[]; /* .wire NULL ends it */

#endif
