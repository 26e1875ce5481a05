/* SPDX-License-Identifier: MPL-2.0
 *
 * Every call of a tool fails once, or is the last that a daemon makes: what is left, and whether
 * the next attempt ends well. */
#include <string.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/hypervisor/propolis/host_parts.h"
#include "tests/unit/hosting.h"
#include "tests/unit/unit.h"

/* The nth call that prepare makes fails: what was there before is there after, but for the parents
 * and a whole image. */
static void
fail_one(struct hosting *h, unsigned nth, const char *effect, const char *call, const char *before)
{
	CLEANUP_FREE char *rule = xasprintf("[{\"tool\": \"*\", \"nth\": %u, \"effect\": \"%s\", "
					    "\"stderr\": \"no, said the test\"}]",
	    nth, effect);
	CLEANUP_FREE char *made = NULL, *after = NULL;
	struct err err = ERR_INIT;
	int rc;

	hosting_fault(h, rule);
	rc = host_prepare(h->m, &h->image, NULL, &err);
	ck_assert_msg(rc == E_FAILED, "%s: %d", call, rc);
	ck_assert_msg(strstr(err.msg, "no, said the test") != NULL, "%s: %s", call, err.msg);
	ck_assert_msg(strstr(err.hint, "left") == NULL, "%s: %s", call, err.hint);
	hosting_fault(h, NULL);
	made = hosting_state(h);
	ck_assert_msg(strstr(made, ".part") == NULL, "%s", call);
	ck_assert_msg(hosting_machine_dir_empty(h), "%s", call);
	hosting_ok(host_drop_image(&h->config, HOSTING_DIGEST, NULL, &err), &err);
	after = hosting_state(h);
	ck_assert_msg(str_eq(after, before), "%s:\n%s\nwas\n%s", call, after, before);
}

/* done: fails having done it, which makes a difference only for what changes something. */
static void
each_call_fails(bool done)
{
	struct hosting h;
	struct err err = ERR_INIT;
	CLEANUP_FREE char *before = NULL, *calls = NULL;
	char *rest, *call;
	unsigned nth = 0;

	hosting_start(&h);
	h.spec.disk_bytes = 10 << 20;
	hosting_copy_again(&h);
	hosting_prepare(&h);
	calls = hosting_calls(&h);
	hosting_ok(host_unprepare(h.m, NULL, &err), &err);
	hosting_ok(host_drop_image(&h.config, HOSTING_DIGEST, NULL, &err), &err);
	before = hosting_state(&h);
	for (rest = calls; (call = host_line(&rest)) != NULL;) {
		nth++;
		if (!done)
			fail_one(&h, nth, "before", call, before);
		else if (hosting_changes(call))
			fail_one(&h, nth, "after", call, before);
	}
	ck_assert_uint_eq(nth, 18);
	hosting_prepare(&h); /* and then it can be made */
	hosting_stop(&h);
}

START_TEST(host__prepare__g95_each_call_fails__everything_taken_back)
{
	each_call_fails(false);
}
END_TEST

START_TEST(host__prepare__each_call_fails_having_done_it__everything_taken_back)
{
	each_call_fails(true);
}
END_TEST

/* The daemon ends after the nth call: nobody takes back. */
static void
crash_after(struct hosting *h, unsigned nth, const char *call, const char *before)
{
	struct sbuf rules = { 0 };
	struct err err = ERR_INIT;
	CLEANUP_FREE char *left = NULL, *after = NULL;

	sbuf_addf(&rules, "[{\"tool\": \"*\", \"nth\": %u, \"effect\": \"after\"}", nth);
	for (unsigned later = nth + 1; later < nth + 30; later++)
		sbuf_addf(&rules, ", {\"tool\": \"*\", \"nth\": %u}", later);
	sbuf_adds(&rules, "]");
	hosting_fault(h, rules.data);
	sbuf_done(&rules);
	ck_assert_int_eq(host_prepare(h->m, &h->image, NULL, NULL), E_FAILED);
	hosting_fault(h, NULL);
	hosting_ok(host_unprepare(h->m, NULL, &err), &err);
	left = hosting_state(h);
	ck_assert_msg(strstr(left, HOSTING_ID) == NULL, "%s: %s", call, left);
	hosting_ok(host_drop_image(&h->config, HOSTING_DIGEST, NULL, &err), &err);
	after = hosting_state(h);
	ck_assert_msg(str_eq(after, before), "%s:\n%s\nwas\n%s", call, after, before);
}

START_TEST(host__unprepare__the_daemon_ended_while_it_prepared__nothing_left)
{
	struct hosting h;
	struct err err = ERR_INIT;
	CLEANUP_FREE char *before = NULL, *calls = NULL;
	char *rest, *call;
	unsigned nth = 0, crashes = 0;

	hosting_start(&h);
	h.spec.disk_bytes = 10 << 20;
	hosting_copy_again(&h);
	hosting_prepare(&h);
	calls = hosting_calls(&h);
	hosting_ok(host_unprepare(h.m, NULL, &err), &err);
	hosting_ok(host_drop_image(&h.config, HOSTING_DIGEST, NULL, &err), &err);
	before = hosting_state(&h);
	for (rest = calls; (call = host_line(&rest)) != NULL;) {
		nth++;
		if (!hosting_changes(call))
			continue;
		crash_after(&h, nth, call, before);
		crashes++;
	}
	ck_assert_uint_eq(crashes, 12);
	hosting_stop(&h);
}
END_TEST

START_TEST(host__unprepare__each_call_fails__told_and_done_by_the_next)
{
	struct hosting h;
	CLEANUP_FREE char *before = NULL;

	hosting_start(&h);
	before = hosting_warm(&h);
	for (unsigned nth = 1; nth <= 10; nth++) {
		CLEANUP_FREE char *rule = xasprintf("[{\"tool\": \"*\", \"nth\": %u, "
						    "\"stderr\": \"no, said the test\"}]",
		    nth);
		struct err err = ERR_INIT;

		hosting_prepare(&h);
		hosting_fault(&h, rule);
		ck_assert_msg(host_unprepare(h.m, NULL, &err) == E_FAILED, "call %u", nth);
		ck_assert_msg(
		    strstr(err.msg, "no, said the test") != NULL, "call %u: %s", nth, err.msg);
		hosting_fault(&h, NULL);
		hosting_ok(host_unprepare(h.m, NULL, &err), &err);
		hosting_same(&h, before);
	}
	hosting_stop(&h);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("propolis_host_faults");

	UNIT_CASE(s, host__prepare__g95_each_call_fails__everything_taken_back);
	UNIT_CASE(s, host__prepare__each_call_fails_having_done_it__everything_taken_back);
	UNIT_CASE(s, host__unprepare__the_daemon_ended_while_it_prepared__nothing_left);
	UNIT_CASE(s, host__unprepare__each_call_fails__told_and_done_by_the_next);
	return unit_main(s);
}
