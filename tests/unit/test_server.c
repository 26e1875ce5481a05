/* SPDX-License-Identifier: MPL-2.0
 *
 * The listener: where it may listen, whom it takes, and what happens when there are too many. */
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "lib/base/clock.h"
#include "tests/unit/serve.h"

static void
handle_info(struct vmmd *vmmd, struct request *request, void *args)
{
	request_reply_text(request, "true", 4);
}

static void
start(struct serve *s)
{
	struct server_options options;

	serve_init(s);
	s->handlers[METHOD_system_info] = handle_info;
	options = serve_options(s);
	serve_start(s, &options);
}

#define INFO "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"system.info\"}\n"
#define SHUTDOWN_WRONG                                                                             \
	"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"system.shutdown\",\"params\":{\"x\":1}}\n"
#define INFO_ANSWER "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":true}"

static int
try_create(struct serve *s, const struct server_options *options, struct err *err)
{
	struct server *server = NULL;
	int rc = server_create(&s->vmmd, s->loop, options, &server, err);

	server_destroy(server);
	return rc;
}

/* A socket that nobody listens on. */
static void
leave_stale(const char *path)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	memcpy(addr.sun_path, path, strlen(path));
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	close(fd);
}

START_TEST(server__first_client__is_answered)
{
	struct serve s;
	struct client c;
	struct stat st;

	start(&s);
	client_init(&c, &s);
	ASSERT_ASK(&c, INFO, INFO_ANSWER);
	ck_assert_uint_eq(server_connections(s.server), 1);
	ck_assert_int_eq(stat(s.path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
	client_done(&c);
	serve_done(&s);
}
END_TEST

START_TEST(server__path__refused_when_not_ours)
{
	struct serve s;
	struct server_options options;
	struct err err = ERR_INIT;
	char big[200];
	int fd;

	serve_init(&s);
	options = serve_options(&s);
	/* A symbolic link, even one that leads nowhere. */
	ck_assert_int_eq(symlink("nowhere", s.path), 0);
	ck_assert_int_ne(try_create(&s, &options, &err), 0);
	ASSERT_HAS(err.msg, "symbolic link");
	ck_assert_int_eq(unlink(s.path), 0);
	/* A file that has other uses. */
	fd = open(s.path, O_CREAT | O_WRONLY, 0600);
	close(fd);
	ck_assert_int_ne(try_create(&s, &options, &err), 0);
	ASSERT_HAS(err.msg, "not a socket");
	ck_assert(fs_exists(s.path));
	ck_assert_int_eq(unlink(s.path), 0);
	/* Longer than an address holds: told with numbers and the way out. */
	snprintf(big, sizeof(big), "%s/%0150d", s.dir, 0);
	options.socket_path = big;
	ck_assert_int_eq(try_create(&s, &options, &err), E_USAGE);
	ASSERT_HAS(err.msg, "107");
	ASSERT_HAS(err.hint, "--socket");
	/* Another user's, when we are able to make one. */
	options.socket_path = s.path;
	leave_stale(s.path);
	if (geteuid() == 0) {
		ck_assert_int_eq(lchown(s.path, 1, 1), 0);
		ck_assert_int_eq(try_create(&s, &options, &err), E_PERMISSION);
		ck_assert(fs_exists(s.path));
	}
	serve_done(&s);
}
END_TEST

START_TEST(server__stale_socket__replaced_and_live_one_kept)
{
	struct serve s;
	struct server_options options;
	struct err err = ERR_INIT;
	struct client c;

	serve_init(&s);
	s.handlers[METHOD_system_info] = handle_info;
	options = serve_options(&s);
	leave_stale(s.path);
	serve_start(&s, &options);
	ck_assert_int_eq(try_create(&s, &options, &err), E_EXISTS);
	client_init(&c, &s);
	ASSERT_ASK(&c, INFO, INFO_ANSWER);
	client_done(&c);
	serve_done(&s);
}
END_TEST

START_TEST(server__destroy__removes_its_own_socket_alone)
{
	struct serve s;

	start(&s);
	server_destroy(TAKE(s.server));
	ck_assert(!fs_exists(s.path));
	serve_done(&s);

	/* Somebody else's has taken the place meanwhile. */
	start(&s);
	ck_assert_int_eq(unlink(s.path), 0);
	leave_stale(s.path);
	server_destroy(TAKE(s.server));
	ck_assert(fs_exists(s.path));
	serve_done(&s);
}
END_TEST

START_TEST(server__system__opens_to_a_group)
{
	struct serve s;
	struct server_options options;
	struct err err = ERR_INIT;
	struct stat st;

	serve_init(&s);
	options = serve_options(&s);
	options.system = true;
	options.group = "no-such-group-here";
	ck_assert_int_eq(try_create(&s, &options, &err), E_USAGE);
	ASSERT_HAS(err.msg, "no-such-group-here");
	ck_assert(!fs_exists(s.path));
	options.group = NULL;
	serve_start(&s, &options);
	ck_assert_int_eq(stat(s.path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0660);
	serve_done(&s);
}
END_TEST

START_TEST(authz__every_pair__as_the_mode_says)
{
	static const struct {
		bool system;
		int who; /* 0 root, 1 ourselves, 2 another */
		enum method_access access;
		bool may;
	} rows[] = {
		{ false, 0, ADMIN, true },
		{ false, 1, ADMIN, true },
		{ false, 1, OBSERVE, true },
		{ false, 2, OBSERVE, false },
		{ false, 2, OPERATE, false },
		{ false, 2, ADMIN, false },
		{ true, 0, ADMIN, true },
		{ true, 1, ADMIN, true },
		{ true, 2, OBSERVE, true },
		{ true, 2, OPERATE, true },
		{ true, 2, ADMIN, false },
	};
	const uid_t uids[] = { 0, geteuid(), 4321 };

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct peer peer = { .uid = uids[rows[i].who] };

		ck_assert_msg(
		    authz(&peer, rows[i].access, rows[i].system) == rows[i].may, "row %zu", i);
	}
}
END_TEST

/* Runs fn in a child, which may change its limits, its user and its environment. */
static void
in_child(void (*fn)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		fn();
		_exit(0);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(
	    WIFEXITED(status) && WEXITSTATUS(status) == 0, "the child: status %x", status);
}

static void
expect_refusal(struct client *c, const char *name)
{
	client_wait_eof(c);
	ck_assert_uint_eq(c->lines, 1);
	ASSERT_HAS(c->in.data, "\"id\":null");
	ASSERT_HAS(c->in.data, name);
}

START_TEST(server__too_many_connections__told_and_closed)
{
	struct serve s;
	struct server_options options;
	struct client c[4];

	serve_init(&s);
	s.handlers[METHOD_system_info] = handle_info;
	options = serve_options(&s);
	options.max_connections = 2;
	serve_start(&s, &options);
	for (int i = 0; i < 2; i++) {
		client_init(&c[i], &s);
		ASSERT_ASK(&c[i], INFO, INFO_ANSWER);
	}
	client_init(&c[2], &s);
	expect_refusal(&c[2], "limit_exceeded");
	ASSERT_ASK(&c[0], INFO, INFO_ANSWER);
	/* One that leaves makes room. */
	client_done(&c[1]);
	while (server_connections(s.server) > 1)
		serve_for(&s, 1);
	client_init(&c[3], &s);
	ASSERT_ASK(&c[3], INFO, INFO_ANSWER);
	client_done(&c[0]);
	client_done(&c[2]);
	client_done(&c[3]);
	serve_done(&s);
}
END_TEST

/* As the user `uid`: connects, asks (NULL: only listens) and expects that in the answer. */
static void
ask_as(uid_t uid, const char *path, const char *line, const char *expected)
{
	char got[4096];
	ssize_t n;
	int fd;

	if (setresgid(uid, uid, uid) != 0 || setresuid(uid, uid, uid) != 0)
		_exit(2);
	fd = raw_connect(path);
	if (fd < 0)
		_exit(3);
	if (line != NULL && send(fd, line, strlen(line), MSG_NOSIGNAL) < 0)
		_exit(4);
	n = recv(fd, got, sizeof(got) - 1, 0);
	got[n > 0 ? n : 0] = '\0';
	_exit(strstr(got, expected) != NULL ? 0 : 5);
}

static void
serve_as(struct serve *s, uid_t uid, const char *line, const char *expected)
{
	pid_t pid = fork();
	int status = 0;

	if (pid == 0)
		ask_as(uid, s->path, line, expected);
	while (waitpid(pid, &status, WNOHANG) == 0)
		serve_for(s, 2);
	ck_assert_msg(status == 0, "as %u: status %x", (unsigned)uid, status);
}

/* Other users can only be tried by root. */
START_TEST(server__other_users__by_the_mode)
{
	struct serve s;
	struct server_options options;
	struct client held;

	if (geteuid() != 0)
		return;
	serve_init(&s);
	s.handlers[METHOD_system_info] = handle_info;
	ck_assert_int_eq(chmod(s.dir, 0755), 0);
	options = serve_options(&s);
	serve_start(&s, &options);
	ck_assert_int_eq(chmod(s.path, 0666), 0); /* so that the mode alone does not refuse */
	serve_as(&s, 1234, NULL, "permission_denied");
	server_destroy(TAKE(s.server));

	options.system = true;
	options.max_per_uid = 1;
	serve_start(&s, &options);
	ck_assert_int_eq(chmod(s.path, 0666), 0);
	serve_as(&s, 1234, INFO, "\"result\":true");
	/* Before the parameters are looked at. */
	serve_as(&s, 1234, SHUTDOWN_WRONG, "permission_denied");
	client_init(&held, &s);
	ASSERT_ASK(&held, INFO, INFO_ANSWER);
	client_done(&held);
	serve_done(&s);
}
END_TEST

START_TEST(server__cap_of_a_user__told_and_closed)
{
	struct serve s;
	struct server_options options;
	pid_t pid;
	int status, go[2];

	if (geteuid() != 0)
		return;
	serve_init(&s);
	s.handlers[METHOD_system_info] = handle_info;
	ck_assert_int_eq(chmod(s.dir, 0755), 0);
	options = serve_options(&s);
	options.system = true;
	options.max_per_uid = 1;
	serve_start(&s, &options);
	ck_assert_int_eq(chmod(s.path, 0666), 0);
	/* A user's first connection stays; its second is refused; another user's is not. */
	ck_assert_int_eq(pipe(go), 0);
	pid = fork();
	if (pid == 0) {
		char c;

		close(go[1]);
		_exit(setresuid(1234, 1234, 1234) == 0 && raw_connect(s.path) >= 0 &&
			      read(go[0], &c, 1) == 0
			  ? 0
			  : 1);
	}
	while (server_connections(s.server) < 1)
		serve_for(&s, 1);
	serve_as(&s, 1234, NULL, "limit_exceeded");
	serve_as(&s, 1235, INFO, "\"result\":true");
	close(go[0]);
	close(go[1]);
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	serve_done(&s);
}
END_TEST

/* All descriptors of the process but `left` are used up. */
static size_t
use_up(int *fds, size_t max, size_t left)
{
	struct rlimit files = { 64, 64 };
	size_t n = 0;

	setrlimit(RLIMIT_NOFILE, &files);
	while (n < max && (fds[n] = dup(0)) >= 0)
		n++;
	while (left-- > 0 && n > 0)
		close(fds[--n]);
	return n;
}

static uint64_t
cpu_ms(void)
{
	struct rusage used;

	getrusage(RUSAGE_SELF, &used);
	return (uint64_t)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000 +
	       (uint64_t)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1000;
}

static void
run_out_of_descriptors(void)
{
	struct serve s;
	enum { WAITING = 5 };
	struct client c[1 + WAITING];
	int fds[64];
	uint64_t before, begin;
	size_t used;

	start(&s);
	client_init(&c[0], &s);
	ASSERT_ASK(&c[0], INFO, INFO_ANSWER);
	/* Room for the clients' own ends, and for nothing of the server's. */
	used = use_up(fds, 64, WAITING);
	for (int i = 1; i <= WAITING; i++)
		client_init(&c[i], &s);
	before = cpu_ms();
	begin = clock_ms();
	for (int i = 1; i <= WAITING; i++) {
		expect_refusal(&c[i], "limit_exceeded");
		ASSERT_ASK(&c[0], INFO, INFO_ANSWER); /* those that are in are served */
	}
	/* One at a time, and rest between them. */
	ck_assert_uint_ge(clock_ms() - begin, (WAITING - 1) * 90);
	ck_assert_uint_lt(cpu_ms() - before, 200);
	for (size_t i = 0; i < used; i++)
		close(fds[i]);
	for (int i = 0; i <= WAITING; i++)
		client_done(&c[i]);
	client_init(&c[0], &s);
	ASSERT_ASK(&c[0], INFO, INFO_ANSWER); /* and new ones again */
	client_done(&c[0]);
	serve_done(&s);
}

START_TEST(server__no_descriptors__turns_away_without_a_busy_loop)
{
	in_child(run_out_of_descriptors);
}
END_TEST

START_TEST(server__thousand_connections__all_answered)
{
	enum { COUNT = 1000 };
	struct rlimit files, before;
	struct serve s;
	struct client *c = xcalloc(COUNT, sizeof(*c));

	getrlimit(RLIMIT_NOFILE, &before);
	files = before;
	files.rlim_cur = files.rlim_max;
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &files), 0);
	start(&s);
	for (size_t i = 0; i < COUNT; i++)
		client_init(&c[i], &s);
	for (size_t i = 0; i < COUNT; i++)
		client_say(&c[i], INFO);
	for (size_t i = 0; i < COUNT; i++) {
		client_wait_lines(&c[i], 1);
		ASSERT_HAS(c[i].in.data, INFO_ANSWER);
	}
	ck_assert_uint_eq(server_connections(s.server), COUNT);
	for (size_t i = 0; i < COUNT; i++)
		client_done(&c[i]);
	while (server_connections(s.server) > 0)
		serve_for(&s, 1);
	serve_done(&s);
	free(c);
	setrlimit(RLIMIT_NOFILE, &before);
}
END_TEST

START_TEST(server__stop_accepting__old_ones_are_told)
{
	struct serve s;
	struct client c;

	start(&s);
	client_init(&c, &s);
	ASSERT_ASK(&c, INFO, INFO_ANSWER);
	server_stop_accepting(s.server);
	ck_assert_int_lt(raw_connect(s.path), 0);
	ASSERT_ASK(&c, INFO, "shutting_down");
	client_done(&c);
	serve_done(&s);
}
END_TEST

/* ---- systemd ---- */

static void
activate(void)
{
	struct serve s;
	struct server_options options;
	struct client c;
	char pid[32];
	int fd;

	start(&s);
	server_destroy(TAKE(s.server));
	/* Without a word from systemd there is nothing. */
	unsetenv("LISTEN_PID");
	ck_assert_int_eq(notify_listen_fd(), -1);
	setenv("LISTEN_FDS", "1", 1);
	setenv("LISTEN_PID", "1", 1); /* meant for another process */
	ck_assert_int_eq(notify_listen_fd(), -1);
	ck_assert_ptr_null(getenv("LISTEN_FDS"));

	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	{
		struct sockaddr_un addr = { .sun_family = AF_UNIX };

		memcpy(addr.sun_path, s.path, strlen(s.path));
		ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	}
	options = serve_options(&s);
	options.socket_path = NULL;
	options.listen_fd = fd;
	ck_assert_int_eq(try_create(&s, &options, NULL), E_USAGE); /* it does not listen */
	ck_assert_int_eq(listen(fd, 10), 0);
	/* The loop has 3 and more: they make room in this process, which ends soon. */
	ck_assert_int_ge(fcntl(3, F_GETFD), 0);
	fd = fcntl(fd, F_DUPFD, 100);
	options.listen_fd = fd;
	snprintf(pid, sizeof(pid), "%ld", (long)getpid());
	serve_start(&s, &options);
	client_init(&c, &s);
	ASSERT_ASK(&c, INFO, INFO_ANSWER);
	client_done(&c);
	server_destroy(TAKE(s.server));
	ck_assert(fs_exists(s.path)); /* systemd's to remove */
	serve_done(&s);

	fd = open("/dev/null", O_RDONLY);
	ck_assert_int_eq(dup2(fd, 3), 3);
	setenv("LISTEN_FDS", "1", 1);
	setenv("LISTEN_PID", pid, 1);
	ck_assert_int_eq(notify_listen_fd(), 3);
	ck_assert_int_ne(fcntl(3, F_GETFD) & FD_CLOEXEC, 0);
	ck_assert_ptr_null(getenv("LISTEN_PID"));
}

START_TEST(notify__listen_fd__taken_once_and_checked)
{
	in_child(activate);
}
END_TEST

static void
send_ready(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	char name[64], got[64] = "";
	int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

	ck_assert(!notify_send("READY=1"));
	snprintf(name, sizeof(name), "@vmm-test-notify-%ld", (long)getpid());
	memcpy(addr.sun_path, name, strlen(name));
	addr.sun_path[0] = '\0';
	ck_assert_int_eq(bind(fd, (struct sockaddr *)&addr,
			     (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name))),
	    0);
	setenv("NOTIFY_SOCKET", name, 1);
	notify_listen_fd();
	ck_assert_ptr_null(getenv("NOTIFY_SOCKET"));
	ck_assert(notify_send("READY=1\nSTATUS=serving"));
	ck_assert_int_eq(recv(fd, got, sizeof(got) - 1, MSG_DONTWAIT), 22);
	ck_assert_str_eq(got, "READY=1\nSTATUS=serving");
}

START_TEST(notify__abstract_socket__hears_and_children_do_not_see_it)
{
	in_child(send_ready);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("server");

	UNIT_CASE(s, server__first_client__is_answered);
	UNIT_CASE(s, server__path__refused_when_not_ours);
	UNIT_CASE(s, server__stale_socket__replaced_and_live_one_kept);
	UNIT_CASE(s, server__destroy__removes_its_own_socket_alone);
	UNIT_CASE(s, server__system__opens_to_a_group);
	UNIT_CASE(s, authz__every_pair__as_the_mode_says);
	UNIT_CASE(s, server__too_many_connections__told_and_closed);
	UNIT_CASE(s, server__other_users__by_the_mode);
	UNIT_CASE(s, server__cap_of_a_user__told_and_closed);
	UNIT_CASE(s, server__no_descriptors__turns_away_without_a_busy_loop);
	UNIT_CASE(s, server__thousand_connections__all_answered);
	UNIT_CASE(s, server__stop_accepting__old_ones_are_told);
	UNIT_CASE(s, notify__listen_fd__taken_once_and_checked);
	UNIT_CASE(s, notify__abstract_socket__hears_and_children_do_not_see_it);
	return unit_main(s);
}
