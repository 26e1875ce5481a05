/* SPDX-License-Identifier: MPL-2.0 */
#include <stdlib.h>

#include "lib/base/mem.h"
#include "lib/image/fetcher/oci.h"
#include "tests/fuzz/fuzz.h"

static void
check(const char *text, size_t size, const char *os, const char *architecture)
{
	struct oci_manifest manifest = { 0 };
	struct err err = ERR_INIT;

	if (oci_parse(text, size, os, architecture, &manifest, &err) != 0) {
		assert(err.code == E_IMAGE && err.msg[0] != '\0');
		fuzz_assert_shown(err.msg);
		fuzz_assert_shown(err.hint);
		return;
	}
	if (manifest.index) {
		assert(oci_digest_valid(manifest.digest) && manifest.layer_count == 0);
		assert(manifest.bytes <= OCI_BLOB_MAX);
	} else {
		assert(manifest.layer_count >= 1 && manifest.layer_count <= OCI_LAYERS_MAX);
	}
	for (size_t i = 0; i < manifest.layer_count; i++) {
		const struct oci_layer *layer = &manifest.layers[i];

		assert(oci_digest_valid(layer->digest) && layer->media_type != NULL);
		assert(layer->bytes >= 1 && layer->bytes <= OCI_BLOB_MAX);
	}
	oci_manifest_done(&manifest);
}

/* Any bytes are a manifest with disks that are within bounds, or an error that can be shown. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	CLEANUP_FREE char *shown = oci_shown(text, size, 200), *said = oci_error_text(text, size);

	fuzz_assert_shown(shown);
	if (said != NULL)
		fuzz_assert_shown(said);
	check(text, size, "linux", "amd64");
	check(text, size, NULL, NULL);
	return 0;
}
