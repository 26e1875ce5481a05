/* SPDX-License-Identifier: MPL-2.0
 *
 * gzip by zlib itself: libarchive does not compare a member's checksum and length with what came
 * out, and without a digest they are all there is to find damage by. */
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "lib/image/fetcher/sink_parts.h"

enum { GZIP_ONLY = 16 + MAX_WBITS };

static int
broken(const char *why, struct err *err)
{
	err_set(err, E_IMAGE,
	    "the image can not be unpacked: its gzip data is broken or cut off: %s", why);
	err_hint(
	    err, "the file on the server may be damaged; fetch it again, or ask who offers it");
	return E_IMAGE;
}

/* Inflates one chunk of the body; *inside: a member has begun and not ended; *ended: what follows
 * the last member is no other member and is not looked at. */
static int
inflate_chunk(struct sink *sink, z_stream *z, struct chunk **out, bool *inside, bool *ended,
    uint64_t *total, struct err *err)
{
	int rc = 0;

	while (rc == 0 && !*ended && (z->avail_in > 0 || z->avail_out == 0)) {
		int status;

		if (*out == NULL) {
			*out = queue_take(&sink->image_free);
			if (*out == NULL)
				return err_set(err, E_CANCELLED, "stopped");
			z->next_out = (*out)->data;
			z->avail_out = CHUNK_BYTES;
		}
		if (!*inside && z->avail_in > 0) {
			/* Padding with zeros between and after members is customary. */
			if (*z->next_in != 0x1f) {
				*ended = true;
				break;
			}
			*inside = true;
		}
		status = inflate(z, Z_NO_FLUSH);
		if (status == Z_STREAM_END) {
			*inside = false;
			inflateReset(z);
		} else if (status != Z_OK && status != Z_BUF_ERROR) {
			return broken(z->msg != NULL ? z->msg : "it makes no sense", err);
		}
		if (z->avail_out == 0) {
			(*out)->len = CHUNK_BYTES;
			rc = sink_put_image(sink, *out, total, err);
			*out = NULL;
		} else if (status == Z_BUF_ERROR) {
			break;
		}
	}
	return rc;
}

int
sink_gunzip(struct sink *sink, uint64_t *total, struct err *err)
{
	z_stream z = { 0 };
	struct chunk *in, *out = NULL;
	bool inside = false, ended = false;
	int rc = 0;

	if (inflateInit2(&z, GZIP_ONLY) != Z_OK)
		return err_set(err, E_FAILED, "zlib does not start");
	while (rc == 0 && (in = sink_next_body(sink)) != NULL) {
		z.next_in = in->data;
		z.avail_in = (uInt)in->len;
		rc = inflate_chunk(sink, &z, &out, &inside, &ended, total, err);
		queue_put(&sink->body_free, in);
	}
	if (rc == 0 && inside && !sink->failed)
		rc = broken("it ends too early", err);
	if (rc == 0 && out != NULL) {
		out->len = CHUNK_BYTES - z.avail_out;
		rc = sink_put_image(sink, out, total, err);
		out = NULL;
	}
	free(out);
	inflateEnd(&z);
	return rc;
}
