/* SPDX-License-Identifier: MPL-2.0
 *
 * The engine behind the rows: JSON to checked structs and back.  It knows types and bounds and
 * nothing of machines. */
#include "lib/model/field.h"

#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"

struct decoder {
	const struct field_options *options;
	size_t problems;
};

static size_t decode_object(struct decoder *d, const struct field *fields, json_object *object,
    const char *prefix, void *out);

static void
problem(struct decoder *d, const char *path, struct err *err)
{
	d->problems++;
	err->code = E_PARAMS;
	err_object(err, path);
	if (d->options->on_problem != NULL)
		d->options->on_problem(d->options->arg, path, err);
}

static void *
member(const struct field *field, const void *value)
{
	return (char *)value + field->offset;
}

/* The key as the person writes it; space holds the kebab form. */
static const char *
key_of(const struct decoder *d, const char *name, char space[64])
{
	size_t i;

	if (!d->options->kebab)
		return name;
	for (i = 0; name[i] != '\0' && i < 63; i++)
		space[i] = name[i] == '_' ? '-' : name[i];
	space[i] = '\0';
	return space;
}

static const char *
type_name(json_object *json)
{
	switch (json_object_get_type(json)) {
	case json_type_null:
		return "nothing";
	case json_type_boolean:
		return "a boolean";
	case json_type_double:
	case json_type_int:
		return "a number";
	case json_type_object:
		return "a mapping";
	case json_type_array:
		return "a list";
	case json_type_string:
		return "a string";
	}
	return "something else";
}

static int
wrong_type(const char *wanted, json_object *json, struct err *err)
{
	return err_set(err, E_PARAMS, "must be %s, not %s", wanted, type_name(json));
}

static int
check_range(const struct field *field, uint64_t value, const char *shown, struct err *err)
{
	CLEANUP_FREE char *bound = NULL;
	bool low = value < field->min;

	if (!low && (field->max == 0 || value <= field->max))
		return 0;
	if (field->type == FIELD_SIZE)
		bound = str_size(low ? field->min : field->max);
	else if (field->type == FIELD_DURATION)
		bound = xasprintf("%gs", (double)(low ? field->min : field->max) / 1000);
	else
		bound = xasprintf("%llu", (unsigned long long)(low ? field->min : field->max));
	return err_set(err, E_PARAMS, "%s is too %s: the %s is %s", shown, low ? "small" : "large",
	    low ? "least" : "most", bound);
}

static int
set_string(const struct field *field, const char *text, size_t len, void *out, struct err *err)
{
	size_t max = field->max != 0 ? field->max : FIELD_STRING_MAX;
	char **slot = member(field, out);

	if (field->type == FIELD_NAME && str_name_check(text, err) != 0)
		return E_PARAMS;
	if (len < field->min)
		return err_set(err, E_PARAMS, "must not be %s",
		    len == 0 ? "empty" : "that short");
	if (len > max)
		return err_set(err, E_PARAMS, "is longer than %zu bytes", max);
	if (!str_utf8_valid(text, len))
		return err_set(err, E_PARAMS, "is not valid UTF-8");
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)text[i];

		if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f)
			return err_set(err, E_PARAMS, "holds the control character 0x%02x", c);
	}
	free(*slot);
	*slot = xstrndup(text, len);
	return 0;
}

static int
set_enum(const struct field *field, const char *text, void *out, struct err *err)
{
	struct sbuf list = { 0 };
	CLEANUP_FREE char *words = NULL, *shown = NULL;
	const char *near;
	size_t n;

	for (n = 0; field->words[n] != NULL; n++) {
		if (str_eq(field->words[n], text)) {
			*(int *)member(field, out) = (int)n;
			return 0;
		}
	}
	for (n = 0; field->words[n] != NULL; n++)
		sbuf_addf(&list, "%s%s", n > 0 ? ", " : "", field->words[n]);
	words = sbuf_take(&list);
	shown = str_printable(text, strnlen(text, 64));
	near = str_nearest(text, field->words, n);
	err_set(err, E_PARAMS, "'%s' is none of: %s", shown, words);
	if (near != NULL)
		err_hint(err, "did you mean '%s'?", near);
	return E_PARAMS;
}

static int
set_bool(const struct field *field, const char *text, void *out, struct err *err)
{
	bool yes = str_eq(text, "true");

	if (!yes && !str_eq(text, "false"))
		return err_set(err, E_PARAMS, "'%s' must be true or false", text);
	*(bool *)member(field, out) = yes;
	return 0;
}

/* The scalar types, from text: command lines, defaults, YAML and JSON strings. */
static int
set_scalar(const struct field *field, const char *text, size_t len, void *out, struct err *err)
{
	uint64_t value = 0;
	CLEANUP_FREE char *shown = str_printable(text, len < 64 ? len : 64);
	int rc = 0;

	switch (field->type) {
	case FIELD_BOOL:
		return set_bool(field, text, out, err);
	case FIELD_ENUM:
		return set_enum(field, text, out, err);
	case FIELD_STRING:
	case FIELD_NAME:
		return set_string(field, text, len, out, err);
	case FIELD_UINT:
		rc = str_to_u64(text, &value) ? 0 : err_set(err, E_PARAMS,
							"'%s' is not a whole number", shown);
		break;
	case FIELD_SIZE:
		rc = str_to_size(text, field->unit != 0 ? field->unit : 1, &value, err);
		break;
	case FIELD_DURATION:
		rc = str_to_duration(text, &value, err);
		break;
	case FIELD_FILE: {
		struct file_ref *file = member(field, out);

		if (len == 0)
			return err_set(err, E_PARAMS, "must not be empty");
		file_ref_done(file);
		file->kind = FILE_PATH;
		file->path = xstrndup(text, len);
		return 0;
	}
	case FIELD_STRINGS:
	case FIELD_ENV:
	case FIELD_OBJECT:
	case FIELD_OBJECTS:
	case FIELD_JSON:
		return err_set(err, E_PARAMS, "can not be written as one word");
	}
	if (rc == 0)
		rc = check_range(field, value, shown, err);
	if (rc == 0)
		*(uint64_t *)member(field, out) = value;
	return rc;
}

static int
set_number(const struct field *field, json_object *json, void *out, struct err *err)
{
	const char *text = json_object_get_string(json);

	if (json_object_is_type(json, json_type_double) && field->type == FIELD_UINT)
		return err_set(err, E_PARAMS, "'%s' is not a whole number", text);
	if (text[0] == '-')
		return err_set(err, E_PARAMS, "'%s' is negative", text);
	return set_scalar(field, text, strlen(text), out, err);
}

static int
decode_file(const struct field *field, json_object *json, void *out, struct err *err)
{
	struct file_ref *file = member(field, out);
	json_object *v;
	size_t known = 0;

	if (json_object_is_type(json, json_type_string))
		return set_scalar(field, json_object_get_string(json),
		    (size_t)json_object_get_string_len(json), out, err);
	if (!json_object_is_type(json, json_type_object))
		return wrong_type("a file: a path, {\"fd\": N} or {\"data\": base64}", json, err);
	file_ref_done(file);
	if (json_object_object_get_ex(json, "fd", &v)) {
		if (!json_object_is_type(v, json_type_int) || json_object_get_int64(v) < 0 ||
		    json_object_get_int64(v) > 65535)
			return err_set(err, E_PARAMS, "fd must be the number of a descriptor");
		file->kind = FILE_FD;
		file->fd = json_object_get_int(v);
		known++;
	}
	if (json_object_object_get_ex(json, "data", &v)) {
		if (!json_object_is_type(v, json_type_string) ||
		    str_unbase64(json_object_get_string(v), &file->data, &file->len) != 0)
			return err_set(err, E_PARAMS, "data is not valid base64");
		file->kind = FILE_DATA;
		known++;
	}
	if (json_object_object_get_ex(json, "path", &v)) {
		if (!json_object_is_type(v, json_type_string) || json_object_get_string_len(v) == 0)
			return err_set(err, E_PARAMS, "path must be a string");
		file->path = xstrdup(json_object_get_string(v));
		file->kind = FILE_PATH;
		known++;
	}
	if (known != 1)
		return err_set(err, E_PARAMS, "needs exactly one of fd, data and path");
	if (json_object_object_get_ex(json, "name", &v) && json_object_is_type(v, json_type_string)) {
		file->name = str_printable(json_object_get_string(v), strlen(json_object_get_string(v)));
		known++;
	}
	if (json_object_object_get_ex(json, "sha256", &v) &&
	    json_object_is_type(v, json_type_string)) {
		file->sha256 = xstrdup(json_object_get_string(v));
		known++;
	}
	if ((size_t)json_object_object_length(json) != known)
		return err_set(err, E_PARAMS, "a file takes only fd, data, path, name and sha256");
	return 0;
}

static int
decode_strings(const struct field *field, json_object *json, void *out, struct err *err)
{
	struct strings *list = member(field, out);
	size_t max = field->max != 0 ? field->max : FIELD_ITEMS_MAX, count;

	if (!json_object_is_type(json, json_type_array))
		return wrong_type("a list of strings", json, err);
	count = json_object_array_length(json);
	if (count > max)
		return err_set(err, E_PARAMS, "has more than %zu entries", max);
	if (count < field->min)
		return err_set(err, E_PARAMS, "needs at least %llu entries",
		    (unsigned long long)field->min);
	list->items = xcalloc(count, sizeof(*list->items));
	for (size_t i = 0; i < count; i++) {
		json_object *item = json_object_array_get_idx(json, i);

		if (!json_object_is_type(item, json_type_string))
			return err_set(err, E_PARAMS, "entry %zu must be a string, not %s", i + 1,
			    type_name(item));
		list->items[list->count++] = xstrdup(json_object_get_string(item));
	}
	return 0;
}

static bool
variable_name(const char *s)
{
	if (*s == '\0' || (*s >= '0' && *s <= '9'))
		return false;
	for (; *s != '\0'; s++)
		if (!(*s >= 'a' && *s <= 'z') && !(*s >= 'A' && *s <= 'Z') &&
		    !(*s >= '0' && *s <= '9') && *s != '_')
			return false;
	return true;
}

static int
decode_env(const struct field *field, json_object *json, void *out, struct err *err)
{
	struct env *env = member(field, out);

	if (!json_object_is_type(json, json_type_object))
		return wrong_type("a mapping of names to strings", json, err);
	if (json_object_object_length(json) > FIELD_ENV_MAX)
		return err_set(err, E_PARAMS, "has more than %d entries", FIELD_ENV_MAX);
	env->items = xcalloc((size_t)json_object_object_length(json), sizeof(*env->items));
	json_object_object_foreach(json, key, value) {
		if (!variable_name(key)) {
			CLEANUP_FREE char *shown = str_printable(key, strnlen(key, 64));

			return err_set(err, E_PARAMS, "'%s' is not a name for a variable", shown);
		}
		if (value == NULL || json_object_is_type(value, json_type_object) ||
		    json_object_is_type(value, json_type_array))
			return err_set(err, E_PARAMS, "the value of '%s' must be a string, not %s",
			    key, type_name(value));
		env->items[env->count].name = xstrdup(key);
		env->items[env->count++].value = xstrdup(json_object_get_string(value));
	}
	return 0;
}

/* A nested object; a bare scalar is its shorthand field. */
static void
decode_nested(struct decoder *d, const struct field *field, json_object *json, const char *path,
    void *out)
{
	json_object *wrapped = NULL;
	struct err err = ERR_INIT;

	*(bool *)out = true;
	if (field->shorthand != NULL && json != NULL &&
	    !json_object_is_type(json, json_type_object) &&
	    !json_object_is_type(json, json_type_array)) {
		char space[64];

		wrapped = json_object_new_object();
		json_object_object_add(wrapped, key_of(d, field->shorthand, space),
		    json_object_get(json));
		json = wrapped;
	}
	if (json != NULL && !json_object_is_type(json, json_type_object)) {
		wrong_type("a mapping", json, &err);
		problem(d, path, &err);
	} else {
		decode_object(d, field->fields, json, path, out);
	}
	json_object_put(wrapped);
}

static void
decode_objects(struct decoder *d, const struct field *field, json_object *json, const char *path,
    void *out)
{
	struct objects *list = member(field, out);
	size_t max = field->max != 0 ? field->max : FIELD_ITEMS_MAX, count;
	struct err err = ERR_INIT;

	if (!json_object_is_type(json, json_type_array)) {
		wrong_type("a list", json, &err);
		problem(d, path, &err);
		return;
	}
	count = json_object_array_length(json);
	if (count > max || count < field->min) {
		err_set(&err, E_PARAMS, "must have between %llu and %zu entries, not %zu",
		    (unsigned long long)field->min, max, count);
		problem(d, path, &err);
		return;
	}
	list->items = xcalloc(count, field->size);
	for (size_t i = 0; i < count; i++) {
		CLEANUP_FREE char *item_path = xasprintf("%s[%zu]", path, i);
		json_object *item = json_object_array_get_idx(json, i);

		list->count++;
		if (item == NULL) {
			err_set(&err, E_PARAMS, "must be a mapping, not nothing");
			problem(d, item_path, &err);
			continue;
		}
		decode_nested(d, field, item, item_path, (char *)list->items + i * field->size);
	}
}

static void
decode_value(struct decoder *d, const struct field *field, json_object *json, const char *path,
    void *out)
{
	struct err err = ERR_INIT;
	int rc = 0;

	switch (field->type) {
	case FIELD_OBJECT:
		decode_nested(d, field, json, path, member(field, out));
		return;
	case FIELD_OBJECTS:
		decode_objects(d, field, json, path, out);
		return;
	case FIELD_JSON:
		*(json_object **)member(field, out) = json_object_get(json);
		return;
	case FIELD_BOOL:
		if (json_object_is_type(json, json_type_boolean))
			*(bool *)member(field, out) = json_object_get_boolean(json);
		else
			rc = wrong_type("true or false", json, &err);
		break;
	case FIELD_UINT:
		if (json_object_is_type(json, json_type_int) ||
		    json_object_is_type(json, json_type_double))
			rc = set_number(field, json, out, &err);
		else
			rc = wrong_type("a whole number", json, &err);
		break;
	case FIELD_SIZE:
	case FIELD_DURATION:
		if (json_object_is_type(json, json_type_int) ||
		    json_object_is_type(json, json_type_double))
			rc = set_number(field, json, out, &err);
		else if (json_object_is_type(json, json_type_string))
			rc = set_scalar(field, json_object_get_string(json),
			    (size_t)json_object_get_string_len(json), out, &err);
		else
			rc = wrong_type(field->type == FIELD_SIZE ? "a size" : "a duration", json,
			    &err);
		break;
	case FIELD_STRING:
	case FIELD_NAME:
	case FIELD_ENUM:
		if (json_object_is_type(json, json_type_string))
			rc = set_scalar(field, json_object_get_string(json),
			    (size_t)json_object_get_string_len(json), out, &err);
		else
			rc = wrong_type("a string", json, &err);
		break;
	case FIELD_FILE:
		rc = decode_file(field, json, out, &err);
		break;
	case FIELD_STRINGS:
		rc = decode_strings(field, json, out, &err);
		break;
	case FIELD_ENV:
		rc = decode_env(field, json, out, &err);
		break;
	}
	if (rc != 0)
		problem(d, path, &err);
}

/* ---- a file whose keys stand among the object's own ---- */

static const char *const inlined_keys[] = { "fd", "data", "path" };

static bool
is_inlined_key(const struct field *fields, const char *key)
{
	for (; fields->name != NULL; fields++)
		for (size_t i = 0; fields->inlined && i < ARRAY_LEN(inlined_keys); i++)
			if (str_eq(inlined_keys[i], key))
				return true;
	return false;
}

static void
decode_inlined(struct decoder *d, const struct field *field, json_object *object,
    const char *prefix, void *out)
{
	json_object *file = json_object_new_object(), *value;
	struct err err = ERR_INIT;

	for (size_t i = 0; i < ARRAY_LEN(inlined_keys); i++)
		if (json_object_object_get_ex(object, inlined_keys[i], &value))
			json_object_object_add(file, inlined_keys[i], json_object_get(value));
	if (json_object_object_length(file) > 0 && decode_file(field, file, out, &err) != 0)
		problem(d, prefix, &err);
	json_object_put(file);
}

static void
unknown_key(struct decoder *d, const struct field *fields, const char *key, const char *path)
{
	char spaces[64][64];
	const char *known[64];
	struct sbuf list = { 0 };
	CLEANUP_FREE char *shown = str_printable(key, strnlen(key, 64)), *all = NULL;
	struct err err = ERR_INIT;
	const char *near;
	size_t n;

	for (n = 0; fields[n].name != NULL && n < 64; n++) {
		known[n] = key_of(d, fields[n].name, spaces[n]);
		sbuf_addf(&list, "%s%s", n > 0 ? ", " : "", known[n]);
	}
	all = sbuf_take(&list);
	near = str_nearest(key, known, n);
	err_set(&err, E_PARAMS, "unknown %s '%s'", d->options->kebab ? "key" : "parameter", shown);
	if (near != NULL)
		err_hint(&err, "did you mean '%s'?", near);
	else if (n > 0)
		err_hint(&err, "known here: %s", all);
	else
		err_hint(&err, "none is taken here");
	problem(d, path, &err);
}

static char *
join_path(const char *prefix, const char *key)
{
	return prefix[0] != '\0' ? xasprintf("%s.%s", prefix, key) : xstrdup(key);
}

static size_t
decode_object(struct decoder *d, const struct field *fields, json_object *object,
    const char *prefix, void *out)
{
	size_t before = d->problems;
	struct err err = ERR_INIT;
	char space[64];

	for (const struct field *f = fields; f->name != NULL; f++)
		if (f->fallback != NULL &&
		    set_scalar(f, f->fallback, strlen(f->fallback), out, &err) != 0)
			abort(); /* a wrong row, not wrong input */
	if (object != NULL) {
		json_object_object_foreach(object, key, value) {
			CLEANUP_FREE char *shown = str_printable(key, strnlen(key, 64));
			CLEANUP_FREE char *path = join_path(prefix, shown);
			const struct field *f;

			(void)value;
			for (f = fields; f->name != NULL; f++)
				if (!f->inlined && str_eq(key_of(d, f->name, space), key))
					break;
			if (f->name == NULL && !is_inlined_key(fields, key))
				unknown_key(d, fields, key, path);
		}
	}
	for (const struct field *f = fields; f->name != NULL; f++) {
		CLEANUP_FREE char *path = join_path(prefix, key_of(d, f->name, space));
		json_object *value = NULL;
		bool given = object != NULL &&
		    json_object_object_get_ex(object, key_of(d, f->name, space), &value);

		if (f->inlined)
			decode_inlined(d, f, object, prefix, out);
		else if (given && value == NULL && d->options->kebab && f->type != FIELD_OBJECT) {
			err_set(&err, E_PARAMS, "has no value");
			err_hint(&err, "give it one, or leave the line out");
			problem(d, path, &err);
		} else if (given && (value != NULL || d->options->kebab)) {
			decode_value(d, f, value, path, out);
		} else if (f->required) {
			err_set(&err, E_PARAMS, "is missing");
			problem(d, path, &err);
		}
	}
	return d->problems - before;
}

size_t
fields_decode(const struct field *fields, json_object *object, const char *prefix,
    const struct field_options *options, void *ret_struct)
{
	struct decoder d = { .options = options };

	return decode_object(&d, fields, object, prefix, ret_struct);
}

static void
keep_first(void *arg, const char *path, const struct err *err)
{
	struct err *first = arg;

	if (first == NULL || first->code != E_OK)
		return;
	*first = *err;
	err_wrap(first, "%s", path);
}

int
fields_decode_one(const struct field *fields, json_object *object, void *ret_struct,
    struct err *err)
{
	struct err first = ERR_INIT;
	struct field_options options = { .on_problem = keep_first, .arg = &first };

	if (fields_decode(fields, object, "", &options, ret_struct) == 0)
		return 0;
	if (err != NULL)
		*err = first;
	return E_PARAMS;
}

int
field_parse(const struct field *field, const char *text, void *ret_struct, struct err *err)
{
	return set_scalar(field, text, strlen(text), ret_struct, err);
}

const struct field *
fields_find(const struct field *fields, const char *name)
{
	for (; fields->name != NULL; fields++)
		if (str_eq(fields->name, name))
			return fields;
	return NULL;
}
