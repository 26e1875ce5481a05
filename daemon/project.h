/* SPDX-License-Identifier: MPL-2.0 */
#ifndef DAEMON_PROJECT_H
#define DAEMON_PROJECT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "daemon/operation.h"
#include "lib/model/auth.h"
#include "lib/model/spec.h"

/* The machines of one VMFile, together: up, down, reload, and the plan of an up. */

enum project_verb { PROJECT_PLAN, PROJECT_UP, PROJECT_DOWN, PROJECT_RELOAD };

enum { MEMBER_IMAGES = 2 }; /* of its disk, and in its CD-ROM drive */

struct member {
	struct project *project;
	struct vm_spec spec; /* as asked for; descriptors until they are taken */
	char *name;
	bool selected;
	bool finished, busy; /* busy: a child operation or a job runs */
	bool kicked;	     /* it will be looked at in the loop's next turn */
	int stage;	     /* the verb's own */
	bool started, created, hosts_changed;
	struct strings macs; /* of the machine that a reload destroys */
	const char *action; /* what was done, in the end */
	struct json_object *changes;
	struct err *error;
	struct job *job;
	struct err job_err;
	char *dir; /* for the job */
	char *held[MEMBER_IMAGES]; /* digests of the images that it is to be made of; NULL */
};

struct project {
	struct vmmd *vmmd;
	struct operation *op; /* NULL while only planned */
	struct request *request; /* of a plan */
	enum project_verb verb;
	uid_t uid;
	char *path; /* real path of the VMFile */
	struct member *members;
	size_t count;
	bool provision, destroy, orphans;
	uint64_t timeout_ms;
	bool cancelled;
	size_t kicks; /* members that are kicked */
	bool ended;   /* to be freed with the last of those */
	struct job *job;
	struct err job_err;
	size_t image_at; /* reload: which image is being taken, of MEMBER_IMAGES a member */
	struct image_fetch *fetch;
	struct fetch_auth auth; /* for images */
};

/* vms: taken (descriptors claimed).  names: borrowed; empty means all. */
struct project *project_create(struct vmmd *vmmd, enum project_verb verb, const char *path,
    uid_t uid, struct objects *vms);
void project_destroy(struct project *project);
/* Marks what is asked for and all that it stands on; E_NOT_FOUND names the nearest. */
int project_select(struct project *project, const struct strings *names, struct err *err);
/* For down: the project's machines that the VMFile no longer has become members. */
void project_add_orphans(struct project *project);
/* Refuses what must be refused before anything is made: names of other projects, backends,
 * provisioning without a login, unknown dependencies and cycles. */
int project_check(struct project *project, struct err *err);
/* Worker.  Hashes the files and images of all members. */
int project_hash(struct project *project, struct job *job, struct err *err);
struct member *project_member(struct project *project, const char *name);
/* The machine of the member; NULL: there is none. */
struct vm *member_vm(const struct member *member);
/* Before project_hash, on the loop: what the store knows of the images already. */
void project_known_images(struct project *project);
/* After it, on the loop: a packed file is compared by the image that came in it. */
void project_packed_images(struct project *project);
struct json_object *project_plan(struct project *project);
struct json_object *project_orphans(struct project *project); /* array of names */

/* Drives every member through its chain; the operation's step ends when all have. */
enum step_result project_run(struct project *project);
void project_cancel(struct project *project);
struct json_object *project_result(struct project *project);

extern const struct op_kind op_kind_up, op_kind_down, op_kind_reload;

#endif
