/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/vmfile/settings.h"

#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/vmfile/vmfile.h"
#include "lib/yaml/problems.h"
#include "lib/yaml/yaml.h"

enum { MAX_FILE = 1 << 20 };

static void
snake(char *key)
{
	for (; *key != '\0'; key++)
		if (*key == '-')
			*key = '_';
}

/* Owned: what the unknown key may have meant, else all that there are. */
static char *
known_settings(const struct field *fields, const char *name)
{
	struct sbuf hint = { 0 };
	const char *words[64], *near;
	size_t count = 0;

	while (fields[count].name != NULL && count < ARRAY_LEN(words)) {
		words[count] = fields[count].name;
		count++;
	}
	near = str_nearest(name, words, count);
	sbuf_adds(&hint, near != NULL ? "did you mean '" : "known here: ");
	if (near != NULL)
		sbuf_addf(&hint, "%s'?", near);
	for (size_t i = 0; near == NULL && i < count; i++)
		sbuf_addf(&hint, "%s%s", i > 0 ? ", " : "", words[i]);
	for (char *c = hint.data; *c != '\0'; c++)
		if (*c == '_')
			*c = '-';
	return sbuf_take(&hint);
}

static void
read_entry(const struct node *key, const struct node *value, const struct field *fields,
    void *settings, struct problems *problems)
{
	CLEANUP_FREE char *name = key->kind == NODE_SCALAR ? xstrdup(key->text) : xstrdup("");
	const struct field *field;
	struct err err = ERR_INIT;

	snake(name);
	field = fields_find(fields, name);
	if (field == NULL) {
		CLEANUP_FREE char *hint = known_settings(fields, name);

		problems_addf(problems, key->line, key->column, hint, "unknown setting '%s'",
		    key->kind == NODE_SCALAR ? key->text : "(not a word)");
		return;
	}
	if (value->kind != NODE_SCALAR) {
		problems_addf(
		    problems, value->line, value->column, NULL, "'%s' takes one value", key->text);
		return;
	}
	if (field_parse(field, value->text, settings, &err) != 0)
		problems_add(problems, value->line, value->column, &err);
}

static void
read_tree(
    const struct node *root, const struct field *fields, void *settings, struct problems *problems)
{
	if (root == NULL)
		return;
	if (root->kind != NODE_MAP) {
		problems_addf(problems, root->line, root->column, NULL,
		    "the settings must be a mapping, such as 'log-level: debug'");
		return;
	}
	for (size_t i = 0; i + 1 < root->count; i += 2)
		read_entry(root->items[i], root->items[i + 1], fields, settings, problems);
}

int
settings_load(const char *path, const struct field *fields, void *ret_struct, struct err *err)
{
	CLEANUP_FREE char *text = NULL, *all = NULL;
	json_object *empty = json_object_new_object();
	struct problems problems = { 0 };
	struct tree tree = { 0 };
	size_t len;
	int rc = fields_decode_one(fields, empty, ret_struct, err); /* the defaults */

	json_object_put(empty);
	if (rc != 0 || path == NULL)
		return rc;
	rc = fs_read(path, MAX_FILE, &text, &len, err);
	if (rc != 0)
		return rc;
	if (!str_utf8_valid(text, len))
		return err_set(err, E_USAGE, "'%s' is not valid UTF-8", path);
	tree_read(text, len, &tree, &problems);
	if (problems.count == 0)
		read_tree(tree.root, fields, ret_struct, &problems);
	if (problems.count > 0) {
		problems_sort(&problems);
		all = problems_text(&problems, path);
		rc = err_set(err, E_USAGE, "%s", all);
	}
	tree_done(&tree);
	problems_done(&problems);
	return rc;
}
