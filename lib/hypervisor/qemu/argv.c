/* SPDX-License-Identifier: MPL-2.0
 *
 * The command line.  Everything that carries a path or a name is JSON, so that no comma in it can
 * become an option; the few options without JSON get numbers and our own words only. */
#include <json-c/json.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/fs.h"
#include "lib/base/mem.h"
#include "lib/base/str.h"
#include "lib/hypervisor/qemu/machine.h"

#define MIB (1ULL << 20)

static void
take_word(struct strings *argv, char *word)
{
	argv->items = xreallocarray(argv->items, argv->count + 1, sizeof(*argv->items));
	argv->items[argv->count++] = word;
}

static void
add(struct strings *argv, const char *option, const char *value)
{
	take_word(argv, xstrdup(option));
	if (value != NULL)
		take_word(argv, xstrdup(value));
}

static void addf(struct strings *argv, const char *option, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

static void
addf(struct strings *argv, const char *option, const char *fmt, ...)
{
	va_list ap;

	take_word(argv, xstrdup(option));
	va_start(ap, fmt);
	take_word(argv, xvasprintf(fmt, ap));
	va_end(ap);
}

enum value_type { END, TEXT, NUMBER, TRUTH, NOTHING };

/* A new object of (key, type, value) triples; END ends them. */
static json_object *
object(const char *key, ...)
{
	json_object *doc = json_object_new_object();
	va_list ap;

	va_start(ap, key);
	while (key != NULL) {
		json_object *value = NULL;

		switch (va_arg(ap, enum value_type)) {
		case TEXT:
			value = json_object_new_string(va_arg(ap, const char *));
			break;
		case NUMBER:
			value = json_object_new_int64((int64_t)va_arg(ap, uint64_t));
			break;
		case TRUTH:
			value = json_object_new_boolean(va_arg(ap, int));
			break;
		case NOTHING:
		case END:
			break;
		}
		json_object_object_add(doc, key, value);
		key = va_arg(ap, const char *);
	}
	va_end(ap);
	return doc;
}

static void
add_json(struct strings *argv, const char *option, json_object *doc)
{
	add(argv, option,
	    json_object_to_json_string_ext(doc,
		JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(doc);
}

/* A device at its own place on the bus: the guest's names for it do not depend on the others. */
static void
add_device(struct strings *argv, const char *driver, const char *id, const char *addr,
    json_object *more)
{
	json_object *doc = object("driver", TEXT, driver, "id", TEXT, id, NULL);

	if (addr != NULL)
		json_object_object_add(doc, "addr", json_object_new_string(addr));
	if (more != NULL) {
		json_object_object_foreach(more, key, value)
			json_object_object_add(doc, key, json_object_get(value));
		json_object_put(more);
	}
	add_json(argv, "-device", doc);
}

static void
add_fdset(struct strings *argv, int fd, int set)
{
	addf(argv, "-add-fd", "fd=%d,set=%d", fd, set);
}

static void
add_machine(struct strings *argv, const struct qemu_plan *plan)
{
	const struct vm_spec *spec = plan->config->spec;
	uint64_t memory_mib = (spec->memory_bytes + MIB - 1) / MIB;
	bool smm = plan->firmware != NULL && plan->firmware->smm;
	bool kvm = str_eq(plan->accel, "kvm");

	addf(argv, "-name", "%s", spec->name);
	addf(argv, "-uuid", "%s", plan->config->uuid);
	add_json(argv, "-object",
	    object("qom-type", TEXT, "memory-backend-ram", "id", TEXT, "ram0", "size", NUMBER,
		memory_mib * MIB, NULL));
	addf(argv, "-machine", "%s,memory-backend=ram0%s%s%s", plan->arch->machine,
	    plan->arch->machine_options, smm ? ",smm=on" : "",
	    plan->firmware != NULL ? ",pflash0=firmware,pflash1=variables" : "");
	/* Else the guest's kernel could write what only its firmware may. */
	if (smm)
		add(argv, "-global", "driver=cfi.pflash01,property=secure,value=on");
	/* The default translation buffer is a third of a small machine's memory. */
	add(argv, "-accel", kvm ? "kvm" : "tcg,thread=multi,tb-size=128");
	add(argv, "-cpu", plan->arch->processor[kvm ? QEMU_BY_KVM : QEMU_BY_TCG]);
	addf(argv, "-smp", "%llu", (unsigned long long)spec->vcpus);
	addf(argv, "-m", "%lluM", (unsigned long long)memory_mib);
}

/* A path in an option that is no JSON: there a comma is written twice. */
static char *
option_path(const char *path)
{
	struct sbuf text = { 0 };

	for (; *path != '\0'; path++) {
		if (*path == ',')
			sbuf_addc(&text, ',');
		sbuf_addc(&text, *path);
	}
	return sbuf_take(&text);
}

/* A file can not block the guest, whoever reads it; input comes by chardev-change, which a device
 * that is part of the machine does not stand.  That one has a pipe, and a log of its output. */
static void
add_console(struct strings *argv, const struct qemu_plan *plan)
{
	CLEANUP_FREE char *path = qemu_serial_path(plan->config), *pipe = option_path(path);

	add_fdset(argv, QEMU_FD_CONSOLE_LOG, QEMU_SET_CONSOLE_LOG);
	add_fdset(argv, QEMU_FD_CONSOLE_IN, QEMU_SET_CONSOLE_IN);
	if (plan->arch->console == NULL) {
		addf(argv, "-chardev", "pipe,id=console0,path=%s,logfile=/dev/fdset/%d,logappend=on",
		    pipe, QEMU_SET_CONSOLE_LOG);
		add(argv, "-serial", "chardev:console0");
		return;
	}
	addf(argv, "-chardev", "file,id=console0,path=/dev/fdset/%d,append=on",
	    QEMU_SET_CONSOLE_LOG);
	add_device(argv, plan->arch->console, "serial0", NULL,
	    object("chardev", TEXT, "console0", NULL));
}

static void
add_channels(struct strings *argv)
{
	addf(argv, "-chardev", "socket,id=monitor0,fd=%d,server=on,wait=off", QEMU_FD_MONITOR);
	add(argv, "-mon", "chardev=monitor0,mode=control");
	addf(argv, "-chardev", "socket,id=agent0,fd=%d,server=on,wait=off", QEMU_FD_AGENT);
	add_device(argv, "virtio-serial-pci", "channels", "0x5", NULL);
	add_device(argv, "virtserialport", "agent", NULL,
	    object("bus", TEXT, "channels.0", "chardev", TEXT, "agent0", "name", TEXT,
		"org.qemu.guest_agent.0", NULL));
}

static void
add_file_node(struct strings *argv, const char *node, const char *path, bool read_only)
{
	json_object *doc = object("driver", TEXT, "file", "node-name", TEXT, node, "filename", TEXT,
	    path, "locking", TEXT, "on", "read-only", TRUTH, read_only, NULL);

	if (!read_only)
		json_object_object_add(doc, "discard", json_object_new_string("unmap"));
	add_json(argv, "-blockdev", doc);
}

static void
add_fdset_node(struct strings *argv, const char *node, int set)
{
	CLEANUP_FREE char *path = xasprintf("/dev/fdset/%d", set);

	add_file_node(argv, node, path, true);
}

/* The whole graph is given: what a header says about other files is never followed. */
static void
add_disk(struct strings *argv, const struct qemu_plan *plan)
{
	CLEANUP_FREE char *path = fs_join(plan->config->dir, "disk.qcow2");
	const struct qemu_disk *disk = plan->disk;
	json_object *overlay = object("driver", TEXT, "qcow2", "node-name", TEXT, "disk", "file", TEXT,
	    "disk-file", "discard", TEXT, "unmap", NULL);

	if (disk->base_path != NULL) {
		json_object *base = object("driver", TEXT, disk->base_format, "node-name", TEXT,
		    "image", "file", TEXT, "image-file", "read-only", TRUTH, true, NULL);

		if (str_eq(disk->base_format, "qcow2"))
			json_object_object_add(base, "backing", NULL);
		add_fdset(argv, QEMU_FD_IMAGE, QEMU_SET_IMAGE);
		add_fdset_node(argv, "image-file", QEMU_SET_IMAGE);
		add_json(argv, "-blockdev", base);
		json_object_object_add(overlay, "backing", json_object_new_string("image"));
	} else {
		json_object_object_add(overlay, "backing", NULL);
	}
	add_file_node(argv, "disk-file", path, false);
	add_json(argv, "-blockdev", overlay);
	add_device(argv, "virtio-blk-pci", "root", "0x2",
	    object("drive", TEXT, "disk", "bootindex", NUMBER, (uint64_t)1, "werror", TEXT, "enospc",
		"rerror", TEXT, "report", NULL));
}

/* A node of a file that came open. */
static void
add_read_only(struct strings *argv, const char *node, const char *format, int fd, int set)
{
	CLEANUP_FREE char *file = xasprintf("%s-file", node);

	add_fdset(argv, fd, set);
	add_fdset_node(argv, file, set);
	add_json(argv, "-blockdev",
	    object("driver", TEXT, format, "node-name", TEXT, node, "file", TEXT, file,
		"read-only", TRUTH, true, NULL));
}

static void
add_drives(struct strings *argv, const struct qemu_plan *plan)
{
	add_device(argv, "virtio-scsi-pci", "scsi0", "0x4", NULL);
	if (plan->seed) {
		add_read_only(argv, "seed", "raw", QEMU_FD_SEED, QEMU_SET_SEED);
		add_device(argv, "scsi-cd", "cdrom", NULL,
		    object("bus", TEXT, "scsi0.0", "drive", TEXT, "seed", NULL));
		add(argv, "-smbios", "type=1,serial=ds=nocloud");
	}
	/* After the disk: what was installed from it starts, once there is something. */
	if (plan->config->cdrom_path != NULL) {
		add_read_only(argv, "installer", "raw", QEMU_FD_CDROM, QEMU_SET_CDROM);
		add_device(argv, "scsi-cd", "installer-drive", NULL,
		    object("bus", TEXT, "scsi0.0", "drive", TEXT, "installer", "bootindex", NUMBER,
			(uint64_t)2, NULL));
	}
}

static void
add_firmware(struct strings *argv, const struct qemu_plan *plan)
{
	CLEANUP_FREE char *vars = fs_join(plan->config->dir, "efivars.fd");

	if (plan->firmware == NULL)
		return;
	add_read_only(argv, "firmware", plan->firmware->code_format, QEMU_FD_FIRMWARE,
	    QEMU_SET_FIRMWARE);
	add_file_node(argv, "variables-file", vars, false);
	add_json(argv, "-blockdev",
	    object("driver", TEXT, plan->firmware->vars_format, "node-name", TEXT, "variables",
		"file", TEXT, "variables-file", NULL));
}

static void
add_boot(struct strings *argv, const struct qemu_plan *plan)
{
	const struct boot_spec *boot = &plan->config->spec->boot;
	CLEANUP_FREE char *kernel = fs_join(plan->config->dir, "kernel");
	CLEANUP_FREE char *initrd = fs_join(plan->config->dir, "initrd");

	if (boot->kernel.kind == FILE_NONE)
		return;
	add(argv, "-kernel", kernel);
	if (boot->initrd.kind != FILE_NONE)
		add(argv, "-initrd", initrd);
	if (boot->cmdline != NULL)
		add(argv, "-append", boot->cmdline);
}

static void
add_tpm(struct strings *argv, const struct qemu_plan *plan)
{
	if (!plan->config->spec->firmware.tpm)
		return;
	addf(argv, "-chardev", "socket,id=tpm-process,fd=%d", QEMU_FD_TPM);
	add(argv, "-tpmdev", "emulator,id=tpm0,chardev=tpm-process");
	add_device(argv, plan->arch->tpm, "tpm", NULL, object("tpmdev", TEXT, "tpm0", NULL));
}

/* A screen needs somebody who draws on it, and hands. */
static void
add_display(struct strings *argv, const struct qemu_plan *plan)
{
	CLEANUP_FREE char *path = qemu_display_path(plan->config), *socket = option_path(path);

	if (plan->config->spec->display == DISPLAY_NONE)
		return;
	addf(argv, "-vnc", "unix:%s", socket);
	add_device(argv, plan->arch->display, "screen", "0x8", NULL);
	add_device(argv, "qemu-xhci", "usb", "0x9", NULL);
	add_device(argv, "usb-tablet", "tablet", NULL, object("bus", TEXT, "usb.0", NULL));
	if (plan->arch->keyboard != NULL)
		add_device(argv, plan->arch->keyboard, "keyboard", NULL,
		    object("bus", TEXT, "usb.0", NULL));
}

static json_object *
user_netdev(const struct qemu_plan *plan, const char *id)
{
	const struct strings *ports = &plan->config->spec->ports;
	struct port port = { .host = "127.0.0.1",
		.guest_port = vm_spec_ssh_port(plan->config->spec) };
	json_object *netdev = object("type", TEXT, "user", "id", TEXT, id, NULL);
	json_object *forwards = json_object_new_array();
	char rule[PORT_TEXT_MAX];

	/* Port 0: the kernel chooses a free one, and nobody else can have it meanwhile. */
	json_object_array_add(forwards, object("str", TEXT, forward_rule(&port, rule), NULL));
	for (size_t i = 0; i < ports->count; i++)
		if (port_parse(ports->items[i], &port, NULL) == 0)
			json_object_array_add(forwards,
			    object("str", TEXT, forward_rule(&port, rule), NULL));
	json_object_object_add(netdev, "hostfwd", forwards);
	return netdev;
}

/* The launcher made it, and it is on its bridge. */
static json_object *
tap_netdev(const struct qemu_plan *plan, const char *id, size_t index)
{
	CLEANUP_FREE char *fd = xasprintf("%d", QEMU_FD_TAP + 2 * (int)index);
	CLEANUP_FREE char *vhost = xasprintf("%d", QEMU_FD_TAP + 2 * (int)index + 1);
	json_object *netdev = object("type", TEXT, "tap", "id", TEXT, id, "fd", TEXT, fd, NULL);

	if (plan->vhost) {
		json_object_object_add(netdev, "vhost", json_object_new_boolean(true));
		json_object_object_add(netdev, "vhostfd", json_object_new_string(vhost));
	}
	return netdev;
}

/* A port of a private network's switch: it may come and go while the machine runs. */
static json_object *
private_netdev(const struct hv_nic *nic, const char *id)
{
	json_object *netdev = object("type", TEXT, "dgram", "id", TEXT, id, NULL);

	json_object_object_add(netdev, "local",
	    object("type", TEXT, "unix", "path", TEXT, nic->local_path, NULL));
	json_object_object_add(netdev, "remote",
	    object("type", TEXT, "unix", "path", TEXT, nic->remote_path, NULL));
	return netdev;
}

static void
add_nic(struct strings *argv, const struct qemu_plan *plan, size_t index)
{
	const struct hv_nic *nic = &plan->config->nics[index];
	CLEANUP_FREE char *id = xasprintf("net%zu", index), *device = xasprintf("nic%zu", index);
	CLEANUP_FREE char *address = index == 0 ? xstrdup("0x3") : xasprintf("0x%zx", 0x10 + index);

	switch (network_type(vm_spec_nic(plan->config->spec, index))) {
	case NETWORK_TAP:
		add_json(argv, "-netdev", tap_netdev(plan, id, index));
		break;
	case NETWORK_PRIVATE:
		add_json(argv, "-netdev", private_netdev(nic, id));
		break;
	default: /* the backend takes no others */
		add_json(argv, "-netdev", user_netdev(plan, id));
	}
	add_device(argv, "virtio-net-pci", device, address,
	    object("netdev", TEXT, id, "mac", TEXT, nic->mac, "romfile", TEXT, "", NULL));
}

static void
add_small_devices(struct strings *argv, const struct qemu_plan *plan)
{
	add_json(argv, "-object", object("qom-type", TEXT, "rng-builtin", "id", TEXT, "random", NULL));
	add_device(argv, "virtio-rng-pci", "rng0", "0x6", object("rng", TEXT, "random", NULL));
	add_device(argv, "virtio-balloon-pci", "balloon0", "0x7", NULL);
	if (plan->arch->generation != NULL)
		add_device(argv, plan->arch->generation, "generation", NULL,
		    object("guid", TEXT, plan->config->uuid, NULL));
	add_device(argv, plan->arch->panic, "panic", NULL, NULL);
}

void
qemu_argv_build(const struct qemu_plan *plan, struct strings *ret_argv)
{
	struct strings argv = { 0 };

	take_word(&argv, xstrdup(plan->program));
	add(&argv, "-nodefaults", NULL);
	add(&argv, "-no-user-config", NULL);
	add(&argv, "-sandbox",
	    "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny");
	add(&argv, "-display", "none");
	/* What happens while nobody looks stays to be seen. */
	add(&argv, "-S", NULL);
	add(&argv, "-no-shutdown", NULL);
	add(&argv, "-action", "panic=pause");
	add_machine(&argv, plan);
	add_firmware(&argv, plan);
	add_boot(&argv, plan);
	add_console(&argv, plan);
	add_channels(&argv);
	add_disk(&argv, plan);
	add_drives(&argv, plan);
	for (size_t i = 0; i < vm_spec_nic_count(plan->config->spec); i++)
		add_nic(&argv, plan, i);
	add_small_devices(&argv, plan);
	add_tpm(&argv, plan);
	add_display(&argv, plan);
	*ret_argv = argv;
}
