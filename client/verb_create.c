/* SPDX-License-Identifier: MPL-2.0 */
#include <json-c/json.h>
#include <string.h>

#include "client/call.h"
#include "client/files.h"
#include "client/image.h"
#include "client/json.h"
#include "client/out.h"
#include "client/verbs.h"
#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"

/* Machines without a VMFile: flags for what vm.create takes, files given to the daemon open. */

struct create_args {
	char *name;
	int backend;
	char *image, *image_url;
	struct image_flags flags;
	struct file_ref cloud_init, ssh_key, private_key;
	uint64_t vcpus, memory_bytes, disk_bytes;
	char *network, *bridge, *link, *address, *gateway, *hostname, *user;
	struct strings dns, ports; /* the flag --port, once for each */
	uint64_t ssh_port;
	bool uefi, start;
};

/* clang-format off */
static const struct field create_fields[] = {
	FIELD(struct create_args, name,    FIELD_STRING, .min = 1, .text = "the machine's name"),
	FIELD(struct create_args, image,   FIELD_STRING, .min = 1, .text = "the disk image to start from: a path, https://…, oci://…, a name or a digest"),
	FIELD(struct create_args, image_url, FIELD_STRING, .min = 1, .text = "the same, as the former vmctl called it"),
	IMAGE_FLAG_ROWS(struct create_args),
	FIELD(struct create_args, backend, FIELD_ENUM,   .words = backend_names, .fallback = "default", .text = "the hypervisor, instead of the platform's own"),
	FIELD(struct create_args, vcpus,   FIELD_UINT,   .min = 1, .max = 255, .fallback = "1", .text = "virtual processors"),
	FIELD_NAMED("memory", struct create_args, memory_bytes, FIELD_SIZE, .unit = 1ULL << 20, .fallback = "1024", .text = "memory; a bare number is MiB"),
	FIELD_NAMED("disk", struct create_args, disk_bytes, FIELD_SIZE, .unit = 1ULL << 30, .text = "size of the disk; a bare number is GiB; default: the image's"),
	FIELD(struct create_args, network, FIELD_STRING, .text = "user, none, tap or vnic; default: user, or vnic where there is no user"),
	FIELD(struct create_args, bridge,  FIELD_STRING, .min = 1, .text = "connect to this bridge of the host"),
	FIELD(struct create_args, link,    FIELD_STRING, .min = 1, .text = "vnic: the host's link that it is over; default: the daemon's"),
	FIELD(struct create_args, address, FIELD_STRING, .min = 1, .text = "vnic: the guest's own address, as in 192.0.2.10/24; default: by DHCP"),
	FIELD(struct create_args, gateway, FIELD_STRING, .min = 1, .text = "vnic with an address: the router"),
	FIELD(struct create_args, dns,     FIELD_STRINGS, .text = "vnic with an address: a name server; may be given again"),
	FIELD_NAMED("port", struct create_args, ports, FIELD_STRINGS, .text = "network user: a port of the host that leads to the guest: 8080:80, 127.0.0.1:5353:53/udp, 0:22; may be given again"),
	FIELD(struct create_args, cloud_init, FIELD_FILE, .text = "your own cloud-init user-data"),
	FIELD(struct create_args, hostname, FIELD_STRING, .min = 1, .text = "the guest's host name; default: the machine's name"),
	FIELD(struct create_args, ssh_key, FIELD_FILE,   .text = "public key that may log in"),
	FIELD(struct create_args, user,    FIELD_STRING, .min = 1, .text = "who to log in as; default: vm"),
	FIELD(struct create_args, ssh_port, FIELD_UINT,  .min = 1, .max = UINT16_MAX, .text = "port of the guest's SSH server; default: 22"),
	FIELD(struct create_args, private_key, FIELD_FILE, .text = "private key to log in with"),
	FIELD(struct create_args, uefi,    FIELD_BOOL,   .text = "start by UEFI instead of a BIOS"),
	FIELD(struct create_args, start,   FIELD_BOOL,   .text = "start it at once"),
	FIELD_END
};
/* clang-format on */

/* The words of the command line become the machine that a VMFile would describe. */
static int
attach(struct sent_files *files, const struct file_ref *file, const char *key, json_object *into,
    struct err *err)
{
	CLEANUP_FREE char *path = NULL;
	json_object *json = NULL;
	int rc;

	if (file->kind == FILE_NONE)
		return 0;
	path = fs_expand(file->path, NULL);
	rc = files_attach(files, path, &json, err);
	if (rc != 0)
		return err->code = E_USAGE;
	json_object_object_add(into, key, json);
	return 0;
}

static void
add_block(json_object *params, const char *key, json_object *block)
{
	if (json_object_object_length(block) > 0)
		json_object_object_add(params, key, block);
	else
		json_object_put(block);
}

static void
add_size(json_object *params, const char *key, uint64_t bytes)
{
	CLEANUP_FREE char *text = xasprintf("%lluB", (unsigned long long)bytes);

	if (bytes > 0)
		json_add_string(params, key, text);
}

static int
add_image(struct vmctl *ctl, const struct create_args *a, struct sent_files *files,
    json_object *params, struct err *err)
{
	const char *word = a->image != NULL ? a->image : a->image_url;
	struct images images = { 0 };
	json_object *image = NULL;
	int rc;

	if (word == NULL)
		return 0;
	rc = images_word(&images, files, word, &a->flags, &image, err);
	if (rc == 0) {
		json_object_object_add(params, "image", image);
		rc = images_auth(ctl, &images, params, err);
	}
	images_done(&images);
	return rc;
}

static int
add_files(struct vmctl *ctl, const struct create_args *a, struct sent_files *files,
    json_object *params, struct err *err)
{
	json_object *cloud_init = json_object_new_object(), *ssh = json_object_new_object();
	int rc = add_image(ctl, a, files, params, err);

	if (rc == 0)
		rc = attach(files, &a->cloud_init, "user_data", cloud_init, err);
	if (rc == 0)
		rc = attach(files, &a->ssh_key, "ssh_key", cloud_init, err);
	if (rc == 0)
		rc = attach(files, &a->private_key, "private_key", ssh, err);
	json_add_string(cloud_init, "hostname", a->hostname);
	json_add_string(ssh, "user", a->user);
	if (a->ssh_port != 0)
		json_object_object_add(ssh, "port", json_object_new_uint64(a->ssh_port));
	add_block(params, "cloud_init", cloud_init);
	add_block(params, "ssh", ssh);
	return rc;
}

/* What is said of one type of network alone says the type. */
static const char *
network_type(const struct create_args *a)
{
	if (a->network != NULL)
		return a->network;
	if (a->bridge != NULL)
		return network_names[NETWORK_TAP];
	if (a->link != NULL || a->address != NULL || a->gateway != NULL || a->dns.count > 0)
		return network_names[NETWORK_VNIC];
	return NULL;
}

static void
add_strings(json_object *into, const char *key, const struct strings *list)
{
	json_object *array;

	if (list->count == 0)
		return;
	array = json_object_new_array();
	for (size_t i = 0; i < list->count; i++)
		json_object_array_add(array, json_object_new_string(list->items[i]));
	json_object_object_add(into, key, array);
}

static void
add_network(const struct create_args *a, json_object *params)
{
	json_object *network = json_object_new_object();

	json_add_string(network, "type", network_type(a));
	json_add_string(network, "bridge", a->bridge);
	json_add_string(network, "link", a->link);
	json_add_string(network, "address", a->address);
	json_add_string(network, "gateway", a->gateway);
	add_strings(network, "dns", &a->dns);
	add_block(params, "network", network);
}

static void
add_words(const struct create_args *a, json_object *params)
{

	json_add_string(params, "name", a->name);
	if (a->backend != BACKEND_DEFAULT)
		json_add_string(params, "backend", backend_names[a->backend]);
	json_object_object_add(params, "vcpus", json_object_new_uint64(a->vcpus));
	add_size(params, "memory", a->memory_bytes);
	add_size(params, "disk", a->disk_bytes);
	add_network(a, params);
	add_strings(params, "ports", &a->ports);
	if (a->uefi)
		json_add_string(params, "firmware", firmware_names[FIRMWARE_UEFI]);
	if (a->start)
		json_object_object_add(params, "start", json_object_new_boolean(true));
}

static int
check(const struct create_args *a, struct err *err)
{
	struct err problem = ERR_INIT;

	if (a->name == NULL) {
		err_set(err, E_USAGE, "--name is missing");
		err_hint(err, "'vmctl help create' tells what it takes");
		return E_USAGE;
	}
	if (str_name_check(a->name, &problem) != 0) {
		*err = problem;
		return err->code = E_USAGE;
	}
	if (a->image != NULL && a->image_url != NULL)
		return err_set(err, E_USAGE, "--image and --image-url are the same; give one");
	if (a->image == NULL && a->image_url == NULL && a->backend != BACKEND_NOOP) {
		err_set(err, E_USAGE, "--image is missing");
		err_hint(err, "give the path of a disk image, its URL, or a name of "
			      "'vmctl image catalogue'");
		return E_USAGE;
	}
	return 0;
}

static int
run_create(struct vmctl *ctl, void *args, struct err *err)
{
	const struct create_args *a = args;
	struct call call = { .method = METHOD_vm_create, .progress = true };
	struct sent_files files = { 0 };
	struct json_object *result = NULL;
	int rc = check(a, err);

	if (rc != 0)
		return rc;
	call.params = json_object_new_object();
	add_words(a, call.params);
	rc = add_files(ctl, a, &files, call.params, err);
	if (rc == 0) {
		call.fds = files.fds;
		call.fd_count = files.fd_count;
		rc = call_run(ctl, &call, &result, err);
	} else {
		json_object_put(call.params);
	}
	if (rc == 0) {
		out_json(ctl, result);
		out_line(ctl, "created '%s' (%s)", a->name, json_string(result, "id"));
		if (a->start)
			out_line(ctl, "started '%s'", a->name);
	}
	files_done(&files);
	json_object_put(result);
	return rc;
}

const struct verb verb_create = {
	.name = "create",
	.fields = create_fields,
	.args_size = sizeof(struct create_args),
	.positionals = (const struct positional[]){ { "name", "NAME", true, false }, { 0 } },
	.method = METHOD_vm_create,
	.run = run_create,
};
