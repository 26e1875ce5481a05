/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_IMAGE_TAKE_H
#define LIB_IMAGE_TAKE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/base/err.h"
#include "lib/image/image.h"

/* The worker's half of an import: one file into the folder of images.  Inside of lib/image only. */

struct job;

#define TAKE_PREFIX ".import-" /* of files that are not finished */
#define IMAGE_PREFIX "sha256-"
enum { SHA256_HEX = 64 };

struct take {
	/* Given. */
	int fd;		 /* owned; -1 with a scratch file, which is `tmp` from the start */
	char *name, *dir; /* owned */
	char *source;	  /* what the row says of where it came from; NULL: the name */
	void (*progress)(struct take *take, struct job *job); /* at most every 100 ms */
	/* Found.  err is E_CANCELLED until something else is known. */
	struct err err;
	char hex[SHA256_HEX + 1];
	struct disk_header header;
	uint64_t file_bytes;
	char *tmp;    /* owned: the verified, synced copy in the folder; gone with the take */
	bool damaged; /* a file of this digest is there, of the right size and with other bytes */
	bool settled; /* any change of the source since gives it another key */
	/* Under way. */
	_Atomic uint64_t done_bytes, total_bytes;
	uint64_t told_ms;
};

/* Checks, copies, hashes and syncs.  The loop gives the copy its name (images_place): what is in
 * the folder under a digest changes on one thread alone.  Leaves nothing behind when it fails. */
void take_run(struct take *take, struct job *job);
/* The same content may be there already: is it still that?  Sets `damaged`. */
int take_compare(struct take *take, struct job *job, int copy_fd);
void take_release(struct take *take); /* removes the copy unless it was placed */

/* Owned: what tells a file and its state from every other: "dev:ino:size:mtime_ns:ctime_ns". */
int take_key(int fd, const char *name, char **ret_key, struct err *err);

#endif
