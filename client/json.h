/* SPDX-License-Identifier: MPL-2.0 */
#ifndef CLIENT_JSON_H
#define CLIENT_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json_object;

/* Looking into results.  What is absent or of another type is the empty value: results may grow
 * and shrink fields, and a client that is older still prints what it knows.  All borrowed. */

struct json_object *json_member(struct json_object *object, const char *key);
const char *json_text(struct json_object *object, const char *key); /* NULL when absent */
int64_t json_number(struct json_object *object, const char *key);
bool json_flag(struct json_object *object, const char *key);
bool json_has(struct json_object *object, const char *key); /* there, and not null */
size_t json_length(struct json_object *array);              /* 0 for what is no array */
struct json_object *json_item(struct json_object *array, size_t index);
void json_set_text(struct json_object *object, const char *key, const char *text); /* NULL: not */

#endif
