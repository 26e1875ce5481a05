/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_BASE_LOG_H
#define LIB_BASE_LOG_H

#include <stdbool.h>

/* One line a message on stderr: "<time> level message" (with the systemd level prefix instead of
 * the time when stderr is the journal).  Any thread.  lib/ and proto/ log nothing above debug. */
enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARN, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG, LOG_LEVELS };

extern const char *const log_level_names[LOG_LEVELS];
void log_set_level(enum log_level level);
bool log_level_parse(const char *name, enum log_level *ret_level);
void log_message(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#define log_error(...) log_message(LOG_LEVEL_ERROR, __VA_ARGS__)
#define log_warn(...) log_message(LOG_LEVEL_WARN, __VA_ARGS__)
#define log_info(...) log_message(LOG_LEVEL_INFO, __VA_ARGS__)
#define log_debug(...) log_message(LOG_LEVEL_DEBUG, __VA_ARGS__)

#endif
