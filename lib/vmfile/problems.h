/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_VMFILE_PROBLEMS_H
#define LIB_VMFILE_PROBLEMS_H

#include <stddef.h>

#include "lib/base/err.h"

struct vmfile_problems;

/* More than this helps nobody; the rest is only counted by whoever adds them. */
enum { PROBLEMS_MAX = 100 };

/* Appends a copy (E_VMFILE).  The same words at the same place are kept once. */
void problems_add(
    struct vmfile_problems *problems, unsigned line, unsigned column, const struct err *err);
/* hint may be NULL. */
void problems_addf(struct vmfile_problems *problems, unsigned line, unsigned column,
    const char *hint, const char *fmt, ...) __attribute__((format(printf, 5, 6)));
/* "unknown key 'vcpu' (did you mean 'vcpus'?)". */
void problems_unknown_key(struct vmfile_problems *problems, unsigned line, unsigned column,
    const char *key, const char *const *known, size_t count);
/* The first of them (there is one) as an error: "FILE:LINE:COLUMN: what".  Returns the code. */
int problems_err(
    struct vmfile_problems *problems, const char *file, enum err_code code, struct err *err);
void problems_sort(struct vmfile_problems *problems);

#endif
