/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_NET_SWITCH_H
#define LIB_NET_SWITCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/base/err.h"

struct json_object;
struct loop;
struct net_switch;

/* The switch of one private network: a process of its own (vmm-switch) that outlives the daemon.
 * Loop thread only; nothing here blocks.  Each `done` is called exactly once, from the loop and
 * not from the call itself, also when the switch is closed meanwhile (E_CANCELLED, out of
 * net_switch_close); done may be NULL.  Callbacks may close the switch.
 *
 * A switch that ends without having been asked to is started again at the same paths with the same
 * ports, after pauses that grow from 50 ms to 10 s; no machine has to do anything for that. */

enum { NET_SWITCH_PORTS = 128 }; /* numbered from 0 */

struct net_switch_config {   /* copied */
	struct loop *loop;   /* borrowed */
	const char *program; /* path of vmm-switch */
	const char *dir;     /* short, 0700, there; this network's alone */
	uint64_t mtu;        /* 0: 1500 */
	uint64_t ageing_ms;  /* 0: 300000; what an address that is silent is forgotten after */
};

enum net_switch_event {
	NET_SWITCH_DOWN, /* it ended unasked, and is going to be started again: detail tells how */
	NET_SWITCH_UP,   /* it works again, or answers for the first time after E_UNRESPONSIVE */
};

/* detail: borrowed, may be NULL. */
typedef void net_switch_event_fn(void *arg, enum net_switch_event event, const char *detail);
typedef void net_switch_done_fn(void *arg, const struct err *err); /* NULL: it went well */
typedef void net_switch_status_fn(void *arg, struct json_object *status, const struct err *err);

struct net_switch *net_switch_open(
    const struct net_switch_config *config, net_switch_event_fn *on_event, void *arg);
void net_switch_close(struct net_switch *sw); /* forgets it; a process lives on.  NULL is fine */

/* A port of the network.  Its machine's end gets a folder, which goes with the port and with all
 * that is in it.  mac: the only address it may send from ("52:54:00:…"), or NULL.  While
 * there is no process (before start or adopt, or while it is started again) the port is noted, and
 * done says so.  E_EXISTS: the address is another port's; E_STATE: there is such a port. */
void net_switch_add(
    struct net_switch *sw, unsigned port, const char *mac, net_switch_done_fn *done, void *arg);
void net_switch_remove(struct net_switch *sw, unsigned port, net_switch_done_fn *done, void *arg);

/* Starts the process with the ports noted so far.  Failure: none is left. */
void net_switch_start(struct net_switch *sw, net_switch_done_fn *done, void *arg);
/* Takes over the process that an earlier daemon started in the folder, proved by pid, start time
 * and boot, and by what it says of itself; its ports become the noted ones.  E_NOT_FOUND: it is
 * gone.  E_UNRESPONSIVE: it lives and does not answer; it stays watched, NET_SWITCH_UP may follow.
 */
void net_switch_adopt(struct net_switch *sw, net_switch_done_fn *done, void *arg);
/* Done means ended; its files are gone, but the folders of ports that are there still.  Fine when
 * there is no process. */
void net_switch_stop(struct net_switch *sw, net_switch_done_fn *done, void *arg);
/* Ports, addresses learnt, counters.  status: borrowed. */
void net_switch_status(struct net_switch *sw, net_switch_status_fn *done, void *arg);
pid_t net_switch_pid(const struct net_switch *sw); /* 0: there is no process */

/* Owned paths of a port: QEMU binds the station's one, in a folder of the port alone (0700, made by
 * net_switch_add), and sends to the switch's
 * (-netdev dgram,local.path=<station>,remote.path=<switch>). */
char *net_switch_station_path(const char *dir, unsigned port);
char *net_switch_path(const char *dir, unsigned port);

#endif
