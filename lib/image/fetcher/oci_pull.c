/* SPDX-License-Identifier: MPL-2.0
 *
 * From a reference to the blob that is the disk, and the blob.  What a registry gives is believed
 * when its digest is the one that was asked for, and that is counted here. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/base/digest.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/fetcher/event.h"
#include "lib/image/fetcher/oci_session.h"
#include "lib/image/fetcher/transfer.h"

enum { TITLE_MAX = 200 };

#define ACCEPTED                                                                                   \
	"application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, "    \
	"application/vnd.docker.distribution.manifest.v2+json, "                                   \
	"application/vnd.docker.distribution.manifest.list.v2+json"

/* A manifest or an index, verified. */
struct document {
	struct http_reply reply;
	char *digest; /* counted here */
};

static void
document_done(struct document *document)
{
	http_reply_done(&document->reply);
	free(document->digest);
	*document = (struct document){ 0 };
}

static char *
count_digest(const struct http_reply *reply)
{
	struct digest *digest = digest_create();
	CLEANUP_FREE char *hex = NULL;

	digest_add(digest, reply->body, reply->body_len);
	hex = digest_finish(digest);
	return xasprintf("sha256:%s", hex);
}

/* want: what it was asked for by; NULL: a tag. */
static int
check_document(const struct document *document, const char *want, const char *what, struct err *err)
{
	const char *told = document->reply.digest;

	if (want == NULL && told != NULL && oci_digest_valid(told))
		want = told;
	if (want == NULL || strcmp(want, document->digest) == 0)
		return 0;
	err_set(err, E_IMAGE, "%s is not the one that was meant: its digest is %s, and not %s",
	    what, document->digest, want);
	err_hint(err, "the registry, or something on the way to it, changes what it stores");
	return E_IMAGE;
}

/* known: the digest that needs no second reading; NULL: none.  Then the reply's status is 304. */
static int
read_document(struct oci_session *session, const char *name, const char *known, const char *what,
    struct document *ret_document, struct err *err)
{
	CLEANUP_FREE char *url = oci_session_url(session, "manifests", name);
	CLEANUP_FREE char *quoted = known != NULL ? xasprintf("\"%s\"", known) : NULL;
	const struct http_header headers[] = { { "Accept", ACCEPTED },
		{ "If-None-Match", quoted } };
	const struct http_request request = { .method = "GET",
		.url = url,
		.headers = headers,
		.header_count = known != NULL ? 2 : 1,
		.body_fd = -1,
		.max_body = OCI_MANIFEST_MAX };
	struct document document = { 0 };
	int rc = oci_session_call(session, &request, what, &document.reply, err);

	if (rc != 0)
		return rc;
	if (known != NULL && document.reply.status == 304) {
		*ret_document = document;
		return 0;
	}
	rc = oci_session_status(session, &document.reply, what, err);
	if (rc == 0) {
		document.digest = count_digest(&document.reply);
		rc = check_document(&document, oci_digest_valid(name) ? name : NULL, what, err);
	}
	if (rc == 0)
		*ret_document = document;
	else
		document_done(&document);
	return rc;
}

/* ---- the manifest ---- */

static void
tell_unchanged(const struct fetch_order *order, const char *digest)
{
	json_object *line = json_object_new_object();

	json_add_bool(line, "unchanged", true);
	json_add_string(line, "manifest_digest", digest);
	event_emit(order, "manifest", line);
}

static void
tell_manifest(
    const struct fetch_order *order, const char *digest, const struct oci_manifest *manifest)
{
	json_object *line = json_object_new_object(), *layers = json_object_new_array();

	for (size_t i = 0; i < manifest->layer_count; i++) {
		const struct oci_layer *layer = &manifest->layers[i];
		json_object *row = json_object_new_object();
		CLEANUP_FREE char *title = NULL;

		json_add_string(row, "digest", layer->digest);
		json_add_int(row, "bytes", (int64_t)layer->bytes);
		json_add_string(row, "media_type", layer->media_type);
		json_add_bool(row, "container", layer->container);
		/* Hundreds of them would make the line too long, and only one disk has a name. */
		if (layer->title != NULL && !layer->container) {
			title = oci_shown(layer->title, strlen(layer->title), TITLE_MAX);
			json_add_string(row, "title", title);
		}
		json_object_array_add(layers, row);
	}
	json_add_bool(line, "unchanged", false);
	json_add_string(line, "manifest_digest", digest);
	json_add_string(line, "media_type", manifest->media_type);
	json_add_string(line, "artifact_type", manifest->artifact_type);
	json_object_object_add(line, "layers", layers);
	event_emit(order, "manifest", line);
}

/* From the top document down to the manifest of the platform. */
static int
find_manifest(struct oci_session *session, const char *what, struct document *document,
    struct oci_manifest *ret_manifest, struct err *err)
{
	const struct fetch_order *order = session->order;

	for (unsigned depth = 0; depth <= OCI_NESTING; depth++) {
		struct oci_manifest manifest = { 0 };
		int rc = oci_parse(document->reply.body, document->reply.body_len, order->os,
		    order->architecture, &manifest, err);

		if (rc != 0)
			return err_wrap(err, "%s", what);
		if (!manifest.index) {
			*ret_manifest = manifest;
			return 0;
		}
		document_done(document);
		rc = read_document(session, manifest.digest, NULL, what, document, err);
		if (rc == 0 && document->reply.body_len != manifest.bytes)
			rc = err_set(err, E_IMAGE,
			    "%s: the index says %" PRIu64 " bytes, and there are %zu", what,
			    manifest.bytes, document->reply.body_len);
		oci_manifest_done(&manifest);
		if (rc != 0)
			return rc;
	}
	return err_set(err, E_IMAGE, "%s: indexes are nested more than %d deep", what, OCI_NESTING);
}

int
oci_manifest(struct http *http, const struct fetch_order *order, struct err *err)
{
	const char *tag = order->tag != NULL ? order->tag : "latest";
	const char *name = order->digest != NULL ? order->digest : tag;
	const char *known =
	    order->digest == NULL && oci_digest_valid(order->etag) ? order->etag : NULL;
	CLEANUP_FREE char *what = NULL, *digest = NULL;
	struct oci_manifest manifest = { 0 };
	struct document document = { 0 };
	struct oci_session session;
	int rc = oci_session_open(&session, http, order, false, err);

	if (rc != 0)
		return rc;
	what = xasprintf("'%s%c%.19s'", order->repository, order->digest != NULL ? '@' : ':', name);
	rc = read_document(&session, name, known, what, &document, err);
	if (rc == 0 && (document.reply.status == 304 || str_eq(document.digest, known))) {
		tell_unchanged(order, known);
	} else if (rc == 0) {
		digest = xstrdup(document.digest);
		rc = find_manifest(&session, what, &document, &manifest, err);
		if (rc == 0)
			tell_manifest(order, digest, &manifest);
	}
	oci_manifest_done(&manifest);
	document_done(&document);
	oci_session_close(&session);
	return rc;
}

/* ---- the blob ---- */

struct blob {
	struct oci_session session;
	struct sink *sink;
	uint64_t seen; /* bytes that there were when it was last asked for */
	char *what;
};

static int
on_prepare(void *arg, struct http_request *request, struct err *err)
{
	struct blob *blob = arg;
	uint64_t have = sink_body_bytes(blob->sink);

	/* A token that has ended in the middle of a long transfer is not a refusal. */
	if (have > blob->seen)
		blob->session.refusals = 0;
	blob->seen = have;
	request->authorization = oci_session_authorization(&blob->session, request->url);
	return 0;
}

static int
on_refused(void *arg, const struct http_reply *reply, struct err *err)
{
	struct blob *blob = arg;
	int rc;

	if (reply->status == 401)
		return oci_session_login(&blob->session, reply, blob->what, err);
	rc = oci_session_status(&blob->session, reply, blob->what, err);
	return rc != 0 ? rc
		       : err_set(err, E_FAILED, "%s: the registry answers with status %ld",
			     blob->what, reply->status);
}

static int
check_blob(const struct blob *blob, const struct sink_result *result, struct err *err)
{
	const struct fetch_order *order = blob->session.order;

	if (strcmp(order->digest + strlen("sha256:"), result->body_sha256) != 0) {
		err_set(err, E_IMAGE, "%s is not what the manifest says: its digest is sha256:%s",
		    blob->what, result->body_sha256);
		err_hint(
		    err, "fetch it again; when it stays so, the registry's storage is damaged");
		return E_IMAGE;
	}
	if (order->sha256 != NULL && strcasecmp(order->sha256, result->sha256) != 0 &&
	    strcasecmp(order->sha256, result->body_sha256) != 0)
		return err_set(err, E_IMAGE,
		    "the image is not the one that was meant: its sha256 is %s, and not %s",
		    result->sha256, order->sha256);
	return 0;
}

static int
fetch_once(struct http *http, struct blob *blob, const char *url, struct err *err)
{
	const struct fetch_order *order = blob->session.order;
	const struct transfer_source source = { .url = url,
		.immutable = true,
		.length = order->blob_bytes,
		.prepare = on_prepare,
		.refused = on_refused,
		.arg = blob };
	struct transfer_result result = { 0 };
	int rc = transfer_body(http, order, &source, blob->sink, &result, err);

	if (rc == 0)
		rc = check_blob(blob, &result.sink, err);
	if (rc == 0)
		event_done(order, &result.sink, NULL, NULL, url);
	transfer_result_done(&result);
	return rc;
}

static int
fetch_blob(struct http *http, struct blob *blob, struct err *err)
{
	CLEANUP_FREE char *url =
	    oci_session_url(&blob->session, "blobs", blob->session.order->digest);
	bool part = sink_body_bytes(blob->sink) > 0;
	int rc = fetch_once(http, blob, url, err);

	/* It may be what an earlier process left that is damaged. */
	if (rc == E_IMAGE && part) {
		rc = sink_restart(blob->sink, err);
		if (rc == 0)
			rc = fetch_once(http, blob, url, err);
	}
	return rc;
}

int
oci_blob(struct http *http, const struct fetch_order *order, struct err *err)
{
	struct blob blob = { 0 };
	int rc = oci_session_open(&blob.session, http, order, false, err);

	if (rc == 0 && (order->digest == NULL || order->blob_bytes == 0))
		rc = err_set(err, E_PARAMS, "the order names no blob");
	if (rc == 0) {
		blob.what = xasprintf("the disk of '%s' (%.19s)", order->repository, order->digest);
		blob.sink =
		    sink_create(order, order->container ? SINK_CONTAINER : SINK_IMAGE, false, err);
		rc = blob.sink != NULL ? fetch_blob(http, &blob, err)
		     : err != NULL     ? (int)err->code
				       : E_IO;
	}
	sink_destroy(blob.sink);
	free(blob.what);
	oci_session_close(&blob.session);
	return rc;
}
