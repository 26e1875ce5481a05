/* SPDX-License-Identifier: MPL-2.0
 *
 * libcontract as far as it is called: for linking, not for running. */
#include <errno.h>
#include <libcontract.h>

int
ct_tmpl_activate(int fd)
{
	return ENOSYS;
}

int
ct_tmpl_clear(int fd)
{
	return ENOSYS;
}

int
ct_tmpl_set_critical(int fd, uint_t events)
{
	return ENOSYS;
}

int
ct_tmpl_set_informative(int fd, uint_t events)
{
	return ENOSYS;
}

int
ct_pr_tmpl_set_fatal(int fd, uint_t events)
{
	return ENOSYS;
}

int
ct_pr_tmpl_set_param(int fd, uint_t params)
{
	return ENOSYS;
}

int
ct_ctl_abandon(int fd)
{
	return ENOSYS;
}

int
ct_status_read(int fd, int detail, ct_stathdl_t *status)
{
	return ENOSYS;
}

void
ct_status_free(ct_stathdl_t status)
{
}

ctid_t
ct_status_get_id(ct_stathdl_t status)
{
	return -1;
}

int
ct_event_read(int fd, ct_evthdl_t *event)
{
	return ENOSYS;
}

void
ct_event_free(ct_evthdl_t event)
{
}

ctid_t
ct_event_get_ctid(ct_evthdl_t event)
{
	return -1;
}

uint_t
ct_event_get_type(ct_evthdl_t event)
{
	return 0;
}

int
ct_pr_event_get_pid(ct_evthdl_t event, pid_t *pid)
{
	return ENOSYS;
}
