/* SPDX-License-Identifier: MPL-2.0
 *
 * The methods of a VMFile. */
#include <stdlib.h>
#include <string.h>

#include "daemon/files.h"
#include "daemon/methods.h"
#include "daemon/operation.h"
#include "daemon/project.h"
#include "daemon/vmmd.h"
#include "lib/base/json.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/base/worker.h"

/* Claims every file, then checks what rows can not say. */
static int
claim_all(struct request *request, struct project *p, struct err *err)
{
	struct file_table table = { 0 };
	int rc = 0;

	for (size_t i = 0; i < p->count && rc == 0; i++) {
		CLEANUP_FREE char *prefix = xasprintf("vms[%zu]", i);
		struct vm_spec *spec = &p->members[i].spec;

		rc = files_claim(&table, request, spec, err);
		if (rc == 0)
			rc = vm_spec_check_one(spec, prefix, err);
		if (rc != 0) {
			/* Those after it hold indexes, no descriptors. */
			for (size_t k = i + 1; k < p->count; k++)
				vm_spec_release(&p->members[k].spec);
		}
	}
	files_table_done(&table);
	return rc;
}

static struct project *
project_of(struct vmmd *vmmd, struct request *request, enum project_verb verb,
    struct file_args *a)
{
	struct project *p = project_create(vmmd, verb, a->project, request_peer(request)->uid, &a->vms);
	struct err err = ERR_INIT;
	int rc;

	p->provision = a->provision;
	p->destroy = a->destroy;
	p->orphans = a->orphans;
	p->timeout_ms = a->timeout_ms;
	fetch_auth_copy(&p->auth, &a->auth);
	rc = claim_all(request, p, &err);
	if (rc == 0 && a->project[0] != '/')
		rc = err_set(&err, E_PARAMS, "project: '%s' is not an absolute path", a->project);
	if (rc == 0)
		rc = project_select(p, &a->names, &err);
	if (rc == 0 && verb == PROJECT_DOWN && p->orphans && p->destroy)
		project_add_orphans(p);
	if (rc == 0)
		rc = project_check(p, &err);
	if (rc == 0)
		return p;
	request_fail(request, &err);
	project_destroy(p);
	return NULL;
}

/* ---- plan ---- */

static void
plan_job(struct job *job, void *data)
{
	struct project *p = data;

	project_hash(p, job, &p->job_err);
}

static void
plan_done(void *data)
{
	struct project *p = data;

	project_packed_images(p);
	if (p->job_err.code != E_OK)
		request_fail(p->request, &p->job_err);
	else
		request_reply(p->request, project_plan(p));
	project_destroy(p);
}

void
method_file_plan(struct vmmd *vmmd, struct request *request, void *args)
{
	struct project *p = project_of(vmmd, request, PROJECT_PLAN, args);
	struct err err = ERR_INIT;

	if (p == NULL)
		return;
	p->request = request;
	project_known_images(p);
	if (worker_submit(vmmd->disk_pool, "plan", plan_job, plan_done, p, 0, NULL, &err) != 0) {
		request_fail(request, &err);
		project_destroy(p);
	}
}

/* ---- up, down, reload ---- */

static void
run(struct vmmd *vmmd, struct request *request, enum project_verb verb, const struct op_kind *kind,
    void *args)
{
	struct op_call call = { .uid = request_peer(request)->uid, .audience = request,
		.ended = op_answer_request, .arg = request };
	/* Without one the request is answered, and gone. */
	struct project *p = project_of(vmmd, request, verb, args);
	struct err err = ERR_INIT;

	if (p != NULL && op_start(vmmd, kind, NULL, p, 0, &call, NULL, &err) != 0)
		request_fail(request, &err);
}

void
method_file_up(struct vmmd *vmmd, struct request *request, void *args)
{
	run(vmmd, request, PROJECT_UP, &op_kind_up, args);
}

void
method_file_down(struct vmmd *vmmd, struct request *request, void *args)
{
	run(vmmd, request, PROJECT_DOWN, &op_kind_down, args);
}

void
method_file_reload(struct vmmd *vmmd, struct request *request, void *args)
{
	run(vmmd, request, PROJECT_RELOAD, &op_kind_reload, args);
}
