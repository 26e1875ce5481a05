# SPDX-License-Identifier: MPL-2.0
"""What a propolis-server takes for a request's body: every field, of every version.

`parse` gives what json.loads gives, but remembers members that came twice.  `ensure_request` and
the others return the value as the server understands it, or raise Bad (400).  `build` looks at the
things that a machine is made of and raises Unfit (the ensure fails with 500).
"""

import base64
import binascii
import errno
import json
import os
import re
import uuid

MAX_CPUS = 32
SMBIOS_SINCE = (2, 0, 0)
VIRTIO_SOCKET_SINCE = (3, 0, 0)
# What the chipset itself has on bus 0: (device, function).
CHIPSET_PATHS = {(0, 0), (1, 0), (1, 3)}
DISKS = ("virtio_disk", "nvme_disk")
STORAGE = ("file_storage_backend", "blob_storage_backend", "crucible_storage_backend")
NETWORK = ("virtio_network_backend", "dlpi_network_backend")
# Known by name, but not to a server that is built for production.
NOT_BUILT_IN = ("soft_npu_pci_port", "soft_npu_port", "soft_npu_p9", "p9fs",
                "migration_failure_injector")
UUID_FORMS = re.compile(r"(urn:uuid:)?[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}|"
                        r"\{[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\}", re.IGNORECASE)


class Bad(Exception):
    """The request is wrong in itself."""


class Unfit(Exception):
    """It can be read, but no machine comes of it."""


class Members(dict):
    def __init__(self, pairs):
        super().__init__(pairs)
        names = [name for name, _ in pairs]
        self.twice = {name for name in names if names.count(name) > 1} if len(self) < len(
            names) else set()


def refuse_constant(word):
    raise Bad(f"{word} is not JSON")


def parse(text):
    try:
        return json.loads(text, object_pairs_hook=Members, parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        raise Bad(f"unable to parse JSON body: {error}") from None


def uint(bits, least=0):
    def check(value, where):
        if not isinstance(value, int) or isinstance(value, bool):
            raise Bad(f"{where}: invalid type: {value!r:.60}, expected u{bits}")
        if not least <= value < 1 << bits:
            raise Bad(f"{where}: invalid value: {value}, expected u{bits}")
        return value
    return check


def text(value, where):
    if not isinstance(value, str):
        raise Bad(f"{where}: invalid type: {value!r:.60}, expected a string")
    return value


def flag(value, where):
    if not isinstance(value, bool):
        raise Bad(f"{where}: invalid type: {value!r:.60}, expected a boolean")
    return value


def uuid_text(value, where):
    if not UUID_FORMS.fullmatch(text(value, where)):
        raise Bad(f"{where}: UUID parsing failed: {value!r:.60}")
    return str(uuid.UUID(value))


def key(value, where):
    """What looks like a UUID is one, in whatever spelling; everything else is a name."""
    return str(uuid.UUID(value)) if UUID_FORMS.fullmatch(text(value, where)) else value


def word(*words):
    def check(value, where):
        if text(value, where) not in words:
            raise Bad(f"{where}: unknown variant `{value}`, expected one of {', '.join(words)}")
        return value
    return check


def nullable(check):
    return lambda value, where: None if value is None else check(value, where)


def items(check, count=None):
    def every(value, where):
        if not isinstance(value, list):
            raise Bad(f"{where}: invalid type, expected a sequence")
        if count is not None and len(value) != count:
            raise Bad(f"{where}: invalid length {len(value)}, expected {count}")
        return [check(item, f"{where}[{n}]") for n, item in enumerate(value)]
    return every


def struct(strict=True, **fields):
    """Fields by name; a name that ends in `_opt` may be missing."""
    rows = {name.removesuffix("_opt"): (check, not name.endswith("_opt"))
            for name, check in fields.items()}

    def check_all(value, where):
        if not isinstance(value, dict):
            raise Bad(f"{where}: invalid type: {value!r:.60}, expected a struct")
        out = {}
        for name in value:
            if name not in rows and strict:
                raise Bad(f"{where}: unknown field `{name}`")
            if name in rows and name in getattr(value, "twice", ()):
                raise Bad(f"{where}: duplicate field `{name}`")
        for name, (check, required) in rows.items():
            if name in value:
                out[name] = check(value[name], f"{where}.{name}")
            elif required:
                raise Bad(f"{where}: missing field `{name}`")
        return out
    return check_all


def variants(tag, content, strict=True, **kinds):
    """An object whose member `tag` says what its member `content` is; None: it has none."""
    def check(value, where):
        if not isinstance(value, dict) or tag not in value:
            raise Bad(f"{where}: missing field `{tag}`")
        kind = word(*kinds)(value[tag], f"{where}.{tag}")
        inner = {} if kinds[kind] is None else {content: kinds[kind]}
        return struct(strict, **{tag: text}, **inner)(value, where)
    return check


U8, U32, U64 = uint(8), uint(32), uint(64)
PCI_PATH = struct(False, bus=U8, device=U8, function=U8)
BOARD = struct(
    cpus=U8, memory_mb=U64,
    chipset=variants("type", "value", i440_fx=struct(enable_pcie=flag)),
    guest_hv_interface_opt=variants("type", "value", bhyve=None, hyper_v=struct(
        features=items(word("reference_tsc")))),
    cpuid_opt=nullable(struct(vendor=word("amd", "intel"), entries=items(struct(
        leaf=U32, subleaf_opt=nullable(U32), eax=U32, ebx=U32, ecx=U32, edx=U32)))))
COMPONENTS = {
    "virtio_disk": struct(backend_id=key, pci_path=PCI_PATH),
    "nvme_disk": struct(backend_id=key, pci_path=PCI_PATH, serial_number=items(U8, 20)),
    "virtio_nic": struct(backend_id=key, interface_id=uuid_text, pci_path=PCI_PATH),
    "serial_port": struct(num=word("com1", "com2", "com3", "com4")),
    "boot_settings": struct(order=items(struct(False, id=key))),
    "qemu_pvpanic": struct(enable_isa=flag),
    "pci_pci_bridge": struct(downstream_bus=U8, pci_path=PCI_PATH),
    "file_storage_backend": struct(path=text, readonly=flag, block_size=U32,
                                   workers_opt=nullable(uint(64, least=1))),
    "blob_storage_backend": struct(base64=text, readonly=flag),
    "crucible_storage_backend": struct(request_json=text, readonly=flag),
    "virtio_network_backend": struct(vnic_name=text),
    "dlpi_network_backend": struct(vnic_name=text),
}
VIRTIO_SOCKET = struct(guest_cid=U64, pci_path=PCI_PATH)
PROPERTIES = struct(False, id=uuid_text, name=text, description=text, metadata=struct(
    False, silo_id=uuid_text, project_id=uuid_text, sled_id=uuid_text, sled_serial=text,
    sled_revision=U32, sled_model=text))
SMBIOS = struct(manufacturer=text, product_name=text, serial_number=text, version=U64)


def components(version):
    kinds = dict(COMPONENTS)
    if version >= VIRTIO_SOCKET_SINCE:
        kinds["virtio_socket"] = VIRTIO_SOCKET

    def check_all(value, where):
        if not isinstance(value, dict):
            raise Bad(f"{where}: invalid type, expected a map")
        out = {}
        for name, component in value.items():
            here = f"{where}.{name}"
            if isinstance(component, dict) and component.get("type") in NOT_BUILT_IN:
                raise Bad(f"{here}: this server is built without {component['type']}")
            if key(name, here) in out or name in getattr(value, "twice", ()):
                raise Bad(f"{here}: a component with this name already exists")
            out[key(name, here)] = variants("type", "component", **kinds)(component, here)
        return out
    return check_all


def specification(version):
    """Before 2.0.0 unknown members of the specification itself are refused, too."""
    if version < SMBIOS_SINCE:
        return struct(board=BOARD, components=components(version))
    return struct(False, board=BOARD, components=components(version),
                  smbios_opt=nullable(SMBIOS))


def address_text(value, where):
    if not re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[0-9.]+):[0-9]{1,5}", text(value, where)):
        raise Bad(f"{where}: invalid socket address")
    return value


def replacements(value, where):
    if not isinstance(value, dict):
        raise Bad(f"{where}: invalid type, expected a map")
    check = variants("component", "spec",
                     CrucibleStorageBackend=COMPONENTS["crucible_storage_backend"],
                     VirtioNetworkBackend=COMPONENTS["virtio_network_backend"])
    return {name: check(item, f"{where}.{name}") for name, item in value.items()}


def ensure_request(value, version):
    init = variants("method", "value", strict=False,
                    Spec=struct(False, spec=specification(version)),
                    MigrationTarget=struct(False, migration_id=uuid_text, src_addr=address_text,
                                           replace_components=replacements))
    request = struct(False, properties=PROPERTIES, init=init)(value, "body")
    if request["init"]["method"] == "Spec":
        fits_together(request["init"]["value"]["spec"])
    return request


def state_request(value):
    return word("Run", "Stop", "Reboot")(value, "body")


def monitor_request(value):
    return struct(False, gen=U64)(value, "body")["gen"]


def vcr_request(value):
    return struct(False, vcr_json=text)(value, "body")


def fits_together(spec):
    """The rules between components."""
    parts = spec["components"]

    def of(*kinds):
        return {name: part["component"] for name, part in parts.items() if part["type"] in kinds}

    for devices, backends in ((of(*DISKS), of(*STORAGE)), (of("virtio_nic"), of(*NETWORK))):
        for name, device in devices.items():
            backend = device["backend_id"]
            if backend == name:
                raise Bad(f"device {name} has the same name as its backend")
            if backends.pop(backend, None) is None:
                raise Bad(f"backend {backend} not found for device {name}, or used by another")
            if parts[backend]["type"] == "dlpi_network_backend":
                raise Bad(f"network backend for guest NIC {name} is not a viona backend")
        if backends:
            raise Bad(f"backend {next(iter(backends))} not used by any device")
    for kind in ("boot_settings", "qemu_pvpanic", "virtio_socket"):
        if len(of(kind)) > 1:
            raise Bad(f"{kind} was already specified")
    ports = [port["num"] for port in of("serial_port").values()]
    for port in ports:
        if ports.count(port) > 1:
            raise Bad(f"serial port {port} is already specified")
    for settings in of("boot_settings").values():
        for entry in settings["order"]:
            if entry["id"] not in of(*DISKS):
                raise Bad(f"boot option {entry['id']} is not an attached device")
    pci_paths(parts, {bridge["downstream_bus"] for bridge in of("pci_pci_bridge").values()})


def pci_paths(parts, bridged):
    taken = {(0, *path) for path in CHIPSET_PATHS}
    for name, part in parts.items():
        place = part["component"].get("pci_path")
        if place is None:
            continue
        path = (place["bus"], place["device"], place["function"])
        if path[1] > 31 or path[2] > 7 or (path[0] and path[0] not in bridged):
            raise Bad(f"{name}: there is no PCI path {path[0]}.{path[1]}.{path[2]}")
        if path in taken:
            raise Bad(f"{name}: a PCI device is already attached at {path}")
        taken.add(path)


def build(spec, in_zone):
    """in_zone("net" or "device", name): whether the server's zone has that."""
    parts = [part for part in spec["components"].values()]
    board = spec["board"]
    if not 1 <= board["cpus"] <= MAX_CPUS:
        raise Unfit(f"invalid number of vCPUs: {board['cpus']}")
    if not board["memory_mb"]:
        raise Unfit("a machine without memory")
    if not any(part["type"] == "serial_port" and part["component"]["num"] == "com1"
               for part in parts):
        raise Unfit("internal error: no serial port com1")
    for part in parts:
        if part["type"] in BUILDERS:
            BUILDERS[part["type"]](part["component"], in_zone)


def build_file(backend, in_zone):
    size = backend["block_size"]
    try:
        if not in_zone("device", backend["path"]):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        fd = os.open(backend["path"], os.O_RDONLY if backend["readonly"] else os.O_RDWR)
    except OSError as error:
        raise Unfit(f"failed to open {backend['path']}: {error.strerror}") from None
    try:
        length = os.lseek(fd, 0, os.SEEK_END)
    finally:
        os.close(fd)
    if size < 512 or size & (size - 1) or length % size:
        raise Unfit(f"{backend['path']}: {length} bytes are no blocks of {size}")


def build_blob(backend, _):
    try:
        data = base64.b64decode(backend["base64"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise Unfit(f"failed to decode base64: {error}") from None
    if not data or len(data) % 512:
        raise Unfit(f"{len(data)} bytes are no blocks of 512")


def build_crucible(*_):
    raise Unfit("failed to activate the Crucible volume")


def build_nic(backend, in_zone):
    if not in_zone("net", backend["vnic_name"]):
        raise Unfit(f"failed to attach to VNIC {backend['vnic_name']}: no such link")


BUILDERS = {"file_storage_backend": build_file, "blob_storage_backend": build_blob,
            "crucible_storage_backend": build_crucible, "virtio_network_backend": build_nic}


def as_version(spec, version):
    """The specification as a reader of that version gets it."""
    out = dict(spec, components={name: part for name, part in spec["components"].items()
                                 if part["type"] in COMPONENTS or version >= VIRTIO_SOCKET_SINCE})
    if version < SMBIOS_SINCE:
        out.pop("smbios", None)
        return {"version": "V0", "spec": out}
    return out
