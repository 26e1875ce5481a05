/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_BASE_FS_H
#define LIB_BASE_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "lib/base/err.h"

struct job;

/* Files.  Everything may block on a disk; large copies belong on workers. */

char *fs_join(const char *dir, const char *name); /* owned: dir/name; name alone when absolute */
char *fs_dirname(const char *path);		  /* owned */
const char *fs_basename(const char *path);	  /* borrowed from path */
/* Owned: "~" and "~/x" expanded (HOME, else the password database), relative ones joined to base
 * (NULL: the working directory), "." and ".." and double slashes folded as text. */
char *fs_expand(const char *path, const char *base);
char *fs_home(void); /* owned; NULL when unknown */

int fs_mkdirs(const char *path, mode_t mode, struct err *err); /* like mkdir -p */
/* Reads a whole regular file (or /proc file) of at most max bytes; zero terminated, owned. */
int fs_read(const char *path, size_t max, char **ret_data, size_t *ret_len, struct err *err);
int fs_read_fd(int fd, const char *name, size_t max, char **ret_data, size_t *ret_len,
    struct err *err); /* from offset 0; fd must be a regular file */
/* Durable replacement: temporary name beside, written, synced, renamed, folder synced.
 * The mode holds from the first byte. */
int fs_write(const char *path, const void *data, size_t len, mode_t mode, struct err *err);
int fs_append(const char *path, const void *data, size_t len, mode_t mode, struct err *err);
int fs_sync_dir(const char *path, struct err *err);
/* Copies a regular file over an empty one (reflink when possible, holes kept), synced.  job may be
 * NULL; cancelled: E_CANCELLED. */
int fs_copy_into(int from_fd, const char *from_name, int to_fd, const char *to_name,
    struct job *job, struct err *err);
/* Copies a regular file into a new file (reflink when possible, holes kept), synced.  job may be
 * NULL; cancelled: E_CANCELLED.  The target is removed on failure. */
int fs_copy_fd(int from_fd, const char *from_name, const char *to_path, mode_t mode,
    struct job *job, struct err *err);
bool fs_exists(const char *path);
bool fs_is_folder(const char *path); /* links are followed */
int fs_remove_tree(const char *path, struct err *err); /* follows no link; a missing path is fine */
int fs_free_bytes(const char *path, uint64_t *ret_bytes, struct err *err);
int fs_write_all(int fd, const void *data, size_t len); /* 0 or -1 with errno */

/* New descriptors, with close-on-exec; -1 with errno.  Not set in the same call as POSIX 2008 has
 * it, which loses nothing: process_spawn closes in the child whatever it was not told to pass. */
int fs_mkstemp(char *name);  /* mkstemp */
int fs_pipe(int ret_fds[2]); /* pipe */
int fs_accept(int listener); /* accept, non-blocking */
bool fs_unblock(int fd);     /* O_NONBLOCK; false with errno */
/* Longest path that fits sockaddr_un, the zero not counted. */
#define FS_SOCKET_PATH_MAX 107

#endif
