/* SPDX-License-Identifier: MPL-2.0 */
#include <stdlib.h>
#include <string.h>

#include "lib/base/mem.h"
#include "lib/image/fetcher/checksums.h"
#include "tests/fuzz/fuzz.h"

/* Any text lists a whole digest for the file, or none. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_FREE char *hex = NULL;
	struct err err = ERR_INIT;

	if (checksums_find((const char *)data, size, "disk.qcow2", &hex, &err) != 0) {
		assert(err.code == E_IMAGE && hex == NULL);
		fuzz_assert_shown(err.msg);
		return 0;
	}
	assert(strlen(hex) == 64 || strlen(hex) == 128);
	assert(strspn(hex, "0123456789abcdef") == strlen(hex));
	return 0;
}
