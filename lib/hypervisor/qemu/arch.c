/* SPDX-License-Identifier: MPL-2.0
 *
 * What differs from one architecture to another, a row each. */
#include "lib/hypervisor/qemu/arch.h"

static const struct qemu_arch archs[ARCHS] = {
	[ARCH_X86_64] = {
		.name = "x86_64",
		.program = "qemu-system-x86_64",
		.package = "qemu-system-x86",
		.machine = QEMU_MACHINE_TYPE,
		.machine_options = ",usb=off,vmport=off",
		.processor = { "host", "max" },
		.firmware = FIRMWARE_BIOS,
		.firmware_package = "ovmf",
		.has_bios = true,
		.console = "isa-serial",
		.panic = "pvpanic",
		.generation = "vmgenid",
		.tpm = "tpm-crb",
		.display = "VGA",
	},
	[ARCH_AARCH64] = {
		.name = "aarch64",
		.program = "qemu-system-aarch64",
		.package = "qemu-system-arm",
		.machine = "virt-7.2",
		.machine_options = ",gic-version=max",
		/* The architecture's own way to sign pointers takes half of an emulated one's time. */
		.processor = { "host", "max,pauth-impdef=on" },
		.firmware = FIRMWARE_UEFI,
		.firmware_package = "qemu-efi-aarch64",
		.console = NULL,
		.panic = "pvpanic-pci",
		.tpm = "tpm-tis-device",
		.display = "virtio-gpu-pci",
		.keyboard = "usb-kbd",
	},
};

const struct qemu_arch *
qemu_arch_get(int arch)
{
	return &archs[arch > ARCH_DEFAULT && arch < ARCHS ? arch : (int)arch_host()];
}
