/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_IMAGE_CATALOGUE_H
#define LIB_IMAGE_CATALOGUE_H

#include <stdbool.h>
#include <stddef.h>

#include "lib/base/err.h"

/* The catalogue: names such as "debian:12" and where their images are.  A YAML file that ships
 * with the project (<datadir>/vmm/catalogue.yaml) and those that people add in their folders of
 * configuration (catalogue.yaml there, and every *.yaml in catalogue.d); an entry of a later file
 * replaces one of the same name, version and architecture.  Any thread; both programs. */

struct catalogue_entry {
	char *name, *version, *architecture; /* "debian", "12", "amd64" */
	struct {
		char **items;
		size_t count;
	} aliases; /* other versions: "bookworm", "latest" */
	char *url, *checksums; /* checksums: URL of SHA256SUMS or SHA512SUMS; NULL */
	char *sha256, *sha512; /* NULL */
	char *format;	       /* NULL: as its header says */
	char *user;	       /* who logs in by default; NULL */
	char *firmware;	       /* "bios" | "uefi"; default: uefi for arm64 and riscv64, else bios */
	char *file;	       /* where it stands, for messages */
	unsigned line;
};

enum { CATALOGUE_MAX_ENTRIES = 4096, CATALOGUE_MAX_ALIASES = 32 };

struct catalogue {
	struct catalogue_entry *items;
	size_t count;
};

/* Owned: the file that ships with the project: VMM_CATALOGUE of the environment when that is set,
 * else beside the program in a build tree, else where it is installed. */
char *catalogue_shipped(void);
/* What a program of this folder of configuration sees: the shipped file, then catalogue.yaml and
 * catalogue.d of the folder (NULL: none).  As catalogue_load. */
int catalogue_load_all(const char *config_folder, struct catalogue *ret_catalogue, struct err *err);
/* Reads the files that exist, in this order.  E_PARAMS with file:line:column for a wrong one; what
 * the others say is lost then, too.  paths: files, or folders of which
 * every *.yaml is read, by name. */
int catalogue_load(const char *const *paths, size_t count, struct catalogue *ret_catalogue,
    struct err *err);
/* One file's text, added; nothing is when it is wrong.  For tests and fuzzing. */
int catalogue_add(struct catalogue *catalogue, const char *text, size_t len, const char *file,
    struct err *err);
void catalogue_done(struct catalogue *catalogue);
/* "debian:12", "debian" (the entry with the alias latest, else the last), for the
 * architecture (NULL: this host's).  NULL: none, and err (E_NOT_FOUND) says which are near, or for
 * which architectures there is one. */
const struct catalogue_entry *catalogue_find(const struct catalogue *catalogue, const char *name,
    const char *architecture, struct err *err);
const char *catalogue_host_architecture(void); /* "amd64", "arm64" … */

#endif
