/* SPDX-License-Identifier: MPL-2.0
 *
 * The images that are there: list, inspect, tag, rm, prune, verify. */
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "client/call.h"
#include "client/json.h"
#include "client/out.h"
#include "client/verbs.h"
#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"

enum { SHORT_DIGEST = 19, SOURCE_WIDTH = 48 }; /* "sha256:" and twelve digits */

/* ---- showing ---- */

/* Owned; NULL: not known. */
static char *
age_shown(const char *time)
{
	struct tm tm = { 0 };
	time_t then;

	if (time == NULL || strptime(time, "%Y-%m-%dT%H:%M:%S", &tm) == NULL)
		return NULL;
	then = (time_t)clock_from_utc(&tm);
	if (then > clock_wall_ms() / 1000)
		return xstrdup("0s");
	return text_age((uint64_t)(clock_wall_ms() / 1000 - then));
}

static const char *
name_of(struct json_object *image)
{
	const char *name = json_string(image, "name");

	return name != NULL ? name : "image";
}

/* Owned: the words, with something between; NULL: there are none. */
static char *
joined(struct json_object *words, const char *between)
{
	struct sbuf text = { 0 };

	for (size_t i = 0; i < json_length(words); i++)
		sbuf_addf(&text, "%s%s", i > 0 ? between : "",
		    json_object_get_string(json_item(words, i)));
	return text.len > 0 ? sbuf_take(&text) : NULL;
}

/* Owned.  A long source is told by its end, which is what tells one from another. */
static char *
source_shown(const char *source)
{
	size_t width = source != NULL ? text_width(source) : 0;
	CLEANUP_FREE char *start = NULL;

	if (width <= SOURCE_WIDTH)
		return xstrdup(source);
	start = text_cut(source, width - SOURCE_WIDTH + 1);
	return xasprintf("…%s", source + strlen(start));
}

static void
add_size(struct table *table, struct json_object *image, const char *key)
{
	CLEANUP_FREE char *size = str_size((uint64_t)json_int(image, key));

	table_add(table, size);
}

static void
add_users(struct table *table, struct json_object *image)
{
	struct json_object *names = json_member(image, "used_by");
	CLEANUP_FREE char *list = joined(names, ", ");
	int64_t others = json_int(image, "users") - (int64_t)json_length(names);

	if (others > 0)
		table_addf(table, "%s%s%lld of others", list != NULL ? list : "",
		    list != NULL ? ", " : "", (long long)others);
	else
		table_add(table, list);
}

static void
print_images(struct json_object *images)
{
	static const struct table_column columns[] = { { "NAME", false }, { "DIGEST", false },
		{ "FORMAT", false }, { "VIRTUAL", true }, { "SIZE", true }, { "AGE", true },
		{ "USED BY", false }, { "SOURCE", false } };
	struct table table = { .columns = columns, .column_count = ARRAY_LEN(columns) };
	CLEANUP_FREE char *text = NULL;

	if (json_length(images) == 0) {
		puts("no images");
		return;
	}
	for (size_t i = 0; i < json_length(images); i++) {
		struct json_object *image = json_item(images, i);
		struct json_object *given = json_member(image, "names");
		const char *name = json_length(given) > 0
				       ? json_object_get_string(json_item(given, 0))
				       : json_string(image, "name");
		const char *digest = json_string(image, "digest");
		CLEANUP_FREE char *age = age_shown(json_string(image, "created"));
		CLEANUP_FREE char *shown = source_shown(name);
		CLEANUP_FREE char *source = source_shown(json_string(image, "source"));

		table_add(&table, shown);
		table_addf(&table, "%.*s", SHORT_DIGEST, digest != NULL ? digest : "");
		table_add(&table, json_string(image, "format"));
		add_size(&table, image, "virtual_bytes");
		add_size(
		    &table, image, json_has(image, "disk_bytes") ? "disk_bytes" : "file_bytes");
		table_add(&table, age);
		add_users(&table, image);
		table_add(&table, source);
	}
	text = table_text(&table);
	fputs(text, stdout);
	table_done(&table);
}

static int
run_image_list(struct vmctl *ctl, void *args, struct err *err)
{
	struct json_object *result = NULL;
	int rc = call_verb(ctl, args, false, &result, err);

	if (rc == 0 && ctl->global.json)
		out_json(ctl, result);
	else if (rc == 0)
		print_images(json_member(result, "images"));
	json_object_put(result);
	return rc;
}

const struct verb verb_image_list = {
	.name = "image list",
	.fields = image_list_params,
	.args_size = sizeof(struct image_list_args),
	.method = METHOD_image_list,
	.run = run_image_list,
};

/* ---- inspect ---- */

static void
line(const struct vmctl *ctl, const char *label, const char *value)
{
	if (value != NULL && value[0] != '\0')
		out_line(ctl, "%-12s %s", label, value);
}

static void
size_line(const struct vmctl *ctl, const char *label, struct json_object *image, const char *key)
{
	CLEANUP_FREE char *size = str_size((uint64_t)json_int(image, key));

	if (json_has(image, key))
		line(ctl, label, size);
}

static void
print_reference(const struct vmctl *ctl, struct json_object *reference)
{
	const char *checked = json_string(reference, "checked"),
		   *source = json_string(reference, "source");

	out_line(ctl, "%-12s %s", "Reference:", name_of(reference));
	if (source != NULL)
		out_line(ctl, "  %-10s %s", "source", source);
	if (checked != NULL)
		out_line(ctl, "  %-10s %s", "checked", checked);
}

static int
run_image_inspect(struct vmctl *ctl, void *args, struct err *err)
{
	struct json_object *image = NULL, *references;
	int rc = call_verb(ctl, args, false, &image, err);
	CLEANUP_FREE char *names = joined(json_member(image, "names"), ", "),
			  *users = joined(json_member(image, "used_by"), ", ");

	if (rc != 0)
		return rc;
	out_json(ctl, image);
	line(ctl, "Name:", json_string(image, "name"));
	line(ctl, "Names:", names);
	line(ctl, "Digest:", json_string(image, "digest"));
	line(ctl, "Format:", json_string(image, "format"));
	size_line(ctl, "Virtual:", image, "virtual_bytes");
	size_line(ctl, "Size:", image, "file_bytes");
	size_line(ctl, "On disk:", image, "disk_bytes");
	line(ctl, "Path:", json_string(image, "path"));
	line(ctl, "Source:", json_string(image, "source"));
	line(ctl, "Created:", json_string(image, "created"));
	line(ctl, "Used by:", users);
	references = json_member(image, "references");
	for (size_t i = 0; i < json_length(references); i++)
		print_reference(ctl, json_item(references, i));
	json_object_put(image);
	return 0;
}

static const struct positional image_positional[] = { { "image", "IMAGE", false, false }, { 0 } };

const struct verb verb_image_inspect = {
	.name = "image inspect",
	.fields = image_inspect_params,
	.args_size = sizeof(struct image_inspect_args),
	.positionals = image_positional,
	.method = METHOD_image_inspect,
	.run = run_image_inspect,
};

/* ---- tag, rm ---- */

static int
run_image_tag(struct vmctl *ctl, void *args, struct err *err)
{
	const struct image_tag_args *a = args;
	struct json_object *result = NULL;
	int rc = call_verb(ctl, args, false, &result, err);

	if (rc == 0) {
		out_json(ctl, result);
		out_line(ctl, "'%s' is %s", a->name, json_shown(result, "digest"));
	}
	json_object_put(result);
	return rc;
}

const struct verb verb_image_tag = {
	.name = "image tag",
	.fields = image_tag_params,
	.args_size = sizeof(struct image_tag_args),
	.positionals = (const struct positional[]){ { "image", "IMAGE", false, false },
	    { "name", "NAME", false, false }, { 0 } },
	.method = METHOD_image_tag,
	.run = run_image_tag,
};

struct rm_args {
	struct strings images;
};

/* clang-format off */
static const struct field rm_fields[] = {
	FIELD(struct rm_args, images, FIELD_STRINGS, .required = true, .text = "digest (or its beginning) or name of an image"),
	FIELD_END
};
/* clang-format on */

static int
remove_one(struct vmctl *ctl, const char *name, struct err *err)
{
	struct call call = { .method = METHOD_image_rm, .params = json_object_new_object() };
	struct json_object *result = NULL;
	int rc;

	json_add_string(call.params, "image", name);
	rc = call_run(ctl, &call, &result, err);
	if (rc == 0) {
		out_json(ctl, result);
		out_line(ctl,
		    json_flag(result, "untagged")
			? "removed the name '%s'; its image stays, others point at it"
			: "removed '%s'",
		    name);
	}
	json_object_put(result);
	return rc;
}

/* All that can be: the first failure decides the exit status, and all are told. */
static int
run_image_rm(struct vmctl *ctl, void *args, struct err *err)
{
	const struct rm_args *a = args;
	size_t failed = 0;

	for (size_t i = 0; i < a->images.count; i++) {
		struct err one = ERR_INIT;

		if (remove_one(ctl, a->images.items[i], &one) == 0)
			continue;
		if (failed++ == 0)
			*err = one;
		else
			out_error(&one);
		if (one.code == E_NO_DAEMON || one.code == E_CANCELLED)
			break;
	}
	return failed > 0 ? (int)err->code : 0;
}

const struct verb verb_image_rm = {
	.name = "image rm",
	.fields = rm_fields,
	.args_size = sizeof(struct rm_args),
	.positionals = (const struct positional[]){ { "images", "IMAGE", false, true }, { 0 } },
	.method = METHOD_image_rm,
	.run = run_image_rm,
};

/* ---- prune ---- */

static int
run_image_prune(struct vmctl *ctl, void *args, struct err *err)
{
	const struct image_prune_args *a = args;
	struct json_object *result = NULL, *images;
	CLEANUP_FREE char *freed = NULL;
	long long parts;
	int rc = call_verb(ctl, args, false, &result, err);

	if (rc != 0)
		return rc;
	out_json(ctl, result);
	images = json_member(result, "images");
	parts = (long long)json_int(result, "parts");
	freed = str_size((uint64_t)json_int(result, "bytes"));
	for (size_t i = 0; i < json_length(images); i++) {
		struct json_object *image = json_item(images, i);

		out_line(ctl, "%s '%s' (%s)", a->dry_run ? "would remove" : "removed",
		    name_of(image), json_shown(image, "digest"));
	}
	if (parts > 0)
		out_line(ctl, "%s %lld transfer%s that had broken off",
		    a->dry_run ? "would remove" : "removed", parts, parts == 1 ? "" : "s");
	out_line(ctl, "%s %s", a->dry_run ? "would free" : "freed", freed);
	json_object_put(result);
	return 0;
}

const struct verb verb_image_prune = {
	.name = "image prune",
	.fields = image_prune_params,
	.args_size = sizeof(struct image_prune_args),
	.method = METHOD_image_prune,
	.run = run_image_prune,
};

/* ---- verify ---- */

static int
run_image_verify(struct vmctl *ctl, void *args, struct err *err)
{
	struct json_object *result = NULL, *images;
	int rc = call_verb(ctl, args, true, &result, err);

	if (rc != 0)
		return rc;
	out_json(ctl, result);
	images = json_member(result, "images");
	if (json_length(images) == 0)
		out_line(ctl, "no images");
	for (size_t i = 0; i < json_length(images); i++) {
		struct json_object *image = json_item(images, i);
		const char *message = json_string(image, "message");

		out_line(ctl, "%s (%s): %s", name_of(image), json_shown(image, "digest"),
		    json_flag(image, "ok") ? "ok"
		    : message != NULL      ? message
					   : "bad");
	}
	json_object_put(result);
	return 0;
}

const struct verb verb_image_verify = {
	.name = "image verify",
	.fields = image_verify_params,
	.args_size = sizeof(struct image_verify_args),
	.positionals = (const struct positional[]){ { "image", "IMAGE", true, false }, { 0 } },
	.method = METHOD_image_verify,
	.run = run_image_verify,
};
