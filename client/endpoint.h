/* SPDX-License-Identifier: MPL-2.0 */
#ifndef CLIENT_ENDPOINT_H
#define CLIENT_ENDPOINT_H

#include <stdbool.h>

#include "client/conn.h"
#include "lib/base/err.h"

/* Where vmmd is, and starting one when there is none. */

/* Owned; NULL when no home is known. */
char *endpoint_user_socket(void);
char *endpoint_log_path(void);
char *endpoint_config_path(const char *name); /* a file of the user's own configuration */

/* Tries `socket` (the flag), VMCTL_SOCKET, the user's socket, the system's; the first two are
 * answers, not suggestions.  start: when there is none and none was named, start vmmd in the
 * background, unless VMCTL_NO_AUTOSTART=1. */
int endpoint_open(const char *socket, bool start, struct conn *ret_conn, struct err *err);

#endif
