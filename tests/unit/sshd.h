/* SPDX-License-Identifier: MPL-2.0 */
#ifndef TESTS_UNIT_SSHD_H
#define TESTS_UNIT_SSHD_H

#include <check.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pwd.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "lib/base/fs.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/base/worker.h"
#include "lib/ssh/ssh.h"

/* OpenSSH's own server for one test: a child listens on a port that the kernel chose and runs
 * `sshd -i` for each connection, as the user of the test but without what is in its home folder. */
struct sshd {
	char dir[64];
	char *home; /* of the test in the guest: dir/home, also in $T there */
	char *bin;  /* first in the guest's PATH */
	struct ssh_keypair host, login;
	char user[64];
	uint16_t port;
	pid_t pid;
};

static inline void
sshd_file(const char *dir, const char *name, const char *text, mode_t mode)
{
	CLEANUP_FREE char *path = fs_join(dir, name);

	ck_assert_int_eq(fs_write(path, text, strlen(text), mode, NULL), 0);
}

static inline int
sshd_listen(uint16_t *ret_port)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, len), 0);
	ck_assert_int_eq(listen(fd, 16), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	*ret_port = ntohs(address.sin_port);
	return fd;
}

static inline void
sshd_serve(int listener, const char *config, int log_fd)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		int fd = accept(listener, NULL, NULL);

		if (fd >= 0 && fork() == 0) {
			signal(SIGCHLD, SIG_DFL);
			dup2(fd, 0);
			dup2(fd, 1);
			close(fd);
			if (log_fd >= 0)
				dup2(log_fd, 2);
			execl("/usr/sbin/sshd", "sshd", "-i", "-e", "-f", config, (char *)NULL);
			_exit(127);
		}
		close(fd);
	}
}

/* log_fd: gets what the server says; -1: nobody does. */
static inline void
sshd_start_logged(struct sshd *s, int log_fd)
{
	CLEANUP_FREE char *config = NULL, *line = NULL;
	struct sbuf text = { 0 };
	int listener;

	memset(s, 0, sizeof(*s));
	memcpy(s->dir, "/tmp/vmm-sshd.XXXXXX", sizeof("/tmp/vmm-sshd.XXXXXX"));
	ck_assert_ptr_nonnull(mkdtemp(s->dir));
	s->home = fs_join(s->dir, "home");
	s->bin = fs_join(s->dir, "bin");
	ck_assert_int_eq(mkdir(s->home, 0755), 0);
	ck_assert_int_eq(mkdir(s->bin, 0755), 0);
	memcpy(s->user, getpwuid(getuid())->pw_name, strlen(getpwuid(getuid())->pw_name) + 1);
	ck_assert_int_eq(ssh_keypair_create(&s->host, NULL), 0);
	ck_assert_int_eq(ssh_keypair_create(&s->login, NULL), 0);
	sshd_file(s->dir, "host", s->host.private_pem, 0600);
	line = xasprintf("%s\n", s->login.public_line);
	sshd_file(s->dir, "authorized", line, 0600);
	sbuf_addf(&text,
	    "HostKey %s/host\nAuthorizedKeysFile %s/authorized\nStrictModes no\nUsePAM no\n"
	    "PidFile none\nLogLevel %s\nPermitRootLogin prohibit-password\nPrintLastLog no\n"
	    "PasswordAuthentication no\nKbdInteractiveAuthentication no\n"
	    "SetEnv T=%s HOME=%s "
	    "PATH=%s:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n",
	    s->dir, s->dir, log_fd >= 0 ? "DEBUG1" : "QUIET", s->home, s->home, s->bin);
	sshd_file(s->dir, "config", text.data, 0600);
	sbuf_done(&text);
	config = fs_join(s->dir, "config");
	if (getuid() == 0)
		mkdir("/run/sshd", 0755); /* where sshd of Debian locks its children up */
	listener = sshd_listen(&s->port);
	s->pid = fork();
	if (s->pid == 0)
		sshd_serve(listener, config, log_fd);
	close(listener);
}

static inline void
sshd_start(struct sshd *s)
{
	sshd_start_logged(s, -1);
}

static inline void
sshd_stop(struct sshd *s)
{
	kill(s->pid, SIGKILL);
	waitpid(s->pid, NULL, 0);
	fs_remove_tree(s->dir, NULL);
	ssh_keypair_done(&s->host);
	ssh_keypair_done(&s->login);
	free(s->home);
	free(s->bin);
}

static inline struct ssh_target
sshd_target(const struct sshd *s)
{
	return (struct ssh_target){ .host = "127.0.0.1",
		.port = s->port,
		.user = s->user,
		.private_key = s->login.private_pem,
		.private_key_len = strlen(s->login.private_pem),
		.host_key = s->host.public_line,
		.timeout_ms = 30000 };
}

static inline struct ssh *
sshd_login(const struct sshd *s)
{
	struct ssh_target target = sshd_target(s);
	struct err err = ERR_INIT;
	struct ssh *ssh = NULL;

	ck_assert_msg(ssh_open(&target, NULL, &ssh, &err) == 0, "%s", err.msg);
	return ssh;
}

/* ---- a body run as a real job ---- */

struct sshd_job {
	void (*body)(struct job *job, void *data);
	void *data;
	struct loop *loop;
	struct job *job;
	struct watch *watch;
};

static inline void
sshd_job_run(struct job *job, void *data)
{
	struct sshd_job *j = data;

	j->body(job, j->data);
}

static inline void
sshd_job_done(void *data)
{
	struct sshd_job *j = data;

	loop_stop(j->loop);
}

static inline void
sshd_job_cancel(void *data, unsigned events)
{
	struct sshd_job *j = data;

	watch_set(j->watch, 0);
	job_cancel(j->job);
}

/* cancel_fd: the job is cancelled as soon as it turns readable; -1: never. */
static inline void
sshd_as_job(
    void (*body)(struct job *job, void *data), void *data, uint64_t deadline_ms, int cancel_fd)
{
	struct sshd_job j = { .body = body, .data = data, .loop = loop_create() };
	struct worker_pool *pool = worker_pool_create(j.loop, 1, 1);

	if (cancel_fd >= 0)
		j.watch = watch_create(j.loop, cancel_fd, LOOP_READ, sshd_job_cancel, &j);
	ck_assert_int_eq(
	    worker_submit(pool, "test", sshd_job_run, sshd_job_done, &j, deadline_ms, &j.job, NULL),
	    0);
	loop_run(j.loop);
	watch_destroy(j.watch);
	worker_pool_destroy(pool);
	loop_destroy(j.loop);
}

#endif
