/* SPDX-License-Identifier: MPL-2.0 */
#include <stdlib.h>
#include <string.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/image/reference.h"
#include "lib/vmfile/lock.h"
#include "tests/fuzz/fuzz.h"

/* Any bytes are a lock or an error with its place; what is a lock is written as what reads as the
 * same, and written again as the same bytes. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_FREE char *text = NULL, *same = NULL;
	struct vmlock lock = { 0 }, again = { 0 };
	struct err err = ERR_INIT;

	if (vmlock_parse((const char *)data, size, "x.lock", &lock, &err) != 0) {
		assert(err.code == E_VMFILE && str_starts(err.msg, "x.lock:"));
		fuzz_assert_shown(err.msg);
		fuzz_assert_shown(err.hint);
		return 0;
	}
	text = vmlock_text(&lock);
	assert(vmlock_parse(text, strlen(text), "x.lock", &again, &err) == 0);
	assert(again.count == lock.count);
	for (size_t i = 0; i < lock.count; i++) {
		const struct vmlock_entry *entry = vmlock_find(&again, lock.items[i].image);

		assert(entry != NULL && image_digest_valid(entry->digest));
		assert(str_eq(entry->digest, lock.items[i].digest));
		assert(str_eq(entry->source, lock.items[i].source));
	}
	same = vmlock_text(&again);
	assert(str_eq(text, same));
	vmlock_done(&lock);
	vmlock_done(&again);
	return 0;
}
