/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_VMFILE_CONVERT_H
#define LIB_VMFILE_CONVERT_H

#include <stdbool.h>
#include <stddef.h>

struct field;
struct json_object;
struct node;
struct problems;

/* Nodes to the JSON that lib/model decodes, led by the rows: what a scalar may be depends on the
 * field it is for, so that no text turns into a boolean or another number on the way. */

struct mark {
	char *path; /* owned: "vms[0].ssh.user", as lib/model reports it */
	unsigned line, column;
	bool bad; /* a problem was reported: what follows from it is not worth telling */
};

/* Where every value stands.  Zero-initialise. */
struct marks {
	struct mark *items;
	size_t count, cap;
	bool sorted;
};

void marks_add(struct marks *marks, const char *path, const struct node *node, bool bad);
/* The mark of path, or of the nearest thing around it; NULL when there is none. */
struct mark *marks_find(struct marks *marks, const char *path);
/* Is path, or anything below it, known to be bad? */
bool marks_bad(struct marks *marks, const char *path);
void marks_done(struct marks *marks);

struct convert {
	struct marks *marks;
	struct problems *problems;
	const char *dir;  /* relative paths start here */
	size_t converted; /* aliases counted as often as they are used */
};

enum { CONVERT_MAX = 100000 };

/* A new object of the machine's mapping (node: its value, key: its name).  prefix: "vms[0]".
 * NULL: it is no mapping, which was reported. */
struct json_object *convert_machine(struct convert *c, const struct field *fields,
    const struct node *key, const struct node *node, const char *prefix);

#endif
