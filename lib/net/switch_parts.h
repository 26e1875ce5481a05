/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_NET_SWITCH_PARTS_H
#define LIB_NET_SWITCH_PARTS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "lib/base/process.h"
#include "lib/net/switch.h"
#include "lib/net/switch/order.h"

/* What the files of net_switch share. */

struct json_object;
struct process_watch;
struct stream;
struct timer;

enum net_switch_phase {
	SW_IDLE,
	SW_STARTING,
	SW_ADOPTING,
	SW_UP,
	SW_WAITING, /* before it is started again */
	SW_STOPPING,
};

struct net_switch_op { /* a callback that is owed */
	TAILQ_ENTRY(net_switch_op) link;
	struct net_switch *sw; /* NULL: was called */
	net_switch_done_fn *done;
	net_switch_status_fn *status;
	void *arg;
	bool posted, is_event;
	enum net_switch_event event; /* its detail is err.msg */
	struct err err;
	struct json_object *answer; /* owned */
};

/* What the switch was asked and has not answered. */
struct net_switch_ask {
	TAILQ_ENTRY(net_switch_ask) link;
	enum switch_verb verb;
	unsigned port;
	struct net_switch_op *op; /* NULL: our own question */
};

struct net_switch_port {
	bool present;
	char *mac;
};

struct net_switch {
	struct loop *loop;
	char *program, *dir;
	uint64_t mtu, ageing_ms;
	net_switch_event_fn *on_event;
	void *arg;
	struct net_switch_port ports[NET_SWITCH_PORTS]; /* as wanted */
	enum net_switch_phase phase;
	bool was_up, unresponsive;
	pid_t pid;
	int pidfd;
	char generation[17];
	struct process_watch *watch;
	struct stream *stream;
	struct timer *timer; /* by phase: the deadline of an answer, or the next start */
	unsigned failures;
	uint64_t up_since_ms;
	struct net_switch_op *first, *stop; /* of start or adopt; of stop */
	TAILQ_HEAD(, net_switch_op) ops;
	TAILQ_HEAD(, net_switch_ask) asked;
};

/* Spawns the process with all its ports; fills pid, pidfd and generation. */
int net_switch_spawn(struct net_switch *sw, struct err *err);
/* Finds the process of the folder's record; fills the same. */
int net_switch_find(struct net_switch *sw, struct err *err);
int net_switch_connect(const struct net_switch *sw, int *ret_fd, struct err *err);
char *net_switch_last_words(const struct net_switch *sw); /* owned line of its log; NULL: none */
int net_switch_make_folder(const struct net_switch *sw, unsigned port, struct err *err);
void net_switch_remove_folder(const struct net_switch *sw, unsigned port);
void net_switch_remove_files(const struct net_switch *sw); /* and the folders of no port */

#endif
