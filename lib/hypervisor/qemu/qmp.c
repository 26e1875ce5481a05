/* SPDX-License-Identifier: MPL-2.0
 *
 * The monitor's client.  Commands carry ids and deadlines; one timer serves them all, and the ping
 * as well.  Whoever answers late is heard, but the answer has no taker any more. */
#include "lib/hypervisor/qemu/qmp.h"

#include <assert.h>
#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/base/stream.h"

enum {
	RETRY_FIRST_MS = 20,
	RETRY_MAX_MS = 5000,
	FLOOD_LINES = 2000, /* more than that in FLOOD_MS: a rest until they are over */
	FLOOD_MS = 1000,
	JSON_DEPTH = 32,
};

struct command {
	TAILQ_ENTRY(command) entry;
	uint64_t id;
	uint64_t due_ms;
	bool sent;
	qmp_reply_fn *fn;
	void *arg;
};
TAILQ_HEAD(command_list, command);

struct qmp {
	struct loop *loop;
	char *path;
	const struct qmp_handler *handler;
	void *arg;
	struct stream *stream; /* NULL: not connected */
	struct command_list pending; /* in the order sent, so also of their deadlines */
	struct timer *timer;   /* the next deadline, ping, or attempt to connect */
	struct timer *rest;    /* reading goes on when it fires */
	uint64_t next_id, greet_due_ms, ping_at_ms, flood_from_ms;
	unsigned silence_ms, retry_ms, flood_lines;
	pid_t peer;
	bool ready, silent;
	char version[32];
	int busy; /* callbacks running; freeing waits for them */
	bool dead;
};

static void
leave(struct qmp *qmp)
{
	if (--qmp->busy == 0 && qmp->dead)
		free(qmp);
}

static void
arm(struct qmp *qmp)
{
	struct command *first = TAILQ_FIRST(&qmp->pending);
	uint64_t now = clock_ms(), at;

	if (qmp->dead)
		return;
	if (qmp->stream == NULL)
		return; /* armed for the next attempt */
	at = qmp->ready ? qmp->ping_at_ms : qmp->greet_due_ms;
	if (first != NULL && first->due_ms < at)
		at = first->due_ms;
	timer_arm(qmp->timer, at > now ? at - now : 0);
}

static void
set_silent(struct qmp *qmp, bool silent)
{
	if (qmp->dead || qmp->silent == silent)
		return;
	qmp->silent = silent;
	qmp->handler->on_responsive(qmp->arg, !silent);
}

static void
answer(struct qmp *qmp, struct command *command, json_object *result, const struct err *err)
{
	TAILQ_REMOVE(&qmp->pending, command, entry);
	if (command->fn != NULL)
		command->fn(command->arg, result, err);
	free(command);
}

static void
fail_pending(struct qmp *qmp, enum err_code code, const char *why)
{
	struct command *command;
	struct err err = ERR_INIT;

	err_set(&err, code, "%s", why);
	while ((command = TAILQ_FIRST(&qmp->pending)) != NULL)
		answer(qmp, command, NULL, &err);
}

/* The connection is of no use any more; another one is tried after a pause. */
static void
disconnect(struct qmp *qmp, const char *why)
{
	log_debug("qmp %s: %s", qmp->path, why);
	stream_destroy(TAKE(qmp->stream));
	timer_disarm(qmp->rest);
	qmp->ready = false;
	fail_pending(qmp, E_UNRESPONSIVE, "the monitor's connection was lost before it answered");
	if (qmp->dead)
		return;
	timer_arm(qmp->timer, qmp->retry_ms);
	qmp->retry_ms = qmp->retry_ms * 2 < RETRY_MAX_MS ? qmp->retry_ms * 2 : RETRY_MAX_MS;
}

static void
send_command(struct qmp *qmp, const char *name, json_object *args, uint64_t id)
{
	json_object *doc = json_object_new_object();
	size_t len;
	const char *text;

	json_object_object_add(doc, "execute", json_object_new_string(name));
	if (args != NULL)
		json_object_object_add(doc, "arguments", args);
	json_object_object_add(doc, "id", json_object_new_int64((int64_t)id));
	text = json_object_to_json_string_length(doc, JSON_C_TO_STRING_PLAIN, &len);
	stream_write(qmp->stream, text, len);
	stream_write(qmp->stream, "\n", 1);
	json_object_put(doc);
}

void
qmp_command(struct qmp *qmp, const char *name, struct json_object *args, qmp_reply_fn *fn,
    void *fn_arg)
{
	struct command *command = xcalloc(1, sizeof(*command));

	loop_assert(qmp->loop);
	command->id = qmp->next_id++;
	command->fn = fn;
	command->arg = fn_arg;
	command->sent = qmp->ready;
	command->due_ms = clock_ms() + (qmp->ready ? qmp->silence_ms : 0);
	TAILQ_INSERT_TAIL(&qmp->pending, command, entry);
	if (qmp->ready) {
		send_command(qmp, name, args, command->id);
		arm(qmp);
	} else {
		json_object_put(args);
		timer_arm(qmp->timer, 0); /* fails it on the next turn */
	}
}

static json_object *
member(json_object *doc, const char *key)
{
	json_object *value = NULL;

	return json_object_object_get_ex(doc, key, &value) ? value : NULL;
}

static void
greeted(struct qmp *qmp, json_object *greeting)
{
	json_object *qemu = member(member(greeting, "version"), "qemu");

	snprintf(qmp->version, sizeof(qmp->version), "%d.%d.%d",
	    json_object_get_int(member(qemu, "major")), json_object_get_int(member(qemu, "minor")),
	    json_object_get_int(member(qemu, "micro")));
	qmp->ready = true;
	qmp->retry_ms = RETRY_FIRST_MS;
	qmp->ping_at_ms = clock_ms() + QMP_PING_MS;
	/* Commands are answered in order, so others may follow at once. */
	qmp_command(qmp, "qmp_capabilities", NULL, NULL, NULL);
	set_silent(qmp, false);
	if (!qmp->dead)
		qmp->handler->on_ready(qmp->arg);
}

static void
replied(struct qmp *qmp, json_object *doc, json_object *id_json)
{
	uint64_t id = (uint64_t)json_object_get_int64(id_json);
	json_object *error = member(doc, "error");
	struct command *command;
	struct err err = ERR_INIT;

	qmp->ping_at_ms = clock_ms() + QMP_PING_MS;
	TAILQ_FOREACH(command, &qmp->pending, entry)
		if (command->id == id)
			break;
	if (command == NULL)
		return; /* too late: its taker was told "unknown" */
	if (error != NULL) {
		const char *desc = json_object_get_string(member(error, "desc"));
		CLEANUP_FREE char *words = str_printable(desc, desc != NULL ? strlen(desc) : 0);

		err_set(&err, E_FAILED, "QEMU says: %s", words);
	}
	answer(qmp, command, member(doc, "return"), error != NULL ? &err : NULL);
}

/* False: this is no monitor that we know. */
static bool
take_line(struct qmp *qmp, json_object *doc)
{
	json_object *event = member(doc, "event"), *id = member(doc, "id");

	if (!qmp->ready) {
		json_object *greeting = member(doc, "QMP");

		if (!json_object_is_type(greeting, json_type_object))
			return false;
		greeted(qmp, greeting);
		return true;
	}
	if (event == NULL && id == NULL)
		return false;
	set_silent(qmp, false);
	if (qmp->dead)
		return true;
	if (json_object_is_type(event, json_type_string)) {
		qmp->handler->on_event(qmp->arg, json_object_get_string(event), member(doc, "data"));
		return true;
	}
	if (json_object_is_type(id, json_type_int)) {
		replied(qmp, doc, id);
		return true;
	}
	return false;
}

static json_object *
parse(const char *line, size_t len)
{
	json_tokener *tok = json_tokener_new_ex(JSON_DEPTH);
	json_object *doc = json_tokener_parse_ex(tok, line, (int)len + 1);

	json_tokener_free(tok);
	if (doc != NULL && !json_object_is_type(doc, json_type_object)) {
		json_object_put(doc);
		doc = NULL;
	}
	return doc;
}

/* A guest that reboots without end must not keep the daemon busy. */
static bool
flooded(struct qmp *qmp)
{
	uint64_t now = clock_ms();

	if (now >= qmp->flood_from_ms + FLOOD_MS) {
		qmp->flood_from_ms = now;
		qmp->flood_lines = 0;
	}
	if (++qmp->flood_lines <= FLOOD_LINES)
		return false;
	stream_pause(qmp->stream, true);
	timer_arm(qmp->rest, qmp->flood_from_ms + FLOOD_MS - now);
	return true;
}

static void
read_lines(struct qmp *qmp)
{
	struct stream *stream = qmp->stream;
	bool overlong = false, ok = true;
	json_object *doc;
	size_t len;
	char *line;

	while (qmp->stream == stream && !timer_armed(qmp->rest) &&
	       (line = stream_line(stream, QMP_LINE_MAX, &len, &overlong)) != NULL) {
		while (len > 0 && line[len - 1] == '\r')
			line[--len] = '\0';
		if (len == 0)
			continue;
		doc = parse(line, len);
		ok = doc != NULL && take_line(qmp, doc);
		json_object_put(doc);
		if (qmp->dead || qmp->stream != stream)
			return;
		if (!ok)
			break;
		flooded(qmp);
	}
	if (!ok)
		disconnect(qmp, "it does not speak QMP");
	else if (overlong)
		disconnect(qmp, "an answer was too long");
	else if (stream_at_eof(stream) && !timer_armed(qmp->rest))
		disconnect(qmp, "closed by the other side");
	else
		arm(qmp);
}

static void
on_input(void *arg)
{
	struct qmp *qmp = arg;

	qmp->busy++;
	read_lines(qmp);
	leave(qmp);
}

static void
on_rested(void *arg)
{
	struct qmp *qmp = arg;

	stream_pause(qmp->stream, false);
	on_input(qmp);
}

static void
on_closed(void *arg, int errno_value)
{
	struct qmp *qmp = arg;

	qmp->busy++;
	disconnect(qmp, "closed");
	leave(qmp);
}

static const struct stream_handler stream_handler = { on_input, NULL, on_closed };

static bool
right_peer(struct qmp *qmp, int fd)
{
	struct ucred cred;
	socklen_t len = sizeof(cred);

	if (qmp->peer == 0)
		return true;
	return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 && cred.pid == qmp->peer;
}

static void
connect_now(struct qmp *qmp)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", qmp->path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    !right_peer(qmp, fd)) {
		if (fd >= 0)
			close(fd);
		timer_arm(qmp->timer, qmp->retry_ms);
		qmp->retry_ms = qmp->retry_ms * 2 < RETRY_MAX_MS ? qmp->retry_ms * 2 : RETRY_MAX_MS;
		set_silent(qmp, clock_ms() >= qmp->greet_due_ms);
		return;
	}
	if (!qmp->silent)
		qmp->greet_due_ms = clock_ms() + qmp->silence_ms;
	qmp->stream = stream_create(qmp->loop, fd, &stream_handler, qmp);
	arm(qmp);
}

/* A late greeting or answer: nothing is closed, for whoever is stopped answers when it goes on. */
static void
check_deadlines(struct qmp *qmp)
{
	uint64_t now = clock_ms();
	struct command *command;
	struct err err = ERR_INIT;

	err_set(&err, E_UNRESPONSIVE, "QEMU does not answer");
	if (!qmp->ready && now >= qmp->greet_due_ms) {
		qmp->greet_due_ms = now + QMP_PING_MS;
		set_silent(qmp, true);
	}
	while (!qmp->dead && (command = TAILQ_FIRST(&qmp->pending)) != NULL &&
	       now >= command->due_ms) {
		bool sent = command->sent;

		answer(qmp, command, NULL, &err);
		if (sent)
			set_silent(qmp, true);
	}
}

static void
on_timer(void *arg)
{
	struct qmp *qmp = arg;

	qmp->busy++;
	if (qmp->stream == NULL) {
		fail_pending(qmp, E_UNRESPONSIVE, "QEMU's monitor can not be reached");
		if (!qmp->dead)
			connect_now(qmp);
	} else {
		check_deadlines(qmp);
		if (!qmp->dead && qmp->ready && clock_ms() >= qmp->ping_at_ms) {
			qmp->ping_at_ms = clock_ms() + QMP_PING_MS;
			qmp_command(qmp, "query-version", NULL, NULL, NULL);
		}
		arm(qmp);
	}
	leave(qmp);
}

struct qmp *
qmp_create(struct loop *loop, const char *path, const struct qmp_handler *handler, void *arg)
{
	struct qmp *qmp = xcalloc(1, sizeof(*qmp));
	const char *override = getenv("VMMD_QMP_SILENCE_MS");
	uint64_t silence_ms;

	loop_assert(loop);
	qmp->loop = loop;
	qmp->path = xstrdup(path);
	qmp->handler = handler;
	qmp->arg = arg;
	qmp->retry_ms = RETRY_FIRST_MS;
	qmp->silence_ms = QMP_SILENCE_MS;
	if (override != NULL && str_to_u64(override, &silence_ms) && silence_ms < 3600000)
		qmp->silence_ms = (unsigned)silence_ms;
	qmp->greet_due_ms = clock_ms() + qmp->silence_ms;
	TAILQ_INIT(&qmp->pending);
	qmp->timer = timer_create_on(loop, on_timer, qmp);
	qmp->rest = timer_create_on(loop, on_rested, qmp);
	timer_arm(qmp->timer, 0);
	return qmp;
}

void
qmp_expect_peer(struct qmp *qmp, pid_t pid)
{
	qmp->peer = pid;
}

void
qmp_destroy(struct qmp *qmp)
{
	if (qmp == NULL)
		return;
	loop_assert(qmp->loop);
	qmp->busy++;
	qmp->dead = true;
	qmp->ready = false;
	fail_pending(qmp, E_CANCELLED, "the machine was closed");
	stream_destroy(TAKE(qmp->stream));
	timer_destroy(qmp->timer);
	timer_destroy(qmp->rest);
	free(qmp->path);
	leave(qmp);
}

unsigned
qmp_silence_ms(const struct qmp *qmp)
{
	return qmp->silence_ms;
}

bool
qmp_ready(const struct qmp *qmp)
{
	return qmp != NULL && qmp->ready;
}

bool
qmp_responsive(const struct qmp *qmp)
{
	return qmp_ready(qmp) && !qmp->silent;
}

const char *
qmp_version(const struct qmp *qmp)
{
	return qmp->version[0] != '\0' ? qmp->version : NULL;
}
