/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_NET_SWITCH_CONTROL_H
#define LIB_NET_SWITCH_CONTROL_H

#include "lib/base/str.h"
#include "lib/net/switch/order.h"
#include "lib/net/switch/wire.h"

struct json_object;

enum { CONTROL_CLIENTS = 8 };

struct control_client {
	int fd; /* -1: free */
	size_t have, sent;
	struct sbuf out; /* answers that were not taken yet; meanwhile nothing more is read */
	char line[SWITCH_LINE_MAX];
};

struct control {
	struct wire *wire; /* borrowed */
	const char *generation;
	int listener;
	struct control_client clients[CONTROL_CLIENTS];
};

/* listener: taken, non-blocking.  generation, wire: borrowed. */
int control_create(struct wire *wire, const char *generation, int listener,
    struct control **ret_control, struct err *err);
void control_destroy(struct control *c);
void control_on_connection(struct control *c);
void control_on_client(struct control *c, unsigned number, uint64_t now_ms);

/* What a line is answered with, whatever it holds; a new object. */
struct json_object *control_answer(
    struct wire *wire, const char *generation, const char *line, size_t len, uint64_t now_ms);

#endif
