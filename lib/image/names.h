/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_IMAGE_NAMES_H
#define LIB_IMAGE_NAMES_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/image/image.h"

/* What points at images: names that people gave, and references that were fetched.  Each belongs
 * to a user: nobody can change what another's "golden" means.  A user sees their own names first,
 * then root's and the daemon's (of what those fetched, only what needed no credentials).  Rows of the store (STORE_NAME); loop thread. */

struct image_name { /* borrowed; gone with the next change */
	uid_t uid;
	char *name;   /* "golden", "debian:12", "https://…", "oci://…" (public form, in full) */
	char *digest; /* of the image */
	bool fetched; /* a reference that can be asked again; else a name of people */
	/* Of fetched ones. */
	char *source;	    /* where it was at last: URL after the catalogue, oci://…@sha256:… */
	char *etag, *last_modified; /* of the body */
	char *body_digest;  /* "sha256:…" of the body as it came; OCI: of the blob */
	char *auth_key;	    /* fetch_auth_key of who fetched it */
	char *verified;	    /* hash of what it was checked with; NULL: its sha256 at most */
	int64_t changed_ms, checked_ms;
};

int names_open(struct image_store *images, struct err *err);
void names_close(struct image_store *images);
/* Makes it point there; durable on return.  Fields other than uid, name and digest may be NULL;
 * changed_ms 0: now, unless it pointed there already. */
int names_set(struct image_store *images, const struct image_name *name, struct err *err);
int names_remove(struct image_store *images, uid_t uid, const char *name, struct err *err);
const struct image_name *names_find(struct image_store *images, uid_t uid, const char *name);
/* Of the body with this digest, whoever fetched it; NULL: none. */
const struct image_name *names_find_body(struct image_store *images, const char *body_digest);
/* Does something point at the image that this user may use: a row of theirs, or one that is for
 * all?  Root and the daemon's own user may use every image. */
bool names_show(struct image_store *images, uid_t uid, const char *digest);
/* The user has had the image: it is shown to them from now on, under no name but its digest.
 * body_digest: of the packed file that it came in; NULL: none, or what is known of that. */
int names_claim(struct image_store *images, uid_t uid, const char *digest, const char *body_digest,
    struct err *err);
bool names_is_claim(const struct image_name *name);
void names_each(struct image_store *images, const char *digest, /* NULL: all */
    void (*fn)(void *arg, const struct image_name *name), void *arg);
/* When an image goes, what points at it goes. */
void names_drop_image(struct image_store *images, const char *digest);

#endif
