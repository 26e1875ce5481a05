#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""Our own word on what goes to a propolis-server and what comes back, field by field.

    exchange_rows.py EXCHANGES.jsonl...

A row is a field's path, its type and what is allowed; what has no row is refused, and so is a
missing field unless its path ends in `?` or it is below one that is missing.  In a path `*:WORD` is
any key whose value has that "type", and `[]` an item.  PROTOCOL is what any
client may say; OURS narrows it to what this project's backend says (`ours`, the default).
"""

import json
import os
import re
import sys
import urllib.parse

import openapi

PROPERTIES = """
id                          uuid
name                        string    /.+/
description                 string
metadata                    object
metadata.silo_id            uuid
metadata.project_id         uuid
metadata.sled_id            uuid
metadata.sled_serial        string
metadata.sled_revision      u32
metadata.sled_model         string
"""

PCI_PATH = """
pci_path                    object
pci_path.bus                u8
pci_path.device             u8        0..31
pci_path.function           u8        0..7
"""

BASE64 = r"([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?"

COMPONENTS = {
    "virtio_disk": "backend_id string /.+/" + PCI_PATH,
    "nvme_disk": """
        backend_id          string    /.+/
        serial_number       array     20..20
        serial_number[]     u8""" + PCI_PATH,
    "virtio_nic": """
        backend_id          string    /.+/
        interface_id        uuid""" + PCI_PATH,
    "serial_port": "num string =com1|com2|com3|com4",
    "boot_settings": """
        order               array
        order[]             object
        order[].id          string    /.+/""",
    "qemu_pvpanic": "enable_isa bool",
    "pci_pci_bridge": "downstream_bus u8" + PCI_PATH,
    "file_storage_backend": """
        path                string    /.+/
        readonly            bool
        block_size          u32       512..65536
        workers?            u64       1..1024""",
    "blob_storage_backend": f"base64 string /{BASE64}/\nreadonly bool",
    "virtio_network_backend": "vnic_name string /[A-Za-z][A-Za-z0-9_]{0,29}(0|[1-9][0-9]*)/",
    "virtio_socket": "guest_cid u64" + PCI_PATH,
}

SPEC = """
board                                   object
board.cpus                              u8        1..32
board.memory_mb                         u64       1..16777216
board.chipset                           object
board.chipset.type                      string    =i440_fx
board.chipset.value                     object
board.chipset.value.enable_pcie         bool
board.guest_hv_interface?               object
board.guest_hv_interface.type           string    =bhyve
board.cpuid?                            null
smbios?                                 object
smbios.manufacturer                     string
smbios.product_name                     string
smbios.serial_number                    string
smbios.version                          u64
components                              object
"""

PHASE = "string =Sync|RamPush|Pause|RamPushDirty|Device|Resume|RamPull|Server|Finish|Error"

MIGRATION = f"""
migration_in                object|null
migration_in.id             uuid
migration_in.state          {PHASE}
migration_out               object|null
migration_out.id            uuid
migration_out.state         {PHASE}
"""

STATE = ("string =Creating|Starting|Running|Stopping|Stopped|Rebooting|Migrating|Repairing|"
         "Failed|Destroyed")

ERROR = """
.                           object
request_id                  string    /.+/
message                     string    /.+/
error_code?                 string    /.+/
"""


def below(prefix, rows):
    """The rows of a table, one level deeper; `.` is the prefix itself."""
    out = []
    for line in rows.strip().splitlines():
        path, *rest = line.split(None, 2)
        out.append(" ".join([prefix if path == "." else f"{prefix}.{path}", *rest]))
    return "\n".join(out) + "\n"


def specification(prefix):
    rows = below(prefix, SPEC)
    for kind, fields in COMPONENTS.items():
        here = f"{prefix}.components.*:{kind}"
        rows += f"{here} object\n{here}.type string ={kind}\n{here}.component object\n"
        rows += below(f"{here}.component", fields)
    return rows


# (method, path) -> rows of the request's body, {status: rows of the reply's}; None: no body.
PROTOCOL = {
    ("GET", "/instance"): (None, {200: """
        .                   object
        instance            object
        instance.properties object
        instance.state """ + STATE + "\n" + below("instance.properties", PROPERTIES)}),
    ("PUT", "/instance"): ("""
        .                   object
        properties          object
        init                object
        init.method         string    =Spec
        init.value          object
        init.value.spec     object
        """ + below("properties", PROPERTIES) + specification("init.value.spec"), {201: """
        .                   object
        migrate             null"""}),
    ("GET", "/instance/spec"): (None, {200: """
        .                   object
        properties          object
        state """ + STATE + """
        spec                object
        spec.type           string    =Present
        spec.value          object
        spec.value.version  string    =V0
        spec.value.spec     object
        """ + below("properties", PROPERTIES) + specification("spec.value.spec")}),
    # Since 2.0.0 it is not wrapped.
    ("GET", "/instance/spec", 2): (None, {200: """
        .                   object
        properties          object
        state """ + STATE + """
        spec                object
        spec.type           string    =Present
        spec.value          object
        """ + below("properties", PROPERTIES) + specification("spec.value")}),
    ("PUT", "/instance/state"): (". string =Run|Stop|Reboot", {204: None}),
    ("GET", "/instance/state-monitor"): ("""
        .                   object
        gen                 u64""", {200: """
        .                   object
        gen                 u64       1..18446744073709551615
        state """ + STATE + """
        migration           object
        """ + below("migration", MIGRATION)}),
    ("GET", "/instance/serial"): (None, {101: None}),
    ("GET", "/instance/serial/history"): (None, {200: """
        .                   object
        data                array
        data[]              u8
        last_byte_offset    u64"""}),
    ("GET", "/instance/migration-status"): (None, {200: ". object\n" + MIGRATION}),
    ("POST", "/instance/nmi"): (None, {200: ". null"}),
    # Of Crucible volumes only.
    ("GET", "/instance/disk/*/status"): (None, {}),
    ("POST", "/instance/disk/*/snapshot/*"): (None, {}),
    ("PUT", "/instance/disk/*/vcr"): (". object\nvcr_json string", {}),
}
QUERIES = {"/instance/serial": {"from_start", "most_recent"},
           "/instance/serial/history": {"from_start", "most_recent", "max_bytes"}}

# What of that is ours; a path that is given here replaces the row above.
OURS_CALLS = {("GET", "/instance"), ("PUT", "/instance"), ("PUT", "/instance/state"),
              ("GET", "/instance/state-monitor"), ("GET", "/instance/serial"),
              ("GET", "/instance/serial/history")}
OURS_COMPONENTS = {"virtio_disk", "virtio_nic", "serial_port", "boot_settings", "qemu_pvpanic",
                   "file_storage_backend", "blob_storage_backend", "virtio_network_backend"}
OURS_ONCE = {"boot_settings", "qemu_pvpanic"}
OURS = """
properties.name                                     string  /[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?/
init.value.spec.board.chipset.value.enable_pcie     bool    =false
init.value.spec.components.*:serial_port.component.num                  string =com1
init.value.spec.components.*:file_storage_backend.component.path        string /\\/.+/
init.value.spec.components.*:file_storage_backend.component.block_size  u32    512..512
init.value.spec.components.*:blob_storage_backend.component.readonly    bool   =true
init.value.spec.components.*:qemu_pvpanic.component.enable_isa          bool   =true
init.value.spec.components.*:virtio_disk.component.pci_path.bus         u8     0..0
init.value.spec.components.*:virtio_nic.component.pci_path.bus          u8     0..0
"""

UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
TYPES = {
    "object": lambda v: isinstance(v, dict),
    "array": lambda v: isinstance(v, list),
    "string": lambda v: isinstance(v, str),
    "uuid": lambda v: isinstance(v, str) and bool(UUID.fullmatch(v)),
    "bool": lambda v: isinstance(v, bool),
    "null": lambda v: v is None,
    **{f"u{bits}": lambda v, bits=bits: isinstance(v, int) and not isinstance(v, bool)
       and 0 <= v < 1 << bits for bits in (8, 32, 64)},
}


class Row:
    def __init__(self, line):
        path, kinds, *allowed = line.split(None, 2)
        self.path, self.optional = path.removesuffix("?"), path.endswith("?")
        self.kinds, self.allowed = kinds.split("|"), allowed[0].strip() if allowed else None

    def problem(self, value):
        if not any(TYPES[kind](value) for kind in self.kinds):
            return f"{value!r:.60} is no {' or '.join(self.kinds)}"
        if self.allowed is None or value is None or self.is_allowed(value):
            return None
        return f"{value!r:.60} is not {self.allowed:.80}"

    def is_allowed(self, value):
        if self.allowed[0] == "=":
            shown = value if isinstance(value, str) else json.dumps(value)
            return shown in self.allowed[1:].split("|")
        if self.allowed[0] == "/":
            return re.fullmatch(self.allowed[1:-1], value) is not None
        least, most = map(int, self.allowed.split(".."))
        return least <= (len(value) if isinstance(value, list) else value) <= most


def table(rows):
    return {row.path: row for row in map(Row, filter(str.strip, rows.splitlines()))}


TABLES = {call: (rows and table(rows), {status: reply and table(reply)
                                        for status, reply in replies.items()})
          for call, (rows, replies) in PROTOCOL.items()}
ERRORS = table(ERROR)
NARROW = table(OURS)


def fields(value, path="."):
    """(path, value) of the value and everything in it."""
    yield path, value
    if isinstance(value, dict):
        for name, member in value.items():
            kind = isinstance(member, dict) and member.get("type")
            if path.endswith(".components"):
                name = f"*:{kind}"
            yield from fields(member, name if path == "." else f"{path}.{name}")
    elif isinstance(value, list):
        for item in value:
            yield from fields(item, path + "[]")


def body_problems(rows, value, what, narrow=None):
    if rows is None:
        return [] if value is None else [f"{what}: a body where none belongs"]
    found = []
    present = {}
    for path, member in fields(value):
        present.setdefault(path, []).append(member)
        row = (narrow or {}).get(path) or rows.get(path)
        problem = row.problem(member) if row else "unknown"
        if problem:
            found.append(f"{what} {path}: {problem}")
    for path, row in rows.items():
        parent, _, name = path.rpartition(".") if path != "." else ("", "", "")
        if row.optional or not name or name.endswith("[]") or name.startswith("*"):
            continue
        for holder in present.get(parent or ".", ()):
            if isinstance(holder, dict) and name not in holder:
                found.append(f"{what} {path}: missing")
    return found


def component_problems(exchange):
    """What our machines are made of: one disk, which is the zone's own, and booted from."""
    found = []
    spec = exchange["request"]["init"]["value"]["spec"]
    parts = {name: part["component"] for name, part in spec["components"].items()}
    files = {name: part["path"] for name, part in parts.items() if "path" in part}
    booted = [entry["id"] for part in parts.values() for entry in part.get("order", ())]
    disks = [name for name, part in parts.items() if part.get("backend_id") in files]
    if booted != disks or len(disks) != 1:
        found.append(f"boots from {booted}, has the disks {disks}")
    zone = re.fullmatch("vmm-([0-9a-f]{12})", exchange["zone"])
    if zone and not all(path.endswith(f"/machines/{zone[1]}") for path in files.values()):
        found.append(f"zone {exchange['zone']} has the disks {files}")
    kinds = [part["type"] for part in spec["components"].values()]
    found += [f"component {kind}: not ours" for kind in kinds if kind not in OURS_COMPONENTS]
    found += [f"component {kind}: not exactly once" for kind in OURS_ONCE
              if kinds.count(kind) != 1]
    if "smbios" in spec:
        found.append("smbios: newer than our api-version")
    return found


def problems(exchange, ours=True):
    """What is wrong with one exchange, as text."""
    url = urllib.parse.urlsplit(exchange["path"])
    path = re.sub("/(disk|snapshot)/[^/]+", r"/\1/*", url.path)
    call = exchange["method"], path
    if call not in TABLES or (ours and call not in OURS_CALLS):
        return [f"{' '.join(call)}: nobody should ask that"]
    major = int((exchange["api_version"] or "1").partition(".")[0])
    rows, replies = TABLES.get((*call, 2) if major > 1 else call) or TABLES[call]
    found = body_problems(rows, exchange["request"], "request", NARROW if ours else None)
    headers = exchange["request_headers"]
    if ours and exchange["api_version"] != "1.0.0":
        found.append(f"api-version: {exchange['api_version']!r} is not 1.0.0")
    if exchange["request"] is not None and ours and (
            headers.get("content-type") != "application/json"):
        found.append(f"content-type: {headers.get('content-type')!r}")
    if "host" not in headers:
        found.append("host: missing")
    query = urllib.parse.parse_qsl(url.query, keep_blank_values=True)
    for name, value in query:
        if name not in QUERIES.get(url.path, ()) or not re.fullmatch("[0-9]+", value):
            found.append(f"query {name}={value}: unknown")
    if ours and len(query) > 1 and url.path == "/instance/serial":
        found.append("query: both offsets are none")
    if call == ("PUT", "/instance") and ours and not found:
        found += component_problems(exchange)
    if "fault" not in exchange:
        found += reply_problems(exchange, replies)
    return found


def reply_problems(exchange, replies):
    status = exchange["status"]
    if status in replies:
        return body_problems(replies[status], exchange["reply"], "reply")
    if 400 <= status < 600:
        return body_problems(ERRORS, exchange["reply"], "reply")
    return [f"status {status}"] if status else []


def verify(path, ours=True):
    """The problems of all exchanges in a file, as text."""
    with open(path, encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    return [f"{path}:{number}: {row['method']} {row['path']}: {problem}"
            for number, row in enumerate(rows, 1) for problem in problems(row, ours)]


def check(folder, ours=True):
    """The exchanges of all servers of a fake host: by rows, and by the API where it is there."""
    path = os.path.join(folder, "exchanges.jsonl")
    found = verify(path, ours) + openapi.verify(path)
    assert not found, "\n".join(found)


def main():
    found = [problem for path in sys.argv[1:] for problem in verify(path)]
    print(*found, sep="\n", end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
