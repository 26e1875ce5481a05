/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_SSH_KEY_CHECK_H
#define LIB_SSH_KEY_CHECK_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/err.h"

/* ssh_private_key_check, which also tells an RSA key: libssh2 before 1.11 signs those only with
 * SHA-1, and no server of today takes that. */
int ssh_private_key_inspect(const void *data, size_t len, bool *ret_rsa, struct err *err);

#endif
