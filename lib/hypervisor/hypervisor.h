/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_HYPERVISOR_HYPERVISOR_H
#define LIB_HYPERVISOR_HYPERVISOR_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/base/process.h"
#include "lib/model/spec.h"

struct json_object;
struct loop;
struct worker_pool;

/* What the daemon asks of a hypervisor.  Loop thread only; nothing here blocks: what takes time
 * ends in a callback, exactly once, also when the machine is closed meanwhile (E_CANCELLED).
 * A callback may close the machine. */

enum hv_capability { /* bits */
	HV_CAN_SUSPEND = 1 << 0,
	HV_CAN_USER_NET = 1 << 1,
	HV_CAN_TAP = 1 << 2,
	HV_CAN_VNIC = 1 << 3,
	HV_CAN_UEFI = 1 << 4,
	HV_CAN_CONSOLE = 1 << 5,
	HV_CAN_SSH = 1 << 6, /* there is a guest to log in to; without it a machine is ready at once */
	HV_CAN_POWER_BUTTON = 1 << 7, /* ask_shutdown reaches the guest; else only its own login does */
	HV_CAN_BIOS = 1 << 8,
	HV_CAN_COMMIT = 1 << 9, /* its disk is a file, <dir>/disk.qcow2, of which images can be made */
	HV_CAN_FORWARD = 1 << 10, /* ports of the host lead to a guest on network user */
	HV_CAN_SECURE_BOOT = 1 << 11,
	HV_CAN_TPM = 1 << 12,
	HV_CAN_ARCH = 1 << 13, /* other architectures than the host's */
	HV_CAN_KERNEL = 1 << 14, /* start a kernel instead of the disk */
	HV_CAN_CDROM = 1 << 15,
	HV_CAN_DISPLAY = 1 << 16,
	HV_CAN_PRIVATE = 1 << 17, /* networks among machines, over a switch of ours */
	HV_CAN_NICS = 1 << 18,	   /* several NICs */
};

/* What backends are compared by, for system.info and for messages; a name of NULL ends it. */
struct hv_feature {
	const char *name;
	unsigned bit; /* 0: no backend can */
};
extern const struct hv_feature hv_features[];

/* Why a backend can not do what others can; a bit of 0 ends it. */
struct hv_lack {
	unsigned bit;
	const char *reason; /* "propolis-server can not pause a machine" */
};

struct hypervisor;
struct hv_machine;
struct hv_ops;

struct hv_env { /* borrowed for the router's life */
	struct loop *loop;
	struct worker_pool *pool;
	const char *launcher; /* path of the program that starts machines (vmm-launch) */
	const char *accel;    /* "auto", "kvm" or "tcg" */
	const char *const *lease_patterns; /* files of DHCP servers, besides the usual; NULL ends */
	int qemu_uid, qemu_gid; /* -1: keep ours */
	const struct hv_propolis_config *propolis;
};

struct hv_propolis_config { /* strings borrowed; of the daemon's configuration */
	const char *dataset;	     /* ZFS dataset of images and machines: "rpool/vmm" */
	const char *zvol_dir;	     /* "/dev/zvol/rdsk" */
	const char *zone_dir;	     /* parent of the zonepaths; root's */
	const char *vnic_link;	     /* what VNICs of guests are over; NULL: each machine says it */
	const char *control_link;    /* etherstub over which the daemon reaches the zones */
	const char *control_network; /* addresses on it, "fd76:6d6d::/64"; ours is the first */
	uint16_t port;		     /* of propolis-server, in each zone */
	const char *server;	     /* path of propolis-server */
	const char *bootrom;	     /* path; NULL: looked for in the usual places */
};

struct hv_nic { /* what the daemon adds to a struct network_spec; strings borrowed */
	const char *mac;
	/* private: the sockets of its port, the guest's end and the switch's; NULL: not there */
	const char *local_path, *remote_path;
};

/* A machine as its backend needs it; all borrowed, valid as long as the hv_machine is open. */
struct hv_config {
	const char *id;	     /* short, [0-9a-f]: safe in paths and option strings */
	const char *uuid;
	const char *name;
	const char *dir;     /* its folder, 0700: disk.qcow2, seed.iso, console.log, qemu.log */
	const char *run_dir; /* short folder for sockets, 0700, exists */
	const struct hv_nic *nics; /* vm_spec_nic_count(spec) of them */
	const char *cdrom_path; /* in the store, raw; NULL: none */
	const struct vm_spec *spec;
};

struct hv_image { /* what the disk stands on */
	const char *path;   /* in the store, read-only */
	const char *format; /* "qcow2" or "raw": recorded at import, never probed */
	uint64_t virtual_bytes;
	const char *digest; /* "sha256:…" */
};

enum hv_event_kind {
	HV_EV_SHUTDOWN,	    /* the guest powered off; the process may still be there: end it */
	HV_EV_RESET,	    /* the guest rebooted */
	HV_EV_PANIC,	    /* the guest's kernel panicked */
	HV_EV_PAUSED,	    /* processors stopped, by whomever */
	HV_EV_RESUMED,
	HV_EV_IO_ERROR,	    /* paused: its disk can not be written or read */
	HV_EV_NO_SPACE,	    /* paused: the host's file system is full */
	HV_EV_EXITED,	    /* the process is gone; `exit`, `out_of_memory` and `detail` tell how */
	HV_EV_UNRESPONSIVE, /* alive, but the monitor does not answer */
	HV_EV_RESPONSIVE,
	HV_EV_NOTICE,	    /* something worth telling: `detail` */
	HV_EV_ADDRESS,	    /* facts.ssh_host or address_source became known, or changed */
};

struct hv_event { /* borrowed for the call */
	enum hv_event_kind kind;
	struct process_exit exit;
	bool out_of_memory;
	const char *detail; /* the hypervisor's own words, may be NULL */
	const char *reason; /* of HV_EV_EXITED, static: the machine's reason; NULL: as exit tells */
};

typedef void hv_event_fn(void *arg, const struct hv_event *event);
typedef void hv_done_fn(void *arg, const struct err *err); /* NULL: it went well */
typedef void hv_output_fn(void *arg, const void *data, size_t len);
/* data: borrowed. */
typedef void hv_picture_fn(void *arg, const void *data, size_t len, const struct err *err);

enum hv_run_state { /* the hypervisor's word on what is, now */
	HV_GONE,
	HV_PRELAUNCH, /* launched, processors never started */
	HV_RUNNING,
	HV_PAUSED,
	HV_SHUTDOWN, /* the guest powered off */
	HV_PANICKED,
	HV_IO_ERROR,
	HV_NO_SPACE,
	HV_UNKNOWN, /* alive, but does not tell */
};

enum hv_force { HV_QUIT, HV_TERM, HV_KILL };

struct hv_facts { /* strings borrowed until the next call on the machine; NULL or 0: unknown */
	pid_t pid;
	const char *ssh_host;
	uint16_t ssh_port;
	const char *address_source; /* of an address that was found: "agent", "lease", "neighbour" */
	const char *address_seen;   /* while it is not: what there was, for people */
	const struct strings *taps; /* the host's ends of its networks of type tap, in order; NULL */
	const char *accel;	 /* "kvm", "tcg" */
	const char *version;	 /* of the hypervisor */
	const char *machine_type;
	const char *vnc; /* "address:port" or a path */
	const struct port *forwards; /* as they really are, that of SSH among them */
	size_t forward_count;
};

struct hv_ops {
	enum backend backend;
	unsigned capabilities;
	const struct hv_lack *lacks; /* NULL: no reasons to tell */
	/* 0, or E_UNSUPPORTED with what is missing and how to get it. */
	int (*available)(struct hypervisor *hv, struct err *err);
	/* For people: program, version, what confines its machines … A new object. */
	struct json_object *(*info)(struct hypervisor *hv);
	/* What it chooses where the spec does not, before hv_complete_spec; NULL: nothing. */
	void (*complete_spec)(const struct hypervisor *hv, struct vm_spec *spec);
	/* Refuses what it can not do for reasons of its own (a vnic over no link …), once
	 * hv_complete_spec chose.  NULL: capabilities say it all. */
	int (*check_spec)(struct hypervisor *hv, const struct vm_spec *spec, struct err *err);
	struct hv_machine *(*open)(struct hypervisor *hv, const struct hv_config *config,
	    hv_event_fn *on_event, void *arg);
	/* Forgets the machine; it lives on.  Pending callbacks run with E_CANCELLED first. */
	void (*close)(struct hv_machine *m);

	/* Makes the disk.  Never over an existing one; a failure leaves nothing.  image NULL: the
	 * machine has none, which not every backend accepts (E_PARAMS). */
	void (*prepare)(struct hv_machine *m, const struct hv_image *image, hv_done_fn *done, void *arg);
	/* A prepare, launch or run that is under way ends soon, with E_CANCELLED.  NULL: none takes
	 * long. */
	void (*cancel)(struct hv_machine *m);
	/* Removes what prepare and start made; a machine that was never prepared is fine. */
	void (*unprepare)(struct hv_machine *m, hv_done_fn *done, void *arg);

	/* Starts the process with its processors stopped.  Failure: nothing is left running, and
	 * the error quotes the hypervisor's own words. */
	void (*launch)(struct hv_machine *m, hv_done_fn *done, void *arg);
	/* After launch: what adopt needs to find it again; owned by the caller.  To be committed
	 * before run. */
	struct json_object *(*runtime)(struct hv_machine *m);
	void (*run)(struct hv_machine *m, hv_done_fn *done, void *arg);
	/* Takes over a process of an earlier daemon.  E_NOT_FOUND: it is gone.  E_UNRESPONSIVE:
	 * it lives and does not answer; it stays watched, with HV_EV_RESPONSIVE later.  Never
	 * ends a process. */
	void (*adopt)(struct hv_machine *m, struct json_object *runtime, hv_done_fn *done, void *arg);

	void (*ask_shutdown)(struct hv_machine *m, hv_done_fn *done, void *arg);
	/* Done means asked; HV_EV_EXITED means ended. */
	unsigned end_ms[3];	  /* how long each way may take before the next is tried */
	const char *end_words[3]; /* what HV_QUIT, HV_TERM and HV_KILL do, as results tell it */
	void (*end)(struct hv_machine *m, enum hv_force how, hv_done_fn *done, void *arg);
	void (*suspend)(struct hv_machine *m, hv_done_fn *done, void *arg);
	void (*resume)(struct hv_machine *m, hv_done_fn *done, void *arg);

	/* Adds, or removes, a forward of a machine that runs; facts tell it once this is done.  port:
	 * copied; of one to remove, with its real port of the host.  NULL: without HV_CAN_FORWARD. */
	void (*forward)(struct hv_machine *m, const struct port *port, bool add, hv_done_fn *done,
	    void *arg);

	enum hv_run_state (*state)(struct hv_machine *m);
	void (*facts)(struct hv_machine *m, struct hv_facts *ret_facts);

	/* The serial console; history is in <dir>/console.log.  One reader (the console hub). */
	int (*console_open)(struct hv_machine *m, hv_output_fn *on_output, void *arg, struct err *err);
	int (*console_write)(struct hv_machine *m, const void *data, size_t len, struct err *err);
	/* Where in console.log the output begins that on_output brings; history is before it. */
	uint64_t (*console_offset)(struct hv_machine *m);
	void (*console_close)(struct hv_machine *m);

	/* What the screen shows, as a PNG; NULL without HV_CAN_DISPLAY. */
	void (*screenshot)(struct hv_machine *m, hv_picture_fn *done, void *arg);

	/* For a disk that prepare did not make: chooses its UEFI firmware as prepare does, without
	 * secure boot.  vars: a raw file of the machine's variables; *ret_kept: they fit and are
	 * taken, else they begin anew.  NULL: not of this backend.  Worker. */
	int (*firmware_record)(const struct hypervisor *hv, int arch, const char *dir,
	    const char *vars, bool *ret_kept, struct err *err);

	/* An image left the store: whatever the backend keeps of it may go.  NULL: it keeps nothing. */
	void (*image_removed)(struct hypervisor *hv, const char *digest);
};

/* What a backend's structs start with. */
struct hypervisor {
	const struct hv_ops *ops;
	const struct hv_env *env;
};

struct hv_machine {
	const struct hv_ops *ops;
};

/* ---- the router ---- */

struct hv_router;
struct hv_router *hv_router_create(const struct hv_env *env);
void hv_router_destroy(struct hv_router *router);
/* The backend of the tag, BACKEND_DEFAULT being the platform's.  E_UNSUPPORTED with the reason
 * when it is not in this build, not of this platform, or its programs are missing. */
int hv_router_get(struct hv_router *router, enum backend backend, struct hypervisor **ret_hv,
    struct err *err);
enum backend hv_router_default(void);
/* The backend's choice where the spec makes none: network, firmware. */
void hv_complete_spec(const struct hypervisor *hv, struct vm_spec *spec);
/* Refuses what the backend can not do (network, firmware …), before anything is made. */
int hv_check_spec(struct hypervisor *hv, const struct vm_spec *spec, struct err *err);
/* E_UNSUPPORTED that names machine, feature and backend, with the backend's reason. */
int hv_refuse(const struct hv_ops *ops, const char *name, unsigned bit, struct err *err);
unsigned hv_capabilities(const struct hypervisor *hv);
/* What the backend is, available just now or not; NULL: it is not in this build. */
const struct hv_ops *hv_router_ops(struct hv_router *router, enum backend backend);
/* Tells every backend that is available: hv_ops.image_removed. */
void hv_router_image_removed(struct hv_router *router, const char *digest);

/* For a disk.qcow2 that prepare did not make: records in dir what it stands on, as prepare does.
 * Worker. */
int hv_disk_record(const char *dir, const struct hv_image *image, struct err *err);

/* Constructors, each in its backend's folder. */
struct hypervisor *hv_noop_create(const struct hv_env *env);
struct hypervisor *hv_qemu_create(const struct hv_env *env);
struct hypervisor *hv_propolis_create(const struct hv_env *env); /* with the build option propolis */
void hv_noop_destroy(struct hypervisor *hv);
void hv_qemu_destroy(struct hypervisor *hv);
void hv_propolis_destroy(struct hypervisor *hv);

#endif
