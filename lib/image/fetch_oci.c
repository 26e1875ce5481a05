/* SPDX-License-Identifier: MPL-2.0
 *
 * A registry's image.  Everybody asks for the manifest with their own credentials: who gets it may
 * have the blob, and then it does not matter who fetched that. */
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/fetches.h"
#include "lib/image/names.h"

static void next_layer(struct image_fetch *f);

/* ---- the manifest ---- */

static void
on_line(void *arg, const char *event, json_object *line)
{
	struct image_fetch *f = arg;
	json_object *layers = NULL;
	CLEANUP_FREE char *note = str_eq(event, "retry") ? child_retry_note(line) : NULL;

	if (note != NULL)
		fetch_tell(f, "resolve", 0, 0, 0, note);
	if (!str_eq(event, "manifest"))
		return;
	if (json_flag(line, "unchanged")) {
		f->is_known = true;
		return;
	}
	free(f->manifest_digest);
	f->manifest_digest = xstrdup(json_string(line, "manifest_digest"));
	if (json_object_object_get_ex(line, "layers", &layers) &&
	    json_object_is_type(layers, json_type_array)) {
		json_object_put(f->layers);
		f->layers = json_object_get(layers);
	}
}

/* Where exactly it is: repository and digest, without the tag, which may move. */
static char *
source_text(const struct image_fetch *f)
{
	struct oci_ref ref = f->ref;

	ref.tag = NULL;
	ref.digest = f->manifest_digest;
	return oci_ref_text(&ref);
}

static void
on_manifest_end(void *arg, const struct child_failure *failure)
{
	struct image_fetch *f = arg;
	struct child_failure own = { .temporary = false };

	f->child = NULL;
	LIST_REMOVE(f, asking);
	if (failure != NULL) {
		fetch_failed(f, failure);
		return;
	}
	if (f->is_known) {
		fetch_arrived(f, f->known, NULL);
		return;
	}
	if (!image_digest_valid(f->manifest_digest != NULL ? f->manifest_digest : "") ||
	    f->layers == NULL || json_object_array_length(f->layers) == 0) {
		err_set(&own.err, E_FAILED, "vmm-fetch did not say what the manifest holds");
		fetch_failed(f, &own);
		return;
	}
	free(f->source);
	f->source = source_text(f);
	next_layer(f);
}

/* ---- the blob ---- */

static const char *
layer_digest(const struct image_fetch *f)
{
	return json_string(json_object_array_get_idx(f->layers, f->layer_at), "digest");
}

/* What names a body in the store.  The disk in a tar is another image than the tar, and it is the
 * manifest that says which is meant: nobody's manifest may say it for another's.  Owned. */
static char *
body_of(const char *digest, bool container)
{
	return xasprintf("%s%s", container ? "disk in " : "", digest);
}

/* The image that this very blob became, whoever fetched it. */
static const struct image *
image_of_blob(struct image_fetch *f, const char *digest, bool container)
{
	CLEANUP_FREE char *body = body_of(digest, container);
	const struct image_name *name = names_find_body(f->images, body);
	struct entry *entry =
	    images_by_digest(f->images, name != NULL ? name->digest : container ? "" : digest);

	return entry != NULL && image_check(&entry->image, NULL) == 0 ? &entry->image : NULL;
}

static void
next_layer(struct image_fetch *f)
{
	json_object *layer = json_object_array_get_idx(f->layers, f->layer_at);
	const char *digest = layer_digest(f), *title = json_string(layer, "title");
	bool container = json_flag(layer, "container");
	struct fetch_order order = { .work = FETCH_BLOB, .auth = f->auth,
		.registry = f->ref.registry, .repository = f->ref.repository,
		.digest = (char *)(uintptr_t)digest,
		.media_type = (char *)(uintptr_t)json_string(layer, "media_type"),
		.blob_bytes = (uint64_t)json_int(layer, "bytes"), .container = container };
	struct child_failure failure = { .temporary = false };
	CLEANUP_FREE char *body = NULL, *key = NULL, *name = NULL;
	const struct image *image;

	if (digest == NULL || !image_digest_valid(digest)) {
		err_set(&failure.err, E_FAILED, "vmm-fetch named a layer without a digest");
		fetch_failed(f, &failure);
		return;
	}
	body = body_of(digest, container);
	image = image_of_blob(f, digest, container);
	if (image != NULL && f->sha256 != NULL && !fetch_digest_is(image->digest, f->sha256) &&
	    !fetch_digest_is(digest, f->sha256)) {
		err_set(&failure.err, E_IMAGE,
		    "'%s' is not the image that was meant: its sha256 is %s, and not %s", f->location,
		    image->digest + strlen("sha256:"), f->sha256);
		fetch_failed(f, &failure);
		return;
	}
	if (image != NULL) {
		struct transfer_got got = { .digest = image->digest, .body_digest = body };

		f->is_known = true;
		fetch_arrived(f, image->digest, &got);
		return;
	}
	key = xasprintf("blob\n%s", body);
	name = title != NULL ? str_printable(title, strlen(title)) : xstrdup(f->name);
	if (transfer_join(f, key, &order, f->spec.name != NULL ? f->spec.name : name, f->source, -1,
		&failure.err) != 0)
		fetch_failed(f, &failure);
}

void
fetch_oci_transferred(struct image_fetch *f, const struct transfer_got *got,
    const struct child_failure *failure)
{
	json_object *layer = json_object_array_get_idx(f->layers, f->layer_at);
	struct transfer_got named;
	CLEANUP_FREE char *body = body_of(layer_digest(f), json_flag(layer, "container"));

	if (failure == NULL) {
		/* The name stands for the manifest: validators of the blob are nobody's. */
		named = (struct transfer_got){ .digest = got->digest, .body_digest = body };
		f->transferred += got->body_bytes;
		fetch_arrived(f, got->digest, &named);
		return;
	}
	if (failure->err.code == E_NOT_FOUND && failure->status == 0 && json_flag(layer, "container") &&
	    f->layer_at + 1 < json_object_array_length(f->layers)) {
		f->layer_at++;
		next_layer(f);
		return;
	}
	fetch_failed(f, failure);
}

void
fetch_oci_again(struct image_fetch *f)
{
	next_layer(f);
}

/* ---- begin ---- */

static char *
manifest_of(const struct image_name *known)
{
	struct oci_ref ref;
	char *digest;

	if (known->source == NULL || oci_ref_parse(known->source, &ref, NULL) != 0)
		return NULL;
	digest = TAKE(ref.digest);
	oci_ref_done(&ref);
	return digest;
}

/* What would not be looked at must not be asked for. */
static int
check_pins(const struct image_fetch *f, struct err *err)
{
	if (f->sha512 == NULL && f->checksums == NULL)
		return 0;
	err_set(err, E_PARAMS, "an image of a registry has no %s",
	    f->sha512 != NULL ? "sha512" : "list of checksums");
	err_hint(err, "pin it with oci://…@sha256:…, or with sha256");
	return E_PARAMS;
}

void
fetch_oci_begin(struct image_fetch *f)
{
	const struct image_fetcher *config = &f->images->fetches->config;
	struct fetch_order order = { .work = FETCH_MANIFEST, .auth = f->auth,
		.os = (char *)(uintptr_t)config->os,
		.architecture = (char *)(uintptr_t)config->architecture };
	struct child_failure failure = { .temporary = false };
	CLEANUP_FREE char *manifest = NULL;
	const struct image_name *known;

	if (oci_ref_parse(f->location, &f->ref, &failure.err) != 0 ||
	    check_pins(f, &failure.err) != 0) {
		fetch_failed(f, &failure);
		return;
	}
	f->name = oci_ref_text(&f->ref);
	f->auth_key = fetch_auth_key(&f->auth, f->ref.registry, f->ref.repository);
	known = fetch_find_known(f);
	if (known != NULL) {
		manifest = manifest_of(known);
		f->source = xstrdup(known->source);
	}
	/* What has a digest never moves. */
	if (known != NULL && (f->policy == IMAGE_MISSING || f->ref.digest != NULL)) {
		f->is_known = true;
		fetch_settle(f, f->known, NULL);
		return;
	}
	order.registry = f->ref.registry;
	order.repository = f->ref.repository;
	order.tag = f->ref.tag;
	order.digest = f->ref.digest;
	order.etag = manifest;
	fetch_set_patience(f, &order);
	fetch_tell(f, "resolve", 0, 0, 0, NULL);
	f->child = child_start(f->images, &order, f->uid, -1, -1, on_line, on_manifest_end, f,
	    &failure.err);
	if (f->child == NULL)
		fetch_failed(f, &failure);
	else
		LIST_INSERT_HEAD(&f->images->fetches->asking, f, asking);
}

void
fetch_oci_stop(struct image_fetch *f)
{
	if (f->child == NULL)
		return;
	LIST_REMOVE(f, asking);
	child_destroy(TAKE(f->child));
}

void
oci_fetches_close(struct image_store *images)
{
	struct image_fetch *f;
	struct err err = ERR_INIT;

	err_set(&err, E_SHUTDOWN, "vmmd is going down");
	while ((f = LIST_FIRST(&images->fetches->asking)) != NULL) {
		fetch_oci_stop(f);
		fetch_settle(f, NULL, &err);
	}
}
