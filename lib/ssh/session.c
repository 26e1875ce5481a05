/* SPDX-License-Identifier: MPL-2.0
 *
 * One connection: TCP, handshake, host key, login.  The socket never blocks; every wait is a poll
 * of it beside the job's cancel descriptor. */
#include "lib/ssh/session.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/base/worker.h"
#include "lib/ssh/key_check.h"

/* libssh2_init counts without a lock, so it is not left to the first of several workers. */
__attribute__((constructor)) static void
start_library(void)
{
	libssh2_init(0);
}

/* ---- memory ----
 *
 * libssh2 gets its memory from here for two reasons.  Keys and what was typed pass through it, so
 * it is wiped.  And before 1.12 it has no way to tell "status 0" from "no status came": the message
 * itself is seen when it is freed, after libssh2 has read it. */

struct block {
	size_t len;
	max_align_t data[];
};

static void
look_for_exit(struct ssh *ssh, const unsigned char *data, size_t len)
{
	enum { CHANNEL_REQUEST = 98 };
	static const unsigned char status[] = "\0\0\0\013exit-status";
	static const unsigned char by_signal[] = "\0\0\0\013exit-signal";

	if (len < 5 + sizeof(status) || data[0] != CHANNEL_REQUEST)
		return;
	if (memcmp(data + 5, status, sizeof(status) - 1) == 0 ||
	    memcmp(data + 5, by_signal, sizeof(by_signal) - 1) == 0)
		ssh->exited = true;
}

static LIBSSH2_ALLOC_FUNC(on_alloc)
{
	struct block *block = malloc(sizeof(*block) + count);

	if (block == NULL)
		return NULL;
	block->len = count;
	return block->data;
}

static LIBSSH2_FREE_FUNC(on_free)
{
	struct block *block;

	if (ptr == NULL)
		return;
	block = (struct block *)((char *)ptr - offsetof(struct block, data));
	look_for_exit(*abstract, ptr, block->len);
	mem_wipe(ptr, block->len);
	free(block);
}

static LIBSSH2_REALLOC_FUNC(on_realloc)
{
	const struct block *block;
	void *fresh = on_alloc(count, abstract);

	if (fresh == NULL || ptr == NULL)
		return fresh;
	block = (struct block *)((char *)ptr - offsetof(struct block, data));
	memcpy(fresh, ptr, block->len < count ? block->len : count);
	on_free(ptr, abstract);
	return fresh;
}

/* ---- waiting ---- */

struct ssh_limit
ssh_limit_in(struct job *job, uint64_t timeout_ms, const char *what)
{
	uint64_t now = clock_ms();

	return (struct ssh_limit){ .job = job,
		.at_ms = timeout_ms == 0 || timeout_ms > UINT64_MAX - now ? UINT64_MAX
									  : now + timeout_ms,
		.what = what };
}

static uint64_t
remaining(const struct ssh_limit *limit)
{
	uint64_t now = clock_ms(), job = job_remaining_ms(limit->job), own;

	own = limit->at_ms == UINT64_MAX ? UINT64_MAX : limit->at_ms > now ? limit->at_ms - now : 0;
	return own < job ? own : job;
}

int
ssh_check(const struct ssh_limit *limit, struct err *err)
{
	if (job_cancelled(limit->job) && !job_timed_out(limit->job))
		return err_set(err, E_CANCELLED, "%s was cancelled", limit->what);
	if (job_cancelled(limit->job) || remaining(limit) == 0)
		return err_set(err, E_TIMEOUT, "%s did not end in time", limit->what);
	return 0;
}

int
ssh_wait(struct ssh *ssh, const struct ssh_limit *limit, struct pollfd *fds, size_t count,
    uint64_t pause_ms, struct err *err)
{
	struct pollfd all[8];
	uint64_t left;
	int directions, n, rc;

	do {
		rc = ssh_check(limit, err);
		if (rc != 0)
			return rc;
		directions =
		    ssh->session != NULL ? libssh2_session_block_directions(ssh->session) : 0;
		all[0] = (struct pollfd){ .fd = ssh->fd, .events = POLLIN };
		if (directions & LIBSSH2_SESSION_BLOCK_OUTBOUND)
			all[0].events |= POLLOUT;
		all[1] = (struct pollfd){ .fd = job_cancel_fd(limit->job), .events = POLLIN };
		for (size_t i = 0; i < count; i++)
			all[2 + i] = fds[i];
		left = remaining(limit);
		if (pause_ms < left)
			left = pause_ms;
		n = poll(all, 2 + count, left > 3600000 ? 3600000 : (int)left);
	} while ((n < 0 && errno == EINTR) || (n == 0 && pause_ms > left));
	if (n < 0)
		return err_errno(err, E_IO, errno, "%s failed", limit->what);
	for (size_t i = 0; i < count; i++)
		fds[i].revents = all[2 + i].revents;
	return all[1].revents != 0 ? ssh_check(limit, err) : 0;
}

int
ssh_broken(struct ssh *ssh, const char *what, struct err *err)
{
	char *text = NULL;
	int code = libssh2_session_last_error(ssh->session, &text, NULL, 0);

	ssh->lost = true;
	return err_set(err, E_IO, "%s: the SSH connection to %s broke (%s, %d)", what, ssh->where,
	    text != NULL && *text != '\0' ? text : "no reason given", code);
}

/* ---- TCP ---- */

static int
wait_fd(struct ssh *ssh, short events, const struct ssh_limit *limit, struct err *err)
{
	struct pollfd fd = { .fd = ssh->fd, .events = events };
	int own = ssh->fd, rc;

	ssh->fd = -1; /* only for what is asked */
	do
		rc = ssh_wait(ssh, limit, &fd, 1, UINT64_MAX, err);
	while (rc == 0 && fd.revents == 0);
	ssh->fd = own;
	return rc;
}

static int
connect_tcp(struct ssh *ssh, const struct ssh_target *target, const struct ssh_limit *limit,
    struct err *err)
{
	struct addrinfo hints = { .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV,
		.ai_socktype = SOCK_STREAM };
	struct addrinfo *found = NULL;
	int one = 1, failed = 0, rc = 0;
	socklen_t len = sizeof(failed);
	char port[8];

	snprintf(port, sizeof(port), "%u", target->port);
	if (getaddrinfo(target->host, port, &hints, &found) != 0)
		return err_set(err, E_PARAMS, "'%s' is not an address", target->host);
	ssh->fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (ssh->fd < 0) {
		failed = errno;
	} else {
		setsockopt(ssh->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		setsockopt(ssh->fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
		if (connect(ssh->fd, found->ai_addr, found->ai_addrlen) < 0)
			failed = errno;
	}
	freeaddrinfo(found);
	if (failed == EINPROGRESS) {
		failed = 0;
		rc = wait_fd(ssh, POLLOUT, limit, err);
		if (rc == 0)
			getsockopt(ssh->fd, SOL_SOCKET, SO_ERROR, &failed, &len);
	}
	if (failed != 0)
		return err_errno(err, E_IO, failed, "can not connect to %s", ssh->where);
	return rc;
}

/* QEMU's own network takes the connection long before the guest listens, so it is the first byte
 * of the server that shows that somebody is there. */
static int
wait_banner(struct ssh *ssh, const struct ssh_target *target, const struct ssh_limit *limit,
    struct err *err)
{
	struct ssh_limit banner = *limit;
	uint64_t at = clock_ms() + target->banner_timeout_ms;
	char byte;
	ssize_t n;
	int rc;

	if (target->banner_timeout_ms != 0 && at < banner.at_ms)
		banner.at_ms = at;
	banner.what = "waiting for the SSH server's first line";
	rc = wait_fd(ssh, POLLIN, &banner, err);
	if (rc != 0)
		return rc;
	n = recv(ssh->fd, &byte, 1, MSG_PEEK);
	if (n == 0)
		return err_set(err, E_IO, "%s closed the connection at once", ssh->where);
	if (n < 0)
		return err_errno(err, E_IO, errno, "%s hung up", ssh->where);
	return 0;
}

/* ---- host key ---- */

static char *
type_of(const char *line)
{
	return xstrndup(line, strcspn(line, " \t"));
}

static bool
listed(const char *const *names, int count, const char *name, size_t len)
{
	for (int i = 0; i < count; i++)
		if (strlen(names[i]) == len && memcmp(names[i], name, len) == 0)
			return true;
	return false;
}

/* libssh2 takes a name that it does not know out of the list by copying memory over itself (seen
 * by the address sanitizer with 1.10), so it only gets names that it knows. */
static void
prefer(struct ssh *ssh, int what, const char *names)
{
	const char **known = NULL;
	int count = libssh2_session_supported_algs(ssh->session, what, &known);
	struct sbuf list = { 0 };

	for (size_t len; *names != '\0'; names += len + (names[len] == ',')) {
		len = strcspn(names, ",");
		if (!listed(known, count, names, len))
			continue;
		if (list.len > 0)
			sbuf_addc(&list, ',');
		sbuf_add(&list, names, len);
	}
	if (list.len > 0)
		libssh2_session_method_pref(ssh->session, what, list.data);
	sbuf_done(&list);
	if (known != NULL)
		libssh2_free(ssh->session, known);
}

/* The pinned type first: libssh2 would ask for ECDSA, and then another key of the right guest
 * looked like a wrong one.  The others follow so that a wrong host can be named as such. */
static void
prefer_methods(struct ssh *ssh, const char *pinned)
{
	static const char all[] = "ssh-ed25519,ecdsa-sha2-nistp256,ecdsa-sha2-nistp384,"
				  "ecdsa-sha2-nistp521,rsa-sha2-512,rsa-sha2-256,ssh-rsa";
	static const char ciphers[] = "aes256-gcm@openssh.com,aes128-gcm@openssh.com,aes128-ctr,"
				      "aes192-ctr,aes256-ctr";
	CLEANUP_FREE char *type = pinned != NULL ? type_of(pinned) : NULL;
	CLEANUP_FREE char *order = type != NULL ? xasprintf("%s,%s", type, all) : xstrdup(all);

	prefer(ssh, LIBSSH2_METHOD_HOSTKEY, order);
	prefer(ssh, LIBSSH2_METHOD_CRYPT_CS, ciphers);
	prefer(ssh, LIBSSH2_METHOD_CRYPT_SC, ciphers);
}

static char *
key_line(const unsigned char *blob, size_t len)
{
	size_t type_len = len >= 4 ? (size_t)blob[2] << 8 | blob[3] : 0;
	CLEANUP_FREE char *text = NULL, *type = NULL;

	if (len < 4 || blob[0] != 0 || blob[1] != 0 || type_len > len - 4 || type_len > 64)
		return NULL;
	type = str_printable((const char *)blob + 4, type_len);
	text = str_base64(blob, len);
	return xasprintf("%s %s", type, text);
}

static int
compare_host_key(struct ssh *ssh, const char *pinned, struct err *err)
{
	size_t len = 0, at, end;
	int type;
	const char *blob = libssh2_session_hostkey(ssh->session, &len, &type);
	CLEANUP_FREE char *wanted = NULL;

	ssh->host_key = blob != NULL ? key_line((const unsigned char *)blob, len) : NULL;
	if (ssh->host_key == NULL)
		return ssh_broken(ssh, "reading the host key", err);
	if (pinned == NULL)
		return 0;
	at = strcspn(pinned, " \t");
	end = at + strspn(pinned + at, " \t");
	end += strcspn(pinned + end, " \t\r\n");
	wanted = xstrndup(pinned, end);
	if (str_eq(wanted, ssh->host_key))
		return 0;
	ssh->lost = true;
	err_set(err, E_HOST_KEY, "%s shows the host key '%s' and not the pinned '%s'", ssh->where,
	    ssh->host_key, wanted);
	err_hint(err,
	    "another machine answers there, or the guest's SSH keys were made anew; nothing was "
	    "sent to it");
	return E_HOST_KEY;
}

/* ---- login ---- */

static int
refused(const struct ssh_target *target, struct ssh *ssh, bool rsa, struct err *err)
{
	err_set(err, E_AUTH, "%s refused the key of user '%s'", ssh->where, target->user);
	if (rsa && libssh2_version(0x010b00) == NULL)
		err_hint(err,
		    "libssh2 %s signs with RSA keys in a way that servers of today refuse: use an "
		    "Ed25519 or ECDSA key",
		    libssh2_version(0));
	else
		err_hint(err, "is '%s' a user of the guest, with this key in its authorized_keys?",
		    target->user);
	return E_AUTH;
}

static int
login(struct ssh *ssh, const struct ssh_target *target, bool rsa, const struct ssh_limit *limit,
    struct err *err)
{
	int rc = SSH_CALL(ssh, limit, err,
	    libssh2_userauth_publickey_frommemory(ssh->session, target->user, strlen(target->user),
		NULL, 0, target->private_key, target->private_key_len, NULL));

	switch (rc) {
	case LIBSSH2_ERROR_AUTHENTICATION_FAILED:
	case LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED:
	case LIBSSH2_ERROR_METHOD_NOT_SUPPORTED:
		ssh->lost = true;
		return refused(target, ssh, rsa, err);
	case LIBSSH2_ERROR_FILE:
	case LIBSSH2_ERROR_INVAL:
		ssh->lost = true;
		return err_set(err, E_PARAMS, "libssh2 can not use this private key");
	default:
		return rc < 0 ? ssh_broken(ssh, limit->what, err) : rc;
	}
}

static int
open_steps(struct ssh *ssh, const struct ssh_target *target, bool rsa,
    const struct ssh_limit *limit, struct err *err)
{
	int rc = connect_tcp(ssh, target, limit, err);

	if (rc == 0)
		rc = wait_banner(ssh, target, limit, err);
	if (rc != 0)
		return rc;
	ssh->session = libssh2_session_init_ex(on_alloc, on_free, on_realloc, ssh);
	if (ssh->session == NULL)
		return err_set(err, E_FAILED, "libssh2 did not start");
	libssh2_session_set_blocking(ssh->session, 0);
	prefer_methods(ssh, target->host_key);
	rc = SSH_CALL(ssh, limit, err, libssh2_session_handshake(ssh->session, ssh->fd));
	if (rc < 0)
		return ssh_broken(ssh, "handshake", err);
	if (rc == 0)
		rc = compare_host_key(ssh, target->host_key, err);
	return rc != 0 ? rc : login(ssh, target, rsa, limit, err);
}

int
ssh_open(const struct ssh_target *target, struct job *job, struct ssh **ret_ssh, struct err *err)
{
	struct ssh_limit limit = ssh_limit_in(job, target->timeout_ms, "the SSH login");
	struct ssh *ssh;
	bool rsa = false;
	int rc;

	if (target->host_key != NULL && ssh_public_key_check(target->host_key, err) != 0) {
		err_wrap(err, "the pinned host key");
		return E_PARAMS;
	}
	rc = ssh_private_key_inspect(target->private_key, target->private_key_len, &rsa, err);
	if (rc != 0)
		return rc;
	ssh = xcalloc(1, sizeof(*ssh));
	ssh->fd = -1;
	ssh->where = xasprintf(
	    strchr(target->host, ':') != NULL ? "[%s]:%u" : "%s:%u", target->host, target->port);
	rc = open_steps(ssh, target, rsa, &limit, err);
	if (rc != 0) {
		ssh->lost = true;
		ssh_close(ssh);
		return rc;
	}
	*ret_ssh = ssh;
	return 0;
}

void
ssh_close(struct ssh *ssh)
{
	if (ssh == NULL)
		return;
	if (ssh->session != NULL && !ssh->lost)
		libssh2_session_disconnect(ssh->session, "bye");
	/* Without a connection libssh2 has nothing to wait for while it frees. */
	if (ssh->fd >= 0)
		shutdown(ssh->fd, SHUT_RDWR);
	if (ssh->session != NULL)
		for (int i = 0;
		     i < 100 && libssh2_session_free(ssh->session) == LIBSSH2_ERROR_EAGAIN; i++)
			;
	if (ssh->fd >= 0)
		close(ssh->fd);
	free(ssh->host_key);
	free(ssh->where);
	free(ssh);
}

const char *
ssh_host_key(const struct ssh *ssh)
{
	return ssh->host_key;
}
