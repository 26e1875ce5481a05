/* SPDX-License-Identifier: MPL-2.0
 *
 * Which firmware: from descriptors to one that fits. */
#include "lib/hypervisor/qemu/firmware.h"

#include <dirent.h>
#include <errno.h>
#include <fnmatch.h>
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"

enum { DESCRIPTOR_MAX = 1 << 20, DESCRIPTORS_MAX = 1024 };

struct named { /* a descriptor file, by its name */
	char *name, *path;
};

struct listing {
	struct named *items;
	size_t count;
};

struct search {
	const struct qemu_arch *arch;
	bool secure_boot;
	char *note; /* about the first one that had to be passed over */
};

/* ---- folders ---- */

char **
firmware_folders(const char *prefix)
{
	const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	char **folders = xcalloc(5, sizeof(*folders));
	size_t n = 0;

	if (prefix != NULL && !str_eq(prefix, "/usr"))
		folders[n++] = xasprintf("%s/share/qemu/firmware", prefix);
	folders[n++] = xstrdup("/usr/share/qemu/firmware");
	folders[n++] = xstrdup("/etc/qemu/firmware");
	if (config != NULL && config[0] == '/')
		folders[n++] = xasprintf("%s/qemu/firmware", config);
	else if (home != NULL && home[0] == '/')
		folders[n++] = xasprintf("%s/.config/qemu/firmware", home);
	return folders;
}

void
firmware_folders_done(char **folders)
{
	for (size_t i = 0; folders != NULL && folders[i] != NULL; i++)
		free(folders[i]);
	free(folders);
}

static void
listing_put(struct listing *list, const char *folder, const char *name)
{
	struct named *item = NULL;

	for (size_t i = 0; i < list->count; i++)
		if (str_eq(list->items[i].name, name))
			item = &list->items[i];
	if (item == NULL) {
		list->items =
		    xreallocarray(list->items, list->count + 1, sizeof(*list->items));
		item = &list->items[list->count++];
		*item = (struct named){ .name = xstrdup(name) };
	}
	free(item->path);
	item->path = fs_join(folder, name);
}

static void
listing_read(struct listing *list, const char *folder)
{
	DIR *dir = opendir(folder);
	struct dirent *entry;

	while (dir != NULL && list->count < DESCRIPTORS_MAX && (entry = readdir(dir)) != NULL) {
		size_t len = strlen(entry->d_name);

		if (entry->d_name[0] != '.' && len > 5 &&
		    str_eq(entry->d_name + len - 5, ".json"))
			listing_put(list, folder, entry->d_name);
	}
	if (dir != NULL)
		closedir(dir);
}

static int
by_name(const void *a, const void *b)
{
	return strcmp(((const struct named *)a)->name, ((const struct named *)b)->name);
}

static void
listing_done(struct listing *list)
{
	for (size_t i = 0; i < list->count; i++) {
		free(list->items[i].name);
		free(list->items[i].path);
	}
	free(list->items);
}

/* ---- one descriptor ---- */

static json_object *
member(json_object *doc, const char *key, enum json_type type)
{
	json_object *value = NULL;

	if (!json_object_is_type(doc, json_type_object) ||
	    !json_object_object_get_ex(doc, key, &value) || !json_object_is_type(value, type))
		return NULL;
	return value;
}

static const char *
text(json_object *doc, const char *key)
{
	json_object *value = member(doc, key, json_type_string);

	return value != NULL ? json_object_get_string(value) : NULL;
}

static bool
lists(json_object *doc, const char *key, const char *word)
{
	json_object *list = member(doc, key, json_type_array);

	for (size_t i = 0; list != NULL && i < json_object_array_length(list); i++)
		if (str_eq(json_object_get_string(json_object_array_get_idx(list, i)), word))
			return true;
	return false;
}

static bool
fits_target(json_object *target, const struct qemu_arch *arch)
{
	json_object *machines = member(target, "machines", json_type_array);

	if (!str_eq(text(target, "architecture"), arch->name))
		return false;
	for (size_t i = 0; machines != NULL && i < json_object_array_length(machines); i++) {
		const char *pattern =
		    json_object_get_string(json_object_array_get_idx(machines, i));

		if (pattern != NULL && fnmatch(pattern, arch->machine, 0) == 0)
			return true;
	}
	return false;
}

static bool
fits(json_object *doc, const struct search *search)
{
	json_object *targets = member(doc, "targets", json_type_array);
	bool keys = lists(doc, "features", "enrolled-keys");
	bool secure = lists(doc, "features", "secure-boot");

	if (!lists(doc, "interface-types", "uefi"))
		return false;
	/* Without keys it checks nothing; with them it refuses what a plain guest may start. */
	if (search->secure_boot ? !secure || !keys : keys)
		return false;
	for (size_t i = 0; targets != NULL && i < json_object_array_length(targets); i++)
		if (fits_target(json_object_array_get_idx(targets, i), search->arch))
			return true;
	return false;
}

static void
pass_over(struct search *search, const char *path, const char *why)
{
	if (search->note == NULL)
		search->note = xasprintf("'%s' %s", path, why);
}

static bool
known_format(const char *format)
{
	return str_eq(format, "raw") || str_eq(format, "qcow2");
}

/* Whether both files of the flash are there, in a form that is understood. */
static bool
take_flash(json_object *doc, const char *path, struct search *search, struct qemu_firmware *ret)
{
	json_object *mapping = member(doc, "mapping", json_type_object);
	json_object *code = member(mapping, "executable", json_type_object);
	json_object *vars = member(mapping, "nvram-template", json_type_object);
	const char *mode = text(mapping, "mode"), *missing = NULL;
	CLEANUP_FREE char *why = NULL;

	if (!str_eq(text(mapping, "device"), "flash") || (mode != NULL && !str_eq(mode, "split")))
		return false; /* of another kind, and nothing is wrong with it */
	if (text(code, "filename") == NULL || text(vars, "filename") == NULL ||
	    !known_format(text(code, "format")) || !known_format(text(vars, "format"))) {
		pass_over(search, path, "does not tell its files and their formats");
		return false;
	}
	if (access(text(code, "filename"), R_OK) < 0)
		missing = text(code, "filename");
	else if (access(text(vars, "filename"), R_OK) < 0)
		missing = text(vars, "filename");
	if (missing != NULL) {
		why = xasprintf("names '%s', which is not there", missing);
		pass_over(search, path, why);
		return false;
	}
	*ret = (struct qemu_firmware){ .descriptor = xstrdup(path),
		.code = xstrdup(text(code, "filename")), .code_format = xstrdup(text(code, "format")),
		.template = xstrdup(text(vars, "filename")),
		.vars_format = xstrdup(text(vars, "format")),
		.smm = lists(doc, "features", "requires-smm") };
	return true;
}

static bool
take(const char *path, struct search *search, struct qemu_firmware *ret)
{
	CLEANUP_FREE char *content = NULL;
	struct err err = ERR_INIT;
	json_object *doc;
	size_t len = 0;
	bool taken;

	if (fs_read(path, DESCRIPTOR_MAX, &content, &len, &err) != 0) {
		pass_over(search, path, "can not be read");
		return false;
	}
	if (len == 0)
		return false; /* a mask */
	doc = json_tokener_parse(content);
	if (!json_object_is_type(doc, json_type_object))
		pass_over(search, path, "is not a JSON object");
	taken = fits(doc, search) && take_flash(doc, path, search, ret);
	json_object_put(doc);
	return taken;
}

/* ---- the choice ---- */

static int
nothing_fits(const struct search *search, struct err *err)
{
	err_set(err, E_UNSUPPORTED, "no UEFI firmware%s for %s (machine type %s) is installed%s%s",
	    search->secure_boot ? " with secure boot and enrolled keys" : "", search->arch->name,
	    search->arch->machine, search->note != NULL ? "; " : "",
	    search->note != NULL ? search->note : "");
	err_hint(err, "install the package '%s' (as Debian calls it)",
	    search->arch->firmware_package);
	return E_UNSUPPORTED;
}

int
firmware_find(const char *const *folders, const struct qemu_arch *arch, bool secure_boot,
    struct qemu_firmware *ret_firmware, struct err *err)
{
	struct search search = { .arch = arch, .secure_boot = secure_boot };
	struct qemu_firmware found = { 0 };
	struct listing list = { 0 };
	int rc;

	for (; *folders != NULL; folders++)
		listing_read(&list, *folders);
	if (list.count > 0)
		qsort(list.items, list.count, sizeof(*list.items), by_name);
	for (size_t i = 0; i < list.count; i++) {
		struct qemu_firmware next = { 0 };

		if (!take(list.items[i].path, &search, &next))
			continue;
		/* System management mode costs time and serves secure boot alone. */
		if (found.code == NULL || (!secure_boot && found.smm && !next.smm)) {
			firmware_done(&found);
			found = next;
		} else {
			firmware_done(&next);
		}
	}
	rc = found.code != NULL ? 0 : nothing_fits(&search, err);
	if (rc == 0)
		*ret_firmware = found;
	free(search.note);
	listing_done(&list);
	return rc;
}

void
firmware_done(struct qemu_firmware *firmware)
{
	free(firmware->descriptor);
	free(firmware->code);
	free(firmware->code_format);
	free(firmware->template);
	free(firmware->vars_format);
	*firmware = (struct qemu_firmware){ 0 };
}
