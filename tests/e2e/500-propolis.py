#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""A machine's life on the backend propolis, with the tools and the server of tests/fake."""

import json
import os
import pty
import select
import shutil
import subprocess

from harness import (VMCTL, RpcError, check, contains, equal, process_exists, run, wait_until)
from illumos import BOOTED, MIB, IllumosHost, Sshd, together

host = IllumosHost()
host.start()

TWO = """vms:
  db:
    backend: propolis
    image: {image}
    memory: 128
    network: {{type: none}}
  web:
    backend: propolis
    image: {image}
    memory: {memory}
    vcpus: 2
    network: {{type: vnic, name: vmmweb0, link: igb1}}
    depends-on: [db]
"""


def project(memory="256", more=""):
    return host.project(TWO.format(image=host.image, memory=memory) + more)


def ensure_of(name):
    """What the server was asked to make at the machine's last start."""
    zone = host.zone(name)
    return [row["request"] for row in host.exchanges() if row["zone"] == zone
            and (row["method"], row["path"]) == ("PUT", "/instance")][-1]


def component(body, kind):
    found = [c["component"] for c in body["init"]["value"]["spec"]["components"].values()
             if c["type"] == kind]
    equal(len(found), 1, kind)
    return found[0]


def test_life_cycle():
    row = host.create("a", vcpus=2, memory=128, disk="5MiB",
                      network={"type": "vnic", "name": "vmma0"})
    equal((row["state"], row["backend"]), ("prepared", "propolis"))
    host.only_machine("a")
    zone = host.zone_row("a")
    equal(zone["state"], "installed")
    links = host.state()["links"]
    equal(links["vmma0"]["over"], "igb0")
    equal([int(o, 16) for o in links["vmma0"]["mac"].split(":")],
          [int(o, 16) for o in host.vm("a")["mac"].split(":")])
    row = host.call("vm.start", name="a")
    equal(row["state"], "running")
    equal(host.zone_row("a")["state"], "running")
    host.booted("a")
    body = ensure_of("a")
    equal(body["properties"]["id"], host.vm("a")["uuid"])
    equal(body["properties"]["name"], "a")
    equal(body["init"]["value"]["spec"]["board"]["cpus"], 2)
    equal(body["init"]["value"]["spec"]["board"]["memory_mb"], 128)
    equal(component(body, "virtio_network_backend")["vnic_name"], "vmma0")
    device = os.path.join(host.devices, "rpool/vmm/machines", row["id"])
    equal(component(body, "file_storage_backend")["path"], device)
    equal(os.path.getsize(device), 5 * MIB, "R-02: the disk has the size that was asked for")
    with open(device, "rb") as disk, open(host.image, "rb") as image:
        data = image.read()
        equal(disk.read(len(data)), data, "the disk is the image")
    host.only_machine("a")
    row = host.call("vm.stop", name="a", timeout=1)
    equal((row["state"], row["reason"]), ("stopped", "user"))
    equal((row["how"], row["by"]), ("terminated", "stop"))
    equal(host.zone_row("a")["state"], "installed")
    equal(host.servers(), [])
    host.only_machine("a")
    equal(host.call("vm.start", name="a")["state"], "running")
    host.booted("a", 2)
    host.gone("a")


def test_by_vmctl():
    host.vmctl("create", "--name", "cli", "--backend", "propolis", "--image", host.image,
               "--memory", "64", "--network", "none")
    equal(host.json("status", "cli")["state"], "prepared")
    host.vmctl("start", "cli")
    contains(host.vmctl("list").stdout, "propolis")
    contains(host.vmctl("status", "cli").stdout, "running")
    host.booted("cli")
    contains(host.vmctl("log", "--console", "cli").stdout, "Booting cli")
    contains(host.vmctl("stop", "cli", "--timeout", "1").stdout, "stopped 'cli'")
    contains(host.vmctl("status", "cli").stdout, "stopped")
    contains(host.vmctl("log", "--console", "cli").stdout, "Booting cli")
    host.vmctl("destroy", "cli")
    host.nothing_left()
    host.validate()


class Console:
    """vmctl console on a terminal."""

    def __init__(self, name):
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen([VMCTL, "console", name], env=host.env, stdin=slave,
                                        stdout=slave, stderr=slave)
        os.close(slave)
        self.text = b""

    def until(self, text):
        def seen():
            if select.select([self.master], [], [], 0)[0]:
                self.text += os.read(self.master, 65536)
            return text.encode() in self.text
        wait_until(f"{text!r} on the console, not {self.text!r}", seen)

    def type(self, text):
        os.write(self.master, text.encode())

    def end(self):
        self.process.kill()
        self.process.wait()
        os.close(self.master)


def test_console_is_shared_and_kept():
    host.create("con", start=True)
    host.booted("con")
    consoles = [Console("con"), Console("con")]
    consoles[0].until(BOOTED)
    consoles[1].until(BOOTED)
    consoles[0].type("hello there\r")
    for console in consoles:
        console.until("you typed: hello there")
    host.guest("con", "fragment", text="one message in three frames\r\n")
    host.guest("con", "ping", text="are you there")
    host.guest("con", "print", text="after the ping\r\n")
    for console in consoles:
        console.until("in three frames")
        console.until("after the ping")
    wait_until("the pong", lambda: [e for e in events() if e["event"] == "pong"
                                    and e["data"] == "are you there"])
    host.guest("con", "print", text="0123456789abcdef" * 64, times=100)
    host.guest("con", "print", text="\r\nthe end of much\r\n")
    for console in consoles:
        console.until("the end of much")
        console.end()
    wait_until("all of it in the log", lambda: "the end of much" in host.console_log("con"))
    log = host.console_log("con")
    equal(log.count("0123456789abcdef"), 6400, "nothing lost, nothing doubled")
    equal(log.count("you typed: hello there"), 1)
    host.gone("con")


def test_console_that_outgrew_the_server_tells_how_much_was_lost():
    host.create("long", start=True)
    host.booted("long")
    path = os.path.join(host.vm("long")["work_dir"], "console.log")

    def log():
        with open(path, "rb") as f:
            return f.read()
    at_first, zone = len(log()), host.zone("long")
    host.kill()
    piece = "0123456789abcde\n" * 1024
    host.guest("long", "print", zone, text=piece, times=200)
    host.guest("long", "print", zone, text="the newest line")
    host.start()
    wait_until("the newest line", lambda: b"the newest line" in log())
    before, rest = log().split(b"\r\n[vmmd: ")
    lost, after = rest.split(b" bytes of the console were lost]\r\n")
    equal(len(before) + int(lost) + len(after),
          at_first + 200 * len(piece) + len("the newest line"), "every byte is kept or told of")
    host.guest("long", "print", text="and it goes on")
    wait_until("what came later", lambda: b"and it goes on" in log())
    equal(log().count(b"the newest line"), 1)
    host.gone("long")


def events():
    path = os.path.join(host.fake, "server-events.jsonl")
    with open(path) as f:
        return [json.loads(line) for line in f]


def test_up_down_reload():
    folder = project()
    equal(host.vmctl("plan", cwd=folder, status=10).returncode, 10)
    result = host.json("up", cwd=folder)
    equal({vm["name"]: vm["action"] for vm in result["vms"]}, {"db": "created", "web": "created"})
    equal({host.vm(n)["state"] for n in ("db", "web")}, {"running"})
    equal(host.state()["links"]["vmmweb0"]["over"], "igb1")
    equal(host.vmctl("plan", cwd=folder).returncode, 0)
    result = host.json("up", cwd=project("512"))
    web = [vm for vm in result["vms"] if vm["name"] == "web"][0]
    equal([(c["field"], c["from"], c["to"]) for c in web["changed"]],
          [("memory", "256 MiB", "512 MiB")])
    before = host.vm("web")["id"]
    host.vmctl("down", "--timeout", "1", cwd=folder)
    equal({host.vm(n)["state"] for n in ("db", "web")}, {"stopped"})
    equal(host.servers(), [])
    host.vmctl("up", cwd=folder)
    equal(ensure_of("web")["init"]["value"]["spec"]["board"]["memory_mb"], 512)
    host.vmctl("reload", cwd=folder)
    check(host.vm("web")["id"] != before, "a new machine")
    equal(host.vm("web")["state"], "running")
    host.vmctl("down", "--destroy", cwd=folder)
    host.nothing_left()
    host.validate()


def test_a_daemon_that_is_killed_finds_its_machines():
    host.create("adopt", start=True, network={"type": "vnic"})
    host.create("idle")
    host.booted("adopt")
    pid = host.server_pid("adopt")
    before = host.vm("adopt")
    host.guest("adopt", "print", text="before it was killed\r\n")
    wait_until("the line", lambda: "before it was killed" in host.console_log("adopt"))
    host.kill()
    path = os.path.join(host.fake, "server-commands", f"vmm-{before['id']}.jsonl")
    with open(path, "a") as f:
        f.write(json.dumps({"do": "print", "text": "while nobody listened\r\n"}) + "\n")
    wait_until("it to be printed", lambda: any(e["event"] == "command" for e in events()[-1:]))
    host.start()
    wait_until("adoption", lambda: host.vm("adopt")["state"] == "running"
               and host.vm("adopt")["responsive"])
    equal((host.server_pid("adopt"), host.vm("adopt")["id"]), (pid, before["id"]))
    equal(host.vm("idle")["state"], "prepared")
    host.guest("adopt", "print", text="and after\r\n")
    wait_until("the newest line", lambda: "and after" in host.console_log("adopt"))
    log = host.console_log("adopt")
    for line in ("Booting adopt", "before it was killed", "while nobody listened", "and after"):
        equal(log.count(line), 1, line)
    check(log.index("before it was") < log.index("while nobody") < log.index("and after"), log)
    equal(len(host.calls("zoneadm", "boot")), len({r["n"] for r in host.calls("zoneadm", "boot")}))
    # once more killed, then ended in order: the machine does not notice
    for how in ("kill", "stop", "kill"):
        host.restart(how)
        wait_until("adoption", lambda: host.vm("adopt")["state"] == "running"
                   and host.vm("adopt")["responsive"])
        equal(host.server_pid("adopt"), pid)
    host.guest("adopt", "print", text="at last\r\n")
    wait_until("the last line", lambda: "at last" in host.console_log("adopt"))
    equal(host.console_log("adopt").count("Booting adopt"), 1)
    equal(host.console_log("adopt").count("and after"), 1)
    host.call("vm.stop", name="adopt", timeout=1)
    host.gone("adopt", "idle")


def test_what_ended_while_the_daemon_was_away():
    for name in ("off", "dead"):
        host.create(name, start=True)
        host.booted(name)
    pids = [host.server_pid(name) for name in ("off", "dead")]
    zone = host.zone("off")
    host.kill()
    with open(os.path.join(host.fake, "server-commands", zone + ".jsonl"), "a") as f:
        f.write('{"do": "poweroff"}\n')
    wait_until("it to be off", lambda: [e for e in events() if e["zone"] == zone
                                        and e.get("state") == "Destroyed"])
    os.kill(pids[1], 9)
    wait_until("the server to end", lambda: not process_exists(pids[1]))
    host.start()
    wait_until("it to be known as stopped", lambda: host.vm("off")["state"] == "stopped")
    wait_until("the other as failed", lambda: host.vm("dead")["state"] == "failed")
    wait_until("its zone to be halted", lambda: host.zone_row("off")["state"] == "installed")
    equal(host.call("vm.start", name="dead")["state"], "running")
    host.gone("off", "dead")


def test_ten_at_once():
    names = [f"ten{i}" for i in range(10)]
    rows = together([lambda n=n: host.create(n, network={"type": "vnic"}, start=True)
                     for n in names])
    equal({r if isinstance(r, str) else r["state"] for r in rows}, {"running"})
    zones = host.state()["zones"]
    addresses = set()
    for name in names:
        host.booted(name)
        resources = zones[host.zone(name)]["config"]["resources"]
        addresses |= {r["props"]["value"] for r in resources
                      if r["type"] == "attr" and r["props"]["name"] == "vmm-address"}
    equal(len(addresses), 10, "G-90: each has an address of its own")
    check(f"{host.network}.0.1/16" not in addresses, "the first is the host's own")
    equal(len(host.servers()), 10)
    equal(len(host.calls("zfs", "snapshot")) > 0, True)
    images = [d for d in host.state()["datasets"] if d.startswith("rpool/vmm/images/")]
    equal(len(images), 2, "one volume and its snapshot for all of them")
    stopped = together([lambda n=n: host.call("vm.stop", name=n, force=True) for n in names])
    equal({r if isinstance(r, str) else r["state"] for r in stopped}, {"stopped"})
    equal(host.servers(), [])
    together([lambda n=n: host.call("vm.destroy", name=n) for n in names])
    host.nothing_left()
    host.validate()


def test_the_guest_powers_off_and_resets():
    host.create("g", start=True)
    host.booted("g")
    host.guest("g", "reset")
    host.booted("g", 2)
    equal(host.vm("g")["state"], "running")
    host.guest("g", "poweroff")
    wait_until("it to be stopped", lambda: host.vm("g")["state"] == "stopped")
    contains(host.vm("g")["reason"], "guest")
    wait_until("its zone to be halted", lambda: host.zone_row("g")["state"] == "installed")
    equal(host.call("vm.start", name="g")["state"], "running")
    host.gone("g")


def test_servers_old_and_new():
    for version, skip in (("1.0.0", False), ("5.0.0", True), ("1.0.0", True)):
        host.server_faults(max_version=version, skip_states=skip)
        name = "v" + version[0] + str(skip).lower()
        host.create(name, start=True)
        host.booted(name)
        host.guest(name, "reset")
        host.booted(name, 2)
        equal(host.vm(name)["state"], "running")
        equal(host.call("vm.stop", name=name, timeout=1)["state"], "stopped")
        equal({row["api_version"] for row in host.validate()}, {"1.0.0"})
        host.gone(name)
    host.server_faults()


def test_chunked_and_slow_answers():
    host.server_faults({"chunked": True}, {"slow": 0.001, "path": "/instance/state"})
    host.create("slow", start=True)
    host.booted("slow")
    equal(host.call("vm.stop", name="slow", timeout=1)["state"], "stopped")
    host.server_faults()
    host.gone("slow")


def test_images_are_imported_once_and_go_with_the_store():
    host.create("one")
    digest = host.vm("one")["image"]["digest"]
    name = "rpool/vmm/images/" + digest.removeprefix("sha256:")[:32]
    datasets = host.state()["datasets"]
    equal(datasets[name]["props"]["vmm:digest"], digest)
    equal(int(datasets[name]["props"]["volsize"]), 4 * MIB, "rounded up")
    copies = len(host.calls("dd"))
    host.create("two")
    equal(len(host.calls("dd")), copies, "not copied again")
    host.refused("wrong_state", "image.rm", image=digest)
    host.call("vm.destroy", name="one")
    host.call("vm.destroy", name="two")
    host.call("image.rm", image=digest)
    wait_until("its volume to go", lambda: name not in host.state()["datasets"])
    host.nothing_left()
    # a qcow2 image is made raw first
    qcow2 = os.path.join(host.dir, "disk.qcow2")
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", host.image, qcow2],
                   check=True)
    host.call("vm.create", name="cow", backend="propolis", image=qcow2, memory=64,
              network={"type": "none"})
    device = os.path.join(host.devices, "rpool/vmm/machines", host.vm("cow")["id"])
    with open(device, "rb") as disk, open(host.image, "rb") as image:
        data = image.read()
        equal(disk.read(len(data)), data, "the disk is the image")
    host.gone("cow")


def test_the_guests_address_is_found_by_its_mac():
    host.create("seek", network={"type": "vnic"}, start=True)
    check(host.vm("seek")["ssh"].get("host") is None, "nobody knows it yet")
    host.neighbours(**{"02:aa:bb:cc:dd:ee": ["192.0.2.9"], host.vm("seek")["mac"]: ["192.0.2.77"]})
    wait_until("the address", lambda: host.vm("seek")["ssh"].get("host") == "192.0.2.77", 60)
    host.neighbours()
    host.gone("seek")


def test_provisioning_over_ssh():
    guest = Sshd(host, "127.88.0.1")
    folder = host.project(f"""vms:
  prov:
    backend: propolis
    image: {host.image}
    memory: 64
    network: {{type: vnic, address: 127.88.0.1/8}}
    ssh: {{user: {guest.user}, port: {guest.port}}}
    cloud-init: {{}}
    provision:
      - shell: {{inline: "echo $GREETING > ~/greeting", env: {{GREETING: hello}}}}
      - file: {{source: data, destination: {guest.home}/data, mode: "0600"}}
      - shell: {{inline: "cat {guest.home}/data"}}
""", "prov")
    with open(os.path.join(folder, "data"), "w") as f:
        f.write("the file's content\n")
    up = subprocess.Popen([VMCTL, "--json", "up"], cwd=folder, env=host.env, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_until("the machine", lambda: host.names() == ["prov"] or up.poll() is not None)
    if up.poll() is None:
        guest.become("prov")
    out, err = up.communicate(timeout=120)
    equal(up.returncode, 0, out + err)
    with open(os.path.join(guest.home, "greeting")) as f:
        equal(f.read(), "hello\n")
    with open(os.path.join(guest.home, "data")) as f:
        equal(f.read(), "the file's content\n")
    row = host.vm("prov")
    equal((row["ssh"]["host"], row["ssh"]["port"], row["ssh"]["reachable"], row["cloud_init"]),
          ("127.88.0.1", guest.port, True, "done"))
    equal(row["provision"]["state"], "done")
    contains(host.vmctl("log", "--provision", "prov").stdout, "the file's content")
    equal(host.vmctl("exec", "prov", "--", "echo", "inside").stdout, "inside\n")
    blob = component(ensure_of("prov"), "blob_storage_backend")
    equal(blob["readonly"], True)
    check(len(blob["base64"]) > 1000, "the seed is there")
    # the guest is asked over SSH, and powers off by itself
    row = host.call("vm.stop", name="prov", timeout=60)
    check(guest.asked_to_power_off(), "it was asked")
    equal((row["state"], row["how"], row["by"]), ("stopped", "graceful", "ssh"))
    equal(host.zone_row("prov")["state"], "installed")
    host.gone("prov")


def test_a_guest_that_will_not_power_off():
    guest = Sshd(host, "127.88.0.2")
    host.create("will-not", **guest.params())
    starting = host.rpc(120)
    request = starting.begin("vm.start", name="will-not")
    guest.become("will-not", powers_off=False)
    equal(starting.answer(request)["state"], "running")
    starting.close()
    host.call("vm.wait", name="will-not", timeout=60, **{"for": "ssh"})
    row = host.call("vm.stop", name="will-not", timeout=3)
    check(guest.asked_to_power_off(), "it was asked")
    equal((row["state"], row["how"], row["by"]), ("stopped", "terminated", "stop"))
    host.gone("will-not")


def test_g46_what_it_can_not_do_is_refused_before_anything_is_made():
    calls = len(host.calls())
    host.refused("unsupported", "vm.create", name="u", backend="propolis", image=host.image,
                 network={"type": "user"})
    host.refused("unsupported", "vm.create", name="u", backend="propolis", image=host.image,
                 network={"type": "tap", "bridge": "br0"})
    host.refused("unsupported", "vm.create", name="u", backend="propolis", image=host.image,
                 firmware="bios", network={"type": "none"})
    for params in ({"vcpus": 33}, {"network": {"type": "vnic", "name": "no-such-name"}},
                   {"network": {"type": "vnic", "name": "vnic01"}}):
        params.setdefault("network", {"type": "none"})
        host.refused("invalid_params", "vm.create", name="u", backend="propolis",
                     image=host.image, **params)
    folder = host.project(f"vms:\n  good: {{backend: propolis, image: {host.image}, network: "
                          f"{{type: none}}}}\n  bad: {{backend: propolis, image: {host.image}, "
                          "network: {type: user}}\n", "bad")
    check(host.vmctl("up", cwd=folder, status=None).returncode != 0)
    made = [c for c in host.calls()[calls:] if c["argv"] and c["argv"][0].startswith("create")
            or "install" in c["argv"]]
    equal(made, [])
    host.nothing_left()
    backends = {b["name"]: b for b in host.call("system.info")["backends"]}
    row = backends["propolis"]
    check(row["available"], row)
    check({"suspend", "snapshot", "network tap", "network user"} <= set(row["lacks"]), row)
    check({"network vnic", "firmware uefi", "console", "ssh"} <= set(row["capabilities"]), row)


def test_links_and_zones_of_others_are_refused():
    for link, code in (("web0", "conflict"), ("igb0", "failed"), ("vmmstub0", "failed")):
        error = host.refused(code, "vm.create", name="thief", backend="propolis",
                             image=host.image, network={"type": "vnic", "name": link})
        contains(error["message"], link)
        host.nothing_left()
    error = host.refused("failed", "vm.create", name="thief", backend="propolis",
                         image=host.image, network={"type": "vnic", "link": "nolink0"})
    contains(error["message"], "invalid link name 'nolink0'")
    host.nothing_left()


def test_a_host_without_the_tools():
    bare = IllumosHost()
    try:
        folder = os.path.join(bare.dir, "bin")
        os.makedirs(folder)
        for tool in ("zonecfg", "zfs", "dladm"):
            os.symlink(shutil.which(tool, path=bare.env["PATH"]), os.path.join(folder, tool))
        tools = os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "fake", "bin")
        bare.env["PATH"] = ":".join([folder] + [
            p for p in bare.env["PATH"].split(":")
            if os.path.realpath(p) != os.path.realpath(tools)])
        bare.start()
        error = bare.refused("unsupported", "vm.create", name="x", backend="propolis",
                             image=bare.image, network={"type": "none"})
        contains(error["message"], "zoneadm")
        equal(bare.names(), [])
    except RpcError as e:
        raise AssertionError(e.error) from e
    finally:
        bare.close()


run(globals(), [host])
