/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_CLOUDINIT_CLOUDINIT_H
#define LIB_CLOUDINIT_CLOUDINIT_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/err.h"

/* The NoCloud seed: an ISO 9660 volume "cidata" with user-data, meta-data and (when given)
 * network-config and vendor-data.  Any thread; writing blocks. */

/* How a NIC of the guest is set up; borrowed. */
struct seed_nic {
	const char *mac;
	const char *address; /* "192.0.2.10/24"; NULL: it asks DHCP */
	const char *gateway; /* NULL: none */
	char *const *dns;
	size_t dns_count;
};

struct seed { /* borrowed for the call; NULL: not there */
	const char *hostname;
	const char *instance_id;
	/* Whom our part makes, with sudo and the keys below: always without user_data; with it only
	 * when there is a key, beside the users that user_data makes. */
	const char *user;
	const char *authorized_key; /* the user's: public key lines */
	const char *own_key;	    /* made by us; no input, so not in the instance-id */
	const char *host_private_key; /* PEM of the injected Ed25519 host key */
	const char *host_public_key;
	/* The user's own: a part of the archive byte for byte, gzip unpacked.  Its `ssh_keys` gives
	 * way to the injected host key; all else of it stays as it is. */
	const void *user_data;
	size_t user_data_len;
	const char *user_data_name; /* for messages */
	const struct seed_nic *nics; /* a single one without an address needs no word */
	size_t nic_count;
	/* "10.66.0.12 db": names that the guest shall know, written into its /etc/hosts at each boot */
	char *const *hosts;
	size_t host_count;
};

/* Owned: a hash of the user's inputs (hostname, key, user-data, user, a network's address) and the
 * disk's generation; never of our keys. */
char *seed_instance_id(const struct seed *seed, const char *generation);
/* user-data that cloud-init would know; E_PARAMS says what is wrong (and where, for YAML). */
int seed_check_user_data(const void *data, size_t len, const char *name, struct err *err);
/* Writes it, 0600, atomically. */
int seed_write(const struct seed *seed, const char *path, struct err *err);
/* The same without any secret (no private key, no user-data): keeps the instance-id, so that
 * cloud-init does not start over.  Only hostname, instance_id, nics and hosts are used.  What
 * user-data does at every boot (bootcmd, boothooks) ends with it. */
int seed_write_stripped(const struct seed *seed, const char *path, struct err *err);

/* Owned: a shell script that writes the names into the guest's /etc/hosts, to be run as root. */
char *seed_hosts_script(char *const *hosts, size_t count);

/* What `cloud-init status --format json` (or its plain form) says. */
enum cloudinit_result { CLOUDINIT_RUNNING, CLOUDINIT_DONE, CLOUDINIT_DEGRADED, CLOUDINIT_ERROR,
	CLOUDINIT_DISABLED, CLOUDINIT_ABSENT };
extern const char *const cloudinit_result_names[];
/* Command to run in the guest (it waits for cloud-init's end), and the reading of its exit status
 * and output; detail: owned, fit to be shown, never NULL. */
const char *cloudinit_status_command(void);
enum cloudinit_result cloudinit_status_parse(int status, const char *output, char **ret_detail);

#endif
