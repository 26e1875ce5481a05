/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_SSH_SESSION_H
#define LIB_SSH_SESSION_H

#include <libssh2.h>

#include "lib/ssh/ssh.h"

/* Between the files of this folder. */

struct ssh {
	LIBSSH2_SESSION *session;
	int fd;
	char *where;    /* "127.0.0.1:2222" */
	char *host_key; /* "type base64" */
	bool exited;    /* the running command's exit status or signal has arrived */
	bool lost;      /* the connection is of no more use */
};

/* How long the output of processes that a command left behind is waited for. */
enum { SSH_LINGER_MS = 1000 };

/* What bounds a call.  what: for messages, such as "the login". */
struct ssh_limit {
	struct job *job; /* may be NULL */
	uint64_t at_ms;  /* monotonic; UINT64_MAX: the job's deadline only */
	const char *what;
};

struct ssh_limit ssh_limit_in(struct job *job, uint64_t timeout_ms, const char *what);
/* Waits until libssh2 can go on, or one of `fds` (may be NULL; revents are filled) is ready, or
 * pause_ms passed (UINT64_MAX: no pause).  E_TIMEOUT, E_CANCELLED. */
struct pollfd;
int ssh_wait(struct ssh *ssh, const struct ssh_limit *limit, struct pollfd *fds, size_t count,
    uint64_t pause_ms, struct err *err);
int ssh_check(const struct ssh_limit *limit, struct err *err);
/* E_IO with libssh2's own words. */
int ssh_broken(struct ssh *ssh, const char *what, struct err *err);

/* Runs a libssh2 call until it has an answer: 0 or more, one of libssh2's negative codes, or a
 * positive enum err_code of the wait (then err is set). */
#define SSH_CALL(ssh, limit, err, call)                                                            \
	__extension__({                                                                            \
		int call_;                                                                         \
		while ((call_ = (call)) == LIBSSH2_ERROR_EAGAIN)                                   \
			if ((call_ = ssh_wait(ssh, limit, NULL, 0, UINT64_MAX, err)) != 0)         \
				break;                                                             \
		call_;                                                                             \
	})

/* libssh2 refuses to begin a packet while another one is half sent: whoever sees EAGAIN with bytes
 * waiting to go out has to repeat the same call before any other. */
static inline bool
ssh_must_repeat(struct ssh *ssh, ssize_t rc)
{
	return rc == LIBSSH2_ERROR_EAGAIN && (libssh2_session_block_directions(ssh->session) &
						 LIBSSH2_SESSION_BLOCK_OUTBOUND) != 0;
}

/* Such a call, repeated until that packet is out.  0, or the code of the wait that failed (err is
 * set); the packet then still gets a second, for the sake of what comes after it. */
#define SSH_REPEAT(ssh, limit, err, rc, call)                                                      \
	__extension__({                                                                            \
		struct ssh_limit grace_ = { 0 };                                                   \
		int failed_ = 0;                                                                   \
		while ((rc) = (call), ssh_must_repeat(ssh, rc)) {                                  \
			if (failed_ == 0) {                                                        \
				failed_ = ssh_wait(ssh, limit, NULL, 0, UINT64_MAX, err);          \
				if (failed_ != 0)                                                  \
					grace_ = ssh_limit_in(NULL, 1000, "the last packet");      \
			} else if (ssh_wait(ssh, &grace_, NULL, 0, UINT64_MAX, NULL) != 0) {       \
				(ssh)->lost = true;                                                \
				break;                                                             \
			}                                                                          \
		}                                                                                  \
		failed_;                                                                           \
	})

/* ---- channel.c ---- */

/* command NULL: the login shell. */
int ssh_channel_open(struct ssh *ssh, const char *command, const struct ssh_relay *tty,
    const struct ssh_limit *limit, LIBSSH2_CHANNEL **ret_channel, struct err *err);
/* What the two streams hold by now, at most `max` bytes of each.  Returns how many bytes came, or
 * -1 with err; fn may be NULL. */
ssize_t ssh_channel_read(struct ssh *ssh, LIBSSH2_CHANNEL *channel, ssh_output_fn *fn, void *arg,
    size_t max, const struct ssh_limit *limit, struct err *err);
/* How many bytes were taken (0: none now), or -1 with err. */
ssize_t ssh_channel_write(struct ssh *ssh, LIBSSH2_CHANNEL *channel, const void *data, size_t len,
    const struct ssh_limit *limit, struct err *err);
/* After the streams have ended: how the command ended. */
int ssh_channel_result(struct ssh *ssh, LIBSSH2_CHANNEL *channel, const struct ssh_limit *limit,
    struct ssh_result *ret_result, struct err *err);
/* Frees it.  ended: false ends the command in the guest, too. */
void ssh_channel_close(struct ssh *ssh, LIBSSH2_CHANNEL *channel, bool ended);

/* ---- exec.c ---- */

struct ssh_source { /* of stdin: first the bytes, then fd_len bytes of fd from its start */
	const char *data;
	size_t len;
	int fd;
	uint64_t fd_len;
};
int ssh_run(struct ssh *ssh, const char *command, const struct ssh_source *source,
    ssh_output_fn *on_output, void *arg, const struct ssh_limit *limit,
    struct ssh_result *ret_result, struct err *err);

#endif
