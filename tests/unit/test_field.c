/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/model/field.h"

#include <json-c/json.h>
#include <string.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/model/spec.h"
#include "tests/unit/unit.h"

struct seen {
	struct sbuf text;
};

static void
on_problem(void *arg, const char *path, const struct err *err)
{
	struct seen *seen = arg;

	sbuf_addf(&seen->text, "%s: %s (%s)\n", path, err->msg, err->hint);
}

static size_t
decode(const char *text, bool kebab, struct vm_spec *spec, struct seen *seen)
{
	struct field_options options = { .kebab = kebab, .on_problem = on_problem, .arg = seen };
	json_object *json = json_tokener_parse(text);
	size_t n;

	ck_assert_ptr_nonnull(json);
	memset(spec, 0, sizeof(*spec));
	memset(seen, 0, sizeof(*seen));
	n = fields_decode(vm_spec_fields, json, "vm", &options, spec);
	n += vm_spec_check(spec, "vm", &options);
	json_object_put(json);
	return n;
}

START_TEST(field__defaults__filled)
{
	struct vm_spec spec;
	struct seen seen;

	ck_assert_uint_eq(decode("{\"name\":\"web\"}", false, &spec, &seen), 0);
	ck_assert_uint_eq(spec.vcpus, 1);
	ck_assert_uint_eq(spec.memory_bytes, 1ULL << 30);
	ck_assert_int_eq(spec.network.type, NETWORK_DEFAULT);
	ck_assert(!spec.cloud_init.present);
	vm_spec_release(&spec);
}
END_TEST

START_TEST(field__problems__all_reported_with_paths)
{
	struct vm_spec spec;
	struct seen seen;
	size_t n = decode("{\"name\":\"Web\",\"vcpus\":0,\"memory\":\"lots\",\"netwrok\":\"user\","
			  "\"network\":\"tun\",\"provision\":[{\"shell\":{\"run-once\":1}},{}]}",
	    false, &spec, &seen);

	ck_assert_uint_ge(n, 7);
	ck_assert_ptr_nonnull(strstr(seen.text.data, "vm.name: 'Web' is not a name"));
	ck_assert_ptr_nonnull(strstr(seen.text.data, "vm.vcpus: 0 is too small: the least is 1"));
	ck_assert_ptr_nonnull(strstr(seen.text.data, "vm.memory: 'lots' is not a size"));
	ck_assert_ptr_nonnull(
	    strstr(seen.text.data, "vm.netwrok: unknown parameter 'netwrok' (did you mean 'network'?)"));
	ck_assert_ptr_nonnull(strstr(seen.text.data, "vm.network.type: 'tun' is none of"));
	ck_assert_ptr_nonnull(strstr(seen.text.data, "vm.provision[1]: needs exactly one"));
	sbuf_done(&seen.text);
	vm_spec_release(&spec);
}
END_TEST

START_TEST(field__kebab__empty_block_is_present)
{
	struct vm_spec spec;
	struct seen seen;

	ck_assert_uint_eq(
	    decode("{\"name\":\"a\",\"cloud-init\":null,\"depends-on\":[\"b\"]}", true, &spec, &seen), 0);
	ck_assert(spec.cloud_init.present);
	ck_assert_uint_eq(spec.depends_on.count, 1);
	vm_spec_release(&spec);
	ck_assert_uint_eq(decode("{\"name\":\"a\",\"memory\":null}", true, &spec, &seen), 1);
	sbuf_done(&seen.text);
	vm_spec_release(&spec);
}
END_TEST

START_TEST(field__numbers__negative_fraction_huge_refused)
{
	static const char *const bad[] = { "{\"name\":\"a\",\"vcpus\":-1}",
		"{\"name\":\"a\",\"vcpus\":1.5}", "{\"name\":\"a\",\"vcpus\":65537}",
		"{\"name\":\"a\",\"vcpus\":\"4\"}", "{\"name\":\"a\",\"memory\":-5}",
		"{\"name\":\"a\",\"memory\":1e30}", "{\"name\":\"a\",\"disk\":0}" };
	struct vm_spec spec;
	struct seen seen;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		ck_assert_msg(decode(bad[i], false, &spec, &seen) == 1, "%s", bad[i]);
		sbuf_done(&seen.text);
		vm_spec_release(&spec);
	}
}
END_TEST

START_TEST(field__encode__reads_back_equal)
{
	static const char text[] =
	    "{\"name\":\"web\",\"backend\":\"noop\",\"image\":{\"fd\":3,\"name\":\"d.qcow2\"},"
	    "\"vcpus\":2,\"memory\":\"1536MiB\",\"disk\":10,\"network\":\"none\","
	    "\"cloud_init\":{\"hostname\":\"h\",\"user_data\":{\"data\":\"aGk=\"}},"
	    "\"ssh\":{\"user\":\"debian\"},\"provision\":[{\"shell\":\"uname -a\"},"
	    "{\"file\":{\"source\":\"/a\",\"destination\":\"/b\",\"mode\":\"0640\"}},"
	    "{\"shell\":{\"inline\":\"x\",\"env\":{\"A\":\"b\"},\"timeout\":\"10min\",\"run\":\"always\"}}],"
	    "\"depends_on\":[\"db\"]}";
	struct vm_spec spec, again;
	struct seen seen;
	json_object *one, *two;

	ck_assert_uint_eq(decode(text, false, &spec, &seen), 0);
	ck_assert_uint_eq(spec.memory_bytes, 1536ULL << 20);
	ck_assert_uint_eq(vm_spec_step(&spec, 2)->shell.timeout_ms, 600000);
	one = fields_encode(vm_spec_fields, &spec);
	ck_assert_uint_eq(decode(json_object_to_json_string(one), false, &again, &seen), 0);
	two = fields_encode(vm_spec_fields, &again);
	ck_assert_str_eq(json_object_to_json_string(one), json_object_to_json_string(two));
	ck_assert_str_eq(vm_spec_step(&again, 0)->shell.run_inline, "uname -a");
	ck_assert_uint_eq(again.disk_bytes, 10ULL << 30);
	json_object_put(one);
	json_object_put(two);
	vm_spec_release(&spec);
	vm_spec_release(&again);
}
END_TEST

START_TEST(field__encode__zero_in_place_of_a_default_stays)
{
	static const struct field rows[] = {
		{ .name = "wait", .type = FIELD_DURATION, .fallback = "5min" },
		{ .name = "grace", .type = FIELD_DURATION, .offset = sizeof(uint64_t) },
		FIELD_END
	};
	json_object *given = json_tokener_parse("{\"wait\":0,\"grace\":0}"), *encoded;
	struct err err = ERR_INIT;
	uint64_t values[2] = { 0 };

	ck_assert_int_eq(fields_decode_one(rows, given, values, &err), 0);
	ck_assert_uint_eq(values[0], 0);
	encoded = fields_encode(rows, values);
	ck_assert_str_eq(json_object_to_json_string(encoded), "{ \"wait\": \"0ms\" }");
	json_object_put(given);
	json_object_put(encoded);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("field");

	UNIT_CASE(s, field__defaults__filled);
	UNIT_CASE(s, field__problems__all_reported_with_paths);
	UNIT_CASE(s, field__kebab__empty_block_is_present);
	UNIT_CASE(s, field__numbers__negative_fraction_huge_refused);
	UNIT_CASE(s, field__encode__reads_back_equal);
	UNIT_CASE(s, field__encode__zero_in_place_of_a_default_stays);
	return unit_main(s);
}
