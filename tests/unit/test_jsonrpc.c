/* SPDX-License-Identifier: MPL-2.0 */
#include "proto/jsonrpc.h"

#include <json-c/json.h>
#include <string.h>

#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "proto/params.h"
#include "tests/unit/unit.h"

static void
parse(const char *text, struct rpc_line *line)
{
	struct err err = ERR_INIT;

	ck_assert_msg(rpc_parse(text, strlen(text), line, &err) == 0, "%s: %s", text, err.msg);
}

/* The server that the specification's examples suppose. */
static int64_t
operand(json_object *params, const char *name, size_t index)
{
	return json_object_is_type(params, json_type_array)
		   ? json_object_get_int64(json_object_array_get_idx(params, index))
		   : json_int(params, name);
}

static int
perform(const struct rpc_call *call, struct sbuf *result, struct err *err)
{
	int64_t sum = 0;

	if (call->invalid != NULL) {
		*err = *call->invalid;
		return (int)err->code;
	}
	if (str_eq(call->method, "subtract")) {
		sbuf_addf(result, "%d",
		    (int)(operand(call->params, "minuend", 0) -
			  operand(call->params, "subtrahend", 1)));
	} else if (str_eq(call->method, "sum")) {
		for (size_t i = 0; i < json_object_array_length(call->params); i++)
			sum += operand(call->params, NULL, i);
		sbuf_addf(result, "%d", (int)sum);
	} else if (str_eq(call->method, "get_data")) {
		sbuf_adds(result, "[\"hello\",5]");
	} else if (str_eq(call->method, "update") || str_starts(call->method, "notify_")) {
		sbuf_adds(result, "null");
	} else {
		return err_set(err, E_METHOD, "there is no method '%s'", call->method);
	}
	return 0;
}

static void
answer_call(const struct rpc_call *call, struct sbuf *out)
{
	struct err err = ERR_INIT;
	struct sbuf result = { 0 };
	int rc = perform(call, &result, &err);

	if (call->id != NULL || call->invalid != NULL) {
		if (out->len > 1)
			sbuf_addc(out, ',');
		if (rc != 0)
			rpc_error(out, call->id, &err);
		else
			rpc_result(out, call->id, result.data, result.len);
	}
	sbuf_done(&result);
}

static char *
answer(const char *text)
{
	struct err err = ERR_INIT;
	struct sbuf out = { 0 };
	struct rpc_line line;

	if (rpc_parse(text, strlen(text), &line, &err) != 0) {
		rpc_error(&out, NULL, &err);
		return sbuf_take(&out);
	}
	if (line.batch)
		sbuf_addc(&out, '[');
	for (size_t i = 0; i < line.count; i++)
		answer_call(&line.calls[i], &out);
	if (line.batch && out.len == 1)
		sbuf_reset(&out);
	else if (line.batch)
		sbuf_addc(&out, ']');
	rpc_line_done(&line);
	return sbuf_take(&out);
}

/* Wording and data of errors are the server's own. */
static void
drop_words(json_object *answer)
{
	json_object *error;

	if (json_object_is_type(answer, json_type_array)) {
		for (size_t i = 0; i < json_object_array_length(answer); i++)
			drop_words(json_object_array_get_idx(answer, i));
	} else if (json_object_object_get_ex(answer, "error", &error)) {
		ck_assert_ptr_nonnull(json_string(error, "message"));
		json_object_object_del(error, "message");
		json_object_object_del(error, "data");
	}
}

#define RESULT(id, result) "{\"jsonrpc\":\"2.0\",\"result\":" result ",\"id\":" id "}"
#define ERROR(id, code) "{\"jsonrpc\":\"2.0\",\"error\":{\"code\":" code "},\"id\":" id "}"

/* Section 7 of the specification, in its order; NULL: no answer. */
static const struct {
	const char *request, *answer;
} examples[] = {
	{ "{\"jsonrpc\": \"2.0\", \"method\": \"subtract\", \"params\": [42, 23], \"id\": 1}",
	    RESULT("1", "19") },
	{ "{\"jsonrpc\": \"2.0\", \"method\": \"subtract\", \"params\": [23, 42], \"id\": 2}",
	    RESULT("2", "-19") },
	{ "{\"jsonrpc\": \"2.0\", \"method\": \"subtract\", \"params\": {\"subtrahend\": 23, "
	  "\"minuend\": 42}, \"id\": 3}",
	    RESULT("3", "19") },
	{ "{\"jsonrpc\": \"2.0\", \"method\": \"subtract\", \"params\": {\"minuend\": 42, "
	  "\"subtrahend\": 23}, \"id\": 4}",
	    RESULT("4", "19") },
	{ "{\"jsonrpc\": \"2.0\", \"method\": \"update\", \"params\": [1,2,3,4,5]}", NULL },
	{ "{\"jsonrpc\": \"2.0\", \"method\": \"foobar\"}", NULL },
	{ "{\"jsonrpc\": \"2.0\", \"method\": \"foobar\", \"id\": \"1\"}",
	    ERROR("\"1\"", "-32601") },
	{ "{\"jsonrpc\": \"2.0\", \"method\": \"foobar, \"params\": \"bar\", \"baz]",
	    ERROR("null", "-32700") },
	{ "{\"jsonrpc\": \"2.0\", \"method\": 1, \"params\": \"bar\"}", ERROR("null", "-32600") },
	{ "[{\"jsonrpc\": \"2.0\", \"method\": \"sum\", \"params\": [1,2,4], \"id\": \"1\"},"
	  "{\"jsonrpc\": \"2.0\", \"method\"]",
	    ERROR("null", "-32700") },
	{ "[]", ERROR("null", "-32600") },
	{ "[1]", "[" ERROR("null", "-32600") "]" },
	{ "[1,2,3]", "[" ERROR("null", "-32600") "," ERROR("null", "-32600") "," ERROR(
			 "null", "-32600") "]" },
	{ "[{\"jsonrpc\": \"2.0\", \"method\": \"sum\", \"params\": [1,2,4], \"id\": \"1\"},"
	  "{\"jsonrpc\": \"2.0\", \"method\": \"notify_hello\", \"params\": [7]},"
	  "{\"jsonrpc\": \"2.0\", \"method\": \"subtract\", \"params\": [42,23], \"id\": \"2\"},"
	  "{\"foo\": \"boo\"},"
	  "{\"jsonrpc\": \"2.0\", \"method\": \"foo.get\", \"params\": {\"name\": \"myself\"}, "
	  "\"id\": \"5\"},"
	  "{\"jsonrpc\": \"2.0\", \"method\": \"get_data\", \"id\": \"9\"}]",
	    "[" RESULT("\"1\"", "7") "," RESULT("\"2\"", "19") "," ERROR("null",
		"-32600") "," ERROR("\"5\"", "-32601") "," RESULT("\"9\"", "[\"hello\",5]") "]" },
	{ "[{\"jsonrpc\": \"2.0\", \"method\": \"notify_sum\", \"params\": [1,2,4]},"
	  "{\"jsonrpc\": \"2.0\", \"method\": \"notify_hello\", \"params\": [7]}]",
	    NULL },
};

START_TEST(jsonrpc__example_of_the_specification__its_answer)
{
	CLEANUP_FREE char *got = answer(examples[_i].request);
	CLEANUP_JSON json_object *is = NULL, *should = NULL;

	if (examples[_i].answer == NULL) {
		ck_assert_str_eq(got, "");
		return;
	}
	is = json_tokener_parse(got);
	should = json_tokener_parse(examples[_i].answer);
	ck_assert_ptr_nonnull(should);
	drop_words(is);
	ck_assert_msg(json_object_equal(is, should), "%s", got);
}
END_TEST

static const struct {
	const char *id;
	bool taken;
} ids[] = {
	{ "0", true },
	{ "-7", true },
	{ "1.0", true },
	{ "1e2", true },
	{ "-0", true },
	{ "0.1E-7", true },
	{ "9007199254740993", true },
	{ "18446744073709551616", true },
	{ "-123456789012345678901234567890", true },
	{ "1e400", true },
	{ "null", true },
	{ "\"\"", true },
	{ "\"a\"", true },
	{ "\"null\"", true },
	{ "\"\\u00e9\\/\\ud83d\\ude00\\n\"", true },
	{ "\"\xc3\xa9\"", true },
	{ "true", false },
	{ "false", false },
	{ "[]", false },
	{ "[1]", false },
	{ "{}", false },
	{ "{\"id\":1}", false },
};

START_TEST(jsonrpc__id__echoed_to_the_byte_or_refused)
{
	CLEANUP_FREE char *text =
	    xasprintf("{\"id\" : %s ,\"jsonrpc\":\"2.0\",\"method\":\"update\"}", ids[_i].id);
	CLEANUP_FREE char *pair = xasprintf("[7,%s]", text);
	CLEANUP_FREE char *echo =
	    xasprintf("{\"jsonrpc\":\"2.0\",\"id\":%s,\"result\":null}", ids[_i].id);
	CLEANUP_FREE char *got = answer(text);
	struct rpc_line line;

	parse(pair, &line);
	ck_assert_uint_eq(line.count, 2);
	if (ids[_i].taken) {
		ck_assert_str_eq(got, echo);
		ck_assert_ptr_null(line.calls[1].invalid);
		ck_assert_str_eq(line.calls[1].id, ids[_i].id);
	} else {
		ck_assert(str_starts(
		    got, "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32600,"));
		ck_assert_ptr_null(line.calls[1].id);
	}
	rpc_line_done(&line);
}
END_TEST

static const struct {
	const char *text, *id, *words; /* words NULL: valid */
} calls[] = {
	{ "{\"jsonrpc\":\"2.0\",\"method\":\"a\"}", NULL, NULL },
	{ "{\"jsonrpc\":\"2.0\",\"method\":\"\",\"params\":[]}", NULL, NULL },
	{ "{\"jsonrpc\":\"2.0\",\"method\":\"a\",\"id\":1,\"params\":{},\"more\":[{}]}", "1",
	    NULL },
	{ "{\"method\":\"a\",\"id\":1}", "1", "jsonrpc is missing" },
	{ "{\"jsonrpc\":\"1.0\",\"method\":\"a\",\"id\":2}", "2", "jsonrpc must be" },
	{ "{\"jsonrpc\":2.0,\"method\":\"a\",\"id\":2}", "2", "jsonrpc must be" },
	{ "{\"jsonrpc\":null,\"method\":\"a\",\"id\":2}", "2", "jsonrpc must be" },
	{ "{\"jsonrpc\":\"2.0\",\"id\":3}", "3", "method is missing" },
	{ "{\"jsonrpc\":\"2.0\",\"method\":null,\"id\":3}", "3", "method must be a string" },
	{ "{\"jsonrpc\":\"2.0\",\"method\":[\"a\"],\"id\":3}", "3", "method must be a string" },
	{ "{\"jsonrpc\":\"2.0\",\"method\":\"a\",\"params\":null,\"id\":4}", "4",
	    "params must be" },
	{ "{\"jsonrpc\":\"2.0\",\"method\":\"a\",\"params\":7}", NULL, "params must be" },
	{ "{\"jsonrpc\":\"2.0\",\"result\":7,\"id\":4}", "4", "method is missing" },
	{ "{\"Jsonrpc\":\"2.0\",\"Method\":\"a\",\"ID\":4}", NULL, "jsonrpc is missing" },
	{ "{}", NULL, "jsonrpc is missing" }, { "null", NULL, "must be an object" },
	{ "\"x\"", NULL, "must be an object" }, { "7", NULL, "must be an object" },
	{ "1e400", NULL, NULL }, /* not even JSON that we take */
};

START_TEST(jsonrpc__call__valid_or_why_not)
{
	struct rpc_line line;
	struct err err = ERR_INIT;
	int rc = rpc_parse(calls[_i].text, strlen(calls[_i].text), &line, &err);

	if (str_eq(calls[_i].text, "1e400")) {
		ck_assert_int_eq(rc, E_PARSE);
		ck_assert_ptr_null(line.calls);
		return;
	}
	ck_assert_int_eq(rc, 0);
	ck_assert(!line.batch);
	ck_assert_uint_eq(line.count, 1);
	ck_assert_pstr_eq(line.calls[0].id, calls[_i].id);
	if (calls[_i].words == NULL) {
		ck_assert_ptr_null(line.calls[0].invalid);
		ck_assert_ptr_nonnull(line.calls[0].method);
	} else {
		ck_assert_int_eq(line.calls[0].invalid->code, E_REQUEST);
		ck_assert_ptr_nonnull(strstr(line.calls[0].invalid->msg, calls[_i].words));
		ck_assert_ptr_null(line.calls[0].method);
		ck_assert_ptr_null(line.calls[0].params);
	}
	rpc_line_done(&line);
}
END_TEST

static int
parse_batch(size_t count, struct rpc_line *line, struct err *err)
{
	struct sbuf text = { 0 };
	int rc;

	sbuf_addc(&text, '[');
	for (size_t i = 0; i < count; i++)
		sbuf_addf(&text, "%s{\"jsonrpc\":\"2.0\",\"method\":\"a\",\"id\":%zu}",
		    i > 0 ? "," : "", i);
	sbuf_addc(&text, ']');
	rc = rpc_parse(text.data, text.len, line, err);
	sbuf_done(&text);
	return rc;
}

START_TEST(jsonrpc__batch__bounded_and_each_its_own_id)
{
	struct rpc_line line;
	struct err err = ERR_INIT;

	ck_assert_int_eq(parse_batch(RPC_BATCH_MAX, &line, &err), 0);
	ck_assert(line.batch);
	ck_assert_uint_eq(line.count, RPC_BATCH_MAX);
	for (size_t i = 0; i < line.count; i++) {
		CLEANUP_FREE char *want = xasprintf("%zu", i);

		ck_assert_str_eq(line.calls[i].id, want);
	}
	rpc_line_done(&line);
	ck_assert_int_eq(parse_batch(RPC_BATCH_MAX + 1, &line, &err), E_REQUEST);
	ck_assert_ptr_null(line.root);
	ck_assert_int_eq(parse_batch(5000, &line, &err), E_REQUEST);
	ck_assert_int_eq(parse_batch(0, &line, &err), E_REQUEST);
	ck_assert_int_eq(rpc_parse("[]", 2, &line, NULL), E_REQUEST);
}
END_TEST

START_TEST(jsonrpc__positions__take_the_rows_names)
{
	const struct method *stop = method_find("vm.stop", 7);
	CLEANUP_JSON json_object *given = json_tokener_parse("[\"web\",null,true]"), *named = NULL;
	CLEANUP_JSON json_object *long_list = json_tokener_parse("[1,2,3,4,5]");
	struct vm_stop_args args = { 0 };
	struct err err = ERR_INIT;

	named = rpc_params_by_name(stop, given, &err);
	ck_assert_int_eq(fields_decode_one(stop->params, named, &args, &err), 0);
	ck_assert_str_eq(args.name, "web");
	ck_assert_uint_eq(args.timeout_ms, 30000);
	ck_assert(args.force);
	fields_release(stop->params, &args);
	ck_assert_ptr_null(rpc_params_by_name(stop, long_list, &err));
	ck_assert_int_eq(err.code, E_PARAMS);
	ck_assert_str_eq(err.msg, "vm.stop takes at most 4 parameters, not 5");
}
END_TEST

START_TEST(jsonrpc__error__read_back_equal)
{
	struct err err = ERR_INIT, again = ERR_INIT;
	CLEANUP_JSON json_object *tree = NULL;
	struct sbuf out = { 0 };

	err_set(&err, E_EXISTS, "'%s'\n\t\\ \x01 \xff \"quoted\"",
	    "w\xc3\xa9"
	    "b");
	err_hint(&err, "a \"hint\"");
	err_object(&err, "w\xc3\xa9"
			 "b");
	rpc_error(&out, "7", &err);
	ck_assert_int_eq(gate_check(out.data, out.len, &again), 0);
	tree = json_tokener_parse(out.data);
	rpc_error_read(json_object_object_get(tree, "error"), &again);
	ck_assert_int_eq(again.code, E_EXISTS);
	ck_assert_str_eq(again.msg, "'w\xc3\xa9"
				    "b'\n\t\\ \\x01 \\xff \"quoted\"");
	ck_assert_str_eq(again.hint, err.hint);
	ck_assert_str_eq(again.object, err.object);
	sbuf_done(&out);
}
END_TEST

START_TEST(jsonrpc__error__every_code_survives)
{
	for (int code = E_OK + 1; code < E_COUNT; code++) {
		struct err err = { .code = (enum err_code)code }, again = ERR_INIT;
		CLEANUP_JSON json_object *tree = NULL;
		struct sbuf out = { 0 };

		rpc_error(&out, NULL, &err);
		tree = json_tokener_parse(out.data);
		ck_assert(json_object_object_get_ex(tree, "id", NULL));
		rpc_error_read(json_object_object_get(tree, "error"), &again);
		ck_assert_int_eq(again.code, code);
		ck_assert_str_eq(again.msg, err_meaning((enum err_code)code));
		sbuf_done(&out);
	}
}
END_TEST

START_TEST(jsonrpc__foreign_error__still_an_error)
{
	static const struct {
		const char *text;
		enum err_code code;
	} errors[] = {
		{ "{\"code\":-32601,\"message\":\"m\"}", E_METHOD },
		{ "{\"code\":-32601,\"message\":\"m\",\"data\":7}", E_METHOD },
		{ "{\"code\":-32001,\"message\":\"m\",\"data\":{\"name\":\"a_later_one\"}}",
		    E_NOT_FOUND },
		{ "{\"code\":1,\"message\":\"m\",\"data\":{\"name\":\"timed_out\"}}", E_TIMEOUT },
		{ "{\"code\":1,\"message\":\"m\",\"data\":{\"name\":[],\"hint\":1}}", E_FAILED },
		{ "{\"code\":1}", E_FAILED },
		{ "{\"message\":{}}", E_FAILED },
		{ "[]", E_FAILED },
		{ "null", E_FAILED },
	};

	for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
		CLEANUP_JSON json_object *tree = json_tokener_parse(errors[i].text);
		struct err err = ERR_INIT;

		rpc_error_read(tree, &err);
		ck_assert_msg(err.code == errors[i].code, "%s", errors[i].text);
		ck_assert_str_ne(err.msg, "");
	}
}
END_TEST

START_TEST(jsonrpc__notification__one_line)
{
	CLEANUP_JSON json_object *params = json_tokener_parse("{\"a\":\"/x\\n\"}");
	struct sbuf out = { 0 };

	rpc_notification(&out, "event", params);
	ck_assert_str_eq(
	    out.data, "{\"jsonrpc\":\"2.0\",\"method\":\"event\",\"params\":{\"a\":\"/x\\n\"}}");
	sbuf_reset(&out);
	rpc_notification(&out, "event", NULL);
	ck_assert_str_eq(out.data, "{\"jsonrpc\":\"2.0\",\"method\":\"event\"}");
	sbuf_done(&out);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("jsonrpc");
	TCase *tables = tcase_create("tables");

	tcase_add_loop_test(
	    tables, jsonrpc__example_of_the_specification__its_answer, 0, (int)ARRAY_LEN(examples));
	tcase_add_loop_test(
	    tables, jsonrpc__id__echoed_to_the_byte_or_refused, 0, (int)ARRAY_LEN(ids));
	tcase_add_loop_test(tables, jsonrpc__call__valid_or_why_not, 0, (int)ARRAY_LEN(calls));
	suite_add_tcase(s, tables);
	UNIT_CASE(s, jsonrpc__batch__bounded_and_each_its_own_id);
	UNIT_CASE(s, jsonrpc__positions__take_the_rows_names);
	UNIT_CASE(s, jsonrpc__error__read_back_equal);
	UNIT_CASE(s, jsonrpc__error__every_code_survives);
	UNIT_CASE(s, jsonrpc__foreign_error__still_an_error);
	UNIT_CASE(s, jsonrpc__notification__one_line);
	return unit_main(s);
}
