/* SPDX-License-Identifier: MPL-2.0
 *
 * An image of the store to a tag: the blob, the empty config, and the manifest last, so that a tag
 * never points to what is not there.  What the registry has is not sent again. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/digest.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/fetcher/event.h"
#include "lib/image/fetcher/oci_session.h"

enum { READ_BYTES = 1 << 20 };

#define MANIFEST_TYPE "application/vnd.oci.image.manifest.v1+json"
#define CONFIG "{}"

struct push {
	struct oci_session session;
	const struct fetch_order *order;
	const char *tag;
	char *digest; /* of the disk, "sha256:…" */
	uint64_t bytes, sent_bytes;
	char *what;
};

struct blob {
	const char *digest;
	const void *data; /* NULL: SINK_FD */
	size_t len;
};

static void
tell_progress(const struct push *push, uint64_t done)
{
	json_object *line = json_object_new_object();

	json_add_int(line, "done", (int64_t)done);
	json_add_int(line, "total", (int64_t)push->bytes);
	json_add_int(line, "written", (int64_t)done);
	event_emit(push->order, "progress", line);
}

static int
on_sent(void *arg, uint64_t sent_bytes, struct err *err)
{
	tell_progress(arg, sent_bytes);
	return 0;
}

static char *
digest_of(const void *data, size_t len)
{
	struct digest *digest = digest_create();
	CLEANUP_FREE char *hex = NULL;

	digest_add(digest, data, len);
	hex = digest_finish(digest);
	return xasprintf("sha256:%s", hex);
}

static int
count_file(char **ret_digest, struct err *err)
{
	CLEANUP_FREE char *data = xmalloc(READ_BYTES), *hex = NULL;
	struct digest *digest = digest_create();
	off_t at = 0;
	ssize_t n;

	while ((n = pread(SINK_FD, data, READ_BYTES, at)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			digest_destroy(digest);
			return err_errno(err, E_IO, errno, "can not read the image");
		}
		digest_add(digest, data, (size_t)n);
		at += n;
	}
	hex = digest_finish(digest);
	*ret_digest = xasprintf("sha256:%s", hex);
	return 0;
}

static int
prepare(struct push *push, struct err *err)
{
	const struct fetch_order *order = push->order;
	struct stat st;

	if (order->digest != NULL) {
		err_set(err, E_PARAMS, "an image can not be pushed to a digest");
		err_hint(err, "push to a tag: oci://%s/%s:TAG", order->registry, order->repository);
		return E_PARAMS;
	}
	if (!str_eq(order->media_type, OCI_QCOW2) && !str_eq(order->media_type, OCI_RAW))
		return err_set(err, E_PARAMS, "the order does not say what image it is");
	if (fstat(SINK_FD, &st) < 0)
		return err_errno(err, E_IO, errno, "can not read the image");
	if (st.st_size == 0)
		return err_set(err, E_IMAGE, "the image is empty");
	push->bytes = (uint64_t)st.st_size;
	push->tag = order->tag != NULL ? order->tag : "latest";
	push->what = xasprintf("'%s:%s'", order->repository, push->tag);
	if (order->sha256 == NULL)
		return count_file(&push->digest, err);
	push->digest = xasprintf("sha256:%s", order->sha256);
	return oci_digest_valid(push->digest)
		   ? 0
		   : err_set(err, E_PARAMS, "the order's digest makes no sense");
}

/* HEAD; ret_digest: what the registry calls it, or NULL.  Any refusal means that it is not there:
 * registries refuse so what they do not have, and where it matters, what follows is refused, too.
 */
static int
is_there(struct push *push, const char *kind, const char *name, bool *ret_there, char **ret_digest,
    struct err *err)
{
	CLEANUP_FREE char *url = oci_session_url(&push->session, kind, name);
	static const struct http_header accept = { "Accept", MANIFEST_TYPE };
	const struct http_request request = { .method = "HEAD",
		.url = url,
		.headers = &accept,
		.header_count = ret_digest != NULL ? 1 : 0,
		.body_fd = -1 };
	struct http_reply reply = { 0 };
	int rc = oci_session_call(&push->session, &request, push->what, &reply, err);

	if (rc == 0) {
		*ret_there = reply.status == 200;
		if (ret_digest != NULL)
			*ret_digest = TAKE(reply.digest);
	}
	http_reply_done(&reply);
	return rc;
}

/* Where a blob is to be put, with its digest in the query; owned. */
static int
begin_upload(struct push *push, const char *digest, char **ret_url, struct err *err)
{
	static const struct http_header type = { "Content-Type", OCI_RAW };
	CLEANUP_FREE char *url = oci_session_url(&push->session, "blobs", "uploads/"),
			  *place = NULL;
	const struct http_request request = { .method = "POST",
		.url = url,
		.headers = &type,
		.header_count = 1,
		.body_fd = -1,
		.stay = true };
	struct http_reply reply = { 0 };
	int rc = oci_session_try(&push->session, &request, push->what, &reply, err);

	if (rc == 0)
		rc = oci_session_status(&push->session, &reply, push->what, err);
	if (rc == 0 && reply.location != NULL)
		place = http_url_join(url, reply.location);
	if (rc == 0 && (place == NULL || (http_url_plain(place) && !http_url_plain(url))))
		rc = err_set(err, E_FAILED, "the registry '%s' does not say where to upload to",
		    push->order->registry);
	if (rc == 0)
		*ret_url = xasprintf(
		    "%s%cdigest=%s", place, strchr(place, '?') != NULL ? '&' : '?', digest);
	http_reply_done(&reply);
	return rc;
}

/* ret_after_ms: what the registry asks to wait before another try. */
static int
upload_once(struct push *push, const struct blob *blob, uint64_t *ret_after_ms, struct err *err)
{
	static const struct http_header type = { "Content-Type", OCI_RAW };
	CLEANUP_FREE char *url = NULL;
	struct http_reply reply = { 0 };
	int rc = begin_upload(push, blob->digest, &url, err);
	struct http_request request = { .method = "PUT",
		.url = url,
		.headers = &type,
		.header_count = 1,
		.body = blob->data,
		.body_len = blob->data != NULL ? blob->len : (size_t)push->bytes,
		.body_fd = blob->data != NULL ? -1 : SINK_FD,
		.on_sent = blob->data != NULL ? NULL : on_sent,
		.arg = push };

	if (rc == 0)
		rc = oci_session_try(&push->session, &request, push->what, &reply, err);
	if (rc == 0)
		rc = oci_session_status(&push->session, &reply, push->what, err);
	*ret_after_ms = reply.retry_after_ms;
	http_reply_done(&reply);
	return rc;
}

static int
upload(struct push *push, const struct blob *blob, struct err *err)
{
	struct err why = ERR_INIT;
	uint64_t after_ms = 0;
	bool there = false;
	int rc;

	for (unsigned attempt = 1;; attempt++) {
		/* Asked before each try: only the answer to the last one may be missing. */
		rc = is_there(push, "blobs", blob->digest, &there, NULL, err);
		if (rc != 0 || there)
			return rc;
		rc = upload_once(push, blob, &after_ms, &why);
		if (rc == 0 || !http_is_temporary(&why) || attempt >= push->order->attempts)
			break;
		http_back_off(push->session.http, attempt, after_ms, &why);
	}
	if (rc == 0 && blob->data == NULL)
		push->sent_bytes = push->bytes;
	if (rc != 0 && err != NULL)
		*err = why;
	return rc;
}

static int
put_manifest(struct push *push, const char *text, const char *digest, struct err *err)
{
	static const struct http_header type = { "Content-Type", MANIFEST_TYPE };
	CLEANUP_FREE char *url = oci_session_url(&push->session, "manifests", push->tag);
	const struct http_request request = { .method = "PUT",
		.url = url,
		.headers = &type,
		.header_count = 1,
		.body = text,
		.body_len = strlen(text),
		.body_fd = -1 };
	struct http_reply reply = { 0 };
	int rc = oci_session_call(&push->session, &request, push->what, &reply, err);

	if (rc == 0)
		rc = oci_session_status(&push->session, &reply, push->what, err);
	if (rc == 0 && oci_digest_valid(reply.digest) && !str_eq(reply.digest, digest))
		rc = err_set(err, E_FAILED, "the registry '%s' has stored another manifest: %s",
		    push->order->registry, reply.digest);
	http_reply_done(&reply);
	return rc;
}

static int
run(struct push *push, struct err *err)
{
	CLEANUP_FREE char *text = NULL, *digest = NULL, *tagged = NULL, *config = NULL;
	bool qcow2 = str_eq(push->order->media_type, OCI_QCOW2), there = false, uploaded = false;
	json_object *line;
	int rc;

	text = oci_compose(
	    push->order->media_type, push->digest, push->bytes, qcow2 ? "disk.qcow2" : "disk.raw");
	digest = digest_of(text, strlen(text));
	config = digest_of(CONFIG, strlen(CONFIG));
	rc = is_there(push, "manifests", push->tag, &there, &tagged, err);
	if (rc == 0 && !(there && str_eq(tagged, digest))) {
		uploaded = true;
		rc = upload(push, &(struct blob){ .digest = push->digest }, err);
		if (rc == 0)
			rc = upload(push, &(struct blob){ config, CONFIG, strlen(CONFIG) }, err);
		if (rc == 0)
			rc = put_manifest(push, text, digest, err);
	}
	if (rc != 0)
		return rc;
	tell_progress(push, push->bytes);
	line = json_object_new_object();
	json_add_string(line, "digest", digest);
	json_add_bool(line, "uploaded", uploaded);
	json_add_int(line, "bytes", (int64_t)push->sent_bytes);
	event_emit(push->order, "pushed", line);
	return 0;
}

int
oci_push(struct http *http, const struct fetch_order *order, struct err *err)
{
	struct push push = { .order = order };
	int rc = oci_session_open(&push.session, http, order, true, err);

	if (rc == 0)
		rc = prepare(&push, err);
	if (rc == 0)
		rc = run(&push, err);
	free(push.digest);
	free(push.what);
	oci_session_close(&push.session);
	return rc;
}
