/* SPDX-License-Identifier: MPL-2.0
 *
 * The store of images: rows, files and the memory of which files were taken.  The file is named
 * by the digest of its content, so that a row can be made again from the file. */
#include "lib/image/image.h"

#include <dirent.h>
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/fs.h"
#include "lib/base/log.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/fetches.h"
#include "lib/image/images.h"
#include "lib/image/names.h"
#include "lib/image/take.h"
#include "lib/model/field.h"
#include "lib/store/store.h"

#define DIGEST_PREFIX "sha256:"
#define REMOVE_PREFIX ".remove-"
enum { REF_HEX_MIN = 8 };

struct row { /* a row of the database; numbers for times, as fields know no signed ones */
	char *digest, *format, *name, *source;
	uint64_t virtual_bytes, file_bytes, created_ms;
};

/* clang-format off */
static const struct field row_fields[] = {
	FIELD(struct row, digest,        FIELD_STRING, .required = true),
	FIELD(struct row, format,        FIELD_STRING, .required = true),
	FIELD(struct row, name,          FIELD_STRING, .required = true),
	FIELD(struct row, source,        FIELD_STRING, .max = 8192),
	FIELD(struct row, virtual_bytes, FIELD_UINT,   .required = true, .max = UINT64_MAX),
	FIELD(struct row, file_bytes,    FIELD_UINT,   .required = true, .max = UINT64_MAX),
	FIELD(struct row, created_ms,    FIELD_UINT,   .max = UINT64_MAX),
	FIELD_END
};
/* clang-format on */

static const char *
hex_of(const char *digest)
{
	return digest + strlen(DIGEST_PREFIX);
}

static bool
is_hex(const char *s, size_t min, size_t max)
{
	size_t len = strspn(s, "0123456789abcdef");

	return s[len] == '\0' && len >= min && len <= max;
}

static char *
path_of(const struct image_store *images, const char *prefix, const char *hex)
{
	return xasprintf("%s/%s%s", images->dir, prefix, hex);
}

/* ---- entries ---- */

static void
entry_remove(struct image_store *images, struct entry *entry)
{
	TAILQ_REMOVE(&images->entries, entry, link);
	free(entry->image.digest);
	free(entry->image.path);
	free(entry->image.format);
	free(entry->image.name);
	free(entry->image.source);
	free(entry);
}

struct entry *
images_by_digest(struct image_store *images, const char *digest)
{
	struct entry *entry;

	TAILQ_FOREACH(entry, &images->entries, link) {
		if (str_eq(entry->image.digest, digest))
			return entry;
	}
	return NULL;
}

static void
entry_add(struct image_store *images, const struct row *row)
{
	struct entry *entry = xcalloc(1, sizeof(*entry));

	entry->image = (struct image){
		.digest = xstrdup(row->digest),
		.path = path_of(images, IMAGE_PREFIX, hex_of(row->digest)),
		.format = xstrdup(row->format),
		.name = xstrdup(row->name),
		.source = xstrdup(row->source != NULL ? row->source : ""),
		.virtual_bytes = row->virtual_bytes,
		.file_bytes = row->file_bytes,
		.created_ms = (int64_t)row->created_ms,
	};
	TAILQ_INSERT_TAIL(&images->entries, entry, link);
}

static char *
row_text(const struct row *row)
{
	struct json_object *object = fields_encode(row_fields, row);
	char *text = xstrdup(json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN));

	json_object_put(object);
	return text;
}

/* ---- what was taken from where ---- */

static void
source_forget(struct image_store *images, struct source *source, bool stored)
{
	if (stored)
		store_remove(images->store, STORE_SOURCE, source->key);
	HASH_DEL(images->sources, source);
	free(source->digest);
	free(source);
}

static void
source_add(struct image_store *images, const char *key, const char *digest)
{
	struct source *source = xcalloc(1, sizeof(*source) + strlen(key) + 1);

	memcpy(source->key, key, strlen(key) + 1);
	source->digest = xstrdup(digest);
	HASH_ADD_STR(images->sources, key, source);
}

/* "dev:ino:": one row a file is enough. */
static size_t
file_part(const char *key)
{
	const char *colon = strchr(key, ':');

	colon = colon != NULL ? strchr(colon + 1, ':') : NULL;
	return colon != NULL ? (size_t)(colon - key) + 1 : strlen(key);
}

void
images_remember(struct image_store *images, const char *key, const char *digest)
{
	struct json_object *object = json_object_new_object();
	struct source *source, *next;

	HASH_ITER(hh, images->sources, source, next) {
		if (strncmp(source->key, key, file_part(key)) == 0)
			source_forget(images, source, true);
	}
	source_add(images, key, digest);
	json_object_object_add(object, "digest", json_object_new_string(digest));
	store_put(images->store, STORE_SOURCE, key,
	    json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN));
	json_object_put(object);
}

const struct image *
images_by_key(struct image_store *images, const char *key)
{
	struct source *source;
	struct entry *entry;

	HASH_FIND_STR(images->sources, key, source);
	entry = source != NULL ? images_by_digest(images, source->digest) : NULL;
	return entry != NULL && image_check(&entry->image, NULL) == 0 ? &entry->image : NULL;
}

/* ---- rows ---- */

int
images_place(struct image_store *images, const char *tmp, const char *hex, uint64_t bytes,
    bool damaged, struct err *err)
{
	CLEANUP_FREE char *path = path_of(images, IMAGE_PREFIX, hex);
	CLEANUP_FREE char *digest = xasprintf(DIGEST_PREFIX "%s", hex);
	struct stat st;
	int rc = 0;

	loop_assert(images->loop);
	if (!damaged && lstat(path, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size == bytes)
		unlink(tmp);
	else if (rename(tmp, path) < 0)
		rc = err_errno(err, E_IO, errno, "can not store the image '%s'", path);
	else
		rc = fs_sync_dir(images->dir, err);
	if (rc == 0)
		image_set_damaged(images, digest, false);
	return rc;
}

void
image_set_damaged(struct image_store *images, const char *digest, bool damaged)
{
	struct entry *entry = images_by_digest(images, digest);

	loop_assert(images->loop);
	if (entry != NULL)
		entry->image.damaged = damaged;
}

int
images_add(struct image_store *images, const struct take *take, const char *key, struct err *err)
{
	CLEANUP_FREE char *digest = xasprintf(DIGEST_PREFIX "%s", take->hex);
	CLEANUP_FREE char *name = NULL, *source = NULL, *text = NULL;
	struct row row;
	int rc;

	if (images_by_digest(images, digest) == NULL) {
		/* Names of files may hold anything; ours are shown. */
		name = str_printable(fs_basename(take->name), strlen(fs_basename(take->name)));
		source = take->source != NULL ? str_printable(take->source, strlen(take->source))
					      : str_printable(take->name, strlen(take->name));
		row = (struct row){ digest, (char *)(uintptr_t)take->header.format, name, source,
			take->header.virtual_bytes, take->file_bytes, (uint64_t)clock_wall_ms() };
		text = row_text(&row);
		rc = store_commit_put(images->store, STORE_IMAGE, digest, text, err);
		if (rc != 0)
			return rc;
		entry_add(images, &row);
	}
	if (key != NULL)
		images_remember(images, key, digest);
	return 0;
}

static void
on_image_row(void *arg, const char *id, const char *doc)
{
	struct image_store *images = arg;
	struct json_object *object = json_tokener_parse(doc);
	struct row row = { 0 };
	struct err err;

	if (object == NULL || fields_decode_one(row_fields, object, &row, &err) != 0 ||
	    !str_starts(row.digest, DIGEST_PREFIX) ||
	    !is_hex(hex_of(row.digest), SHA256_HEX, SHA256_HEX))
		log_debug("images: the row '%s' can not be read", id);
	else
		entry_add(images, &row);
	fields_release(row_fields, &row);
	json_object_put(object);
}

static void
on_source_row(void *arg, const char *id, const char *doc)
{
	struct image_store *images = arg;
	struct json_object *object = json_tokener_parse(doc), *digest;

	if (json_object_object_get_ex(object, "digest", &digest) &&
	    images_by_digest(images, json_object_get_string(digest)) != NULL)
		source_add(images, id, json_object_get_string(digest));
	else
		store_remove(images->store, STORE_SOURCE, id);
	json_object_put(object);
}

/* ---- the folder ---- */

/* A file in the folder without a row: the database is older than the file. */
static bool
adopt(struct image_store *images, const char *file, const char *hex)
{
	CLEANUP_FREE char *path = fs_join(images->dir, file);
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct take take = { .fd = -1, .name = path };
	struct err err;
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || disk_inspect(fd, path, &take.header, &err) != 0)
		return false;
	memcpy(take.hex, hex, sizeof(take.hex));
	take.file_bytes = (uint64_t)st.st_size;
	if (images_add(images, &take, NULL, &err) != 0)
		return false;
	log_debug("images: '%s' had no row", path);
	return true;
}

/* A removal that was under way: it had been asked for, so it is ended. */
static void
end_removal(struct image_store *images, const char *hex)
{
	CLEANUP_FREE char *digest = xasprintf(DIGEST_PREFIX "%s", hex);
	CLEANUP_FREE char *path = path_of(images, REMOVE_PREFIX, hex);
	struct entry *entry = images_by_digest(images, digest);

	/* Taken anew since: the file of that name is the one that counts. */
	if (entry != NULL && image_check(&entry->image, NULL) != 0) {
		if (store_commit_remove(images->store, STORE_IMAGE, digest, NULL) != 0)
			return;
		entry_remove(images, entry);
	}
	unlink(path);
}

static int
tidy(struct image_store *images, struct err *err)
{
	DIR *dir = opendir(images->dir);
	struct dirent *found;
	bool adopted = false;

	if (dir == NULL)
		return err_errno(err, E_IO, errno, "can not read the folder '%s'", images->dir);
	while ((found = readdir(dir)) != NULL) {
		const char *name = found->d_name;

		if (str_starts(name, TAKE_PREFIX)) {
			unlinkat(dirfd(dir), name, 0);
		} else if (str_starts(name, REMOVE_PREFIX)) {
			end_removal(images, name + strlen(REMOVE_PREFIX));
		} else if (str_starts(name, IMAGE_PREFIX)) {
			const char *hex = name + strlen(IMAGE_PREFIX);
			CLEANUP_FREE char *digest = xasprintf(DIGEST_PREFIX "%s", hex);

			if (is_hex(hex, SHA256_HEX, SHA256_HEX) &&
			    images_by_digest(images, digest) == NULL)
				adopted = adopt(images, name, hex) || adopted;
		}
	}
	closedir(dir);
	/* Its name may be younger than the last time that the folder was written. */
	return adopted ? fs_sync_dir(images->dir, err) : 0;
}

int
image_store_open(const char *dir, struct store *store, struct loop *loop, struct worker_pool *pool,
    struct image_store **ret_images, struct err *err)
{
	struct image_store *images = xcalloc(1, sizeof(*images));
	int rc;

	images->dir = fs_expand(dir, NULL);
	images->store = store;
	images->loop = loop;
	images->pool = pool;
	TAILQ_INIT(&images->entries);
	TAILQ_INIT(&images->names);
	imports_open(images);
	fetches_open(images);
	rc = fs_mkdirs(images->dir, 0700, err);
	if (rc == 0)
		rc = store_each(store, STORE_IMAGE, on_image_row, images, err);
	if (rc == 0)
		rc = tidy(images, err);
	if (rc == 0)
		rc = store_each(store, STORE_SOURCE, on_source_row, images, err);
	if (rc == 0)
		rc = names_open(images, err);
	if (rc == 0)
		parts_sweep(images);
	if (rc != 0) {
		image_store_close(images);
		return rc;
	}
	*ret_images = images;
	return 0;
}

void
image_store_close(struct image_store *images)
{
	struct source *source, *next;
	struct entry *entry;

	if (images == NULL)
		return;
	loop_assert(images->loop);
	imports_close(images); /* those of fetches settle there */
	fetches_close(images);
	names_close(images);
	HASH_ITER(hh, images->sources, source, next)
		source_forget(images, source, false);
	while ((entry = TAILQ_FIRST(&images->entries)) != NULL)
		entry_remove(images, entry);
	free(images->dir);
	free(images);
}

/* ---- asking ---- */

int
image_check(const struct image *image, struct err *err)
{
	struct stat st;

	if (!image->damaged && lstat(image->path, &st) == 0 && S_ISREG(st.st_mode) &&
	    (uint64_t)st.st_size == image->file_bytes)
		return 0;
	err_set(err, E_IMAGE, "the file of the image '%s' is gone or damaged ('%s')", image->name,
	    image->path);
	err_hint(err, "take it again from where it came: '%s'", image->source);
	err_object(err, image->name);
	return E_IMAGE;
}

static int
no_image(const char *ref, struct err *err)
{
	CLEANUP_FREE char *shown = str_printable(ref, strlen(ref));

	err_set(err, E_NOT_FOUND, "there is no image '%s'", shown);
	err_hint(err, "'vmctl image list' shows the images that are kept");
	err_object(err, shown);
	return E_NOT_FOUND;
}

/* uid: whose view it is; NULL: everybody's. */
static int
look_up(struct image_store *images, const char *ref, const uid_t *uid,
    const struct image **ret_image, struct err *err)
{
	const char *hex = str_starts(ref, DIGEST_PREFIX) ? hex_of(ref) : ref;
	bool is_digest = is_hex(hex, REF_HEX_MIN, SHA256_HEX);
	const struct image *found = NULL, *by_name = NULL;
	struct entry *entry;

	loop_assert(images->loop);
	TAILQ_FOREACH(entry, &images->entries, link) {
		const struct image *image = &entry->image;
		bool begins = is_digest && str_starts(hex_of(image->digest), hex);

		/* Who knows all of the digest has had the image; the rest could be guessed. */
		if ((!begins && !str_eq(image->name, ref)) ||
		    (uid != NULL && !str_eq(hex_of(image->digest), hex) &&
			!names_show(images, *uid, image->digest)))
			continue;
		if (begins && found != NULL)
			return err_set(err, E_LIMIT,
			    "several images begin with '%s'; give more digits", ref);
		if (begins)
			found = image;
		else
			by_name = image;
	}
	if (found == NULL)
		found = by_name;
	if (found == NULL)
		return no_image(ref, err);
	*ret_image = found;
	return image_check(found, err);
}

int
image_get(struct image_store *images, const char *ref, const struct image **ret_image,
    struct err *err)
{
	return look_up(images, ref, NULL, ret_image, err);
}

int
image_get_for(struct image_store *images, uid_t uid, const char *ref,
    const struct image **ret_image, struct err *err)
{
	const struct image_name *name = names_find(images, uid, ref);

	*ret_image = NULL;
	return look_up(images, name != NULL ? name->digest : ref, name != NULL ? NULL : &uid,
	    ret_image, err);
}

const struct image *
image_find(struct image_store *images, const char *ref)
{
	const struct image *image = NULL;

	return image_get(images, ref, &image, NULL) == 0 ? image : NULL;
}

const struct image *
image_find_file(struct image_store *images, int fd)
{
	CLEANUP_FREE char *key = NULL;

	loop_assert(images->loop);
	return take_key(fd, "", &key, NULL) == 0 ? images_by_key(images, key) : NULL;
}

void
image_each(struct image_store *images, void (*fn)(void *arg, const struct image *image), void *arg)
{
	struct entry *entry;

	TAILQ_FOREACH(entry, &images->entries, link)
		fn(arg, &entry->image);
}

void
image_hold(struct image_store *images, const char *digest, const char *what)
{
	struct entry *entry = images_by_digest(images, digest);

	loop_assert(images->loop);
	assert(entry != NULL);
	entry->holds++;
	entry->held_for = what;
}

void
image_unhold(struct image_store *images, const char *digest)
{
	struct entry *entry = images_by_digest(images, digest);

	loop_assert(images->loop);
	assert(entry != NULL && entry->holds > 0);
	entry->holds--;
}

void
image_store_on_removed(struct image_store *images, image_removed_fn *fn, void *arg)
{
	images->on_removed = fn;
	images->removed_arg = arg;
}

/* The file gets another name before its row goes: a crash in between is seen at the next open. */
int
image_remove(struct image_store *images, const char *digest, struct err *err)
{
	struct entry *entry = images_by_digest(images, digest);
	CLEANUP_FREE char *aside = NULL, *known = NULL;
	struct source *source, *next;
	int rc;

	loop_assert(images->loop);
	if (entry == NULL) {
		err_set(err, E_NOT_FOUND, "there is no image '%s'", digest);
		err_object(err, digest);
		return E_NOT_FOUND;
	}
	if (entry->holds > 0) {
		err_set(err, E_BUSY, "image '%s' %s", entry->image.name, entry->held_for);
		err_hint(err, "try again when that has ended");
		err_object(err, digest);
		return E_BUSY;
	}
	aside = path_of(images, REMOVE_PREFIX, hex_of(digest));
	if (rename(entry->image.path, aside) < 0 && errno != ENOENT)
		return err_errno(err, E_IO, errno, "can not remove the image '%s'", digest);
	rc = fs_sync_dir(images->dir, err);
	if (rc == 0)
		rc = store_commit_remove(images->store, STORE_IMAGE, digest, err);
	if (rc != 0) {
		if (rename(aside, entry->image.path) < 0)
			log_debug("images: '%s' stays aside", aside);
		return rc;
	}
	unlink(aside);
	HASH_ITER(hh, images->sources, source, next) {
		if (str_eq(source->digest, digest))
			source_forget(images, source, true);
	}
	names_drop_image(images, entry->image.digest);
	known = xstrdup(entry->image.digest);
	entry_remove(images, entry);
	if (images->on_removed != NULL)
		images->on_removed(images->removed_arg, known);
	return 0;
}
