/* SPDX-License-Identifier: MPL-2.0
 *
 * vmm-switch: the switch of one private network (order.h).  vmmd starts it in a session of its own;
 * it notes who it is, confines itself, and passes frames on until it is told to end.  It needs
 * nobody for that: vmmd may come and go.  One thread; what goes wrong at the start goes to standard
 * error, which is the network's log. */
#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/fs.h"
#include "lib/base/jail.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/net/switch/control.h"

enum {
	EXIT_SWITCH = 126,
	ORDER_MAX = 1 << 20,
	ADDRESS_SPACE_MAX = 512 << 20,
	EVENTS = 64,
	AGE_MAX_MS = 30000,
};

static int
read_order(struct switch_order *ret_order, struct err *err)
{
	CLEANUP_JSON json_object *doc = NULL;
	CLEANUP_FREE char *text = NULL;
	int rc = fs_read_fd(STDIN_FILENO, "the order", ORDER_MAX, &text, NULL, err);

	if (rc != 0)
		return rc;
	doc = json_tokener_parse(text);
	if (!json_object_is_type(doc, json_type_object))
		return err_set(err, E_PARAMS, "the order is not a JSON object");
	return fields_decode_one(switch_order_fields, doc, ret_order, err);
}

static int
watch_parent(const struct switch_order *order, int signo, struct err *err)
{
	if (prctl(PR_SET_PDEATHSIG, signo) < 0)
		return err_errno(err, E_FAILED, errno, "can not watch the daemon");
	if ((uint64_t)getppid() != order->parent)
		return err_set(err, E_CANCELLED, "the daemon is gone");
	return 0;
}

static int
write_record(const struct switch_order *order, struct err *err)
{
	CLEANUP_FREE char *path = fs_join(order->dir, "switch.json");
	CLEANUP_JSON json_object *doc = NULL;
	struct switch_record record;
	struct process_id id;
	const char *text;
	int rc = process_identify(getpid(), &id, err);

	if (rc != 0)
		return rc;
	record = (struct switch_record){ .pid = (uint64_t)id.pid,
		.start_time = id.start_time,
		.exe_dev = id.exe_dev,
		.exe_ino = id.exe_ino,
		.boot_id = id.boot_id,
		.generation = order->generation };
	doc = fields_encode(switch_record_fields, &record);
	text = json_object_to_json_string_ext(doc, JSON_TEXT_FLAGS);
	return fs_write(path, text, strlen(text), 0600, err);
}

static int
confine(const struct switch_order *order, struct err *err)
{
	const char *const sockets[] = { order->dir, NULL };
	const struct jail_self self = { .sockets = sockets,
		.limits.address_space_bytes = ADDRESS_SPACE_MAX };

	return jail_enter(&self, err);
}

/* Its frames come and go by the sockets of its ports, so the listener has to be one and no more. */
static int
check_listener(struct err *err)
{
	int listening = 0;
	socklen_t len = sizeof(listening);

	if (getsockopt(SWITCH_CONTROL_FD, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) < 0 ||
	    !listening || !fs_unblock(SWITCH_CONTROL_FD))
		return err_set(err, E_PARAMS, "there is no control socket");
	return 0;
}

static int
make_wire(const struct switch_order *order, struct wire **ret_wire, struct err *err)
{
	const struct switch_port_order *ports = order->ports.items;
	struct wire *w = NULL;
	int rc = wire_create(order->dir, fabric_create(order->mtu, order->ageing_ms), &w, err);

	for (size_t i = 0; rc == 0 && i < order->ports.count; i++)
		rc = wire_add(w, (unsigned)ports[i].port, ports[i].mac, err);
	if (rc == 0)
		*ret_wire = TAKE(w);
	wire_destroy(w);
	return rc;
}

static int
watch_signals(int epoll, int *ret_fd, struct err *err)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = wire_tag(WIRE_SIGNAL, 0) };
	CLEANUP_FD int fd = -1;
	sigset_t ends;

	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGINT);
	sigprocmask(SIG_BLOCK, &ends, NULL);
	fd = signalfd(-1, &ends, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) < 0)
		return err_errno(err, E_LIMIT, errno, "can not wait for signals");
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* False: it is to end. */
static bool
on_event(struct wire *w, struct control *control, uint64_t tag, uint64_t now_ms)
{
	unsigned number = (unsigned)(tag & 0xffffffff);

	switch ((enum wire_kind)(tag >> 32)) {
	case WIRE_IN:
		wire_on_input(w, number, now_ms);
		break;
	case WIRE_OUT:
		wire_on_room(w, number, now_ms);
		break;
	case WIRE_LISTENER:
		control_on_connection(control);
		break;
	case WIRE_CLIENT:
		control_on_client(control, number, now_ms);
		break;
	case WIRE_SIGNAL:
		return false;
	}
	return true;
}

/* One batch of one port at a time, so that a busy one does not keep the others waiting. */
static void
run(struct wire *w, struct control *control)
{
	struct macs *macs = &w->fabric->macs;
	const uint64_t quarter_ms = macs->ageing_ms / 4 + 1;
	const int age_ms = quarter_ms < AGE_MAX_MS ? (int)quarter_ms : AGE_MAX_MS;
	uint64_t aged_ms = clock_ms();
	bool goes_on = true;

	while (goes_on) {
		struct epoll_event events[EVENTS];
		int n = epoll_wait(w->epoll, events, EVENTS, macs->count > 0 ? age_ms : -1);
		uint64_t now_ms = clock_ms();

		for (int i = 0; goes_on && i < n; i++)
			goes_on = on_event(w, control, events[i].data.u64, now_ms);
		if (now_ms - aged_ms >= (uint64_t)age_ms) {
			macs_age(macs, now_ms);
			aged_ms = now_ms;
		}
	}
}

static int
serve(const struct switch_order *order, struct err *err)
{
	struct control *control = NULL;
	struct wire *w = NULL;
	CLEANUP_FD int signals = -1;
	int rc = make_wire(order, &w, err);

	if (rc == 0)
		rc = watch_signals(w->epoll, &signals, err);
	if (rc == 0)
		rc = control_create(w, order->generation, SWITCH_CONTROL_FD, &control, err);
	/* The record tells of it, so it may outlive the daemon. */
	if (rc == 0)
		rc = watch_parent(order, 0, err);
	if (rc == 0)
		run(w, control);
	control_destroy(control);
	wire_destroy(w);
	return rc;
}

int
main(void)
{
	struct switch_order order = { 0 };
	struct err err = ERR_INIT;
	int rc;

	umask(077);
	process_raise_fd_limit();
	rc = read_order(&order, &err);
	if (rc == 0)
		rc = watch_parent(&order, SIGKILL, &err);
	if (rc == 0)
		rc = check_listener(&err);
	if (rc == 0)
		rc = write_record(&order, &err);
	if (rc == 0)
		rc = confine(&order, &err);
	if (rc == 0)
		rc = serve(&order, &err);
	if (rc != 0)
		fprintf(stderr, "vmm-switch: %s\n", err.msg);
	fields_release(switch_order_fields, &order);
	return rc == 0 ? EXIT_SUCCESS : EXIT_SWITCH;
}
