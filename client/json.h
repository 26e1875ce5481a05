/* SPDX-License-Identifier: MPL-2.0 */
#ifndef CLIENT_JSON_H
#define CLIENT_JSON_H

#include <stddef.h>

#include "lib/base/json.h"

/* Looking into results.  What is absent or of another type is the empty value: results may grow
 * and shrink fields, and a client that is older still prints what it knows.  All borrowed. */

static inline json_object *
json_member(json_object *object, const char *key)
{
	json_object *value = NULL;

	json_object_object_get_ex(object, key, &value);
	return value;
}

/* There, and not null. */
static inline bool
json_has(json_object *object, const char *key)
{
	return json_member(object, key) != NULL;
}

/* A text for a line that people read: never NULL, which some C libraries can not print. */
static inline const char *
json_shown(json_object *object, const char *key)
{
	const char *text = json_string(object, key);

	return text != NULL ? text : "?";
}

/* 0 for what is no array. */
static inline size_t
json_length(json_object *array)
{
	return json_object_is_type(array, json_type_array) ? json_object_array_length(array) : 0;
}

static inline json_object *
json_item(json_object *array, size_t index)
{
	return index < json_length(array) ? json_object_array_get_idx(array, index) : NULL;
}

#endif
