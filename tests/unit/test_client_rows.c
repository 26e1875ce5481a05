/* SPDX-License-Identifier: MPL-2.0 */
#include "client/rows.h"

#include <json-c/json.h>
#include <string.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "tests/unit/unit.h"

static void
on_row(void *arg, json_object *row)
{
	sbuf_addf(arg, "%s|", json_object_to_json_string_ext(row, JSON_C_TO_STRING_PLAIN));
}

/* NULL in want: not such an answer, and no row was given out. */
static const struct {
	const char *line, *want;
} cases[] = {
	{ "{\"result\":{\"vms\":[]}}\n", "" },
	{ "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"vms\":[{\"a\":1},{\"b\":[2,{}]}]}}\n",
	    "{\"a\":1}|{\"b\":[2,{}]}|" },
	{ "{\"result\" : {\"other\":{\"vms\":[9]},\"n\":-1.5, \"vms\" : [ 1 , \"two\", null ]}}\n",
	    "1|\"two\"|" },
	{ "{\"result\":{\"vms\":[\"]}\\\"\",\"\\\\\",{\"k]\":\"[{\"}]}}\n",
	    "\"]}\\\"\"|\"\\\\\"|{\"k]\":\"[{\"}|" },
	{ "{\"id\":1,\"error\":{\"result\":{\"vms\":[1]}}}\n", NULL },
	{ "{\"result\":null}\n", NULL },
	{ "{\"result\":{\"vms\":{}}}\n", NULL },
	{ "{\"result\":{\"vmss\":[1]}}\n", NULL },
	{ "{\"result\":{\"vms\":[{\"a\":1},{\"b\"\n", NULL },
	{ "{\"result\":{\"vms\":[\"a\n", NULL },
	{ "{\"result\":{\"vms\":[\"a\\\"\n", NULL },
	{ "{\"result\":{\"vms\":[1\n", NULL },
	{ "{}\n", NULL },
	{ "[]\n", NULL },
	{ "\n", NULL },
};

START_TEST(rows__lines__given_out_or_left)
{
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct sbuf got = { 0 };
		size_t len = strlen(cases[i].line);
		/* Memory of exactly that size: a byte too far is seen by a sanitizer. */
		char *line = xmemdup(cases[i].line, len);
		int rc = rows_each(line, len, "vms", on_row, &got);

		ck_assert_msg(rc == (cases[i].want != NULL ? 0 : -1), "%s", cases[i].line);
		ck_assert_str_eq(
		    got.data != NULL ? got.data : "", cases[i].want != NULL ? cases[i].want : "");
		sbuf_done(&got);
		free(line);
	}
}
END_TEST

START_TEST(rows__cut_anywhere__no_byte_too_far)
{
	static const char whole[] =
	    "{\"id\":1,\"result\":{\"x\":\"\\\\\",\"vms\":[{\"a\":\"b\\\"\"},[1,2]]}}";

	for (size_t len = 0; len < sizeof(whole) - 1; len++) {
		struct sbuf got = { 0 };
		char *line = xmemdup(whole, len);

		/* All rows are whole from the bracket that closes them on. */
		if (rows_each(line, len, "vms", on_row, &got) == 0)
			ck_assert_str_eq(got.data, "{\"a\":\"b\\\"\"}|[1,2]|");
		else
			ck_assert_uint_eq(got.len, 0);
		sbuf_done(&got);
		free(line);
	}
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("client_rows");

	UNIT_CASE(s, rows__lines__given_out_or_left);
	UNIT_CASE(s, rows__cut_anywhere__no_byte_too_far);
	return unit_main(s);
}
