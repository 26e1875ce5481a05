/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_BASE_ERR_H
#define LIB_BASE_ERR_H

/* One error value for the whole project.  Made once, where the fact is known; wrapped with
 * context on the way up; shown once, at the edge.  Plain memory: nothing to free, may be copied.
 *
 * Fallible functions return 0 or an enum err_code and take `struct err *err` last.  A NULL err
 * means that the caller does not want the words.  On success *err is untouched. */

enum err_code {
	E_OK = 0,
#define ERROR(id, name, rpc, status, text) id,
#include "lib/base/errors.def"
#undef ERROR
	E_COUNT
};

struct err {
	enum err_code code;
	char msg[2048];	  /* what failed, on which object, quoted: 'web1' */
	char hint[512];	  /* what the person can do next; may be empty */
	char object[192]; /* the name of the object, or the path of a bad parameter; may be empty */
};

#define ERR_INIT { .code = E_OK }

/* Each returns the code, so that `return err_set(err, E_IO, …)` reads well. */
int err_set(struct err *err, enum err_code code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* Appends ": strerror(errno_value)"; ENOSPC and EDQUOT turn E_IO into E_NO_SPACE. */
int err_errno(struct err *err, enum err_code code, int errno_value, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));
/* Puts "context: " before the message. */
int err_wrap(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void err_hint(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void err_object(struct err *err, const char *name);

const char *err_name(enum err_code code);
const char *err_meaning(enum err_code code);
int err_rpc_code(enum err_code code);
int err_exit_status(enum err_code code);
enum err_code err_from_name(const char *name); /* E_FAILED when unknown */
enum err_code err_from_rpc_code(int rpc_code); /* E_FAILED when unknown */

#endif
