/* SPDX-License-Identifier: MPL-2.0
 *
 * The switch of a private network with real emulators: each announces its own address, which it
 * does without a guest, and dumps what reaches it. */
#include "lib/net/switch.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/fs.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/process.h"
#include "lib/base/str.h"
#include "tests/unit/unit.h"

enum { WAIT_MS = 20000, AGAIN_MS = 100, MACHINES = 2 };

struct emulator {
	pid_t pid;
	int monitor;
	char *dump;
};

struct fixture {
	struct loop *loop;
	struct timer *again;
	struct net_switch *sw;
	char *dir;
	struct emulator machines[MACHINES];
	int answers, ups;
};

static const unsigned char macs[MACHINES][6] = { { 0x52, 0x54, 0, 0, 0, 1 },
	{ 0x52, 0x54, 0, 0, 0, 2 } };
static const char *const mac_texts[MACHINES] = { "52:54:00:00:00:01", "52:54:00:00:00:02" };

static void
on_again(void *arg)
{
	loop_stop(arg);
}

static void
on_done(void *arg, const struct err *err)
{
	struct fixture *f = arg;

	ck_assert_msg(err == NULL, "%s", err != NULL ? err->msg : "");
	f->answers++;
	loop_stop(f->loop);
}

static void
on_event(void *arg, enum net_switch_event event, const char *detail)
{
	struct fixture *f = arg;

	f->ups += event == NET_SWITCH_UP;
	loop_stop(f->loop);
}

static void
start(struct fixture *f, unsigned i)
{
	struct emulator *m = &f->machines[i];
	CLEANUP_FREE char *ours = net_switch_station_path(f->dir, i);
	CLEANUP_FREE char *theirs = net_switch_path(f->dir, i);
	CLEANUP_FREE char *netdev =
	    xasprintf("dgram,id=n,local.type=unix,local.path=%s,remote.type=unix,remote.path=%s",
		ours, theirs);
	CLEANUP_FREE char *device = xasprintf("rtl8139,netdev=n,romfile=,mac=%s", mac_texts[i]);
	CLEANUP_FREE char *dump = xasprintf("filter-dump,id=d,netdev=n,file=%s", m->dump);
	const char *const argv[] = { "qemu-system-x86_64", "-nodefaults", "-display", "none",
		"-accel", "tcg", "-m", "16", "-netdev", netdev, "-device", device, "-object", dump,
		"-monitor", "stdio", NULL };
	struct process_spec spec = { .argv = argv, .stdout_fd = -1, .stderr_fd = STDERR_FILENO };
	struct err err = ERR_INIT;
	int ends[2];

	ck_assert_int_eq(fs_pipe(ends), 0);
	spec.stdin_fd = ends[0];
	ck_assert_msg(process_spawn(&spec, &m->pid, NULL, &err) == 0, "%s", err.msg);
	close(ends[0]);
	m->monitor = ends[1];
}

static void
end(struct emulator *m)
{
	struct process_exit how;
	int pidfd = -1;
	struct process_id id;

	ck_assert_int_eq(process_identify(m->pid, &id, NULL), 0);
	ck_assert_int_eq(process_open(&id, &pidfd, NULL), 0);
	ck_assert_int_eq(process_signal(m->pid, pidfd, SIGKILL), 0);
	ck_assert(process_reap(m->pid, pidfd, true, &how));
	close(pidfd);
	close(m->monitor);
}

static size_t
dump_size(const struct emulator *m)
{
	CLEANUP_FREE char *data = NULL;
	size_t len = 0;

	fs_read(m->dump, 1 << 20, &data, &len, NULL);
	return len;
}

/* `from` announces itself until `to` has heard of it, after what was in the dump before. */
static void
reaches(struct fixture *f, unsigned from, unsigned to)
{
	size_t before = dump_size(&f->machines[to]);
	uint64_t until = clock_ms() + WAIT_MS;

	while (clock_ms() < until) {
		CLEANUP_FREE char *data = NULL;
		size_t len = 0;

		ck_assert_int_eq(fs_write_all(f->machines[from].monitor, "announce_self\n", 14), 0);
		timer_arm(f->again, AGAIN_MS);
		loop_run(f->loop);
		if (fs_read(f->machines[to].dump, 1 << 20, &data, &len, NULL) == 0 &&
		    len > before && mem_find(data + before, len - before, macs[from], 6) != NULL)
			return;
	}
	ck_abort_msg("machine %u does not reach machine %u", from, to);
}

START_TEST(switch_qemu__two_machines__reach_each_other_over_every_restart)
{
	char dir[] = "/tmp/sq-XXXXXX";
	struct fixture f = { .loop = loop_create() };
	struct net_switch_config config = { .loop = f.loop, .program = getenv("VMM_SWITCH") };
	CLEANUP_FREE char *qemu = process_find("qemu-system-x86_64");

	ck_assert(qemu != NULL && config.program != NULL && mkdtemp(dir) != NULL);
	config.dir = f.dir = dir;
	f.again = timer_create_on(f.loop, on_again, f.loop);
	f.sw = net_switch_open(&config, on_event, &f);
	for (unsigned i = 0; i < MACHINES; i++) {
		f.machines[i].dump = xasprintf("%s/dump%u", dir, i);
		net_switch_add(f.sw, i, mac_texts[i], NULL, NULL);
	}
	start(&f, 0); /* before there is a switch */
	net_switch_start(f.sw, on_done, &f);
	while (f.answers == 0)
		loop_run(f.loop);
	start(&f, 1);
	reaches(&f, 0, 1);
	reaches(&f, 1, 0);
	ck_assert_int_eq(kill(net_switch_pid(f.sw), SIGKILL), 0);
	while (f.ups == 0)
		loop_run(f.loop);
	reaches(&f, 0, 1);
	reaches(&f, 1, 0);
	end(&f.machines[1]);
	unlink(f.machines[1].dump);
	start(&f, 1);
	reaches(&f, 0, 1);
	reaches(&f, 1, 0);
	for (unsigned i = 0; i < MACHINES; i++) {
		end(&f.machines[i]);
		free(f.machines[i].dump);
	}
	net_switch_stop(f.sw, on_done, &f);
	while (f.answers == 1)
		loop_run(f.loop);
	net_switch_close(f.sw);
	timer_destroy(f.again);
	loop_destroy(f.loop);
	fs_remove_tree(dir, NULL);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("switch_qemu");

	signal(SIGPIPE, SIG_IGN);
	UNIT_CASE(s, switch_qemu__two_machines__reach_each_other_over_every_restart);
	return unit_main(s);
}
