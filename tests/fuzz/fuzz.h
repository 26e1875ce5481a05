/* SPDX-License-Identifier: MPL-2.0 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

/* The entry point of libFuzzer; runner.c calls it too. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is said to a terminal has no control characters, whatever a stranger's text had. */
static inline void
fuzz_assert_shown(const char *text)
{
	for (; *text != '\0'; text++)
		assert((unsigned char)*text >= ' ' && *text != 0x7f);
}

#endif
