/* SPDX-License-Identifier: MPL-2.0 */
#ifndef CLIENT_VMCTL_H
#define CLIENT_VMCTL_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/err.h"
#include "lib/model/field.h"
#include "proto/params.h"

struct conn;
struct json_object;

/* One run of vmctl: parse, one call, print, exit.  One thread.  stdout is the answer; progress,
 * messages and hints go to stderr. */

struct global_args {
	char *socket;
	bool json, quiet, help, version;
};

enum verb_flags {
	VERB_PASSES_STATUS = 1, /* its exit status is the guest's; ours is 255 */
	VERB_HIDDEN = 2,        /* not in help and completion */
};

struct positional {
	const char *field;
	const char *shown; /* "NAME" */
	bool optional;
	bool rest; /* takes all that follows; a FIELD_STRINGS; only the last one */
};

struct short_flag {
	char letter;
	const char *field;
};

struct vmctl;

/* A verb is a row: what it takes, and what it does with it. */
struct verb {
	const char *name;    /* "image list" for a verb of a family */
	const char *summary; /* one line; NULL: the method's */
	const char *details; /* more lines for its help; may be NULL */
	const struct field *fields;
	size_t args_size;
	const struct positional *positionals; /* a NULL field ends; may be NULL */
	const struct short_flag *shorts;      /* a zero letter ends; may be NULL */
	const char *const *hidden; /* rows that are set otherwise; NULL ends; may be NULL */
	unsigned flags;
	enum method_id method; /* for call_verb, and the summary */
	int (*run)(struct vmctl *ctl, void *args, struct err *err);
};

struct vmctl {
	struct global_args global;
	const struct verb *verb;
	struct conn *conn; /* opened at the first call */
	bool out_tty, err_tty;
	int status;                /* the exit status of success */
	char *operation;           /* of the running call, once known; owned */
	bool answered;             /* the answer was printed, though it is a failure */
	bool no_start;             /* a daemon that does not run is not started */
	struct json_object *error; /* the error object of the last failed call, for --json; owned */
};

extern const struct field global_fields[];
extern const struct short_flag global_shorts[];
extern const struct verb *const verbs[]; /* in the order of help; NULL ends */

int vmctl_run(int argc, char **argv);
int vmctl_connect(struct vmctl *ctl, struct err *err); /* if not done yet */
const struct verb *verb_find(const char *name);
const char *verb_summary(const struct verb *verb);

#endif
