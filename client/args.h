/* SPDX-License-Identifier: MPL-2.0 */
#ifndef CLIENT_ARGS_H
#define CLIENT_ARGS_H

#include "client/vmctl.h"

/* Command lines to structs, by rows. */

/* Finds the verb at the start of argv (global flags may come before it).  *ret_verb NULL: there is
 * none, but a global flag that needs none.  *ret_next: the first word after the verb. */
int args_verb(int argc, char **argv, struct global_args *global, const struct verb **ret_verb,
    int *ret_next, struct err *err);
/* The words after the verb.  args: zeroed, verb->args_size bytes; defaults are filled in.
 * A missing positional is no error when --help was given. */
int args_parse(const struct verb *verb, int argc, char **argv, struct global_args *global,
    void *args, struct err *err);
/* Owned: "--no-provision" of "no_provision". */
char *args_flag_name(const struct field *field);
/* The verb's positional that fills the row; NULL: none does. */
const struct positional *args_positional(const struct verb *verb, const char *field);
/* Is the row a flag that people should see? */
bool args_is_flag(const struct verb *verb, const struct field *field);

#endif
