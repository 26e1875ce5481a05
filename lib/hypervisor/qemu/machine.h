/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_HYPERVISOR_QEMU_MACHINE_H
#define LIB_HYPERVISOR_QEMU_MACHINE_H

#include <sys/queue.h>

#include "lib/hypervisor/qemu/qemu.h"
#include "lib/hypervisor/qemu/qmp.h"

struct address_seek;
struct json_object;
struct shot;
struct timer;

/* A machine of the QEMU backend, shared by machine.c (its life), start.c (launch), adopt.c,
 * monitor.c (what QEMU says) and work.c (its disk).
 *
 * Every callback from outside runs between machine_enter and machine_leave, because what we call
 * then may close the machine: after each call out, machine->dead is looked at. */

enum phase {
	PHASE_IDLE,	/* no process */
	PHASE_CHOOSING, /* waits for the choice of the accelerator */
	PHASE_STARTING, /* there is a process, and its monitor is awaited */
	PHASE_FAILING,	/* the start failed, and the process's end is awaited */
	PHASE_ADOPTING,
	PHASE_ALIVE,
};

/* A call that is not answered yet. */
struct hv_op {
	LIST_ENTRY(hv_op) entry;
	struct machine *machine;
	hv_done_fn *done;
	void *arg;
	struct hv_job *job; /* NULL: no worker has it */
	bool soon;	    /* answered on the next turn, with err */
	bool quit;	    /* the process's end is what was asked for */
	struct err err;
};

struct machine {
	struct hv_machine base; /* first */
	struct qemu *hv;
	const struct hv_config *config;
	hv_event_fn *on_event;
	void *arg;
	LIST_HEAD(, hv_op) ops;
	struct timer *soon;	/* answers the ops that are due */
	struct timer *deadline; /* of the start, or of the adoption */
	struct timer *tick;	/* keeps the logs small */
	struct timer *foreign;	/* starts a machine of another architecture, soon */

	enum phase phase;
	enum hv_run_state state;
	struct hv_op *start; /* launch or adopt, while it goes on */
	struct err failure;  /* PHASE_FAILING: why */
	unsigned replies;    /* still to come before the start is complete */
	struct accel_wait *choosing;

	struct process_id id; /* pid 0: no process */
	int pidfd;
	struct process_watch *watch;
	struct qmp *qmp;
	struct oom_count oom;
	struct qemu_tpm *tpm;	/* NULL: it has none, or it ended */
	char generation[20];
	off_t log_from;
	const char *accel; /* static text */
	char version[32], machine_type[32];
	uint16_t ssh_port;
	struct port *forwards; /* owned; by "info usernet", that of SSH among them */
	size_t forward_count;
	struct address_seek *seek; /* NULL: its port is forwarded, or it has none */
	struct strings taps;	   /* the host's ends of its networks of type tap */
	bool retried;	       /* after a failure of kvm */
	bool tell_responsive;  /* once its state is known again */
	uint64_t ran_ms, reset_ms;

	char *display_path; /* once it was asked for */
	struct shot *shots; /* pictures of its screen, the first one being taken; display.c */
	struct console *console;
	int busy;
	bool dead;
};

void machine_enter(struct machine *m);
void machine_leave(struct machine *m);
void machine_emit(struct machine *m, const struct hv_event *event);
void machine_tell(struct machine *m, enum hv_event_kind kind, const char *detail);

struct hv_op *op_create(struct machine *m, hv_done_fn *done, void *arg);
void op_finish(struct hv_op *op, const struct err *err); /* NULL: it went well */
/* Answers on the next turn.  err: copied; NULL: it went well. */
void op_finish_soon(struct hv_op *op, const struct err *err);

/* backend.c */
extern const struct hv_ops qemu_ops; /* of machine.c */
int qemu_available(struct hypervisor *base, struct err *err);
struct json_object *qemu_info(struct hypervisor *base);
void qemu_complete_spec(const struct hypervisor *base, struct vm_spec *spec);
int qemu_check_spec(struct hypervisor *base, const struct vm_spec *spec, struct err *err);

/* start.c */
void qemu_op_launch(struct hv_machine *base, hv_done_fn *done, void *arg);
/* The monitor answered first. */
void start_on_ready(struct machine *m);
void start_fail(struct machine *m, const struct err *err); /* kills what was started */
void start_on_exit(struct machine *m, const struct process_exit *how);
void start_complete(struct machine *m);
void start_foreign(void *arg); /* its struct machine */
/* The words of a process that ended: "QEMU ended with status 1: …". */
void exit_describe(const struct machine *m, const struct process_exit *how, struct err *err);

/* tpm of the machine's life: watches it, and tells its end. */
void machine_take_tpm(struct machine *m, struct qemu_tpm *tpm); /* taken, may be NULL */

/* work.c */
int qemu_firmware_record(const struct hypervisor *base, int arch, const char *dir, const char *vars,
    bool *ret_kept, struct err *err);

/* display.c */
void qemu_op_screenshot(struct hv_machine *base, hv_picture_fn *done, void *arg);

/* adopt.c */
struct json_object *qemu_op_runtime(struct hv_machine *base);
void qemu_op_adopt(struct hv_machine *base, struct json_object *runtime, hv_done_fn *done,
    void *arg);
void adopt_on_ready(struct machine *m);
void adopt_on_deadline(struct machine *m);
/* Whether the process of <dir>/launch.json lives. */
bool adopt_record_lives(const struct hv_config *config, pid_t *ret_pid);
/* What the launcher noted of the taps that it made. */
void adopt_record_taps(struct machine *m);

/* monitor.c */
extern const struct qmp_handler machine_qmp_handler;
void monitor_requery(struct machine *m); /* what is, and tell what changed */
bool monitor_status(struct json_object *result, enum hv_run_state *ret_state);
/* Asks for the forwarded ports; false: the machine has no user network, and fn is not called. */
bool monitor_ask_usernet(struct machine *m, qmp_reply_fn *fn, void *arg);

/* forward.c */
void qemu_op_forward(struct hv_machine *base, const struct port *port, bool add, hv_done_fn *done,
    void *arg);
/* Takes what "info usernet" answered. */
void forward_learn(struct machine *m, struct json_object *result);
void forward_forget(struct machine *m);
/* The forwards in the text of "info usernet".  *ret_ports: owned, may be NULL. */
size_t forward_parse(const char *usernet, struct port **ret_ports);
/* Which of them is the one that was made for SSH: the known one if it is still there, else one
 * that the spec's own ports do not explain.  0: none. */
uint16_t forward_ssh_port(const struct port *forwards, size_t count, const struct vm_spec *spec,
    uint16_t known);
/* "tcp:127.0.0.1:8080-:80", as -netdev and hostfwd_add take it; text: PORT_TEXT_MAX bytes. */
const char *forward_rule(const struct port *port, char *text);

/* nic.c: the address of a guest on a bridge */
void nic_begin(struct machine *m); /* seeks it, of a machine that has a tap */
void nic_end(struct machine *m);
void nic_facts(const struct machine *m, struct hv_facts *facts);
/* The guest opened or closed a port of virtio-serial. */
void nic_port_changed(struct machine *m, const char *id, bool open);
int nic_check_spec(const struct vm_spec *spec, struct err *err);

/* machine.c */
/* NULL: the call was answered, for there is nobody to ask. */
struct hv_op *machine_ask(struct machine *m, hv_done_fn *done, void *arg);
int machine_attach(struct machine *m, pid_t pid, int pidfd, struct err *err); /* pidfd: taken */
void machine_detach(struct machine *m); /* forgets the process */
void machine_alive(struct machine *m);

/* work.c */
void qemu_op_prepare(struct hv_machine *base, const struct hv_image *image, hv_done_fn *done,
    void *arg);
void qemu_op_unprepare(struct hv_machine *base, hv_done_fn *done, void *arg);
void work_abandon(struct hv_op *op);

#endif
