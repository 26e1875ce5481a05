/* SPDX-License-Identifier: MPL-2.0
 *
 * Running the tools of the system, and reading what they print for programs. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/mem.h"
#include "lib/base/process.h"
#include "lib/base/str.h"
#include "lib/base/worker.h"
#include "lib/hypervisor/propolis/host_parts.h"

enum { OUT_MAX = 4 << 20, ARGS_MAX = 24 };

extern char **environ;

int
host_turn_check(const struct host_turn *turn, struct err *err)
{
	if (job_cancelled(turn->job))
		return err_set(err, job_timed_out(turn->job) ? E_TIMEOUT : E_CANCELLED,
		    "the work on the machine was stopped");
	if (turn->end_ms != 0 && clock_ms() >= turn->end_ms)
		return err_set(err, E_TIMEOUT, "the work on the machine did not end in time");
	return 0;
}

struct host_turn
host_turn_back(void)
{
	return (struct host_turn){ .end_ms = clock_ms() + HOST_TAKE_BACK_MS };
}

void
host_turn_back_failed(struct err *err, const struct err *back)
{
	if (err == NULL || back->code == 0)
		return;
	err_hint(err,
	    "something is left, for the next attempt or the end of the machine to remove: %s",
	    back->msg);
}

int
host_pause(const struct host_turn *turn, unsigned ms, struct err *err)
{
	struct pollfd fd = { .fd = turn->job != NULL ? job_cancel_fd(turn->job) : -1,
		.events = POLLIN };

	if (poll(&fd, 1, (int)ms) < 0 && errno != EINTR)
		return err_errno(err, E_FAILED, errno, "poll");
	return host_turn_check(turn, err);
}

/* Ours without what chooses a language.  The array is owned, its strings are not. */
static const char **
plain_environment(void)
{
	size_t count = 0, kept = 0;
	const char **envp;

	while (environ[count] != NULL)
		count++;
	envp = xcalloc(count + 2, sizeof(*envp));
	for (size_t i = 0; i < count; i++) {
		if (!str_starts(environ[i], "LC_") && !str_starts(environ[i], "LANG"))
			envp[kept++] = environ[i];
	}
	envp[kept] = "LC_ALL=C";
	return envp;
}

static int
explain(const char *tool, int rc, const struct process_output *output, struct err *err)
{
	const char *words = output->err_text != NULL ? output->err_text : "";

	if (rc == E_NOT_FOUND || rc == E_PERMISSION)
		err_hint(err, "'%s' belongs to illumos; vmmd runs it itself or by pfexec", tool);
	if (rc != E_FAILED)
		return rc;
	if (strstr(words, "out of space") != NULL || strstr(words, strerror(ENOSPC)) != NULL) {
		err_set(err, E_NO_SPACE, "'%s' failed: %s", tool, words);
		err_hint(err, "the pool is full: 'zfs list -o space' shows what takes the room");
		return E_NO_SPACE;
	}
	if (strstr(words, "ermission denied") != NULL || strstr(words, "not authorized") != NULL ||
	    strstr(words, "must be a privileged user") != NULL) {
		err_set(err, E_PERMISSION, "'%s' failed: %s", tool, words);
		err_hint(err, "vmmd needs root, or the rights profile that docs/illumos.md names");
		return E_PERMISSION;
	}
	return rc;
}

int
host_tool(const struct host_turn *turn, const char *const *argv, uint64_t time_ms, char **ret_out,
    struct err *err)
{
	CLEANUP_FREE char *program = process_find(argv[0]);
	CLEANUP_FREE char *pfexec = geteuid() != 0 ? process_find("pfexec") : NULL;
	CLEANUP_FREE const char **envp = plain_environment();
	struct process_output output = { .name = argv[0], .envp = envp };
	const char *full[ARGS_MAX];
	uint64_t now = clock_ms();
	size_t count = 0;
	int rc = host_turn_check(turn, err);

	if (rc != 0)
		return rc;
	if (program == NULL) {
		err_set(err, E_UNSUPPORTED, "'%s' is not installed", argv[0]);
		err_hint(err, "the backend 'propolis' is for the global zone of illumos");
		return E_UNSUPPORTED;
	}
	if (pfexec != NULL)
		full[count++] = pfexec;
	full[count++] = program;
	for (size_t i = 1; argv[i] != NULL && count + 1 < ARGS_MAX; i++)
		full[count++] = argv[i];
	full[count] = NULL;
	if (turn->end_ms != 0 && turn->end_ms - now < time_ms)
		time_ms = turn->end_ms - now;
	rc = process_run(full, NULL, 0, OUT_MAX, time_ms, NULL, turn->job, &output, err);
	rc = explain(argv[0], rc, &output, err);
	if (rc == 0 && ret_out != NULL)
		*ret_out = TAKE(output.out);
	process_output_done(&output);
	return rc;
}

char *
host_line(char **text)
{
	char *line = *text, *end;

	if (line == NULL || *line == '\0')
		return NULL;
	end = strchr(line, '\n');
	*text = end != NULL ? end + 1 : NULL;
	if (end != NULL)
		*end = '\0';
	return line;
}

size_t
host_split(char *line, char **ret_fields, size_t max)
{
	size_t count = 0;
	char *out = line;

	for (char *in = line;; in++) {
		if (in == line || in[-1] == '\0') {
			if (count < max)
				ret_fields[count] = out;
			count++;
		}
		if (*in == '\\' && (in[1] == ':' || in[1] == '\\')) {
			*out++ = *++in;
			continue;
		}
		if (*in == '\0')
			break;
		if (*in == ':')
			*in = '\0'; /* seen by the next turn */
		*out++ = *in;
	}
	*out = '\0';
	return count;
}
