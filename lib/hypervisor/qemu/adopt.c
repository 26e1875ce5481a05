/* SPDX-License-Identifier: MPL-2.0
 *
 * Taking over a process of an earlier daemon.  The process is proved first (pidfd, boot, start
 * time), its monitor's peer second, its uuid third.  Whatever fails, nothing is ever killed. */
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/json.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/hypervisor/qemu/machine.h"

/* The runtime document; of the launcher's record the first rows are there. */
struct runtime {
	uint64_t pid, start_time, exe_dev, exe_ino, log_from, ssh_port;
	char *boot_id, *generation, *accel, *machine_type;
	struct json_object *tpm;
	struct strings taps;
};

/* clang-format off */
static const struct field runtime_fields[] = {
	FIELD(struct runtime, pid,          FIELD_UINT,   .required = true, .min = 1, .max = INT32_MAX, .text = "the process"),
	FIELD(struct runtime, start_time,   FIELD_UINT,   .required = true, .text = "when it began"),
	FIELD(struct runtime, boot_id,      FIELD_STRING, .required = true, .text = "in which boot"),
	FIELD(struct runtime, generation,   FIELD_STRING, .text = "which start of the machine"),
	FIELD(struct runtime, exe_dev,      FIELD_UINT,   .text = "the executable's device"),
	FIELD(struct runtime, exe_ino,      FIELD_UINT,   .text = "the executable's inode"),
	FIELD(struct runtime, log_from,     FIELD_UINT,   .text = "where its words begin"),
	FIELD(struct runtime, ssh_port,     FIELD_UINT,   .max = UINT16_MAX, .text = "the forward that was made for SSH"),
	FIELD(struct runtime, accel,        FIELD_STRING, .text = "the accelerator"),
	FIELD(struct runtime, machine_type, FIELD_STRING, .text = "the machine type"),
	FIELD(struct runtime, tpm,          FIELD_JSON,   .text = "the TPM's process"),
	FIELD(struct runtime, taps,         FIELD_STRINGS, .text = "the host's ends of its networks"),
	FIELD_END
};
/* clang-format on */

struct json_object *
qemu_op_runtime(struct hv_machine *base)
{
	struct machine *m = (struct machine *)base;
	struct runtime row = { .pid = (uint64_t)m->id.pid, .start_time = m->id.start_time,
		.exe_dev = m->id.exe_dev, .exe_ino = m->id.exe_ino, .log_from = (uint64_t)m->log_from,
		.ssh_port = m->ssh_port,
		.boot_id = m->id.boot_id, .generation = m->generation,
		.accel = (char *)(uintptr_t)m->accel, .machine_type = m->machine_type,
		.tpm = qemu_tpm_runtime(m->tpm) };
	struct json_object *doc = fields_encode(runtime_fields, &row);

	json_object_put(row.tpm);
	return doc;
}

static int
open_row(json_object *doc, struct runtime *ret_row, int *ret_pidfd, struct err *err)
{
	struct process_id id = { 0 };
	int rc;

	if (!json_object_is_type(doc, json_type_object))
		return err_set(err, E_NOT_FOUND, "no process of the machine is known");
	rc = fields_decode_one(runtime_fields, doc, ret_row, err);
	if (rc != 0)
		return rc;
	id.pid = (pid_t)ret_row->pid;
	id.start_time = ret_row->start_time;
	id.exe_dev = ret_row->exe_dev;
	id.exe_ino = ret_row->exe_ino;
	snprintf(id.boot_id, sizeof(id.boot_id), "%s", ret_row->boot_id);
	return process_open(&id, ret_pidfd, err);
}

static json_object *
read_record(const struct hv_config *config)
{
	CLEANUP_FREE char *path = fs_join(config->dir, "launch.json"), *text = NULL;

	if (fs_read(path, 65536, &text, NULL, NULL) != 0)
		return NULL;
	return json_tokener_parse(text);
}

bool
adopt_record_lives(const struct hv_config *config, pid_t *ret_pid)
{
	json_object *doc = read_record(config);
	struct runtime row = { 0 };
	int pidfd = -1;
	bool lives = open_row(doc, &row, &pidfd, NULL) == 0;

	*ret_pid = (pid_t)row.pid;
	if (pidfd >= 0)
		close(pidfd);
	fields_release(runtime_fields, &row);
	json_object_put(doc);
	return lives;
}

void
adopt_record_taps(struct machine *m)
{
	CLEANUP_JSON json_object *doc = read_record(m->config);
	json_object *taps = NULL;

	strings_done(&m->taps);
	if (!json_object_is_type(doc, json_type_object) ||
	    !json_object_object_get_ex(doc, "taps", &taps) || !json_object_is_type(taps, json_type_array))
		return;
	for (size_t i = 0; i < json_object_array_length(taps); i++)
		strings_add(&m->taps, json_object_get_string(json_object_array_get_idx(taps, i)));
}

/* ---- its monitor ---- */

static void
finish(struct machine *m, const struct err *err)
{
	struct hv_op *start = TAKE(m->start);

	if (start != NULL)
		op_finish(start, err);
}

/* It lives and is watched; what it does will be known when it answers. */
static void
adopt_blindly(struct machine *m, const struct err *why)
{
	machine_alive(m);
	m->state = HV_UNKNOWN;
	m->tell_responsive = true;
	finish(m, why);
}

static void
one_reply(struct machine *m, const struct err *err)
{
	struct err why = ERR_INIT;

	if (m->dead || m->phase != PHASE_ADOPTING)
		return;
	machine_enter(m);
	if (err != NULL) {
		err_set(&why, E_UNRESPONSIVE, "process %d lives, but its monitor does not answer: %s",
		    (int)m->id.pid, err->msg);
		adopt_blindly(m, &why);
	} else if (--m->replies == 0) {
		start_complete(m);
	}
	machine_leave(m);
}

static void
on_uuid(void *arg, json_object *result, const struct err *err)
{
	struct machine *m = arg;
	json_object *uuid = NULL;
	struct err wrong = ERR_INIT;

	json_object_object_get_ex(result, "UUID", &uuid);
	if (err == NULL && !str_eq(json_object_get_string(uuid), m->config->uuid)) {
		err_set(&wrong, E_UNRESPONSIVE, "it says that it is another machine");
		err = &wrong;
	}
	one_reply(m, err);
}

static void
on_usernet(void *arg, json_object *result, const struct err *err)
{
	struct machine *m = arg;

	if (err == NULL)
		forward_learn(m, result);
	one_reply(m, err);
}

static void
on_blocks(void *arg, json_object *result, const struct err *err)
{
	struct machine *m = arg;
	const char *text = json_object_to_json_string_ext(result, JSON_C_TO_STRING_PLAIN);

	if (err == NULL && m->state == HV_IO_ERROR &&
	    strstr(text, "\"io-status\":\"nospace\"") != NULL)
		m->state = HV_NO_SPACE;
	one_reply(m, err);
}

static void
on_status(void *arg, json_object *result, const struct err *err)
{
	struct machine *m = arg;

	if (err == NULL && m->phase == PHASE_ADOPTING)
		monitor_status(result, &m->state);
	one_reply(m, err);
}

void
adopt_on_ready(struct machine *m)
{
	m->replies = 3;
	qmp_command(m->qmp, "query-uuid", NULL, on_uuid, m);
	qmp_command(m->qmp, "query-status", NULL, on_status, m);
	qmp_command(m->qmp, "query-block", NULL, on_blocks, m);
	m->replies += monitor_ask_usernet(m, on_usernet, m);
}

void
adopt_on_deadline(struct machine *m)
{
	struct err why = ERR_INIT;

	err_set(&why, E_UNRESPONSIVE, "process %d lives, but its monitor does not answer",
	    (int)m->id.pid);
	err_hint(&why, "it is watched, and taken over when it answers");
	adopt_blindly(m, &why);
}

static const char *
static_accel(const char *name)
{
	return str_eq(name, "kvm") ? "kvm" : "tcg";
}

/* Without it the guest goes on, and is told as it would have been then. */
static void
adopt_tpm(struct machine *m, json_object *runtime)
{
	struct qemu_tpm *tpm = qemu_tpm_adopt(m->config, runtime);

	machine_take_tpm(m, tpm);
	if (tpm == NULL)
		machine_tell(m, HV_EV_NOTICE,
		    "its TPM's process is gone: the guest has none until the next start");
}

static int
attach(struct machine *m, const struct runtime *row, int pidfd, struct err *err)
{
	CLEANUP_FREE char *path = qemu_monitor_path(m->config);
	int rc = machine_attach(m, (pid_t)row->pid, pidfd, err);

	if (rc != 0 || process_identify((pid_t)row->pid, &m->id, err) != 0) {
		machine_detach(m);
		return rc != 0 ? rc : E_NOT_FOUND;
	}
	m->log_from = (off_t)row->log_from;
	m->accel = static_accel(row->accel);
	m->ssh_port = (uint16_t)row->ssh_port; /* until the monitor tells */
	snprintf(m->generation, sizeof(m->generation), "%s",
	    row->generation != NULL ? row->generation : "");
	snprintf(m->machine_type, sizeof(m->machine_type), "%s",
	    row->machine_type != NULL ? row->machine_type
				      : qemu_arch_get(m->config->spec->arch)->machine);
	if (m->config->spec->firmware.tpm)
		adopt_tpm(m, row->tpm);
	m->phase = PHASE_ADOPTING;
	m->qmp = qmp_create(m->hv->base.env->loop, path, &machine_qmp_handler, m);
	qmp_expect_peer(m->qmp, m->id.pid);
	timer_arm(m->deadline, qmp_silence_ms(m->qmp));
	return 0;
}

void
qemu_op_adopt(struct hv_machine *base, struct json_object *runtime, hv_done_fn *done, void *arg)
{
	struct machine *m = (struct machine *)base;
	struct hv_op *op = op_create(m, done, arg);
	json_object *record = NULL;
	struct runtime row = { 0 };
	struct err err = ERR_INIT;
	int pidfd = -1, rc;

	if (m->phase != PHASE_IDLE) {
		err_set(&err, E_STATE, "the machine is known to run");
		op_finish_soon(op, &err);
		return;
	}
	rc = open_row(runtime, &row, &pidfd, &err);
	if (rc != 0) {
		/* A start that was never committed left the launcher's record alone. */
		fields_release(runtime_fields, &row);
		record = read_record(m->config);
		rc = open_row(record, &row, &pidfd, record != NULL ? &err : NULL);
	}
	if (rc == 0)
		rc = attach(m, &row, pidfd, &err);
	if (rc == 0)
		m->start = op;
	else
		op_finish_soon(op, &err);
	fields_release(runtime_fields, &row);
	json_object_put(record);
}
