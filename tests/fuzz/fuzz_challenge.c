/* SPDX-License-Identifier: MPL-2.0 */
#include <stdlib.h>

#include "lib/base/mem.h"
#include "lib/image/fetcher/oci.h"
#include "tests/fuzz/fuzz.h"

/* Any text of a WWW-Authenticate header is a challenge that we know, or is not. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_FREE char *text = xstrndup((const char *)data, size);
	struct oci_challenge challenge = { 0 };

	if (!oci_parse_challenge(text, &challenge))
		return 0;
	assert(challenge.basic || challenge.realm != NULL);
	oci_challenge_done(&challenge);
	return 0;
}
