/* SPDX-License-Identifier: MPL-2.0
 *
 * A state change made durable: store_commit_put of a machine's row among 1,000, with an operation
 * and an event queued before it, against an append and fdatasync of the same bytes by hand.
 * Interleaved, several repeats.  usage: bench_store [FOLDER] */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/fs.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/store/store.h"

enum { REPEATS = 7, ROUNDS = 1000, ROWS = 1000, DOC = 2000 };

static int
ascending(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static uint64_t
percentile(uint64_t *values, size_t count, unsigned percent)
{
	qsort(values, count, sizeof(*values), ascending);
	return values[(count - 1) * percent / 100];
}

static void
by_hand(int fd, const char *doc, uint64_t *took_us)
{
	for (int i = 0; i < ROUNDS; i++) {
		uint64_t began = clock_us();

		if (fs_write_all(fd, doc, DOC) < 0 || fdatasync(fd) < 0)
			abort();
		took_us[i] = clock_us() - began;
	}
}

static void
stop(void *arg)
{
	loop_stop(arg);
}

static void
by_store(struct store *store, struct loop *loop, const char *doc, unsigned repeat,
    uint64_t *took_us)
{
	struct err err;
	char id[16];

	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t began;

		snprintf(id, sizeof(id), "m%u", i * 7919 % ROWS);
		began = clock_us();
		store_event(store, (uint64_t)repeat * ROUNDS + i + 1, "{\"kind\": \"vm.state\"}");
		store_put(store, STORE_OPERATION, id, "{\"ended_ms\": 1}");
		if (store_commit_put(store, STORE_MACHINE, id, doc, &err) != 0) {
			fprintf(stderr, "%s\n", err.msg);
			exit(1);
		}
		took_us[i] = clock_us() - began;
		/* What the daemon does between two requests. */
		loop_post(loop, stop, loop);
		loop_run(loop);
	}
}

static void
print(const char *name, uint64_t *p50, uint64_t *p99)
{
	/* percentile() sorts: the ends are the spread. */
	uint64_t mid50 = percentile(p50, REPEATS, 50), mid99 = percentile(p99, REPEATS, 50);

	printf("%-12s p50 %llu us (%llu-%llu), p99 %llu us (%llu-%llu)\n", name,
	    (unsigned long long)mid50, (unsigned long long)p50[0],
	    (unsigned long long)p50[REPEATS - 1], (unsigned long long)mid99,
	    (unsigned long long)p99[0], (unsigned long long)p99[REPEATS - 1]);
}

int
main(int argc, char **argv)
{
	static uint64_t took[ROUNDS], hand[2][REPEATS], ours[2][REPEATS];
	char template[] = "bench-store.XXXXXX", doc[DOC + 1], id[16];
	CLEANUP_FREE char *dir = fs_expand(argc > 1 ? argv[1] : "/tmp", NULL);
	CLEANUP_FREE char *folder = fs_join(dir, template), *path = NULL, *file = NULL;
	struct loop *loop = loop_create();
	struct store *store;
	char *notice;
	struct err err;
	int fd;

	if (mkdtemp(folder) == NULL)
		return 1;
	path = fs_join(folder, "vmm.db");
	file = fs_join(folder, "by-hand");
	fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	memset(doc, 'd', DOC);
	doc[DOC] = '\0';
	if (fd < 0 || store_open(path, loop, &store, &notice, &err) != 0)
		return 1;
	for (int i = 0; i < ROWS; i++) {
		snprintf(id, sizeof(id), "m%d", i);
		store_put(store, STORE_MACHINE, id, doc);
	}
	store_commit(store, NULL);
	for (unsigned i = 0; i < REPEATS; i++) {
		by_hand(fd, doc, took);
		hand[0][i] = percentile(took, ROUNDS, 50);
		hand[1][i] = percentile(took, ROUNDS, 99);
		by_store(store, loop, doc, i, took);
		ours[0][i] = percentile(took, ROUNDS, 50);
		ours[1][i] = percentile(took, ROUNDS, 99);
	}
	print("by hand", hand[0], hand[1]);
	print("store", ours[0], ours[1]);
	printf("ratio        p50 %.2f, p99 %.2f\n",
	    (double)percentile(ours[0], REPEATS, 50) / (double)percentile(hand[0], REPEATS, 50),
	    (double)percentile(ours[1], REPEATS, 50) / (double)percentile(hand[1], REPEATS, 50));
	store_close(store);
	close(fd);
	loop_destroy(loop);
	return fs_remove_tree(folder, NULL) == 0 ? 0 : 1;
}
