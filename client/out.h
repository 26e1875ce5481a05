/* SPDX-License-Identifier: MPL-2.0 */
#ifndef CLIENT_OUT_H
#define CLIENT_OUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "lib/base/str.h"

struct err;
struct json_object;
struct vmctl;

/* What vmctl prints.  Text that came from elsewhere is made printable here, in one place. */

/* A line of text on stdout: the answer, for people.  Nothing with --json. */
void out_line(const struct vmctl *ctl, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A line on stderr, about the work; nothing with --quiet. */
void out_note(const struct vmctl *ctl, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The result on stdout with --json; readable on a terminal, one line elsewhere. */
void out_json(const struct vmctl *ctl, struct json_object *result);
/* Owned: JSON that no text in it can steer a terminal with: DEL and the controls above it are
 * written as \u…, which json-c does for those below the space alone. */
char *json_text(struct json_object *value, int flags);
/* The message, then the hint, on stderr. */
void out_error(const struct err *err);

struct table_column {
	const char *title;
	bool right;
};

struct table {
	const struct table_column *columns;
	size_t column_count;
	char **cells; /* owned, row by row */
	size_t count;
};

/* text: copied and made printable; NULL or "" is shown as "-". */
void table_add(struct table *table, const char *text);
void table_addf(struct table *table, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* By the first column. */
void table_sort(struct table *table);
/* Owned: a header and the rows, columns as wide as they need. */
char *table_text(const struct table *table);
void table_done(struct table *table);

/* Columns that a text takes on a terminal, one for each character. */
size_t text_width(const char *text);
/* Owned: at most `width` columns of a printable text, cut characters never halved. */
char *text_cut(const char *text, size_t width);
/* Owned: "0.8s", "12s", "3m20s", "1h02m". */
char *text_seconds(uint64_t ms);
/* Owned: "12s", "5m", "3h", "40d". */
char *text_age(uint64_t seconds);

#endif
