/* SPDX-License-Identifier: MPL-2.0 */
#include "daemon/vm_state.h"

#include "lib/base/mem.h"
#include "tests/unit/unit.h"

/* The whole table again, in another shape: state, event, next.  What is not here is refused. */
static const struct {
	enum vm_state state;
	enum vm_event event;
	enum vm_state next;
} allowed[] = {
	{ VM_PREPARING, VM_EV_PREPARED, VM_PREPARED },
	{ VM_PREPARING, VM_EV_DESTROY, VM_DESTROYED },
	{ VM_PREPARED, VM_EV_START, VM_STARTING },
	{ VM_PREPARED, VM_EV_DESTROY, VM_DESTROYED },
	{ VM_STARTING, VM_EV_STARTED, VM_RUNNING },
	{ VM_STARTING, VM_EV_START_FAILED, VM_FAILED },
	{ VM_STARTING, VM_EV_START_UNDONE, VM_STOPPED },
	{ VM_STARTING, VM_EV_EXITED, VM_FAILED },
	{ VM_STARTING, VM_EV_ENDED, VM_STOPPED },
	{ VM_STARTING, VM_EV_HOST_REBOOT, VM_STOPPED },
	{ VM_STARTING, VM_EV_DESTROY, VM_DESTROYED },
	{ VM_RUNNING, VM_EV_PAUSED, VM_SUSPENDED },
	{ VM_RUNNING, VM_EV_RESUMED, VM_RUNNING },
	{ VM_RUNNING, VM_EV_STOP, VM_STOPPING },
	{ VM_RUNNING, VM_EV_GUEST_OFF, VM_STOPPED },
	{ VM_RUNNING, VM_EV_PANIC, VM_FAILED },
	{ VM_RUNNING, VM_EV_EXITED, VM_FAILED },
	{ VM_RUNNING, VM_EV_HOST_REBOOT, VM_STOPPED },
	{ VM_RUNNING, VM_EV_DESTROY, VM_DESTROYED },
	{ VM_SUSPENDED, VM_EV_PAUSED, VM_SUSPENDED },
	{ VM_SUSPENDED, VM_EV_RESUMED, VM_RUNNING },
	{ VM_SUSPENDED, VM_EV_STOP, VM_STOPPING },
	{ VM_SUSPENDED, VM_EV_GUEST_OFF, VM_STOPPED },
	{ VM_SUSPENDED, VM_EV_PANIC, VM_FAILED },
	{ VM_SUSPENDED, VM_EV_EXITED, VM_FAILED },
	{ VM_SUSPENDED, VM_EV_HOST_REBOOT, VM_STOPPED },
	{ VM_SUSPENDED, VM_EV_DESTROY, VM_DESTROYED },
	{ VM_STOPPING, VM_EV_PAUSED, VM_STOPPING },
	{ VM_STOPPING, VM_EV_RESUMED, VM_STOPPING },
	{ VM_STOPPING, VM_EV_STOP, VM_STOPPING },
	{ VM_STOPPING, VM_EV_STOP_UNDONE, VM_RUNNING },
	{ VM_STOPPING, VM_EV_GUEST_OFF, VM_STOPPING },
	{ VM_STOPPING, VM_EV_PANIC, VM_STOPPING },
	{ VM_STOPPING, VM_EV_EXITED, VM_FAILED },
	{ VM_STOPPING, VM_EV_ENDED, VM_STOPPED },
	{ VM_STOPPING, VM_EV_HOST_REBOOT, VM_STOPPED },
	{ VM_STOPPING, VM_EV_DESTROY, VM_DESTROYED },
	{ VM_STOPPED, VM_EV_START, VM_STARTING },
	{ VM_STOPPED, VM_EV_DESTROY, VM_DESTROYED },
	{ VM_FAILED, VM_EV_START, VM_STARTING },
	{ VM_FAILED, VM_EV_STOP, VM_STOPPING },
	{ VM_FAILED, VM_EV_DESTROY, VM_DESTROYED },
	{ VM_DESTROYED, VM_EV_PAUSED, VM_DESTROYED },
	{ VM_DESTROYED, VM_EV_RESUMED, VM_DESTROYED },
	{ VM_DESTROYED, VM_EV_GUEST_OFF, VM_DESTROYED },
	{ VM_DESTROYED, VM_EV_PANIC, VM_DESTROYED },
	{ VM_DESTROYED, VM_EV_EXITED, VM_DESTROYED },
	{ VM_DESTROYED, VM_EV_ENDED, VM_DESTROYED },
	{ VM_DESTROYED, VM_EV_DESTROY, VM_DESTROYED },
};

START_TEST(vm_state__every_pair__as_stated)
{
	for (int state = 0; state < VM_STATES; state++) {
		for (int event = 0; event < VM_EVENTS; event++) {
			enum vm_state next = VM_STATES, wanted = VM_STATES;
			bool ok = vm_state_next((enum vm_state)state, (enum vm_event)event, &next);

			for (size_t i = 0; i < ARRAY_LEN(allowed); i++)
				if ((int)allowed[i].state == state && (int)allowed[i].event == event)
					wanted = allowed[i].next;
			ck_assert_msg(ok == (wanted != VM_STATES) && next == wanted, "%s, %s: %s",
			    vm_state_names[state], vm_event_verbs[event],
			    ok ? vm_state_names[next] : "refused");
		}
	}
}
END_TEST

START_TEST(vm_state__names__read_back)
{
	for (int state = 0; state < VM_STATES; state++) {
		enum vm_state back = VM_STATES;

		ck_assert(vm_state_parse(vm_state_names[state], &back));
		ck_assert_int_eq(back, state);
	}
	for (int event = 0; event < VM_EVENTS; event++)
		ck_assert_ptr_nonnull(vm_event_verbs[event]);
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("vm_state");

	UNIT_CASE(s, vm_state__every_pair__as_stated);
	UNIT_CASE(s, vm_state__names__read_back);
	return unit_main(s);
}
