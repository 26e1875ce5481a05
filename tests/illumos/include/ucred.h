/* SPDX-License-Identifier: MPL-2.0 */
#ifndef ILLUMOS_UCRED_H
#define ILLUMOS_UCRED_H

#include <sys/types.h>

/* ucred_get(3C), getpeerucred(3C) */
typedef struct ucred_s ucred_t;

int getpeerucred(int fd, ucred_t **cred);
void ucred_free(ucred_t *cred);
uid_t ucred_geteuid(const ucred_t *cred);
gid_t ucred_getegid(const ucred_t *cred);
pid_t ucred_getpid(const ucred_t *cred);

#endif
