#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""Private networks of a VMFile: who is on them, and the life of their switches.

Machines of the backend 'noop' join like any other, so that a switch's life needs no emulator; frames
between real emulators are carried in 655-private-guests and in the unit tests of the switch."""

import json
import os
import shutil
import signal

from harness import Failure, Host, RpcError, check, contains, equal, process_exists, run, wait_until

host = Host().start()
NET = os.path.join(host.runtime, "net")

TWO = """
networks:
  lan: {subnet: 10.66.0.0/24}
vms:
  web:
    backend: noop
    networks: [user, {name: lan, address: 10.66.0.11}]
  db:
    backend: noop
    network: {name: lan}
"""


def switches():
    """{folder: pid} of the switches that are there, by the records that they keep."""
    found = {}
    for entry in os.scandir(NET) if os.path.isdir(NET) else []:
        record = os.path.join(entry.path, "switch.json")
        if os.path.exists(record):
            with open(record) as f:
                text = f.read()
            if text and process_exists(json.loads(text)["pid"]):
                found[entry.path] = json.loads(text)["pid"]
    return found


def nic(name, network="lan"):
    return [n for n in host.vm(name)["networks"] if n.get("name") == network][0]


def up(folder, *names, status=0):
    return host.vmctl("up", *names, cwd=folder, status=status)


def down(folder):
    host.vmctl("down", "--destroy", cwd=folder)
    wait_until("no switch to be left", lambda: not switches() and not os.listdir(NET))


def test_a_switch_lives_as_long_as_somebody_is_on_it():
    folder = host.project(TWO)
    equal(switches(), {})
    up(folder, "web")
    (place, pid), = switches().items()
    equal(os.stat(place).st_mode & 0o777, 0o700)
    equal(nic("web")["switch"], "up")
    up(folder, "db")
    equal(list(switches().values()), [pid], "one switch serves both")
    host.vmctl("stop", "web")
    equal(list(switches().values()), [pid], "db is on it still")
    check("switch" not in nic("web"), nic("web"))
    host.vmctl("stop", "db")
    wait_until("the switch to end", lambda: not process_exists(pid))
    wait_until("its folder to go", lambda: not os.listdir(NET))
    host.vmctl("start", "web")
    equal(len(switches()), 1)
    down(folder)


def test_machines_have_addresses_macs_and_ports_of_their_own():
    folder = host.project(TWO)
    up(folder)
    web, db = nic("web"), nic("db")
    equal(web["address"], "10.66.0.11/24")
    check(db["address"].startswith("10.66.0.") and db["address"] != web["address"], db)
    macs = [n["mac"] for name in ("web", "db") for n in host.vm(name)["networks"]]
    equal(len(set(macs)), 3)
    text = host.vmctl("status", "web").stdout
    contains(text, "private (lan, 10.66.0.11/24)")
    contains(text, web["mac"])
    contains(host.vmctl("list").stdout, "user+private")
    host.restart()
    equal([n["mac"] for name in ("web", "db") for n in host.vm(name)["networks"]], macs)
    host.vmctl("reload", cwd=folder)
    equal([n["mac"] for name in ("web", "db") for n in host.vm(name)["networks"]], macs,
          "a machine that is made anew keeps them")
    down(folder)


def test_a_killed_switch_comes_back():
    folder = host.project(TWO)
    up(folder)
    (place, pid), = switches().items()
    events = host.rpc()
    events.call("event.subscribe")
    os.kill(pid, signal.SIGKILL)
    wait_until("another switch", lambda: list(switches().values()) not in ([], [pid]))
    equal(list(switches()), [place])
    wait_until("it to be told", lambda: nic("web")["switch"] == "up")
    contains(host.log(), "ended")
    events.close()
    down(folder)


def test_a_killed_vmmd_finds_its_switch_again():
    folder = host.project(TWO)
    up(folder)
    (place, pid), = switches().items()
    host.restart()
    wait_until("it to be adopted", lambda: nic("db").get("switch") == "up")
    equal(switches(), {place: pid})
    host.vmctl("stop", "web")
    host.vmctl("start", "web")
    equal(switches(), {place: pid})
    # Both at once.
    host.kill()
    os.kill(pid, signal.SIGKILL)
    host.start()
    wait_until("another switch", lambda: nic("db").get("switch") == "up")
    check(list(switches().values()) != [pid])
    # A switch of which the daemon's end saw the last machine go.
    pid, = switches().values()
    down(folder)
    check(not process_exists(pid))


def test_nothing_is_left_of_machines_that_are_gone():
    folder = host.project(TWO)
    up(folder)
    pid, = switches().values()
    host.kill()
    # As if a store had been lost: no machine is on the network any more.
    shutil.move(host.data, host.data + ".away")
    host.start()
    wait_until("the orphan to end", lambda: not process_exists(pid))
    wait_until("its folder to go", lambda: not os.listdir(NET))
    host.kill()
    shutil.rmtree(host.data)
    shutil.move(host.data + ".away", host.data)
    host.start()
    wait_until("a switch for machines that run", lambda: nic("web").get("switch") == "up")
    down(folder)


def test_files_and_networks_are_apart():
    one, two = host.project(TWO, "one"), host.project(TWO.replace("web", "web2").replace("db", "db2"), "two")
    up(one)
    up(two)
    equal(len(switches()), 2)
    down_all = [one, two]
    for folder in down_all:
        host.vmctl("down", "--destroy", cwd=folder)
    wait_until("no switch to be left", lambda: not switches())


def refused(wanted, **params):
    try:
        host.call("vm.create", **params)
    except RpcError as e:
        equal(e.name, wanted, str(e))
        return e.error
    raise Failure("vm.create was not refused")


def test_refused_where_there_is_no_file():
    error = refused("invalid_params", name="lonely", backend="noop", networks=[
        {"type": "private", "name": "lan", "subnet": "10.66.0.0/24", "address": "10.66.0.2"}])
    contains(error["message"], "lonely")
    contains(error["message"], "'lan'")
    contains(error["data"]["hint"], "file")
    error = refused("invalid_params", name="lonely", backend="noop", networks=[{"name": "lan"}])
    contains(error["message"], "subnet")
    equal(host.names(), [])


def test_g35_a_mac_address_is_one_machines():
    mac = "52:54:00:aa:bb:cc"
    host.call("vm.create", name="one", backend="noop", network={"type": "user", "mac": mac.upper()})
    equal(host.vm("one")["mac"], mac)
    error = refused("already_exists", name="two", backend="noop", networks=[{"type": "user", "mac": mac}])
    contains(error["message"], mac)
    contains(error["message"], "'one'")
    folder = host.project(f"vms:\n  two: {{backend: noop, network: {{type: user, mac: '{mac}'}}}}\n")
    for verb in ("plan", "up"):
        done = host.vmctl(verb, cwd=folder, status=None)
        check(done.returncode not in (0, 10), done)
        contains(done.stderr, "'one'")
    host.call("vm.destroy", name="one")
    up(folder)
    equal(host.vm("two")["mac"], mac)
    host.vmctl("down", "--destroy", cwd=folder)


def test_a_switch_that_can_not_be_started_is_told():
    folder = host.project(TWO)
    host.stop()
    settings = os.path.join(host.dir, "settings.yaml")
    with open(settings, "w") as f:
        f.write("switcher: /nonexistent/vmm-switch\n")
    host.start("--config", settings)
    done = up(folder, "web", status=1)
    contains(done.stderr, "'lan'")
    contains(done.stderr, "vmm-switch")
    equal(host.vm("web")["state"], "failed")
    host.restart("stop")  # the program is there again
    up(folder)
    down(folder)


def test_another_subnet_waits_for_a_reload():
    folder = host.project(TWO)
    up(folder, "web")
    host.project(TWO.replace("10.66.0", "10.67.0"))
    done = host.vmctl("plan", cwd=folder, status=10)
    contains(done.stdout + done.stderr, "has the subnet 10.67.0.0/24, and for machine 'web' another")
    done = up(folder, status=None)
    check(done.returncode != 0, "db would be on a network whose other machine has another subnet")
    contains(done.stderr, "reload")
    host.vmctl("reload", cwd=folder)
    equal(nic("web")["address"], "10.67.0.11/24")
    check(nic("db")["address"].startswith("10.67.0."), nic("db"))
    down(folder)


def test_what_is_on_private_networks_alone_says_why_there_is_no_ssh():
    disk = os.path.join(host.dir, "disk.raw")
    with open(disk, "wb") as f:
        f.truncate(4 << 20)
    folder = host.project(f"""
networks: {{lan: }}
vms:
  alone: {{image: {disk}, memory: 32, network: {{name: lan}}, cloud-init: {{}}}}
""")
    up(folder)
    for verb in (["ssh", "alone"], ["exec", "alone", "--", "true"]):
        done = host.vmctl(*verb, cwd=folder, status=None)
        check(done.returncode != 0, done)
        contains(done.stderr, "is on private networks alone")
    file = host.project(f"""
networks: {{lan: }}
vms:
  more: {{image: {disk}, memory: 32, network: {{name: lan}}, cloud-init: {{}}, provision: [{{shell: id}}]}}
""", "more")
    for verb in ("plan", "up"):
        done = host.vmctl(verb, cwd=file, status=None)
        check(done.returncode not in (0, 10), done)
        contains(done.stderr, "'more' has provision steps and no network")
    down(folder)


if __name__ == "__main__":
    run(globals(), [host])
