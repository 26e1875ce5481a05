/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_YAML_YAML_H
#define LIB_YAML_YAML_H

#include <stdbool.h>
#include <stddef.h>

struct problems;

/* YAML text to a tree of nodes that know where they stand.  For the files that are YAML: the
 * VMFile, its lock, the catalogue.  Any thread. */

enum { YAML_MAX_DEPTH = 32, YAML_MAX_NODES = 50000, YAML_MAX_ENTRIES = 1024 };

enum node_kind { NODE_SCALAR, NODE_LIST, NODE_MAP };

struct node {
	enum node_kind kind;
	unsigned line, column; /* from 1 */
	bool plain;            /* a scalar without quotes and not in block style */
	char *text;            /* NODE_SCALAR: owned, holds no zero byte */
	size_t len;
	struct node **items; /* borrowed from the tree; NODE_MAP: key, value, key, value … */
	size_t count;        /* of items */
};

/* What a plain scalar means to a reader of YAML 1.1.  The ODD kinds are those that do not look
 * like what they mean: 0640 is 416, 1_000 is 1000, 12:30 is 750. */
enum plain_kind {
	PLAIN_TEXT,
	PLAIN_NULL,
	PLAIN_BOOL,
	PLAIN_INT,
	PLAIN_ODD_INT,
	PLAIN_FLOAT,
	PLAIN_ODD_FLOAT,
	PLAIN_SPECIAL, /* "=" and "<<" */
};

struct tree {
	struct node *root;   /* NULL: empty or unreadable */
	struct node **nodes; /* owned; an alias shares its anchor's node, so that this is no tree */
	size_t count, cap;
};

/* Every problem goes to `problems`; what could be read is in the tree either way.  Merge keys are
 * resolved.  The caller calls tree_done in any case. */
void tree_read(const char *text, size_t len, struct tree *ret_tree, struct problems *problems);
void tree_done(struct tree *tree);

enum plain_kind node_plain_kind(const struct node *node); /* PLAIN_TEXT for all but plain scalars */
/* Borrowed.  "a boolean", "a number", "nothing": what plain text of that kind would be taken for.
 */
const char *plain_kind_name(enum plain_kind kind);
/* "true" and "false" alone; false is returned for every other word. */
bool node_bool(const struct node *node, bool *ret_value);

#endif
