/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_BASE_JSON_H
#define LIB_BASE_JSON_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stdint.h>

/* Small helpers over json-c, for documents of our own. */

static inline void
json_add_string(json_object *object, const char *key, const char *value)
{
	if (value != NULL)
		json_object_object_add(object, key, json_object_new_string(value));
}

static inline void
json_add_int(json_object *object, const char *key, int64_t value)
{
	json_object_object_add(object, key, json_object_new_int64(value));
}

static inline void
json_add_bool(json_object *object, const char *key, bool value)
{
	json_object_object_add(object, key, json_object_new_boolean(value));
}

/* NULL, 0 and false when absent or of another type. */
static inline const char *
json_string(json_object *object, const char *key)
{
	json_object *v;

	return json_object_object_get_ex(object, key, &v) && json_object_is_type(v, json_type_string)
	    ? json_object_get_string(v) : NULL;
}

static inline int64_t
json_int(json_object *object, const char *key)
{
	json_object *v;

	return json_object_object_get_ex(object, key, &v) ? json_object_get_int64(v) : 0;
}

static inline bool
json_flag(json_object *object, const char *key)
{
	json_object *v;

	return json_object_object_get_ex(object, key, &v) && json_object_get_boolean(v);
}

static inline void
json_putp(json_object **object)
{
	json_object_put(*object);
}
#define CLEANUP_JSON __attribute__((cleanup(json_putp)))
#define JSON_TEXT_FLAGS (JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE)

#endif
