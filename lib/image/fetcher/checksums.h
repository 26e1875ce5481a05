/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_IMAGE_FETCHER_CHECKSUMS_H
#define LIB_IMAGE_FETCHER_CHECKSUMS_H

#include <stddef.h>

#include "lib/base/err.h"

/* Finds the digest of the file `name` in a list as sha256sum, sha512sum ("hash  name", "hash
 * *name") or BSD's tools ("SHA256 (name) = hash") write it; a list of nothing but one hash is for
 * any name.  ret_hex: owned, lower-case, 64 or 128 digits.  E_IMAGE: it is not listed.  Pure. */
int checksums_find(const char *text, size_t len, const char *name, char **ret_hex, struct err *err);

#endif
