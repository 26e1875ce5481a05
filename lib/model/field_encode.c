/* SPDX-License-Identifier: MPL-2.0
 *
 * The way back: structs described by rows to JSON, their release, and their description. */
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/model/field.h"

static void *
member(const struct field *field, const void *value)
{
	return (char *)value + field->offset;
}

void
strings_add(struct strings *list, const char *text)
{
	list->items = xreallocarray(list->items, list->count + 1, sizeof(*list->items));
	list->items[list->count++] = xstrdup(text);
}

struct strings
strings_copy(const struct strings *list)
{
	struct strings copy = { xcalloc(list->count + 1, sizeof(char *)), list->count };

	for (size_t i = 0; i < list->count; i++)
		copy.items[i] = xstrdup(list->items[i]);
	return copy;
}

void
strings_done(struct strings *list)
{
	for (size_t i = 0; i < list->count; i++)
		free(list->items[i]);
	free(list->items);
	*list = (struct strings){ 0 };
}

void
file_ref_done(struct file_ref *file)
{
	free(file->path);
	free(file->data);
	free(file->name);
	free(file->sha256);
	memset(file, 0, sizeof(*file));
}

const char *
file_ref_shown(const struct file_ref *file)
{
	if (file->name != NULL)
		return file->name;
	return file->path != NULL ? file->path : "(sent file)";
}

static json_object *
encode_file(const struct file_ref *file)
{
	CLEANUP_FREE char *data = NULL;
	json_object *json;

	if (file->kind == FILE_NONE)
		return NULL;
	json = json_object_new_object();
	if (file->kind == FILE_PATH)
		json_object_object_add(json, "path", json_object_new_string(file->path));
	if (file->kind == FILE_FD)
		json_object_object_add(json, "fd", json_object_new_int(file->fd));
	if (file->kind == FILE_DATA) {
		data = str_base64(file->data, file->len);
		json_object_object_add(json, "data", json_object_new_string(data));
	}
	if (file->name != NULL)
		json_object_object_add(json, "name", json_object_new_string(file->name));
	if (file->sha256 != NULL)
		json_object_object_add(json, "sha256", json_object_new_string(file->sha256));
	return json;
}

static json_object *
encode_list(const struct field *field, const void *value)
{
	const struct strings *strings = member(field, value);
	const struct objects *objects = member(field, value);
	json_object *json;

	/* Both start with items and count. */
	if (objects->count == 0)
		return NULL;
	json = json_object_new_array();
	for (size_t i = 0; i < objects->count; i++)
		json_object_array_add(json, field->type == FIELD_STRINGS
			? json_object_new_string(strings->items[i])
			: fields_encode(field->fields, (char *)objects->items + i * field->size));
	return json;
}

static json_object *
encode_env(const struct env *env)
{
	json_object *json;

	if (env->count == 0)
		return NULL;
	json = json_object_new_object();
	for (size_t i = 0; i < env->count; i++)
		json_object_object_add(json, env->items[i].name,
		    json_object_new_string(env->items[i].value));
	return json;
}

static json_object *
encode_text(const char *text)
{
	return text != NULL ? json_object_new_string(text) : NULL;
}

static json_object *
encode_unit(const struct field *field, uint64_t value, const char *unit)
{
	CLEANUP_FREE char *text = xasprintf("%llu%s", (unsigned long long)value, unit);

	/* Absent sizes and durations are zero, and their bounds may refuse a zero; one that was
	 * given in place of a default must stay. */
	return value != 0 || (field->fallback != NULL && field->min == 0)
	    ? json_object_new_string(text) : NULL;
}

static json_object *
encode_value(const struct field *field, const void *value)
{
	void *at = member(field, value);

	switch (field->type) {
	case FIELD_BOOL:
		return json_object_new_boolean(*(bool *)at);
	case FIELD_UINT:
		return *(uint64_t *)at != 0 || field->min == 0
		    ? json_object_new_uint64(*(uint64_t *)at) : NULL;
	case FIELD_STRING:
	case FIELD_NAME:
		return encode_text(*(char **)at);
	case FIELD_SIZE:
		return encode_unit(field, *(uint64_t *)at, "B");
	case FIELD_DURATION:
		return encode_unit(field, *(uint64_t *)at, "ms");
	case FIELD_ENUM:
		return json_object_new_string(field->words[*(int *)at]);
	case FIELD_FILE:
		return encode_file(at);
	case FIELD_STRINGS:
	case FIELD_OBJECTS:
		return encode_list(field, value);
	case FIELD_ENV:
		return encode_env(at);
	case FIELD_OBJECT:
		return *(bool *)at ? fields_encode(field->fields, at) : NULL;
	case FIELD_JSON:
		return json_object_get(*(json_object **)at);
	}
	return NULL;
}

json_object *
fields_encode(const struct field *fields, const void *value)
{
	json_object *json = json_object_new_object();

	for (const struct field *f = fields; f->name != NULL; f++) {
		json_object *item = encode_value(f, value);

		if (f->inlined && item != NULL) {
			json_object_object_foreach(item, key, part)
				if (!str_eq(key, "name") && !str_eq(key, "sha256"))
					json_object_object_add(json, key, json_object_get(part));
			json_object_put(item);
		} else if (item != NULL)
			json_object_object_add(json, f->name, item);
	}
	return json;
}

static void
release_list(const struct field *field, void *value)
{
	struct objects *list = member(field, value);

	for (size_t i = 0; i < list->count; i++) {
		if (field->type == FIELD_STRINGS)
			free(((char **)list->items)[i]);
		else
			fields_release(field->fields, (char *)list->items + i * field->size);
	}
	free(list->items);
	memset(list, 0, sizeof(*list));
}

static void
release_value(const struct field *field, void *value)
{
	void *at = member(field, value);

	switch (field->type) {
	case FIELD_STRING:
	case FIELD_NAME:
		free(*(char **)at);
		*(char **)at = NULL;
		break;
	case FIELD_FILE:
		file_ref_done(at);
		break;
	case FIELD_STRINGS:
	case FIELD_OBJECTS:
		release_list(field, value);
		break;
	case FIELD_ENV: {
		struct env *env = at;

		for (size_t i = 0; i < env->count; i++) {
			free(env->items[i].name);
			free(env->items[i].value);
		}
		free(env->items);
		memset(env, 0, sizeof(*env));
		break;
	}
	case FIELD_OBJECT:
		fields_release(field->fields, at);
		*(bool *)at = false;
		break;
	case FIELD_JSON:
		json_object_put(*(json_object **)at);
		*(json_object **)at = NULL;
		break;
	case FIELD_BOOL:
	case FIELD_UINT:
	case FIELD_SIZE:
	case FIELD_DURATION:
	case FIELD_ENUM:
		break;
	}
}

void
fields_release(const struct field *fields, void *value)
{
	for (const struct field *f = fields; f->name != NULL; f++)
		release_value(f, value);
}

char *
field_describe_type(const struct field *field)
{
	struct sbuf out = { 0 };

	switch (field->type) {
	case FIELD_BOOL:
		return xstrdup("true | false");
	case FIELD_UINT:
		return xstrdup("number");
	case FIELD_STRING:
		return xstrdup("string");
	case FIELD_NAME:
		return xstrdup("name");
	case FIELD_SIZE:
		return xasprintf("size (a bare number: %s)",
		    field->unit == 1ULL << 20 ? "MiB" : field->unit == 1ULL << 30 ? "GiB" : "bytes");
	case FIELD_DURATION:
		return xstrdup("duration (a bare number: seconds)");
	case FIELD_ENUM:
		for (size_t i = 0; field->words[i] != NULL; i++)
			sbuf_addf(&out, "%s%s", i > 0 ? " | " : "", field->words[i]);
		return sbuf_take(&out);
	case FIELD_FILE:
		return xstrdup("file");
	case FIELD_STRINGS:
		return xstrdup("list of strings");
	case FIELD_ENV:
		return xstrdup("mapping of names to strings");
	case FIELD_OBJECT:
		return xstrdup("mapping");
	case FIELD_OBJECTS:
		return xstrdup("list of mappings");
	case FIELD_JSON:
		return xstrdup("any value");
	}
	return xstrdup("");
}
