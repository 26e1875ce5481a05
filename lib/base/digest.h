/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_BASE_DIGEST_H
#define LIB_BASE_DIGEST_H

#include <stddef.h>

/* SHA-256 (or SHA-512), piece by piece.  Any thread, one at a time. */
struct digest;

struct digest *digest_create(void);
struct digest *digest_create_sha512(void);
void digest_add(struct digest *digest, const void *data, size_t len);
/* Adds a value so that no two lists of values give the same bytes; NULL is not "". */
void digest_field(struct digest *digest, const void *data, size_t len);
void digest_text(struct digest *digest, const char *text);
char *digest_finish(struct digest *digest); /* owned: lower-case hex; destroys the digest */
void digest_destroy(struct digest *digest);

#endif
