/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_HYPERVISOR_QEMU_ARCH_H
#define LIB_HYPERVISOR_QEMU_ARCH_H

#include <stdbool.h>

#include "lib/model/spec.h"

/* An architecture as QEMU has it.  Any thread. */

#define QEMU_MACHINE_TYPE "pc-q35-7.2"

enum { QEMU_BY_KVM, QEMU_BY_TCG, QEMU_ACCELS };

struct qemu_arch { /* static texts; NULL: there is none, or it needs none */
	const char *name;	/* as in firmware descriptors, too */
	const char *program, *package; /* the emulator, and Debian's package of it */
	const char *machine, *machine_options;
	const char *processor[QEMU_ACCELS];
	enum firmware firmware; /* by default */
	const char *firmware_package; /* of UEFI, as Debian calls it */
	bool has_bios;
	const char *console;	/* the device of the serial console; NULL: the machine's own */
	const char *panic, *generation, *tpm;
	const char *display, *keyboard; /* keyboard NULL: the machine's own */
};

/* Of ARCH_DEFAULT: the host's. */
const struct qemu_arch *qemu_arch_get(int arch);

#endif
