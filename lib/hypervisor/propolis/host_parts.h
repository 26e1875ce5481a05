/* SPDX-License-Identifier: MPL-2.0 */
#ifndef LIB_HYPERVISOR_PROPOLIS_HOST_PARTS_H
#define LIB_HYPERVISOR_PROPOLIS_HOST_PARTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/hypervisor/propolis/host.h"

struct sbuf;

/* What the host_*.c share.  On workers. */

/* ---- host_tool.c: running the system's tools ---- */

/* What the calls of one piece of work have in common.  Taking back has no job: it is not stopped
 * by what stopped the work, and has a time of its own instead. */
struct host_turn {
	struct job *job; /* may be NULL */
	uint64_t end_ms; /* of clock_ms(), for all of it; 0: each tool's own time is enough */
};

/* TOOL_MS: of a tool that changes a table or two. */
enum { HOST_TOOL_MS = 60000, HOST_INSTALL_MS = 180000, HOST_HALT_MS = 60000,
	HOST_TAKE_BACK_MS = 120000 };

/* Runs argv[0], by pfexec for who is not root, in the C locale: what it says is looked at.
 * ret_out: owned, may be NULL.  An error has the tool's words; a full pool is E_NO_SPACE. */
int host_tool(const struct host_turn *turn, const char *const *argv, uint64_t time_ms,
    char **ret_out, struct err *err);
int host_turn_check(const struct host_turn *turn, struct err *err); /* E_CANCELLED, E_TIMEOUT */
int host_pause(const struct host_turn *turn, unsigned ms, struct err *err);
struct host_turn host_turn_back(void); /* for taking back: now, with a time of its own */
/* Taking back failed, too: said beside why it was needed.  back with code 0: it did not. */
void host_turn_back_failed(struct err *err, const struct err *back);
/* The next line of text that is cut in place; NULL at its end. */
char *host_line(char **text);
/* Cuts a line at its colons, in place; "\:" and "\\" are a colon and a backslash in a field.
 * Returns how many fields there are, of which the first max are in ret_fields. */
size_t host_split(char *line, char **ret_fields, size_t max);

/* ---- host_names.c ---- */

bool host_link_valid(const char *name);
char *host_zonepath(const struct host_machine *m);	/* owned */
char *host_bootrom(const struct hv_propolis_config *config); /* owned; NULL: none found */
bool host_mac_equal(const char *a, const char *b); /* "2:8:20:1:2:3" is "02:08:20:01:02:03" */
/* What of host_machine_copy's input can not be used; 0 when all can. */
int host_machine_check(const struct host_machine *m, struct err *err);

/* ---- host_zfs.c ---- */

/* ret_value: owned; NULL when there is no such dataset, "-" when it has no such property. */
int host_zfs_get(const struct host_turn *turn, const char *property, const char *dataset,
    char **ret_value, struct err *err);
int host_zfs_parents(const struct host_turn *turn, const struct hv_propolis_config *config,
    struct err *err);
/* E_NO_SPACE when the pool has less. */
int host_zfs_room(const struct host_turn *turn, const struct hv_propolis_config *config,
    uint64_t bytes, struct err *err);
int host_zfs_clone(const struct host_turn *turn, const struct host_machine *m, const char *origin,
    struct err *err);
int host_zfs_grow(const struct host_turn *turn, const char *dataset, uint64_t bytes,
    struct err *err);
/* With its snapshots, if its property is this value.  Absent is fine; another's is left alone. */
int host_zfs_remove(const struct host_turn *turn, const char *dataset, const char *property,
    const char *value, struct err *err);
uint64_t host_zfs_round(uint64_t bytes); /* as volumes have it */

/* ---- host_image.c ---- */

/* The image's zvol, whole, with its snapshot; ret_origin: owned, what to clone. */
int host_image_ensure(const struct host_turn *turn, const struct host_machine *m,
    const struct hv_image *image, char **ret_origin, struct err *err);

/* ---- host_link.c ---- */

enum host_link { HOST_LINK_GUEST, HOST_LINK_CONTROL, HOST_LINKS };
enum link_owner { LINK_ABSENT, LINK_OURS, LINK_FOREIGN };

/* Who owns what has the name of each of the machine's links. */
int host_link_look(const struct host_turn *turn, const struct host_machine *m,
    enum link_owner ret_owners[HOST_LINKS], struct err *err);
int host_link_create(const struct host_turn *turn, const struct host_machine *m,
    enum host_link which, struct err *err);
/* If it is there and ours. */
int host_link_remove(const struct host_turn *turn, const struct host_machine *m,
    enum host_link which, struct err *err);
/* The machine has such a link. */
bool host_link_wanted(const struct host_machine *m, enum host_link which);

/* ---- host_zone.c ---- */

int host_zone_find(const struct host_turn *turn, const char *zone, enum zone_state *ret_state,
    struct err *err);
int host_zone_mine(const struct host_turn *turn, const struct host_machine *m, bool *ret_mine,
    struct err *err);
int host_zone_configure(const struct host_turn *turn, const struct host_machine *m,
    struct err *err);
int host_zone_install(const struct host_turn *turn, const struct host_machine *m,
    struct err *err);
int host_zone_set_address(const struct host_turn *turn, const struct host_machine *m,
    const char *address, struct err *err);
int host_zone_boot(const struct host_turn *turn, const struct host_machine *m, struct err *err);
int host_zone_halt(const struct host_turn *turn, const struct host_machine *m, struct err *err);
/* Halted, uninstalled, deleted, as far as it is there and ours; made_now: it is ours without its
 * mark, too.  ret_up: it could not be halted, so that it still has its links and its disk. */
int host_zone_remove(const struct host_turn *turn, const struct host_machine *m, bool made_now,
    bool *ret_up, struct err *err);

#endif
