/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_IMAGE_FETCHER_OCI_H
#define LIB_IMAGE_FETCHER_OCI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"

struct fetch_order;
struct http;
struct json_object;

/* The OCI distribution specification, as much as a disk image needs.  Each runs one order to its
 * end and has told the last line but `failed`. */
int oci_manifest(struct http *http, const struct fetch_order *order, struct err *err);
int oci_blob(struct http *http, const struct fetch_order *order, struct err *err);
int oci_push(struct http *http, const struct fetch_order *order, struct err *err);

/* ---- manifests: pure, for tests and fuzzing ---- */

enum { OCI_MANIFEST_MAX = 4 << 20, OCI_NESTING = 3, OCI_LAYERS_MAX = 256 };
#define OCI_BLOB_MAX (1ULL << 43)

struct oci_layer {
	char *digest; /* "sha256:<64 hex>" */
	char *media_type;
	char *title;	/* the file's name, as who pushed it says; NULL */
	uint64_t bytes; /* 1 to OCI_BLOB_MAX */
	bool container; /* a tar with disk/… in it */
};

struct oci_manifest {
	bool index;   /* then only digest, media_type and bytes are set: of the manifest to read next */
	char *digest; /* "sha256:<64 hex>"; of an index */
	char *media_type; /* the document's; of an index: what it calls the manifest to read next */
	uint64_t bytes;
	char *artifact_type; /* NULL */
	/* The disk.  More than one: layers of a container image from the top down, of which the first
	 * that has a disk is the one. */
	struct oci_layer *layers;
	size_t layer_count;
};

/* text: as the server sent it, verified by the caller.  E_IMAGE with the reason: no entry for the
 * platform (names those there are), layers that are no disk, digests and sizes out of bounds.
 * os, architecture: as Go calls them ("linux", "amd64"); x86_64 and aarch64 are understood on both
 * sides; NULL: any. */
int oci_parse(const char *text, size_t len, const char *os, const char *architecture,
    struct oci_manifest *ret_manifest, struct err *err);
void oci_manifest_done(struct oci_manifest *manifest);
/* The manifest that a push makes of one disk: always the same bytes for the same disk and title.
 * Owned. */
char *oci_compose(const char *media_type, const char *digest, uint64_t bytes, const char *title);

/* "sha256:<64 hex>", and nothing else. */
bool oci_digest_valid(const char *text);
/* JSON of a stranger: bounded in depth and in values.  NULL: E_IMAGE, with `what` in the words. */
struct json_object *oci_json(const char *text, size_t len, const char *what, struct err *err);
/* Owned; one line, fit for a terminal, cut to about `max` bytes. */
char *oci_shown(const char *text, size_t len, size_t max);
/* What a registry says in {"errors":[{code,message}]}, "CODE: message"; NULL: nothing.  Owned. */
char *oci_error_text(const char *body, size_t len);

/* WWW-Authenticate taken apart.  Of several challenges (in one header or joined by commas) Bearer
 * goes before Basic.  False: none that we know. */
struct oci_challenge {
	bool basic;
	char *realm, *service, *scope; /* NULL when not told; Bearer always has a realm */
};
bool oci_parse_challenge(const char *text, struct oci_challenge *ret_challenge);
void oci_challenge_done(struct oci_challenge *challenge);

#endif
