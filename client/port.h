/* SPDX-License-Identifier: MPL-2.0 */
#ifndef CLIENT_PORT_H
#define CLIENT_PORT_H

struct json_object;

/* A row of `ports`, for people; both owned. */
char *port_from_shown(struct json_object *port); /* "127.0.0.1:8080", "127.0.0.1:(chosen at start)" */
char *port_to_shown(struct json_object *port);	 /* "80", "53/udp" */

#endif
