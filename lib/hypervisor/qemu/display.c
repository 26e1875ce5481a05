/* SPDX-License-Identifier: MPL-2.0
 *
 * What a machine's screen shows.  QEMU writes the picture into a file of the machine's that was
 * there when it started, for it may make none, and we read it. */
#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/hypervisor/qemu/machine.h"

enum { PICTURE_MAX = 64 << 20 };

struct shot {
	struct hv_op *op; /* NULL: nobody waits any more */
	struct machine *machine;
	hv_picture_fn *done;
	void *arg;
	char *path, *data;
	size_t len;
	struct err err;
};

static void
shot_finish(struct shot *shot, const struct err *err)
{
	shot->done(shot->arg, shot->data, shot->len, err);
	free(shot->path);
	free(shot->data);
	free(shot);
}

/* The op ends when the machine closes, or when the picture is there. */
static void
on_op_done(void *arg, const struct err *err)
{
	shot_finish(arg, err);
}

static void
on_dumped(void *arg, json_object *result, const struct err *err)
{
	struct hv_op *op = arg;
	struct shot *shot = op->arg;
	struct machine *m = op->machine;
	struct err failure = ERR_INIT;

	machine_enter(m);
	if (err != NULL) {
		failure = *err;
	} else if (fs_read(shot->path, PICTURE_MAX, &shot->data, &shot->len, &failure) == 0 &&
	    shot->len == 0) {
		err_set(&failure, E_FAILED, "QEMU wrote no picture");
	}
	if (truncate(shot->path, 0) < 0 && failure.code == E_OK)
		err_set(&failure, E_IO, "can not empty '%s'", shot->path);
	op_finish(op, failure.code != E_OK ? &failure : NULL);
	machine_leave(m);
}

void
qemu_op_screenshot(struct hv_machine *base, hv_picture_fn *done, void *arg)
{
	struct machine *m = (struct machine *)base;
	struct shot *shot = xcalloc(1, sizeof(*shot));
	struct hv_op *op;
	struct err err = ERR_INIT;
	json_object *args;

	shot->done = done;
	shot->arg = arg;
	shot->path = fs_join(m->config->dir, "screen.png");
	op = op_create(m, on_op_done, shot);
	if (m->phase != PHASE_ALIVE)
		err_set(&err, E_STATE, "the machine is not running");
	else if (!qmp_ready(m->qmp))
		err_set(&err, E_UNRESPONSIVE, "QEMU's monitor does not answer");
	else if (!fs_exists(shot->path))
		err_set(&err, E_STATE, "the machine was started without a display");
	if (err.code != E_OK) {
		op_finish_soon(op, &err);
		return;
	}
	args = json_object_new_object();
	json_object_object_add(args, "filename", json_object_new_string(shot->path));
	json_object_object_add(args, "format", json_object_new_string("png"));
	qmp_command(m->qmp, "screendump", args, on_dumped, op);
}
