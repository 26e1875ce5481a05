/* SPDX-License-Identifier: MPL-2.0
 *
 * libyaml's events to nodes.  Everything that makes a file mean something else than it says is a
 * problem here: tags, duplicate keys, several documents, aliases into themselves. */
#include "lib/yaml/yaml.h"

#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/yaml/problems.h"

struct anchor {
	char *name;
	struct node *node;
	bool complete;
};

struct reader {
	yaml_parser_t parser;
	const char *text;
	size_t text_len;
	struct tree *tree;
	struct problems *problems;
	struct anchor *anchors;
	size_t anchor_count;
	bool stopped; /* a problem after which nothing can be read */
};

static struct node *read_node(struct reader *r, yaml_event_t *event, unsigned depth);

static void
problem_at(struct reader *r, const yaml_mark_t *mark, const char *hint, const char *text)
{
	problems_addf(
	    r->problems, (unsigned)mark->line + 1, (unsigned)mark->column + 1, hint, "%s", text);
}

/* The place of a byte, for errors that libyaml gives without a mark. */
static yaml_mark_t
mark_of(const struct reader *r, size_t offset)
{
	yaml_mark_t mark = { 0 };

	for (size_t i = 0; i < offset && i < r->text_len; i++) {
		if (r->text[i] == '\n') {
			mark.line++;
			mark.column = 0;
		} else if (((unsigned char)r->text[i] & 0xc0) != 0x80) {
			mark.column++;
		}
	}
	return mark;
}

static void
syntax_problem(struct reader *r)
{
	yaml_parser_t *p = &r->parser;
	yaml_mark_t mark = p->problem_mark;
	const char *hint = NULL;
	CLEANUP_FREE char *text = NULL;

	if (p->error == YAML_READER_ERROR)
		mark = mark_of(r, p->problem_offset);
	else if (mark.index < r->text_len && r->text[mark.index] == '\t')
		hint = "indent with spaces, YAML takes no tabs there";
	else if (mark.index < r->text_len && strchr("@`%", r->text[mark.index]) != NULL)
		hint = "put the value in quotes";
	text = xasprintf("not valid YAML: %s%s%s", p->problem != NULL ? p->problem : "unreadable",
	    p->context != NULL ? " " : "", p->context != NULL ? p->context : "");
	problem_at(r, &mark, hint, text);
	r->stopped = true;
}

static bool
next_event(struct reader *r, yaml_event_t *event)
{
	if (r->stopped)
		return false;
	if (yaml_parser_parse(&r->parser, event))
		return true;
	syntax_problem(r);
	return false;
}

static struct node *
add_node(struct reader *r, enum node_kind kind, const yaml_event_t *event)
{
	struct tree *t = r->tree;
	struct node *node;

	if (t->count >= YAML_MAX_NODES) {
		problem_at(r, &event->start_mark, NULL, "the file has too many values");
		r->stopped = true;
		return NULL;
	}
	if (t->count == t->cap) {
		t->cap = t->cap != 0 ? t->cap * 2 : 64;
		t->nodes = xreallocarray(t->nodes, t->cap, sizeof(struct node *));
	}
	node = xcalloc(1, sizeof(*node));
	node->kind = kind;
	node->line = (unsigned)event->start_mark.line + 1;
	node->column = (unsigned)event->start_mark.column + 1;
	t->nodes[t->count++] = node;
	return node;
}

static void
add_item(struct node *node, struct node *item)
{
	if ((node->count & (node->count - 1)) == 0)
		node->items = xreallocarray(
		    node->items, node->count != 0 ? node->count * 2 : 1, sizeof(struct node *));
	node->items[node->count++] = item;
}

/* Returns the anchor's index, to be marked complete, or SIZE_MAX. */
static size_t
add_anchor(struct reader *r, const yaml_char_t *name, struct node *node)
{
	if (name == NULL)
		return SIZE_MAX;
	r->anchors = xreallocarray(r->anchors, r->anchor_count + 1, sizeof(*r->anchors));
	r->anchors[r->anchor_count] =
	    (struct anchor){ .name = xstrdup((const char *)name), .node = node };
	return r->anchor_count++;
}

static struct node *
read_alias(struct reader *r, yaml_event_t *event)
{
	const char *name = (const char *)event->data.alias.anchor;
	CLEANUP_FREE char *text = NULL;

	for (size_t i = r->anchor_count; i-- > 0;) {
		if (!str_eq(r->anchors[i].name, name))
			continue;
		if (r->anchors[i].complete)
			return r->anchors[i].node;
		text = xasprintf("'*%s' refers to what it is a part of", name);
		problem_at(r, &event->start_mark, NULL, text);
		r->stopped = true;
		return NULL;
	}
	text = xasprintf("'*%s' refers to an anchor that is not in the file", name);
	problem_at(r, &event->start_mark, "put values that start with '*' in quotes", text);
	r->stopped = true;
	return NULL;
}

static void
check_tag(struct reader *r, const yaml_event_t *event, const yaml_char_t *tag)
{
	CLEANUP_FREE char *text = NULL, *shown = NULL;

	if (tag == NULL)
		return;
	shown = str_line((const char *)tag, strnlen((const char *)tag, 80));
	text = xasprintf("the tag '%s' is not taken", shown);
	problem_at(
	    r, &event->start_mark, "leave it out; put a text in quotes to keep it a text", text);
}

static struct node *
read_scalar(struct reader *r, yaml_event_t *event)
{
	struct node *node = add_node(r, NODE_SCALAR, event);
	const char *value = (const char *)event->data.scalar.value;
	size_t anchor;

	if (node == NULL)
		return NULL;
	check_tag(r, event, event->data.scalar.tag);
	node->len = strnlen(value, event->data.scalar.length);
	if (node->len != event->data.scalar.length)
		problem_at(r, &event->start_mark, NULL, "holds a zero byte");
	node->text = xstrndup(value, node->len);
	node->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	anchor = add_anchor(r, event->data.scalar.anchor, node);
	if (anchor != SIZE_MAX)
		r->anchors[anchor].complete = true;
	return node;
}

static const struct node *
find_key(const struct node *map, size_t count, const char *key)
{
	for (size_t i = 0; i + 1 < count; i += 2)
		if (str_eq(map->items[i]->text, key))
			return map->items[i];
	return NULL;
}

static bool
is_merge(const struct node *key)
{
	return key->plain && str_eq(key->text, "<<");
}

static void
merge_from(struct reader *r, struct node *map, const struct node *key, const struct node *from)
{
	if (from->kind != NODE_MAP) {
		problems_addf(r->problems, key->line, key->column,
		    "write <<: *name, or <<: [*one, *other]",
		    "'<<' takes a mapping or a list of mappings");
		return;
	}
	for (size_t i = 0; i + 1 < from->count; i += 2) {
		if (find_key(map, map->count, from->items[i]->text) != NULL)
			continue;
		if (map->count >= 2 * (size_t)YAML_MAX_ENTRIES)
			return;
		add_item(map, from->items[i]);
		add_item(map, from->items[i + 1]);
	}
}

/* What the mapping says itself goes before what it merges, and earlier merges before later. */
static void
resolve_merge(struct reader *r, struct node *map)
{
	for (size_t i = 0; i + 1 < map->count; i += 2) {
		const struct node *key = map->items[i], *from = map->items[i + 1];

		if (!is_merge(key))
			continue;
		memmove(map->items + i, map->items + i + 2,
		    (map->count - i - 2) * sizeof(struct node *));
		map->count -= 2;
		if (from->kind == NODE_LIST)
			for (size_t k = 0; k < from->count; k++)
				merge_from(r, map, key, from->items[k]);
		else
			merge_from(r, map, key, from);
		return;
	}
}

static bool
check_key(struct reader *r, const struct node *map, const struct node *key)
{
	const struct node *first;

	if (key->kind != NODE_SCALAR) {
		problems_addf(r->problems, key->line, key->column, NULL,
		    "a key must be a word, not a %s", key->kind == NODE_MAP ? "mapping" : "list");
		return false;
	}
	first = find_key(map, map->count, key->text);
	if (first != NULL) {
		CLEANUP_FREE char *shown = str_line(key->text, strnlen(key->text, 64));

		problems_addf(r->problems, key->line, key->column, NULL,
		    "'%s' is given twice; the first is in line %u", shown, first->line);
		return false;
	}
	return true;
}

static struct node *
read_map(struct reader *r, yaml_event_t *start, unsigned depth)
{
	struct node *map = add_node(r, NODE_MAP, start), *key, *value;
	yaml_event_t event;
	size_t anchor;

	if (map == NULL)
		return NULL;
	check_tag(r, start, start->data.mapping_start.tag);
	anchor = add_anchor(r, start->data.mapping_start.anchor, map);
	while (next_event(r, &event)) {
		if (event.type == YAML_MAPPING_END_EVENT) {
			yaml_event_delete(&event);
			resolve_merge(r, map);
			if (anchor != SIZE_MAX)
				r->anchors[anchor].complete = true;
			return map;
		}
		key = read_node(r, &event, depth + 1);
		if (key == NULL || !next_event(r, &event))
			break;
		value = read_node(r, &event, depth + 1);
		if (value == NULL)
			break;
		if (map->count >= 2 * (size_t)YAML_MAX_ENTRIES) {
			problems_addf(r->problems, key->line, key->column, NULL,
			    "a mapping takes at most %d entries", YAML_MAX_ENTRIES);
			r->stopped = true;
		} else if (check_key(r, map, key)) {
			add_item(map, key);
			add_item(map, value);
		}
	}
	return NULL;
}

static struct node *
read_list(struct reader *r, yaml_event_t *start, unsigned depth)
{
	struct node *list = add_node(r, NODE_LIST, start), *item;
	yaml_event_t event;
	size_t anchor;

	if (list == NULL)
		return NULL;
	check_tag(r, start, start->data.sequence_start.tag);
	anchor = add_anchor(r, start->data.sequence_start.anchor, list);
	while (next_event(r, &event)) {
		if (event.type == YAML_SEQUENCE_END_EVENT) {
			yaml_event_delete(&event);
			if (anchor != SIZE_MAX)
				r->anchors[anchor].complete = true;
			return list;
		}
		item = read_node(r, &event, depth + 1);
		if (item == NULL)
			break;
		add_item(list, item);
	}
	return NULL;
}

/* Consumes the event.  NULL: stopped. */
static struct node *
read_node(struct reader *r, yaml_event_t *event, unsigned depth)
{
	struct node *node = NULL;

	if (depth > YAML_MAX_DEPTH) {
		problem_at(r, &event->start_mark, NULL, "nested too deeply");
		r->stopped = true;
	} else if (event->type == YAML_SCALAR_EVENT) {
		node = read_scalar(r, event);
	} else if (event->type == YAML_ALIAS_EVENT) {
		node = read_alias(r, event);
	} else if (event->type == YAML_MAPPING_START_EVENT) {
		node = read_map(r, event, depth);
	} else if (event->type == YAML_SEQUENCE_START_EVENT) {
		node = read_list(r, event, depth);
	}
	yaml_event_delete(event);
	return node;
}

static void
read_stream(struct reader *r)
{
	yaml_event_t event;
	unsigned documents = 0;
	bool end = false;

	while (!end && next_event(r, &event)) {
		switch (event.type) {
		case YAML_DOCUMENT_START_EVENT:
			if (documents++ > 0) {
				problem_at(r, &event.start_mark, NULL,
				    "the file holds several documents; there must be one");
				r->stopped = true;
			}
			break;
		case YAML_SCALAR_EVENT:
		case YAML_ALIAS_EVENT:
		case YAML_SEQUENCE_START_EVENT:
		case YAML_MAPPING_START_EVENT:
			r->tree->root = read_node(r, &event, 0);
			continue;
		case YAML_STREAM_END_EVENT:
			end = true;
			break;
		case YAML_NO_EVENT:
		case YAML_STREAM_START_EVENT:
		case YAML_DOCUMENT_END_EVENT:
		case YAML_SEQUENCE_END_EVENT:
		case YAML_MAPPING_END_EVENT:
			break;
		}
		yaml_event_delete(&event);
	}
}

/* libyaml would tell the byte and not the line. */
static bool
check_encoding(const char *text, size_t len, struct problems *problems)
{
	unsigned line = 1, column = 1;
	size_t step;

	if (str_utf8_valid(text, len))
		return true;
	for (size_t good = 0; good < len; good += step) {
		for (step = 1; step <= 4 && good + step <= len; step++)
			if (str_utf8_valid(text + good, step))
				break;
		if (step > 4 || good + step > len)
			break;
		column++;
		if (text[good] == '\n') {
			line++;
			column = 1;
		}
	}
	problems_addf(problems, line, column, "save the file as UTF-8", "is not valid UTF-8");
	return false;
}

void
tree_read(const char *text, size_t len, struct tree *ret_tree, struct problems *problems)
{
	struct reader r = { .text = text, .text_len = len, .tree = ret_tree, .problems = problems };

	*ret_tree = (struct tree){ 0 };
	if (!check_encoding(text, len, problems))
		return;
	if (!yaml_parser_initialize(&r.parser))
		abort(); /* out of memory, and only that */
	yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
	yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, len);
	read_stream(&r);
	yaml_parser_delete(&r.parser);
	for (size_t i = 0; i < r.anchor_count; i++)
		free(r.anchors[i].name);
	free(r.anchors);
	if (r.stopped)
		ret_tree->root = NULL;
}

void
tree_done(struct tree *tree)
{
	for (size_t i = 0; i < tree->count; i++) {
		free(tree->nodes[i]->text);
		free(tree->nodes[i]->items);
		free(tree->nodes[i]);
	}
	free(tree->nodes);
	*tree = (struct tree){ 0 };
}
