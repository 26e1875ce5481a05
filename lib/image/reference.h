/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_IMAGE_REFERENCE_H
#define LIB_IMAGE_REFERENCE_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/err.h"

/* What people write for an image, taken apart.  Pure; any thread; both programs. */

enum image_ref_kind {
	IMAGE_REF_PATH,	  /* has a '/' and no scheme, or begins with '.' or '~' */
	IMAGE_REF_HTTP,	  /* http:// or https:// */
	IMAGE_REF_OCI,	  /* oci:// */
	IMAGE_REF_DIGEST, /* sha256:<8..64 hex> */
	IMAGE_REF_NAME,	  /* a name in the catalogue or in the store: "debian:12", "golden" */
};

/* E_PARAMS for what is none of them: another scheme, control characters, a wrong name.  A name is
 * [a-z0-9A-Z][a-zA-Z0-9._-]{0,127} with at most one ":version" of the same letters: nothing in it
 * can be a path. */
int image_ref_kind(const char *text, enum image_ref_kind *ret_kind, struct err *err);
/* Does a word without '/' and ':' end like a disk image or a packed one?  Then nobody means a name
 * of the catalogue. */
bool image_is_file_name(const char *word);
int image_name_check(const char *name, struct err *err);

struct oci_ref {
	char *registry;	  /* "ghcr.io", "localhost:5000", "[::1]:5000"; docker.io is index.docker.io */
	char *repository; /* "library/debian"; docker.io alone gets library/ */
	char *tag;	  /* NULL: none was given; "latest" is meant when there is no digest either */
	char *digest;	  /* "sha256:…" or NULL */
};
int oci_ref_parse(const char *text, struct oci_ref *ret_ref, struct err *err);
void oci_ref_done(struct oci_ref *ref);
char *oci_ref_text(const struct oci_ref *ref); /* owned "oci://…", in full */

/* A URL as it may be shown and stored: without user, password, query and fragment.  Owned. */
char *image_url_public(const char *url);
char *image_url_host(const char *url); /* owned "host[:port]"; NULL: not a URL */
/* Of "host[:port]" and what may follow: a name or address of this host (localhost, 127.0.0.0/8,
 * ::1), not one that only begins so. */
bool image_host_is_loopback(const char *host);
/* The last segment of its path without packing suffixes: "debian-12.qcow2" of ….qcow2.zst?x=1.
 * Owned, printable; "image" when there is none. */
char *image_url_name(const char *url);
/* The same of a path. */
char *image_file_name(const char *path);
bool image_digest_valid(const char *digest); /* "sha256:" and 64 lower-case hex digits */

#endif
