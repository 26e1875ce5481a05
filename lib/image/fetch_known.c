/* SPDX-License-Identifier: MPL-2.0
 *
 * What is known of images without asking anybody, and under which name and with which rights
 * something is asked for.  The loop's. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/base/digest.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/catalogue.h"
#include "lib/image/fetches.h"

enum { QUERY_HEX = 16, KEY_HEX = 16 };

const struct image *
fetch_stored(struct image_store *images, const char *digest)
{
	struct entry *entry = digest != NULL ? images_by_digest(images, digest) : NULL;

	return entry != NULL && image_check(&entry->image, NULL) == 0 ? &entry->image : NULL;
}

/* A digest says all: when it is there, nobody is asked. */
const struct image *
fetch_pinned(struct image_store *images, const char *pin, const char *sha256)
{
	const struct image_name *name;
	CLEANUP_FREE char *digest = NULL;
	const struct image *image;

	if (pin != NULL)
		return fetch_stored(images, pin);
	if (sha256 == NULL)
		return NULL;
	digest = xasprintf("sha256:%s", sha256);
	for (char *c = digest + 7; *c != '\0'; c++)
		*c = (char)(*c >= 'A' && *c <= 'F' ? *c - 'A' + 'a' : *c);
	image = fetch_stored(images, digest);
	name = image == NULL ? names_find_body(images, digest) : NULL;
	return name != NULL ? fetch_stored(images, name->digest) : image;
}

bool
fetch_digest_is(const char *digest, const char *hex)
{
	return digest != NULL && str_starts(digest, "sha256:") && strcasecmp(digest + 7, hex) == 0;
}

/* What is checked of it besides its sha256, as a hash: a URL may be a secret.  Owned, NULL:
 * nothing. */
char *
fetch_verified_by(const char *sha512, const char *checksums)
{
	struct digest *digest;

	if (sha512 == NULL && checksums == NULL)
		return NULL;
	digest = digest_create();
	digest_text(digest, sha512);
	digest_text(digest, checksums);
	return digest_finish(digest);
}

/* ---- places ---- */

/* The row of a URL: nothing in it is secret, and two queries are two rows. */
char *
fetch_url_row(const char *url)
{
	CLEANUP_FREE char *public = image_url_public(url), *hex = NULL;
	const char *query = strchr(url, '?');
	struct digest *digest;

	if (query == NULL)
		return TAKE(public);
	digest = digest_create();
	digest_text(digest, query);
	hex = digest_finish(digest);
	return xasprintf("%s?%.*s", public, QUERY_HEX, hex);
}

/* With what rights it is fetched; user and password of the URL count, too. */
static char *
url_auth_key(const struct fetch_auth *auth, const char *url)
{
	CLEANUP_FREE char *host = image_url_host(url), *key = NULL;
	const char *begin = strstr(url, "://");
	size_t authority, login;
	struct digest *digest;
	char *hex;

	begin = begin != NULL ? begin + 3 : url;
	authority = strcspn(begin, "/?#");
	for (login = authority; login > 0 && begin[login - 1] != '@'; login--)
		;
	key = fetch_auth_key(auth, host != NULL ? host : "",
	    begin[authority] == '/' ? begin + authority + 1 : "");
	if (login == 0)
		return TAKE(key);
	digest = digest_create();
	digest_field(digest, begin, login);
	digest_text(digest, key);
	hex = digest_finish(digest);
	hex[KEY_HEX] = '\0';
	return hex;
}

/* one, two: taken. */
static char *
joined_key(char *one, char *two)
{
	CLEANUP_FREE char *a = one, *b = two;
	struct digest *digest;
	char *hex;

	if (str_eq(b, "anonymous") || str_eq(a, b))
		return TAKE(a);
	if (str_eq(a, "anonymous"))
		return TAKE(b);
	digest = digest_create();
	digest_text(digest, a);
	digest_text(digest, b);
	hex = digest_finish(digest);
	hex[KEY_HEX] = '\0';
	return hex;
}

const struct image_name *
fetch_find_known(struct image_fetch *f)
{
	const struct image_name *name = names_find(f->images, f->uid, f->name);
	const struct image *image = name != NULL ? fetch_stored(f->images, name->digest) : NULL;
	CLEANUP_FREE char *verified = fetch_verified_by(f->sha512, f->checksums);

	if (image == NULL || f->spec.digest != NULL || !name->fetched)
		return NULL;
	/* What its maker says of it was not looked at, when it was fetched. */
	if (verified != NULL && !str_eq(verified, name->verified))
		return NULL;
	if (f->sha256 != NULL && !fetch_digest_is(image->digest, f->sha256) &&
	    !fetch_digest_is(name->body_digest, f->sha256))
		return NULL;
	if (f->spec.format != NULL && !str_eq(f->spec.format, image->format))
		return NULL;
	f->known = xstrdup(image->digest);
	image_hold(f->images, f->known, "is being asked for where it came from");
	return name;
}

char *
fetch_http_auth_key(const struct fetch_auth *auth, const char *url, const char *checksums)
{
	char *key = url_auth_key(auth, url);

	return checksums != NULL ? joined_key(key, url_auth_key(auth, checksums)) : key;
}

/* ---- from outside ---- */

/* What is known of a place, and was checked as this asks. */
static const struct image *
known_at(struct image_store *images, uid_t uid, const char *place, const char *sha512,
    const char *checksums)
{
	CLEANUP_FREE char *verified = fetch_verified_by(sha512, checksums), *row = NULL;
	const struct image_name *name;
	struct oci_ref ref;

	if (!str_starts(place, "oci://")) {
		row = fetch_url_row(place);
	} else {
		if (oci_ref_parse(place, &ref, NULL) != 0)
			return NULL;
		row = oci_ref_text(&ref);
		oci_ref_done(&ref);
	}
	name = names_find(images, uid, row);
	if (name == NULL || (verified != NULL && !str_eq(verified, name->verified)))
		return NULL;
	return fetch_stored(images, name->digest);
}

const struct image *
image_known(struct image_store *images, const struct image_spec *spec, uid_t uid)
{
	const struct catalogue *catalogue = images->fetches->catalogue;
	const struct catalogue_entry *entry = NULL;
	const struct image_name *given;
	const struct image *image = NULL;
	enum image_ref_kind kind;

	if (spec->file.kind == FILE_FD)
		return image_find_file(images, spec->file.fd);
	if (spec->digest != NULL || spec->sha256 != NULL)
		return fetch_pinned(images, spec->digest, spec->sha256);
	if (spec->url == NULL || image_ref_kind(spec->url, &kind, NULL) != 0)
		return NULL;
	if (kind == IMAGE_REF_HTTP || kind == IMAGE_REF_OCI)
		return known_at(images, uid, spec->url, spec->sha512, spec->checksums);
	given = names_find(images, uid, spec->url);
	if (kind == IMAGE_REF_NAME && catalogue != NULL && (given == NULL || given->fetched))
		entry = catalogue_find(catalogue, spec->url, NULL, NULL);
	if (entry != NULL && entry->sha256 != NULL)
		return fetch_pinned(images, NULL, entry->sha256);
	if (entry != NULL)
		return known_at(images, uid, entry->url,
		    spec->sha512 != NULL ? spec->sha512 : entry->sha512,
		    spec->checksums != NULL ? spec->checksums : entry->checksums);
	return image_get_for(images, uid, spec->url, &image, NULL) == 0 ? image : NULL;
}
