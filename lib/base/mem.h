/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_BASE_MEM_H
#define LIB_BASE_MEM_H

#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>

/* Allocation that never fails: out of memory aborts here and nowhere else.  Machines outlive the
 * daemon, so ending it is safer than limping on. */
void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size); /* zeroed, overflow checked */
void *xrealloc(void *p, size_t size);
void *xreallocarray(void *p, size_t count, size_t size);
char *xstrdup(const char *s); /* NULL gives NULL */
char *xstrndup(const char *s, size_t len);
void *xmemdup(const void *p, size_t len); /* len 0 gives NULL */
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
char *xvasprintf(const char *fmt, va_list ap) __attribute__((format(printf, 1, 0)));

void mem_wipe(void *p, size_t len); /* zeroed for certain: for secrets that are not read again */
/* Where `part` first stands in `data`; NULL: nowhere.  An empty part is found at once. */
void *mem_find(const void *data, size_t len, const void *part, size_t part_len);

/* Scope does the freeing:
 *     CLEANUP_FREE char *path = …;
 *     CLEANUP_FD int fd = -1;
 *     CLEANUP(thing_destroyp) struct thing *t = …;      (a function of struct thing **)
 *     return TAKE(path);                                 (hands over and clears) */
void mem_freep(void *pp);
void mem_closep(const int *fd);
#define CLEANUP(fn) __attribute__((cleanup(fn), unused))
#define CLEANUP_FREE CLEANUP(mem_freep)
#define CLEANUP_FD CLEANUP(mem_closep)
#define TAKE(p)                                                                                    \
	__extension__({                                                                            \
		__typeof__(p) take_ = (p);                                                         \
		(p) = NULL;                                                                        \
		take_;                                                                             \
	})
#define TAKE_FD(fd)                                                                                \
	__extension__({                                                                            \
		int take_ = (fd);                                                                  \
		(fd) = -1;                                                                         \
		take_;                                                                             \
	})
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

#endif
