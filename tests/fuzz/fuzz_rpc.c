/* SPDX-License-Identifier: MPL-2.0 */
#include <assert.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "proto/jsonrpc.h"
#include "proto/params.h"
#include "tests/fuzz/fuzz.h"

/* What the rows take, they write and read back to the same. */
static void
try_params(const struct method *method, json_object *params)
{
	void *args = xcalloc(1, method->args_size), *again = xcalloc(1, method->args_size);
	struct err err = ERR_INIT;

	if (fields_decode_one(method->params, params, args, &err) == 0) {
		CLEANUP_JSON json_object *one = fields_encode(method->params, args), *two = NULL;

		assert(fields_decode_one(method->params, one, again, &err) == 0);
		two = fields_encode(method->params, again);
		assert(json_object_equal(one, two));
	} else {
		assert(err.code == E_PARAMS && err.msg[0] != '\0');
	}
	fields_release(method->params, args);
	fields_release(method->params, again);
	free(args);
	free(again);
}

static void
try_call(const struct rpc_call *call)
{
	const struct method *method;
	struct sbuf out = { 0 };
	struct err err = ERR_INIT;

	if (call->invalid != NULL) {
		assert(call->invalid->code == E_REQUEST && call->method == NULL);
		rpc_error(&out, call->id, call->invalid);
		assert(gate_check(out.data, out.len, &err) == 0);
		sbuf_done(&out);
		return;
	}
	/* A method that there is decodes its own; any other name stands for all of them. */
	method = method_find(call->method, strlen(call->method));
	for (size_t i = 0; i < METHODS; i++) {
		CLEANUP_JSON json_object *named = NULL;

		if (method != NULL && method != &methods[i])
			continue;
		if (json_object_is_type(call->params, json_type_array))
			named = rpc_params_by_name(&methods[i], call->params, &err);
		else
			named = json_object_get(call->params);
		try_params(&methods[i], named);
	}
	rpc_result(&out, call->id, "null", 4);
	assert(gate_check(out.data, out.len, &err) == 0);
	sbuf_done(&out);
}

/* Any bytes are calls or an error; what passes the gate is the same to json-c, both ways. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_FREE char *text = xmalloc(size + 1);
	struct rpc_line line;
	struct err err = ERR_INIT;
	int gate, rc;

	memcpy(text, data, size);
	text[size] = '\0';
	gate = gate_check(text, size, NULL);
	rc = rpc_parse(text, size, &line, &err);
	if (gate != 0) {
		assert(rc == gate && err.msg[0] != '\0');
		return 0;
	}
	assert(rc == 0 || (rc == E_REQUEST && line.count == 0));
	if (rc == 0) {
		const char *written = json_object_to_json_string_ext(line.root, JSON_TEXT_FLAGS);

		assert(gate_check(written, strlen(written), &err) == 0 ||
		       strstr(err.msg, "64 bits") != NULL); /* ids may be larger */
		for (size_t i = 0; i < line.count; i++)
			try_call(&line.calls[i]);
	}
	rpc_line_done(&line);
	return 0;
}
