/* SPDX-License-Identifier: MPL-2.0 */
#ifndef CLIENT_HELP_H
#define CLIENT_HELP_H

#include "client/vmctl.h"

/* Help, from the rows, on stdout. */
void help_all(void);
void help_verb(const struct verb *verb);
/* The flags among the rows; verb NULL: all rows are. */
void help_flags(
    const struct field *fields, const struct short_flag *shorts, const struct verb *verb);

#endif
