/* SPDX-License-Identifier: MPL-2.0 */
#ifndef DAEMON_CONFIG_H
#define DAEMON_CONFIG_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/hypervisor/hypervisor.h"
#include "lib/model/field.h"

/* Where things are and what was asked for: command line over configuration file over defaults.
 * Read once, never changed. */
struct config {
	bool system;
	char *socket;	     /* path */
	char *data_dir;	     /* 0700 */
	char *runtime_dir;   /* of the socket */
	char *vm_run_dir;    /* short: sockets of machines */
	char *config_file;   /* NULL: none */
	char *net_run_dir;   /* short: sockets of private networks */
	char *launcher;	     /* vmm-launch */
	char *switcher;	     /* vmm-switch */
	char *fetcher;	     /* vmm-fetch */
	char *catalogue_dir; /* where the daemon's own catalogue entries are; NULL: nowhere */
	char *log_level;
	char *accel;	     /* auto | kvm | tcg */
	char *group;	     /* of the system socket; NULL: ours */
	char **lease_files;  /* patterns; ends with NULL */
	uint64_t max_per_uid;
	uint64_t start_timeout_ms, ready_timeout_ms;
	uint64_t stall_timeout_ms, connect_timeout_ms; /* of transfers */
	uint64_t fetch_attempts;
	uint64_t image_max_bytes, keep_free_bytes;
	struct hv_propolis_config propolis; /* strings owned here */
};

/* What vmmd.yaml may say: rows, for reading it and for the documentation. */
extern const struct field settings_fields[];

/* E_USAGE for a wrong command line.  *ret_exit: the caller shall leave with 0 (help, version). */
int config_load(int argc, char **argv, struct config **ret_config, bool *ret_exit, struct err *err);
void config_destroy(struct config *config);
void config_destroyp(struct config **config);

#endif
