/* SPDX-License-Identifier: MPL-2.0
 *
 * The lock's file, which people merge and edit: read with the place of every mistake, written as
 * the same bytes for the same entries. */
#include "lib/vmfile/lock.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <yaml.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/reference.h"
#include "lib/yaml/problems.h"
#include "lib/yaml/yaml.h"

#define LOCK_VERSION "1"

enum { LOCK_MAX_BYTES = 1 << 20, TEXT_MAX = 4096, LOCK_MODE = 0644 };

static const char head[] =
    "# Written by vmctl: what the VMFile's images were when they were "
    "fetched.\n# Keep it in version control; 'vmctl image update' moves it.\n";

char *
vmlock_path(const char *vmfile_path)
{
	static const char *const suffixes[] = { ".yaml", ".yml" };
	size_t len = strlen(vmfile_path);

	for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
		size_t n = strlen(suffixes[i]);

		if (str_ends(vmfile_path, suffixes[i]) && len > n &&
		    vmfile_path[len - n - 1] != '/') {
			len -= n;
			break;
		}
	}
	return xasprintf("%.*s.lock", (int)len, vmfile_path);
}

/* ---- entries, sorted by image ---- */

static size_t
place_of(const struct vmlock *lock, const char *image, bool *ret_found)
{
	size_t lo = 0, hi = lock->count;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (strcmp(lock->items[mid].image, image) < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	*ret_found = lo < lock->count && str_eq(lock->items[lo].image, image);
	return lo;
}

const struct vmlock_entry *
vmlock_find(const struct vmlock *lock, const char *image)
{
	bool found;
	size_t i = place_of(lock, image, &found);

	return found ? &lock->items[i] : NULL;
}

static void
entry_done(struct vmlock_entry *entry)
{
	free(entry->image);
	free(entry->digest);
	free(entry->source);
}

bool
vmlock_set(struct vmlock *lock, const char *image, const char *digest, const char *source)
{
	struct vmlock_entry entry;
	bool found;
	size_t i = place_of(lock, image, &found);

	if (found && str_eq(lock->items[i].digest, digest) && str_eq(lock->items[i].source, source))
		return false;
	/* The texts may be those of the entry that goes. */
	entry = (struct vmlock_entry){
		.image = xstrdup(image), .digest = xstrdup(digest), .source = xstrdup(source)
	};
	if (found) {
		entry_done(&lock->items[i]);
	} else {
		lock->items = xreallocarray(lock->items, lock->count + 1, sizeof(*lock->items));
		memmove(
		    lock->items + i + 1, lock->items + i, (lock->count - i) * sizeof(*lock->items));
		lock->count++;
	}
	lock->items[i] = entry;
	return true;
}

bool
vmlock_remove(struct vmlock *lock, const char *image)
{
	bool found;
	size_t i = place_of(lock, image, &found);

	if (!found)
		return false;
	entry_done(&lock->items[i]);
	lock->count--;
	memmove(lock->items + i, lock->items + i + 1, (lock->count - i) * sizeof(*lock->items));
	return true;
}

void
vmlock_done(struct vmlock *lock)
{
	for (size_t i = 0; i < lock->count; i++)
		entry_done(&lock->items[i]);
	free(lock->items);
	*lock = (struct vmlock){ 0 };
}

/* ---- reading ---- */

/* What an entry's texts may be: any word or URL that can be shown as it is. */
static bool
text_valid(const char *text)
{
	size_t len = strnlen(text, TEXT_MAX + 1);
	CLEANUP_FREE char *shown = str_line(text, len);

	return len > 0 && len <= TEXT_MAX && str_eq(shown, text);
}

static void
read_entry(struct vmlock *lock, const struct node *key, const struct node *value,
    struct problems *problems)
{
	static const char *const known[] = { "digest", "source" };
	const char *fields[ARRAY_LEN(known)] = { NULL };
	size_t before = problems->count;

	if (!text_valid(key->text))
		problems_addf(problems, key->line, key->column, NULL, "this is no image");
	for (size_t i = 0; value->kind == NODE_MAP && i + 1 < value->count; i += 2) {
		const struct node *name = value->items[i], *text = value->items[i + 1];
		size_t k = 0;

		while (k < ARRAY_LEN(known) && !str_eq(name->text, known[k]))
			k++;
		if (k == ARRAY_LEN(known))
			problems_unknown_key(problems, name->line, name->column, name->text, known,
			    ARRAY_LEN(known));
		else if (!(text->kind == NODE_SCALAR && text_valid(text->text)))
			problems_addf(problems, text->line, text->column, NULL,
			    "'%s' must be one line of text", known[k]);
		else if (k == 0 && !image_digest_valid(text->text))
			problems_addf(problems, text->line, text->column, NULL,
			    "'digest' must be sha256: and 64 small hexadecimal digits");
		else
			fields[k] = text->text;
	}
	if (problems->count != before)
		return;
	if (fields[0] == NULL)
		problems_addf(problems, key->line, key->column,
		    "remove the entry, 'vmctl image update' makes it anew",
		    "the entry has no digest");
	else
		vmlock_set(lock, key->text, fields[0], fields[1]);
}

static bool
check_version(const struct node *version, struct problems *problems)
{
	CLEANUP_FREE char *shown = NULL;

	if (version != NULL && str_eq(version->text, LOCK_VERSION))
		return true;
	if (version == NULL || version->kind != NODE_SCALAR) {
		problems_addf(problems, version != NULL ? version->line : 0,
		    version != NULL ? version->column : 0,
		    "remove the file, 'vmctl image update' writes it anew",
		    "'version' is missing: this is no lock file");
		return false;
	}
	shown = str_line(version->text, strnlen(version->text, 32));
	problems_addf(problems, version->line, version->column,
	    "a newer vmctl wrote it: use that one, or remove the file and pin anew with "
	    "'vmctl image update'",
	    "version '%s' of lock files is not known", shown);
	return false;
}

static void
read_root(struct vmlock *lock, const struct node *root, struct problems *problems)
{
	static const char *const known[] = { "version", "images" };
	const struct node *found[ARRAY_LEN(known)] = { NULL }, *images;

	if (root->kind != NODE_MAP) {
		check_version(NULL, problems);
		return;
	}
	for (size_t i = 0; i + 1 < root->count; i += 2)
		for (size_t k = 0; k < ARRAY_LEN(known); k++)
			if (str_eq(root->items[i]->text, known[k]))
				found[k] = root->items[i + 1];
	/* Before the rest, which another version may have changed. */
	if (!check_version(found[0], problems))
		return;
	for (size_t i = 0; i + 1 < root->count; i += 2)
		if (!str_eq(root->items[i]->text, known[0]) &&
		    !str_eq(root->items[i]->text, known[1]))
			problems_unknown_key(problems, root->items[i]->line, root->items[i]->column,
			    root->items[i]->text, known, ARRAY_LEN(known));
	images = found[1];
	if (images == NULL || node_plain_kind(images) == PLAIN_NULL)
		return;
	if (images->kind != NODE_MAP) {
		problems_addf(problems, images->line, images->column, NULL,
		    "'images' must be a mapping of images to what they are");
		return;
	}
	for (size_t i = 0; i + 1 < images->count; i += 2)
		read_entry(lock, images->items[i], images->items[i + 1], problems);
}

/* Git's marks of a merge that was left to people; the line, or 0. */
static unsigned
conflict_line(const char *text, size_t len)
{
	static const char *const marks[] = { "<<<<<<<", "=======", ">>>>>>>", "|||||||" };
	unsigned line = 1;
	const char *end;

	for (const char *c = text; c < text + len; c = end + 1, line++) {
		for (size_t i = 0; i < ARRAY_LEN(marks); i++)
			if ((size_t)(text + len - c) >= 7 && memcmp(c, marks[i], 7) == 0)
				return line;
		end = memchr(c, '\n', (size_t)(text + len - c));
		if (end == NULL)
			break;
	}
	return 0;
}

int
vmlock_parse(
    const char *text, size_t len, const char *file, struct vmlock *ret_lock, struct err *err)
{
	struct problems problems = { 0 };
	struct vmlock lock = { 0 };
	struct tree tree = { 0 };
	unsigned conflict = conflict_line(text, len);
	int rc = 0;

	if (conflict > 0) {
		problems_addf(&problems, conflict, 1,
		    "keep the lines of one side, or take either file and run 'vmctl image update'",
		    "a merge left its marks here");
	} else {
		tree_read(text, len, &tree, &problems);
		if (tree.root != NULL && problems.count == 0)
			read_root(&lock, tree.root, &problems);
		else if (problems.count == 0)
			check_version(NULL, &problems);
	}
	if (problems.count > 0)
		rc = problems_err(&problems, file, E_VMFILE, err);
	if (rc == 0)
		*ret_lock = lock;
	else
		vmlock_done(&lock);
	tree_done(&tree);
	problems_done(&problems);
	return rc;
}

int
vmlock_load(const char *path, struct vmlock *ret_lock, struct err *err)
{
	CLEANUP_FREE char *text = NULL;
	size_t len;
	int rc;

	if (access(path, F_OK) != 0 && errno == ENOENT) {
		*ret_lock = (struct vmlock){ 0 };
		return 0;
	}
	rc = fs_read(path, LOCK_MAX_BYTES, &text, &len, err);
	return rc != 0 ? rc : vmlock_parse(text, len, path, ret_lock, err);
}

/* ---- writing ---- */

static int
on_bytes(void *arg, unsigned char *data, size_t len)
{
	sbuf_add(arg, data, len);
	return 1;
}

static void
emit(yaml_emitter_t *emitter, yaml_event_t *event, int made)
{
	if (!made || !yaml_emitter_emit(emitter, event))
		abort(); /* out of memory, and only that: all texts are checked */
}

static void
emit_scalar(yaml_emitter_t *emitter, const char *text, yaml_scalar_style_t style)
{
	yaml_event_t event;

	emit(emitter, &event,
	    yaml_scalar_event_initialize(
		&event, NULL, NULL, (const yaml_char_t *)text, (int)strlen(text), 1, 1, style));
}

/* In quotes what readers of YAML, ourselves included, would take for a number or a merge. */
static void
emit_text(yaml_emitter_t *emitter, const char *text)
{
	const struct node plain = { .kind = NODE_SCALAR, .plain = true, .text = (char *)text };

	emit_scalar(emitter, text,
	    node_plain_kind(&plain) == PLAIN_TEXT ? YAML_ANY_SCALAR_STYLE
						  : YAML_DOUBLE_QUOTED_SCALAR_STYLE);
}

static void
emit_map(yaml_emitter_t *emitter)
{
	yaml_event_t event;

	emit(emitter, &event,
	    yaml_mapping_start_event_initialize(&event, NULL, NULL, 1, YAML_BLOCK_MAPPING_STYLE));
}

static void
emit_map_end(yaml_emitter_t *emitter)
{
	yaml_event_t event;

	emit(emitter, &event, yaml_mapping_end_event_initialize(&event));
}

static void
emit_entries(yaml_emitter_t *emitter, const struct vmlock *lock)
{
	emit_map(emitter);
	emit_text(emitter, "version");
	emit_scalar(emitter, LOCK_VERSION, YAML_PLAIN_SCALAR_STYLE);
	emit_text(emitter, "images");
	emit_map(emitter);
	for (size_t i = 0; i < lock->count; i++) {
		emit_text(emitter, lock->items[i].image);
		emit_map(emitter);
		emit_text(emitter, "digest");
		emit_text(emitter, lock->items[i].digest);
		if (lock->items[i].source != NULL) {
			emit_text(emitter, "source");
			emit_text(emitter, lock->items[i].source);
		}
		emit_map_end(emitter);
	}
	emit_map_end(emitter);
	emit_map_end(emitter);
}

char *
vmlock_text(const struct vmlock *lock)
{
	struct sbuf out = { 0 };
	yaml_emitter_t emitter;
	yaml_event_t event;

	sbuf_adds(&out, head);
	if (!yaml_emitter_initialize(&emitter))
		abort();
	yaml_emitter_set_output(&emitter, on_bytes, &out);
	yaml_emitter_set_width(&emitter, -1); /* a line is an entry to version control */
	yaml_emitter_set_unicode(&emitter, 1);
	emit(&emitter, &event, yaml_stream_start_event_initialize(&event, YAML_UTF8_ENCODING));
	emit(&emitter, &event, yaml_document_start_event_initialize(&event, NULL, NULL, NULL, 1));
	emit_entries(&emitter, lock);
	emit(&emitter, &event, yaml_document_end_event_initialize(&event, 1));
	emit(&emitter, &event, yaml_stream_end_event_initialize(&event));
	yaml_emitter_delete(&emitter);
	return sbuf_take(&out);
}

int
vmlock_save(const struct vmlock *lock, const char *path, struct err *err)
{
	CLEANUP_FREE char *text = NULL, *old = NULL;
	size_t len;

	for (size_t i = 0; i < lock->count; i++)
		if (!text_valid(lock->items[i].image) ||
		    !image_digest_valid(lock->items[i].digest) ||
		    (lock->items[i].source != NULL && !text_valid(lock->items[i].source)))
			return err_set(err, E_VMFILE,
			    "'%s' can not hold what an image is: it is no text", path);
	if (lock->count == 0) {
		if (unlink(path) == 0 || errno == ENOENT)
			return 0;
		return err_errno(err, E_IO, errno, "can not remove '%s'", path);
	}
	text = vmlock_text(lock);
	if (fs_read(path, LOCK_MAX_BYTES, &old, &len, NULL) == 0 && str_eq(old, text))
		return 0;
	return fs_write(path, text, strlen(text), LOCK_MODE, err);
}
