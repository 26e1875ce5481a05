/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_HYPERVISOR_QEMU_FIRMWARE_H
#define LIB_HYPERVISOR_QEMU_FIRMWARE_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/err.h"
#include "lib/hypervisor/qemu/arch.h"

/* UEFI firmware, as QEMU's firmware descriptors tell of it (docs/interop/firmware.json there): the
 * code that all machines share, and a template of the variables that each has for itself.  Any
 * thread; looks into a dozen of small files. */

struct qemu_firmware { /* owned strings; of one descriptor */
	char *descriptor;      /* its path */
	char *code, *code_format;
	char *template;	       /* of the variables; not recorded */
	char *vars_format;
	bool smm;	       /* it wants system management mode, and its flash bound to that */
};

/* The folders, from the general to the specific, NULL ends them: a file hides those of its name in
 * the folders before, and an empty one hides without a replacement.  Owned, with its strings.
 * prefix: of an emulator that brings its own; may be NULL. */
char **firmware_folders(const char *prefix);
void firmware_folders_done(char **folders);

/* The first by name that fits: for the architecture and its machine type, with secure boot and its
 * keys enrolled, or with neither.  E_UNSUPPORTED names the package that has one. */
int firmware_find(const char *const *folders, const struct qemu_arch *arch, bool secure_boot,
    struct qemu_firmware *ret_firmware, struct err *err);
void firmware_done(struct qemu_firmware *firmware);

/* The machine's own: <dir>/efivars.fd, and <dir>/firmware.json, which says what it belongs to and
 * holds for the life of the disk.  A failure leaves neither. */
int firmware_keep(const char *dir, const struct qemu_firmware *firmware, struct err *err);
/* The variables are to be those of the file, if its size and format are what the code expects; its
 * template otherwise stays, and false is returned. */
bool firmware_use_vars(struct qemu_firmware *firmware, const char *vars);
/* E_IMAGE: what was recorded is gone; the hint names the package. */
int firmware_kept(const char *dir, const struct qemu_arch *arch, struct qemu_firmware *ret_firmware,
    struct err *err);

#endif
