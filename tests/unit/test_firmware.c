/* SPDX-License-Identifier: MPL-2.0
 *
 * The choice of UEFI firmware, of folders that the test makes. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/hypervisor/qemu/firmware.h"
#include "tests/unit/unit.h"

struct place {
	char dir[32];
	char *vendor, *admin, *user;
	const char *folders[4];
};

static void
put(const char *folder, const char *name, const char *text)
{
	CLEANUP_FREE char *path = fs_join(folder, name);

	ck_assert_int_eq(fs_mkdirs(folder, 0700, NULL), 0);
	ck_assert_int_eq(fs_write(path, text, strlen(text), 0600, NULL), 0);
}

static void
place_init(struct place *p)
{
	snprintf(p->dir, sizeof(p->dir), "/tmp/firmware-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(p->dir));
	p->vendor = fs_join(p->dir, "vendor");
	p->admin = fs_join(p->dir, "admin");
	p->user = fs_join(p->dir, "user"); /* is not there, as a rule */
	p->folders[0] = p->vendor;
	p->folders[1] = p->admin;
	p->folders[2] = p->user;
	p->folders[3] = NULL;
	put(p->dir, "a.code", "code a");
	put(p->dir, "a.vars", "vars a");
	put(p->dir, "b.code", "code b");
	put(p->dir, "b.vars", "vars b");
}

static void
place_done(struct place *p)
{
	fs_remove_tree(p->dir, NULL);
	free(p->vendor);
	free(p->admin);
	free(p->user);
}

struct facts { /* of a descriptor; NULL: as most have it */
	const char *name, *interface, *arch, *machine, *features, *device, *more, *vars;
};

static const char *
either(const char *text, const char *otherwise)
{
	return text != NULL ? text : otherwise;
}

static void
describe(struct place *p, const char *folder, const char *file, struct facts f)
{
	CLEANUP_FREE char *text = xasprintf(
	    "{\"description\": \"x\", \"interface-types\": [\"%s\"], \"mapping\": {\"device\": \"%s\", "
	    "%s\"executable\": {\"filename\": \"%s/%s.code\", \"format\": \"raw\"}, "
	    "\"nvram-template\": {\"filename\": \"%s/%s.vars\", \"format\": \"raw\"}}, "
	    "\"targets\": [{\"architecture\": \"%s\", \"machines\": [\"%s\"]}], "
	    "\"features\": [%s], \"tags\": []}",
	    either(f.interface, "uefi"), either(f.device, "flash"), either(f.more, ""), p->dir, f.name,
	    p->dir, either(f.vars, f.name), either(f.arch, "x86_64"), either(f.machine, "pc-q35-*"),
	    either(f.features, ""));

	put(folder, file, text);
}

/* The first letter of the code that is chosen; 0: none, and err says so. */
static char
choose(struct place *p, int arch, bool secure_boot, struct err *err)
{
	struct qemu_firmware firmware = { 0 };
	const char *base;
	char letter = 0;

	if (firmware_find(p->folders, qemu_arch_get(arch), secure_boot, &firmware, err) != 0)
		return 0;
	base = strrchr(firmware.code, '/') + 1;
	letter = base[0];
	/* Both files are of one descriptor. */
	ck_assert_int_eq(strrchr(firmware.template, '/')[1], letter);
	firmware_done(&firmware);
	return letter;
}

START_TEST(firmware__g33_order__first_by_name_over_all_folders)
{
	struct place p;
	struct err err = ERR_INIT;

	place_init(&p);
	describe(&p, p.vendor, "60-b.json", (struct facts){ .name = "b" });
	ck_assert_int_eq(choose(&p, ARCH_X86_64, false, &err), 'b');
	describe(&p, p.admin, "50-a.json", (struct facts){ .name = "a" });
	ck_assert_int_eq(choose(&p, ARCH_X86_64, false, &err), 'a');
	describe(&p, p.vendor, "40-b.json", (struct facts){ .name = "b" });
	ck_assert_int_eq(choose(&p, ARCH_X86_64, false, &err), 'b');
	put(p.vendor, "10-readme.txt", "no descriptor");
	ck_assert_int_eq(choose(&p, ARCH_X86_64, false, &err), 'b');
	place_done(&p);
}
END_TEST

START_TEST(firmware__mask__empty_file_hides_and_full_one_replaces)
{
	struct place p;
	struct err err = ERR_INIT;

	place_init(&p);
	describe(&p, p.vendor, "50-x.json", (struct facts){ .name = "a" });
	describe(&p, p.user, "50-x.json", (struct facts){ .name = "b" });
	ck_assert_int_eq(choose(&p, ARCH_X86_64, false, &err), 'b');
	put(p.user, "50-x.json", "");
	ck_assert_int_eq(choose(&p, ARCH_X86_64, false, &err), 0);
	ck_assert_ptr_nonnull(strstr(err.hint, "'ovmf'"));
	/* The more general one hides nothing of the more specific one. */
	put(p.vendor, "50-x.json", "");
	describe(&p, p.user, "50-x.json", (struct facts){ .name = "a" });
	ck_assert_int_eq(choose(&p, ARCH_X86_64, false, &err), 'a');
	place_done(&p);
}
END_TEST

/* clang-format off */
static const struct {
	struct facts facts;
	int arch;
	bool secure_boot, fits;
} fit_rows[] = {
	{ { .name = "a" }, ARCH_X86_64, false, true },
	{ { .name = "a" }, ARCH_X86_64, true, false },
	{ { .name = "a" }, ARCH_AARCH64, false, false },
	{ { .name = "a", .arch = "aarch64" }, ARCH_AARCH64, false, false },
	{ { .name = "a", .arch = "aarch64", .machine = "virt-*" }, ARCH_AARCH64, false, true },
	{ { .name = "a", .arch = "aarch64", .machine = "virt-*" }, ARCH_X86_64, false, false },
	{ { .name = "a", .machine = "pc-i440fx-*" }, ARCH_X86_64, false, false },
	{ { .name = "a", .machine = "pc-q35-7.2" }, ARCH_X86_64, false, true },
	{ { .name = "a", .interface = "bios" }, ARCH_X86_64, false, false },
	{ { .name = "a", .device = "memory" }, ARCH_X86_64, false, false },
	{ { .name = "a", .more = "\"mode\": \"stateless\", " }, ARCH_X86_64, false, false },
	{ { .name = "a", .more = "\"mode\": \"split\", " }, ARCH_X86_64, false, true },
	{ { .name = "a", .features = "\"secure-boot\"" }, ARCH_X86_64, true, false },
	{ { .name = "a", .features = "\"secure-boot\"" }, ARCH_X86_64, false, true },
	{ { .name = "a", .features = "\"secure-boot\", \"enrolled-keys\"" }, ARCH_X86_64, true, true },
	{ { .name = "a", .features = "\"secure-boot\", \"enrolled-keys\"" }, ARCH_X86_64, false, false },
};
/* clang-format on */

START_TEST(firmware__fit__by_interface_target_and_features)
{
	for (size_t i = 0; i < ARRAY_LEN(fit_rows); i++) {
		struct place p;
		struct err err = ERR_INIT;

		place_init(&p);
		describe(&p, p.vendor, "50.json", fit_rows[i].facts);
		ck_assert_msg((choose(&p, fit_rows[i].arch, fit_rows[i].secure_boot, &err) == 'a') ==
		    fit_rows[i].fits, "row %zu: %s", i, err.msg);
		place_done(&p);
	}
}
END_TEST

START_TEST(firmware__smm__only_where_secure_boot_wants_it)
{
	struct place p;
	struct qemu_firmware firmware = { 0 };
	struct err err = ERR_INIT;

	place_init(&p);
	describe(&p, p.vendor, "50.json",
	    (struct facts){ .name = "a", .features = "\"secure-boot\", \"requires-smm\"" });
	ck_assert_int_eq(choose(&p, ARCH_X86_64, false, &err), 'a');
	describe(&p, p.vendor, "60.json", (struct facts){ .name = "b" });
	ck_assert_int_eq(choose(&p, ARCH_X86_64, false, &err), 'b');
	describe(&p, p.vendor, "70.json", (struct facts){ .name = "a",
	    .features = "\"secure-boot\", \"requires-smm\", \"enrolled-keys\"" });
	ck_assert_int_eq(
	    firmware_find(p.folders, qemu_arch_get(ARCH_X86_64), true, &firmware, &err), 0);
	ck_assert(firmware.smm);
	firmware_done(&firmware);
	place_done(&p);
}
END_TEST

START_TEST(firmware__malformed__passed_over_and_told)
{
	static const char *const bad[] = { "{", "[]", "null", "\"x\"", "{}",
		"{\"interface-types\": \"uefi\", \"targets\": {}, \"features\": 1, \"mapping\": []}",
		"{\"interface-types\": [1, null, {}], \"targets\": [7, null]}",
		"{\"interface-types\": [\"uefi\"], \"targets\": [{\"architecture\": \"x86_64\", "
		"\"machines\": [null, \"pc-q35-*\"]}], \"mapping\": {\"device\": \"flash\", "
		"\"executable\": \"x\"}}" };

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct place p;
		struct err err = ERR_INIT;

		place_init(&p);
		put(p.vendor, "10-bad.json", bad[i]);
		ck_assert_int_eq(choose(&p, ARCH_X86_64, false, &err), 0);
		ck_assert_int_eq(err.code, E_UNSUPPORTED);
		if (i < 4)
			ck_assert_ptr_nonnull(strstr(err.msg, "10-bad.json"));
		describe(&p, p.vendor, "20-good.json", (struct facts){ .name = "b" });
		ck_assert_msg(choose(&p, ARCH_X86_64, false, &err) == 'b', "row %zu", i);
		place_done(&p);
	}
}
END_TEST

/* Debian's 50-edk2-aarch64-secure.json names a file that no package has. */
START_TEST(firmware__files_missing__passed_over_and_told)
{
	struct place p;
	struct err err = ERR_INIT;

	place_init(&p);
	describe(&p, p.vendor, "10.json", (struct facts){ .name = "gone" });
	ck_assert_int_eq(choose(&p, ARCH_X86_64, false, &err), 0);
	ck_assert_ptr_nonnull(strstr(err.msg, "gone.code', which is not there"));
	/* G-33: code without variables is nothing, either. */
	describe(&p, p.vendor, "10.json", (struct facts){ .name = "a", .vars = "gone" });
	ck_assert_int_eq(choose(&p, ARCH_X86_64, false, &err), 0);
	ck_assert_ptr_nonnull(strstr(err.msg, "gone.vars', which is not there"));
	describe(&p, p.vendor, "20.json", (struct facts){ .name = "b" });
	ck_assert_int_eq(choose(&p, ARCH_X86_64, false, &err), 'b');
	place_done(&p);
}
END_TEST

START_TEST(firmware__nothing__names_the_package)
{
	static const struct {
		int arch;
		bool secure_boot;
		const char *package, *words;
	} rows[] = {
		{ ARCH_X86_64, false, "'ovmf'", "firmware for x86_64 (machine type pc-q35-7.2)" },
		{ ARCH_X86_64, true, "'ovmf'", "with secure boot" },
		{ ARCH_AARCH64, false, "'qemu-efi-aarch64'", "firmware for aarch64" },
	};
	struct place p;

	place_init(&p);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct err err = ERR_INIT;

		ck_assert_int_eq(choose(&p, rows[i].arch, rows[i].secure_boot, &err), 0);
		ck_assert_int_eq(err.code, E_UNSUPPORTED);
		ck_assert_ptr_nonnull(strstr(err.hint, rows[i].package));
		ck_assert_ptr_nonnull(strstr(err.msg, rows[i].words));
	}
	place_done(&p);
}
END_TEST

START_TEST(firmware__r23_keep__copied_recorded_and_kept)
{
	struct place p;
	struct qemu_firmware firmware = { 0 }, kept = { 0 };
	const struct qemu_arch *arch = qemu_arch_get(ARCH_X86_64);
	CLEANUP_FREE char *machine = NULL, *vars = NULL, *code = NULL, *text = NULL;
	struct err err = ERR_INIT;
	struct stat st;

	place_init(&p);
	machine = fs_join(p.dir, "machine, 'one'");
	vars = fs_join(machine, "efivars.fd");
	code = fs_join(p.dir, "a.code");
	ck_assert_int_eq(fs_mkdirs(machine, 0700, NULL), 0);
	describe(&p, p.vendor, "50.json",
	    (struct facts){ .name = "a", .features = "\"requires-smm\"" });
	ck_assert_int_eq(firmware_find(p.folders, arch, false, &firmware, &err), 0);
	ck_assert_int_eq(firmware_kept(machine, arch, &kept, &err), E_IMAGE);
	ck_assert_int_eq(firmware_keep(machine, &firmware, &err), 0);
	ck_assert(stat(vars, &st) == 0 && (st.st_mode & 0777) == 0600);
	ck_assert_int_eq(fs_read(vars, 64, &text, NULL, NULL), 0);
	ck_assert_str_eq(text, "vars a");
	/* Never over what a machine has written. */
	ck_assert_int_eq(firmware_keep(machine, &firmware, &err), E_EXISTS);
	/* Another descriptor comes, and this one goes. */
	describe(&p, p.vendor, "10.json", (struct facts){ .name = "b" });
	put(p.vendor, "50.json", "");
	ck_assert_int_eq(firmware_kept(machine, arch, &kept, &err), 0);
	ck_assert_str_eq(kept.code, code);
	ck_assert_str_eq(kept.vars_format, "raw");
	ck_assert(kept.smm);
	firmware_done(&kept);
	ck_assert_int_eq(unlink(code), 0);
	ck_assert_int_eq(firmware_kept(machine, arch, &kept, &err), E_IMAGE);
	ck_assert_ptr_nonnull(strstr(err.msg, code));
	ck_assert_ptr_nonnull(strstr(err.hint, "'ovmf'"));
	put(p.dir, "a.code", "code a, newer");
	ck_assert_int_eq(unlink(vars), 0);
	ck_assert_int_eq(firmware_kept(machine, arch, &kept, &err), E_IMAGE);
	ck_assert_ptr_nonnull(strstr(err.msg, "efivars.fd"));
	firmware_done(&firmware);
	place_done(&p);
}
END_TEST

START_TEST(firmware__folders__general_to_specific)
{
	char **folders;

	setenv("XDG_CONFIG_HOME", "/x/config", 1);
	folders = firmware_folders(NULL);
	ck_assert_str_eq(folders[0], "/usr/share/qemu/firmware");
	ck_assert_str_eq(folders[1], "/etc/qemu/firmware");
	ck_assert_str_eq(folders[2], "/x/config/qemu/firmware");
	ck_assert_ptr_null(folders[3]);
	firmware_folders_done(folders);
	unsetenv("XDG_CONFIG_HOME");
	setenv("HOME", "/x", 1);
	folders = firmware_folders("/nix/store/q");
	ck_assert_str_eq(folders[0], "/nix/store/q/share/qemu/firmware");
	ck_assert_str_eq(folders[3], "/x/.config/qemu/firmware");
	firmware_folders_done(folders);
}
END_TEST

START_TEST(firmware__former_variables__taken_where_they_fit)
{
	struct place p;
	struct qemu_firmware firmware = { 0 };
	CLEANUP_FREE char *machine = NULL, *kept = NULL, *was = NULL, *text = NULL;
	struct err err = ERR_INIT;

	place_init(&p);
	machine = fs_join(p.dir, "machine");
	kept = fs_join(machine, "efivars.fd");
	was = fs_join(p.dir, "was.fd");
	ck_assert_int_eq(fs_mkdirs(machine, 0700, NULL), 0);
	describe(&p, p.vendor, "50.json", (struct facts){ .name = "a" });
	ck_assert_int_eq(
	    firmware_find(p.folders, qemu_arch_get(ARCH_X86_64), false, &firmware, &err), 0);
	ck_assert(!firmware_use_vars(&firmware, was));
	ck_assert(!firmware_use_vars(&firmware, p.dir));
	put(p.dir, "was.fd", "vars of another size");
	ck_assert(!firmware_use_vars(&firmware, was));
	put(p.dir, "was.fd", "vars X");
	ck_assert(firmware_use_vars(&firmware, was));
	ck_assert_int_eq(firmware_keep(machine, &firmware, &err), 0);
	ck_assert_int_eq(fs_read(kept, 64, &text, NULL, NULL), 0);
	ck_assert_str_eq(text, "vars X");
	firmware_done(&firmware);
	place_done(&p);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("firmware");

	UNIT_CASE(s, firmware__g33_order__first_by_name_over_all_folders);
	UNIT_CASE(s, firmware__mask__empty_file_hides_and_full_one_replaces);
	UNIT_CASE(s, firmware__fit__by_interface_target_and_features);
	UNIT_CASE(s, firmware__smm__only_where_secure_boot_wants_it);
	UNIT_CASE(s, firmware__malformed__passed_over_and_told);
	UNIT_CASE(s, firmware__files_missing__passed_over_and_told);
	UNIT_CASE(s, firmware__nothing__names_the_package);
	UNIT_CASE(s, firmware__r23_keep__copied_recorded_and_kept);
	UNIT_CASE(s, firmware__folders__general_to_specific);
	UNIT_CASE(s, firmware__former_variables__taken_where_they_fit);
	return unit_main(s);
}
