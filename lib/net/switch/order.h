/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_NET_SWITCH_ORDER_H
#define LIB_NET_SWITCH_ORDER_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/process.h"
#include "lib/model/field.h"

/* What vmmd and vmm-switch say to each other, as rows that both sides use.  Any thread; plain
 * data: fields_release frees it.
 *
 * The order is a JSON object on standard input; descriptor SWITCH_CONTROL_FD is a listener of
 * vmmd's making.  Over connections to it, a request is a line and so is its answer, in order:
 *   {"do": "add", "port": 3, "mac": "52:54:…"}   {"do": "remove", "port": 3}   {"do": "status"}
 *   {"ok": true, …}   {"ok": false, "error": "wrong_state", "message": "…"} */

enum { SWITCH_CONTROL_FD = 3, SWITCH_LINE_MAX = 4096 };

struct switch_port_order {
	bool present;
	uint64_t port;
	char *mac; /* NULL, or the only address that it may send from */
};

struct switch_order {
	char *dir; /* 0700: control, switch.json, p<N>.sw and p<N>/vm */
	uint64_t mtu, ageing_ms;
	struct objects ports; /* struct switch_port_order */
	uint64_t parent;      /* vmmd's pid: when that is gone, nothing is started */
	char *generation;     /* tells this start from the others */
};

enum switch_verb { SWITCH_ADD, SWITCH_REMOVE, SWITCH_STATUS };

struct switch_request {
	int verb; /* "do" */
	uint64_t port;
	char *mac;
};

/* <dir>/switch.json: who was started, durable before it does anything. */
struct switch_record {
	uint64_t pid, start_time, exe_dev, exe_ino;
	char *boot_id, *generation;
};

extern const struct field switch_port_fields[], switch_order_fields[], switch_request_fields[],
    switch_record_fields[];

/* Owned.  The machine's end lies in a folder of its own, the only one there that its emulator may
 * write to: it can not take the end of another one away. */
char *switch_path(const char *dir, unsigned port); /* the switch's end of a port */
char *switch_station_path(const char *dir, unsigned port);

#endif
