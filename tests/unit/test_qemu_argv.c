/* SPDX-License-Identifier: MPL-2.0
 *
 * The command line as data: what a person chose stays inside its value. */
#include <json-c/json.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/base/worker.h"
#include "lib/hypervisor/qemu/machine.h"
#include "tests/unit/unit.h"

static const struct hv_nic one_nic = { .mac = "52:54:00:00:00:01" };

#define WORD(text) ((char[]){ text })

static const char evil[] = "/data/a,\"b\",readonly=off 'c' id=x\\/vms/1";

static struct strings
build_on(struct vm_spec *spec, const char *base_path, const char *format, bool seed,
    const char *accel)
{
	struct hv_config config = { .id = "1", .uuid = "11111111-2222-4333-8444-555555555555",
		.name = spec->name, .dir = evil, .run_dir = "/run/vmm/1", .nics = &one_nic,
		.spec = spec };
	struct qemu_disk disk = { (char *)(uintptr_t)base_path, (char *)(uintptr_t)format };
	struct qemu_plan plan = { .program = "/usr/bin/qemu-system-x86_64", .config = &config,
		.disk = &disk, .accel = accel, .seed = seed,
		.arch = qemu_arch_get(ARCH_X86_64) };
	struct strings argv;

	qemu_argv_build(&plan, &argv);
	return argv;
}

static struct strings
build(struct vm_spec *spec, const char *base_path, bool seed, const char *accel)
{
	return build_on(spec, base_path, "qcow2", seed, accel);
}

static void
done(struct strings *argv)
{
	for (size_t i = 0; i < argv->count; i++)
		free(argv->items[i]);
	free(argv->items);
}

static size_t
count(const struct strings *argv, const char *word)
{
	size_t n = 0;

	for (size_t i = 0; i < argv->count; i++)
		n += strstr(argv->items[i], word) != NULL;
	return n;
}

static bool
has(const struct strings *argv, const char *option, const char *value)
{
	for (size_t i = 0; i + 1 < argv->count; i++)
		if (str_eq(argv->items[i], option) && str_eq(argv->items[i + 1], value))
			return true;
	return false;
}

/* The object of an option whose member has the value; NULL: none.  Owned. */
static json_object *
find(const struct strings *argv, const char *option, const char *key, const char *value)
{
	for (size_t i = 0; i + 1 < argv->count; i++) {
		json_object *doc, *member = NULL;

		if (!str_eq(argv->items[i], option) || argv->items[i + 1][0] != '{')
			continue;
		doc = json_tokener_parse(argv->items[i + 1]);
		ck_assert_ptr_nonnull(doc);
		if (json_object_object_get_ex(doc, key, &member) &&
		    str_eq(json_object_get_string(member), value))
			return doc;
		json_object_put(doc);
	}
	return NULL;
}

static const char *
text(json_object *doc, const char *key)
{
	json_object *value = NULL;

	ck_assert_msg(json_object_object_get_ex(doc, key, &value), "no %s", key);
	return json_object_get_string(value);
}

static struct vm_spec
plain_spec(void)
{
	return (struct vm_spec){ .present = true, .name = (char *)(uintptr_t)"web", .vcpus = 2,
		.memory_bytes = (512 << 20) + 1 };
}

START_TEST(argv__g13_hostile_folder__stays_one_value)
{
	struct vm_spec spec = plain_spec();
	struct strings argv = build(&spec, evil, true, "tcg");
	json_object *disk = find(&argv, "-blockdev", "node-name", "disk-file");
	CLEANUP_FREE char *path = xasprintf("%s/disk.qcow2", evil);

	ck_assert_str_eq(text(disk, "filename"), path);
	ck_assert_str_eq(text(disk, "locking"), "on");
	json_object_put(disk);
	/* In that one place alone: image and seed come as descriptors. */
	ck_assert_uint_eq(count(&argv, "vms/1"), 1);
	done(&argv);
}
END_TEST

START_TEST(argv__tap__g40_is_a_descriptor_of_the_launcher)
{
	struct vm_spec spec = plain_spec();
	struct hv_config config = { .id = "1", .uuid = "11111111-2222-4333-8444-555555555555",
		.name = spec.name, .dir = "/d", .run_dir = "/r", .nics = &one_nic, .spec = &spec };
	struct qemu_disk disk = { 0 };
	struct qemu_plan plan = { .program = "/usr/bin/qemu-system-x86_64", .config = &config,
		.disk = &disk, .accel = "tcg", .arch = qemu_arch_get(ARCH_X86_64) };

	spec.network = (struct network_spec){ .present = true, .type = NETWORK_TAP,
		.bridge = (char *)(uintptr_t)"br,0\"" };
	for (int vhost = 0; vhost < 2; vhost++) {
		CLEANUP_FREE char *fd = xasprintf("%d", QEMU_FD_TAP);
		json_object *netdev, *nic;
		struct strings argv;

		plan.vhost = vhost;
		qemu_argv_build(&plan, &argv);
		netdev = find(&argv, "-netdev", "type", "tap");
		nic = find(&argv, "-device", "id", "nic0");
		ck_assert_ptr_nonnull(netdev);
		ck_assert_str_eq(text(netdev, "fd"), fd);
		ck_assert_uint_eq(count(&argv, "vhostfd"), vhost);
		ck_assert_str_eq(text(nic, "netdev"), text(netdev, "id"));
		ck_assert_str_eq(text(nic, "mac"), one_nic.mac);
		ck_assert_uint_eq(count(&argv, "br,0"), 0); /* the launcher's business */
		ck_assert_uint_eq(count(&argv, "hostfwd"), 0);
		json_object_put(netdev);
		json_object_put(nic);
		done(&argv);
	}
}
END_TEST

START_TEST(argv__several_nics__g34_each_has_its_own)
{
	struct network_spec nics[] = {
		{ .present = true, .type = NETWORK_TAP, .bridge = (char *)(uintptr_t)"br0" },
		{ .present = true, .type = NETWORK_PRIVATE, .name = (char *)(uintptr_t)"lan" },
		{ .present = true, .type = NETWORK_USER },
		{ .present = true, .type = NETWORK_TAP, .bridge = (char *)(uintptr_t)"br1" },
	};
	static const struct hv_nic known[] = { { .mac = "52:54:00:00:00:01" },
		{ .mac = "52:54:00:00:00:02", .local_path = "/r/n,1/p0/vm", .remote_path = "/r/n,1/p0.sw" },
		{ .mac = "52:54:00:00:00:03" }, { .mac = "52:54:00:00:00:04" } };
	static const char *const types[] = { "tap", "dgram", "user", "tap" };
	struct vm_spec spec = plain_spec();
	struct hv_config config = { .id = "1", .uuid = "11111111-2222-4333-8444-555555555555",
		.name = spec.name, .dir = "/d", .run_dir = "/r", .nics = known, .spec = &spec };
	struct qemu_disk disk = { 0 };
	struct qemu_plan plan = { .program = "/usr/bin/qemu-system-x86_64", .config = &config,
		.disk = &disk, .accel = "tcg", .arch = qemu_arch_get(ARCH_X86_64), .vhost = true };
	struct strings argv;

	spec.networks = (struct objects){ nics, ARRAY_LEN(nics) };
	qemu_argv_build(&plan, &argv);
	for (size_t i = 0; i < ARRAY_LEN(nics); i++) {
		CLEANUP_FREE char *net = xasprintf("net%zu", i), *nic = xasprintf("nic%zu", i);
		CLEANUP_FREE char *fd = xasprintf("%d", QEMU_FD_TAP + 2 * (int)i);
		CLEANUP_FREE char *vhost = xasprintf("%d", QEMU_FD_TAP + 2 * (int)i + 1);
		json_object *netdev = find(&argv, "-netdev", "id", net), *end = NULL;
		json_object *device = find(&argv, "-device", "id", nic);

		ck_assert_str_eq(text(netdev, "type"), types[i]);
		ck_assert_str_eq(text(device, "netdev"), net);
		ck_assert_str_eq(text(device, "mac"), known[i].mac);
		if (nics[i].type == NETWORK_TAP) {
			ck_assert_str_eq(text(netdev, "fd"), fd);
			ck_assert_str_eq(text(netdev, "vhostfd"), vhost);
		}
		if (nics[i].type == NETWORK_PRIVATE) {
			ck_assert(json_object_object_get_ex(netdev, "local", &end));
			ck_assert_str_eq(text(end, "path"), known[i].local_path);
			ck_assert(json_object_object_get_ex(netdev, "remote", &end));
			ck_assert_str_eq(text(end, "path"), known[i].remote_path);
		}
		json_object_put(netdev);
		json_object_put(device);
	}
	ck_assert_uint_eq(count(&argv, "\"addr\":\"0x3\""), 1);
	done(&argv);
	/* SSH goes by the forward, wherever it stands. */
	ck_assert_ptr_eq(vm_spec_login_nic(&spec, NULL), &nics[2]);
	spec.networks.count = 2;
	ck_assert_ptr_eq(vm_spec_login_nic(&spec, NULL), &nics[0]);
	spec.networks = (struct objects){ nics + 1, 1 };
	ck_assert_ptr_null(vm_spec_login_nic(&spec, NULL));
}
END_TEST

START_TEST(argv__disk__whole_graph_is_given)
{
	struct vm_spec spec = plain_spec();
	struct strings argv = build(&spec, "/images/base", true, "tcg");
	json_object *overlay = find(&argv, "-blockdev", "node-name", "disk");
	json_object *image = find(&argv, "-blockdev", "node-name", "image");
	json_object *root = find(&argv, "-device", "id", "root");
	json_object *backing = NULL;

	ck_assert_str_eq(text(overlay, "backing"), "image");
	ck_assert(json_object_object_get_ex(image, "backing", &backing) && backing == NULL);
	ck_assert_str_eq(text(image, "read-only"), "true");
	ck_assert_str_eq(text(root, "driver"), "virtio-blk-pci");
	ck_assert_str_eq(text(root, "werror"), "enospc");
	json_object_put(overlay);
	json_object_put(image);
	json_object_put(root);
	done(&argv);
	argv = build(&spec, NULL, false, "tcg");
	overlay = find(&argv, "-blockdev", "node-name", "disk");
	ck_assert(json_object_object_get_ex(overlay, "backing", &backing) && backing == NULL);
	json_object_put(overlay);
	ck_assert_uint_eq(count(&argv, "smbios"), 0);
	ck_assert_uint_eq(count(&argv, "scsi-cd"), 0);
	done(&argv);
}
END_TEST

/* An image that was taken as raw may look like another format: QEMU must not look. */
START_TEST(argv__g76_disk__formats_are_named)
{
	struct vm_spec spec = plain_spec();
	struct strings argv = build_on(&spec, "/images/base", "raw", false, "tcg");
	json_object *overlay = find(&argv, "-blockdev", "node-name", "disk");
	json_object *image = find(&argv, "-blockdev", "node-name", "image");

	ck_assert_str_eq(text(overlay, "driver"), "qcow2");
	ck_assert_str_eq(text(image, "driver"), "raw");
	ck_assert(!json_object_object_get_ex(image, "backing", NULL));
	json_object_put(overlay);
	json_object_put(image);
	done(&argv);
	argv = build_on(&spec, "/images/base", "qcow2", false, "tcg");
	image = find(&argv, "-blockdev", "node-name", "image");
	ck_assert_str_eq(text(image, "driver"), "qcow2");
	json_object_put(image);
	done(&argv);
}
END_TEST

START_TEST(argv__r01_always__sized_confined_and_versioned)
{
	struct vm_spec spec = plain_spec();
	struct strings argv = build(&spec, NULL, true, "kvm");

	ck_assert(has(&argv, "-sandbox",
	    "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"));
	ck_assert(has(&argv, "-smbios", "type=1,serial=ds=nocloud"));
	ck_assert(has(&argv, "-accel", "kvm") && has(&argv, "-cpu", "host"));
	ck_assert(has(&argv, "-smp", "2"));
	ck_assert(has(&argv, "-m", "513M")); /* rounded up, and the same as its backend */
	ck_assert_uint_eq(count(&argv, "-nodefaults"), 1);
	ck_assert_uint_eq(count(&argv, "-no-shutdown"), 1);
	ck_assert_uint_eq(count(&argv, "pc-q35-7.2,"), 1);
	ck_assert_uint_eq(count(&argv, "-daemonize"), 0);
	done(&argv);
	argv = build(&spec, NULL, true, "tcg");
	ck_assert(has(&argv, "-accel", "tcg,thread=multi,tb-size=128") && has(&argv, "-cpu", "max"));
	done(&argv);
}
END_TEST

START_TEST(argv__network__user_or_none)
{
	struct vm_spec spec = plain_spec();
	struct strings argv = build(&spec, NULL, false, "tcg");
	json_object *nic = find(&argv, "-device", "id", "nic0");

	ck_assert_str_eq(text(nic, "mac"), "52:54:00:00:00:01");
	json_object_put(nic);
	ck_assert_uint_eq(count(&argv, "tcp:127.0.0.1:0-:22"), 1);
	done(&argv);
	spec.ssh = (struct ssh_spec){ .present = true, .port = 2222 };
	argv = build(&spec, NULL, false, "tcg");
	ck_assert_uint_eq(count(&argv, "tcp:127.0.0.1:0-:2222"), 1);
	done(&argv);
	spec.network = (struct network_spec){ .present = true, .type = NETWORK_NONE };
	argv = build(&spec, NULL, false, "tcg");
	ck_assert_uint_eq(count(&argv, "virtio-net"), 0);
	ck_assert_uint_eq(count(&argv, "-netdev"), 0);
	done(&argv);
}
END_TEST

START_TEST(argv__ports__each_a_rule_beside_that_of_ssh)
{
	char *items[] = { WORD("8080:80"), WORD("127.0.0.2:5353:53/udp"), WORD("443"), WORD("0.0.0.0::81") };
	struct vm_spec spec = plain_spec();
	struct strings argv;

	spec.ports = (struct strings){ items, ARRAY_LEN(items) };
	argv = build(&spec, NULL, false, "tcg");
	ck_assert_uint_eq(count(&argv,
			      "\"hostfwd\":[{\"str\":\"tcp:127.0.0.1:0-:22\"},"
			      "{\"str\":\"tcp:127.0.0.1:8080-:80\"},"
			      "{\"str\":\"udp:127.0.0.2:5353-:53\"},"
			      "{\"str\":\"tcp:127.0.0.1:0-:443\"},"
			      "{\"str\":\"tcp:0.0.0.0:0-:81\"}]"),
	    1);
	done(&argv);
}
END_TEST

static uint16_t
ssh_port(const char *info, const struct vm_spec *spec, uint16_t known)
{
	CLEANUP_FREE struct port *ports = NULL;
	size_t number = forward_parse(info, &ports);

	return forward_ssh_port(ports, number, spec, known);
}

static const char usernet[] =
    "Hub -1 (net0):\r\n"
    "  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\r\n"
    "  TCP[ESTABLISHED]   20       127.0.0.1 50000       10.0.2.15    22     0     0\r\n"
    "  TCP[HOST_FORWARD]  16               * 18444       10.0.2.15   443     0     0\r\n"
    "  TCP[HOST_FORWARD]  15       127.0.0.1 40001       10.0.2.15    80     0     0\r\n"
    "  TCP[HOST_FORWARD]  13       127.0.0.1  2222       10.0.2.15    22     0     0\r\n"
    "  TCP[HOST_FORWARD]  14       127.0.0.1 38471       10.0.2.15    22     0     0\r\n"
    "  UDP[HOST_FORWARD]   8       127.0.0.1 37022       10.0.2.15    53     0     0\r\n"
    "  UDP[236 sec]       21       10.0.2.15 40000        10.0.2.3    53     0     0\r\n";

START_TEST(forward__usernet__every_forward_and_nothing_else)
{
	static const struct port wanted[] = {
		{ "0.0.0.0", false, 18444, 443, PORT_TCP },
		{ "127.0.0.1", false, 40001, 80, PORT_TCP },
		{ "127.0.0.1", false, 2222, 22, PORT_TCP },
		{ "127.0.0.1", false, 38471, 22, PORT_TCP },
		{ "127.0.0.1", false, 37022, 53, PORT_UDP },
	};
	CLEANUP_FREE struct port *ports = NULL;
	struct port *none = NULL;

	ck_assert_uint_eq(forward_parse(usernet, &ports), ARRAY_LEN(wanted));
	for (size_t i = 0; i < ARRAY_LEN(wanted); i++)
		ck_assert(port_equal(&ports[i], &wanted[i]));
	ck_assert_uint_eq(forward_parse("nothing\n", &none), 0);
	ck_assert_uint_eq(forward_parse("", &none), 0);
	ck_assert_uint_eq(forward_parse(NULL, &none), 0);
	ck_assert_ptr_null(none);
}
END_TEST

START_TEST(forward__usernet__the_port_of_ssh)
{
	char *items[] = { WORD("2222:22") };
	struct vm_spec spec = plain_spec();

	ck_assert_uint_eq(ssh_port(usernet, &spec, 0), 2222);
	spec.ports = (struct strings){ items, 1 };
	ck_assert_uint_eq(ssh_port(usernet, &spec, 0), 38471);
	ck_assert_uint_eq(ssh_port(usernet, &spec, 2222), 2222); /* as it was known to be */
	ck_assert_uint_eq(ssh_port(usernet, &spec, 999), 38471);
	spec.ssh = (struct ssh_spec){ .present = true, .port = 2222 };
	ck_assert_uint_eq(ssh_port(usernet, &spec, 0), 0);
}
END_TEST

static void
trim_done(void *arg)
{
	loop_stop(arg);
}

static void
nothing(struct job *job, void *data)
{
}

/* The console's log is under a cap, and the writer goes on at its end (G-83). */
START_TEST(log__g83_cap__the_tail_is_kept)
{
	char dir[] = "/tmp/log-XXXXXX";
	struct loop *loop = loop_create();
	struct worker_pool *pool = worker_pool_create(loop, 1, 4);
	CLEANUP_FREE char *path = NULL, *old = NULL, *text = NULL;
	CLEANUP_FD int fd = -1;
	struct stat st;
	size_t len;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	path = fs_join(dir, "console.log");
	old = fs_join(dir, "console.log.1");
	fd = qemu_log_open(dir, "console.log", NULL, NULL);
	ck_assert(fd >= 0);
	for (int i = 0; i < 1000; i++)
		ck_assert_int_eq(fs_write_all(fd, "0123456789\n", 11), 0);
	qemu_log_trim(pool, dir, "console.log", 20000); /* still under it */
	ck_assert(stat(path, &st) == 0 && st.st_size == 11000);
	qemu_log_trim(pool, dir, "console.log", 10000);
	ck_assert_int_eq(worker_submit(pool, "after", nothing, trim_done, loop, 0, NULL, NULL), 0);
	loop_run(loop);
	ck_assert(stat(path, &st) == 0 && st.st_size == 0);
	ck_assert_int_eq(fs_read(old, 1 << 20, &text, &len, NULL), 0);
	ck_assert_uint_eq(len, 11000);
	ck_assert_int_eq(fs_write_all(fd, "next", 4), 0);
	ck_assert(stat(path, &st) == 0 && st.st_size == 4);
	worker_pool_destroy(pool);
	loop_destroy(loop);
	fs_remove_tree(dir, NULL);
}
END_TEST

START_TEST(log__words__the_last_lines_made_printable)
{
	char dir[] = "/tmp/log-XXXXXX";
	CLEANUP_FREE char *words = NULL, *none = NULL;
	CLEANUP_FD int fd = -1;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	fd = qemu_log_open(dir, "qemu.log", NULL, NULL);
	ck_assert_int_eq(fs_write_all(fd, "of before\n", 10), 0);
	none = qemu_log_words(dir, 10);
	ck_assert_ptr_null(none);
	for (int i = 0; i < 20; i++)
		ck_assert_int_eq(fs_write_all(fd, "line\n", 5), 0);
	ck_assert_int_eq(fs_write_all(fd, "the \033[31mend\n\n", 15), 0);
	words = qemu_log_words(dir, 10);
	ck_assert_ptr_nonnull(strstr(words, "end"));
	ck_assert_ptr_null(strchr(words, 033));
	ck_assert_ptr_null(strstr(words, "before"));
	ck_assert_uint_lt(strlen(words), 64);
	fs_remove_tree(dir, NULL);
}
END_TEST

START_TEST(monitor__g07_status__every_word_of_qemu)
{
	/* clang-format off */
	static const struct { const char *word; enum hv_run_state state; } rows[] = {
		{ "running", HV_RUNNING }, { "paused", HV_PAUSED }, { "prelaunch", HV_PRELAUNCH },
		{ "shutdown", HV_SHUTDOWN }, { "guest-panicked", HV_PANICKED },
		{ "io-error", HV_IO_ERROR }, { "internal-error", HV_PANICKED },
		{ "inmigrate", HV_PRELAUNCH }, { "watchdog", HV_PAUSED }, { "suspended", HV_PAUSED },
	};
	/* clang-format on */
	enum hv_run_state state;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		CLEANUP_FREE char *line = xasprintf("{\"status\": \"%s\"}", rows[i].word);
		json_object *doc = json_tokener_parse(line);

		ck_assert_msg(monitor_status(doc, &state), "%s", rows[i].word);
		ck_assert_int_eq(state, rows[i].state);
		json_object_put(doc);
	}
	ck_assert(!monitor_status(NULL, &state));
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("qemu_argv");

	UNIT_CASE(s, argv__g13_hostile_folder__stays_one_value);
	UNIT_CASE(s, argv__tap__g40_is_a_descriptor_of_the_launcher);
	UNIT_CASE(s, argv__several_nics__g34_each_has_its_own);
	UNIT_CASE(s, argv__disk__whole_graph_is_given);
	UNIT_CASE(s, argv__g76_disk__formats_are_named);
	UNIT_CASE(s, argv__r01_always__sized_confined_and_versioned);
	UNIT_CASE(s, argv__network__user_or_none);
	UNIT_CASE(s, log__g83_cap__the_tail_is_kept);
	UNIT_CASE(s, log__words__the_last_lines_made_printable);
	UNIT_CASE(s, argv__ports__each_a_rule_beside_that_of_ssh);
	UNIT_CASE(s, forward__usernet__every_forward_and_nothing_else);
	UNIT_CASE(s, forward__usernet__the_port_of_ssh);
	UNIT_CASE(s, monitor__g07_status__every_word_of_qemu);
	return unit_main(s);
}
