/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_HYPERVISOR_PROPOLIS_UPGRADE_H
#define LIB_HYPERVISOR_PROPOLIS_UPGRADE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/base/str.h"

/* How a connection becomes a WebSocket (RFC 6455, section 4), seen from the client.  Pure; any
 * thread. */

enum { UPGRADE_HEAD_MAX = 16 << 10, UPGRADE_BODY_MAX = 64 << 10, UPGRADE_KEY_LEN = 24 };

/* key: 16 random bytes in base64.  Owned. */
char *upgrade_request(const char *path, const char *host, const char *key);
/* What proves that the server understood: owned. */
char *upgrade_accept(const char *key);

struct upgrade_reply {
	int status;
	size_t head_len; /* of the head, with its empty line */
	bool has_length, chunked; /* of the body; neither: it goes on until the connection ends */
	size_t length;
};
/* Looks at the start of what the server said.  1: a whole head; 0: more is needed; else E_NETWORK:
 * this is not HTTP. */
int upgrade_read(const char *data, size_t len, struct upgrade_reply *ret_reply, struct err *err);
/* A head with status 101: is it the answer to this key?  E_FAILED. */
int upgrade_check(const char *head, size_t len, const char *key, struct err *err);
/* Adds to *body what there is of a refusal's body; true: that is all of it. */
bool upgrade_body(const struct upgrade_reply *reply, const char *data, size_t len,
    struct sbuf *body);

#endif
