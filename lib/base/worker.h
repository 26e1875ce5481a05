/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_BASE_WORKER_H
#define LIB_BASE_WORKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/base/loop.h"

/* Threads for what blocks.  A job sees only its own data; its result goes back to the loop. */

struct worker_pool;
struct job;

/* run: on a worker.  done: on the loop thread, exactly once, also after cancel and at shutdown. */
typedef void job_run_fn(struct job *job, void *data);
typedef void job_done_fn(void *data);

/* Threads are made on demand up to max_threads; more than max_queue waiting jobs are refused. */
struct worker_pool *worker_pool_create(struct loop *loop, unsigned max_threads, unsigned max_queue);
/* Cancels every job, waits for the running ones, runs every `done` that is due. */
void worker_pool_destroy(struct worker_pool *pool);

/* name: static text, for logs.  data: borrowed until done has run (which usually frees it).
 * deadline_ms: from now, 0 for none; job_cancelled turns true when it passes.
 * Returns E_LIMIT when the queue is full; done is then not called. */
int worker_submit(struct worker_pool *pool, const char *name, job_run_fn *run, job_done_fn *done,
    void *data, uint64_t deadline_ms, struct job **ret_job, struct err *err);

/* Loop thread.  The handle is valid until done starts. */
void job_cancel(struct job *job);

/* Worker side. */
bool job_cancelled(const struct job *job); /* cancelled or past the deadline; NULL: false */
bool job_timed_out(const struct job *job);
uint64_t job_remaining_ms(const struct job *job); /* UINT64_MAX without a deadline */
/* A message for the loop, in order and before done: fn(arg) runs there. */
void job_post(struct job *job, loop_fn *fn, void *arg);
/* A descriptor that turns readable when the job is cancelled (to poll beside a socket). */
int job_cancel_fd(const struct job *job);

#endif
