/* SPDX-License-Identifier: MPL-2.0
 *
 * A machine's TPM: swtpm, one process for each.  It talks to the emulator over a pair of sockets
 * that nobody else can open, and ends by itself when the other end is closed, so that none is left
 * behind whoever is killed.  Its state is a folder of the machine's. */
#include <errno.h>
#include <json-c/json.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lib/base/fs.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/hypervisor/launcher/launcher.h"
#include "lib/hypervisor/qemu/qemu.h"

enum { FD_CONTROL = 10 };

struct qemu_tpm {
	LIST_ENTRY(qemu_tpm) entry; /* of those whose end was asked for */
	bool ending;
	struct process_id id;
	int pidfd;
	struct process_watch *watch;
	qemu_tpm_fn *fn;
	void *arg;
};

struct row {
	uint64_t pid, start_time;
	char *boot_id, *generation;
};

/* clang-format off */
static const struct field row_fields[] = {
	FIELD(struct row, pid,        FIELD_UINT,   .required = true, .min = 1, .max = INT32_MAX, .text = "the process"),
	FIELD(struct row, start_time, FIELD_UINT,   .required = true, .text = "when it began"),
	FIELD(struct row, boot_id,    FIELD_STRING, .required = true, .text = "in which boot"),
	FIELD(struct row, generation, FIELD_STRING, .text = "which start of the machine"),
	FIELD_END
};
/* clang-format on */

int
qemu_tpm_available(struct err *err)
{
	CLEANUP_FREE char *program = process_find("swtpm");

	if (program != NULL)
		return 0;
	err_set(err, E_UNSUPPORTED, "a TPM needs the program 'swtpm', which was not found");
	err_hint(err, "install the package 'swtpm' (as Debian calls it)");
	return E_UNSUPPORTED;
}

static struct qemu_tpm *
tpm_create(pid_t pid, int pidfd)
{
	struct qemu_tpm *tpm = xcalloc(1, sizeof(*tpm));

	tpm->id.pid = pid;
	tpm->pidfd = pidfd;
	return tpm;
}

static int
make_order(const struct qemu *hv, const struct hv_config *config, const char *program,
    const char *generation, struct launch_order *order, struct err *err)
{
	CLEANUP_FREE char *dir = fs_join(config->dir, "tpm"), *state = xasprintf("dir=%s", dir);
	CLEANUP_FREE char *control = xasprintf("type=unixio,clientfd=%d", FD_CONTROL);
	const char *const argv[] = { program, "socket", "--tpm2", "--tpmstate", state, "--ctrl",
		control, "--terminate" };

	/* Its options have no way to write a comma. */
	if (strchr(dir, ',') != NULL) {
		err_set(err, E_UNSUPPORTED, "swtpm can not work in '%s': there is a comma in it", dir);
		err_hint(err, "give vmmd another --data-dir");
		return E_UNSUPPORTED;
	}
	if (fs_mkdirs(dir, 0700, err) != 0)
		return E_IO;
	for (size_t i = 0; i < ARRAY_LEN(argv); i++)
		strings_add(&order->argv, argv[i]);
	order->parent = (uint64_t)getpid();
	order->record = fs_join(config->dir, "tpm.json");
	order->generation = xstrdup(generation);
	order->lock = fs_join(dir, ".lock");
	qemu_launch_rights(order, hv, program, config);
	strings_add(&order->make, dir);
	if (order->drop)
		strings_add(&order->own, dir);
	return 0;
}

int
qemu_tpm_start(const struct qemu *hv, const struct hv_config *config, const char *generation,
    int log_fd, struct qemu_tpm **ret_tpm, int *ret_fd, struct err *err)
{
	CLEANUP_FREE char *program = process_find("swtpm");
	CLEANUP_FD int ours = -1, theirs = -1;
	struct launch_order order = { 0 };
	pid_t pid = 0;
	int fds[2], pidfd = -1, rc;

	if (program == NULL)
		return qemu_tpm_available(err);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		return err_errno(err, E_LIMIT, errno, "can not make sockets for the TPM");
	ours = fds[0];
	theirs = fds[1];
	rc = make_order(hv, config, program, generation, &order, err);
	if (rc == 0)
		rc = qemu_launch_order(hv, &order, log_fd,
		    &(struct process_fd){ theirs, FD_CONTROL }, 1, &pid, &pidfd, err);
	fields_release(launch_order_fields, &order);
	if (rc != 0)
		return err_wrap(err, "the TPM");
	*ret_tpm = tpm_create(pid, pidfd);
	*ret_fd = TAKE_FD(ours);
	return 0;
}

/* ---- a later daemon's ---- */

struct json_object *
qemu_tpm_runtime(struct qemu_tpm *tpm)
{
	struct process_id id;
	struct row row = { 0 };

	if (tpm == NULL || process_identify(tpm->id.pid, &id, NULL) != 0)
		return NULL;
	row = (struct row){ .pid = (uint64_t)id.pid, .start_time = id.start_time,
		.boot_id = id.boot_id };
	return fields_encode(row_fields, &row);
}

static json_object *
read_record(const struct hv_config *config)
{
	CLEANUP_FREE char *path = fs_join(config->dir, "tpm.json"), *text = NULL;

	return fs_read(path, 65536, &text, NULL, NULL) == 0 ? json_tokener_parse(text) : NULL;
}

struct qemu_tpm *
qemu_tpm_adopt(const struct hv_config *config, struct json_object *runtime)
{
	json_object *doc = runtime != NULL ? json_object_get(runtime) : read_record(config);
	struct qemu_tpm *tpm = NULL;
	struct process_id id = { 0 };
	struct row row = { 0 };
	int pidfd = -1;

	if (json_object_is_type(doc, json_type_object) &&
	    fields_decode_one(row_fields, doc, &row, NULL) == 0) {
		id.pid = (pid_t)row.pid;
		id.start_time = row.start_time;
		snprintf(id.boot_id, sizeof(id.boot_id), "%s", row.boot_id);
		if (process_open(&id, &pidfd, NULL) == 0)
			tpm = tpm_create(id.pid, pidfd);
	}
	fields_release(row_fields, &row);
	json_object_put(doc);
	return tpm;
}

/* ---- its end ---- */

static void
on_exit_seen(void *arg, const struct process_exit *how)
{
	struct qemu_tpm *tpm = arg;

	if (!tpm->ending) {
		tpm->fn(tpm->arg, how);
		return;
	}
	LIST_REMOVE(tpm, entry);
	qemu_tpm_forget(tpm);
}

void
qemu_tpm_watch(struct qemu_tpm *tpm, struct loop *loop, qemu_tpm_fn *fn, void *arg)
{
	tpm->fn = fn;
	tpm->arg = arg;
	tpm->watch = process_watch_create(loop, tpm->id.pid, tpm->pidfd, on_exit_seen, tpm);
}

/* It is reaped when it has ended; the next one waits for the lock of this one's state. */
void
qemu_tpm_end(struct qemu *hv, struct qemu_tpm *tpm)
{
	if (tpm == NULL)
		return;
	process_signal(tpm->id.pid, tpm->pidfd, SIGTERM);
	tpm->ending = true;
	if (tpm->watch == NULL)
		qemu_tpm_watch(tpm, hv->base.env->loop, NULL, NULL);
	LIST_INSERT_HEAD(&hv->tpms_ending, tpm, entry);
}

void
qemu_tpm_forget_all(struct qemu *hv)
{
	struct qemu_tpm *tpm;

	while ((tpm = LIST_FIRST(&hv->tpms_ending)) != NULL) {
		LIST_REMOVE(tpm, entry);
		qemu_tpm_forget(tpm);
	}
}

void
qemu_tpm_forget(struct qemu_tpm *tpm)
{
	if (tpm == NULL)
		return;
	process_watch_destroy(tpm->watch);
	close(tpm->pidfd);
	free(tpm);
}
