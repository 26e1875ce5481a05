/* SPDX-License-Identifier: MPL-2.0 */
#ifndef CLIENT_CALL_H
#define CLIENT_CALL_H

#include <stdbool.h>
#include <stddef.h>

#include "client/rows.h"
#include "client/vmctl.h"

/* One method call, with all that a person expects while waiting for it. */

struct call {
	enum method_id method;
	struct json_object *params; /* taken; NULL: none */
	const int *fds;             /* borrowed */
	size_t fd_count;
	bool progress;        /* ask for it and show it; Ctrl-C cancels the operation */
	const char *rows_key; /* not NULL: rows of result.key go to on_row instead of the result */
	rows_fn *on_row;
	void *arg;
};

/* *ret_result: owned; may be NULL for the result null, and with rows.  On failure ctl->error holds
 * the error object, if one came. */
int call_run(
    struct vmctl *ctl, const struct call *call, struct json_object **ret_result, struct err *err);
/* The usual verb: the verb's method, its arguments encoded by its rows. */
int call_verb(struct vmctl *ctl, const void *args, bool progress, struct json_object **ret_result,
    struct err *err);
/* The error object of an answer as an error. */
void call_error(struct json_object *error, struct err *ret_err);

#endif
