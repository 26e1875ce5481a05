/* SPDX-License-Identifier: MPL-2.0
 *
 * The QEMU backend with real emulators and guests of one sector. */
#include "lib/hypervisor/hypervisor.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/fs.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/base/worker.h"
#include "lib/hypervisor/qemu/qemu.h"
#include "tests/unit/guests.h"
#include "tests/unit/unit.h"

static const struct hv_nic one_nic = { .mac = "52:54:00:00:00:01" };

enum { WAIT_MS = 20000, IMAGE_BYTES = 256 << 20 };

struct fixture;

struct box { /* a machine and what was heard of it */
	struct fixture *f;
	struct hv_config config;
	struct vm_spec spec;
	struct hv_machine *m;
	char *dir, *run_dir, *image;
	char events[1024];
	struct process_exit exit;
	char detail[2048];
	struct err err; /* of the last call */
	int answers;
	struct sbuf console;
};

struct fixture {
	struct loop *loop;
	struct worker_pool *pool;
	struct hv_env env;
	struct hv_router *router;
	struct hypervisor *hv;
	struct timer *deadline;
	const struct hv_ops *ops;
	char *top, *run;
	bool late;
};

/* The folder's name has all that could break an option. */
static const char folder_name[] = "a, \"b\" 'c' id=x\\";

static void
on_late(void *arg)
{
	struct fixture *f = arg;

	f->late = true;
	loop_stop(f->loop);
}

static void
setup(struct fixture *f, const char *accel)
{
	char top[] = "/tmp/qemu-test-XXXXXX", run[] = "/tmp/qr-XXXXXX";
	struct err err = ERR_INIT;

	memset(f, 0, sizeof(*f));
	ck_assert(mkdtemp(top) != NULL && mkdtemp(run) != NULL);
	f->top = xstrdup(top);
	f->run = xstrdup(run);
	f->loop = loop_create();
	f->pool = worker_pool_create(f->loop, 2, 16);
	f->env = (struct hv_env){ .loop = f->loop, .pool = f->pool, .accel = accel,
		.launcher = getenv("VMM_LAUNCH"), .qemu_uid = -1, .qemu_gid = -1 };
	ck_assert_ptr_nonnull(f->env.launcher);
	f->router = hv_router_create(&f->env);
	f->deadline = timer_create_on(f->loop, on_late, f);
	ck_assert_msg(hv_router_get(f->router, BACKEND_QEMU, &f->hv, &err) == 0, "%s", err.msg);
	f->ops = f->hv->ops;
}

static void
finish(struct fixture *f)
{
	hv_router_destroy(f->router);
	timer_destroy(f->deadline);
	worker_pool_destroy(f->pool);
	loop_flush(f->loop);
	loop_destroy(f->loop);
	fs_remove_tree(f->top, NULL);
	fs_remove_tree(f->run, NULL);
	free(f->top);
	free(f->run);
}

static const char *const event_words[] = { "SHUTDOWN", "RESET", "PANIC", "PAUSED", "RESUMED",
	"IO_ERROR", "NO_SPACE", "EXITED", "UNRESPONSIVE", "RESPONSIVE", "NOTICE" };

static void
on_event(void *arg, const struct hv_event *event)
{
	struct box *box = arg;

	if (strlen(box->events) < sizeof(box->events) - 32) {
		strcat(box->events, event_words[event->kind]);
		strcat(box->events, " ");
	}
	if (event->kind == HV_EV_EXITED)
		box->exit = event->exit;
	if (event->detail != NULL)
		snprintf(box->detail, sizeof(box->detail), "%s", event->detail);
	loop_stop(box->f->loop);
}

static void
on_done(void *arg, const struct err *err)
{
	struct box *box = arg;

	box->err = err != NULL ? *err : (struct err)ERR_INIT;
	box->answers++;
	loop_stop(box->f->loop);
}

static void
on_output(void *arg, const void *data, size_t len)
{
	struct box *box = arg;

	sbuf_add(&box->console, data, len);
	loop_stop(box->f->loop);
}

/* Runs the loop until the condition holds. */
#define UNTIL(f, condition)                                                                        \
	do {                                                                                       \
		(f)->late = false;                                                                 \
		timer_arm((f)->deadline, WAIT_MS);                                                 \
		while (!(condition) && !(f)->late)                                                 \
			loop_run((f)->loop);                                                       \
		ck_assert_msg((condition), "waited in vain for: %s", #condition);                  \
		timer_disarm((f)->deadline);                                                       \
	} while (0)

static void
await_answer(struct box *box)
{
	int before = box->answers;

	UNTIL(box->f, box->answers > before);
}

#define MUST(box, call)                                                                            \
	do {                                                                                       \
		call;                                                                              \
		await_answer(box);                                                                 \
		ck_assert_msg((box)->err.code == E_OK, "%s: %s", #call, (box)->err.msg);          \
	} while (0)

static void
box_open(struct box *box, struct fixture *f, const char *id, const struct guest *guest)
{
	CLEANUP_FREE char *name = xasprintf("%s-%s", folder_name, id);
	CLEANUP_FREE unsigned char *sector = xcalloc(1, 512);
	int fd;

	*box = (struct box){ .f = f };
	box->dir = fs_join(f->top, name);
	box->run_dir = fs_join(f->run, id);
	box->image = xasprintf("%s/image,%s.raw", f->top, id);
	ck_assert(mkdir(box->dir, 0700) == 0 && mkdir(box->run_dir, 0700) == 0);
	memcpy(sector, guest->code, guest->len);
	sector[510] = 0x55;
	sector[511] = 0xaa;
	fd = open(box->image, O_WRONLY | O_CREAT | O_EXCL, 0600);
	ck_assert(fd >= 0 && write(fd, sector, 512) == 512 && ftruncate(fd, IMAGE_BYTES) == 0);
	close(fd);
	box->spec = (struct vm_spec){ .present = true, .name = (char *)(uintptr_t)"web", .vcpus = 1,
		.memory_bytes = 32 << 20 };
	box->config = (struct hv_config){ .id = id, .uuid = "11111111-2222-4333-8444-555555555555",
		.name = "web", .dir = box->dir, .run_dir = box->run_dir, .nics = &one_nic,
		.spec = &box->spec };
	box->m = f->ops->open(f->hv, &box->config, on_event, box);
}

static void
box_prepare(struct box *box)
{
	struct hv_image image = { box->image, "raw", IMAGE_BYTES };

	MUST(box, box->f->ops->prepare(box->m, &image, on_done, box));
}

static void
box_run(struct box *box)
{
	box_prepare(box);
	MUST(box, box->f->ops->launch(box->m, on_done, box));
	ck_assert_int_eq(box->f->ops->state(box->m), HV_PRELAUNCH);
	MUST(box, box->f->ops->run(box->m, on_done, box));
	ck_assert_int_eq(box->f->ops->state(box->m), HV_RUNNING);
	ck_assert_str_eq(box->events, "RESUMED ");
	box->events[0] = '\0';
}

static void
box_kill(struct box *box)
{
	if (box->f->ops->state(box->m) == HV_GONE)
		return;
	box->f->ops->end(box->m, HV_KILL, on_done, box);
	UNTIL(box->f, strstr(box->events, "EXITED") != NULL);
}

static void
box_forget(struct box *box)
{
	box->f->ops->close(box->m);
	free(box->dir);
	free(box->run_dir);
	free(box->image);
	sbuf_done(&box->console);
}

static void
box_close(struct box *box)
{
	box_kill(box);
	box_forget(box);
}

START_TEST(qemu__g20_whole_life__second_start_refused_nothing_left)
{
	struct fixture f;
	struct box box;
	struct hv_facts facts;
	struct stat st;
	CLEANUP_FREE char *monitor = NULL;

	setup(&f, "tcg");
	box_open(&box, &f, "1", &guest_idle);
	box_run(&box);
	f.ops->facts(box.m, &facts);
	ck_assert_int_gt(facts.pid, 0);
	ck_assert_int_ne(facts.ssh_port, 0);
	ck_assert_str_eq(facts.ssh_host, "127.0.0.1");
	ck_assert_str_eq(facts.accel, "tcg");
	ck_assert_str_eq(facts.machine_type, "pc-q35-7.2");
	monitor = fs_join(box.run_dir, "monitor");
	ck_assert(stat(monitor, &st) == 0 && (st.st_mode & 0777) == 0600);
	MUST(&box, f.ops->suspend(box.m, on_done, &box));
	ck_assert_int_eq(f.ops->state(box.m), HV_PAUSED);
	MUST(&box, f.ops->resume(box.m, on_done, &box));
	ck_assert_int_eq(f.ops->state(box.m), HV_RUNNING);
	ck_assert_str_eq(box.events, "PAUSED RESUMED ");
	/* A second start must not touch the sockets of the first. */
	f.ops->launch(box.m, on_done, &box);
	await_answer(&box);
	ck_assert_int_eq(box.err.code, E_STATE);
	f.ops->unprepare(box.m, on_done, &box);
	await_answer(&box);
	ck_assert_int_eq(box.err.code, E_STATE);
	MUST(&box, f.ops->end(box.m, HV_QUIT, on_done, &box));
	UNTIL(&f, strstr(box.events, "EXITED") != NULL);
	ck_assert(box.exit.known && !box.exit.signaled && box.exit.code == 0);
	ck_assert_int_eq(f.ops->state(box.m), HV_GONE);
	MUST(&box, f.ops->unprepare(box.m, on_done, &box));
	ck_assert_int_eq(rmdir(box.dir), 0); /* nothing is left in them */
	ck_assert_int_eq(rmdir(box.run_dir), 0);
	box_forget(&box);
	finish(&f);
}
END_TEST

START_TEST(qemu__g07_guest_powers_off__seen_and_still_there)
{
	struct fixture f;
	struct box box;

	setup(&f, "tcg");
	box_open(&box, &f, "1", &guest_power_off);
	box_run(&box);
	UNTIL(&f, strstr(box.events, "SHUTDOWN") != NULL);
	ck_assert_str_eq(box.events, "SHUTDOWN ");
	ck_assert_int_eq(f.ops->state(box.m), HV_SHUTDOWN);
	box_close(&box);
	finish(&f);
}
END_TEST

START_TEST(qemu__g07_guest_panics__seen)
{
	struct fixture f;
	struct box box;

	setup(&f, "tcg");
	box_open(&box, &f, "1", &guest_panic);
	box_run(&box);
	UNTIL(&f, box.events[0] != '\0');
	ck_assert_str_eq(box.events, "PANIC ");
	ck_assert_int_eq(f.ops->state(box.m), HV_PANICKED);
	box_close(&box);
	finish(&f);
}
END_TEST

START_TEST(qemu__triple_fault__resets_are_told_slowly)
{
	struct fixture f;
	struct box box;

	setup(&f, "tcg");
	box_open(&box, &f, "1", &guest_triple_fault);
	box_run(&box);
	UNTIL(&f, strstr(box.events, "RESET RESET") != NULL);
	ck_assert_uint_lt(strlen(box.events), 64);
	box_close(&box);
	finish(&f);
}
END_TEST

START_TEST(qemu__g22_ask_shutdown__a_suspended_guest_sees_its_button)
{
	struct fixture f;
	struct box box;

	setup(&f, "tcg");
	box_open(&box, &f, "1", &guest_button);
	box_prepare(&box);
	MUST(&box, f.ops->launch(box.m, on_done, &box));
	ck_assert_int_eq(f.ops->console_open(box.m, on_output, &box, NULL), 0);
	MUST(&box, f.ops->run(box.m, on_done, &box));
	UNTIL(&f, box.console.len > 0 && strstr(box.console.data, "up\n") != NULL);
	/* Also when it is suspended: stopped processors see no button. */
	MUST(&box, f.ops->suspend(box.m, on_done, &box));
	MUST(&box, f.ops->ask_shutdown(box.m, on_done, &box));
	UNTIL(&f, strstr(box.events, "SHUTDOWN") != NULL);
	ck_assert_str_eq(box.events, "RESUMED PAUSED RESUMED SHUTDOWN ");
	box_close(&box);
	finish(&f);
}
END_TEST

START_TEST(qemu__r02_killed__told_in_time_and_started_again)
{
	struct fixture f;
	struct box box;
	struct hv_facts facts;
	uint64_t before;

	setup(&f, "tcg");
	box_open(&box, &f, "1", &guest_idle);
	box_run(&box);
	f.ops->facts(box.m, &facts);
	before = clock_ms();
	kill(facts.pid, SIGKILL);
	UNTIL(&f, strstr(box.events, "EXITED") != NULL);
	ck_assert_uint_lt(clock_ms() - before, 1000);
	ck_assert(box.exit.known && box.exit.signaled && box.exit.code == SIGKILL);
	ck_assert_int_eq(f.ops->state(box.m), HV_GONE);
	/* What it left does not hinder the next start. */
	MUST(&box, f.ops->launch(box.m, on_done, &box));
	box.events[0] = '\0';
	box_close(&box);
	finish(&f);
}
END_TEST

START_TEST(qemu__g81_console__echo_survives_readers)
{
	struct fixture f;
	struct box box;
	struct stat st;
	CLEANUP_FREE char *log = NULL;

	setup(&f, "tcg");
	box_open(&box, &f, "1", &guest_echo);
	box_prepare(&box);
	MUST(&box, f.ops->launch(box.m, on_done, &box));
	ck_assert_int_eq(f.ops->console_open(box.m, on_output, &box, NULL), 0);
	ck_assert_uint_eq(f.ops->console_offset(box.m), 0);
	MUST(&box, f.ops->run(box.m, on_done, &box));
	UNTIL(&f, box.console.len > 0 && strstr(box.console.data, "up\n") != NULL);
	ck_assert_int_eq(f.ops->console_write(box.m, "hello", 5, NULL), 0);
	UNTIL(&f, strstr(box.console.data, "hello") != NULL);
	f.ops->console_close(box.m);
	/* Trimmed meanwhile: the next reader sees what comes after. */
	log = fs_join(box.dir, "console.log");
	ck_assert(stat(log, &st) == 0 && (st.st_mode & 0777) == 0600);
	ck_assert_int_eq(f.ops->console_open(box.m, on_output, &box, NULL), 0);
	ck_assert_uint_eq(f.ops->console_offset(box.m), (uint64_t)st.st_size);
	ck_assert_int_eq(truncate(log, 0), 0);
	ck_assert_int_eq(f.ops->console_write(box.m, "again", 5, NULL), 0);
	UNTIL(&f, strstr(box.console.data, "again") != NULL);
	ck_assert(stat(log, &st) == 0 && st.st_size == 5);
	box_close(&box);
	finish(&f);
}
END_TEST

/* As after a restart of the daemon: other objects, the runtime document alone. */
START_TEST(qemu__adopt__by_another_daemon)
{
	struct fixture f, g;
	struct box box, other;
	struct hv_facts facts, found;
	struct json_object *doc;

	setup(&f, "tcg");
	box_open(&box, &f, "1", &guest_echo);
	box_run(&box);
	MUST(&box, f.ops->suspend(box.m, on_done, &box));
	f.ops->facts(box.m, &facts);
	doc = f.ops->runtime(box.m);
	f.ops->close(box.m);
	setup(&g, "tcg");
	other = (struct box){ .f = &g, .config = box.config, .spec = box.spec };
	other.config.spec = &other.spec;
	other.m = g.ops->open(g.hv, &other.config, on_event, &other);
	MUST(&other, g.ops->adopt(other.m, doc, on_done, &other));
	ck_assert_int_eq(g.ops->state(other.m), HV_PAUSED);
	g.ops->facts(other.m, &found);
	ck_assert_int_eq(found.pid, facts.pid);
	ck_assert_int_eq(found.ssh_port, facts.ssh_port);
	MUST(&other, g.ops->resume(other.m, on_done, &other));
	/* The console still takes input and gives output. */
	ck_assert_int_eq(g.ops->console_open(other.m, on_output, &other, NULL), 0);
	ck_assert_int_eq(g.ops->console_write(other.m, "hi", 2, NULL), 0);
	UNTIL(&g, other.console.len > 0 && strstr(other.console.data, "hi") != NULL);
	kill(facts.pid, SIGKILL);
	UNTIL(&g, strstr(other.events, "EXITED") != NULL);
	/* Now it is gone, and both documents say so. */
	g.ops->adopt(other.m, doc, on_done, &other);
	await_answer(&other);
	ck_assert_int_eq(other.err.code, E_NOT_FOUND);
	json_object_put(doc);
	g.ops->close(other.m);
	sbuf_done(&other.console);
	finish(&g);
	free(box.dir);
	free(box.run_dir);
	free(box.image);
	finish(&f);
}
END_TEST

/* A daemon that crashed before it committed anything has the launcher's record. */
START_TEST(qemu__adopt__from_the_launchers_record)
{
	struct fixture f;
	struct box box;
	struct hv_facts facts;

	setup(&f, "tcg");
	box_open(&box, &f, "1", &guest_idle);
	box_prepare(&box);
	MUST(&box, f.ops->launch(box.m, on_done, &box));
	f.ops->close(box.m);
	box.m = f.ops->open(f.hv, &box.config, on_event, &box);
	/* Not started over it either. */
	f.ops->launch(box.m, on_done, &box);
	await_answer(&box);
	ck_assert_int_eq(box.err.code, E_STATE);
	MUST(&box, f.ops->adopt(box.m, NULL, on_done, &box));
	ck_assert_int_eq(f.ops->state(box.m), HV_PRELAUNCH);
	f.ops->facts(box.m, &facts);
	ck_assert_int_gt(facts.pid, 0);
	box_close(&box);
	finish(&f);
}
END_TEST

START_TEST(qemu__stopped__unresponsive_and_back)
{
	struct fixture f;
	struct box box;
	struct hv_facts facts;

	setenv("VMMD_QMP_SILENCE_MS", "200", 1);
	setup(&f, "tcg");
	box_open(&box, &f, "1", &guest_idle);
	box_run(&box);
	f.ops->facts(box.m, &facts);
	kill(facts.pid, SIGSTOP);
	f.ops->suspend(box.m, on_done, &box);
	await_answer(&box);
	ck_assert_int_eq(box.err.code, E_UNRESPONSIVE); /* nobody knows whether it was done */
	UNTIL(&f, strstr(box.events, "UNRESPONSIVE") != NULL);
	ck_assert_int_eq(f.ops->state(box.m), HV_UNKNOWN);
	kill(facts.pid, SIGCONT);
	UNTIL(&f, strstr(box.events, " RESPONSIVE PAUSED") != NULL);
	ck_assert_int_eq(f.ops->state(box.m), HV_PAUSED); /* it was, after all */
	/* A second daemon finds it alive and silent, and watches it. */
	kill(facts.pid, SIGSTOP);
	f.ops->close(box.m);
	box.m = f.ops->open(f.hv, &box.config, on_event, &box);
	f.ops->adopt(box.m, NULL, on_done, &box);
	await_answer(&box);
	ck_assert_int_eq(box.err.code, E_UNRESPONSIVE);
	f.ops->launch(box.m, on_done, &box);
	await_answer(&box);
	ck_assert_int_eq(box.err.code, E_STATE);
	box.events[0] = '\0';
	kill(facts.pid, SIGCONT);
	UNTIL(&f, strstr(box.events, "RESPONSIVE PAUSED") != NULL);
	ck_assert_int_eq(f.ops->state(box.m), HV_PAUSED);
	f.ops->facts(box.m, &facts);
	ck_assert_int_ne(facts.ssh_port, 0);
	unsetenv("VMMD_QMP_SILENCE_MS");
	box_close(&box);
	finish(&f);
}
END_TEST

START_TEST(qemu__g28_can_not_start__its_own_words)
{
	struct fixture f;
	struct box box;
	CLEANUP_FREE char *disk = NULL;

	setup(&f, "tcg");
	box_open(&box, &f, "1", &guest_idle);
	box_prepare(&box);
	disk = fs_join(box.dir, "disk.qcow2");
	ck_assert_int_eq(truncate(disk, 100), 0);
	f.ops->launch(box.m, on_done, &box);
	await_answer(&box);
	ck_assert_int_eq(box.err.code, E_FAILED);
	ck_assert_msg(strstr(box.err.msg, "qcow2") != NULL, "%s", box.err.msg);
	ck_assert_ptr_nonnull(strstr(box.err.hint, "qemu.log"));
	ck_assert_str_eq(box.events, "");
	ck_assert_int_eq(f.ops->state(box.m), HV_GONE);
	/* Its image is gone: the launcher's words. */
	ck_assert_int_eq(unlink(disk), 0);
	ck_assert_int_eq(unlink(box.image), 0);
	f.ops->launch(box.m, on_done, &box);
	await_answer(&box);
	ck_assert_int_eq(box.err.code, E_FAILED);
	ck_assert_msg(strstr(box.err.msg, "image,1.raw") != NULL, "%s", box.err.msg);
	box_close(&box);
	finish(&f);
}
END_TEST

START_TEST(qemu__g14_long_runtime_folder__refused_clearly)
{
	struct fixture f;
	struct box box;
	CLEANUP_FREE char *deep = NULL;
	char name[101];

	setup(&f, "tcg");
	box_open(&box, &f, "1", &guest_idle);
	memset(name, 'x', 100);
	name[100] = '\0';
	deep = fs_join(f.run, name);
	ck_assert_int_eq(mkdir(deep, 0700), 0);
	box.config.run_dir = deep;
	f.ops->launch(box.m, on_done, &box);
	await_answer(&box);
	ck_assert_int_eq(box.err.code, E_LIMIT);
	ck_assert_ptr_nonnull(strstr(box.err.hint, "--runtime-dir"));
	box_close(&box);
	finish(&f);
}
END_TEST

START_TEST(qemu__ended_while_starting__cancelled_and_gone)
{
	struct fixture f;
	struct box box;

	setup(&f, "tcg");
	box_open(&box, &f, "1", &guest_idle);
	box_prepare(&box);
	f.ops->launch(box.m, on_done, &box);
	loop_flush(f.loop); /* now there is a process */
	f.ops->end(box.m, HV_KILL, on_done, &box);
	UNTIL(&f, box.answers == 3);
	ck_assert_int_eq(box.err.code, E_CANCELLED);
	ck_assert_int_eq(f.ops->state(box.m), HV_GONE);
	ck_assert_str_eq(box.events, "");
	box_close(&box);
	finish(&f);
}
END_TEST

static bool
can_connect(const char *host, uint16_t port)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
	CLEANUP_FD int fd = socket(AF_INET, SOCK_STREAM, 0);

	ck_assert_int_eq(inet_pton(AF_INET, host, &address.sin_addr), 1);
	return connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0;
}

/* The port is taken when the machine starts, so nobody can have stolen it since its creation. */
START_TEST(qemu__r25_eight_machines__ports_of_their_own)
{
	enum { MACHINES = 8 };
	struct fixture f;
	struct box boxes[MACHINES];
	uint16_t ports[MACHINES];

	setup(&f, "tcg");
	for (int i = 0; i < MACHINES; i++) {
		static const char *const ids[MACHINES] = { "1", "2", "3", "4", "5", "6", "7", "8" };

		box_open(&boxes[i], &f, ids[i], &guest_idle);
		box_prepare(&boxes[i]);
	}
	for (int i = 0; i < MACHINES; i++)
		f.ops->launch(boxes[i].m, on_done, &boxes[i]);
	for (int i = 0; i < MACHINES; i++) {
		struct hv_facts facts;

		UNTIL(&f, boxes[i].answers == 2);
		ck_assert_msg(boxes[i].err.code == E_OK, "%s", boxes[i].err.msg);
		f.ops->facts(boxes[i].m, &facts);
		ports[i] = facts.ssh_port;
		ck_assert_uint_ne(ports[i], 0);
		for (int j = 0; j < i; j++)
			ck_assert_uint_ne(ports[i], ports[j]);
	}
	/* On the loopback of this host alone (G-26): 127.0.0.2 is as good as any other address. */
	ck_assert(can_connect("127.0.0.1", ports[0]));
	ck_assert(!can_connect("127.0.0.2", ports[0]));
	for (int i = 0; i < MACHINES; i++)
		box_close(&boxes[i]);
	finish(&f);
}
END_TEST

START_TEST(qemu__g25_port_taken_meanwhile__another_one)
{
	struct fixture f;
	struct box box;
	struct hv_facts facts;
	struct sockaddr_in address = { .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	CLEANUP_FD int thief = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	setup(&f, "tcg");
	box_open(&box, &f, "1", &guest_idle);
	box_run(&box);
	f.ops->facts(box.m, &facts);
	address.sin_port = htons(facts.ssh_port);
	box_kill(&box);
	ck_assert_int_eq(bind(thief, (struct sockaddr *)&address, sizeof(address)), 0);
	MUST(&box, f.ops->launch(box.m, on_done, &box));
	f.ops->facts(box.m, &facts);
	ck_assert(facts.ssh_port != 0 && facts.ssh_port != ntohs(address.sin_port));
	box.events[0] = '\0';
	box_close(&box);
	finish(&f);
}
END_TEST

START_TEST(qemu__without_network__no_port)
{
	struct fixture f;
	struct box box;
	struct hv_facts facts;

	setup(&f, "tcg");
	box_open(&box, &f, "1", &guest_idle);
	box.spec.network = (struct network_spec){ .present = true, .type = NETWORK_NONE };
	box_run(&box);
	f.ops->facts(box.m, &facts);
	ck_assert_int_eq(facts.ssh_port, 0);
	ck_assert_ptr_null(facts.ssh_host);
	box_close(&box);
	finish(&f);
}
END_TEST

START_TEST(qemu__auto__tells_why_it_emulates)
{
	struct fixture f;
	struct box box;
	struct hv_facts facts;

	setup(&f, "auto");
	box_open(&box, &f, "1", &guest_idle);
	box_prepare(&box);
	MUST(&box, f.ops->launch(box.m, on_done, &box));
	f.ops->facts(box.m, &facts);
	if (str_eq(facts.accel, "tcg"))
		ck_assert_str_eq(box.events, "NOTICE ");
	else
		ck_assert_str_eq(box.events, "");
	box_close(&box);
	finish(&f);
}
END_TEST

struct trial {
	struct loop *loop;
	const char *accel, *rom;
	uint64_t timeout_ms;
	int rc;
	struct err err;
};

static void
run_trial(struct job *job, void *data)
{
	struct trial *trial = data;
	CLEANUP_FREE char *program = process_find("qemu-system-x86_64");

	trial->rc = accel_try(program, trial->accel, trial->rom, trial->timeout_ms, job, &trial->err);
}

static void
end_trial(void *data)
{
	struct trial *trial = data;

	loop_stop(trial->loop);
}

START_TEST(accel__trial__a_guest_really_runs)
{
	struct fixture f;
	CLEANUP_FREE char *rom = NULL;
	struct trial trial;

	setup(&f, "tcg");
	rom = fs_join(f.top, "probe");
	trial = (struct trial){ .loop = f.loop, .accel = "tcg", .rom = rom, .timeout_ms = 10000 };
	ck_assert_int_eq(worker_submit(f.pool, "t", run_trial, end_trial, &trial, 0, NULL, NULL), 0);
	loop_run(f.loop);
	ck_assert_msg(trial.rc == 0, "%s", trial.err.msg);
	trial = (struct trial){ .loop = f.loop, .accel = "nonsense", .rom = rom, .timeout_ms = 10000 };
	ck_assert_int_eq(worker_submit(f.pool, "t", run_trial, end_trial, &trial, 0, NULL, NULL), 0);
	loop_run(f.loop);
	ck_assert_int_eq(trial.rc, E_FAILED);
	finish(&f);
}
END_TEST

/* Where KVM is broken it hangs; the trial ends all the same. */
START_TEST(accel__trial__kvm_is_bounded)
{
	struct fixture f;
	CLEANUP_FREE char *rom = NULL;
	uint64_t before = clock_ms();
	struct trial trial;

	setup(&f, "tcg");
	rom = fs_join(f.top, "probe");
	trial = (struct trial){ .loop = f.loop, .accel = "kvm", .rom = rom, .timeout_ms = 1000 };
	ck_assert_int_eq(worker_submit(f.pool, "t", run_trial, end_trial, &trial, 0, NULL, NULL), 0);
	loop_run(f.loop);
	ck_assert_uint_lt(clock_ms() - before, 3000);
	printf("# KVM: %s\n", trial.rc == 0 ? "a guest runs on it" : trial.err.msg);
	finish(&f);
}
END_TEST

/* An emulator that can not do KVM, and would be taken for able. */
START_TEST(qemu__g27_kvm_fails_early__emulated_once_and_told)
{
	static const char script[] = "#!/bin/sh\n"
				     "case \"$*\" in *'-accel kvm'*)\n"
				     "echo 'error: failed to set MSR 0x10a' >&2; kill -ABRT $$;; esac\n"
				     "exec /usr/bin/qemu-system-x86_64 \"$@\"\n";
	struct fixture f;
	struct box box;
	struct hv_facts facts;
	char bin[] = "/tmp/qemu-bin-XXXXXX/bin";
	CLEANUP_FREE char *before = xstrdup(getenv("PATH")), *path = NULL, *program = NULL;

	bin[strlen(bin) - 4] = '\0';
	ck_assert_ptr_nonnull(mkdtemp(bin));
	bin[strlen(bin)] = '/';
	ck_assert_int_eq(mkdir(bin, 0700), 0);
	program = fs_join(bin, "qemu-system-x86_64");
	ck_assert_int_eq(fs_write(program, script, strlen(script), 0700, NULL), 0);
	path = xasprintf("%s:%s", bin, before);
	setenv("PATH", path, 1);
	setup(&f, "auto");
	setenv("PATH", before, 1);
	box_open(&box, &f, "1", &guest_idle);
	box_prepare(&box);
	accel_decide(((struct qemu *)f.hv)->accel, "kvm", NULL);
	MUST(&box, f.ops->launch(box.m, on_done, &box));
	ck_assert_str_eq(box.events, "NOTICE ");
	ck_assert_ptr_nonnull(strstr(box.detail, "MSR 0x10a"));
	f.ops->facts(box.m, &facts);
	ck_assert_str_eq(facts.accel, "tcg");
	box_close(&box);
	finish(&f);
	bin[strlen(bin) - 4] = '\0';
	fs_remove_tree(bin, NULL);
}
END_TEST

/* The cgroup of this process, in version 1's memory hierarchy, or NULL. */
static char *
small_cgroup(void)
{
	char *path = xasprintf("/sys/fs/cgroup/memory/vmm-test-%d", (int)getpid());
	CLEANUP_FREE char *limit = fs_join(path, "memory.limit_in_bytes");
	CLEANUP_FD int fd = -1;

	if (mkdir(path, 0700) == 0) {
		fd = open(limit, O_WRONLY);
		if (fd >= 0 && write(fd, "16777216", 8) == 8)
			return path;
		rmdir(path);
	}
	free(path);
	return NULL;
}

START_TEST(oom__killed_for_memory__counted)
{
	CLEANUP_FREE char *group = small_cgroup(), *procs = NULL, *text = NULL;
	struct oom_count count;
	int go[2], status;
	pid_t pid;
	char byte;

	if (group == NULL) {
		printf("# no memory cgroup can be made here\n");
		return;
	}
	procs = fs_join(group, "cgroup.procs");
	ck_assert_int_eq(pipe(go), 0);
	pid = fork();
	if (pid == 0) {
		if (read(go[0], &byte, 1) != 1)
			_exit(1);
		for (size_t i = 0; i < 1024; i++)
			memset(xmalloc(1 << 20), 1, 1 << 20);
		_exit(0);
	}
	text = xasprintf("%d", (int)pid);
	ck_assert_int_eq(fs_append(procs, text, strlen(text), 0600, NULL), 0);
	oom_watch(pid, &count);
	ck_assert(count.path != NULL && !oom_happened(&count));
	ck_assert_int_eq(write(go[1], "x", 1), 1);
	waitpid(pid, &status, 0);
	ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	ck_assert(oom_happened(&count));
	oom_done(&count);
	close(go[0]);
	close(go[1]);
	rmdir(group);
}
END_TEST

/* A private file system that can be full; false: this host lets us mount nothing. */
static bool
mount_small(const char *where)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return false;
	return mount("tmpfs", where, "tmpfs", 0, "size=120m") == 0;
}

/* In a child, because the mount name space is for good. */
static int
run_no_space(void)
{
	struct fixture f;
	struct box box;
	CLEANUP_FREE char *filler = NULL;
	uint64_t room;
	int fd;

	setup(&f, "tcg");
	if (!mount_small(f.top))
		return 77;
	box_open(&box, &f, "1", &guest_writer);
	box_prepare(&box);
	filler = fs_join(f.top, "filler");
	fd = open(filler, O_WRONLY | O_CREAT | O_EXCL, 0600);
	ck_assert_int_eq(fs_free_bytes(f.top, &room, NULL), 0);
	ck_assert_int_eq(posix_fallocate(fd, 0, (off_t)room - (1 << 20)), 0);
	MUST(&box, f.ops->launch(box.m, on_done, &box));
	MUST(&box, f.ops->run(box.m, on_done, &box));
	UNTIL(&f, strstr(box.events, "NO_SPACE") != NULL);
	ck_assert_str_eq(box.events, "RESUMED NO_SPACE ");
	ck_assert_int_eq(f.ops->state(box.m), HV_NO_SPACE);
	/* Another daemon sees the same. */
	f.ops->close(box.m);
	box.m = f.ops->open(f.hv, &box.config, on_event, &box);
	MUST(&box, f.ops->adopt(box.m, NULL, on_done, &box));
	ck_assert_int_eq(f.ops->state(box.m), HV_NO_SPACE);
	/* With room again it goes on. */
	ck_assert_int_eq(ftruncate(fd, 0), 0);
	box.events[0] = '\0';
	MUST(&box, f.ops->resume(box.m, on_done, &box));
	ck_assert_int_eq(f.ops->state(box.m), HV_RUNNING);
	box_close(&box);
	close(fd);
	umount2(f.top, MNT_DETACH);
	finish(&f);
	return 0;
}

START_TEST(qemu__disk_full__paused_and_told)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(run_no_space());
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
		printf("# mounts are not allowed here: a full disk was not tried\n");
		return;
	}
	ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %d", status);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("qemu");

	UNIT_CASE(s, qemu__g20_whole_life__second_start_refused_nothing_left);
	UNIT_CASE(s, qemu__g07_guest_powers_off__seen_and_still_there);
	UNIT_CASE(s, qemu__g07_guest_panics__seen);
	UNIT_CASE(s, qemu__triple_fault__resets_are_told_slowly);
	UNIT_CASE(s, qemu__g22_ask_shutdown__a_suspended_guest_sees_its_button);
	UNIT_CASE(s, qemu__r02_killed__told_in_time_and_started_again);
	UNIT_CASE(s, qemu__g81_console__echo_survives_readers);
	UNIT_CASE(s, qemu__adopt__by_another_daemon);
	UNIT_CASE(s, qemu__adopt__from_the_launchers_record);
	UNIT_CASE(s, qemu__stopped__unresponsive_and_back);
	UNIT_CASE(s, qemu__g28_can_not_start__its_own_words);
	UNIT_CASE(s, qemu__g14_long_runtime_folder__refused_clearly);
	UNIT_CASE(s, qemu__ended_while_starting__cancelled_and_gone);
	UNIT_CASE(s, qemu__r25_eight_machines__ports_of_their_own);
	UNIT_CASE(s, qemu__g25_port_taken_meanwhile__another_one);
	UNIT_CASE(s, qemu__without_network__no_port);
	UNIT_CASE(s, qemu__auto__tells_why_it_emulates);
	UNIT_CASE(s, accel__trial__a_guest_really_runs);
	UNIT_CASE(s, accel__trial__kvm_is_bounded);
	UNIT_CASE(s, qemu__g27_kvm_fails_early__emulated_once_and_told);
	UNIT_CASE(s, oom__killed_for_memory__counted);
	UNIT_CASE(s, qemu__disk_full__paused_and_told);
	return unit_main(s);
}
