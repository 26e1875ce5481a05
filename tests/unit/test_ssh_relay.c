/* SPDX-License-Identifier: MPL-2.0 */
#include <poll.h>
#include <sys/syscall.h>

#include "lib/base/frame.h"
#include "tests/unit/sshd.h"
#include "tests/unit/unit.h"

/* The relay runs in a child; the test is the client at the other end of a socket. */
struct relay_case {
	struct sshd sshd;
	pid_t pid;
	int fd;
	unsigned char buffer[2 * FRAME_MAX];
	size_t have;
	struct sbuf out, err, exit;
};

static void
relay_start(struct relay_case *c, const struct ssh_relay *relay)
{
	struct err err = ERR_INIT;
	struct ssh *ssh;
	int pair[2], rc;

	memset(c, 0, sizeof(*c));
	sshd_start(&c->sshd); /* before the socket: its child would hold it open */
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	c->pid = fork();
	if (c->pid == 0) {
		close(pair[0]);
		ssh = sshd_login(&c->sshd);
		rc = ssh_relay(ssh, relay, pair[1], NULL, &err);
		ssh_close(ssh);
		_exit(rc);
	}
	close(pair[1]);
	c->fd = pair[0];
}

/* What ssh_relay returned. */
static int
relay_end(struct relay_case *c)
{
	int status;

	if (c->fd >= 0)
		close(c->fd);
	ck_assert_int_eq(waitpid(c->pid, &status, 0), c->pid);
	ck_assert(WIFEXITED(status));
	sshd_stop(&c->sshd);
	sbuf_done(&c->out);
	sbuf_done(&c->err);
	sbuf_done(&c->exit);
	return WEXITSTATUS(status);
}

static void
send_frame(struct relay_case *c, enum frame_type type, const char *data, size_t len)
{
	unsigned char head[FRAME_HEADER];

	frame_header(head, type, len);
	ck_assert_int_eq(fs_write_all(c->fd, head, sizeof(head)), 0);
	ck_assert_int_eq(fs_write_all(c->fd, data, len), 0);
}

/* Takes one frame in; false at the end of the stream. */
static bool
receive(struct relay_case *c)
{
	struct sbuf *to[] = {
		[FRAME_STDOUT] = &c->out, [FRAME_STDERR] = &c->err, [FRAME_EXIT] = &c->exit
	};
	enum frame_type type;
	size_t len;
	ssize_t n;
	int whole;

	while ((whole = frame_peek(c->buffer, c->have, &type, &len)) == 0) {
		n = read(c->fd, c->buffer + c->have, sizeof(c->buffer) - c->have);
		if (n <= 0)
			return false;
		c->have += (size_t)n;
	}
	ck_assert_int_eq(whole, 1);
	ck_assert(type == FRAME_STDOUT || type == FRAME_STDERR || type == FRAME_EXIT);
	sbuf_add(to[type], c->buffer + FRAME_HEADER, len);
	c->have -= FRAME_HEADER + len;
	memmove(c->buffer, c->buffer + FRAME_HEADER + len, c->have);
	return true;
}

static void
receive_until(struct relay_case *c, const char *text)
{
	while (c->out.data == NULL || strstr(c->out.data, text) == NULL)
		ck_assert_msg(receive(c), "never came: %s", text);
}

START_TEST(ssh_relay__streams__stay_apart_and_status_comes_last)
{
	struct relay_case c;

	relay_start(
	    &c, &(struct ssh_relay){ .command = "read a; echo out $a; echo err >&2; cat; exit 7" });
	send_frame(&c, FRAME_STDIN, "one\nre", 6);
	receive_until(&c, "out one\n");
	send_frame(&c, FRAME_STDIN, "st", 2);
	send_frame(&c, FRAME_STDIN_END, "", 0);
	while (c.exit.len == 0)
		ck_assert(receive(&c));
	ck_assert_str_eq(c.out.data, "out one\nrest");
	ck_assert_str_eq(c.err.data, "err\n");
	ck_assert_str_eq(c.exit.data, "{\"status\":7}");
	ck_assert_int_eq(relay_end(&c), 0);
}
END_TEST

START_TEST(ssh_relay__signal__is_told)
{
	struct relay_case c;

	relay_start(&c, &(struct ssh_relay){ .command = "kill -KILL $$" });
	while (c.exit.len == 0)
		ck_assert(receive(&c));
	ck_assert_str_eq(c.exit.data, "{\"signal\":\"KILL\"}");
	ck_assert_int_eq(relay_end(&c), 0);
}
END_TEST

START_TEST(ssh_relay__terminal__has_its_size_and_follows_it)
{
	struct relay_case c;

	relay_start(&c,
	    &(struct ssh_relay){ .command = "tty -s && echo $TERM; stty size; read x; stty size",
		.tty = true,
		.term = "vt100",
		.columns = 91,
		.rows = 17 });
	receive_until(&c, "vt100\r\n17 91\r\n");
	send_frame(&c, FRAME_WINDOW, "{\"columns\": 120, \"rows\": 40}", 28);
	send_frame(&c, FRAME_WINDOW, "{\"columns\": -1}", 15); /* of no use, and harmless */
	send_frame(&c, FRAME_STDIN, "\r", 1);
	receive_until(&c, "40 120\r\n");
	while (c.exit.len == 0)
		ck_assert(receive(&c));
	ck_assert_str_eq(c.exit.data, "{\"status\":0}");
	ck_assert_int_eq(relay_end(&c), 0);
}
END_TEST

START_TEST(ssh_relay__slow_client__everything_arrives)
{
	enum { BIG = 8 << 20 };
	struct relay_case c;
	CLEANUP_FREE char *block = xmalloc(FRAME_MAX);

	memset(block, 'z', FRAME_MAX);
	/* The command writes until every buffer is full, and only then is anything read here. */
	relay_start(
	    &c, &(struct ssh_relay){ .command = "head -c 8388608 /dev/zero; echo >&2; wc -c" });
	for (int i = 0; i < 16; i++)
		send_frame(&c, FRAME_STDIN, block, FRAME_MAX);
	send_frame(&c, FRAME_STDIN_END, "", 0);
	while (c.exit.len == 0)
		ck_assert(receive(&c));
	ck_assert_uint_eq(c.out.len, BIG + strlen("1048576\n"));
	ck_assert_str_eq(c.out.data + BIG, "1048576\n");
	ck_assert_int_eq(relay_end(&c), 0);
}
END_TEST

START_TEST(ssh_relay__client_gone__command_ends)
{
	struct relay_case c;
	struct pollfd p = { .events = POLLIN };
	pid_t pid;

	relay_start(&c, &(struct ssh_relay){ .command = "echo $$; exec sleep 1000" });
	receive_until(&c, "\n");
	pid = (pid_t)strtol(c.out.data, NULL, 10);
	p.fd = (int)syscall(SYS_pidfd_open, pid, 0);
	ck_assert_int_ge(p.fd, 0);
	close(c.fd);
	c.fd = -1;
	ck_assert_int_eq(poll(&p, 1, 20000), 1);
	close(p.fd);
	ck_assert_int_eq(relay_end(&c), E_CANCELLED);
}
END_TEST

START_TEST(ssh_relay__not_a_frame__refused)
{
	struct relay_case c;

	relay_start(&c, &(struct ssh_relay){ .command = "cat" });
	ck_assert_int_eq(write(c.fd, "GET / HTTP/1.1\r\n", 16), 16);
	ck_assert(!receive(&c));
	ck_assert_int_eq(relay_end(&c), E_REQUEST);
	relay_start(&c, &(struct ssh_relay){ .command = "cat" });
	send_frame(&c, FRAME_EXIT, "{}", 2);
	ck_assert(!receive(&c));
	ck_assert_int_eq(relay_end(&c), E_REQUEST);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("ssh_relay");

	UNIT_CASE(s, ssh_relay__streams__stay_apart_and_status_comes_last);
	UNIT_CASE(s, ssh_relay__signal__is_told);
	UNIT_CASE(s, ssh_relay__terminal__has_its_size_and_follows_it);
	UNIT_CASE(s, ssh_relay__slow_client__everything_arrives);
	UNIT_CASE(s, ssh_relay__client_gone__command_ends);
	UNIT_CASE(s, ssh_relay__not_a_frame__refused);
	return unit_main(s);
}
