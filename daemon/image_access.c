/* SPDX-License-Identifier: MPL-2.0 */
#include "daemon/image_access.h"

#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/vm.h"
#include "daemon/vmmd.h"
#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/names.h"
#include "lib/image/reference.h"

static bool
is_administrator(uid_t uid)
{
	return uid == 0 || uid == geteuid();
}

/* ---- machines ---- */

struct users {
	const char *digest;
	uid_t uid;
	json_object *names; /* of the machines that uid may see */
	const char *first;  /* one of those, or NULL */
	size_t count;
};

static void
add_user(void *arg, struct vm *vm)
{
	struct users *u = arg;

	if (!str_eq(vm->image_digest, u->digest) && !str_eq(vm->spec.cdrom.digest, u->digest))
		return;
	u->count++;
	if (!is_administrator(u->uid) && vm->owner != u->uid)
		return;
	if (u->first == NULL)
		u->first = vm->spec.name;
	if (u->names != NULL)
		json_object_array_add(u->names, json_object_new_string(vm->spec.name));
}

/* ---- names ---- */

struct pointers {
	uid_t uid;
	bool foreign, given;
	json_object *names;
};

static bool
for_all(const struct image_name *name)
{
	return is_administrator(name->uid) && (name->auth_key == NULL || str_eq(name->auth_key, "anonymous"));
}

static void
add_pointer(void *arg, const struct image_name *name)
{
	struct pointers *p = arg;
	bool own = name->uid == p->uid;

	p->foreign = p->foreign || (!own && !is_administrator(p->uid));
	p->given = p->given || !name->fetched;
	if (p->names != NULL && (own || for_all(name) || is_administrator(p->uid)) &&
	    !names_is_claim(name))
		json_object_array_add(p->names, json_object_new_string(name->name));
}

bool
image_has_given_name(struct vmmd *vmmd, const struct image *image)
{
	struct pointers p = { 0 };

	names_each(vmmd->images, image->digest, add_pointer, &p);
	return p.given;
}

bool
image_visible(struct vmmd *vmmd, const struct image *image, uid_t uid)
{
	struct users u = { .digest = image->digest, .uid = uid };

	if (names_show(vmmd->images, uid, image->digest))
		return true;
	vm_each(vmmd, add_user, &u);
	return u.first != NULL;
}

int
image_lookup(struct vmmd *vmmd, uid_t uid, const char *ref, const struct image **ret_image,
    struct err *err)
{
	int rc = image_get_for(vmmd->images, uid, ref, ret_image, err);

	if (*ret_image == NULL || image_digest_valid(ref) || image_visible(vmmd, *ret_image, uid))
		return rc;
	*ret_image = NULL;
	err_set(err, E_NOT_FOUND, "there is no image '%s'", ref);
	err_hint(err, "'vmctl image list' shows those you may use");
	err_object(err, ref);
	return E_NOT_FOUND;
}

int
image_check_unused(struct vmmd *vmmd, const struct image *image, uid_t uid, struct err *err)
{
	struct users u = { .digest = image->digest, .uid = uid };
	struct pointers p = { .uid = uid };

	vm_each(vmmd, add_user, &u);
	if (u.count > 0) {
		err_set(err, E_STATE, "image '%s' is in use by %s%s%s", image->name,
		    u.first != NULL ? "machine '" : "a machine of another user",
		    u.first != NULL ? u.first : "", u.first != NULL ? "'" : "");
		err_hint(err, "destroy the machines that stand on it first");
		err_object(err, image->name);
		return E_STATE;
	}
	names_each(vmmd->images, image->digest, add_pointer, &p);
	if (p.foreign) {
		err_set(err, E_PERMISSION, "image '%s' is used by others, too", image->name);
		err_hint(err, "the administrator can remove it");
		err_object(err, image->name);
		return E_PERMISSION;
	}
	return 0;
}

/* ---- rows ---- */

uint64_t
image_disk_bytes(const struct image *image)
{
	struct stat st;

	return stat(image->path, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0;
}

json_object *
image_row(struct vmmd *vmmd, const struct image *image, uid_t uid)
{
	json_object *row = json_object_new_object();
	CLEANUP_FREE char *created = clock_rfc3339(image->created_ms);
	struct pointers p = { .uid = uid, .names = json_object_new_array() };
	struct users u = { image->digest, uid, json_object_new_array(), NULL, 0 };

	names_each(vmmd->images, image->digest, add_pointer, &p);
	vm_each(vmmd, add_user, &u);
	json_add_string(row, "name", image->name);
	json_object_object_add(row, "names", p.names);
	json_add_string(row, "digest", image->digest);
	json_add_string(row, "format", image->format);
	json_add_int(row, "virtual_bytes", (int64_t)image->virtual_bytes);
	json_add_int(row, "file_bytes", (int64_t)image->file_bytes);
	json_add_int(row, "disk_bytes", (int64_t)image_disk_bytes(image));
	json_add_string(row, "path", image->path);
	json_add_string(row, "source", image->source);
	json_add_string(row, "created", created);
	json_object_object_add(row, "used_by", u.names);
	json_add_int(row, "users", (int64_t)u.count);
	return row;
}
