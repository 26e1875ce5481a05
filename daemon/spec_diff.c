/* SPDX-License-Identifier: MPL-2.0 */
#include "daemon/spec_diff.h"

#include <stdlib.h>
#include <string.h>

#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"

const char *const change_when_names[] = { "none", "now", "next start", "reload" };

static const struct {
	const char *field;
	enum change_when when;
} rules[] = {
	{ "ssh", CHANGE_NOW },
	{ "provision", CHANGE_NOW },
	{ "depends_on", CHANGE_NOW },
	{ "ports", CHANGE_NOW },
	{ "vcpus", CHANGE_STOPPED },
	{ "memory", CHANGE_STOPPED },
	{ "network", CHANGE_STOPPED },
	{ "cloud_init", CHANGE_STOPPED },
	{ "boot", CHANGE_STOPPED },
	{ "display", CHANGE_STOPPED },
	{ "image", CHANGE_RELOAD },
	{ "disk", CHANGE_RELOAD },
	{ "arch", CHANGE_RELOAD },
	{ "firmware", CHANGE_RELOAD },
	{ "cdrom", CHANGE_RELOAD },
	{ "backend", CHANGE_RELOAD },
};

/* A VNIC is made with its machine; how the guest is addressed on it is not. */
static bool
same_vnic(const struct network_spec *a, const struct network_spec *b)
{
	if (a->type != NETWORK_VNIC && b->type != NETWORK_VNIC)
		return true;
	return a->type == b->type && str_eq(a->name, b->name) && str_eq(a->link, b->link);
}

/* A guest's port may be forwarded to, which begins with a start. */
static enum change_when
rule_when(size_t rule, const struct vm_spec *is, const struct vm_spec *asked)
{
	if (str_eq(rules[rule].field, "network") && !same_vnic(&is->network, &asked->network))
		return CHANGE_RELOAD;
	if (str_eq(rules[rule].field, "ssh") && vm_spec_ssh_port(is) != vm_spec_ssh_port(asked))
		return CHANGE_STOPPED;
	return rules[rule].when;
}

/* A file is its hash, wherever it lies and whatever it is called. */
static json_object *
normal(json_object *json)
{
	json_object *copy;
	const char *hash;

	switch (json_object_get_type(json)) {
	case json_type_object:
		hash = json_string(json, "sha256");
		if (hash != NULL)
			return json_object_new_string(hash);
		copy = json_object_new_object();
		json_object_object_foreach(json, key, value)
			json_object_object_add(copy, key, normal(value));
		return copy;
	case json_type_array:
		copy = json_object_new_array();
		for (size_t i = 0; i < json_object_array_length(json); i++)
			json_object_array_add(copy, normal(json_object_array_get_idx(json, i)));
		return copy;
	default:
		return json_object_get(json);
	}
}

/* An image is its digest; one that is not known yet, and asked for in the same words as the one
 * that is there, is taken for the same: what a name means may move, a machine does not. */
bool
spec_same_image_words(const struct image_spec *is, const struct image_spec *asked)
{
	return asked->digest == NULL && asked->url != NULL && str_eq(asked->url, is->url) &&
	    str_eq(asked->sha256, is->sha256) && str_eq(asked->sha512, is->sha512);
}

static json_object *
image_text(const struct image_spec *image)
{
	if (!image->present)
		return NULL;
	return json_object_new_string(image->digest != NULL ? image->digest : image_spec_shown(image));
}

static void
put_image(json_object *from, json_object *to, const char *key, const struct image_spec *is,
    const struct image_spec *asked)
{
	json_object_object_add(from, key, image_text(is));
	json_object_object_add(to, key,
	    image_text(spec_same_image_words(is, asked) ? is : asked));
}

static const char *
text_of(json_object *object, const char *key)
{
	json_object *value = NULL;

	if (!json_object_object_get_ex(object, key, &value) || value == NULL)
		return "none";
	return json_object_is_type(value, json_type_string) ? json_object_get_string(value)
	    : json_object_to_json_string_ext(value, JSON_TEXT_FLAGS);
}

/* "2147483648B" is how the rows write sizes for themselves; people read units. */
static char *
for_people(const char *field, const char *text)
{
	uint64_t bytes;

	if ((str_eq(field, "memory") || str_eq(field, "disk")) &&
	    str_to_size(text, 1, &bytes, NULL) == 0)
		return str_size(bytes);
	return xstrdup(text);
}

enum change_when
spec_diff(const struct vm_spec *is, const struct vm_spec *asked, json_object *changes)
{
	CLEANUP_JSON json_object *a = fields_encode(vm_spec_fields, is);
	CLEANUP_JSON json_object *b = fields_encode(vm_spec_fields, asked);
	CLEANUP_JSON json_object *from = normal(a), *to = normal(b);
	enum change_when most = CHANGE_NONE;

	/* Machines of former versions say nothing, and are of the host's. */
	if (is->arch == ARCH_DEFAULT && asked->arch != ARCH_DEFAULT)
		json_add_string(from, "arch", arch_names[arch_host()]);
	put_image(from, to, "image", &is->image, &asked->image);
	put_image(from, to, "cdrom", &is->cdrom, &asked->cdrom);
	for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
		CLEANUP_FREE char *old = for_people(rules[i].field, text_of(from, rules[i].field));
		CLEANUP_FREE char *new = for_people(rules[i].field, text_of(to, rules[i].field));
		enum change_when when = rule_when(i, is, asked);
		json_object *change;

		if (str_eq(old, new))
			continue;
		if (when > most)
			most = when;
		if (changes == NULL)
			continue;
		change = json_object_new_object();
		json_add_string(change, "field", rules[i].field);
		json_add_string(change, "from", old);
		json_add_string(change, "to", new);
		json_add_string(change, "when", change_when_names[when]);
		json_object_array_add(changes, change);
	}
	return most;
}

void
spec_merge(const struct vm_spec *is, const struct vm_spec *asked, enum change_when most,
    struct vm_spec *ret_spec)
{
	CLEANUP_JSON json_object *base = fields_encode(vm_spec_fields, is);
	CLEANUP_JSON json_object *with = fields_encode(vm_spec_fields, asked);

	for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
		json_object *value = NULL;

		if (rule_when(i, is, asked) > most)
			continue;
		if (json_object_object_get_ex(with, rules[i].field, &value) && value != NULL)
			json_object_object_add(base, rules[i].field, json_object_get(value));
		else
			json_object_object_del(base, rules[i].field);
	}
	memset(ret_spec, 0, sizeof(*ret_spec));
	if (fields_decode_one(vm_spec_fields, base, ret_spec, NULL) != 0)
		abort(); /* both were checked */
	ret_spec->present = true;
}
