/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_SSH_SSH_H
#define LIB_SSH_SSH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"

struct env;
struct job;

/* SSH to a guest, over libssh2, on worker threads only; a session belongs to one thread.  Every
 * call is bounded by its job's deadline, ends with E_CANCELLED soon after job_cancel, and never
 * blocks in the kernel (non-blocking socket, poll beside job_cancel_fd). */

struct ssh_target { /* borrowed for the call */
	const char *host; /* an address; names are not looked up */
	uint16_t port;
	const char *user;
	const void *private_key; /* PEM, unencrypted */
	size_t private_key_len;
	const char *host_key; /* "ssh-ed25519 AAAA…" pinned; NULL: learn it */
	uint64_t timeout_ms;  /* for TCP, handshake and login together */
	/* How much of that the server's first byte may take; 0: all.  QEMU's own network takes
	 * connections before the guest listens. */
	uint64_t banner_timeout_ms;
};

struct ssh;

/* One attempt: connect, handshake, compare the host key, log in.
 * E_IO or E_TIMEOUT: not up (yet).  E_HOST_KEY: another host answers; nothing was sent to it.
 * E_AUTH: user or key refused (RSA with an old libssh2 says so).  E_PARAMS: unusable key. */
int ssh_open(const struct ssh_target *target, struct job *job, struct ssh **ret_ssh,
    struct err *err);
void ssh_close(struct ssh *ssh);
const char *ssh_host_key(const struct ssh *ssh); /* "type base64" of the host, borrowed */

enum ssh_stream { SSH_STDOUT, SSH_STDERR };
typedef void ssh_output_fn(void *arg, enum ssh_stream stream, const void *data, size_t len);

struct ssh_exec {
	const char *command;	 /* for the login shell of the user */
	const struct env *env;	 /* exported before the command; may be NULL */
	const void *input;	 /* stdin, then end of file; NULL: end of file at once */
	size_t input_len;
	ssh_output_fn *on_output; /* on the worker; NULL: thrown away */
	void *arg;
	uint64_t timeout_ms; /* 0: the job's deadline only */
};

struct ssh_result {
	int status;	 /* valid when signal is empty */
	char signal[32]; /* "KILL" … */
};

/* 0 when the command ended, however; a connection that is lost before is E_IO.  A missing exit
 * status is E_IO, never success.  On E_TIMEOUT and E_CANCELLED the command and its process group
 * are ended in the guest, and the session can be used again if the guest still answered.  A
 * command that ended but left a process with its output behind is done after a second of silence. */
int ssh_exec(struct ssh *ssh, const struct ssh_exec *exec, struct job *job,
    struct ssh_result *ret_result, struct err *err);

/* Streams a file to the guest: written beside under a random name that only the writer can read,
 * and renamed over the target with its owner and mode when all of it is there, so that nobody sees
 * half a file; removed when anything fails.  A folder as the target is refused, a link replaced.
 * E_FAILED: the guest's own words. */
struct ssh_upload {
	int fd;			 /* a regular file, sent from its start; borrowed */
	const char *destination; /* relative to the home folder */
	unsigned mode;		 /* exact */
	const char *owner;	 /* user or user:group; NULL: who writes it */
	bool sudo;		 /* write as root */
	uint64_t timeout_ms;	 /* 0: the job's deadline only */
};
int ssh_upload(struct ssh *ssh, const struct ssh_upload *upload, struct job *job, struct err *err);

/* Runs a command with the client's frames on fd (lib/base/frame.h): stdin, end of stdin and
 * window sizes in; stdout, stderr and exit out.  fd: borrowed, a stream socket, blocking or not.
 * tty: with a terminal of the given size.  0: the exit frame was sent.  On an error it was not, and
 * the caller tells the client; frames before it are whole.  The command is ended when the client
 * goes away (E_CANCELLED). */
struct ssh_relay {
	const char *command; /* NULL: the login shell */
	bool tty;
	const char *term;
	unsigned columns, rows;
};
int ssh_relay(struct ssh *ssh, const struct ssh_relay *relay, int fd, struct job *job,
    struct err *err);

/* Owned: the word quoted for a POSIX shell; the command after the exports of its environment. */
char *ssh_quote(const char *word);
char *ssh_with_env(const char *command, const struct env *env); /* env may be NULL */

/* ---- keys ---- */

struct ssh_keypair {
	char *private_pem; /* owned: openssh-key-v1, unencrypted */
	char *public_line; /* owned: "ssh-ed25519 AAAA…", no comment, no newline */
};
int ssh_keypair_create(struct ssh_keypair *ret_pair, struct err *err); /* Ed25519 */
void ssh_keypair_done(struct ssh_keypair *pair); /* wipes the private half */
/* Checks one public key line ("type base64 [comment]"); E_PARAMS names what is wrong. */
int ssh_public_key_check(const char *line, struct err *err);
/* The same for a private key that a person brings: a passphrase, a token or a foreign format can
 * not be used.  ssh_open checks it again. */
int ssh_private_key_check(const void *pem, size_t len, struct err *err);

#endif
