/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_BASE_STR_H
#define LIB_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/base/err.h"

/* A growing text; always zero terminated once something was added.  Zero-initialise to use. */
struct sbuf {
	char *data; /* owned; NULL while empty */
	size_t len;
	size_t cap;
};

void sbuf_add(struct sbuf *sb, const void *data, size_t len);
void sbuf_adds(struct sbuf *sb, const char *s);
void sbuf_addc(struct sbuf *sb, char c);
void sbuf_addf(struct sbuf *sb, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void sbuf_reset(struct sbuf *sb); /* empties, keeps the memory */
void sbuf_done(struct sbuf *sb);
char *sbuf_take(struct sbuf *sb); /* owned by the caller; never NULL */

bool str_eq(const char *a, const char *b); /* NULL equals only NULL */
bool str_starts(const char *s, const char *prefix);
bool str_ends(const char *s, const char *suffix);
/* Owned copy, fit for a terminal: control and invalid UTF-8 bytes become \xNN, newlines stay. */
char *str_printable(const char *s, size_t len);
char *str_line(const char *s, size_t len); /* the same, with spaces for newlines and tabs */
bool str_utf8_valid(const char *s, size_t len);
/* Edit distance with transpositions, and the nearest of `words` (NULL when none is near). */
size_t str_distance(const char *a, const char *b);
const char *str_nearest(const char *word, const char *const *words, size_t count);

/* Whole-string unsigned decimal; false on anything else, overflow included. */
bool str_to_u64(const char *s, uint64_t *ret_value);
/* "512", "512MiB", "1.5GiB", "1G", "10GB" → bytes.  A bare number counts `unit` bytes.  K, KiB,
 * M … are powers of 1024; KB, MB, GB powers of 1000. */
int str_to_size(const char *s, uint64_t unit, uint64_t *ret_bytes, struct err *err);
/* "90", "90s", "10min", "1h30m", "250ms" → milliseconds.  A bare number is seconds. */
int str_to_duration(const char *s, uint64_t *ret_ms, struct err *err);
/* Owned: "1 GiB", "1.5 GiB", "512 MiB". */
char *str_size(uint64_t bytes);

/* A machine's name: [a-z0-9]([a-z0-9-]{0,61}[a-z0-9])? */
bool str_name_valid(const char *name);
int str_name_check(const char *name, struct err *err); /* E_PARAMS with a hint */

char *str_base64(const void *data, size_t len);				     /* owned */
int str_unbase64(const char *s, unsigned char **ret_data, size_t *ret_len); /* 0 or E_PARAMS */
char *str_hex(const void *data, size_t len);				     /* owned */

#endif
