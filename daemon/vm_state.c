/* SPDX-License-Identifier: MPL-2.0 */
#include "daemon/vm_state.h"

#include <string.h>

const char *const vm_state_names[VM_STATES] = {
	[VM_PREPARING] = "preparing",
	[VM_PREPARED] = "prepared",
	[VM_STARTING] = "starting",
	[VM_RUNNING] = "running",
	[VM_SUSPENDED] = "suspended",
	[VM_STOPPING] = "stopping",
	[VM_STOPPED] = "stopped",
	[VM_FAILED] = "failed",
	[VM_DESTROYED] = "destroyed",
};

const char *const vm_event_verbs[VM_EVENTS] = {
	[VM_EV_PREPARED] = "prepare",
	[VM_EV_START] = "start",
	[VM_EV_STARTED] = "run",
	[VM_EV_START_FAILED] = "fail to start",
	[VM_EV_START_UNDONE] = "undo the start of",
	[VM_EV_PAUSED] = "suspend",
	[VM_EV_RESUMED] = "resume",
	[VM_EV_STOP] = "stop",
	[VM_EV_STOP_UNDONE] = "undo the stop of",
	[VM_EV_GUEST_OFF] = "power off",
	[VM_EV_PANIC] = "panic",
	[VM_EV_EXITED] = "end",
	[VM_EV_ENDED] = "end",
	[VM_EV_HOST_REBOOT] = "lose",
	[VM_EV_DESTROY] = "destroy",
};

struct transition {
	bool allowed;
	enum vm_state next;
};

/* clang-format off */
#define TO(state) { true, state }
static const struct transition table[VM_STATES][VM_EVENTS] = {
	[VM_PREPARING] = {
		[VM_EV_PREPARED]     = TO(VM_PREPARED),
		[VM_EV_DESTROY]      = TO(VM_DESTROYED),
	},
	[VM_PREPARED] = {
		[VM_EV_START]        = TO(VM_STARTING),
		[VM_EV_DESTROY]      = TO(VM_DESTROYED),
	},
	[VM_STARTING] = {
		[VM_EV_STARTED]      = TO(VM_RUNNING),
		[VM_EV_START_FAILED] = TO(VM_FAILED),
		[VM_EV_START_UNDONE] = TO(VM_STOPPED),
		[VM_EV_EXITED]       = TO(VM_FAILED),
		[VM_EV_ENDED]        = TO(VM_STOPPED),
		[VM_EV_HOST_REBOOT]  = TO(VM_STOPPED),
		[VM_EV_DESTROY]      = TO(VM_DESTROYED),
	},
	[VM_RUNNING] = {
		[VM_EV_PAUSED]       = TO(VM_SUSPENDED),
		[VM_EV_RESUMED]      = TO(VM_RUNNING),
		[VM_EV_STOP]         = TO(VM_STOPPING),
		[VM_EV_GUEST_OFF]    = TO(VM_STOPPED),
		[VM_EV_PANIC]        = TO(VM_FAILED),
		[VM_EV_EXITED]       = TO(VM_FAILED),
		[VM_EV_HOST_REBOOT]  = TO(VM_STOPPED),
		[VM_EV_DESTROY]      = TO(VM_DESTROYED),
	},
	[VM_SUSPENDED] = {
		[VM_EV_PAUSED]       = TO(VM_SUSPENDED),
		[VM_EV_RESUMED]      = TO(VM_RUNNING),
		[VM_EV_STOP]         = TO(VM_STOPPING),
		[VM_EV_GUEST_OFF]    = TO(VM_STOPPED),
		[VM_EV_PANIC]        = TO(VM_FAILED),
		[VM_EV_EXITED]       = TO(VM_FAILED),
		[VM_EV_HOST_REBOOT]  = TO(VM_STOPPED),
		[VM_EV_DESTROY]      = TO(VM_DESTROYED),
	},
	[VM_STOPPING] = {
		[VM_EV_PAUSED]       = TO(VM_STOPPING),
		[VM_EV_RESUMED]      = TO(VM_STOPPING),
		[VM_EV_STOP]         = TO(VM_STOPPING),
		[VM_EV_STOP_UNDONE]  = TO(VM_RUNNING),
		[VM_EV_GUEST_OFF]    = TO(VM_STOPPING),
		[VM_EV_PANIC]        = TO(VM_STOPPING),
		[VM_EV_EXITED]       = TO(VM_FAILED),
		[VM_EV_ENDED]        = TO(VM_STOPPED),
		[VM_EV_HOST_REBOOT]  = TO(VM_STOPPED),
		[VM_EV_DESTROY]      = TO(VM_DESTROYED),
	},
	[VM_STOPPED] = {
		[VM_EV_START]        = TO(VM_STARTING),
		[VM_EV_DESTROY]      = TO(VM_DESTROYED),
	},
	[VM_DESTROYED] = { /* it may still be ending */
		[VM_EV_PAUSED]       = TO(VM_DESTROYED),
		[VM_EV_RESUMED]      = TO(VM_DESTROYED),
		[VM_EV_GUEST_OFF]    = TO(VM_DESTROYED),
		[VM_EV_PANIC]        = TO(VM_DESTROYED),
		[VM_EV_EXITED]       = TO(VM_DESTROYED),
		[VM_EV_ENDED]        = TO(VM_DESTROYED),
		[VM_EV_DESTROY]      = TO(VM_DESTROYED),
	},
	[VM_FAILED] = {
		[VM_EV_START]        = TO(VM_STARTING),
		[VM_EV_STOP]         = TO(VM_STOPPING),
		[VM_EV_DESTROY]      = TO(VM_DESTROYED),
	},
};
/* clang-format on */

bool
vm_state_next(enum vm_state state, enum vm_event event, enum vm_state *ret_next)
{
	const struct transition *t = &table[state][event];

	if (t->allowed)
		*ret_next = t->next;
	return t->allowed;
}

bool
vm_state_parse(const char *name, enum vm_state *ret_state)
{
	for (int i = 0; i < VM_STATES; i++) {
		if (strcmp(name, vm_state_names[i]) == 0) {
			*ret_state = (enum vm_state)i;
			return true;
		}
	}
	return false;
}

bool
vm_state_is_live(enum vm_state state)
{
	switch (state) {
	case VM_STARTING:
	case VM_RUNNING:
	case VM_SUSPENDED:
	case VM_STOPPING:
		return true;
	case VM_PREPARING:
	case VM_PREPARED:
	case VM_STOPPED:
	case VM_FAILED:
	case VM_DESTROYED:
	case VM_STATES:
		return false;
	}
	return false;
}
