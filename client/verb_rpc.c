/* SPDX-License-Identifier: MPL-2.0 */
#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "client/call.h"
#include "client/files.h"
#include "client/json.h"
#include "client/out.h"
#include "client/verbs.h"
#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"

struct rpc_args {
	char *method;
	struct strings params;
};

/* clang-format off */
static const struct field rpc_fields[] = {
	FIELD(struct rpc_args, method, FIELD_STRING,  .min = 1, .text = "the method, such as vm.get; rpc.discover tells them all"),
	FIELD(struct rpc_args, params, FIELD_STRINGS, .text = "key=value, where value is JSON or a bare string, or one JSON object"),
	FIELD_END
};
/* clang-format on */

/* JSON when it is JSON; a word that is none is a string. */
static json_object *
parse_value(const char *text)
{
	json_tokener *tokener = json_tokener_new_ex(32);
	json_object *value;

	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
	value = json_tokener_parse_ex(tokener, text, (int)strlen(text) + 1);
	if (json_tokener_get_error(tokener) != json_tokener_success) {
		json_object_put(value);
		value = json_object_new_string(text);
	}
	json_tokener_free(tokener);
	return value;
}

/* An object that may be a file: an image. */
static bool
takes_file(const struct field *row)
{
	return row->type == FIELD_OBJECT && row->fields[0].inlined;
}

static bool
is_path(const char *word)
{
	return strchr(word, '/') != NULL && strstr(word, "://") == NULL;
}

static int
add_param(const struct method *method, const char *word, struct sent_files *files,
    json_object *params, struct err *err)
{
	const char *equals = strchr(word, '=');
	CLEANUP_FREE char *key = NULL, *path = NULL;
	const struct field *row;
	json_object *value = NULL;
	int rc;

	if (equals == NULL) {
		err_set(err, E_USAGE, "'%s' is not key=value", word);
		err_hint(err, "write parameters as key=value, or as one JSON object");
		return E_USAGE;
	}
	key = xstrndup(word, (size_t)(equals - word));
	row = fields_find(method->params, key);
	if (row != NULL && equals[1] != '{' &&
	    (row->type == FIELD_FILE || (takes_file(row) && is_path(equals + 1)))) {
		path = fs_expand(equals + 1, NULL);
		rc = files_attach(files, path, &value, err);
		if (rc != 0)
			return rc;
	} else if (row != NULL && (row->type == FIELD_STRING || row->type == FIELD_NAME)) {
		value = json_object_new_string(equals + 1);
	} else {
		value = parse_value(equals + 1);
	}
	json_object_object_add(params, key, value);
	return 0;
}

static int
parse_params(const struct method *method, const struct strings *words, struct sent_files *files,
    json_object **ret_params, struct err *err)
{
	json_object *params;
	int rc = 0;

	if (words->count == 1 && words->items[0][0] == '{') {
		params = parse_value(words->items[0]);
		if (!json_object_is_type(params, json_type_object)) {
			json_object_put(params);
			return err_set(err, E_USAGE, "the parameters are not valid JSON");
		}
		*ret_params = params;
		return 0;
	}
	params = json_object_new_object();
	for (size_t i = 0; rc == 0 && i < words->count; i++)
		rc = add_param(method, words->items[i], files, params, err);
	if (rc != 0)
		json_object_put(params);
	else
		*ret_params = params;
	return rc;
}

static int
unknown_method(const char *name, struct err *err)
{
	const char *known[METHODS], *near;

	for (size_t i = 0; i < METHODS; i++)
		known[i] = methods[i].wire;
	near = str_nearest(name, known, METHODS);
	err_set(err, E_USAGE, "unknown method '%s'", name);
	if (near != NULL)
		err_hint(err, "did you mean '%s'?", near);
	else
		err_hint(err, "'vmctl rpc rpc.discover' tells them all");
	return E_USAGE;
}

static int
run_rpc(struct vmctl *ctl, void *args, struct err *err)
{
	const struct rpc_args *a = args;
	const struct method *method = method_find(a->method, strlen(a->method));
	struct sent_files files = { 0 };
	struct call call = { 0 };
	struct json_object *result = NULL;
	int rc;

	if (method == NULL)
		return unknown_method(a->method, err);
	call.method = (enum method_id)(method - methods);
	rc = parse_params(method, &a->params, &files, &call.params, err);
	if (rc == 0) {
		call.fds = files.fds;
		call.fd_count = files.fd_count;
		rc = call_run(ctl, &call, &result, err);
	}
	files_done(&files);
	if (rc == 0) {
		ctl->global.json = true; /* there is no other form */
		out_json(ctl, result);
	}
	json_object_put(result);
	return rc;
}

const struct verb verb_rpc = {
	.name = "rpc",
	.summary = "Call any method, and print its result",
	.details = "A parameter that is a file takes a path, which vmctl opens and passes on.",
	.fields = rpc_fields,
	.args_size = sizeof(struct rpc_args),
	.positionals = (const struct positional[]){ { "method", "METHOD", false, false },
	    { "params", "KEY=VALUE", true, true }, { 0 } },
	.run = run_rpc,
};
