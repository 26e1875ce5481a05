/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_HYPERVISOR_QEMU_QMP_H
#define LIB_HYPERVISOR_QEMU_QMP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/base/err.h"

struct json_object;
struct loop;
struct qmp;

/* QEMU's monitor: one connection, kept up as long as the qmp lives.  The other side is not
 * trusted: replies are bounded, floods are throttled, garbage closes the connection, and silence
 * is told.  Loop thread only. */

struct qmp_handler {
	/* Connected and negotiated, each time anew; events since the last connection were lost. */
	void (*on_ready)(void *arg);
	/* data: borrowed, may be NULL. */
	void (*on_event)(void *arg, const char *name, struct json_object *data);
	/* No answer for QMP_SILENCE_MS although one was due; and when it answers again. */
	void (*on_responsive)(void *arg, bool responsive);
};

enum {
	QMP_LINE_MAX = 1 << 20,
	QMP_SILENCE_MS = 5000, /* default time to answer; VMMD_QMP_SILENCE_MS overrides (tests) */
	QMP_PING_MS = 10000,
};

/* result: borrowed.  err NULL: it went well.  E_UNRESPONSIVE: no reply, so nobody knows whether
 * it was done; E_CANCELLED: the qmp was destroyed; E_FAILED: QEMU's own words. */
typedef void qmp_reply_fn(void *arg, struct json_object *result, const struct err *err);

/* path: copied.  Connects at once and again after each loss, with a growing pause. */
struct qmp *qmp_create(struct loop *loop, const char *path, const struct qmp_handler *handler,
    void *arg);
/* Only a peer of this pid is talked to; 0: whoever listens. */
void qmp_expect_peer(struct qmp *qmp, pid_t pid);
void qmp_destroy(struct qmp *qmp); /* pending replies run with E_CANCELLED first */

/* args: taken, may be NULL.  fn may be NULL.  Without a connection: E_UNRESPONSIVE, soon. */
void qmp_command(struct qmp *qmp, const char *name, struct json_object *args, qmp_reply_fn *fn,
    void *fn_arg);
unsigned qmp_silence_ms(const struct qmp *qmp);
bool qmp_ready(const struct qmp *qmp);
bool qmp_responsive(const struct qmp *qmp);
const char *qmp_version(const struct qmp *qmp); /* of QEMU, "7.2.22"; NULL before the first greeting */

#endif
