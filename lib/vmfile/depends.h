/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_VMFILE_DEPENDS_H
#define LIB_VMFILE_DEPENDS_H

struct vmfile;
struct problems;

/* depends-on: names that are in the file, not the machine itself, and no cycles. */
void depends_check(struct vmfile *vmfile, struct problems *problems);

#endif
