#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""A machine's life on the no-op backend, by the protocol alone."""

import json
import os
import threading

from harness import Failure, Host, RpcError, check, contains, equal, run, wait_until

host = Host().start()


def refused(wanted, method, /, **params):
    try:
        host.call(method, **params)
    except RpcError as e:
        equal(e.name, wanted, f"{method}: {e}")
        return e.error
    raise Failure(f"{method} {params} was not refused")


def create(name, /, **params):
    return host.call("vm.create", name=name, backend="noop", **params)


def test_life_cycle():
    equal(create("a")["state"], "prepared")
    equal(host.call("vm.start", name="a")["state"], "running")
    equal(host.vm("a")["wanted"], "up")
    equal(host.call("vm.suspend", name="a")["state"], "suspended")
    equal(host.call("vm.resume", name="a")["state"], "running")
    row = host.call("vm.stop", name="a")
    equal(row["state"], "stopped")
    equal((row["how"], row["by"]), ("graceful", "power button"))
    equal(row["reason"], "user")
    equal(host.call("vm.start", name="a")["state"], "running")
    equal(host.call("vm.destroy", name="a")["state"], "destroyed")
    equal(host.names(), [])
    equal(os.listdir(os.path.join(host.data, "vms")), [])


def test_g06_never_started_is_prepared():
    create("b")
    equal(host.vm("b")["state"], "prepared")
    host.call("vm.destroy", name="b")


def test_refusals_name_the_state():
    create("c")
    error = refused("wrong_state", "vm.stop", name="c")
    contains(error["message"], "machine 'c' is prepared; cannot stop it")
    contains(error["data"]["hint"], "vmctl status c")
    refused("wrong_state", "vm.suspend", name="c")
    host.call("vm.start", name="c")
    # G-20: a second start must not touch the first
    contains(refused("wrong_state", "vm.start", name="c")["message"], "is running")
    equal(host.vm("c")["state"], "running")
    host.call("vm.suspend", name="c")
    refused("wrong_state", "vm.start", name="c")
    host.call("vm.destroy", name="c")


def test_g12_names_are_checked_once_at_the_edge():
    for name in ("", "../x", "/etc", "a/b", "a,b", "A", "a_b", "-a", "a" * 64, "a b", "a\nb"):
        refused("invalid_params", "vm.create", name=name, backend="noop")
    equal(host.names(), [])


def test_r04_zero_and_huge_resources():
    for params in ({"vcpus": 0}, {"memory": 0}, {"vcpus": 65537}, {"memory": -1}, {"disk": 0},
                   {"memory": "1EiB"}, {"vcpus": 1.5}, {"memory": "9999999TiB"}):
        refused("invalid_params", "vm.create", name="r", backend="noop", **params)
    error = refused("invalid_params", "vm.create", name="r", backend="noop", vcpu=1)
    contains(error["message"], "unknown parameter 'vcpu'")
    contains(error["data"]["hint"], "vcpus")


def test_two_creates_of_one_name_at_once():
    results = []

    def one():
        try:
            create("twin")
            results.append("made")
        except RpcError as e:
            results.append(e.name)

    threads = [threading.Thread(target=one) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    equal(sorted(results), ["already_exists"] * 7 + ["made"])
    host.call("vm.destroy", name="twin")


def test_start_twice_at_once():
    create("s")
    answers = []

    def one():
        try:
            answers.append(host.call("vm.start", name="s")["state"])
        except RpcError as e:
            answers.append(e.name)

    threads = [threading.Thread(target=one) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    equal(answers.count("running"), 1, answers)
    check(set(answers) <= {"running", "wrong_state", "busy"}, answers)
    equal(host.vm("s")["state"], "running")
    host.call("vm.destroy", name="s")


def test_unknown_name_suggests():
    create("database")
    error = refused("not_found", "vm.get", name="databsae")
    contains(error["data"]["hint"], "'database'")
    equal(error["data"]["object"], "databsae")
    host.call("vm.destroy", name="database")


def test_propolis_is_not_available_here():
    error = refused("unsupported", "vm.create", name="p", backend="propolis")
    contains(error["message"], "not available")


def test_g46_what_a_backend_can_not_do_is_refused_before_anything_is_made():
    refused("unsupported", "vm.create", name="v", backend="noop",
            network={"type": "vnic", "name": "x0"})
    refused("unsupported", "vm.create", name="v", backend="noop", firmware="uefi")
    refused("unsupported", "file.plan", project="/p/VMFile.yaml",
            vms=[{"name": "v", "backend": "noop", "network": {"type": "tap", "bridge": "br0"}}])
    equal(host.names(), [])


def test_what_a_backend_can_and_what_it_lacks():
    row = [b for b in host.call("system.info")["backends"] if b["name"] == "noop"][0]
    for word in ("suspend", "resume", "network user", "firmware bios", "power button"):
        contains(row["capabilities"], word)
    for word in ("snapshot", "network vnic", "network tap", "firmware uefi", "console", "ssh"):
        contains(row["lacks"], word)
    equal(set(row["capabilities"]) & set(row["lacks"]), set())
    contains(host.vmctl("daemon", "status").stdout, "lacks: snapshot, network tap")


def test_an_address_is_checked():
    vnic = {"type": "vnic", "address": "192.0.2.9/24"}
    for wrong, path in (({"type": "user", "link": "net0"}, "network.link"),
                        (dict(vnic, address="192.0.2.0/24"), "network.address"),
                        (dict(vnic, gateway="192.0.3.1"), "network.gateway"),
                        (dict(vnic, dns=["a"]), "network.dns[0]")):
        error = refused("invalid_params", "vm.create", name="a", backend="noop", network=wrong)
        contains(error["message"], path)
    done = host.vmctl("create", "a", "--backend", "noop", "--address", "192.0.2.9/24",
                      "--gateway", "192.0.2.1", "--dns", "192.0.2.2", "--link", "net0", status=None)
    contains(done.stderr, "asks for network vnic")


def test_restart_keeps_everything():
    create("keep", memory="2GiB", vcpus=2)
    host.call("vm.start", name="keep")
    before = host.vm("keep")
    host.restart("kill")
    after = host.vm("keep")
    for key in ("id", "uuid", "mac", "state", "memory_mib", "vcpus", "created"):
        equal(after[key], before[key], key)
    host.call("vm.suspend", name="keep")
    host.restart("kill")
    equal(host.vm("keep")["state"], "suspended")
    equal(host.call("vm.stop", name="keep")["state"], "stopped")
    host.restart("stop")
    equal(host.vm("keep")["state"], "stopped")
    host.call("vm.destroy", name="keep")
    host.restart("kill")
    equal(host.names(), [])


def test_documents_of_older_versions_are_read():
    create("old", ssh={"user": "me"})
    folder = host.vm("old")["work_dir"]
    host.stop()
    path = os.path.join(folder, "vm.json")
    with open(path) as file:
        document = json.load(file)
    spec = document["spec"]
    equal((spec["firmware"]["type"], spec["ssh"]["port"]), ("bios", 22))
    spec["firmware"] = "bios"
    del spec["ssh"]["port"]
    spec["network"] = {"type": "vnic", "name": "as it was"}  # as nobody may write it now
    with open(path, "w") as file:
        json.dump(document, file)
    for name in os.listdir(host.data):
        if name.startswith("vmm.db"):
            os.unlink(os.path.join(host.data, name))
    host.start()
    row = host.vm("old")
    equal((row["network"], row["state"]),
          ({"type": "vnic", "name": "as it was", "mac": row["mac"]}, "prepared"))
    host.call("vm.destroy", name="old")


def test_events_are_numbered_and_kept():
    connection = host.rpc()
    start = connection.call("event.subscribe")["seq"]
    create("e")
    host.call("vm.start", name="e")
    kinds = []
    while "running" not in kinds:
        params = connection.line()["params"]
        equal(params["seq"], start + 1)
        start = params["seq"]
        kinds.append(params["data"].get("state", params["kind"]))
    connection.close()
    host.restart("kill")
    again = host.rpc()
    again.call("event.subscribe", since=0, replay=True)
    last = 0
    seen = []
    while "running" not in seen:
        params = again.line()["params"]
        check(params["seq"] > last, "numbers go up")
        last = params["seq"]
        if params.get("vm") == "e":
            seen.append(params["data"].get("state", params["kind"]))
    again.close()
    host.call("vm.destroy", name="e")


def test_operations_are_kept():
    create("o")
    operations = host.call("operation.list", all=True)["operations"]
    mine = [o for o in operations if o["vm"] == "o"]
    equal([(o["kind"], o["state"]) for o in mine], [("vm.create", "done")])
    equal(host.call("operation.get", id=mine[0]["id"])["kind"], "vm.create")
    refused("wrong_state", "operation.cancel", id=mine[0]["id"])
    refused("not_found", "operation.get", id="nope")
    host.call("vm.destroy", name="o")


def test_wait():
    create("w")
    refused("wrong_state", "vm.wait", name="w", **{"for": "running"})
    waiting = host.rpc()
    request = None
    host.call("vm.start", name="w")
    equal(host.call("vm.wait", name="w", **{"for": "ready"})["state"], "running")
    request = waiting.begin("vm.wait", name="w", **{"for": "stopped"})
    host.call("vm.stop", name="w")
    equal(waiting.answer(request)["state"], "stopped")
    host.call("vm.start", name="w")
    refused("timed_out", "vm.wait", name="w", timeout=0.05, **{"for": "stopped"})
    host.call("vm.destroy", name="w")


def test_second_daemon_on_the_same_folder_is_refused():
    second = Host(base=host.dir)
    second.start(wait=False)
    equal(second.process.wait(30), 1)
    contains(second.log(), f"pid {host.process.pid}")
    equal(host.names(), [])


def test_a_thousand_machines_are_listed_in_order():
    connection = host.rpc(120)
    ids = [connection.begin("vm.create", name=f"m{i:04}", backend="noop") for i in range(200)]
    for i in ids:
        connection.answer(i)
    connection.close()
    equal(host.names(), [f"m{i:04}" for i in range(200)])
    host.restart("kill")
    equal(len(host.names()), 200)
    connection = host.rpc(120)
    for i in [connection.begin("vm.destroy", name=f"m{i:04}") for i in range(200)]:
        connection.answer(i)
    connection.close()
    equal(host.names(), [])


run(globals(), [host])
