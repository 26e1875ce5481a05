#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""What must hold on the backend propolis whatever fails: the server in every way it can, the zone,
the pool, links and zones of others, and tools that hang."""

import json
import os
import signal

from harness import RpcError, check, contains, equal, process_exists, run, wait_until
from illumos import MIB, IllumosHost, together

host = IllumosHost("start_timeout: 30s\n")
host.start()
NET = {"type": "vnic"}


def attempt(method, **params):
    try:
        host.call(method, **params)
        return None
    except RpcError as e:
        return e.error


def cancelled(waits, method, **params):
    """Cancels a call of another connection once waits() is true; the faults end before that."""
    connection = host.rpc(120)
    request = connection.begin(method, **params)
    wait_until(f"{method} to wait", waits)
    operation = [o for o in host.call("operation.list")["operations"]
                 if (o["vm"], o["kind"], o["state"]) == (params["name"], method, "running")][0]
    host.faults()
    host.call("operation.cancel", id=operation["id"])
    try:
        connection.answer(request)
        check(False, "it was cancelled")
    except RpcError as e:
        equal(e.name, "cancelled", e.error)
    connection.close()


def test_cancelled_in_the_midst():
    host.faults({"tool": "zoneadm", "verb": "install", "effect": "hang"})
    cancelled(lambda: [c for c in host.calls() if c["status"] is None and "install" in c["argv"]
                       and process_exists(c["pid"])],
              "vm.create", name="cc", backend="propolis", image=host.image, memory=64, network=NET)
    host.nothing_left()


def cancel_start(name, waits):
    """Cancels a start once waits() is true; what it leaves is what a failed one leaves."""
    cancelled(waits, "vm.start", name=name)
    host.server_faults()
    wait_until("the zone to be halted", lambda: host.zone_row(name)["state"] == "installed")
    equal((host.vm(name)["state"], host.vm(name)["reason"]), ("stopped", "cancelled"))
    equal(host.servers(), [])
    host.only_machine(name)


def asked(name, method, path):
    """Whether the server of its zone got the request, from now on."""
    start = len(host.exchanges())
    zone = host.zone(name)
    return lambda: [e for e in host.exchanges(start)
                    if (e["zone"], e["method"], e["path"]) == (zone, method, path)]


def test_a_start_is_cancelled_wherever_it_waits():
    host.create("cs")
    host.faults({"tool": "zoneadm", "verb": "boot", "effect": "hang"})
    cancel_start("cs", lambda: [c for c in host.calls() if c["status"] is None
                                and "boot" in c["argv"] and process_exists(c["pid"])])
    host.server_faults({"close": True})
    cancel_start("cs", asked("cs", "GET", "/instance"))
    host.server_faults({"method": "PUT", "path": "/instance", "delay": 600})
    cancel_start("cs", asked("cs", "GET", "/instance"))
    host.server_faults(hold="Starting")
    cancel_start("cs", asked("cs", "PUT", "/instance/state"))
    start_works("cs")
    host.gone("cs")


# ---- the server ----

def start_fails(name, words, *rules, **settings):
    host.server_faults(*rules, **settings)
    error = attempt("vm.start", name=name)
    host.server_faults()
    check(error is not None, f"a start with {rules} {settings}")
    for word in words if isinstance(words, tuple) else (words,):
        contains(error["message"], word)
    row = host.vm(name)
    equal((row["state"], row["reason"]), ("failed", "start-failed"))
    equal(host.zone_row(name)["state"], "installed", "the zone is halted")
    equal(host.servers(), [])
    host.only_machine(name)


def start_works(name, *rules, **settings):
    host.server_faults(*rules, **settings)
    equal(host.call("vm.start", name=name)["state"], "running")
    host.server_faults()
    host.booted(name)
    equal(host.call("vm.stop", name=name, force=True)["state"], "stopped")


def test_an_ensure_that_fails():
    host.create("e")
    ensure = {"method": "PUT", "path": "/instance", "nth": 1}
    for status in (400, 403, 409, 424, 500, 503):
        body = {"request_id": "r", "message": f"because of {status}", "error_code": "Odd"}
        start_fails("e", (f"{status}", f"because of {status}"),
                    {**ensure, "status": status, "body": body})
    start_fails("e", "PUT /instance", {**ensure, "status": 500, "body": "no JSON {"})
    for effect in ({"close": True}, {"cut": 20}, {"cut": 150}, {"garbage": True},
                   {"status": 200, "body": {}}):
        start_fails("e", "PUT /instance", {**ensure, **effect})
    start_fails("e", "500", fail_ensure=True)
    start_works("e", {**ensure, "delay": 1})
    host.gone("e")


def test_a_run_that_fails():
    host.create("r")
    run_ = {"method": "PUT", "path": "/instance/state", "nth": 1}
    for status in (400, 403, 424, 500):
        body = {"request_id": "r", "message": f"because of {status}"}
        start_fails("r", f"because of {status}", {**run_, "status": status, "body": body})
    for effect in ({"close": True}, {"cut": 10}, {"garbage": True}):
        start_fails("r", "PUT /instance/state", {**run_, **effect})
    start_fails("r", "failed", fail_run=True)
    start_works("r", {**run_, "delay": 1})
    host.gone("r")


def test_a_server_that_comes_slowly():
    host.create("w")
    look = {"method": "GET", "path": "/instance", "nth": 1}
    for effect in ({"status": 500}, {"status": 503}, {"close": True}, {"cut": 30},
                   {"garbage": True}, {"delay": 1}):
        start_works("w", {**look, **effect})
    host.gone("w")


def test_a_server_that_never_answers():
    host.create("never")
    host.server_faults({"close": True})
    error = attempt("vm.start", name="never")
    equal(error["data"]["name"], "timed_out", error)
    equal(host.zone_row("never")["state"], "installed")
    equal(host.servers(), [])
    host.server_faults()
    start_works("never")
    host.gone("never")


def test_another_api_version():
    host.create("old")
    start_fails("old", "version", max_version="0.9.0")
    start_works("old", max_version="1.0.0")
    start_works("old", max_version="5.0.0")
    host.gone("old")


def test_monitoring_goes_on_after_errors():
    host.create("m")
    watch = {"method": "GET", "path": "/instance/state-monitor"}
    for effect in ({"status": 500}, {"status": 400}, {"close": True}, {"cut": 40},
                   {"garbage": True}, {"status": 200, "body": {"gen": "x"}}):
        start_works("m", *[{**watch, **effect, "nth": n} for n in (1, 3)])
    # and its end is seen after an outage, too
    host.call("vm.start", name="m")
    host.booted("m")
    host.server_faults({**watch, "close": True})
    host.guest("m", "poweroff")
    zone = host.zone("m")
    wait_until("it to be off", lambda: "Destroyed" in server_states(zone))
    host.server_faults()
    wait_until("it to be known", lambda: host.vm("m")["state"] == "stopped")
    host.gone("m")


def server_states(zone):
    with open(os.path.join(host.fake, "server-events.jsonl")) as f:
        rows = [json.loads(line) for line in f]
    return [r["state"] for r in rows if r["zone"] == zone and r["event"] == "state"]


def test_a_stop_that_the_server_refuses_ends_in_a_halt():
    host.create("h")
    stop = {"method": "PUT", "path": "/instance/state", "nth": 1}
    for effect in ({"status": 500}, {"status": 403}, {"close": True}, {"garbage": True}):
        host.call("vm.start", name="h")
        host.booted("h")
        host.server_faults({**stop, **effect})
        row = host.call("vm.stop", name="h", timeout=1)
        host.server_faults()
        equal((row["state"], row["by"]), ("stopped", "halt"))
        equal(host.zone_row("h")["state"], "installed")
    host.call("vm.start", name="h")
    host.server_faults(hold="Stopping")
    row = host.call("vm.stop", name="h", timeout=1)
    host.server_faults()
    equal((row["state"], row["by"]), ("stopped", "halt"))
    host.gone("h")


def test_a_server_that_hangs_is_unresponsive():
    host.create("hang", start=True)
    host.create("other", start=True)
    host.booted("hang")
    pid = host.server_pid("hang")
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_until("it to be told", lambda: host.vm("hang")["responsive"] is False, 90)
        equal(host.vm("hang")["state"], "running", "nothing is guessed")
        equal(host.call("vm.stop", name="other", force=True)["state"], "stopped",
              "others are not held up")
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_until("it to answer again", lambda: host.vm("hang")["responsive"], 90)
    os.kill(pid, signal.SIGSTOP)
    row = host.call("vm.stop", name="hang", force=True)
    equal((row["state"], host.servers()), ("stopped", []))
    host.gone("hang", "other")


def test_the_server_is_killed():
    host.create("k", start=True)
    host.booted("k")
    os.kill(host.server_pid("k"), signal.SIGKILL)
    wait_until("its end to be seen", lambda: host.vm("k")["state"] == "failed", 15)
    equal(host.zone_row("k")["state"], "installed")
    equal(host.call("vm.start", name="k")["state"], "running")
    host.booted("k", 2)
    host.guest("k", "exit", status=3)
    wait_until("its end to be seen", lambda: host.vm("k")["state"] == "failed", 15)
    host.call("vm.start", name="k")
    host.guest("k", "fail")
    wait_until("its failure to be seen", lambda: host.vm("k")["state"] == "failed", 15)
    wait_until("its zone to be halted", lambda: host.zone_row("k")["state"] == "installed")
    contains(host.vm("k")["reason"], "failed")
    host.gone("k")


def test_a_server_that_ends_at_once():
    host.create("rom")
    host.faults({"tool": "zoneadm", "verb": "boot", "effect": "dead"})
    error = attempt("vm.start", name="rom")
    host.faults()
    check(error is not None, "it can not start")
    contains(error["message"], "can not go on")  # the words of its log
    equal(host.zone_row("rom")["state"], "installed")
    start_works("rom")
    host.gone("rom")


# ---- the host ----

def test_a_zone_that_will_not_halt():
    host.create("z", start=True)
    host.booted("z")
    host.faults({"tool": "zoneadm", "verb": "halt", "effect": "stuck",
                 "stderr": "zoneadm: call to zoneadmd failed"})
    error = host.refused("timed_out", "vm.stop", name="z", force=True)
    contains(error["message"] + error["data"].get("hint", ""), "shutting_down")
    check(host.vm("z")["state"] != "stopped", "it is not off")
    error = attempt("vm.start", name="z")
    check(error["data"]["name"] in ("wrong_state", "unresponsive", "busy"), error)
    host.faults()
    equal(host.call("vm.stop", name="z", force=True)["state"], "stopped")
    host.gone("z")


def test_a_full_pool():
    host.create("there")
    image_there = {d for d in host.state()["datasets"] if d.startswith("rpool/vmm/images/")}
    big = os.path.join(host.dir, "big.raw")
    with open(big, "wb") as f:
        f.write(b"x" * 512)
        f.truncate(64 * MIB)
    try:
        # seen before anything is begun, or found while it is done
        for pool, rule in ((16 * MIB, None), (1 << 40, {"verb": "create", "match": "-V"}),
                           (1 << 40, {"verb": "snapshot"})):
            host.change(lambda state, pool=pool: state["pools"].update(rpool=pool))
            if rule is not None:
                host.faults({**rule, "tool": "zfs", "stderr": "cannot do it: out of space"})
            error = host.refused("no_space", "vm.create", name="more", backend="propolis",
                                 image=big, memory=64, network={"type": "none"})
            contains(error["message"], "rpool/vmm" if rule is None else "out of space")
            host.faults()
            host.only_machine("there")
            equal({d for d in host.state()["datasets"] if d.startswith("rpool/vmm/images/")},
                  image_there)
        host.change(lambda state: state["pools"].update(rpool=1))
        error = host.refused("no_space", "vm.create", name="more", backend="propolis",
                             image=host.image, memory=64, network={"type": "none"})
        contains(error["message"], "room for 0 B")
        host.change(lambda state: state["pools"].update(rpool=1 << 40))
        host.faults({"tool": "zfs", "verb": "clone", "stderr": "cannot do it: out of space"})
        error = host.refused("no_space", "vm.create", name="more", backend="propolis",
                             image=host.image, memory=64, network={"type": "none"})
        contains(error["message"], "out of space")
        host.faults()
        host.only_machine("there")
    finally:
        host.change(lambda state: state["pools"].update(rpool=1 << 40))
    equal(host.vm("there")["state"], "prepared")
    host.gone("there")


def test_a_vnic_that_is_left_over_or_gone():
    host.create("v", network={"type": "vnic", "name": "vmmv0"})
    # a VNIC that the administrator removed is made again
    host.tool("dladm", "delete-vnic", "vmmv0")
    host.tool("dladm", "delete-vnic", f"vm{host.vm('v')['id']}_c0")
    start_works("v")
    host.only_machine("v")
    # one that is somebody else's by now is not used, and not removed
    host.tool("dladm", "delete-vnic", "vmmv0")
    host.tool("dladm", "create-vnic", "-l", "igb1", "vmmv0")
    theirs = host.state()["links"]["vmmv0"]
    error = attempt("vm.start", name="v")
    contains(error["message"], "vmmv0")
    equal(host.zone_row("v")["state"], "installed")
    host.call("vm.destroy", name="v")
    equal(host.state()["links"].get("vmmv0"), theirs)
    host.tool("dladm", "delete-vnic", "vmmv0")
    host.nothing_left()
    # one that can not be removed is told, and removed later
    host.create("v", network=NET)
    host.faults({"tool": "dladm", "verb": "delete-vnic", "stderr": "dladm: link busy"})
    error = attempt("vm.destroy", name="v")
    contains(error["message"], "link busy")
    equal(host.vm("v")["state"], "destroyed")
    host.faults()
    host.restart("kill")
    wait_until("the removal", lambda: host.names() == [])
    host.nothing_left()


def edit_zone(zone, change):
    def edit(state):
        for resource in state["zones"][zone]["config"]["resources"]:
            if resource["props"].get("name") == "vmm-machine":
                change(resource)
    host.change(edit)


def test_what_is_not_ours_any_more_is_left_alone():
    host.create("x", network=NET)
    zone, ident = host.zone("x"), host.vm("x")["id"]
    clone = "rpool/vmm/machines/" + ident
    edit_zone(zone, lambda r: r["props"].update(value="00000000-1111-4222-8333-444444444444"))
    host.change(lambda state: state["datasets"][clone]["props"].pop("vmm:machine"))
    before = host.state()
    error = attempt("vm.start", name="x")
    contains(error["message"], zone)
    equal(host.state()["zones"][zone], before["zones"][zone])
    attempt("vm.destroy", name="x")
    state = host.state()
    equal(state["zones"][zone], before["zones"][zone], "its zone was taken by somebody")
    equal(state["datasets"][clone], before["datasets"][clone], "and its dataset")
    host.tool("zoneadm", "-z", zone, "uninstall", "-F")
    host.tool("zonecfg", "-z", zone, "delete", "-F")
    host.tool("zfs", "destroy", clone)
    for name in host.names():
        host.call("vm.destroy", name=name)
    host.nothing_left()


def test_a_zone_that_somebody_removed():
    host.create("y", network=NET)
    zone = host.zone("y")
    host.tool("zoneadm", "-z", zone, "uninstall", "-F")
    error = attempt("vm.start", name="y")
    contains(error["message"], "configured")
    host.tool("zonecfg", "-z", zone, "delete", "-F")
    error = attempt("vm.start", name="y")
    contains(error["message"], zone)
    host.gone("y")


def test_the_host_boots_again():
    host.create("boot", start=True, network=NET)
    host.create("off")
    host.booted("boot")
    host.kill()
    os.kill(host.servers()[0], signal.SIGKILL)
    wait_until("the server to end", lambda: host.servers() == [])
    host.start(env={"VMMD_BOOT_ID": "11111111-2222-3333-4444-555555555555"})
    wait_until("it to be known", lambda: host.vm("boot")["state"] == "stopped")
    equal(host.vm("boot")["reason"], "host-reboot")
    host.restart("stop")
    host.gone("boot", "off")


def test_tools_that_hang_hold_up_nobody():
    host.create("free")
    host.faults({"tool": "zfs", "effect": "hang"})
    connection = host.rpc(120)
    request = connection.begin("vm.create", name="stuck", backend="propolis", image=host.image,
                               memory=64, network={"type": "none"})
    wait_until("it to hang", lambda: host.calls()[-1]["status"] is None)
    equal(host.call("vm.start", name="free")["state"], "running")
    equal(host.call("vm.stop", name="free", force=True)["state"], "stopped")
    operation = [o for o in host.call("operation.list")["operations"] if o["vm"] == "stuck"][0]
    host.call("operation.cancel", id=operation["id"])
    host.faults()
    try:
        connection.answer(request)
        check(False, "it was cancelled")
    except RpcError as e:
        equal(e.name, "cancelled", e.error)
    connection.close()
    host.gone("free")


def test_many_with_faults_in_between():
    host.faults(*[{"tool": tool, "verb": verb, "nth": 3, "stderr": "struck at random"}
                  for tool, verb in (("zfs", "clone"), ("zoneadm", "install"),
                                     ("dladm", "create-vnic"), ("zoneadm", "boot"))])
    names = [f"many{i}" for i in range(8)]
    rows = together([lambda n=n: host.create(n, network=NET, start=True) for n in names])
    host.faults()
    failed = [r for r in rows if isinstance(r, str)]
    check(1 <= len(failed) <= 4, rows)
    for name in host.names():
        row = host.vm(name)
        equal(row["state"] == "running", host.zone_row(name)["state"] == "running", name)
    together([lambda n=n: host.call("vm.destroy", name=n, force=True) for n in host.names()])
    host.nothing_left()
    host.validate()


run(globals(), [host])
