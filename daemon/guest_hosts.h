/* SPDX-License-Identifier: MPL-2.0 */
#ifndef DAEMON_GUEST_HOSTS_H
#define DAEMON_GUEST_HOSTS_H

#include <stdbool.h>

#include "lib/base/err.h"

struct job;
struct ssh;
struct vm_spec;

/* The names that a guest on private networks knows, in a guest that runs: the seed says the same at
 * each boot. */

bool guest_hosts_any(const struct vm_spec *spec);
/* Worker.  E_FAILED with the guest's words: there is no way to become root, or its /etc/hosts can
 * not be written. */
int guest_hosts_write(const struct vm_spec *spec, struct ssh *ssh, struct job *job, struct err *err);

#endif
