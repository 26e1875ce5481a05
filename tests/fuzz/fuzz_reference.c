/* SPDX-License-Identifier: MPL-2.0 */
#include <stdlib.h>
#include <string.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/reference.h"
#include "tests/fuzz/fuzz.h"

static void
check_oci(const char *text)
{
	struct oci_ref ref = { 0 }, again = { 0 };
	CLEANUP_FREE char *full = NULL, *same = NULL;

	if (oci_ref_parse(text, &ref, NULL) != 0)
		return;
	assert(strstr(ref.repository, "..") == NULL && ref.repository[0] != '/');
	assert(ref.digest == NULL || image_digest_valid(ref.digest));
	full = oci_ref_text(&ref);
	fuzz_assert_shown(full);
	assert(oci_ref_parse(full, &again, NULL) == 0);
	same = oci_ref_text(&again);
	assert(str_eq(full, same));
	oci_ref_done(&ref);
	oci_ref_done(&again);
}

static void
check_url(const char *text)
{
	CLEANUP_FREE char *shown = image_url_public(text), *host = image_url_host(text);
	CLEANUP_FREE char *name = image_url_name(text);

	assert(strpbrk(shown, "?#") == NULL);
	assert(host != NULL && host[0] != '\0' && strpbrk(host, "/@?#") == NULL);
	assert(name[0] != '\0' && strchr(name, '/') == NULL && !str_eq(name, ".."));
	fuzz_assert_shown(name);
}

/* Any text is one kind of reference, or an error that can be shown; no name is a path, and what is
 * shown of a URL has no password. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_FREE char *text = xstrndup((const char *)data, size);
	enum image_ref_kind kind;
	struct err err = ERR_INIT;

	if (image_ref_kind(text, &kind, &err) != 0) {
		assert(err.code == E_PARAMS && err.msg[0] != '\0');
		fuzz_assert_shown(err.msg);
		fuzz_assert_shown(err.hint);
		return 0;
	}
	switch (kind) {
	case IMAGE_REF_NAME:
		assert(image_name_check(text, NULL) == 0);
		assert(strchr(text, '/') == NULL && text[0] != '.');
		break;
	case IMAGE_REF_HTTP:
		check_url(text);
		break;
	case IMAGE_REF_OCI:
		check_oci(text);
		break;
	case IMAGE_REF_DIGEST:
	case IMAGE_REF_PATH:
		break;
	}
	return 0;
}
