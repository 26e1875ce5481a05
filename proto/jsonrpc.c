/* SPDX-License-Identifier: MPL-2.0 */
#include "proto/jsonrpc.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "proto/gate.h"
#include "proto/params.h"

static json_object *
parse_tree(const char *text, size_t len, struct err *err)
{
	/* json-c counts a scalar as a level of its own. */
	json_tokener *tok = json_tokener_new_ex(RPC_DEPTH_MAX + 1);
	json_object *root;
	enum json_tokener_error error;

	json_tokener_set_flags(tok, JSON_TOKENER_STRICT);
	root = json_tokener_parse_ex(tok, text, (int)len + 1);
	error = json_tokener_get_error(tok);
	json_tokener_free(tok);
	if (error != json_tokener_success)
		err_set(err, E_PARSE, "bad JSON: %s", json_tokener_error_desc(error));
	else
		err->code = E_OK;
	return root;
}

static void __attribute__((format(printf, 2, 3)))
refuse(struct rpc_call *call, const char *fmt, ...)
{
	CLEANUP_FREE char *words = NULL;
	va_list ap;

	if (call->invalid != NULL)
		return;
	va_start(ap, fmt);
	words = xvasprintf(fmt, ap);
	va_end(ap);
	call->invalid = xcalloc(1, sizeof(*call->invalid));
	err_set(call->invalid, E_REQUEST, "%s", words);
}

static void
read_id(struct rpc_call *call, json_object *object, const char *source, size_t len)
{
	json_object *id;

	if (!json_object_object_get_ex(object, "id", &id))
		return;
	switch (json_object_get_type(id)) {
	case json_type_null:
	case json_type_int:
	case json_type_double:
	case json_type_string:
		call->id = xstrndup(source, len);
		return;
	case json_type_boolean:
	case json_type_object:
	case json_type_array:
		break;
	}
	refuse(call, "id must be a string, a number or null");
}

static void
read_call(struct rpc_call *call, json_object *object, const char *id, size_t id_len)
{
	json_object *version, *method;

	if (!json_object_is_type(object, json_type_object)) {
		refuse(call, "a request must be an object");
		return;
	}
	read_id(call, object, id, id_len);
	if (!str_eq(json_string(object, "jsonrpc"), "2.0"))
		refuse(call, json_object_object_get_ex(object, "jsonrpc", &version)
				 ? "jsonrpc must be \"2.0\""
				 : "jsonrpc is missing; it must be \"2.0\"");
	if (!json_object_object_get_ex(object, "method", &method))
		refuse(call, "method is missing");
	else if (!json_object_is_type(method, json_type_string))
		refuse(call, "method must be a string");
	if (json_object_object_get_ex(object, "params", &call->params) &&
	    !json_object_is_type(call->params, json_type_object) &&
	    !json_object_is_type(call->params, json_type_array))
		refuse(call, "params must be an object or an array");
	if (call->invalid != NULL)
		call->params = NULL;
	else
		call->method = json_object_get_string(method);
}

int
rpc_parse(const char *text, size_t len, struct rpc_line *ret_line, struct err *err)
{
	struct err own = ERR_INIT;
	struct gate_ids ids;
	int rc;

	memset(ret_line, 0, sizeof(*ret_line));
	if (err == NULL)
		err = &own;
	rc = gate_scan(text, len, &ids, err);
	if (rc != 0)
		return rc;
	ret_line->root = parse_tree(text, len, &own);
	if (own.code != E_OK) {
		*err = own;
		return (int)own.code;
	}
	ret_line->batch = json_object_is_type(ret_line->root, json_type_array);
	ret_line->count = ret_line->batch ? json_object_array_length(ret_line->root) : 1;
	if (ret_line->count == 0 || ret_line->count > RPC_BATCH_MAX) {
		rc = ret_line->count == 0 ? err_set(err, E_REQUEST, "an empty batch")
					  : err_set(err, E_REQUEST,
						"a batch of more than %d requests", RPC_BATCH_MAX);
		ret_line->count = 0;
		rpc_line_done(ret_line);
		return rc;
	}
	ret_line->calls = xcalloc(ret_line->count, sizeof(*ret_line->calls));
	for (size_t i = 0; i < ret_line->count; i++)
		read_call(&ret_line->calls[i],
		    ret_line->batch ? json_object_array_get_idx(ret_line->root, i) : ret_line->root,
		    text + ids.of[i].at, ids.of[i].len);
	return 0;
}

void
rpc_line_done(struct rpc_line *line)
{
	for (size_t i = 0; i < line->count; i++) {
		free(line->calls[i].id);
		free(line->calls[i].invalid);
	}
	free(line->calls);
	json_object_put(line->root);
	memset(line, 0, sizeof(*line));
}

json_object *
rpc_params_by_name(const struct method *method, json_object *array, struct err *err)
{
	size_t count = json_object_array_length(array), taken = 0;
	json_object *object;

	while (method->params[taken].name != NULL)
		taken++;
	if (count > taken) {
		err_set(err, E_PARAMS, "%s takes at most %zu parameters, not %zu", method->wire,
		    taken, count);
		return NULL;
	}
	object = json_object_new_object();
	for (size_t i = 0; i < count; i++)
		json_object_object_add(object, method->params[i].name,
		    json_object_get(json_object_array_get_idx(array, i)));
	return object;
}

/* A JSON string of any bytes: what is not UTF-8 is shown as \xNN. */
static void
add_string(struct sbuf *out, const char *s)
{
	CLEANUP_FREE char *shown = NULL;
	const char *from;

	if (!str_utf8_valid(s, strlen(s)))
		s = shown = str_printable(s, strlen(s));
	sbuf_addc(out, '"');
	for (from = s; *s != '\0'; s++) {
		unsigned char c = (unsigned char)*s;

		if (c >= 0x20 && c != '"' && c != '\\')
			continue;
		sbuf_add(out, from, (size_t)(s - from));
		from = s + 1;
		if (c >= 0x20)
			sbuf_addf(out, "\\%c", c);
		else if (c == '\n')
			sbuf_adds(out, "\\n");
		else if (c == '\t')
			sbuf_adds(out, "\\t");
		else
			sbuf_addf(out, "\\u%04x", c);
	}
	sbuf_add(out, from, (size_t)(s - from));
	sbuf_addc(out, '"');
}

static void
add_head(struct sbuf *out, const char *id)
{
	sbuf_adds(out, "{\"jsonrpc\":\"2.0\",\"id\":");
	sbuf_adds(out, id != NULL ? id : "null");
}

void
rpc_result(struct sbuf *out, const char *id, const char *result, size_t len)
{
	add_head(out, id);
	sbuf_adds(out, ",\"result\":");
	sbuf_add(out, result, len);
	sbuf_addc(out, '}');
}

static void
add_member(struct sbuf *out, const char *key, const char *value)
{
	if (value[0] == '\0')
		return;
	sbuf_addf(out, ",\"%s\":", key);
	add_string(out, value);
}

void
rpc_error(struct sbuf *out, const char *id, const struct err *err)
{
	add_head(out, id);
	sbuf_addf(out, ",\"error\":{\"code\":%d,\"message\":", err_rpc_code(err->code));
	add_string(out, err->msg[0] != '\0' ? err->msg : err_meaning(err->code));
	sbuf_addf(out, ",\"data\":{\"name\":\"%s\"", err_name(err->code));
	add_member(out, "hint", err->hint);
	add_member(out, "object", err->object);
	sbuf_adds(out, "}}}");
}

void
rpc_notification(struct sbuf *out, const char *method, json_object *params)
{
	sbuf_adds(out, "{\"jsonrpc\":\"2.0\",\"method\":");
	add_string(out, method);
	if (params != NULL) {
		sbuf_adds(out, ",\"params\":");
		sbuf_adds(out, json_object_to_json_string_ext(params, JSON_TEXT_FLAGS));
	}
	sbuf_addc(out, '}');
}

/* Words of the other side, made fit for a terminal. */
static void
copy_words(char *to, size_t size, const char *from)
{
	CLEANUP_FREE char *shown = str_printable(from, strlen(from));

	snprintf(to, size, "%s", shown);
}

void
rpc_error_read(json_object *error, struct err *ret_err)
{
	json_object *data = NULL;
	const char *words, *name;

	if (!json_object_is_type(error, json_type_object) ||
	    json_string(error, "message") == NULL) {
		err_set(ret_err, E_FAILED, "the answer is an error that can not be read");
		return;
	}
	err_set(ret_err, err_from_rpc_code((int)json_int(error, "code")), "error");
	copy_words(ret_err->msg, sizeof(ret_err->msg), json_string(error, "message"));
	if (!json_object_object_get_ex(error, "data", &data) ||
	    !json_object_is_type(data, json_type_object))
		return;
	name = json_string(data, "name");
	if (name != NULL && str_eq(err_name(err_from_name(name)), name))
		ret_err->code = err_from_name(name);
	words = json_string(data, "hint");
	if (words != NULL)
		copy_words(ret_err->hint, sizeof(ret_err->hint), words);
	words = json_string(data, "object");
	if (words != NULL)
		copy_words(ret_err->object, sizeof(ret_err->object), words);
}
