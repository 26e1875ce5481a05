/* SPDX-License-Identifier: MPL-2.0 */
#include "client/image.h"

#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>

#include "client/auth.h"
#include "client/call.h"
#include "client/endpoint.h"
#include "client/json.h"
#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/reference.h"

/* ---- words ---- */

bool
image_word_is_path(const char *word)
{
	if (strstr(word, "://") != NULL)
		return false;
	if (strchr("./~", word[0]) != NULL || strchr(word, '/') != NULL)
		return true;
	if (strchr(word, ':') != NULL)
		return false;
	return image_is_file_name(word) || (fs_exists(word) && !fs_is_folder(word));
}

static void
add_flags(json_object *image, const struct image_flags *flags)
{
	json_add_string(image, "sha256", flags->sha256);
	json_add_string(image, "sha512", flags->sha512);
	json_add_string(image, "checksums", flags->checksums);
	json_add_string(image, "format", flags->format);
	if (flags->insecure_http)
		json_add_bool(image, "insecure_http", true);
}

int
images_word(struct images *images, struct sent_files *files, const char *word,
    const struct image_flags *flags, struct json_object **ret_image, struct err *err)
{
	CLEANUP_FREE char *path = NULL;
	json_object *image = NULL;
	int rc;

	if (image_word_is_path(word)) {
		path = fs_expand(word, NULL);
		rc = files_attach(files, path, &image, err);
		if (rc != 0)
			return err->code = E_USAGE;
		add_flags(image, flags);
		*ret_image = image;
		return 0;
	}
	image = json_object_new_object();
	json_add_string(image, "url", word);
	add_flags(image, flags);
	rc = images_resolve(images, image, err);
	if (rc != 0)
		json_object_put(image);
	else
		*ret_image = image;
	return rc;
}

/* ---- what they mean ---- */

int
images_catalogue(struct images *images, const struct catalogue **ret_catalogue, struct err *err)
{
	CLEANUP_FREE char *file = endpoint_config_path("catalogue.yaml");
	CLEANUP_FREE char *folder = endpoint_config_path("catalogue.d");
	const char *paths[] = { file, folder };

	*ret_catalogue = &images->catalogue;
	if (images->loaded || file == NULL)
		return 0;
	images->loaded = true;
	return catalogue_load(paths, ARRAY_LEN(paths), &images->catalogue, err);
}

/* Adds what the image does not say itself. */
static void
add_missing(json_object *image, const char *key, const char *value)
{
	if (!json_has(image, key))
		json_add_string(image, key, value);
}

/* The daemon knows its own files only; what stands in the user's is told in full. */
static int
resolve_name(struct images *images, json_object *image, const char *name, struct err *err)
{
	bool checked = json_has(image, "sha256") || json_has(image, "sha512") ||
		       json_has(image, "checksums") || json_has(image, "digest");
	const struct catalogue_entry *entry;
	const struct catalogue *catalogue;
	int rc = images_catalogue(images, &catalogue, err);

	if (rc != 0)
		return rc;
	entry = catalogue_find(catalogue, name, NULL, NULL);
	if (entry == NULL)
		return 0;
	add_missing(image, "name", name);
	add_missing(image, "format", entry->format);
	if (!checked) {
		json_add_string(image, "sha256", entry->sha256);
		json_add_string(image, "sha512", entry->sha512);
		json_add_string(image, "checksums", entry->checksums);
	}
	json_add_string(image, "url", entry->url);
	return 0;
}

void
images_need(struct images *images, const char *reference, const char *digest)
{
	images->references =
	    xreallocarray(images->references, images->count + 1, sizeof(*images->references));
	images->references[images->count++] =
	    (struct image_reference){ .text = xstrdup(reference), .digest = xstrdup(digest) };
}

/* Remembers who is asked, and takes the login out. */
static void
take_url(struct images *images, json_object *image, const char *key)
{
	const char *url = json_string(image, key);
	CLEANUP_FREE char *bare = NULL;

	if (url == NULL || strstr(url, "://") == NULL)
		return;
	images_need(images, url, json_string(image, "digest"));
	bare = auth_url_without_login(url);
	if (!str_eq(bare, url))
		json_add_string(image, key, bare);
}

int
images_resolve(struct images *images, struct json_object *image, struct err *err)
{
	static const char *const keys[] = { "url", "checksums", "source" };
	CLEANUP_FREE char *url = xstrdup(json_string(image, "url"));
	enum image_ref_kind kind = IMAGE_REF_DIGEST;
	int rc = 0;

	if (url != NULL)
		rc = image_ref_kind(url, &kind, err);
	if (rc == 0 && kind == IMAGE_REF_NAME)
		rc = resolve_name(images, image, url, err);
	for (size_t i = 0; rc == 0 && i < ARRAY_LEN(keys); i++)
		take_url(images, image, keys[i]);
	return rc;
}

/* ---- who may fetch ---- */

static bool
is_listed(json_object *list, const char *digest)
{
	for (size_t i = 0; i < json_length(list); i++)
		if (str_eq(json_string(json_item(list, i), "digest"), digest))
			return true;
	return false;
}

/* The digests that the daemon has need nothing to be fetched. */
static int
list_known(
    struct vmctl *ctl, const struct images *images, json_object **ret_answer, struct err *err)
{
	struct call call = { .method = METHOD_image_list };
	bool pinned = false;

	for (size_t i = 0; i < images->count; i++)
		pinned = pinned || images->references[i].digest != NULL;
	return pinned ? call_run(ctl, &call, ret_answer, err) : 0;
}

int
images_auth(struct vmctl *ctl, struct images *images, struct json_object *params, struct err *err)
{
	CLEANUP_FREE const char **wanted = xcalloc(images->count + 1, sizeof(*wanted));
	json_object *answer = NULL, *auth = NULL;
	size_t count = 0;
	int rc;

	if (images->count == 0)
		return 0;
	rc = list_known(ctl, images, &answer, err);
	for (size_t i = 0; rc == 0 && i < images->count; i++) {
		const struct image_reference *reference = &images->references[i];

		if (reference->digest == NULL ||
		    !is_listed(json_member(answer, "images"), reference->digest))
			wanted[count++] = reference->text;
	}
	json_object_put(answer);
	if (rc == 0)
		rc = auth_find(wanted, count, &auth, err);
	if (auth != NULL)
		json_object_object_add(params, "auth", auth);
	return rc;
}

void
images_forget(struct images *images, size_t count)
{
	while (images->count > count) {
		struct image_reference *last = &images->references[--images->count];

		mem_wipe(last->text, strlen(last->text));
		free(last->text);
		free(last->digest);
	}
}

void
images_done(struct images *images)
{
	images_forget(images, 0);
	free(images->references);
	catalogue_done(&images->catalogue);
	*images = (struct images){ 0 };
}
