/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_HYPERVISOR_PROPOLIS_HOST_H
#define LIB_HYPERVISOR_PROPOLIS_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/hypervisor/hypervisor.h"

struct job;
struct vm_spec;

/* What a machine is on an illumos host: a zone of the brand "vmm", one or two VNICs, a clone of
 * its image's zvol.  All by zonecfg, zoneadm, dladm, zfs, dd, arp, found in PATH and, for who is
 * not root, run by pfexec when that is there.  On workers, but for host_available and the names.
 *
 * Everything is named from the machine's id, and marked as its own: the zone by the attribute
 * vmm-machine (the uuid), datasets by the user property vmm:machine (the id) or vmm:digest.  What
 * has the name without the mark is somebody else's: it is refused and never touched. */

struct host_names {
	char zone[32];	   /* "vmm-<id>" */
	char link[32];	   /* the guest's: network.name, else "vm<id>_n0" */
	char control[32];  /* the zone's own: "vm<id>_c0", over config->control_link */
	char dataset[256]; /* "<config->dataset>/machines/<id>" */
	char device[512];  /* "<config->zvol_dir>/<dataset>" */
};

/* What jobs work on: copies, owned by whoever made it with host_machine_copy. */
struct host_machine {
	const struct hv_propolis_config *config; /* borrowed for the daemon's life */
	struct host_names names;
	char *id, *uuid, *name, *mac;
	char *dir;	     /* hv_config.dir: what is written on the way is there */
	bool has_nic;	     /* network vnic; else none */
	char *over;	     /* the link that the guest's VNIC is over: network.link, else config->vnic_link */
	uint64_t disk_bytes; /* 0: as the image */
	struct host_imports *imports; /* borrowed; set by whoever made it; NULL: nobody else imports */
	struct err refused;  /* code 0, or why host_prepare refuses it: what host_check_names says */
};
struct host_machine *host_machine_copy(const struct hv_propolis_config *config,
    const struct hv_config *machine);
void host_machine_destroy(struct host_machine *m);

/* Which links are asked for, by the rules of illumos: E_PARAMS, before anything is made.  Any
 * thread. */
int host_check_names(const struct hv_propolis_config *config, const struct vm_spec *spec,
    struct err *err);
int host_check_config(const struct hv_propolis_config *config, struct err *err);

/* Images that are being made into zvols: of one at a time, the others wait for it.  One for all
 * machines of a hypervisor; outlives their jobs. */
struct host_imports;
struct host_imports *host_imports_create(void);
void host_imports_destroy(struct host_imports *imports);

/* The tools and the zone that we are in: E_UNSUPPORTED names what is missing.  Cheap; loop. */
int host_available(const struct hv_propolis_config *config, struct err *err);

/* The image's zvol is made when it is not there (several at once wait for one), cloned, grown;
 * VNICs made; the zone configured and installed.  A failure takes back what this call made, and
 * nothing else; its error has the tool's own words. */
int host_prepare(const struct host_machine *m, const struct hv_image *image, struct job *job,
    struct err *err);
/* Halts and removes the zone, the VNICs and the clone, as far as they are there and ours; goes on
 * after a failure and tells the first one.  Nothing there is fine. */
int host_unprepare(const struct host_machine *m, struct job *job, struct err *err);
/* The zvol of an image that left the store, when nothing stands on it. */
int host_drop_image(const struct hv_propolis_config *config, const char *digest, struct job *job,
    struct err *err);

/* Tells the zone its address ("fd76::5/64", attribute vmm-address) and boots it; makes again a VNIC
 * that is gone.  A zone of ours that is up is halted first: nobody watches over that run.
 * Failure: it is halted. */
int host_boot(const struct host_machine *m, const char *address, struct job *job, struct err *err);
/* Halts until the zone is "installed"; E_TIMEOUT names the state that it hangs in. */
int host_halt(const struct host_machine *m, struct job *job, struct err *err);

enum zone_state { ZONE_ABSENT, ZONE_CONFIGURED, ZONE_INCOMPLETE, ZONE_INSTALLED, ZONE_READY,
	ZONE_MOUNTED, ZONE_RUNNING, ZONE_SHUTTING_DOWN, ZONE_DOWN, ZONE_UNKNOWN, ZONE_STATES };
extern const char *const zone_state_names[]; /* zoneadm's words */
struct zone_row {
	char zone[65];
	enum zone_state state;
};
/* All zones of the host in one call; ret_rows: owned. */
int host_zones(const struct hv_propolis_config *config, struct zone_row **ret_rows,
    size_t *ret_count, struct job *job, struct err *err);

/* The address that the host's neighbour tables (arp -an, ndp -an) have for this MAC, and no other:
 * IPv4 first.  E_NOT_FOUND: none. */
int host_neighbour(const char *mac, char ret_address[46], struct job *job, struct err *err);

/* The last lines of the log of what runs in the zone ("<zonepath>/root/var/log/vmm.log", or
 * "<zonepath>.log", where it is kept for who is not root), for messages; owned, printable; NULL: none
 * that we may read. */
char *host_zone_log(const struct host_machine *m);

#endif
