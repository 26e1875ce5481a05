/* SPDX-License-Identifier: MPL-2.0 */
#ifndef CLIENT_ROWS_H
#define CLIENT_ROWS_H

#include <stddef.h>

struct json_object;

/* The rows of a long answer, one at a time: a list of a thousand machines as one tree is eleven
 * megabytes of small objects, and most of the time that vmctl takes. */

typedef void rows_fn(void *arg, struct json_object *row); /* row: borrowed for the call */

/* Calls fn for each element of the array at result.key of an answer's line, once all of them were
 * found well formed as far as brackets and strings go.  -1, and no call: the line is no such
 * answer, and has to be read whole. */
int rows_each(const char *line, size_t len, const char *key, rows_fn *fn, void *arg);

#endif
