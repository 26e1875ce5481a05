/* SPDX-License-Identifier: MPL-2.0 */
#include <poll.h>
#include <sys/syscall.h>

#include "lib/base/clock.h"
#include "lib/model/field.h"
#include "tests/unit/sshd.h"
#include "tests/unit/unit.h"

struct caught {
	struct sbuf out, err;
	size_t err_bytes;
	int tell_fd; /* written to at the first line of output; 0: none */
};

static void
on_output(void *arg, enum ssh_stream stream, const void *data, size_t len)
{
	struct caught *c = arg;

	if (stream == SSH_STDOUT)
		sbuf_add(&c->out, data, len);
	else if ((c->err_bytes += len) < 65536)
		sbuf_add(&c->err, data, len);
	if (c->tell_fd > 0 && c->out.len > 0 && c->out.data[c->out.len - 1] == '\n') {
		ck_assert_int_eq(write(c->tell_fd, "x", 1), 1);
		c->tell_fd = 0;
	}
}

static void
caught_done(struct caught *c)
{
	sbuf_done(&c->out);
	sbuf_done(&c->err);
}

static int
run(struct ssh *ssh, const char *command, struct ssh_result *result, struct err *err)
{
	struct caught c = { .tell_fd = 0 };
	struct ssh_exec exec = { .command = command, .on_output = on_output, .arg = &c };
	int rc = ssh_exec(ssh, &exec, NULL, result, err);

	caught_done(&c);
	return rc;
}

/* The output of a command that has to succeed, owned. */
static char *
output_of(struct ssh *ssh, const struct ssh_exec *given)
{
	struct ssh_exec exec = *given;
	struct err err = ERR_INIT;
	struct caught c = { .tell_fd = 0 };
	struct ssh_result result;
	char *text;

	exec.on_output = on_output;
	exec.arg = &c;
	ck_assert_msg(ssh_exec(ssh, &exec, NULL, &result, &err) == 0, "%s", err.msg);
	ck_assert_msg(result.status == 0 && result.signal[0] == '\0', "%d %s: %s", result.status,
	    result.signal, c.err.data);
	text = xstrdup(c.out.data != NULL ? c.out.data : "");
	caught_done(&c);
	return text;
}

START_TEST(ssh_exec__ends__status_or_signal)
{
	struct ssh_result result;
	struct err err = ERR_INIT;
	struct ssh *ssh;
	struct sshd s;

	sshd_start(&s);
	ssh = sshd_login(&s);
	ck_assert_int_eq(run(ssh, "true", &result, &err), 0);
	ck_assert_int_eq(result.status, 0);
	ck_assert_str_eq(result.signal, "");
	ck_assert_int_eq(run(ssh, "exit 3", &result, &err), 0);
	ck_assert_int_eq(result.status, 3);
	ck_assert_int_eq(run(ssh, "no-such-command-here", &result, &err), 0);
	ck_assert_int_eq(result.status, 127);
	ck_assert_int_eq(run(ssh, "kill -KILL $$", &result, &err), 0);
	ck_assert_str_eq(result.signal, "KILL");
	/* The streams end long before the command does. */
	ck_assert_int_eq(run(ssh, "exec >&- 2>&-; sleep 0.2; exit 4", &result, &err), 0);
	ck_assert_int_eq(result.status, 4);
	ssh_close(ssh);
	sshd_stop(&s);
}
END_TEST

START_TEST(ssh_exec__g59_no_status__is_never_success)
{
	struct ssh_result result = { .status = 77 };
	struct err err = ERR_INIT;
	struct ssh *ssh;
	struct sshd s;

	sshd_start(&s);
	ssh = sshd_login(&s);
	ck_assert_int_eq(run(ssh, "echo x; kill -KILL $PPID; sleep 100", &result, &err), E_IO);
	ck_assert_int_eq(result.status, 77);
	/* The session says so at once from then on. */
	ck_assert_int_eq(run(ssh, "true", &result, &err), E_IO);
	ssh_close(ssh);
	ssh = sshd_login(&s);
	ck_assert_int_eq(
	    run(ssh, "exec >&- 2>&-; sleep 0.3; kill -KILL $PPID", &result, &err), E_IO);
	ck_assert_ptr_nonnull(strstr(err.msg, "without telling how"));
	ssh_close(ssh);
	sshd_stop(&s);
}
END_TEST

START_TEST(ssh_exec__g60_stdin__ends)
{
	enum { BIG = 8 << 20 };
	CLEANUP_FREE char *empty = NULL, *small = NULL, *big = xmalloc(BIG + 1), *back = NULL;
	struct ssh *ssh;
	struct sshd s;

	sshd_start(&s);
	ssh = sshd_login(&s);
	empty = output_of(ssh, &(struct ssh_exec){ .command = "cat; echo end" });
	ck_assert_str_eq(empty, "end\n");
	small = output_of(
	    ssh, &(struct ssh_exec){ .command = "cat; echo end", .input = "a\nb", .input_len = 3 });
	ck_assert_str_eq(small, "a\nbend\n");
	/* Both directions full at once, far beyond every window and buffer. */
	memset(big, 'x', BIG);
	big[BIG] = '\0';
	back =
	    output_of(ssh, &(struct ssh_exec){ .command = "cat", .input = big, .input_len = BIG });
	ck_assert(strcmp(back, big) == 0);
	/* A command that never reads does not hold us. */
	free(TAKE(back));
	back = output_of(
	    ssh, &(struct ssh_exec){ .command = "echo hi", .input = big, .input_len = BIG });
	ck_assert_str_eq(back, "hi\n");
	ssh_close(ssh);
	sshd_stop(&s);
}
END_TEST

START_TEST(ssh_exec__g60_fifty_mib_on_stderr__does_not_block)
{
	enum { BIG = 50 << 20 };
	struct caught c = { .tell_fd = 0 };
	struct ssh_exec exec = { .command = "head -c 52428800 /dev/zero >&2; echo done",
		.on_output = on_output,
		.arg = &c };
	struct ssh_result result;
	struct err err = ERR_INIT;
	struct ssh *ssh;
	struct sshd s;

	sshd_start(&s);
	ssh = sshd_login(&s);
	ck_assert_msg(ssh_exec(ssh, &exec, NULL, &result, &err) == 0, "%s", err.msg);
	ck_assert_uint_eq(c.err_bytes, BIG);
	ck_assert_str_eq(c.out.data, "done\n");
	caught_done(&c);
	ssh_close(ssh);
	sshd_stop(&s);
}
END_TEST

START_TEST(ssh_exec__env__any_value_arrives)
{
	static const char value[] = "it's \"a\" $HOME `id` \\ \n*;&";
	struct env_var vars[] = {
		{ (char *)(uintptr_t) "A", (char *)(uintptr_t)value },
		{ (char *)(uintptr_t) "B_1", (char *)(uintptr_t) "" },
	};
	struct env env = { vars, ARRAY_LEN(vars) };
	CLEANUP_FREE char *text = NULL;
	struct ssh *ssh;
	struct sshd s;

	sshd_start(&s);
	ssh = sshd_login(&s);
	text = output_of(
	    ssh, &(struct ssh_exec){
		     .command = "sh -c 'printf \"%s|%s|\" \"$A\" \"${B_1-unset}\"'", .env = &env });
	ck_assert_uint_eq(strlen(text), strlen(value) + 2);
	ck_assert(str_starts(text, value));
	ck_assert(str_ends(text, "||"));
	ssh_close(ssh);
	sshd_stop(&s);
}
END_TEST

START_TEST(ssh_exec__long_command__runs_with_its_stdin)
{
	enum { WORD = 300000 };
	CLEANUP_FREE char *word = xmalloc(WORD + 1), *command = NULL, *text = NULL;
	struct ssh *ssh;
	struct sshd s;

	memset(word, 'y', WORD);
	word[WORD] = '\0';
	command = xasprintf("w=%s\nprintf %%s \"${#w} \"; cat", word);
	sshd_start(&s);
	ssh = sshd_login(&s);
	text = output_of(
	    ssh, &(struct ssh_exec){ .command = command, .input = "rest", .input_len = 4 });
	ck_assert_str_eq(text, "300000 rest");
	ssh_close(ssh);
	sshd_stop(&s);
}
END_TEST

/* Waits for the end of a process that is not ours. */
static void
wait_gone(pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd p = { .fd = fd, .events = POLLIN };

	if (fd < 0)
		return; /* gone already */
	ck_assert_msg(poll(&p, 1, 20000) == 1, "process %d lives on", (int)pid);
	close(fd);
}

START_TEST(ssh_exec__left_behind_process__does_not_hold_the_step)
{
	CLEANUP_FREE char *text = NULL;
	struct ssh *ssh;
	struct sshd s;
	pid_t pid;

	sshd_start(&s);
	ssh = sshd_login(&s);
	text = output_of(ssh, &(struct ssh_exec){ .command = "sleep 1000 & echo $!" });
	pid = (pid_t)strtol(text, NULL, 10);
	ck_assert_int_eq(kill(pid, 0), 0);
	kill(pid, SIGKILL);
	free(TAKE(text));
	text = output_of(ssh, &(struct ssh_exec){ .command = "echo again" });
	ck_assert_str_eq(text, "again\n");
	ssh_close(ssh);
	sshd_stop(&s);
}
END_TEST

struct stop_case {
	struct ssh *ssh;
	const char *command;
	struct caught caught;
	uint64_t timeout_ms;
	int rc;
	struct err err;
};

static void
stop_body(struct job *job, void *data)
{
	struct stop_case *c = data;
	struct ssh_exec exec = { .command = c->command,
		.on_output = on_output,
		.arg = &c->caught,
		.timeout_ms = c->timeout_ms };
	struct ssh_result result;

	c->rc = ssh_exec(c->ssh, &exec, job, &result, &c->err);
}

START_TEST(ssh_exec__stopped__ends_in_the_guest_and_the_session_lives)
{
	static const struct {
		const char *command;
		bool cancel;
		uint64_t timeout_ms, deadline_ms;
		int code;
	} rows[] = {
		{ "echo $$; exec sleep 1000", true, 0, 0, E_CANCELLED },
		{ "echo $$; exec sleep 1000", false, 300, 0, E_TIMEOUT },
		{ "echo $$; exec sleep 1000", false, 0, 300, E_TIMEOUT },
		{ "trap '' TERM HUP; echo $$; while :; do sleep 0.1; done", true, 0, 0,
		    E_CANCELLED },
		{ "echo $$; exec yes >&2", true, 0, 0, E_CANCELLED },
	};
	CLEANUP_FREE char *text = NULL;
	struct stop_case c;
	struct sshd s;
	int pipe_fds[2];
	char byte;

	sshd_start(&s);
	ck_assert_int_eq(pipe2(pipe_fds, O_CLOEXEC), 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		memset(&c, 0, sizeof(c));
		c.ssh = sshd_login(&s);
		c.command = rows[i].command;
		c.timeout_ms = rows[i].timeout_ms;
		c.caught.tell_fd = rows[i].cancel ? pipe_fds[1] : 0;
		sshd_as_job(stop_body, &c, rows[i].deadline_ms, rows[i].cancel ? pipe_fds[0] : -1);
		ck_assert_msg(c.rc == rows[i].code, "row %zu: %d %s", i, c.rc, c.err.msg);
		if (rows[i].cancel)
			ck_assert_int_eq(read(pipe_fds[0], &byte, 1), 1);
		if (c.caught.out.len > 0) /* it may be stopped before it began */
			wait_gone((pid_t)strtol(c.caught.out.data, NULL, 10));
		text = output_of(c.ssh, &(struct ssh_exec){ .command = "echo alive" });
		ck_assert_str_eq(text, "alive\n");
		free(TAKE(text));
		caught_done(&c.caught);
		ssh_close(c.ssh);
	}
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	sshd_stop(&s);
}
END_TEST

START_TEST(ssh_quote__words__stay_one_word)
{
	static const char *const rows[][2] = { { "", "''" }, { "a b", "'a b'" },
		{ "it's", "'it'\\''s'" }, { "'", "''\\'''" }, { "$x\n", "'$x\n'" } };

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		CLEANUP_FREE char *quoted = ssh_quote(rows[i][0]);

		ck_assert_str_eq(quoted, rows[i][1]);
	}
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("ssh_exec");

	UNIT_CASE(s, ssh_quote__words__stay_one_word);
	UNIT_CASE(s, ssh_exec__ends__status_or_signal);
	UNIT_CASE(s, ssh_exec__g59_no_status__is_never_success);
	UNIT_CASE(s, ssh_exec__g60_stdin__ends);
	UNIT_CASE(s, ssh_exec__g60_fifty_mib_on_stderr__does_not_block);
	UNIT_CASE(s, ssh_exec__env__any_value_arrives);
	UNIT_CASE(s, ssh_exec__long_command__runs_with_its_stdin);
	UNIT_CASE(s, ssh_exec__left_behind_process__does_not_hold_the_step);
	UNIT_CASE(s, ssh_exec__stopped__ends_in_the_guest_and_the_session_lives);
	return unit_main(s);
}
