/* SPDX-License-Identifier: MPL-2.0 */
#include "proto/gate.h"

#include <json-c/json.h>
#include <string.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "tests/unit/unit.h"

/* What json-c in strict mode, with the gate's depth, says of a line. */
static bool
tree_takes(const char *text, size_t len)
{
	json_tokener *tok = json_tokener_new_ex(RPC_DEPTH_MAX + 1);
	json_object *root;
	bool taken;

	json_tokener_set_flags(tok, JSON_TOKENER_STRICT);
	root = json_tokener_parse_ex(tok, text, (int)len + 1);
	taken = json_tokener_get_error(tok) == json_tokener_success;
	json_object_put(root);
	json_tokener_free(tok);
	return taken;
}

/* LAX: json-c takes it and the gate does not; the reason that there is a gate. */
enum verdict { TAKEN, REFUSED, LAX };

#define LINE(text, verdict, ...)                                                                   \
	{                                                                                          \
		text, sizeof(text) - 1, verdict, __VA_ARGS__                                       \
	}

static const struct line {
	const char *text;
	size_t len;
	enum verdict verdict;
	const char *reason; /* within the error */
} lines[] = {
	/* values */
	LINE("null", TAKEN),
	LINE("true", TAKEN),
	LINE("false", TAKEN),
	LINE("0", TAKEN),
	LINE("\"\"", TAKEN),
	LINE("[]", TAKEN),
	LINE("{}", TAKEN),
	LINE(" \t\r\n[ ] \t\r\n", TAKEN),
	LINE("[1,\"a\",null,true,false,{},[]]", TAKEN),
	LINE("{\"a\" : 1 , \"b\" : [ 2 , 3 ] }", TAKEN),
	LINE("", REFUSED, "byte 0: it ends where a value is due"),
	LINE("  ", REFUSED, "byte 2: it ends"),
	LINE("nul", REFUSED, "byte 0: 'n' where a value"),
	LINE("nulL", REFUSED, "byte 0"),
	LINE("TRUE", REFUSED, "byte 0"),
	LINE("False", REFUSED, "byte 0"),
	LINE("undefined", REFUSED, "byte 0"),
	LINE("nullx", REFUSED, "byte 4: 'x' where the end is due"),
	LINE("\xef\xbb\xbf{}", REFUSED, "byte 0: the byte 0xef"),
	LINE("\f1", REFUSED, "byte 0: the byte 0x0c"),
	LINE("\v[1]", REFUSED, "byte 0: the byte 0x0b"),
	LINE("\xc2\xa0[]", REFUSED, "byte 0: the byte 0xc2"),
	/* what comes after */
	LINE("{} {}", REFUSED, "byte 3: '{' where the end"),
	LINE("1 2", REFUSED, "byte 2"),
	LINE("[]]", REFUSED, "byte 2: ']' where the end"),
	LINE("{}\0", LAX, "byte 2: the byte 0x00"),
	LINE("[1]\0[2]", LAX, "byte 3: the byte 0x00"),
	LINE("\0", REFUSED, "byte 0: the byte 0x00"),
	/* arrays and objects */
	LINE("[", REFUSED, "byte 1: it ends where a value"),
	LINE("[1", REFUSED, "byte 2: it ends where ',' or ']'"),
	LINE("[1,", REFUSED, "byte 3: it ends"),
	LINE("[1,]", REFUSED, "byte 3: ']' where a value"),
	LINE("[,1]", REFUSED, "byte 1: ',' where a value"),
	LINE("[1 2]", REFUSED, "byte 3: '2' where ',' or ']'"),
	LINE("[1}", REFUSED, "byte 2: '}'"),
	LINE("{", REFUSED, "byte 1: it ends where a member's name"),
	LINE("{\"a\"", REFUSED, "byte 4: it ends where ':'"),
	LINE("{\"a\":", REFUSED, "byte 5: it ends where a value"),
	LINE("{\"a\":1", REFUSED, "byte 6: it ends where ',' or '}'"),
	LINE("{\"a\":1,}", REFUSED, "byte 7: '}' where a member's name"),
	LINE("{,}", REFUSED, "byte 1"),
	LINE("{\"a\" 1}", REFUSED, "byte 5: '1' where ':'"),
	LINE("{\"a\":1 \"b\":2}", REFUSED, "byte 7"),
	LINE("{a:1}", REFUSED, "byte 1: 'a' where a member's name"),
	LINE("{1:1}", REFUSED, "byte 1"),
	LINE("{null:1}", REFUSED, "byte 1"),
	LINE("{'a':1}", LAX, "byte 1: ''' where a member's name"),
	LINE("['a']", REFUSED, "byte 1: ''' where a value"),
	LINE("[1] // x", REFUSED, "byte 4: '/'"),
	LINE("[/* x */1]", REFUSED, "byte 1: '/'"),
	LINE("[1 /* x */]", REFUSED, "byte 3: '/'"),
	LINE("[# x\n1]", REFUSED, "byte 1: '#'"),
	/* numbers */
	LINE("[-0, 0.0, -0.0e-0, 1E+2, 1e2, 123456789012345678]", TAKEN),
	LINE("[18446744073709551615,-9223372036854775808]", TAKEN),
	LINE("[1e308,-1e308,1e-400,0.1,1.7976931348623157e308]", TAKEN),
	LINE("[18446744073709551616]", LAX, "byte 1: a number that does not fit"),
	LINE("[-9223372036854775809]", LAX, "byte 1: a number that does not fit"),
	LINE("[1e400]", LAX, "byte 1: a number that does not fit"),
	LINE("[-1e309]", LAX, "byte 1: a number that does not fit"),
	LINE("[01]", REFUSED, "byte 2: '1' where ','"),
	LINE("[-01]", LAX, "byte 3: '1' where ','"),
	LINE("[00]", LAX, "byte 2"),
	LINE("[00.5]", LAX, "byte 2: '0' where ','"),
	LINE("[1.]", LAX, "byte 3: ']' where a digit"),
	LINE("[.5]", REFUSED, "byte 1: '.'"),
	LINE("[-.5]", LAX, "byte 2: '.' where a digit"),
	LINE("[1e]", REFUSED, "byte 3: ']' where a digit"),
	LINE("[1e+]", REFUSED, "byte 4: ']' where a digit"),
	LINE("[1.e2]", LAX, "byte 3: 'e' where a digit"),
	LINE("[+1]", REFUSED, "byte 1: '+'"),
	LINE("[-]", REFUSED, "byte 2: ']' where a digit"),
	LINE("[--1]", REFUSED, "byte 2"),
	LINE("[0x10]", REFUSED, "byte 2: 'x'"),
	LINE("[1_000]", REFUSED, "byte 2"),
	LINE("NaN", LAX, "byte 0: 'N'"),
	LINE("[-NaN]", REFUSED, "byte 2: 'N'"),
	LINE("[nan]", REFUSED, "byte 1: 'n'"),
	LINE("[Infinity]", LAX, "byte 1: 'I'"),
	LINE("[-Infinity]", LAX, "byte 2: 'I' where a digit"),
	/* strings */
	LINE("\"\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD83D\\uDE00\"", TAKEN),
	LINE("\"\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\x7f\"", TAKEN),
	LINE("\"a", REFUSED, "byte 0: a string without an end"),
	LINE("\"a\\\"", REFUSED, "byte 0: a string without an end"),
	LINE("\"a\\", REFUSED, "byte 2: an unknown escape"),
	LINE("\"\\x41\"", REFUSED, "byte 1: an unknown escape"),
	LINE("\"\\'\"", REFUSED, "byte 1: an unknown escape"),
	LINE("\"\\u12\"", REFUSED, "byte 1: \\u without four"),
	LINE("\"\\u", REFUSED, "byte 1: \\u without four"),
	LINE("\"\\U0041\"", REFUSED, "byte 1: an unknown escape"),
	LINE("\"a\tb\"", LAX, "byte 2: the raw control byte 0x09"),
	LINE("\"a\nb\"", LAX, "byte 2: the raw control byte 0x0a"),
	LINE("\"a\x01\"", LAX, "byte 2: the raw control byte 0x01"),
	LINE("\"a\0b\"", REFUSED, "byte 2: the raw control byte 0x00"),
	LINE("\"\\u0000\"", LAX, "byte 1: \\u0000 is not taken"),
	LINE("{\"a\\u0000b\":1}", LAX, "byte 3: \\u0000 is not taken"),
	LINE("\"\\ud800\"", LAX, "byte 1: half of a surrogate pair"),
	LINE("\"\\udc00\"", LAX, "byte 1: half of a surrogate pair"),
	LINE("\"\\ud800x\"", LAX, "byte 1: half of a surrogate pair"),
	LINE("\"\\ud800\\ud800\"", LAX, "byte 1: half of a surrogate pair"),
	LINE("\"\\udc00\\udc00\"", LAX, "byte 1: half of a surrogate pair"),
	LINE("\"\\ud800\\u0041\"", LAX, "byte 1: half of a surrogate pair"),
	LINE("\"\\ud83d\\n\"", LAX, "byte 1: half of a surrogate pair"),
	LINE("\"\xff\"", LAX, "byte 0: a string that is not valid UTF-8"),
	LINE("[1,\"\xc3\"]", LAX, "byte 3: a string that is not valid UTF-8"),
	LINE("\"\xc0\xaf\"", LAX, "not valid UTF-8"),
	LINE("\"\xed\xa0\x80\"", LAX, "not valid UTF-8"),
	LINE("\"\xf4\x90\x80\x80\"", LAX, "not valid UTF-8"),
	LINE("\"\xe2\x82\"", LAX, "not valid UTF-8"),
	LINE("{\"\x80\":1}", LAX, "not valid UTF-8"),
	/* duplicate keys */
	LINE("{\"a\":{\"a\":1},\"b\":{\"a\":1}}", TAKEN),
	LINE("[{\"a\":1},{\"a\":1}]", TAKEN),
	LINE("{\"\":1,\"a\":2,\"A\":3,\"aa\":4}", TAKEN),
	LINE("{\"\\u0061a\":1,\"\\u0062a\":2}", TAKEN),
	LINE("{\"a\":1,\"a\":1}", LAX, "byte 7: the second member of that name"),
	LINE("{\"\":1,\"\":1}", LAX, "byte 6: the second member"),
	LINE("{\"a\":1,\"b\":{},\"\\u0061\":1}", LAX, "byte 14: the second member"),
	LINE("{\"\\/\":1,\"/\":1}", LAX, "byte 8: the second member"),
	LINE("{\"\\u00e9\":1,\"\xc3\xa9\":1}", LAX, "byte 12: the second member"),
	LINE("{\"\\ud83d\\ude00\":1,\"\xf0\x9f\x98\x80\":1}", LAX, "byte 18: the second member"),
	LINE("{\"\\t\":1,\"\\u0009\":1}", LAX, "byte 8: the second member"),
	LINE("{\"\\u20ac\":1,\"\\u20aC\":1}", LAX, "byte 12: the second member"),
	LINE("[{\"x\":{\"k\":1,\"k\":2}}]", LAX, "byte 13: the second member"),
};

START_TEST(gate__line__taken_or_refused_with_the_place)
{
	const struct line *line = &lines[_i];
	CLEANUP_FREE char *text = xmalloc(line->len + 1);
	struct err err = ERR_INIT;
	int rc;

	/* Memory of exactly that size, for the sanitizers. */
	memcpy(text, line->text, line->len + 1);
	rc = gate_check(text, line->len, &err);
	ck_assert_msg((rc == 0) == (line->verdict == TAKEN), "%s: %s", line->text, err.msg);
	ck_assert_msg(
	    tree_takes(text, line->len) == (line->verdict != REFUSED), "json-c: %s", line->text);
	if (rc == 0) {
		ck_assert_int_eq(err.code, E_OK);
		return;
	}
	ck_assert_int_eq(rc, E_PARSE);
	ck_assert_msg(strstr(err.msg, line->reason) != NULL, "%s: %s, not %s", line->text, err.msg,
	    line->reason);
}
END_TEST

static int
check_nested(size_t depth, const char *open, const char *inner, const char *close, struct err *err)
{
	struct sbuf line = { 0 };
	int rc;

	for (size_t i = 0; i < depth; i++)
		sbuf_adds(&line, open);
	sbuf_adds(&line, inner);
	for (size_t i = 0; i < depth; i++)
		sbuf_adds(&line, close);
	rc = gate_check(line.data, line.len, err);
	if (rc == 0)
		ck_assert(tree_takes(line.data, line.len));
	sbuf_done(&line);
	return rc;
}

START_TEST(gate__nesting__bounded)
{
	static const char siblings[] = "[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],[],"
				       "{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{},{}";
	struct err err = ERR_INIT;

	ck_assert_int_eq(check_nested(RPC_DEPTH_MAX, "[", "", "]", &err), 0);
	ck_assert_int_eq(check_nested(RPC_DEPTH_MAX, "[", "1", "]", &err), 0);
	ck_assert_int_eq(check_nested(RPC_DEPTH_MAX, "{\"a\":", "1", "}", &err), 0);
	ck_assert_int_eq(check_nested(RPC_DEPTH_MAX + 1, "[", "", "]", &err), E_PARSE);
	ck_assert_str_eq(err.msg, "bad JSON at byte 32: nested more than 32 levels deep");
	ck_assert_int_eq(check_nested(RPC_DEPTH_MAX + 1, "{\"a\":", "1", "}", &err), E_PARSE);
	ck_assert_int_eq(check_nested(10000, "[", "", "]", &err), E_PARSE);
	ck_assert_int_eq(check_nested(1000000, "[", "", "", &err), E_PARSE);
	ck_assert_int_eq(check_nested(1, "[", siblings, "]", &err), 0);
}
END_TEST

/* An object of that many members in a scrambled order, and `extra` after them. */
static int
check_members(int count, const char *extra, struct err *err)
{
	struct sbuf line = { 0 };
	int rc;

	sbuf_adds(&line, "{");
	for (int i = 0; i < count; i++)
		sbuf_addf(&line, "%s\"key%d\":%d", i > 0 ? "," : "", i * 7919 % count, i);
	sbuf_addf(&line, "%s}", extra);
	rc = gate_check(line.data, line.len, err);
	sbuf_done(&line);
	return rc;
}

START_TEST(gate__members__bounded_and_all_compared)
{
	struct err err = ERR_INIT;

	for (int count = 2; count <= GATE_MEMBERS_MAX - 1; count += 1 + count / 3) {
		ck_assert_int_eq(check_members(count, ",\"key\":0", &err), 0);
		ck_assert_int_eq(check_members(count, ",\"key1\":0", &err), E_PARSE);
		ck_assert_msg(strstr(err.msg, "second member") != NULL, "%d: %s", count, err.msg);
		ck_assert_int_eq(check_members(count, ",\"k\\u0065y0\":0", &err), E_PARSE);
	}
	ck_assert_int_eq(check_members(GATE_MEMBERS_MAX, "", &err), 0);
	ck_assert_int_eq(check_members(GATE_MEMBERS_MAX + 1, "", &err), E_PARSE);
	ck_assert_msg(strstr(err.msg, "more than 1024 members") != NULL, "%s", err.msg);
}
END_TEST

/* An array of that many of these. */
static int
check_values(size_t count, const char *value, struct err *err)
{
	struct sbuf line = { 0 };
	int rc;

	for (size_t i = 0; i < count; i++)
		sbuf_addf(&line, "%c%s", i > 0 ? ',' : '[', value);
	sbuf_addc(&line, ']');
	rc = gate_check(line.data, line.len, err);
	sbuf_done(&line);
	return rc;
}

START_TEST(gate__values__bounded)
{
	static const size_t scalars = GATE_VALUES_MAX - GATE_CONTAINER_COST;
	static const size_t containers = GATE_VALUES_MAX / GATE_CONTAINER_COST - 1;
	struct err err = ERR_INIT;

	ck_assert_int_eq(check_values(scalars, "0", &err), 0);
	ck_assert_int_eq(check_values(scalars + 1, "0", &err), E_PARSE);
	ck_assert_msg(strstr(err.msg, "more than 262144 values") != NULL, "%s", err.msg);
	ck_assert_int_eq(check_values(containers, "{}", &err), 0);
	ck_assert_int_eq(check_values(containers + 1, "{}", &err), E_PARSE);
	ck_assert_int_eq(check_values(containers, "[]", &err), 0);
	ck_assert_int_eq(check_values(containers + 1, "[]", &err), E_PARSE);
}
END_TEST

START_TEST(gate__number__length_bounded)
{
	CLEANUP_FREE char *line = xcalloc(1, GATE_NUMBER_MAX + 4);
	struct err err = ERR_INIT;

	memset(line, '1', GATE_NUMBER_MAX + 2);
	line[0] = '0';
	line[1] = '.';
	ck_assert_int_eq(gate_check(line, GATE_NUMBER_MAX + 2, &err), E_PARSE);
	line[GATE_NUMBER_MAX] = '\0';
	ck_assert_int_eq(gate_check(line, GATE_NUMBER_MAX, &err), 0);
}
END_TEST

START_TEST(gate__length__whole_limit_taken)
{
	CLEANUP_FREE char *line = xcalloc(1, RPC_LINE_MAX + 2);
	struct err err = ERR_INIT;

	memset(line, 'x', RPC_LINE_MAX + 1);
	line[0] = line[RPC_LINE_MAX - 1] = '"';
	ck_assert_int_eq(gate_check(line, RPC_LINE_MAX + 1, &err), E_LIMIT);
	line[RPC_LINE_MAX] = '\0';
	ck_assert_int_eq(gate_check(line, RPC_LINE_MAX, &err), 0);
}
END_TEST

START_TEST(gate__ids__where_they_stand)
{
	static const char line[] =
	    "[{\"x\":{\"id\":1},\"id\": 1.0 },7,{\"a\":[{\"id\":2}]},"
	    "{\"\\u0069d\":\"\\u0041\"},[{\"id\":5}],{\"id\":99999999999999999999}]";
	static const char *const want[] = { "1.0", "", "", "\"\\u0041\"", "",
		"99999999999999999999" };
	struct gate_ids ids;
	struct err err = ERR_INIT;

	ck_assert_int_eq(gate_scan(line, sizeof(line) - 1, &ids, &err), 0);
	ck_assert_uint_eq(ids.count, ARRAY_LEN(want));
	for (size_t i = 0; i < ARRAY_LEN(want); i++) {
		ck_assert_uint_eq(ids.of[i].len, strlen(want[i]));
		ck_assert_mem_eq(line + ids.of[i].at, want[i], ids.of[i].len);
	}
	ck_assert_int_eq(gate_scan("{\"id\":null}", 11, &ids, &err), 0);
	ck_assert_uint_eq(ids.count, 1);
	ck_assert_uint_eq(ids.of[0].at, 6);
	ck_assert_int_eq(gate_scan("\"id\"", 4, &ids, &err), 0);
	ck_assert_uint_eq(ids.count, 0);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("gate");
	TCase *table = tcase_create("lines");

	tcase_add_loop_test(
	    table, gate__line__taken_or_refused_with_the_place, 0, (int)ARRAY_LEN(lines));
	suite_add_tcase(s, table);
	UNIT_CASE(s, gate__nesting__bounded);
	UNIT_CASE(s, gate__members__bounded_and_all_compared);
	UNIT_CASE(s, gate__values__bounded);
	UNIT_CASE(s, gate__number__length_bounded);
	UNIT_CASE(s, gate__length__whole_limit_taken);
	UNIT_CASE(s, gate__ids__where_they_stand);
	return unit_main(s);
}
