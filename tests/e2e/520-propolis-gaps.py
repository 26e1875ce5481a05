#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""What was missing in the original's backend for Propolis, each gap by its number."""

import json
import os
import re
import socket

from harness import RpcError, check, contains, equal, run, wait_until
from illumos import FAKE, MIB, IllumosHost, Sshd

host = IllumosHost("start_timeout: 20s\n")
host.start()


def refused_start(name):
    try:
        host.call("vm.start", name=name)
    except RpcError as e:
        return e.error
    return check(False, f"'{name}' started")


def said(name, method, path):
    """What was said to the machine's server."""
    zone = host.zone(name)
    return [row for row in host.exchanges() if row["zone"] == zone and row["method"] == method
            and row["path"].split("?")[0] == path]


def attributes(name):
    return {r["props"]["name"]: r["props"]["value"]
            for r in host.zone_row(name)["config"]["resources"] if r["type"] == "attr"}


def command_line(pid):
    with open(f"/proc/{pid}/cmdline") as f:
        return f.read().rstrip("\0").split("\0")


def test_g90_each_machine_has_an_address_that_the_host_reaches():
    for name in ("a", "b"):
        host.create(name, start=True)
        host.booted(name)
    places = {name: attributes(name)["vmm-address"] for name in ("a", "b")}
    check(places["a"] != places["b"], places)
    for name, place in places.items():
        check(re.fullmatch(re.escape(host.network) + r"\.[0-9]+\.[0-9]+/16", place), place)
        check(not place.startswith((host.network + ".0.1/", host.network + ".0.0/")), place)
        hosts = {row["request_headers"]["host"] for row in host.exchanges()
                 if row["zone"] == host.zone(name)}
        equal(hosts, {f"{place.split('/')[0]}:{host.port}"}, "only its own server was spoken to")
        # and the zone has a link of its own for that, besides the guest's
        links = host.state()["links"]
        equal(links[attributes(name)["vmm-link"]]["over"], "vmmstub0")
    host.gone("a", "b")


def test_g91_the_body_is_the_apis_and_every_answer_counts():
    host.create("body", vcpus=3, memory=192, cloud_init={},
                network={"type": "vnic", "name": "vmmbody0"}, start=True)
    host.booted("body")
    ensure, = said("body", "PUT", "/instance")
    equal((ensure["status"], ensure["api_version"]), (201, "1.0.0"))
    spec = ensure["request"]["init"]["value"]["spec"]
    equal((spec["board"]["cpus"], spec["board"]["memory_mb"]), (3, 192))
    kinds = sorted(c["type"] for c in spec["components"].values())
    equal(kinds, ["blob_storage_backend", "boot_settings", "file_storage_backend", "qemu_pvpanic",
                  "serial_port", "virtio_disk", "virtio_disk", "virtio_network_backend",
                  "virtio_nic"])
    equal(ensure["request"]["properties"]["id"], host.vm("body")["uuid"])
    order = [c["component"]["order"] for c in spec["components"].values()
             if c["type"] == "boot_settings"][0]
    first = spec["components"][order[0]["id"]]
    backend = spec["components"][first["component"]["backend_id"]]
    equal(backend["type"], "file_storage_backend", "it boots from its disk, not from the seed")
    equal([row["request"] for row in said("body", "PUT", "/instance/state")], ["Run"])
    host.call("vm.stop", name="body", timeout=1)
    for path in ("/instance", "/instance/state"):
        host.server_faults({"method": "PUT", "path": path, "nth": 1, "status": 400,
                            "body": {"request_id": "x", "message": "that is no good"}})
        contains(refused_start("body")["message"], "that is no good")
        equal(host.vm("body")["state"], "failed")
        host.server_faults()
    host.gone("body")


def test_g92_a_server_without_an_instance_is_ready():
    host.create("ready", start=True)
    looks = said("ready", "GET", "/instance")
    equal(looks[-1]["status"], 424)
    equal(host.vm("ready")["state"], "running")
    host.call("vm.stop", name="ready", force=True)
    # 404 is said by something that is no propolis-server
    host.server_faults({"method": "GET", "path": "/instance", "status": 404,
                        "body": {"request_id": "x", "message": "Not Found"}})
    contains(refused_start("ready")["message"], "404")
    host.server_faults()
    host.gone("ready")


def test_g93_the_server_is_started_as_it_wants_to_be():
    host.create("args", start=True)
    address = attributes("args")["vmm-address"].split("/")[0]
    argv = command_line(host.server_pid("args"))
    equal(argv[-5:], [FAKE + "/propolis-server", "run", host.rom, f"{address}:{host.port}",
                      f"{address}:5900"])
    check(not any(a.endswith(".toml") for a in argv), argv)
    host.gone("args")
    # no boot ROM: refused before anything is made
    os.rename(host.rom, host.rom + ".away")
    try:
        error = host.refused("unsupported", "vm.create", name="args", backend="propolis",
                             image=host.image, network={"type": "none"})
        contains(error["message"], host.rom)
        contains(error["data"]["hint"], "propolis_bootrom")
    finally:
        os.rename(host.rom + ".away", host.rom)
    host.nothing_left()


def test_g94_the_zone_has_what_the_server_needs():
    host.create("zone", network={"type": "vnic", "name": "mynet0", "link": "igb1"}, start=True)
    row = host.zone_row("zone")
    equal((row["config"]["props"]["brand"], row["config"]["props"]["ip-type"],
           row["config"]["props"]["autoboot"]), ("vmm", "exclusive", "false"))
    zonepath = row["config"]["props"]["zonepath"]
    equal(os.stat(zonepath).st_mode & 0o777, 0o700)
    by_kind = {}
    for resource in row["config"]["resources"]:
        by_kind.setdefault(resource["type"], []).append(resource["props"])
    links = host.state()["links"]
    equal([n["physical"] for n in by_kind["net"]], ["mynet0", attributes("zone")["vmm-link"]])
    equal(links["mynet0"]["over"], "igb1", "the link that was asked for, the name that was")
    equal([d["match"] for d in by_kind["device"]],
          [f"{host.devices}/rpool/vmm/machines/{host.vm('zone')['id']}"])
    shared = {f["dir"]: f for f in by_kind["fs"]}
    for path in (FAKE, os.path.dirname(host.rom)):
        inside = [f for d, f in shared.items() if (path + "/").startswith(d + "/")]
        check(inside, f"{path} can not be seen in the zone: {list(shared)}")
        equal((inside[0]["special"], inside[0]["type"]), (inside[0]["dir"], "lofs"))
        check("ro" in inside[0]["options"], inside)
    equal(host.calls("zlogin"), [], "nobody logs in to a zone that has no login")
    host.gone("zone")
    # without a link of its own it is over the configured one
    host.create("plain", network={"type": "vnic"})
    equal(host.state()["links"][f"vm{host.vm('plain')['id']}_n0"]["over"], "igb0")
    host.gone("plain")


def test_g95_failures_are_errors_and_what_was_asked_for_is_used():
    for tool, verb in (("zfs", "clone"), ("zonecfg", "create"), ("zoneadm", "install"),
                       ("dladm", "create-vnic")):
        host.faults({"tool": tool, "verb": verb, "stderr": f"{tool} would not {verb}"})
        error = host.refused("failed", "vm.create", name="fail", backend="propolis",
                             image=host.image, network={"type": "vnic"})
        contains(error["message"], f"{tool} would not {verb}")
        host.faults()
        host.nothing_left()
    # the image is imported from wherever it is, and the disk as large as it shall be
    host.create("size", disk="7MiB", firmware="uefi", start=True)
    device = f"{host.devices}/rpool/vmm/machines/{host.vm('size')['id']}"
    equal(os.path.getsize(device), 7 * MIB)
    with open(host.image, "rb") as image, open(device, "rb") as disk:
        data = image.read()
        equal(disk.read(len(data)), data)
    host.gone("size")
    host.refused("invalid_params", "vm.create", name="small", backend="propolis",
                 image=host.image, disk="1MiB", network={"type": "none"})
    host.nothing_left()


def test_g96_stop_state_and_address_are_the_guests():
    guest = Sshd(host, "127.88.96.1")
    host.create("g", **guest.params())
    connection = host.rpc(120)
    request = connection.begin("vm.start", name="g")
    guest.become("g")
    equal(connection.answer(request)["state"], "running")
    connection.close()
    row = host.call("vm.wait", name="g", timeout=60, **{"for": "ssh"})
    equal(row["ssh"]["host"], "127.88.96.1")
    check(row["ssh"]["host"] != attributes("g")["vmm-address"].split("/")[0], "not the zone's")
    # asked first, and the result says which way it went
    row = host.call("vm.stop", name="g", timeout=60)
    check(guest.asked_to_power_off(), "it was asked")
    equal((row["how"], row["by"]), ("graceful", "ssh"))
    equal([r["request"] for r in said("g", "PUT", "/instance/state")], ["Run"])
    # the instance's state counts, not only the zone's
    host.create("s", start=True)
    host.booted("s")
    host.server_faults(hold="Stopped")
    host.guest("s", "poweroff")
    wait_until("the guest to be off", lambda: any(
        json.loads(line).get("state") == "Stopped" and host.zone("s") in line
        for line in open(os.path.join(host.fake, "server-events.jsonl"))))
    host.server_faults()
    wait_until("it to be known", lambda: host.vm("s")["state"] == "stopped")
    wait_until("its zone to be halted", lambda: host.zone_row("s")["state"] == "installed")
    # a zone that is only configured is not one that can be started
    host.tool("zoneadm", "-z", host.zone("s"), "uninstall", "-F")
    contains(refused_start("s")["message"], "configured")
    host.gone("g", "s")


def test_g97_no_suspend_is_said_and_vnc_can_be_reached():
    host.create("v", start=True)
    for method in ("vm.suspend", "vm.resume"):
        try:
            host.call(method, name="v")
            check(False, f"{method} was not refused")
        except RpcError as e:
            check(e.name in ("unsupported", "wrong_state"), e.error)
            if method == "vm.suspend":
                equal(e.name, "unsupported")
                contains(e.error["message"], "propolis-server can not pause a machine")
    equal(host.vm("v")["state"], "running")
    vnc = host.vm("v")["vnc"]
    address = attributes("v")["vmm-address"].split("/")[0]
    equal(vnc, f"{address}:5900")
    with socket.create_connection((address, 5900), timeout=10) as client:
        contains(client.recv(64).decode(), "RFB 003.008")
    contains(host.vmctl("status", "v").stdout, vnc)
    host.gone("v")


run(globals(), [host])
