/* SPDX-License-Identifier: MPL-2.0
 *
 * Runs a fuzz target without libFuzzer.
 *
 *   fuzz_NAME CORPUS-FOLDER              every file as it is, cut at every place, and changed in
 *                                        some thousand ways
 *   fuzz_NAME --seconds N CORPUS-FOLDER  the same, then changed in ever other ways for so long
 *   fuzz_NAME FILE                       one input, as it is
 *
 * The changes come from a fixed seed (--seed N for another one), so that a run can be had again.
 * They run in a child: when it dies, what killed it is in memory that both see, and is kept in a
 * file. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "tests/fuzz/fuzz.h"

enum { MUTATIONS = 2000, MAX_FILE = 1 << 20, LARGEST_INPUT = 2 * MAX_FILE, INPUT_SECONDS = 20 };
#define SEED 2463534242u

struct seed_file {
	char *data;
	size_t len;
};

/* What parent and child share. */
struct shared {
	size_t len;
	uint64_t inputs;
	char data[LARGEST_INPUT];
};

struct run {
	struct shared *shared;
	struct seed_file *files;
	size_t count;
	uint32_t state;
	uint64_t seconds;
};

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
feed(const char *data, size_t len)
{
	uint8_t *copy = xmalloc(len);

	memcpy(copy, data, len);
	LLVMFuzzerTestOneInput(copy, len);
	free(copy);
}

static void
feed_shared(struct run *run, const char *data, size_t len)
{
	memcpy(run->shared->data, data, len);
	run->shared->len = len;
	run->shared->inputs++;
	alarm(INPUT_SECONDS);
	feed(data, len);
}

/* ---- changes ---- */

struct input {
	char *data; /* LARGEST_INPUT bytes */
	size_t len;
};

static void
set_byte(struct run *run, struct input *input)
{
	static const char spice[] = "\n\t :-[]{},&*!|>'\"%@`#?<~0x_\\/.=\xff\x00\x1b\x7f\x80";
	uint32_t value = next_random(&run->state), at = next_random(&run->state);

	if (input->len > 0)
		input->data[at % input->len] =
		    value % 2 != 0 ? (char)(value >> 8) : spice[(value >> 8) % (sizeof(spice) - 1)];
}

/* From elsewhere in the input, or from another file, over or between what is there. */
static void
copy_part(struct run *run, struct input *input)
{
	const struct seed_file *from = &run->files[next_random(&run->state) % run->count];
	bool own = next_random(&run->state) % 2 == 0, insert = next_random(&run->state) % 2 == 0;
	const char *data = own ? input->data : from->data;
	size_t len = own ? input->len : from->len, at, part, to;
	CLEANUP_FREE char *piece = NULL;

	if (len == 0 || input->len == 0)
		return;
	at = next_random(&run->state) % len;
	part = 1 + next_random(&run->state) % (next_random(&run->state) % 8 == 0 ? 4096 : 32);
	part = part < len - at ? part : len - at;
	to = next_random(&run->state) % input->len;
	piece = xmemdup(data + at, part);
	if (insert && input->len + part < LARGEST_INPUT / 2) {
		memmove(input->data + to + part, input->data + to, input->len - to);
		input->len += part;
	}
	part = part < input->len - to ? part : input->len - to;
	memcpy(input->data + to, piece, part);
}

static void
drop_part(struct run *run, struct input *input)
{
	size_t at, part;

	if (input->len < 2)
		return;
	at = next_random(&run->state) % input->len;
	part = 1 + next_random(&run->state) % 32;
	part = part < input->len - at ? part : input->len - at;
	memmove(input->data + at, input->data + at + part, input->len - at - part);
	input->len -= part;
}

/* A number in text grows or shrinks by its digits; in binary, bytes in a row become extreme. */
static void
set_number(struct run *run, struct input *input)
{
	static const char *const extremes[] = { "0", "-1", "4294967296", "9223372036854775807",
		"18446744073709551616", "1e999" };
	const char *text = extremes[next_random(&run->state) % ARRAY_LEN(extremes)];
	size_t len = strlen(text), at = 0;
	unsigned char fill = next_random(&run->state) % 2 != 0 ? 0xff : 0;

	if (input->len < 8)
		return;
	at = next_random(&run->state) % (input->len - 7);
	if (next_random(&run->state) % 2 == 0) {
		memset(input->data + at, fill, 1u << next_random(&run->state) % 4);
		return;
	}
	while (at < input->len && (input->data[at] < '0' || input->data[at] > '9'))
		at++;
	if (at + len <= input->len)
		memcpy(input->data + at, text, len);
}

static void
mutate(struct run *run, const struct seed_file *file, struct input *input)
{
	static void (*const changes[])(struct run * run, struct input * input) = { set_byte,
		set_byte, copy_part, drop_part, set_number };
	size_t count = 1 + next_random(&run->state) % 6;

	memcpy(input->data, file->data, file->len);
	input->len = file->len;
	while (count-- > 0)
		changes[next_random(&run->state) % ARRAY_LEN(changes)](run, input);
	feed_shared(run, input->data, input->len);
}

/* ---- the run ---- */

static uint64_t
now_s(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec;
}

static void
child(struct run *run)
{
	struct input input = { .data = xmalloc(LARGEST_INPUT) };
	uint64_t until = now_s() + run->seconds;

	for (size_t f = 0; f < run->count; f++) {
		const struct seed_file *file = &run->files[f];

		feed_shared(run, file->data, file->len);
		for (size_t cut = 0; cut < file->len; cut += 1 + file->len / 1000)
			feed_shared(run, file->data, cut);
		for (int i = 0; i < MUTATIONS; i++)
			mutate(run, file, &input);
	}
	while (now_s() < until)
		for (int i = 0; i < 256; i++)
			mutate(run, &run->files[next_random(&run->state) % run->count], &input);
	free(input.data);
}

static int
report(const char *program, const struct run *run, uint32_t seed, int status)
{
	CLEANUP_FREE char *path = xasprintf("%s-failed", fs_basename(program));
	struct err err = ERR_INIT;

	if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
		printf("%s: seed %u, %zu files, %llu inputs\n", fs_basename(program), seed,
		    run->count, (unsigned long long)run->shared->inputs);
		return EXIT_SUCCESS;
	}
	if (fs_write(path, run->shared->data, run->shared->len, 0644, &err) != 0)
		fprintf(stderr, "%s\n", err.msg);
	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
		fprintf(stderr, "an input took longer than %d s\n", INPUT_SECONDS);
	else if (WIFSIGNALED(status))
		fprintf(stderr, "ended by signal %d\n", WTERMSIG(status));
	fprintf(stderr, "input %llu of seed %u failed; it is in %s.  To see that again: %s %s\n",
	    (unsigned long long)run->shared->inputs, seed, path, program, path);
	return EXIT_FAILURE;
}

static int
by_name(const struct dirent **a, const struct dirent **b)
{
	return strcmp((*a)->d_name, (*b)->d_name);
}

static bool
read_corpus(const char *folder, struct run *run)
{
	struct dirent **entries = NULL;
	int count = scandir(folder, &entries, NULL, by_name);
	struct err err = ERR_INIT;

	run->files = xcalloc(count > 0 ? (size_t)count : 1, sizeof(*run->files));
	for (int i = 0; i < count; i++) {
		struct seed_file *file = &run->files[run->count];
		CLEANUP_FREE char *path = fs_join(folder, entries[i]->d_name);
		bool skip = entries[i]->d_name[0] == '.';

		free(entries[i]);
		if (skip)
			continue;
		if (fs_read(path, MAX_FILE, &file->data, &file->len, &err) != 0) {
			fprintf(stderr, "%s\n", err.msg);
			return false;
		}
		run->count++;
	}
	free(entries);
	if (run->count == 0)
		fprintf(stderr, "there are no files in '%s'\n", folder);
	return run->count > 0;
}

static int
run_one(const char *path)
{
	CLEANUP_FREE char *data = NULL;
	struct err err = ERR_INIT;
	size_t len;

	if (fs_read(path, LARGEST_INPUT, &data, &len, &err) != 0) {
		fprintf(stderr, "%s\n", err.msg);
		return EXIT_FAILURE;
	}
	feed(data, len);
	return EXIT_SUCCESS;
}

static int
run_corpus(const char *program, const char *folder, uint32_t seed, uint64_t seconds)
{
	struct run run = { .state = seed, .seconds = seconds };
	int status = -1, rc = EXIT_FAILURE;
	pid_t pid;

	run.shared = mmap(
	    NULL, sizeof(*run.shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (run.shared == MAP_FAILED) {
		perror("mmap");
		return EXIT_FAILURE;
	}
	if (read_corpus(folder, &run)) {
		pid = fork();
		if (pid == 0) {
			child(&run);
			exit(EXIT_SUCCESS);
		}
		while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
			;
		rc = report(program, &run, seed, status);
	}
	for (size_t i = 0; i < run.count; i++)
		free(run.files[i].data);
	free(run.files);
	munmap(run.shared, sizeof(*run.shared));
	return rc;
}

int
main(int argc, char **argv)
{
	uint64_t seed = SEED, seconds = 0;
	struct stat st;
	int i = 1;

	for (; i + 2 < argc; i += 2) {
		uint64_t *value = str_eq(argv[i], "--seed")      ? &seed
				  : str_eq(argv[i], "--seconds") ? &seconds
								 : NULL;

		if (value == NULL || !str_to_u64(argv[i + 1], value))
			break;
	}
	if (i + 1 != argc || (uint32_t)seed == 0 || stat(argv[i], &st) != 0) {
		fprintf(
		    stderr, "usage: %s [--seed N] [--seconds N] CORPUS-FOLDER | FILE\n", argv[0]);
		return EXIT_FAILURE;
	}
	return S_ISDIR(st.st_mode) ? run_corpus(argv[0], argv[i], (uint32_t)seed, seconds)
				   : run_one(argv[i]);
}
