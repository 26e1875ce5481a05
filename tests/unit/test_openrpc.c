/* SPDX-License-Identifier: MPL-2.0 */
#include <json-c/json.h>
#include <string.h>

#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "proto/jsonrpc.h"
#include "proto/params.h"
#include "proto/results.h"
#include "tests/unit/unit.h"

static json_object *
get(json_object *object, const char *key)
{
	json_object *value = NULL;

	ck_assert_msg(json_object_object_get_ex(object, key, &value), "no member '%s'", key);
	return value;
}

/* "#/components/schemas/vm" */
static json_object *
resolve(json_object *document, const char *reference)
{
	CLEANUP_FREE char *copy = xstrdup(reference);
	char *rest = NULL;

	ck_assert(str_starts(reference, "#/"));
	for (char *part = strtok_r(copy + 2, "/", &rest); part != NULL;
	     part = strtok_r(NULL, "/", &rest))
		document = get(document, part);
	return document;
}

static json_object *
method_named(json_object *document, const char *name)
{
	json_object *list = get(document, "methods");

	for (size_t i = 0; i < json_object_array_length(list); i++) {
		json_object *method = json_object_array_get_idx(list, i);

		if (str_eq(json_string(method, "name"), name))
			return method;
	}
	ck_abort_msg("no method '%s'", name);
	return NULL;
}

/* The schema of a parameter of a method. */
static json_object *
param_schema(json_object *document, const char *method, const char *name)
{
	json_object *params = get(method_named(document, method), "params");

	for (size_t i = 0; i < json_object_array_length(params); i++) {
		json_object *param = json_object_array_get_idx(params, i);

		if (str_eq(json_string(param, "name"), name))
			return get(param, "schema");
	}
	ck_abort_msg("no parameter '%s'", name);
	return NULL;
}

/* Keywords of draft 7 that we use, with the kind of their values. */
static const struct {
	const char *keyword;
	json_type type;
} keywords[] = {
	{ "$ref", json_type_string },
	{ "additionalProperties", json_type_null }, /* a boolean or a schema */
	{ "allOf", json_type_array },
	{ "anyOf", json_type_array },
	{ "contentEncoding", json_type_string },
	{ "default", json_type_null },
	{ "description", json_type_string },
	{ "enum", json_type_array },
	{ "format", json_type_string },
	{ "items", json_type_object },
	{ "maxItems", json_type_int },
	{ "maxLength", json_type_int },
	{ "maxProperties", json_type_int },
	{ "maximum", json_type_null },
	{ "minItems", json_type_int },
	{ "minLength", json_type_int },
	{ "minimum", json_type_null },
	{ "oneOf", json_type_array },
	{ "pattern", json_type_string },
	{ "properties", json_type_object },
	{ "propertyNames", json_type_object },
	{ "required", json_type_array },
	{ "type", json_type_null }, /* a word, or a list of them */
	{ "writeOnly", json_type_boolean },
	{ "x-unit", json_type_string },
};

static void
check_keyword(const char *key, json_object *value)
{
	for (size_t i = 0; i < ARRAY_LEN(keywords); i++) {
		if (!str_eq(keywords[i].keyword, key))
			continue;
		ck_assert_msg(keywords[i].type == json_type_null ||
				  json_object_is_type(value, keywords[i].type),
		    "'%s' is %s", key, json_object_to_json_string(value));
		return;
	}
	ck_abort_msg("'%s' is no keyword", key);
}

static void check_schema(json_object *document, json_object *schema);

static void
check_schemas(json_object *document, json_object *list)
{
	ck_assert_uint_gt(json_object_array_length(list), 0);
	for (size_t i = 0; i < json_object_array_length(list); i++)
		check_schema(document, json_object_array_get_idx(list, i));
}

static void
check_properties(json_object *document, json_object *schema, json_object *members)
{
	json_object *required = get(schema, "required");

	json_object_object_foreach(members, key, member)
	{
		ck_assert_str_ne(key, "");
		check_schema(document, member);
	}
	for (size_t i = 0; i < json_object_array_length(required); i++)
		get(members, json_object_get_string(json_object_array_get_idx(required, i)));
}

static void
check_bounds(json_object *schema)
{
	static const char *const pairs[][2] = { { "minimum", "maximum" },
		{ "minLength", "maxLength" }, { "minItems", "maxItems" } };

	for (size_t i = 0; i < ARRAY_LEN(pairs); i++) {
		json_object *low, *high;

		if (json_object_object_get_ex(schema, pairs[i][0], &low) &&
		    json_object_object_get_ex(schema, pairs[i][1], &high))
			ck_assert_double_le(
			    json_object_get_double(low), json_object_get_double(high));
	}
}

static void
check_schema(json_object *document, json_object *schema)
{
	ck_assert(json_object_is_type(schema, json_type_object));
	check_bounds(schema);
	json_object_object_foreach(schema, key, value)
	{
		check_keyword(key, value);
		if (str_eq(key, "$ref")) {
			ck_assert_int_eq(json_object_object_length(schema), 1);
			ck_assert(json_object_is_type(
			    resolve(document, json_object_get_string(value)), json_type_object));
		} else if (str_eq(key, "properties")) {
			check_properties(document, schema, value);
		} else if (str_ends(key, "Of")) {
			check_schemas(document, value);
		} else if (str_eq(key, "items") || str_eq(key, "propertyNames") ||
			   (str_eq(key, "additionalProperties") &&
			       json_object_is_type(value, json_type_object))) {
			check_schema(document, value);
		} else if (str_eq(key, "enum")) {
			ck_assert_uint_gt(json_object_array_length(value), 0);
		}
	}
}

static void
check_params(json_object *document, const struct method *method, json_object *params)
{
	bool optional = false;
	size_t i;

	for (i = 0; method->params[i].name != NULL; i++) {
		json_object *param = json_object_array_get_idx(params, i);
		bool required = json_object_get_boolean(get(param, "required"));

		ck_assert_str_eq(json_string(param, "name"), method->params[i].name);
		ck_assert_str_ne(json_string(param, "summary"), "");
		ck_assert_int_eq(required, method->params[i].required);
		/* By position, what may be left out stands last. */
		ck_assert_msg(
		    !(required && optional), "%s of %s", method->params[i].name, method->wire);
		optional = !required;
		check_schema(document, get(param, "schema"));
	}
	ck_assert_uint_eq(json_object_array_length(params), i);
}

START_TEST(openrpc__document__every_method_whole)
{
	CLEANUP_JSON json_object *document = openrpc_document();
	json_object *list = get(document, "methods"), *info = get(document, "info");

	ck_assert_str_eq(json_string(document, "openrpc"), "1.2.6");
	ck_assert_str_eq(json_string(info, "version"), VMM_VERSION);
	ck_assert_ptr_nonnull(json_string(info, "title"));
	ck_assert_uint_eq(json_object_array_length(list), METHODS);
	for (size_t i = 0; i < METHODS; i++) {
		json_object *method = json_object_array_get_idx(list, i);
		json_object *result = get(method, "result"), *errors = get(method, "errors");

		ck_assert_str_eq(json_string(method, "name"), methods[i].wire);
		ck_assert_str_eq(json_string(method, "summary"), methods[i].summary);
		ck_assert_str_eq(json_string(method, "paramStructure"), "either");
		ck_assert_ptr_nonnull(json_string(method, "x-access"));
		check_params(document, &methods[i], get(method, "params"));
		ck_assert_str_eq(json_string(result, "name"), "result");
		ck_assert_ptr_nonnull(json_string(result, "summary"));
		check_schema(document, get(result, "schema"));
		ck_assert_uint_gt(json_object_array_length(errors), 10);
		for (size_t j = 0; j < json_object_array_length(errors); j++)
			resolve(
			    document, json_string(json_object_array_get_idx(errors, j), "$ref"));
	}
}
END_TEST

START_TEST(openrpc__components__whole)
{
	CLEANUP_JSON json_object *document = openrpc_document();
	json_object *components = get(document, "components"), *last = NULL;
	size_t count = 0;

	json_object_object_foreach(get(components, "schemas"), name, schema)
	{
		ck_assert_str_ne(name, "");
		check_schema(document, schema);
		count++;
	}
	ck_assert_uint_eq(count, 7);
	json_object_object_foreach(get(components, "errors"), key, error)
	{
		ck_assert_str_eq(json_string(get(error, "data"), "name"), key);
		ck_assert_int_eq(json_int(error, "code"), err_rpc_code(err_from_name(key)));
		ck_assert_ptr_nonnull(json_string(error, "message"));
		last = error;
	}
	ck_assert_ptr_nonnull(last);
	last = get(document, "x-notifications");
	ck_assert_uint_eq(json_object_array_length(last), 2);
	for (size_t i = 0; i < 2; i++)
		check_schema(document, get(json_object_array_get_idx(last, i), "params"));
}
END_TEST

START_TEST(openrpc__parameters__types_bounds_and_defaults)
{
	static const struct {
		const char *method, *param, *schema;
	} rows[] = {
		{ "vm.stop", "force",
		    "{\"type\":\"boolean\",\"description\":\"do not ask the guest\"}" },
		{ "vm.create", "vcpus",
		    "{\"type\":\"integer\",\"minimum\":1,\"maximum\":255,"
		    "\"description\":\"virtual processors\",\"default\":1}" },
		{ "vm.create", "arch",
		    "{\"type\":\"string\",\"enum\":[\"default\",\"x86_64\",\"aarch64\"],"
		    "\"description\":\"the processor's architecture; default: the host's\","
		    "\"default\":\"default\"}" },
		{ "vm.create", "memory",
		    "{\"anyOf\":[{\"type\":\"number\",\"minimum\":16.0,\"maximum\":16777216.0},"
		    "{\"type\":\"string\",\"pattern\":\"^[0-9]+(\\\\.[0-9]+)? "
		    "*([KMGT](iB|B)?|B)?$\"}],"
		    "\"x-unit\":\"MiB\",\"description\":\"memory\",\"default\":1024}" },
		{ "file.up", "vms",
		    "{\"type\":\"array\",\"items\":{\"$ref\":\"#/components/schemas/vm_spec\"},"
		    "\"minItems\":0,\"maxItems\":1000,\"description\":\"its machines\"}" },
		{ "vm.wait", "timeout",
		    "{\"anyOf\":[{\"type\":\"number\",\"minimum\":0.0,\"maximum\":604800.0},"
		    "{\"type\":\"string\","
		    "\"pattern\":\"^([0-9]+(\\\\.[0-9]+)? *(ms|s|sec|m|min|h|d)?)+$\"}],"
		    "\"x-unit\":\"s\",\"description\":\"how long to wait\",\"default\":\"5min\"}" },
	};
	CLEANUP_JSON json_object *document = openrpc_document();

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		ck_assert_str_eq(
		    json_object_to_json_string_ext(
			param_schema(document, rows[i].method, rows[i].param), JSON_TEXT_FLAGS),
		    rows[i].schema);
}
END_TEST

START_TEST(openrpc__results__shared_shapes_are_references)
{
	CLEANUP_JSON json_object *document = openrpc_document();
	json_object *vm = resolve(document, "#/components/schemas/vm"), *schema;

	schema = get(get(method_named(document, "vm.get"), "result"), "schema");
	ck_assert_str_eq(json_string(schema, "$ref"), "#/components/schemas/vm");
	schema = get(get(method_named(document, "vm.list"), "result"), "schema");
	schema = get(get(get(schema, "properties"), "vms"), "items");
	ck_assert_str_eq(json_string(schema, "$ref"), "#/components/schemas/vm");
	ck_assert_str_eq(json_string(get(get(vm, "properties"), "memory_mib"), "type"), "integer");
	for (size_t i = 0; i < METHODS; i++)
		ck_assert_msg(method_results[i].text != NULL, "no result of %s", methods[i].wire);
}
END_TEST

/* A client reads it by the rules that it writes by. */
START_TEST(openrpc__text__one_line_that_passes_the_gate)
{
	CLEANUP_JSON json_object *document = openrpc_document();
	const char *text = json_object_to_json_string_ext(document, JSON_TEXT_FLAGS);
	struct err err = ERR_INIT;

	ck_assert_ptr_null(strchr(text, '\n'));
	ck_assert_msg(gate_check(text, strlen(text), &err) == 0, "%s", err.msg);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("openrpc");

	UNIT_CASE(s, openrpc__document__every_method_whole);
	UNIT_CASE(s, openrpc__components__whole);
	UNIT_CASE(s, openrpc__parameters__types_bounds_and_defaults);
	UNIT_CASE(s, openrpc__results__shared_shapes_are_references);
	UNIT_CASE(s, openrpc__text__one_line_that_passes_the_gate);
	return unit_main(s);
}
