/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/base/log.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"

const char *const log_level_names[LOG_LEVELS] = { "error", "warn", "info", "debug" };
static const char *const journal_prefix[LOG_LEVELS] = { "<3>", "<4>", "<6>", "<7>" };
static _Atomic enum log_level threshold = LOG_LEVEL_INFO;

void
log_set_level(enum log_level level)
{
	threshold = level;
}

bool
log_level_parse(const char *name, enum log_level *ret_level)
{
	for (int i = 0; i < LOG_LEVELS; i++) {
		if (strcmp(name, log_level_names[i]) == 0) {
			*ret_level = (enum log_level)i;
			return true;
		}
	}
	return false;
}

void
log_message(enum log_level level, const char *fmt, ...)
{
	CLEANUP_FREE char *text = NULL, *shown = NULL, *line = NULL;
	struct timespec now;
	struct tm tm;
	char stamp[32];
	va_list ap;

	if (level > threshold)
		return;
	va_start(ap, fmt);
	text = xvasprintf(fmt, ap);
	va_end(ap);
	shown = str_printable(text, strlen(text));
	if (getenv("JOURNAL_STREAM") != NULL) {
		line = xasprintf("%s%s\n", journal_prefix[level], shown);
	} else {
		clock_gettime(CLOCK_REALTIME, &now);
		gmtime_r(&now.tv_sec, &tm);
		strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &tm);
		line = xasprintf("%s.%03ldZ %-5s %s\n", stamp, now.tv_nsec / 1000000,
		    log_level_names[level], shown);
	}
	/* One write, so that lines of several threads do not mix; a full disk must not stop us. */
	if (write(STDERR_FILENO, line, strlen(line)) < 0)
		return;
}
