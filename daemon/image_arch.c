/* SPDX-License-Identifier: MPL-2.0 */
#include "daemon/image_arch.h"

#include <stdlib.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/catalogue.h"
#include "lib/image/reference.h"
#include "lib/model/spec.h"

static void
fill(char **slot, const char *value)
{
	if (*slot == NULL)
		*slot = xstrdup(value);
}

static void
take_entry(struct image_spec *ref, const struct catalogue_entry *entry)
{
	bool checked = ref->sha256 != NULL || ref->sha512 != NULL || ref->checksums != NULL;

	if (ref->name == NULL)
		ref->name = xasprintf("%s:%s-%s", entry->name, entry->version, entry->architecture);
	free(ref->url);
	ref->url = xstrdup(entry->url);
	fill(&ref->format, entry->format);
	if (checked)
		return;
	fill(&ref->sha256, entry->sha256);
	fill(&ref->sha512, entry->sha512);
	fill(&ref->checksums, entry->checksums);
}

/* By name the host's is meant, where nothing else is said. */
static int
resolve(const struct catalogue *catalogue, struct image_spec *ref, const char *wanted,
    struct err *err)
{
	const struct catalogue_entry *entry;
	struct err own = ERR_INIT;

	if (str_eq(wanted, catalogue_host_architecture()))
		return 0;
	entry = catalogue_find(catalogue, ref->url, wanted, &own);
	if (entry != NULL) {
		take_entry(ref, entry);
		return 0;
	}
	if (catalogue_find(catalogue, ref->url, NULL, NULL) == NULL)
		return 0; /* a name that somebody gave */
	*err = own;
	return err->code;
}

/* The architecture that the catalogue tells of the URL, if it is another one. */
static const char *
other_architecture(const struct catalogue *catalogue, const char *url, const char *wanted)
{
	const char *other = NULL;

	for (size_t i = 0; i < catalogue->count; i++) {
		if (!str_eq(catalogue->items[i].url, url))
			continue;
		if (str_eq(catalogue->items[i].architecture, wanted))
			return NULL;
		other = catalogue->items[i].architecture;
	}
	return other;
}

static int
fit(const struct catalogue *catalogue, struct vm_spec *spec, struct image_spec *ref,
    struct err *err)
{
	const char *wanted = arch_catalogue_names[spec->arch], *other;
	enum image_ref_kind kind;
	int rc = 0;

	if (!ref->present || ref->url == NULL || ref->digest != NULL ||
	    image_ref_kind(ref->url, &kind, NULL) != 0)
		return 0;
	if (kind == IMAGE_REF_NAME)
		rc = resolve(catalogue, ref, wanted, err);
	other = rc == 0 ? other_architecture(catalogue, ref->url, wanted) : NULL;
	if (other != NULL) {
		err_set(err, E_PARAMS, "the image '%s' is for %s, and machine '%s' is %s",
		    image_spec_shown(ref), other, spec->name, arch_names[spec->arch]);
		err_hint(err, "take an image for %s, or set 'arch'", wanted);
		rc = E_PARAMS;
	}
	return rc;
}

int
image_arch_fit(const struct catalogue *catalogue, struct vm_spec *spec, struct err *err)
{
	int rc;

	if (spec->arch == ARCH_DEFAULT)
		return 0;
	rc = fit(catalogue, spec, &spec->image, err);
	return rc == 0 ? fit(catalogue, spec, &spec->cdrom, err) : rc;
}
