/* SPDX-License-Identifier: MPL-2.0
 *
 * A file goes in on the stdin of a few lines of shell.  Not over SFTP: that can not rename over a
 * file that is there (libssh2 1.10 lacks OpenSSH's extension), can not write as another user, needs
 * a server that some guests do not have, and leaves half a file behind when the connection breaks.
 * The shell counts what came, so that an end of file that is a lost connection is not mistaken for
 * the real one, and removes what is not whole. */
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/ssh/session.h"

/* $1 destination, $2 mode, $3 size, $4 owner or nothing, $5 a random word. */
static const char receive[] =
    "d=$1; t=$d.$5; say() { echo \"$1\" >&2; exit 1; }; "
    "[ ! -d \"$d\" ] || say \"it is a folder\"; "
    "case $d in */*) p=${d%/*}; [ -d \"${p:-/}\" ] || say \"there is no folder ${p:-/}\";; esac; "
    "umask 077; set -C; c() { rm -f -- \"$t\"; }; trap c EXIT; trap \"exit 1\" HUP INT PIPE TERM; "
    "cat >\"$t\" || exit 1; "
    "[ $(wc -c <\"$t\") -eq \"$3\" ] || say \"only a part arrived\"; "
    "{ [ -z \"$4\" ] || chown -- \"$4\" \"$t\"; } && chmod -- \"$2\" \"$t\" && mv -f -- \"$t\" "
    "\"$d\"";

enum { WORDS_MAX = 600 };

struct words { /* the last of what the guest said */
	char text[WORDS_MAX + 1];
	size_t len;
};

static void
on_words(void *arg, enum ssh_stream stream, const void *data, size_t len)
{
	struct words *words = arg;
	size_t room;

	if (len > WORDS_MAX) {
		data = (const char *)data + (len - WORDS_MAX);
		len = WORDS_MAX;
	}
	room = WORDS_MAX - words->len;
	if (len > room) {
		memmove(words->text, words->text + (len - room), words->len - (len - room));
		words->len -= len - room;
	}
	memcpy(words->text + words->len, data, len);
	words->len += len;
	words->text[words->len] = '\0';
}

static char *
command_for(const struct ssh_upload *upload, uint64_t size)
{
	CLEANUP_FREE char *script = ssh_quote(receive), *path = ssh_quote(upload->destination);
	CLEANUP_FREE char *owner = ssh_quote(upload->owner != NULL ? upload->owner : "");
	CLEANUP_FREE char *word = NULL;
	unsigned char random[8] = { 0 };

	RAND_bytes(random, sizeof(random));
	word = str_hex(random, sizeof(random));
	return xasprintf("%ssh -c %s sh %s %04o %llu %s vmm-%s", upload->sudo ? "sudo -n " : "",
	    script, path, upload->mode & 07777, (unsigned long long)size, owner, word);
}

int
ssh_upload(struct ssh *ssh, const struct ssh_upload *upload, struct job *job, struct err *err)
{
	struct ssh_limit limit = ssh_limit_in(job, upload->timeout_ms, "sending the file");
	struct ssh_source source = { .fd = upload->fd };
	CLEANUP_FREE char *command = NULL, *said = NULL;
	const char *path = upload->destination;
	struct words words = { .len = 0 };
	struct ssh_result result;
	struct stat st;
	int rc;

	if (path[0] == '\0' || path[strlen(path) - 1] == '/')
		return err_set(err, E_PARAMS, "'%s' is not the path of a file", path);
	if (fstat(upload->fd, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(err, E_IO, "what shall become '%s' is not a regular file", path);
	source.fd_len = (uint64_t)st.st_size;
	command = command_for(upload, source.fd_len);
	rc = ssh_run(ssh, command, &source, on_words, &words, &limit, &result, err);
	if (rc != 0) {
		err_wrap(err, "'%s' in the guest", path);
		return rc;
	}
	if (result.status == 0 && result.signal[0] == '\0')
		return 0;
	while (words.len > 0 && words.text[words.len - 1] == '\n')
		words.len--;
	said = str_printable(words.text, words.len);
	err_set(err, E_FAILED, "can not write '%s' in the guest: %s", path,
	    words.len > 0              ? said
	    : result.signal[0] != '\0' ? result.signal
				       : "no reason given");
	if (upload->sudo && strstr(said, "sudo") != NULL)
		err_hint(err, "the SSH user needs sudo without a password for this");
	return E_FAILED;
}
