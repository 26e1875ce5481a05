/* SPDX-License-Identifier: MPL-2.0
 *
 * Connections that carry bytes or frames, and the terminal's way into raw mode and back. */
#include "client/relay.h"

#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/conn.h"
#include "client/term.h"
#include "lib/base/frame.h"
#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "tests/unit/unit.h"

/* What is on which side: `far` is the daemon's end of the connection. */
struct ends {
	struct conn conn;
	int far;
	int in[2], out[2], err[2];
};

static void
ends_open(struct ends *e)
{
	int fds[2];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	fcntl(fds[0], F_SETFL, O_NONBLOCK);
	e->conn = (struct conn){ .fd = fds[0] };
	e->far = fds[1];
	ck_assert_int_eq(pipe(e->in), 0);
	ck_assert_int_eq(pipe(e->out), 0);
	ck_assert_int_eq(pipe(e->err), 0);
}

static void
ends_close(struct ends *e)
{
	int fds[] = { e->far, e->in[0], e->in[1], e->out[0], e->out[1], e->err[0], e->err[1] };

	conn_close(&e->conn);
	for (size_t i = 0; i < ARRAY_LEN(fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
}

static void
put(int fd, const void *data, size_t len)
{
	ck_assert_int_eq(fs_write_all(fd, data, len), 0);
}

/* Owned: what can be read right now. */
static char *
get(int fd)
{
	char space[4096];
	ssize_t n;

	fcntl(fd, F_SETFL, O_NONBLOCK);
	n = read(fd, space, sizeof(space));
	return xstrndup(space, n > 0 ? (size_t)n : 0);
}

START_TEST(relay__escape_key__leaves_with_what_was_before)
{
	struct ends e;
	struct err err = ERR_INIT;
	CLEANUP_FREE char *typed = NULL, *shown = NULL;
	bool left = false;

	ends_open(&e);
	/* The rest of the answer's read is the beginning of the history. */
	sbuf_adds(&e.conn.in, "history ");
	put(e.far, "live\r\n", 6);
	put(e.in[1],
	    "ls\r\x1d"
	    "rm -rf /\r",
	    13);
	ck_assert_int_eq(relay_bytes(&e.conn, e.in[0], e.out[1], true, &left, &err), 0);
	ck_assert(left);
	typed = get(e.far);
	ck_assert_str_eq(typed, "ls\r");
	shown = get(e.out[0]);
	ck_assert(str_starts(shown, "history "));
	ends_close(&e);
}
END_TEST

START_TEST(relay__no_terminal__all_bytes_until_the_end)
{
	struct ends e;
	struct err err = ERR_INIT;
	CLEANUP_FREE char *shown = NULL;
	bool left = true;

	ends_open(&e);
	put(e.in[1],
	    "a\x1d"
	    "b",
	    3);
	close(e.in[1]);
	e.in[1] = -1;
	put(e.far, "said\n", 5);
	shutdown(e.far, SHUT_WR);
	ck_assert_int_eq(relay_bytes(&e.conn, e.in[0], e.out[1], false, &left, &err), 0);
	ck_assert(!left);
	shown = get(e.out[0]);
	ck_assert_str_eq(shown, "said\n");
	ends_close(&e);
}
END_TEST

/* ---- frames ---- */

static void
put_frame(int fd, enum frame_type type, const char *text)
{
	unsigned char header[FRAME_HEADER];

	frame_header(header, type, strlen(text));
	put(fd, header, sizeof(header));
	put(fd, text, strlen(text));
}

static int
run_frames(struct ends *e, int *ret_status, struct err *err)
{
	struct relay_frames relay = {
		.in_fd = e->in[0], .out_fd = e->out[1], .err_fd = e->err[1], .tty_fd = -1
	};

	return relay_frames(&e->conn, &relay, ret_status, err);
}

START_TEST(relay__frames__streams_apart_and_status)
{
	struct ends e;
	struct err err = ERR_INIT;
	CLEANUP_FREE char *out = NULL, *errors = NULL;
	int status;

	ends_open(&e);
	put_frame(e.far, FRAME_STDOUT, "one ");
	put_frame(e.far, FRAME_STDERR, "oops");
	put_frame(e.far, FRAME_STDOUT, "two");
	put_frame(e.far, FRAME_EXIT, "{\"status\":3}");
	ck_assert_int_eq(run_frames(&e, &status, &err), 0);
	ck_assert_int_eq(status, 3);
	out = get(e.out[0]);
	errors = get(e.err[0]);
	ck_assert_str_eq(out, "one two");
	ck_assert_str_eq(errors, "oops");
	ends_close(&e);
}
END_TEST

static const struct {
	const char *payload;
	int rc, status;
} exits[] = {
	{ "{\"status\":0}", 0, 0 },
	{ "{\"status\":255}", 0, 255 },
	{ "{\"signal\":\"KILL\"}", 0, 137 },
	{ "{\"signal\":\"SIGTERM\"}", 0, 143 },
	{ "{\"error\":\"lost\"}", E_FAILED, -1 },
	{ "{}", E_FAILED, -1 },
	{ "nonsense", E_FAILED, -1 },
};

START_TEST(relay__exit__every_kind)
{
	for (size_t i = 0; i < ARRAY_LEN(exits); i++) {
		struct ends e;
		struct err err = ERR_INIT;
		int status;

		ends_open(&e);
		put_frame(e.far, FRAME_EXIT, exits[i].payload);
		ck_assert_int_eq(run_frames(&e, &status, &err), exits[i].rc);
		ck_assert_int_eq(status, exits[i].status);
		ends_close(&e);
	}
}
END_TEST

START_TEST(relay__end_without_exit__no_status)
{
	struct ends e;
	struct err err = ERR_INIT;
	CLEANUP_FREE char *out = NULL;
	int status;

	ends_open(&e);
	put_frame(e.far, FRAME_STDOUT, "half");
	put(e.far, "\001\000\000", 3);
	shutdown(e.far, SHUT_WR);
	ck_assert_int_eq(run_frames(&e, &status, &err), 0);
	ck_assert_int_eq(status, -1);
	out = get(e.out[0]);
	ck_assert_str_eq(out, "half");
	ends_close(&e);
	ends_open(&e);
	put(e.far, "HTTP/1.1 200 OK", 15);
	ck_assert_int_eq(run_frames(&e, &status, &err), E_IO);
	ends_close(&e);
}
END_TEST

/* A megabyte of input against a daemon that takes it slowly: all of it, and then its end. */
START_TEST(relay__input__whole_with_its_end)
{
	enum { TOTAL = 1 << 20 };
	struct ends e;
	struct err err = ERR_INIT;
	int status, how;
	pid_t writer, far;

	ends_open(&e);
	writer = fork();
	if (writer == 0) {
		CLEANUP_FREE char *data = xcalloc(1, TOTAL);

		_exit(fs_write_all(e.in[1], data, TOTAL) == 0 ? 0 : 1);
	}
	close(e.in[1]);
	e.in[1] = -1;
	far = fork();
	if (far == 0) {
		struct sbuf got = { 0 };
		size_t total = 0;

		close(e.conn.fd);
		for (;;) {
			char space[777];
			ssize_t n = read(e.far, space, sizeof(space));
			enum frame_type type;
			size_t len;

			if (n <= 0)
				_exit(1);
			sbuf_add(&got, space, (size_t)n);
			while (got.len > 0 &&
			       frame_peek((unsigned char *)got.data, got.len, &type, &len) == 1) {
				if (type == FRAME_STDIN_END)
					_exit(total == TOTAL ? 0 : 2);
				total += len;
				got.len -= FRAME_HEADER + len;
				memmove(got.data, got.data + FRAME_HEADER + len, got.len);
			}
		}
	}
	close(e.far);
	e.far = -1;
	ck_assert_int_eq(run_frames(&e, &status, &err), 0);
	ck_assert_int_eq(waitpid(far, &how, 0), far);
	ck_assert_int_eq(how, 0);
	ck_assert_int_eq(waitpid(writer, &how, 0), writer);
	ck_assert_int_eq(how, 0);
	ends_close(&e);
}
END_TEST

/* ---- the terminal ---- */

static tcflag_t
local_flags(int fd)
{
	struct termios now;

	ck_assert_int_eq(tcgetattr(fd, &now), 0);
	return now.c_lflag;
}

START_TEST(term__raw__and_back)
{
	int master, slave;
	tcflag_t before;
	struct term term;

	ck_assert_int_eq(openpty(&master, &slave, NULL, NULL, NULL), 0);
	before = local_flags(slave);
	term_raw(&term, slave);
	ck_assert(term.raw);
	ck_assert_int_eq(local_flags(slave) & (ICANON | ECHO | ISIG), 0);
	term_restore(&term);
	ck_assert_uint_eq(local_flags(slave), before);
	term_restore(&term);
	term_raw(&term, STDERR_FILENO);
	close(master);
	close(slave);
}
END_TEST

/* However the process ends, the terminal is as it was. */
START_TEST(term__raw__restored_by_every_end)
{
	static const int ends[] = { SIGTERM, SIGHUP, SIGINT, SIGABRT, SIGSEGV, 0 };

	for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
		int master, slave, how;
		tcflag_t before;
		pid_t pid;

		ck_assert_int_eq(openpty(&master, &slave, NULL, NULL, NULL), 0);
		before = local_flags(slave);
		pid = fork();
		if (pid == 0) {
			struct term term;

			term_raw(&term, slave);
			if ((local_flags(slave) & ICANON) != 0)
				_exit(9);
			if (ends[i] != 0)
				raise(ends[i]);
			exit(0);
		}
		ck_assert_int_eq(waitpid(pid, &how, 0), pid);
		ck_assert_int_eq(WIFSIGNALED(how) ? WTERMSIG(how) : 0, ends[i]);
		ck_assert_uint_eq(local_flags(slave), before);
		close(master);
		close(slave);
	}
}
END_TEST

START_TEST(term__size__of_the_terminal)
{
	struct winsize size = { .ws_col = 132, .ws_row = 43 };
	unsigned columns, rows;
	int master, slave;

	ck_assert_int_eq(openpty(&master, &slave, NULL, NULL, &size), 0);
	ck_assert(term_size(slave, &columns, &rows));
	ck_assert_uint_eq(columns, 132);
	ck_assert_uint_eq(rows, 43);
	close(master);
	close(slave);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("client_relay");

	UNIT_CASE(s, relay__escape_key__leaves_with_what_was_before);
	UNIT_CASE(s, relay__no_terminal__all_bytes_until_the_end);
	UNIT_CASE(s, relay__frames__streams_apart_and_status);
	UNIT_CASE(s, relay__exit__every_kind);
	UNIT_CASE(s, relay__end_without_exit__no_status);
	UNIT_CASE(s, relay__input__whole_with_its_end);
	UNIT_CASE(s, term__raw__and_back);
	UNIT_CASE(s, term__raw__restored_by_every_end);
	UNIT_CASE(s, term__size__of_the_terminal);
	return unit_main(s);
}
