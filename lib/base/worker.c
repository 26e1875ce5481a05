/* SPDX-License-Identifier: MPL-2.0
 *
 * The worker pool.  One lock guards the queue and the counts; a job's data belongs to the worker
 * while it runs and to the loop before and after. */
#include "lib/base/worker.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/base/platform.h"

struct job {
	TAILQ_ENTRY(job) all;	  /* every job not yet done; loop thread only */
	TAILQ_ENTRY(job) waiting; /* under the lock */
	struct worker_pool *pool;
	const char *name;
	job_run_fn *run;
	job_done_fn *done;
	void *data;
	uint64_t deadline_at_ms; /* monotonic, 0: none */
	struct timer *deadline;
	_Atomic bool cancelled, timed_out;
	int cancel_fd;
};

TAILQ_HEAD(job_list, job);

struct worker_pool {
	struct loop *loop;
	struct job_list jobs;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct job_list queue;
	unsigned queued, idle, threads, max_threads, max_queue;
	pthread_t *ids;
	bool stopping;
};

static void
job_finished(void *arg)
{
	struct job *job = arg;

	TAILQ_REMOVE(&job->pool->jobs, job, all);
	timer_destroy(job->deadline);
	job->done(job->data);
	close(job->cancel_fd);
	free(job);
}

static void *
worker_main(void *arg)
{
	struct worker_pool *pool = arg;
	sigset_t all;
	struct job *job;

	/* Signals are the loop thread's business. */
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, NULL);
	pthread_mutex_lock(&pool->lock);
	for (;;) {
		while (TAILQ_EMPTY(&pool->queue) && !pool->stopping) {
			pool->idle++;
			pthread_cond_wait(&pool->wake, &pool->lock);
			pool->idle--;
		}
		job = TAILQ_FIRST(&pool->queue);
		if (job == NULL)
			break;
		TAILQ_REMOVE(&pool->queue, job, waiting);
		pool->queued--;
		pthread_mutex_unlock(&pool->lock);
		if (!job_cancelled(job))
			job->run(job, job->data);
		loop_post(pool->loop, job_finished, job);
		pthread_mutex_lock(&pool->lock);
	}
	pthread_mutex_unlock(&pool->lock);
	return NULL;
}

struct worker_pool *
worker_pool_create(struct loop *loop, unsigned max_threads, unsigned max_queue)
{
	struct worker_pool *pool = xcalloc(1, sizeof(*pool));

	pool->loop = loop;
	pool->max_threads = max_threads;
	pool->max_queue = max_queue;
	pool->ids = xcalloc(max_threads, sizeof(*pool->ids));
	TAILQ_INIT(&pool->jobs);
	TAILQ_INIT(&pool->queue);
	pthread_mutex_init(&pool->lock, NULL);
	pthread_cond_init(&pool->wake, NULL);
	return pool;
}

void
worker_pool_destroy(struct worker_pool *pool)
{
	struct job *job, *next;

	if (pool == NULL)
		return;
	loop_assert(pool->loop);
	TAILQ_FOREACH(job, &pool->jobs, all)
		job_cancel(job);
	pthread_mutex_lock(&pool->lock);
	pool->stopping = true;
	pthread_cond_broadcast(&pool->wake);
	pthread_mutex_unlock(&pool->lock);
	for (unsigned i = 0; i < pool->threads; i++)
		pthread_join(pool->ids[i], NULL);
	/* What the threads posted last is still queued on the loop; run it here, in order. */
	loop_flush(pool->loop);
	for (job = TAILQ_FIRST(&pool->jobs); job != NULL; job = next) {
		next = TAILQ_NEXT(job, all);
		job_finished(job);
	}
	pthread_cond_destroy(&pool->wake);
	pthread_mutex_destroy(&pool->lock);
	free(pool->ids);
	free(pool);
}

static void
on_deadline(void *arg)
{
	struct job *job = arg;

	job->timed_out = true;
	job_cancel(job);
}

static bool
start_thread(struct worker_pool *pool)
{
	pthread_attr_t attr;
	bool ok;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 512 * 1024);
	ok = pthread_create(&pool->ids[pool->threads], &attr, worker_main, pool) == 0;
	pthread_attr_destroy(&attr);
	if (ok)
		pool->threads++;
	return ok;
}

int
worker_submit(struct worker_pool *pool, const char *name, job_run_fn *run, job_done_fn *done,
    void *data, uint64_t deadline_ms, struct job **ret_job, struct err *err)
{
	struct job *job;
	bool ok;

	loop_assert(pool->loop);
	job = xcalloc(1, sizeof(*job));
	job->pool = pool;
	job->name = name;
	job->run = run;
	job->done = done;
	job->data = data;
	if (deadline_ms > 0) /* before a worker can see it */
		job->deadline_at_ms = clock_ms() + deadline_ms;
	job->cancel_fd = platform_event_fd();
	if (job->cancel_fd < 0) {
		free(job);
		return err_errno(err, E_LIMIT, errno, "can not start '%s'", name);
	}
	pthread_mutex_lock(&pool->lock);
	ok = pool->queued < pool->max_queue;
	if (ok && pool->queued >= pool->idle && pool->threads < pool->max_threads)
		ok = start_thread(pool) || pool->threads > 0;
	if (ok) {
		TAILQ_INSERT_TAIL(&pool->queue, job, waiting);
		pool->queued++;
		pthread_cond_signal(&pool->wake);
	}
	pthread_mutex_unlock(&pool->lock);
	if (!ok) {
		close(job->cancel_fd);
		free(job);
		err_set(err, E_LIMIT, "too much work is waiting; '%s' was not started", name);
		err_hint(err, "try again when running operations have ended");
		return E_LIMIT;
	}
	TAILQ_INSERT_TAIL(&pool->jobs, job, all);
	if (deadline_ms > 0) {
		job->deadline = timer_create_on(pool->loop, on_deadline, job);
		timer_arm(job->deadline, deadline_ms);
	}
	if (ret_job != NULL)
		*ret_job = job;
	return 0;
}

void
job_cancel(struct job *job)
{
	uint64_t one = 1;

	loop_assert(job->pool->loop);
	job->cancelled = true;
	while (write(job->cancel_fd, &one, sizeof(one)) < 0 && errno == EINTR)
		;
}

bool
job_cancelled(const struct job *job)
{
	return job != NULL && job->cancelled;
}

bool
job_timed_out(const struct job *job)
{
	return job != NULL && job->timed_out;
}

uint64_t
job_remaining_ms(const struct job *job)
{
	uint64_t now = clock_ms();

	if (job == NULL || job->deadline_at_ms == 0)
		return UINT64_MAX;
	return job->deadline_at_ms > now ? job->deadline_at_ms - now : 0;
}

void
job_post(struct job *job, loop_fn *fn, void *arg)
{
	loop_post(job->pool->loop, fn, arg);
}

int
job_cancel_fd(const struct job *job)
{
	return job != NULL ? job->cancel_fd : -1;
}
