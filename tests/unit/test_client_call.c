/* SPDX-License-Identifier: MPL-2.0
 *
 * One call of vmctl against a scripted daemon: a child process on the other end of a socket. */
#include "client/call.h"

#include <fcntl.h>
#include <json-c/json.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "client/conn.h"
#include "client/files.h"
#include "client/json.h"
#include "client/verbs.h"
#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "tests/unit/unit.h"

struct fake {
	pid_t pid;
	struct vmctl ctl;
	struct conn conn;
};

/* ---- the daemon's side ---- */

static void
say(int fd, const char *text)
{
	if (fs_write_all(fd, text, strlen(text)) < 0 || fs_write_all(fd, "\n", 1) < 0)
		_exit(9);
}

/* Reads one line; counts the descriptors that came with it, and the order of their sizes. */
static char *
hear(int fd, int *ret_fds, bool *ret_in_order)
{
	struct sbuf line = { 0 };
	int fds = 0;
	bool in_order = true;

	while (line.len == 0 || line.data[line.len - 1] != '\n') {
		char space[4096], control[CMSG_SPACE(sizeof(int) * 253)];
		struct iovec iov = { .iov_base = space, .iov_len = 1 };
		struct msghdr msg = { .msg_iov = &iov,
			.msg_iovlen = 1,
			.msg_control = control,
			.msg_controllen = sizeof(control) };
		struct cmsghdr *head;
		ssize_t n = recvmsg(fd, &msg, 0);

		if (n <= 0)
			_exit(8);
		sbuf_add(&line, space, (size_t)n);
		for (head = CMSG_FIRSTHDR(&msg); head != NULL; head = CMSG_NXTHDR(&msg, head)) {
			size_t count = (head->cmsg_len - CMSG_LEN(0)) / sizeof(int);

			for (size_t i = 0; i < count; i++) {
				struct stat st;
				int got;

				memcpy(&got, CMSG_DATA(head) + i * sizeof(int), sizeof(int));
				in_order = in_order && fstat(got, &st) == 0 && st.st_size == fds;
				close(got);
				fds++;
			}
		}
	}
	if (ret_fds != NULL)
		*ret_fds = fds;
	if (ret_in_order != NULL)
		*ret_in_order = in_order;
	return sbuf_take(&line);
}

static void
fake_start(struct fake *fake, void (*script)(int fd))
{
	int fds[2];

	*fake = (struct fake){ .ctl = { .global = { .quiet = true } } };
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	fake->pid = fork();
	ck_assert_int_ge(fake->pid, 0);
	if (fake->pid == 0) {
		close(fds[0]);
		script(fds[1]);
		_exit(0);
	}
	close(fds[1]);
	fcntl(fds[0], F_SETFL, O_NONBLOCK);
	fake->conn.fd = fds[0];
	fake->ctl.conn = &fake->conn;
}

static void
fake_end(struct fake *fake)
{
	int status;

	conn_close(&fake->conn);
	json_object_put(fake->ctl.error);
	ck_assert_int_eq(waitpid(fake->pid, &status, 0), fake->pid);
	ck_assert_msg(
	    WIFEXITED(status) && WEXITSTATUS(status) == 0, "the script ended with %d", status);
}

static int
run_call(struct fake *fake, bool progress, json_object **ret_result, struct err *err)
{
	struct call call = { .method = METHOD_vm_list, .progress = progress };

	return call_run(&fake->ctl, &call, ret_result, err);
}

/* ---- the cases ---- */

static void
answer(int fd)
{
	CLEANUP_FREE char *line = hear(fd, NULL, NULL);

	if (!str_eq(line, "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"vm.list\","
			  "\"params\":{\"progress\":true}}\n"))
		_exit(7);
	say(fd, "{\"jsonrpc\":\"2.0\",\"method\":\"operation.progress\",\"params\":{\"operation\":"
		"\"o1\"}}");
	say(fd, "{\"jsonrpc\":\"2.0\",\"method\":\"event\",\"params\":{}}");
	say(fd, "{\"jsonrpc\":\"2.0\",\"id\":77,\"result\":\"another's\"}");
	say(fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"vms\":[]}}");
}

START_TEST(call__answer__among_notifications)
{
	struct fake fake;
	json_object *result = NULL;
	struct err err = ERR_INIT;

	fake_start(&fake, answer);
	ck_assert_int_eq(run_call(&fake, true, &result, &err), 0);
	ck_assert(json_has(result, "vms"));
	json_object_put(result);
	fake_end(&fake);
}
END_TEST

static void
refuse(int fd)
{
	CLEANUP_FREE char *line = hear(fd, NULL, NULL);

	say(fd, "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32001,\"message\":\"no 'web'\","
		"\"data\":{\"name\":\"not_found\",\"hint\":\"look\",\"object\":\"web\"}}}");
}

START_TEST(call__error__code_hint_and_object)
{
	struct fake fake;
	json_object *result = NULL;
	struct err err = ERR_INIT;

	fake_start(&fake, refuse);
	ck_assert_int_eq(run_call(&fake, false, &result, &err), E_NOT_FOUND);
	ck_assert_str_eq(err.msg, "no 'web'");
	ck_assert_str_eq(err.hint, "look");
	ck_assert_str_eq(err.object, "web");
	ck_assert_int_eq(json_int(fake.ctl.error, "code"), -32001);
	fake_end(&fake);
}
END_TEST

static void
refuse_line(int fd)
{
	CLEANUP_FREE char *line = hear(fd, NULL, NULL);

	say(fd, "{\"jsonrpc\":\"2.0\",\"id\":null,\"error\":{\"code\":-32700,\"message\":\"not "
		"JSON\"}}");
}

START_TEST(call__error_without_id__is_ours)
{
	struct fake fake;
	json_object *result = NULL;
	struct err err = ERR_INIT;

	fake_start(&fake, refuse_line);
	ck_assert_int_eq(run_call(&fake, false, &result, &err), E_PARSE);
	fake_end(&fake);
}
END_TEST

static void
go_away(int fd)
{
	CLEANUP_FREE char *line = hear(fd, NULL, NULL);

	if (fs_write_all(fd, "{\"jsonrpc\":", 11) < 0)
		_exit(9);
}

START_TEST(call__daemon_gone__told)
{
	struct fake fake;
	json_object *result = NULL;
	struct err err = ERR_INIT;

	fake_start(&fake, go_away);
	ck_assert_int_eq(run_call(&fake, false, &result, &err), E_NO_DAEMON);
	ck_assert_str_eq(err.msg, "vmmd went away before it answered");
	fake_end(&fake);
}
END_TEST

static void
babble(int fd)
{
	CLEANUP_FREE char *line = hear(fd, NULL, NULL);

	say(fd, "220 mail.example ESMTP");
}

START_TEST(call__no_json__told)
{
	struct fake fake;
	json_object *result = NULL;
	struct err err = ERR_INIT;

	fake_start(&fake, babble);
	ck_assert_int_eq(run_call(&fake, false, &result, &err), E_NO_DAEMON);
	ck_assert_str_eq(err.msg, "what answers is not vmmd: it sends no JSON-RPC");
	fake_end(&fake);
}
END_TEST

static void
count_fds(int fd)
{
	bool in_order;
	int fds;
	CLEANUP_FREE char *line = hear(fd, &fds, &in_order);
	CLEANUP_FREE char *text = xasprintf(
	    "{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"fds\":%d,\"ordered\":%s,\"len\":%zu}}",
	    fds, in_order ? "true" : "false", strlen(line));

	say(fd, text);
}

/* More descriptors than one message carries, and a line of megabytes. */
START_TEST(call__descriptors__all_in_order)
{
	enum { COUNT = 600, BIG = 1 << 20 };
	struct call call = { .method = METHOD_vm_list, .params = json_object_new_object() };
	CLEANUP_FREE char *big = xmalloc(BIG + 1);
	struct fake fake;
	json_object *result = NULL;
	struct err err = ERR_INIT;
	int fds[COUNT];

	memset(big, 'x', BIG);
	big[BIG] = '\0';
	json_add_string(call.params, "big", big);
	for (int i = 0; i < COUNT; i++) {
		fds[i] = memfd_create("t", MFD_CLOEXEC);
		ck_assert_int_ge(fds[i], 0);
		ck_assert_int_eq(ftruncate(fds[i], i), 0);
	}
	call.fds = fds;
	call.fd_count = COUNT;
	fake_start(&fake, count_fds);
	ck_assert_int_eq(call_run(&fake.ctl, &call, &result, &err), 0);
	ck_assert_int_eq(json_int(result, "fds"), COUNT);
	ck_assert(json_flag(result, "ordered"));
	ck_assert_int_gt(json_int(result, "len"), BIG);
	json_object_put(result);
	for (int i = 0; i < COUNT; i++)
		close(fds[i]);
	fake_end(&fake);
}
END_TEST

static void
be_cancelled(int fd)
{
	CLEANUP_FREE char *line = hear(fd, NULL, NULL), *cancel = NULL;

	/* Ctrl-C comes before the operation is known: the cancel waits for its id. */
	if (kill(getppid(), SIGINT) < 0)
		_exit(6);
	say(fd, "{\"jsonrpc\":\"2.0\",\"method\":\"operation.progress\",\"params\":{\"operation\":"
		"\"o1\"}}");
	cancel = hear(fd, NULL, NULL);
	if (!str_eq(cancel, "{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"operation.cancel\","
			    "\"params\":{\"id\":\"o1\"}}\n"))
		_exit(7);
	say(fd, "{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{}}");
	say(fd,
	    "{\"jsonrpc\":\"2.0\",\"id\":1,\"error\":{\"code\":-32004,\"message\":\"cancelled\"}}");
}

START_TEST(call__interrupt__cancels_and_waits)
{
	struct fake fake;
	json_object *result = NULL;
	struct err err = ERR_INIT;

	fake_start(&fake, be_cancelled);
	ck_assert_int_eq(run_call(&fake, true, &result, &err), E_CANCELLED);
	ck_assert_int_eq(err_exit_status(err.code), 130);
	fake_end(&fake);
}
END_TEST

/* ---- what a daemon of another version may leave out, or say otherwise ---- */

/* What vm.get and vm.list answer; each is a line of a daemon that knows other rows. */
static const char *const odd_machines[] = {
	"{}",
	"[]",
	"null",
	"{\"name\":7,\"state\":null,\"firmware\":\"uefi\",\"image\":[],\"ssh\":\"none\"}",
	("{\"name\":\"a\",\"firmware\":{},\"image\":{\"url\":\"iso\"},\"network\":{},"
	 "\"networks\":[null,{},7],\"ports\":[null,{\"guest_port\":\"x\"}],\"vnc\":5900,"
	 "\"phases\":[{},null,{\"ms\":\"x\"}],\"operation\":{},\"provision\":{\"steps\":1}}"),
	("{\"name\":\"a\",\"network\":{\"bridge\":\"br0\"},\"networks\":{},\"operation\":\"o1\","
	 "\"firmware\":{\"type\":\"uefi\",\"tpm\":1},\"ssh\":{\"host\":\"::1\",\"port\":{}}}"),
};
static const struct odd_verb {
	const struct verb *verb;
	const char *before, *after;
} odd_verbs[] = {
	{ &verb_status, "", "" },
	{ &verb_list, "{\"vms\":[", "]}" },
};

static void
answer_oddly(int fd)
{
	for (size_t i = 0; i < ARRAY_LEN(odd_verbs); i++)
		for (size_t k = 0; k < ARRAY_LEN(odd_machines); k++) {
			CLEANUP_FREE char *line = hear(fd, NULL, NULL);
			CLEANUP_FREE char *said =
			    xasprintf("{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":%s%s%s}",
				odd_verbs[i].before, odd_machines[k], odd_verbs[i].after);

			say(fd, said);
		}
}

START_TEST(show__odd_machines__never_null)
{
	struct vm_get_args args = { .name = (char *)"a" };
	struct fake fake;
	FILE *file = tmpfile();
	int was = dup(STDOUT_FILENO);
	CLEANUP_FREE char *text = NULL;
	size_t len;

	ck_assert_ptr_nonnull(file);
	fflush(stdout);
	fake_start(&fake, answer_oddly);
	dup2(fileno(file), STDOUT_FILENO);
	for (size_t i = 0; i < ARRAY_LEN(odd_verbs); i++)
		for (size_t k = 0; k < ARRAY_LEN(odd_machines); k++) {
			struct err err = ERR_INIT;

			fake.ctl.verb = odd_verbs[i].verb;
			ck_assert_int_eq(fake.ctl.verb->run(&fake.ctl, &args, &err), 0);
		}
	fflush(stdout);
	dup2(was, STDOUT_FILENO);
	close(was);
	fake_end(&fake);
	lseek(fileno(file), 0, SEEK_SET);
	ck_assert_int_eq(fs_read_fd(fileno(file), "shown", 1 << 16, &text, &len, NULL), 0);
	fclose(file);
	ck_assert_ptr_nonnull(strstr(text, "Network:     ? (bridge: br0)"));
	ck_assert_ptr_nonnull(strstr(text, "Phases:      ? 0.0s, ? 0.0s, ? 0.0s"));
	ck_assert_ptr_nonnull(strstr(text, "Operation:   ?, ? (?)"));
	ck_assert_ptr_nonnull(strstr(text, "?+?+?"));
	ck_assert_ptr_null(strstr(text, "null"));
}
END_TEST

START_TEST(files__attach__once_and_only_regular)
{
	char dir[] = "/tmp/test_call.XXXXXX";
	CLEANUP_FREE char *file = NULL, *fifo = NULL;
	struct sent_files files = { 0 };
	json_object *a = NULL, *b = NULL;
	struct err err = ERR_INIT;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	file = fs_join(dir, "f");
	fifo = fs_join(dir, "p");
	ck_assert_int_eq(fs_write(file, "x", 1, 0600, NULL), 0);
	ck_assert_int_eq(mkfifo(fifo, 0600), 0);
	ck_assert_int_eq(files_attach(&files, file, &a, &err), 0);
	ck_assert_int_eq(files_attach(&files, file, &b, &err), 0);
	ck_assert_uint_eq(files.fd_count, 1);
	ck_assert_int_eq(json_int(b, "fd"), 0);
	ck_assert_str_eq(json_string(a, "name"), file);
	json_object_put(a);
	json_object_put(b);
	ck_assert_int_eq(files_attach(&files, fifo, &a, &err), E_IO);
	ck_assert_ptr_nonnull(strstr(err.msg, "a special file, not a regular file"));
	ck_assert_int_eq(files_attach(&files, dir, &a, &err), E_IO);
	ck_assert_ptr_nonnull(strstr(err.msg, "is a folder"));
	ck_assert_int_eq(files_attach(&files, "/nonexistent/x", &a, &err), E_NOT_FOUND);
	files_done(&files);
	ck_assert_int_eq(fs_remove_tree(dir, NULL), 0);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("client_call");

	UNIT_CASE(s, call__answer__among_notifications);
	UNIT_CASE(s, call__error__code_hint_and_object);
	UNIT_CASE(s, call__error_without_id__is_ours);
	UNIT_CASE(s, call__daemon_gone__told);
	UNIT_CASE(s, call__no_json__told);
	UNIT_CASE(s, call__descriptors__all_in_order);
	UNIT_CASE(s, show__odd_machines__never_null);
	UNIT_CASE(s, files__attach__once_and_only_regular);
	/* Last: the process counts its interrupts. */
	UNIT_CASE(s, call__interrupt__cancels_and_waits);
	return unit_main(s);
}
