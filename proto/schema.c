/* SPDX-License-Identifier: MPL-2.0 */
#include "proto/schema.h"

#include <json-c/json.h>
#include <string.h>

#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"

#define NAME_PATTERN "^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
#define VARIABLE_PATTERN "^[A-Za-z_][A-Za-z0-9_]*$"

static json_object *schema_of_fields(const struct field *fields);
static json_object *schema_of_rows(const struct result_row *rows);

json_object *
schema_reference(const char *kind, const char *name)
{
	CLEANUP_FREE char *path = xasprintf("#/components/%s/%s", kind, name);
	json_object *reference = json_object_new_object();

	json_add_string(reference, "$ref", path);
	return reference;
}

static json_object *
typed(const char *type)
{
	json_object *schema = json_object_new_object();

	json_add_string(schema, "type", type);
	return schema;
}

static json_object *
words_of(const char *const *words)
{
	json_object *list = json_object_new_array();

	for (; *words != NULL; words++)
		json_object_array_add(list, json_object_new_string(*words));
	return list;
}

static void
add_bound(json_object *schema, const char *key, uint64_t value)
{
	json_object_object_add(schema, key, json_object_new_uint64(value));
}

static json_object *
list_of(json_object *item)
{
	json_object *schema = typed("array");

	json_object_object_add(schema, "items", item);
	return schema;
}

static json_object *
one_of(json_object *first, json_object *second)
{
	json_object *schema = json_object_new_object(), *list = json_object_new_array();

	json_object_array_add(list, first);
	json_object_array_add(list, second);
	json_object_object_add(schema, "anyOf", list);
	return schema;
}

/* A number of units, or a string that names its own. */
static json_object *
quantity(const struct field *field, uint64_t unit, const char *unit_name, const char *pattern)
{
	json_object *number = typed("number"), *text = typed("string"), *schema;
	double least = (double)field->min / (double)unit, most = (double)field->max / (double)unit;

	json_object_object_add(number, "minimum", json_object_new_double(least));
	if (field->max != 0)
		json_object_object_add(number, "maximum", json_object_new_double(most));
	json_add_string(text, "pattern", pattern);
	schema = one_of(number, text);
	json_add_string(schema, "x-unit", unit_name);
	return schema;
}

static json_object *
size_schema(const struct field *field)
{
	uint64_t unit = field->unit != 0 ? field->unit : 1;

	return quantity(field, unit,
	    unit == SPEC_MIB   ? "MiB"
	    : unit == SPEC_GIB ? "GiB"
			       : "bytes",
	    "^[0-9]+(\\.[0-9]+)? *([KMGT](iB|B)?|B)?$");
}

static json_object *
string_schema(const struct field *field)
{
	json_object *schema = typed("string");

	if (field->type == FIELD_NAME) {
		json_add_string(schema, "pattern", NAME_PATTERN);
		return schema;
	}
	add_bound(schema, "minLength", field->min);
	add_bound(schema, "maxLength", field->max != 0 ? field->max : FIELD_STRING_MAX);
	return schema;
}

static json_object *
env_schema(void)
{
	json_object *schema = typed("object"), *names = json_object_new_object();
	json_object *values = json_object_new_object();
	static const char *const types[] = { "string", "number", "boolean", NULL };

	json_add_string(names, "pattern", VARIABLE_PATTERN);
	json_object_object_add(values, "type", words_of(types));
	json_object_object_add(schema, "propertyNames", names);
	json_object_object_add(schema, "additionalProperties", values);
	add_bound(schema, "maxProperties", FIELD_ENV_MAX);
	return schema;
}

/* An object by its rows; its shorthand is what the row of that name takes. */
static json_object *
object_schema(const struct field *field)
{
	json_object *schema = field->fields == vm_spec_fields
				  ? schema_reference("schemas", "vm_spec")
				  : schema_of_fields(field->fields);

	if (field->shorthand == NULL)
		return schema;
	return one_of(schema, schema_of_field(fields_find(field->fields, field->shorthand)));
}

static json_object *
bare_schema(const struct field *field)
{
	json_object *schema;

	switch (field->type) {
	case FIELD_BOOL:
		return typed("boolean");
	case FIELD_UINT:
		schema = typed("integer");
		add_bound(schema, "minimum", field->min);
		add_bound(schema, "maximum", field->max != 0 ? field->max : UINT64_MAX);
		return schema;
	case FIELD_STRING:
	case FIELD_NAME:
		return string_schema(field);
	case FIELD_SIZE:
		return size_schema(field);
	case FIELD_DURATION:
		return quantity(field, 1000, "s", "^([0-9]+(\\.[0-9]+)? *(ms|s|sec|m|min|h|d)?)+$");
	case FIELD_ENUM:
		schema = typed("string");
		json_object_object_add(schema, "enum", words_of(field->words));
		return schema;
	case FIELD_FILE:
		return schema_reference("schemas", "file_content");
	case FIELD_STRINGS:
	case FIELD_OBJECTS:
		schema =
		    list_of(field->type == FIELD_STRINGS ? typed("string") : object_schema(field));
		add_bound(schema, "minItems", field->min);
		add_bound(schema, "maxItems", field->max != 0 ? field->max : FIELD_ITEMS_MAX);
		return schema;
	case FIELD_ENV:
		return env_schema();
	case FIELD_OBJECT:
		return object_schema(field);
	case FIELD_JSON:
		break;
	}
	return json_object_new_object();
}

static json_object *
fallback_value(const struct field *field)
{
	uint64_t number;

	if (field->type == FIELD_BOOL)
		return json_object_new_boolean(str_eq(field->fallback, "true"));
	if (field->type != FIELD_STRING && str_to_u64(field->fallback, &number))
		return json_object_new_uint64(number);
	return json_object_new_string(field->fallback);
}

json_object *
schema_of_field(const struct field *field)
{
	json_object *schema = bare_schema(field), *wrapper;

	/* Draft 7 reads nothing beside a reference. */
	if (json_object_object_get_ex(schema, "$ref", NULL)) {
		json_object *list = json_object_new_array();

		wrapper = json_object_new_object();
		json_object_array_add(list, schema);
		json_object_object_add(wrapper, "allOf", list);
		schema = wrapper;
	}
	json_add_string(schema, "description", field->text);
	if (field->fallback != NULL)
		json_object_object_add(schema, "default", fallback_value(field));
	if (field->secret)
		json_add_bool(schema, "writeOnly", true);
	return schema;
}

/* The ways to give a file, each a key of its own. */
static void
file_keys(json_object *members)
{
	json_object *fd = typed("integer"), *data = typed("string"), *path = typed("string");

	add_bound(fd, "minimum", 0);
	add_bound(fd, "maximum", 65535);
	json_add_string(fd, "description", "the index of a descriptor that came with the line");
	json_add_string(data, "contentEncoding", "base64");
	add_bound(path, "minLength", 1);
	json_add_string(path, "description", "a path; only from the daemon's own user");
	json_object_object_add(members, "fd", fd);
	json_object_object_add(members, "data", data);
	json_object_object_add(members, "path", path);
}

static json_object *
schema_of_fields(const struct field *fields)
{
	json_object *schema = typed("object"), *members = json_object_new_object();
	json_object *required = json_object_new_array();

	for (; fields->name != NULL; fields++) {
		if (fields->inlined)
			file_keys(members);
		else
			json_object_object_add(members, fields->name, schema_of_field(fields));
		if (fields->required)
			json_object_array_add(required, json_object_new_string(fields->name));
	}
	json_object_object_add(schema, "properties", members);
	json_object_object_add(schema, "required", required);
	json_add_bool(schema, "additionalProperties", false);
	return schema;
}

/* ---- results ---- */

/* The shape that these rows are, if they stand for themselves. */
static const struct result_shape *
shape_of(const struct result_row *rows)
{
	for (size_t i = 0; i < METHODS; i++)
		if (method_results[i].rows == rows && method_results[i].name != NULL)
			return &method_results[i];
	return NULL;
}

static json_object *
refer_or_describe(const struct result_row *rows)
{
	const struct result_shape *shape = shape_of(rows);

	return shape != NULL ? schema_reference("schemas", shape->name) : schema_of_rows(rows);
}

static json_object *
schema_of_row(const struct result_row *row)
{
	switch (row->type) {
	case RESULT_STRING:
	case RESULT_TIME:
		return typed("string");
	case RESULT_INTEGER:
		return typed("integer");
	case RESULT_BOOLEAN:
		return typed("boolean");
	case RESULT_STRINGS:
		return list_of(typed("string"));
	case RESULT_OBJECT:
		return refer_or_describe(row->rows);
	case RESULT_OBJECTS:
		return list_of(refer_or_describe(row->rows));
	case RESULT_ANY:
		break;
	}
	return json_object_new_object();
}

/* A reference stands alone; what else is to be said of it stands around it. */
static json_object *
beside(json_object *reference)
{
	json_object *wrapper = json_object_new_object(), *list = json_object_new_array();

	json_object_array_add(list, reference);
	json_object_object_add(wrapper, "allOf", list);
	return wrapper;
}

static json_object *
schema_of_rows(const struct result_row *rows)
{
	json_object *schema = typed("object"), *members = json_object_new_object();
	json_object *required = json_object_new_array();

	for (; rows->name != NULL; rows++) {
		json_object *member = schema_of_row(rows);

		if (rows->type == RESULT_TIME)
			json_add_string(member, "format", "date-time");
		if (rows->words != NULL)
			json_object_object_add(member, "enum", words_of(rows->words));
		if (rows->null)
			member = one_of(member, typed("null"));
		if (json_object_object_get_ex(member, "$ref", NULL))
			member = beside(member);
		json_add_string(member, "description", rows->text);
		json_object_object_add(members, rows->name, member);
		if (!rows->maybe)
			json_object_array_add(required, json_object_new_string(rows->name));
	}
	json_object_object_add(schema, "properties", members);
	json_object_object_add(schema, "required", required);
	return schema;
}

json_object *
schema_of_result(const struct result_shape *shape)
{
	return shape->rows != NULL ? refer_or_describe(shape->rows) : typed("object");
}

json_object *
schema_of_notification(const struct notification *notification)
{
	return schema_of_rows(notification->rows);
}

/* ---- what is referred to ---- */

static json_object *
file_way(const char *key, json_object *value)
{
	json_object *way = typed("object"), *members = json_object_new_object();
	json_object *required = json_object_new_array();

	json_object_object_add(members, key, value);
	json_object_object_add(members, "name", typed("string"));
	json_object_object_add(members, "sha256", typed("string"));
	json_object_object_add(way, "properties", members);
	json_object_array_add(required, json_object_new_string(key));
	json_object_object_add(way, "required", required);
	json_add_bool(way, "additionalProperties", false);
	return way;
}

static json_object *
file_schema(void)
{
	json_object *schema = json_object_new_object(), *ways = json_object_new_array();
	json_object *keys = json_object_new_object(), *path = NULL;

	file_keys(keys);
	json_object_object_foreach(keys, key, value)
		json_object_array_add(ways, file_way(key, json_object_get(value)));
	if (json_object_object_get_ex(keys, "path", &path))
		json_object_array_add(ways, json_object_get(path));
	json_object_put(keys);
	json_object_object_add(schema, "oneOf", ways);
	json_add_string(schema, "description", "a file's content, in one of several ways");
	return schema;
}

json_object *
schema_components(void)
{
	json_object *schemas = json_object_new_object();

	json_object_object_add(schemas, "file_content", file_schema());
	json_object_object_add(schemas, "vm_spec", schema_of_fields(vm_spec_fields));
	for (size_t i = 0; i < METHODS; i++)
		if (method_results[i].name != NULL &&
		    shape_of(method_results[i].rows) == &method_results[i])
			json_object_object_add(schemas, method_results[i].name,
			    schema_of_rows(method_results[i].rows));
	return schemas;
}
