#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""The fake propolis-server is as strict with versions, requests and bodies as the real one."""

import json
import socket

import exchange_rows
import propolis_wire
from propolis_wire import DROP, IDENT, PROPERTIES, Server, ZERO, changed, part, pci
from wire import equal, run

BODY = "init/value/spec"
BOARD = BODY + "/board"
PARTS = BODY + "/components"
UPPER = "ABCDEFAB-2222-4333-8444-555555555555"
DISK = {"backend_id": "root-be", "pci_path": pci(16)}


def nic(name="n", device=8):
    return {name + "-be": part("virtio_network_backend", vnic_name="vmweb0"),
            name: part("virtio_nic", backend_id=name + "-be", interface_id=IDENT,
                       pci_path=pci(device))}


def everything():
    """One of each, and every field that may be missing."""
    return {
        "nvme-be": part("file_storage_backend", path=None, readonly=True, block_size=4096,
                        workers=4),
        "nvme": part("nvme_disk", backend_id="nvme-be", serial_number=list(range(20)),
                     pci_path=pci(17)),
        "bridge": part("pci_pci_bridge", downstream_bus=1, pci_path=pci(20)),
        **nic(), **nic("far", 9), "com2": part("serial_port", num="com2")}


# Versions

def version__missing__400():
    with Server() as server:
        server.get(headers={"api-version": None}).refused(400, words="api-version")


def version__unparsable__400():
    with Server() as server:
        for text in ("", "1", "1.0", "v1.0.0", "1.0.0.0", "01.0.0", "one"):
            server.get(version=text).refused(400, words="api-version")


def version__newer_than_the_server__400():
    for newest, asked in (("1.0.0", "1.0.1"), ("1.0.0", "2.0.0"), ("1.0.0", "5.0.0"),
                          ("5.0.0", "5.0.1"), ("5.0.0", "10.0.0")):
        with Server(newest) as server:
            server.get(version=asked).refused(400, words=asked)


def version__comes_before_everything_else():
    with Server() as server:
        server.call("PATCH", "/nowhere", version="9.0.0").refused(400)
        server.call("PUT", "/instance", b"{", version="9.0.0").refused(400, words="9.0.0")


def version__older__handled_by_its_rules():
    for asked, smbios, vsock in (("1.0.0", 400, 400), ("1.9.9", 400, 400), ("2.0.0", 201, 400),
                                 ("3.0.0", 201, 201), ("4.0.0", 201, 201), ("5.0.0", 201, 201)):
        with Server() as server:
            spec = server.spec()
            spec["smbios"] = {"manufacturer": "m", "product_name": "p", "serial_number": "s",
                              "version": 1}
            equal((asked, server.ensure(spec, version=asked).status), (asked, smbios))
        with Server() as server:
            spec = server.spec(sock=part("virtio_socket", guest_cid=3, pci_path=pci(11)))
            equal((asked, server.ensure(spec, version=asked).status), (asked, vsock))
        with Server() as server:
            spec, server.allowed = {**server.spec(), "more": 1}, ["spec.more: unknown"]
            equal((asked, server.ensure(spec, version=asked).status),
                  (asked, 400 if asked[0] == "1" else 201))


def version__of_the_specification_read():
    with Server() as server:
        spec = server.spec(sock=part("virtio_socket", guest_cid=3, pci_path=pci(11)))
        spec["smbios"] = {"manufacturer": "m", "product_name": "p", "serial_number": "s",
                          "version": 1}
        equal(server.ensure(spec).status, 201)
        for asked in ("2.0.0", "3.0.0", "5.0.0"):
            value = server.get("/spec", version=asked).json["spec"]["value"]
            equal(value["smbios"], spec["smbios"])
            equal("sock" in value["components"], asked != "2.0.0")
        value = server.get("/spec", version="1.0.0").json["spec"]["value"]
        equal(set(value), {"version", "spec"})
        equal(value["version"], "V0")
        equal((set(value["spec"]), "sock" in value["spec"]["components"]),
              ({"board", "components"}, False))


# HTTP

def before_ensure__everything__424(version):
    with Server(version) as server:
        for method, path, body in (
                ("GET", "", None), ("GET", "/spec", None), ("PUT", "/state", "Run"),
                ("PUT", "/state", "Stop"), ("GET", "/state-monitor", {"gen": 0}),
                ("GET", "/migration-status", None), ("POST", "/nmi", None),
                ("GET", "/serial/history?from_start=0", None),
                ("GET", "/disk/root/status", None)):
            answer = server.call(method, "/instance" + path, body)
            answer.refused(424, "NoInstance")


def path__unknown__404_or_405():
    with Server() as server:
        server.call("GET", "/").refused(404)
        server.call("GET", "/instance/").refused(404)
        server.call("PUT", "/instance/ensure", {}).refused(404)
        server.call("DELETE", "/instance").refused(405)
        server.call("POST", "/instance/state", "Run").refused(405)


def body__not_for_a_server__400(version):
    with Server(version) as server:
        for body in (b"", b"{", b"Run", b"\"Run\" x", b"\"run\"", b"null", b"{\"state\":\"Run\"}",
                     b"\"Run", b"[NaN]"):
            server.call("PUT", "/instance/state", body).refused(400)
        for body in (b"", b"{}", b"{\"gen\":-1}", b"{\"gen\":1.0}", b"{\"gen\":\"1\"}",
                     b"{\"gen\":18446744073709551616}", b"{\"gen\":1,\"gen\":2}", b"3"):
            server.call("GET", "/instance/state-monitor", body).refused(400)
        server.get("/state-monitor").refused(400)


def content_type__another__400_missing_is_json(version):
    with Server(version) as server:
        equal(server.ensure().status, 201)
        for kind in ("text/plain", "application/x-www-form-urlencoded", "application/json5"):
            server.put("Run", headers={"Content-Type": kind}).refused(400, words=kind)
        equal(server.put("Run", headers={"Content-Type": None}).status, 204)
        equal(server.put("Run", headers={
            "Content-Type": "Application/JSON; charset=utf-8"}).status, 204)


def body__over_a_mebibyte__400(version):
    with Server(version) as server:
        server.allowed = ["request x: unknown"]
        body = {"properties": PROPERTIES,
                "init": {"method": "Spec", "value": {"spec": server.spec()}}}
        room = (1 << 20) - len(json.dumps({**body, "x": ""}).encode())
        for extra, status in ((room + 1, 400), (3 << 20, 400), (room, 201)):
            data = json.dumps({**body, "x": "y" * extra}).encode()
            equal((len(data) - (1 << 20), server.call("PUT", "/instance", data).status),
                  (extra - room, status))


def connection__kept__takes_the_next_request(version):
    with Server(version) as server:
        connection = server.connect()
        for method, path, body, status in (
                ("GET", "/instance", None, 424), ("PUT", "/instance", {}, 400),
                ("GET", "/nowhere", None, 404), ("PUT", "/instance", b"x" * (2 << 20), 400)):
            equal(server.call(method, path, body, connection=connection).status, status)
        sock = connection.sock
        equal(server.ensure(connection=connection).status, 201)
        equal(server.put("Run", connection=connection).status, 204)
        equal(server.get(connection=connection).status, 200)
        assert connection.sock is sock
        connection.close()


def request__in_chunks_and_pieces__is_read():
    with Server() as server:
        equal(server.ensure().status, 201)
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            for piece in (b"PU", b"T /instance/state HTTP/1.1\r\nApi-VERSION:5.0.0\r\nHost:x\r\n",
                          b"Transfer-Encoding: chunked\r\nContent-Type: application/json\r\n\r\n",
                          b"2\r\n\"R\r\n3;x=y\r\nun\"\r\n0\r\n\r\n"):
                sock.sendall(piece)
            assert sock.recv(4096).startswith(b"HTTP/1.1 204 ")
        equal(server.exchanges()[-1]["request"], "Run")


# Ensure

def ensure__good__201_creating(version):
    with Server(version) as server:
        answer = server.ensure()
        equal((answer.status, answer.json), (201, {"migrate": None}))
        equal(server.monitor(0).json, {"gen": 1, "state": "Creating", "migration": {
            "migration_in": None, "migration_out": None}})
        equal(server.get().json, {"instance": {"properties": PROPERTIES, "state": "Creating"}})
        shown = server.get("/spec").json
        equal((shown["properties"], shown["state"], shown["spec"]["type"]),
              (PROPERTIES, "Creating", "Present"))
        value = shown["spec"]["value"]
        equal(value["spec"] if version == "1.0.0" else value, server.spec())


def ensure__one_of_everything__201(version):
    with Server(version) as server:
        parts = everything()
        parts["nvme-be"]["component"]["path"] = server.disk
        parts["far"]["component"]["pci_path"] = pci(3, 2, bus=1)
        spec = server.spec(**parts)
        spec["board"]["guest_hv_interface"] = {"type": "bhyve"}
        spec["board"]["cpuid"] = None
        equal(server.ensure(spec).status, 201)


def ensure__extras_outside_of_the_specification__ignored(version):
    with Server(version) as server:
        body = {"properties": {**PROPERTIES, "more": 1}, "more": {}, "init": {
            "method": "Spec", "more": 1, "value": {"spec": server.spec(), "more": 1}}}
        body["properties"]["metadata"] = {**PROPERTIES["metadata"], "more": 1}
        equal(server.call("PUT", "/instance", body).status, 201)
        equal(server.get().json["instance"]["properties"], PROPERTIES)
        # Nothing that is not known is known to the rows.
        found = exchange_rows.problems(server.exchanges()[0], ours=False)
        equal(len(found), 5)
        server.allowed = ["more: unknown"]


# What is changed, to what, and who sees it without knowing the rules between components: both the
# schema and the rows, one of them, or only the server.
BOTH, ROWS, SCHEMA, SERVER = ("rows", "schema"), ("rows",), ("schema",), ()
REFUSED = [
    ("properties", DROP, BOTH), ("init", DROP, BOTH), ("properties/id", DROP, BOTH),
    ("properties/name", DROP, BOTH), ("properties/description", DROP, BOTH),
    ("properties/metadata", DROP, BOTH), ("properties/metadata", None, BOTH),
    *[(f"properties/metadata/{name}", DROP, BOTH) for name in PROPERTIES["metadata"]],
    ("properties/id", "web", BOTH), ("properties/id", 1, BOTH),
    ("properties/id", IDENT + "0", BOTH), ("properties/metadata/silo_id", "none", BOTH),
    ("properties/metadata/sled_revision", -1, BOTH), ("properties/name", None, BOTH),
    ("properties/metadata/sled_revision", 1 << 32, BOTH),
    ("init/method", "spec", BOTH), ("init/method", DROP, BOTH), ("init/value", DROP, BOTH),
    (BODY, DROP, BOTH), (BODY + "/board", DROP, BOTH), (PARTS, DROP, BOTH), (PARTS, [], BOTH),
    (BOARD + "/more", 1, BOTH), (BOARD + "/cpus", DROP, BOTH), (BOARD + "/cpus", 256, BOTH),
    (BOARD + "/cpus", -1, BOTH), (BOARD + "/cpus", "2", BOTH), (BOARD + "/cpus", 2.0, BOTH),
    (BOARD + "/cpus", True, BOTH), (BOARD + "/memory_mb", DROP, BOTH),
    (BOARD + "/memory_mb", 1 << 64, BOTH), (BOARD + "/chipset", DROP, BOTH),
    (BOARD + "/chipset", "i440_fx", BOTH), (BOARD + "/chipset/type", "q35", BOTH),
    (BOARD + "/chipset/more", 1, BOTH), (BOARD + "/chipset/value/more", 1, BOTH),
    (BOARD + "/chipset/value", DROP, BOTH), (BOARD + "/chipset/value/enable_pcie", 0, BOTH),
    (BOARD + "/guest_hv_interface", {"type": "kvm"}, BOTH),
    (BOARD + "/guest_hv_interface", {"type": "bhyve", "value": {}}, BOTH),
    (PARTS + "/com1/more", 1, BOTH), (PARTS + "/com1/component/more", 1, BOTH),
    (PARTS + "/com1/component/num", "com5", BOTH), (PARTS + "/com1/component/num", 1, BOTH),
    (PARTS + "/com1/type", "serial", BOTH), (PARTS + "/com1/type", DROP, BOTH),
    (PARTS + "/com1/component", DROP, BOTH), (PARTS + "/com1", None, BOTH),
    (PARTS + "/root/component/more", 1, BOTH), (PARTS + "/root/component/pci_path", DROP, BOTH),
    (PARTS + "/root/component/pci_path", "0.16.0", BOTH),
    (PARTS + "/root/component/backend_id", DROP, BOTH),
    (PARTS + "/root/component/backend_id", 1, BOTH),
    (PARTS + "/root-be/component/block_size", DROP, BOTH),
    (PARTS + "/root-be/component/readonly", "false", BOTH),
    (PARTS + "/root-be/component/path", DROP, BOTH),
    (PARTS + "/root-be/component/workers", 0, BOTH), (PARTS + "/root-be/component/size", 1, BOTH),
    (PARTS + "/seed-be/component/base64", DROP, BOTH),
    (PARTS + "/seed-be/component/readonly", DROP, BOTH),
    (PARTS + "/seed-be/component/label", "cidata", BOTH),
    (PARTS + "/boot/component/order", DROP, BOTH),
    (PARTS + "/boot/component/order", ["root"], BOTH),
    (PARTS + "/boot/component/order", [{"name": "root"}], BOTH),
    (PARTS + "/boot/component/more", 1, BOTH), (PARTS + "/pvpanic/component", {}, BOTH),
    (PARTS + "/n/component/interface_id", DROP, BOTH),
    (PARTS + "/n/component/interface_id", "net0", BOTH), (PARTS + "/n/component/mac", "", BOTH),
    (PARTS + "/n-be/component/vnic_name", DROP, BOTH),
    (PARTS + "/n-be/component/vnic_name", 0, BOTH),
    (PARTS + "/nvme", part("nvme_disk", backend_id="root-be", pci_path=pci(17),
                           serial_number=[0] * 19), BOTH),
    (PARTS + "/nvme", part("nvme_disk", backend_id="root-be", pci_path=pci(17),
                           serial_number=[256] + [0] * 19), BOTH),
    (PARTS + "/p9", part("p9fs", chunk_size=1, pci_path=pci(17), source="/", target="t"), ROWS),
    (PARTS + "/inject", part("migration_failure_injector", fail_exports=0, fail_imports=0), ROWS),
    # What PCI and a name may be, the schema does not say.
    (PARTS + "/root/component/pci_path/device", 32, ROWS),
    (PARTS + "/root/component/pci_path/function", 8, ROWS),
    # Rules between components.
    (PARTS + "/root/component/pci_path", pci(24), SERVER),
    (PARTS + "/root/component/pci_path", pci(8), SERVER),
    (PARTS + "/root/component/pci_path", pci(0), SERVER),
    (PARTS + "/root/component/pci_path", pci(1), SERVER),
    (PARTS + "/root/component/pci_path", pci(1, 3), SERVER),
    (PARTS + "/root/component/pci_path", pci(4, bus=1), SERVER),
    (PARTS + "/root/component/backend_id", "nothing", SERVER),
    (PARTS + "/root/component/backend_id", "root", SERVER),
    (PARTS + "/root/component/backend_id", "seed-be", SERVER),
    (PARTS + "/root/component/backend_id", "n-be", SERVER),
    (PARTS + "/n/component/backend_id", "root-be", SERVER),
    (PARTS + "/root", DROP, SERVER), (PARTS + "/root-be", DROP, SERVER),
    (PARTS + "/n", DROP, SERVER), (PARTS + "/n-be", DROP, SERVER),
    (PARTS + "/boot/component/order", [{"id": "root-be"}], SERVER),
    (PARTS + "/boot/component/order", [{"id": "n"}], SERVER),
    (PARTS + "/boot/component/order", [{"id": "disk0"}], SERVER),
    (PARTS + "/boot2", part("boot_settings", order=[]), SERVER),
    (PARTS + "/panic2", part("qemu_pvpanic", enable_isa=True), SERVER),
    (PARTS + "/tty", part("serial_port", num="com1"), SERVER),
    (PARTS, {UPPER: part("serial_port", num="com1"),
             UPPER.lower(): part("serial_port", num="com2")}, SERVER),
]


def ensure__bad_body__400(version):
    with Server(version) as server:
        good = {"properties": PROPERTIES, "init": {"method": "Spec", "value": {
            "spec": server.spec(**nic())}}}
        for path, value, seen in REFUSED:
            answer = server.call("PUT", "/instance", changed(good, path, value))
            assert answer.status == 400, f"{path} = {value}: {answer.status}"
            row = server.exchanges()[-1]
            found = {"rows"} if exchange_rows.problems(row, ours=False) else set()
            schema = propolis_wire.API and propolis_wire.API.problems(row)
            found |= {"schema"} if (schema[0] if schema else "schema" in seen) else set()
            assert set(seen) <= found, f"{path} = {value}: seen by {found}, not by {seen}"
            assert seen or not found, f"{path} = {value}: seen by {found}"
        server.get().refused(424)  # nothing came of any
        equal(server.call("PUT", "/instance", good).status, 201)


def ensure__the_same_twice_in_a_body__400(version):
    with Server(version) as server:
        good = json.dumps({"properties": PROPERTIES, "init": {"method": "Spec", "value": {
            "spec": server.spec()}}})
        for once, twice in (('"cpus": 2', '"cpus": 2, "cpus": 2'),
                            ('"com1": {"type"', '"com1": {}, "com1": {"type"'),
                            ('"name": "web"', '"name": "web", "name": "web"')):
            assert once in good
            server.call("PUT", "/instance", good.replace(once, twice).encode()).refused(400)


def ensure__keys_that_look_like_uuids__are_uuids(version):
    with Server(version) as server:
        spec = server.spec(boot=part("boot_settings", order=[{"id": UPPER.lower()}]), root=None)
        spec["components"][UPPER] = part("virtio_disk", **DISK)
        equal(server.ensure(spec).status, 201)
        value = server.get("/spec", version="1.0.0").json["spec"]["value"]["spec"]["components"]
        assert UPPER.lower() in value and UPPER not in value


# What can be read but not be built.
UNFIT = [
    ("board/cpus", 0), ("board/cpus", 33), ("board/memory_mb", 0),
    ("components/com1", DROP), ("components/com1/component/num", "com2"),
    ("components/root-be/component/path", "/nonexistent/zvol"),
    ("components/root-be/component/path", "relative"),
    ("components/root-be/component/path", "/"),
    ("components/root-be/component/block_size", 0),
    ("components/root-be/component/block_size", 513),
    ("components/root-be/component/block_size", 1 << 21),
    ("components/seed-be/component/base64", "not base64!"),
    ("components/seed-be/component/base64", "YQ"), ("components/seed-be/component/base64", ""),
    ("components/seed-be/component/base64", "YWJj"),
    ("components/root-be", part("crucible_storage_backend", request_json="{}", readonly=False)),
]


def ensure__can_not_be_built__500_failed_and_again(version):
    with Server(version) as server:
        for path, value in UNFIT:
            answer = server.ensure(changed(server.spec(), path, value))
            assert answer.status == 500, f"{path} = {value}: {answer.status} {answer.text}"
            answer.refused(500, "Internal")
            equal(server.monitor(2).json["state"], "Failed")
            server.monitor(3).refused(410, "NoInstance")
            server.put("Run").refused(424)
        equal(server.ensure().status, 201)
        equal(server.monitor(0).json["gen"], 1)
        server.allowed = [".cpus:", ".memory_mb:", ".block_size:", ".base64:", "crucible"]


def ensure__asked_to_fail__500(version):
    with Server(version, fail_ensure=True) as server:
        server.ensure().refused(500)
        equal(server.get().json["instance"]["state"], "Failed")
        server.faults(fail_ensure=False)
        equal(server.ensure().status, 201)


def ensure__links_and_devices_of_the_zone(version):
    with Server(version, zone="vmm-1") as server:
        def host(*resources, links=("vmweb0",)):
            server.write("state.json", {"links": dict.fromkeys(links, {}), "zones": {
                "vmm-1": {"config": {"resources": list(resources)}}}})
        spec = server.spec(**nic())
        net = {"type": "net", "props": {"physical": "vmweb0"}}
        device = {"type": "device", "props": {"match": server.disk}}
        for resources, links, status in (
                ((), ("vmweb0",), 500), ((net,), ("vmweb0",), 500), ((device,), ("vmweb0",), 500),
                ((net, device), ("web1",), 500), ((net, device), ("vmweb0", "web1"), 201)):
            host(*resources, links=links)
            equal((resources, server.ensure(spec).status), (resources, status))


def ensure__while_there_is_one__409(version):
    with Server(version, hold="Creating") as server:
        connection = server.connect()
        body = {"properties": PROPERTIES,
                "init": {"method": "Spec", "value": {"spec": server.spec()}}}
        connection.request("PUT", "/instance", json.dumps(body), {
            "api-version": version, "Content-Type": "application/json"})
        server.event("state", state="Creating")
        server.ensure().refused(409, "AlreadyInitialized")
        server.put("Run").refused(424, "NoInstance")
        equal(server.get().json["instance"]["state"], "Creating")
        server.release()
        equal(connection.getresponse().status, 201)
        connection.close()
        server.ensure().refused(409, "AlreadyInitialized")
        server.put("Run")
        server.reach("Running")
        server.ensure().refused(409, "AlreadyInitialized")
        server.faults(hold="Stopped")
        server.put("Stop")
        server.reach("Stopped")
        server.ensure().refused(409, "AlreadyInitialized")
        server.release()
        server.reach("Destroyed")
        server.until(lambda: server.ensure().status == 201, "allowed again")
        equal(server.monitor(0).json["gen"], 1)


if __name__ == "__main__":
    run(propolis_wire.each_version(globals()))
