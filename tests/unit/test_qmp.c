/* SPDX-License-Identifier: MPL-2.0
 *
 * The monitor's client against a monitor that misbehaves. */
#include "lib/hypervisor/qemu/qmp.h"

#include <json-c/json.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/fs.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/base/stream.h"
#include "tests/unit/unit.h"

static const char greeting[] =
    "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 22, \"minor\": 2, \"major\": 7}}}}\r\n";

enum manners { /* what the monitor does with a command that is not qmp_capabilities */
	ANSWER,
	SILENT,
	CLOSE,
	GARBAGE,
	HUGE_REPLY, /* 100 MB without a newline */
	OTHER_ID,
	ERROR,
	FLOOD, /* events without end before the answer */
	MANNERS,
};

struct monitor { /* the other side, on the same loop */
	struct loop *loop;
	char *dir, *path;
	int listener;
	struct watch *watch;
	struct stream *stream;
	enum manners manners;
	bool mute; /* no greeting */
	size_t to_flood;
	int connections, commands;
	char last[256];

	struct qmp *qmp;
	char log[512];
	int readies, replies;
	struct err err;
	size_t events;
	bool destroy_in_callback;
	struct timer *deadline;
};

static void
say(struct monitor *mon, const char *text)
{
	stream_write(mon->stream, text, strlen(text));
}

static void
more_flood(void *arg)
{
	static const char event[] = "{\"event\": \"RESET\", \"data\": {\"guest\": true}}\n";
	struct monitor *mon = arg;

	while (mon->manners == FLOOD && mon->to_flood > 0 && stream_queued(mon->stream) < 65536) {
		say(mon, event);
		mon->to_flood--;
	}
	while (mon->manners == HUGE_REPLY && mon->to_flood > 0 &&
	       stream_queued(mon->stream) < 65536) {
		static const char block[4096] = { [0 ... 4095] = 'x' };

		stream_write(mon->stream, block, sizeof(block));
		mon->to_flood -= mon->to_flood < sizeof(block) ? mon->to_flood : sizeof(block);
	}
}

static void
drop(struct monitor *mon)
{
	stream_destroy(TAKE(mon->stream));
}

static void
misbehave(struct monitor *mon, int64_t id)
{
	CLEANUP_FREE char *reply = xasprintf("{\"return\": {\"n\": 1}, \"id\": %lld}\n", (long long)id);
	CLEANUP_FREE char *other =
	    xasprintf("{\"return\": {\"n\": 2}, \"id\": %lld}\n", (long long)id + 1000);
	CLEANUP_FREE char *error = xasprintf(
	    "{\"error\": {\"class\": \"GenericError\", \"desc\": \"no \\u001b[31mway\"}, \"id\": %lld}\n",
	    (long long)id);

	switch (mon->manners) {
	case ANSWER:
		say(mon, reply);
		break;
	case SILENT:
		break;
	case CLOSE:
		drop(mon);
		break;
	case GARBAGE:
		say(mon, "HTTP/1.1 200 OK\r\n\r\n\x01\xff{{{\n");
		break;
	case HUGE_REPLY:
		mon->to_flood = 100 << 20;
		more_flood(mon);
		break;
	case OTHER_ID:
		say(mon, other);
		say(mon, reply);
		break;
	case ERROR:
		say(mon, error);
		break;
	case FLOOD:
		mon->to_flood = 5000;
		more_flood(mon);
		say(mon, reply);
		break;
	case MANNERS:
		break;
	}
}

static void
on_mon_input(void *arg)
{
	struct monitor *mon = arg;
	bool overlong;
	size_t len;
	char *line;

	while (mon->stream != NULL && (line = stream_line(mon->stream, 65536, &len, &overlong)) != NULL) {
		json_object *doc = json_tokener_parse(line), *id = NULL, *name = NULL;

		ck_assert(json_object_object_get_ex(doc, "id", &id) &&
			  json_object_object_get_ex(doc, "execute", &name));
		if (str_eq(json_object_get_string(name), "qmp_capabilities")) {
			say(mon, "{\"return\": {}, \"id\": 0}\n");
		} else {
			mon->commands++;
			snprintf(mon->last, sizeof(mon->last), "%s", line);
			misbehave(mon, json_object_get_int64(id));
		}
		json_object_put(doc);
	}
	if (mon->stream != NULL && stream_at_eof(mon->stream))
		drop(mon);
}

static void
on_mon_closed(void *arg, int errno_value)
{
	drop(arg);
}

static const struct stream_handler mon_handler = { on_mon_input, more_flood, on_mon_closed };

static void
on_connection(void *arg, unsigned events)
{
	struct monitor *mon = arg;
	int fd = accept4(mon->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (mon->stream != NULL)
		drop(mon);
	mon->connections++;
	mon->stream = stream_create(mon->loop, fd, &mon_handler, mon);
	if (!mon->mute)
		say(mon, greeting);
}

static void
on_ready(void *arg)
{
	struct monitor *mon = arg;

	mon->readies++;
	strcat(mon->log, "ready ");
	loop_stop(mon->loop);
}

static void
on_event(void *arg, const char *name, struct json_object *data)
{
	struct monitor *mon = arg;

	if (++mon->events == 4000)
		loop_stop(mon->loop);
	if (mon->destroy_in_callback)
		qmp_destroy(TAKE(mon->qmp));
}

static void
on_responsive(void *arg, bool responsive)
{
	struct monitor *mon = arg;

	strcat(mon->log, responsive ? "awake " : "silent ");
	loop_stop(mon->loop);
}

static const struct qmp_handler handler = { on_ready, on_event, on_responsive };

static void
on_reply(void *arg, struct json_object *result, const struct err *err)
{
	struct monitor *mon = arg;

	mon->replies++;
	mon->err = err != NULL ? *err : (struct err)ERR_INIT;
	strcat(mon->log, err != NULL ? err_name(err->code) : "ok");
	strcat(mon->log, " ");
	if (err == NULL)
		ck_assert(json_object_object_get_ex(result, "n", NULL));
	loop_stop(mon->loop);
}

static void
on_late(void *arg)
{
	ck_abort_msg("nothing happened for too long");
}

static void
setup(struct monitor *mon, enum manners manners, const char *silence_ms)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	char dir[] = "/tmp/qmp-XXXXXX";

	memset(mon, 0, sizeof(*mon));
	setenv("VMMD_QMP_SILENCE_MS", silence_ms, 1);
	ck_assert_ptr_nonnull(mkdtemp(dir));
	mon->dir = xstrdup(dir);
	mon->path = fs_join(dir, "monitor");
	mon->manners = manners;
	mon->loop = loop_create();
	mon->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", mon->path);
	ck_assert(bind(mon->listener, (struct sockaddr *)&address, sizeof(address)) == 0 &&
		  listen(mon->listener, 1) == 0);
	mon->watch = watch_create(mon->loop, mon->listener, LOOP_READ, on_connection, mon);
	mon->deadline = timer_create_on(mon->loop, on_late, mon);
	timer_arm(mon->deadline, 20000);
	mon->qmp = qmp_create(mon->loop, mon->path, &handler, mon);
}

static void
finish(struct monitor *mon)
{
	qmp_destroy(mon->qmp);
	stream_destroy(mon->stream);
	watch_destroy(mon->watch);
	timer_destroy(mon->deadline);
	close(mon->listener);
	loop_destroy(mon->loop);
	fs_remove_tree(mon->dir, NULL);
	free(mon->dir);
	free(mon->path);
	unsetenv("VMMD_QMP_SILENCE_MS");
}

static void
until_replies(struct monitor *mon, int replies)
{
	while (mon->replies < replies)
		loop_run(mon->loop);
}

static void
until_ready(struct monitor *mon, int readies)
{
	while (mon->readies < readies)
		loop_run(mon->loop);
}

START_TEST(qmp__command__its_own_answer)
{
	struct monitor mon;

	setup(&mon, ANSWER, "5000");
	until_ready(&mon, 1);
	ck_assert_str_eq(qmp_version(mon.qmp), "7.2.22");
	qmp_command(mon.qmp, "query-status", json_tokener_parse("{\"a\": 1}"), on_reply, &mon);
	qmp_command(mon.qmp, "stop", NULL, on_reply, &mon);
	until_replies(&mon, 2);
	ck_assert_str_eq(mon.log, "ready ok ok ");
	ck_assert_str_eq(mon.last, "{\"execute\":\"stop\",\"id\":2}");
	finish(&mon);
}
END_TEST

START_TEST(qmp__other_id__ignored)
{
	struct monitor mon;

	setup(&mon, OTHER_ID, "5000");
	until_ready(&mon, 1);
	qmp_command(mon.qmp, "stop", NULL, on_reply, &mon);
	until_replies(&mon, 1);
	ck_assert_str_eq(mon.log, "ready ok ");
	finish(&mon);
}
END_TEST

START_TEST(qmp__refused__its_words_made_printable)
{
	struct monitor mon;

	setup(&mon, ERROR, "5000");
	until_ready(&mon, 1);
	qmp_command(mon.qmp, "stop", NULL, on_reply, &mon);
	until_replies(&mon, 1);
	ck_assert_int_eq(mon.err.code, E_FAILED);
	ck_assert_ptr_nonnull(strstr(mon.err.msg, "way"));
	ck_assert_ptr_null(strchr(mon.err.msg, 0x1b));
	finish(&mon);
}
END_TEST

/* Bad manners end the connection; the command's fate is unknown, and the next one gets through. */
static void
recovers_from(enum manners manners)
{
	struct monitor mon;
	struct rusage usage;

	setup(&mon, manners, "5000");
	until_ready(&mon, 1);
	qmp_command(mon.qmp, "stop", NULL, on_reply, &mon);
	until_replies(&mon, 1);
	ck_assert_int_eq(mon.err.code, E_UNRESPONSIVE);
	ck_assert(!qmp_ready(mon.qmp));
	mon.manners = ANSWER;
	until_ready(&mon, 2);
	qmp_command(mon.qmp, "stop", NULL, on_reply, &mon);
	until_replies(&mon, 2);
	ck_assert_str_eq(mon.log, "ready unresponsive ready ok ");
	ck_assert_int_eq(getrusage(RUSAGE_SELF, &usage), 0);
	ck_assert_int_lt(usage.ru_maxrss, 64 << 10); /* KiB: nothing was hoarded */
	finish(&mon);
}

START_TEST(qmp__r06_closed_after_command__reconnects)
{
	recovers_from(CLOSE);
}
END_TEST

START_TEST(qmp__garbage__reconnects)
{
	recovers_from(GARBAGE);
}
END_TEST

START_TEST(qmp__reply_of_100_mb__reconnects)
{
	recovers_from(HUGE_REPLY);
}
END_TEST

START_TEST(qmp__flood_of_events__throttled_and_answered)
{
	struct monitor mon;
	uint64_t before = clock_ms();

	setup(&mon, FLOOD, "10000");
	until_ready(&mon, 1);
	qmp_command(mon.qmp, "stop", NULL, on_reply, &mon);
	while (mon.events < 4000)
		loop_run(mon.loop);
	/* 2000 a second: the rest of the time is others'. */
	ck_assert_uint_gt(clock_ms() - before, 900);
	until_replies(&mon, 1);
	ck_assert_str_eq(mon.log, "ready ok ");
	finish(&mon);
}
END_TEST

START_TEST(qmp__g21_silence__told_and_its_end_too)
{
	struct monitor mon;

	setup(&mon, SILENT, "50");
	until_ready(&mon, 1);
	qmp_command(mon.qmp, "stop", NULL, on_reply, &mon);
	until_replies(&mon, 1);
	ck_assert(!qmp_responsive(mon.qmp));
	ck_assert_str_eq(mon.log, "ready unresponsive silent ");
	/* The late answer finds no taker, and shows that somebody is there. */
	say(&mon, "{\"return\": {}, \"id\": 1}\n");
	while (!qmp_responsive(mon.qmp))
		loop_run(mon.loop);
	ck_assert_str_eq(mon.log, "ready unresponsive silent awake ");
	ck_assert_int_eq(mon.connections, 1);
	finish(&mon);
}
END_TEST

START_TEST(qmp__g21_no_greeting__told_and_waited_for)
{
	struct monitor mon;

	memset(&mon, 0, sizeof(mon));
	setup(&mon, ANSWER, "50");
	mon.mute = true;
	while (mon.log[0] == '\0')
		loop_run(mon.loop);
	ck_assert_str_eq(mon.log, "silent ");
	qmp_command(mon.qmp, "stop", NULL, on_reply, &mon);
	until_replies(&mon, 1);
	ck_assert_int_eq(mon.err.code, E_UNRESPONSIVE);
	ck_assert_int_eq(mon.commands, 0); /* never sent, not sent later */
	say(&mon, greeting);
	until_ready(&mon, 1);
	ck_assert_int_eq(mon.connections, 1);
	ck_assert_int_eq(mon.commands, 0);
	finish(&mon);
}
END_TEST

START_TEST(qmp__wrong_peer__not_talked_to)
{
	struct monitor mon;

	setup(&mon, ANSWER, "50");
	qmp_expect_peer(mon.qmp, getpid() + 1);
	while (mon.log[0] == '\0')
		loop_run(mon.loop);
	ck_assert_str_eq(mon.log, "silent ");
	qmp_expect_peer(mon.qmp, getpid());
	until_ready(&mon, 1);
	finish(&mon);
}
END_TEST

START_TEST(qmp__destroyed__pending_are_cancelled)
{
	struct monitor mon;

	setup(&mon, SILENT, "5000");
	until_ready(&mon, 1);
	qmp_command(mon.qmp, "stop", NULL, on_reply, &mon);
	qmp_destroy(TAKE(mon.qmp));
	ck_assert_str_eq(mon.log, "ready cancelled ");
	finish(&mon);
}
END_TEST

START_TEST(qmp__destroyed_in_an_event__nothing_follows)
{
	struct monitor mon;

	setup(&mon, FLOOD, "5000");
	until_ready(&mon, 1);
	mon.destroy_in_callback = true;
	qmp_command(mon.qmp, "stop", NULL, on_reply, &mon);
	until_replies(&mon, 1);
	ck_assert_uint_eq(mon.events, 1);
	ck_assert_str_eq(mon.log, "ready cancelled ");
	finish(&mon);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("qmp");

	signal(SIGPIPE, SIG_IGN); /* as the daemon does */
	UNIT_CASE(s, qmp__command__its_own_answer);
	UNIT_CASE(s, qmp__other_id__ignored);
	UNIT_CASE(s, qmp__refused__its_words_made_printable);
	UNIT_CASE(s, qmp__r06_closed_after_command__reconnects);
	UNIT_CASE(s, qmp__garbage__reconnects);
	UNIT_CASE(s, qmp__reply_of_100_mb__reconnects);
	UNIT_CASE(s, qmp__flood_of_events__throttled_and_answered);
	UNIT_CASE(s, qmp__g21_silence__told_and_its_end_too);
	UNIT_CASE(s, qmp__g21_no_greeting__told_and_waited_for);
	UNIT_CASE(s, qmp__wrong_peer__not_talked_to);
	UNIT_CASE(s, qmp__destroyed__pending_are_cancelled);
	UNIT_CASE(s, qmp__destroyed_in_an_event__nothing_follows);
	return unit_main(s);
}
