/* SPDX-License-Identifier: MPL-2.0
 *
 * Names and references, as rows "UID NAME" of the store.  The loop's.  There are few: a list that
 * is walked will do. */
#include "lib/image/names.h"

#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/images.h"
#include "lib/model/field.h"
#include "lib/store/store.h"

enum { TEXT_MAX = 8192 };

struct name_entry {
	TAILQ_ENTRY(name_entry) link;
	struct image_name name;
};

struct name_row { /* as the database has it; no signed numbers there */
	uint64_t uid, changed_ms, checked_ms;
	char *name, *digest, *source, *etag, *last_modified, *body_digest, *auth_key, *verified;
	bool fetched;
};

/* clang-format off */
static const struct field row_fields[] = {
	FIELD(struct name_row, uid,           FIELD_UINT,   .required = true, .max = UINT32_MAX),
	FIELD(struct name_row, name,          FIELD_STRING, .required = true, .max = TEXT_MAX),
	FIELD(struct name_row, digest,        FIELD_STRING, .required = true),
	FIELD(struct name_row, fetched,       FIELD_BOOL),
	FIELD(struct name_row, source,        FIELD_STRING, .max = TEXT_MAX),
	FIELD(struct name_row, etag,          FIELD_STRING, .max = TEXT_MAX),
	FIELD(struct name_row, last_modified, FIELD_STRING, .max = TEXT_MAX),
	FIELD(struct name_row, body_digest,   FIELD_STRING),
	FIELD(struct name_row, auth_key,      FIELD_STRING),
	FIELD(struct name_row, verified,      FIELD_STRING, .max = TEXT_MAX),
	FIELD(struct name_row, changed_ms,    FIELD_UINT,   .max = UINT64_MAX),
	FIELD(struct name_row, checked_ms,    FIELD_UINT,   .max = UINT64_MAX),
	FIELD_END
};
/* clang-format on */

static char *
row_id(uid_t uid, const char *name)
{
	return xasprintf("%u %s", (unsigned)uid, name);
}

static struct name_entry *
find_own(struct image_store *images, uid_t uid, const char *name)
{
	struct name_entry *entry;

	TAILQ_FOREACH(entry, &images->names, link) {
		if (entry->name.uid == uid && str_eq(entry->name.name, name))
			return entry;
	}
	return NULL;
}

static void
entry_destroy(struct image_store *images, struct name_entry *entry)
{
	struct image_name *name = &entry->name;

	TAILQ_REMOVE(&images->names, entry, link);
	free(name->name);
	free(name->digest);
	free(name->source);
	free(name->etag);
	free(name->last_modified);
	free(name->body_digest);
	free(name->auth_key);
	free(name->verified);
	free(entry);
}

/* The newest stands first.  Copies before the old one goes: `name` may be the old one itself. */
static void
entry_put(struct image_store *images, const struct image_name *name)
{
	struct name_entry *entry = xcalloc(1, sizeof(*entry));
	struct name_entry *old = find_own(images, name->uid, name->name);

	entry->name = *name;
	entry->name.name = xstrdup(name->name);
	entry->name.digest = xstrdup(name->digest);
	entry->name.source = xstrdup(name->source);
	entry->name.etag = xstrdup(name->etag);
	entry->name.last_modified = xstrdup(name->last_modified);
	entry->name.body_digest = xstrdup(name->body_digest);
	entry->name.auth_key = xstrdup(name->auth_key);
	entry->name.verified = xstrdup(name->verified);
	if (old != NULL)
		entry_destroy(images, old);
	TAILQ_INSERT_HEAD(&images->names, entry, link);
}

static void
on_row(void *arg, const char *id, const char *doc)
{
	struct image_store *images = arg;
	struct json_object *object = json_tokener_parse(doc);
	struct name_row row = { 0 };
	struct err err;

	if (object == NULL || fields_decode_one(row_fields, object, &row, &err) != 0)
		log_debug("images: the name '%s' can not be read", id);
	else if (images_by_digest(images, row.digest) == NULL)
		store_remove(images->store, STORE_NAME, id);
	else
		entry_put(images, &(struct image_name){ .uid = (uid_t)row.uid, .name = row.name,
			.digest = row.digest, .fetched = row.fetched, .source = row.source,
			.etag = row.etag, .last_modified = row.last_modified,
			.body_digest = row.body_digest, .auth_key = row.auth_key,
			.verified = row.verified,
			.changed_ms = (int64_t)row.changed_ms,
			.checked_ms = (int64_t)row.checked_ms });
	fields_release(row_fields, &row);
	json_object_put(object);
}

int
names_open(struct image_store *images, struct err *err)
{
	return store_each(images->store, STORE_NAME, on_row, images, err);
}

void
names_close(struct image_store *images)
{
	struct name_entry *entry;

	while ((entry = TAILQ_FIRST(&images->names)) != NULL)
		entry_destroy(images, entry);
}

int
names_set(struct image_store *images, const struct image_name *name, struct err *err)
{
	const struct name_entry *old = find_own(images, name->uid, name->name);
	CLEANUP_FREE char *id = row_id(name->uid, name->name);
	struct image_name set = *name;
	struct json_object *object;
	struct name_row row;
	int rc;

	loop_assert(images->loop);
	if (images_by_digest(images, name->digest) == NULL) {
		err_set(err, E_NOT_FOUND, "there is no image '%s'", name->digest);
		err_object(err, name->digest);
		return E_NOT_FOUND;
	}
	if (set.changed_ms == 0)
		set.changed_ms = old != NULL && str_eq(old->name.digest, name->digest) ?
		    old->name.changed_ms : clock_wall_ms();
	row = (struct name_row){ .uid = set.uid, .name = set.name, .digest = set.digest,
		.fetched = set.fetched, .source = set.source, .etag = set.etag,
		.last_modified = set.last_modified, .body_digest = set.body_digest,
		.auth_key = set.auth_key, .verified = set.verified, .changed_ms = (uint64_t)set.changed_ms,
		.checked_ms = (uint64_t)set.checked_ms };
	object = fields_encode(row_fields, &row);
	rc = store_commit_put(images->store, STORE_NAME, id,
	    json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN), err);
	json_object_put(object);
	if (rc == 0)
		entry_put(images, &set);
	return rc;
}

int
names_remove(struct image_store *images, uid_t uid, const char *name, struct err *err)
{
	struct name_entry *entry = find_own(images, uid, name);
	CLEANUP_FREE char *id = row_id(uid, name);
	int rc;

	loop_assert(images->loop);
	if (entry == NULL) {
		CLEANUP_FREE char *shown = str_printable(name, strlen(name));

		err_set(err, E_NOT_FOUND, "there is no name '%s' of yours", shown);
		err_object(err, shown);
		return E_NOT_FOUND;
	}
	rc = store_commit_remove(images->store, STORE_NAME, id, err);
	if (rc == 0)
		entry_destroy(images, entry);
	return rc;
}

/* Of others, only what they named: what they fetched may need credentials that this user lacks. */
static bool
is_for_all(const struct image_name *name)
{
	return (name->uid == 0 || name->uid == geteuid()) &&
	       (!name->fetched || str_eq(name->auth_key, "anonymous"));
}

const struct image_name *
names_find(struct image_store *images, uid_t uid, const char *name)
{
	const uid_t shared[] = { 0, geteuid() };
	const struct name_entry *entry = find_own(images, uid, name);

	loop_assert(images->loop);
	for (size_t i = 0; entry == NULL && i < ARRAY_LEN(shared); i++) {
		entry = find_own(images, shared[i], name);
		if (entry != NULL && !is_for_all(&entry->name))
			entry = NULL;
	}
	return entry != NULL ? &entry->name : NULL;
}

bool
names_show(struct image_store *images, uid_t uid, const char *digest)
{
	const struct name_entry *entry;

	loop_assert(images->loop);
	if (uid == 0 || uid == geteuid())
		return true;
	TAILQ_FOREACH(entry, &images->names, link) {
		if (str_eq(entry->name.digest, digest) &&
		    (entry->name.uid == uid || is_for_all(&entry->name)))
			return true;
	}
	return false;
}

int
names_claim(struct image_store *images, uid_t uid, const char *digest, const char *body_digest,
    struct err *err)
{
	const struct name_entry *old = find_own(images, uid, digest);
	CLEANUP_FREE char *body = xstrdup(body_digest != NULL ? body_digest
					  : old != NULL ? old->name.body_digest : NULL);
	struct image_name row = { .uid = uid, .name = (char *)(uintptr_t)digest,
		.digest = (char *)(uintptr_t)digest, .fetched = true, .body_digest = body };

	return names_set(images, &row, err);
}

bool
names_is_claim(const struct image_name *name)
{
	return str_eq(name->name, name->digest);
}

const struct image_name *
names_find_body(struct image_store *images, const char *body_digest)
{
	struct name_entry *entry;

	loop_assert(images->loop);
	TAILQ_FOREACH(entry, &images->names, link) {
		if (entry->name.body_digest != NULL && str_eq(entry->name.body_digest, body_digest))
			return &entry->name;
	}
	return NULL;
}

void
names_each(struct image_store *images, const char *digest,
    void (*fn)(void *arg, const struct image_name *name), void *arg)
{
	struct name_entry *entry;

	TAILQ_FOREACH(entry, &images->names, link) {
		if (digest == NULL || str_eq(entry->name.digest, digest))
			fn(arg, &entry->name);
	}
}

/* A row that stays behind after a crash goes at the next open: its image is not there. */
void
names_drop_image(struct image_store *images, const char *digest)
{
	struct name_entry *entry = TAILQ_FIRST(&images->names), *next;

	for (; entry != NULL; entry = next) {
		CLEANUP_FREE char *id = row_id(entry->name.uid, entry->name.name);

		next = TAILQ_NEXT(entry, link);
		if (!str_eq(entry->name.digest, digest))
			continue;
		store_remove(images->store, STORE_NAME, id);
		entry_destroy(images, entry);
	}
}
