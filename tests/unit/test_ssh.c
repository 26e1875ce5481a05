/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/ssh/ssh.h"

#include "lib/base/clock.h"
#include "tests/unit/sshd.h"
#include "tests/unit/unit.h"

/* libssh2 1.10 loses two numbers of an RSA key at each login; the address sanitizer asks here what
 * is not our fault, and needs whole stacks to recognise it. */
const char *__asan_default_options(void);
const char *__lsan_default_suppressions(void);

const char *
__asan_default_options(void)
{
	return "fast_unwind_on_malloc=0";
}

const char *
__lsan_default_suppressions(void)
{
	return "leak:libssh2_userauth_publickey_frommemory\n";
}

/* A server that accepts, says `say`, and then hangs up or nothing. */
static pid_t
fake_server(const char *say, bool hang_up, uint16_t *ret_port)
{
	int listener = sshd_listen(ret_port), fd;
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;) {
			fd = accept(listener, NULL, NULL);
			if (say != NULL && write(fd, say, strlen(say)) < 0)
				_exit(1);
			if (hang_up)
				close(fd);
		}
	}
	close(listener);
	return pid;
}

static void
end(pid_t pid)
{
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

/* A key by ssh-keygen; both owned. */
static char *
make_key(const char *dir, const char *type, const char *format, const char *pass, char **ret_public)
{
	CLEANUP_FREE char *path = fs_join(dir, "made"), *public_path = xasprintf("%s.pub", path);
	char *key = NULL;
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		execlp("ssh-keygen", "ssh-keygen", "-q", "-t", type, "-m", format, "-N", pass, "-f",
		    path, (char *)NULL);
		_exit(127);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(status, 0);
	ck_assert_int_eq(fs_read(public_path, 65536, ret_public, NULL, NULL), 0);
	ck_assert_int_eq(fs_read(path, 65536, &key, NULL, NULL), 0);
	unlink(path);
	unlink(public_path);
	return key;
}

/* Reads the server's words until one of them is seen; owned. */
static char *
read_log(int fd, const char *until)
{
	struct sbuf text = { 0 };
	char chunk[4096];
	ssize_t n;

	sbuf_adds(&text, "");
	while (text.data == NULL || strstr(text.data, until) == NULL) {
		n = read(fd, chunk, sizeof(chunk));
		ck_assert_msg(n > 0, "the server never said '%s': %s", until, text.data);
		sbuf_add(&text, chunk, (size_t)n);
	}
	return sbuf_take(&text);
}

START_TEST(ssh_open__right_keys__learns_or_verifies)
{
	struct ssh_target target;
	struct err err = ERR_INIT;
	struct ssh *ssh = NULL;
	struct sshd s;

	sshd_start(&s);
	target = sshd_target(&s);
	target.host_key = NULL;
	ck_assert_msg(ssh_open(&target, NULL, &ssh, &err) == 0, "%s", err.msg);
	ck_assert_str_eq(ssh_host_key(ssh), s.host.public_line);
	ssh_close(ssh);
	target.host_key = s.host.public_line;
	ck_assert_msg(ssh_open(&target, NULL, &ssh, &err) == 0, "%s", err.msg);
	ssh_close(ssh);
	target.host_key = "ssh-ed25519 nonsense";
	ck_assert_int_eq(ssh_open(&target, NULL, &ssh, &err), E_PARAMS);
	target.host = "localhost";
	target.host_key = NULL;
	ck_assert_int_eq(ssh_open(&target, NULL, &ssh, &err), E_PARAMS);
	sshd_stop(&s);
}
END_TEST

START_TEST(ssh_open__g56_wrong_host_key__refused_before_login)
{
	CLEANUP_FREE char *first = NULL, *second = NULL;
	struct ssh_target target;
	struct ssh_keypair other;
	struct err err = ERR_INIT;
	struct ssh *ssh = NULL;
	struct sshd s;
	int pipe_fds[2];

	ck_assert_int_eq(pipe2(pipe_fds, O_CLOEXEC), 0);
	sshd_start_logged(&s, pipe_fds[1]);
	close(pipe_fds[1]);
	ck_assert_int_eq(ssh_keypair_create(&other, NULL), 0);
	target = sshd_target(&s);
	target.host_key = other.public_line;
	ck_assert_int_eq(ssh_open(&target, NULL, &ssh, &err), E_HOST_KEY);
	ck_assert_ptr_nonnull(strstr(err.msg, other.public_line));
	ck_assert_ptr_nonnull(strstr(err.msg, s.host.public_line));
	first = read_log(pipe_fds[0], "Connection closed by");
	ck_assert_ptr_null(strstr(first, "userauth-request"));
	/* The same log does show a login when there is one. */
	target.host_key = s.host.public_line;
	ck_assert_int_eq(ssh_open(&target, NULL, &ssh, &err), 0);
	second = read_log(pipe_fds[0], "userauth-request");
	ssh_close(ssh);
	ssh_keypair_done(&other);
	sshd_stop(&s);
	close(pipe_fds[0]);
}
END_TEST

START_TEST(ssh_open__pinned_type__is_the_one_asked_for)
{
	CLEANUP_FREE char *key = NULL, *public = NULL, *config = NULL, *line = NULL;
	struct err err = ERR_INIT;
	struct ssh_target target;
	struct ssh *ssh = NULL;
	struct sshd s;

	sshd_start(&s);
	key = make_key(s.dir, "ecdsa", "RFC4716", "", &public);
	sshd_file(s.dir, "host2", key, 0600);
	config = fs_join(s.dir, "config");
	line = xasprintf("HostKey %s/host2\n", s.dir);
	ck_assert_int_eq(fs_append(config, line, strlen(line), 0600, NULL), 0);
	target = sshd_target(&s);
	ck_assert_msg(ssh_open(&target, NULL, &ssh, &err) == 0, "%s", err.msg);
	ssh_close(ssh);
	target.host_key = public;
	ck_assert_msg(ssh_open(&target, NULL, &ssh, &err) == 0, "%s", err.msg);
	ck_assert(str_starts(public, ssh_host_key(ssh)));
	ssh_close(ssh);
	sshd_stop(&s);
}
END_TEST

START_TEST(ssh_open__other_type_of_host_key__is_a_mismatch)
{
	CLEANUP_FREE char *key = NULL, *public = NULL;
	struct err err = ERR_INIT;
	struct ssh_target target;
	struct ssh *ssh = NULL;
	struct sshd s;

	sshd_start(&s);
	key = make_key(s.dir, "ecdsa", "RFC4716", "", &public);
	sshd_file(s.dir, "host", key, 0600);
	target = sshd_target(&s);
	ck_assert_msg(ssh_open(&target, NULL, &ssh, &err) == E_HOST_KEY, "%s", err.msg);
	sshd_stop(&s);
}
END_TEST

START_TEST(ssh_open__g58_refused_key_or_user__is_auth)
{
	struct ssh_target target;
	struct ssh_keypair other;
	struct err err = ERR_INIT;
	struct ssh *ssh = NULL;
	struct sshd s;

	sshd_start(&s);
	ck_assert_int_eq(ssh_keypair_create(&other, NULL), 0);
	target = sshd_target(&s);
	target.private_key = other.private_pem;
	ck_assert_int_eq(ssh_open(&target, NULL, &ssh, &err), E_AUTH);
	ck_assert_ptr_nonnull(strstr(err.msg, s.user));
	target.private_key = s.login.private_pem;
	target.user = "nobody-here";
	ck_assert_int_eq(ssh_open(&target, NULL, &ssh, &err), E_AUTH);
	ck_assert_ptr_nonnull(strstr(err.msg, "'nobody-here'"));
	ssh_keypair_done(&other);
	sshd_stop(&s);
}
END_TEST

START_TEST(ssh_open__g69_kinds_of_keys__work_or_say_why)
{
	static const struct {
		const char *type, *format, *pass;
		int code;
		const char *word;
	} rows[] = {
		{ "ed25519", "RFC4716", "", 0, "" },
		{ "ecdsa", "RFC4716", "", 0, "" },
		{ "ecdsa", "PEM", "", 0, "" },
		{ "ed25519", "RFC4716", "secret", E_PARAMS, "passphrase" },
		{ "rsa", "PEM", "", E_AUTH, "use an Ed25519 or ECDSA key" },
		{ "rsa", "RFC4716", "", E_AUTH, "use an Ed25519 or ECDSA key" },
	};
	struct ssh_target target;
	struct sshd s;

	sshd_start(&s);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		CLEANUP_FREE char *public = NULL, *words = NULL;
		CLEANUP_FREE char *key =
		    make_key(s.dir, rows[i].type, rows[i].format, rows[i].pass, &public);
		struct err err = ERR_INIT;
		struct ssh *ssh = NULL;

		sshd_file(s.dir, "authorized", public, 0600);
		target = sshd_target(&s);
		target.private_key = key;
		target.private_key_len = strlen(key);
		ck_assert_msg(ssh_open(&target, NULL, &ssh, &err) == rows[i].code, "%s %s: %s",
		    rows[i].type, rows[i].format, err.msg);
		words = xasprintf("%s %s", err.msg, err.hint);
		ck_assert_msg(strstr(words, rows[i].word) != NULL, "%s", words);
		ssh_close(ssh);
	}
	sshd_stop(&s);
}
END_TEST

START_TEST(ssh_open__g57_nobody_or_mute__ends_in_time)
{
	static const struct {
		const char *say;
		bool hang_up;
		int code;
	} rows[] = {
		{ NULL, true, E_IO },
		{ NULL, false, E_TIMEOUT },
		{ "SSH-2.0-mute\r\n", false, E_TIMEOUT },
		{ "SSH-2.0-mute\r\n", true, E_IO },
		{ "HTTP/1.1 400 Bad Request\r\n\r\n", true, E_IO },
	};
	struct ssh_target target = { .host = "127.0.0.1", .user = "vm" };
	struct ssh_keypair pair;
	struct ssh *ssh = NULL;
	struct err err;
	uint64_t start;
	pid_t pid;

	ck_assert_int_eq(ssh_keypair_create(&pair, NULL), 0);
	target.private_key = pair.private_pem;
	target.private_key_len = strlen(pair.private_pem);
	target.host_key = pair.public_line;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		target.timeout_ms = rows[i].code == E_TIMEOUT ? 300 : 30000;
		pid = fake_server(rows[i].say, rows[i].hang_up, &target.port);
		start = clock_ms();
		ck_assert_msg(
		    ssh_open(&target, NULL, &ssh, &err) == rows[i].code, "row %zu: %s", i, err.msg);
		ck_assert_uint_lt(clock_ms() - start, 20000);
		end(pid);
	}
	/* The port is closed now. */
	target.timeout_ms = 30000;
	ck_assert_int_eq(ssh_open(&target, NULL, &ssh, &err), E_IO);
	ck_assert_ptr_nonnull(strstr(err.msg, "refused"));
	/* A mute server does not use up what is meant for the whole login. */
	pid = fake_server(NULL, false, &target.port);
	target.timeout_ms = 60000;
	target.banner_timeout_ms = 100;
	start = clock_ms();
	ck_assert_int_eq(ssh_open(&target, NULL, &ssh, &err), E_TIMEOUT);
	ck_assert_ptr_nonnull(strstr(err.msg, "first line"));
	ck_assert_uint_lt(clock_ms() - start, 20000);
	end(pid);
	ssh_keypair_done(&pair);
}
END_TEST

struct open_case {
	struct ssh_target target;
	int tell_fd, rc;
	struct err err;
};

static void
open_body(struct job *job, void *data)
{
	struct open_case *c = data;
	struct ssh *ssh = NULL;

	ck_assert_int_eq(write(c->tell_fd, "x", 1), 1);
	c->rc = ssh_open(&c->target, job, &ssh, &c->err);
	ssh_close(ssh);
}

START_TEST(ssh_open__cancelled_or_past_the_deadline__ends)
{
	struct open_case c = { .target = {
				   .host = "127.0.0.1", .user = "vm", .timeout_ms = 60000 } };
	pid_t pid = fake_server("SSH-2.0-mute\r\n", false, &c.target.port);
	struct ssh_keypair pair;
	int pipe_fds[2];
	char byte;

	ck_assert_int_eq(pipe2(pipe_fds, O_CLOEXEC), 0);
	ck_assert_int_eq(ssh_keypair_create(&pair, NULL), 0);
	c.tell_fd = pipe_fds[1];
	c.target.private_key = pair.private_pem;
	c.target.private_key_len = strlen(pair.private_pem);
	sshd_as_job(open_body, &c, 100, -1);
	ck_assert_int_eq(c.rc, E_TIMEOUT);
	ck_assert_int_eq(read(pipe_fds[0], &byte, 1), 1);
	sshd_as_job(open_body, &c, 0, pipe_fds[0]);
	ck_assert_int_eq(c.rc, E_CANCELLED);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	end(pid);
	ssh_keypair_done(&pair);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("ssh");

	UNIT_CASE(s, ssh_open__right_keys__learns_or_verifies);
	UNIT_CASE(s, ssh_open__g56_wrong_host_key__refused_before_login);
	UNIT_CASE(s, ssh_open__pinned_type__is_the_one_asked_for);
	UNIT_CASE(s, ssh_open__other_type_of_host_key__is_a_mismatch);
	UNIT_CASE(s, ssh_open__g58_refused_key_or_user__is_auth);
	UNIT_CASE(s, ssh_open__g69_kinds_of_keys__work_or_say_why);
	UNIT_CASE(s, ssh_open__g57_nobody_or_mute__ends_in_time);
	UNIT_CASE(s, ssh_open__cancelled_or_past_the_deadline__ends);
	return unit_main(s);
}
