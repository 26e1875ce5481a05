#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""A real guest on a bridge: its tap, its address, and who tries to pass for it.

Everything is in a network namespace of this test: a bridge, dnsmasq on it, and a second station.
The cases share the guest and run in order.
"""

import ctypes
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile

from harness import (VMCTL, VMMD, Host, RpcError, check, contains, equal, guest_image,
                     process_exists, run, wait_until)

CLONE_NEWNS, CLONE_NEWNET = 0x20000, 0x40000000
HELPER, USER = "/usr/lib/qemu/qemu-bridge-helper", 61234
STATION, LAN, LAN6 = "10.77.0.99", "10.77.0.", "fd77::"

IMAGE = guest_image()
folder = tempfile.mkdtemp(prefix="vmm-tap-")
children, mounts = [], []


def tool(*argv):
    return subprocess.run(argv, check=True, text=True, stdout=subprocess.PIPE).stdout


def namespaces():
    """This process leaves the host's network and mounts; false: it is not root's."""
    libc = ctypes.CDLL(None, use_errno=True)
    if os.getuid() != 0:
        return False
    if libc.unshare(CLONE_NEWNS | CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "root can not leave the host's network here")
    tool("mount", "--make-rprivate", "/")
    tool("ip", "link", "set", "lo", "up")
    for name, address in (("br0", "10.77.0.1/24"), ("br01", "10.78.0.1/24")):
        tool("ip", "link", "add", name, "type", "bridge")
        tool("ip", "address", "add", address, "dev", name)
        tool("ip", "link", "set", name, "up")
    tool("ip", "address", "add", f"{LAN6}1/64", "dev", "br0", "nodad")
    return True


def dhcp_server():
    os.makedirs(os.path.join(folder, "leases"))
    children.append(subprocess.Popen(
        [shutil.which("dnsmasq", path="/usr/sbin:/usr/bin"), "--keep-in-foreground", "--port=0",
         "--conf-file=/dev/null", "--user=root", "--interface=br0", "--bind-interfaces",
         "--no-ping", "--dhcp-range=10.77.0.10,10.77.0.50,1h", "--pid-file=",
         f"--dhcp-leasefile={folder}/leases/true.leases"], stderr=subprocess.DEVNULL))


def station():
    """Another machine of the bridge, which has an address and answers for it."""
    holder = subprocess.Popen(["unshare", "--net", "sleep", "infinity"])
    children.append(holder)
    own = os.readlink("/proc/self/ns/net")
    wait_until("the station's namespace",
               lambda: os.readlink(f"/proc/{holder.pid}/ns/net") != own)
    tool("ip", "link", "add", "port0", "type", "veth", "peer", "name", "eth0")
    tool("ip", "link", "set", "port0", "master", "br0", "up")
    tool("ip", "link", "set", "eth0", "netns", str(holder.pid))
    inside = ("nsenter", "--target", str(holder.pid), "--net", "ip")
    tool(*inside, "address", "add", f"{STATION}/24", "dev", "eth0")
    tool(*inside, "link", "set", "eth0", "up")
    return json.loads(tool(*inside, "-j", "link", "show", "eth0"))[0]["address"]


def members(bridge="br0"):
    """The links of the bridge that are up, without the station's."""
    links = json.loads(tool("ip", "-j", "link", "show", "master", bridge) or "[]")
    return [link["ifname"] for link in links
            if "UP" in link["flags"] and link["ifname"] != "port0"]


def spoof(mac):
    """A lease that nobody gave, and entries of neighbours that are none of br0 or none of ours."""
    with open(os.path.join(folder, "leases", "false.leases"), "w") as f:
        f.write(f"0 {mac} {STATION} guest *\n0 {mac} 10.77.0.1 host *\n")
    tool("ip", "neighbour", "replace", "10.77.0.98", "lladdr", station_mac, "dev", "br0")
    tool("ip", "neighbour", "replace", "10.78.0.5", "lladdr", mac, "dev", "br01")


def refused(method="vm.create", **network):
    machine = {"name": "nope", "backend": "qemu", "image": {"path": IMAGE}, "network": network}
    try:
        host.call(method, **(machine if method == "vm.create" else
                             {"project": "/p/VMFile.yaml", "vms": [machine]}))
    except RpcError as e:
        check("nope" not in host.names(), host.names())
        return e.error
    raise AssertionError("it was made")


def create(name, **more):
    host.call("vm.create", name=name, image={"path": IMAGE}, memory="384MiB",
              network={"type": "tap", "bridge": "br0"}, cloud_init={}, **more)
    return host.vm(name)


def addresses_told():
    """Every address that was ever said to be the machine's."""
    connection = host.rpc()
    connection.call("event.subscribe", replay=True, since=0)
    last = host.rpc().call("event.subscribe")["seq"]
    events = [note["params"] for note in connection.notifications]
    while not events or events[-1]["seq"] < last:
        events.append(connection.line()["params"])
    connection.close()
    return [event["data"].get("address") for event in events if event["kind"] == "address"]


class UserHost(Host):
    """A daemon of an ordinary user."""

    prefix = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups"]

    def __init__(self):
        super().__init__()
        os.chown(self.dir, USER, USER)

    def start(self, *args, wait=True, env=None):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                [*self.prefix, VMMD, "--user", "--data-dir", self.data, "--runtime-dir",
                 self.runtime, *args], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=dict(self.env, **(env or {})))
        wait_until("vmmd to listen", self.listening, 60)
        return self

    def vmctl(self, *args, status=0, cwd=None, **kwargs):
        done = subprocess.run([*self.prefix, VMCTL, *map(str, args)], cwd=cwd or self.dir, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.env,
                              stdin=subprocess.DEVNULL, timeout=600)
        equal(done.returncode, status, done.stderr)
        return done


def test_g40_a_bridge_that_is_not_there_is_refused():
    with open(os.path.join(folder, "vmmd.yaml"), "w") as f:
        f.write(f"lease-files: '{folder}/leases/*.leases'\n")
    host.start("--config", os.path.join(folder, "vmmd.yaml"))
    error = refused(type="tap", bridge="br9")
    contains(error["message"], "the bridge 'br9' does not exist")
    contains(error["data"]["hint"], "ip link add br9 type bridge")
    contains(refused(type="tap", bridge="lo")["message"], "'lo' is no bridge")
    contains(refused(type="tap")["message"], "network.bridge")
    tool("ip", "link", "set", "br01", "down")
    contains(refused(type="tap", bridge="br01")["message"], "'br01' is down")
    tool("ip", "link", "set", "br01", "up")


def test_g46_a_vnic_is_refused_by_create_and_plan():
    for method in ("vm.create", "file.plan"):
        error = refused(method, type="vnic", link="igb0")
        equal(error["data"]["name"], "unsupported")
        contains(error["message"], "network vnic")


def test_g40_the_tap_is_up_and_on_its_bridge():
    row = create("one", provision=[{"shell": {"inline": "echo here > ~/here"}}])
    spoof(row["mac"])
    host.call("vm.start", name="one")
    row = host.vm("one")
    equal(row["network"]["tap"], f"vm{row['id']}0")
    equal(members(), [row["network"]["tap"]])
    contains(host.vmctl("status", "one").stdout, row["network"]["tap"])


def test_g42_a_lease_alone_is_not_believed():
    wait_until("the false lease to be seen", lambda: station_mac in host.vmctl(
        "ssh", "one", status=255).stderr)
    check("host" not in host.vm("one")["ssh"], host.vm("one")["ssh"])


def test_g44_provisioning_waits_for_the_address():
    host.call("vm.provision", name="one", timeout=600)
    row = host.vm("one")
    equal(row["provision"]["state"], "done")
    check(row["ssh"]["host"].startswith(LAN) and row["ssh"]["host"] != STATION, row["ssh"])
    equal((row["ssh"]["port"], row["ssh"]["address_source"]), (22, "agent"))
    equal(host.vmctl("ssh", "one", "--", "cat here").stdout, "here\n")
    contains(host.vmctl("ssh", "one", "--", "ip -4 address").stdout, row["ssh"]["host"] + "/")


def test_g41_g43_no_other_machine_was_ever_taken_for_it():
    row = host.vm("one")
    equal(set(addresses_told()), {row["ssh"]["host"]})


def test_g42_the_source_is_the_best_that_is_there():
    address = host.vm("one")["ssh"]["host"]

    def source():
        ssh = host.vm("one")["ssh"]
        equal(ssh.get("host"), address)
        return ssh["address_source"]

    host.vmctl("exec", "one", "--", "sudo", "systemctl", "stop", "qemu-guest-agent")
    wait_until("the lease", lambda: source() == "lease")
    os.rename(f"{folder}/leases/true.leases", f"{folder}/leases/true.gone")
    wait_until("the neighbour table", lambda: source() == "neighbour")
    contains(host.vmctl("status", "one").stdout, "by its neighbour")
    os.rename(f"{folder}/leases/true.gone", f"{folder}/leases/true.leases")
    wait_until("the lease again", lambda: source() == "lease")


def test_a_killed_vmmd_finds_the_address_again():
    before = host.vm("one")
    host.kill()
    equal(members(), [before["network"]["tap"]])
    host.start("--config", os.path.join(folder, "vmmd.yaml"))
    wait_until("the address", lambda: host.vm("one")["ssh"].get("host") == before["ssh"]["host"])
    equal(host.vm("one")["network"]["tap"], before["network"]["tap"])
    equal(host.vmctl("ssh", "one", "--", "cat here").stdout, "here\n")


def test_g40_nothing_is_left_when_qemu_is_killed():
    # As if its power was cut: what the guest has not written yet is lost, its network's set-up too.
    host.vmctl("exec", "one", "--", "sync")
    os.kill(host.vm("one")["pid"], signal.SIGKILL)
    wait_until("its end", lambda: host.vm("one")["state"] == "failed")
    equal(host.vm("one")["reason"], "killed-signal-9")
    wait_until("nothing to be left", lambda: members() == [])
    check("tap" not in host.vm("one")["network"], "the tap is still told")


def test_g40_nothing_is_left_when_vmmd_is_killed_too():
    host.call("vm.start", name="one")
    pid = host.vm("one")["pid"]
    equal(len(members()), 1)
    host.kill()
    os.kill(pid, signal.SIGKILL)
    wait_until("QEMU to end", lambda: not process_exists(pid) and members() == [])
    host.start("--config", os.path.join(folder, "vmmd.yaml"))
    host.call("vm.start", name="one")
    equal(len(members()), 1)
    host.call("vm.stop", name="one", force=True)
    equal(members(), [])


def test_an_address_that_another_takes_is_given_up():
    host.call("vm.start", name="one")
    wait_until("the address", lambda: "host" in host.vm("one")["ssh"], 300)
    address = host.vm("one")["ssh"]["host"]
    os.kill(host.vm("one")["pid"], signal.SIGSTOP)
    tool("ip", "neighbour", "replace", address, "lladdr", station_mac, "dev", "br0")
    wait_until("it is given up", lambda: "host" not in host.vm("one")["ssh"])
    os.kill(host.vm("one")["pid"], signal.SIGCONT)
    tool("ip", "neighbour", "del", address, "dev", "br0")
    wait_until("it is back", lambda: host.vm("one")["ssh"].get("host") == address, 60)


def test_an_address_of_ipv6_will_do():
    wait_until("its SSH server", lambda: host.vmctl(
        "ssh", "one", "--", "true", status=None).returncode == 0, 120)
    host.vmctl("ssh", "one", "--", f"sudo ip address add {LAN6}5/64 nodad dev "
               "$(ip -o -4 route show default | sed 's/.* dev //; s/ .*//')")
    host.vmctl("exec", "one", "--", "sudo", "systemd-run", "--on-active=0.1", "ip", "-4", "address",
               "flush", "scope", "global")
    wait_until("the address", lambda: host.vm("one")["ssh"].get("host") == f"{LAN6}5", 60)
    equal(host.vmctl("ssh", "one", "--", "cat here").stdout, "here\n")
    host.call("vm.destroy", name="one", force=True)
    equal(members(), [])


def test_g43_without_a_network_there_is_no_address():
    host.call("vm.create", name="alone", image={"path": IMAGE}, memory="384MiB", network="none")
    host.call("vm.start", name="alone")
    contains(host.vmctl("ssh", "alone", status=255).stderr, "has no network")
    check("host" not in host.vm("alone")["ssh"], "an address")
    host.call("vm.destroy", name="alone", force=True)


def mount(*words):
    tool("mount", *words)
    mounts.append(words[-1])


def overlay(path):
    """Changes of this folder are seen in this test alone."""
    work = tempfile.mkdtemp(dir=folder)
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", work)
    for name in ("upper", "work"):
        os.mkdir(os.path.join(work, name))
    mount("-t", "overlay", "overlay", "-o",
          f"lowerdir={path},upperdir={work}/upper,workdir={work}/work", path)


def device(mode):
    """A /dev/net/tun of this mode, for this test alone."""
    node = os.path.join(tempfile.mkdtemp(dir=folder), "tun")
    os.mknod(node, 0o600 | stat.S_IFCHR, os.makedev(10, 200))
    os.chmod(node, mode)
    mount("--bind", node, "/dev/net/tun")


def test_g40_an_ordinary_user_is_told_what_is_missing():
    overlay("/etc")
    overlay("/usr/lib/qemu")
    shutil.rmtree("/etc/qemu", ignore_errors=True)
    os.chmod(HELPER, 0o755)
    user.start()
    image = os.path.join(user.dir, "image.qcow2")
    shutil.copy(IMAGE, image)
    os.chmod(image, 0o644)
    words = ("create", "mine", "--image", image, "--network", "tap", "--bridge", "br0",
             "--memory", "384MiB")
    device(0o600)
    contains(user.vmctl(*words, status=1).stderr, f"sudo chmod u+s {HELPER}")
    os.chmod(HELPER, 0o4755)
    contains(user.vmctl(*words, status=1).stderr,
             "sudo mkdir -p /etc/qemu && echo 'allow br0' | sudo tee -a /etc/qemu/bridge.conf")
    os.makedirs("/etc/qemu", exist_ok=True)
    with open("/etc/qemu/bridge.conf", "w") as f:
        f.write("# ours\nallow br0\n")
    os.chmod("/etc/qemu/bridge.conf", 0o644)
    contains(user.vmctl(*words, status=1).stderr, "sudo chmod 666 /dev/net/tun")
    device(0o666)
    user.vmctl(*words)


def test_g40_the_helper_brings_the_tap():
    user.vmctl("start", "mine")
    row = json.loads(user.vmctl("--json", "status", "mine").stdout)
    equal(members(), [row["network"]["tap"]])
    equal(os.stat(f"/proc/{row['pid']}").st_uid, USER)
    os.kill(row["pid"], signal.SIGKILL)
    wait_until("nothing is left", lambda: members() == [])
    wait_until("its end", lambda: json.loads(
        user.vmctl("--json", "status", "mine").stdout)["state"] == "failed")
    with open("/etc/qemu/bridge.conf", "w") as f:
        f.write("deny br0\n")
    contains(user.vmctl("start", "mine", status=1).stderr, "denies taps on the bridge 'br0'")
    equal(members(), [])


if not namespaces():
    print("1..0 # SKIP this test makes network namespaces, which needs root")
    sys.exit(0)
host, user = Host(), UserHost()
try:
    dhcp_server()
    station_mac = station()
    run(globals(), lambda: [h for h in (host, user) if h.process])
finally:
    for child in children:
        child.kill()
        child.wait()
    for place in reversed(mounts):
        tool("umount", "--lazy", place)
    shutil.rmtree(folder, ignore_errors=True)
