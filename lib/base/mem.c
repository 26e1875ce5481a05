/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/base/mem.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

static void *
checked(void *p)
{
	if (p == NULL) {
		fputs("out of memory\n", stderr);
		abort();
	}
	return p;
}

void *
xmalloc(size_t size)
{
	return checked(malloc(size != 0 ? size : 1));
}

void *
xcalloc(size_t count, size_t size)
{
	return checked(calloc(count != 0 ? count : 1, size != 0 ? size : 1));
}

void *
xrealloc(void *p, size_t size)
{
	return checked(realloc(p, size != 0 ? size : 1));
}

void *
xreallocarray(void *p, size_t count, size_t size)
{
	if (size != 0 && count > SIZE_MAX / size)
		checked(NULL);
	return xrealloc(p, count * size);
}

char *
xstrdup(const char *s)
{
	return s != NULL ? checked(strdup(s)) : NULL;
}

char *
xstrndup(const char *s, size_t len)
{
	return checked(strndup(s, len));
}

void *
xmemdup(const void *p, size_t len)
{
	return len != 0 ? memcpy(xmalloc(len), p, len) : NULL;
}

char *
xvasprintf(const char *fmt, va_list ap)
{
	char few[256]; /* most texts: printed once, not twice */
	va_list again;
	char *s;
	int len;

	va_copy(again, ap);
	len = vsnprintf(few, sizeof(few), fmt, ap);
	if (len < 0)
		checked(NULL);
	s = xmalloc((size_t)len + 1);
	if ((size_t)len < sizeof(few))
		memcpy(s, few, (size_t)len + 1);
	else
		vsnprintf(s, (size_t)len + 1, fmt, again);
	va_end(again);
	return s;
}

char *
xasprintf(const char *fmt, ...)
{
	va_list ap;
	char *s;

	va_start(ap, fmt);
	s = xvasprintf(fmt, ap);
	va_end(ap);
	return s;
}

void
mem_wipe(void *p, size_t len)
{
	memset(p, 0, len);
	/* The compiler has to think that somebody reads it. */
	__asm__ __volatile__("" : : "r"(p) : "memory");
}

void *
mem_find(const void *data, size_t len, const void *part, size_t part_len)
{
	const unsigned char *at = data, *wanted = part;

	if (part_len == 0)
		return (void *)(uintptr_t)data;
	while (len >= part_len) {
		const unsigned char *hit = memchr(at, wanted[0], len - part_len + 1);

		if (hit == NULL)
			break;
		if (memcmp(hit, part, part_len) == 0)
			return (void *)(uintptr_t)hit;
		len -= (size_t)(hit + 1 - at);
		at = hit + 1;
	}
	return NULL;
}

void
mem_freep(void *pp)
{
	void *p;

	memcpy(&p, pp, sizeof(p));
	free(p);
}

void
mem_closep(const int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	errno = saved;
}
