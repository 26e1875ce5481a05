/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_VMFILE_NETWORKS_H
#define LIB_VMFILE_NETWORKS_H

#include <stdbool.h>

#include "lib/model/field.h"

struct convert;
struct node;
struct problems;
struct vmfile;

/* The private networks of a VMFile: `networks: {lan: {subnet: 10.66.0.0/24}}` at its top. */

struct file_network {
	bool present;
	char *name;
	char *subnet; /* NULL until one is chosen */
};

extern const struct field file_network_fields[];

/* Reads the value of the top key.  Those without a subnet get the first of 10.66.0.0/24,
 * 10.66.1.0/24 … that overlaps no other. */
void networks_read(struct vmfile *vmfile, struct convert *convert, const struct node *node,
    const struct field_options *options);
/* Completes the NICs of the machines that name one: its subnet; an address that follows from the
 * machine's name, where none is said; and who else is on it. */
void networks_resolve(struct vmfile *vmfile, struct problems *problems);
void networks_done(struct vmfile *vmfile);

#endif
