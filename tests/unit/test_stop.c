/* SPDX-License-Identifier: MPL-2.0
 *
 * Stopping a machine that has no power button: its guest is a real SSH server, whose commands for
 * powering off are ours, on a real daemon whose hypervisor is made up here. */
#include "daemon/config.h"
#include "daemon/operation.h"
#include "daemon/ops.h"
#include "daemon/vm.h"
#include "daemon/vmmd.h"
#include "lib/base/clock.h"
#include "lib/base/json.h"
#include "lib/hypervisor/hypervisor.h"
#include "tests/unit/sshd.h"
#include "tests/unit/unit.h"

struct fixture {
	struct hv_machine machine; /* first: the operations get it */
	struct hv_ops ops;
	struct sshd sshd;
	struct vmmd *vmmd;
	struct vm *vm;
	char *dir;
	int told_fd; /* what the guest's commands say, line by line */
	struct watch *watch;
	struct timer *later;
	char said[256];
	bool goes;	   /* its machine ends once it was told */
	uint64_t goes_in_ms;
	bool end_fails;
	int ends; /* bits of enum hv_force */
	uint16_t port;
	bool over;
	json_object *result;
	struct err err;
};

static struct fixture *
fixture_of(struct hv_machine *m)
{
	return (struct fixture *)m;
}

static void
gone(void *arg)
{
	struct fixture *f = arg;

	free(TAKE(f->vm->runtime));
	vm_event(f->vm, VM_EV_ENDED, "user", false, NULL);
}

static void
fake_end(struct hv_machine *m, enum hv_force how, hv_done_fn *done, void *arg)
{
	struct fixture *f = fixture_of(m);
	struct err err = ERR_INIT;

	f->ends |= 1 << how;
	err_set(&err, E_TIMEOUT, "zone 'vmm-1' hangs in shutting_down");
	done(arg, f->end_fails ? &err : NULL);
	if (!f->end_fails)
		timer_arm(f->later, 0);
}

static void
fake_facts(struct hv_machine *m, struct hv_facts *ret_facts)
{
	*ret_facts = (struct hv_facts){ .ssh_host = fixture_of(m)->port != 0 ? "127.0.0.1" : NULL,
		.ssh_port = fixture_of(m)->port };
}

static enum hv_run_state
fake_state(struct hv_machine *m)
{
	return HV_RUNNING;
}

static void
fake_close(struct hv_machine *m)
{
}

static void
on_told(void *arg, unsigned events)
{
	struct fixture *f = arg;
	size_t len = strlen(f->said);
	ssize_t n = read(f->told_fd, f->said + len, sizeof(f->said) - 1 - len);

	ck_assert_int_gt(n, 0);
	f->said[len + (size_t)n] = '\0';
	if (f->goes)
		timer_arm(f->later, f->goes_in_ms);
}

/* A command of the guest: says its name and its arguments. */
static void
stub(struct fixture *f, const char *name, const char *rest)
{
	CLEANUP_FREE char *text = xasprintf("#!/bin/sh\n%s\n", rest);

	sshd_file(f->sshd.bin, name, text, 0755);
}

#define SAY "echo \"${0##*/} $*\" >$T/told; "

/* Nothing that is really on this host may ever be run by these tests. */
static void
check_stubs(struct fixture *f)
{
	static const char *const names[] = { "systemctl", "poweroff", "shutdown", "sudo", "pfexec" };
	struct ssh *ssh = sshd_login(&f->sshd);

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		CLEANUP_FREE char *command = xasprintf(
		    "exec sh -c 'test \"$(command -v %s)\" = %s/%s'", names[i], f->sshd.bin, names[i]);
		struct ssh_exec exec = { .command = command };
		struct ssh_result result = { .status = 1 };

		ck_assert_int_eq(ssh_exec(ssh, &exec, NULL, &result, NULL), 0);
		ck_assert_int_eq(result.status, 0);
	}
	ssh_close(ssh);
}

static void
make_guest(struct fixture *f)
{
	CLEANUP_FREE char *fifo = NULL;

	sshd_start(&f->sshd);
	fifo = fs_join(f->sshd.home, "told");
	ck_assert_int_eq(mkfifo(fifo, 0600), 0);
	f->told_fd = open(fifo, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	stub(f, "id", "echo 1000");
	stub(f, "uname", "echo Linux");
	stub(f, "sudo", "[ \"$1\" = -n ] || exit 9; shift; exec \"$@\"");
	stub(f, "pfexec", "exit 9");
	stub(f, "systemctl", SAY);
	stub(f, "poweroff", SAY);
	stub(f, "shutdown", SAY);
	check_stubs(f);
	f->port = f->sshd.port;
}

static void
make_machine(struct fixture *f)
{
	static const enum vm_event events[] = { VM_EV_PREPARED, VM_EV_START, VM_EV_STARTED };
	struct vm_spec spec = { .present = true, .name = xstrdup("web"), .backend = BACKEND_QEMU,
		.vcpus = 1, .memory_bytes = 64 * SPEC_MIB };
	struct err err = ERR_INIT;

	spec.cloud_init.present = true;
	spec.ssh.present = true;
	spec.ssh.user = xstrdup(f->sshd.user);
	ck_assert_int_eq(vm_create(f->vmmd, &spec, getuid(), NULL, &f->vm, &err), 0);
	ck_assert_int_eq(fs_mkdirs(f->vm->dir, 0700, &err), 0);
	sshd_file(f->vm->dir, "id_ed25519", f->sshd.login.private_pem, 0600);
	vm_set_string(&f->vm->host_key, f->sshd.host.public_line);
	for (size_t i = 0; i < ARRAY_LEN(events); i++)
		ck_assert_int_eq(vm_event(f->vm, events[i], NULL, false, &err), 0);
	f->ops = (struct hv_ops){ .capabilities = HV_CAN_SSH, .end_words = { "stop", "halt", "halt" },
		.end_ms = { 3000, 3000, 15000 },
		.end = fake_end, .facts = fake_facts, .state = fake_state, .close = fake_close };
	f->machine.ops = &f->ops;
	f->vm->hv = &f->machine;
	f->vm->reachable = true;
	vm_set_string(&f->vm->runtime, "{}");
}

static void
setup(struct fixture *f)
{
	struct config *config = NULL;
	struct err err = ERR_INIT;
	bool leave = false;

	memset(f, 0, sizeof(*f));
	f->goes = true;
	make_guest(f);
	f->dir = xstrdup("/tmp/vmm-stop-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(f->dir));
	{
		char *argv[] = { (char[]){ "vmmd" }, (char[]){ "--data-dir" }, fs_join(f->dir, "data"),
			(char[]){ "--runtime-dir" }, fs_join(f->dir, "run"), NULL };

		ck_assert_msg(config_load(5, argv, &config, &leave, &err) == 0, "%s", err.msg);
		free(argv[2]);
		free(argv[4]);
	}
	ck_assert_msg(vmmd_create(config, &f->vmmd, &err) == 0, "%s", err.msg);
	f->watch = watch_create(f->vmmd->loop, f->told_fd, LOOP_READ, on_told, f);
	f->later = timer_create_on(f->vmmd->loop, gone, f);
	make_machine(f);
}

static void
finish(struct fixture *f)
{
	timer_destroy(f->later);
	watch_destroy(f->watch);
	vmmd_destroy(f->vmmd);
	close(f->told_fd);
	sshd_stop(&f->sshd);
	fs_remove_tree(f->dir, NULL);
	free(f->dir);
	json_object_put(f->result);
}

static void
on_over(void *arg, struct operation *op)
{
	struct fixture *f = arg;

	f->over = true;
	f->result = json_object_get(op->result);
	if (op->err != NULL)
		f->err = *op->err;
	loop_stop(f->vmmd->loop);
}

/* Returns how long it took. */
static uint64_t
stop(struct fixture *f, uint64_t timeout_ms)
{
	struct op_call call = { .uid = getuid(), .ended = on_over, .arg = f };
	struct stop_args args = { .timeout_ms = timeout_ms };
	uint64_t began_ms = clock_ms();
	struct err err = ERR_INIT;

	ck_assert_int_eq(ops_stop(f->vm, args, &call, &err), 0);
	if (!f->over)
		loop_run(f->vmmd->loop);
	return clock_ms() - began_ms;
}

#define ASSERT_ENDED(f, how_, by_)                                                                 \
	do {                                                                                       \
		ck_assert_msg((f)->err.code == E_OK, "%s", (f)->err.msg);                          \
		ck_assert_str_eq(json_string((f)->result, "how"), how_);                           \
		ck_assert_str_eq(json_string((f)->result, "by"), by_);                             \
		ck_assert_str_eq(json_string((f)->result, "state"), "stopped");                    \
	} while (0)

START_TEST(stop__no_power_button__the_guest_is_told_by_its_login)
{
	struct fixture f;

	setup(&f);
	stop(&f, 50000);
	ASSERT_ENDED(&f, "graceful", "ssh");
	ck_assert_str_eq(f.said, "systemctl poweroff\n");
	ck_assert_int_eq(f.ends, 0);
	finish(&f);
}
END_TEST

START_TEST(stop__root__asks_nobody_for_leave)
{
	struct fixture f;

	setup(&f);
	stub(&f, "id", "echo 0");
	stub(&f, "sudo", "exit 9");
	stop(&f, 50000);
	ASSERT_ENDED(&f, "graceful", "ssh");
	finish(&f);
}
END_TEST

START_TEST(stop__no_systemd__poweroff_then_shutdown)
{
	struct fixture f;

	setup(&f);
	stub(&f, "systemctl", "exit 1");
	stub(&f, "poweroff", "exit 127");
	stop(&f, 50000);
	ASSERT_ENDED(&f, "graceful", "ssh");
	ck_assert_str_eq(f.said, "shutdown -h now\n");
	finish(&f);
}
END_TEST

START_TEST(stop__illumos_guest__its_own_shutdown)
{
	struct fixture f;

	setup(&f);
	stub(&f, "uname", "echo SunOS");
	stop(&f, 50000);
	ASSERT_ENDED(&f, "graceful", "ssh");
	ck_assert_str_eq(f.said, "shutdown -i5 -g0 -y\n");
	finish(&f);
}
END_TEST

START_TEST(stop__connection_lost_after_the_command__is_success)
{
	struct fixture f;

	setup(&f);
	f.goes_in_ms = 500; /* it goes on for a while after its sshd */
	stub(&f, "systemctl", SAY "set -- $(cat /proc/self/stat); set -- $(cat /proc/$6/stat); "
			      "kill -9 $4; sleep 60");
	stop(&f, 50000);
	ASSERT_ENDED(&f, "graceful", "ssh");
	ck_assert_int_eq(f.ends, 0);
	finish(&f);
}
END_TEST

START_TEST(stop__gone_before_the_command_answers__waits_for_nothing)
{
	struct fixture f;

	setup(&f);
	stub(&f, "systemctl", SAY "sleep 40");
	ck_assert_uint_lt(stop(&f, 50000), 20000);
	ASSERT_ENDED(&f, "graceful", "ssh");
	finish(&f);
}
END_TEST

START_TEST(stop__refused__goes_on_at_once)
{
	struct fixture f;

	setup(&f);
	stub(&f, "sudo", "echo 'a password is required' >&2; exit 1");
	ck_assert_uint_lt(stop(&f, 50000), 20000);
	ASSERT_ENDED(&f, "terminated", "stop");
	ck_assert_str_eq(f.said, "");
	finish(&f);
}
END_TEST

START_TEST(stop__guest_stays__insisted_when_the_time_is_over)
{
	struct fixture f;

	setup(&f);
	f.goes = false;
	ck_assert_uint_ge(stop(&f, 2000), 2000);
	ASSERT_ENDED(&f, "terminated", "stop");
	ck_assert_str_eq(f.said, "systemctl poweroff\n");
	finish(&f);
}
END_TEST

START_TEST(stop__no_way_in__goes_on_at_once)
{
	static const char *const why[] = { "address", "network", "key", "answer" };

	for (size_t i = 0; i < ARRAY_LEN(why); i++) {
		struct fixture f;

		setup(&f);
		if (str_eq(why[i], "address"))
			f.port = 0;
		else if (str_eq(why[i], "network"))
			f.vm->spec.network =
			    (struct network_spec){ .present = true, .type = NETWORK_NONE };
		else if (str_eq(why[i], "key"))
			f.vm->spec.cloud_init.present = false;
		else
			f.port = 1;
		ck_assert_uint_lt(stop(&f, 50000), 20000);
		ASSERT_ENDED(&f, "terminated", "stop");
		finish(&f);
	}
}
END_TEST

START_TEST(stop__no_time__the_guest_is_not_asked)
{
	struct fixture f;

	setup(&f);
	stop(&f, 0);
	ASSERT_ENDED(&f, "terminated", "stop");
	ck_assert_str_eq(f.said, "");
	finish(&f);
}
END_TEST

START_TEST(stop__another_host_key__nothing_is_sent)
{
	struct fixture f;

	setup(&f);
	vm_set_string(&f.vm->host_key, f.sshd.login.public_line);
	stop(&f, 50000);
	ASSERT_ENDED(&f, "terminated", "stop");
	ck_assert_str_eq(f.said, "");
	finish(&f);
}
END_TEST

START_TEST(stop__does_not_end__the_backends_words_are_told)
{
	struct fixture f;

	setup(&f);
	f.end_fails = true;
	ck_assert_uint_lt(stop(&f, 0), 10000);
	ck_assert_int_eq(f.err.code, E_TIMEOUT);
	ck_assert_str_eq(f.err.msg, "machine 'web' does not end, not even by halt: zone 'vmm-1' "
				    "hangs in shutting_down");
	ck_assert_str_eq(f.err.object, "web");
	ck_assert_int_eq(f.ends, 1 << HV_QUIT | 1 << HV_TERM);
	ck_assert_int_eq(f.vm->state, VM_STOPPING);

	f.end_fails = f.over = false;
	f.err = (struct err)ERR_INIT;
	stop(&f, 0);
	ASSERT_ENDED(&f, "terminated", "stop");
	finish(&f);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("stop");

	UNIT_CASE(s, stop__no_power_button__the_guest_is_told_by_its_login);
	UNIT_CASE(s, stop__root__asks_nobody_for_leave);
	UNIT_CASE(s, stop__no_systemd__poweroff_then_shutdown);
	UNIT_CASE(s, stop__illumos_guest__its_own_shutdown);
	UNIT_CASE(s, stop__connection_lost_after_the_command__is_success);
	UNIT_CASE(s, stop__gone_before_the_command_answers__waits_for_nothing);
	UNIT_CASE(s, stop__refused__goes_on_at_once);
	UNIT_CASE(s, stop__guest_stays__insisted_when_the_time_is_over);
	UNIT_CASE(s, stop__no_way_in__goes_on_at_once);
	UNIT_CASE(s, stop__no_time__the_guest_is_not_asked);
	UNIT_CASE(s, stop__another_host_key__nothing_is_sent);
	UNIT_CASE(s, stop__does_not_end__the_backends_words_are_told);
	return unit_main(s);
}
