#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""The stand-ins for the tools of illumos refuse what the real ones do, and fail when told to."""

import json
import os
import shutil
import signal
import subprocess
import tempfile

from harness import TOP, check, contains, equal, process_exists, run, wait_until

BIN = os.path.join(TOP, "tests", "fake", "bin")
base = tempfile.mkdtemp(prefix="vmm-fake-")
ID = "0123456789ab"
ZONE = "vmm-" + ID
UUID = "11111111-2222-4333-8444-555555555555"


class Illumos:
    """A host of its own."""

    def __init__(self, name):
        self.dir = os.path.join(base, name)
        self.zones = os.path.join(self.dir, "zones")
        os.makedirs(self.zones)
        self.env = dict(os.environ, PATH=BIN + ":" + os.environ["PATH"], VMM_FAKE_DIR=self.dir)

    def path(self, *parts):
        return os.path.join(self.dir, *parts)

    def run(self, *argv, status=0, input=None, says=None):
        done = subprocess.run([os.path.join(BIN, argv[0]), *argv[1:]], input=input, env=self.env,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
        equal(done.returncode, status, f"{' '.join(argv)}: {done.stderr}")
        if status == 0:
            equal(done.stderr, "", " ".join(argv))
        if says:
            contains(done.stderr, says)
        return done.stdout

    def refused(self, *argv, says=None, input=None):
        self.run(*argv, status=1, says=says, input=input)

    def misused(self, *argv, says="usage"):
        self.run(*argv, status=2, says=says)

    def faults(self, *rules):
        with open(self.path("faults.json.part"), "w") as f:
            json.dump(rules, f)
        os.rename(self.path("faults.json.part"), self.path("faults.json"))

    def calls(self):
        with open(self.path("calls.jsonl")) as f:
            return [json.loads(line) for line in f]

    def state(self):
        with open(self.path("state.json")) as f:
            return json.load(f)

    def change(self, key, value):
        state = self.state()
        state[key] = value
        with open(self.path("state.json"), "w") as f:
            json.dump(state, f)


def script(host, server="/bin/server", links=("vmx_n0", "vmx_c0"), zone=ZONE, port="12400"):
    nets = "".join(f"add net\nset physical={link}\nend\n" for link in links)
    attrs = "".join(f'add attr\nset name={n}\nset type=string\nset value="{v}"\nend\n' for n, v in {
        "vmm-machine": UUID, "vmm-address": "none", "vmm-port": port, "vmm-link": links[-1],
        "vmm-server": server, "vmm-bootrom": "/rom", "vmm-vnc": "5900"}.items())
    return (f"create -b\nset brand=vmm\nset zonepath={host.zones}/{zone}\nset autoboot=false\n"
            f"set ip-type=exclusive\n{nets}add device\nset match={host.path('dev/zvol/rdsk')}/rpool/"
            f"vmm/machines/{ID}\nend\n{attrs}verify\ncommit\n")


def test_links():
    host = Illumos("links")
    host.run("dladm", "create-vnic", "-l", "igb0", "-m", "02:08:20:0a:0b:0c", "vmx_n0")
    host.run("dladm", "create-vnic", "-l", "vmmstub0", "vmx_c0")
    equal(host.run("dladm", "show-vnic", "-p", "-o", "link,over,macaddress", "vmx_n0"),
          "vmx_n0:igb0:2\\:8\\:20\\:a\\:b\\:c\n")
    equal(len(host.run("dladm", "show-vnic", "-p", "-o", "link").splitlines()), 2)
    host.refused("dladm", "create-vnic", "-l", "igb0", "vmx_n0", says="object already exists")
    for mac in ("2:8:20:a:b:c", "1:8:20:a:b:c", "2:8:20:a:b", "02-08-20-0a-0b-0d"):
        host.refused("dladm", "create-vnic", "-l", "igb0", "-m", mac, "vmy_n0", says="MAC")
    host.refused("dladm", "create-vnic", "-l", "none0", "vmy_n0", says="invalid link name 'none0'")
    host.refused("dladm", "create-vnic", "-l", "vmx_n0", "vmy_n0", says="invalid link name")
    for name in ("vm", "0vm", "vm-0", "vm01", "_a0", "v" * 31 + "0", "vm.0", "vm0x"):
        host.refused("dladm", "create-vnic", "-l", "igb0", name, says="invalid link name")
    host.run("dladm", "create-vnic", "-l", "igb0", "v" * 30 + "0")
    host.misused("dladm", "create-vnic", "vmy_n0", says="link must be specified")
    host.misused("dladm", "create-vnic", "-x", "vmy_n0", says="invalid option 'x'")
    host.misused("dladm", "make-vnic", "vmy_n0", says="unknown subcommand")
    host.misused("dladm")
    host.refused("dladm", "show-vnic", "-p", says="-p requires -o")
    host.refused("dladm", "show-vnic", "-p", "-o", "name", says="invalid output field")
    host.refused("dladm", "show-vnic", "-p", "-o", "link", "gone0", says="object not found")
    host.refused("dladm", "delete-vnic", "igb0")
    host.refused("dladm", "delete-etherstub", "vmmstub0", says="link busy")
    host.run("dladm", "delete-vnic", "vmx_c0")
    host.run("dladm", "delete-etherstub", "vmmstub0")
    host.refused("dladm", "delete-vnic", "vmx_c0", says="invalid link name")


def test_datasets():
    host = Illumos("datasets")
    host.run("zfs", "create", "-p", "rpool/vmm/images")
    host.run("zfs", "create", "-p", "rpool/vmm/machines")
    host.run("zfs", "create", "-p", "rpool/vmm/machines")
    part, image, clone = "rpool/vmm/images/ab.part", "rpool/vmm/images/ab", "rpool/vmm/machines/x"
    host.refused("zfs", "create", "-V", "1000", part, says="multiple of volume block size")
    host.refused("zfs", "create", "-V", "1048576", "rpool/a/b", says="parent does not exist")
    host.refused("zfs", "create", "-V", "1048576", "rpool/a*b", says="invalid character '*'")
    host.refused("zfs", "create", "rpool/vmm", says="already exists")
    host.refused("zfs", "create", "rpool//x", says="empty component")
    host.run("zfs", "create", "-p", "-V", "2097152", "-o", "vmm:digest=sha256:ab", part)
    device = host.path("dev/zvol/rdsk", part)
    equal(os.path.getsize(device), 2097152)
    raw = host.path("raw")
    with open(raw, "wb") as f:
        f.write(b"boot" * 300)
    quiet(host, "dd", "if=" + raw, "of=" + device, "bs=1048576", "conv=sync")
    equal(os.path.getsize(device), 2097152, "a volume keeps its size")
    host.refused("zfs", "snapshot", "rpool/vmm/none@image", says="does not exist")
    host.run("zfs", "snapshot", part + "@image")
    host.refused("zfs", "snapshot", part + "@image", says="already exists")
    host.run("zfs", "rename", part, image)
    check(not os.path.exists(device))
    host.refused("zfs", "clone", part + "@image", clone, says="does not exist")
    host.run("zfs", "clone", "-o", "vmm:machine=x", image + "@image", clone)
    with open(host.path("dev/zvol/rdsk", clone), "rb") as f:
        equal(f.read(8), b"bootboot")
    host.refused("zfs", "clone", image + "@image", clone, says="already exists")
    host.refused("zfs", "set", "volsize=5000000", clone, says="multiple")
    host.run("zfs", "set", "volsize=4194304", clone)
    equal(os.path.getsize(host.path("dev/zvol/rdsk", clone)), 4194304)
    equal(host.run("zfs", "list", "-H", "-p", "-r", "-t", "volume", "-o",
                   "name,volsize,origin,vmm:machine", "rpool/vmm"),
          f"{image}\t2097152\t-\t-\n{clone}\t4194304\t{image}@image\tx\n")
    # user properties come down to snapshots and children, not to clones
    equal(host.run("zfs", "get", "-H", "-p", "-o", "value", "vmm:digest", image + "@image"),
          "sha256:ab\n")
    equal(host.run("zfs", "get", "-H", "-p", "-o", "value", "vmm:digest", clone), "-\n")
    host.refused("zfs", "list", "-H", "-o", "name", "rpool/none", says="does not exist")
    host.misused("zfs", "list", "-o", "nosuch", says="invalid property 'nosuch'")
    host.misused("zfs", "destroy", "-q", clone, says="invalid option 'q'")
    host.misused("zfs", "remove", clone, says="unrecognized command")
    host.misused("zfs", "destroy", says="missing")
    host.refused("zfs", "destroy", image, says="has children")
    host.refused("zfs", "destroy", "-r", image, says="dependent clones\nuse '-R'")
    host.run("zfs", "destroy", clone)
    host.run("zfs", "destroy", "-r", image)
    host.refused("zfs", "destroy", image, says="does not exist")
    equal(sorted(host.state()["datasets"]),
          ["rpool", "rpool/vmm", "rpool/vmm/images", "rpool/vmm/machines"])
    host.change("pools", {"rpool": 1 << 20})
    host.refused("zfs", "create", "-V", "2097152", part, says="out of space")


def quiet(host, *argv):
    """What speaks on its standard error although all went well."""
    done = subprocess.run([os.path.join(BIN, argv[0]), *argv[1:]], env=host.env,
                          stderr=subprocess.PIPE, timeout=60)
    equal(done.returncode, 0, done.stderr)


def test_zone_configuration():
    host = Illumos("zonecfg")
    host.refused("zonecfg", "-z", ZONE, "info", says="No such zone configured")
    host.run("zonecfg", "-z", ZONE, "-f", "/dev/stdin", input=script(host))
    contains(host.run("zonecfg", "-z", ZONE, "info", "attr", "name=vmm-machine"),
             "attr:\n\tname: vmm-machine\n\ttype: string\n\tvalue: " + UUID + "\n")
    equal(host.run("zonecfg", "-z", ZONE, "info", "attr", "name=other"), "No such attr resource.\n")
    equal(host.run("zonecfg", "-z", ZONE, "info", "brand"), "brand: vmm\n")
    check(len(host.run("zonecfg", "-z", ZONE, "info").splitlines()) > 30)
    host.run("zonecfg", "-z", ZONE,
             'select attr name=vmm-address; set value="[fd76::5]/64"; end; commit')
    contains(host.run("zonecfg", "-z", ZONE, "info attr name=vmm-address"), "value: [fd76::5]/64")
    host.run("zonecfg", "-z", ZONE, "add fs; set dir=/opt/x; set special=/usr; set type=lofs; "
             "add options [ro,nodevices]; end")
    contains(host.run("zonecfg", "-z", ZONE, "export"), "add options [ro,nodevices]\n")
    copied = host.path("copy")
    with open(copied, "w") as f:
        f.write(host.run("zonecfg", "-z", ZONE, "export").replace(ZONE, "vmm-2"))
    host.run("zonecfg", "-z", "vmm-2", "-f", copied)
    before = host.state()["zones"]
    for text, says in {
        "create -b": "already exists",
        "set colour=red": "syntax error",
        "set zonepath=zones/x": "not an absolute path",
        "set brand=other": "invalid brand",
        "add disk": "syntax error",
        "add net; set physical=vm-0; end": "not a valid data link",
        "add net; end": "Required property 'physical'",
        "add net; set physical=vmx_n0; end": "already exists",
        "add attr; set name=a; set type=string; end": "Required property 'value'",
        "add attr; set name=vmm-port; set type=string; set value=1; end": "already exists",
        "add attr; set name=a; set type=text; set value=x; end": "not a valid attr type",
        "add attr; set name=a; set type=string; set value=[fd76::5]:1; end": "syntax error",
        "add device; set match=zvol; end": "not an absolute path",
        "add attr; set name=a": "Resource incomplete",
        "select attr name=none; set value=x; end": "no such resource",
        "end": "only makes sense",
        'set zonepath="/x': "syntax error",
        "delete": "-F not specified",
    }.items():
        host.refused("zonecfg", "-z", ZONE, text, says=says)
    equal(host.state()["zones"], before, "nothing was changed")
    host.refused("zonecfg", "-z", "new", "create -b; set brand=vmm; commit", says="zonepath")
    host.refused("zonecfg", "-z", "new", "-f", "/dev/stdin", says="On line 2 of /dev/stdin",
                 input="create -b\nset nothing=x\n")
    for name in ("-a", "a b", "global", "SUNWx", "a" * 64, "a/b"):
        host.refused("zonecfg", "-z", name, "create", says="Invalid zone name")
    host.misused("zonecfg", "info")
    host.misused("zonecfg", "-z", ZONE)
    host.misused("zonecfg", "-z", ZONE, "-x", "info")
    host.run("zonecfg", "-z", ZONE, "delete", "-F")
    host.refused("zonecfg", "-z", ZONE, "delete", "-F", says="No such zone configured")


# Stands for the server: tells what it was given, and stays.
SERVER = """#!/bin/sh
echo "$VMM_FAKE_ZONE $*"
exec sleep 1000
"""


def test_zone_states():
    host = Illumos("zones")
    server = host.path("server")
    with open(server, "w") as f:
        f.write(SERVER)
    os.chmod(server, 0o755)
    adm = ("zoneadm", "-z", ZONE)
    host.refused(*adm, "boot", says="No such zone configured")
    host.run("zonecfg", "-z", ZONE, "-f", "-", input=script(host, server))
    host.refused(*adm, "boot", says="must be installed before boot")
    host.refused(*adm, "halt", says="must be running before halt")
    host.refused(*adm, "uninstall", "-F", says="must be installed before uninstall")
    host.refused(*adm, "install", says="could not verify net physical=vmx_n0")
    host.run("dladm", "create-vnic", "-l", "igb0", "vmx_n0")
    host.run("dladm", "create-vnic", "-l", "vmmstub0", "vmx_c0")
    os.rename(host.zones, host.zones + ".away")
    host.refused(*adm, "install", says="No such file or directory")
    os.rename(host.zones + ".away", host.zones)
    os.mkdir(os.path.join(host.zones, ZONE), 0o755)
    host.refused(*adm, "install", says="must not be group or world accessible")
    os.rmdir(os.path.join(host.zones, ZONE))
    host.run(*adm, "install")
    equal(os.stat(os.path.join(host.zones, ZONE)).st_mode & 0o777, 0o700)
    host.refused(*adm, "install", says="is already installed")
    host.refused(*adm, "uninstall", says="-F not specified")
    # without an address the zone's first process ends at once, and the zone with it
    host.run(*adm, "boot")
    wait_until("the zone to halt", lambda: "installed" in host.run(*adm, "list", "-p"))
    host.run("zonecfg", "-z", ZONE, 'select attr name=vmm-address; set value="127.77.0.9/16"; end')
    host.run(*adm, "boot")
    line = host.run("zoneadm", "list", "-cp").splitlines()[1].split(":")
    equal(line[1:4] + line[5:], [ZONE, "running", f"{host.zones}/{ZONE}", "vmm", "excl"])
    log = os.path.join(host.zones, ZONE, "root/var/log/vmm.log")
    wait_until("the server to speak", lambda: ZONE in open(log).read())
    contains(open(log).read(), f"{ZONE} run /rom 127.77.0.9:12400 127.77.0.9:5900\n")
    contains(host.run("zlogin", ZONE, "ipadm", "show-addr", "-p", "-o", "ADDR"), "127.77.0.9/16")
    host.refused(*adm, "boot", says="is already running")
    host.refused(*adm, "uninstall", "-F", says="is already running")
    host.refused("zonecfg", "-z", ZONE, "delete", "-F", says="not allowed")
    host.refused("dladm", "delete-vnic", "vmx_n0", says="link busy")
    pid = host.state()["zones"][ZONE]["pid"]
    host.run(*adm, "halt")
    check(not process_exists(pid), "its processes are gone")
    host.refused("zlogin", ZONE, "true", says="is 'installed'")
    host.run(*adm, "boot")
    pid = host.state()["zones"][ZONE]["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_until("the zone to end with it", lambda: "installed" in host.run(*adm, "list", "-p"))
    host.run(*adm, "boot")
    host.faults({"tool": "zoneadm", "verb": "halt", "effect": "stuck"})
    host.run(*adm, "halt", status=1)
    contains(host.run("zoneadm", "list", "-cp"), ":shutting_down:")
    os.unlink(host.path("faults.json"))
    host.run(*adm, "halt")
    host.run(*adm, "uninstall", "-F")
    check(not os.path.exists(os.path.join(host.zones, ZONE)))
    host.misused(*adm, "start", says="unknown subcommand")
    host.misused(*adm, "boot", "-F", says="invalid option")
    host.misused("zoneadm", "boot", says="a zone must be named")
    host.misused("zoneadm", "list", "-x")
    equal(host.run("zoneadm", "list"), "global\n")
    equal(host.run("zoneadm", "list", "-c"), f"global\n{ZONE}\n")
    equal(host.run("zoneadm", "list", "-i"), "global\n")


def test_colons_are_escaped():
    host = Illumos("col:on")
    host.run("zonecfg", "-z", ZONE, "-f", "-", input=script(host))
    contains(host.run("zoneadm", "list", "-cp"), host.zones.replace(":", "\\:") + "/")


def test_neighbours():
    host = Illumos("neighbours")
    equal(len(host.run("arp", "-an").splitlines()), 5)
    with open(host.path("neighbours.json"), "w") as f:
        json.dump({"02:08:20:0a:0b:0c": ["192.0.2.7", "fe80::1"]}, f)
    contains(host.run("arp", "-an"), "192.0.2.7            255.255.255.255 o        2:8:20:a:b:c\n")
    contains(host.run("ndp", "-an"), "02:08:20:0a:0b:0c  dynamic STALE        fe80::1\n")
    host.misused("arp", "-x")
    host.misused("ndp", "-x")


def test_faults_strike_at_the_nth_call():
    host = Illumos("faults")
    host.run("zfs", "list")
    host.faults({"tool": "zfs", "verb": "create", "nth": 2, "stderr": "zfs: struck"},
                {"tool": "dladm", "nth": 1, "status": 3, "effect": "after"},
                {"tool": "*", "match": "show-phys", "stderr": "always"})
    host.run("zfs", "create", "rpool/a")
    host.run("zfs", "list")
    host.refused("zfs", "create", "rpool/b", says="zfs: struck")
    host.run("zfs", "create", "rpool/c")
    equal(sorted(host.state()["datasets"]), ["rpool", "rpool/a", "rpool/c"])
    host.run("dladm", "create-etherstub", "stub7", status=3)
    check("stub7" in host.state()["links"], "done before it failed")
    for _ in range(2):
        host.refused("dladm", "show-phys", says="always")
    host.faults({"tool": "zfs", "verb": "create", "nth": 1})  # counted anew
    host.refused("zfs", "create", "rpool/d")
    host.run("zfs", "create", "rpool/d")
    host.faults({"tool": "zonecfg", "verb": "commit", "nth": 1})
    host.refused("zonecfg", "-z", ZONE, "-f", "-", input=script(host))
    equal(host.state()["zones"], {})
    host.run("zonecfg", "-z", ZONE, "-f", "-", input=script(host))
    host.faults({"tool": "zfs", "effect": "hang"})
    process = subprocess.Popen([os.path.join(BIN, "zfs"), "list"], env=host.env,
                               stdout=subprocess.PIPE)
    wait_until("it to hang", lambda: host.calls()[-1]["status"] is None)
    equal(process.poll(), None)
    host.run("dladm", "show-phys")  # nobody else waits
    process.kill()
    process.wait()
    numbers = [call["n"] for call in host.calls()]
    equal(numbers, list(range(1, len(numbers) + 1)))
    struck = [call for call in host.calls() if call["stderr"] == "zfs: struck\n"]
    equal([(c["tool"], c["argv"], c["status"]) for c in struck],
          [("zfs", ["create", "rpool/b"], 1)])


def test_many_at_once():
    host = Illumos("many")
    with_all = [subprocess.Popen([os.path.join(BIN, "zfs"), "create", f"rpool/d{i}"], env=host.env)
                for i in range(12)]
    equal([p.wait() for p in with_all], [0] * 12)
    equal(len(host.state()["datasets"]), 13)
    equal(sorted(c["n"] for c in host.calls()), list(range(1, 13)))


def test_pfexec():
    host = Illumos("pfexec")
    host.run("pfexec", "zfs", "create", "rpool/p")
    equal([c["tool"] for c in host.calls()], ["pfexec", "zfs"])
    host.misused("pfexec")
    host.refused("pfexec", "no-such-command", says="No such file")


try:
    run(globals())
finally:
    shutil.rmtree(base, ignore_errors=True)
