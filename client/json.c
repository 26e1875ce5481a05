/* SPDX-License-Identifier: MPL-2.0 */
#include "client/json.h"

#include <json-c/json.h>

struct json_object *
json_member(struct json_object *object, const char *key)
{
	json_object *value = NULL;

	if (json_object_is_type(object, json_type_object))
		json_object_object_get_ex(object, key, &value);
	return value;
}

const char *
json_text(struct json_object *object, const char *key)
{
	json_object *value = json_member(object, key);

	return json_object_is_type(value, json_type_string) ? json_object_get_string(value) : NULL;
}

int64_t
json_number(struct json_object *object, const char *key)
{
	json_object *value = json_member(object, key);

	return json_object_is_type(value, json_type_int) ||
		       json_object_is_type(value, json_type_double)
		   ? json_object_get_int64(value)
		   : 0;
}

bool
json_flag(struct json_object *object, const char *key)
{
	json_object *value = json_member(object, key);

	return json_object_is_type(value, json_type_boolean) && json_object_get_boolean(value);
}

bool
json_has(struct json_object *object, const char *key)
{
	return json_member(object, key) != NULL;
}

size_t
json_length(struct json_object *array)
{
	return json_object_is_type(array, json_type_array) ? json_object_array_length(array) : 0;
}

struct json_object *
json_item(struct json_object *array, size_t index)
{
	return index < json_length(array) ? json_object_array_get_idx(array, index) : NULL;
}

void
json_set_text(struct json_object *object, const char *key, const char *text)
{
	if (text != NULL)
		json_object_object_add(object, key, json_object_new_string(text));
}
