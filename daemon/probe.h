/* SPDX-License-Identifier: MPL-2.0 */
#ifndef DAEMON_PROBE_H
#define DAEMON_PROBE_H

#include <stdint.h>

struct loop;
struct probe;

/* Probes a TCP port for an SSH banner until one comes.  Loop thread only.
 * host: a numeric address, copied.  on_banner runs once; the probe is idle then and may be
 * destroyed in it. */
struct probe *probe_create(struct loop *loop, const char *host, uint16_t port,
    void (*on_banner)(void *arg), void *arg);
void probe_destroy(struct probe *probe);

#endif
