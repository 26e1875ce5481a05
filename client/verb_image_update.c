/* SPDX-License-Identifier: MPL-2.0 */
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "client/call.h"
#include "client/image.h"
#include "client/json.h"
#include "client/lock.h"
#include "client/out.h"
#include "client/project.h"
#include "client/verbs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/vmfile/vmfile.h"

/* Asks anew what a VMFile's images mean, and writes that into its lock. */

enum { SHORT_DIGEST = 19 };

struct update_args {
	char *file;
	struct strings names;
};

/* clang-format off */
static const struct field update_fields[] = {
	FIELD_NAMED("name", struct update_args, names, FIELD_STRINGS, .text = "only the images of these machines"),
	FIELD(struct update_args, file, FIELD_STRING, .min = 1, .text = "the VMFile; default: VMFile.yaml here or in a folder above"),
	FIELD_END
};
/* clang-format on */

struct update {
	struct vmctl *ctl;
	struct lock lock;
	json_object *images, *removed; /* rows of the answer */
};

static int
pull(struct update *u, const struct image_spec *spec, struct json_object **ret_result,
    struct err *err)
{
	struct call call = {
		.method = METHOD_image_pull, .params = json_object_new_object(), .progress = true
	};
	json_object *image = fields_encode(vm_image_fields, spec);
	struct images images = { 0 };
	int rc;

	json_object_object_add(call.params, "image", image);
	json_add_string(call.params, "policy", pull_policy_names[PULL_REFRESH]);
	rc = images_resolve(&images, image, err);
	if (rc == 0)
		rc = images_auth(u->ctl, &images, call.params, err);
	images_done(&images);
	if (rc != 0) {
		json_object_put(call.params);
		return rc;
	}
	return call_run(u->ctl, &call, ret_result, err);
}

static void
tell(struct update *u, const char *key, const char *from, const char *to, const char *source)
{
	json_object *row = json_object_new_object();

	json_add_string(row, "image", key);
	json_add_string(row, "from", from);
	json_add_string(row, "to", to);
	json_add_string(row, "source", source);
	json_add_bool(row, "changed", !str_eq(from, to));
	json_object_array_add(u->images, row);
	if (from == NULL)
		out_line(u->ctl, "%s: is %.*s now", key, SHORT_DIGEST, to);
	else if (str_eq(from, to))
		out_line(u->ctl, "%s: unchanged (%.*s)", key, SHORT_DIGEST, to);
	else
		out_line(u->ctl, "%s: %.*s -> %.*s", key, SHORT_DIGEST, from, SHORT_DIGEST, to);
}

static int
update_one(struct update *u, const struct image_spec *spec, const char *key, struct err *err)
{
	const struct vmlock_entry *entry = vmlock_find(&u->lock.entries, key);
	CLEANUP_FREE char *before = entry != NULL ? xstrdup(entry->digest) : NULL;
	struct json_object *result = NULL;
	const char *digest, *source;
	int rc = pull(u, spec, &result, err);

	if (rc != 0) {
		err_wrap(err, "%s", key);
		return rc;
	}
	digest = json_string(json_member(result, "image"), "digest");
	source = json_string(result, "source");
	if (digest == NULL) {
		rc = err_set(err, E_FAILED, "%s: vmmd does not tell what it is", key);
	} else if (!lock_can_pin(key, source)) {
		out_note(u->ctl,
		    "vmctl: note: '%s' is a name of this host's store alone; it is not pinned",
		    key);
	} else {
		tell(u, key, before, digest, source);
	}
	json_object_put(result);
	return rc;
}

static bool
is_told(const struct update *u, const char *key)
{
	for (size_t i = 0; i < json_length(u->images); i++)
		if (str_eq(json_string(json_item(u->images, i), "image"), key))
			return true;
	return false;
}

static int
update_all(
    struct update *u, const struct vmfile *vmfile, const struct strings *names, struct err *err)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < vmfile->vms.count * LOCK_IMAGES; i++) {
		const struct vm_spec *spec = vmfile_vm(vmfile, i / LOCK_IMAGES);
		const struct image_spec *image = lock_image(spec, i % LOCK_IMAGES);
		CLEANUP_FREE char *key = lock_key(image);

		if (key != NULL && project_is_asked(names, spec->name) && !is_told(u, key))
			rc = update_one(u, image, key, err);
	}
	return rc;
}

/* Entries that the VMFile has no use for any more. */
static void
remove_stale(struct update *u, const struct vmfile *vmfile)
{
	for (size_t e = u->lock.entries.count; e-- > 0;) {
		CLEANUP_FREE char *image = xstrdup(u->lock.entries.items[e].image);
		bool used = false;

		for (size_t i = 0; !used && i < vmfile->vms.count * LOCK_IMAGES; i++) {
			CLEANUP_FREE char *key = lock_key(
			    lock_image(vmfile_vm(vmfile, i / LOCK_IMAGES), i % LOCK_IMAGES));

			used = str_eq(key, image);
		}
		if (used)
			continue;
		vmlock_remove(&u->lock.entries, image);
		json_object_array_add(u->removed, json_object_new_string(image));
		out_line(u->ctl, "%s: no longer in the VMFile", image);
	}
}

static int
save(struct update *u, const struct vmfile *vmfile, struct err *err)
{
	int rc = lock_reload(&u->lock, err);

	if (rc != 0)
		return rc;
	for (size_t i = 0; i < json_length(u->images); i++) {
		struct json_object *row = json_item(u->images, i);

		vmlock_set(&u->lock.entries, json_string(row, "image"), json_string(row, "to"),
		    json_string(row, "source"));
	}
	remove_stale(u, vmfile);
	return vmlock_save(&u->lock.entries, u->lock.path, err);
}

static void
print_answer(struct update *u)
{
	json_object *answer = json_object_new_object();

	json_add_string(answer, "lock", u->lock.path);
	json_object_object_add(answer, "images", json_object_get(u->images));
	json_object_object_add(answer, "removed", json_object_get(u->removed));
	out_json(u->ctl, answer);
	if (json_length(u->images) == 0 && json_length(u->removed) == 0)
		out_line(u->ctl, "no image of the VMFile can move");
	json_object_put(answer);
}

/* What was found before a failure is kept: the lock is right for it. */
static int
run_image_update(struct vmctl *ctl, void *args, struct err *err)
{
	const struct update_args *a = args;
	struct update u = { .ctl = ctl };
	struct vmfile *vmfile = NULL;
	struct err saving = ERR_INIT;
	int rc = project_load(ctl, a->file, BACKEND_DEFAULT, &a->names, &vmfile, err), saved;

	if (rc != 0)
		return rc;
	rc = lock_load(vmfile, &u.lock, err);
	if (rc == 0) {
		u.images = json_object_new_array();
		u.removed = json_object_new_array();
		rc = update_all(&u, vmfile, &a->names, err);
		saved = save(&u, vmfile, &saving);
		if (rc == 0 && saved != 0) {
			*err = saving;
			rc = saved;
		}
		if (rc == 0)
			print_answer(&u);
		json_object_put(u.images);
		json_object_put(u.removed);
	}
	lock_done(&u.lock);
	vmfile_destroy(vmfile);
	return rc;
}

const struct verb verb_image_update = {
	.name = "image update",
	.summary = "Ask anew what the images of a VMFile mean, and move its lock",
	.details =
	    "'up' follows the lock.  Machines that are there are not touched: 'plan' tells what "
	    "differs,\nand 'reload' makes them anew.",
	.fields = update_fields,
	.args_size = sizeof(struct update_args),
	.positionals = (const struct positional[]){ { "name", "NAME", true, true }, { 0 } },
	.run = run_image_update,
};
