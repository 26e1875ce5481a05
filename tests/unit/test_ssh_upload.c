/* SPDX-License-Identifier: MPL-2.0 */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/mman.h>

#include "lib/base/clock.h"
#include "tests/unit/sshd.h"
#include "tests/unit/unit.h"

static int
file_of(const void *data, size_t len)
{
	int fd = memfd_create("upload", MFD_CLOEXEC);

	ck_assert_int_eq(fs_write_all(fd, data, len), 0);
	return fd;
}

static size_t
count_files(const char *dir)
{
	DIR *d = opendir(dir);
	size_t n = 0;

	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n - 2;
}

static int
upload(struct ssh *ssh, int fd, const char *to, unsigned mode, struct err *err)
{
	struct ssh_upload u = { .fd = fd, .destination = to, .mode = mode };

	return ssh_upload(ssh, &u, NULL, err);
}

static void
expect(const char *path, const void *data, size_t len, mode_t mode)
{
	CLEANUP_FREE char *got = NULL;
	size_t got_len;
	struct stat st;

	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_uint_eq(st.st_mode & 07777, mode);
	ck_assert_int_eq(fs_read(path, 1 << 30, &got, &got_len, NULL), 0);
	ck_assert_uint_eq(got_len, len);
	ck_assert(len == 0 || memcmp(got, data, len) == 0);
}

START_TEST(ssh_upload__g62_bytes_and_mode__exact)
{
	enum { BIG = 64 << 20 };
	static const mode_t modes[] = { 0644, 0600, 0755, 0400, 0000, 04755, 01666 };
	CLEANUP_FREE unsigned char *big = xmalloc(BIG);
	CLEANUP_FREE char *path = NULL;
	unsigned char all[256];
	struct err err = ERR_INIT;
	struct ssh *ssh;
	struct sshd s;
	int fd;

	for (size_t i = 0; i < BIG; i++)
		big[i] = (unsigned char)((i * 2654435761U) >> 13);
	for (size_t i = 0; i < sizeof(all); i++)
		all[i] = (unsigned char)i;
	sshd_start(&s);
	path = xasprintf("%s/it's a \"$file\" \\ *", s.home);
	ssh = sshd_login(&s);
	fd = file_of("", 0);
	ck_assert_msg(upload(ssh, fd, path, 0640, &err) == 0, "%s", err.msg);
	expect(path, "", 0, 0640);
	close(fd);
	fd = file_of(all, sizeof(all));
	for (size_t i = 0; i < ARRAY_LEN(modes); i++) { /* each replaces the one before */
		ck_assert_msg(upload(ssh, fd, path, modes[i], &err) == 0, "%s", err.msg);
		expect(path, all, sizeof(all), modes[i]);
	}
	close(fd);
	fd = file_of(big, BIG);
	ck_assert_msg(upload(ssh, fd, path, 0644, &err) == 0, "%s", err.msg);
	expect(path, big, BIG, 0644);
	close(fd);
	ck_assert_uint_eq(count_files(s.home), 1);
	ssh_close(ssh);
	sshd_stop(&s);
}
END_TEST

START_TEST(ssh_upload__impossible_target__says_why_and_leaves_nothing)
{
	CLEANUP_FREE char *folder = NULL, *inside = NULL, *link = NULL, *file = NULL, *below = NULL;
	struct err err = ERR_INIT;
	struct ssh *ssh;
	struct sshd s;
	int fd = file_of("x", 1);

	sshd_start(&s);
	ssh = sshd_login(&s);
	folder = fs_join(s.home, "folder");
	inside = fs_join(s.home, "missing/file");
	link = fs_join(s.home, "link");
	file = fs_join(s.home, "file");
	below = fs_join(file, "below");
	ck_assert_int_eq(mkdir(folder, 0755), 0);
	ck_assert_int_eq(symlink(folder, link), 0);
	ck_assert_int_eq(upload(ssh, fd, folder, 0644, &err), E_FAILED);
	ck_assert_ptr_nonnull(strstr(err.msg, "it is a folder"));
	ck_assert_int_eq(upload(ssh, fd, link, 0644, &err), E_FAILED);
	ck_assert_int_eq(upload(ssh, fd, "folder/", 0644, &err), E_PARAMS);
	ck_assert_int_eq(upload(ssh, fd, "", 0644, &err), E_PARAMS);
	ck_assert_int_eq(upload(ssh, fd, inside, 0644, &err), E_FAILED);
	ck_assert_ptr_nonnull(strstr(err.msg, "there is no folder"));
	ck_assert_ptr_nonnull(strstr(err.msg, inside));
	ck_assert_msg(upload(ssh, fd, file, 0644, &err) == 0, "%s", err.msg);
	ck_assert_int_eq(upload(ssh, fd, below, 0644, &err), E_FAILED);
	ck_assert_int_eq(upload(ssh, fd, "/proc/version", 0644, &err), E_FAILED);
	ck_assert_uint_eq(count_files(s.home), 3);
	ck_assert_uint_eq(count_files(folder), 0);
	close(fd);
	ssh_close(ssh);
	sshd_stop(&s);
}
END_TEST

START_TEST(ssh_upload__guest_is_full__its_words_and_nothing_left)
{
	CLEANUP_FREE char *dd = NULL;
	struct err err = ERR_INIT;
	struct ssh *ssh;
	struct sshd s;
	int fd = file_of("x", 1);

	/* A cat that finds no room stands for a full file system. */
	sshd_start(&s);
	dd = fs_join(s.bin, "cat");
	sshd_file(
	    s.bin, "cat", "#!/bin/sh\necho 'cat: No space left on device' >&2\nexit 1\n", 0755);
	ssh = sshd_login(&s);
	dd = TAKE(dd);
	ck_assert_int_eq(upload(ssh, fd, dd, 0644, &err), E_FAILED);
	ck_assert_ptr_nonnull(strstr(err.msg, "No space left on device"));
	ck_assert_uint_eq(count_files(s.bin), 1);
	close(fd);
	ssh_close(ssh);
	sshd_stop(&s);
}
END_TEST

START_TEST(ssh_upload__sudo_missing__is_told)
{
	CLEANUP_FREE char *path = NULL;
	struct err err = ERR_INIT;
	struct ssh_upload u = { .mode = 0644, .sudo = true, .owner = "root" };
	struct ssh *ssh;
	struct sshd s;

	sshd_start(&s);
	sshd_file(
	    s.bin, "sudo", "#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n", 0755);
	ssh = sshd_login(&s);
	path = fs_join(s.home, "f");
	u.fd = file_of("x", 1);
	u.destination = path;
	ck_assert_int_eq(ssh_upload(ssh, &u, NULL, &err), E_FAILED);
	ck_assert_ptr_nonnull(strstr(err.msg, "a password is required"));
	ck_assert_ptr_nonnull(strstr(err.hint, "sudo without a password"));
	close(u.fd);
	ssh_close(ssh);
	sshd_stop(&s);
}
END_TEST

struct stop_case {
	struct ssh *ssh;
	struct ssh_upload upload;
	int rc;
	struct err err;
};

static void
upload_body(struct job *job, void *data)
{
	struct stop_case *c = data;

	c->rc = ssh_upload(c->ssh, &c->upload, job, &c->err);
}

/* Until a file in the folder is gone again. */
static void
wait_deleted(int inotify)
{
	struct pollfd p = { .fd = inotify, .events = POLLIN };
	_Alignas(struct inotify_event) char space[4096];

	for (;;) {
		ck_assert_int_eq(poll(&p, 1, 20000), 1);
		ssize_t n = read(inotify, space, sizeof(space));

		for (ssize_t at = 0; at < n;) {
			const struct inotify_event *event = (const void *)(space + at);

			if (event->mask & IN_DELETE)
				return;
			at += (ssize_t)(sizeof(*event) + event->len);
		}
	}
}

START_TEST(ssh_upload__cancelled__partial_file_removed)
{
	CLEANUP_FREE char *path = NULL;
	struct stop_case c = { .upload = { .mode = 0644 } };
	struct sshd s;
	int inotify = inotify_init1(IN_CLOEXEC);

	sshd_start(&s);
	path = fs_join(s.home, "f");
	c.ssh = sshd_login(&s);
	c.upload.fd = memfd_create("huge", MFD_CLOEXEC);
	c.upload.destination = path;
	ck_assert_int_eq(ftruncate(c.upload.fd, 1LL << 40), 0);
	ck_assert_int_ge(inotify_add_watch(inotify, s.home, IN_CREATE | IN_DELETE), 0);
	sshd_as_job(upload_body, &c, 0, inotify);
	ck_assert_msg(c.rc == E_CANCELLED, "%d %s", c.rc, c.err.msg);
	wait_deleted(inotify);
	ck_assert_uint_eq(count_files(s.home), 0);
	close(inotify);
	close(c.upload.fd);
	ssh_close(c.ssh);
	sshd_stop(&s);
}
END_TEST

static void
on_pid(void *arg, enum ssh_stream stream, const void *data, size_t len)
{
	CLEANUP_FREE char *text = xstrndup(data, len);

	*(pid_t *)arg = (pid_t)strtol(text, NULL, 10);
}

START_TEST(ssh_upload__connection_lost__half_a_file_is_not_taken_for_whole)
{
	CLEANUP_FREE char *path = NULL;
	pid_t server = 0, killer;
	struct ssh_exec exec = { .command = "echo $PPID", .on_output = on_pid, .arg = &server };
	struct ssh_result result;
	struct err err = ERR_INIT;
	struct ssh *ssh;
	struct sshd s;
	char event[4096];
	int inotify = inotify_init1(IN_CLOEXEC), fd = memfd_create("huge", MFD_CLOEXEC);

	sshd_start(&s);
	path = fs_join(s.home, "f");
	sshd_file(s.home, "f", "old", 0644);
	ssh = sshd_login(&s);
	ck_assert_int_eq(ssh_exec(ssh, &exec, NULL, &result, &err), 0);
	ck_assert_int_eq(ftruncate(fd, 1LL << 40), 0);
	ck_assert_int_ge(inotify_add_watch(inotify, s.home, IN_CREATE | IN_DELETE), 0);
	killer = fork();
	if (killer == 0)
		_exit(
		    read(inotify, event, sizeof(event)) > 0 && kill(server, SIGKILL) == 0 ? 0 : 1);
	ck_assert_int_eq(upload(ssh, fd, path, 0600, &err), E_IO);
	waitpid(killer, NULL, 0);
	wait_deleted(inotify);
	expect(path, "old", 3, 0644);
	ck_assert_uint_eq(count_files(s.home), 1);
	close(inotify);
	close(fd);
	ssh_close(ssh);
	sshd_stop(&s);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("ssh_upload");

	UNIT_CASE(s, ssh_upload__g62_bytes_and_mode__exact);
	UNIT_CASE(s, ssh_upload__impossible_target__says_why_and_leaves_nothing);
	UNIT_CASE(s, ssh_upload__guest_is_full__its_words_and_nothing_left);
	UNIT_CASE(s, ssh_upload__sudo_missing__is_told);
	UNIT_CASE(s, ssh_upload__cancelled__partial_file_removed);
	UNIT_CASE(s, ssh_upload__connection_lost__half_a_file_is_not_taken_for_whole);
	return unit_main(s);
}
