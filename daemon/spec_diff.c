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
	{ "hosts", CHANGE_NOW },
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
same_vnics(const struct vm_spec *is, const struct vm_spec *asked)
{
	size_t count = vm_spec_nic_count(is), most = vm_spec_nic_count(asked);

	for (size_t i = 0; i < (count > most ? count : most); i++) {
		const struct network_spec *a = i < count ? vm_spec_nic(is, i) : NULL;
		const struct network_spec *b = i < most ? vm_spec_nic(asked, i) : NULL;
		bool vnic = a != NULL && a->type == NETWORK_VNIC;

		if (vnic != (b != NULL && b->type == NETWORK_VNIC))
			return false;
		if (vnic && (!str_eq(a->name, b->name) || !str_eq(a->link, b->link)))
			return false;
	}
	return true;
}

/* A guest's port may be forwarded to, which begins with a start. */
static enum change_when
rule_when(size_t rule, const struct vm_spec *is, const struct vm_spec *asked)
{
	if (str_eq(rules[rule].field, "network") && !same_vnics(is, asked))
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

/* Whichever way they were written; the names that the guest knows apart from the rest. */
static void
put_networks(json_object *into, const struct vm_spec *spec)
{
	json_object *list = json_object_new_array(), *hosts = json_object_new_array(), *none;

	for (size_t i = 0; i < vm_spec_nic_count(spec); i++) {
		json_object *nic = fields_encode(vm_network_fields, vm_spec_nic(spec, i)), *names = NULL;

		if (json_object_object_get_ex(nic, "hosts", &names))
			json_object_array_add(hosts, json_object_get(names));
		json_object_object_del(nic, "hosts");
		json_object_array_add(list, nic);
	}
	if (json_object_array_length(list) == 0) {
		none = json_object_new_object();
		json_add_string(none, "type", network_names[NETWORK_NONE]);
		json_object_array_add(list, none);
	}
	json_object_object_add(into, "network", json_object_array_length(list) == 1
		? json_object_get(json_object_array_get_idx(list, 0)) : json_object_get(list));
	json_object_object_add(into, "hosts", hosts);
	json_object_put(list);
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
	put_networks(from, is);
	put_networks(to, asked);
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

static void
take_key(json_object *base, json_object *with, const char *key)
{
	json_object *value = NULL;

	if (json_object_object_get_ex(with, key, &value) && value != NULL)
		json_object_object_add(base, key, json_object_get(value));
	else
		json_object_object_del(base, key);
}

/* The names of a private network that both have, while the NIC itself may have to wait. */
static void
take_hosts(struct vm_spec *spec, const struct vm_spec *asked)
{
	for (size_t i = 0; i < vm_spec_nic_count(spec); i++) {
		struct network_spec *nic = (struct network_spec *)vm_spec_nic(spec, i);

		if (network_type(nic) != NETWORK_PRIVATE)
			continue;
		for (size_t k = 0; k < vm_spec_nic_count(asked); k++) {
			const struct network_spec *other = vm_spec_nic(asked, k);

			if (network_type(other) != NETWORK_PRIVATE || !str_eq(nic->name, other->name))
				continue;
			strings_done(&nic->hosts);
			nic->hosts = strings_copy(&other->hosts);
		}
	}
}

void
spec_merge(const struct vm_spec *is, const struct vm_spec *asked, enum change_when most,
    struct vm_spec *ret_spec)
{
	CLEANUP_JSON json_object *base = fields_encode(vm_spec_fields, is);
	CLEANUP_JSON json_object *with = fields_encode(vm_spec_fields, asked);

	for (size_t i = 0; i < ARRAY_LEN(rules); i++) {
		if (rule_when(i, is, asked) > most)
			continue;
		take_key(base, with, rules[i].field);
		if (str_eq(rules[i].field, "network"))
			take_key(base, with, "networks");
	}
	memset(ret_spec, 0, sizeof(*ret_spec));
	if (fields_decode_one(vm_spec_fields, base, ret_spec, NULL) != 0)
		abort(); /* both were checked */
	ret_spec->present = true;
	take_hosts(ret_spec, asked);
}
