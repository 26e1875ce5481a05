/* SPDX-License-Identifier: MPL-2.0
 *
 * vmm-launch and what it takes away.  The confined program is this one again, which tries things
 * and prints what went. */
#include "lib/hypervisor/launcher/launcher.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/landlock.h"
#include "lib/base/mem.h"
#include "lib/base/process.h"
#include "lib/base/str.h"
#include "tests/unit/unit.h"

/* ---- the confined side ---- */

static void
say(const char *what, bool ok)
{
	printf("%s=%s\n", what, ok ? "yes" : "no");
}

static bool
can_open(const char *path, int flags)
{
	CLEANUP_FD int fd = open(path, flags, 0600);

	return fd >= 0;
}

static bool
can_tcp(bool listening, uint16_t port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	CLEANUP_FD int fd = socket(AF_INET, SOCK_STREAM, 0);
	int rc = listening ? bind(fd, (struct sockaddr *)&address, sizeof(address))
			   : connect(fd, (struct sockaddr *)&address, sizeof(address));

	/* Refused by nobody listening is not refused by the kernel's rules. */
	return rc == 0 || errno == ECONNREFUSED || errno == EADDRINUSE;
}

static bool
status_has(const char *line)
{
	CLEANUP_FREE char *text = NULL;

	return fs_read("/proc/self/status", 65536, &text, NULL, NULL) == 0 &&
	       strstr(text, line) != NULL;
}

static int
try_things(char **argv)
{
	struct rlimit core;
	char byte;

	getrlimit(RLIMIT_CORE, &core);
	printf("pid=%d\n", (int)getpid());
	printf("uid=%d\n", (int)getuid());
	printf("arg=%s\n", argv[4]);
	say("env", getenv("PATH") == NULL && str_eq(getenv("ONLY"), "this"));
	say("read-allowed", can_open(argv[2], O_RDONLY));
	say("write-read-only", can_open(argv[2], O_WRONLY));
	say("write-allowed", can_open(argv[3], O_RDWR));
	say("read-shadow", can_open("/etc/shadow", O_RDONLY));
	say("read-passwd", can_open("/etc/passwd", O_RDONLY));
	say("make-file", can_open("/tmp/launcher-made", O_WRONLY | O_CREAT));
	say("passed", read(20, &byte, 1) == 1);
	say("nobody-else", fcntl(3, F_GETFD) < 0 && fcntl(21, F_GETFD) < 0);
	say("no-new-privs", status_has("NoNewPrivs:\t1"));
	say("core", core.rlim_max != 0);
	say("umask", umask(0) == 077);
	say("bind-any", can_tcp(true, 0));
	say("bind-one", can_tcp(true, 45678));
	say("connect", can_tcp(false, 45679));
	unlink("/tmp/launcher-made");
	return 0;
}

/* ---- the side of vmmd ---- */

struct fixture {
	char *dir, *allowed, *writable, *hidden, *record, *self;
	struct launch_order order;
	char *out;
	int status;
};

static void
put(const char *path)
{
	ck_assert_int_eq(fs_write(path, "x", 1, 0600, NULL), 0);
}

static void
add(struct strings *list, const char *text)
{
	list->items = xreallocarray(list->items, list->count + 1, sizeof(*list->items));
	list->items[list->count++] = xstrdup(text);
}

static void
setup(struct fixture *f)
{
	static const char *const libraries[] = { "/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/proc" };
	char dir[] = "/tmp/launcher-XXXXXX";
	struct launch_file *file = xcalloc(1, sizeof(*file));
	CLEANUP_FREE char *self_dir = NULL;

	memset(f, 0, sizeof(*f));
	ck_assert_ptr_nonnull(mkdtemp(dir));
	f->dir = xstrdup(dir);
	f->allowed = fs_join(dir, "allowed, \"quoted\"");
	f->writable = fs_join(dir, "writable");
	f->hidden = fs_join(dir, "hidden");
	f->record = fs_join(dir, "launch.json");
	put(f->allowed);
	put(f->writable);
	put(f->hidden);
	f->self = realpath("/proc/self/exe", NULL);
	self_dir = fs_dirname(f->self);
	add(&f->order.argv, f->self);
	add(&f->order.argv, "--try");
	add(&f->order.argv, f->allowed);
	add(&f->order.argv, f->writable);
	add(&f->order.argv, "two words, and 'more'");
	f->order.env.items = xcalloc(1, sizeof(*f->order.env.items));
	f->order.env.items[0] = (struct env_var){ xstrdup("ONLY"), xstrdup("this") };
	f->order.env.count = 1;
	f->order.parent = (uint64_t)getpid();
	f->order.record = xstrdup(f->record);
	f->order.generation = xstrdup("g1");
	*file = (struct launch_file){ .present = true, .path = xstrdup(f->hidden), .to = 20 };
	f->order.files = (struct objects){ file, 1 };
	for (size_t i = 0; i < ARRAY_LEN(libraries); i++)
		add(&f->order.read, libraries[i]);
	add(&f->order.read, self_dir);
	add(&f->order.read, f->allowed);
	add(&f->order.read, "/no/such/place");
	add(&f->order.write, f->writable);
	add(&f->order.write, "/dev/null");
}

static void
finish(struct fixture *f)
{
	fields_release(launch_order_fields, &f->order);
	fs_remove_tree(f->dir, NULL);
	free(f->dir);
	free(f->allowed);
	free(f->writable);
	free(f->hidden);
	free(f->record);
	free(f->self);
	free(f->out);
}

static pid_t
launch_text(struct fixture *f, const char *text)
{
	const char *const argv[] = { getenv("VMM_LAUNCH"), NULL };
	int order = memfd_create("order", MFD_CLOEXEC), out[2];
	struct process_spec spec = { .argv = argv, .new_session = true };
	struct sbuf all = { 0 };
	char chunk[4096];
	pid_t pid;
	ssize_t n;

	ck_assert_ptr_nonnull(argv[0]);
	ck_assert(fs_write_all(order, text, strlen(text)) == 0 && pipe2(out, O_CLOEXEC) == 0);
	spec.stdin_fd = order;
	spec.stdout_fd = spec.stderr_fd = out[1];
	ck_assert_int_eq(process_spawn(&spec, &pid, NULL, NULL), 0);
	close(order);
	close(out[1]);
	sbuf_adds(&all, "");
	while ((n = read(out[0], chunk, sizeof(chunk))) > 0)
		sbuf_add(&all, chunk, (size_t)n);
	close(out[0]);
	waitpid(pid, &f->status, 0);
	free(f->out);
	f->out = sbuf_take(&all);
	return pid;
}

static pid_t
launch(struct fixture *f)
{
	json_object *doc = fields_encode(launch_order_fields, &f->order);
	pid_t pid = launch_text(f, json_object_to_json_string(doc));

	json_object_put(doc);
	return pid;
}

#define SAID(f, line)                                                                              \
	ck_assert_msg(strstr((f)->out, line "\n") != NULL, "'%s' is not in: %s", line, (f)->out)

START_TEST(launcher__program__same_process_and_passed_files)
{
	struct fixture f;
	CLEANUP_FREE char *text = NULL, *line = NULL;
	json_object *doc, *value = NULL;
	pid_t pid;

	setup(&f);
	pid = launch(&f);
	ck_assert_msg(f.status == 0, "%s", f.out);
	line = xasprintf("pid=%d\n", (int)pid);
	ck_assert_msg(strstr(f.out, line) != NULL, "%s", f.out);
	SAID(&f, "arg=two words, and 'more'");
	SAID(&f, "env=yes");
	SAID(&f, "passed=yes");
	SAID(&f, "nobody-else=yes");
	ck_assert_int_eq(fs_read(f.record, 4096, &text, NULL, NULL), 0);
	doc = json_tokener_parse(text);
	ck_assert(json_object_object_get_ex(doc, "pid", &value) &&
		  json_object_get_int(value) == (int)pid);
	ck_assert(json_object_object_get_ex(doc, "generation", &value) &&
		  str_eq(json_object_get_string(value), "g1"));
	ck_assert(json_object_object_get_ex(doc, "boot_id", &value) &&
		  str_eq(json_object_get_string(value), process_boot_id()));
	json_object_put(doc);
	finish(&f);
}
END_TEST

START_TEST(launcher__always__no_privileges_to_gain)
{
	struct fixture f;

	setup(&f);
	launch(&f);
	SAID(&f, "no-new-privs=yes");
	SAID(&f, "core=no");
	SAID(&f, "umask=yes");
	finish(&f);
}
END_TEST

START_TEST(launcher__landlock__only_what_was_listed)
{
	struct fixture f;

	if (landlock_abi() == 0) {
		printf("# this kernel has no Landlock\n");
		return;
	}
	setup(&f);
	launch(&f);
	SAID(&f, "read-allowed=yes");
	SAID(&f, "write-allowed=yes");
	SAID(&f, "write-read-only=no");
	SAID(&f, "read-passwd=no"); /* which everybody may read otherwise */
	SAID(&f, "read-shadow=no");
	SAID(&f, "make-file=no");
	finish(&f);
}
END_TEST

START_TEST(launcher__landlock__tcp_as_asked)
{
	struct fixture f;

	if (landlock_abi() < 4) {
		printf("# this kernel's Landlock knows no ports\n");
		return;
	}
	setup(&f);
	launch(&f);
	SAID(&f, "connect=no");
	SAID(&f, "bind-any=no");
	SAID(&f, "bind-one=no");
	f.order.network = true;
	launch(&f);
	SAID(&f, "connect=yes");
	SAID(&f, "bind-any=yes");
	SAID(&f, "bind-one=yes"); /* which port may be asked for later is not known */
	finish(&f);
}
END_TEST

START_TEST(launcher__another_user__owns_its_files_alone)
{
	struct fixture f;
	struct stat st;

	if (geteuid() != 0) {
		printf("# only root can change the user\n");
		return;
	}
	setup(&f);
	f.order.drop = true;
	f.order.uid = f.order.gid = 65534;
	add(&f.order.own, f.dir);
	add(&f.order.own, f.writable);
	add(&f.order.own, "/no/such/file");
	launch(&f);
	SAID(&f, "uid=65534");
	SAID(&f, "write-allowed=yes");
	SAID(&f, "read-allowed=no"); /* listed, and still root's */
	SAID(&f, "passed=yes");	     /* opened before */
	ck_assert(stat(f.record, &st) == 0 && st.st_uid == 0);
	finish(&f);
}
END_TEST

START_TEST(launcher__daemon_gone__nothing_started)
{
	struct fixture f;

	setup(&f);
	f.order.parent = 1;
	launch(&f);
	ck_assert(WIFEXITED(f.status) && WEXITSTATUS(f.status) == 126);
	ck_assert_ptr_nonnull(strstr(f.out, "the daemon is gone"));
	ck_assert(!fs_exists(f.record));
	finish(&f);
}
END_TEST

START_TEST(launcher__bad_orders__refused_with_words)
{
	static const char *const orders[] = { "", "nonsense", "[]", "{}", "{\"argv\": \"x\"}",
		/* clang-format off */
		"{\"argv\": [\"/bin/true\"], \"parent\": 1, \"record\": \"/x\", \"generation\": \"g\", \"surprise\": 1}",
		/* clang-format on */
	};
	struct fixture f;

	setup(&f);
	for (size_t i = 0; i < ARRAY_LEN(orders); i++) {
		launch_text(&f, orders[i]);
		ck_assert_msg(WIFEXITED(f.status) && WEXITSTATUS(f.status) == 126, "%s", orders[i]);
		ck_assert_msg(str_starts(f.out, "vmm-launch: "), "%s", f.out);
	}
	finish(&f);
}
END_TEST

START_TEST(launcher__missing_file__named)
{
	struct fixture f;

	setup(&f);
	ck_assert_int_eq(unlink(f.hidden), 0);
	launch(&f);
	ck_assert(WIFEXITED(f.status) && WEXITSTATUS(f.status) == 126);
	ck_assert_ptr_nonnull(strstr(f.out, f.hidden));
	finish(&f);
}
END_TEST

int
main(int argc, char **argv)
{
	Suite *s;

	if (argc == 5 && str_eq(argv[1], "--try"))
		return try_things(argv);
	s = suite_create("launcher");
	UNIT_CASE(s, launcher__program__same_process_and_passed_files);
	UNIT_CASE(s, launcher__always__no_privileges_to_gain);
	UNIT_CASE(s, launcher__landlock__only_what_was_listed);
	UNIT_CASE(s, launcher__landlock__tcp_as_asked);
	UNIT_CASE(s, launcher__another_user__owns_its_files_alone);
	UNIT_CASE(s, launcher__daemon_gone__nothing_started);
	UNIT_CASE(s, launcher__bad_orders__refused_with_words);
	UNIT_CASE(s, launcher__missing_file__named);
	return unit_main(s);
}
