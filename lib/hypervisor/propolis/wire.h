/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_HYPERVISOR_PROPOLIS_WIRE_H
#define LIB_HYPERVISOR_PROPOLIS_WIRE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "lib/base/err.h"

struct json_object;

/* What calls and consoles of propolis-server have in common.  Pure; any thread. */

struct wire_peer {
	struct sockaddr_storage addr;
	socklen_t len;
	char text[80]; /* as in the header Host: "10.0.0.2:12400", "[fd76::5]:12400" */
};
/* host: an IPv4 or IPv6 address without brackets; names are not looked up (E_NETWORK). */
int wire_peer_init(struct wire_peer *peer, const char *host, uint16_t port, struct err *err);

/* One JSON value and white space, in UTF-8; *ret_value is owned, and NULL for `null`.  E_IO. */
int wire_json(const char *data, size_t len, struct json_object **ret_value, struct err *err);

/* What an answer says about its failure: in one line each, printable, owned; NULL: nothing. */
struct wire_words {
	char *message, *error_code;
};
void wire_words_init(struct wire_words *words, struct json_object *body);
void wire_words_done(struct wire_words *words);

/* "<what> was answered with <status>: <words>", E_FAILED; without words the text itself, cut. */
int wire_refusal(struct err *err, const char *what, int status, const struct wire_words *words,
    const char *text, size_t len);

#endif
