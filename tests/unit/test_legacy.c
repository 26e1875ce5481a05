/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/legacy/legacy.h"

#include <json-c/json.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/process.h"
#include "lib/base/str.h"
#include "tests/unit/unit.h"

static struct legacy_vms
load(const char *text)
{
	struct legacy_vms vms = { 0 };
	struct err err;

	ck_assert_msg(legacy_load(text, strlen(text), &vms, &err) == 0, "%s", err.msg);
	return vms;
}

static void
expect_problem(const struct legacy_vm *vm, const char *word)
{
	for (size_t i = 0; i < vm->problems.count; i++) {
		if (strstr(vm->problems.items[i], word) != NULL)
			return;
	}
	ck_abort_msg("'%s' has no problem with '%s' (%zu)", vm->name, word, vm->problems.count);
}

START_TEST(legacy__R_05_current_file__everything_read)
{
	struct legacy_vms vms = load(
	    "{\"web\": {\"id\": \"qemu-11111111-2222-4333-8444-555555555555\", \"name\": \"web\","
	    " \"backend\": \"qemu\", \"work_dir\": \"/data/vms/web\","
	    " \"overlay_path\": \"/data/vms/web/overlay.qcow2\","
	    " \"seed_iso_path\": \"/data/vms/web/seed.iso\", \"pid\": 4000000,"
	    " \"qmp_socket\": \"/data/vms/web/qmp.sock\","
	    " \"console_socket\": \"/data/vms/web/console.sock\", \"vnc_addr\": \"127.0.0.1:5900\","
	    " \"vcpus\": 4, \"memory_mb\": 2048, \"disk_gb\": 20, \"network\": {\"type\": \"user\"},"
	    " \"ssh_host_port\": 40022, \"mac_addr\": \"52:54:00:12:34:56\", \"uefi\": true}}");
	const struct legacy_vm *vm = &vms.items[0];

	ck_assert_uint_eq(vms.count, 1);
	ck_assert_str_eq(vm->name, "web");
	ck_assert_str_eq(vm->new_name, "web");
	ck_assert_int_eq(vm->backend, BACKEND_QEMU);
	ck_assert_uint_eq(vm->vcpus, 4);
	ck_assert_uint_eq(vm->memory_bytes, 2 * SPEC_GIB);
	ck_assert_uint_eq(vm->disk_bytes, 20 * SPEC_GIB);
	ck_assert_int_eq(vm->network.type, NETWORK_USER);
	ck_assert_str_eq(vm->overlay_path, "/data/vms/web/overlay.qcow2");
	ck_assert_str_eq(vm->seed_path, "/data/vms/web/seed.iso");
	ck_assert_str_eq(vm->mac, "52:54:00:12:34:56");
	ck_assert_uint_eq(vm->ssh_port, 40022);
	ck_assert_uint_eq(vm->pid, 4000000);
	ck_assert(vm->uefi);
	ck_assert_uint_eq(vm->problems.count, 0);
	ck_assert(!legacy_running(vm));
	legacy_done(&vms);
}
END_TEST

START_TEST(legacy__R_05_old_file__defaults)
{
	struct legacy_vms vms = load(
	    "{\"old\": {\"id\": \"qemu-1\", \"name\": \"old\", \"backend\": \"qemu\","
	    " \"work_dir\": \"/d\", \"overlay_path\": \"/d/overlay.qcow2\", \"seed_iso_path\": null,"
	    " \"pid\": null, \"qmp_socket\": null, \"console_socket\": null, \"vnc_addr\": null}}");
	const struct legacy_vm *vm = &vms.items[0];

	ck_assert_uint_eq(vm->vcpus, 1);
	ck_assert_uint_eq(vm->memory_bytes, SPEC_GIB);
	ck_assert_uint_eq(vm->disk_bytes, 0);
	ck_assert_int_eq(vm->network.type, NETWORK_USER);
	ck_assert_ptr_null(vm->mac);
	ck_assert_ptr_null(vm->seed_path);
	ck_assert_uint_eq(vm->pid, 0);
	ck_assert(!vm->uefi);
	ck_assert_uint_eq(vm->problems.count, 0);
	legacy_done(&vms);
}
END_TEST

START_TEST(legacy__R_05_networks__round_trip)
{
	static const char *const networks[] = {
		"{\"type\":\"user\"}",
		"{\"type\":\"tap\",\"bridge\":\"br0\"}",
		"{\"type\":\"vnic\",\"name\":\"web0\"}",
		"{\"type\":\"vnic\"}",
		"{\"type\":\"none\"}",
	};

	for (size_t i = 0; i < ARRAY_LEN(networks); i++) {
		CLEANUP_FREE char *text = xasprintf("{\"a\": {\"backend\": \"qemu\", "
						    "\"overlay_path\": \"/o\", \"network\": %s}}",
		    networks[i]);
		struct legacy_vms vms = load(text);
		struct json_object *described = legacy_describe(&vms.items[0]);
		struct json_object *network = json_object_object_get(described, "network");

		ck_assert_uint_eq(vms.items[0].problems.count, 0);
		ck_assert_str_eq(
		    json_object_to_json_string_ext(network, JSON_C_TO_STRING_PLAIN), networks[i]);
		json_object_put(described);
		legacy_done(&vms);
	}
}
END_TEST

START_TEST(legacy__bad_machines__listed_with_problems)
{
	struct legacy_vms vms = load(
	    "{\"a\": 7,"
	    " \"b\": {\"backend\": \"xen\"},"
	    " \"c\": {\"backend\": \"qemu\"},"
	    " \"d\": {\"backend\": \"qemu\", \"overlay_path\": \"/o\", \"vcpus\": 0,"
	    "         \"memory_mb\": 18446744073709551615},"
	    " \"e\": {\"backend\": \"qemu\", \"overlay_path\": \"/o\", \"vcpus\": \"4\"},"
	    " \"f\": {\"backend\": \"qemu\", \"overlay_path\": \"/o\", \"network\": {\"type\": \"tap\"}},"
	    " \"g\": {\"backend\": \"qemu\", \"overlay_path\": \"/o\", \"network\": {\"type\": \"x\"}},"
	    " \"h\": {\"backend\": \"propolis\"},"
	    " \"i\": {\"backend\": \"qemu\", \"overlay_path\": \"/o\", \"pid\": -1}}");
	static const char *const words[] = { "7", "xen", "no disk", "0 processors", "vcpus", "bridge",
		"x", "propolis", "pid" };

	ck_assert_uint_eq(vms.count, ARRAY_LEN(words));
	for (size_t i = 0; i < vms.count; i++)
		expect_problem(&vms.items[i], words[i]);
	legacy_done(&vms);
}
END_TEST

START_TEST(legacy__names__made_valid_once)
{
	struct legacy_vms vms = load(
	    "{\"../x\": {\"backend\": \"qemu\", \"overlay_path\": \"/o\"},"
	    " \"My_VM\": {\"backend\": \"qemu\", \"overlay_path\": \"/o\"},"
	    " \"my-vm\": {\"backend\": \"qemu\", \"overlay_path\": \"/o\"},"
	    " \"\": {\"backend\": \"qemu\", \"overlay_path\": \"/o\"}}");

	ck_assert_uint_eq(vms.count, 4);
	expect_problem(&vms.items[0], "no valid name");
	ck_assert_str_eq(vms.items[1].new_name, "x");
	ck_assert_uint_eq(vms.items[1].notes.count, 1);
	ck_assert_str_eq(vms.items[2].new_name, "my-vm");
	expect_problem(&vms.items[3], "same name");
	legacy_done(&vms);
}
END_TEST

START_TEST(legacy__no_such_file__refused)
{
	static const char *const texts[] = { "", "[]", "null", "{\"a\": ", "{} x",
		("{\"a\":{\"b\":{\"c\":{\"d\":{\"e\":{\"f\":{\"g\":{\"h\":{\"i\":{\"j\":{\"k\":{\"l\":{"
		"\"m\":{\"n\":{\"o\":{\"p\":{\"q\":{}}}}}}}}}}}}}}}}}}") };
	struct legacy_vms vms;
	struct err err;

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		ck_assert_msg(
		    legacy_load(texts[i], strlen(texts[i]), &vms, &err) == E_PARSE, "%s", texts[i]);
	ck_assert_int_eq(legacy_load("{}", 2, &vms, &err), 0);
	ck_assert_uint_eq(vms.count, 0);
	legacy_done(&vms);
}
END_TEST

START_TEST(legacy__G_08_running__only_by_its_own_process)
{
	char dir[] = "/tmp/test-legacy.XXXXXX", pid_text[32];
	CLEANUP_FREE char *monitor = NULL, *pid_path = NULL;
	struct legacy_vm vm = { .work_dir = dir };
	struct process_spec spec = { .stdin_fd = -1, .stdout_fd = -1, .stderr_fd = -1 };
	int pidfd, fds[2];
	pid_t pid;

	ck_assert_ptr_nonnull(mkdtemp(dir));
	monitor = xasprintf("%s/qmp.sock", dir);
	pid_path = fs_join(dir, "qemu.pid");
	/* The shell waits for input that never comes, and has the path among its arguments. */
	const char *const named[] = { "sh", "-c", "read x", monitor, NULL };

	ck_assert_int_eq(pipe(fds), 0);
	spec.argv = named;
	spec.stdin_fd = fds[0];
	ck_assert_int_eq(process_spawn(&spec, &pid, &pidfd, NULL), 0);
	ck_assert(!legacy_running(&vm));
	snprintf(pid_text, sizeof(pid_text), "%d\n", (int)pid);
	ck_assert_int_eq(fs_write(pid_path, pid_text, strlen(pid_text), 0600, NULL), 0);
	ck_assert(legacy_running(&vm));
	ck_assert_int_eq(unlink(pid_path), 0);
	vm.pid = (uint64_t)pid;
	ck_assert(legacy_running(&vm));
	vm.pid = (uint64_t)getpid(); /* used again by another process */
	ck_assert(!legacy_running(&vm));
	close(fds[0]);
	close(fds[1]);
	close(pidfd);
	ck_assert_int_eq(fs_remove_tree(dir, NULL), 0);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("legacy");

	UNIT_CASE(s, legacy__R_05_current_file__everything_read);
	UNIT_CASE(s, legacy__R_05_old_file__defaults);
	UNIT_CASE(s, legacy__R_05_networks__round_trip);
	UNIT_CASE(s, legacy__bad_machines__listed_with_problems);
	UNIT_CASE(s, legacy__names__made_valid_once);
	UNIT_CASE(s, legacy__no_such_file__refused);
	UNIT_CASE(s, legacy__G_08_running__only_by_its_own_process);
	return unit_main(s);
}
