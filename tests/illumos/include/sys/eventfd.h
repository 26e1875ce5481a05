/* SPDX-License-Identifier: MPL-2.0 */
#ifndef ILLUMOS_SYS_EVENTFD_H
#define ILLUMOS_SYS_EVENTFD_H

/* eventfd(3C) */
#define EFD_CLOEXEC 02000000
#define EFD_NONBLOCK 04000

int eventfd(unsigned int count, int flags);

#endif
