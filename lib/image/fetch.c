/* SPDX-License-Identifier: MPL-2.0
 *
 * What somebody wants of an image: what it means, what is known of it, who is to be asked, and
 * the answer.  Whoever is done goes to the list `settled`, and a timer calls them back, so that no
 * callback runs inside of a call into here. */
#include "lib/image/fetch.h"

#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/digest.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/catalogue.h"
#include "lib/image/fetches.h"
#include "lib/image/names.h"
#include "lib/image/take.h"

enum { HURRIED_ATTEMPTS = 2, HURRIED_CONNECT_MS = 5000 };

/* ---- life ---- */

static void
copy_spec(struct image_spec *to, const struct image_spec *from)
{
	*to = (struct image_spec){
		.present = true,
		.url = xstrdup(from->url),
		.name = xstrdup(from->name),
		.sha256 = xstrdup(from->sha256),
		.sha512 = xstrdup(from->sha512),
		.checksums = xstrdup(from->checksums),
		.format = xstrdup(from->format),
		.digest = xstrdup(from->digest),
		.source = xstrdup(from->source),
		.insecure_http = from->insecure_http,
	};
}

static void
fetch_free(struct image_fetch *f)
{
	fields_release(vm_image_fields, &f->spec);
	fetch_auth_release(&f->auth);
	oci_ref_done(&f->ref);
	json_object_put(f->layers);
	free(f->file_key);
	if (f->file_fd > 0)
		close(f->file_fd);
	free(f->location);
	free(f->name);
	free(f->alias);
	free(f->sha256);
	free(f->sha512);
	free(f->checksums);
	free(f->auth_key);
	free(f->known);
	free(f->manifest_digest);
	free(f->digest);
	free(f->source);
	free(f->note);
	free(f);
}

void
fetch_settle(struct image_fetch *f, const char *digest, const struct err *err)
{
	f->settled = true;
	if (f->known != NULL)
		image_unhold(f->images, f->known);
	free(f->digest);
	f->digest = err == NULL ? xstrdup(digest) : NULL;
	if (err != NULL)
		f->err = *err;
	TAILQ_INSERT_TAIL(&f->images->fetches->settled, f, link);
	timer_arm(f->images->fetches->settle, 0);
}

static void
call_back(struct image_fetch *f)
{
	struct image_got got = { .source = f->source, .transferred_bytes = f->transferred,
		.known = f->is_known, .note = f->note };
	struct entry *entry = f->digest != NULL ? images_by_digest(f->images, f->digest) : NULL;

	if (f->digest != NULL && entry == NULL)
		err_set(&f->err, E_NOT_FOUND, "the image was removed meanwhile");
	if (entry != NULL)
		got.image = &entry->image;
	if (f->done != NULL)
		f->done(f->arg, entry != NULL ? &got : NULL, entry != NULL ? NULL : &f->err);
	fetch_free(f);
}

static void
on_settle(void *arg)
{
	struct image_store *images = arg;
	struct image_fetch *f;

	while ((f = TAILQ_FIRST(&images->fetches->settled)) != NULL) {
		TAILQ_REMOVE(&images->fetches->settled, f, link);
		call_back(f);
	}
}

void
fetch_tell(struct image_fetch *f, const char *phase, uint64_t done, uint64_t total, uint64_t rate,
    const char *note)
{
	struct image_progress progress = { phase, done, total, rate, note };

	if (f->progress != NULL && f->done != NULL)
		f->progress(f->arg, &progress);
}

void
image_fetch_forget(struct image_fetch *f)
{
	f->done = NULL;
	f->progress = NULL;
}

void
image_fetch_cancel(struct image_fetch *f)
{
	struct err err = ERR_INIT;

	loop_assert(f->images->loop);
	if (f->settled)
		return;
	if (f->import != NULL) {
		image_import_cancel(f->import);
		return;
	}
	if (f->transfer != NULL)
		transfer_leave(f);
	fetch_oci_stop(f);
	fetch_file_stop(f);
	err_set(&err, E_CANCELLED, "getting '%s' was cancelled", image_spec_shown(&f->spec));
	fetch_settle(f, NULL, &err);
}

/* ---- the answer ---- */

/* Is it what was asked for? */
int
fetch_check_image(const struct image_fetch *f, const struct image *image, struct err *err)
{
	const char *shown = image_spec_shown(&f->spec);

	if (f->spec.digest != NULL && !str_eq(f->spec.digest, image->digest)) {
		err_set(err, E_IMAGE, "'%s' is not the image that was meant: it is %s, and not %s", shown,
		    image->digest, f->spec.digest);
		err_hint(err, "it was replaced where it came from; if that is right, move the lock with "
			      "'vmctl image update'");
	} else if (f->spec.format != NULL && !str_eq(f->spec.format, image->format)) {
		err_set(err, E_IMAGE, "'%s' is a %s image, and not %s", shown, image->format,
		    f->spec.format);
		err_hint(err, "leave 'format' out, or say '%s'", image->format);
	} else {
		return 0;
	}
	err_object(err, shown);
	return E_IMAGE;
}

static int
set_names(struct image_fetch *f, const char *digest, const struct transfer_got *body,
    struct err *err)
{
	const struct image_name *old = names_find(f->images, f->uid, f->name);
	bool same = body == NULL && old != NULL && str_eq(old->digest, digest);
	struct image_name row = { .uid = f->uid, .name = f->name, .fetched = true,
		.source = f->source, .auth_key = f->auth_key, .checked_ms = clock_wall_ms() };
	CLEANUP_FREE char *own = xstrdup(digest);
	CLEANUP_FREE char *etag = xstrdup(body != NULL ? body->etag : same ? old->etag : NULL);
	CLEANUP_FREE char *modified =
	    xstrdup(body != NULL ? body->last_modified : same ? old->last_modified : NULL);
	CLEANUP_FREE char *body_digest =
	    xstrdup(body != NULL ? body->body_digest : same ? old->body_digest : NULL);
	CLEANUP_FREE char *checked = xstrdup(same ? old->verified : NULL);
	CLEANUP_FREE char *verified = f->ref.registry == NULL ? fetch_verified_by(f->sha512, f->checksums) : NULL;
	int rc;

	row.verified = verified != NULL ? verified : checked;
	row.digest = own;
	row.etag = etag;
	row.last_modified = modified;
	row.body_digest = body_digest;
	rc = names_set(f->images, &row, err);
	if (rc != 0 || f->alias == NULL)
		return rc;
	old = names_find(f->images, f->uid, f->alias);
	if (old != NULL && old->uid == f->uid && !old->fetched)
		return 0; /* somebody gave it */
	row.name = f->alias;
	row.etag = row.last_modified = row.body_digest = NULL;
	return names_set(f->images, &row, err);
}

void
fetch_arrived(struct image_fetch *f, const char *digest, const struct transfer_got *body)
{
	const struct image *image = fetch_stored(f->images, digest);
	CLEANUP_FREE char *own = xstrdup(digest);
	struct err err = ERR_INIT;

	if (image == NULL)
		err_set(&err, E_NOT_FOUND, "the image was removed meanwhile");
	else if (fetch_check_image(f, image, &err) == 0 && f->name != NULL)
		set_names(f, own, body, &err);
	fetch_settle(f, own, err.code != E_OK ? &err : NULL);
}

struct source_search {
	uid_t uid;
	const char *source; /* borrowed of the name; NULL: none */
};

static void
on_source(void *arg, const struct image_name *name)
{
	struct source_search *search = arg;

	if (search->source == NULL && name->source != NULL &&
	    (name->uid == search->uid || str_eq(name->auth_key, "anonymous")))
		search->source = name->source;
}

static void
settle_known(struct image_fetch *f, const struct image *image)
{
	struct source_search search = { .uid = f->uid };
	struct err err = ERR_INIT;

	f->is_known = true;
	fetch_check_image(f, image, &err);
	if (f->source == NULL) {
		names_each(f->images, image->digest, on_source, &search);
		f->source = xstrdup(search.source);
	}
	/* A name for it, unless it is one already. */
	if (err.code == E_OK && f->alias != NULL && names_find(f->images, f->uid, f->alias) == NULL)
		names_set(f->images, &(struct image_name){ .uid = f->uid, .name = f->alias,
			.digest = image->digest, .fetched = true, .source = f->source,
			.auth_key = f->auth_key, .checked_ms = clock_wall_ms() }, &err);
	fetch_settle(f, image->digest, err.code != E_OK ? &err : NULL);
}

static bool
is_about_network(const struct child_failure *failure)
{
	return failure->temporary || failure->err.code == E_NETWORK || failure->err.code == E_TIMEOUT;
}

/* Of many images that are on their way it must be clear which failed, and what can be done. */
static void
say_of_what(const struct image_fetch *f, struct err *err)
{
	static const struct {
		enum err_code code;
		const char *hint;
	} advice[] = {
		{ E_NETWORK, "check the address and the network, then ask again: what has come so far is kept" },
		{ E_TIMEOUT, "check the address and the network, then ask again: what has come so far is kept" },
		{ E_NO_SPACE, "'vmctl image prune' removes the images that nobody uses" },
		{ E_IMAGE, "it is not an image that can be used: ask who offers it" },
		{ E_LIMIT, "the daemon's setting 'image_max' says how large an image may be" },
	};
	CLEANUP_FREE char *public = f->location != NULL ? image_url_public(f->location) : NULL;

	if (public != NULL && strstr(err->msg, public) == NULL)
		err_wrap(err, "'%s'", public);
	for (size_t i = 0; err->hint[0] == '\0' && i < ARRAY_LEN(advice); i++)
		if (err->code == advice[i].code)
			err_hint(err, "%s", advice[i].hint);
	if (err->object[0] == '\0')
		err_object(err, image_spec_shown(&f->spec));
}

void
fetch_failed(struct image_fetch *f, const struct child_failure *failure)
{
	const struct image *image = fetch_stored(f->images, f->known);
	struct err err = failure->err;

	if (f->policy == IMAGE_REVALIDATE && image != NULL && is_about_network(failure)) {
		free(f->note);
		f->note = xasprintf("nobody could say whether '%s' has changed (%s); what was fetched "
				    "before is used", image_spec_shown(&f->spec), err.msg);
		settle_known(f, image);
		return;
	}
	say_of_what(f, &err);
	fetch_settle(f, NULL, &err);
}

void
fetch_set_patience(const struct image_fetch *f, struct fetch_order *order)
{
	const struct image_fetcher *config = &f->images->fetches->config;

	if (f->policy != IMAGE_REVALIDATE || f->known == NULL)
		return;
	order->attempts = HURRIED_ATTEMPTS;
	order->connect_ms = config->connect_ms < HURRIED_CONNECT_MS ? config->connect_ms
								     : HURRIED_CONNECT_MS;
}

/* ---- where it is ---- */

static void
ask_http(struct image_fetch *f)
{
	CLEANUP_FREE char *file = image_url_name(f->location);
	CLEANUP_FREE char *key = NULL, *public = image_url_public(f->location);
	struct fetch_order order = { .work = FETCH_HTTP, .url = f->location, .auth = f->auth,
		.sha256 = f->sha256, .sha512 = f->sha512, .checksums = f->checksums,
		.insecure_http = f->spec.insecure_http || f->spec.digest != NULL };
	const struct image_name *known =
	    f->known != NULL ? names_find(f->images, f->uid, f->name) : NULL;
	struct child_failure failure = { .temporary = false };

	if (known != NULL) {
		order.etag = known->etag;
		order.last_modified = known->last_modified;
	}
	fetch_set_patience(f, &order);
	key = xasprintf("http\n%s\n%s\n%s\n%s\n%s\n%s\n%s\n%d", f->location, order.sha256, order.sha512,
	    order.checksums, order.etag, order.last_modified, f->auth_key, order.insecure_http);
	if (transfer_join(f, key, &order, f->spec.name != NULL ? f->spec.name : file, public, -1,
		&failure.err) != 0)
		fetch_failed(f, &failure);
}

static void
begin_http(struct image_fetch *f)
{
	f->name = fetch_url_row(f->location);
	/* Where it can be had again; a query may be a secret. */
	f->source = strchr(f->location, '?') == NULL ? image_url_public(f->location) : NULL;
	f->auth_key = fetch_http_auth_key(&f->auth, f->location, f->checksums);
	if (fetch_find_known(f) != NULL && f->policy == IMAGE_MISSING) {
		settle_known(f, fetch_stored(f->images, f->known));
		return;
	}
	fetch_tell(f, "resolve", 0, 0, 0, NULL);
	ask_http(f);
}

void
fetch_transferred(struct image_fetch *f, const struct transfer_got *got,
    const struct child_failure *failure)
{
	/* Whoever owned that process could end it: others ask again, with a process of their own. */
	if (failure != NULL && failure->vanished && failure->uid != f->uid && !f->asked_again &&
	    f->file_key == NULL) {
		f->asked_again = true;
		if (f->ref.registry != NULL)
			fetch_oci_again(f);
		else
			ask_http(f);
		return;
	}
	if (f->file_key != NULL) {
		fetch_file_transferred(f, got, failure);
	} else if (f->ref.registry != NULL) {
		fetch_oci_transferred(f, got, failure);
	} else if (failure != NULL) {
		fetch_failed(f, failure);
	} else if (got->unchanged) {
		f->is_known = true;
		fetch_arrived(f, f->known, NULL);
	} else {
		f->transferred = got->body_bytes;
		fetch_arrived(f, got->digest, got);
	}
}

static char *
first(const char *a, const char *b)
{
	return xstrdup(a != NULL ? a : b);
}

/* What somebody gave the name to; else what the catalogue says; else what is in the store under
 * it.  False: the answer is settled. */
static bool
resolve_name(struct image_fetch *f, const char *text, struct err *err)
{
	const struct image_name *given = names_find(f->images, f->uid, text);
	const struct catalogue *catalogue = f->images->fetches->catalogue;
	const struct catalogue_entry *entry = NULL;
	const struct image *image = NULL;
	struct err own = ERR_INIT;

	if (catalogue != NULL && (given == NULL || given->fetched))
		entry = catalogue_find(catalogue, text, NULL, &own);
	if (entry != NULL) {
		f->location = xstrdup(entry->url);
		if (f->alias == NULL)
			f->alias = xstrdup(text);
		free(f->sha256);
		free(f->sha512);
		free(f->checksums);
		f->sha256 = first(f->spec.sha256, entry->sha256);
		f->sha512 = first(f->spec.sha512, entry->sha512);
		f->checksums = first(f->spec.checksums, entry->checksums);
		if (f->spec.format == NULL)
			f->spec.format = xstrdup(entry->format);
		return true;
	}
	if (image_get_for(f->images, f->uid, text, &image, err) == 0)
		settle_known(f, image);
	else if (image == NULL && own.code != E_OK)
		*err = own;
	return false;
}

/* True: f->location is where to ask.  False: settled, or err is set. */
static bool
locate(struct image_fetch *f, struct err *err)
{
	const char *text =
	    f->spec.digest != NULL && f->spec.source != NULL ? f->spec.source : f->spec.url;
	enum image_ref_kind kind;
	const struct image *image = NULL;

	if (text == NULL) {
		err_set(err, E_NOT_FOUND, "there is no image '%s'", f->spec.digest);
		err_hint(err, "say where it can be had, with 'url'");
		return false;
	}
	if (image_ref_kind(text, &kind, err) != 0)
		return false;
	switch (kind) {
	case IMAGE_REF_DIGEST:
		if (image_get_for(f->images, f->uid, text, &image, err) == 0)
			settle_known(f, image);
		return false;
	case IMAGE_REF_NAME:
		return resolve_name(f, text, err);
	case IMAGE_REF_PATH:
		err_set(err, E_PARAMS, "'%s' is a path; send the file", text);
		return false;
	case IMAGE_REF_HTTP:
	case IMAGE_REF_OCI:
		f->location = xstrdup(text);
		return true;
	}
	return false;
}

static void
begin(struct image_fetch *f)
{
	const struct image *image = fetch_pinned(f->images, f->spec.digest, f->spec.sha256);
	struct err err = ERR_INIT;

	/* The user's own catalogue gives its entries their names, too. */
	if (f->spec.name != NULL && !str_eq(f->spec.name, f->spec.url) &&
	    image_name_check(f->spec.name, NULL) == 0)
		f->alias = xstrdup(f->spec.name);
	f->sha256 = xstrdup(f->spec.sha256);
	f->sha512 = xstrdup(f->spec.sha512);
	f->checksums = xstrdup(f->spec.checksums);
	if (image != NULL) {
		f->source = xstrdup(f->spec.source);
		settle_known(f, image);
		return;
	}
	if (!locate(f, &err)) {
		if (err.code != E_OK && !f->settled) {
			err_object(&err, image_spec_shown(&f->spec));
			fetch_settle(f, NULL, &err);
		}
		return;
	}
	image = f->spec.digest == NULL ? fetch_pinned(f->images, NULL, f->sha256) : NULL;
	if (image != NULL)
		settle_known(f, image);
	else if (str_starts(f->location, "oci://"))
		fetch_oci_begin(f);
	else
		begin_http(f);
}

/* ---- from outside ---- */

struct image_fetch *
image_fetch(struct image_store *images, const struct image_want *want,
    image_want_progress_fn *progress, image_got_fn *done, void *arg)
{
	struct image_fetch *f = xcalloc(1, sizeof(*f));

	loop_assert(images->loop);
	f->images = images;
	copy_spec(&f->spec, want->spec);
	if (want->auth != NULL)
		fetch_auth_copy(&f->auth, want->auth);
	f->uid = want->uid;
	f->policy = want->policy;
	f->progress = progress;
	f->done = done;
	f->arg = arg;
	f->began_ms = clock_wall_ms();
	if (want->spec->file.kind != FILE_NONE)
		fetch_file_begin(f, &want->spec->file);
	else
		begin(f);
	return f;
}

void
image_store_set_fetcher(struct image_store *images, const struct image_fetcher *fetcher)
{
	struct image_fetcher *config = &images->fetches->config;

	free((char *)(uintptr_t)config->program);
	*config = *fetcher;
	config->program = xstrdup(fetcher->program);
}

void
image_store_set_catalogue(struct image_store *images, const struct catalogue *catalogue)
{
	images->fetches->catalogue = catalogue;
}

void
fetches_open(struct image_store *images)
{
	images->fetches = xcalloc(1, sizeof(*images->fetches));
	TAILQ_INIT(&images->fetches->settled);
	images->fetches->settle = timer_create_on(images->loop, on_settle, images);
}

void
fetches_close(struct image_store *images)
{
	transfers_close(images);
	pushes_close(images);
	oci_fetches_close(images);
	file_fetches_close(images);
	on_settle(images);
	timer_destroy(images->fetches->settle);
	free((char *)(uintptr_t)images->fetches->config.program);
	free(images->fetches);
}
