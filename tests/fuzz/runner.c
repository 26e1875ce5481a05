/* SPDX-License-Identifier: MPL-2.0
 *
 * Runs a fuzz target without libFuzzer: every file of a corpus folder as it is, cut at every
 * place, and changed in some thousand ways that are the same in every run. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "tests/fuzz/fuzz.h"

enum { MUTATIONS = 2000, MAX_FILE = 1 << 20 };

static uint32_t
next_random(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

/* The target gets memory of exactly that size, so that a sanitizer sees one byte too far. */
static void
run(const char *data, size_t len)
{
	uint8_t *copy = xmalloc(len);

	memcpy(copy, data, len);
	LLVMFuzzerTestOneInput(copy, len);
	free(copy);
}

static void
mutate(const char *data, size_t len, uint32_t *state)
{
	static const char spice[] = "\n\t :-[]{},&*!|>'\"%@`#?<~0x_\\\xff\x00";
	CLEANUP_FREE char *copy = xmalloc(2 * len + 1);
	size_t changes = 1 + next_random(state) % 4, from, to, part;

	memcpy(copy, data, len);
	while (changes-- > 0 && len > 1) {
		switch (next_random(state) % 3) {
		case 0:
			copy[next_random(state) % len] = (char)next_random(state);
			break;
		case 1:
			copy[next_random(state) % len] =
			    spice[next_random(state) % (sizeof(spice) - 1)];
			break;
		case 2:
			from = next_random(state) % len;
			to = next_random(state) % len;
			part = next_random(state) % 16;
			if (from + part < len && to + part < len)
				memmove(copy + to, copy + from, part);
			break;
		}
	}
	run(copy, len);
}

static int
run_file(const char *path)
{
	CLEANUP_FREE char *data = NULL;
	struct err err = ERR_INIT;
	uint32_t state = 2463534242u;
	size_t len;

	if (fs_read(path, MAX_FILE, &data, &len, &err) != 0) {
		fprintf(stderr, "%s\n", err.msg);
		return -1;
	}
	run(data, len);
	for (size_t cut = 0; cut < len; cut += 1 + len / 1000)
		run(data, cut);
	for (int i = 0; i < MUTATIONS; i++)
		mutate(data, len, &state);
	return 0;
}

int
main(int argc, char **argv)
{
	DIR *dir = argc == 2 ? opendir(argv[1]) : NULL;
	struct dirent *entry;
	int files = 0, failed = 0;

	if (dir == NULL) {
		fprintf(stderr, "usage: %s CORPUS-FOLDER\n", argv[0]);
		return EXIT_FAILURE;
	}
	while ((entry = readdir(dir)) != NULL) {
		CLEANUP_FREE char *path = NULL;

		if (entry->d_name[0] == '.')
			continue;
		path = fs_join(argv[1], entry->d_name);
		failed |= run_file(path);
		files++;
	}
	closedir(dir);
	printf("%d files\n", files);
	return failed != 0 || files == 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
