/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_HYPERVISOR_PROPOLIS_MACHINE_H
#define LIB_HYPERVISOR_PROPOLIS_MACHINE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "lib/hypervisor/hypervisor.h"
#include "lib/hypervisor/propolis/host.h"
#include "lib/hypervisor/propolis/rest.h"

/* The backend for Propolis: a machine is an instance in a propolis-server of its own, which is the
 * first process of a zone of its own.  Shared by propolis.c (the backend, the zones' states),
 * machine.c (what every call needs, disk and address), start.c, end.c, adopt.c, monitor.c (what
 * the server says) and console.c.  Loop thread only.
 *
 * Every callback from outside runs between propolis_enter and propolis_leave, because what we call
 * then may close the machine: after each call out, machine->dead is looked at. */

struct json_object;
struct timer;
struct propolis_console;
struct task;

struct propolis {
	struct hypervisor base; /* first */
	const struct hv_propolis_config *config;
	struct host_imports *imports;
	struct worker_pool *pool; /* zones and ZFS take their time: images are not held up by them */
	LIST_HEAD(, machine) machines;
	struct timer *zones_timer;
	struct zones_job *zones; /* NULL: none is asked for */
	bool zones_again;	 /* asked for while one was under way */
	uint64_t zones_serial, zones_ms; /* of the last look: its number, when it began */
};

enum phase {
	PHASE_IDLE,	/* no zone runs */
	PHASE_BOOTING,	/* on a worker */
	PHASE_AWAITING, /* the server is to answer */
	PHASE_ENSURING, /* the instance is being made */
	PHASE_FAILING,	/* the start failed, the zone is being halted */
	PHASE_ADOPTING,
	PHASE_ALIVE,
};

struct hv_op { /* a call that is not answered yet */
	LIST_ENTRY(hv_op) entry;
	struct machine *machine;
	hv_done_fn *done;
	void *arg;
	struct task *task; /* NULL: no worker has it */
	bool soon;	   /* answered on the next turn, with err */
	bool joined;	   /* answered by the end of the halt that is under way */
	struct err err;
};

struct machine {
	struct hv_machine base; /* first */
	LIST_ENTRY(machine) link;
	struct propolis *hv;
	struct loop *loop;
	const struct hv_config *config;
	hv_event_fn *on_event;
	void *arg;
	LIST_HEAD(, hv_op) ops;
	LIST_HEAD(, task) tasks;
	struct timer *soon;

	enum phase phase;
	enum hv_run_state state;
	struct hv_op *start, *run; /* launch or adopt; run: while they go on */
	struct err failure;	   /* PHASE_FAILING: why */
	struct timer *deadline;	   /* of start, run and adopt */
	struct timer *again;	   /* the next question while the server is awaited */
	char zone[32];
	char address[46]; /* of propolis-server; "" while there is none */
	struct json_object *body; /* of the ensure, until it was sent */
	struct err last;	  /* why the server did not answer yet */
	bool booting_found;	  /* adopting: its boot was under way when the daemon was killed */
	unsigned looks;		  /* adopting: how often the zone was looked at */
	bool had_instance;	  /* adopting: the start was complete */
	uint64_t zone_since, zone_told; /* the first look that counts, the last that was told */

	/* monitor.c */
	struct rest *rest;
	struct rest_request *poll;
	struct timer *repoll;
	uint64_t gen;
	bool seen; /* a state of the instance is known */
	bool active_once, unresponsive;
	bool probe_next; /* the server is asked whether it is there, before another long poll */
	uint64_t silent_since_ms; /* 0: it answers */

	/* end.c */
	bool stopping; /* a stop was asked for; the zone follows */
	bool halting;
	enum hv_force force;
	const char *end_reason; /* static; why the zone is halted without being asked to */
	char *end_detail;

	char guest_address[46]; /* of the neighbour tables; "" */
	struct timer *address_timer;
	struct task *address_task;
	char facts_host[64], facts_vnc[64];

	struct propolis_console *console;
	int busy;
	bool dead;
};

/* ---- machine.c ---- */

void propolis_enter(struct machine *m);
void propolis_leave(struct machine *m);
void propolis_emit(struct machine *m, const struct hv_event *event);
void propolis_tell(struct machine *m, enum hv_event_kind kind, const char *detail);
struct hv_op *call_create(struct machine *m, hv_done_fn *done, void *arg);
void call_finish(struct hv_op *op, const struct err *err); /* NULL: it went well */
void call_finish_soon(struct hv_op *op, const struct err *err); /* err: copied */
void call_refuse(struct machine *m, hv_done_fn *done, void *arg, enum err_code code, const char *text);

/* Work on a worker: copies of everything; a machine that is closed meanwhile cancels it, and it
 * ends without a taker. */
struct task {
	LIST_ENTRY(task) entry;
	struct machine *m; /* NULL: nobody waits any more */
	struct job *job;
	struct host_machine *host;
	int (*run)(struct task *task, struct job *job);
	void (*done)(struct machine *m, struct task *task); /* rc and err are set */
	struct hv_op *op; /* NULL: belongs to none */
	int rc;
	struct err err;
	/* what the one or the other needs, owned */
	char *dir, *address, *image_path, *image_format, *image_digest, *seed, *text;
	uint64_t image_bytes;
};
/* task: from xcalloc, with what it needs; taken.  Its done always comes, never at once. */
void task_submit(struct machine *m, struct task *task, const char *name, uint64_t deadline_ms);

bool machine_has_nic(const struct machine *m);
const char *machine_ssh_host(struct machine *m); /* NULL: not known */
/* The end of the log in its zone, in one line; owned; NULL: there is none. */
char *machine_log(const struct machine *m);
/* GET /instance: with 200, the error that it is not, or E_CANCELLED.  done is m's. */
void instance_ask(struct machine *m, rest_done_fn *done);
/* It did not answer as it should: again after so long, unless its zone has ended, for then it never
 * will. */
void instance_again(struct machine *m, const struct err *err, uint64_t delay_ms);
char *machine_log_path(const struct machine *m); /* for a person to look at; owned */
/* Looks for the guest's address in the neighbour tables while the machine runs. */
void machine_seek_address(struct machine *m);

/* ---- start.c ---- */

void propolis_op_launch(struct hv_machine *base, hv_done_fn *done, void *arg);
void propolis_op_run(struct hv_machine *base, hv_done_fn *done, void *arg);
void launch_on_deadline(struct machine *m);
void launch_on_again(struct machine *m);
void launch_cancel(struct machine *m); /* a launch or run that is under way ends soon */
void launch_zone_gone(struct machine *m); /* while the server was awaited */
void launch_fail(struct machine *m, const struct err *err); /* halts the zone, then tells */
void launch_failed(struct machine *m); /* it is halted */
void run_finish(struct machine *m, const struct err *err);
bool address_pick(const struct propolis *hv, const struct machine *m, char ret_address[46],
    struct err *err);
/* "fd76:6d6d::1/64": with the prefix of the network, as the zone wants it; owned. */
char *address_with_prefix(const struct hv_propolis_config *config, const char *address);

/* ---- end.c ---- */

void propolis_op_end(struct hv_machine *base, enum hv_force how, hv_done_fn *done, void *arg);
void machine_halt(struct machine *m, struct hv_op *op); /* op may be NULL */
/* The zone is halted because of this; HV_EV_EXITED follows.  reason: static. */
void machine_give_up(struct machine *m, const char *reason, const char *detail);
void machine_gone(struct machine *m, const char *reason, const char *detail); /* the zone is */

/* ---- adopt.c ---- */

struct json_object *propolis_op_runtime(struct hv_machine *base);
void propolis_op_adopt(struct hv_machine *base, struct json_object *runtime, hv_done_fn *done,
    void *arg);
void adoption_on_zone(struct machine *m, enum zone_state state, const struct err *err);
void adoption_on_deadline(struct machine *m);
void adoption_on_again(struct machine *m);
/* <dir>/launch.json: what finds the machine again when the daemon is killed while it starts. */
int launch_record_write(const char *dir, const char *address, bool booted, struct err *err);

/* ---- monitor.c ---- */

/* Begins to follow the instance; its first state is told like every other. */
void monitor_start(struct machine *m);
void monitor_stop(struct machine *m);
void monitor_state(struct machine *m, const char *word, bool skipped);
void monitor_on_again(struct machine *m); /* the server took too long to let the instance go */
/* What an instance's state means; false: no such word. */
bool monitor_word(const char *word, enum hv_run_state *ret_state);

/* ---- propolis.c ---- */

extern const struct hv_ops propolis_ops; /* machine.c */
int propolis_available(struct hypervisor *base, struct err *err);
struct json_object *propolis_info(struct hypervisor *base);
int propolis_check_spec(struct hypervisor *base, const struct vm_spec *spec, struct err *err);
void propolis_image_removed(struct hypervisor *base, const char *digest);

/* Looks at the zones soon; each machine that is not idle hears of it. */
void zones_look(struct propolis *hv);
void machine_watch_zone(struct machine *m); /* the same, for a machine whose zone changed just now */

/* ---- body.c ---- */

/* What PUT /instance wants; seed_base64 NULL: there is none.  A new object. */
struct json_object *body_create(const struct hv_config *config, const struct host_names *names,
    bool has_nic, const char *seed_base64);

/* ---- console.c ---- */

struct propolis_console *propolis_console_create(struct machine *m, bool fresh);
void propolis_console_destroy(struct propolis_console *console);
int propolis_op_console_open(struct hv_machine *base, hv_output_fn *on_output, void *arg,
    struct err *err);
int propolis_op_console_write(struct hv_machine *base, const void *data, size_t len,
    struct err *err);
uint64_t propolis_op_console_offset(struct hv_machine *base);
void propolis_op_console_close(struct hv_machine *base);

#endif
