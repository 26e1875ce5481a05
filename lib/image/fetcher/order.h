/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_IMAGE_FETCHER_ORDER_H
#define LIB_IMAGE_FETCHER_ORDER_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/model/auth.h"
#include "lib/model/field.h"

/* vmm-fetch, the program that speaks to servers: one order as JSON on its standard input, one
 * piece of work, and what becomes of it as lines of JSON on its standard output.  Everything that
 * a server says (HTTP, TLS, manifests, compressed data) is read in this process, which holds
 * nothing but the descriptors it was given.  vmmd (lib/image/fetch.c) is its only user.
 *
 * Descriptors: SINK_FD a new empty (or resumed) file that becomes the image; SPOOL_FD the bytes as
 * they came, kept when they are compressed so that a later process can resume. */

struct json_object;

enum { SINK_FD = 3, SPOOL_FD = 4 };

/* Media types of the layers that a push makes. */
#define OCI_QCOW2 "application/vnd.cloudnebula.qcow2.layer.v1"
#define OCI_RAW "application/octet-stream"

enum fetch_work {
	FETCH_HTTP,     /* url -> SINK_FD */
	FETCH_MANIFEST, /* oci: reference -> which blob */
	FETCH_BLOB,     /* oci: blob -> SINK_FD */
	FETCH_PUSH,     /* oci: SINK_FD -> blob, config, manifest, tag */
	FETCH_FILE,     /* a packed file in SPOOL_FD, which is only read -> SINK_FD */
};
extern const char *const fetch_work_names[]; /* "http", "manifest", "blob", "push", "file", NULL */

struct fetch_order {
	int work;        /* enum fetch_work */
	uint64_t parent; /* pid of vmmd: we end with it */
	bool drop;       /* become uid:gid before anything is read */
	uint64_t uid, gid;
	struct fetch_auth auth;

	/* FETCH_HTTP */
	char *url;
	bool insecure_http;    /* http:// to others than loopback without a digest */
	char *sha256, *sha512; /* hex; of the bytes as they come or of the unpacked image; NULL */
	char *checksums;       /* URL of a SHA256SUMS or SHA512SUMS; NULL */
	char *etag, *last_modified; /* what is known: unchanged when the server says 304 */

	/* OCI: of the reference oci://registry/repository[:tag][@digest].
	 * digest "sha256:…"; FETCH_BLOB: the blob's; FETCH_PUSH: refused, a push goes to a tag.
	 * etag, FETCH_MANIFEST by tag: the manifest_digest that is known.
	 * sha256, FETCH_PUSH: of the file in SINK_FD, where it is known. */
	char *registry, *repository, *tag, *digest;
	char *os, *architecture; /* platform: "linux", "amd64" */
	char *media_type;        /* FETCH_BLOB: of the layer; FETCH_PUSH: OCI_QCOW2, OCI_RAW */
	uint64_t blob_bytes;     /* FETCH_BLOB: as the manifest says */
	bool container;          /* FETCH_BLOB: as the manifest event says */

	/* Everything that fills SINK_FD */
	char *part_validator; /* of the response that the bytes came with; NULL */
	uint64_t part_bytes; /* how many of them are good: of SPOOL_FD when `part_packed` */
	bool part_packed;
	uint64_t max_bytes;            /* of the image; more is refused */
	uint64_t keep_free_bytes;      /* of the file system */
	uint64_t stall_ms, connect_ms; /* no progress for so long; a connection */
	uint64_t attempts;             /* tries in a row without progress before it is given up */

	int events_fd; /* no row: where the lines go; 0: standard output */
};

extern const struct field fetch_order_fields[];
/* Overwrites the texts of an order as JSON: they may be secrets. */
void fetch_order_wipe(struct json_object *json);

/* Lines on standard output: {"event": NAME, …}, each at most 64 KiB.
 *   response {status, url, length|null, etag, last_modified, validator, resumed, packed}  when a
 *            body begins.  validator: what a part of it is resumed with; absent: it can not be
 *   progress {done, total|0, written}    bytes of the body, of the image; every 100 ms at most
 *   saved    {bytes}                     so much of the body is on the disk (resume after a crash)
 *   retry    {attempt, wait_ms, message} a try failed, another follows
 *   manifest {unchanged, manifest_digest, media_type, artifact_type, layers:[{digest, bytes,
 *             media_type, container, title}]}  the last line of FETCH_MANIFEST.  manifest_digest:
 *             what the reference points to, an index perhaps.  unchanged: it is `etag`, and no
 *             more is told.  Several layers (all containers) are those of an image from the top
 *             down: the first that has a disk is the one.  One without a disk fails with
 *             not_found and status 0.
 *   pushed   {digest, uploaded, bytes}   digest of the manifest; uploaded: false: the tag had it;
 *             bytes: of the image, sent; the last line of FETCH_PUSH
 *   done     {unchanged, sha256, body_sha256, body_bytes, image_bytes, compression,
 *             etag, last_modified, url}  the last line of FETCH_HTTP and FETCH_BLOB
 *   failed   {error, message, hint, status, temporary}   error: a name of errors.def; the last line
 * After done, SINK_FD is complete, synced and verified against every digest that was given. */

#endif
