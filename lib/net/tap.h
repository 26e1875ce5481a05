/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_NET_TAP_H
#define LIB_NET_TAP_H

#include <stdbool.h>

#include "lib/base/err.h"

/* A guest's way onto a bridge of the host.  A tap is never persistent: it goes with the last
 * descriptor of it, however its holder ends. */

enum { TAP_NAME_MAX = 16 }; /* with its zero, as the kernel has it */

/* The name of a machine's n-th tap: of its id, 12 hex digits. */
void tap_name(const char *id, unsigned n, char ret_name[TAP_NAME_MAX]);
/* May this process make taps itself?  Else qemu-bridge-helper does it, where that may. */
bool tap_privileged(void);
const char *tap_helper_path(void); /* static; NULL: it is not installed */

/* Refuses, before anything is made, a bridge that is not there, or that this process can not get a
 * tap on; the hint is the command that changes it.  Loop thread too: reads a few small files. */
int tap_check(const char *bridge, struct err *err);
/* The part of it for who is not privileged: helper may be NULL.  For tests. */
int tap_check_helper(const char *helper, const char *conf, const char *bridge, struct err *err);

/* A tap of this name, up, a member of the bridge; needs CAP_NET_ADMIN. */
int tap_create(const char *name, const char *bridge, int *ret_fd, struct err *err);
/* One that the helper makes; what it says goes to our standard error.  Blocks. */
int tap_from_helper(const char *helper, const char *bridge, int *ret_fd, struct err *err);
/* Is it really up and a member of the bridge?  What it is called. */
int tap_verify(int fd, const char *bridge, char ret_name[TAP_NAME_MAX], struct err *err);

/* What moves a tap's packets in the kernel.  *ret_fd -1: it is not there, or not for us, and the
 * emulator moves them.  One that opens but is of no use is an error.  path: for tests, else
 * TAP_VHOST. */
#define TAP_VHOST "/dev/vhost-net"
int tap_vhost_open(const char *path, int *ret_fd, struct err *err);

#endif
