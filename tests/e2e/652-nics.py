#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""What NICs can not both have, and what they keep: MAC addresses over changes of a file, over reloads
and over restarts of the daemon; addresses on private networks."""

import http.server
import json
import os
import threading

from harness import Failure, Host, RpcError, check, contains, equal, run, wait_until

host = Host().start()
MAC, OTHER = "52:54:00:aa:00:01", "52:54:00:aa:00:02"


def vmfile(**vms):
    return "vms:\n" + "".join(f"  {name}: {{backend: noop{more}}}\n" for name, more in vms.items())


def user(mac):
    return f", network: {{type: user, mac: '{mac}'}}"


def macs(name):
    return [n["mac"] for n in host.vm(name)["networks"]]


def down(folder):
    host.vmctl("down", "--destroy", "--orphans", cwd=folder)
    equal(host.names(), [])


def refused(folder, *words, verbs=("plan", "up", "reload")):
    for verb in verbs:
        done = host.vmctl(verb, cwd=folder, status=None)
        check(done.returncode not in (0, 10), f"{verb} was not refused: {done.stdout}")
        for word in words:
            contains(done.stderr, word)


def private(address, subnet="10.66.0.0/24", **more):
    return {"type": "private", "name": "lan", "subnet": subnet, "address": address, **more}


def as_sent(method, *nics, **more):
    """Without a VMFile, whose reader looks at addresses itself."""
    vms = [{"name": f"m{i}", "backend": "noop", "networks": [nic]} for i, nic in enumerate(nics)]
    return host.call(method, project=os.path.join(host.dir, "sent"), vms=vms, **more)


def file_refused(*nics):
    for method in ("file.plan", "file.up"):
        try:
            as_sent(method, *nics)
        except RpcError as e:
            equal(e.name, "invalid_params", str(e))
            text = str(e)
        else:
            raise Failure(f"{method} was not refused")
    equal(host.names(), [])
    return text


def test_g35_two_of_a_file_can_not_have_one_mac():
    folder = host.project(vmfile(one=user(MAC), two=user(MAC.upper())))
    refused(folder, "'one'", "'two'", MAC.upper())
    equal(host.names(), [], "it is told before anything is made")
    host.vmctl("up", "two", cwd=folder)
    equal(macs("two"), [MAC])
    refused(folder, "'one'", "'two'")
    equal(host.names(), ["two"])
    down(folder)


def test_two_of_a_network_can_not_have_one_address():
    for other in ("10.66.0.11", "10.66.0.11/24"):
        text = file_refused(private("10.66.0.11"), private(other))
        for part in ("'m0'", "'m1'", "10.66.0.11", "lan"):
            contains(text, part)
    file_refused(private("fd00::11", "fd00::/64"), private("fd00:0:0::11/64", "fd00::/64"))
    text = file_refused(private("10.66.0.11"), private("10.67.0.11", "10.67.0.0/24"))
    for part in ("10.66.0.0/24", "10.67.0.0/24", "'lan'"):
        contains(text, part)
    # On networks of two names they are strangers.
    nics = private("10.66.0.11"), {**private("10.66.0.11"), "name": "dmz"}
    as_sent("file.up", *nics)
    equal([host.vm(name)["networks"][0]["address"] for name in ("m0", "m1")], ["10.66.0.11/24"] * 2)
    as_sent("file.down", *nics, destroy=True)


def test_g35_an_up_that_changes_a_mac():
    host.call("vm.create", name="holder", backend="noop", network={"type": "user", "mac": MAC})
    folder = host.project(vmfile(web=""))
    host.vmctl("up", cwd=folder)
    before = macs("web")
    host.vmctl("stop", "web")
    host.project(vmfile(web=user(MAC)))
    refused(folder, MAC, "'holder'")
    equal(macs("web"), before)
    # One that nobody has is taken at once, since it does not run; and is nobody else's then.
    host.project(vmfile(web=user(OTHER)))
    host.vmctl("up", cwd=folder)
    equal(macs("web"), [OTHER])
    host.project(vmfile(web=user(OTHER), two=user(OTHER)))
    refused(folder, OTHER)
    # Without a word about it, it stays.
    host.vmctl("stop", "web")
    host.project(vmfile(web=""))
    host.vmctl("up", cwd=folder)
    equal(macs("web"), [OTHER])
    down_but(folder, "holder")


def down_but(folder, *others):
    host.vmctl("down", "--destroy", "--orphans", cwd=folder)
    equal(sorted(host.names()), sorted(others))
    for name in others:
        host.call("vm.destroy", name=name, force=True)


class Gate(http.server.BaseHTTPRequestHandler):
    """A server of one image that comes when it is let."""

    asked, open = threading.Event(), threading.Event()

    def do_GET(self):
        Gate.asked.set()
        Gate.open.wait(60)
        self.send_response(200)
        self.send_header("Content-Length", str(1 << 20))
        self.end_headers()
        self.wfile.write(bytes(1 << 20))

    do_HEAD = do_GET

    def log_message(self, *args):
        pass


def test_g35_a_mac_that_is_taken_while_an_up_runs():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Gate)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    folder = host.project(vmfile(web=""))
    host.vmctl("up", cwd=folder)
    before = macs("web")
    host.vmctl("stop", "web")
    url = f"http://127.0.0.1:{server.server_address[1]}/disk.raw"
    host.project(vmfile(first=f", image: {{url: '{url}', insecure-http: true}}",
                        web=user(MAC) + ", depends-on: [first]"))
    done = []
    going = threading.Thread(
        target=lambda: done.append(host.vmctl("up", cwd=folder, status=None)))
    going.start()
    check(Gate.asked.wait(60), "the image of 'first' is asked for")
    host.call("vm.create", name="thief", backend="noop", network={"type": "user", "mac": MAC})
    Gate.open.set()
    going.join()
    server.shutdown()
    check(done[0].returncode != 0, done[0].stdout)
    contains(done[0].stderr + done[0].stdout, "'thief'")
    equal(macs("web"), before)
    equal(host.vm("web")["state"], "stopped")
    down_but(folder, "thief")


def test_a_machine_of_a_former_vmmd_keeps_its_mac():
    """It had one network, and its MAC address was the machine's own: read from the copy of its row,
    as after the loss of a store."""
    old = host.call("vm.create", name="old", backend="noop", network="user")
    copy = os.path.join(host.data, "vms", old["id"], "vm.json")
    wait_until("the copy", lambda: os.path.exists(copy))
    host.stop()
    with open(copy) as f:
        doc = json.load(f)
    doc.update(version=1, mac=doc.pop("nics")[0]["mac"])
    del doc["spec"]["network"]
    with open(copy, "w") as f:
        json.dump(doc, f)
    for name in os.listdir(host.data):
        if name.startswith("vmm.db"):
            os.unlink(os.path.join(host.data, name))
    host.start()
    equal(macs("old"), [old["mac"]])
    equal(host.vm("old")["network"]["type"], "user")
    host.vmctl("start", "old")
    host.restart()
    equal(macs("old"), [old["mac"]])
    host.call("vm.destroy", name="old", force=True)


def test_macs_over_a_reload():
    lan = "networks:\n  lan: {subnet: 10.66.0.0/24}\n"
    folder = host.project(lan + vmfile(web=", networks: [user, {name: lan}]", db=", network: {name: lan}"))
    host.vmctl("up", cwd=folder)
    before = macs("web"), macs("db")
    ids = host.vm("web")["id"], host.vm("db")["id"]
    host.vmctl("reload", cwd=folder)
    check((host.vm("web")["id"], host.vm("db")["id"]) != ids, "they are others")
    equal((macs("web"), macs("db")), before)
    # They are in the store, too.
    host.restart()
    equal((macs("web"), macs("db")), before)
    # What the file says comes first, and a NIC more has an address of its own.
    host.project(lan + vmfile(web=f", networks: [user, {{name: lan, mac: '{MAC}'}}]",
                              db=", networks: [{name: lan}, user]"))
    host.vmctl("reload", cwd=folder)
    equal(macs("web"), [before[0][0], MAC])
    equal(macs("db")[:1], before[1])
    equal(len(set(macs("web") + macs("db"))), 4)
    down(folder)


def test_macs_over_a_reload_that_is_killed():
    folder = host.project(vmfile(web="", db=""))
    host.vmctl("up", cwd=folder)
    before = {name: macs(name) for name in ("web", "db")}
    connection = host.rpc()
    connection.begin("file.reload", project=os.path.join(folder, "VMFile.yaml"),
                     vms=[{"name": name, "backend": "noop"} for name in before])
    host.kill()
    connection.close()
    host.start()
    wait_until("quiet", lambda: not any(host.vm(n).get("operation") for n in host.names()))
    for name in host.names():  # whoever is there still, is as before
        equal(macs(name), before[name])
    host.vmctl("up", cwd=folder)
    equal(sorted(host.names()), ["db", "web"])
    check(len({mac for name in before for mac in macs(name)}) == 2, "each its own")
    down(folder)


if __name__ == "__main__":
    run(globals(), [host])
