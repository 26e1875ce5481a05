/* SPDX-License-Identifier: MPL-2.0
 *
 * Images into the store: pull, import, and the catalogue of names to pull. */
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "client/call.h"
#include "client/image.h"
#include "client/json.h"
#include "client/out.h"
#include "client/verbs.h"
#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"

struct get_args {
	char *image, *name;
	struct image_flags flags;
	int policy; /* enum pull_policy */
};

/* clang-format off */
static const struct field pull_fields[] = {
	FIELD(struct get_args, image, FIELD_STRING, .required = true, .min = 1, .text = "https://…, oci://…, or a name of the catalogue"),
	FIELD(struct get_args, name,  FIELD_STRING, .min = 1, .text = "a name to give it"),
	FIELD(struct get_args, policy, FIELD_ENUM, .words = pull_policy_names, .fallback = "revalidate", .text = "what to do when it is known"),
	IMAGE_FLAG_ROWS(struct get_args),
	FIELD_END
};
static const struct field import_fields[] = {
	FIELD(struct get_args, image, FIELD_STRING, .required = true, .min = 1, .text = "a disk image, qcow2 or raw; it may be packed"),
	FIELD(struct get_args, name,  FIELD_STRING, .min = 1, .text = "a name to give it"),
	FIELD_NAMED("sha256", struct get_args, flags.sha256, FIELD_STRING, .min = 64, .max = 64, .text = "SHA-256 of the file"),
	FIELD_NAMED("sha512", struct get_args, flags.sha512, FIELD_STRING, .min = 128, .max = 128, .text = "SHA-512 of the file, or of the image in it"),
	FIELD_NAMED("format", struct get_args, flags.format, FIELD_STRING, .min = 1, .text = "qcow2 or raw; default: as its header says"),
	FIELD_END
};
/* clang-format on */

/* ---- pull, import ---- */

static void
print_got(const struct vmctl *ctl, struct json_object *result)
{
	struct json_object *image = json_member(result, "image");
	CLEANUP_FREE char *size = str_size((uint64_t)json_int(image, "virtual_bytes"));
	CLEANUP_FREE char *moved = str_size((uint64_t)json_int(result, "transferred_bytes"));
	const char *source = json_string(result, "source");
	const char *name = json_string(image, "name");
	bool known = json_flag(result, "known");

	/* Its note was told on the way. */
	out_line(ctl, "'%s' is %s (%s, %s%s%s%s)", name != NULL ? name : "image",
	    json_shown(image, "digest"), json_shown(image, "format"), size,
	    known ? ", was there" : "",
	    json_int(result, "transferred_bytes") > 0 ? ", fetched " : "",
	    json_int(result, "transferred_bytes") > 0 ? moved : "");
	if (source != NULL)
		out_line(ctl, "  from %s", source);
}

static int
finish(struct vmctl *ctl, struct call *call, struct sent_files *files, struct err *err)
{
	struct json_object *result = NULL;
	int rc;

	call->fds = files->fds;
	call->fd_count = files->fd_count;
	rc = call_run(ctl, call, &result, err);
	if (rc == 0) {
		out_json(ctl, result);
		print_got(ctl, result);
	}
	json_object_put(result);
	return rc;
}

static int
run_image_pull(struct vmctl *ctl, void *args, struct err *err)
{
	const struct get_args *a = args;
	struct call call = { .method = METHOD_image_pull, .progress = true };
	struct sent_files files = { 0 };
	struct images images = { 0 };
	json_object *image = NULL;
	int rc;

	if (image_word_is_path(a->image)) {
		err_set(err, E_USAGE, "'%s' is a file", a->image);
		err_hint(err, "'vmctl image import' takes files");
		return E_USAGE;
	}
	rc = images_word(&images, &files, a->image, &a->flags, &image, err);
	if (rc == 0) {
		call.params = json_object_new_object();
		json_object_object_add(call.params, "image", image);
		json_add_string(call.params, "name", a->name);
		json_add_string(call.params, "policy", pull_policy_names[a->policy]);
		rc = images_auth(ctl, &images, call.params, err);
		if (rc == 0)
			rc = finish(ctl, &call, &files, err);
		else
			json_object_put(call.params);
	}
	images_done(&images);
	return rc;
}

const struct verb verb_image_pull = {
	.name = "image pull",
	.details =
	    "What is known already is asked about again, and has to do when nobody answers; that "
	    "is told.\nWith 'missing' nobody is asked, with 'refresh' no answer is a failure.",
	.fields = pull_fields,
	.args_size = sizeof(struct get_args),
	.positionals = (const struct positional[]){ { "image", "REFERENCE", false, false }, { 0 } },
	.method = METHOD_image_pull,
	.run = run_image_pull,
};

static int
run_image_import(struct vmctl *ctl, void *args, struct err *err)
{
	const struct get_args *a = args;
	CLEANUP_FREE char *path = fs_expand(a->image, NULL);
	struct call call = { .method = METHOD_image_import, .progress = true };
	struct sent_files files = { 0 };
	json_object *image = NULL;
	int rc = files_attach(&files, path, &image, err);

	if (rc != 0)
		return err->code = E_USAGE;
	json_add_string(image, "sha256", a->flags.sha256);
	json_add_string(image, "sha512", a->flags.sha512);
	json_add_string(image, "format", a->flags.format);
	call.params = json_object_new_object();
	json_object_object_add(call.params, "image", image);
	json_add_string(call.params, "name", a->name);
	rc = finish(ctl, &call, &files, err);
	files_done(&files);
	return rc;
}

const struct verb verb_image_import = {
	.name = "image import",
	.fields = import_fields,
	.args_size = sizeof(struct get_args),
	.positionals = (const struct positional[]){ { "image", "FILE", false, false }, { 0 } },
	.method = METHOD_image_import,
	.run = run_image_import,
};

/* ---- catalogue ---- */

/* An entry of the user's own as a row of the method's result. */
static json_object *
entry_row(const struct catalogue_entry *entry)
{
	json_object *row = json_object_new_object(), *aliases = json_object_new_array();

	for (size_t i = 0; i < entry->aliases.count; i++)
		json_object_array_add(aliases, json_object_new_string(entry->aliases.items[i]));
	json_add_string(row, "name", entry->name);
	json_add_string(row, "version", entry->version);
	json_object_object_add(row, "aliases", aliases);
	json_add_string(row, "architecture", entry->architecture);
	json_add_string(row, "url", entry->url);
	json_add_string(row, "checksums", entry->checksums);
	json_add_string(row, "sha256", entry->sha256);
	json_add_string(row, "sha512", entry->sha512);
	json_add_string(row, "format", entry->format);
	json_add_string(row, "user", entry->user);
	json_add_string(row, "firmware", entry->firmware);
	json_add_string(row, "file", entry->file);
	return row;
}

static bool
same_entry(struct json_object *row, const struct catalogue_entry *entry)
{
	return str_eq(json_string(row, "name"), entry->name) &&
	       str_eq(json_string(row, "version"), entry->version) &&
	       str_eq(json_string(row, "architecture"), entry->architecture);
}

/* The user's own entries hide the daemon's of the same name, as they do where names are used. */
static void
add_own(struct json_object *rows, const struct catalogue *own)
{
	for (size_t i = 0; rows != NULL && i < own->count; i++) {
		size_t at = 0;

		while (at < json_length(rows) && !same_entry(json_item(rows, at), &own->items[i]))
			at++;
		json_object_array_put_idx(rows, at, entry_row(&own->items[i]));
	}
}

static void
print_catalogue(struct json_object *rows)
{
	static const struct table_column columns[] = { { "NAME", false }, { "ARCHITECTURE", false },
		{ "ALSO", false }, { "USER", false }, { "FIRMWARE", false }, { "URL", false } };
	struct table table = { .columns = columns, .column_count = ARRAY_LEN(columns) };
	CLEANUP_FREE char *text = NULL;

	for (size_t i = 0; i < json_length(rows); i++) {
		struct json_object *row = json_item(rows, i),
				   *aliases = json_member(row, "aliases");
		struct sbuf also = { 0 };

		for (size_t k = 0; k < json_length(aliases); k++)
			sbuf_addf(&also, "%s%s", k > 0 ? ", " : "",
			    json_object_get_string(json_item(aliases, k)));
		table_addf(&table, "%s:%s", json_shown(row, "name"), json_shown(row, "version"));
		table_add(&table, json_string(row, "architecture"));
		table_add(&table, also.data);
		table_add(&table, json_string(row, "user"));
		table_add(&table, json_string(row, "firmware"));
		table_add(&table, json_string(row, "url"));
		sbuf_done(&also);
	}
	text = table_text(&table);
	fputs(text, stdout);
	table_done(&table);
}

static int
run_image_catalogue(struct vmctl *ctl, void *args, struct err *err)
{
	struct images images = { 0 };
	struct json_object *result = NULL, *rows;
	const struct catalogue *own;
	int rc = images_catalogue(&images, &own, err);

	if (rc == 0)
		rc = call_verb(ctl, args, false, &result, err);
	if (rc == 0) {
		rows = json_member(result, "entries");
		add_own(rows, own);
		out_json(ctl, result);
		if (!ctl->global.json)
			print_catalogue(rows);
	}
	json_object_put(result);
	images_done(&images);
	return rc;
}

const struct verb verb_image_catalogue = {
	.name = "image catalogue",
	.summary = "List the names that images are known for: the daemon's and your own",
	.details = "Your own stand in ~/.config/vmm/catalogue.yaml and in files of catalogue.d "
		   "beside it.",
	.fields = image_catalogue_params,
	.args_size = sizeof(struct image_catalogue_args),
	.method = METHOD_image_catalogue,
	.run = run_image_catalogue,
};
