/* SPDX-License-Identifier: MPL-2.0 */
#ifndef ILLUMOS_LIBCONTRACT_H
#define ILLUMOS_LIBCONTRACT_H

#include <sys/contract.h>
#include <sys/types.h>

/* libcontract(3LIB): 0 or an error number, unless it returns what it names. */
typedef void *ct_evthdl_t;
typedef void *ct_stathdl_t;

int ct_tmpl_activate(int fd);
int ct_tmpl_clear(int fd);
int ct_tmpl_set_critical(int fd, uint_t events);
int ct_tmpl_set_informative(int fd, uint_t events);
int ct_pr_tmpl_set_fatal(int fd, uint_t events);
int ct_pr_tmpl_set_param(int fd, uint_t params);

int ct_ctl_abandon(int fd);

int ct_status_read(int fd, int detail, ct_stathdl_t *status);
void ct_status_free(ct_stathdl_t status);
ctid_t ct_status_get_id(ct_stathdl_t status);

int ct_event_read(int fd, ct_evthdl_t *event);
void ct_event_free(ct_evthdl_t event);
ctid_t ct_event_get_ctid(ct_evthdl_t event);
uint_t ct_event_get_type(ct_evthdl_t event);
int ct_pr_event_get_pid(ct_evthdl_t event, pid_t *pid);

#endif
