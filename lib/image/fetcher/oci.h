/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_IMAGE_FETCHER_OCI_H
#define LIB_IMAGE_FETCHER_OCI_H

#include "lib/base/err.h"
#include "lib/image/fetcher/http.h"
#include "lib/image/fetcher/order.h"

/* The OCI distribution specification, as much as a disk image needs.  Each runs one order to its
 * end and has told the last line but `failed`. */
int oci_manifest(struct http *http, const struct fetch_order *order, struct err *err);
int oci_blob(struct http *http, const struct fetch_order *order, struct err *err);
int oci_push(struct http *http, const struct fetch_order *order, struct err *err);

/* ---- manifests: pure, for tests and fuzzing ---- */

enum { OCI_MANIFEST_MAX = 4 << 20, OCI_REDIRECTS = 10, OCI_NESTING = 3 };

struct oci_layer {
	char *digest; /* "sha256:<64 hex>" */
	char *media_type;
	uint64_t bytes;
	bool container; /* a tar with disk/… in it */
};

struct oci_manifest {
	bool index;	   /* then only `digest` is set: of the manifest for the platform */
	char *digest;
	char *artifact_type;
	struct oci_layer layer; /* the disk */
};

/* text: as the server sent it, verified by the caller.  E_IMAGE with the reason: no entry for the
 * platform (names those there are), layers that are no disk, digests and sizes out of bounds. */
int oci_parse(const char *text, size_t len, const char *os, const char *architecture,
    struct oci_manifest *ret_manifest, struct err *err);
void oci_manifest_done(struct oci_manifest *manifest);

/* "Bearer realm=…,service=…,scope=…" taken apart.  False: not a challenge that we know. */
struct oci_challenge {
	bool basic;
	char *realm, *service, *scope;
};
bool oci_parse_challenge(const char *text, struct oci_challenge *ret_challenge);
void oci_challenge_done(struct oci_challenge *challenge);

#endif
