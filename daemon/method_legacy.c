/* SPDX-License-Identifier: MPL-2.0
 *
 * Taking over machines of the original vmctl: one after another, each its base image into the
 * store, then its overlay, then its key.  The former files are only read. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/files.h"
#include "daemon/methods.h"
#include "daemon/nics.h"
#include "daemon/ops.h"
#include "daemon/vm.h"
#include "daemon/vmmd.h"
#include "lib/base/fs.h"
#include "lib/base/json.h"
#include "lib/base/log.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/base/worker.h"
#include "lib/hypervisor/hypervisor.h"
#include "lib/image/image.h"
#include "lib/legacy/legacy.h"
#include "lib/store/store.h"

enum { MAX_STORE = 16 << 20 };

struct import {
	struct vmmd *vmmd;
	struct operation *op;
	struct legacy_vms vms;
	size_t at;
	json_object *rows;
	uid_t uid;
	bool take;
	bool *wanted;
	struct image_import *image;
	/* the machine in work */
	char vm_id[13];
	int overlay_fd;
	char *dir, *base_path, *base_format, *key_source, *vars_source;
	struct hypervisor *hv;
	int arch;
	bool uefi, vars_lost; /* its firmware's variables begin anew */
	struct vm_spec spec;
	struct err err;
};

static void next_machine(struct import *im);

static json_object *
row_of(struct import *im, size_t index)
{
	return json_object_array_get_idx(im->rows, index);
}

static void
clear_work(struct import *im)
{
	if (im->overlay_fd >= 0)
		close(im->overlay_fd);
	im->overlay_fd = -1;
	free(TAKE(im->dir));
	free(TAKE(im->base_path));
	free(TAKE(im->base_format));
	free(TAKE(im->key_source));
	free(TAKE(im->vars_source));
	im->vars_lost = false;
	vm_spec_release(&im->spec);
	memset(&im->spec, 0, sizeof(im->spec));
	memset(&im->err, 0, sizeof(im->err));
	im->vm_id[0] = '\0';
}

static void
machine_over(struct import *im, const struct err *err)
{
	json_object *row = row_of(im, im->at);
	struct vm *vm = vm_by_id(im->vmmd, im->vm_id);

	json_add_string(row, "action", err != NULL ? "failed" : "taken");
	json_add_string(row, "error", err != NULL ? err->msg : NULL);
	if (err != NULL && vm != NULL) {
		fs_remove_tree(vm->dir, NULL);
		fs_remove_tree(vm->run_dir, NULL);
		store_remove(im->vmmd->store, STORE_MACHINE, vm->id);
		vm_free(vm);
	}
	clear_work(im);
	im->at++;
	next_machine(im);
}

/* ---- the disk, on a worker ---- */

static int
take_key(struct import *im, struct err *err)
{
	CLEANUP_FREE char *text = NULL, *to = NULL;
	size_t len;
	int rc;

	if (!fs_exists(im->key_source))
		return 0;
	to = fs_join(im->dir, "id_legacy");
	rc = fs_read(im->key_source, 1 << 16, &text, &len, err);
	if (rc == 0)
		rc = fs_write(to, text, len, 0600, err);
	if (rc == 0)
		mem_wipe(text, len);
	return rc;
}

static int
take_firmware(struct import *im, struct err *err)
{
	bool kept;
	int rc;

	if (!im->uefi)
		return 0;
	if (im->hv->ops->firmware_record == NULL)
		return err_set(err, E_UNSUPPORTED, "its firmware, UEFI, can not be taken over here");
	rc = im->hv->ops->firmware_record(
	    im->hv, im->arch, im->dir, im->vars_source, &kept, err);
	im->vars_lost = rc == 0 && !kept;
	return rc;
}

static void
disk_job(struct job *job, void *data)
{
	struct import *im = data;
	CLEANUP_FREE char *disk = fs_join(im->dir, "disk.qcow2");
	struct hv_image base = { .path = im->base_path, .format = im->base_format };

	if (disk_adopt_overlay(im->overlay_fd, im->vms.items[im->at].overlay_path, im->base_path,
		im->base_format, disk, job, &im->err) == 0 &&
	    hv_disk_record(im->dir, &base, &im->err) == 0 && take_firmware(im, &im->err) == 0)
		take_key(im, &im->err);
}

static void
disk_done(void *data)
{
	struct import *im = data;
	struct vm *vm = vm_by_id(im->vmmd, im->vm_id);
	CLEANUP_FREE char *key = fs_join(im->dir, "id_legacy");
	struct err err = im->err;

	if (err.code == E_OK && vm == NULL)
		err_set(&err, E_NOT_FOUND, "the machine went away");
	if (err.code == E_OK && fs_exists(key)) {
		vm->spec.ssh.present = true;
		vm->spec.ssh.private_key.kind = FILE_PATH;
		vm->spec.ssh.private_key.path = xstrdup(key);
	}
	if (im->vars_lost)
		json_object_array_add(json_object_object_get(row_of(im, im->at), "notes"),
		    json_object_new_string("the variables of its firmware do not fit the one that is "
					   "here; they begin anew"));
	if (err.code == E_OK)
		vm_event(vm, VM_EV_PREPARED, "imported", true, &err);
	machine_over(im, err.code != E_OK ? &err : NULL);
}

/* ---- its base image ---- */

static void
image_taken(void *arg, const struct image *image, const struct err *err)
{
	struct import *im = arg;
	struct err own = ERR_INIT;
	struct vm *vm;

	im->image = NULL;
	if (err != NULL) {
		machine_over(im, err);
		return;
	}
	if (vm_create(im->vmmd, &im->spec, im->uid, NULL, &vm, &own) != 0) {
		machine_over(im, &own);
		return;
	}
	memcpy(im->vm_id, vm->id, sizeof(im->vm_id));
	vm_set_string(&vm->image_digest, image->digest);
	if (im->vms.items[im->at].mac != NULL) {
		struct strings macs = { &im->vms.items[im->at].mac, 1 };

		nics_keep(vm, &macs);
	}
	im->dir = xstrdup(vm->dir);
	im->arch = vm->spec.arch;
	im->uefi = vm->spec.firmware.type == FIRMWARE_UEFI;
	im->base_path = xstrdup(image->path);
	im->base_format = xstrdup(image->format);
	if (vm_commit(vm, &own) != 0 || fs_mkdirs(vm->dir, 0700, &own) != 0 ||
	    worker_submit(im->vmmd->disk_pool, "import", disk_job, disk_done, im, 0, NULL, &own) != 0)
		machine_over(im, &own);
}

static void
spec_of(const struct legacy_vm *old, struct vm_spec *spec)
{
	spec->present = true;
	spec->name = xstrdup(old->new_name);
	spec->backend = old->backend;
	spec->vcpus = old->vcpus;
	spec->memory_bytes = old->memory_bytes;
	spec->disk_bytes = old->disk_bytes;
	if (old->uefi) {
		spec->firmware.present = true;
		spec->firmware.type = FIRMWARE_UEFI;
	}
	spec->network.present = true;
	spec->network.type = old->network.type;
	spec->network.bridge = xstrdup(old->network.bridge);
	spec->network.name = xstrdup(old->network.name);
}

static int
begin(struct import *im, const struct legacy_vm *old, struct err *err)
{
	CLEANUP_FREE char *backing = NULL, *at = NULL, *work_dir = NULL;
	struct disk_header header;
	int rc, fd;

	spec_of(old, &im->spec);
	if (vm_find(im->vmmd, im->spec.name) != NULL)
		return err_set(err, E_EXISTS, "a machine '%s' exists already", im->spec.name);
	im->spec.image.present = true;
	im->spec.image.file.kind = FILE_PATH;
	im->spec.image.file.path = xstrdup(old->overlay_path != NULL ? old->overlay_path : "");
	rc = ops_check_spec(im->vmmd, &im->spec, err);
	if (rc != 0)
		return rc;
	rc = hv_router_get(im->vmmd->router, (enum backend)im->spec.backend, &im->hv, err);
	if (rc != 0)
		return rc;
	if (!(hv_router_ops(im->vmmd->router, (enum backend)im->spec.backend)->capabilities &
		HV_CAN_COMMIT))
		return err_set(err, E_UNSUPPORTED,
		    "the disk of a machine of the backend '%s' is no file, and can not be taken over",
		    backend_names[im->spec.backend]);
	im->overlay_fd = open(im->spec.image.file.path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (im->overlay_fd < 0)
		return err_errno(err, E_IO, errno, "can not open '%s'", im->spec.image.file.path);
	rc = disk_inspect_overlay(im->overlay_fd, im->spec.image.file.path, &header, &backing, err);
	if (rc != 0)
		return rc;
	if (backing == NULL)
		return err_set(err, E_IMAGE, "'%s' stands on no image", im->spec.image.file.path);
	at = fs_dirname(im->spec.image.file.path);
	free(im->base_path);
	im->base_path = fs_expand(backing, at);
	work_dir = xstrdup(old->work_dir != NULL ? old->work_dir : at);
	im->key_source = fs_join(work_dir, "id_ed25519_generated");
	im->vars_source = fs_join(work_dir, "efivars.fd");
	fd = open(im->base_path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return err_errno(err, E_IO, errno, "can not open its image '%s'", im->base_path);
	free(TAKE(im->base_path));
	im->image = image_import(im->vmmd->images, fd, backing, NULL, image_taken, im);
	return 0;
}

static void
next_machine(struct import *im)
{
	struct err err = ERR_INIT;

	for (; im->at < im->vms.count; im->at++) {
		const struct legacy_vm *old = &im->vms.items[im->at];

		if (!im->wanted[im->at] || old->problems.count > 0 || old->new_name == NULL ||
		    legacy_running(old)) {
			json_add_string(row_of(im, im->at), "action", "left");
			continue;
		}
		if (begin(im, old, &err) == 0)
			return;
		json_add_string(row_of(im, im->at), "action", "failed");
		json_add_string(row_of(im, im->at), "error", err.msg);
		clear_work(im);
	}
	op_step_done(im->op);
}

/* ---- the operation ---- */

static enum step_result
machines_run(struct operation *op, struct err *err)
{
	struct import *im = op->data;

	im->op = op;
	op->result = json_object_new_object();
	json_object_object_add(op->result, "vms", json_object_get(im->rows));
	next_machine(im);
	return STEP_WAIT;
}

static void
import_destroy(struct import *im)
{
	clear_work(im);
	legacy_done(&im->vms);
	json_object_put(im->rows);
	free(im->wanted);
	free(im);
}

static void
import_release(struct operation *op)
{
	import_destroy(op->data);
}

static const struct op_step steps[] = { { "machines", machines_run, NULL, NULL } };
static const struct op_kind op_kind_import = { "system.import_legacy", steps, 1, import_release,
	NULL };

static bool
is_wanted(const struct strings *names, const char *name)
{
	for (size_t i = 0; i < names->count; i++)
		if (str_eq(names->items[i], name))
			return true;
	return names->count == 0;
}

static int
load(struct request *request, struct system_import_legacy_args *a, struct import *im,
    struct err *err)
{
	struct vm_spec carrier = { 0 }; /* files_claim knows specs */
	struct file_table table = { 0 };
	CLEANUP_FREE char *text = NULL;
	size_t len;
	int rc;

	carrier.cloud_init.user_data = a->store;
	memset(&a->store, 0, sizeof(a->store));
	rc = files_claim(&table, request, &carrier, err);
	files_table_done(&table);
	if (rc == 0 && carrier.cloud_init.user_data.kind == FILE_DATA)
		rc = legacy_load((const char *)carrier.cloud_init.user_data.data,
		    carrier.cloud_init.user_data.len, &im->vms, err);
	else if (rc == 0)
		rc = fs_read_fd(carrier.cloud_init.user_data.fd, "vms.json", MAX_STORE, &text, &len, err);
	if (rc == 0 && text != NULL)
		rc = legacy_load(text, len, &im->vms, err);
	files_release_spec(&carrier);
	im->rows = json_object_new_array();
	im->wanted = xcalloc(im->vms.count, sizeof(*im->wanted));
	for (size_t i = 0; i < im->vms.count; i++) {
		json_object_array_add(im->rows, legacy_describe(&im->vms.items[i]));
		im->wanted[i] = is_wanted(&a->names, im->vms.items[i].name);
	}
	return rc;
}

void
method_system_import_legacy(struct vmmd *vmmd, struct request *request, void *args)
{
	struct system_import_legacy_args *a = args;
	struct op_call call = { .uid = request_peer(request)->uid, .audience = request,
		.ended = op_answer_request, .arg = request };
	struct import *im = xcalloc(1, sizeof(*im));
	struct err err = ERR_INIT;
	json_object *result;
	int rc;

	im->vmmd = vmmd;
	im->uid = request_peer(request)->uid;
	im->overlay_fd = -1;
	rc = load(request, a, im, &err);
	/* The file names disks, which the daemon opens: only for its own user. */
	if (rc == 0 && a->take && im->uid != geteuid()) {
		rc = err_set(&err, E_PERMISSION, "only the daemon's own user may take machines over");
		err_hint(&err, "use a daemon of your own: vmctl starts one");
	}
	if (rc == 0 && a->take) {
		rc = op_start(vmmd, &op_kind_import, NULL, im, 0, &call, NULL, &err);
		if (rc != 0)
			request_fail(request, &err);
		return;
	}
	if (rc != 0) {
		request_fail(request, &err);
	} else {
		result = json_object_new_object();
		json_object_object_add(result, "vms", json_object_get(im->rows));
		request_reply(request, result);
	}
	import_destroy(im);
}
