/* SPDX-License-Identifier: MPL-2.0 */
#ifndef DAEMON_VM_STATE_H
#define DAEMON_VM_STATE_H

#include <stdbool.h>

/* The life cycle of a machine as one table: states x events.  An empty cell refuses the event. */

enum vm_state {
	VM_PREPARING,
	VM_PREPARED,
	VM_STARTING,
	VM_RUNNING,
	VM_SUSPENDED,
	VM_STOPPING,
	VM_STOPPED,
	VM_FAILED,
	VM_DESTROYED,
	VM_STATES
};

enum vm_event {
	VM_EV_PREPARED,	   /* disk and folder are made */
	VM_EV_START,	   /* a start begins */
	VM_EV_STARTED,	   /* its processors run */
	VM_EV_START_FAILED,
	VM_EV_START_UNDONE, /* a start was cancelled; nothing runs */
	VM_EV_PAUSED,
	VM_EV_RESUMED,
	VM_EV_STOP,	   /* a stop begins */
	VM_EV_STOP_UNDONE, /* a stop was cancelled while it only asked; the machine runs on */
	VM_EV_GUEST_OFF,   /* the guest powered off by itself */
	VM_EV_PANIC,
	VM_EV_EXITED,	   /* its process ended and nobody asked for it */
	VM_EV_ENDED,	   /* its process ended because we asked */
	VM_EV_HOST_REBOOT, /* found gone after the host's restart */
	VM_EV_DESTROY,
	VM_EVENTS
};

extern const char *const vm_state_names[VM_STATES];
/* "start", "stop", … as in "cannot start it". */
extern const char *const vm_event_verbs[VM_EVENTS];

/* False: refused, *ret_next untouched. */
bool vm_state_next(enum vm_state state, enum vm_event event, enum vm_state *ret_next);
bool vm_state_parse(const char *name, enum vm_state *ret_state);

/* A process of the machine may exist. */
bool vm_state_is_live(enum vm_state state);

#endif
