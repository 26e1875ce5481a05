/* SPDX-License-Identifier: MPL-2.0
 *
 * Where the catalogue's files are, and what a name in it means. */
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/platform.h"
#include "lib/base/str.h"
#include "lib/image/catalogue.h"

/* ---- files ---- */

char *
catalogue_shipped(void)
{
	static const char *const places[] = { "../lib/catalogue.yaml", "../../lib/catalogue.yaml",
		"../share/vmm/catalogue.yaml" };
	const char *given = getenv("VMM_CATALOGUE");
	CLEANUP_FREE char *self = NULL, *folder = NULL;

	if (given != NULL && given[0] != '\0')
		return xstrdup(given);
	self = platform_own_path();
	folder = self != NULL ? fs_dirname(self) : NULL;
	for (size_t i = 0; folder != NULL && i < ARRAY_LEN(places); i++) {
		CLEANUP_FREE char *path = fs_join(folder, places[i]);

		if (fs_exists(path))
			return fs_expand(path, NULL);
	}
	return xstrdup(VMM_DATADIR "/catalogue.yaml");
}

int
catalogue_load_all(const char *config_folder, struct catalogue *ret_catalogue, struct err *err)
{
	CLEANUP_FREE char *shipped = catalogue_shipped();
	CLEANUP_FREE char *file =
	    config_folder != NULL ? fs_join(config_folder, "catalogue.yaml") : NULL;
	CLEANUP_FREE char *folder =
	    config_folder != NULL ? fs_join(config_folder, "catalogue.d") : NULL;
	const char *const paths[] = { shipped, file, folder };

	return catalogue_load(paths, config_folder != NULL ? 3 : 1, ret_catalogue, err);
}

/* ---- names ---- */

const char *
catalogue_host_architecture(void)
{
	static const char *const names[][2] = {
		{ "x86_64", "amd64" },
		{ "amd64", "amd64" },
		{ "i86pc", "amd64" }, /* illumos tells its platform */
		{ "aarch64", "arm64" },
		{ "arm64", "arm64" },
		{ "ppc64le", "ppc64le" },
		{ "riscv64", "riscv64" },
		{ "s390x", "s390x" },
	};
	struct utsname host;

	if (uname(&host) != 0)
		return "amd64";
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (str_eq(host.machine, names[i][0]))
			return names[i][1];
	return "amd64";
}

static bool
has_alias(const struct catalogue_entry *entry, const char *word)
{
	for (size_t i = 0; i < entry->aliases.count; i++)
		if (str_eq(entry->aliases.items[i], word))
			return true;
	return false;
}

struct wanted {
	char *name;
	const char *version;      /* "latest" when none was given */
	const char *architecture; /* NULL: any */
	bool bare;                /* no version was given: the last one will do */
};

/* Versions go before aliases, and later files before earlier ones. */
static const struct catalogue_entry *
find(const struct catalogue *catalogue, const struct wanted *wanted)
{
	const struct catalogue_entry *alias = NULL, *last = NULL;

	for (size_t i = catalogue->count; i-- > 0;) {
		const struct catalogue_entry *entry = &catalogue->items[i];

		if (!str_eq(entry->name, wanted->name) ||
		    (wanted->architecture != NULL &&
			!str_eq(entry->architecture, wanted->architecture)))
			continue;
		if (str_eq(entry->version, wanted->version))
			return entry;
		if (alias == NULL && has_alias(entry, wanted->version))
			alias = entry;
		if (last == NULL)
			last = entry;
	}
	return alias != NULL || !wanted->bare ? alias : last;
}

/* It is there, but not for that architecture: for which? */
static void
explain_architecture(const struct catalogue *catalogue, const struct wanted *wanted,
    const char *name, struct err *err)
{
	CLEANUP_FREE char *shown = str_line(name, strnlen(name, 256)), *list = NULL;
	struct sbuf found = { 0 };

	for (size_t i = 0; i < catalogue->count; i++) {
		const struct catalogue_entry *entry = &catalogue->items[i];
		struct wanted one = *wanted;
		struct catalogue only = { (struct catalogue_entry *)entry, 1 };

		one.architecture = NULL;
		if (find(&only, &one) == NULL)
			continue;
		if (found.len == 0 || strstr(found.data, entry->architecture) == NULL)
			sbuf_addf(&found, "%s%s", found.len > 0 ? ", " : "", entry->architecture);
	}
	list = sbuf_take(&found);
	err_set(err, E_NOT_FOUND, "the catalogue has '%s' for %s, not for %s", shown, list,
	    wanted->architecture);
}

static void
explain(const struct catalogue *catalogue, const struct wanted *wanted, const char *name,
    struct err *err)
{
	CLEANUP_FREE char *shown = str_line(name, strnlen(name, 256));
	const char **words = xcalloc(catalogue->count + 1, sizeof(char *)), *near;
	struct sbuf versions = { 0 };
	size_t listed = 0;

	for (size_t i = 0; i < catalogue->count; i++) {
		const struct catalogue_entry *entry = &catalogue->items[i];

		words[i] = entry->name;
		if (str_eq(entry->name, wanted->name) && listed < 12 &&
		    str_eq(entry->architecture, wanted->architecture)) {
			sbuf_addf(&versions, "%s%s:%s", listed > 0 ? ", " : "", entry->name,
			    entry->version);
			listed++;
		}
	}
	near = str_nearest(wanted->name, words, catalogue->count);
	err_set(err, E_NOT_FOUND, "there is no '%s' in the catalogue", shown);
	if (listed > 0)
		err_hint(err, "it has %s", versions.data);
	else if (near != NULL && !str_eq(near, wanted->name))
		err_hint(err, "did you mean '%s'?  'vmctl image catalogue' lists all", near);
	else
		err_hint(err, "'vmctl image catalogue' lists what there is");
	sbuf_done(&versions);
	free(words);
}

const struct catalogue_entry *
catalogue_find(
    const struct catalogue *catalogue, const char *name, const char *architecture, struct err *err)
{
	const char *colon = strchr(name, ':');
	CLEANUP_FREE char *first =
	    xstrndup(name, colon != NULL ? (size_t)(colon - name) : strlen(name));
	struct wanted wanted = { .name = first,
		.version = colon != NULL ? colon + 1 : "latest",
		.architecture = architecture != NULL ? architecture : catalogue_host_architecture(),
		.bare = colon == NULL || str_eq(colon, ":latest") };
	const struct catalogue_entry *entry = find(catalogue, &wanted);
	struct wanted any = wanted;

	if (entry != NULL)
		return entry;
	any.architecture = NULL;
	if (find(catalogue, &any) != NULL)
		explain_architecture(catalogue, &wanted, name, err);
	else
		explain(catalogue, &wanted, name, err);
	return NULL;
}
