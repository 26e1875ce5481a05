/* SPDX-License-Identifier: MPL-2.0 */
#include "client/lock.h"

#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "client/auth.h"
#include "client/call.h"
#include "client/json.h"
#include "client/out.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/reference.h"
#include "lib/vmfile/vmfile.h"

const char *const lock_image_keys[] = { [LOCK_DISK] = "image", [LOCK_CDROM] = "cdrom" };

const struct image_spec *
lock_image(const struct vm_spec *spec, enum lock_image which)
{
	return which == LOCK_DISK ? &spec->image : &spec->cdrom;
}

int
lock_load(const struct vmfile *vmfile, struct lock *ret_lock, struct err *err)
{
	struct lock lock = { .path = vmlock_path(vmfile->path) };
	int rc = vmlock_load(lock.path, &lock.entries, err);

	if (rc != 0)
		lock_done(&lock);
	else
		*ret_lock = lock;
	return rc;
}

int
lock_reload(struct lock *lock, struct err *err)
{
	struct vmlock entries;
	int rc = vmlock_load(lock->path, &entries, err);

	if (rc != 0)
		return rc;
	vmlock_done(&lock->entries);
	lock->entries = entries;
	return 0;
}

void
lock_done(struct lock *lock)
{
	vmlock_done(&lock->entries);
	free(lock->path);
	*lock = (struct lock){ 0 };
}

static bool
is_pinned_oci(const char *url)
{
	struct oci_ref ref;
	bool pinned;

	if (oci_ref_parse(url, &ref, NULL) != 0)
		return false;
	pinned = ref.digest != NULL;
	oci_ref_done(&ref);
	return pinned;
}

char *
lock_key(const struct image_spec *image)
{
	enum image_ref_kind kind;

	if (!image->present || image->url == NULL || image->digest != NULL ||
	    image->sha256 != NULL || image->sha512 != NULL ||
	    image_ref_kind(image->url, &kind, NULL) != 0)
		return NULL;
	switch (kind) {
	case IMAGE_REF_PATH:
	case IMAGE_REF_DIGEST:
		return NULL;
	case IMAGE_REF_OCI:
		return is_pinned_oci(image->url) ? NULL : xstrdup(image->url);
	case IMAGE_REF_HTTP:
	case IMAGE_REF_NAME:
		break;
	}
	return auth_url_without_login(image->url);
}

void
lock_apply(const struct lock *lock, const struct image_spec *spec, struct json_object *image)
{
	CLEANUP_FREE char *key = lock_key(spec);
	const struct vmlock_entry *entry = key != NULL ? vmlock_find(&lock->entries, key) : NULL;

	if (entry == NULL)
		return;
	json_add_string(image, "digest", entry->digest);
	json_add_string(image, "source", entry->source);
	/* Those of today's image; the digest says which one is meant. */
	json_object_object_del(image, "checksums");
}

/* ---- after up ---- */

bool
lock_can_pin(const char *key, const char *source)
{
	static const char *const schemes[] = { "https://", "http://", "oci://" };

	for (size_t i = 0; i < ARRAY_LEN(schemes); i++)
		if (str_starts(source != NULL ? source : key, schemes[i]))
			return true;
	return false;
}

static struct json_object *
find_row(struct json_object *rows, const char *name, const char *project)
{
	for (size_t i = 0; i < json_length(rows); i++) {
		struct json_object *row = json_item(rows, i);

		if (str_eq(json_string(row, "name"), name) &&
		    str_eq(json_string(row, "project"), project))
			return row;
	}
	return NULL;
}

static bool
record_one(struct lock *lock, const char *key, const char *sent, struct json_object *image)
{
	const char *digest = json_string(image, "digest"), *source = json_string(image, "source");

	/* A machine that was made of something else says nothing about this reference. */
	if (digest == NULL || !lock_can_pin(key, source) ||
	    !str_eq(json_string(image, "url"), sent))
		return false;
	return vmlock_set(&lock->entries, key, digest, source);
}

void
lock_record(struct vmctl *ctl, struct lock *lock, const struct vmfile *vmfile, char *const *sent)
{
	struct call call = { .method = METHOD_vm_list };
	struct json_object *result = NULL;
	struct err err = ERR_INIT;
	bool missing = false, changed = false;
	int rc = 0;

	for (size_t i = 0; i < vmfile->vms.count * LOCK_IMAGES; i++) {
		CLEANUP_FREE char *key =
		    lock_key(lock_image(vmfile_vm(vmfile, i / LOCK_IMAGES), i % LOCK_IMAGES));

		missing = missing || (key != NULL && vmlock_find(&lock->entries, key) == NULL);
	}
	if (missing)
		rc = call_run(ctl, &call, &result, &err);
	if (missing && rc == 0)
		rc = lock_reload(lock, &err);
	for (size_t i = 0; rc == 0 && missing && i < vmfile->vms.count * LOCK_IMAGES; i++) {
		const struct vm_spec *spec = vmfile_vm(vmfile, i / LOCK_IMAGES);
		CLEANUP_FREE char *key = lock_key(lock_image(spec, i % LOCK_IMAGES));
		struct json_object *row =
		    find_row(json_member(result, "vms"), spec->name, vmfile->path);

		if (key != NULL && sent[i] != NULL && vmlock_find(&lock->entries, key) == NULL)
			changed = record_one(lock, key, sent[i],
				      json_member(row, lock_image_keys[i % LOCK_IMAGES])) ||
				  changed;
	}
	if (rc == 0 && changed)
		rc = vmlock_save(&lock->entries, lock->path, &err);
	if (rc != 0)
		out_note(ctl, "vmctl: warning: what the images mean is not kept in '%s': %s",
		    lock->path, err.msg);
	json_object_put(result);
}
