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
	char *mac;
	struct strings dns, nics, ports; /* the flags --nic and --port, once for each */
	uint64_t ssh_port;
	int arch, firmware, display;
	struct file_ref kernel, initrd;
	char *cmdline, *cdrom;
	bool uefi, secure_boot, tpm, start;
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
	FIELD(struct create_args, mac,     FIELD_STRING, .min = 1, .text = "its MAC address, as in 52:54:00:12:34:56; default: one that no other machine has"),
	FIELD_NAMED("nic", struct create_args, nics, FIELD_STRINGS, .max = NICS_MAX, .text = "one of several NICs, instead of --network: user, or tap,bridge=br0,mac=52:54:00:12:34:56; may be given again"),
	FIELD_NAMED("port", struct create_args, ports, FIELD_STRINGS, .text = "network user: a port of the host that leads to the guest: 8080:80, 127.0.0.1:5353:53/udp, 0:22; may be given again"),
	FIELD(struct create_args, cloud_init, FIELD_FILE, .text = "your own cloud-init user-data"),
	FIELD(struct create_args, hostname, FIELD_STRING, .min = 1, .text = "the guest's host name; default: the machine's name"),
	FIELD(struct create_args, ssh_key, FIELD_FILE,   .text = "public key that may log in"),
	FIELD(struct create_args, user,    FIELD_STRING, .min = 1, .text = "who to log in as; default: vm"),
	FIELD(struct create_args, ssh_port, FIELD_UINT,  .min = 1, .max = UINT16_MAX, .text = "port of the guest's SSH server; default: 22"),
	FIELD(struct create_args, private_key, FIELD_FILE, .text = "private key to log in with"),
	FIELD(struct create_args, arch,    FIELD_ENUM,   .words = arch_names, .fallback = "default", .text = "the processor's architecture; default: the host's"),
	FIELD(struct create_args, firmware, FIELD_ENUM,  .words = firmware_names, .fallback = "default", .text = "what starts the guest; default: the backend's own"),
	FIELD(struct create_args, uefi,    FIELD_BOOL,   .text = "start by UEFI instead of a BIOS, as --firmware uefi"),
	FIELD(struct create_args, secure_boot, FIELD_BOOL, .text = "start by UEFI, and signed programs only"),
	FIELD(struct create_args, tpm,     FIELD_BOOL,   .text = "with a TPM 2.0"),
	FIELD(struct create_args, kernel,  FIELD_FILE,   .text = "a kernel to start instead of what is on the disk"),
	FIELD(struct create_args, initrd,  FIELD_FILE,   .text = "with --kernel: its initial RAM disk"),
	FIELD(struct create_args, cmdline, FIELD_STRING, .min = 1, .max = 2048, .text = "with --kernel: its command line"),
	FIELD(struct create_args, cdrom,   FIELD_STRING, .min = 1, .text = "an image in a CD-ROM drive: a path, https://…, oci://…, a name or a digest"),
	FIELD(struct create_args, display, FIELD_ENUM,   .words = display_names, .fallback = "none", .text = "vnc: with a screen"),
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
add_images(struct vmctl *ctl, const struct create_args *a, struct sent_files *files,
    json_object *params, struct err *err)
{
	static const struct image_flags no_flags = { 0 };
	const struct {
		const char *key, *word;
		const struct image_flags *flags;
	} rows[] = {
		{ "image", a->image != NULL ? a->image : a->image_url, &a->flags },
		{ "cdrom", a->cdrom, &no_flags },
	};
	struct images images = { 0 };
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < ARRAY_LEN(rows); i++) {
		json_object *image = NULL;

		if (rows[i].word == NULL)
			continue;
		rc = images_word(&images, files, rows[i].word, rows[i].flags, &image, err);
		if (rc == 0)
			json_object_object_add(params, rows[i].key, image);
	}
	if (rc == 0)
		rc = images_auth(ctl, &images, params, err);
	images_done(&images);
	return rc;
}

static int
add_files(struct vmctl *ctl, const struct create_args *a, struct sent_files *files,
    json_object *params, struct err *err)
{
	json_object *cloud_init = json_object_new_object(), *ssh = json_object_new_object();
	json_object *boot = json_object_new_object();
	int rc = add_images(ctl, a, files, params, err);

	if (rc == 0)
		rc = attach(files, &a->cloud_init, "user_data", cloud_init, err);
	if (rc == 0)
		rc = attach(files, &a->ssh_key, "ssh_key", cloud_init, err);
	if (rc == 0)
		rc = attach(files, &a->private_key, "private_key", ssh, err);
	if (rc == 0)
		rc = attach(files, &a->kernel, "kernel", boot, err);
	if (rc == 0)
		rc = attach(files, &a->initrd, "initrd", boot, err);
	json_add_string(boot, "cmdline", a->cmdline);
	json_add_string(cloud_init, "hostname", a->hostname);
	json_add_string(ssh, "user", a->user);
	if (a->ssh_port != 0)
		json_object_object_add(ssh, "port", json_object_new_uint64(a->ssh_port));
	add_block(params, "cloud_init", cloud_init);
	add_block(params, "ssh", ssh);
	add_block(params, "boot", boot);
	return rc;
}

/* What is said of one type of network alone says the type. */
static const char *
network_word(const struct create_args *a)
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

	json_add_string(network, "type", network_word(a));
	json_add_string(network, "bridge", a->bridge);
	json_add_string(network, "link", a->link);
	json_add_string(network, "address", a->address);
	json_add_string(network, "gateway", a->gateway);
	json_add_string(network, "mac", a->mac);
	add_strings(network, "dns", &a->dns);
	add_block(params, "network", network);
}

/* "tap,bridge=br0": a word alone is the type.  What the keys mean is the daemon's to say. */
static json_object *
nic_json(const char *text)
{
	json_object *nic = json_object_new_object();

	while (*text != '\0') {
		CLEANUP_FREE char *part = xstrndup(text, strcspn(text, ","));
		char *value = strchr(part, '=');

		if (value != NULL)
			*value++ = '\0';
		json_add_string(nic, value != NULL ? part : "type", value != NULL ? value : part);
		text += strcspn(text, ",");
		text += *text == ',';
	}
	return nic;
}

static void
add_nics(const struct create_args *a, json_object *params)
{
	json_object *list;

	if (a->nics.count == 0)
		return;
	list = json_object_new_array();
	for (size_t i = 0; i < a->nics.count; i++)
		json_object_array_add(list, nic_json(a->nics.items[i]));
	json_object_object_add(params, "networks", list);
}

static void
add_firmware(const struct create_args *a, json_object *params)
{
	json_object *firmware = json_object_new_object();
	int type = a->uefi ? FIRMWARE_UEFI : a->firmware;

	if (type != FIRMWARE_DEFAULT)
		json_add_string(firmware, "type", firmware_names[type]);
	if (a->secure_boot)
		json_add_bool(firmware, "secure_boot", true);
	if (a->tpm)
		json_add_bool(firmware, "tpm", true);
	add_block(params, "firmware", firmware);
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
	add_nics(a, params);
	add_strings(params, "ports", &a->ports);
	if (a->arch != ARCH_DEFAULT)
		json_add_string(params, "arch", arch_names[a->arch]);
	if (a->display != DISPLAY_NONE)
		json_add_string(params, "display", display_names[a->display]);
	add_firmware(a, params);
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
	if (a->uefi && a->firmware != FIRMWARE_DEFAULT && a->firmware != FIRMWARE_UEFI)
		return err_set(err, E_USAGE, "--uefi and --firmware %s contradict each other",
		    firmware_names[a->firmware]);
	if (a->kernel.kind == FILE_NONE && (a->initrd.kind != FILE_NONE || a->cmdline != NULL))
		return err_set(err, E_USAGE, "--initrd and --cmdline belong to --kernel");
	if (a->nics.count > 0 && (network_word(a) != NULL || a->mac != NULL))
		return err_set(
		    err, E_USAGE, "--nic and what belongs to --network are the same; give one");
	if (a->image != NULL && a->image_url != NULL)
		return err_set(err, E_USAGE, "--image and --image-url are the same; give one");
	if (a->image == NULL && a->image_url == NULL && a->backend != BACKEND_NOOP &&
	    a->cdrom == NULL && a->kernel.kind == FILE_NONE) {
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
		out_line(ctl, "created '%s' (%s)", a->name, json_shown(result, "id"));
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
