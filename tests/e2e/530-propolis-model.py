#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""What a machine on the backend propolis is, asks for and can not have, as the daemon and vmctl
tell it."""

import base64
import json
import os

from harness import Failure, RpcError, check, contains, equal, run, wait_until
from illumos import IllumosHost, Sshd

host = IllumosHost()
host.start()


def create(name, **params):
    """Without the network that the harness fills in."""
    return host.call("vm.create", name=name, backend="propolis", image=host.image, memory=64,
                     **params)


def seed_of(name):
    zone = host.zone(name)
    body = [row["request"] for row in host.exchanges() if row["zone"] == zone
            and (row["method"], row["path"]) == ("PUT", "/instance")][-1]
    blobs = [c["component"] for c in body["init"]["value"]["spec"]["components"].values()
             if c["type"] == "blob_storage_backend"]
    return base64.b64decode(blobs[0]["base64"])


def test_what_is_left_out_is_the_backends():
    row = create("left-out")
    equal(row["network"], {"type": "vnic", "mac": row["mac"]})
    contains(host.state()["links"], f"vm{row['id']}_n0")
    # and a VMFile that says the same is the same machine
    folder = host.project(f"vms:\n  same: {{backend: propolis, image: {host.image}, memory: 64}}\n",
                          "same")
    host.vmctl("up", cwd=folder)
    host.vmctl("plan", cwd=folder)  # its status says that there is nothing to do
    # another link is another machine, another address the same one from its next start on
    for network, when in (("type: vnic, link: igb1", "reload"), ("type: none", "reload"),
                          ("type: vnic, address: 192.0.2.9/24", "next start")):
        host.project(f"vms:\n  same: {{backend: propolis, image: {host.image}, memory: 64, "
                     f"network: {{{network}}}}}\n", "same")
        contains(host.vmctl("plan", cwd=folder, status=10).stdout, when)
    host.call("vm.destroy", name="left-out")
    host.gone("same")


def test_capabilities():
    row = [b for b in host.call("system.info")["backends"] if b["name"] == "propolis"][0]
    equal(row["available"], True)
    for word in ("network vnic", "firmware uefi", "console", "ssh"):
        contains(row["capabilities"], word)
    for word in ("suspend", "resume", "snapshot", "network user", "network tap", "firmware bios",
                 "power button", "image commit", "port forwards"):
        contains(row["lacks"], word)
    contains(host.vmctl("daemon", "status").stdout, "lacks: suspend, resume, snapshot")


def test_g97_suspend_is_refused_with_the_reason():
    create("s", network="none", start=True)
    error = host.refused("unsupported", "vm.suspend", name="s")
    contains(error["message"], "'s' asks for suspend, which the backend 'propolis' can not do: ")
    contains(error["message"], "propolis-server")
    contains(error["data"]["hint"], "vmctl stop s")
    equal(error["data"]["object"], "s")
    equal(host.vm("s")["state"], "running")
    host.gone("s")


def test_ports_are_refused_with_the_reason():
    error = host.refused("unsupported", "vm.create", name="p", backend="propolis", memory="64MiB",
                         image=host.image, ports=["8080:80"])
    contains(error["message"], "'p' asks for port forwards, which the backend 'propolis' can not do")
    contains(error["message"], "an address of its own")
    contains(error["data"]["hint"], "leave 'ports' out")
    check("p" not in host.names(), "nothing was made")


def test_g97_the_screen_is_told():
    create("v", network="none", start=True)
    vnc = host.vm("v")["vnc"]
    contains(vnc, ":5900")
    contains(host.vmctl("status", "v").stdout, f"VNC:         {vnc}\n")
    host.call("vm.stop", name="v", timeout=0)
    check("vnc" not in host.vm("v"), "nothing is served")
    host.gone("v")


def test_a_disk_that_is_no_file():
    row = create("d", network="none")
    check("overlay" not in row, row)
    error = host.refused("unsupported", "image.commit", vm="d", name="mine:1")
    contains(error["message"], "image commit, which the backend 'propolis' can not do")
    equal(error["data"]["object"], "d")
    host.gone("d")


def test_an_address_reaches_the_guest():
    create("n", cloud_init={}, start=True, network={
        "type": "vnic", "address": "192.0.2.10/24", "gateway": "192.0.2.1", "dns": ["192.0.2.2"]})
    row = host.vm("n")
    equal(row["network"]["address"], "192.0.2.10/24")
    equal(row["ssh"]["host"], "192.0.2.10")
    seed = seed_of("n")
    at = seed.index(b'"ethernets"')
    config = json.loads(seed[seed.rindex(b"{", 0, at):].split(b"\n\0", 1)[0].split(b"\0", 1)[0])
    card = config["ethernets"]["nic0"]
    equal(card["match"], {"macaddress": row["mac"]})
    equal(card["addresses"], ["192.0.2.10/24"])
    equal(card["routes"], [{"to": "0.0.0.0/0", "via": "192.0.2.1"}])
    equal(card["nameservers"], {"addresses": ["192.0.2.2"]})
    host.gone("n")


def test_g96_a_stop_says_why_the_guest_was_not_asked():
    create("w", network="none", start=True)
    done = host.vmctl("stop", "w", "--timeout", "60")
    contains(done.stderr, "'w' can not be asked to power off: it has no network")
    contains(done.stdout, "terminated by stop")
    host.gone("w")


def test_g96_destroy_asks_the_guest_too():
    guest = Sshd(host, "127.88.0.3")
    create("asked", **guest.params())
    starting = host.rpc(120)
    request = starting.begin("vm.start", name="asked")
    guest.become("asked")
    equal(starting.answer(request)["state"], "running")
    starting.close()
    host.call("vm.wait", name="asked", timeout=60, **{"for": "ssh"})
    host.call("vm.destroy", name="asked")
    check(guest.asked_to_power_off(), "it was asked")
    host.nothing_left()


def test_a_zone_that_hangs_is_told_and_stays_stopping():
    create("h", network="none", start=True)
    host.faults({"tool": "zoneadm", "verb": "halt", "effect": "stuck"})
    connection = host.rpc(200)
    try:
        connection.call("vm.stop", name="h", timeout=0)
        raise Failure("it was stopped")
    except RpcError as e:
        equal((e.name, e.error["data"]["object"]), ("timed_out", "h"))
        contains(e.error["message"], "machine 'h' does not end, not even by halt: ")
        contains(e.error["message"], "shutting_down")
    equal(host.vm("h")["state"], "stopping")
    host.refused("wrong_state", "vm.start", name="h")
    host.faults()

    equal(host.call("vm.stop", name="h", timeout=0)["state"], "stopped")
    host.gone("h")


def test_an_image_that_goes_takes_its_volume():
    create("i", network="none")
    digest = host.vm("i")["image"]["digest"]
    volume = "rpool/vmm/images/" + digest[len("sha256:"):][:32]
    check(volume in host.state()["datasets"], volume)
    host.call("vm.destroy", name="i")
    host.call("image.rm", image=digest)
    wait_until("the volume to go", lambda: volume not in host.state()["datasets"])
    host.nothing_left()


def test_its_own_check_is_made_by_plan():
    bad = {"name": "p", "backend": "propolis", "vcpus": 255, "image": host.image,
           "network": {"type": "none"}}
    error = host.refused("invalid_params", "file.plan",
                         project=os.path.join(host.dir, "VMFile.yaml"), vms=[bad])
    contains(error["message"], "processors")
    equal(host.names(), [])


run(globals(), [host])
