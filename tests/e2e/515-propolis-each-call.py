#!/usr/bin/env python3
# SPDX-License-Identifier: MPL-2.0
"""What must hold on the backend propolis when any call of any tool fails, before or after its
work, and when the daemon is killed while any of them runs."""

import os
import select
import signal

from harness import RpcError, check, contains, equal, process_exists, run, wait_until
from illumos import IllumosHost

host = IllumosHost("start_timeout: 30s\n")
host.start()
NET = {"type": "vnic"}
# A sanitized daemon is slow, and what it looks for is on every way back: some calls will do.
STEP = 4 if os.environ.get("VMM_SANITIZE") else 1


def attempt(method, **params):
    try:
        host.call(method, **params)
        return None
    except RpcError as e:
        return e.error


def struck(words):
    """The call that the fault of these words struck, or None."""
    return next((c for c in host.calls() if words in c["stderr"]), None)


def each_call(what, effect, act):
    """act(strike) for every N until no call is struck any more; strike() makes the Nth call from
    then on fail, and tells a function that looks which call it was."""
    for number in range(1, 80, STEP):
        words = f"{what}-{effect}-{number} did not work"

        def strike(words=words, number=number):
            host.faults({"tool": "*", "nth": number, "stderr": words, "effect": effect})
            return words

        hit = act(strike)
        host.faults()
        if hit is None:
            check(number > 3, "there were calls to strike")
            print(f"# {what}, {effect}: up to {number - 1} calls")
            return
    check(False, "it never ends")


def image_gone():
    """The next create imports its image anew.  A half-made volume stays as long as its image, for
    the next import to begin afresh."""
    for image in host.call("image.list")["images"]:
        host.call("image.rm", image=image["digest"])
    wait_until("the image's volume to go", lambda: not [
        d for d in host.state()["datasets"] if d.startswith("rpool/vmm/images/")])


# ---- each call of each tool ----

def check_error(error, words):
    text = error["message"] + error["data"].get("hint", "")
    contains(text, words)


def sweep_create(effect):
    def act(strike):
        words = strike()
        error = attempt("vm.create", name="c", backend="propolis", image=host.image, memory=64,
                        disk="6MiB", network=NET)
        hit = struck(words)
        if error is None:
            host.only_machine("c")
            host.faults()
            host.call("vm.destroy", name="c")
        else:
            check_error(error, words)
        host.nothing_left()
        image_gone()
        return hit
    each_call("create", effect, act)


def test_create_fails_at_each_call():
    sweep_create("before")


def test_create_fails_after_each_call():
    sweep_create("after")


def sweep_start(effect):
    host.create("s", network=NET)

    def act(strike):
        words = strike()
        error = attempt("vm.start", name="s")
        hit = struck(words)
        host.faults()
        if error is None:
            equal(host.vm("s")["state"], "running")
            equal(host.call("vm.stop", name="s", force=True)["state"], "stopped")
        else:
            check_error(error, words)
            equal((host.vm("s")["state"], host.vm("s")["reason"]), ("failed", "start-failed"))
        equal(host.zone_row("s")["state"], "installed")
        equal(host.servers(), [])
        host.only_machine("s")
        return hit
    each_call("start", effect, act)
    equal(host.call("vm.start", name="s")["state"], "running")
    host.gone("s")


def test_start_fails_at_each_call():
    sweep_start("before")


def test_start_fails_after_each_call():
    sweep_start("after")


def sweep_stop(effect):
    host.create("p", network=NET)

    def act(strike):
        host.call("vm.start", name="p")
        wait_until("nothing to be going on", lambda: host.vm("p")["responsive"])
        words = strike()
        error = attempt("vm.stop", name="p", force=True)
        hit = struck(words)
        host.faults()
        if error is not None:
            check_error(error, words)
            check(host.vm("p")["state"] != "stopped", "it is not off")
            equal(host.call("vm.stop", name="p", force=True)["state"], "stopped")
        equal(host.vm("p")["state"], "stopped")
        equal(host.zone_row("p")["state"], "installed")
        equal(host.servers(), [])
        return hit
    each_call("stop", effect, act)
    host.gone("p")


def test_stop_fails_at_each_call():
    sweep_stop("before")


def test_stop_fails_after_each_call():
    sweep_stop("after")


def sweep_destroy(effect):
    def act(strike):
        host.create("d", network=NET, start=True)
        words = strike()
        error = attempt("vm.destroy", name="d", force=True)
        hit = struck(words)
        host.faults()
        if error is not None:
            check_error(error, words)
            equal(host.vm("d")["state"], "destroyed", "it only goes forward")
            host.refused("wrong_state", "vm.start", name="d")
            host.call("vm.destroy", name="d", force=True)
        host.nothing_left()
        return hit
    each_call("destroy", effect, act)
    host.validate()


def test_destroy_fails_at_each_call():
    sweep_destroy("before")


def test_destroy_fails_after_each_call():
    sweep_destroy("after")


# ---- the daemon killed at each point ----

def kill_at_each_call(what, prepare, begin, settled):
    """Hangs the Nth call, kills the daemon and what hangs, starts it again."""
    for number in range(1, 80, STEP):
        prepare()
        before = len(host.calls())
        host.faults({"tool": "*", "nth": number, "effect": "hang"})
        connection = host.rpc(120)
        request = begin(connection)
        done = []

        def hung():
            return [c for c in host.calls()[before:] if c["status"] is None]

        def ended():
            return request in connection.answers or readable(connection)

        wait_until("a call to hang, or the end", lambda: hung() or ended(), 60)
        done = hung()
        if not done:
            try:
                connection.answer(request)
            except RpcError as e:
                check(False, e.error)
        host.kill()
        connection.close()
        for call in done:
            wait_until("the tool to end with its daemon, or be ended", lambda: end(call["pid"]))
        host.faults()
        host.start()
        wait_until("what was begun to be settled", lambda: all(
            "operation" not in vm and vm["state"] in (
                "prepared", "running", "stopped", "failed", "destroyed")
            for vm in host.call("vm.list")["vms"]), 60)
        settled()
        if not done:
            check(number > 3, "there were calls to hang")
            print(f"# {what}: killed at up to {number - 1} calls")
            return
    check(False, "it never ends")


def end(pid):
    if process_exists(pid):
        os.kill(pid, signal.SIGKILL)
    return not process_exists(pid)


def readable(connection):
    return bool(select.select([connection.sock], [], [], 0)[0])


def all_gone(and_then=lambda: None):
    for name in host.names():
        attempt("vm.destroy", name=name, force=True)
    wait_until("all to be gone", lambda: host.names() == [], 60)
    and_then()
    host.nothing_left()


def test_the_daemon_is_killed_at_each_call_of_create():
    kill_at_each_call("create", image_gone, lambda c: c.begin(
        "vm.create", name="kc", backend="propolis", image=host.image, memory=64, disk="6MiB",
        network=NET), lambda: all_gone(image_gone))


def test_the_daemon_is_killed_at_each_call_of_start():
    def settled():
        row = host.vm("ks")
        state = host.zone_row("ks")["state"]
        if row["state"] == "running":
            wait_until("its server to answer", lambda: host.vm("ks")["responsive"])
            equal(state, "running")
        else:
            wait_until("its zone to be halted",
                       lambda: host.zone_row("ks")["state"] == "installed")
            equal(host.call("vm.start", name="ks")["state"], "running")
        equal(len(host.servers()), 1)
        all_gone()
    kill_at_each_call("start", lambda: host.create("ks", network=NET),
                      lambda c: c.begin("vm.start", name="ks"), settled)


def test_the_daemon_is_killed_at_each_call_of_stop():
    def settled():
        row = host.vm("kt")
        check(row["state"] in ("running", "stopped", "failed"), row["state"])
        if row["state"] == "running":
            equal(host.zone_row("kt")["state"], "running")
        all_gone()
    kill_at_each_call("stop", lambda: host.create("kt", network=NET, start=True),
                      lambda c: c.begin("vm.stop", name="kt", force=True), settled)


def test_the_daemon_is_killed_at_each_call_of_destroy():
    kill_at_each_call("destroy", lambda: host.create("kd", network=NET, start=True),
                      lambda c: c.begin("vm.destroy", name="kd", force=True), all_gone)


run(globals(), [host])
