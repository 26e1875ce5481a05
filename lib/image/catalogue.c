/* SPDX-License-Identifier: MPL-2.0
 *
 * Files of the catalogue to entries.  What is wrong is told with its place, and a file with
 * something wrong in it adds nothing: a name never means less than its file says. */
#include "lib/image/catalogue.h"

#include <dirent.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/reference.h"
#include "lib/model/spec.h"
#include "lib/yaml/problems.h"
#include "lib/yaml/yaml.h"

enum { FILE_MAX_BYTES = 1 << 20, FILES_MAX = 256, TEXT_MAX = 4096 };

/* ---- entries ---- */

static void
entry_done(struct catalogue_entry *entry)
{
	free(entry->name);
	free(entry->version);
	free(entry->architecture);
	for (size_t i = 0; i < entry->aliases.count; i++)
		free(entry->aliases.items[i]);
	free(entry->aliases.items);
	free(entry->url);
	free(entry->checksums);
	free(entry->sha256);
	free(entry->sha512);
	free(entry->format);
	free(entry->user);
	free(entry->firmware);
	free(entry->file);
}

void
catalogue_done(struct catalogue *catalogue)
{
	for (size_t i = 0; i < catalogue->count; i++)
		entry_done(&catalogue->items[i]);
	free(catalogue->items);
	*catalogue = (struct catalogue){ 0 };
}

static bool
has_alias(const struct catalogue_entry *entry, const char *word)
{
	for (size_t i = 0; i < entry->aliases.count; i++)
		if (str_eq(entry->aliases.items[i], word))
			return true;
	return false;
}

static bool
same_image(const struct catalogue_entry *a, const struct catalogue_entry *b)
{
	return str_eq(a->name, b->name) && str_eq(a->version, b->version) &&
	       str_eq(a->architecture, b->architecture);
}

/* A word by which both could be meant; NULL: none. */
static const char *
shared_word(const struct catalogue_entry *a, const struct catalogue_entry *b)
{
	if (!str_eq(a->name, b->name) || !str_eq(a->architecture, b->architecture))
		return NULL;
	if (str_eq(a->version, b->version) || has_alias(b, a->version))
		return a->version;
	for (size_t i = 0; i < a->aliases.count; i++)
		if (str_eq(a->aliases.items[i], b->version) || has_alias(b, a->aliases.items[i]))
			return a->aliases.items[i];
	return NULL;
}

static void
add_entry(struct catalogue *catalogue, const struct catalogue_entry *entry)
{
	if ((catalogue->count & (catalogue->count - 1)) == 0)
		catalogue->items = xreallocarray(catalogue->items,
		    catalogue->count != 0 ? catalogue->count * 2 : 1, sizeof(*catalogue->items));
	catalogue->items[catalogue->count++] = *entry;
}

/* ---- one entry of a file ---- */

struct reader {
	struct problems *problems;
	const char *file;
	struct catalogue found;
	bool bad; /* the entry at hand has a problem; problems that were told before count too */
};

static void
problem(
    struct reader *r, const struct node *node, const char *hint, const char *key, const char *text)
{
	r->bad = true;
	problems_addf(r->problems, node->line, node->column, hint, "'%s' %s", key, text);
}

static void
unknown_key(struct reader *r, const struct node *key, const char *const *known, size_t count)
{
	r->bad = true;
	problems_unknown_key(r->problems, key->line, key->column, key->text, known, count);
}

/* NULL: not one line of text, which was told. */
static const char *
line_of(struct reader *r, const char *key, const struct node *node)
{
	bool scalar = node->kind == NODE_SCALAR && node->len > 0 && node->len <= TEXT_MAX;
	CLEANUP_FREE char *shown = scalar ? str_line(node->text, node->len) : NULL;

	if (!scalar || !str_eq(shown, node->text)) {
		problem(r, node, NULL, key, "must be one line of text");
		return NULL;
	}
	switch (node_plain_kind(node)) {
	case PLAIN_NULL:
	case PLAIN_BOOL:
	case PLAIN_SPECIAL:
		problem(r, node, "put it in quotes", key, "must be a text");
		return NULL;
	case PLAIN_TEXT:
	case PLAIN_INT: /* a version: what counts is how it is written, 24.10 is not 24.1 */
	case PLAIN_ODD_INT:
	case PLAIN_FLOAT:
	case PLAIN_ODD_FLOAT:
		break;
	}
	return node->text;
}

#define COLUMN(field) #field, offsetof(struct catalogue_entry, field)

static const struct row {
	const char *key;
	size_t offset;
	bool required;
} rows[] = {
	{ COLUMN(name), true },
	{ COLUMN(version), true },
	{ COLUMN(architecture), true },
	{ COLUMN(url), true },
	{ COLUMN(checksums), false },
	{ COLUMN(sha256), false },
	{ COLUMN(sha512), false },
	{ COLUMN(format), false },
	{ COLUMN(user), false },
	{ COLUMN(firmware), false },
};

static const char *const keys[] = { "name", "version", "architecture", "url", "checksums", "sha256",
	"sha512", "format", "user", "firmware", "aliases" };
static const char *const architectures[] = { "amd64", "arm64", "ppc64le", "riscv64", "s390x" };

static char **
text_of(struct catalogue_entry *entry, const struct row *row)
{
	return (char **)(void *)((char *)entry + row->offset);
}

/* Where a key's value stands, or the entry. */
static const struct node *
place_of(const struct node *map, const char *key)
{
	for (size_t i = 0; i + 1 < map->count; i += 2)
		if (str_eq(map->items[i]->text, key))
			return map->items[i + 1];
	return map;
}

static void
read_aliases(struct reader *r, const struct node *list, struct catalogue_entry *entry)
{
	if (list->kind != NODE_LIST) {
		problem(r, list, "write [one, other]", "aliases", "must be a list");
		return;
	}
	if (list->count > CATALOGUE_MAX_ALIASES) {
		problem(r, list, NULL, "aliases", "are too many");
		return;
	}
	entry->aliases.items = xcalloc(list->count, sizeof(char *));
	for (size_t i = 0; i < list->count; i++) {
		const char *text = line_of(r, "aliases", list->items[i]);

		if (text != NULL)
			entry->aliases.items[entry->aliases.count++] = xstrdup(text);
	}
}

static void
read_keys(struct reader *r, const struct node *map, struct catalogue_entry *entry)
{
	for (size_t i = 0; i + 1 < map->count; i += 2) {
		const struct node *key = map->items[i], *value = map->items[i + 1];
		size_t k = 0;

		while (k < ARRAY_LEN(rows) && !str_eq(key->text, rows[k].key))
			k++;
		if (str_eq(key->text, "aliases"))
			read_aliases(r, value, entry);
		else if (k < ARRAY_LEN(rows))
			*text_of(entry, &rows[k]) = xstrdup(line_of(r, rows[k].key, value));
		else
			unknown_key(r, key, keys, ARRAY_LEN(keys));
	}
}

static void
check_name(struct reader *r, const struct node *map, const struct catalogue_entry *entry)
{
	CLEANUP_FREE char *whole = xasprintf("%s:%s", entry->name, entry->version);
	const struct node *at = place_of(map, "version");
	struct err err = ERR_INIT;

	if (image_name_check(entry->name, &err) != 0 || strchr(entry->name, ':') != NULL) {
		problem(r, place_of(map, "name"), "use letters, digits, '.', '_' and '-'", "name",
		    "can not be the name of an image");
		return;
	}
	if (image_name_check(whole, &err) != 0)
		problem(r, at, "use letters, digits, '.', '_' and '-'", "version",
		    "can not be that of an image");
	if (str_eq(entry->version, "latest"))
		problem(r, at, "write aliases: [latest] in the entry that it is", "version",
		    "can not be latest");
	for (size_t i = 0; i < entry->aliases.count; i++) {
		CLEANUP_FREE char *other = xasprintf("%s:%s", entry->name, entry->aliases.items[i]);

		if (image_name_check(other, &err) != 0)
			problem(r, place_of(map, "aliases"),
			    "use letters, digits, '.', '_' and '-'", "aliases",
			    "has what can not be a version");
	}
}

/* Shown to everybody who asks for the catalogue. */
static bool
has_password(const char *url)
{
	const char *host = strstr(url, "://");
	size_t len = host != NULL ? strcspn(host + 3, "/?#") : 0;

	return len > 0 && memchr(host + 3, '@', len) != NULL;
}

static void
check_url(struct reader *r, const struct node *map, const struct catalogue_entry *entry)
{
	const struct node *at = place_of(map, "url");
	enum image_ref_kind kind;
	struct err err = ERR_INIT;

	if (image_ref_kind(entry->url, &kind, &err) != 0) {
		r->bad = true;
		problems_addf(r->problems, at->line, at->column,
		    err.hint[0] != '\0' ? err.hint : NULL, "'url': %s", err.msg);
		return;
	}
	if (kind != IMAGE_REF_HTTP && kind != IMAGE_REF_OCI)
		problem(r, at, "write https://… or oci://…", "url", "is not one");
	else if (kind == IMAGE_REF_HTTP && has_password(entry->url))
		problem(r, at, "put them in ~/.netrc", "url", "can not hold a user and a password");
	else if (str_starts(entry->url, "http://") && entry->sha256 == NULL &&
		 entry->sha512 == NULL && !image_host_is_loopback(entry->url + strlen("http://")))
		problem(r, at, "give sha256 or sha512, or use https://", "url",
		    "is http://, where nobody can tell whose bytes they are");
	if (entry->checksums == NULL)
		return;
	at = place_of(map, "checksums");
	if (kind == IMAGE_REF_OCI)
		problem(r, at, "a digest in the reference does that", "checksums",
		    "can not stand beside oci://");
	else if (!str_starts(entry->checksums, "https://") ||
		 image_ref_kind(entry->checksums, &kind, NULL) != 0)
		problem(r, at, NULL, "checksums", "must be a URL of https://");
	else if (has_password(entry->checksums))
		problem(r, at, "put them in ~/.netrc", "checksums",
		    "can not hold a user and a password");
}

static bool
among(const char *word, const char *const *words, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (str_eq(word, words[i]))
			return true;
	return false;
}

static void
check_rest(struct reader *r, const struct node *map, const struct catalogue_entry *entry)
{
	static const char *const firmware[] = { "bios", "uefi" };
	struct image_spec spec = { .present = true,
		.url = entry->url,
		.sha256 = entry->sha256,
		.sha512 = entry->sha512,
		.format = entry->format };
	const struct node *at = place_of(map, "architecture");
	struct err err = ERR_INIT;

	if (str_eq(entry->architecture, "x86_64"))
		problem(r, at, "did you mean 'amd64'?", "architecture", "is not one that is known");
	else if (str_eq(entry->architecture, "aarch64"))
		problem(r, at, "did you mean 'arm64'?", "architecture", "is not one that is known");
	else if (!among(entry->architecture, architectures, ARRAY_LEN(architectures)))
		problem(r, at, "amd64, arm64, ppc64le, riscv64 or s390x", "architecture",
		    "is not one that is known");
	if (entry->firmware != NULL && !among(entry->firmware, firmware, ARRAY_LEN(firmware)))
		problem(r, place_of(map, "firmware"), NULL, "firmware", "is neither bios nor uefi");
	if (entry->user != NULL &&
	    (strlen(entry->user) > 32 || entry->user[0] == '-' ||
		strspn(entry->user, "abcdefghijklmnopqrstuvwxyz0123456789_-") !=
		    strlen(entry->user)))
		problem(r, place_of(map, "user"), NULL, "user", "is not the name of a user");
	if (image_spec_check(&spec, "image", &err) != 0) {
		const char *dot = strrchr(err.object, '.'),
			   *key = dot != NULL ? dot + 1 : err.object;

		problem(r, place_of(map, key), err.hint[0] != '\0' ? err.hint : NULL, key, err.msg);
	}
}

static const char *
default_firmware(const char *architecture)
{
	return str_eq(architecture, "arm64") || str_eq(architecture, "riscv64") ? "uefi" : "bios";
}

static void
read_entry(struct reader *r, const struct node *map)
{
	struct catalogue_entry entry = { .line = map->line };
	bool missing;

	r->bad = false;
	if (map->kind != NODE_MAP) {
		problems_addf(r->problems, map->line, map->column, "write - name: and the like",
		    "an image must be a mapping");
		return;
	}
	read_keys(r, map, &entry);
	/* A key that is missing may be the one that is not known. */
	missing = !r->bad;
	for (size_t i = 0; missing && i < ARRAY_LEN(rows); i++)
		if (rows[i].required && place_of(map, rows[i].key) == map)
			problem(r, map, NULL, rows[i].key, "is missing");
	if (!r->bad) {
		check_name(r, map, &entry);
		check_url(r, map, &entry);
		check_rest(r, map, &entry);
	}
	for (size_t i = 0; !r->bad && i < r->found.count; i++) {
		const char *word = shared_word(&entry, &r->found.items[i]);

		if (word == NULL)
			continue;
		r->bad = true;
		problems_addf(r->problems, map->line, map->column, NULL,
		    "'%s:%s' for %s is given twice; the first is in line %u", entry.name, word,
		    entry.architecture, r->found.items[i].line);
	}
	if (r->bad) {
		entry_done(&entry);
		return;
	}
	if (entry.firmware == NULL)
		entry.firmware = xstrdup(default_firmware(entry.architecture));
	entry.file = xstrdup(r->file);
	add_entry(&r->found, &entry);
}

/* ---- files ---- */

static void
read_root(struct reader *r, const struct node *root)
{
	static const char *const known[] = { "images" };
	const struct node *images = NULL;

	if (root->kind != NODE_MAP) {
		problems_addf(r->problems, root->line, root->column, NULL,
		    "the file must be a mapping with the key 'images'");
		return;
	}
	for (size_t i = 0; i + 1 < root->count; i += 2) {
		const struct node *key = root->items[i];

		if (str_eq(key->text, known[0]))
			images = root->items[i + 1];
		else
			unknown_key(r, key, known, ARRAY_LEN(known));
	}
	if (images == NULL || node_plain_kind(images) == PLAIN_NULL)
		return;
	if (images->kind != NODE_LIST) {
		problem(r, images, "write a line '- name: …' for each", "images", "must be a list");
		return;
	}
	if (images->count > CATALOGUE_MAX_ENTRIES) {
		problem(r, images, NULL, "images", "are too many");
		return;
	}
	for (size_t i = 0; i < images->count && r->problems->count < PROBLEMS_MAX; i++)
		read_entry(r, images->items[i]);
}

/* What is there already of the same image goes; the new ones go last. */
static void
merge(struct catalogue *catalogue, struct catalogue *found)
{
	size_t kept = 0;

	for (size_t i = 0; i < catalogue->count; i++) {
		bool replaced = false;

		for (size_t k = 0; !replaced && k < found->count; k++)
			replaced = same_image(&catalogue->items[i], &found->items[k]);
		if (replaced)
			entry_done(&catalogue->items[i]);
		else
			catalogue->items[kept++] = catalogue->items[i];
	}
	if (found->count > 0)
		catalogue->items =
		    xreallocarray(catalogue->items, kept + found->count, sizeof(*catalogue->items));
	for (size_t k = 0; k < found->count; k++)
		catalogue->items[kept + k] = found->items[k];
	catalogue->count = kept + found->count;
	free(found->items);
	*found = (struct catalogue){ 0 };
}

int
catalogue_add(
    struct catalogue *catalogue, const char *text, size_t len, const char *file, struct err *err)
{
	struct problems problems = { 0 };
	struct reader r = { .problems = &problems, .file = file };
	struct tree tree = { 0 };
	int rc = 0;

	tree_read(text, len, &tree, &problems);
	if (tree.root != NULL)
		read_root(&r, tree.root);
	tree_done(&tree);
	if (problems.count > 0)
		rc = problems_err(&problems, file, E_PARAMS, err);
	else if (catalogue->count + r.found.count > CATALOGUE_MAX_ENTRIES)
		rc = err_set(err, E_PARAMS,
		    "the catalogue has more than %d images with those of '%s'",
		    CATALOGUE_MAX_ENTRIES, file);
	else
		merge(catalogue, &r.found);
	problems_done(&problems);
	catalogue_done(&r.found);
	return rc;
}

static int
load_file(struct catalogue *catalogue, const char *path, struct err *err)
{
	CLEANUP_FREE char *text = NULL;
	struct err why = ERR_INIT;
	size_t len;

	if (fs_read(path, FILE_MAX_BYTES, &text, &len, &why) != 0)
		return err_set(err, E_PARAMS, "%s", why.msg);
	return catalogue_add(catalogue, text, len, path, err);
}

static int
is_catalogue(const struct dirent *entry)
{
	return entry->d_name[0] != '.' && str_ends(entry->d_name, ".yaml");
}

/* By bytes, whatever the locale is. */
static int
by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static int
load_folder(struct catalogue *catalogue, const char *path, struct err *err)
{
	struct dirent **entries = NULL;
	int count = scandir(path, &entries, is_catalogue, by_name), rc = 0;

	if (count < 0)
		return err_set(err, E_PARAMS, "can not read '%s': %s", path, strerror(errno));
	if (count > FILES_MAX)
		rc = err_set(err, E_PARAMS, "'%s' has more than %d files", path, FILES_MAX);
	for (int i = 0; i < count; i++) {
		CLEANUP_FREE char *file = fs_join(path, entries[i]->d_name);

		if (rc == 0)
			rc = load_file(catalogue, file, err);
		free(entries[i]);
	}
	free(entries);
	return rc;
}

int
catalogue_load(
    const char *const *paths, size_t count, struct catalogue *ret_catalogue, struct err *err)
{
	struct catalogue catalogue = { 0 };
	struct stat st;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < count; i++) {
		st = (struct stat){ 0 };
		if (stat(paths[i], &st) != 0 && (errno == ENOENT || errno == ENOTDIR))
			continue;
		rc = S_ISDIR(st.st_mode) ? load_folder(&catalogue, paths[i], err)
					 : load_file(&catalogue, paths[i], err);
	}
	if (rc == 0)
		*ret_catalogue = catalogue;
	else
		catalogue_done(&catalogue);
	return rc;
}
