/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_HYPERVISOR_QEMU_QEMU_H
#define LIB_HYPERVISOR_QEMU_QEMU_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/types.h>

#include "lib/hypervisor/hypervisor.h"
#include "lib/hypervisor/qemu/arch.h"
#include "lib/hypervisor/qemu/firmware.h"
#include "lib/model/field.h"

/* What the files of the QEMU backend share.  Loop thread only, where nothing else is said. */

struct accel;
struct console;
struct console_hub;
struct job;
struct qemu_tpm;
struct qmp;

struct qemu {
	struct hypervisor base;
	char *programs[ARCHS]; /* paths of the emulators; NULL: not installed */
	uint64_t found_ms; /* when all programs were there last */
	int landlock; /* the version of this kernel's, 0: none */
	struct accel *accel;
	struct console_hub *consoles;
	LIST_HEAD(, qemu_tpm) tpms_ending; /* until they are reaped */
	char **firmware_folders;
};

/* The descriptors that the emulator starts with, and the fdsets made of some of them. */
enum qemu_fd {
	QEMU_FD_MONITOR = 10, /* listening socket */
	QEMU_FD_AGENT,	      /* listening socket */
	QEMU_FD_CONSOLE_LOG,
	QEMU_FD_CONSOLE_IN,
	QEMU_FD_CONSOLE_HOLD, /* the FIFO's other end, so that the emulator never sees its end */
	QEMU_FD_IMAGE,
	QEMU_FD_SEED,
	QEMU_FD_CDROM,
	QEMU_FD_FIRMWARE,
	QEMU_FD_TPM, /* connected to the TPM's process */
	QEMU_FD_TAP, /* of NIC i: + 2 * i, and /dev/vhost-net beside it */
};
enum { QEMU_SET_CONSOLE_LOG = 1, QEMU_SET_CONSOLE_IN, QEMU_SET_IMAGE, QEMU_SET_SEED,
	QEMU_SET_CDROM, QEMU_SET_FIRMWARE };

/* ---- disk.c: what prepare makes ---- */

struct qemu_disk { /* what disk.qcow2 stands on, from <dir>/disk.json; zero: on nothing */
	char *base_path, *base_format;
};
int qemu_disk_read(const char *dir, struct qemu_disk *ret_disk, struct err *err);
void qemu_disk_done(struct qemu_disk *disk);
/* On a worker.  image NULL: an empty disk. */
int qemu_disk_prepare(const char *dir, const struct hv_image *image, uint64_t size_bytes,
    struct job *job, struct err *err);
int qemu_disk_unprepare(const char *dir, const char *run_dir, struct err *err);

/* ---- argv.c: the command line, as data ---- */

struct qemu_plan {
	const char *program;
	const struct hv_config *config;
	const struct qemu_disk *disk;
	const char *accel; /* "kvm" | "tcg" */
	bool seed;
	const struct qemu_arch *arch;
	const struct qemu_firmware *firmware; /* NULL: the emulator's own BIOS, or none */
	bool vhost; /* a tap has /dev/vhost-net beside it */
};
char *qemu_serial_path(const struct hv_config *config); /* owned; of a pipe, without its endings */
char *qemu_display_path(const struct hv_config *config); /* owned: the socket of VNC */
void qemu_argv_build(const struct qemu_plan *plan, struct strings *ret_argv);

/* ---- launch.c: from a plan to a process ---- */

struct qemu_process {
	pid_t pid;
	int pidfd; /* owned */
	off_t log_from; /* where qemu.log has this start's words */
	char generation[20];
	struct qemu_tpm *tpm; /* owned; NULL: it has none */
};
int qemu_launch(struct qemu *hv, const struct hv_config *config, const char *accel,
    struct qemu_process *ret_process, struct err *err);
char *qemu_monitor_path(const struct hv_config *config); /* owned */
/* Starts what an order says, by the launcher.  stdin is the order; fds as process_spawn has it. */
struct launch_order;
struct process_fd;
int qemu_launch_order(const struct qemu *hv, const struct launch_order *order, int log_fd,
    const struct process_fd *fds, size_t fd_count, pid_t *ret_pid, int *ret_pidfd, struct err *err);
/* What every program of a machine may reach. */
void qemu_launch_rights(struct launch_order *order, const struct qemu *hv, const char *program,
    const struct hv_config *config);
char *qemu_program_prefix(const char *program); /* owned; NULL: the system's own */
const char *qemu_program(const struct qemu *hv, int arch); /* borrowed; NULL: not installed */

/* ---- tpm.c: the process that is a machine's TPM ---- */

/* Why it ended; the machine goes on without one. */
typedef void qemu_tpm_fn(void *arg, const struct process_exit *how);
/* E_UNSUPPORTED names the package. */
int qemu_tpm_available(struct err *err);
/* ret_fd: the emulator's end of the connection, owned. */
int qemu_tpm_start(const struct qemu *hv, const struct hv_config *config, const char *generation,
    int log_fd, struct qemu_tpm **ret_tpm, int *ret_fd, struct err *err);
/* For the runtime document; NULL: none. */
struct json_object *qemu_tpm_runtime(struct qemu_tpm *tpm);
/* Of a former daemon; NULL: it is gone. */
struct qemu_tpm *qemu_tpm_adopt(const struct hv_config *config, struct json_object *runtime);
void qemu_tpm_watch(struct qemu_tpm *tpm, struct loop *loop, qemu_tpm_fn *fn, void *arg);
void qemu_tpm_end(struct qemu *hv, struct qemu_tpm *tpm); /* tpm: taken, may be NULL */
void qemu_tpm_forget_all(struct qemu *hv);
void qemu_tpm_forget(struct qemu_tpm *tpm); /* it lives on; NULL is fine */

/* ---- log.c: qemu.log and console.log ---- */

int qemu_log_open(const char *dir, const char *name, off_t *ret_size, struct err *err); /* fd */
/* Owned: the last lines from `from` on, fit to be shown; NULL: there are none. */
char *qemu_log_words(const char *dir, off_t from);
/* Keeps a file that others append to under its cap: the tail goes to <name>.1. */
void qemu_log_trim(struct worker_pool *pool, const char *dir, const char *name, off_t max_bytes);

/* ---- accel.c: which accelerator ---- */

struct accel *accel_create(const struct hv_env *env, const char *program);
void accel_destroy(struct accel *accel);
/* choice: "kvm" or "tcg", static; why: what to tell about the choice, or NULL.  Soon, never before
 * return; err: "kvm" was demanded and can not be had. */
typedef void accel_fn(void *arg, const char *choice, const char *why, const struct err *err);
struct accel_wait;
struct accel_wait *accel_choose(struct accel *accel, const char *run_dir, accel_fn *fn, void *arg);
void accel_cancel(struct accel_wait *wait); /* fn is not called any more */
/* What "auto" means from now on.  choice: static. */
void accel_decide(struct accel *accel, const char *choice, const char *why);
/* What was chosen, NULL while nobody asked; why it is not kvm. */
const char *accel_chosen(const struct accel *accel, const char **ret_why);
/* Whether a guest runs with the accelerator at all.  On a worker. */
int accel_try(const char *program, const char *name, const char *rom_path, uint64_t timeout_ms,
    struct job *job, struct err *err);

/* ---- console.c ---- */

struct console_hub *console_hub_create(struct loop *loop);
void console_hub_destroy(struct console_hub *hub);
int console_open(struct console_hub *hub, const struct hv_config *config, hv_output_fn *fn,
    void *arg, struct console **ret_console, struct err *err);
int console_write(struct console *console, const void *data, size_t len, struct err *err);
void console_forget_input(struct console *console); /* the emulator ended; NULL is fine */
uint64_t console_offset(const struct console *console);
void console_close(struct console *console);
char *console_fifo_path(const struct hv_config *config); /* owned */

/* ---- oom.c: whom the kernel killed for want of memory ---- */

struct oom_count {
	char *path; /* the cgroup's file that counts; NULL: none */
	uint64_t kills;
};
void oom_watch(pid_t pid, struct oom_count *ret_count);
bool oom_happened(const struct oom_count *count);
void oom_done(struct oom_count *count);

#endif
