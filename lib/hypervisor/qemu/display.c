/* SPDX-License-Identifier: MPL-2.0
 *
 * What a machine's screen shows.  QEMU writes the picture into a file of the machine's that was
 * there when it started, for it may make none, and a worker reads it.  There is one file, so one
 * picture is taken after the other. */
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/worker.h"
#include "lib/hypervisor/qemu/machine.h"

enum { PICTURE_MAX = 64 << 20, READ_MS = 10000 };

struct shot {
	struct shot *next;
	struct hv_op *op; /* NULL: nobody waits any more */
	struct job *job;  /* reads it; NULL: none */
	hv_picture_fn *done;
	void *arg;
	char *path, *data;
	size_t len;
	struct err err;
};

static void begin(struct shot *shot);

static void
shot_free(struct shot *shot)
{
	free(shot->path);
	free(shot->data);
	free(shot);
}

/* The op ends when the machine closes, perhaps while the worker still reads, or with the picture.
 */
static void
on_op_done(void *arg, const struct err *err)
{
	struct shot *shot = arg, **at;
	struct machine *m = shot->op->machine;
	bool first = m->shots == shot;

	for (at = &m->shots; *at != shot; at = &(*at)->next)
		;
	*at = shot->next;
	shot->op = NULL;
	if (err != NULL)
		shot->done(shot->arg, NULL, 0, err);
	else
		shot->done(shot->arg, shot->data, shot->len, NULL);
	if (shot->job == NULL)
		shot_free(shot);
	if (first && !m->dead && m->shots != NULL)
		begin(m->shots);
}

/* ---- the file ---- */

static void
read_run(struct job *job, void *data)
{
	struct shot *shot = data;

	shot->err = (struct err)ERR_INIT;
	if (fs_read(shot->path, PICTURE_MAX, &shot->data, &shot->len, &shot->err) == 0 &&
	    shot->len == 0)
		err_set(&shot->err, E_FAILED, "QEMU wrote no picture");
	if (truncate(shot->path, 0) < 0 && shot->err.code == E_OK)
		err_set(&shot->err, E_IO, "can not empty '%s'", shot->path);
}

static void
read_done(void *data)
{
	struct shot *shot = data;
	struct hv_op *op = shot->op;
	struct machine *m;

	shot->job = NULL;
	if (op == NULL) {
		shot_free(shot);
		return;
	}
	m = op->machine;
	machine_enter(m);
	op_finish(op, shot->err.code != E_OK ? &shot->err : NULL);
	machine_leave(m);
}

/* ---- QEMU ---- */

static void
on_dumped(void *arg, json_object *result, const struct err *err)
{
	struct hv_op *op = arg;
	struct shot *shot = op->arg;
	struct machine *m = op->machine;
	struct err failure = err != NULL ? *err : (struct err)ERR_INIT;

	machine_enter(m);
	/* A job that never ran was cancelled. */
	err_set(&shot->err, E_CANCELLED, "nobody reads the picture any more");
	if (err != NULL || worker_submit(m->hv->base.env->pool, "picture", read_run, read_done,
			       shot, READ_MS, &shot->job, &failure) != 0)
		op_finish(op, &failure);
	machine_leave(m);
}

static void
begin(struct shot *shot)
{
	struct machine *m = shot->op->machine;
	struct err err = ERR_INIT;
	json_object *args;

	if (m->phase != PHASE_ALIVE)
		err_set(&err, E_STATE, "the machine is not running");
	else if (!qmp_ready(m->qmp))
		err_set(&err, E_UNRESPONSIVE, "QEMU's monitor does not answer");
	else if (!fs_exists(shot->path))
		err_set(&err, E_STATE, "the machine was started without a display");
	if (err.code != E_OK) {
		op_finish_soon(shot->op, &err);
		return;
	}
	args = json_object_new_object();
	json_object_object_add(args, "filename", json_object_new_string(shot->path));
	json_object_object_add(args, "format", json_object_new_string("png"));
	qmp_command(m->qmp, "screendump", args, on_dumped, shot->op);
}

void
qemu_op_screenshot(struct hv_machine *base, hv_picture_fn *done, void *arg)
{
	struct machine *m = (struct machine *)base;
	struct shot *shot = xcalloc(1, sizeof(*shot)), **end;

	shot->done = done;
	shot->arg = arg;
	shot->path = fs_join(m->config->dir, "screen.png");
	shot->op = op_create(m, on_op_done, shot);
	for (end = &m->shots; *end != NULL; end = &(*end)->next)
		;
	*end = shot;
	if (m->shots == shot)
		begin(shot);
}
