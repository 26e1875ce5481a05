/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/image/fetcher/order.h"

#include <json-c/json.h>
#include <stdint.h>
#include <string.h>

#include "lib/base/mem.h"

enum {
	URL_MAX = 16 << 10,
	HEX256 = 64,
	HEX512 = 128,
	DIGEST_MAX = 71,
	WAIT_MAX_MS = 24 * 3600 * 1000
};

const char *const fetch_work_names[] = { "http", "manifest", "blob", "push", "file", NULL };

/* clang-format off */
const struct field fetch_order_fields[] = {
	FIELD(struct fetch_order, work,            FIELD_ENUM,   .required = true, .words = fetch_work_names, .text = "what to do"),
	FIELD(struct fetch_order, parent,          FIELD_UINT,   .required = true, .min = 1, .text = "who must still be there"),
	FIELD(struct fetch_order, drop,            FIELD_BOOL,   .text = "whether to change the user"),
	FIELD(struct fetch_order, uid,             FIELD_UINT,   .max = UINT32_MAX - 1, .text = "the user to become"),
	FIELD(struct fetch_order, gid,             FIELD_UINT,   .max = UINT32_MAX - 1, .text = "the group to become"),
	FIELD(struct fetch_order, auth,            FIELD_OBJECT, .secret = true, .fields = fetch_auth_fields, .text = "credentials and proxies"),
	FIELD(struct fetch_order, url,             FIELD_STRING, .max = URL_MAX, .secret = true, .text = "where the image is"),
	FIELD(struct fetch_order, insecure_http,   FIELD_BOOL,   .text = "whether http:// will do without a digest"),
	FIELD(struct fetch_order, sha256,          FIELD_STRING, .min = HEX256, .max = HEX256, .text = "SHA-256 of the body or the image, in hex"),
	FIELD(struct fetch_order, sha512,          FIELD_STRING, .min = HEX512, .max = HEX512, .text = "SHA-512 of the body or the image, in hex"),
	FIELD(struct fetch_order, checksums,       FIELD_STRING, .max = URL_MAX, .secret = true, .text = "where a SHA256SUMS or SHA512SUMS is"),
	FIELD(struct fetch_order, etag,            FIELD_STRING, .text = "ETag of what is known"),
	FIELD(struct fetch_order, last_modified,   FIELD_STRING, .text = "Last-Modified of what is known"),
	FIELD(struct fetch_order, registry,        FIELD_STRING, .text = "host[:port] of the registry"),
	FIELD(struct fetch_order, repository,      FIELD_STRING, .text = "the repository's name"),
	FIELD(struct fetch_order, tag,             FIELD_STRING, .text = "the tag"),
	FIELD(struct fetch_order, digest,          FIELD_STRING, .min = DIGEST_MAX, .max = DIGEST_MAX, .text = "digest of the manifest or the blob"),
	FIELD(struct fetch_order, os,              FIELD_STRING, .text = "operating system of the platform"),
	FIELD(struct fetch_order, architecture,    FIELD_STRING, .text = "architecture of the platform"),
	FIELD(struct fetch_order, media_type,      FIELD_STRING, .text = "media type of the layer or the image"),
	FIELD(struct fetch_order, blob_bytes,      FIELD_UINT,   .text = "size of the blob, as its manifest says"),
	FIELD(struct fetch_order, container,       FIELD_BOOL,   .text = "whether the blob is a tar with the disk in it"),
	FIELD(struct fetch_order, part_validator,  FIELD_STRING, .text = "what the bytes that are there came with"),
	FIELD(struct fetch_order, part_bytes,      FIELD_UINT,   .text = "how many of them are good"),
	FIELD(struct fetch_order, part_packed,     FIELD_BOOL,   .text = "whether they are in the spool"),
	FIELD(struct fetch_order, max_bytes,       FIELD_UINT,   .required = true, .min = 1, .text = "the largest image"),
	FIELD(struct fetch_order, keep_free_bytes, FIELD_UINT,   .text = "what stays free on the file system"),
	FIELD(struct fetch_order, stall_ms,        FIELD_UINT,   .fallback = "60000", .min = 1, .max = WAIT_MAX_MS, .text = "no progress for so long"),
	FIELD(struct fetch_order, connect_ms,      FIELD_UINT,   .fallback = "30000", .min = 1, .max = WAIT_MAX_MS, .text = "how long a connection may take"),
	FIELD(struct fetch_order, attempts,        FIELD_UINT,   .fallback = "8", .min = 1, .max = 1000, .text = "tries in a row without progress"),
	FIELD_END
};
/* clang-format on */

void
fetch_order_wipe(struct json_object *json)
{
	size_t count =
	    json_object_is_type(json, json_type_array) ? json_object_array_length(json) : 0;

	if (json_object_is_type(json, json_type_string))
		mem_wipe((char *)(uintptr_t)json_object_get_string(json),
		    (size_t)json_object_get_string_len(json));
	for (size_t i = 0; i < count; i++)
		fetch_order_wipe(json_object_array_get_idx(json, i));
	if (json_object_is_type(json, json_type_object)) {
		json_object_object_foreach(json, key, value) {
			(void)key;
			fetch_order_wipe(value);
		}
	}
}
