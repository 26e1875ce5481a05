/* SPDX-License-Identifier: MPL-2.0
 *
 * One command's channel: what exec, upload and relay share. */
#include <string.h>

#include "lib/base/mem.h"
#include "lib/base/worker.h"
#include "lib/ssh/session.h"

enum { CHUNK = 32768, WINDOW = 2 << 20, CLOSE_MS = 3000, KILL_MS = 2000 };

/* An SSH server leaves a command alone when its channel goes away.  Run on the same connection,
 * this finds its siblings (each has a process group of its own), asks them to end and a second
 * later makes them; the server confirms the end of the channel only then. */
static const char kill_siblings[] =
    "sh -c 'l=$(cat /proc/$PPID/task/$PPID/children 2>/dev/null) || "
    "l=$(ps -A -o pid= -o ppid= | while read -r a b; do [ \"$b\" != $PPID ] || echo $a; done); "
    "k() { for p in $l; do [ $p = $$ ] || { kill -s $1 -- -$p; sudo -n kill -s $1 -- -$p; }; done; "
    "}; "
    "exec </dev/null >/dev/null 2>&1; k TERM; (sleep 1; k KILL) &'";

static int
request_tty(struct ssh *ssh, LIBSSH2_CHANNEL *channel, const struct ssh_relay *tty,
    const struct ssh_limit *limit, struct err *err)
{
	const char *term = tty->term != NULL && tty->term[0] != '\0' ? tty->term : "dumb";
	unsigned columns = tty->columns != 0 ? tty->columns : 80,
		 rows = tty->rows != 0 ? tty->rows : 24;

	return SSH_CALL(ssh, limit, err,
	    libssh2_channel_request_pty_ex(
		channel, term, (unsigned)strlen(term), NULL, 0, (int)columns, (int)rows, 0, 0));
}

int
ssh_channel_open(struct ssh *ssh, const char *command, const struct ssh_relay *tty,
    const struct ssh_limit *limit, LIBSSH2_CHANNEL **ret_channel, struct err *err)
{
	LIBSSH2_CHANNEL *channel = NULL;
	int rc;

	if (ssh->lost)
		return err_set(err, E_IO, "the SSH connection to %s was lost", ssh->where);
	ssh->exited = false;
	rc = SSH_CALL(ssh, limit, err,
	    (channel = libssh2_channel_open_ex(
		 ssh->session, "session", strlen("session"), WINDOW, CHUNK, NULL, 0)) != NULL
		? 0
		: libssh2_session_last_errno(ssh->session));
	if (rc == 0 && tty != NULL)
		rc = request_tty(ssh, channel, tty, limit, err);
	if (rc == 0)
		rc = SSH_CALL(ssh, limit, err,
		    libssh2_channel_process_startup(channel, command != NULL ? "exec" : "shell",
			command != NULL ? strlen("exec") : strlen("shell"), command,
			command != NULL ? (unsigned)strlen(command) : 0));
	if (rc == 0) {
		*ret_channel = channel;
		return 0;
	}
	if (rc < 0)
		rc = ssh_broken(ssh, limit->what, err);
	if (channel != NULL)
		ssh_channel_close(ssh, channel, true);
	return rc;
}

static ssize_t
read_stream(struct ssh *ssh, LIBSSH2_CHANNEL *channel, enum ssh_stream stream, ssh_output_fn *fn,
    void *arg, size_t max, const struct ssh_limit *limit, struct err *err)
{
	char chunk[CHUNK];
	size_t total = 0;
	ssize_t n;

	while (total < max) {
		size_t want = max - total < sizeof(chunk) ? max - total : sizeof(chunk);

		if (SSH_REPEAT(ssh, limit, err, n,
			libssh2_channel_read_ex(channel,
			    stream == SSH_STDERR ? SSH_EXTENDED_DATA_STDERR : 0, chunk, want)) != 0)
			return -1;
		if (n == LIBSSH2_ERROR_EAGAIN || n == 0)
			break;
		if (n < 0) {
			ssh_broken(ssh, limit->what, err);
			return -1;
		}
		if (fn != NULL)
			fn(arg, stream, chunk, (size_t)n);
		total += (size_t)n;
	}
	return (ssize_t)total;
}

ssize_t
ssh_channel_read(struct ssh *ssh, LIBSSH2_CHANNEL *channel, ssh_output_fn *fn, void *arg,
    size_t max, const struct ssh_limit *limit, struct err *err)
{
	ssize_t out = read_stream(ssh, channel, SSH_STDOUT, fn, arg, max, limit, err), more = 0;

	if (out >= 0)
		more = read_stream(ssh, channel, SSH_STDERR, fn, arg, max, limit, err);
	return out < 0 || more < 0 ? -1 : out + more;
}

ssize_t
ssh_channel_write(struct ssh *ssh, LIBSSH2_CHANNEL *channel, const void *data, size_t len,
    const struct ssh_limit *limit, struct err *err)
{
	ssize_t n;

	if (libssh2_channel_eof(channel))
		return (ssize_t)len; /* nobody reads any more: as into a closed pipe */
	if (SSH_REPEAT(ssh, limit, err, n, libssh2_channel_write(channel, data, len)) != 0)
		return -1;
	if (n == LIBSSH2_ERROR_EAGAIN)
		return 0;
	if (n == LIBSSH2_ERROR_CHANNEL_CLOSED || n == LIBSSH2_ERROR_CHANNEL_EOF_SENT)
		return (ssize_t)len;
	if (n < 0)
		ssh_broken(ssh, limit->what, err);
	return n < 0 ? -1 : n;
}

int
ssh_channel_result(struct ssh *ssh, LIBSSH2_CHANNEL *channel, const struct ssh_limit *limit,
    struct ssh_result *ret_result, struct err *err)
{
	char *name = NULL;
	size_t len = 0;
	int rc = 0;

	/* The status may come after the end of the streams, but not after the channel's. */
	if (!ssh->exited)
		rc = SSH_CALL(ssh, limit, err, libssh2_channel_wait_closed(channel));
	if (rc > 0)
		return rc;
	if (!ssh->exited) {
		ssh->lost = ssh->lost || rc < 0;
		return err_set(
		    err, E_IO, "%s: %s ended it without telling how", limit->what, ssh->where);
	}
	memset(ret_result, 0, sizeof(*ret_result));
	ret_result->status = libssh2_channel_get_exit_status(channel);
	libssh2_channel_get_exit_signal(channel, &name, &len, NULL, NULL, NULL, NULL);
	if (name != NULL) {
		if (len >= sizeof(ret_result->signal))
			len = sizeof(ret_result->signal) - 1;
		memcpy(ret_result->signal, name, len);
		for (size_t i = 0; i < len; i++)
			if (ret_result->signal[i] < '!' || ret_result->signal[i] > '~')
				ret_result->signal[i] = '?';
		libssh2_free(ssh->session, name);
	}
	return 0;
}

static void
end_command(struct ssh *ssh)
{
	struct ssh_limit limit = ssh_limit_in(NULL, KILL_MS, "ending the command");
	LIBSSH2_CHANNEL *channel;
	struct ssh_result result;

	if (ssh_channel_open(ssh, kill_siblings, NULL, &limit, &channel, NULL) != 0)
		return;
	while (!libssh2_channel_eof(channel))
		if (ssh_channel_read(ssh, channel, NULL, NULL, CHUNK, &limit, NULL) < 0 ||
		    (!libssh2_channel_eof(channel) &&
			ssh_wait(ssh, &limit, NULL, 0, UINT64_MAX, NULL) != 0))
			break;
	if (libssh2_channel_eof(channel))
		ssh_channel_result(ssh, channel, &limit, &result, NULL);
	ssh_channel_close(ssh, channel, true);
}

void
ssh_channel_close(struct ssh *ssh, LIBSSH2_CHANNEL *channel, bool ended)
{
	struct ssh_limit limit = ssh_limit_in(NULL, CLOSE_MS, "closing the channel");

	if (!ended && !ssh->lost)
		end_command(ssh);
	if (!ssh->lost && SSH_CALL(ssh, &limit, NULL, libssh2_channel_free(channel)) != 0)
		ssh->lost = true; /* the session frees it */
}
