#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""Two real guests of one VMFile on a private network: each reaches the other by name, whatever ends
beside them.  Everything runs without any of root's capabilities."""

import json
import os
import signal
import sys

from harness import Host, check, contains, equal, guest_image, run, wait_until

if os.geteuid() == 0 and "--unprivileged" not in sys.argv:
    os.execvp("setpriv", ["setpriv", "--bounding-set=-all", "--inh-caps=-all", sys.executable,
                          os.path.abspath(__file__), "--unprivileged", *sys.argv[1:]])
sys.argv = [word for word in sys.argv if word != "--unprivileged"]

host = Host()
IMAGE = guest_image()
FILE = f"""
networks:
  lan: {{subnet: 10.66.0.0/24}}
vms:
  web:
    image: {IMAGE}
    memory: 512MiB
    cloud-init: {{}}
    networks: [user, {{name: lan, address: 10.66.0.11}}]
  db:
    image: {IMAGE}
    memory: 512MiB
    cloud-init: {{hostname: big-db}}
    networks: [user, {{name: lan}}]
"""

# One connection that is used for ever: what it sent and got back last is in a file.
SERVER = """
import socket
s = socket.create_server(("0.0.0.0", 7001))
c, _ = s.accept()
while True:
    data = c.recv(4096)
    if not data:
        break
    c.sendall(data)
"""
CLIENT = """
import socket, sys, time
c = socket.create_connection(("db", 7001))
number = 0
while True:
    number += 1
    c.sendall(b"%8d" % number)
    got = b""
    while len(got) < 8:
        part = c.recv(8 - len(got))
        if not part:
            sys.exit("closed")
        got += part
    with open("echoed", "w") as f:
        f.write(got.decode())
    time.sleep(0.05)
"""


def inside(name, command, status=0, input=None):
    return host.vmctl("exec", name, "--", "sh", "-c", command, status=status, input=input,
                      timeout=120).stdout


def greets(name, other):
    """What the other's SSH server says to who connects by name."""
    return inside(name, f"timeout 5 bash -c 'exec 3<>/dev/tcp/{other}/22 && head -c 7 <&3'",
                  status=None) == "SSH-2.0"


def echoed():
    return int(inside("web", "cat echoed 2>/dev/null || echo 0").strip() or 0)


def goes_on(what):
    """The connection that was made at the start carries bytes there and back still."""
    before = echoed()
    wait_until(f"bytes after {what}", lambda: echoed() > before + 3, 90)


def switch_pid():
    folder, = os.listdir(os.path.join(host.runtime, "net"))
    with open(os.path.join(host.runtime, "net", folder, "switch.json")) as f:
        return json.load(f)["pid"]


def test_each_reaches_the_other_by_name():
    with open("/proc/self/status") as f:
        contains(f.read(), "CapEff:\t0000000000000000")
    host.start()
    host.vmctl("up", cwd=host.project(FILE))
    for name, other in (("web", "db"), ("db", "web"), ("web", "big-db")):
        check(greets(name, other), f"{name} does not reach {other}")
    contains(inside("web", "ip -o address show eth1"), "10.66.0.11/24")
    address = [n for n in host.vm("db")["networks"] if n.get("name") == "lan"][0]["address"]
    contains(inside("db", "ip -o address show eth1"), address)
    contains(inside("web", "getent hosts db"), address.split("/")[0])
    # The way out is the other network's still.
    contains(inside("web", "ip route show default"), "eth0")
    # Said at each boot, too, and not only by us over SSH.
    contains(inside("web", "sudo cat /var/lib/cloud/instance/boothooks/*"), " db\n")


def test_a_connection_outlives_vmmd_and_the_switch():
    inside("db", "cat > s.py; (setsid python3 s.py > s.log 2>&1 < /dev/null &); "
                 "until ss -ltn | grep -q :7001; do sleep 0.1; done", input=SERVER)
    inside("web", "cat > c.py; (setsid python3 c.py > c.log 2>&1 < /dev/null &)", input=CLIENT)
    goes_on("the start")
    pid = switch_pid()
    before = echoed()
    host.kill()
    # Nobody is needed for frames to pass: what came back while there was no daemon is there.
    os.kill(pid, 0)
    host.start()
    wait_until("the adoption", lambda: host.vm("web")["networks"][1].get("switch") == "up", 60)
    equal(switch_pid(), pid)
    check(echoed() > before)
    goes_on("vmmd")
    os.kill(pid, signal.SIGKILL)
    goes_on("the switch")
    check(switch_pid() != pid)
    host.kill()
    os.kill(switch_pid(), signal.SIGKILL)
    host.start()
    goes_on("both")
    check(greets("db", "web"))


def test_a_machine_that_joins_is_known_to_those_that_run():
    host.vmctl("up", cwd=host.project(FILE + """
  late: {backend: noop, network: {name: lan, address: 10.66.0.77}}
"""))
    for name in ("web", "db"):
        contains(inside(name, "getent hosts late"), "10.66.0.77")
        equal(inside(name, "grep -c 'vmm: begin' /etc/hosts"), "1\n")
        contains(inside(name, "cat /etc/hosts"), "127.0.0.1")


def test_nothing_is_left():
    pid = switch_pid()
    host.vmctl("down", "--destroy", cwd=host.project(FILE), status=None)
    host.vmctl("destroy", "--force", "late", status=None)
    wait_until("the switch to end", lambda: not os.listdir(os.path.join(host.runtime, "net")))
    check(not os.path.exists(f"/proc/{pid}"))


run(globals(), [host])
