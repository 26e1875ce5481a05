/* SPDX-License-Identifier: MPL-2.0
 *
 * Running tools in a jail.  The jail is put on by a program of its own, vmm-jail: between fork and
 * exec a process with threads may do too little. */
#include "lib/base/jail.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <threads.h>
#include <unistd.h>

#include "lib/base/jail_parts.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"

enum { PROBE_MS = 10000, PROBE_MAX = 64, ARGS_MAX = 128 };

const char *const jail_layer_names[] = { "landlock", "netns", "seccomp", "limits", "privileges",
	NULL };

static char *
find_jailer(struct err *err)
{
	char *path = process_find_ours("vmm-jail", "VMM_JAIL", "lib/base/jailer");

	if (path == NULL) {
		err_set(err, E_NOT_FOUND, "the program 'vmm-jail' was not found");
		err_hint(err, "it belongs beside vmmd, or in " VMM_LIBEXECDIR);
	}
	return path;
}

static once_flag layers_once = ONCE_FLAG_INIT;
static unsigned layers; /* written once */

static void
find_layers(void)
{
	CLEANUP_FREE char *jailer = find_jailer(NULL);
	const char *const argv[] = { jailer, "--probe", NULL };
	struct process_output output = { 0 };

	if (jailer != NULL &&
	    process_run(argv, NULL, 0, PROBE_MAX, PROBE_MS, NULL, NULL, &output, NULL) == 0)
		layers = (unsigned)strtoul(output.out, NULL, 10);
	process_output_done(&output);
}

unsigned
jail_layers(void)
{
	call_once(&layers_once, find_layers);
	return layers;
}

struct args {
	const char *items[ARGS_MAX + 1];
	size_t count;
	char *owned[8];
	size_t owned_count;
};

static void
add(struct args *args, const char *word)
{
	assert(args->count < ARGS_MAX);
	args->items[args->count++] = word;
}

static void
add_number(struct args *args, const char *option, uint64_t value)
{
	char *text;

	if (value == 0)
		return;
	assert(args->owned_count < ARRAY_LEN(args->owned));
	text = xasprintf("%llu", (unsigned long long)value);
	args->owned[args->owned_count++] = text;
	add(args, option);
	add(args, text);
}

static void
add_paths(struct args *args, const char *option, const char *const *paths)
{
	for (size_t i = 0; paths != NULL && paths[i] != NULL; i++) {
		add(args, option);
		add(args, paths[i]);
	}
}

int
jail_run(const struct jail *jail, const char *const *argv, const void *input, size_t input_len,
    size_t out_max, uint64_t timeout_ms, struct job *job, struct process_output *ret_output,
    struct err *err)
{
	CLEANUP_FREE char *jailer = find_jailer(err), *program = process_find(argv[0]);
	struct args args = { .count = 0 };
	int rc;

	if (jailer == NULL)
		return E_NOT_FOUND;
	if (program == NULL) {
		err_set(err, E_NOT_FOUND, "the program '%s' was not found", argv[0]);
		err_hint(err, "install it, or look at PATH of vmmd");
		return E_NOT_FOUND;
	}
	add(&args, jailer);
	add_number(&args, "--parent", (uint64_t)getpid());
	add_number(&args, "--layers", jail_layers() & ~jail->without);
	add_number(&args, "--cpu-seconds", jail->limits.cpu_seconds);
	add_number(&args, "--address-space", jail->limits.address_space_bytes);
	add_number(&args, "--file-size", jail->limits.file_size_bytes);
	add_paths(&args, "--read", jail->read);
	add_paths(&args, "--write", jail->write);
	add_paths(&args, "--make", jail->make);
	add(&args, "--");
	add(&args, program);
	for (size_t i = 0; argv[i] != NULL; i++)
		add(&args, argv[i]);
	ret_output->name = argv[0];
	rc = process_run(
	    args.items, input, input_len, out_max, timeout_ms, NULL, job, ret_output, err);
	for (size_t i = 0; i < args.owned_count; i++)
		free(args.owned[i]);
	return rc;
}

int
jail_enter(const struct jail_self *self, struct err *err)
{
	struct confinement wanted = { .layers = jail_probe_self(),
		.read = self->read,
		.write = self->write,
		.sockets = self->sockets,
		.network = self->network,
		.limits = self->limits };

#ifndef __has_feature /* clang says it so */
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || \
    __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
	wanted.layers = 0; /* a sanitizer traces its process at the end, and maps without limit */
#endif
	return jail_confine(&wanted, 0, err);
}
