/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_MODEL_SPEC_H
#define LIB_MODEL_SPEC_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/model/field.h"
#include "lib/model/port.h"

/* What a machine shall be: the fields of a VMFile machine, of vm.create and of the store, in one
 * table.  Files are references; lib/ never opens those that a client named. */

enum backend { BACKEND_DEFAULT, BACKEND_QEMU, BACKEND_PROPOLIS, BACKEND_NOOP, BACKENDS };
enum network_type { NETWORK_DEFAULT, NETWORK_USER, NETWORK_NONE, NETWORK_TAP, NETWORK_VNIC,
	NETWORK_PRIVATE, NETWORKS };
enum firmware { FIRMWARE_DEFAULT, FIRMWARE_BIOS, FIRMWARE_UEFI, FIRMWARE_NONE, FIRMWARES };
enum arch { ARCH_DEFAULT, ARCH_X86_64, ARCH_AARCH64, ARCHS };
enum display { DISPLAY_NONE, DISPLAY_VNC, DISPLAYS };
enum { NICS_MAX = 8 };
enum run_when { RUN_ONCE, RUN_ALWAYS };

extern const char *const backend_names[];  /* "default", "qemu", …, NULL */
extern const char *const network_names[];  /* "default", "user", "none", "tap", … */
extern const char *const firmware_names[]; /* "default", "bios", "uefi", "none", NULL */
extern const char *const arch_names[];	   /* "default", "x86_64", "aarch64", NULL */
enum arch arch_host(void); /* x86_64 where the host's is not in the table */
extern const char *const arch_catalogue_names[ARCHS]; /* as image catalogues call them */
extern const char *const display_names[];  /* "none", "vnc", NULL */
extern const char *const run_when_names[];

/* A NIC, and what it is connected to. */
struct network_spec {
	bool present;
	int type;      /* enum network_type; network_type() tells what it means */
	char *bridge;  /* tap */
	char *name;    /* private: the network's; vnic: the VNIC's, NULL: made from the machine's id */
	char *link;    /* vnic: the host's link that it is over; NULL: the daemon's choice */
	char *mac;     /* "52:54:00:12:34:56"; NULL: the daemon's choice, kept with the machine */
	char *subnet;  /* private: "10.66.0.0/24" */
	char *address; /* of the guest, "192.0.2.10/24"; vnic: NULL: by DHCP */
	char *gateway;
	struct strings dns;
	struct strings hosts; /* private: "10.66.0.12 db", whom the guest shall know by name */
};

/* What a machine's disk starts from.  As asked for: a file, or a url.  Of a machine that was made:
 * the digest too, which is what counts. */
struct image_spec {
	bool present;
	struct file_ref file;	/* in place: keys fd, data, path */
	char *url;		/* https://…, oci://…, a name in the catalogue or the store, a digest */
	char *name;		/* what it is called: for messages, and in the store */
	char *sha256, *sha512;	/* hex; of the bytes as they come, or of the image; NULL */
	char *checksums;	/* URL of a SHA256SUMS or SHA512SUMS; NULL */
	char *format;		/* "qcow2" | "raw"; NULL: as its header says */
	char *digest;		/* "sha256:<64 hex>" of the image: pinned, or known; NULL */
	char *source;		/* where it came from: the URL, or oci://…@sha256:…; NULL */
	bool insecure_http;	/* http:// without a digest is taken */
};

struct firmware_spec {
	bool present;
	int type; /* enum firmware; FIRMWARE_DEFAULT until the backend's is chosen */
	bool secure_boot, tpm;
};

struct boot_spec { /* what the firmware is told to start instead of the disk */
	bool present;
	struct file_ref kernel, initrd;
	char *cmdline;
};

struct cloud_init_spec {
	bool present;
	char *hostname;		   /* NULL: the machine's name */
	struct file_ref ssh_key;   /* a public key file */
	struct file_ref user_data; /* the user's own user-data */
};

struct ssh_spec {
	bool present;
	char *user; /* NULL: vm */
	uint64_t port; /* of the guest's server; 0: 22 */
	struct file_ref private_key;
};

struct shell_step {
	bool present;
	char *run_inline; /* key "inline" */
	struct file_ref script;
	struct env env;
	int run; /* enum run_when */
	char *as;
	uint64_t timeout_ms; /* key "timeout"; 0: none was given */
};

struct file_step {
	bool present;
	struct file_ref source;
	char *destination; /* a path in the guest, taken literally */
	char *mode;	   /* octal text, "0644" by default */
	char *owner;	   /* user or user:group; NULL: the SSH user */
	int run;
	uint64_t timeout_ms;
};

struct provision_step { /* exactly one is present */
	bool present;
	struct shell_step shell;
	struct file_step file;
};

struct vm_spec {
	bool present;
	char *name;
	int backend; /* enum backend; BACKEND_DEFAULT until the router chose */
	struct image_spec image;
	uint64_t vcpus;
	uint64_t memory_bytes; /* key "memory", a bare number is MiB */
	uint64_t disk_bytes;   /* key "disk", a bare number is GiB; 0: the image's size */
	struct network_spec network; /* its only one, or */
	struct objects networks;     /* struct network_spec; vm_spec_nic() reads both */
	struct strings ports; /* what port_parse reads: of the host, to the guest */
	int arch; /* enum arch; ARCH_DEFAULT until the backend chose */
	struct firmware_spec firmware;
	struct boot_spec boot;
	struct image_spec cdrom;
	int display; /* enum display */
	struct cloud_init_spec cloud_init;
	struct ssh_spec ssh;
	struct objects provision; /* struct provision_step */
	struct strings depends_on;
};

#define SPEC_MIB (1ULL << 20)
#define SPEC_GIB (1ULL << 30)

extern const struct field vm_spec_fields[];
extern const struct field vm_image_fields[];
extern const struct field vm_network_fields[], vm_cloud_init_fields[], vm_ssh_fields[];
extern const struct field vm_firmware_fields[], vm_boot_fields[];
extern const struct field provision_step_fields[];

/* What rows can not say: exactly one of shell and file, source with destination, step modes,
 * a bridge only for tap, a vnic's name …  Paths start with prefix.  Returns the problems found. */
size_t vm_spec_check(const struct vm_spec *spec, const char *prefix,
    const struct field_options *options);
/* The same, with the first problem as an error. */
int vm_spec_check_one(const struct vm_spec *spec, const char *prefix, struct err *err);
/* Every file of the spec but image and cdrom, with what it is ("user-data", "script" …); stops at the
 * first non-zero answer and returns it. */
typedef int vm_spec_file_fn(void *arg, struct file_ref *file, const char *what);
const char *image_spec_shown(const struct image_spec *image); /* borrowed; never NULL */
/* What rows can not say.  key: "image"; the error's object is "image.sha256" or so. */
int image_spec_check(const struct image_spec *image, const char *key, struct err *err);
int vm_spec_each_file(struct vm_spec *spec, vm_spec_file_fn *fn, void *arg);
void vm_spec_copy(struct vm_spec *ret_copy, const struct vm_spec *spec); /* deep */
void vm_spec_release(struct vm_spec *spec); /* what it owns; not the struct */
const struct provision_step *vm_spec_step(const struct vm_spec *spec, size_t index);
/* Whether it can not be without an image: nothing else says what starts in it. */
bool vm_spec_needs_image(const struct vm_spec *spec);
/* Its NICs in order, whichever way they were written; none for network none, and one of type user
 * where nothing is said.  Borrowed. */
size_t vm_spec_nic_count(const struct vm_spec *spec);
const struct network_spec *vm_spec_nic(const struct vm_spec *spec, size_t index);
/* What the type is, or what the rest of it says: a bridge is a tap's, a name a private network's.
 * NETWORK_DEFAULT: nothing says. */
enum network_type network_type(const struct network_spec *network);
/* The NIC by which the host reaches the guest: of network user, else the first that the host is a
 * neighbour of.  NULL, *ret_index untouched: there is none.  ret_index may be NULL. */
const struct network_spec *vm_spec_login_nic(const struct vm_spec *spec, size_t *ret_index);
bool vm_spec_has_user_network(const struct vm_spec *spec); /* once its backend is known */
/* The SSH user: ssh.user, else "vm".  Borrowed. */
const char *vm_spec_user(const struct vm_spec *spec);
uint16_t vm_spec_ssh_port(const struct vm_spec *spec); /* of the guest's server */

#endif
