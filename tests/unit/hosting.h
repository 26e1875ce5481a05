/* SPDX-License-Identifier: MPL-2.0 */
#ifndef TESTS_UNIT_HOSTING_H
#define TESTS_UNIT_HOSTING_H

#include <json-c/json.h>

#include "lib/base/worker.h"
#include "lib/hypervisor/propolis/host.h"
#include "lib/model/spec.h"

/* A host of illumos out of tests/fake/bin, in a folder of its own, with one machine to be and an
 * image of 3 MiB and a bit. */

#define HOSTING_ID "0a1b2c3d4e5f"
#define HOSTING_UUID "0a1b2c3d-4e5f-4000-8000-0123456789ab"
#define HOSTING_MAC "52:54:00:01:02:03"
#define HOSTING_HEX "00112233445566778899aabbccddeeff"
#define HOSTING_DIGEST "sha256:" HOSTING_HEX HOSTING_HEX
#define HOSTING_CLONE "rpool/vmm/machines/" HOSTING_ID
#define HOSTING_IMAGE "rpool/vmm/images/" HOSTING_HEX
#define HOSTING_ZONE "vmm-" HOSTING_ID

struct hosting {
	char dir[64]; /* fake/, zones/, machine/, opt/, image.raw */
	char *zvol_dir, *zone_dir, *server, *machine_dir, *image_path, *old_path;
	struct hv_propolis_config config;
	struct vm_spec spec;
	struct hv_config machine;
	struct hv_image image;
	struct host_machine *m;
};

void hosting_start(struct hosting *h);
void hosting_stop(struct hosting *h);       /* halts what runs, removes everything */
void hosting_copy_again(struct hosting *h); /* h->m anew, after a change of the spec */

/* What the host has: zones, datasets and links, as text.  Owned. */
char *hosting_state(const struct hosting *h);
/* Changes the state by a line of Python that sees it as s. */
void hosting_change(const struct hosting *h, const char *statement);
/* rules: JSON; NULL: none. */
void hosting_fault(const struct hosting *h, const char *rules);
/* The calls since the last time, a line each: "zfs create -p rpool".  Owned. */
char *hosting_calls(const struct hosting *h);
char *hosting_script(const struct hosting *h); /* the last script that zonecfg was given; owned */
bool hosting_hangs(const struct hosting *h); /* a call that was made to hang has begun */
bool hosting_machine_dir_empty(const struct hosting *h);

/* The call went well; else the test fails with its words. */
void hosting_ok(int rc, const struct err *err);
void hosting_prepare(struct hosting *h);
/* Parents and image are there, nothing of a machine: that state.  Owned. */
char *hosting_warm(struct hosting *h);
void hosting_same(const struct hosting *h, const char *before); /* the state is as it was */
bool hosting_changes(const char *calls); /* do they change anything? */

/* Runs fn as a job with a deadline (0: none) or one that is cancelled when a call of tool hangs. */
typedef int hosting_fn(struct hosting *h, struct job *job, struct err *err);
int hosting_job(struct hosting *h, hosting_fn *fn, uint64_t deadline_ms, struct err *err);
int hosting_job_cancelled(struct hosting *h, hosting_fn *fn, struct err *err);

#endif
