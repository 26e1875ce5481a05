/* SPDX-License-Identifier: MPL-2.0 */
#include <string.h>
#include <stdlib.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/catalogue.h"
#include "lib/image/reference.h"
#include "tests/fuzz/fuzz.h"

/* A text that is in use everywhere: as a word of a reference, and in messages. */
static void
check_entry(const struct catalogue *catalogue, const struct catalogue_entry *entry)
{
	CLEANUP_FREE char *name = xasprintf("%s:%s", entry->name, entry->version);
	enum image_ref_kind kind;

	assert(image_name_check(name, NULL) == 0);
	assert(catalogue_find(catalogue, name, entry->architecture, NULL) == entry);
	assert(image_ref_kind(entry->url, &kind, NULL) == 0);
	assert(kind == IMAGE_REF_HTTP || kind == IMAGE_REF_OCI);
	assert(!str_starts(entry->url, "http://") || entry->sha256 != NULL || entry->sha512 != NULL ||
	       image_host_is_loopback(entry->url + strlen("http://")));
	assert(entry->checksums == NULL || str_starts(entry->checksums, "https://"));
	assert(str_eq(entry->firmware, "bios") || str_eq(entry->firmware, "uefi"));
	assert(str_eq(entry->file, "x.yaml") && entry->line > 0);
	if (entry->user != NULL)
		fuzz_assert_shown(entry->user);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char first[] =
	    "images: [{name: debian, version: '12', architecture: amd64, url: 'https://h/x'}]";
	struct catalogue catalogue = { 0 };
	struct err err = ERR_INIT;

	if (catalogue_add(&catalogue, (const char *)data, size, "x.yaml", &err) == 0) {
		for (size_t i = 0; i < catalogue.count; i++)
			check_entry(&catalogue, &catalogue.items[i]);
		assert(catalogue_add(&catalogue, first, sizeof(first) - 1, "x.yaml", &err) == 0);
		assert(catalogue_find(&catalogue, "debian:12", "amd64", &err) != NULL);
	} else {
		assert(err.code == E_PARAMS && str_starts(err.msg, "x.yaml:"));
		assert(catalogue.count == 0 && catalogue.items == NULL);
		fuzz_assert_shown(err.msg);
		fuzz_assert_shown(err.hint);
	}
	catalogue_done(&catalogue);
	return 0;
}
