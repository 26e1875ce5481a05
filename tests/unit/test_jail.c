/* SPDX-License-Identifier: MPL-2.0
 *
 * The layers of a jail, each alone.  The jailed tool is this program again, which tries things and
 * says what went; without any layer all of it goes. */
#include "lib/base/jail.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/fs.h"
#include "lib/base/landlock.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "tests/unit/jail_tool.h"
#include "tests/unit/unit.h"

enum { ALL = JAIL_LANDLOCK | JAIL_NETNS | JAIL_SECCOMP | JAIL_LIMITS, OUT_MAX = 65536 };

struct fixture {
	struct place at;
	char *self, *named, *target, *folder;
	char *tcp_text, *udp_text, *outside_text;
	const char *read[4], *write[2], *make[2];
	struct jail jail;
	int tcp, udp, stream, abstract;
	struct process_output output;
	struct err err;
};

static int
listen_on(int type, int *ret_port)
{
	struct sockaddr_in address = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(address);
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);

	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, len), 0);
	ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&address, &len), 0);
	ck_assert(type == SOCK_DGRAM || listen(fd, 128) == 0);
	*ret_port = ntohs(address.sin_port);
	return fd;
}

static int
listen_unix(const struct place *at, bool abstract)
{
	struct sockaddr_un address;
	socklen_t len = unix_address(at, abstract, &address);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, len), 0);
	ck_assert_int_eq(listen(fd, 128), 0);
	return fd;
}

static char *
put(const struct fixture *f, const char *name)
{
	char *path = fs_join(f->at.dir, name);

	ck_assert_int_eq(fs_write(path, "hello\n", 6, 0644, NULL), 0);
	return path;
}

static void
setup(struct fixture *f)
{
	char dir[] = "/tmp/test-jail-XXXXXX";

	memset(f, 0, sizeof(*f));
	/* A sanitizer of the tool traces and sets limits, and both are refused. */
	setenv("ASAN_OPTIONS", "detect_leaks=0:disable_coredump=0", 1);
	ck_assert_ptr_nonnull(mkdtemp(dir));
	f->at.dir = xstrdup(dir);
	f->self = realpath("/proc/self/exe", NULL);
	f->named = put(f, "named");
	f->target = put(f, "target");
	free(put(f, "secret"));
	f->folder = fs_join(dir, "folder");
	ck_assert_int_eq(mkdir(f->folder, 0700), 0);
	f->tcp = listen_on(SOCK_STREAM, &f->at.tcp_port);
	f->udp = listen_on(SOCK_DGRAM, &f->at.udp_port);
	f->stream = listen_unix(&f->at, false);
	f->abstract = listen_unix(&f->at, true);
	f->tcp_text = xasprintf("%d", f->at.tcp_port);
	f->udp_text = xasprintf("%d", f->at.udp_port);
	f->outside_text = xasprintf("%d", (int)getpid());
	f->read[0] = f->named;
	f->read[1] = "/proc";
	f->read[2] = "/no/such/place";
	f->write[0] = f->target;
	f->make[0] = f->folder;
	f->jail = (struct jail){ .read = f->read, .write = f->write, .make = f->make };
}

static void
finish(struct fixture *f)
{
	close(f->tcp);
	close(f->udp);
	close(f->stream);
	close(f->abstract);
	process_output_done(&f->output);
	fs_remove_tree(f->at.dir, NULL);
	free(f->at.dir);
	free(f->self);
	free(f->named);
	free(f->target);
	free(f->folder);
	free(f->tcp_text);
	free(f->udp_text);
	free(f->outside_text);
}

/* In a jail of these layers alone. */
static int
run_in(struct fixture *f, unsigned layers, const char *const *argv)
{
	process_output_done(&f->output);
	f->jail.without = ALL & ~layers;
	f->output = (struct process_output){ 0 };
	return jail_run(&f->jail, argv, NULL, 0, OUT_MAX, 60000, NULL, &f->output, &f->err);
}

static bool
said(const struct fixture *f, const char *name, bool yes)
{
	CLEANUP_FREE char *line = xasprintf("%s=%s\n", name, yes ? "yes" : "no");
	const char *at = f->output.out != NULL ? strstr(f->output.out, line) : NULL;

	return at != NULL && (at == f->output.out || at[-1] == '\n');
}

static bool
goes_with(const struct attempt *attempt, unsigned layers)
{
	if (attempt->run == try_rights && geteuid() != 0)
		return false; /* there are none */
	if (landlock_abi() < attempt->abi)
		layers &= ~(unsigned)JAIL_LANDLOCK;
	return (attempt->refused_by & (layers | NEVER)) == 0;
}

static void
expect_attempts(struct fixture *f, unsigned layers)
{
	const char *const argv[] = { f->self, "--try", f->at.dir, f->tcp_text, f->udp_text,
		f->outside_text, NULL };

	ck_assert_msg(run_in(f, layers, argv) == 0, "layers %u: %s", layers, f->err.msg);
	for (size_t i = 0; i < ARRAY_LEN(attempts); i++)
		ck_assert_msg(said(f, attempts[i].name, goes_with(&attempts[i], layers)),
		    "layers %u: not as expected is %s in: %s", layers, attempts[i].name,
		    f->output.out);
}

static void
alone(unsigned layer)
{
	struct fixture f;

	if (!(jail_layers() & layer)) {
		printf("# this host does not have the layer %u\n", layer);
		return;
	}
	setup(&f);
	expect_attempts(&f, layer);
	finish(&f);
}

START_TEST(jail__no_layer__everything_goes)
{
	struct fixture f;

	setup(&f);
	expect_attempts(&f, 0);
	finish(&f);
}
END_TEST

START_TEST(jail__landlock_alone__the_named_files_only)
{
	alone(JAIL_LANDLOCK);
}
END_TEST

START_TEST(jail__netns_alone__nobody_to_reach)
{
	alone(JAIL_NETNS);
}
END_TEST

START_TEST(jail__seccomp_alone__no_sockets_processes_and_tracing)
{
	alone(JAIL_SECCOMP);
}
END_TEST

START_TEST(jail__limits_alone__rights_and_core_dumps)
{
	alone(JAIL_LIMITS);
}
END_TEST

START_TEST(jail__all_layers__what_tools_need_is_left)
{
	struct fixture f;

	setup(&f);
	expect_attempts(&f, jail_layers());
	finish(&f);
}
END_TEST

START_TEST(jail__this_host__layers_as_the_kernel_has_them)
{
	ck_assert_uint_eq(jail_layers() & JAIL_LIMITS, JAIL_LIMITS);
	ck_assert_int_eq((jail_layers() & JAIL_LANDLOCK) != 0, landlock_abi() > 0);
	ck_assert_int_eq(
	    (jail_layers() & JAIL_SECCOMP) != 0, prctl(PR_GET_SECCOMP, 0, 0, 0, 0) >= 0);
	ck_assert_str_eq(jail_layer_names[0], "landlock");
	ck_assert_str_eq(jail_layer_names[3], "limits");
	ck_assert_str_eq(jail_layer_names[4], "privileges");
	ck_assert_ptr_null(jail_layer_names[5]);
}
END_TEST

START_TEST(jail__new_programs__refused_by_landlock_and_by_seccomp)
{
	struct fixture f;

	setup(&f);
	const char *const argv[] = { f.self, "--exec", f.at.dir, NULL };
	ck_assert_int_eq(run_in(&f, 0, argv), 0);
	ck_assert(said(&f, "exec", true));
	ck_assert_int_eq(run_in(&f, JAIL_NETNS | JAIL_LIMITS, argv), 0);
	ck_assert(said(&f, "exec", true));
	if (jail_layers() & JAIL_LANDLOCK) {
		ck_assert_int_eq(run_in(&f, JAIL_LANDLOCK, argv), 0);
		ck_assert(said(&f, "exec", false));
	}
	if (jail_layers() & JAIL_SECCOMP) {
		ck_assert_int_eq(run_in(&f, JAIL_SECCOMP, argv), 0);
		ck_assert(said(&f, "exec", false));
	}
	finish(&f);
}
END_TEST

START_TEST(jail__the_descriptor_of_the_tool__can_not_be_made_again)
{
	struct fixture f;

	setup(&f);
	if (jail_layers() & JAIL_SECCOMP) {
		const char *const argv[] = { f.self, "--exec-again", f.at.dir, NULL };

		ck_assert_int_eq(run_in(&f, JAIL_SECCOMP, argv), 0);
		ck_assert(said(&f, "there", false));
		ck_assert(said(&f, "again", false));
		ck_assert(said(&f, "exec", false));
	}
	finish(&f);
}
END_TEST

START_TEST(jail__limits_alone__processor_time)
{
	struct fixture f;

	setup(&f);
	const char *const argv[] = { f.self, "--spin", f.at.dir, NULL };
	f.jail.limits.cpu_seconds = 1;
	ck_assert_int_eq(run_in(&f, JAIL_LIMITS, argv), E_FAILED);
	ck_assert(!said(&f, "spun", true));
	ck_assert(f.output.exit.signaled);
	ck_assert(f.output.exit.code == SIGXCPU || f.output.exit.code == SIGKILL);
	ck_assert_msg(strstr(f.err.msg, "test_jail") != NULL, "%s", f.err.msg);
	finish(&f);
}
END_TEST

START_TEST(jail__limits_alone__address_space_and_file_size)
{
	struct fixture f;

	setup(&f);
	const char *const grow_argv[] = { f.self, "--grow", f.at.dir, NULL };
	const char *const extend_argv[] = { f.self, "--extend", f.target, NULL };
	f.jail.limits.address_space_bytes = 1 << 29;
	f.jail.limits.file_size_bytes = 1 << 16;
	run_in(&f, 0, grow_argv);
	ck_assert(said(&f, "grown", true));
	run_in(&f, JAIL_LIMITS, grow_argv);
	ck_assert(!said(&f, "grown", true));
	f.jail.limits.address_space_bytes = 0;
	ck_assert_int_eq(run_in(&f, 0, extend_argv), 0);
	ck_assert(said(&f, "extended", true));
	ck_assert_int_eq(truncate(f.target, 0), 0);
	ck_assert_int_eq(run_in(&f, JAIL_LIMITS, extend_argv), 0);
	ck_assert(said(&f, "extended", false));
	finish(&f);
}
END_TEST

/* A sanitizer can not live in there. */
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define CAN_ENTER

/* The number of the first attempt that goes otherwise than expected, from 1 on. */
static int
try_confined(struct fixture *f, bool network)
{
	const struct jail_self self = { .read = f->read, .write = f->write, .network = network };
	const unsigned layers = JAIL_LANDLOCK | JAIL_SECCOMP | JAIL_LIMITS;

	if (jail_enter(&self, NULL) != 0)
		return 99;
	f->at.outside = (int)getppid();
	for (size_t i = 0; i < ARRAY_LEN(attempts); i++) {
		bool goes = goes_with(&attempts[i], layers & jail_layers());

		if (network && attempts[i].network)
			goes = true;
		if (attempts[i].run == try_make_in_folder) /* there is none */
			goes = !(jail_layers() & JAIL_LANDLOCK);
		if (attempts[i].run(&f->at) != goes)
			return (int)i + 1;
	}
	execl("/bin/false", "false", (char *)NULL);
	return 0;
}

START_TEST(jail__enter__confines_the_caller)
{
	for (int network = 0; network < 2; network++) {
		struct fixture f;
		int status = -1;
		pid_t pid;

		setup(&f);
		jail_layers();
		pid = fork();
		if (pid == 0)
			_exit(try_confined(&f, network));
		ck_assert_int_eq(waitpid(pid, &status, 0), pid);
		ck_assert_msg(status == 0, "network %d: status %d: %s", network, status,
		    WIFEXITED(status) && WEXITSTATUS(status) <= (int)ARRAY_LEN(attempts)
			? attempts[WEXITSTATUS(status) - 1].name
			: "?");
		finish(&f);
	}
}
END_TEST

#endif

/* The whole again as a user without rights, to whom the programs belong. */
START_TEST(jail__not_root__the_same_layers)
{
	CLEANUP_FREE char *jailer = NULL, *copy = NULL;
	struct fixture f;
	int status;
	pid_t pid;

	if (geteuid() != 0) {
		printf("# the other cases were run so\n");
		return;
	}
	setup(&f);
	copy = fs_join(f.at.dir, "test_jail");
	jailer = fs_join(f.at.dir, "vmm-jail");
	CLEANUP_FREE char *ours = process_find_ours("vmm-jail", "VMM_JAIL", "lib/base/jailer");
	CLEANUP_FD int self_fd = open(f.self, O_RDONLY | O_CLOEXEC);
	CLEANUP_FD int jailer_fd = open(ours, O_RDONLY | O_CLOEXEC);
	ck_assert_int_eq(fs_copy_fd(self_fd, f.self, copy, 0755, NULL, NULL), 0);
	ck_assert_int_eq(fs_copy_fd(jailer_fd, ours, jailer, 0755, NULL, NULL), 0);
	const char *const paths[] = { f.at.dir, f.named, f.target, f.folder, jailer, copy };
	for (size_t i = 0; i < ARRAY_LEN(paths); i++)
		ck_assert_int_eq(chown(paths[i], 65534, 65534), 0);
	CLEANUP_FREE char *secret = fs_join(f.at.dir, "secret");
	ck_assert_int_eq(chown(secret, 65534, 65534), 0);
	CLEANUP_FREE char *socket_path = fs_join(f.at.dir, "socket");
	ck_assert_int_eq(chown(socket_path, 65534, 65534), 0);
	pid = fork();
	if (pid == 0) {
		setenv("VMM_JAIL", jailer, 1);
		if (setgid(65534) < 0 || setuid(65534) < 0)
			_exit(9);
		execl(copy, copy, "--as-user", (char *)NULL);
		_exit(8);
	}
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_msg(status == 0, "status %d", status);
	finish(&f);
}
END_TEST

/* Whoever has locked the file; 0: nobody. */
static pid_t
holder(const char *path)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	CLEANUP_FD int fd = open(path, O_RDWR | O_CLOEXEC);

	ck_assert_int_eq(fcntl(fd, F_GETLK, &lock), 0);
	return lock.l_type == F_UNLCK ? 0 : lock.l_pid;
}

START_TEST(jail__daemon_killed__tool_ends_with_it)
{
	struct fixture f;
	uint64_t until = clock_ms() + 30000;
	pid_t daemon, tool = 0;

	setup(&f);
	const char *const argv[] = { f.self, "--hold", f.target, NULL };
	jail_layers();
	daemon = fork();
	if (daemon == 0) {
		run_in(&f, jail_layers(), argv);
		_exit(0);
	}
	while ((tool = holder(f.target)) == 0 && clock_ms() < until)
		sched_yield();
	ck_assert_int_ne(tool, 0);
	ck_assert_int_ne(tool, daemon);
	ck_assert_int_eq(kill(daemon, SIGKILL), 0);
	ck_assert_int_eq(waitpid(daemon, NULL, 0), daemon);
	while (holder(f.target) == tool && clock_ms() < until)
		sched_yield();
	ck_assert_int_eq(holder(f.target), 0);
	finish(&f);
}
END_TEST

START_TEST(jail__tool_fails__its_name_and_words)
{
	const char *const argv[] = { "qemu-img", "check", "-f", "qcow2", "/etc/passwd", NULL };
	const struct jail jail = { .limits.cpu_seconds = 10 };
	struct process_output output = { 0 };
	struct err err = ERR_INIT;

	ck_assert_int_eq(
	    jail_run(&jail, argv, NULL, 0, OUT_MAX, 60000, NULL, &output, &err), E_FAILED);
	ck_assert_msg(str_starts(err.msg, "'qemu-img' failed with status 1: "), "%s", err.msg);
	process_output_done(&output);
}
END_TEST

START_TEST(jail__no_such_program__told)
{
	const char *const argv[] = { "no-such-program", NULL };
	const struct jail jail = { .without = 0 };
	struct process_output output = { 0 };
	struct err err = ERR_INIT;

	ck_assert_int_eq(
	    jail_run(&jail, argv, NULL, 0, OUT_MAX, 60000, NULL, &output, &err), E_NOT_FOUND);
	ck_assert_ptr_nonnull(strstr(err.msg, "no-such-program"));
}
END_TEST

static Suite *
make_suite(bool as_user)
{
	Suite *s = suite_create("jail");

	UNIT_CASE(s, jail__no_layer__everything_goes);
	UNIT_CASE(s, jail__landlock_alone__the_named_files_only);
	UNIT_CASE(s, jail__netns_alone__nobody_to_reach);
	UNIT_CASE(s, jail__seccomp_alone__no_sockets_processes_and_tracing);
	UNIT_CASE(s, jail__limits_alone__rights_and_core_dumps);
	UNIT_CASE(s, jail__all_layers__what_tools_need_is_left);
	UNIT_CASE(s, jail__new_programs__refused_by_landlock_and_by_seccomp);
	if (as_user)
		return s;
	UNIT_CASE(s, jail__this_host__layers_as_the_kernel_has_them);
	UNIT_CASE(s, jail__the_descriptor_of_the_tool__can_not_be_made_again);
	UNIT_CASE(s, jail__limits_alone__processor_time);
	UNIT_CASE(s, jail__limits_alone__address_space_and_file_size);
#ifdef CAN_ENTER
	UNIT_CASE(s, jail__enter__confines_the_caller);
#endif
	UNIT_CASE(s, jail__not_root__the_same_layers);
	UNIT_CASE(s, jail__daemon_killed__tool_ends_with_it);
	UNIT_CASE(s, jail__tool_fails__its_name_and_words);
	UNIT_CASE(s, jail__no_such_program__told);
	return s;
}

/* Its words would be taken for cases of ours. */
static int
as_user(void)
{
	SRunner *runner = srunner_create(make_suite(true));
	int failed;

	srunner_run_all(runner, CK_SILENT);
	failed = srunner_ntests_failed(runner);
	for (int i = 0; i < failed; i++)
		fprintf(stderr, "as a user: %s\n", tr_msg(srunner_failures(runner)[i]));
	srunner_free(runner);
	return failed == 0 ? 0 : 1;
}

int
main(int argc, char **argv)
{
	if (argc == 2 && str_eq(argv[1], "--as-user"))
		return as_user();
	if (argc > 2)
		return jailed(argc, argv);
	return unit_main(make_suite(false));
}
