/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_YAML_PROBLEMS_H
#define LIB_YAML_PROBLEMS_H

#include <stddef.h>

#include "lib/base/err.h"

/* What is wrong in a file that people write, each thing with its place: all of it is told at once.
 * Plain memory, zero-initialise; any thread. */

struct problem {
	unsigned line, column; /* from 1; 0: of the whole file */
	struct err err;
};

struct problems {
	struct problem *items; /* in order of line */
	size_t count;
};

void problems_done(struct problems *problems);
/* Owned: "VMFile.yaml:3:5: unknown key 'vcpu' (did you mean 'vcpus'?)" a line each. */
char *problems_text(const struct problems *problems, const char *path);

/* More than this helps nobody; the rest is only counted by whoever adds them. */
enum { PROBLEMS_MAX = 100 };

/* Appends a copy (E_VMFILE).  The same words at the same place are kept once. */
void problems_add(struct problems *problems, unsigned line, unsigned column, const struct err *err);
/* hint may be NULL. */
void problems_addf(struct problems *problems, unsigned line, unsigned column, const char *hint,
    const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* "unknown key 'vcpu' (did you mean 'vcpus'?)". */
void problems_unknown_key(struct problems *problems, unsigned line, unsigned column,
    const char *key, const char *const *known, size_t count);
/* The first of them (there is one) as an error: "FILE:LINE:COLUMN: what".  Returns the code. */
int problems_err(struct problems *problems, const char *file, enum err_code code, struct err *err);
void problems_sort(struct problems *problems);

#endif
