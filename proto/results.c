/* SPDX-License-Identifier: MPL-2.0 */
#include "proto/results.h"

static const char *const state_words[] = { "preparing", "prepared", "starting", "running",
	"suspended", "stopping", "stopped", "failed", "destroyed", NULL };
static const char *const wanted_words[] = { "down", "up", NULL };
static const char *const address_source_words[] = { "agent", "lease", "neighbour", NULL };
static const char *const host_key_words[] = { "injected", "learnt", NULL };
static const char *const cloud_init_words[] = { "running", "done", "degraded", "error", "disabled",
	"absent", NULL };
static const char *const provision_words[] = { "none", "pending", "running", "done", "failed",
	"interrupted", NULL };
static const char *const operation_words[] = { "running", "done", "failed", "cancelled",
	"interrupted", NULL };
static const char *const mode_words[] = { "user", "system", NULL };

/* clang-format off */
#define ROW(key, kind, words, ...) { .name = key, .type = RESULT_##kind, .text = words, __VA_ARGS__ }
#define MAYBE .maybe = true
#define END { .name = NULL }

static const char *const switch_words[] = { "up", "down", NULL };
static const struct result_row network_rows[] = {
	ROW("type",   STRING, "how the machine is connected", .words = network_names),
	ROW("bridge", STRING, "tap: the host's bridge", MAYBE),
	ROW("tap",     STRING, "while it runs: the host's end of it", MAYBE),
	ROW("switch", STRING, "private, while the machine runs: does the network's switch work?", .words = switch_words, MAYBE),
	ROW("mac",    STRING, "the NIC's address", MAYBE),
	ROW("name",   STRING, "private: the network's name; vnic: what the VNIC is called", MAYBE),
	ROW("link",   STRING, "vnic: the host's link that it is over", MAYBE),
	ROW("subnet", STRING, "private: the network's addresses", MAYBE),
	ROW("address", STRING, "vnic, private: the guest's own address", MAYBE),
	ROW("gateway", STRING, "vnic: the router", MAYBE),
	ROW("dns", STRINGS, "vnic: name servers", MAYBE),
	END
};
static const struct result_row port_rows[] = {
	ROW("host",       STRING,  "address of the host that it listens on"),
	ROW("host_port",  INTEGER, "port of the host; absent: the kernel chooses one at the start", MAYBE),
	ROW("guest_port", INTEGER, "port of the guest"),
	ROW("protocol",   STRING,  "what is forwarded", .words = port_protocol_names),
	ROW("active",     BOOLEAN, "it is there now; while a machine runs, host_port is the real one"),
	ROW("ssh",        BOOLEAN, "the one that every machine has, for SSH", MAYBE),
	END
};
static const struct result_row image_name_rows[] = {
	ROW("digest", STRING, "of the image in the store"),
	ROW("name",   STRING, "what the person called it", MAYBE),
	ROW("url",    STRING, "what was asked for: a URL, oci://…, a name", MAYBE),
	ROW("source", STRING, "where it came from, in full", MAYBE),
	END
};
static const struct result_row ssh_rows[] = {
	ROW("host",      STRING,  "where its SSH port is reached from here", MAYBE),
	ROW("port",      INTEGER, "the port there", MAYBE),
	ROW("address_source", STRING, "an address that was found: by the guest's agent, a DHCP lease, or the neighbour table", MAYBE, .words = address_source_words),
	ROW("user",      STRING,  "who to log in as"),
	ROW("reachable", BOOLEAN, "a login has worked since the start"),
	ROW("host_key",  STRING,  "injected by us, or learnt at the first login", MAYBE, .words = host_key_words),
	END
};
static const struct result_row provision_rows[] = {
	ROW("state", STRING,  "how far it is", .words = provision_words),
	ROW("steps", INTEGER, "how many there are"),
	ROW("done",  INTEGER, "once-steps that are done on this disk"),
	ROW("error", STRING,  "why the last one failed", MAYBE),
	END
};
static const struct result_row phase_rows[] = {
	ROW("name", STRING,  "the phase"),
	ROW("ms",   INTEGER, "how long it took, in milliseconds"),
	END
};
static const struct result_row operation_brief_rows[] = {
	ROW("id",    STRING, "for operation.wait and operation.cancel"),
	ROW("kind",  STRING, "what it does"),
	ROW("phase", STRING, "where it is"),
	END
};
static const struct result_row firmware_rows[] = {
	ROW("type",        STRING,  "default, bios, uefi or none", .words = firmware_names),
	ROW("secure_boot", BOOLEAN, "it starts signed programs only"),
	ROW("tpm",         BOOLEAN, "there is a TPM"),
	END
};
#define VM_ROWS \
	ROW("name",         STRING,  "the machine's name"), \
	ROW("id",           STRING,  "the machine's id; never used again"), \
	ROW("uuid",         STRING,  "as the guest sees it"), \
	ROW("backend",      STRING,  "the hypervisor", .words = backend_names), \
	ROW("state",        STRING,  "what it is doing", .words = state_words), \
	ROW("reason",       STRING,  "why it is in that state", MAYBE, .null = true), \
	ROW("responsive",   BOOLEAN, "false: its hypervisor does not answer, the state is the last known"), \
	ROW("wanted",       STRING,  "what was asked of it last", .words = wanted_words), \
	ROW("vcpus",        INTEGER, "virtual processors"), \
	ROW("memory_mib",   INTEGER, "memory, in MiB"), \
	ROW("disk_bytes",   INTEGER, "size of its disk, in bytes; 0: it has none"), \
	ROW("network",      OBJECT,  "its first NIC, or type none", .rows = network_rows), \
	ROW("networks",     OBJECTS, "its NICs", .rows = network_rows), \
	ROW("ports",        OBJECTS, "network user: ports of the host that lead to it", .rows = port_rows), \
	ROW("mac",          STRING,  "its first NIC's address", MAYBE), \
	ROW("pid",          INTEGER, "of its hypervisor's process", MAYBE), \
	ROW("accel",        STRING,  "how its processors are run", MAYBE), \
	ROW("arch",         STRING,  "the processor's architecture", MAYBE, .words = arch_names + 1), \
	ROW("firmware",     OBJECT,  "what starts it", .rows = firmware_rows), \
	ROW("machine_type", STRING,  "the hypervisor's machine type; pinned", MAYBE), \
	ROW("vnc",          STRING,  "where its screen is served by VNC: address:port, or a path", MAYBE), \
	ROW("owner_uid",    INTEGER, "whose it is"), \
	ROW("project",      STRING,  "real path of the VMFile that it belongs to", MAYBE), \
	ROW("image",        OBJECT,  "what its disk stands on", MAYBE, .rows = image_name_rows), \
	ROW("cdrom",        OBJECT,  "what is in its CD-ROM drive", MAYBE, .rows = image_name_rows), \
	ROW("ssh",          OBJECT,  "how to log in", .rows = ssh_rows), \
	ROW("cloud_init",   STRING,  "how cloud-init ended in the guest", MAYBE, .words = cloud_init_words), \
	ROW("provision",    OBJECT,  "its provision steps", .rows = provision_rows), \
	ROW("created",      TIME,    "when it was made"), \
	ROW("started",      TIME,    "when it was last started", MAYBE), \
	ROW("changed",      TIME,    "when its state last changed"), \
	ROW("phases",       OBJECTS, "how long the phases of its last start took", .rows = phase_rows), \
	ROW("operation",    OBJECT,  "what is being done to it", MAYBE, .rows = operation_brief_rows), \
	ROW("work_dir",     STRING,  "its folder"), \
	ROW("overlay",      STRING,  "its disk's file", MAYBE), \
	ROW("seed",         STRING,  "its cloud-init seed", MAYBE)

static const struct result_row vm_rows[] = { VM_ROWS, END };
static const struct result_row vm_screenshot_rows[] = {
	ROW("name",   STRING,  "the machine's name"),
	ROW("format", STRING,  "png"),
	ROW("bytes",  INTEGER, "size of the picture"),
	ROW("base64", STRING,  "the picture"),
	END
};
static const struct result_row stopped_rows[] = {
	VM_ROWS,
	ROW("how",     STRING,  "how it was stopped: graceful, terminated, killed, was not running"),
	ROW("by",      STRING,  "what did it: power button, ssh, or the hypervisor's word", MAYBE),
	ROW("took_ms", INTEGER, "how long that took, in milliseconds", MAYBE),
	END
};
static const struct result_row vm_list_rows[] = {
	ROW("vms", OBJECTS, "the machines that the caller may see, by name", .rows = vm_rows),
	END
};
static const struct result_row vm_destroy_rows[] = {
	ROW("name",  STRING, "the machine's name; free again"),
	ROW("id",    STRING, "the machine's id"),
	ROW("state", STRING, "destroyed", .words = state_words),
	END
};
static const struct result_row vm_ports_rows[] = {
	ROW("name",  STRING,  "the machine's name"),
	ROW("ports", OBJECTS, "its forwards", .rows = port_rows),
	END
};
static const struct result_row vm_provision_rows[] = {
	ROW("name",  STRING,  "the machine's name"),
	ROW("ran",   INTEGER, "how many steps were run"),
	ROW("steps", INTEGER, "how many there are"),
	END
};
static const struct result_row vm_ssh_info_rows[] = {
	ROW("name",             STRING,  "the machine's name"),
	ROW("id",               STRING,  "the machine's id"),
	ROW("host",             STRING,  "where its SSH port is reached from here"),
	ROW("port",             INTEGER, "the port there"),
	ROW("user",             STRING,  "who to log in as"),
	ROW("host_key",         STRING,  "the pinned host key, as a line of known_hosts has it", MAYBE),
	ROW("reachable",        BOOLEAN, "a login has worked since the start"),
	ROW("private_key_path", STRING,  "the private key's file", MAYBE),
	ROW("private_key",      STRING,  "the private key itself", MAYBE),
	END
};
static const struct result_row named_rows[] = {
	ROW("name", STRING, "the machine's name"),
	END
};
static const struct result_row vm_log_rows[] = {
	ROW("name",   STRING,  "the machine's name"),
	ROW("source", STRING,  "which log", .words = log_source_names),
	ROW("path",   STRING,  "the log's file", MAYBE),
	ROW("exists", BOOLEAN, "there is such a log", MAYBE),
	ROW("cut",    BOOLEAN, "there was more before", MAYBE),
	ROW("text",   STRING,  "the log, when it is text", MAYBE),
	ROW("base64", STRING,  "the log, when it is not", MAYBE),
	END
};
static const struct result_row error_rows[] = {
	ROW("name",    STRING,  "stable name of the error"),
	ROW("code",    INTEGER, "the error's JSON-RPC code"),
	ROW("message", STRING,  "what failed"),
	ROW("hint",    STRING,  "what can be done", MAYBE),
	END
};
#define OPERATION_ROWS \
	ROW("id",        STRING,  "the operation's id"), \
	ROW("kind",      STRING,  "what it does"), \
	ROW("phase",     STRING,  "where it is, or was last"), \
	ROW("state",     STRING,  "how it goes", .words = operation_words), \
	ROW("vm",        STRING,  "its machine's name", MAYBE), \
	ROW("vm_id",     STRING,  "its machine's id", MAYBE), \
	ROW("owner_uid", INTEGER, "who asked for it"), \
	ROW("started",   TIME,    "when it began"), \
	ROW("parent",    STRING,  "the operation that it is a part of", MAYBE), \
	ROW("phases",    OBJECTS, "how long its phases took", .rows = phase_rows), \
	ROW("ended",     TIME,    "when it ended", MAYBE), \
	ROW("ended_ms",  INTEGER, "when it ended, in milliseconds since 1970", MAYBE), \
	ROW("error",     OBJECT,  "why it failed", MAYBE, .rows = error_rows), \
	ROW("result",    ANY,     "what its method answers", MAYBE)

static const struct result_row operation_rows[] = { OPERATION_ROWS, END };
static const struct result_row operation_cancel_rows[] = {
	OPERATION_ROWS,
	ROW("cancelling", BOOLEAN, "it will end soon", MAYBE),
	END
};
static const struct result_row operation_list_rows[] = {
	ROW("operations", OBJECTS, "the operations that the caller may see", .rows = operation_rows),
	END
};
#define IMAGE_ROWS \
	ROW("name",          STRING,  "what it was called", MAYBE), \
	ROW("names",         STRINGS, "the names that the caller can use for it"), \
	ROW("digest",        STRING,  "hash of its content"), \
	ROW("format",        STRING,  "of its file"), \
	ROW("virtual_bytes", INTEGER, "size of the disk in it"), \
	ROW("file_bytes",    INTEGER, "size of its file"), \
	ROW("disk_bytes",    INTEGER, "what its file takes on the host's disk"), \
	ROW("path",          STRING,  "its file in the store"), \
	ROW("source",        STRING,  "where it came from", MAYBE), \
	ROW("created",       TIME,    "when it was taken into the store"), \
	ROW("used_by",       STRINGS, "the caller's machines that stand on it"), \
	ROW("users",         INTEGER, "how many machines stand on it, of all users")
static const struct result_row image_rows[] = { IMAGE_ROWS, END };
static const struct result_row image_list_rows[] = {
	ROW("images", OBJECTS, "the images that the caller may use", .rows = image_rows),
	END
};
static const struct result_row reference_rows[] = {
	ROW("name",          STRING, "what points at it"),
	ROW("fetched",       BOOLEAN, "it can be asked again; else a name that somebody gave"),
	ROW("source",        STRING, "where it was at last", MAYBE),
	ROW("etag",          STRING, "validator of the body", MAYBE),
	ROW("last_modified", STRING, "validator of the body", MAYBE),
	ROW("body_digest",   STRING, "of the bytes as they came", MAYBE),
	ROW("changed",       TIME,   "since when it points there", MAYBE),
	ROW("checked",       TIME,   "when it was asked last", MAYBE),
	END
};
static const struct result_row image_inspect_rows[] = {
	IMAGE_ROWS,
	ROW("references", OBJECTS, "what points at it", .rows = reference_rows),
	END
};
static const struct result_row image_rm_rows[] = {
	ROW("digest",   STRING,  "of the image that is gone, or has lost the name"),
	ROW("untagged", BOOLEAN, "only the name went: others point at the image"),
	ROW("bytes",    INTEGER, "what that freed on the host's disk"),
	END
};
static const struct result_row image_prune_rows[] = {
	ROW("images", OBJECTS, "what was removed", .rows = image_rows),
	ROW("parts",  INTEGER, "how many transfers that had broken off"),
	ROW("bytes",  INTEGER, "what that freed on the host's disk"),
	END
};
static const struct result_row image_pull_rows[] = {
	ROW("image",             OBJECT,  "the image", .rows = image_rows),
	ROW("source",            STRING,  "where it came from, in full", MAYBE),
	ROW("transferred_bytes", INTEGER, "what was transferred for it"),
	ROW("known",             BOOLEAN, "it was in the store before"),
	ROW("note",              STRING,  "why what was known had to do", MAYBE),
	END
};
static const struct result_row image_push_rows[] = {
	ROW("image",     OBJECT,  "the image", .rows = image_rows),
	ROW("reference", STRING,  "where it is now, in full"),
	ROW("digest",    STRING,  "of its manifest"),
	ROW("uploaded",  BOOLEAN, "false: it was there"),
	END
};
static const struct result_row image_export_rows[] = {
	ROW("digest", STRING,  "of the image"),
	ROW("format", STRING,  "of the file"),
	ROW("bytes",  INTEGER, "size of the file"),
	END
};
static const struct result_row verified_rows[] = {
	ROW("digest",  STRING,  "of the image"),
	ROW("name",    STRING,  "what it was called", MAYBE),
	ROW("ok",      BOOLEAN, "it is what its digest says"),
	ROW("message", STRING,  "what is wrong", MAYBE),
	END
};
static const struct result_row image_verify_rows[] = {
	ROW("images", OBJECTS, "what was checked", .rows = verified_rows),
	END
};
static const struct result_row image_commit_rows[] = {
	ROW("image",   OBJECT,  "the image", .rows = image_rows),
	ROW("removed", STRINGS, "what was removed from the guest's disk"),
	END
};
static const struct result_row catalogue_rows[] = {
	ROW("name",         STRING,  "as in name:version"),
	ROW("version",      STRING,  "as in name:version"),
	ROW("aliases",      STRINGS, "other versions that mean the same"),
	ROW("architecture", STRING,  "for which processors"),
	ROW("url",          STRING,  "where the image is"),
	ROW("checksums",    STRING,  "where its checksums are", MAYBE),
	ROW("sha256",       STRING,  "what it must be", MAYBE),
	ROW("sha512",       STRING,  "what it must be", MAYBE),
	ROW("format",       STRING,  "of the image", MAYBE),
	ROW("user",         STRING,  "who logs in by default", MAYBE),
	ROW("firmware",     STRING,  "what starts it", .words = firmware_names + 1),
	ROW("file",         STRING,  "where the entry stands"),
	END
};
static const struct result_row image_catalogue_rows[] = {
	ROW("entries",      OBJECTS, "what there is", .rows = catalogue_rows),
	ROW("architecture", STRING,  "of this host"),
	END
};
static const struct result_row change_rows[] = {
	ROW("field", STRING, "what differs from the VMFile"),
	ROW("from",  STRING, "how it is", MAYBE),
	ROW("to",    STRING, "how the VMFile has it", MAYBE),
	ROW("when",  STRING, "what makes it so: now, next start, reload"),
	END
};
static const struct result_row plan_vm_rows[] = {
	ROW("name",    STRING,  "the machine's name"),
	ROW("action",  STRING,  "what would be done: create, start, provision, ports, changed or none"),
	ROW("state",   STRING,  "its state; absent: there is none yet", MAYBE, .words = state_words),
	ROW("changes", OBJECTS, "what differs", .rows = change_rows),
	ROW("warnings", STRINGS, "what will be in its way when it starts", MAYBE),
	END
};
static const struct result_row file_plan_rows[] = {
	ROW("vms",     OBJECTS, "the machines of the VMFile", .rows = plan_vm_rows),
	ROW("orphans", STRINGS, "machines of the project that are no longer in the VMFile"),
	ROW("work",    BOOLEAN, "there is something to do"),
	ROW("project", STRING,  "real path of the VMFile"),
	END
};
static const struct result_row file_vm_rows[] = {
	ROW("name",    STRING,  "the machine's name"),
	ROW("action",  STRING,  "what was done"),
	ROW("state",   STRING,  "its state now", .words = state_words),
	ROW("changed", OBJECTS, "what differs from the VMFile and was left", MAYBE, .rows = change_rows),
	ROW("error",   OBJECT,  "why it failed", MAYBE, .rows = error_rows),
	ROW("phases",  OBJECTS, "how long its phases took", MAYBE, .rows = phase_rows),
	END
};
static const struct result_row file_rows[] = {
	ROW("vms",     OBJECTS, "the machines of the VMFile", .rows = file_vm_rows),
	ROW("orphans", STRINGS, "machines of the project that are no longer in the VMFile"),
	ROW("project", STRING,  "real path of the VMFile"),
	END
};
static const struct result_row hello_rows[] = {
	ROW("protocol", INTEGER, "the protocol version to speak"),
	ROW("server",   STRING,  "vmmd"),
	ROW("version",  STRING,  "of the daemon"),
	ROW("pid",      INTEGER, "of the daemon"),
	END
};
static const struct result_row paths_rows[] = {
	ROW("socket",  STRING, "where it listens", MAYBE),
	ROW("data",    STRING, "what must last"),
	ROW("runtime", STRING, "what may go with a reboot"),
	END
};
static const struct result_row host_rows[] = {
	ROW("system",     STRING,  "of the host"),
	ROW("release",    STRING,  "of the host's system"),
	ROW("machine",    STRING,  "of the host"),
	ROW("cpus",       INTEGER, "processors"),
	ROW("memory_mib", INTEGER, "memory, in MiB"),
	END
};
static const struct result_row backend_detail_rows[] = {
	ROW("program",      STRING,  "what is run", MAYBE),
	ROW("machine_type", STRING,  "of machines that start now", MAYBE),
	ROW("architectures", STRINGS, "for which there is an emulator", MAYBE),
	ROW("accel",        STRING,  "the accelerator, once it was chosen", MAYBE),
	ROW("accel_reason", STRING,  "why it is not kvm", MAYBE),
	ROW("landlock",     INTEGER, "the version of Landlock that confines machines; 0: none", MAYBE),
	ROW("own_user",     BOOLEAN, "machines run as a user of their own", MAYBE),
	ROW("api_version",  STRING,  "propolis: what it asks propolis-server for", MAYBE),
	ROW("dataset",      STRING,  "propolis: where images and machines are", MAYBE),
	ROW("zone_dir",     STRING,  "propolis: the folder of the machines' zones", MAYBE),
	ROW("control_network", STRING, "propolis: how the zones are reached", MAYBE),
	END
};
static const struct result_row backend_rows[] = {
	ROW("name",         STRING,  "for the parameter backend", .words = backend_names),
	ROW("available",    BOOLEAN, "it can be used here"),
	ROW("default",      BOOLEAN, "it is taken when none is named"),
	ROW("why_not",      STRING,  "why it can not be used", MAYBE),
	ROW("capabilities", STRINGS, "what its machines can do"),
	ROW("lacks",        STRINGS, "what they can not; empty too when it is not available"),
	ROW("details",      OBJECT,  "how it runs them", MAYBE, .rows = backend_detail_rows),
	END
};
static const struct result_row info_rows[] = {
	ROW("version",     STRING,  "of the daemon"),
	ROW("protocol",    INTEGER, "the newest protocol version that it speaks"),
	ROW("pid",         INTEGER, "of the daemon"),
	ROW("mode",        STRING,  "for one user, or for the system", .words = mode_words),
	ROW("started",     TIME,    "when it was started"),
	ROW("machines",    INTEGER, "how many there are"),
	ROW("connections", INTEGER, "how many clients are connected"),
	ROW("last_event",  INTEGER, "number of the last event"),
	ROW("accel",       STRING,  "the accelerator that is asked for", MAYBE),
	ROW("paths",       OBJECT,  "its folders", .rows = paths_rows),
	ROW("host",        OBJECT,  "where it runs", .rows = host_rows),
	ROW("backends",    OBJECTS, "the hypervisors", .rows = backend_rows),
	ROW("jail",        STRINGS, "what confines tools that read images: landlock, netns, seccomp, "
				    "limits, on illumos privileges; the others are missing here"),
	END
};
static const struct result_row shutdown_rows[] = {
	ROW("pid", INTEGER, "of the daemon that ends"),
	END
};
static const struct result_row legacy_rows[] = {
	ROW("name",       STRING,  "the machine's name there"),
	ROW("new_name",   STRING,  "its name here", MAYBE),
	ROW("backend",    STRING,  "the hypervisor", .words = backend_names),
	ROW("vcpus",      INTEGER, "virtual processors"),
	ROW("memory_mib", INTEGER, "memory, in MiB"),
	ROW("disk_bytes", INTEGER, "size of its disk; 0: its image's"),
	ROW("network",    ANY,     "its network"),
	ROW("mac",        STRING,  "its network card's address", MAYBE),
	ROW("uefi",       BOOLEAN, "its firmware is UEFI, whose variables are kept where they fit"),
	ROW("overlay",    STRING,  "its disk's file", MAYBE),
	ROW("running",    BOOLEAN, "it runs now, and can not be taken over"),
	ROW("problems",   STRINGS, "why it can not be taken over"),
	ROW("notes",      STRINGS, "what changes when it is taken over"),
	END
};
static const struct result_row import_rows[] = {
	ROW("vms", OBJECTS, "the machines of the former vmctl", .rows = legacy_rows),
	END
};
static const struct result_row subscribe_rows[] = {
	ROW("seq", INTEGER, "number of the last event"),
	ROW("gap", BOOLEAN, "events that were asked for are no longer kept"),
	END
};

static const struct result_row event_rows[] = {
	ROW("seq",       INTEGER, "the event's number"),
	ROW("time",      TIME,    "when it happened", MAYBE),
	ROW("kind",      STRING,  "what happened; lagged: events up to seq were left out"),
	ROW("vm",        STRING,  "the machine's name", MAYBE),
	ROW("vm_id",     STRING,  "the machine's id", MAYBE),
	ROW("owner_uid", INTEGER, "whose machine it is", MAYBE),
	ROW("data",      ANY,     "more of it, by kind", MAYBE),
	END
};
static const struct result_row progress_rows[] = {
	ROW("operation",  STRING,  "the operation's id"),
	ROW("vm",         STRING,  "its machine", MAYBE),
	ROW("phase",      STRING,  "the phase"),
	ROW("state",      STRING,  "what is told of it"),
	ROW("elapsed_ms", INTEGER, "since the operation began, in milliseconds"),
	ROW("phase_ms",   INTEGER, "since the phase began, in milliseconds", MAYBE),
	ROW("done",       INTEGER, "of total", MAYBE),
	ROW("total",      INTEGER, "all there is to do; 0: not known", MAYBE),
	ROW("unit",       STRING,  "of done and total", MAYBE),
	ROW("message",    STRING,  "for people", MAYBE),
	ROW("stream",     STRING,  "which output of a step data is from", MAYBE),
	ROW("data",       STRING,  "output of a step", MAYBE),
	END
};

#define SHAPE(id, shape, table, words) [METHOD_##id] = { shape, table, words }

const struct result_shape method_results[METHODS] = {
	SHAPE(event_subscribe,      NULL,        subscribe_rows,        "then come notifications of the method event"),
	SHAPE(file_down,            "file",      file_rows,             "what was done"),
	SHAPE(file_plan,            NULL,        file_plan_rows,        "what would be done"),
	SHAPE(file_reload,          "file",      file_rows,             "what was done"),
	SHAPE(file_up,              "file",      file_rows,             "what was done"),
	SHAPE(image_catalogue,      NULL,        image_catalogue_rows,  "the entries"),
	SHAPE(image_commit,         NULL,        image_commit_rows,     "the image"),
	SHAPE(image_export,         NULL,        image_export_rows,     "what was written"),
	SHAPE(image_import,         NULL,        image_pull_rows,       "the image"),
	SHAPE(image_inspect,        NULL,        image_inspect_rows,    "the image"),
	SHAPE(image_list,           NULL,        image_list_rows,       "the images"),
	SHAPE(image_prune,          NULL,        image_prune_rows,      "what was removed"),
	SHAPE(image_pull,           NULL,        image_pull_rows,       "the image"),
	SHAPE(image_push,           NULL,        image_push_rows,       "where it is"),
	SHAPE(image_rm,             NULL,        image_rm_rows,         "what was removed"),
	SHAPE(image_tag,            "image",     image_rows,            "the image"),
	SHAPE(image_verify,         NULL,        image_verify_rows,     "the images"),
	SHAPE(operation_cancel,     NULL,        operation_cancel_rows, "the operation"),
	SHAPE(operation_get,        "operation", operation_rows,        "the operation"),
	SHAPE(operation_list,       NULL,        operation_list_rows,   "the operations"),
	SHAPE(operation_wait,       "operation", operation_rows,        "the operation, once it has ended"),
	SHAPE(rpc_discover,         NULL,        NULL,                  "this document"),
	SHAPE(system_hello,         NULL,        hello_rows,            "what will be spoken"),
	SHAPE(system_import_legacy, NULL,        import_rows,           "the machines"),
	SHAPE(system_info,          NULL,        info_rows,             "the daemon"),
	SHAPE(system_shutdown,      NULL,        shutdown_rows,         "it ends after this answer"),
	SHAPE(vm_console,           NULL,        named_rows,            "then the connection carries the console's bytes, both ways"),
	SHAPE(vm_create,            "vm",        vm_rows,               "the machine"),
	SHAPE(vm_destroy,           NULL,        vm_destroy_rows,       "what was removed"),
	SHAPE(vm_exec,              NULL,        named_rows,            "then the connection carries frames: input, output and the end of the command"),
	SHAPE(vm_get,               "vm",        vm_rows,               "the machine"),
	SHAPE(vm_list,              NULL,        vm_list_rows,          "the machines"),
	SHAPE(vm_log,               NULL,        vm_log_rows,           "the log; with follow, the connection then carries it in frames"),
	SHAPE(vm_port_add,          "ports",     vm_ports_rows,         "the machine's forwards, as they are now"),
	SHAPE(vm_port_list,         "ports",     vm_ports_rows,         "the machine's forwards"),
	SHAPE(vm_port_remove,       "ports",     vm_ports_rows,         "the machine's forwards, as they are now"),
	SHAPE(vm_provision,         NULL,        vm_provision_rows,     "what was run"),
	SHAPE(vm_resume,            "vm",        vm_rows,               "the machine"),
	SHAPE(vm_screenshot,        NULL,        vm_screenshot_rows,    "what the screen shows"),
	SHAPE(vm_ssh_info,          NULL,        vm_ssh_info_rows,      "how to log in"),
	SHAPE(vm_start,             "vm",        vm_rows,               "the machine, running"),
	SHAPE(vm_stop,              NULL,        stopped_rows,          "the machine, stopped"),
	SHAPE(vm_suspend,           "vm",        vm_rows,               "the machine"),
	SHAPE(vm_wait,              "vm",        vm_rows,               "the machine, as it was waited for"),
};

const struct notification notifications[] = {
	{ "event", "something happened; after event.subscribe", event_rows },
	{ "operation.progress", "how a call goes; with the parameter progress, before its answer", progress_rows },
	{ NULL, NULL, NULL }
};
/* clang-format on */
