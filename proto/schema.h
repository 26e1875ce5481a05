/* SPDX-License-Identifier: MPL-2.0 */
#ifndef PROTO_SCHEMA_H
#define PROTO_SCHEMA_H

#include "proto/results.h"

struct json_object;

/* Rows as JSON Schema (draft 7).  Every function returns a new object, owned by the caller.
 * Tables that stand for themselves are references into components/schemas.  Any thread. */

struct json_object *schema_of_field(const struct field *field);
struct json_object *schema_of_result(const struct result_shape *shape);
struct json_object *schema_of_notification(const struct notification *notification);
/* Everything that the others refer to: the value of components/schemas. */
struct json_object *schema_components(void);
struct json_object *schema_reference(const char *kind, const char *name);

#endif
