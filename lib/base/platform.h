/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_BASE_PLATFORM_H
#define LIB_BASE_PLATFORM_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* What POSIX 2008 does not have and every system does in its own way: platform_linux.c,
 * platform_illumos.c.  Everything else that is shared calls POSIX only.  Processes and peers have
 * files of their own (process_platform.h, daemon/peer_*.c).  Any thread; failures are -1 or false
 * with errno unless told otherwise. */

/* ---- the host ---- */

/* Not inside a zone, where neither zones nor links nor datasets can be made. */
bool platform_global_zone(void);
extern const char platform_runtime_dir[]; /* of the host's daemon: emptied by a boot */
char *platform_own_path(void); /* owned path of the program that runs; NULL: unknown */

/* ---- descriptors, with close-on-exec ---- */

/* A counter: writing a uint64_t adds to it, reading one takes it all; readable while it is not 0.
 * Non-blocking. */
int platform_event_fd(void);
int platform_memory_file(void); /* empty, without a name: gone with its last descriptor */
/* An exclusive lock of the open file, which goes with its last descriptor. */
int platform_lock(int fd, bool wait);
/* Opens a folder, for its name by the descriptor, which is short however long `path` is.
 * ret_alias: owned.  ENAMETOOLONG: the system has no such names. */
int platform_folder_alias(const char *path, char **ret_alias);

/* ---- files ---- */

/* For lseek: the same on both systems, whose headers may hide them as too new. */
enum { PLATFORM_SEEK_DATA = 3, PLATFORM_SEEK_HOLE = 4 };

bool platform_clone(int to_fd, int from_fd); /* the whole file, by sharing its blocks */
bool platform_reserve(int fd, off_t at, off_t len); /* room, and zeros; false with EOPNOTSUPP */
void platform_write_back(int fd, off_t len); /* begins to write what is before len to the disk */
bool platform_direct(int fd, bool on); /* past the cache; such writes have to be aligned */
/* Whether somebody has the file open for writing.  False also where nobody can tell. */
bool platform_has_writers(int fd);

/* ---- this process ---- */

/* Takes pages of a shared mapping out of the process; they stay in the file. */
void platform_page_out(void *data, size_t len);
int platform_become(uid_t uid, gid_t gid); /* for good, without other groups */
/* No core, no tracing by others of the same user, no new privileges, and, where the system has
 * that, an end together with the parent. */
int platform_confine_self(void);

#endif
