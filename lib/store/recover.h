/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_STORE_RECOVER_H
#define LIB_STORE_RECOVER_H

#include "lib/base/err.h"

struct db;

/* Opens the database at `path`, or what can be had in its place: a damaged, empty or missing file
 * is put aside and the copy at path + ".backup" takes its place; without a good copy an empty
 * database is made.  *ret_notice (owned) says so; NULL when all was well.  A file that can not be
 * read, or that a newer vmmd wrote, is an error and stays as it is. */
int recover_open(const char *path, struct db **ret_db, char **ret_notice, struct err *err);

#endif
