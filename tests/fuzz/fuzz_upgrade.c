/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/hypervisor/propolis/upgrade.h"
#include "tests/fuzz/fuzz.h"

/* Any bytes are the head of an answer, with a body that ends within its bounds, or are no HTTP. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	struct upgrade_reply reply = { 0 };
	struct err err = ERR_INIT;
	struct sbuf body = { 0 };
	int rc = upgrade_read(text, size, &reply, &err);

	if (rc != 1) {
		assert(rc == 0 ? size < UPGRADE_HEAD_MAX : err.msg[0] != '\0');
		fuzz_assert_shown(err.msg);
		return 0;
	}
	assert(reply.status >= 100 && reply.status <= 999);
	assert(reply.head_len > 0 && reply.head_len <= size);
	if (upgrade_check(text, reply.head_len, "dGhlIHNhbXBsZSBub25jZQ==", &err) != 0)
		assert(err.code == E_FAILED);
	upgrade_body(&reply, text + reply.head_len, size - reply.head_len, &body);
	assert(body.len <= size - reply.head_len);
	sbuf_done(&body);
	return 0;
}
