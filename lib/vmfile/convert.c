/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/vmfile/convert.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/reference.h"
#include "lib/model/field.h"
#include "lib/model/spec.h"
#include "lib/yaml/problems.h"
#include "lib/yaml/yaml.h"

static json_object *convert_object(struct convert *c, const struct field *fields,
    const struct node *node, const char *path, bool machine);
static bool convert_value(struct convert *c, const struct field *field, const struct node *node,
    const char *path, json_object **ret);

static const char *
last_part(const char *path)
{
	const char *dot = strrchr(path, '.');

	return dot != NULL ? dot + 1 : path;
}

static bool
bad(struct convert *c, const struct node *node, const char *path, const char *hint,
    const char *text)
{
	marks_add(c->marks, path, node, true);
	problems_addf(
	    c->problems, node->line, node->column, hint, "'%s' %s", last_part(path), text);
	return false;
}

/* Quoted for a message, and cut. */
static char *
shown(const struct node *node)
{
	return str_line(node->text, node->len < 64 ? node->len : 64);
}

static bool
convert_text(struct convert *c, const struct node *node, const char *path, json_object **ret)
{
	enum plain_kind kind = node_plain_kind(node);
	CLEANUP_FREE char *word = shown(node), *text = NULL, *hint = NULL;

	*ret = NULL;
	if (kind == PLAIN_NULL)
		return true;
	if (kind == PLAIN_TEXT) {
		*ret = json_object_new_string_len(node->text, (int)node->len);
		return true;
	}
	text = xasprintf("must be a string, but %s is %s in YAML", word, plain_kind_name(kind));
	hint = xasprintf("write it in quotes: \"%s\"", word);
	return bad(c, node, path, hint, text);
}

static bool
convert_number(struct convert *c, const struct node *node, const char *path, json_object **ret)
{
	CLEANUP_FREE char *word = shown(node), *text = NULL;
	enum plain_kind kind = node_plain_kind(node);
	bool negative = node->text[0] == '-';
	uint64_t value;

	switch (kind) {
	case PLAIN_NULL:
		*ret = NULL;
		return true;
	case PLAIN_TEXT:
		*ret = json_object_new_string_len(node->text, (int)node->len);
		return true;
	case PLAIN_FLOAT:
		*ret = json_object_new_double_s(strtod(node->text, NULL), node->text);
		return true;
	case PLAIN_INT:
		if (!str_to_u64(node->text + negative, &value) || (negative && value > INT64_MAX)) {
			text = xasprintf("can not be %s: that is too large", word);
			return bad(c, node, path, NULL, text);
		}
		*ret = negative ? json_object_new_int64(-(int64_t)value)
				: json_object_new_uint64(value);
		return true;
	case PLAIN_ODD_INT:
	case PLAIN_ODD_FLOAT:
		text = xasprintf("can not be %s: YAML 1.1 takes that for another number", word);
		return bad(c, node, path,
		    "write it in decimal digits, with a unit where one is meant", text);
	case PLAIN_BOOL:
	case PLAIN_SPECIAL:
		break;
	}
	text = xasprintf("must be a number, but %s is %s in YAML", word, plain_kind_name(kind));
	return bad(c, node, path, NULL, text);
}

static bool
convert_bool(struct convert *c, const struct node *node, const char *path, json_object **ret)
{
	bool value;

	if (!node_bool(node, &value))
		return bad(c, node, path, "write true or false", "must be a boolean");
	*ret = json_object_new_boolean(value);
	return true;
}

static bool
convert_file(struct convert *c, const struct node *node, const char *path, json_object **ret)
{
	CLEANUP_FREE char *full = NULL;

	if (node->kind != NODE_SCALAR)
		return bad(c, node, path, NULL, "must be the path of a file");
	if (!convert_text(c, node, path, ret))
		return false;
	if (*ret == NULL || node->len == 0)
		return true;
	if (strstr(node->text, "://") != NULL) {
		json_object_put(*ret);
		return bad(c, node, path, "fetch the file first and give its path",
		    "takes the path of a file, not a URL");
	}
	if (node->text[0] == '~' && node->text[1] != '\0' && node->text[1] != '/') {
		json_object_put(*ret);
		return bad(c, node, path, "write the path out, or ./~name for a file of that name",
		    "can not start with another user's '~'");
	}
	full = fs_expand(node->text, c->dir);
	json_object_put(*ret);
	*ret = json_object_new_string(full);
	return true;
}

static bool
convert_strings(struct convert *c, const struct node *node, const char *path, json_object **ret)
{
	json_object *list = json_object_new_array();
	bool good = true;

	for (size_t i = 0; i < node->count; i++) {
		CLEANUP_FREE char *at = xasprintf("%s[%zu]", path, i);
		json_object *item = NULL;

		c->converted++;
		if (node->items[i]->kind != NODE_SCALAR) {
			good = bad(c, node->items[i], at, NULL, "must be a string");
		} else if (!convert_text(c, node->items[i], at, &item)) {
			good = false;
		} else if (item == NULL) {
			good = bad(c, node->items[i], at, NULL, "has no value");
		} else {
			marks_add(c->marks, at, node->items[i], false);
			json_object_array_add(list, item);
		}
	}
	if (!good) {
		json_object_put(list);
		return false;
	}
	*ret = list;
	return true;
}

/* Variables are texts: what is written is what the guest gets, 0640 and no included. */
static bool
convert_env(struct convert *c, const struct node *node, const char *path, json_object **ret)
{
	json_object *env = json_object_new_object();
	bool good = true;

	for (size_t i = 0; i + 1 < node->count; i += 2) {
		const struct node *key = node->items[i], *value = node->items[i + 1];
		CLEANUP_FREE char *name = shown(key), *at = xasprintf("%s.%s", path, name);

		c->converted++;
		if (value->kind != NODE_SCALAR)
			good = bad(c, value, at, NULL, "must be a string");
		else if (node_plain_kind(value) == PLAIN_NULL)
			good = bad(c, key, at, "write \"\" for an empty value", "has no value");
		else
			json_object_object_add(env, key->text,
			    json_object_new_string_len(value->text, (int)value->len));
	}
	if (!good) {
		json_object_put(env);
		return false;
	}
	*ret = env;
	return true;
}

static bool
check_url(struct convert *c, const struct node *node, const char *path)
{
	struct err err = ERR_INIT;
	enum image_ref_kind kind;

	if (node->kind != NODE_SCALAR || node->len == 0)
		return true; /* lib/model has the words */
	if (image_ref_kind(node->text, &kind, &err) == 0) {
		if (kind != IMAGE_REF_PATH)
			return true;
		err_set(&err, E_VMFILE, "the image is a file");
		err_hint(&err, "write path: instead of url:");
	}
	marks_add(c->marks, path, node, true);
	problems_addf(c->problems, node->line, node->column, err.hint[0] != '\0' ? err.hint : NULL,
	    "'%s': %s", last_part(path), err.msg);
	return false;
}

/* A bare word: the path of a file beside the VMFile, or what lib/model takes for a url. */
static bool
convert_image_word(struct convert *c, const struct node *node, const char *path, json_object **ret)
{
	CLEANUP_FREE char *full = NULL;
	json_object *text = NULL;

	if (node->len == 0)
		return bad(c, node, path, NULL, "must not be empty");
	if (node->text[0] == '~' && node->text[1] != '\0' && node->text[1] != '/')
		return bad(c, node, path, "write the path out, or ./~name for a file of that name",
		    "can not start with another user's '~'");
	if (!convert_text(c, node, path, &text) || text == NULL)
		return false;
	*ret = json_object_new_object();
	full = fs_expand(node->text, c->dir);
	if (strstr(node->text, "://") != NULL ||
	    (strchr(node->text, '/') == NULL && node->text[0] != '~' &&
		(strchr(node->text, ':') != NULL ||
		    (!image_is_file_name(node->text) &&
			(!fs_exists(full) || fs_is_folder(full)))))) {
		json_object_object_add(*ret, "url", text);
		if (check_url(c, node, path))
			return true;
		json_object_put(*ret);
		return false;
	}
	json_object_put(text);
	json_object_object_add(*ret, "path", json_object_new_string(full));
	return true;
}

static bool
convert_nested(struct convert *c, const struct field *field, const struct node *node,
    const char *path, json_object **ret)
{
	if (node->kind == NODE_MAP) {
		*ret = convert_object(c, field->fields, node, path, false);
		return true;
	}
	if (node->kind == NODE_LIST) {
		*ret = json_object_new_array();
		return true;
	}
	if (field->shorthand == NULL && node_plain_kind(node) == PLAIN_NULL) {
		*ret = NULL;
		return true;
	}
	if (field->fields == vm_image_fields && node_plain_kind(node) == PLAIN_TEXT)
		return convert_image_word(c, node, path, ret);
	if (field->shorthand != NULL && node_plain_kind(node) != PLAIN_NULL)
		return convert_value(
		    c, fields_find(field->fields, field->shorthand), node, path, ret);
	if (field->shorthand != NULL)
		return bad(c, node, path, "give it one, or leave the line out", "has no value");
	*ret = json_object_new_string_len(node->text, (int)node->len);
	return true;
}

static bool
convert_objects(struct convert *c, const struct field *field, const struct node *node,
    const char *path, json_object **ret)
{
	json_object *list = json_object_new_array();

	for (size_t i = 0; i < node->count; i++) {
		CLEANUP_FREE char *at = xasprintf("%s[%zu]", path, i);
		json_object *item = NULL;

		marks_add(c->marks, at, node->items[i], false);
		if (!convert_nested(c, field, node->items[i], at, &item))
			item = json_object_new_object(); /* keeps the numbers of the others */
		json_object_array_add(list, item);
	}
	*ret = list;
	return true;
}

/* A value of the wrong shape becomes an empty one of its shape: lib/model has the words for it. */
static json_object *
wrong_shape(const struct node *node)
{
	if (node->kind == NODE_LIST)
		return json_object_new_array();
	return node->kind == NODE_MAP ? json_object_new_object()
				      : json_object_new_string_len(node->text, (int)node->len);
}

/* False: a problem was reported, and the value is to be left out.  *ret NULL: no value. */
static bool
convert_value(struct convert *c, const struct field *field, const struct node *node,
    const char *path, json_object **ret)
{
	bool scalar = node->kind == NODE_SCALAR;

	if (++c->converted >= CONVERT_MAX) {
		if (c->converted == CONVERT_MAX)
			problems_addf(c->problems, node->line, node->column, NULL,
			    "the file grows too large when its aliases are filled in");
		c->converted = CONVERT_MAX;
		marks_add(c->marks, path, node, true);
		return false;
	}
	switch (field->type) {
	case FIELD_BOOL:
		return convert_bool(c, node, path, ret);
	case FIELD_UINT:
	case FIELD_SIZE:
	case FIELD_DURATION:
		if (scalar)
			return convert_number(c, node, path, ret);
		break;
	case FIELD_STRING:
	case FIELD_NAME:
	case FIELD_ENUM:
		if (scalar)
			return convert_text(c, node, path, ret);
		break;
	case FIELD_FILE:
		return convert_file(c, node, path, ret);
	case FIELD_STRINGS:
		if (node->kind == NODE_LIST)
			return convert_strings(c, node, path, ret);
		break;
	case FIELD_ENV:
		if (node->kind == NODE_MAP)
			return convert_env(c, node, path, ret);
		break;
	case FIELD_OBJECT:
		return convert_nested(c, field, node, path, ret);
	case FIELD_OBJECTS:
		if (node->kind == NODE_LIST)
			return convert_objects(c, field, node, path, ret);
		break;
	case FIELD_JSON:
		return bad(c, node, path, NULL, "can not be given in a VMFile");
	}
	*ret = node_plain_kind(node) == PLAIN_NULL ? NULL : wrong_shape(node);
	return true;
}

/* Keys that people bring along, with where to look instead. */
static bool
foreign_key(struct convert *c, const struct node *key)
{
	static const struct {
		const char *key, *hint;
	} known[] = {
		{ "name", "the machine's name is its key under 'vms'" },
	};

	for (size_t i = 0; i < ARRAY_LEN(known); i++) {
		if (!str_eq(key->text, known[i].key))
			continue;
		problems_addf(c->problems, key->line, key->column, known[i].hint,
		    "unknown key '%s'", key->text);
		return true;
	}
	return false;
}

/* Machines of the original have either. */
static const char *const image_keys[] = { "image", "image-url" };

/* The key under which lib/model knows it; NULL: it stands there twice, which was reported. */
static const char *
model_key(struct convert *c, const struct node *map, const struct node *key)
{
	bool other = str_eq(key->text, image_keys[1]);

	if (!other && !str_eq(key->text, image_keys[0]))
		return key->text;
	for (size_t i = 0; map->items[i] != key; i += 2) {
		if (!str_eq(map->items[i]->text, image_keys[!other]))
			continue;
		problems_addf(c->problems, key->line, key->column, "give one of them",
		    "'%s' means the same as '%s' in line %u", image_keys[other], image_keys[!other],
		    map->items[i]->line);
		return NULL;
	}
	return image_keys[0];
}

static const struct field *
find_row(const struct field *fields, const char *key)
{
	for (; fields->name != NULL; fields++) {
		const char *a = fields->name, *b = key;

		while (*a != '\0' && (*a == *b || (*a == '_' && *b == '-')) && *b != '_') {
			a++;
			b++;
		}
		if (*a == '\0' && *b == '\0')
			return fields;
	}
	return NULL;
}

static json_object *
convert_object(struct convert *c, const struct field *fields, const struct node *node,
    const char *path, bool machine)
{
	json_object *object = json_object_new_object();

	for (size_t i = 0; i + 1 < node->count; i += 2) {
		const struct node *key = node->items[i], *value = node->items[i + 1];
		const char *known = machine ? model_key(c, node, key) : key->text;
		CLEANUP_FREE char *name = shown(key), *at = NULL;
		const struct field *field;
		json_object *json = NULL;

		if (known == NULL || (machine && foreign_key(c, key)))
			continue;
		at = xasprintf("%s.%s", path, known != key->text ? known : name);
		field = find_row(fields, known);
		if (fields == vm_image_fields && str_eq(key->text, "path")) {
			if (!convert_file(c, value, at, &json))
				json = json_object_new_string(c->dir); /* there is one */
			marks_add(c->marks, at, value, false);
		} else if (fields == vm_image_fields && str_eq(key->text, "url") &&
			   !check_url(c, value, at)) {
			continue;
			/* lib/model complains about the unknown key and the missing value: at the
			 * key. */
		} else if (field == NULL) {
			marks_add(c->marks, at, key, false);
		} else if (!convert_value(c, field, value, at, &json)) {
			continue;
		} else {
			marks_add(c->marks, at, json != NULL ? value : key, false);
		}
		json_object_object_add(object, known, json);
	}
	return object;
}

struct json_object *
convert_machine(struct convert *c, const struct field *fields, const struct node *key,
    const struct node *node, const char *prefix)
{
	CLEANUP_FREE char *name_path = xasprintf("%s.name", prefix);
	json_object *object, *name = NULL;

	marks_add(c->marks, prefix, key, false);
	if (node->kind != NODE_MAP) {
		CLEANUP_FREE char *word = shown(key);

		problems_addf(c->problems, key->line, key->column, NULL, "'%s' %s", word,
		    node_plain_kind(node) == PLAIN_NULL ? "has no settings"
							: "must be a mapping of settings");
		return NULL;
	}
	object = convert_object(c, fields, node, prefix, true);
	if (convert_text(c, key, name_path, &name)) {
		marks_add(c->marks, name_path, key, false);
		if (name == NULL)
			name = json_object_new_string(key->text);
		json_object_object_add(object, "name", name);
	}
	return object;
}
