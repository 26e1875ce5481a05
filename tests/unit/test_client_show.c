/* SPDX-License-Identifier: MPL-2.0
 *
 * What vmctl shows: tables, times, progress, and what it keeps from the terminal. */
#include <fcntl.h>
#include <json-c/json.h>
#include <string.h>
#include <unistd.h>

#include "client/out.h"
#include "client/progress.h"
#include "client/term.h"
#include "lib/base/clock.h"
#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "tests/unit/unit.h"

START_TEST(out__table__as_wide_as_needed)
{
	static const struct table_column columns[] = { { "NAME", false }, { "MEM", true },
		{ "SSH", false } };
	struct table table = { .columns = columns, .column_count = 3 };
	CLEANUP_FREE char *text = NULL;

	table_add(&table, "w\xc3\xa4"
			  "b");
	table_add(&table, "512 MiB");
	table_add(&table, NULL);
	table_add(&table, "longer\x1b[31m\nname");
	table_add(&table, "1 GiB");
	table_add(&table, ":22");
	text = table_text(&table);
	ck_assert_str_eq(text, "NAME                     MEM  SSH\n"
			       "w\xc3\xa4"
			       "b                  512 MiB  -\n"
			       "longer\\x1b[31m name    1 GiB  :22\n");
	table_done(&table);
}
END_TEST

START_TEST(out__seconds__short)
{
	static const struct {
		uint64_t ms;
		const char *want;
	} cases[] = { { 0, "0.0s" }, { 840, "0.8s" }, { 12900, "12s" }, { 200000, "3m20s" },
		{ 3725000, "1h02m" } };

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		CLEANUP_FREE char *text = text_seconds(cases[i].ms);

		ck_assert_str_eq(text, cases[i].want);
	}
}
END_TEST

START_TEST(out__json__steers_no_terminal)
{
	static const char said[] = "a\x7f\xc2\x9b"
				   "31m\xc2\xa0\xc3\xa4\n";
	json_object *value = json_object_new_string(said), *back;
	CLEANUP_FREE char *text = json_text(value, JSON_C_TO_STRING_PLAIN);

	ck_assert_str_eq(text, "\"a\\u007f\\u009b31m\xc2\xa0\xc3\xa4\\n\"");
	back = json_tokener_parse(text);
	ck_assert_str_eq(json_object_get_string(back), said);
	json_object_put(back);
	json_object_put(value);
}
END_TEST

START_TEST(out__cut__whole_characters)
{
	CLEANUP_FREE char *cut = text_cut("a\xc3\xa4\xe2\x82\xac!", 3), *all = text_cut("ab", 9);

	ck_assert_str_eq(cut, "a\xc3\xa4\xe2\x82\xac");
	ck_assert_str_eq(all, "ab");
}
END_TEST

/* ---- the terminal's filter ---- */

static const struct {
	const char *in, *want;
} filtered[] = {
	{ "plain\r\n\ttext\n", "plain\r\n\ttext\n" },
	{ "\033[31mred\033[0m", "red" },
	{ "\033]0;title\007x\033]2;y\033\\z", "xz" },
	{ "\033(Ba\033=b\033[?25lc", "abc" },
	{ "bell\007 back\010 null", "bell back null" },
	{ "\302\233"
	  "31m",
	    "?31m" },
	{ "\303\244 \377 \342\202", "\303\244 ? " },
	{ "\033[12\nnext", "\nnext" },
	{ "\033Ppayload\033\\end", "end" },
};

START_TEST(term__filter__nothing_steers_the_terminal)
{
	for (size_t i = 0; i < ARRAY_LEN(filtered); i++) {
		/* Whole, and byte by byte: sequences may be cut anywhere. */
		for (int whole = 0; whole < 2; whole++) {
			struct term_filter filter = { 0 };
			struct sbuf out = { 0 };
			size_t len = strlen(filtered[i].in), step = whole ? len : 1;

			sbuf_adds(&out, "");
			for (size_t at = 0; at < len; at += step)
				term_filter(&filter, filtered[i].in + at, step, &out);
			ck_assert_str_eq(out.data, filtered[i].want);
			sbuf_done(&out);
		}
	}
}
END_TEST

/* ---- progress ---- */

static void
event(struct progress *p, const char *text)
{
	json_object *params = json_tokener_parse(text);

	ck_assert_ptr_nonnull(params);
	progress_event(p, params);
	json_object_put(params);
}

/* Owned: what the calls of `fill` wrote. */
static char *
written(enum progress_style style, void (*fill)(struct progress *))
{
	struct progress p;
	char space[8192];
	int fds[2];
	ssize_t n;

	ck_assert_int_eq(pipe(fds), 0);
	progress_init(&p, style, fds[1]);
	fill(&p);
	progress_done(&p);
	close(fds[1]);
	n = read(fds[0], space, sizeof(space) - 1);
	ck_assert_int_ge(n, 0);
	close(fds[0]);
	return xstrndup(space, (size_t)n);
}

static void
fill_plain(struct progress *p)
{
	event(p, "{\"phase\":\"check\",\"state\":\"start\"}");
	event(p, "{\"vm\":\"web\",\"phase\":\"boot\",\"state\":\"start\"}");
	event(p, "{\"vm\":\"db\",\"phase\":\"seed\",\"state\":\"start\"}");
	event(p, "{\"vm\":\"db\",\"phase\":\"seed\",\"state\":\"done\",\"phase_ms\":20}");
	event(
	    p, "{\"vm\":\"web\",\"phase\":\"boot\",\"state\":\"progress\",\"done\":1,\"total\":2}");
	event(p, "{\"vm\":\"web\",\"phase\":\"boot\",\"state\":\"done\",\"phase_ms\":12300}");
	event(p,
	    "{\"vm\":\"web\",\"phase\":\"provision\",\"state\":\"start\",\"message\":\"1/2: a\"}");
	event(p, "{\"vm\":\"web\",\"state\":\"output\",\"stream\":\"stdout\",\"data\":\"on\"}");
	event(
	    p, "{\"vm\":\"db\",\"state\":\"output\",\"stream\":\"stdout\",\"data\":\"x\\r\\ny\"}");
	event(p, "{\"vm\":\"web\",\"state\":\"output\",\"stream\":\"stdout\",\"data\":"
		 "\"e\\ntwo\\n\\n\"}");
	event(p, "{\"vm\":\"web\",\"phase\":\"provision\",\"state\":\"step\",\"phase_ms\":300,"
		 "\"message\":\"a\"}");
	event(p, "{\"vm\":\"web\",\"phase\":\"provision\",\"state\":\"failed\",\"phase_ms\":2000,"
		 "\"message\":\"told later\"}");
}

START_TEST(progress__plain__a_line_for_what_matters)
{
	CLEANUP_FREE char *text = written(PROGRESS_PLAIN, fill_plain);

	ck_assert_str_eq(text, "web: boot done in 12s\n"
			       "web: provision: 1/2: a\n"
			       "db | x\n"
			       "web | one\n"
			       "web | two\n"
			       "web | \n"
			       "web: provision: a, done in 0.3s\n"
			       "web: provision failed after 2.0s\n"
			       "db | y\n");
}
END_TEST

static void
fill_lasting(struct progress *p)
{
	event(p, "{\"vm\":\"web\",\"phase\":\"boot\",\"state\":\"start\"}");
	progress_tick(p);
	p->vms[0].since_ms -= 600;
	progress_tick(p);
	progress_tick(p);
	event(p, "{\"vm\":\"web\",\"phase\":\"login\",\"state\":\"start\"}");
	p->vms[0].since_ms -= 600;
	progress_tick(p);
}

START_TEST(progress__plain__what_lasts_is_told_once)
{
	CLEANUP_FREE char *text = written(PROGRESS_PLAIN, fill_lasting);

	ck_assert_str_eq(text, "web: boot\nweb: login\n");
}
END_TEST

static void
fill_live(struct progress *p)
{
	event(p, "{\"vm\":\"web\",\"phase\":\"boot\",\"state\":\"start\"}");
	event(p, "{\"vm\":\"web\",\"state\":\"output\",\"stream\":\"stderr\","
		 "\"data\":\"\\u001b[31mred\\u001b[0m\\n\"}");
}

START_TEST(progress__live__block_goes_away_and_output_stays)
{
	CLEANUP_FREE char *text = written(PROGRESS_LIVE, fill_live);

	ck_assert_str_eq(text, "web  boot  0.0s\033[K\n"
			       "\r\033[1A\033[Jweb | red\n"
			       "web  boot  0.0s\033[K\n"
			       "\r\033[1A\033[J");
}
END_TEST

START_TEST(progress__none__silent)
{
	CLEANUP_FREE char *text = written(PROGRESS_NONE, fill_live);

	ck_assert_str_eq(text, "");
}
END_TEST

START_TEST(progress__render__fits_the_terminal)
{
	struct progress_vm vms[] = {
		{ .name = (char *)(uintptr_t) "",
		    .phase = (char *)(uintptr_t) "run",
		    .running = true },
		{ .name = (char *)(uintptr_t) "web",
		    .phase = (char *)(uintptr_t) "image",
		    .running = true,
		    .since_ms = 1000,
		    .done = 512 << 20,
		    .total = 1 << 30,
		    .bytes = true },
		{ .name = (char *)(uintptr_t) "database",
		    .phase = (char *)(uintptr_t) "boot",
		    .took_ms = 65000 },
		{ .name = (char *)(uintptr_t) "c",
		    .phase = (char *)(uintptr_t) "boot",
		    .failed = true,
		    .message = (char *)(uintptr_t) "x" },
	};
	struct progress p = { .style = PROGRESS_LIVE, .vms = vms, .count = 4 };
	struct sbuf out = { 0 };

	ck_assert_uint_eq(progress_render(&p, 3500, 80, 10, &out), 3);
	ck_assert_str_eq(out.data, "web       image 50% of 1 GiB  2.5s\033[K\n"
				   "database  boot done  1m05s\033[K\n"
				   "c         boot failed  0.0s\033[K\n");
	sbuf_reset(&out);
	ck_assert_uint_eq(progress_render(&p, 3500, 20, 2, &out), 2);
	ck_assert_str_eq(out.data, "web     image  2.5s\033[K\n"
				   "\xe2\x80\xa6 and 2 more\033[K\n");
	sbuf_done(&out);
}
END_TEST

static void
fill_transfer(struct progress *p)
{
	event(p, "{\"phase\":\"fetch\",\"state\":\"start\"}");
	event(p, "{\"phase\":\"fetch\",\"state\":\"progress\",\"done\":0,\"total\":1073741824,"
		 "\"unit\":\"bytes\"}");
	p->vms[0].since_ms -= 1000;
	progress_tick(p); /* nothing has come: there is nothing to count */
	event(p, "{\"phase\":\"fetch\",\"state\":\"note\",\"message\":\"try 2\\u001b[31m\"}");
	p->vms[0].since_ms -= 19000;
	p->vms[0].sample_ms -= 1000;
	p->vms[0].counted_ms = clock_ms();
	event(p, "{\"phase\":\"fetch\",\"state\":\"progress\",\"done\":536870912,"
		 "\"total\":1073741824,\"unit\":\"bytes\"}");
	p->vms[0].rate = 256 << 20; /* whatever our own clock made of it */
	p->vms[0].sample_ms = clock_ms();
	p->vms[0].counted_ms = 0;
	event(p, "{\"phase\":\"fetch\",\"state\":\"progress\",\"done\":536870912,"
		 "\"total\":1073741824,\"unit\":\"bytes\"}");
	progress_tick(p);
	event(p, "{\"phase\":\"fetch\",\"state\":\"done\",\"phase_ms\":22000}");
}

START_TEST(progress__plain__transfers_are_counted_and_notes_stay)
{
	CLEANUP_FREE char *text = written(PROGRESS_PLAIN, fill_transfer);

	ck_assert_str_eq(text, "fetch: try 2\\x1b[31m\n"
			       "fetch 50% of 1 GiB, 256 MiB/s, 2.0s left\n"
			       "fetch done in 22s\n");
}
END_TEST

START_TEST(progress__live__rate_time_left_and_notes_that_stay)
{
	CLEANUP_FREE char *text = written(PROGRESS_LIVE, fill_transfer);

	ck_assert_ptr_nonnull(strstr(text, "\r\033[1A\033[Jfetch: try 2\\x1b[31m\n"));
	ck_assert_ptr_nonnull(
	    strstr(text, "fetch 50% of 1 GiB, 256 MiB/s, 2.0s left  20s\033[K\n"));
}
END_TEST

START_TEST(progress__samples__make_a_rate_that_silence_ends)
{
	struct progress p;
	struct sbuf out = { 0 };

	progress_init(&p, PROGRESS_LIVE, open("/dev/null", O_WRONLY | O_CLOEXEC));
	event(&p, "{\"phase\":\"fetch\",\"state\":\"progress\",\"done\":0,\"unit\":\"bytes\"}");
	p.vms[0].sample_ms -= 2000;
	event(&p, "{\"phase\":\"fetch\",\"state\":\"progress\",\"done\":4194304,"
		  "\"unit\":\"bytes\"}");
	/* 2 MiB a second, less what the test itself took. */
	ck_assert_uint_gt(p.vms[0].rate, 1 << 20);
	ck_assert_uint_le(p.vms[0].rate, 2 << 20);
	p.vms[0].rate = 2 << 20;
	progress_render(&p, p.vms[0].sample_ms, 80, 1, &out);
	ck_assert_ptr_nonnull(strstr(out.data, "fetch 4 MiB, 2 MiB/s  "));
	sbuf_reset(&out);
	progress_render(&p, p.vms[0].sample_ms + 6000, 80, 1, &out);
	ck_assert_ptr_nonnull(strstr(out.data, "fetch 4 MiB  "));
	/* Begun anew: not a negative rate. */
	event(&p, "{\"phase\":\"fetch\",\"state\":\"progress\",\"done\":1,\"unit\":\"bytes\"}");
	ck_assert_uint_eq(p.vms[0].rate, 0);
	sbuf_done(&out);
	close(p.fd);
	p.style = PROGRESS_NONE;
	progress_done(&p);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("client_show");

	UNIT_CASE(s, out__table__as_wide_as_needed);
	UNIT_CASE(s, out__seconds__short);
	UNIT_CASE(s, out__json__steers_no_terminal);
	UNIT_CASE(s, out__cut__whole_characters);
	UNIT_CASE(s, term__filter__nothing_steers_the_terminal);
	UNIT_CASE(s, progress__plain__a_line_for_what_matters);
	UNIT_CASE(s, progress__plain__what_lasts_is_told_once);
	UNIT_CASE(s, progress__live__block_goes_away_and_output_stays);
	UNIT_CASE(s, progress__none__silent);
	UNIT_CASE(s, progress__plain__transfers_are_counted_and_notes_stay);
	UNIT_CASE(s, progress__live__rate_time_left_and_notes_that_stay);
	UNIT_CASE(s, progress__samples__make_a_rate_that_silence_ends);
	UNIT_CASE(s, progress__render__fits_the_terminal);
	return unit_main(s);
}
