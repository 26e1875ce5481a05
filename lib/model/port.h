/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_MODEL_PORT_H
#define LIB_MODEL_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"

struct strings;

/* A port of the host whose connections go to a port of the guest.  Any thread. */

enum { PORTS_MAX = 64, PORT_TEXT_MAX = 80, PORT_HOST_MAX = 46 };

enum port_protocol { PORT_TCP, PORT_UDP };
extern const char *const port_protocol_names[]; /* "tcp", "udp", NULL */

struct port {
	char host[PORT_HOST_MAX]; /* an address as inet_ntop writes it */
	bool ipv6;
	uint16_t host_port; /* 0: the kernel chooses */
	uint16_t guest_port;
	int protocol; /* enum port_protocol */
};

/* "8080:80", "80", "127.0.0.1:5353:53/udp", "127.0.0.1::80", "[::1]:8443:443", "0:22": E_PARAMS
 * tells what is wrong, and err->object is left alone. */
int port_parse(const char *text, struct port *ret_port, struct err *err);
/* As port_parse reads it; text: PORT_TEXT_MAX bytes.  Returns text. */
const char *port_text(const struct port *port, char *text);
/* "127.0.0.1:8080 (tcp)" is what others have to leave alone; "127.0.0.1:0" nobody. */
const char *port_host_text(const struct port *port, char *text);
bool port_equal(const struct port *a, const struct port *b);
/* Would both take the same port of the host?  Never for one that the kernel chooses. */
bool port_overlaps(const struct port *a, const struct port *b);

/* A machine's list; each entry must have been checked.  Returns how many there are. */
size_t ports_parse(const struct strings *texts, struct port ret_ports[PORTS_MAX]);
/* The first entry that is wrong, or in the way of an earlier one: E_PARAMS, *ret_index. */
int ports_check(const struct strings *texts, size_t *ret_index, struct err *err);

#endif
