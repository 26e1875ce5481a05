/* SPDX-License-Identifier: MPL-2.0 */
#include <json-c/json.h>
#include <stdio.h>

#include "client/call.h"
#include "client/json.h"
#include "client/out.h"
#include "client/verbs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"

static void
print_images(struct json_object *images)
{
	static const struct table_column columns[] = {
		{ "NAME", false },
		{ "SIZE", true },
		{ "USED BY", true },
		{ "DIGEST", false },
	};
	struct table table = { .columns = columns, .column_count = ARRAY_LEN(columns) };
	CLEANUP_FREE char *text = NULL;

	if (json_length(images) == 0) {
		puts("no images");
		return;
	}
	for (size_t i = 0; i < json_length(images); i++) {
		struct json_object *image = json_item(images, i);
		CLEANUP_FREE char *size = str_size((uint64_t)json_int(image, "file_bytes"));

		table_add(&table, json_string(image, "name"));
		table_add(&table, size);
		table_addf(&table, "%zu", json_length(json_member(image, "used_by")));
		table_add(&table, json_string(image, "digest"));
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

static int
run_image_rm(struct vmctl *ctl, void *args, struct err *err)
{
	const struct image_rm_args *a = args;
	struct json_object *result = NULL;
	int rc = call_verb(ctl, args, false, &result, err);

	if (rc == 0) {
		out_json(ctl, result);
		out_line(ctl, "removed '%s'", a->image);
	}
	json_object_put(result);
	return rc;
}

const struct verb verb_image_rm = {
	.name = "image rm",
	.fields = image_rm_params,
	.args_size = sizeof(struct image_rm_args),
	.positionals = (const struct positional[]){ { "image", "IMAGE", false, false }, { 0 } },
	.method = METHOD_image_rm,
	.run = run_image_rm,
};
