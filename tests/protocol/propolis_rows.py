#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""The rows and the schema that exchanges with a propolis-server are checked by: they take what is
right, and refuse it with any one thing changed.
"""

import base64
import contextlib
import copy
import io
import json
import os
import subprocess
import sys
import tempfile

import exchange_rows
import openapi
import propolis_wire
from propolis_wire import DROP, FAKE, IDENT, PROPERTIES, ZERO, changed, part, pci
from wire import equal, run

MACHINE = "0123456789ab"
WRONG = (None, True, 1.5, -1, "?", [], {}, 1 << 64)
NONE_YET = {"migration_in": None, "migration_out": None}
SPEC = {
    "board": {"cpus": 2, "memory_mb": 2048,
              "chipset": {"type": "i440_fx", "value": {"enable_pcie": False}}},
    "components": {
        "com1": part("serial_port", num="com1"),
        "root-be": part("file_storage_backend", readonly=False, block_size=512,
                        path=f"/dev/zvol/rdsk/rpool/vmm/machines/{MACHINE}"),
        "root": part("virtio_disk", backend_id="root-be", pci_path=pci(16)),
        "seed-be": part("blob_storage_backend", base64=base64.b64encode(bytes(512)).decode(),
                        readonly=True),
        "seed": part("virtio_disk", backend_id="seed-be", pci_path=pci(24)),
        "n-be": part("virtio_network_backend", vnic_name="vm0123456789ab_n0"),
        "n": part("virtio_nic", backend_id="n-be", interface_id=IDENT, pci_path=pci(8)),
        "boot": part("boot_settings", order=[{"id": "root"}]),
        "pvpanic": part("qemu_pvpanic", enable_isa=True)}}
# Free text, where any other is as good.
FREE = {"properties/description", "properties/metadata/sled_serial", "metadata/sled_serial",
        "properties/metadata/sled_model", "instance/properties/description",
        "instance/properties/metadata/sled_serial", "instance/properties/metadata/sled_model",
        "properties/name", "instance/properties/name", "message", "request_id", "error_code"}
ERROR = {"request_id": "one", "message": "two", "error_code": "three"}
PHASES = {"migration_in": {"id": IDENT, "state": "Sync"},
          "migration_out": {"id": ZERO, "state": "Error"}}


def exchange(method, path, request, status, reply, version="1.0.0"):
    headers = {"host": "127.77.0.2:12400", "api-version": version}
    if request is not None:
        headers["content-type"] = "application/json"
    return {"zone": "vmm-" + MACHINE, "method": method, "path": path, "api_version": version,
            "request_headers": headers, "request": request, "status": status, "reply": reply}


def present(version):
    value = {"version": "V0", "spec": SPEC} if version == "1.0.0" else SPEC
    return {"properties": PROPERTIES, "state": "Running",
            "spec": {"type": "Present", "value": value}}


def good(version):
    def make(*rest):
        return exchange(*rest, version=version)
    return [
        make("PUT", "/instance", {"properties": PROPERTIES, "init": {
            "method": "Spec", "value": {"spec": SPEC}}}, 201, {"migrate": None}),
        make("PUT", "/instance/state", "Run", 204, None),
        make("PUT", "/instance/state", "Reboot", 403, ERROR),
        make("PUT", "/instance/state", "Stop", 424, {"request_id": "x", "message": "y"}),
        make("GET", "/instance/state-monitor", {"gen": 0}, 200,
             {"gen": 1, "state": "Creating", "migration": NONE_YET}),
        make("GET", "/instance/state-monitor", {"gen": 3}, 200,
             {"gen": 4, "state": "Migrating", "migration": PHASES}),
        make("GET", "/instance", None, 200,
             {"instance": {"properties": PROPERTIES, "state": "Destroyed"}}),
        make("GET", "/instance", None, 500, ERROR),
        make("GET", "/instance/spec", None, 200, present(version)),
        make("GET", "/instance/serial", None, 101, None),
        make("GET", "/instance/serial?from_start=12", None, 101, None),
        make("GET", "/instance/serial/history?most_recent=1&max_bytes=2", None, 200,
             {"data": [0, 255], "last_byte_offset": 9}),
        make("GET", "/instance/migration-status", None, 200, PHASES),
        make("POST", "/instance/nmi", None, 200, None)]


def found(row, ours=False):
    """Who sees something wrong."""
    out = {"rows"} if exchange_rows.problems(row, ours) else set()
    schema = propolis_wire.API and propolis_wire.API.problems(row)
    return out | ({"schema"} if schema and schema != ([], []) else set())


def everybody(seen):
    return seen >= ({"rows", "schema"} if propolis_wire.API else {"rows"})


def places(value, path=""):
    """Every member and item, by the path that `changed` takes."""
    inner = value.items() if isinstance(value, dict) else (
        enumerate(value) if isinstance(value, list) else ())
    for name, member in inner:
        here = f"{path}/{name}".lstrip("/")
        yield here, member
        yield from places(member, here)


def kind(value):
    return type(value)


def good__taken_by_both(version):
    for row in good(version):
        equal((row["method"], row["path"], found(row)), (row["method"], row["path"], set()))


def good__ours__taken_at_1_0_0_only():
    for version in propolis_wire.VERSIONS:
        for row in good(version):
            call = row["method"], row["path"].partition("?")[0]
            equal((call, found(row, ours=True)),
                  (call, set() if version == "1.0.0" and call in exchange_rows.OURS_CALLS
                   else {"rows"}))


def every_field__missing__refused(version):
    for row in good(version):
        for side in ("request", "reply"):
            if not isinstance(row[side], dict):
                continue
            for path, _ in places(row[side]):
                name = path.rpartition("/")[2]
                if name.isdigit() or path in ("error_code", "migrate") or (
                        "/components/" in path and path.endswith("/" + component_of(path))):
                    continue
                seen = found({**row, side: changed(row[side], path, DROP)})
                # The schema does not ask for what may be null.
                least = {"rows"} if name.startswith("migration_") else None
                assert seen >= least if least else everybody(seen), f"{side} {path}: {seen}"


def component_of(path):
    return path.partition("/components/")[2].partition("/")[0]


def every_field__of_another_type__refused(version):
    for row in good(version):
        for side in ("request", "reply"):
            for path, value in places(row[side]):
                for wrong in WRONG:
                    if wrong == value and kind(wrong) is kind(value) or (
                            isinstance(value, str) and isinstance(wrong, str)) or (
                            value is None) or (wrong == [] and value == []) or (
                            wrong is None and path.endswith(("migration_in", "migration_out"))):
                        continue
                    if isinstance(value, (dict, list)) and kind(wrong) is kind(value):
                        continue  # empty: the members are looked at elsewhere
                    if isinstance(value, bool) and isinstance(wrong, bool):
                        continue
                    seen = found({**row, side: changed(row[side], path, wrong)})
                    assert everybody(seen), f"{side} {path} = {wrong!r}: {seen}"


def every_text__another__refused_unless_it_is_free(version):
    for row in good(version):
        for side in ("request", "reply"):
            for path, value in places(row[side]):
                if not isinstance(value, str) or path in FREE or path.endswith(
                        ("backend_id", "order/0/id", "component/path")):
                    continue
                seen = found({**row, side: changed(row[side], path, "?")})
                assert "rows" in seen, f"{side} {path}: {seen}"
                rows_only = path.endswith(("/vnic_name", "/base64"))
                assert rows_only or everybody(seen), f"{side} {path}: {seen}"


def every_object__with_one_more__refused(version):
    for row in good(version):
        for side in ("request", "reply"):
            if not isinstance(row[side], dict):
                continue
            for path in [""] + [at for at, value in places(row[side]) if isinstance(value, dict)]:
                more = changed(row[side], f"{path}/more".lstrip("/"), 1)
                seen = found({**row, side: more})
                assert "rows" in seen, f"{side} {path}: {seen}"
                strict = "/component" in path and not path.endswith(
                    ("pci_path", "order/0")) or "/board" in path
                assert not strict or everybody(seen), f"{side} {path}: {seen}"


def call__that_is_none__refused():
    row = good("1.0.0")[6]
    for change in ({"method": "DELETE"}, {"path": "/instance/more"}, {"path": "/"},
                   {"path": "/instance?from_start=1"}, {"request": {}}, {"request": "Run"}):
        seen = found({**row, **change})
        assert everybody(seen), f"{change}: {seen}"
    serial = good("1.0.0")[9]
    for query in ("?from_start=x", "?most_recent=-1", "?more=1", "?from_start="):
        seen = found({**serial, "path": "/instance/serial" + query})
        assert everybody(seen), f"{query}: {seen}"


def reply__of_another_status__refused():
    first = good("1.0.0")[0]
    for status, reply in ((200, {"migrate": None}), (204, None), (302, None), (400, None),
                          (409, {"message": "no id"}), (500, "text"), (201, None)):
        seen = found({**first, "status": status, "reply": reply})
        assert everybody(seen), f"{status} {reply}: {seen}"
    # What a fault made of it is not the server's word; nor is no answer at all.
    equal(found({**first, "status": 500, "reply": "text", "fault": {"status": 500}}), set())
    equal(found({**first, "status": 0, "reply": None}), set())


def ours__beyond_what_we_may_say__refused():
    row = good("1.0.0")[0]
    parts = "init/value/spec/components"
    for path, value in (
            ("properties/name", "Web"), ("properties/name", "-web"), ("properties/name", ""),
            (parts + "/com1/component/num", "com2"), (parts + "/root-be/component/path", "disk"),
            (parts + "/root-be/component/path", "/dev/zvol/rdsk/rpool/vmm/machines/ba9876543210"),
            (parts + "/root-be/component/block_size", 4096),
            (parts + "/seed-be/component/readonly", False),
            (parts + "/pvpanic/component/enable_isa", False), (parts + "/pvpanic", DROP),
            (parts + "/boot", DROP), (parts + "/boot/component/order", []),
            (parts + "/boot/component/order", [{"id": "seed"}]),
            (parts + "/boot/component/order", [{"id": "root"}, {"id": "seed"}]),
            (parts + "/root/component/pci_path/bus", 1),
            (parts + "/bridge", part("pci_pci_bridge", downstream_bus=1, pci_path=pci(4))),
            (parts + "/nvme", part("nvme_disk", backend_id="x", pci_path=pci(4),
                                   serial_number=[0] * 20)),
            ("init/value/spec/board/chipset/value/enable_pcie", True)):
        assert exchange_rows.problems({**row, "request": changed(row["request"], path, value)}), (
            f"{path} = {value}")
    for change in ({"api_version": "2.0.0"}, {"api_version": None},
                   {"request_headers": {"host": "x"}},
                   {"request_headers": {"content-type": "application/json"}}):
        assert exchange_rows.problems({**row, **change}), change
    both = {**good("1.0.0")[9], "path": "/instance/serial?from_start=0&most_recent=0"}
    assert exchange_rows.problems(both)


@contextlib.contextmanager
def written(rows):
    with tempfile.TemporaryDirectory(prefix="vmm-rows-") as folder:
        with open(os.path.join(folder, "exchanges.jsonl"), "w", encoding="utf-8") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
        yield folder


def ours_of(version):
    return [row for row in good(version) if not exchange_rows.problems(row)]


def check__a_folder__says_the_line():
    with written(ours_of("1.0.0")) as folder:
        exchange_rows.check(folder)
    bad = copy.deepcopy(ours_of("1.0.0"))
    bad[1]["request"] = "Halt"
    with written(bad) as folder:
        try:
            exchange_rows.check(folder)
        except AssertionError as error:
            assert "exchanges.jsonl:2: PUT /instance/state" in str(error), error
        else:
            raise AssertionError("taken")


def schema__not_there__is_said_and_the_rows_hold():
    bad = copy.deepcopy(ours_of("1.0.0"))
    bad[1]["request"] = "Halt"
    env = {**os.environ, "VMM_SHARED": "/nonexistent"}
    with written(bad) as folder:
        path = os.path.join(folder, "exchanges.jsonl")
        for program, status, words in (("openapi.py", 0, openapi.NOT_CHECKED),
                                       ("exchange_rows.py", 1, "'Halt' is not")):
            done = subprocess.run([sys.executable, os.path.join(FAKE, program), path], env=env,
                                  text=True, capture_output=True, timeout=60, check=False)
            equal((program, done.returncode), (program, status))
            assert words in done.stdout, done.stdout


def schema__word_that_is_not_known__is_a_problem():
    with tempfile.TemporaryDirectory(prefix="vmm-rows-") as folder:
        path = os.path.join(folder, "x.json")
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"paths": {}, "components": {}}, file)
        document = openapi.Document(path)
        equal(document.problems({"type": "string", "pattern": "x"}, "y"),
              ["it: the schema says pattern"])
        for schema, value, fine in (
                ({"type": "array", "uniqueItems": True, "items": {}}, [1, 1], False),
                ({"type": "array", "minItems": 2, "items": {}}, [1], False),
                ({"type": "array", "maxItems": 0, "items": {}}, [1], False),
                ({"type": "integer", "format": "uint8"}, 256, False),
                ({"type": "integer", "minimum": 1}, 0, False),
                ({"type": "integer"}, True, False),
                ({"type": "string", "nullable": True}, None, True),
                ({"type": "string", "enum": [None]}, None, True),
                ({"type": "object", "additionalProperties": {"type": "string"}}, {"a": 1}, False),
                ({"anyOf": [{"type": "string"}, {"type": "boolean"}]}, 1, False),
                ({"anyOf": [{"type": "string"}, {"type": "boolean"}]}, True, True)):
            equal((schema, value, not document.problems(schema, value)), (schema, value, fine))


def api__no_file_for_a_version__is_a_problem():
    if propolis_wire.API is None:
        return
    with written([{**good("1.0.0")[6], "api_version": "1.2.3"}]) as folder:
        with contextlib.redirect_stdout(io.StringIO()):
            problems = openapi.verify(os.path.join(folder, "exchanges.jsonl"))
        assert "no file for api-version 1.2.3" in problems[0], problems


if __name__ == "__main__":
    run(propolis_wire.each_version(globals()))
