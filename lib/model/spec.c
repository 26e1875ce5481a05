/* SPDX-License-Identifier: MPL-2.0 */
#include "lib/model/spec.h"

#include <json-c/json.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/model/network.h"

const char *const backend_names[] = { "default", "qemu", "propolis", "noop", NULL };
const char *const network_names[] = { "default", "user", "none", "tap", "vnic", "private",
	NULL };
const char *const firmware_names[] = { "default", "bios", "uefi", "none", NULL };
const char *const arch_names[] = { "default", "x86_64", "aarch64", NULL };
const char *const arch_catalogue_names[ARCHS] = { "", "amd64", "arm64" };
const char *const display_names[] = { "none", "vnc", NULL };
const char *const run_when_names[] = { "once", "always", NULL };

enum arch
arch_host(void)
{
	struct utsname name;

	if (uname(&name) == 0)
		for (int i = ARCH_DEFAULT + 1; i < ARCHS; i++)
			if (str_eq(arch_names[i], name.machine))
				return (enum arch)i;
	return ARCH_X86_64;
}

#define DAY_MS (24ULL * 3600 * 1000)

/* clang-format off */
const struct field vm_network_fields[] = {
	FIELD(struct network_spec, type,    FIELD_ENUM,    .words = network_names, .fallback = "default", .text = "how it is connected; default: as its other keys say, else user, or vnic where there is no user"),
	FIELD(struct network_spec, bridge,  FIELD_STRING,  .min = 1, .max = 15, .text = "tap: the host's bridge"),
	FIELD(struct network_spec, name,    FIELD_STRING,  .min = 1, .max = 31, .text = "private: the network's name; vnic: what the VNIC is called, default: made from the machine's id"),
	FIELD(struct network_spec, link,    FIELD_STRING,  .min = 1, .max = 31, .text = "vnic: the host's link that it is over; default: vnic_link of vmmd.yaml"),
	FIELD(struct network_spec, mac,     FIELD_STRING,  .min = 17, .max = 17, .text = "its MAC address, as in 52:54:00:12:34:56; default: one that no other machine has"),
	FIELD(struct network_spec, subnet,  FIELD_STRING,  .min = 1, .max = 64, .text = "private: the network's addresses, as in 10.66.0.0/24; a VMFile says it at its top"),
	FIELD(struct network_spec, address, FIELD_STRING,  .min = 1, .max = 64, .text = "vnic, private: the guest's own address, as in 192.0.2.10/24; default: by DHCP, or a free one of the private network"),
	FIELD(struct network_spec, gateway, FIELD_STRING,  .min = 1, .max = 45, .text = "vnic with an address: the router"),
	FIELD(struct network_spec, dns,     FIELD_STRINGS, .max = 8, .text = "vnic with an address: name servers"),
	FIELD(struct network_spec, hosts,   FIELD_STRINGS, .max = 256, .text = "private: whom the guest shall know by name, besides the machines of the file: 10.66.0.50 printer"),
	FIELD_END
};

const struct field vm_image_fields[] = {
#include "lib/model/image_rows.def"
	FIELD_END
};

const struct field vm_firmware_fields[] = {
	FIELD(struct firmware_spec, type,        FIELD_ENUM, .words = firmware_names, .fallback = "default", .text = "what starts the guest; default: the backend's own for the architecture, and uefi with secure-boot"),
	FIELD(struct firmware_spec, secure_boot, FIELD_BOOL, .text = "uefi: start signed programs only"),
	FIELD(struct firmware_spec, tpm,         FIELD_BOOL, .text = "with a TPM 2.0, which keeps its state with the machine"),
	FIELD_END
};

const struct field vm_boot_fields[] = {
	FIELD(struct boot_spec, kernel,  FIELD_FILE,   .required = true, .text = "the kernel to start"),
	FIELD(struct boot_spec, initrd,  FIELD_FILE,   .text = "its initial RAM disk"),
	FIELD(struct boot_spec, cmdline, FIELD_STRING, .min = 1, .max = 2048, .text = "its command line"),
	FIELD_END
};

const struct field vm_cloud_init_fields[] = {
	FIELD(struct cloud_init_spec, hostname,  FIELD_STRING, .min = 1, .max = 253, .text = "the guest's host name; default: the machine's name"),
	FIELD(struct cloud_init_spec, ssh_key,   FIELD_FILE,   .text = "public key that may log in"),
	FIELD(struct cloud_init_spec, user_data, FIELD_FILE,   .text = "your own cloud-init user-data"),
	FIELD_END
};

const struct field vm_ssh_fields[] = {
	FIELD(struct ssh_spec, user,        FIELD_STRING, .min = 1, .max = 64, .text = "who to log in as; default: vm"),
	FIELD(struct ssh_spec, port,        FIELD_UINT,   .min = 1, .max = UINT16_MAX, .fallback = "22", .text = "of the guest's SSH server"),
	FIELD(struct ssh_spec, private_key, FIELD_FILE,   .secret = true, .text = "private key to log in with; default: one made for the machine"),
	FIELD_END
};

static const struct field shell_fields[] = {
	FIELD_NAMED("inline", struct shell_step, run_inline, FIELD_STRING, .min = 1, .max = 1 << 20, .text = "commands for the login shell"),
	FIELD(struct shell_step, script,     FIELD_FILE, .text = "a script to copy and run"),
	FIELD(struct shell_step, env,        FIELD_ENV,  .text = "environment variables"),
	FIELD(struct shell_step, run,        FIELD_ENUM, .words = run_when_names, .fallback = "once", .text = "once for a disk and content, or always"),
	FIELD(struct shell_step, as,         FIELD_STRING, .min = 1, .max = 64, .text = "the user to run as, by sudo; default: the SSH user"),
	FIELD_NAMED("timeout", struct shell_step, timeout_ms, FIELD_DURATION, .min = 1, .max = 7 * DAY_MS, .fallback = "1h", .text = "how long the step may take"),
	FIELD_END
};

static const struct field file_fields[] = {
	FIELD(struct file_step, source,      FIELD_FILE,   .required = true, .text = "the file on this side"),
	FIELD(struct file_step, destination, FIELD_STRING, .required = true, .min = 1, .text = "its path in the guest"),
	FIELD(struct file_step, mode,        FIELD_STRING, .min = 3, .max = 5, .fallback = "0644", .text = "permission bits, octal, in quotes"),
	FIELD(struct file_step, owner,       FIELD_STRING, .min = 1, .max = 129, .text = "user or user:group; default: the SSH user"),
	FIELD(struct file_step, run,         FIELD_ENUM,   .words = run_when_names, .fallback = "once", .text = "once for a disk and content, or always"),
	FIELD_NAMED("timeout", struct file_step, timeout_ms, FIELD_DURATION, .min = 1, .max = 7 * DAY_MS, .fallback = "1h", .text = "how long the step may take"),
	FIELD_END
};

const struct field provision_step_fields[] = {
	FIELD(struct provision_step, shell, FIELD_OBJECT, .fields = shell_fields, .shorthand = "inline", .text = "run a command or a script"),
	FIELD(struct provision_step, file,  FIELD_OBJECT, .fields = file_fields, .text = "copy a file into the guest"),
	FIELD_END
};

const struct field vm_spec_fields[] = {
#include "lib/model/spec_rows.def"
	FIELD_END
};
/* clang-format on */

static bool
hex_digits(const char *text, size_t len)
{
	return text == NULL || (strlen(text) == len && strspn(text, "0123456789abcdef") == len);
}

static int
image_problem(struct err *err, const char *key, const char *field, const char *text,
    const char *hint)
{
	CLEANUP_FREE char *object = xasprintf("%s.%s", key, field);

	err_set(err, E_PARAMS, "%s", text);
	if (hint != NULL)
		err_hint(err, "%s", hint);
	err_object(err, object);
	return E_PARAMS;
}

int
image_spec_check(const struct image_spec *image, const char *key, struct err *err)
{
	bool file = image->file.kind != FILE_NONE;

	if (!image->present)
		return 0;
	if (file && image->url != NULL)
		return image_problem(err, key, "url", "can not stand beside a file", "give one of them");
	if (!file && image->url == NULL && image->digest == NULL)
		return image_problem(err, key, "url", "is missing", "say where the image is");
	if (!hex_digits(image->sha256, 64) || !hex_digits(image->sha512, 128))
		return image_problem(err, key, hex_digits(image->sha256, 64) ? "sha512" : "sha256",
		    "is not a digest", "write its hex digits, in lower case");
	if (image->digest != NULL &&
	    (!str_starts(image->digest, "sha256:") || !hex_digits(image->digest + 7, 64)))
		return image_problem(err, key, "digest", "is not sha256: and 64 hex digits", NULL);
	if (image->format != NULL && !str_eq(image->format, "qcow2") && !str_eq(image->format, "raw"))
		return image_problem(err, key, "format", "is neither qcow2 nor raw",
		    "convert others with qemu-img");
	if (file && image->checksums != NULL)
		return image_problem(err, key, "checksums", "belongs to a URL", "use sha256 or sha512");
	return 0;
}

const char *
image_spec_shown(const struct image_spec *image)
{
	if (image->name != NULL)
		return image->name;
	if (image->url != NULL)
		return image->url;
	if (image->file.kind == FILE_NONE && image->digest != NULL)
		return image->digest;
	return file_ref_shown(&image->file);
}

struct checker {
	const struct field_options *options;
	const char *prefix;
	size_t problems;
};

static void
report(struct checker *c, const char *path, const char *text, const char *hint)
{
	CLEANUP_FREE char *full = c->prefix[0] != '\0' ? xasprintf("%s.%s", c->prefix, path)
						       : xstrdup(path);
	struct err err = ERR_INIT;

	err_set(&err, E_PARAMS, "%s", text);
	if (hint != NULL)
		err_hint(&err, "%s", hint);
	err_object(&err, full);
	c->problems++;
	if (c->options->on_problem != NULL)
		c->options->on_problem(c->options->arg, full, &err);
}

static bool
octal_mode(const char *mode)
{
	return strspn(mode, "01234567") == strlen(mode) && strlen(mode) <= 4;
}

static void
check_step(struct checker *c, const struct provision_step *step, size_t index)
{
	CLEANUP_FREE char *path = xasprintf("provision[%zu]", index);

	if (step->shell.present == step->file.present) {
		report(c, path, "needs exactly one of shell and file", NULL);
		return;
	}
	if (step->shell.present &&
	    (step->shell.run_inline != NULL) == (step->shell.script.kind != FILE_NONE)) {
		CLEANUP_FREE char *shell = xasprintf("%s.shell", path);

		report(c, shell, "needs exactly one of inline and script", NULL);
	}
	if (step->file.present && step->file.mode != NULL && !octal_mode(step->file.mode)) {
		CLEANUP_FREE char *mode = xasprintf("%s.file.mode", path);

		report(c, mode, "is not an octal mode", "write it in quotes, such as \"0640\"");
	}
}

static void
check_firmware(struct checker *c, const struct firmware_spec *firmware)
{
	const char *key = c->options->kebab ? "firmware.secure-boot" : "firmware.secure_boot";

	if (firmware->secure_boot &&
	    (firmware->type == FIRMWARE_BIOS || firmware->type == FIRMWARE_NONE))
		report(c, key, "needs the firmware uefi", "no other checks signatures");
}

static void
on_network_problem(void *arg, const char *path, const char *text, const char *hint)
{
	report(arg, path, text, hint);
}

/* What nothing says becomes one where the backend has it. */
static bool
may_have_user_network(const struct vm_spec *spec)
{
	for (size_t i = 0; i < vm_spec_nic_count(spec); i++) {
		enum network_type type = network_type(vm_spec_nic(spec, i));

		if (type == NETWORK_USER || type == NETWORK_DEFAULT)
			return true;
	}
	return false;
}

static void
check_ports(struct checker *c, const struct vm_spec *spec)
{
	struct err err = ERR_INIT;
	size_t index = 0;

	if (spec->ports.count > 0 && !may_have_user_network(spec))
		report(c, "ports", "belong to network type user",
		    "a guest on a network of its own is reached by its address");
	else if (ports_check(&spec->ports, &index, &err) != 0) {
		CLEANUP_FREE char *path = xasprintf("ports[%zu]", index);

		report(c, path, err.msg, err.hint[0] != '\0' ? err.hint : NULL);
	}
}

size_t
vm_spec_check(const struct vm_spec *spec, const char *prefix, const struct field_options *options)
{
	struct checker c = { .options = options, .prefix = prefix };
	const char *host = spec->cloud_init.hostname;
	struct err err = ERR_INIT;

	if (image_spec_check(&spec->image, "image", &err) != 0)
		report(&c, err.object, err.msg, err.hint[0] != '\0' ? err.hint : NULL);
	if (image_spec_check(&spec->cdrom, "cdrom", &err) != 0)
		report(&c, err.object, err.msg, err.hint[0] != '\0' ? err.hint : NULL);
	check_firmware(&c, &spec->firmware);
	if (spec->firmware.type == FIRMWARE_NONE && !spec->boot.present)
		report(&c, "firmware", "can not be none without a kernel to boot",
		    "name the kernel with boot.kernel");
	if (!spec->image.present && !vm_spec_needs_image(spec) && spec->backend != BACKEND_NOOP &&
	    spec->disk_bytes == 0)
		report(&c, "disk", "is missing", "without an image the disk is empty and needs a size");
	networks_check(spec, on_network_problem, &c);
	check_ports(&c, spec);
	if (host != NULL && !host_name_valid(host))
		report(&c, options->kebab ? "cloud-init.hostname" : "cloud_init.hostname",
		    "is not a host name", "use letters, digits, '-' and '.'");
	for (size_t i = 0; i < spec->provision.count; i++)
		check_step(&c, vm_spec_step(spec, i), i);
	return c.problems;
}

static void
keep_first(void *arg, const char *path, const struct err *problem)
{
	struct err *first = arg;

	if (first->code != E_OK)
		return;
	*first = *problem;
	err_wrap(first, "%s", path);
}

int
vm_spec_check_one(const struct vm_spec *spec, const char *prefix, struct err *err)
{
	struct err first = ERR_INIT;
	struct field_options options = { .on_problem = keep_first, .arg = &first };

	if (vm_spec_check(spec, prefix, &options) == 0)
		return 0;
	if (err != NULL)
		*err = first;
	return E_PARAMS;
}

int
vm_spec_each_file(struct vm_spec *spec, vm_spec_file_fn *fn, void *arg)
{
	struct provision_step *steps = spec->provision.items;
	struct {
		struct file_ref *file;
		const char *what;
	} fixed[] = {
		{ &spec->cloud_init.ssh_key, "ssh-key" },
		{ &spec->cloud_init.user_data, "user-data" },
		{ &spec->ssh.private_key, "private-key" },
		{ &spec->boot.kernel, "kernel" },
		{ &spec->boot.initrd, "initrd" },
	};
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < ARRAY_LEN(fixed); i++)
		if (fixed[i].file->kind != FILE_NONE)
			rc = fn(arg, fixed[i].file, fixed[i].what);
	for (size_t i = 0; rc == 0 && i < spec->provision.count; i++) {
		if (steps[i].shell.script.kind != FILE_NONE)
			rc = fn(arg, &steps[i].shell.script, "script");
		if (rc == 0 && steps[i].file.source.kind != FILE_NONE)
			rc = fn(arg, &steps[i].file.source, "source");
	}
	return rc;
}

void
vm_spec_copy(struct vm_spec *ret_copy, const struct vm_spec *spec)
{
	json_object *json = fields_encode(vm_spec_fields, spec);

	memset(ret_copy, 0, sizeof(*ret_copy));
	if (fields_decode_one(vm_spec_fields, json, ret_copy, NULL) != 0)
		abort(); /* what was checked once reads back */
	ret_copy->present = true;
	json_object_put(json);
}

void
vm_spec_release(struct vm_spec *spec)
{
	fields_release(vm_spec_fields, spec);
}

const struct provision_step *
vm_spec_step(const struct vm_spec *spec, size_t index)
{
	return (const struct provision_step *)spec->provision.items + index;
}

static bool
is_none(const struct network_spec *network)
{
	return network->present && network->type == NETWORK_NONE;
}

size_t
vm_spec_nic_count(const struct vm_spec *spec)
{
	const struct network_spec *list = spec->networks.items;

	if (spec->networks.count > 0)
		return spec->networks.count == 1 && is_none(list) ? 0 : spec->networks.count;
	return is_none(&spec->network) ? 0 : 1;
}

const struct network_spec *
vm_spec_nic(const struct vm_spec *spec, size_t index)
{
	static const struct network_spec user = { .type = NETWORK_USER };

	if (spec->networks.count > 0)
		return (const struct network_spec *)spec->networks.items + index;
	return spec->network.present ? &spec->network : &user;
}

enum network_type
network_type(const struct network_spec *network)
{
	if (network->type != NETWORK_DEFAULT)
		return (enum network_type)network->type;
	if (network->bridge != NULL)
		return NETWORK_TAP;
	if (network->link != NULL)
		return NETWORK_VNIC;
	return network->name != NULL ? NETWORK_PRIVATE : NETWORK_DEFAULT;
}

const struct network_spec *
vm_spec_login_nic(const struct vm_spec *spec, size_t *ret_index)
{
	const struct network_spec *found = NULL;

	for (size_t i = 0; i < vm_spec_nic_count(spec); i++) {
		const struct network_spec *nic = vm_spec_nic(spec, i);
		enum network_type type = network_type(nic);

		if (type == NETWORK_PRIVATE || (found != NULL && type != NETWORK_USER))
			continue;
		found = nic;
		if (ret_index != NULL)
			*ret_index = i;
		if (type == NETWORK_USER)
			break;
	}
	return found;
}

bool
vm_spec_has_user_network(const struct vm_spec *spec)
{
	const struct network_spec *nic = vm_spec_login_nic(spec, NULL);

	return nic != NULL && nic->type == NETWORK_USER;
}

bool
vm_spec_needs_image(const struct vm_spec *spec)
{
	return spec->backend != BACKEND_NOOP && !spec->cdrom.present && !spec->boot.present;
}

const char *
vm_spec_user(const struct vm_spec *spec)
{
	return spec->ssh.user != NULL ? spec->ssh.user : "vm";
}

uint16_t
vm_spec_ssh_port(const struct vm_spec *spec)
{
	return spec->ssh.port != 0 ? (uint16_t)spec->ssh.port : 22;
}
