/* SPDX-License-Identifier: MPL-2.0 */
#ifndef DAEMON_SPEC_DIFF_H
#define DAEMON_SPEC_DIFF_H

#include <stdbool.h>

#include "lib/model/spec.h"

struct json_object;

/* What differs between the machine that is and the one that is asked for, and when it can be so. */
enum change_when {
	CHANGE_NONE,
	CHANGE_NOW,	/* at once: ssh, provision, depends_on, ports */
	CHANGE_STOPPED, /* before the next start: vcpus, memory, network, cloud_init */
	CHANGE_RELOAD,	/* only by making it anew: image, disk, firmware, backend */
};
extern const char *const change_when_names[];

/* The largest of what is needed.  changes: an array to which {field, from, to, when} are added, or
 * NULL.  Files are compared by their hashes, which must be known. */
enum change_when spec_diff(const struct vm_spec *is, const struct vm_spec *asked,
    struct json_object *changes);
/* A spec that is `is` with those fields of `asked` that may change now (or, stopped, before the
 * next start).  Deep copies. */
void spec_merge(const struct vm_spec *is, const struct vm_spec *asked, enum change_when most,
    struct vm_spec *ret_spec);

/* Is the image asked for in the words that the machine was made with, and without a digest that
 * says more? */
bool spec_same_image_words(const struct image_spec *is, const struct image_spec *asked);

#endif
