/* SPDX-License-Identifier: MPL-2.0 */
#ifndef TESTS_FUZZ_FUZZ_H
#define TESTS_FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* The entry point of libFuzzer; runner.c calls it too. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
