/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_CLOUDINIT_USERDATA_H
#define LIB_CLOUDINIT_USERDATA_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/err.h"

/* A person's user-data, looked at: what it is, and what of it our own part has to respect. */
struct userdata {
	char *unpacked;   /* owned: what was inside gzip; NULL */
	const char *data; /* the content; borrowed from the input or from unpacked */
	size_t len;
	const char
	    *mime_type;  /* of the part; NULL: the data is a MIME entity with its own header */
	bool adds_users; /* a cloud-config with a list `users` of its own */
};

/* name: for messages.  data stays borrowed until userdata_done. */
int userdata_init(
    struct userdata *userdata, const void *data, size_t len, const char *name, struct err *err);
void userdata_done(struct userdata *userdata);

#endif
