/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_BASE_PROCESS_H
#define LIB_BASE_PROCESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/base/err.h"

struct loop;
struct job;

/* ---- starting ---- */

struct process_fd {
	int from; /* ours */
	int to;	  /* the number that the child sees */
};

struct process_limits { /* 0: none; with any, there are no core dumps either */
	uint64_t cpu_seconds, address_space_bytes, file_size_bytes;
};

struct process_spec {
	const char *const *argv;    /* argv[0] is looked up in PATH when it has no slash */
	const char *const *envp;    /* NULL: ours */
	const char *cwd;	    /* NULL: ours */
	int stdin_fd, stdout_fd, stderr_fd; /* -1: /dev/null */
	const struct process_fd *fds;	    /* passed besides these; all others are closed */
	size_t fd_count;
	bool new_session; /* setsid: not in our terminal's or service's reach */
	const struct process_limits *limits; /* NULL: none of its own */
};

char *process_find(const char *name); /* owned path, in PATH or the sbin folders; NULL: none */
/* Owned path of a program that belongs to this project: what the environment variable says, else
 * beside this program, in its build tree (source_folder), or where it is installed; NULL: none. */
char *process_find_ours(const char *name, const char *variable, const char *source_folder);
/* The child has default signal dispositions, an empty mask and the descriptor limit that vmmd was
 * started with.  A program that can not be executed is an error here, not a child that exits 127.
 * ret_pidfd may be NULL.  Any thread. */
int process_spawn(const struct process_spec *spec, pid_t *ret_pid, int *ret_pidfd, struct err *err);

/* On the caller: these limits, and no core dumps.  0, or -1 with errno.  Async-signal-safe. */
int process_limit(const struct process_limits *limits);

/* ---- who is it ---- */

/* What tells one process from another that later has the same pid.  Plain memory. */
struct process_id {
	pid_t pid;
	uint64_t start_time; /* in whatever the kernel counts it (Linux: ticks since boot) */
	char boot_id[40];
	uint64_t exe_dev, exe_ino; /* 0 when unreadable */
};

int process_identify(pid_t pid, struct process_id *ret_id, struct err *err);
/* Opens the very process: pidfd first, then the comparison.  E_NOT_FOUND when it is gone, a
 * zombie, of another boot, or when the pid is another process's now. */
int process_open(const struct process_id *id, int *ret_pidfd, struct err *err);
int process_signal(pid_t pid, int pidfd, int signo); /* 0, E_NOT_FOUND or E_PERMISSION */
/* What poll has to ask for, to learn of the end from a descriptor of process_open. */
extern const short process_end_events;
/* Whether the arguments that it was started with contain the text; true also where it can not be
 * excluded. */
bool process_mentions(pid_t pid, const char *text);
const char *process_boot_id(void); /* valid for the process's life; VMMD_BOOT_ID overrides (tests) */

/* ---- its end ---- */

/* pidfd, of process_spawn or process_open: stands for the process and for no later one with the
 * same pid.  One of process_spawn is readable once its process has ended, and sometimes before:
 * process_reap tells. */

struct process_exit {
	bool known;	/* false: ended, but nobody could tell how (not our child, old kernel) */
	bool signaled;
	int code;	/* exit status, or the signal's number */
};
typedef void process_exit_fn(void *arg, const struct process_exit *how);
struct process_watch;

/* How an ended child ended; reaps it.  False: not our child, or (without wait) not ended yet. */
bool process_reap(pid_t pid, int pidfd, bool wait, struct process_exit *ret_exit);

/* Calls fn once on the loop when the process has ended; a child of ours is reaped.
 * pidfd: copied (dup).  Destroying the watch before that forgets the process, and kills nothing.
 * NULL: no descriptor is left. */
struct process_watch *process_watch_create(struct loop *loop, pid_t pid, int pidfd,
    process_exit_fn *fn, void *arg);
void process_watch_destroy(struct process_watch *watch);

/* ---- run to the end, on a worker ---- */

struct process_output {
	/* Given, else zero: takes stdout as it comes, on the worker; then `out` stays empty. */
	void (*heard)(void *arg, const char *data, size_t len);
	void *heard_arg;
	const char *name; /* how errors call the program; NULL: by argv[0] */
	const char *const *envp; /* NULL: ours */
	/* Found. */
	char *out; /* owned, zero terminated */
	size_t out_len;
	char *err_text; /* owned: the last 4 KiB of stderr */
	struct process_exit exit;
};

/* Blocks; never on the loop.  input may be NULL.  Output over out_max ends the child with E_LIMIT.
 * The child is killed at the deadline (E_TIMEOUT) or when the job is cancelled (E_CANCELLED); one
 * that became another user's is left behind.
 * A non-zero exit is E_FAILED with the program's own words.  limits, job may be NULL.
 * ret_output: zeroed by the caller but for what it gives; filled also for E_FAILED;
 * process_output_done frees it. */
int process_run(const char *const *argv, const void *input, size_t input_len, size_t out_max,
    uint64_t timeout_ms, const struct process_limits *limits, struct job *job,
    struct process_output *ret_output, struct err *err);
void process_output_done(struct process_output *output);

/* ---- descriptor limits ---- */

void process_raise_fd_limit(void); /* soft to hard; remembers the old one for children */

#endif
