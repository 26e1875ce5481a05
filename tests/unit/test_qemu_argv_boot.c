/* SPDX-License-Identifier: MPL-2.0
 *
 * The command line of what machines start by: a row a combination, and what must be in it. */
#include <string.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/hypervisor/qemu/qemu.h"
#include "tests/unit/unit.h"

static const struct hv_nic one_nic = { .mac = "52:54:00:00:00:01" };

static const char uuid[] = "11111111-2222-4333-8444-555555555555";
static char kernel_path[] = "/k";

enum { WORDS = 8 };

struct row {
	struct vm_spec spec;
	bool uefi, smm, cdrom;
	const char *accel;
	const char *has[WORDS], *lacks[WORDS];
};

#define KERNEL { .kind = FILE_PATH, .path = kernel_path }

/* clang-format off */
static const struct row rows[] = {
	{ .spec = { .arch = ARCH_X86_64 }, .accel = "tcg",
	  .has = { "pc-q35-7.2,memory-backend=ram0,usb=off,vmport=off\n", "isa-serial", "vmgenid",
	      "\"driver\":\"pvpanic\"", "-cpu\nmax\n" },
	  .lacks = { "pflash", "-kernel", "-vnc", "tpm", "smm", "installer", "VGA" } },
	{ .spec = { .arch = ARCH_X86_64, .firmware = { .type = FIRMWARE_UEFI } }, .uefi = true, .accel = "kvm",
	  .has = { "pflash0=firmware,pflash1=variables", "/dev/fdset/6", "efivars.fd",
	      "\"node-name\":\"variables\"", "-cpu\nhost\n" },
	  .lacks = { "smm", "secure", "CODE.fd" } },
	{ .spec = { .arch = ARCH_X86_64, .firmware = { .type = FIRMWARE_UEFI, .secure_boot = true } },
	  .uefi = true, .smm = true, .accel = "tcg",
	  .has = { ",smm=on,pflash0=", "driver=cfi.pflash01,property=secure,value=on" } },
	{ .spec = { .arch = ARCH_X86_64, .firmware = { .tpm = true } }, .accel = "tcg",
	  .has = { "socket,id=tpm-process,fd=", "emulator,id=tpm0,chardev=tpm-process",
	      "\"driver\":\"tpm-crb\"" } },
	{ .spec = { .arch = ARCH_X86_64, .display = DISPLAY_VNC }, .accel = "tcg",
	  .has = { "-vnc\nunix:/run/a,,b/display/vnc\n", "\"driver\":\"VGA\"", "usb-tablet" },
	  .lacks = { "usb-kbd" } },
	{ .spec = { .arch = ARCH_X86_64, .boot = { .kernel = KERNEL } }, .accel = "tcg",
	  .has = { "-kernel\n/data/a,b/kernel\n" }, .lacks = { "-initrd", "-append" } },
	{ .spec = { .arch = ARCH_X86_64, .boot = { .kernel = KERNEL, .initrd = KERNEL,
	      .cmdline = (char *)(uintptr_t)"a,b=\"c\" -append x" } }, .accel = "tcg",
	  .has = { "-initrd\n/data/a,b/initrd\n", "-append\na,b=\"c\" -append x\n" } },
	{ .spec = { .arch = ARCH_X86_64 }, .cdrom = true, .accel = "tcg",
	  .has = { "/dev/fdset/5", "\"id\":\"installer-drive\"", "\"bootindex\":2" },
	  .lacks = { "/store/image" } },
	{ .spec = { .arch = ARCH_AARCH64 }, .accel = "tcg",
	  .has = { "virt-7.2,memory-backend=ram0,gic-version=max", "max,pauth-impdef=on", "pvpanic-pci",
	      "pipe,id=console0,path=/run/a,,b/serial,logfile=/dev/fdset/1,logappend=on",
	      "-serial\nchardev:console0\n", "virtio-blk-pci" },
	  .lacks = { "isa-serial", "vmgenid", "vmport", "pflash", "\"pvpanic\"" } },
	{ .spec = { .arch = ARCH_AARCH64, .firmware = { .type = FIRMWARE_UEFI, .tpm = true },
	      .display = DISPLAY_VNC }, .uefi = true, .accel = "kvm",
	  .has = { "pflash0=firmware", "tpm-tis-device", "virtio-gpu-pci", "usb-kbd", "-cpu\nhost\n" },
	  .lacks = { "smm", "cfi.pflash01", "VGA", "tpm-crb" } },
};
/* clang-format on */

/* All words, each with a line's end. */
static char *
command_line(const struct row *row)
{
	struct vm_spec spec = row->spec;
	struct hv_config config = { .id = "1", .uuid = uuid, .name = "web", .dir = "/data/a,b",
		.run_dir = "/run/a,b", .nics = &one_nic, .spec = &spec,
		.cdrom_path = row->cdrom ? "/store/image" : NULL };
	struct qemu_disk disk = { 0 };
	struct qemu_firmware firmware = { .code = (char *)(uintptr_t)"/x/CODE.fd",
		.code_format = (char *)(uintptr_t)"raw", .vars_format = (char *)(uintptr_t)"raw",
		.smm = row->smm };
	struct qemu_plan plan = { .program = "/usr/bin/qemu", .config = &config, .disk = &disk,
		.accel = row->accel, .arch = qemu_arch_get(spec.arch),
		.firmware = row->uefi ? &firmware : NULL };
	struct strings argv = { 0 };
	struct sbuf text = { 0 };

	spec.name = (char *)(uintptr_t)"web";
	spec.vcpus = 1;
	spec.memory_bytes = 512 << 20;
	qemu_argv_build(&plan, &argv);
	for (size_t i = 0; i < argv.count; i++) {
		sbuf_addf(&text, "%s\n", argv.items[i]);
		free(argv.items[i]);
	}
	free(argv.items);
	return sbuf_take(&text);
}

START_TEST(argv__g34_boot__each_combination)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		CLEANUP_FREE char *text = command_line(&rows[i]);

		for (size_t k = 0; k < WORDS; k++) {
			ck_assert_msg(rows[i].has[k] == NULL || strstr(text, rows[i].has[k]) != NULL,
			    "row %zu has no '%s':\n%s", i, rows[i].has[k], text);
			ck_assert_msg(rows[i].lacks[k] == NULL || strstr(text, rows[i].lacks[k]) == NULL,
			    "row %zu has '%s':\n%s", i, rows[i].lacks[k], text);
		}
	}
}
END_TEST

START_TEST(arch__table__every_row_is_whole)
{
	for (int i = ARCH_DEFAULT + 1; i < ARCHS; i++) {
		const struct qemu_arch *arch = qemu_arch_get(i);

		ck_assert_str_eq(arch->name, arch_names[i]);
		ck_assert(arch->program != NULL && arch->package != NULL && arch->machine != NULL);
		ck_assert(arch->machine_options != NULL && arch->firmware_package != NULL);
		ck_assert(arch->processor[QEMU_BY_KVM] != NULL && arch->processor[QEMU_BY_TCG] != NULL);
		ck_assert(arch->panic != NULL && arch->tpm != NULL && arch->display != NULL);
		ck_assert(arch->firmware == FIRMWARE_UEFI || arch->has_bios);
		ck_assert_str_ne(arch_catalogue_names[i], "");
	}
	ck_assert_ptr_eq(qemu_arch_get(ARCH_DEFAULT), qemu_arch_get((int)arch_host()));
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("qemu_argv_boot");

	UNIT_CASE(s, argv__g34_boot__each_combination);
	UNIT_CASE(s, arch__table__every_row_is_whole);
	return unit_main(s);
}
