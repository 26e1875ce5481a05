/* SPDX-License-Identifier: MPL-2.0
 *
 * Manifests and indexes: which document is meant for a platform, and which layer is the disk. */
#include "lib/image/fetcher/oci.h"

#include <string.h>

#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"

#define ARTIFACT_TYPE "application/vnd.cloudnebula.vm.v1"
#define QCOW2_LAYER "application/vnd.cloudnebula.qcow2.layer.v1"
#define EMPTY_TYPE "application/vnd.oci.empty.v1+json"
#define EMPTY_DIGEST "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
#define MANIFEST_TYPE "application/vnd.oci.image.manifest.v1+json"
#define TITLE "org.opencontainers.image.title"

enum { MEDIA_TYPE_MAX = 255, NAMED_MAX = 600 };

static const struct {
	const char *media_type;
	bool index;
} documents[] = {
	{ "application/vnd.docker.distribution.manifest.list.v2+json", true },
	{ "application/vnd.docker.distribution.manifest.v2+json", false },
	{ "application/vnd.oci.image.index.v1+json", true },
	{ MANIFEST_TYPE, false },
};

/* How sure it is that a layer is the disk; of the lowest there must be exactly one, but for
 * container layers. */
enum { LAYER_OURS, LAYER_NAMED, LAYER_BYTES, LAYER_CONTAINER, LAYER_OTHER };

static const struct {
	const char *media_type;
	int rank;
} layer_types[] = {
	{ QCOW2_LAYER, LAYER_OURS },
	{ "application/octet-stream", LAYER_BYTES },
	{ "application/zstd", LAYER_BYTES },
	{ "application/gzip", LAYER_BYTES },
	{ "application/x-gzip", LAYER_BYTES },
	{ "application/x-xz", LAYER_BYTES },
	{ "application/x-qemu-disk", LAYER_BYTES },
	{ "application/vnd.docker.image.rootfs.diff.tar", LAYER_CONTAINER },
	{ "application/vnd.docker.image.rootfs.diff.tar.gzip", LAYER_CONTAINER },
	{ "application/vnd.docker.image.rootfs.diff.tar.zstd", LAYER_CONTAINER },
	{ "application/vnd.oci.image.layer.v1.tar", LAYER_CONTAINER },
	{ "application/vnd.oci.image.layer.v1.tar+gzip", LAYER_CONTAINER },
	{ "application/vnd.oci.image.layer.v1.tar+zstd", LAYER_CONTAINER },
};

static const char *const disk_suffixes[] = { ".qcow2", ".raw", ".img" };
static const char *const packed_suffixes[] = { ".zst", ".zstd", ".xz", ".gz", ".bz2" };

/* What an entry of an index is good for: a disk for QEMU before anything, then any disk, then
 * what does not say. */
static const char *const disk_types[] = { "qemu", "raw" };
enum { ENTRY_UNSAID = ARRAY_LEN(disk_types), ENTRY_OTHER };

static bool
media_type_valid(const char *text)
{
	if (text == NULL || text[0] == '\0' || strlen(text) > MEDIA_TYPE_MAX)
		return false;
	for (const char *p = text; *p != '\0'; p++) {
		if (*p <= ' ' || *p > '~')
			return false;
	}
	return true;
}

/* NULL: it is not there, or not a text. */
static const char *
annotation(json_object *object, const char *key)
{
	json_object *annotations;

	if (!json_object_object_get_ex(object, "annotations", &annotations) ||
	    !json_object_is_type(annotations, json_type_object))
		return NULL;
	return json_string(annotations, key);
}

/* media type, digest and size, which every descriptor has. */
static int
read_descriptor(json_object *object, const char *what, size_t at, char **ret_media_type,
    char **ret_digest, uint64_t *ret_bytes, struct err *err)
{
	const char *type = NULL, *digest = NULL;
	json_object *size = NULL;
	int64_t bytes = 0;

	if (json_object_is_type(object, json_type_object)) {
		type = json_string(object, "mediaType");
		digest = json_string(object, "digest");
		json_object_object_get_ex(object, "size", &size);
	}
	if (!media_type_valid(type))
		return err_set(err, E_IMAGE, "%s %zu has no media type that makes sense", what, at);
	if (!oci_digest_valid(digest)) {
		CLEANUP_FREE char *shown = oci_shown(digest != NULL ? digest : "",
		    digest != NULL ? strlen(digest) : 0, 80);

		err_set(err, E_IMAGE, "%s %zu has the digest '%s'", what, at, shown);
		err_hint(err, "a digest is 'sha256:' and 64 hex digits; no other kind is taken");
		return E_IMAGE;
	}
	if (json_object_is_type(size, json_type_int))
		bytes = json_object_get_int64(size);
	if (bytes < 1 || (uint64_t)bytes > OCI_BLOB_MAX)
		return err_set(err, E_IMAGE, "%s %zu has no size that makes sense", what, at);
	*ret_media_type = xstrdup(type);
	*ret_digest = xstrdup(digest);
	*ret_bytes = (uint64_t)bytes;
	return 0;
}

/* ---- an index ---- */

struct platform {
	const char *os, *architecture, *variant; /* as in the document; NULL */
};

static const char *
go_architecture(const char *name)
{
	if (str_eq(name, "x86_64"))
		return "amd64";
	return str_eq(name, "aarch64") ? "arm64" : name;
}

static struct platform
read_platform(json_object *entry)
{
	struct platform platform = { 0 };
	json_object *object;

	if (json_object_object_get_ex(entry, "platform", &object) &&
	    json_object_is_type(object, json_type_object)) {
		platform.os = json_string(object, "os");
		platform.architecture = go_architecture(json_string(object, "architecture"));
		platform.variant = json_string(object, "variant");
	}
	return platform;
}

/* Attestations and signatures ride in an index beside the images. */
static bool
is_attachment(json_object *entry, const struct platform *platform)
{
	return annotation(entry, "vnd.docker.reference.type") != NULL ||
	    (str_eq(platform->os, "unknown") && str_eq(platform->architecture, "unknown"));
}

static unsigned
entry_rank(json_object *entry)
{
	const char *disk = annotation(entry, "disktype");

	if (disk == NULL)
		return ENTRY_UNSAID;
	for (unsigned i = 0; i < ARRAY_LEN(disk_types); i++) {
		if (str_eq(disk, disk_types[i]))
			return i;
	}
	return ENTRY_OTHER;
}

/* "linux/amd64 (hyperv), linux/arm64/v8" */
static void
name_entry(struct sbuf *names, json_object *entry, const struct platform *platform)
{
	const char *disk = annotation(entry, "disktype");
	CLEANUP_FREE char *text = NULL, *shown = NULL;

	if (names->len > NAMED_MAX)
		return;
	text = xasprintf("%s/%s%s%s%s%s%s", platform->os != NULL ? platform->os : "?",
	    platform->architecture != NULL ? platform->architecture : "?",
	    platform->variant != NULL ? "/" : "", platform->variant != NULL ? platform->variant : "",
	    disk != NULL ? " (" : "", disk != NULL ? disk : "", disk != NULL ? ")" : "");
	shown = oci_shown(text, strlen(text), 80);
	sbuf_adds(names, names->len > 0 ? ", " : "");
	sbuf_adds(names, names->len > NAMED_MAX ? "…" : shown);
}

static bool
platform_fits(const struct platform *platform, const char *os, const char *architecture)
{
	return (os == NULL || str_eq(platform->os, os)) &&
	    (architecture == NULL || str_eq(platform->architecture, architecture));
}

static int
no_entry(const struct sbuf *names, const char *os, const char *architecture, struct err *err)
{
	if (names->len == 0)
		return err_set(err, E_IMAGE, "the index names no image");
	err_set(err, E_IMAGE, "there is no disk for %s/%s in the index; there is: %s",
	    os != NULL ? os : "any", architecture != NULL ? architecture : "any", names->data);
	err_hint(err, "ask who made the image for one of this platform");
	return E_IMAGE;
}

static int
parse_index(json_object *manifests, const char *os, const char *architecture,
    struct oci_manifest *manifest, struct err *err)
{
	size_t count = json_object_array_length(manifests), images = 0, chosen = 0;
	unsigned best = ENTRY_OTHER * 2;
	bool without_platform = true;
	struct sbuf names = { 0 };
	int rc;

	architecture = go_architecture(architecture);
	for (size_t i = 0; i < count; i++) {
		json_object *entry = json_object_array_get_idx(manifests, i);
		struct platform platform;
		unsigned rank;

		if (!json_object_is_type(entry, json_type_object))
			continue;
		platform = read_platform(entry);
		if (is_attachment(entry, &platform))
			continue;
		if (images++ == 0 && platform.os == NULL && platform.architecture == NULL)
			chosen = i;
		without_platform &= platform.os == NULL && platform.architecture == NULL;
		name_entry(&names, entry, &platform);
		/* A variant (v3 of amd64) may ask for more than the host has. */
		rank = entry_rank(entry) * 2 + (platform.variant != NULL);
		if (platform_fits(&platform, os, architecture) && rank < best) {
			best = rank;
			chosen = i;
		}
	}
	if (best == ENTRY_OTHER * 2 && !(images == 1 && without_platform))
		rc = no_entry(&names, os, architecture, err);
	else
		rc = read_descriptor(json_object_array_get_idx(manifests, chosen), "entry", chosen,
		    &manifest->media_type, &manifest->digest, &manifest->bytes, err);
	sbuf_done(&names);
	return rc;
}

/* ---- a manifest ---- */

/* "disk.qcow2", "fedora.x86_64.raw.zst" */
static bool
names_disk(const char *title)
{
	size_t len;

	if (title == NULL)
		return false;
	len = strlen(title);
	for (size_t i = 0; i < ARRAY_LEN(packed_suffixes); i++) {
		if (str_ends(title, packed_suffixes[i])) {
			len -= strlen(packed_suffixes[i]);
			break;
		}
	}
	for (size_t i = 0; i < ARRAY_LEN(disk_suffixes); i++) {
		size_t n = strlen(disk_suffixes[i]);

		if (len > n && memcmp(title + len - n, disk_suffixes[i], n) == 0)
			return true;
	}
	return false;
}

static int
layer_rank(json_object *object, const char *media_type)
{
	int rank = LAYER_OTHER;

	for (size_t i = 0; i < ARRAY_LEN(layer_types); i++) {
		if (str_eq(media_type, layer_types[i].media_type))
			rank = layer_types[i].rank;
	}
	if (rank == LAYER_OURS || rank == LAYER_OTHER)
		return rank;
	/* Tools push a bare file as a layer of the type of a tar: its name tells. */
	return entry_rank(object) < ENTRY_UNSAID || names_disk(annotation(object, TITLE)) ? LAYER_NAMED
	    : rank;
}

static void
layer_done(struct oci_layer *layer)
{
	free(layer->digest);
	free(layer->media_type);
	free(layer->title);
	*layer = (struct oci_layer){ 0 };
}

static void
name_layer(struct sbuf *names, const struct oci_layer *layer)
{
	CLEANUP_FREE char *shown = NULL;
	const char *text = layer->title != NULL ? layer->title : layer->media_type;

	if (names->len > NAMED_MAX)
		return;
	shown = oci_shown(text, strlen(text), 80);
	sbuf_adds(names, names->len > 0 ? ", " : "");
	if (names->len > NAMED_MAX)
		sbuf_adds(names, "…");
	else
		sbuf_addf(names, "%s (%.19s)", shown, layer->digest);
}

static int
choose_layers(struct oci_layer *all, const int *ranks, size_t count, struct oci_manifest *manifest,
    struct err *err)
{
	struct sbuf names = { 0 };
	int best = LAYER_OTHER;
	bool ambiguous = false;

	for (size_t i = 0; i < count; i++)
		best = ranks[i] < best ? ranks[i] : best;
	manifest->layers = xcalloc(count, sizeof(*manifest->layers));
	for (size_t i = count; i-- > 0;) {
		struct oci_layer *first = &manifest->layers[0];

		if (ranks[i] == best)
			name_layer(&names, &all[i]);
		if (ranks[i] != best || best == LAYER_OTHER)
			continue;
		if (best != LAYER_CONTAINER && manifest->layer_count > 0) {
			ambiguous |= !str_eq(first->digest, all[i].digest);
			continue;
		}
		all[i].container = best == LAYER_CONTAINER;
		manifest->layers[manifest->layer_count++] = all[i];
		all[i] = (struct oci_layer){ 0 };
	}
	if (best == LAYER_OTHER) {
		err_set(err, E_IMAGE, "the manifest has no disk; its layers are: %s", names.data);
		err_hint(err, "a disk is a layer of type %s or application/octet-stream, or a "
		    "container image with the file in disk/", QCOW2_LAYER);
	} else if (ambiguous) {
		err_set(err, E_IMAGE, "which layer is the disk?  There is more than one: %s", names.data);
	}
	sbuf_done(&names);
	return best == LAYER_OTHER || ambiguous ? E_IMAGE : 0;
}

static int
parse_manifest(json_object *doc, json_object *layers, struct oci_manifest *manifest,
    struct err *err)
{
	size_t count = json_object_array_length(layers);
	struct oci_layer *all;
	int *ranks, rc = 0;

	if (count == 0)
		return err_set(err, E_IMAGE, "the manifest has no layers");
	if (count > OCI_LAYERS_MAX)
		return err_set(err, E_IMAGE, "the manifest has %zu layers; at most %d are taken", count,
		    OCI_LAYERS_MAX);
	if (media_type_valid(json_string(doc, "artifactType")))
		manifest->artifact_type = xstrdup(json_string(doc, "artifactType"));
	all = xcalloc(count, sizeof(*all));
	ranks = xcalloc(count, sizeof(*ranks));
	for (size_t i = 0; rc == 0 && i < count; i++) {
		json_object *object = json_object_array_get_idx(layers, i);

		rc = read_descriptor(object, "layer", i, &all[i].media_type, &all[i].digest,
		    &all[i].bytes, err);
		if (rc == 0) {
			all[i].title = xstrdup(annotation(object, TITLE));
			ranks[i] = layer_rank(object, all[i].media_type);
		}
	}
	if (rc == 0)
		rc = choose_layers(all, ranks, count, manifest, err);
	for (size_t i = 0; i < count; i++)
		layer_done(&all[i]);
	free(all);
	free(ranks);
	return rc;
}

/* A document that is both a manifest and an index would mean something else to every reader. */
static int
parse_document(json_object *doc, const char *os, const char *architecture,
    struct oci_manifest *manifest, struct err *err)
{
	json_object *manifests = NULL, *layers = NULL, *version = NULL, *value = NULL;
	const char *type = json_string(doc, "mediaType");
	size_t i;

	json_object_object_get_ex(doc, "manifests", &manifests);
	json_object_object_get_ex(doc, "layers", &layers);
	json_object_object_get_ex(doc, "schemaVersion", &version);
	if (!json_object_is_type(version, json_type_int) || json_object_get_int64(version) != 2) {
		err_set(err, E_IMAGE, "the manifest is not of schema 2");
		err_hint(err, "images of before 2016 have to be pushed again by a newer tool");
		return E_IMAGE;
	}
	if (json_object_is_type(manifests, json_type_array) ==
	    json_object_is_type(layers, json_type_array))
		return err_set(err, E_IMAGE, "the manifest is neither an image's nor an index");
	manifest->index = json_object_is_type(manifests, json_type_array);
	if (json_object_object_get_ex(doc, "mediaType", &value)) {
		for (i = 0; i < ARRAY_LEN(documents); i++) {
			if (str_eq(type, documents[i].media_type))
				break;
		}
		if (i == ARRAY_LEN(documents) || documents[i].index != manifest->index) {
			CLEANUP_FREE char *shown = oci_shown(type != NULL ? type : "?",
			    type != NULL ? strlen(type) : 1, 80);

			return err_set(err, E_IMAGE, "the manifest calls itself '%s'", shown);
		}
		if (!manifest->index)
			manifest->media_type = xstrdup(type);
	}
	if (manifest->index)
		return parse_index(manifests, os, architecture, manifest, err);
	if (manifest->media_type == NULL)
		manifest->media_type = xstrdup(MANIFEST_TYPE);
	return parse_manifest(doc, layers, manifest, err);
}

int
oci_parse(const char *text, size_t len, const char *os, const char *architecture,
    struct oci_manifest *ret_manifest, struct err *err)
{
	CLEANUP_JSON json_object *doc = oci_json(text, len, "the manifest", err);
	struct oci_manifest manifest = { 0 };
	int rc;

	if (doc == NULL)
		return E_IMAGE;
	rc = parse_document(doc, os, architecture, &manifest, err);
	if (rc == 0)
		*ret_manifest = manifest;
	else
		oci_manifest_done(&manifest);
	return rc;
}

void
oci_manifest_done(struct oci_manifest *manifest)
{
	for (size_t i = 0; i < manifest->layer_count; i++)
		layer_done(&manifest->layers[i]);
	free(manifest->layers);
	free(manifest->digest);
	free(manifest->media_type);
	free(manifest->artifact_type);
	*manifest = (struct oci_manifest){ 0 };
}

/* ---- what a push makes ---- */

static json_object *
new_descriptor(const char *media_type, const char *digest, uint64_t bytes)
{
	json_object *object = json_object_new_object();

	json_add_string(object, "mediaType", media_type);
	json_add_string(object, "digest", digest);
	json_add_int(object, "size", (int64_t)bytes);
	return object;
}

char *
oci_compose(const char *media_type, const char *digest, uint64_t bytes, const char *title)
{
	CLEANUP_JSON json_object *doc = json_object_new_object();
	json_object *layers = json_object_new_array(), *annotations = json_object_new_object();
	json_object *layer = new_descriptor(media_type, digest, bytes);

	json_add_int(doc, "schemaVersion", 2);
	json_add_string(doc, "mediaType", MANIFEST_TYPE);
	json_add_string(doc, "artifactType", ARTIFACT_TYPE);
	json_object_object_add(doc, "config", new_descriptor(EMPTY_TYPE, EMPTY_DIGEST, 2));
	json_add_string(annotations, TITLE, title);
	json_object_object_add(layer, "annotations", annotations);
	json_object_array_add(layers, layer);
	json_object_object_add(doc, "layers", layers);
	return xstrdup(json_object_to_json_string_ext(doc, JSON_TEXT_FLAGS));
}
