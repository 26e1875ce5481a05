/* SPDX-License-Identifier: MPL-2.0
 *
 * The real vmm-switch, with datagram sockets in the place of machines. */
#include "lib/net/switch.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/fs.h"
#include "lib/base/jail.h"
#include "lib/base/json.h"
#include "lib/base/landlock.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/process.h"
#include "lib/base/str.h"
#include "tests/unit/unit.h"

enum { WAIT_MS = 20000, QUIET_MS = 60, STATIONS = 64, FRAME = 100 };

struct fixture {
	struct loop *loop;
	struct timer *deadline;
	struct net_switch_config config;
	struct net_switch *sw;
	char *dir;
	int stations[STATIONS];
	int answers, ups, downs;
	bool late;
	struct err err;
	json_object *status;
};

/* ---- the daemon's side ---- */

static void
on_late(void *arg)
{
	struct fixture *f = arg;

	f->late = true;
	loop_stop(f->loop);
}

static void
on_done(void *arg, const struct err *err)
{
	struct fixture *f = arg;

	f->err = err != NULL ? *err : (struct err)ERR_INIT;
	f->answers++;
	loop_stop(f->loop);
}

static void
on_status(void *arg, json_object *status, const struct err *err)
{
	struct fixture *f = arg;

	json_object_put(f->status);
	f->status = json_object_get(status);
	on_done(f, err);
}

static void
on_event(void *arg, enum net_switch_event event, const char *detail)
{
	struct fixture *f = arg;

	*(event == NET_SWITCH_UP ? &f->ups : &f->downs) += 1;
	loop_stop(f->loop);
}

#define AWAIT(f, condition)                                                                        \
	do {                                                                                       \
		timer_arm((f)->deadline, WAIT_MS);                                                 \
		while (!(condition)) {                                                             \
			loop_run((f)->loop);                                                       \
			ck_assert_msg(!(f)->late, "late: %s: %s", #condition, (f)->err.msg);       \
		}                                                                                  \
		timer_disarm((f)->deadline);                                                       \
	} while (0)

#define CALL(f, call, wanted)                                                                      \
	do {                                                                                       \
		int before_ = (f)->answers;                                                        \
		call;                                                                              \
		AWAIT(f, (f)->answers > before_);                                                  \
		ck_assert_int_eq((f)->answers, before_ + 1);                                       \
		ck_assert_msg(                                                                     \
		    (int)(f)->err.code == (wanted), "%d: %s", (f)->err.code, (f)->err.msg);        \
	} while (0)

static char *
address_of(unsigned port)
{
	return xasprintf("52:54:00:00:00:%02x", port);
}

static void
setup(struct fixture *f, unsigned ports, bool bound)
{
	char dir[] = "/tmp/sw-XXXXXX";

	memset(f, 0, sizeof(*f));
	ck_assert_ptr_nonnull(mkdtemp(dir));
	f->dir = xstrdup(dir);
	f->loop = loop_create();
	f->deadline = timer_create_on(f->loop, on_late, f);
	f->config = (struct net_switch_config){
		.loop = f->loop, .program = getenv("VMM_SWITCH"), .dir = f->dir
	};
	ck_assert_ptr_nonnull(f->config.program);
	f->sw = net_switch_open(&f->config, on_event, f);
	for (unsigned i = 0; i < STATIONS; i++)
		f->stations[i] = -1;
	for (unsigned i = 0; i < ports; i++) {
		CLEANUP_FREE char *mac = address_of(i);

		net_switch_add(f->sw, i, bound ? mac : NULL, NULL, NULL);
	}
	CALL(f, net_switch_start(f->sw, on_done, f), 0);
	ck_assert_int_gt(net_switch_pid(f->sw), 0);
}

static void
finish(struct fixture *f)
{
	pid_t pid = net_switch_pid(f->sw);

	CALL(f, net_switch_stop(f->sw, on_done, f), 0);
	ck_assert(pid == 0 || kill(pid, 0) < 0);
	net_switch_close(f->sw);
	for (unsigned i = 0; i < STATIONS; i++)
		if (f->stations[i] >= 0)
			close(f->stations[i]);
	json_object_put(f->status);
	timer_destroy(f->deadline);
	loop_flush(f->loop);
	loop_destroy(f->loop);
	fs_remove_tree(f->dir, NULL);
	free(f->dir);
}

static json_object *
port_row(struct fixture *f, unsigned port)
{
	json_object *ports = NULL;

	CALL(f, net_switch_status(f->sw, on_status, f), 0);
	json_object_object_get_ex(f->status, "ports", &ports);
	for (size_t i = 0; i < json_object_array_length(ports); i++) {
		json_object *row = json_object_array_get_idx(ports, i);

		if (json_int(row, "port") == port)
			return row;
	}
	return NULL;
}

static int64_t
dropped(struct fixture *f, unsigned port, const char *why)
{
	json_object *drops = NULL;

	json_object_object_get_ex(port_row(f, port), "drops", &drops);
	return json_int(drops, why);
}

/* ---- the machines' side ---- */

static struct sockaddr_un
at(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	return address;
}

/* As QEMU does it: what is at the path goes. */
static void
station(struct fixture *f, unsigned port)
{
	CLEANUP_FREE char *path = net_switch_station_path(f->dir, port);
	struct sockaddr_un address = at(path);

	if (f->stations[port] >= 0)
		close(f->stations[port]);
	unlink(path);
	f->stations[port] = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(f->stations[port], (struct sockaddr *)&address, sizeof(address)), 0);
}

static ssize_t
send_bytes(struct fixture *f, unsigned port, const void *data, size_t len, int flags)
{
	CLEANUP_FREE char *path = net_switch_path(f->dir, port);
	struct sockaddr_un address = at(path);

	return sendto(
	    f->stations[port], data, len, flags, (struct sockaddr *)&address, sizeof(address));
}

static void
fill(unsigned char *frame, int to, unsigned from, unsigned number)
{
	memset(frame, 0, FRAME);
	memset(frame, to < 0 ? 0xff : 0, 6);
	if (to >= 0)
		memcpy(frame, (unsigned char[]){ 0x52, 0x54, 0, 0, 0, (unsigned char)to }, 6);
	memcpy(frame + 6, (unsigned char[]){ 0x52, 0x54, 0, 0, 0, (unsigned char)from }, 6);
	memcpy(frame + 20, &number, sizeof(number));
}

static void
send_frame(struct fixture *f, unsigned port, int to, unsigned from, unsigned number)
{
	unsigned char frame[FRAME];

	fill(frame, to, from, number);
	ck_assert_int_eq(send_bytes(f, port, frame, FRAME, 0), FRAME);
}

/* -1: nothing came. */
static int
receive(struct fixture *f, unsigned port, int timeout_ms)
{
	struct pollfd ready = { .fd = f->stations[port], .events = POLLIN };
	unsigned char frame[FRAME + 1];
	unsigned number;

	if (poll(&ready, 1, timeout_ms) <= 0)
		return -1;
	ck_assert_int_eq(recv(f->stations[port], frame, sizeof(frame), 0), FRAME);
	memcpy(&number, frame + 20, sizeof(number));
	return (int)number;
}

#define HEARS(f, port, number) ck_assert_int_eq(receive(f, port, WAIT_MS), number)
#define SILENT(f, port) ck_assert_int_eq(receive(f, port, QUIET_MS), -1)

/* ---- cases ---- */

START_TEST(switch__frames__flooded_then_learnt)
{
	struct fixture f;

	setup(&f, 3, false);
	for (unsigned i = 0; i < 3; i++)
		station(&f, i);
	send_frame(&f, 0, -1, 0, 1);
	HEARS(&f, 1, 1);
	HEARS(&f, 2, 1);
	send_frame(&f, 1, 0, 1, 2);
	HEARS(&f, 0, 2);
	SILENT(&f, 2);
	SILENT(&f, 1);
	finish(&f);
}
END_TEST

START_TEST(switch__ageing__flooded_again)
{
	struct fixture f;
	uint64_t until = clock_ms() + WAIT_MS;
	int heard = -1;

	setup(&f, 2, false);
	CALL(&f, net_switch_stop(f.sw, on_done, &f), 0);
	net_switch_close(f.sw);
	f.config.ageing_ms = 40;
	f.sw = net_switch_open(&f.config, on_event, &f);
	for (unsigned i = 0; i < 3; i++) {
		net_switch_add(f.sw, i, NULL, NULL, NULL);
		station(&f, i);
	}
	CALL(&f, net_switch_start(f.sw, on_done, &f), 0);
	send_frame(&f, 0, -1, 0, 1);
	HEARS(&f, 1, 1);
	HEARS(&f, 2, 1);
	while (heard < 0 && clock_ms() < until) {
		send_frame(&f, 1, 0, 1, 2);
		heard = receive(&f, 2, 10);
	}
	ck_assert_int_eq(heard, 2);
	finish(&f);
}
END_TEST

START_TEST(switch__bound_port__spoofed_frames_dropped)
{
	struct fixture f;

	setup(&f, 2, true);
	station(&f, 0);
	station(&f, 1);
	send_frame(&f, 0, -1, 7, 1);
	send_frame(&f, 0, -1, 1, 2);
	send_frame(&f, 0, -1, 0, 3);
	HEARS(&f, 1, 3);
	ck_assert_int_eq(dropped(&f, 0, "spoofed"), 2);
	CALL(&f, net_switch_add(f.sw, 2, "52:54:00:00:00:01", on_done, &f), E_EXISTS);
	CALL(&f, net_switch_add(f.sw, 2, "ff:ff:ff:ff:ff:ff", on_done, &f), E_PARAMS);
	CALL(&f, net_switch_add(f.sw, 2, "52:54:00:00:00:07", on_done, &f), 0);
	finish(&f);
}
END_TEST

START_TEST(switch__full_station__others_go_on)
{
	enum { FRAMES = 2000 };
	struct fixture f;
	int got = 0, last = -1;

	setup(&f, 3, true);
	for (unsigned i = 0; i < 3; i++)
		station(&f, i);
	for (int i = 0; i < FRAMES; i++) {
		send_frame(&f, 0, -1, 0, (unsigned)i);
		HEARS(&f, 1, i);
	}
	ck_assert_int_gt(dropped(&f, 2, "full"), 0);
	/* The queue reaches it without anybody sending: the kernel tells that there is room. */
	while ((last = receive(&f, 2, QUIET_MS)) >= 0) {
		ck_assert_int_eq(last, got);
		got++;
	}
	ck_assert_int_ge(got, 256);
	ck_assert_int_eq(got + dropped(&f, 2, "full"), FRAMES);
	send_frame(&f, 0, 2, 0, 4711);
	HEARS(&f, 2, 4711);
	finish(&f);
}
END_TEST

static void
wait_for_up(struct fixture *f, int ups)
{
	AWAIT(f, f->ups == ups);
	ck_assert_int_eq(f->downs, ups);
}

START_TEST(switch__killed__started_again_with_its_ports)
{
	struct fixture f;
	pid_t pid;

	setup(&f, 3, true);
	for (unsigned i = 0; i < 3; i++)
		station(&f, i);
	for (int round = 1; round <= 3; round++) {
		pid = net_switch_pid(f.sw);
		send_frame(&f, 0, 1, 0, (unsigned)round);
		HEARS(&f, 1, round);
		ck_assert_int_eq(kill(pid, SIGKILL), 0);
		wait_for_up(&f, round);
		ck_assert_int_ne(net_switch_pid(f.sw), pid);
		/* The stations have done nothing. */
		send_frame(&f, 0, 1, 0, 100);
		HEARS(&f, 1, 100);
		send_frame(&f, 2, -1, 2, 101);
		HEARS(&f, 0, 101);
		HEARS(&f, 1, 101);
		send_frame(&f, 0, -1, 1, 102); /* what it may send is known still */
		SILENT(&f, 1);
	}
	finish(&f);
}
END_TEST

START_TEST(switch__added_while_down__there_afterwards)
{
	struct fixture f;
	pid_t pid;

	setup(&f, 1, false);
	pid = net_switch_pid(f.sw);
	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	AWAIT(&f, f.downs == 1);
	CALL(&f, net_switch_status(f.sw, on_status, &f), E_STATE);
	CALL(&f, net_switch_add(f.sw, 9, NULL, on_done, &f), 0);
	wait_for_up(&f, 1);
	ck_assert_ptr_nonnull(port_row(&f, 9));
	CALL(&f, net_switch_remove(f.sw, 9, on_done, &f), 0);
	ck_assert_ptr_null(port_row(&f, 9));
	CALL(&f, net_switch_remove(f.sw, 9, on_done, &f), E_NOT_FOUND);
	finish(&f);
}
END_TEST

START_TEST(switch__station_restarted__frames_flow_to_the_new_one)
{
	struct fixture f;
	uint64_t until = clock_ms() + WAIT_MS;
	int heard = -1;

	setup(&f, 2, true);
	station(&f, 0);
	station(&f, 1);
	send_frame(&f, 0, 1, 0, 1);
	HEARS(&f, 1, 1);
	station(&f, 1);
	send_frame(&f, 0, 1, 0, 2); /* the next frame already */
	HEARS(&f, 1, 2);
	close(f.stations[1]);
	f.stations[1] = -1;
	send_frame(&f, 0, 1, 0, 3);
	ck_assert_int_eq(dropped(&f, 1, "away"), 1);
	station(&f, 1);
	while (heard < 0 && clock_ms() < until) {
		send_frame(&f, 0, 1, 0, 4);
		heard = receive(&f, 1, 20);
	}
	ck_assert_int_eq(heard, 4);
	finish(&f);
}
END_TEST

START_TEST(switch__no_station_yet__nobody_waits)
{
	struct fixture f;

	setup(&f, 3, false);
	station(&f, 0);
	for (unsigned i = 0; i < 500; i++)
		send_frame(&f, 0, -1, 0, i);
	while (dropped(&f, 1, "away") < 500)
		;
	/* Sending tells that it is there: the next frame to it arrives. */
	station(&f, 1);
	send_frame(&f, 1, 0, 1, 7);
	HEARS(&f, 0, 7);
	send_frame(&f, 0, 1, 0, 8);
	HEARS(&f, 1, 8);
	finish(&f);
}
END_TEST

START_TEST(switch__daemon_gone__adopted_by_the_next)
{
	struct fixture f;
	pid_t pid;

	setup(&f, 3, true);
	station(&f, 0);
	station(&f, 1);
	pid = net_switch_pid(f.sw);
	net_switch_close(f.sw);
	send_frame(&f, 0, 1, 0, 1);
	HEARS(&f, 1, 1);
	f.sw = net_switch_open(&f.config, on_event, &f);
	/* Port 2 is not wanted any more, 1 has another address, 5 is new. */
	net_switch_add(f.sw, 0, "52:54:00:00:00:00", NULL, NULL);
	net_switch_add(f.sw, 1, "52:54:00:00:00:11", NULL, NULL);
	net_switch_add(f.sw, 5, NULL, NULL, NULL);
	CALL(&f, net_switch_start(f.sw, on_done, &f), E_STATE);
	net_switch_adopt(f.sw, on_done, &f);
	/* Asked for before it is known what there is. */
	net_switch_add(f.sw, 6, NULL, on_done, &f);
	AWAIT(&f, f.answers == 4);
	ck_assert_msg(f.err.code == E_OK, "%s", f.err.msg);
	ck_assert_int_eq(net_switch_pid(f.sw), pid);
	ck_assert_ptr_nonnull(port_row(&f, 6));
	ck_assert_ptr_null(port_row(&f, 2));
	ck_assert_ptr_nonnull(port_row(&f, 5));
	ck_assert_str_eq(json_string(port_row(&f, 1), "mac"), "52:54:00:00:00:11");
	send_frame(&f, 0, -1, 0, 2);
	HEARS(&f, 1, 2);
	/* It is watched: its end is seen, and mended. */
	ck_assert_int_eq(kill(pid, SIGKILL), 0);
	wait_for_up(&f, 1);
	ck_assert_ptr_nonnull(port_row(&f, 6));
	send_frame(&f, 0, -1, 0, 3);
	HEARS(&f, 1, 3);
	finish(&f);
}
END_TEST

START_TEST(switch__gone_or_not_the_one__not_adopted)
{
	struct fixture f;
	CLEANUP_FREE char *path = NULL, *text = NULL, *other = NULL;

	setup(&f, 1, false);
	path = fs_join(f.dir, "switch.json");
	ck_assert_int_eq(fs_read(path, 4096, &text, NULL, NULL), 0);
	CALL(&f, net_switch_stop(f.sw, on_done, &f), 0);
	CALL(&f, net_switch_adopt(f.sw, on_done, &f), E_NOT_FOUND);
	ck_assert_int_eq(fs_write(path, text, strlen(text), 0600, NULL), 0);
	CALL(&f, net_switch_adopt(f.sw, on_done, &f), E_NOT_FOUND);
	/* A pid that is another process's now: this one's. */
	other = xasprintf(
	    "{\"pid\": %d, \"start_time\": 1, \"boot_id\": \"%s\", \"generation\": \"g\"}",
	    (int)getpid(), process_boot_id());
	ck_assert_int_eq(fs_write(path, other, strlen(other), 0600, NULL), 0);
	CALL(&f, net_switch_adopt(f.sw, on_done, &f), E_NOT_FOUND);
	ck_assert_int_eq(fs_write(path, "nonsense", 8, 0600, NULL), 0);
	CALL(&f, net_switch_adopt(f.sw, on_done, &f), E_NOT_FOUND);
	finish(&f);
}
END_TEST

START_TEST(switch__does_not_answer__watched_and_not_killed)
{
	struct fixture f;
	pid_t pid;

	setup(&f, 1, false);
	pid = net_switch_pid(f.sw);
	net_switch_close(f.sw);
	ck_assert_int_eq(kill(pid, SIGSTOP), 0);
	f.sw = net_switch_open(&f.config, on_event, &f);
	CALL(&f, net_switch_adopt(f.sw, on_done, &f), E_UNRESPONSIVE);
	ck_assert_int_eq(kill(pid, SIGCONT), 0);
	AWAIT(&f, f.ups == 1);
	ck_assert_ptr_null(port_row(&f, 0)); /* it was not wanted this time */
	finish(&f);
}
END_TEST

START_TEST(switch__closed__callbacks_once)
{
	struct fixture f;

	setup(&f, 1, false);
	f.answers = 0;
	net_switch_add(f.sw, 2, NULL, on_done, &f);
	net_switch_status(f.sw, on_status, &f);
	net_switch_remove(f.sw, 77, on_done, &f);
	net_switch_stop(f.sw, on_done, &f);
	net_switch_close(f.sw);
	ck_assert_int_eq(f.answers, 4);
	ck_assert_int_eq(f.err.code, E_CANCELLED);
	loop_flush(f.loop);
	ck_assert_int_eq(f.answers, 4);
	f.sw = net_switch_open(&f.config, on_event, &f);
	/* Asked to end it was; whether it has is a race that either side may win. */
	f.answers = 0;
	net_switch_adopt(f.sw, on_done, &f);
	AWAIT(&f, f.answers == 1);
	finish(&f);
}
END_TEST

START_TEST(switch__can_not_start__told_in_its_words)
{
	struct fixture f;
	CLEANUP_FREE char *path = NULL;
	struct sockaddr_un address;
	CLEANUP_FD int holder = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	setup(&f, 0, false);
	CALL(&f, net_switch_stop(f.sw, on_done, &f), 0);
	path = net_switch_path(f.dir, 3);
	address = at(path);
	ck_assert_int_eq(bind(holder, (struct sockaddr *)&address, sizeof(address)), 0);
	CALL(&f, net_switch_add(f.sw, 3, NULL, on_done, &f), 0);
	CALL(&f, net_switch_start(f.sw, on_done, &f), E_FAILED);
	ck_assert_ptr_nonnull(strstr(f.err.msg, "is used by another process"));
	ck_assert_int_eq(net_switch_pid(f.sw), 0);
	/* Nobody holds the name any more: it is taken over. */
	close(TAKE_FD(holder));
	CALL(&f, net_switch_start(f.sw, on_done, &f), 0);
	finish(&f);
}
END_TEST

START_TEST(switch__64_ports__each_to_each)
{
	struct fixture f;

	setup(&f, STATIONS, true);
	for (unsigned i = 0; i < STATIONS; i++)
		station(&f, i);
	for (unsigned i = 0; i < STATIONS; i++) {
		unsigned to =
		    (i * 7 + 1) % STATIONS == i ? (i + 1) % STATIONS : (i * 7 + 1) % STATIONS;

		send_frame(&f, i, (int)to, i, i);
		HEARS(&f, to, (int)i);
	}
	send_frame(&f, 5, -1, 5, 999);
	for (unsigned i = 0; i < STATIONS; i++)
		if (i != 5)
			HEARS(&f, i, 999);
	SILENT(&f, 5);
	finish(&f);
}
END_TEST

START_TEST(switch__hostile_frames__counted_and_survived)
{
	struct fixture f;
	unsigned char big[65536] = { 0 };
	pid_t pid;

	setup(&f, 2, false);
	station(&f, 0);
	station(&f, 1);
	pid = net_switch_pid(f.sw);
	memset(big, 2, sizeof(big));
	for (size_t len = 0; len < 14; len++)
		ck_assert_int_eq(send_bytes(&f, 0, big, len, 0), (ssize_t)len);
	for (size_t len = 1519; len <= sizeof(big); len += 4001)
		ck_assert_int_eq(send_bytes(&f, 0, big, len, 0), (ssize_t)len);
	send_frame(&f, 0, -1, 0, 5);
	HEARS(&f, 1, 5);
	ck_assert_int_eq(dropped(&f, 0, "short"), 14);
	ck_assert_int_eq(dropped(&f, 0, "long"), 17);
	ck_assert_int_eq(net_switch_pid(f.sw), pid);
	finish(&f);
}
END_TEST

/* What a line gets; NULL: the connection was closed. */
static char *
control(struct fixture *f, const void *data, size_t len)
{
	CLEANUP_FREE char *path = fs_join(f->dir, "control");
	struct sockaddr_un address = at(path);
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct pollfd ready = { .fd = fd, .events = POLLIN };
	char answer[4096] = "";

	ck_assert_int_eq(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	send(fd, data, len, MSG_NOSIGNAL);
	ck_assert_int_eq(poll(&ready, 1, WAIT_MS), 1);
	return recv(fd, answer, sizeof(answer) - 1, 0) > 0 ? xstrdup(answer) : NULL;
}

START_TEST(switch__broken_lines__refused_and_survived)
{
	static const char *const lines[] = { "\n", "nonsense\n", "[]\n", "{}\n",
		"{\"do\": \"fly\"}\n", "{\"do\": \"add\", \"port\": 128}\n",
		"{\"do\": \"add\", \"port\": -1}\n",
		"{\"do\": \"add\", \"port\": 4, \"mac\": \"x\"}\n",
		"{\"do\": \"add\", \"extra\": 1}\n", "{\"do\": \"remove\", \"port\": 99}\n",
		"{\"do\": 7}\n" };
	struct fixture f;
	char *answer;
	char *big = xmalloc(1 << 16);
	pid_t pid;

	setup(&f, 1, false);
	pid = net_switch_pid(f.sw);
	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		answer = control(&f, lines[i], strlen(lines[i]));
		ck_assert_msg(answer != NULL && strstr(answer, "\"ok\":false") != NULL, "%s: %s",
		    lines[i], answer);
		free(answer);
	}
	answer = control(&f, "{\"do\": \"status\"}\0\n", 18);
	ck_assert_ptr_nonnull(strstr(answer, "zero byte"));
	free(answer);
	memset(big, 'x', 1 << 16);
	ck_assert_ptr_null(control(&f, big, 1 << 16));
	free(big);
	ck_assert_ptr_nonnull(port_row(&f, 0));
	ck_assert_int_eq(net_switch_pid(f.sw), pid);
	finish(&f);
}
END_TEST

static bool
status_has(pid_t pid, const char *line)
{
	CLEANUP_FREE char *path = xasprintf("/proc/%d/status", (int)pid), *text = NULL;

	return fs_read(path, 65536, &text, NULL, NULL) == 0 && strstr(text, line) != NULL;
}

START_TEST(switch__confined__no_privileges_and_a_filter)
{
	struct fixture f;
	pid_t pid;

	setup(&f, 1, false);
	pid = net_switch_pid(f.sw);
	ck_assert(status_has(pid, "NoNewPrivs:\t1"));
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	ck_assert(status_has(pid, "CapEff:\t0000000000000000"));
	ck_assert(status_has(pid, "Seccomp:\t2"));
#endif
	ck_assert_int_eq(getsid(pid), pid);
	finish(&f);
}
END_TEST

static bool
can_bind(const char *dir, const char *name)
{
	CLEANUP_FREE char *path = fs_join(dir, name);
	struct sockaddr_un address = at(path);
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_DGRAM, 0);

	return fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
	       unlink(path) == 0;
}

/* In a child that confined itself as the switch does: the bits of what it can. */
static int
try_confined(const char *dir)
{
	const char *const sockets[] = { dir, NULL };
	const struct jail_self self = { .sockets = sockets };
	CLEANUP_FREE char *file = fs_join(dir, "file");

	if (jail_enter(&self, NULL) != 0)
		return 255;
	return can_bind(dir, "socket") | can_bind("/tmp", "switch-test-outside") << 1 |
	       (socket(AF_INET, SOCK_DGRAM, 0) >= 0) << 2 |
	       (open(file, O_WRONLY | O_CREAT, 0600) >= 0) << 3 |
	       (open("/etc/passwd", O_RDONLY) >= 0) << 4 | (fork() >= 0) << 5;
}

START_TEST(switch__its_jail__sockets_in_its_folder_alone)
{
	char dir[] = "/tmp/sw-XXXXXX";
	int status = 0;
	pid_t pid;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	printf("# a sanitizer is not confined\n");
	return;
#endif
	ck_assert_ptr_nonnull(mkdtemp(dir));
	fflush(stdout);
	pid = fork();
	if (pid == 0)
		_exit(try_confined(dir));
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	ck_assert_int_eq(WEXITSTATUS(status), landlock_abi() > 0 ? 1 : 1 | 2 | 8 | 16);
	fs_remove_tree(dir, NULL);
}
END_TEST

/* In a child that is confined as an emulator is: the bits of what it can. */
static int
try_as_station(const char *own, const char *other, const char *end)
{
	CLEANUP_FD int rules = -1;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
	    landlock_create(LANDLOCK_TCP_NONE, &rules, NULL) != 0 ||
	    landlock_allow(rules, own,
		LANDLOCK_READ | LANDLOCK_WRITE | LANDLOCK_MAKE | LANDLOCK_BIND, NULL) != 0 ||
	    landlock_enforce(rules, NULL) != 0)
		return 255;
	return can_bind(own, "vm2") | (unlink(other) == 0) << 1 | (unlink(end) == 0) << 2;
}

START_TEST(switch__confined_station__can_not_take_another_away)
{
	struct fixture f;
	CLEANUP_FREE char *path = NULL, *folder = NULL, *other = NULL, *end = NULL;
	int status = 0;
	pid_t pid;

	setup(&f, 2, true);
	station(&f, 0);
	station(&f, 1);
	path = net_switch_station_path(f.dir, 0);
	folder = fs_dirname(path);
	other = net_switch_station_path(f.dir, 1);
	end = net_switch_path(f.dir, 0);
	fflush(stdout);
	pid = fork();
	if (pid == 0)
		_exit(try_as_station(folder, other, end));
	ck_assert_int_eq(waitpid(pid, &status, 0), pid);
	if (landlock_abi() > 0)
		ck_assert_int_eq(WEXITSTATUS(status), 1);
	finish(&f);
}
END_TEST

START_TEST(switch__folder_of_a_port__comes_and_goes_with_it)
{
	struct fixture f;
	CLEANUP_FREE char *path = NULL, *folder = NULL, *more = NULL;
	struct stat st;

	setup(&f, 2, false);
	path = net_switch_station_path(f.dir, 1);
	folder = fs_dirname(path);
	ck_assert(stat(folder, &st) == 0 && S_ISDIR(st.st_mode) && (st.st_mode & 0777) == 0700);
	station(&f, 1);
	/* The switch is started again: what its machines have stays. */
	CALL(&f, net_switch_stop(f.sw, on_done, &f), 0);
	ck_assert(fs_exists(path));
	CALL(&f, net_switch_start(f.sw, on_done, &f), 0);
	send_frame(&f, 1, -1, 1, 1);
	station(&f, 0);
	send_frame(&f, 0, 1, 0, 2);
	HEARS(&f, 1, 2);
	/* Whatever its emulator left. */
	more = fs_join(folder, "left");
	ck_assert_int_eq(fs_write(more, "x", 1, 0600, NULL), 0);
	CALL(&f, net_switch_remove(f.sw, 1, on_done, &f), 0);
	ck_assert(!fs_exists(folder));
	CALL(&f, net_switch_add(f.sw, 1, NULL, on_done, &f), 0);
	ck_assert(fs_exists(folder));
	/* Cleared by somebody: made again. */
	CALL(&f, net_switch_stop(f.sw, on_done, &f), 0);
	ck_assert_int_eq(fs_remove_tree(folder, NULL), 0);
	CALL(&f, net_switch_start(f.sw, on_done, &f), 0);
	ck_assert(fs_exists(folder));
	/* A port that nobody wants any more, as after another daemon. */
	CALL(&f, net_switch_remove(f.sw, 1, on_done, &f), 0);
	ck_assert_int_eq(mkdir(folder, 0700), 0);
	CALL(&f, net_switch_stop(f.sw, on_done, &f), 0);
	ck_assert(!fs_exists(folder));
	finish(&f);
}
END_TEST

START_TEST(switch__no_folder_for_a_port__refused_and_not_noted)
{
	struct fixture f;
	CLEANUP_FREE char *path = NULL;
	CLEANUP_FD int file = -1;

	setup(&f, 1, false);
	path = fs_join(f.dir, "p1");
	file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	ck_assert_int_ge(file, 0);
	CALL(&f, net_switch_add(f.sw, 1, NULL, on_done, &f), E_IO);
	ck_assert_ptr_nonnull(strstr(f.err.msg, path));
	ck_assert_int_eq(unlink(path), 0);
	CALL(&f, net_switch_add(f.sw, 1, NULL, on_done, &f), 0);
	finish(&f);
}
END_TEST

START_TEST(switch__stopped__leaves_nothing)
{
	static const char *const names[] = { "control", "switch.json", "switch.log", "p0.sw" };
	struct fixture f;

	setup(&f, 2, false);
	CALL(&f, net_switch_stop(f.sw, on_done, &f), 0);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		CLEANUP_FREE char *path = fs_join(f.dir, names[i]);

		ck_assert_msg(!fs_exists(path), "%s", path);
	}
	ck_assert_int_eq(f.downs, 0);
	for (unsigned i = 0; i < 2; i++)
		CALL(&f, net_switch_remove(f.sw, i, on_done, &f), 0);
	ck_assert_int_eq(rmdir(f.dir), 0);
	ck_assert_int_eq(mkdir(f.dir, 0700), 0);
	CALL(&f, net_switch_start(f.sw, on_done, &f), 0);
	finish(&f);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("switch");

	UNIT_CASE(s, switch__frames__flooded_then_learnt);
	UNIT_CASE(s, switch__ageing__flooded_again);
	UNIT_CASE(s, switch__bound_port__spoofed_frames_dropped);
	UNIT_CASE(s, switch__full_station__others_go_on);
	UNIT_CASE(s, switch__killed__started_again_with_its_ports);
	UNIT_CASE(s, switch__added_while_down__there_afterwards);
	UNIT_CASE(s, switch__station_restarted__frames_flow_to_the_new_one);
	UNIT_CASE(s, switch__no_station_yet__nobody_waits);
	UNIT_CASE(s, switch__daemon_gone__adopted_by_the_next);
	UNIT_CASE(s, switch__gone_or_not_the_one__not_adopted);
	UNIT_CASE(s, switch__does_not_answer__watched_and_not_killed);
	UNIT_CASE(s, switch__closed__callbacks_once);
	UNIT_CASE(s, switch__can_not_start__told_in_its_words);
	UNIT_CASE(s, switch__64_ports__each_to_each);
	UNIT_CASE(s, switch__hostile_frames__counted_and_survived);
	UNIT_CASE(s, switch__broken_lines__refused_and_survived);
	UNIT_CASE(s, switch__confined__no_privileges_and_a_filter);
	UNIT_CASE(s, switch__its_jail__sockets_in_its_folder_alone);
	UNIT_CASE(s, switch__confined_station__can_not_take_another_away);
	UNIT_CASE(s, switch__folder_of_a_port__comes_and_goes_with_it);
	UNIT_CASE(s, switch__no_folder_for_a_port__refused_and_not_noted);
	UNIT_CASE(s, switch__stopped__leaves_nothing);
	return unit_main(s);
}
