/* SPDX-License-Identifier: MPL-2.0 */
#ifndef TESTS_UNIT_FETCHING_H
#define TESTS_UNIT_FETCHING_H

#include <json-c/json.h>
#include <stdio.h>
#include <sys/types.h>

#include "lib/base/loop.h"
#include "lib/image/fetch.h"
#include "tests/unit/unit.h"

/* A store of images, the real vmm-fetch, and a web server that can do wrong (tests/fake). */

#define MIB (1ULL << 20)
enum { WANTS = 4, ALICE = 1001, BOB = 1002 };

struct want { /* what its callbacks saw */
	struct fixture *f;
	struct image_fetch *fetch;
	int done;
	struct err err;
	char *digest, *source, *note, *notes; /* notes: of progress */
	uint64_t transferred, done_bytes, total_bytes;
	bool known;
	bool cancel_at_progress, cancel_at_note;
};

struct fixture {
	char dir[64];
	char *images_dir, *db_path;
	struct loop *loop;
	struct worker_pool *pool;
	struct store *store;
	struct image_store *images;
	struct want wants[WANTS];
	int pending;
	struct timer *look;
	/* The server. */
	pid_t pid;
	FILE *to, *from;
	char *url;
};

/* A call of the server (web_lines.py); owned: its answer. */
json_object *ask(struct fixture *f, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
#define TELL(f, ...) json_object_put(ask(f, __VA_ARGS__))
/* Of a page: how many answers, and bytes of bodies. */
void hits(struct fixture *f, const char *path, size_t *ret_count, uint64_t *ret_bytes);
size_t hit_count(struct fixture *f, const char *path);
/* A raw image: no two blocks alike, and not compressible to nothing.  Owned path. */
char *make_image(struct fixture *f, const char *name, size_t bytes, uint32_t seed);
/* Owned. */
char *digest_of(const char *path);
void open_all(struct fixture *f);
void close_all(struct fixture *f);
void setup(struct fixture *f);
void teardown(struct fixture *f);
struct want *begin_as(struct fixture *f, int i, const struct image_spec *spec,
    enum image_policy policy, uid_t uid, const struct fetch_auth *auth);
struct want *begin(struct fixture *f, int i, const char *url);
/* Begun, and run to the end. */
struct want *get_spec(struct fixture *f, const struct image_spec *spec, enum image_policy policy);
struct want *get(struct fixture *f, const char *url);
/* Owned. */
char *url_of(struct fixture *f, const char *path);
/* Serves a new image; owned digest. */
char *serve(struct fixture *f, const char *path, size_t bytes, uint32_t seed,
    const char *options);
void assert_got(const struct want *want, const char *digest, uint64_t transferred);
void assert_failed(const struct want *want, enum err_code code, const char *words);
/* In the folder of images. */
size_t files(struct fixture *f, const char *pattern);
void assert_file(struct fixture *f, const char *digest, uint64_t bytes);
/* Until there is a part of an image. */
void run_to_part(struct fixture *f);

#endif
