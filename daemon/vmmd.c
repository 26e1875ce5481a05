/* SPDX-License-Identifier: MPL-2.0
 *
 * Building the daemon up, running it, taking it down. */
#include "daemon/vmmd.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/adopt.h"
#include "daemon/config.h"
#include "daemon/events.h"
#include "daemon/methods.h"
#include "daemon/operation.h"
#include "daemon/private.h"
#include "daemon/server.h"
#include "daemon/vm.h"
#include "lib/base/clock.h"
#include "lib/base/fs.h"
#include "lib/base/jail.h"
#include "lib/base/log.h"
#include "lib/base/loop.h"
#include "lib/base/mem.h"
#include "lib/base/platform.h"
#include "lib/base/process.h"
#include "lib/base/str.h"
#include "lib/base/worker.h"
#include "lib/hypervisor/hypervisor.h"
#include "lib/image/fetch.h"
#include "lib/store/store.h"

enum { SSH_THREADS = 48, DISK_THREADS = 4, MAX_QUEUE = 4096, MAX_CONNECTIONS = 4096, LOCK_MS = 3000 };

static bool
is_alive(const char *pid_text)
{
	uint64_t pid;

	return str_to_u64(pid_text, &pid) && pid > 0 && pid <= INT32_MAX &&
	    (kill((pid_t)pid, 0) == 0 || errno == EPERM);
}

/* One daemon a data folder.  The lock goes with the process, however it ends. */
static int
take_lock(struct vmmd *vmmd, struct err *err)
{
	CLEANUP_FREE char *path = fs_join(vmmd->config->data_dir, "vmmd.lock");
	char text[32] = "";
	ssize_t n;

	vmmd->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (vmmd->lock_fd < 0)
		return err_errno(err, E_IO, errno, "can not open '%s'", path);
	for (uint64_t begin = clock_ms(); platform_lock(vmmd->lock_fd, false) < 0;) {
		n = pread(vmmd->lock_fd, text, sizeof(text) - 1, 0);
		text[n > 0 ? strcspn(text, "\n") : 0] = '\0';
		/* A child of a vmmd that was killed holds its descriptors until it executes. */
		if (clock_ms() - begin < LOCK_MS && !is_alive(text)) {
			poll(NULL, 0, 10);
			continue;
		}
		err_set(err, E_EXISTS, "a vmmd (pid %s) serves '%s' already", text,
		    vmmd->config->data_dir);
		err_hint(err, "'vmctl daemon stop' ends it; or give another --data-dir");
		return E_EXISTS;
	}
	snprintf(text, sizeof(text), "%ld\n", (long)getpid());
	if (ftruncate(vmmd->lock_fd, 0) < 0 || pwrite(vmmd->lock_fd, text, strlen(text), 0) < 0)
		log_debug("writing '%s': %s", path, strerror(errno));
	return 0;
}

static int
private_folder(const char *path, struct err *err)
{
	struct stat st;
	int rc = fs_mkdirs(path, 0700, err);

	if (rc != 0)
		return rc;
	if (stat(path, &st) == 0 && st.st_uid == geteuid() && !(st.st_mode & S_IWOTH) )
		return 0;
	err_set(err, E_PERMISSION, "'%s' belongs to another user, or is open to all", path);
	err_hint(err, "choose a folder that only you can write");
	return E_PERMISSION;
}

static int
make_folders(struct vmmd *vmmd, struct err *err)
{
	const struct config *c = vmmd->config;
	CLEANUP_FREE char *vms = fs_join(c->data_dir, "vms");
	size_t longest = strlen(c->vm_run_dir) + 1 + 12 + strlen("/qmp.sock");
	int rc = private_folder(c->data_dir, err);

	if (rc == 0)
		rc = private_folder(vms, err);
	/* A system daemon's folder is searched by its group; machines' sockets are in a private one. */
	if (rc == 0) {
		mode_t before = umask(c->system ? 0022 : 0077);

		rc = fs_mkdirs(c->runtime_dir, c->system ? 0755 : 0700, err);
		umask(before);
	}
	if (rc == 0 && longest > FS_SOCKET_PATH_MAX) {
		err_set(err, E_USAGE, "the folder '%s' is too long for the sockets of machines (%zu of "
				      "%d bytes)", c->vm_run_dir, longest, FS_SOCKET_PATH_MAX);
		err_hint(err, "give a shorter --runtime-dir");
		return E_USAGE;
	}
	if (rc == 0)
		rc = private_folder(c->vm_run_dir, err);
	return rc == 0 ? private_folder(c->net_run_dir, err) : rc;
}

static void
on_store_failure(void *arg, const struct err *err)
{
	log_error("the store: %s", err->msg);
}

/* A wrong file of the administrator's takes nobody's machines down: what ships is there. */
static void
load_catalogue(struct vmmd *vmmd)
{
	struct catalogue catalogue = { 0 };
	struct err err = ERR_INIT;

	if (catalogue_load_all(vmmd->config->catalogue_dir, &catalogue, &err) != 0) {
		log_error("the catalogue of images: %s", err.msg);
		if (vmmd->catalogue.count > 0 || catalogue_load_all(NULL, &catalogue, NULL) != 0)
			return;
	}
	catalogue_done(&vmmd->catalogue);
	vmmd->catalogue = catalogue;
}

static void
set_fetcher(struct vmmd *vmmd)
{
	const struct config *c = vmmd->config;
	struct image_fetcher fetcher = {
		.program = c->fetcher,
		.drop = geteuid() == 0,
		.shared = c->system,
		.os = "linux",
		.architecture = catalogue_host_architecture(),
		.max_bytes = c->image_max_bytes,
		.keep_free_bytes = c->keep_free_bytes,
		.stall_ms = c->stall_timeout_ms,
		.connect_ms = c->connect_timeout_ms,
		.attempts = c->fetch_attempts,
	};

	image_store_set_fetcher(vmmd->images, &fetcher);
	image_store_set_catalogue(vmmd->images, &vmmd->catalogue);
}

static int
open_store(struct vmmd *vmmd, struct err *err)
{
	CLEANUP_FREE char *path = fs_join(vmmd->config->data_dir, "vmm.db"), *notice = NULL;
	CLEANUP_FREE char *images = fs_join(vmmd->config->data_dir, "images");
	int rc = store_open(path, vmmd->loop, &vmmd->store, &notice, err);

	if (rc != 0)
		return rc;
	if (notice != NULL)
		log_warn("%s", notice);
	store_on_failure(vmmd->store, on_store_failure, vmmd);
	rc = image_store_open(images, vmmd->store, vmmd->loop, vmmd->disk_pool, &vmmd->images, err);
	if (rc != 0)
		return rc;
	load_catalogue(vmmd);
	set_fetcher(vmmd);
	return 0;
}

static int
open_server(struct vmmd *vmmd, struct err *err)
{
	const struct config *c = vmmd->config;
	struct server_options options = {
		.socket_path = c->socket,
		.listen_fd = notify_listen_fd(),
		.system = c->system,
		.group = c->group,
		.max_connections = MAX_CONNECTIONS,
		.max_per_uid = c->system ? (unsigned)c->max_per_uid : 0,
		.handlers = method_handlers,
	};

	return server_create(vmmd, vmmd->loop, &options, &vmmd->server, err);
}

/* ---- signals ---- */

static void
on_force(void *arg)
{
	struct vmmd *vmmd = arg;

	loop_stop(vmmd->loop);
}

void
vmmd_shutdown(struct vmmd *vmmd)
{
	if (vmmd->stopping) {
		loop_stop(vmmd->loop);
		return;
	}
	vmmd->stopping = true;
	log_info("going down; machines live on");
	notify_send("STOPPING=1\nSTATUS=going down");
	if (vmmd->server != NULL)
		server_stop_accepting(vmmd->server);
	/* A moment for answers to leave; operations are journalled and found again. */
	vmmd->stop_timer = timer_create_on(vmmd->loop, on_force, vmmd);
	timer_arm(vmmd->stop_timer, 200);
}

static void
on_terminate(void *arg)
{
	vmmd_shutdown(arg);
}

static void
on_reload(void *arg)
{
	struct vmmd *vmmd = arg;
	CLEANUP_FREE char *text = xasprintf("RELOADING=1\nMONOTONIC_USEC=%llu",
	    (unsigned long long)clock_us());

	/* Nothing is cached that a file could change, but what asks for a reload must see its end. */
	notify_send(text);
	log_info("reload: the catalogue is read again; settings are at the next start");
	load_catalogue(vmmd);
	store_backup(vmmd->store);
	notify_send("READY=1");
}

/* ---- life ---- */

/* Clients come when it is known what runs. */
static void
serve(struct vmmd *vmmd)
{
	struct err err = ERR_INIT;

	if (open_server(vmmd, &err) != 0) {
		log_error("%s", err.msg);
		if (err.hint[0] != '\0')
			log_error("%s", err.hint);
		vmmd->failed = true;
		loop_stop(vmmd->loop);
		return;
	}
	log_info("vmmd %s serves %s with %zu machines", VMM_VERSION, vmmd->config->socket,
	    vm_count(vmmd));
	notify_send("READY=1\nSTATUS=serving");
}

/* Found out here, once: finding out runs a program, and nothing on the loop waits for one. */
static void
tell_jail(void)
{
	struct sbuf text = { 0 };

	for (int bit = 0; jail_layer_names[bit] != NULL; bit++)
		if (jail_layers() & (1U << bit))
			sbuf_addf(&text, "%s%s", text.len > 0 ? ", " : "", jail_layer_names[bit]);
	log_info("tools that read images are confined by: %s", text.len > 0 ? text.data : "nothing");
	sbuf_done(&text);
}

static void
on_image_removed(void *arg, const char *digest)
{
	struct vmmd *vmmd = arg;

	hv_router_image_removed(vmmd->router, digest);
}

static int
build(struct vmmd *vmmd, struct err *err)
{
	int rc = make_folders(vmmd, err);

	if (rc == 0)
		rc = take_lock(vmmd, err);
	if (rc != 0)
		return rc;
	vmmd->pool = worker_pool_create(vmmd->loop, SSH_THREADS, MAX_QUEUE);
	vmmd->disk_pool = worker_pool_create(vmmd->loop, DISK_THREADS, MAX_QUEUE);
	tell_jail();
	rc = open_store(vmmd, err);
	if (rc != 0)
		return rc;
	vmmd->hv_env = xcalloc(1, sizeof(*vmmd->hv_env));
	*vmmd->hv_env = (struct hv_env){ .loop = vmmd->loop, .pool = vmmd->disk_pool,
		.launcher = vmmd->config->launcher, .accel = vmmd->config->accel, .qemu_uid = -1,
		.qemu_gid = -1, .lease_patterns = (const char *const *)vmmd->config->lease_files,
		.propolis = &vmmd->config->propolis };
	vmmd->router = hv_router_create(vmmd->hv_env);
	image_store_on_removed(vmmd->images, on_image_removed, vmmd);
	vmmd->events = events_create(vmmd);
	vmmd->operations = operations_create(vmmd);
	vmmd->vms = vms_create(vmmd);
	vmmd->privates = privates_create(vmmd);
	return adopt_load(vmmd, err);
}

int
vmmd_create(struct config *config, struct vmmd **ret_vmmd, struct err *err)
{
	struct vmmd *vmmd = xcalloc(1, sizeof(*vmmd));
	int rc;

	umask(077);
	signal(SIGPIPE, SIG_IGN);
	process_raise_fd_limit();
	vmmd->config = config;
	vmmd->lock_fd = -1;
	vmmd->started_ms = clock_wall_ms();
	vmmd->loop = loop_create();
	rc = build(vmmd, err);
	if (rc != 0) {
		vmmd->config = NULL; /* the caller's still */
		vmmd_destroy(vmmd);
		return rc;
	}
	vmmd->signals[0] = sigwatch_create(vmmd->loop, SIGTERM, on_terminate, vmmd);
	vmmd->signals[1] = sigwatch_create(vmmd->loop, SIGINT, on_terminate, vmmd);
	vmmd->signals[2] = sigwatch_create(vmmd->loop, SIGHUP, on_reload, vmmd);
	*ret_vmmd = vmmd;
	return 0;
}

bool
vmmd_run(struct vmmd *vmmd)
{
	adopt_all(vmmd, serve);
	loop_run(vmmd->loop);
	return !vmmd->failed;
}

void
vmmd_destroy(struct vmmd *vmmd)
{
	vmmd->stopping = true;
	for (size_t i = 0; i < ARRAY_LEN(vmmd->signals); i++)
		sigwatch_destroy(vmmd->signals[i]);
	timer_destroy(vmmd->stop_timer);
	/* Workers first: what they end is still told to operations and clients. */
	worker_pool_destroy(vmmd->pool);
	worker_pool_destroy(vmmd->disk_pool);
	if (vmmd->operations != NULL)
		operations_tell_shutdown(vmmd);
	server_destroy(vmmd->server);
	privates_destroy(TAKE(vmmd->privates));
	if (vmmd->vms != NULL)
		vms_destroy(vmmd->vms);
	operations_destroy(vmmd->operations);
	events_destroy(vmmd->events);
	image_store_close(vmmd->images);
	catalogue_done(&vmmd->catalogue);
	hv_router_destroy(vmmd->router);
	store_close(vmmd->store);
	free(vmmd->hv_env);
	free(vmmd->info_head);
	loop_destroy(vmmd->loop);
	if (vmmd->lock_fd >= 0)
		close(vmmd->lock_fd);
	config_destroy(vmmd->config);
	free(vmmd);
}
