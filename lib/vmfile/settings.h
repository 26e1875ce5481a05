/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_VMFILE_SETTINGS_H
#define LIB_VMFILE_SETTINGS_H

#include "lib/base/err.h"
#include "lib/model/field.h"

/* Reads a flat YAML mapping of scalars (kebab-case keys) into a zeroed struct described by rows;
 * defaults first.  path NULL: only the defaults.  E_USAGE with path:line:column for what is wrong. */
int settings_load(const char *path, const struct field *fields, void *ret_struct, struct err *err);

#endif
