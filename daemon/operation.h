/* SPDX-License-Identifier: MPL-2.0 */
#ifndef DAEMON_OPERATION_H
#define DAEMON_OPERATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "lib/base/err.h"

struct json_object;
struct request;
struct timer;
struct vm;
struct vmmd;

/* Operations: a table of steps each, with a deadline, cancel, undo, phases and progress.
 *
 * An operation lives from op_start until its last step or undo ended; a step that waits keeps it
 * alive, so a step's own callbacks may hold a pointer to it.  A machine runs one at a time.
 * Loop thread. */

enum step_result {
	STEP_DONE,
	STEP_WAIT,   /* op_step_done or op_step_failed comes later, exactly once */
	STEP_FAILED, /* err is filled */
};

struct operation;

struct op_step {
	const char *phase; /* what clients see */
	enum step_result (*run)(struct operation *op, struct err *err);
	/* The operation was cancelled or its time is over while this step waits: hurry it to
	 * op_step_failed (or done).  NULL: it ends soon by itself. */
	void (*cancel)(struct operation *op);
	/* Takes back what run made, also of a step that failed half-way.  NULL: nothing to do. */
	enum step_result (*undo)(struct operation *op, struct err *err);
};

struct op_kind {
	const char *name; /* "vm.start" */
	const struct op_step *steps;
	size_t step_count;
	void (*release)(struct operation *op); /* frees op->data; NULL: nothing */
	/* After the last step or undo, before listeners hear of it; may be NULL. */
	void (*ended)(struct operation *op);
};

enum op_state { OP_RUNNING, OP_DONE, OP_FAILED, OP_CANCELLED, OP_INTERRUPTED, OP_STATES };

struct op_phase {
	const char *name;
	uint64_t ms;
};

/* Who hears of an operation's end: exactly once. */
typedef void op_ended_fn(void *arg, struct operation *op);

struct op_listener { /* owned by the operation */
	TAILQ_ENTRY(op_listener) link;
	op_ended_fn *fn;
	void *arg;
};

/* A client that wants progress. */
struct op_audience {
	TAILQ_ENTRY(op_audience) link;
	struct request *request;
};

struct operation {
	TAILQ_ENTRY(operation) link;
	struct vmmd *vmmd;
	const struct op_kind *kind;
	char id[17];
	uid_t uid;
	struct vm *vm; /* valid while the operation holds it (vm->op == this); else NULL */
	char *vm_name;
	struct operation *parent; /* gets our progress; cancels us */
	void *data;		  /* the kind's own */

	enum op_state state;
	size_t at;
	bool undoing, stepping, step_ended, cancelled, timed_out;
	struct err *err; /* owned; NULL while all is well */
	struct json_object *result; /* owned; NULL: {} */
	struct timer *deadline;
	uint64_t started_at_ms, phase_at_ms; /* monotonic */
	int64_t started_wall_ms, ended_wall_ms;
	struct op_phase phases[24];
	size_t phase_count;

	TAILQ_HEAD(, op_listener) listeners;
	TAILQ_HEAD(, op_audience) audience;
};

struct operations;
struct operations *operations_create(struct vmmd *vmmd);
void operations_destroy(struct operations *operations);
bool operations_idle(const struct operations *operations);
/* vmmd ends: who waits for an answer is told that what they asked for goes on no more. */
void operations_tell_shutdown(struct vmmd *vmmd);

/* Who asked, and who hears of it. */
struct op_call {
	uid_t uid;
	struct operation *parent; /* NULL: none */
	struct request *audience; /* hears progress if it wants it; NULL: nobody */
	op_ended_fn *ended;	  /* runs exactly once, unless op_start returns an error */
	void *arg;
};

/* Begins an operation.  vm: NULL for those of many machines; otherwise it must be free (E_BUSY
 * names what runs on it).  data: taken (released by the kind, also on error).  deadline_ms: 0 none.
 * The first step runs before this returns, so that it may be over already.  ret_id may be NULL. */
int op_start(struct vmmd *vmmd, const struct op_kind *kind, struct vm *vm, void *data,
    uint64_t deadline_ms, const struct op_call *call, char ret_id[17], struct err *err);

void op_step_done(struct operation *op);
void op_step_failed(struct operation *op, const struct err *err);
void op_cancel(struct operation *op);
/* Calls fn at the end. */
void op_listen(struct operation *op, op_ended_fn *fn, void *arg);
/* The request stops hearing progress (it was answered). */
void op_deafen(struct operation *op, struct request *request);

/* Progress; done and total 0: unknown. */
void op_progress(struct operation *op, uint64_t done, uint64_t total, const char *unit);
void op_note(struct operation *op, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void op_output(struct operation *op, const char *stream, const void *data, size_t len);
/* A sub-phase within a step ("provision 2/3: shell 'x'"): start and end of it. */
void op_subphase(struct operation *op, const char *phase, const char *state, const char *message,
    uint64_t elapsed_ms);

void operations_each(struct vmmd *vmmd, void (*fn)(void *arg, struct operation *op), void *arg);
struct operation *op_find(struct vmmd *vmmd, const char *id);
struct json_object *operation_brief(const struct operation *op); /* {id, kind, phase} */
struct json_object *operation_json(const struct operation *op);
extern const char *const op_state_names[OP_STATES];

/* A request that waits for an operation: replies with its result or its error.  The usual ended
 * function of the vm.* methods; arg: struct request *. */
void op_answer_request(void *arg, struct operation *op);
/* At start: operations that a former daemon did not finish become "interrupted".  Calls fn with
 * the kind and the machine's id of each. */
void operations_recover(struct vmmd *vmmd,
    void (*fn)(void *arg, const char *kind, const char *vm_id), void *arg);

#endif
